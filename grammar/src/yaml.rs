//! Specs in YAML → the same AST. The only file that names a YAML crate.
//!
//! ```yaml
//! lathe: 1
//! spec: keep
//! rules:
//!   - match: "layers[0, -1].**"
//!     format: keep(exact)
//!     optional: true
//! ```
//!
//! The text is first read into a tree of values with their places, whatever the keys: so every mistake is found in one
//! run, and not only the first.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy};
use serde_saphyr::{Error, Location, Spanned as Located, UserMessageFormatter};

use crate::ast::{Call, File, Item, ItemKind, Rule, Spec};
use crate::diag::{Diagnostic, nearest};
use crate::dsl::{self, Origin};
use crate::parse::{LANGUAGE_VERSION, Parsed, is_item_name, pattern_diagnostic};

/// Sections of a spec that YAML cannot say yet.
const LATER_SECTIONS: &[&str] = &["models", "let", "rotate", "kv_cache", "tied", "compute", "use", "extends"];

fn unsupported(code: &'static str, what: &str, span: Span) -> Diagnostic {
    Diagnostic::error(code, format!("`{what}` is part of the language, but this version cannot build it"))
        .label(span, "")
}

use crate::pattern::Pattern;
use crate::span::{SourceId, Span, Spanned};

/// Deepest nesting: a spec needs three levels.
const MAX_DEPTH: usize = 16;

/// Parses a whole file.
pub(crate) fn parse_file(text: &str, source: SourceId) -> Parsed {
    let mut reader = Reader { text, source, diagnostics: Vec::new() };
    let file = match serde_saphyr::from_str_with_options::<Located<Value>>(text, options()) {
        Ok(root) => reader.file(&root),
        Err(error) => {
            reader.not_yaml(&error);
            None
        }
    };
    Parsed { file, diagnostics: reader.diagnostics }
}

/// YAML 1.2 booleans only, and bounds on everything that a short text could make long.
fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_nodes: 20_000,
            max_aliases: 256,
            max_anchors: 256,
            max_documents: 1,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 10_000 },
        // Seen by the reader, which can point at both.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::Error,
        reject_unsupported_tags: true,
        strict_booleans: true,
    }
}

/// A YAML value; what it means is decided by who asks for it.
#[derive(Debug)]
enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Located<Value>>),
    Map(Vec<(Located<String>, Located<Value>)>),
}

impl Value {
    fn describe(&self) -> String {
        match self {
            Value::Null => "nothing".to_owned(),
            Value::Bool(value) => format!("`{value}`"),
            Value::Int(value) => format!("the number {value}"),
            Value::Float(value) => format!("the number {value}"),
            Value::Text(text) if text.len() <= 40 => format!("`{text}`"),
            Value::Text(_) => "a long text".to_owned(),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::Float(value as f64), Value::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element()? {
            values.push(value);
        }
        Ok(Value::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Value::Map(entries))
    }
}

struct Reader<'a> {
    text: &'a str,
    source: SourceId,
    diagnostics: Vec<Diagnostic>,
}

