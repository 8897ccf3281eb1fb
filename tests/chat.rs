//! `lathe-run chat`: templates as the transformers library renders them, and conversations through the real binary.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use lathe_runtime::template::{Bounds, ChatTemplate, Message, Role};
use lathe_runtime::tokenizer::Tokenizer;
use serde_json::{Map, Value};

use crate::support::command::{Ended, compile, ids, lathe_run, succeed, succeed_json};
use crate::support::{files, model, root};

/// When the clock of the recordings stands still.
fn now() -> jiff::civil::DateTime {
    jiff::civil::date(2026, 3, 9).at(14, 5, 0, 0)
}

fn messages(value: &Value) -> Vec<Message> {
    let message = |value: &Value| {
        let role = match value["role"].as_str() {
            Some("system") => Role::System,
            Some("user") => Role::User,
            _ => Role::Assistant,
        };
        Message { role, content: value["content"].as_str().expect("contents are texts").to_owned() }
    };
    value.as_array().expect("conversations are lists").iter().map(message).collect()
}

/// `chat/record.py` says how they were made.
#[test]
fn templates_are_rendered_as_recorded() {
    let folder = root().join("chat");
    let recorded = files::read_json(&folder.join("recorded.json"));
    let cases = recorded.as_array().expect("a list of cases");
    assert!(cases.len() >= 70);
    for case in cases {
        let path = folder.join("templates").join(format!("{}.jinja", case["template"].as_str().unwrap()));
        let template = ChatTemplate::parse(&path, &files::read_text(&path), now(), Bounds::default()).unwrap();
        let variables = case["variables"].as_object().unwrap();
        let rendered = template.render(&messages(&case["messages"]), variables);
        match (case.get("text"), rendered) {
            (Some(expected), Ok(text)) => assert_eq!(text, expected.as_str().unwrap(), "{case:#}"),
            (None, Err(error)) => {
                assert!(error.to_string().ends_with(case["error"].as_str().unwrap()), "{error}, but {case:#}");
            }
            (_, rendered) => panic!("{rendered:?}, but {case:#}"),
        }
    }
}

const TEMPLATE: &str = "{% for message in messages %}<s>{{ message.role }}{% if loud %}!{% endif %}: {{ message.content }}\n\
                        {% endfor %}<s>assistant:";

/// A compiled model that can be talked to.
struct Talker {
    folder: tempfile::TempDir,
}

impl Talker {
    fn new() -> Talker {
        let folder = tempfile::tempdir().unwrap();
        let talker = Talker { folder };
        succeed(&mut compile("keep", &model("micro-llama"), &talker.path()));
        talker.write("chat_template.jinja", TEMPLATE);
        talker
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("model")
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).unwrap();
    }

    /// Runs a conversation whose input is `input`.
    fn chat(&self, options: &[&str], input: &str) -> Ended {
        let mut command = lathe_run();
        command.arg("chat").arg(self.path()).args(options).current_dir(self.folder.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // Who does not want all of the input closes it.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    #[track_caller]
    fn answers(&self, options: &[&str], input: &str) -> String {
        let ended = self.chat(options, input);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{}", ended.stdout);
        ended.stdout
    }

    #[track_caller]
    fn refused(&self, options: &[&str], input: &str, code: i32, parts: &[&str]) {
        let ended = self.chat(options, input);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(code), ""), "{}", ended.stderr);
        for part in parts {
            assert!(ended.stderr.contains(part), "expected {part:?} in: {}", ended.stderr);
        }
    }

    /// What the model makes of a conversation that nothing has been read of.
    fn generated(&self, tokens: usize, conversation: &[(Role, &str)]) -> (String, Vec<u32>) {
        let said = |&(role, content): &(Role, &str)| Message { role, content: content.to_owned() };
        let conversation: Vec<Message> = conversation.iter().map(said).collect();
        let template = ChatTemplate::parse(Path::new("a"), TEMPLATE, now(), Bounds::default()).unwrap();
        let text = template.render(&conversation, &Map::new()).unwrap();
        let tokenizer = Tokenizer::open(&self.path().join("tokenizer.json")).unwrap();
        let prompt = tokenizer.encode(&text, false).unwrap();
        let generate = || {
            let mut command = lathe_run();
            command.arg("generate").arg(self.path()).args(["--max-new-tokens", &tokens.to_string()]);
            command.args(["--ids", &ids(&prompt)]);
            command
        };
        let json = succeed_json(generate().arg("--json"));
        let all = json["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32);
        (succeed(&mut generate()), all.skip(prompt.len()).collect())
    }
}

#[test]
fn conversations_go_on_as_if_read_at_once() {
    let talker = Talker::new();
    let options = ["--max-new-tokens", "20"];
    let (first, _) = talker.generated(20, &[(Role::User, "What is Rust?")]);
    assert!(first.trim_end().len() > 10);
    assert_eq!(talker.answers(&options, "What is Rust?"), first);
    let answer = (Role::Assistant, first.strip_suffix('\n').unwrap());
    let question = "The history of the city\nof London began";
    let (second, _) = talker.generated(20, &[(Role::User, "What is Rust?"), answer, (Role::User, question)]);
    assert_ne!(first, second);
    let input = "What is Rust?\n\nThe history of the city\\\r\nof London began\r\n";
    assert_eq!(talker.answers(&options, input), first.clone() + &second);
    let again = "What is Rust?\n/clear\nWhat is Rust?\n/exit\nWhat is Rust?\n";
    assert_eq!(talker.answers(&options, again), first.repeat(2));
    let (system, _) = talker.generated(20, &[(Role::System, "The king of France was"), (Role::User, "What is Rust?")]);
    assert_ne!(first, system);
    let input =
        "What is Rust?\n/system\n/clear\nWhat is Rust?\n/clear\n/system The king of France was\nWhat is Rust?\n";
    let system_option = ["--max-new-tokens", "20", "--system", "The king of France was"];
    assert_eq!(talker.answers(&system_option, input), system.clone() + &first + &system);
}

