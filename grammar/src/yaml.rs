//! Specs in YAML → the same AST.
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

mod entry;
mod instead;
mod layout;
mod mend;
mod spec;
pub(crate) mod value;

use crate::ast::{Call, Expr, ExprKind, File, Item, ItemKind, Let, UnaryOp};
use crate::diag::{Diagnostic, nearest};
use crate::dsl::{self, Origin};
use crate::parse::{LANGUAGE_VERSION, Parsed, Patterns, check_path, is_item_name, pattern_diagnostic, unknown_version};
use crate::pattern::Pattern;
use crate::print::yaml::quoted;
use crate::span::{SourceId, Span, Spanned};

use instead::instead;
use mend::Mended;
use value::{Key, Node, Value};

/// The keys that only a spec has.
const SECTIONS: &[&str] = &["extends", "models", "rules", "rotate", "kv_cache", "tied", "table_basis", "compute"];

/// The keys of a file, in the order in which they are documented.
const KEYS: &[&str] = &[
    "lathe",
    "use",
    "spec",
    "extends",
    "models",
    "let",
    "rules",
    "rotate",
    "kv_cache",
    "tied",
    "table_basis",
    "compute",
];

/// Parses a whole file.
pub(crate) fn parse_file(text: &str, source: SourceId) -> Parsed {
    if let Some(fault) = other_language(text, source) {
        return Parsed { file: None, diagnostics: vec![fault] };
    }
    let mut mended = Mended::new(text, source);
    let root = mended.read();
    let diagnostics = std::mem::take(&mut mended.faults);
    let mut reader = Reader { text, mended, patterns: Patterns::default(), diagnostics };
    let file = root.and_then(|root| reader.file(&root));
    Parsed { file, diagnostics: reader.diagnostics }
}

/// What is said of a text that begins like one in the Lathe language.
fn other_language(text: &str, source: SourceId) -> Option<Diagnostic> {
    let is_comment = |line: &&str| line.trim().is_empty() || line.starts_with("//") || line.starts_with('#');
    let first = text.lines().find(|line| !is_comment(line))?;
    let version = first.strip_prefix("lathe")?.strip_prefix([' ', '\t'])?;
    if version.trim_start().starts_with(':') {
        return None;
    }
    let start = first.as_ptr() as usize - text.as_ptr() as usize;
    let message = "this text is in the Lathe language, which stands in a file whose name ends in `.lathe`";
    let help = format!("rename the file, or write it in YAML, which begins with `lathe: {LANGUAGE_VERSION}`");
    let span = Span::new(source, start..start + first.trim_end().len());
    Some(Diagnostic::error("P0002", message).label(span, "").help(help))
}

struct Reader<'a> {
    text: &'a str,
    mended: Mended<'a>,
    patterns: Patterns,
    diagnostics: Vec<Diagnostic>,
}

/// The entries of a mapping, each key once.
struct Entries<'v> {
    entries: Vec<(&'v str, Span, &'v Node)>,
    /// A key is not known: it may stand for one that is missing.
    has_unknown: bool,
}

impl<'v> Entries<'v> {
    fn find(&self, name: &str) -> Option<(Span, &'v Node)> {
        self.entries.iter().find(|(key, ..)| *key == name).map(|(_, span, value)| (*span, *value))
    }

    fn get(&self, name: &str) -> Option<&'v Node> {
        self.find(name).map(|(_, value)| value)
    }
}

