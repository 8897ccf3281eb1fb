//! The command line: typed arguments in, exit codes out. Nothing outside this folder reads clap types or prints.

mod check;
mod compile;
mod completions;
mod convert;
mod device;
mod diff;
mod explain;
mod fmt;
mod inspect;
mod layout;
mod list;
mod plan;
mod render;
mod report;
mod schema;
mod subject;
mod table;
mod texts;
mod verify;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lathe_grammar::diag::Diagnostic;
use lathe_grammar::span::Sources;

use self::render::{Color, MessageFormat, Messages};
use crate::calibrate::CalibrateError;
use crate::compile::CompileError;
use crate::lower::LowerError;
use crate::pack::PackError;
use crate::pack::evaluate::EvaluateError;
use crate::proof::ProofError;
use crate::units::bytes;

/// Compile a Hugging Face checkpoint, on a spec, into a model that lathe-run executes.
#[derive(Debug, Parser)]
#[command(
    name = "lathe",
    bin_name = "lathe",
    version = lathe_runtime::VERSION,
    max_term_width = 100,
    after_help = EXIT_CODES
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Color messages: auto means on a terminal only.
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "WHEN", default_value = "auto")]
    color: Color,
    /// Write messages for people or for programs.
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "FORMAT", default_value = "human")]
    message_format: MessageFormat,
}

/// Heading of the options that every verb takes.
const EVERYWHERE: &str = "Options of every command";

const EXIT_CODES: &str = "\
Results go to stdout, everything else to stderr.

Exit codes:
  0  done
  1  spec, definition, checkpoint or compiled model are at fault
  2  could not run: usage, files, memory";

/// Each verb; its help stands with its arguments.
#[derive(Debug, Subcommand)]
enum Command {
    Check(check::Arguments),
    Plan(plan::Arguments),
    Diff(diff::Arguments),
    Compile(compile::Arguments),
    Inspect(inspect::Arguments),
    Verify(verify::Arguments),
    Report(report::Arguments),
    Explain(explain::Arguments),
    Fmt(fmt::Arguments),
    Convert(convert::Arguments),
    List(list::Arguments),
    Schema(schema::Arguments),
    Completions(completions::Arguments),
}

/// How a verb ended when it did not succeed.
#[derive(Debug)]
enum Failure {
    /// Spec, definition or checkpoint are at fault: exit 1.
    Input(Sources, Vec<Diagnostic>),
    /// The input is at fault, and messages have said so: exit 1.
    Reported,
    /// What was asked about does not exist: exit 1.
    Unknown(String),
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
    /// One fault in a text.
    fn input(sources: &mut Sources, diagnostic: Diagnostic) -> Self {
        Failure::Input(std::mem::take(sources), vec![diagnostic])
    }

    /// Sorts an error by whose fault it is.
    fn of(error: CompileError, sources: Sources) -> Self {
        if let Some((code, file)) = stored_value_at_fault(&error) {
            let diagnostic = Diagnostic::error(code, error.to_string()).file(file);
            return Failure::Input(sources, vec![diagnostic]);
        }
        match error {
            CompileError::Diagnostics(diagnostics) => Failure::Input(sources, diagnostics),
            CompileError::Proof(ProofError::Disproved(diagnostic)) => Failure::Input(sources, vec![*diagnostic]),
            CompileError::Pack(PackError::Interrupted) => Failure::Interrupted,
            CompileError::Lower(LowerError::TooLarge { .. }) => {
                Failure::Input(sources, vec![Diagnostic::error("M0009", error.to_string())])
            }
            other => Failure::Run(other.to_string()),
        }
    }
}

/// The code of an error about a value of the checkpoint, and the file that it is in.
fn stored_value_at_fault(error: &CompileError) -> Option<(&'static str, &str)> {
    let evaluate = match error {
        CompileError::Pack(PackError::NotFinite { file, .. }) => return Some(("C0008", file)),
        CompileError::Pack(PackError::TooLarge { file, .. }) => return Some(("C0014", file)),
        CompileError::Proof(ProofError::Evaluate(error)) => error,
        CompileError::Calibrate(error) => match &**error {
            CalibrateError::Evaluate(error) => error,
            _ => return None,
        },
        _ => return None,
    };
    match evaluate {
        EvaluateError::NotFinite { file, .. } => Some(("C0008", file)),
        _ => None,
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let messages = Messages::new(cli.message_format, cli.color);
    let result = match cli.command {
        Command::Check(arguments) => check::run(&arguments, messages),
        Command::Plan(arguments) => plan::run(&arguments, messages),
        Command::Diff(arguments) => diff::run(&arguments, messages),
        Command::Compile(arguments) => compile::run(&arguments, messages),
        Command::Inspect(arguments) => inspect::run(&arguments, messages),
        Command::Report(arguments) => report::run(&arguments),
        Command::Verify(arguments) => verify::run(&arguments, messages),
        Command::Explain(arguments) => explain::run(&arguments, messages),
        Command::Fmt(arguments) => fmt::run(&arguments, messages),
        Command::Convert(arguments) => convert::run(&arguments, messages),
        Command::List(arguments) => list::run(&arguments),
        Command::Schema(schema::Arguments {}) => schema::run(),
        Command::Completions(arguments) => completions::run(&arguments),
    };
    match result {
        Ok(()) | Err(Failure::BrokenPipe) => ExitCode::SUCCESS,
        Err(Failure::Interrupted) => {
            messages.status("interrupted; nothing was written");
            ExitCode::from(130)
        }
        Err(Failure::Input(sources, diagnostics)) => {
            messages.diagnostics(&sources, &diagnostics);
            ExitCode::from(1)
        }
        Err(Failure::Reported) => ExitCode::from(1),
        Err(Failure::Unknown(message)) => {
            messages.failure(&message);
            ExitCode::from(1)
        }
        Err(Failure::Run(message)) => {
            messages.failure(&message);
            ExitCode::from(2)
        }
    }
}

/// Help, a version, or what is wrong with the arguments.
fn usage(error: &clap::Error) -> ExitCode {
    let format = MessageFormat::asked_for(std::env::args_os());
    if error.use_stderr() && format != MessageFormat::Human {
        let text = error.to_string();
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let message = lines.collect::<Vec<_>>().join("; ");
        Messages::new(format, Color::Never).failure(message.strip_prefix("error: ").unwrap_or(&message));
    } else {
        // A message that nobody can read cannot be helped.
        let _ = error.print();
    }
    ExitCode::from(if error.use_stderr() { 2 } else { 0 })
}

/// Text on standard output.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
