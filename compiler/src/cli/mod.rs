//! The command line: typed arguments in, exit codes out. Nothing outside this folder reads clap types or prints.

mod compile;
mod inspect;
mod list;
mod render;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::compile::CompileError;
use crate::lower::LowerError;
use crate::pack::PackError;
use lathe_grammar::diag::Diagnostic;
use lathe_grammar::span::Sources;

/// Compile a Hugging Face checkpoint, on a spec, into a model that lathe-run executes.
#[derive(Debug, Parser)]
#[command(name = "lathe", bin_name = "lathe", version = lathe_runtime::VERSION, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Color messages: auto means on a terminal only.
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto)]
    color: Color,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check a spec against a checkpoint, pack its weights and write a program.
    Compile(compile::Arguments),
    /// Show what a compiled model holds.
    Inspect(inspect::Arguments),
    /// List what ships inside this binary.
    List(list::Arguments),
}

/// How a verb ended when it did not succeed.
#[derive(Debug)]
enum Failure {
    /// Spec, definition or checkpoint are at fault: exit 1.
    Input(Sources, Vec<Diagnostic>),
    /// It could not run: exit 2.
    Run(String),
    /// Ctrl-C, or a signal like it: exit 130, as shells do.
    Interrupted,
    /// Standard output is closed; whoever read it has what they wanted: exit 0.
    BrokenPipe,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::BrokenPipe,
            _ => Failure::Run(format!("cannot write to standard output: {error}")),
        }
    }
}

impl Failure {
    /// Sorts an error by whose fault it is.
    fn of(error: CompileError, sources: Sources) -> Self {
        match error {
            CompileError::Diagnostics(diagnostics) => Failure::Input(sources, diagnostics),
            CompileError::Pack(PackError::NotFinite { ref file, .. }) => {
                let diagnostic = Diagnostic::error("C0008", error.to_string()).file(file);
                Failure::Input(sources, vec![diagnostic])
            }
            CompileError::Pack(PackError::Interrupted) => Failure::Interrupted,
            CompileError::Lower(LowerError::TooLarge { .. }) => {
                Failure::Input(sources, vec![Diagnostic::error("M0009", error.to_string())])
            }
            other => Failure::Run(other.to_string()),
        }
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // A message that nobody can read cannot be helped.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let result = match cli.command {
        Command::Compile(arguments) => compile::run(arguments, cli.color),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::List(arguments) => list::run(&arguments),
    };
    match result {
        Ok(()) | Err(Failure::BrokenPipe) => ExitCode::SUCCESS,
        Err(Failure::Interrupted) => {
            say("interrupted; nothing was written");
            ExitCode::from(130)
        }
        Err(Failure::Input(sources, diagnostics)) => {
            render::diagnostics(&sources, &diagnostics, cli.color);
            ExitCode::from(1)
        }
        Err(Failure::Run(message)) => {
            say(&format!("error: {message}"));
            ExitCode::from(2)
        }
    }
}

/// A line on standard error.
fn say(line: &str) {
    // When standard error is closed nobody is listening.
    let _ = writeln!(io::stderr(), "{line}");
}

/// Text on standard output.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Bytes as people write them.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit < UNITS.len() - 1 {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.2} {}", UNITS[unit]) }
}
