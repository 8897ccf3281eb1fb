//! `lathe explain`

use lathe_grammar::codes::{self, CODES};
use lathe_grammar::diag::nearest;

use super::layout::{prose_columns, wrap};
use super::{Failure, print};

/// Say what a code of a message means.
///
/// A code that does not exist is an error with exit code 1.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Code, as in S0101; `lathe list codes` shows all.
    code: String,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let code = arguments.code.to_ascii_uppercase();
    let Some(entry) = codes::find(&code) else {
        let help = match nearest(&code, CODES.iter().map(|entry| entry.code)) {
            Some(near) => format!("did you mean `{near}`? `lathe list codes` shows all"),
            None => "`lathe list codes` shows all".to_owned(),
        };
        return Err(Failure::Unknown(format!("no message has the code `{}`; {help}", arguments.code)));
    };
    let explanation = wrap(entry.explanation, prose_columns()).join("\n");
    print(&format!("{}: {}\n\n{explanation}\n", entry.code, entry.title))
}
