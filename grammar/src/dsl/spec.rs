//! Specs: their sections, rules and requests for rotations.

use std::ops::Range;

use pest::Parser as _;
use pest::iterators::Pair;

use crate::ast::{Call, Let, Rotation, Rule as SpecRule, Spec};
use crate::diag::Diagnostic;
use crate::parse::pattern_diagnostic;
use crate::pattern::Pattern;
use crate::span::{Span, Spanned};

use super::mistakes::{self, Halves, Place};
use super::{Grammar, Head, Rule, Walker, significant};

/// The sections of a spec, as they are read.
#[derive(Default)]
struct Sections {
    /// The keyword of each section that was seen.
    seen: Vec<(Rule, Span)>,
    models: Option<Spanned<Vec<Spanned<String>>>>,
    lets: Vec<Let>,
    rules: Option<Spanned<Vec<SpecRule>>>,
    rotate: Option<Spanned<Vec<Rotation>>>,
    kv_cache: Option<Spanned<Call>>,
    tied: Option<Spanned<String>>,
    table_basis: Option<Spanned<String>>,
    compute: Option<Spanned<String>>,
}

/// What a rule states about the modules that it matches.
struct Decision {
    format: Option<Spanned<Call>>,
    input: Option<Spanned<Call>>,
    is_optional: bool,
}

impl Walker {
    pub(super) fn spec(&mut self, pair: Pair<Rule>) -> Option<Spec> {
        let mut head = Head::default();
        let mut sections = Sections::default();
        for part in significant(pair) {
            match part.as_rule() {
                Rule::item_name | Rule::extends | Rule::bad_head => self.item_head(&part, &mut head),
                Rule::trailing => self.bad_rest(&part, Rule::line_end),
                Rule::bad_line => {
                    self.bad(&part, Place::Spec, |walker, pair| walker.section(pair, &mut sections));
                }
                _ => {
                    self.once(&part, &mut sections);
                    self.section(part, &mut sections);
                }
            }
        }
        let Sections { seen: _, models, lets, rules, rotate, kv_cache, tied, table_basis, compute } = sections;
        let (name, extends) = (head.name?, head.extends);
        Some(Spec { name, extends, models, lets, rules, rotate, kv_cache, tied, table_basis, compute })
    }

    /// A section that stands twice is read for its mistakes: of values the first one is kept, of lists every line.
    fn section(&mut self, pair: Pair<Rule>, sections: &mut Sections) {
        let (which, span) = (pair.as_rule(), self.span(&pair));
        match which {
            Rule::models => {
                let names = significant(pair).map(|name| self.name(&name)).collect();
                sections.models.get_or_insert(Spanned::new(names, span));
            }
            Rule::spec_let => sections.lets.extend(self.binding(pair)),
            Rule::rules => {
                let rules = self.lines(pair, Place::Rule, Walker::rule);
                sections.rules.get_or_insert(Spanned::new(Vec::new(), span)).value.extend(rules);
            }
            Rule::rotate => {
                let rotations = self.lines(pair, Place::Rotation, Walker::rotation);
                sections.rotate.get_or_insert(Spanned::new(Vec::new(), span)).value.extend(rotations);
            }
            Rule::kv_cache => {
                let format = significant(pair).next().and_then(|format| self.call(format));
                sections.kv_cache = sections.kv_cache.take().or(format);
            }
            _ => {
                let value = significant(pair).next().map(|word| self.name(&word));
                let setting = match which {
                    Rule::tied => &mut sections.tied,
                    Rule::table_basis => &mut sections.table_basis,
                    _ => &mut sections.compute,
                };
                *setting = setting.take().or(value);
            }
        }
    }

    /// Reports a section that stands twice. Of `let`s there may be many.
    fn once(&mut self, pair: &Pair<Rule>, sections: &mut Sections) {
        if pair.as_rule() == Rule::spec_let {
            return;
        }
        let Some(keyword) = pair.clone().into_inner().next() else { return };
        let (which, span) = (pair.as_rule(), self.span(&keyword));
        match sections.seen.iter().find(|(seen, _)| *seen == which) {
            Some((_, first)) => {
                let message = format!("a spec has one `{}`", keyword.as_str());
                self.twice(message, span, *first);
            }
            None => sections.seen.push((which, span)),
        }
    }

    /// Reports what is said at `first` already.
    pub(super) fn twice(&mut self, message: String, again: Span, first: Span) {
        self.diagnostics
            .push(Diagnostic::error("P0005", message).label(again, "").label(first, "the first one is here"));
    }

    pub(super) fn binding(&mut self, pair: Pair<Rule>) -> Option<Let> {
        let span = self.span(&pair);
        let mut parts = significant(significant(pair).next()?);
        let name = self.name(&parts.next()?);
        Some(Let { name, value: self.expression(parts.next()?)?, span })
    }

