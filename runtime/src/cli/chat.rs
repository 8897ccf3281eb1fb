//! `lathe-run chat`

use std::io::{self, BufRead, IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use lathe_runtime::backend::Session;
use lathe_runtime::sample::Sampler;
use lathe_runtime::template::{
    Bounds, ChatFiles, ChatTemplate, Message, RESERVED, Role, TemplateError, special_tokens,
};
use lathe_runtime::tokenizer::Tokenizer;
use serde_json::{Map, Value};
use signal_hook::consts::SIGINT;

use super::decode::{self, End, Limits, SamplingArgs};
use super::failure::Failure;
use super::model::{MachineOptions, Model};
use super::note;

/// Positions of a conversation unless told otherwise, where the model takes so many and the device does not say.
const DEFAULT_CONTEXT: usize = 4096;
/// Longest message, in bytes.
const MAX_MESSAGE_BYTES: usize = 1 << 24;
/// Exit code after Ctrl-C at the prompt.
const INTERRUPTED: i32 = 130;

const COMMANDS: &str = "\
Commands, each on a line of its own:
  /clear        start a new conversation, with the same system message
  /system TEXT  replace the system message; without TEXT, there is none
  /help         show this
  /exit         end, as does the end of input

A line that ends with \\ goes on in the next one. Ctrl-C ends an answer, at the prompt it ends the program.";

/// Talk to a model
///
/// Reads messages from stdin, one for each line, and writes the answers to stdout as they are made. What a conversation
/// is to the model is said by its chat template.
#[derive(Debug, Args)]
#[command(after_help = COMMANDS)]
pub(crate) struct ChatArgs {
    /// Folder of the compiled model
    #[arg(value_name = "OUT")]
    model: PathBuf,

    /// Begin with this system message
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,

    /// Make at most this many tokens for an answer [default: as many as the context holds]
    #[arg(long, value_name = "N")]
    max_new_tokens: Option<usize>,

    /// Tokens that a conversation can have [default: 4096, on a CUDA device as many as its memory has room for; no more than
    /// the model was made for]
    #[arg(long, value_name = "N")]
    context: Option<usize>,

    #[command(flatten)]
    sampling: SamplingArgs,

    /// End answers at this token, too; may be repeated
    #[arg(long, value_name = "TOKEN")]
    stop: Vec<String>,

    /// Use the Jinja template of this file rather than the model's own
    #[arg(long, value_name = "FILE")]
    template: Option<PathBuf>,

    /// Of several templates in tokenizer_config.json, use this one [default: default]
    #[arg(long, value_name = "NAME", conflicts_with = "template")]
    template_name: Option<String>,

    /// Set a variable of the template, as enable_thinking=false; VALUE is JSON or else text. May be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    set: Vec<(String, Value)>,
}

fn variable(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    if RESERVED.contains(&name) {
        return Err(format!("`{name}` is what the conversation says"));
    }
    Ok((name.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| value.into())))
}

/// Runs the verb.
pub(crate) fn run(args: &ChatArgs, machine: &MachineOptions, out: &mut (dyn Write + Send)) -> Result<(), Failure> {
    let sampler = args.sampling.sampler()?;
    let model = Model::open(&args.model, machine)?;
    let tokenizer = model.tokenizer("a conversation")?;
    let mut variables = special_tokens(&args.model)?;
    let template = open_template(args)?;
    let end_of_text = end_of_text(args, &model, &tokenizer, &variables)?;
    let capacity = match args.context {
        Some(context) => context,
        None => model.most_positions()?.at_most(DEFAULT_CONTEXT),
    };
    variables.extend(args.set.iter().cloned());
    // While it is set, Ctrl-C ends the program.
    let interrupted = Arc::new(AtomicBool::new(true));
    let at_terminal = io::stdin().is_terminal();
    if at_terminal {
        let failed = |error| Failure::Run(format!("cannot handle Ctrl-C: {error}"));
        // In this order: what sets it comes after what looks at it.
        signal_hook::flag::register_conditional_shutdown(SIGINT, INTERRUPTED, interrupted.clone()).map_err(failed)?;
        signal_hook::flag::register(SIGINT, interrupted.clone()).map_err(failed)?;
    }
    let mut chat = Chat {
        template,
        variables,
        tokenizer: &tokenizer,
        sampler,
        limits: Limits {
            max_new_tokens: args.max_new_tokens.unwrap_or(usize::MAX),
            capacity,
            end_of_text: &end_of_text,
        },
        max_positions: model.max_positions(),
        system: args.system.clone(),
        messages: Vec::new(),
        ids: Vec::new(),
        interrupted: &interrupted,
        stuck: false,
    };
    model.with_session(&model.backend.options(capacity), |session| {
        chat.run(session, &mut io::stdin().lock(), at_terminal, out)
    })
}

