//! The command line: one file for each verb, and what they share.

mod bench;
mod chat;
mod decode;
mod failure;
mod files;
mod generate;
mod logits;
mod model;
mod perplexity;

use std::io::{self, IsTerminal, Write};
use std::num::NonZeroUsize;
use std::process::ExitCode;

use clap::{Args, ColorChoice, Parser, Subcommand, value_parser};
use lathe_runtime::backend::DeviceChoice;

use self::failure::Failure;

/// Run compiled models.
#[derive(Debug, Parser)]
#[command(name = "lathe-run", bin_name = "lathe-run", version = lathe_runtime::VERSION, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    machine: MachineArgs,

    /// Colour error messages
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "WHEN", default_value = "auto")]
    color: ColorChoice,
}

/// Heading of the options that every verb takes.
const EVERYWHERE: &str = "Options of every command";

const EXIT_CODES: &str = "\
Results go to stdout, everything else to stderr.

Exit codes:
  0  done
  1  the model, the text or the tokens are at fault
  2  could not run: usage, files, device, memory

Environment:
  LATHE_ISA       lowers the instruction set: scalar, avx2 or avx512
  XDG_CACHE_HOME  where kernels are kept that had to be compiled for a CUDA device, in lathe/kernels [default: ~/.cache]";

#[derive(Debug, Subcommand)]
enum Command {
    Generate(generate::GenerateArgs),
    Chat(chat::ChatArgs),
    Perplexity(perplexity::PerplexityArgs),
    Logits(logits::LogitsArgs),
    Bench(bench::BenchArgs),
}

/// Where to run.
#[derive(Debug, Args)]
struct MachineArgs {
    /// Device to run on: auto, cpu, cuda or cuda:N
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "DEVICE", default_value = "auto")]
    device: DeviceChoice,

    /// Threads to run on, at most 1024 [default: all that the machine has]
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "N", value_parser = value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

/// Reads the command line and runs it.
pub(crate) fn main() -> ExitCode {
    let Arguments { command, machine, color } = Arguments::parse();
    let machine = model::MachineOptions {
        device: machine.device,
        threads: machine.threads.map_or_else(available_threads, usize::from),
        kernels: files::cache_folder().map(|folder| folder.join("kernels")),
    };
    let mut out = io::stdout();
    let result = match command {
        Command::Generate(args) => generate::run(args, &machine, &mut out),
        Command::Chat(args) => chat::run(&args, &machine, &mut out),
        Command::Perplexity(args) => perplexity::run(&args, &machine, &mut out),
        Command::Logits(args) => logits::run(&args, &machine, &mut out),
        Command::Bench(args) => bench::run(&args, &machine, &mut out),
    };
    let result = result.and_then(|()| Ok(out.flush()?));
    match result {
        Ok(()) | Err(Failure::Closed) => ExitCode::SUCCESS,
        Err(Failure::Input(message)) => report(color, &message, 1),
        Err(Failure::Run(message)) => report(color, &message, 2),
    }
}

fn available_threads() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

fn report(color: ColorChoice, message: &str, code: u8) -> ExitCode {
    let colored = match color {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
    };
    let (start, end) = if colored { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
    // With stderr closed there is nobody to tell.
    let _ = writeln!(io::stderr(), "{start}error{end}: {}", printable(message));
    code.into()
}

/// Says something that is neither result nor failure.
fn note(message: &str) {
    let _ = writeln!(io::stderr(), "note: {}", printable(message));
}

/// Names in files can hold what a terminal would obey.
fn printable(message: &str) -> String {
    let escape = |character: char| match character {
        '\n' => character.to_string(),
        _ if character.is_control() => character.escape_debug().to_string(),
        _ => character.to_string(),
    };
    message.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn messages_do_not_steer_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\nc"), "a\\u{1b}[2Jb\nc");
    }
}