    /// The lines of `rules` or `rotate`.
    fn lines<T>(
        &mut self,
        pair: Pair<Rule>,
        place: Place,
        read: impl Fn(&mut Self, Pair<Rule>) -> Option<T>,
    ) -> Vec<T> {
        let mut lines = Vec::new();
        for line in significant(pair) {
            match line.as_rule() {
                Rule::bad_line => lines.extend(self.bad(&line, place, &read).flatten()),
                Rule::trailing => self.bad_rest(&line, Rule::line_end),
                Rule::bad_head => self.bad_head(&line, Rule::open_brace),
                _ => lines.extend(read(self, line)),
            }
        }
        lines
    }

    fn rule(&mut self, pair: Pair<Rule>) -> Option<SpecRule> {
        let span = self.span(&pair);
        let (mut pattern, mut format, mut input) = (None, None, None);
        let (mut with_input, mut optional) = (None, None);
        for part in significant(pair) {
            let at = self.span(&part);
            match part.as_rule() {
                Rule::pattern => pattern = Some(self.pattern(&part)),
                Rule::format => format = Some(self.readable_call(part)),
                Rule::with_input => {
                    if let Some(optional) = optional {
                        let fault = Diagnostic::error("P0001", "`optional` stands last in a rule")
                            .label(optional, "")
                            .help("write `PATTERN => FORMAT with input FORMAT optional`");
                        self.diagnostics.push(fault);
                    }
                    let read = significant(part).next().map(|format| self.readable_call(format));
                    match with_input {
                        Some(first) => self.twice("a rule has one `with input`".to_owned(), at, first),
                        None => (with_input, input) = (Some(at), read),
                    }
                }
                Rule::kw_optional => self.flag(&part, &mut optional),
                _ => {
                    self.bad_rest(&part, Rule::decision);
                    let decision = self.halves(&part);
                    (format, input) = (decision.format, decision.input);
                    optional = decision.is_optional.then_some(at);
                }
            }
        }
        Some(SpecRule { pattern: pattern?, format, input, optional: optional.is_some(), span })
    }

    /// What can be told of `FORMAT [with input FORMAT] [optional]` when it could not be read, which was reported.
    fn halves(&mut self, pair: &Pair<Rule>) -> Decision {
        let text = pair.as_str();
        let Halves { format, input, is_optional } = mistakes::halves(text);
        let start = pair.as_span().start();
        let mut half = |half: Range<usize>| {
            let (first, text) = (start + half.start, &text[half]);
            let whole = self.origin.place(first..first + text.len());
            self.shifted(first as isize, |walker| match Grammar::parse(Rule::only_format, text) {
                Ok(mut pairs) => pairs.next().and_then(|pair| Some(walker.readable_call(significant(pair).next()?))),
                Err(_) => None,
            })
            .unwrap_or_else(|| Call::unreadable(whole))
        };
        Decision { format: format.map(&mut half), input: input.map(half), is_optional }
    }

    fn readable_call(&mut self, pair: Pair<Rule>) -> Spanned<Call> {
        let span = self.span(&pair);
        self.call(pair).unwrap_or_else(|| Call::unreadable(span))
    }

    fn rotation(&mut self, pair: Pair<Rule>) -> Option<Rotation> {
        let span = self.span(&pair);
        let (mut site, mut within, mut by) = (None, None, None);
        let (mut offline, mut optional) = (None, None);
        for part in significant(pair) {
            match part.as_rule() {
                Rule::site => site = Some(self.name(&part)),
                Rule::within => within = Some(self.pattern(&part)),
                Rule::rotation_value => by = Some(self.readable_call(part)),
                Rule::kw_offline => self.flag(&part, &mut offline),
                Rule::kw_optional => self.flag(&part, &mut optional),
                _ => {
                    by = Some(Call::unreadable(self.span(&part)));
                    self.bad_rest(&part, Rule::rotated_by);
                }
            }
        }
        let (offline, optional) = (offline.is_some(), optional.is_some());
        Some(Rotation { site: site?, within, by: by?, offline, optional, span })
    }

    /// A word that stands once in its line; `seen` is where.
    fn flag(&mut self, pair: &Pair<Rule>, seen: &mut Option<Span>) {
        let span = self.span(pair);
        match *seen {
            Some(first) => self.twice(format!("`{}` stands twice", pair.as_str()), span, first),
            None => *seen = Some(span),
        }
    }

    fn pattern(&mut self, pair: &Pair<Rule>) -> Spanned<Pattern> {
        let (span, text) = (self.span(pair), pair.as_str().trim_end());
        let pattern = self.patterns.parse(text).unwrap_or_else(|fault| {
            if !self.is_reported(pair.get_input(), pair.as_span().start()) {
                self.diagnostics.push(pattern_diagnostic(&fault, span));
            }
            Pattern::unreadable(text)
        });
        Spanned::new(pattern, span)
    }
}