/// The template, which must read every variable that is set for it.
fn open_template(args: &ChatArgs) -> Result<ChatTemplate, Failure> {
    let files = match &args.template {
        Some(path) => ChatFiles::open(path)?,
        None => ChatFiles::of_model(&args.model, args.template_name.as_deref())?,
    };
    let template = ChatTemplate::parse(&files.path, &files.text, jiff::Zoned::now().datetime(), Bounds::default())?;
    let read = template.variables();
    if let Some((name, _)) = args.set.iter().find(|(name, _)| !read.contains(name)) {
        let known: Vec<&str> = read.iter().map(String::as_str).filter(|name| !RESERVED.contains(name)).collect();
        let known = if known.is_empty() { "no variable of its own".to_owned() } else { known.join(", ") };
        let path = files.path.display();
        return Err(Failure::Run(format!("{path} does not read `{name}`; it reads {known}")));
    }
    Ok(template)
}

/// Tokens that end an answer: those of generation_config.json, the tokenizer's `eos_token`, and what the user adds.
fn end_of_text(
    args: &ChatArgs,
    model: &Model,
    tokenizer: &Tokenizer,
    special: &Map<String, Value>,
) -> Result<Vec<u32>, Failure> {
    let mut tokens = model.artifact.generation.end_of_text.clone();
    tokens.extend(special.get("eos_token").and_then(Value::as_str).and_then(|text| tokenizer.token(text)));
    for text in &args.stop {
        let unknown = || Failure::Run(format!("--stop {text}: the tokenizer has no such token"));
        tokens.push(tokenizer.token(text).ok_or_else(unknown)?);
    }
    Ok(tokens)
}

/// A conversation.
struct Chat<'a> {
    template: ChatTemplate,
    variables: Map<String, Value>,
    tokenizer: &'a Tokenizer,
    sampler: Sampler,
    limits: Limits<'a>,
    max_positions: usize,
    system: Option<String>,
    /// Of user and assistant, in turns.
    messages: Vec<Message>,
    /// The last conversation as tokens: what the session has read, then what it has not.
    ids: Vec<u32>,
    interrupted: &'a AtomicBool,
    /// Whether a rendering goes on that is not waited for.
    stuck: bool,
}

