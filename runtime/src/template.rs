//! Chat templates: what a model reads of a conversation, as its checkpoint says it in Jinja.
//!
//! A template sees what the transformers library shows it (`transformers/utils/chat_template_utils.py`): `messages`,
//! `add_generation_prompt`, `tools`, `documents`, the special tokens by name, `raise_exception`, `strftime_now`, and
//! `tojson` in the manner of Python. `trim_blocks` and `lstrip_blocks` are on, nothing is escaped.
//!
//! Templates come with checkpoints, so they are bounded ([`Bounds`]): in their length; in the steps of a rendering and the
//! bytes that these make; in the size of a value that is printed or written as JSON; in time. Their thread has a stack
//! for all that so many bytes and steps can nest.
//!
//! The steps do not count what operators and filters do with lists in lists. When `x` becomes `[x, x]` sixty times, a
//! comparison of it, a lookup by it or text made of it has no end, and such text takes memory without bound: there, the
//! time alone decides. A thread that is out of time cannot be stopped, it ends with the process. So a caller whom
//! [`TemplateError::Time`] reaches should end.

mod bounds;
mod files;
mod json;

use std::collections::BTreeSet;
use std::fmt::{self, Write};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::DateTime;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value};
use minijinja::{Environment, ErrorKind, State};
use minijinja_contrib::pycompat::unknown_method_callback;
use serde::Serialize;
use serde_json::Map;

pub use bounds::Bounds;
pub use files::{ChatFiles, special_tokens};

/// What a conversation itself sets; variables of the user have other names.
pub const RESERVED: [&str; 4] = ["messages", "add_generation_prompt", "tools", "documents"];

/// Why a conversation cannot be rendered.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// A file that cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file that is not what its name says.
    #[error("{}: {message}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A model without a template.
    #[error(
        "{} has no chat template: no chat_template.jinja, no chat_template.json, no `chat_template` in \
         tokenizer_config.json; --template FILE gives one",
        folder.display()
    )]
    None {
        /// The model.
        folder: PathBuf,
    },
    /// Several templates, none of which is meant.
    #[error("{} has no template `{name}`; --template-name takes {known}", path.display())]
    Name {
        /// Where the templates are.
        path: PathBuf,
        /// Which one is wanted.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// A template that cannot be parsed, or that fails or refuses the conversation.
    #[error("{}:{line}: {message}", path.display())]
    Template {
        /// The file.
        path: PathBuf,
        /// Line of the template, from 1.
        line: usize,
        /// What is wrong, in the words of the template where it refuses.
        message: String,
    },
    /// A template that is not done in time. Its thread runs on.
    #[error("the chat template takes longer than {time:?}")]
    Time {
        /// The time that it has.
        time: Duration,
    },
    /// No thread to render on.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

impl TemplateError {
    /// Whether the model or the conversation is at fault, rather than the system or how the program was called.
    pub fn is_input_fault(&self) -> bool {
        match self {
            TemplateError::Io { .. } | TemplateError::Name { .. } | TemplateError::Thread(_) => false,
            TemplateError::Malformed { .. }
            | TemplateError::None { .. }
            | TemplateError::Template { .. }
            | TemplateError::Time { .. } => true,
        }
    }
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// What holds for the whole conversation.
    System,
    /// The human.
    User,
    /// The model.
    Assistant,
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// The text.
    pub content: String,
}

/// A template, parsed.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Arc<Environment<'static>>,
    variables: BTreeSet<String>,
    path: PathBuf,
    bounds: Bounds,
}

/// Name of the template in its environment.
const NAME: &str = "chat";

impl ChatTemplate {
    /// Parses a template; `path` is where it comes from, for messages. Its clock stands at `now`, in local time.
    ///
    /// # Errors
    /// When the text is no template or exceeds its bounds.
    pub fn parse(path: &Path, text: &str, now: DateTime, bounds: Bounds) -> Result<ChatTemplate, TemplateError> {
        if text.len() > bounds.template_bytes {
            let (bytes, most) = (text.len(), bounds.template_bytes);
            let message = format!("the template has {bytes} bytes, and at most {most} are read");
            return Err(TemplateError::Malformed { path: path.to_owned(), message });
        }
        let text = with_plain_blocks(text);
        let parsed = bounds.run(bounds.parsing, move || {
            let mut environment = environment(now, bounds);
            environment.add_template_owned(NAME, text)?;
            let variables = environment.get_template(NAME)?.undeclared_variables(false);
            Ok((environment, variables.into_iter().collect()))
        })?;
        let (environment, variables) = parsed.map_err(|error| template_error(path, &error))?;
        Ok(ChatTemplate { environment: Arc::new(environment), variables, path: path.to_owned(), bounds })
    }

