//! Where the alternatives of a pattern stand in its text.

use std::collections::{BTreeMap, BTreeSet};

use lathe_grammar::pattern::Pattern;
use lathe_grammar::span::{Sources, Span};

/// The text of a pattern, taken apart once for all of its alternatives.
pub(super) struct Places<'a> {
    pattern: Span,
    written: &'a str,
    /// What stands in braces, by the alternative that it makes: start and length.
    items: BTreeMap<String, (usize, usize)>,
    /// How many alternatives have each part.
    parts: BTreeMap<String, usize>,
    alternatives: usize,
}

impl<'a> Places<'a> {
    /// Of a pattern with these alternatives, which stands there.
    pub(super) fn new(alternatives: &[Pattern], pattern: Span, sources: &'a Sources) -> Self {
        let written = &sources.get(pattern.source).text[pattern.range()];
        let mut known = BTreeMap::new();
        for alternative in alternatives {
            let text = alternative.to_string();
            for part in parts(&text).collect::<BTreeSet<_>>() {
                match known.get_mut(part) {
                    Some(count) => *count += 1,
                    None => drop(known.insert(part.to_owned(), 1)),
                }
            }
        }
        let items = items(written).unwrap_or_default();
        Places { pattern, written, items, parts: known, alternatives: alternatives.len() }
    }

    /// Of an alternative: the item of the braces, or the part that not all alternatives have, when it stands there once;
    /// else the whole pattern.
    pub(super) fn of(&self, alternative: &Pattern) -> Span {
        let text = alternative.to_string();
        let own = || {
            parts(&text).find_map(|part| {
                let is_own = self.parts.get(part).is_some_and(|count| *count < self.alternatives);
                Some((self.only_place(part).filter(|_| is_own)?, part.len()))
            })
        };
        match self.items.get(&text).copied().or_else(own) {
            Some((at, length)) => {
                let start = self.pattern.range().start + at;
                Span::new(self.pattern.source, start..start + length)
            }
            None => self.pattern,
        }
    }

    /// Where a part stands as a whole word, when that is one place.
    fn only_place(&self, part: &str) -> Option<usize> {
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '*');
        let mut places = self.written.match_indices(part).map(|(at, _)| at).filter(|at| {
            let before = self.written[..*at].chars().next_back().is_some_and(is_word);
            let after = self.written[at + part.len()..].chars().next().is_some_and(is_word);
            !before && !after
        });
        places.next().filter(|_| places.next().is_none())
    }
}

/// The segments, indices and kind of an alternative.
fn parts(alternative: &str) -> impl Iterator<Item = &str> {
    alternative.split(['.', '/', '[', ']', ':']).filter(|part| !part.is_empty())
}

/// The items of the braces of a pattern, by the alternative that each makes in their place. Patterns with several braces,
/// or lists of indices, have none.
fn items(written: &str) -> Option<BTreeMap<String, (usize, usize)>> {
    let text = written.trim_matches(['"', '\'']);
    let quotes = written.find(text)?;
    let (before, rest) = text.split_once('{')?;
    let (items, behind) = rest.split_once('}')?;
    let mut found = BTreeMap::new();
    let mut at = quotes + before.len() + 1;
    for item in items.split(',') {
        let (meant, blanks) = (item.trim(), item.len() - item.trim_start().len());
        if let Ok(alternative) = Pattern::parse(&format!("{before}{meant}{behind}")) {
            found.entry(alternative.to_string()).or_insert((at + blanks, meant.len()));
        }
        at += item.len() + 1;
    }
    Some(found)
}
