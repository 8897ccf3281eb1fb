//! The verbs that need no checkpoint.

use std::fs;
use std::path::Path;

use lathe_compiler::reference::TOPICS;
use lathe_grammar::codes::CODES;

use crate::support::command::{lathe, run, succeed};
use crate::support::files;

#[test]
fn every_code_is_explained() {
    for entry in CODES {
        let text = succeed(lathe().args(["explain", entry.code]));
        assert!(text.starts_with(&format!("{}: {}\n\n", entry.code, entry.title)), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert!(words(&text).ends_with(&words(entry.explanation)));
    }
    assert_eq!(succeed(lathe().args(["explain", "s0101"])), succeed(lathe().args(["explain", "S0101"])));
}

#[test]
fn a_code_that_does_not_exist_is_an_error() {
    let ended = run(lathe().args(["explain", "S01O1"]));
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
    assert_eq!(
        ended.stderr,
        "error: no message has the code `S01O1`; did you mean `S0101`? `lathe list codes` shows all\n"
    );
}

#[test]
fn every_topic_is_listed() {
    for topic in TOPICS {
        let text = succeed(lathe().args(["list", topic.name]));
        for row in (topic.table)().rows {
            assert!(text.lines().any(|line| line.starts_with(&row[0])), "{}: {text}", topic.name);
        }
    }
}

#[test]
fn completions_know_every_verb() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = succeed(lathe().args(["completions", shell]));
        for verb in ["compile", "completions", "convert", "explain", "inspect", "list"] {
            assert!(script.contains(verb), "{shell} does not know {verb}");
        }
    }
    assert_eq!(run(lathe().args(["completions", "tcsh"])).code, Some(2));
}

/// Converts a file of a folder into another.
#[track_caller]
fn convert(folder: &Path, input: &str, output: &str) {
    succeed(lathe().current_dir(folder).args(["convert", input, "-o", output]));
}

#[test]
fn specs_survive_the_way_to_the_other_syntax_and_back() {
    for entry in lathe_specs::SPECS {
        let folder = tempfile::tempdir().unwrap();
        convert(folder.path(), entry.name, "a.lathe");
        convert(folder.path(), "a.lathe", "b.yaml");
        convert(folder.path(), "b.yaml", "c.lathe");
        convert(folder.path(), "c.lathe", "d.yml");
        let text = |name: &str| files::read_text(&folder.path().join(name));
        assert_eq!(text("a.lathe"), text("c.lathe"), "{}", entry.name);
        assert_eq!(text("b.yaml"), text("d.yml"), "{}", entry.name);
        let printed =
            lathe().current_dir(folder.path()).args(["convert", "a.lathe", "-o", "-", "--to", "yaml"]).output();
        assert_eq!(printed.unwrap().stdout, text("b.yaml").into_bytes());
    }
}

#[test]
fn values_can_be_replaced_on_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let spec = "lathe 1\nlet size = 128\nspec a {\n    let body = int4(group: size)\n    rules {\n        ** => body\n    }\n}\n";
    fs::write(folder.path().join("a.lathe"), spec).unwrap();
    let set = |overrides: &[&str]| {
        let mut command = lathe();
        command.current_dir(folder.path()).args(["convert", "a.lathe", "-o", "b.lathe"]);
        let ended = run(command.args(overrides.iter().flat_map(|text| ["--set", text])));
        (ended.code, ended.stderr)
    };
    let code = set(&["size=64", "body.symmetric=false", "kv_cache=int8(per: head)", "tied=split"]);
    assert_eq!(code, (Some(0), String::new()));
    let text = files::read_text(&folder.path().join("b.lathe"));
    for part in
        ["let size = 64", "int4(group: size, symmetric: false)", "kv_cache => int8(per: head)", "tied     => split"]
    {
        assert!(text.contains(part), "expected {part:?} in:\n{text}");
    }
    let (code, said) = set(&["bdoy=keep"]);
    assert!(code == Some(1) && said.contains("S0007") && said.contains("did you mean `body`?"), "{said}");
}

