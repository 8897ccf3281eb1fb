//! What the tests share: the binaries, the shipped models, checkpoints made on the spot.

pub(crate) mod browser;
pub(crate) mod command;
pub(crate) mod compiler;
pub(crate) mod exact;
pub(crate) mod files;
pub(crate) mod forge;
pub(crate) mod llama;
pub(crate) mod published;
pub(crate) mod random;
pub(crate) mod reference;
pub(crate) mod rename;

use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The folder of this package.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A shipped model.
pub(crate) fn model(name: &str) -> PathBuf {
    root().join("models").join(name)
}

/// The models in a folder of models, sorted.
pub(crate) fn models_in(folder: &Path) -> Vec<PathBuf> {
    files::list(folder).into_iter().filter(|path| path.join("reference.json").is_file()).collect()
}

/// The last part of a path.
pub(crate) fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).expect("paths of the tests are UTF-8")
}

/// Compares a text with the snapshot `stage@input`.
#[track_caller]
pub(crate) fn snapshot(stage: &str, input: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.set_snapshot_suffix(input);
    settings.bind(|| insta::assert_snapshot!(stage, text));
}

/// Says what a test cannot do on this machine. Written past the harness, which hides what passing tests print.
pub(crate) fn skipped(what: &str) {
    writeln!(std::io::stderr(), "skipped: {what}").expect("standard error is open");
}

/// Shows what a test measured, under `--nocapture`.
#[expect(clippy::print_stdout, reason = "the harness hides it unless it is asked for")]
pub(crate) fn measured(text: &str) {
    println!("{text}");
}
