//! Text in the Lathe language → AST, with every mistake of the text in one run.

mod expression;
mod layout;
mod mistakes;
mod model;
mod spec;

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Once;

use pest::Parser as _;
use pest::iterators::Pair;

use crate::ast::{Call, Expr, File, Item, ItemKind};
use crate::diag::{Diagnostic, nearest};
use crate::parse::{LANGUAGE_VERSION, Parsed, Patterns, check_path, unknown_version};
use crate::span::{SourceId, Span, Spanned};

use mistakes::Place;

#[derive(pest_derive::Parser)]
#[grammar = "dsl.pest"]
struct Grammar;

/// Depth of an expression, counted in operators from its root; also bounds chains of `else if`.
const MAX_DEPTH: usize = 256;

/// Calls of grammar rules for one text, far more than any text within the other bounds takes: more would mean that the
/// grammar goes back over the same text again and again.
const MAX_CALLS: NonZeroUsize = NonZeroUsize::new(1 << 30).unwrap();

/// Parses a whole file.
pub(crate) fn parse_file(text: &str, source: SourceId) -> Parsed {
    let origin = Origin::start(source, text.len());
    let (file, diagnostics) = parse_rule(Rule::file, text, origin, Walker::file);
    Parsed { file, diagnostics }
}

/// Parses a format alone, as in `keep(exact)`.
pub(crate) fn parse_format(text: &str, origin: Origin) -> (Option<Call>, Vec<Diagnostic>) {
    parse_call(Rule::only_format, text, origin)
}

/// Parses a rotation alone, as in `random_hadamard(seed: 7)`.
pub(crate) fn parse_rotation(text: &str, origin: Origin) -> (Option<Call>, Vec<Diagnostic>) {
    parse_call(Rule::only_rotation, text, origin)
}

fn parse_call(whole: Rule, text: &str, origin: Origin) -> (Option<Call>, Vec<Diagnostic>) {
    parse_rule(whole, text, origin, |walker, pair| {
        let call = significant(pair).next()?;
        walker.call(call).map(|call| call.value)
    })
}

/// Parses an expression alone.
pub(crate) fn parse_expression(text: &str, origin: Origin) -> (Option<Expr>, Vec<Diagnostic>) {
    parse_rule(Rule::only_expression, text, origin, |walker, pair| {
        let expression = significant(pair).next()?;
        walker.expression(expression)
    })
}

/// Whether a `let`, a site or a setting can have this name.
pub(crate) fn is_name(text: &str) -> bool {
    Grammar::parse(Rule::only_name, text).is_ok()
}

fn parse_rule<T>(
    whole: Rule,
    text: &str,
    origin: Origin,
    read: impl FnOnce(&mut Walker, Pair<Rule>) -> Option<T>,
) -> (Option<T>, Vec<Diagnostic>) {
    static LIMIT: Once = Once::new();
    LIMIT.call_once(|| pest::set_call_limit(Some(MAX_CALLS)));
    let layout = layout::lay_out(text, origin);
    let mut diagnostics = layout.comments;
    if !layout.parseable {
        diagnostics.extend(layout.diagnostics);
        return (None, diagnostics);
    }
    let broken = layout.diagnostics.iter().flat_map(|fault| &fault.labels).map(|label| label.span).collect();
    diagnostics.extend(layout.diagnostics);
    let mut walker = Walker { origin, broken, depth: 0, patterns: Patterns::default(), diagnostics };
    let value = match Grammar::parse(whole, &layout.text) {
        Ok(mut pairs) => pairs.next().and_then(|pair| read(&mut walker, pair)),
        Err(error) => {
            walker.describe(&error, &layout.text);
            None
        }
    };
    (value, walker.diagnostics)
}

/// Where a text that is parsed stands in its source.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin {
    source: SourceId,
    /// Added to an offset in the text to get one in the source. None when the text does not stand there literally: then
    /// every place is the whole.
    shift: Option<isize>,
    /// No place lies outside.
    bounds: (usize, usize),
}