#[test]
fn seeds_decide_and_variables_count() {
    let talker = Talker::new();
    let answer = |more: &[&str]| {
        let options = [&["--max-new-tokens", "24", "--temperature", "1", "--top-k", "50"], more].concat();
        talker.answers(&options, "Hello\n")
    };
    assert_eq!(answer(&["--seed", "3"]), answer(&["--seed", "3"]));
    assert_ne!(answer(&["--seed", "3"]), answer(&["--seed", "4"]));
    assert_ne!(answer(&["--set", "loud=true"]), answer(&["--set", "loud=false"]));
}

#[test]
fn answers_end_at_any_token_that_ends_a_text() {
    let talker = Talker::new();
    let (_, made) = talker.generated(12, &[(Role::User, "What is Rust?")]);
    let tokenizer = files::read_json(&talker.path().join("tokenizer.json"));
    let at = (1..made.len()).find(|&at| !made[..at].contains(&made[at])).expect("two different tokens");
    let vocabulary = tokenizer["model"]["vocab"].as_object().unwrap();
    let (text, _) = vocabulary.iter().find(|(_, id)| id.as_u64() == Some(u64::from(made[at]))).unwrap();
    let (expected, _) = talker.generated(at, &[(Role::User, "What is Rust?")]);
    assert_eq!(talker.answers(&["--stop", text], "What is Rust?\n"), expected);
    talker.write("tokenizer_config.json", &serde_json::json!({ "eos_token": { "content": text } }).to_string());
    assert_eq!(talker.answers(&[], "What is Rust?\n"), expected);
    talker.write("tokenizer_config.json", "{}");
    talker.write("generation_config.json", &serde_json::json!({ "eos_token_id": [1, made[at]] }).to_string());
    assert_eq!(talker.answers(&[], "What is Rust?\n"), expected);
}

#[test]
fn a_full_context_is_said() {
    let talker = Talker::new();
    let ended = talker.chat(&["--context", "24"], "Hello\n");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.starts_with("note: stopped after ") && ended.stderr.contains("/clear"), "{}", ended.stderr);
    let ended = talker.chat(&["--context", "24"], "Hello\n/clear\nHello\nHello\n");
    assert_eq!((ended.code, ended.stdout.is_empty()), (Some(1), false));
    for part in ["tokens, and the context holds 24", "/clear", "--context N"] {
        assert!(ended.stderr.contains(part), "{}", ended.stderr);
    }
    talker.refused(&["--context", "0"], "", 1, &["capacity is 0"]);
    talker.refused(&["--context", "1000000"], "", 1, &["1000000 positions, but the model was made for"]);
}

#[test]
fn what_cannot_be_talked_about_is_said() {
    let talker = Talker::new();
    talker.refused(&[], "/clear up\n", 1, &["no command /clear up", "/help"]);
    talker.refused(&["--set", "laud=true"], "Hi\n", 2, &["chat_template.jinja does not read `laud`; it reads loud"]);
    talker.refused(&["--set", "tools=[]"], "Hi\n", 2, &["`tools` is what the conversation says"]);
    talker.refused(&["--stop", "<nowhere>"], "Hi\n", 2, &["--stop <nowhere>"]);
    talker.refused(&["--template-name", "rag"], "Hi\n", 2, &["chat_template.jinja", "`rag`", "default"]);
    talker.refused(&["--temperature=-1"], "Hi\n", 2, &["temperature is -1"]);
    talker.write("chat_template.jinja", "\n{{ raise_exception('not today') }}");
    talker.refused(&[], "Hi\n", 1, &["chat_template.jinja:2: not today"]);
    talker.write("chat_template.jinja", "{% for %}");
    talker.refused(&[], "Hi\n", 1, &["chat_template.jinja:1: "]);
    talker.write("chat_template.jinja", "{% if false %}{% endif %}");
    talker.refused(&[], "Hi\n", 1, &["makes nothing of the conversation"]);
    fs::remove_file(talker.path().join("chat_template.jinja")).unwrap();
    talker.refused(&[], "Hi\n", 1, &["has no chat template", "--template FILE"]);
    talker.refused(&["--template", "none.jinja"], "Hi\n", 2, &["cannot read none.jinja"]);
    fs::write(talker.folder.path().join("mine.jinja"), TEMPLATE).unwrap();
    assert!(!talker.answers(&["--template", "mine.jinja", "--max-new-tokens", "3"], "Hi\n").is_empty());
    let list = serde_json::json!({ "chat_template": [{ "name": "rag", "template": TEMPLATE }] });
    talker.write("tokenizer_config.json", &list.to_string());
    talker.refused(&[], "Hi\n", 2, &["tokenizer_config.json has no template `default`", "rag"]);
    assert!(!talker.answers(&["--template-name", "rag", "--max-new-tokens", "3"], "Hi\n").is_empty());
    fs::remove_file(talker.path().join("tokenizer.json")).unwrap();
    talker.refused(&[], "Hi\n", 1, &["has no tokenizer.json, which a conversation needs"]);
}

#[test]
fn help_is_no_answer() {
    let ended = Talker::new().chat(&[], "/help\n");
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""));
    assert!(ended.stderr.contains("/system TEXT"), "{}", ended.stderr);
}
