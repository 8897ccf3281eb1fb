//! The two binaries, run as a user runs them.

use std::path::Path;
use std::process::{Command, Stdio};

/// `lathe`, ready to be given arguments.
pub(crate) fn lathe() -> Command {
    command(env!("CARGO_BIN_EXE_lathe-under-test"))
}

/// `lathe-run`, ready to be given arguments.
pub(crate) fn lathe_run() -> Command {
    command(env!("CARGO_BIN_EXE_lathe-run-under-test"))
}

fn command(path: &str) -> Command {
    let mut command = Command::new(path);
    command
        .stdin(Stdio::null())
        .env_remove("COLUMNS")
        .env_remove("LATHE_ISA")
        .env_remove("RAYON_NUM_THREADS")
        // `auto` is the processor.
        .env("CUDA_VISIBLE_DEVICES", "")
        .env("NO_COLOR", "1");
    command
}

/// `lathe compile SPEC CHECKPOINT -o OUT`
pub(crate) fn compile(spec: &str, checkpoint: &Path, out: &Path) -> Command {
    let mut command = lathe();
    command.arg("compile").arg(spec).arg(checkpoint).arg("-o").arg(out);
    command
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Exit code; `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Ended {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes| String::from_utf8(bytes).expect("the binaries write UTF-8");
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Runs a command that must succeed, and returns what it wrote to standard output.
#[track_caller]
pub(crate) fn succeed(command: &mut Command) -> String {
    let ended = run(command);
    assert_eq!(ended.code, Some(0), "{command:?}\n{}", ended.stderr);
    ended.stdout
}

/// The JSON that a command which must succeed wrote to standard output.
#[track_caller]
pub(crate) fn succeed_json(command: &mut Command) -> serde_json::Value {
    let text = succeed(command);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{command:?}: {error}\n{text}"))
}

/// The smallest bound on memory, in bytes, that this `lathe compile` can keep.
#[track_caller]
pub(crate) fn least_memory(command: &mut Command) -> u64 {
    let ended = run(command.args(["--memory", "1"]));
    let stated = ended.stderr.split_once("memory bound of ").and_then(|(_, rest)| rest.split_once(" bytes"));
    let (bytes, _) = stated.unwrap_or_else(|| panic!("{command:?}\n{}", ended.stderr));
    bytes.parse().unwrap_or_else(|_| panic!("{}", ended.stderr))
}

/// Token ids as the command line takes them.
pub(crate) fn ids(tokens: &[u32]) -> String {
    tokens.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}
