//! `lathe`: compiles a checkpoint on a spec into a program and packed weights.

use std::process::ExitCode;

fn main() -> ExitCode {
    lathe_compiler::cli::main()
}