impl Chat<'_> {
    /// Answers until the input ends. At a terminal, a message that cannot be answered is not the end, unless a template
    /// runs on: only the end of the process ends it.
    fn run(
        &mut self,
        session: &mut dyn Session,
        input: &mut dyn BufRead,
        at_terminal: bool,
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        while let Some(text) = read_message(input, at_terminal)? {
            let handled = match Line::parse(&text) {
                Line::Blank => Ok(()),
                Line::Exit => break,
                Line::Help => {
                    let _ = writeln!(io::stderr(), "{COMMANDS}");
                    Ok(())
                }
                Line::Clear => {
                    self.messages.clear();
                    Ok(())
                }
                Line::System(text) => {
                    self.system = text.map(str::to_owned);
                    Ok(())
                }
                Line::Unknown(command) => Err(Failure::Input(format!("no command {command}; /help lists them"))),
                Line::Message(text) => {
                    self.interrupted.store(false, Ordering::Relaxed);
                    let answered = self.answer(session, text, out);
                    self.interrupted.store(true, Ordering::Relaxed);
                    answered
                }
            };
            match handled {
                Err(Failure::Input(message)) if at_terminal && !self.stuck => note(&message),
                handled => handled?,
            }
        }
        Ok(())
    }

    /// Answers one message, and remembers both. What the session has read of the conversation before is not read again.
    fn answer(&mut self, session: &mut dyn Session, text: &str, out: &mut dyn Write) -> Result<(), Failure> {
        let said = |role, text: &str| Message { role, content: text.to_owned() };
        let question = said(Role::User, text);
        let system = self.system.iter().map(|text| said(Role::System, text));
        let conversation: Vec<Message> =
            system.chain(self.messages.iter().cloned()).chain([question.clone()]).collect();
        let rendered = self.template.render(&conversation, &self.variables);
        self.stuck = matches!(rendered, Err(TemplateError::Time { .. }));
        let ids = self.tokenizer.encode(&rendered?, false)?;
        self.check_room(ids.len())?;
        let read = &self.ids[..session.position().min(self.ids.len())];
        let common = read.iter().zip(&ids).take_while(|(before, now)| before == now).count();
        // Logits are those of tokens that are read.
        session.truncate(common.min(ids.len() - 1));
        self.ids = ids;
        let mut stream = self.tokenizer.stream(&self.ids)?;
        let mut answer = String::new();
        let made = decode::extend(session, &mut self.ids, &mut self.sampler, self.limits, |token| {
            let text = stream.push(token)?;
            out.write_all(text.as_bytes())?;
            out.flush()?;
            answer += &text;
            Ok(if self.interrupted.load(Ordering::Relaxed) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        })?;
        let text = stream.finish()?;
        answer += &text;
        writeln!(out, "{text}")?;
        out.flush()?;
        if made.end == End::Full {
            let (tokens, capacity) = (made.tokens, self.limits.capacity);
            note(&format!("stopped after {tokens} tokens: the context of {capacity} is full; {}", self.remedy()));
        }
        self.messages.extend([question, said(Role::Assistant, &answer)]);
        Ok(())
    }

    fn check_room(&self, tokens: usize) -> Result<(), Failure> {
        let capacity = self.limits.capacity;
        if tokens == 0 {
            return Err(Failure::Input("the chat template makes nothing of the conversation".to_owned()));
        }
        if tokens > capacity {
            let remedy = self.remedy();
            let message = format!("the conversation has {tokens} tokens, and the context holds {capacity}; {remedy}");
            return Err(Failure::Input(message));
        }
        Ok(())
    }

    /// What to do when the context is full.
    fn remedy(&self) -> &'static str {
        if self.limits.capacity < self.max_positions {
            "/clear starts a new conversation, --context N makes room for longer ones"
        } else {
            "/clear starts a new conversation"
        }
    }
}