impl Reader<'_> {
    fn report(&mut self, code: &'static str, span: Span, message: impl Into<String>) -> &mut Diagnostic {
        let at = self.diagnostics.len();
        self.diagnostics.push(Diagnostic::error(code, message).label(span, ""));
        &mut self.diagnostics[at]
    }

    fn span(&self, value: &Node) -> Span {
        self.mended.place(&value.at)
    }

    /// The whole of a key and its value.
    fn whole(&self, key: Span, value: &Node) -> Span {
        let value = self.span(value);
        if value.start < key.start { key } else { key.to(value) }
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

    /// Reports a value of the wrong type, unless what stood there has been reported.
    /// `key` is where to point when there is no value.
    fn wrong_type(&mut self, key: Span, value: &Node, expected: &str, help: Option<String>) {
        let span = if matches!(value.value, Value::Null) { key } else { self.span(value) };
        if !self.is_reported(span) {
            self.report("P0008", span, format!("expected {expected}, found {}", value.value.describe())).help = help;
        }
    }

    /// Whether this value stands in for one that was reported.
    fn is_reported(&self, span: Span) -> bool {
        self.mended.replaced.iter().any(|replaced| replaced.start <= span.start && span.end <= replaced.end)
    }

    /// Help when the value behind this key should be quoted.
    fn quoting_help(&self, key: Span) -> Option<String> {
        let entry = entry::entries(self.text, key.range().start).into_iter().find(|entry| entry.key == key.range())?;
        let is_alias = self.text[entry.value.clone()].starts_with('*');
        let slip = entry.slip(self.text).filter(|_| !is_alias)?;
        Some(entry.help(self.text, slip))
    }

    /// The entries of a mapping. A key that is not in `known` or stands twice is reported.
    fn entries<'v>(&mut self, map: &'v [(Key, Node)], what: &str, known: &[&str]) -> Entries<'v> {
        let mut found = Entries { entries: Vec::new(), has_unknown: false };
        for (key, value) in map {
            let (name, span) = (key.name.as_str(), self.mended.place(&key.at));
            if let Some((first, _)) = found.find(name) {
                self.twice(name, span, first);
            } else if known.contains(&name) {
                found.entries.push((name, span, value));
            } else {
                found.has_unknown = true;
                let help = match nearest(name, known.iter().copied()) {
                    _ if name == "<<" => "merge keys (`<<`) are not taken; write the keys out".to_owned(),
                    Some(nearest) => format!("did you mean `{nearest}`?"),
                    None => format!("the keys of {what} are {}", known.join(", ")),
                };
                self.report("P0004", span, format!("{what} has no key `{}`", name.escape_debug())).help = Some(help);
            }
        }
        found
    }

    fn twice(&mut self, name: &str, again: Span, first: Span) {
        let fault = Diagnostic::error("P0005", format!("the key `{}` stands twice", name.escape_debug()))
            .label(again, "")
            .label(first, "the first one is here");
        self.diagnostics.push(fault);
    }

    fn file(&mut self, root: &Node) -> Option<File> {
        let Value::Map(map) = &root.value else {
            self.wrong_type(self.span(root), root, "a spec (a mapping with keys such as lathe, spec, rules)", None);
            return None;
        };
        let entries = self.entries(map, "a spec", KEYS);
        let start = Span::new(self.mended.source(), 0..0);
        let version = match entries.get("lathe") {
            Some(value) => Some(self.version(value)?),
            None => {
                if !self.mended.lost_block {
                    self.report("P0002", start, "the version is missing").help =
                        Some(format!("begin the file with `lathe: {LANGUAGE_VERSION}`"));
                }
                None
            }
        };
        let mut items: Vec<Item> = self.uses(&entries);
        if let Some(spec) = entries.get("spec") {
            let span = self.span(root);
            let name = self.item_name(spec, "the name of the spec");
            items.extend(self.spec(name, &entries).map(|spec| Item { kind: ItemKind::Spec(spec), span }));
        } else if SECTIONS.iter().any(|section| entries.get(section).is_some()) {
            if !self.mended.lost_block && !entries.has_unknown {
                self.report("P0001", start, "the name of the spec is missing").help =
                    Some("add a line `spec: NAME`".into());
            }
            self.spec(None, &entries);
        } else {
            let lets = self.lets(&entries);
            items.extend(lets.into_iter().map(|binding| Item { span: binding.span, kind: ItemKind::Let(binding) }));
        }
        Some(File { version: version?, items })
    }

    /// None when the version is not known: then nothing else is reported, as the rest could mean anything.
    fn version(&mut self, value: &Node) -> Option<Spanned<u32>> {
        let span = self.span(value);
        if self.is_reported(span) {
            return None;
        }
        if matches!(value.value, Value::Int(number) if number == i128::from(LANGUAGE_VERSION)) {
            return Some(Spanned::new(LANGUAGE_VERSION, span));
        }
        let fault = unknown_version(&self.text[span.range()], span);
        self.diagnostics = vec![fault.help(format!("this compiler reads `lathe: {LANGUAGE_VERSION}`"))];
        None
    }

    fn uses(&mut self, entries: &Entries) -> Vec<Item> {
        let Some((key, value)) = entries.find("use") else { return Vec::new() };
        let help = "write a list: `use: [\"PATH\"]`";
        let paths = self.list(key, value, "a list of paths", help, |reader, value| reader.path(key, value));
        let item = |path: Spanned<String>| Item { span: path.span, kind: ItemKind::Use(path) };
        paths.into_iter().map(item).collect()
    }

    /// The items of a list that could be read.
    fn list<T>(
        &mut self,
        key: Span,
        value: &Node,
        what: &str,
        help: &str,
        read: impl Fn(&mut Self, &Node) -> Option<T>,
    ) -> Vec<T> {
        match &value.value {
            Value::List(items) => items.iter().filter_map(|item| read(self, item)).collect(),
            // All that stood there has been reported.
            Value::Null if self.mended.lost_item => Vec::new(),
            Value::Map(map) if map.first().is_some_and(|(first, _)| first.name.starts_with('-')) => {
                let first = self.mended.place(&map[0].0.at);
                let line = self.text[entry::line_of(self.text, first.range().start)].trim_start();
                let help = format!("write `- {}`", line.trim_start_matches('-').trim_end());
                self.report("P0008", first, "a blank is missing behind `-`").help = Some(help);
                Vec::new()
            }
            _ => {
                self.wrong_type(key, value, what, Some(help.to_owned()));
                Vec::new()
            }
        }
    }

    /// The text of a value, which is called `what`.
    fn text<'v>(&mut self, key: Span, value: &'v Node, what: &str) -> Option<(&'v str, Span)> {
        let span = self.span(value);
        match &value.value {
            _ if self.is_reported(span) => None,
            Value::Text(text) if text.contains('\n') && self.is_block(key) => {
                let help = format!("write it on one line in quotes: {}: {}", self.written(key), quoted(text.trim()));
                self.report("P0008", span, format!("expected {what} on one line, found a text on lines of its own"))
                    .help = Some(help);
                None
            }
            Value::Text(text) => Some((text, span)),
            _ => {
                let help = instead(self.written(key), value, span).or_else(|| self.quoting_help(key));
                self.wrong_type(key, value, what, help);
                None
            }
        }
    }

    /// What stands at a place.
    fn written(&self, span: Span) -> &str {
        &self.text[span.range()]
    }

    /// Whether the value behind this key is a text of its own lines (`|` or `>`).
    fn is_block(&self, key: Span) -> bool {
        let entries = entry::entries(self.text, key.range().start);
        let entry = entries.into_iter().find(|entry| entry.key == key.range());
        entry.is_some_and(|entry| self.text[entry.value].starts_with(['|', '>']))
    }

    fn path(&mut self, key: Span, value: &Node) -> Option<Spanned<String>> {
        let (path, span) = self.text(key, value, "a path")?;
        let path = Spanned::new(path.to_owned(), span);
        let fault = check_path(&path);
        let is_good = fault.is_none();
        self.diagnostics.extend(fault);
        is_good.then_some(path)
    }

    fn item_name(&mut self, value: &Node, what: &str) -> Option<Spanned<String>> {
        let (name, span) = self.text(self.span(value), value, what)?;
        if is_item_name(name) {
            return Some(Spanned::new(name.to_owned(), span));
        }
        self.report("P0001", span, format!("`{}` cannot be {what}", name.escape_debug())).help =
            Some("a name begins with a letter; letters, digits, `_`, `-` and `.` follow".into());
        None
    }

    /// A word of the language.
    fn name(&mut self, key: Span, value: &Node, what: &str) -> Option<Spanned<String>> {
        let (name, span) = self.text(key, value, what)?;
        if dsl::is_name(name) {
            return Some(Spanned::new(name.to_owned(), span));
        }
        self.report("P0001", span, format!("expected {what}, found `{}`", name.escape_debug()));
        None
    }

    fn flag(&mut self, value: Option<(Span, &Node)>) -> bool {
        match value.map(|(key, value)| (key, value, &value.value)) {
            None => false,
            Some((_, value, Value::Bool(flag))) => {
                self.check_boolean(value, *flag);
                *flag
            }
            Some((key, value, found)) => {
                let meant = match found {
                    Value::Text(text) => match text.to_ascii_lowercase().as_str() {
                        "true" | "yes" | "on" | "y" => Some(true),
                        "false" | "no" | "off" | "n" => Some(false),
                        _ => None,
                    },
                    Value::Int(1) => Some(true),
                    Value::Int(0) => Some(false),
                    _ => None,
                };
                let help = meant.map(|flag| format!("write `{}: {flag}`", self.written(key)));
                let span = self.span(value);
                if matches!(found, Value::Text(_)) && self.written(span).starts_with(['"', '\'']) {
                    let message =
                        format!("expected `true` or `false`, found {} in quotes, a text", value.value.describe());
                    self.report("P0008", span, message).help = help;
                } else {
                    self.wrong_type(key, value, "`true` or `false`", help);
                }
                false
            }
        }
    }

    /// Reports `True`, which YAML takes for `true` and the language does not.
    fn check_boolean(&mut self, value: &Node, flag: bool) {
        let span = self.span(value);
        let (written, expected) = (self.written(span), flag.to_string());
        if written != expected && written.eq_ignore_ascii_case(&expected) {
            let message = format!("expected `true` or `false`, found `{written}`");
            self.report("P0008", span, message).help = Some(format!("write `{expected}`"));
        }
    }

    /// The `let`s of the spec, or of the file.
    fn lets(&mut self, entries: &Entries) -> Vec<Let> {
        let Some((key, value)) = entries.find("let") else { return Vec::new() };
        let map = match &value.value {
            Value::Map(map) => map,
            Value::Null if self.mended.lost_item => return Vec::new(),
            _ => {
                let help = "write `NAME: VALUE` on lines of their own below `let:`".to_owned();
                self.wrong_type(key, value, "a mapping of names to values", Some(help));
                return Vec::new();
            }
        };
        let mut lets: Vec<Let> = Vec::new();
        let mut seen: Vec<(&str, Span)> = Vec::new();
        for (key, value) in map {
            let (name, span) = (key.name.as_str(), self.mended.place(&key.at));
            if let Some((_, first)) = seen.iter().find(|(seen, _)| *seen == name) {
                self.twice(name, span, *first);
                continue;
            }
            seen.push((name, span));
            if !dsl::is_name(name) {
                self.report("P0001", span, format!("`{}` cannot be the name of a `let`", name.escape_debug()));
            } else if let Some(read) = self.value(span, value) {
                let name = Spanned::new(name.to_owned(), span);
                lets.push(Let { name, value: read, span: self.whole(span, value) });
            }
        }
        lets
    }

    /// The value of a `let`: a number, `true`, `false`, or an expression of the language as a text.
    fn value(&mut self, key: Span, value: &Node) -> Option<Expr> {
        let span = self.span(value);
        let expr = |kind| Expr { kind, span };
        let signed = |is_negative: bool, size: ExprKind| {
            let size = expr(size);
            if is_negative { expr(ExprKind::Unary(UnaryOp::Neg, Box::new(size))) } else { size }
        };
        match value.value {
            Value::Bool(flag) => {
                self.check_boolean(value, flag);
                Some(expr(ExprKind::Bool(flag)))
            }
            Value::Int(number) => {
                let Ok(size) = i64::try_from(number.unsigned_abs()) else {
                    self.report("P0001", span, format!("the number `{number}` is larger than {}", i64::MAX));
                    return None;
                };
                Some(signed(number < 0, ExprKind::Int(size)))
            }
            Value::Float(_) if self.is_whole_number(span) => {
                let written = &self.text[span.range()];
                self.report("P0001", span, format!("the number `{written}` is larger than {}", i64::MAX));
                None
            }
            Value::Float(number) if number.is_finite() => {
                Some(signed(number.is_sign_negative(), ExprKind::Float(number.abs())))
            }
            _ => {
                let (text, whole) = self.text(key, value, "a value such as `int4(group: 128)`")?;
                let (span, origin) = self.origin(text, whole);
                let (value, diagnostics) = dsl::parse_expression(text, origin);
                self.diagnostics.extend(diagnostics);
                value.map(|value| Expr { span, ..value })
            }
        }
    }

    /// Whether digits and nothing else stand there, perhaps behind a sign.
    fn is_whole_number(&self, span: Span) -> bool {
        let digits = self.text[span.range()].trim_start_matches(['-', '+']);
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_')
    }

    /// Where a text that is parsed in the language stands.
    fn origin(&self, text: &str, whole: Span) -> (Span, Origin) {
        let (span, literal) = self.literal(text, whole);
        (span, if literal { Origin::exact(span) } else { Origin::whole(whole) })
    }

    fn pattern(&mut self, key: Span, value: &Node) -> Spanned<Pattern> {
        let Some((text, whole)) = self.text(key, value, "a pattern") else {
            return Spanned::new(Pattern::unreadable(""), self.span(value));
        };
        let pattern = match self.patterns.parse(text) {
            Ok(pattern) => pattern,
            Err(fault) => {
                let (span, literal) = self.literal(text, whole);
                let mut diagnostic = pattern_diagnostic(&fault, span);
                if !literal {
                    diagnostic.labels[0].span = whole;
                    let written = self.written(whole);
                    if written.starts_with("\"re:") && written.contains('\\') {
                        let text = entry::in_single_quotes(written);
                        diagnostic.help =
                            Some(format!("`\\` means something in double quotes; use single quotes: {text}"));
                    }
                }
                self.diagnostics.push(diagnostic);
                Pattern::unreadable(text)
            }
        };
        Spanned::new(pattern, whole)
    }

    fn format(&mut self, key: Span, value: &Node) -> Spanned<Call> {
        self.call(key, value, "a format", dsl::parse_format)
    }

    fn call(
        &mut self,
        key: Span,
        value: &Node,
        what: &str,
        parse: impl Fn(&str, Origin) -> (Option<Call>, Vec<Diagnostic>),
    ) -> Spanned<Call> {
        let Some((text, whole)) = self.text(key, value, what) else { return Call::unreadable(self.span(value)) };
        let (span, origin) = self.origin(text, whole);
        let (call, diagnostics) = parse(text, origin);
        self.diagnostics.extend(diagnostics);
        call.map_or_else(|| Call::unreadable(span), |call| Spanned::new(call, span))
    }
}
