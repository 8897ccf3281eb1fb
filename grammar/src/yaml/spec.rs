//! The sections of a spec.

use crate::ast::{Call, Rotation, Rule, Spec};
use crate::dsl;
use crate::pattern::Pattern;
use crate::span::{Span, Spanned};

use super::mend::long_rule;
use super::value::{Key, Node, Value};
use super::{Entries, Reader};

pub(super) const RULE: &[&str] = &["match", "format", "input", "optional"];

pub(super) const ROTATION: &[&str] = &["site", "of", "by", "offline", "optional"];

impl Reader<'_> {
    /// None without a name; all sections are read for their mistakes.
    pub(super) fn spec(&mut self, name: Option<Spanned<String>>, entries: &Entries) -> Option<Spec> {
        let extends = entries.find("extends").and_then(|(key, value)| self.path(key, value));
        let models = entries.find("models").and_then(|(key, value)| self.models(key, value));
        let lets = self.lets(entries);
        let rules = entries.find("rules").map(|(key, value)| {
            let help = "write each rule as `- match: PATTERN`, and `format: FORMAT` below it";
            let rules = self.list(key, value, "a list of rules", help, Reader::rule);
            Spanned::new(rules, self.whole(key, value))
        });
        let rotate = entries.find("rotate").map(|(key, value)| {
            let help = "write each request as `- site: SITE`, and `by: ROTATION` below it";
            let rotations = self.list(key, value, "a list of requests for rotations", help, Reader::rotation);
            Spanned::new(rotations, self.whole(key, value))
        });
        let kv_cache = entries.find("kv_cache").map(|(key, value)| self.format(key, value));
        let kv_cache = kv_cache.filter(|format| format.value.is_readable());
        let mut setting = |name| entries.find(name).and_then(|(key, value)| self.name(key, value, "a word"));
        let (tied, table_basis, compute) = (setting("tied"), setting("table_basis"), setting("compute"));
        Some(Spec { name: name?, extends, models, lets, rules, rotate, kv_cache, tied, table_basis, compute })
    }

    fn models(&mut self, key: Span, value: &Node) -> Option<Spanned<Vec<Spanned<String>>>> {
        let help = "write a list: `models: [NAME, NAME]`";
        let names = self.list(key, value, "a list of models", help, |reader, name| reader.item_name(name, "a model"));
        if matches!(&value.value, Value::List(items) if items.is_empty()) {
            self.wrong_type(
                key,
                value,
                "the name of a model",
                Some("drop `models` when the spec is for all models".into()),
            );
        }
        (!names.is_empty()).then(|| Spanned::new(names, self.whole(key, value)))
    }

    /// The entries of a rule or request. One of another form gets one diagnostic, with `help` made from its halves.
    fn line<'v>(
        &mut self,
        value: &'v Node,
        (what, known): (&str, &[&str]),
        help: impl Fn(&str, &str) -> String,
    ) -> Option<Entries<'v>> {
        let Value::Map(map) = &value.value else {
            let help = match &value.value {
                Value::Text(text) => {
                    let halves = text.split_once("=>").or_else(|| text.split_once(" by "));
                    halves.map(|(left, right)| help(left.trim(), right.trim()))
                }
                _ => None,
            };
            let place = self.span(value);
            self.wrong_type(place, value, &format!("{what} (a mapping with the keys {})", known.join(", ")), help);
            return None;
        };
        if let [(Key { name, at }, value @ Node { value: Value::Text(right), .. })] = map.as_slice()
            && !known.contains(&name.as_str())
            && crate::diag::nearest(name, known.iter().copied()).is_none()
        {
            let span = self.mended.place(at);
            let message = format!("{what} has no key `{}`", name.escape_debug());
            let written = self.span(value);
            let right = if self.is_reported(written) { &self.text[written.range()] } else { right.as_str() };
            self.report("P0004", span, message).help = Some(help(name, right));
            return None;
        }
        Some(self.entries(map, what, known))
    }

    /// Reports a key that is missing, unless one that is not known may stand for it, or a value that was reported may
    /// hold it.
    fn missing(&mut self, entries: &Entries, value: &Node, message: &str) {
        let has_reported = entries.entries.iter().any(|(.., value)| self.is_reported(self.span(value)));
        if !entries.has_unknown && !has_reported {
            let span = entries.entries.first().map_or_else(|| self.span(value), |(_, key, _)| *key);
            self.report("P0001", span, message);
        }
    }

    fn rule(&mut self, value: &Node) -> Option<Rule> {
        let entries = self.line(value, ("a rule", RULE), long_rule)?;
        let pattern = entries.find("match").map(|(key, value)| self.pattern(key, value));
        let format = entries.find("format").map(|(key, value)| self.format(key, value));
        let input = entries.find("input").map(|(key, value)| self.format(key, value));
        let optional = self.flag(entries.find("optional"));
        if pattern.is_none() {
            self.missing(&entries, value, "this rule has no `match`");
        }
        if format.is_none() && input.is_none() {
            self.missing(&entries, value, "this rule has neither `format` nor `input`");
        }
        let span = self.span(value);
        let pattern = pattern.unwrap_or_else(|| Spanned::new(Pattern::unreadable(""), span));
        let format = format.or_else(|| input.is_none().then(|| Call::unreadable(span)));
        Some(Rule { pattern, format, input, optional, span })
    }

    fn rotation(&mut self, value: &Node) -> Option<Rotation> {
        let help = |site: &str, rotation: &str| format!("write `- site: {site}`, and `by: {rotation}` below it");
        let entries = self.line(value, ("a request", ROTATION), help)?;
        let site = entries.find("site").map(|(key, value)| self.name(key, value, "a site"));
        let within = entries.find("of").map(|(key, value)| self.pattern(key, value));
        let by = entries.find("by").map(|(key, value)| self.call(key, value, "a rotation", dsl::parse_rotation));
        let (offline, optional) = (self.flag(entries.find("offline")), self.flag(entries.find("optional")));
        if site.is_none() {
            self.missing(&entries, value, "this request has no `site`");
        }
        if by.is_none() {
            self.missing(&entries, value, "this request has no `by`");
        }
        let span = self.span(value);
        let by = by.unwrap_or_else(|| Call::unreadable(span));
        Some(Rotation { site: site??, within, by, offline, optional, span })
    }
}