/// What a line says.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Blank,
    Message(&'a str),
    Clear,
    System(Option<&'a str>),
    Help,
    Exit,
    Unknown(&'a str),
}

impl Line<'_> {
    /// A command is a slash and letters; what has more in its first word, as a path has, is a message.
    fn parse(text: &str) -> Line<'_> {
        let (first, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let name = first.strip_prefix('/').filter(|name| name.chars().all(|c| c.is_ascii_alphabetic()));
        let rest = Some(rest.trim()).filter(|rest| !rest.is_empty());
        match (name, rest) {
            _ if text.trim().is_empty() => Line::Blank,
            (None, _) => Line::Message(text),
            (Some("system"), text) => Line::System(text),
            (Some("clear"), None) => Line::Clear,
            (Some("help"), None) => Line::Help,
            (Some("exit"), None) => Line::Exit,
            (Some(_), _) => Line::Unknown(text),
        }
    }
}

/// A line, with those that follow as long as each ends with a backslash; `None` at the end of the input.
fn read_message(input: &mut dyn BufRead, prompt: bool) -> Result<Option<String>, Failure> {
    let mut message = Vec::new();
    let mut mark = "> ";
    loop {
        if prompt {
            let _ = write!(io::stderr(), "{mark}");
        }
        let left = MAX_MESSAGE_BYTES + 1 - message.len();
        let read = io::Read::take(&mut *input, left as u64).read_until(b'\n', &mut message);
        let read = read.map_err(|error| Failure::Run(format!("cannot read stdin: {error}")))?;
        if message.len() > MAX_MESSAGE_BYTES {
            return Err(Failure::Run(format!("a message on stdin has more than {MAX_MESSAGE_BYTES} bytes")));
        }
        if message.is_empty() {
            if prompt {
                let _ = writeln!(io::stderr());
            }
            return Ok(None);
        }
        if message.ends_with(b"\n") {
            message.pop();
        }
        if message.ends_with(b"\r") {
            message.pop();
        }
        if read == 0 || !message.ends_with(b"\\") {
            break;
        }
        message.pop();
        message.push(b'\n');
        mark = ". ";
    }
    let message = String::from_utf8(message);
    message.map(Some).map_err(|error| Failure::Input(format!("stdin is not UTF-8: {}", error.utf8_error())))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use lathe_runtime::backend::Steps;
    use lathe_runtime::exec::{ExecError, Logits};
    use lathe_runtime::sample::SamplerOptions;

    use super::*;

    fn messages(mut input: &[u8]) -> Vec<String> {
        std::iter::from_fn(|| read_message(&mut input, false).unwrap()).collect()
    }

    #[test]
    fn a_message_is_a_line_unless_it_goes_on() {
        assert_eq!(messages(b""), [""; 0]);
        assert_eq!(messages(b"a\nb"), ["a", "b"]);
        assert_eq!(messages(b"a\\\nb\\\r\n\nc\\"), ["a\nb\n", "c"]);
        assert_eq!(messages(b"\n\\\n"), ["", ""]);
        let failed = |mut input: &[u8]| read_message(&mut input, false).unwrap_err();
        assert!(matches!(failed(b"\xff\n"), Failure::Input(message) if message.contains("UTF-8")));
        let long = vec![b'a'; MAX_MESSAGE_BYTES + 1];
        assert_eq!(messages(&long[1..]).len(), 1);
        assert!(matches!(failed(&long), Failure::Run(message) if message.contains("more than")));
    }

    #[test]
    fn lines_are_commands_or_messages() {
        for (text, line) in [
            (" ", Line::Blank),
            ("Hi /clear", Line::Message("Hi /clear")),
            ("/clear", Line::Clear),
            ("/clear all", Line::Unknown("/clear all")),
            ("/system Be brief. ", Line::System(Some("Be brief."))),
            ("/system", Line::System(None)),
            ("/help", Line::Help),
            ("/exit", Line::Exit),
            ("/quit", Line::Unknown("/quit")),
            ("/etc/passwd is what?", Line::Message("/etc/passwd is what?")),
            (" /exit", Line::Message(" /exit")),
        ] {
            assert_eq!(Line::parse(text), line, "{text}");
        }
    }

    /// Says one token again and again, and remembers what it has read.
    struct Parrot {
        logits: Vec<f32>,
        calls: Vec<usize>,
        position: usize,
    }

    impl Session for Parrot {
        fn forward(&mut self, tokens: &[u32], _: Logits) -> Result<&[f32], ExecError> {
            self.calls.push(tokens.len());
            self.position += tokens.len();
            Ok(&self.logits)
        }

        fn steps<'s>(&'s mut self, _: &'s [u32], _: Logits) -> Result<Box<dyn Steps + 's>, ExecError> {
            unreachable!("a chat does not look at steps")
        }

        fn position(&self) -> usize {
            self.position
        }

        fn truncate(&mut self, positions: usize) {
            self.position = self.position.min(positions);
        }

        fn memory_bytes(&self) -> u64 {
            0
        }
    }

    fn micro_llama() -> Tokenizer {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/models/micro-llama");
        Tokenizer::open(&folder.join("tokenizer.json")).unwrap()
    }

    fn chat<'a>(text: &str, bounds: Bounds, tokenizer: &'a Tokenizer, interrupted: &'a AtomicBool) -> Chat<'a> {
        Chat {
            template: ChatTemplate::parse(Path::new("a"), text, jiff::civil::DateTime::default(), bounds).unwrap(),
            variables: Map::new(),
            tokenizer,
            sampler: Sampler::new(SamplerOptions { temperature: 0.0, top_k: None, top_p: None, seed: 0 }).unwrap(),
            limits: Limits { max_new_tokens: 3, capacity: 100, end_of_text: &[] },
            max_positions: 100,
            system: None,
            messages: Vec::new(),
            ids: Vec::new(),
            interrupted,
            stuck: false,
        }
    }

    #[test]
    fn only_what_is_new_is_read() {
        let tokenizer = micro_llama();
        let text = "{% for message in messages %}<s>{{ message.content }}{% endfor %}<s>";
        let parrot = tokenizer.encode("a", false).unwrap()[0];
        let mut logits = vec![0.0; 4096];
        logits[parrot as usize] = 1.0;
        let mut session = Parrot { logits, calls: Vec::new(), position: 0 };
        let interrupted = AtomicBool::new(false);
        let mut chat = chat(text, Bounds::default(), &tokenizer, &interrupted);
        let mut say = |chat: &mut Chat<'_>, text: &str| {
            let mut out = Vec::new();
            chat.answer(&mut session, text, &mut out).unwrap();
            (String::from_utf8(out).unwrap(), std::mem::take(&mut session.calls))
        };
        // <s>, a, <s>; then the answer but for its last token.
        assert_eq!(say(&mut chat, "a"), ("aaa\n".to_owned(), vec![3, 1, 1]));
        let known = tokenizer.encode("<s>a<s>aaa<s>a<s>", false).unwrap().len();
        let (_, calls) = say(&mut chat, "a");
        assert!(calls[0] < known - 3 && calls[1..] == [1, 1], "{calls:?} of {known}");
        // The same once more: all is known, the last token is read for its logits.
        chat.messages.truncate(2);
        assert_eq!(say(&mut chat, "a").1, [1, 1, 1]);
        chat.messages.clear();
        let (_, calls) = say(&mut chat, "b");
        assert_eq!(calls, [2, 1, 1]);
        interrupted.store(true, Ordering::Relaxed);
        assert_eq!(say(&mut chat, "b").0, "a\n");
    }

    #[test]
    fn a_template_that_runs_on_ends_the_conversation_at_a_terminal_too() {
        let tokenizer = micro_llama();
        let interrupted = AtomicBool::new(false);
        let talk = |text: &str, rendering: Duration| {
            let mut chat =
                chat(text, Bounds { parsing: Duration::MAX, rendering, ..Bounds::default() }, &tokenizer, &interrupted);
            let mut session = Parrot { logits: Vec::new(), calls: Vec::new(), position: 0 };
            chat.run(&mut session, &mut &b"a\nb\n"[..], true, &mut Vec::new())
        };
        assert!(talk("{{ raise_exception('no') }}", Duration::MAX).is_ok());
        let doubled = "{% set n = namespace(x=[], y=[]) %}{% for i in range(25) %}{% set n.x = [n.x, n.x] %}\
                       {% set n.y = [n.y, n.y] %}{% endfor %}{{ n.x == n.y }}";
        let failed = talk(doubled, Duration::from_millis(1)).unwrap_err();
        assert!(matches!(&failed, Failure::Input(message) if message.ends_with("takes longer than 1ms")), "{failed:?}");
    }

    #[test]
    fn variables_are_json_or_text() {
        assert_eq!(variable("a=false").unwrap(), ("a".to_owned(), Value::Bool(false)));
        assert_eq!(variable("a=b=c").unwrap(), ("a".to_owned(), Value::from("b=c")));
        assert!(variable("a").is_err() && variable("messages=[]").is_err());
    }
}
