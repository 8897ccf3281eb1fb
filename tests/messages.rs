//! What goes to standard error, in each of its formats.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::command::{Ended, lathe, run};
use crate::support::{self, model};

/// Two mistakes: an unknown format in a line with a letter of two bytes before it, and a pattern that matches nothing.
const TWO_MISTAKES: &str =
    "lathe 1\nspec two {\n    rules {\n        re:\"größe|.*\" => int44\n        mlp.ba => keep\n    }\n}\n";

/// Compiles what the texts in a folder of their own say, with messages in this format.
fn compiled(format: &str, spec: &str, text: impl AsRef<[u8]>) -> Ended {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(spec), text).unwrap();
    compiled_in(folder.path(), format, spec)
}

fn compiled_in(folder: &Path, format: &str, spec: &str) -> Ended {
    let mut command = lathe();
    command.current_dir(folder).args(["--message-format", format, "compile", spec]);
    run(command.arg(model("micro-llama")).args(["--dump", "plan"]))
}

/// The objects of a text, one in each line.
fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn snapshot(name: &str, text: &str) {
    support::snapshot("messages", name, text);
}

#[test]
fn two_mistakes_in_each_format() {
    for format in ["human", "short", "json"] {
        let ended = compiled(format, "two.lathe", TWO_MISTAKES);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
        snapshot(format, &ended.stderr);
    }
}

#[test]
fn positions_are_of_the_text() {
    let [format, _] = &objects(&compiled("json", "two.lathe", TWO_MISTAKES).stderr)[..] else { panic!("two messages") };
    let at = TWO_MISTAKES.find("int44").unwrap();
    assert_eq!((&format["byte_start"], &format["byte_end"]), (&json!(at), &json!(at + 5)));
    // Columns count characters: ö and ß are one each.
    assert_eq!((&format["line"], &format["column"]), (&json!(4), &json!(26)));
    assert_eq!((&format["end_line"], &format["end_column"]), (&json!(4), &json!(31)));
    assert_eq!(format["labels"][0]["primary"], json!(true));
}

#[test]
fn only_people_are_spared_the_thirty_first() {
    let rules: Vec<String> = (0..40).map(|i| format!("nothing{i} => keep\n")).collect();
    let text = format!("lathe 1\nspec many {{\nrules {{\n{}}}\n}}\n", rules.concat());
    assert_eq!(compiled("short", "many.lathe", &text).stderr.lines().count(), 40);
    assert_eq!(objects(&compiled("json", "many.lathe", &text).stderr).len(), 40);
    let human = compiled("human", "many.lathe", &text).stderr;
    assert_eq!(human.matches("error[S0101]").count(), 30);
    assert!(human.contains("… and 10 more") && human.contains("error: 40 errors; `lathe explain S0101`"), "{human}");
}

#[test]
fn texts_that_cannot_be_read_are_diagnostics() {
    let short = |spec: &str, text: &[u8]| compiled("short", spec, text).stderr;
    assert_eq!(
        short("bytes.lathe", b"lathe 1\nspec \xff\n"),
        "bytes.lathe:2:6: error[P0001]: expected UTF-8, found the byte 0xff at offset 13\n"
    );
    let long = short("long.lathe", &vec![b' '; lathe_grammar::MAX_SOURCE_LENGTH + 1]);
    assert!(long.starts_with("error[P0001]: long.lathe: expected at most 262144 bytes"), "{long}");
    let folder = tempfile::tempdir().unwrap();
    let missing = compiled_in(folder.path(), "short", "missing.lathe");
    assert_eq!((missing.code, missing.stderr.as_str()), (Some(1), "error[S0001]: `missing.lathe` does not exist\n"));
    let unknown = compiled_in(folder.path(), "json", "kep");
    let [message] = &objects(&unknown.stderr)[..] else { panic!("{}", unknown.stderr) };
    assert_eq!(unknown.code, Some(1));
    assert!(message["help"].as_str().unwrap().contains("`keep`"), "{message}");
}

#[test]
fn what_is_no_diagnostic_is_in_the_format_too() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("folder.lathe")).unwrap();
    for format in ["short", "json"] {
        let ended = compiled_in(folder.path(), format, "folder.lathe");
        assert_eq!(ended.code, Some(2));
        let usage = run(lathe().args(["nonsense", "--message-format", format]));
        assert_eq!(usage.code, Some(2));
        for text in [ended.stderr, usage.stderr] {
            assert_eq!(text.lines().count(), 1, "{text}");
            if format == "json" {
                let message = &objects(&text)[0];
                assert_eq!((&message["code"], &message["severity"]), (&Value::Null, &json!("error")));
            } else {
                assert!(text.starts_with("error: "), "{text}");
            }
        }
    }
}

#[test]
fn what_was_done_is_a_note() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = lathe();
    command.args(["--message-format", "json", "compile", "keep"]).arg(model("micro-llama"));
    let ended = run(command.arg("-o").arg(folder.path().join("out")));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(objects(&ended.stderr).iter().all(|message| message["severity"] == json!("note")), "{}", ended.stderr);
}