impl Origin {
    /// The text is the whole source, of `length` bytes.
    pub(crate) fn start(source: SourceId, length: usize) -> Self {
        Origin { source, shift: Some(0), bounds: (0, length) }
    }

    /// The text stands at `span`, byte for byte.
    pub(crate) fn exact(span: Span) -> Self {
        Origin { shift: Some(span.start as isize), ..Origin::whole(span) }
    }

    /// The text came from `span`, but not byte for byte.
    pub(crate) fn whole(span: Span) -> Self {
        Origin { source: span.source, shift: None, bounds: (span.range().start, span.range().end) }
    }

    /// For a part of the text that begins at `offset`.
    fn part(self, offset: isize) -> Self {
        Origin { shift: self.shift.map(|shift| shift + offset), ..self }
    }

    /// The same, where no place lies before `first`.
    fn from(self, first: Span) -> Self {
        Origin { bounds: (first.range().start.min(self.bounds.1), self.bounds.1), ..self }
    }

    fn place(&self, range: Range<usize>) -> Span {
        let (first, last) = self.bounds;
        let Some(shift) = self.shift else { return Span::new(self.source, first..last) };
        let at = |offset: usize| offset.saturating_add_signed(shift).clamp(first, last);
        Span::new(self.source, at(range.start)..at(range.end))
    }
}

/// Turns pairs into the AST and collects what is wrong.
struct Walker {
    origin: Origin,
    /// Places that have been reported before parsing: their lines are not reported again.
    broken: Vec<Span>,
    /// Operators and branches around what is being read.
    depth: usize,
    patterns: Patterns,
    diagnostics: Vec<Diagnostic>,
}

impl Walker {
    /// Without blanks behind it.
    fn span(&self, pair: &Pair<Rule>) -> Span {
        let start = pair.as_span().start();
        self.origin.place(start..start + pair.as_str().trim_end().len())
    }

    fn report(&mut self, code: &'static str, span: Span, message: impl Into<String>) {
        self.diagnostics.push(Diagnostic::error(code, message).label(span, ""));
    }

    fn name(&self, pair: &Pair<Rule>) -> Spanned<String> {
        Spanned::new(pair.as_str().to_owned(), self.span(pair))
    }

    // ---- Files

    fn file(&mut self, pair: Pair<Rule>) -> Option<File> {
        let text = pair.get_input();
        let mut version = None;
        let mut items = Vec::new();
        for (i, part) in significant(pair).enumerate() {
            if i == 0 && part.as_rule() != Rule::version {
                if mistakes::is_yaml_key(part.as_str()) {
                    return self.yaml(self.span(&part));
                }
                self.missing_version(text);
                let word = mistakes::leading_word(part.as_str());
                let is_version = part.as_str()[word.len()..].trim().parse::<f64>().is_ok();
                if is_version || nearest(word, ["lathe"]).is_some() {
                    continue;
                }
            }
            match part.as_rule() {
                Rule::version if mistakes::is_yaml_key(part.as_str()) => return self.yaml(self.span(&part)),
                Rule::version => version = Some(self.version(part)?),
                Rule::EOI => {}
                Rule::bad_line => items.extend(self.bad(&part, Place::File, Walker::item).flatten()),
                _ => items.extend(self.item(part)),
            }
        }
        self.uses_first(&items);
        Some(File { version: version?, items })
    }

    fn item(&mut self, pair: Pair<Rule>) -> Option<Item> {
        let span = self.span(&pair);
        let kind = match pair.as_rule() {
            Rule::spec => self.spec(pair).map(ItemKind::Spec),
            Rule::import => self.import(pair).map(ItemKind::Use),
            Rule::shared_let => self.binding(pair).map(ItemKind::Let),
            _ => self.model(pair).map(ItemKind::Model),
        }?;
        Some(Item { kind, span })
    }

    fn import(&mut self, pair: Pair<Rule>) -> Option<Spanned<String>> {
        self.path_of_file(&significant(pair).next()?)
    }

