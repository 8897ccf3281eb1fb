//! Text in the Lathe language → AST, with every mistake of the text in one run.

mod expression;
mod layout;
mod mistakes;
mod model;

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Once;

use pest::Parser as _;
use pest::iterators::Pair;

use crate::ast::{Call, File, Item, ItemKind, Rule as SpecRule, Spec};
use crate::diag::{Diagnostic, nearest};
use crate::parse::{LANGUAGE_VERSION, Parsed, pattern_diagnostic, unsupported};
use crate::pattern::Pattern;
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
    parse_rule(Rule::only_format, text, origin, |walker, pair| {
        let format = significant(pair).next()?;
        walker.format(format).map(|format| format.value)
    })
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
    if !layout.parseable {
        return (None, layout.diagnostics);
    }
    let broken = layout.diagnostics.iter().flat_map(|fault| &fault.labels).map(|label| label.span).collect();
    let mut walker = Walker { origin, broken, depth: 0, diagnostics: layout.diagnostics };
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

    // ---- Files and specs

    fn file(&mut self, pair: Pair<Rule>) -> Option<File> {
        let text = pair.get_input();
        let mut version = None;
        let mut items = Vec::new();
        for (i, part) in significant(pair).enumerate() {
            if i == 0 && part.as_rule() != Rule::version {
                self.missing_version(text);
                if nearest(mistakes::leading_word(part.as_str()), ["lathe"]).is_some() {
                    continue;
                }
            }
            match part.as_rule() {
                Rule::version => {
                    let Some(known) = self.version(part) else {
                        // The rest could mean anything.
                        self.diagnostics.retain(|fault| fault.code == "P0002");
                        return None;
                    };
                    version = Some(known);
                }
                Rule::later_item => self.later("S0202", part),
                Rule::EOI => {}
                Rule::bad_line => items.extend(self.bad(&part, Place::File, Walker::item).flatten()),
                _ => items.extend(self.item(part)),
            }
        }
        Some(File { version: version?, items })
    }

    fn item(&mut self, pair: Pair<Rule>) -> Option<Item> {
        let span = self.span(&pair);
        let kind = match pair.as_rule() {
            Rule::spec => self.spec(pair).map(ItemKind::Spec),
            _ => self.model(pair).map(ItemKind::Model),
        }?;
        Some(Item { kind, span })
    }

    fn missing_version(&mut self, text: &str) {
        let start = text.len() - text.trim_start().len();
        self.diagnostics.push(
            Diagnostic::error("P0002", "the version line is missing")
                .label(self.origin.place(start..start), "")
                .help(format!("begin the file with `lathe {LANGUAGE_VERSION}`")),
        );
    }

    /// None when the version is not known.
    fn version(&mut self, pair: Pair<Rule>) -> Option<Spanned<u32>> {
        let line = self.span(&pair);
        let text = significant(pair).next()?;
        let written = text.as_str().trim_end();
        if written.parse() == Ok(LANGUAGE_VERSION) {
            return Some(Spanned::new(LANGUAGE_VERSION, self.span(&text)));
        }
        let (message, span) = if written.is_empty() {
            ("the version line names no version".to_owned(), line)
        } else {
            (format!("version `{written}` of the language is not known"), self.span(&text))
        };
        self.diagnostics.push(
            Diagnostic::error("P0002", message)
                .label(span, "")
                .help(format!("this compiler reads `lathe {LANGUAGE_VERSION}`")),
        );
        None
    }

    /// `use …`, `rotate { … }`: what a later version builds.
    fn later(&mut self, code: &'static str, pair: Pair<Rule>) {
        if let Some(word) = significant(pair).next() {
            let span = self.span(&word);
            self.diagnostics.push(unsupported(code, word.as_str(), span));
        }
    }

    /// The name of a spec or model. `extends` and a bad head are refused.
    fn item_head(&mut self, part: &Pair<Rule>, code: &'static str) -> Option<Spanned<String>> {
        match part.as_rule() {
            Rule::item_name => return Some(self.name(part)),
            Rule::extends => {
                let span = self.span(part);
                self.diagnostics.push(unsupported(code, "extends", span));
            }
            _ => self.bad_head(part, Rule::item_head),
        }
        None
    }

    fn spec(&mut self, pair: Pair<Rule>) -> Option<Spec> {
        let mut name = None;
        let mut sections = Vec::new();
        for part in significant(pair) {
            match part.as_rule() {
                Rule::rules => sections.push(self.rules(part)),
                Rule::later_section => self.later("S0202", part),
                Rule::bad_line => sections.extend(self.bad(&part, Place::Spec, Walker::rules)),
                _ => name = self.item_head(&part, "S0202").or(name),
            }
        }
        let mut sections = sections.into_iter();
        let (first, mut rules) = sections.next().map_or((None, Vec::new()), |(span, rules)| (Some(span), rules));
        for (span, more) in sections {
            let fault = Diagnostic::error("P0001", "a spec has one `rules`").label(span, "");
            self.diagnostics.push(fault.label_if(first, "the first one stands here"));
            rules.extend(more);
        }
        let rules = first.map(|span| Spanned::new(rules, span));
        Some(Spec {
            name: name?,
            extends: None,
            models: None,
            lets: Vec::new(),
            rules,
            rotate: None,
            kv_cache: None,
            tied: None,
            compute: None,
        })
    }

    /// Where the section stands, and its rules.
    fn rules(&mut self, pair: Pair<Rule>) -> (Span, Vec<SpecRule>) {
        let start = pair.as_span().start();
        let span = self.origin.place(start..start + "rules".len());
        let mut rules = Vec::new();
        for line in significant(pair) {
            match line.as_rule() {
                Rule::format_rule => rules.extend(self.rule(line)),
                _ => rules.extend(self.bad(&line, Place::Rule, Walker::rule).flatten()),
            }
        }
        (span, rules)
    }

    fn rule(&mut self, pair: Pair<Rule>) -> Option<SpecRule> {
        let span = self.span(&pair);
        let (mut pattern, mut format, mut optional) = (None, None, false);
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::pattern => pattern = self.pattern(&part),
                Rule::format => format = self.format(part),
                Rule::kw_optional => optional = true,
                Rule::with_input => {
                    let start = part.as_span().start();
                    let words = part.as_str().find("input").map_or(0, |at| at + "input".len());
                    let span = self.origin.place(start..start + words);
                    self.diagnostics.push(unsupported("S0202", "with input", span));
                }
                _ => {}
            }
        }
        Some(SpecRule { pattern: pattern?, format: Some(format?), input: None, optional, span })
    }

    fn pattern(&mut self, pair: &Pair<Rule>) -> Option<Spanned<Pattern>> {
        let span = self.span(pair);
        match Pattern::parse(pair.as_str().trim_end()) {
            Ok(pattern) => Some(Spanned::new(pattern, span)),
            Err(fault) => {
                if !self.is_reported(pair.get_input(), pair.as_span().start()) {
                    self.diagnostics.push(pattern_diagnostic(&fault, span));
                }
                None
            }
        }
    }

    fn format(&mut self, pair: Pair<Rule>) -> Option<Spanned<Call>> {
        let span = self.span(&pair);
        let mut parts = significant(pair);
        let name = self.name(&parts.next()?);
        let args = match parts.next() {
            Some(arguments) => self.arguments(arguments)?,
            None => Vec::new(),
        };
        Some(Spanned::new(Call { name, args }, span))
    }
}

/// The parts of a pair that carry meaning: no keywords, no marks.
fn significant(pair: Pair<'_, Rule>) -> impl Iterator<Item = Pair<'_, Rule>> {
    pair.into_inner().filter(|part| !mistakes::is_mark(part.as_rule()))
}
