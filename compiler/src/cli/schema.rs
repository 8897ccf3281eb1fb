//! `lathe schema`

use super::{Failure, print};
use crate::schema::schema;

/// Print a JSON Schema of specs in YAML, for editors.
///
/// A file that begins with `# yaml-language-server: $schema=lathe.schema.json` is checked by editors that use the YAML
/// language server, once this schema lies beside it under that name.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {}

pub(super) fn run() -> Result<(), Failure> {
    print(&format!("{:#}\n", schema()))
}