    /// Names that the template reads without setting them: variables, functions.
    pub fn variables(&self) -> &BTreeSet<String> {
        &self.variables
    }

    /// The text of a conversation, up to where the model begins its answer. `variables` are the special tokens and what
    /// the user has set.
    ///
    /// # Errors
    /// When the template refuses the conversation, does what Jinja does not know, or exceeds its bounds.
    pub fn render(
        &self,
        messages: &[Message],
        variables: &Map<String, serde_json::Value>,
    ) -> Result<String, TemplateError> {
        let mut context: Vec<(String, Value)> =
            variables.iter().map(|(name, value)| (name.clone(), Value::from(Serde(value)))).collect();
        let none = Value::from(());
        let own = [Value::from(Serde(messages)), Value::from(true), none.clone(), none];
        context.extend(RESERVED.into_iter().map(str::to_owned).zip(own));
        let context = Value::from_pairs(context);
        let environment = self.environment.clone();
        let rendered =
            self.bounds.run(self.bounds.rendering, move || environment.get_template(NAME)?.render(context))?;
        rendered.map_err(|error| template_error(&self.path, &error))
    }
}

/// What templates know.
fn environment(now: DateTime, bounds: Bounds) -> Environment<'static> {
    let mut environment = Environment::new();
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true);
    environment.set_syntax(syntax.build().unwrap_or_else(|_| unreachable!("delimiters are the usual ones")));
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_fuel(Some(bounds.steps as u64));
    environment.set_unknown_method_callback(call_method);
    environment.set_formatter(move |out, _, value| {
        if value.is_undefined() {
            return Ok(());
        }
        let mut bounded = Bounded { out, left: bounds.value_bytes };
        write!(bounded, "{value}")
            .map_err(|_| minijinja::Error::new(ErrorKind::WriteFailure, "a value is too large to be printed"))
    });
    environment
        .add_filter("tojson", move |value: &Value, options: Kwargs| json::to_json(value, &options, bounds.value_bytes));
    environment.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("strftime_now", move |format: String| {
        jiff::fmt::strtime::format(&format, now)
            .map_err(|error| minijinja::Error::new(ErrorKind::InvalidOperation, error.to_string()))
    });
    environment
}

/// The innermost error says what happened.
fn template_error(path: &Path, error: &minijinja::Error) -> TemplateError {
    let mut innermost = error;
    while let Some(source) = std::error::Error::source(innermost).and_then(|source| source.downcast_ref()) {
        innermost = source;
    }
    let line = innermost.line().or(error.line()).unwrap_or(1);
    let message = match (innermost.kind(), innermost.detail()) {
        (ErrorKind::OutOfFuel, _) => "the template does not end within its bounds".to_owned(),
        (_, Some(detail)) => detail.to_owned(),
        (kind, None) => kind.to_string(),
    };
    TemplateError::Template { path: path.to_owned(), line, message }
}

/// A method of a Python object. Those that can make much of little are the filters of the same name, which use up fuel
/// before they do.
fn call_method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, minijinja::Error> {
    match (name, value.as_str(), args) {
        ("replace", Some(_), [old, new]) => state.apply_filter("replace", &[value.clone(), old.clone(), new.clone()]),
        ("join", Some(_), [items]) => state.apply_filter("join", &[items.clone(), value.clone()]),
        ("format", Some(text), _) if text.contains(|c: char| c.is_ascii_digit()) => {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, "`format` takes neither numbers nor widths"))
        }
        _ => unknown_method_callback(state, value, name, args),
    }
}

/// `{% generation %}` marks what the model has said, for training. It makes a scope and nothing else, as `{% with %}`
/// does.
fn with_plain_blocks(text: &str) -> String {
    let (mut plain, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start + 2);
        let name = tag.trim_start_matches(['-', '+']).trim_start();
        let sign = &tag[..tag.len() - name.len()];
        let length = name.find(|character: char| !character.is_ascii_alphabetic()).unwrap_or(name.len());
        let (word, after) = name.split_at(length);
        let alone = after.trim_start().trim_start_matches(['-', '+']).starts_with("%}");
        let word = match word {
            "generation" if alone => "with",
            "endgeneration" if alone => "endwith",
            other => other,
        };
        plain.extend([before, sign, word]);
        rest = after;
    }
    plain + rest
}