    fn path_of_file(&mut self, pair: &Pair<Rule>) -> Option<Spanned<String>> {
        let path = self.string(pair)?;
        let faults = self.diagnostics.len();
        self.diagnostics.extend(check_path(&path));
        (self.diagnostics.len() == faults).then_some(path)
    }

    fn uses_first(&mut self, items: &[Item]) {
        let is_use = |item: &&Item| matches!(item.kind, ItemKind::Use(_));
        let behind = items.iter().skip_while(is_use).filter(is_use);
        self.diagnostics.extend(behind.map(|item| {
            Diagnostic::error("P0001", "`use` stands at the top of the file, before all other items")
                .label(item.span, "")
        }));
    }

    fn missing_version(&mut self, text: &str) {
        let start = text.len() - text.trim_start().len();
        self.diagnostics.push(
            Diagnostic::error("P0002", "the version line is missing")
                .label(self.origin.place(start..start), "")
                .help(format!("begin the file with `lathe {LANGUAGE_VERSION}`")),
        );
    }

    /// None when the version is not known: then nothing else is reported, as the rest could mean anything.
    fn version(&mut self, pair: Pair<Rule>) -> Option<Spanned<u32>> {
        let line = self.span(&pair);
        let text = significant(pair).next()?;
        let written = text.as_str().trim_end();
        if written.parse() == Ok(LANGUAGE_VERSION) {
            return Some(Spanned::new(LANGUAGE_VERSION, self.span(&text)));
        }
        let span = if written.is_empty() { line } else { self.span(&text) };
        let fault = unknown_version(written, span).help(format!("this compiler reads `lathe {LANGUAGE_VERSION}`"));
        self.diagnostics = vec![fault];
        None
    }

    /// A text that begins like a spec in YAML. Nothing else is reported.
    fn yaml<T>(&mut self, line: Span) -> Option<T> {
        let fault = Diagnostic::error("P0002", "this text is YAML, which stands in a file whose name ends in `.yaml`")
            .label(line, "")
            .help(format!(
                "rename the file, or write it in the Lathe language, which begins with `lathe {LANGUAGE_VERSION}`"
            ));
        self.diagnostics = vec![fault];
        None
    }

    /// The name of a spec or model, and its base. A bad head is reported.
    fn item_head(&mut self, part: &Pair<Rule>, head: &mut Head) {
        match part.as_rule() {
            Rule::item_name => head.name = Some(self.name(part)),
            Rule::extends => head.extends = self.base(part),
            _ => self.bad_head(part, Rule::item_head),
        }
    }

    fn base(&mut self, pair: &Pair<Rule>) -> Option<Spanned<String>> {
        let base = significant(pair.clone()).next()?;
        if base.as_rule() == Rule::item_name { Some(self.name(&base)) } else { self.path_of_file(&base) }
    }

    /// A name, perhaps with arguments: a format or a rotation.
    fn call(&mut self, pair: Pair<Rule>) -> Option<Spanned<Call>> {
        let span = self.span(&pair);
        let what = if pair.as_rule() == Rule::rotation_value { "a rotation" } else { "a format" };
        let mut parts = significant(pair);
        let name = self.name(&parts.next()?);
        if ["with", "optional", "offline"].contains(&&*name.value) {
            self.report("P0001", name.span, format!("expected {what}, found `{}`", name.value));
            return None;
        }
        let args = match parts.next() {
            Some(arguments) => self.arguments(arguments)?,
            None => Vec::new(),
        };
        Some(Spanned::new(Call { name, args }, span))
    }
}

/// What stands before the body of a spec or model.
#[derive(Default)]
struct Head {
    name: Option<Spanned<String>>,
    extends: Option<Spanned<String>>,
}

/// The parts of a pair that carry meaning: no keywords, no marks.
fn significant(pair: Pair<'_, Rule>) -> impl Iterator<Item = Pair<'_, Rule>> {
    pair.into_inner().filter(|part| !mistakes::is_mark(part.as_rule()))
}
