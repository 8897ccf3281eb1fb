//! `lathe completions`

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use super::{Cli, Failure, print};

/// Print a script by which a shell completes what is typed after `lathe`
///
/// Put it where the shell looks for such scripts, for example:
///
///   bash  lathe completions bash > ~/.local/share/bash-completion/completions/lathe
///   zsh   lathe completions zsh > "${fpath[1]}/_lathe"
///   fish  lathe completions fish > ~/.config/fish/completions/lathe.fish
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Arguments {
    /// The shell.
    shell: Shell,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut script = Vec::new();
    generate(arguments.shell, &mut Cli::command(), "lathe", &mut script);
    print(&String::from_utf8_lossy(&script))
}