/// Passes on so many bytes and then fails.
struct Bounded<'a, 'b> {
    out: &'a mut minijinja::Output<'b>,
    left: usize,
}

impl Write for Bounded<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.left = self.left.checked_sub(text.len()).ok_or(fmt::Error)?;
        self.out.write_str(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(content: &str) -> Vec<Message> {
        vec![Message { role: Role::User, content: content.to_owned() }]
    }

    /// No machine is too slow for the tests.
    fn patient() -> Bounds {
        Bounds { parsing: Duration::MAX, rendering: Duration::MAX, ..Bounds::default() }
    }

    fn bounded(text: &str, bounds: Bounds) -> Result<String, TemplateError> {
        let now = jiff::civil::date(2026, 3, 9).at(14, 5, 0, 0);
        ChatTemplate::parse(Path::new("a.jinja"), text, now, bounds)?.render(&user("Hi"), &Map::new())
    }

    fn rendered(text: &str) -> Result<String, String> {
        bounded(text, patient()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_template_sees_the_conversation() {
        let text = "{% for message in messages %}\n  {{ message.role }}: {{ message['content'] }}\n  {% endfor %}\n";
        assert_eq!(rendered(text).unwrap(), "  user: Hi\n");
        assert_eq!(
            rendered("{{ tools }} {{ documents is none }} {{ add_generation_prompt }}").unwrap(),
            "None True True"
        );
        assert_eq!(rendered("{{ strftime_now('%d %b %Y %-H:%M') }}").unwrap(), "09 Mar 2026 14:05");
        assert_eq!(rendered("<a> & {{ '<b>' }} {{ ['a', None, 1.0] }}").unwrap(), "<a> & <b> ['a', None, 1.0]");
    }

    #[test]
    fn marks_of_generation_are_scopes() {
        let text = "a\n{%- generation -%}\n b {% set x = 1 %}{{ x }}\n{% endgeneration %}\nc{{ x }} {% set generation = 2 %}{{ generation }}";
        assert_eq!(rendered(text).unwrap(), "ab 1\nc 2");
        assert_eq!(with_plain_blocks("{%"), "{%");
        assert_eq!(with_plain_blocks("{% generation"), "{% generation");
        assert_eq!(with_plain_blocks("{%+\ngeneration\t+%}é{%é%}"), "{%+\nwith\t+%}é{%é%}");
    }

    #[test]
    fn errors_say_where_and_what() {
        for (text, message) in [
            ("\n{{ raise_exception('no system message') }}", "a.jinja:2: no system message"),
            ("{% macro a() %}\n{{ raise_exception('deep') }}{% endmacro %}{{ a() }}", "a.jinja:2: deep"),
            ("\n\n{{ 3", "a.jinja:3: "),
            ("{% include 'b' %}", "a.jinja:1: unknown statement include"),
            ("{% import '/etc/passwd' as b %}", "a.jinja:1: unknown statement import"),
            ("{{ missing.part }}", "a.jinja:1: "),
            ("{{ 1 | no_filter }}", "a.jinja:1: "),
            ("{{ no_function() }}", "a.jinja:1: "),
            ("{{ strftime_now('%!') }}", "a.jinja:1: "),
            ("{{ missing | tojson }}", "a.jinja:1: an undefined value is no JSON"),
        ] {
            let error = rendered(text).unwrap_err();
            assert!(error.starts_with(message), "{text}: {error}");
        }
    }

    #[test]
    fn hostile_templates_end() {
        let grow = |start: &str, step: &str, times: &str, last: &str| {
            format!(
                "{{% set n = namespace(x={start}) %}}{{% for j in range({times}) %}}{{% for i in range(1000) %}}\
                 {{% set n.x = {step} %}}{{% endfor %}}{{% endfor %}}{last}"
            )
        };
        let doubled = "{% set n = namespace(x=[]) %}{% for i in range(40) %}{% set n.x = [n.x, n.x] %}{% endfor %}";
        let bounds = Bounds { steps: 1 << 14, value_bytes: 1 << 16, ..patient() };
        for text in [
            grow("0", "n.x + 1", "100000", ""),
            grow("[]", "[n.x]", "100000", ""),
            grow("[]", "{'a': n.x}", "100000", ""),
            grow("''", "n.x ~ 'aaaaaaaaaaaaaaaa'", "100000", ""),
            grow("'a'", "n.x ~ n.x", "1", ""),
            grow("'a'", "n.x + n.x", "1", ""),
            grow("[]", "[n.x]", "1", "{{ n.x | tojson }}"),
            format!("{doubled}{{{{ n.x }}}}"),
            format!("{doubled}{{{{ n.x | tojson }}}}"),
            format!("{doubled}{{{{ n.x | tojson(sort_keys=true) }}}}"),
            "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}".to_owned(),
            "{{ 'a' * 1000000000 }}".to_owned(),
            "{{ 'a' | indent(1000000000) }}".to_owned(),
            "{{ [1] | tojson(indent=1000000000) }}".to_owned(),
            "{{ '%1000000000d' | format(3) }}".to_owned(),
            "{{ range(1000000000) }}".to_owned(),
            "{{ '{:1000000000}'.format(3) }}".to_owned(),
            "{% set a = 'a' * 1000000 %}{{ a.replace('a', a) }}".to_owned(),
            "{% set a = 'a' * 1000000 %}{{ a.join([a] * 100000) }}".to_owned(),
            format!("{{{{ {}1{} }}}}", "(".repeat(10_000), ")".repeat(10_000)),
            "{% if true %}".repeat(10_000),
        ] {
            let error = bounded(&text, bounds).err().unwrap_or_else(|| panic!("{text} is rendered")).to_string();
            assert!(error.starts_with("a.jinja:1: ") && error.len() < 300, "{text}: {error}");
        }
    }

    #[test]
    fn what_takes_no_steps_is_out_of_time() {
        let doubled = "{% set n = namespace(x=[], y=[]) %}{% for i in range(25) %}{% set n.x = [n.x, n.x] %}\
                       {% set n.y = [n.y, n.y] %}{% endfor %}";
        let bounds = Bounds { rendering: Duration::from_millis(1), ..patient() };
        for last in ["{{ n.x == n.y }}", "{{ n.x ~ '' }}", "{{ n.x | string | length }}", "{{ {n.x: 1} }}"] {
            let error = bounded(&format!("{doubled}{last}"), bounds).unwrap_err();
            assert!(
                error.is_input_fault() && error.to_string() == "the chat template takes longer than 1ms",
                "{error}"
            );
        }
    }

    #[test]
    fn the_stack_holds_what_nests() {
        let (open, close) = ("[".repeat(40), "]".repeat(40));
        let deep = format!(
            "{{% set n = namespace(x=[], y=[]) %}}{{% for i in range(3700) %}}{{% set n.x = {open}n.x{close} %}}\
             {{% set n.y = {open}n.y{close} %}}{{% endfor %}}{{{{ n.x == n.y }}}}"
        );
        let bounds = Bounds { template_bytes: 1 << 10, ..patient() };
        assert_eq!(bounded(&deep, bounds).unwrap(), "True");
        let bounds = Bounds { template_bytes: 1 << 13, steps: 1 << 10, ..patient() };
        let length = bounds.template_bytes - 20;
        for text in [
            format!("{{{{ {}1 }}}}", "-".repeat(length)),
            format!("{{{{ 1{} }}}}", "+a".repeat(length / 2)),
            format!("{{{{ a{} }}}}", ".b".repeat(length / 2)),
            format!("{{{{ a{} }}}}", "()".repeat(length / 2)),
            format!("{{{{ a{} }}}}", "|e".repeat(length / 2)),
            format!("{{{{ {}a }}}}", "not ".repeat(length / 4)),
            format!("{{{{ 1{} }}}}", " if a else 1".repeat(length / 12)),
            format!("{{%if a%}}{}{{%endif%}}", "{%elif a%}".repeat(length / 10 - 1)),
        ] {
            // Ends, well or not.
            let _ = bounded(&text, bounds);
        }
        let error = bounded(&" ".repeat(bounds.template_bytes + 1), bounds).unwrap_err().to_string();
        assert_eq!(error, "a.jinja: the template has 8193 bytes, and at most 8192 are read");
    }
}