#[test]
fn dropped_comments_are_said() {
    let folder = tempfile::tempdir().unwrap();
    let said = |name: &str, text: &str| {
        fs::write(folder.path().join(name), text).unwrap();
        let mut command = lathe();
        command.current_dir(folder.path()).args([
            "--message-format",
            "short",
            "convert",
            name,
            "-o",
            "-",
            "--to",
            "yaml",
        ]);
        let ended = run(&mut command);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        ended.stderr
    };
    assert_eq!(said("a.lathe", "lathe 1\nspec a { rules { re:\"//\" => keep } }\n"), "");
    assert_eq!(said("a.lathe", "lathe 1\nspec a { } // b\n"), "a.lathe:2:12: warning[F0003]: a comment is dropped\n");
    let two = "# one\nlathe: 1\nspec: a # two\nrules: [{match: 're:\"#\"', format: keep}]\n";
    assert_eq!(said("a.yaml", two), "a.yaml:1:1: warning[F0003]: 2 comments are dropped\n");
    let anchored = "lathe: 1\nspec: &a a # one\nmodels: [*a]\n";
    assert!(said("a.yaml", anchored).contains("comments of this file, if it has any"));
}

#[test]
fn conversions_that_cannot_be_made_write_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (spec, model) = ("lathe 1\nspec a { rules { ** => keep } }\n", "lathe 1\nmodel m { }\n");
    fs::write(folder.path().join("a.lathe"), spec).unwrap();
    fs::write(folder.path().join("model.lathe"), model).unwrap();
    fs::write(folder.path().join("two.lathe"), format!("{spec}spec b {{ }}\n")).unwrap();
    fs::write(folder.path().join("broken.lathe"), "lathe 1\nspec a { rulse { } }\n").unwrap();
    fs::create_dir(folder.path().join("folder.yaml")).unwrap();
    let before = files::list(folder.path());
    for (input, output, code, said) in [
        ("a.lathe", "a.lathe", 2, "a.lathe would be overwritten"),
        ("a.lathe", "./a.lathe", 2, "a.lathe would be overwritten"),
        ("a.lathe", "a.txt", 2, "--to"),
        ("a.lathe", "-", 2, "--to"),
        ("a.lathe", "nowhere/a.yaml", 2, "cannot write nowhere/a.yaml"),
        ("a.lathe", "folder.yaml", 2, "cannot write folder.yaml"),
        ("model.lathe", "model.yaml", 1, "model.lathe:2:7: error[F0003]"),
        ("two.lathe", "two.yaml", 1, "two.lathe:3:6: error[F0003]"),
        ("broken.lathe", "broken.yaml", 1, "broken.lathe:2:10: error[P0"),
        ("missing.lathe", "missing.yaml", 1, "error[S0001]"),
    ] {
        let mut command = lathe();
        command.current_dir(folder.path()).args(["--message-format", "short", "convert", input, "-o", output]);
        let ended = run(&mut command);
        assert_eq!(ended.code, Some(code), "{input} to {output}: {}", ended.stderr);
        assert!(ended.stderr.contains(said), "{input} to {output}: {}", ended.stderr);
        assert_eq!(files::list(folder.path()), before, "{input} to {output}");
    }
    assert_eq!(files::read_text(&folder.path().join("a.lathe")), spec);
}

#[cfg(unix)]
#[test]
fn what_is_overwritten_keeps_its_permissions_and_its_link() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().unwrap();
    let (file, link) = (folder.path().join("file.yaml"), folder.path().join("link.yaml"));
    fs::write(&file, "old").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    convert(folder.path(), "keep", "link.yaml");
    assert!(link.is_symlink() && files::read_text(&file).starts_with("lathe: 1\n"));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
    let ended = run(lathe().current_dir(folder.path()).args(["convert", "keep", "-o", "file.yaml"]));
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert_eq!(files::list(folder.path()), [file, link]);
}
