//! `lathe fmt`: what it writes and what it leaves alone.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use crate::support::command::{Ended, lathe, run, succeed};
use crate::support::files;

const UNTIDY: &str = "lathe 1\nspec a {rules {\n**=>keep // all\n}}\n";
const TIDY: &str = "lathe 1\n\nspec a {\n    rules {\n        ** => keep  // all\n    }\n}\n";
const BROKEN: &str = "lathe 1\nspec a { rulse { } }\n";

/// Formats files of a folder.
fn format(folder: &Path, arguments: &[&str]) -> Ended {
    run(lathe().current_dir(folder).args(["--message-format", "short", "fmt"]).args(arguments))
}

/// A folder with a text of each kind.
fn texts() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("untidy.lathe", UNTIDY), ("tidy.lathe", TIDY), ("broken.lathe", BROKEN)] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

#[test]
fn every_file_is_looked_at() {
    let folder = texts();
    let ended = format(folder.path(), &["broken.lathe", "missing.lathe", "tidy.lathe", "untidy.lathe"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
    for part in ["broken.lathe:2:10: error[P0004]", "error[S0001]: `missing.lathe`", "formatted untidy.lathe\n"] {
        assert!(ended.stderr.contains(part), "expected {part:?} in:\n{}", ended.stderr);
    }
    assert!(!ended.stderr.contains("formatted tidy.lathe"), "{}", ended.stderr);
    let text = |name: &str| files::read_text(&folder.path().join(name));
    assert_eq!((text("untidy.lathe").as_str(), text("tidy.lathe").as_str()), (TIDY, TIDY));
    assert_eq!(text("broken.lathe"), BROKEN);
    assert_eq!(files::list(folder.path()).len(), 3);
}

#[test]
fn a_check_writes_nothing() {
    let folder = texts();
    let before = files::contents(folder.path());
    let ended = format(folder.path(), &["--check", "tidy.lathe", "untidy.lathe"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
    assert_eq!(ended.stderr, "error[F0002]: `untidy.lathe` is not formatted\n");
    assert_eq!(files::contents(folder.path()), before);
    let ended = format(folder.path(), &["--check", "tidy.lathe"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
}

#[test]
fn what_cannot_be_read_or_written_ends_with_2_and_the_rest_is_done() {
    let folder = texts();
    fs::create_dir(folder.path().join("folder.lathe")).unwrap();
    let ended = format(folder.path(), &["folder.lathe", "broken.lathe", "untidy.lathe"]);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    for part in ["error: cannot read folder.lathe", "error[P0004]", "formatted untidy.lathe"] {
        assert!(ended.stderr.contains(part), "expected {part:?} in:\n{}", ended.stderr);
    }
}

/// Formats a text that comes from standard input.
fn piped(text: &str, arguments: &[&str]) -> Ended {
    let mut command = lathe();
    command.args(["--message-format", "short", "fmt", "-"]).args(arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).expect("the binaries write UTF-8");
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

#[test]
fn standard_input_goes_to_standard_output() {
    let ended = piped(UNTIDY, &[]);
    assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (Some(0), TIDY, ""));
    let ended = piped(BROKEN, &[]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
    assert!(ended.stderr.starts_with("stdin.lathe:2:10: error[P0004]"), "{}", ended.stderr);
    assert_eq!(piped(TIDY, &["--check"]).code, Some(0));
    assert_eq!(piped(UNTIDY, &["--check"]).code, Some(1));
    let yaml = piped("lathe: 1\nspec: 1a\n", &["--stdin-name", "a.yaml"]);
    assert!(yaml.code == Some(1) && yaml.stderr.starts_with("a.yaml:2:7: error[P0"), "{}", yaml.stderr);
}

#[test]
fn what_ships_is_formatted() {
    let specs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../specs");
    let entries = lathe_specs::SPECS
        .iter()
        .chain(lathe_specs::PARTS)
        .chain(lathe_specs::MODELS)
        .chain([&lathe_specs::BOOKKEEPING]);
    for entry in entries {
        succeed(lathe().current_dir(&specs).args(["fmt", "--check", entry.path]));
    }
}