impl Reader<'_> {
    fn report(&mut self, span: Span, message: impl Into<String>) -> &mut Diagnostic {
        let at = self.diagnostics.len();
        self.diagnostics.push(Diagnostic::error("P0001", message).label(span, ""));
        &mut self.diagnostics[at]
    }

    fn place(&self, location: Location) -> Span {
        let span = location.span();
        let start = match span.byte_offset() {
            Some(offset) => offset as usize,
            None => self.offset(location.line() as usize, location.column() as usize),
        };
        let start = start.min(self.text.len());
        let end = (start + span.byte_len().unwrap_or(0) as usize).min(self.text.len());
        Span::new(self.source, start..start + self.text.get(start..end).map_or(0, |text| text.trim_end().len()))
    }

    /// Byte offset of a line and column, both counted from 1, columns in characters.
    fn offset(&self, line: usize, column: usize) -> usize {
        let Some(text) = self.text.split_inclusive('\n').nth(line.saturating_sub(1)) else { return self.text.len() };
        let start = text.as_ptr() as usize - self.text.as_ptr() as usize;
        start + text.char_indices().nth(column.saturating_sub(1)).map_or(text.len(), |(at, _)| at)
    }

    fn span<T>(&self, value: &Located<T>) -> Span {
        self.place(value.referenced)
    }

    /// Where the characters of a text stand, and whether they stand there literally: without quotes, escapes, folds.
    fn literal(&self, value: &str, whole: Span) -> (Span, bool) {
        let written = &self.text[whole.range()];
        if written == value {
            return (whole, true);
        }
        match written.strip_prefix(['"', '\'']).and_then(|inner| inner.strip_suffix(['"', '\''])) {
            Some(inner) if inner == value => (Span { start: whole.start + 1, end: whole.end - 1, ..whole }, true),
            _ => (whole, false),
        }
    }

    fn not_yaml(&mut self, error: &serde_saphyr::Error) {
        let error = error.without_snippet();
        let span = error.location().map_or(Span::new(self.source, 0..0), |location| self.place(location));
        let message = match error {
            Error::Budget { breach: BudgetBreach::Documents { .. }, .. } | Error::MultipleDocuments { .. } => {
                "a spec is one YAML document; another one begins here".to_owned()
            }
            // Values of any type are taken, so what fails in an alias is a limit.
            Error::AliasError { .. }
            | Error::Budget { .. }
            | Error::AliasReplayLimitExceeded { .. }
            | Error::AliasExpansionLimitExceeded { .. }
            | Error::AliasReplayStackDepthExceeded { .. } => {
                "this YAML is too large, nests too deep or repeats too much by aliases".to_owned()
            }
            other => {
                let reason = other.render_with_formatter(&UserMessageFormatter);
                let reason = reason.lines().next().unwrap_or_default();
                format!("this is not YAML: {}", reason.split(" at line ").next().unwrap_or(reason))
            }
        };
        let help = self.quoting_help(span);
        self.report(span, message).help = help;
    }

    /// Help when the line of `span` holds a pattern whose first character means something in YAML.
    fn quoting_help(&self, span: Span) -> Option<String> {
        let start = self.text[..span.range().start].rfind('\n').map_or(0, |newline| newline + 1);
        let line = self.text[start..].lines().next()?;
        let value = line.split_once("match:")?.1.trim();
        value
            .starts_with(['*', '{', '[', '&', '!', '%', '@', '|', '>', '`'])
            .then(|| format!("quote this pattern: match: \"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")))
    }

    /// The entries of a mapping. A key that is not in `known` or stands twice is reported.
    fn entries<'v>(
        &mut self,
        value: &'v Located<Value>,
        what: &str,
        known: &[&str],
        later: &[&str],
    ) -> Option<Vec<(&'v str, Span, &'v Located<Value>)>> {
        let Value::Map(map) = &value.value else {
            let span = self.span(value);
            self.report(
                span,
                format!(
                    "expected {what}: a mapping with the keys {}; found {}",
                    known.join(", "),
                    value.value.describe()
                ),
            );
            return None;
        };
        let mut entries: Vec<(&str, Span, &Located<Value>)> = Vec::new();
        for (key, value) in map {
            let (name, span) = (key.value.as_str(), self.span(key));
            if let Some((_, first, _)) = entries.iter().find(|(other, ..)| *other == name) {
                let fault = Diagnostic::error("P0001", format!("the key `{name}` stands twice"))
                    .label(span, "")
                    .label(*first, "first here");
                self.diagnostics.push(fault);
            } else if later.contains(&name) {
                self.diagnostics.push(unsupported("S0202", name, span));
            } else if known.contains(&name) {
                entries.push((name, span, value));
            } else {
                let help = match nearest(name, known.iter().chain(later).copied()) {
                    Some(nearest) => format!("did you mean `{nearest}`?"),
                    None => format!("the keys of {what} are {}", known.join(", ")),
                };
                self.report(span, format!("{what} has no key `{name}`")).help = Some(help);
            }
        }
        Some(entries)
    }

    fn file(&mut self, root: &Located<Value>) -> Option<File> {
        let entries = self.entries(root, "a spec", &["lathe", "spec", "rules"], LATER_SECTIONS)?;
        let find = |name: &str| entries.iter().find(|(key, ..)| *key == name).map(|(_, _, value)| *value);
        let start = Span::new(self.source, 0..0);
        let version = if let Some(value) = find("lathe") {
            let Some(known) = self.version(value) else {
                // The rest could mean anything.
                self.diagnostics.retain(|fault| fault.code == "P0002");
                return None;
            };
            Some(known)
        } else {
            self.diagnostics.push(
                Diagnostic::error("P0002", "the version is missing")
                    .label(start, "")
                    .help(format!("begin the file with `lathe: {LANGUAGE_VERSION}`")),
            );
            None
        };
        let name = if let Some(value) = find("spec") {
            self.item_name(value)
        } else {
            self.report(start, "the name of the spec is missing").help = Some("add a line `spec: NAME`".into());
            None
        };
        let rules = find("rules").map_or_else(Vec::new, |value| self.rules(value));
        let rules = find("rules").map(|value| Spanned::new(rules, self.span(value)));
        let span = self.span(root);
        let spec = |name| Spec {
            name,
            extends: None,
            models: None,
            lets: Vec::new(),
            rules,
            rotate: None,
            kv_cache: None,
            tied: None,
            compute: None,
        };
        let items = name.map(|name| Item { kind: ItemKind::Spec(spec(name)), span }).into_iter().collect();
        Some(File { version: version?, items })
    }

    /// None when the version is not known.
    fn version(&mut self, value: &Located<Value>) -> Option<Spanned<u32>> {
        let span = self.span(value);
        if matches!(value.value, Value::Int(number) if number == i64::from(LANGUAGE_VERSION)) {
            return Some(Spanned::new(LANGUAGE_VERSION, span));
        }
        let message = format!("version `{}` of the language is not known", &self.text[span.range()]);
        let help = format!("this compiler reads `lathe: {LANGUAGE_VERSION}`");
        self.diagnostics.push(Diagnostic::error("P0002", message).label(span, "").help(help));
        None
    }

    fn item_name(&mut self, value: &Located<Value>) -> Option<Spanned<String>> {
        let (name, span) = self.text(value, "the name of the spec")?;
        if is_item_name(name) {
            return Some(Spanned::new(name.to_owned(), span));
        }
        self.report(span, format!("`{name}` cannot be the name of a spec")).help =
            Some("a name begins with a letter; letters, digits, `_`, `-` and `.` follow".into());
        None
    }

    fn text<'v>(&mut self, value: &'v Located<Value>, what: &str) -> Option<(&'v str, Span)> {
        let span = self.span(value);
        if let Value::Text(text) = &value.value {
            return Some((text, span));
        }
        let help = if what == "a pattern" { self.quoting_help(span) } else { None };
        self.report(span, format!("expected {what}, found {}", value.value.describe())).help = help;
        None
    }

    fn rules(&mut self, value: &Located<Value>) -> Vec<Rule> {
        let Value::List(rules) = &value.value else {
            let span = self.span(value);
            self.report(span, format!("expected a list of rules, found {}", value.value.describe())).help =
                Some("write each rule as `- match: PATTERN`, and `format: FORMAT` below it".into());
            return Vec::new();
        };
        rules.iter().filter_map(|rule| self.rule(rule)).collect()
    }

    fn rule(&mut self, value: &Located<Value>) -> Option<Rule> {
        let entries = self.entries(value, "a rule", &["match", "format", "optional"], &["input"])?;
        let at = self.span(value);
        let span = entries.iter().fold(at, |span, (_, key, value)| span.to(*key).to(self.span(value)));
        let first = entries.first().map_or(at, |(_, key, _)| *key);
        let (mut pattern, mut format, mut optional) = (None, None, false);
        for (key, _, value) in &entries {
            match *key {
                "match" => pattern = Some(self.pattern(value)),
                "format" => format = Some(self.format(value)),
                _ => match &value.value {
                    Value::Bool(flag) => optional = *flag,
                    other => {
                        let span = self.span(value);
                        self.report(span, format!("expected `true` or `false`, found {}", other.describe()));
                    }
                },
            }
        }
        for (name, missing) in [("match", pattern.is_none()), ("format", format.is_none())] {
            if missing {
                self.report(first, format!("this rule has no `{name}`"));
            }
        }
        Some(Rule { pattern: pattern??, format: Some(format??), input: None, optional, span })
    }

    fn pattern(&mut self, value: &Located<Value>) -> Option<Spanned<Pattern>> {
        let (text, whole) = self.text(value, "a pattern")?;
        match Pattern::parse(text) {
            Ok(pattern) => Some(Spanned::new(pattern, whole)),
            Err(fault) => {
                let (span, literal) = self.literal(text, whole);
                let mut diagnostic = pattern_diagnostic(&fault, span);
                if !literal {
                    diagnostic.labels[0].span = whole;
                }
                self.diagnostics.push(diagnostic);
                None
            }
        }
    }

    fn format(&mut self, value: &Located<Value>) -> Option<Spanned<Call>> {
        let (text, whole) = self.text(value, "a format")?;
        let (span, literal) = self.literal(text, whole);
        let origin = if literal { Origin::exact(span) } else { Origin::whole(whole) };
        let (format, diagnostics) = dsl::parse_format(text, origin);
        self.diagnostics.extend(diagnostics);
        format.map(|format| Spanned::new(format, span))
    }
}
