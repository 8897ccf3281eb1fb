//! The entry: text in either syntax → AST and diagnostics.

use std::ops::Range;
use std::path::Path;

use crate::ast::{Expr, File, ItemKind};
use crate::diag::Diagnostic;
use crate::pattern::{MAX_ALTERNATIVES, Pattern, PatternError, REGEX_WEIGHT};
use crate::span::{SourceId, Sources, Span, Spanned};
use crate::{dsl, yaml};

/// The version of the language that is read here.
pub const LANGUAGE_VERSION: u32 = 1;

/// The longest text that is read, in bytes. Shipped specs and definitions have a few thousand.
pub const MAX_SOURCE_LENGTH: usize = 256 << 10;

/// How many specs one text may hold: each is loaded with all that it extends.
pub(crate) const MAX_SPECS: usize = 64;

/// How many alternatives the patterns of one text may stand for; the one that goes beyond is the last that is read.
pub(crate) const MAX_ALL_ALTERNATIVES: usize = 32 * MAX_ALTERNATIVES;

/// How many mistakes of one text are reported.
pub(crate) const MAX_DIAGNOSTICS: usize = 200;

/// What a text says, and what is wrong with it.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// What could be read. When there are errors, the parts that they are in are missing, or, in rules and requests, say
    /// that they are not readable; absent when the text is not in a version of the language that is known.
    pub file: Option<File>,
    /// All mistakes, in the order of the text.
    pub diagnostics: Vec<Diagnostic>,
}

/// Parses a text: YAML when the name of the source ends in `.yaml` or `.yml`, else the Lathe language.
pub fn parse(sources: &Sources, source: SourceId) -> Parsed {
    let entry = sources.get(source);
    if entry.text.len() > MAX_SOURCE_LENGTH {
        let message = format!("{} has {} bytes; at most {MAX_SOURCE_LENGTH} are read", entry.name, entry.text.len());
        let diagnostics = vec![Diagnostic::error("P0001", message).label(Span::new(source, 0..0), "")];
        return Parsed { file: None, diagnostics };
    }
    let parse_file = if is_yaml(&entry.name) { yaml::parse_file } else { dsl::parse_file };
    let mut parsed = parse_file(&entry.text, source);
    parsed.diagnostics.extend(parsed.file.as_mut().and_then(drop_specs));
    let position = |fault: &Diagnostic| fault.labels.first().map_or(0, |label| label.span.start);
    parsed.diagnostics.sort_by_key(position);
    let hidden = parsed.diagnostics.len().saturating_sub(MAX_DIAGNOSTICS);
    parsed.diagnostics.truncate(MAX_DIAGNOSTICS);
    if let Some(last) = parsed.diagnostics.last_mut().filter(|_| hidden > 0) {
        last.notes.push(format!("{hidden} more mistakes are not shown"));
    }
    parsed
}

/// Drops the specs that are too many.
fn drop_specs(file: &mut File) -> Option<Diagnostic> {
    let first = file.specs().nth(MAX_SPECS)?.name.span;
    let mut count = 0;
    file.items.retain(|item| {
        count += usize::from(matches!(item.kind, ItemKind::Spec(_)));
        !matches!(item.kind, ItemKind::Spec(_)) || count <= MAX_SPECS
    });
    Some(Diagnostic::error("P0001", format!("a file may hold at most {MAX_SPECS} specs")).label(first, ""))
}

/// The patterns of one text, as they are read.
#[derive(Default)]
pub(crate) struct Patterns {
    alternatives: usize,
}

impl Patterns {
    /// Reads the next one.
    pub(crate) fn parse(&mut self, text: &str) -> Result<Pattern, PatternError> {
        if self.alternatives <= MAX_ALL_ALTERNATIVES {
            let pattern = Pattern::parse(text)?;
            self.alternatives += pattern.weight();
            return Ok(pattern);
        }
        let message = format!("the patterns before this one stand for more than {MAX_ALL_ALTERNATIVES} alternatives");
        let help = format!("spread the rules over several files; a regular expression counts as {REGEX_WEIGHT}");
        Err(PatternError { offset: 0, length: text.len(), message, help: Some(help) })
    }
}

/// Whether the text of this name is in YAML.
pub fn is_yaml(name: impl AsRef<Path>) -> bool {
    let extension = name.as_ref().extension();
    extension.is_some_and(|extension| extension == "yaml" || extension == "yml")
}

/// Parses a value alone, as stands behind `let NAME =`: the part of a source at `range`.
///
/// # Panics
/// When `range` is not one of the source, or cuts a character.
pub fn parse_value(sources: &Sources, source: SourceId, range: Range<usize>) -> (Option<Expr>, Vec<Diagnostic>) {
    let text = &sources.get(source).text[range.clone()];
    dsl::parse_expression(text, dsl::Origin::exact(Span::new(source, range)))
}

/// Whether a spec or model can have this name: a letter or `_`, then letters, digits, `_`, `-`, `.`.
pub(crate) fn is_item_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

/// How many characters of a strange version are shown.
const MAX_SHOWN: usize = 40;

/// What is said of a version that is written like this and cannot be read.
pub(crate) fn unknown_version(written: &str, span: Span) -> Diagnostic {
    let is_number = !written.is_empty() && written.bytes().all(|byte| byte.is_ascii_digit());
    let is_newer = is_number && written.bytes().any(|byte| byte != b'0');
    let mut shown: String = written.chars().take_while(|c| !c.is_control()).take(MAX_SHOWN).collect();
    if shown.len() < written.len() {
        shown.push('…');
    }
    let diagnostic = if is_newer {
        let message = format!("version {shown} of the language is newer than this compiler reads");
        Diagnostic::error("P0003", message)
    } else if written.is_empty() {
        Diagnostic::error("P0002", "the version line names no version")
    } else {
        Diagnostic::error("P0002", format!("`{shown}` is no version of the language"))
    };
    diagnostic.label(span, "")
}

/// The mistakes of the text of a `use` or `extends`, as far as they can be seen without looking for the file.
pub(crate) fn check_path(path: &Spanned<String>) -> Option<Diagnostic> {
    let message = if path.value.is_empty() {
        "this path is empty"
    } else if path.value.contains(char::is_control) {
        "this path holds a control character"
    } else {
        return None;
    };
    Some(Diagnostic::error("P0001", message).label(path.span, ""))
}

/// What is wrong with a pattern, as a diagnostic; `text` is where the pattern stands in its source.
pub fn pattern_diagnostic(fault: &PatternError, text: Span) -> Diagnostic {
    let start = (text.start as usize + fault.offset).min(text.end as usize);
    let end = (start + fault.length).min(text.end as usize);
    let mut diagnostic =
        Diagnostic::error("S0102", fault.message.clone()).label(Span::new(text.source, start..end), "");
    diagnostic.help.clone_from(&fault.help);
    diagnostic
}
