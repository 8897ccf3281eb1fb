//! Finds layers in a list: neighbouring blocks that are the same but for one index in their labels.
//!
//! The items of a block carry labels such as `model.layers.3.mlp.up_proj`; the next block has `model.layers.4.…`.
//! Which segment counts is not known beforehand: every number in a label is tried, the outermost first. Where kinds of
//! layers take turns, a block is as many layers as there are turns.

use std::cmp::Reverse;
use std::collections::HashMap;

/// Most layers in a block.
const MAX_STEP: u32 = 8;

/// A part of a folded list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Run {
    /// The item at this index, as it is.
    One(usize),
    /// `count` blocks of `period` items, the first of them at `start`.
    Layers {
        /// First item of the first block.
        start: usize,
        /// Items in a block.
        period: usize,
        /// Blocks, at least 2.
        count: usize,
        /// The index that counts them.
        index: LayerIndex,
    },
}

/// Where labels count layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerIndex {
    /// What stands before the number, with its dot: `model.layers.`.
    pub(super) prefix: String,
    /// The number of the first layer of the first block.
    pub(super) first: u32,
    /// Layers in a block.
    pub(super) step: u32,
}

impl LayerIndex {
    /// The label with the number of a layer of the first block replaced by a letter in braces, if it carries one: `{i}`,
    /// of the others `{i+1}`, ….
    pub(super) fn template(&self, label: &str, letter: char) -> Option<String> {
        let (offset, rest) = self.strip(label, self.first)?;
        let plus = if offset == 0 { String::new() } else { format!("+{offset}") };
        Some(format!("{}{{{letter}{plus}}}{rest}", self.prefix))
    }

    /// Whether `a` in the block that begins with layer `layer` and `b` in the next are the same but for the number.
    pub fn corresponds(&self, a: &str, b: &str, layer: u32) -> bool {
        match (self.strip(a, layer), self.strip(b, layer.saturating_add(self.step))) {
            (None, None) => a == b,
            (a, b) => a == b,
        }
    }

    /// Whether a label carries the number of this layer of the first block.
    fn is_of(&self, label: &str, layer: u32) -> bool {
        self.strip(label, self.first).is_some_and(|(offset, _)| offset == layer)
    }

    /// How far the number is from `layer`, if that is within a block, and what follows it.
    fn strip<'a>(&self, label: &'a str, layer: u32) -> Option<(u32, &'a str)> {
        let rest = label.strip_prefix(&self.prefix)?;
        let (segment, rest) = rest.split_at(rest.find('.').unwrap_or(rest.len()));
        let offset = number(segment)?.checked_sub(layer)?;
        (offset < self.step).then_some((offset, rest))
    }
}

/// Folds a list of which `labels` are the labels. `same(a, b, index, layer)` says whether item `a` in the block that
/// begins with layer `layer` and item `b` in the next one agree in everything, labels included. `around` are the indices
/// of the runs that the list is a block of.
pub(super) fn fold(
    labels: &[&str],
    around: &[LayerIndex],
    same: impl Fn(usize, usize, &LayerIndex, u32) -> bool,
) -> Vec<Run> {
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (place, label) in labels.iter().enumerate() {
        places.entry(label).or_default().push(place);
    }
    let next = |label: &str, start: usize| places.get(label)?.iter().copied().find(|&place| place > start);
    let mut runs = Vec::new();
    let mut start = 0;
    while start < labels.len() {
        let numbers = layer_numbers(labels[start]).filter(|number| around.iter().all(|it| it.prefix != number.prefix));
        let found = numbers.into_iter().find_map(|Number { prefix, first, rest }| {
            let blocks = (1..=MAX_STEP).filter_map(|step| {
                let period = next(&format!("{prefix}{}{rest}", first.checked_add(step)?), start)? - start;
                let index = LayerIndex { prefix: prefix.to_owned(), first, step };
                let has = |layer: u32| labels[start..start + period].iter().any(|label| index.is_of(label, layer));
                if !(1..step).all(has) {
                    return None;
                }
                let count = count_blocks(labels.len(), start, period, &index, &same);
                (count >= 2).then_some((period, count, index))
            });
            // Of those that reach equally far, the shortest.
            blocks.max_by_key(|(period, count, _)| (period * count, Reverse(*period)))
        });
        if let Some((period, count, index)) = found {
            runs.push(Run::Layers { start, period, count, index });
            start += period * count;
        } else {
            runs.push(Run::One(start));
            start += 1;
        }
    }
    runs
}

/// How many blocks from `start` on agree, each with the one before it.
fn count_blocks(
    length: usize,
    start: usize,
    period: usize,
    index: &LayerIndex,
    same: impl Fn(usize, usize, &LayerIndex, u32) -> bool,
) -> usize {
    let agrees = |block: usize| {
        let layer = (block as u32 - 1).checked_mul(index.step).and_then(|layers| index.first.checked_add(layers));
        let begin = start + block * period;
        let Some(layer) = layer.filter(|layer| layer.checked_add(index.step).is_some()) else { return false };
        begin + period <= length && (begin..begin + period).all(|b| same(b - period, b, index, layer))
    };
    1 + (1..length).take_while(|&block| agrees(block)).count()
}

/// A number in a label that may count layers.
struct Number<'a> {
    /// What stands before it, with its dot.
    prefix: &'a str,
    first: u32,
    /// What stands behind it.
    rest: &'a str,
}

fn layer_numbers(label: &str) -> impl Iterator<Item = Number<'_>> {
    let mut begin = 0;
    label.split('.').filter_map(move |segment| {
        let (prefix, end) = (&label[..begin], begin + segment.len());
        begin = end + 1;
        Some(Number { prefix, first: number(segment)?, rest: &label[end..] })
    })
}

/// The number that a segment is, written as numbers are.
fn number(segment: &str) -> Option<u32> {
    segment.parse().ok().filter(|number: &u32| number.to_string() == segment)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One line for each run: a label, or `prefix[first..end] period`.
    fn folded(labels: &[&str]) -> Vec<String> {
        let runs = fold(labels, &[], |a, b, index, layer| index.corresponds(labels[a], labels[b], layer));
        let text = |run| match run {
            Run::One(place) => labels[place].to_owned(),
            Run::Layers { period, count, index, .. } => {
                let LayerIndex { prefix, first, step } = index;
                let by = if step == 1 { String::new() } else { format!(" by {step}") };
                format!("{prefix}[{first}..{}{by}] {period}", first as usize + count * step as usize)
            }
        };
        runs.into_iter().map(text).collect()
    }

    #[test]
    fn equal_layers_become_one_run() {
        assert_eq!(folded(&["e", "l.0.a", "l.0.b", "l.1.a", "l.1.b", "l.2.a", "l.2.b", "n"]), ["e", "l.[0..3] 2", "n"]);
    }

    #[test]
    fn unequal_layers_stay() {
        assert_eq!(folded(&["l.0.a", "l.0.x", "l.1.a", "l.1.b", "l.2.a", "l.2.b"]), ["l.0.a", "l.0.x", "l.[1..3] 2"]);
        assert_eq!(folded(&["l.0.a", "l.2.a"]), ["l.0.a", "l.2.a"]);
        assert_eq!(folded(&["l.00.a", "l.1.a"]), ["l.00.a", "l.1.a"]);
    }

    #[test]
    fn layers_that_take_turns_fold_together() {
        assert_eq!(folded(&["l.0.a", "l.1.b", "l.2.a", "l.3.b", "l.4.a"]), ["l.[0..4 by 2] 2", "l.4.a"]);
        let threes = ["l.0.a", "l.1.a", "l.2.b", "l.3.a", "l.4.a", "l.5.b", "l.6.a", "l.7.a"];
        assert_eq!(folded(&threes), ["l.[0..6 by 3] 3", "l.[6..8] 1"]);
        let index = LayerIndex { prefix: "l.".into(), first: 4, step: 2 };
        let shown = ["l.4.a", "l.5.a", "l.6.a", "l.04.a", "m.4.a"].map(|label| index.template(label, 'i'));
        assert_eq!(shown.each_ref().map(Option::as_deref), [Some("l.{i}.a"), Some("l.{i+1}.a"), None, None, None]);
    }

    #[test]
    fn inner_indices_fold_where_outer_ones_do_not() {
        assert_eq!(folded(&["l.0.e.0.w", "l.0.e.1.w", "l.0.r"]), ["l.0.e.[0..2] 1", "l.0.r"]);
    }

    #[test]
    fn one_label_may_stand_on_several_items() {
        assert_eq!(folded(&["l.0", "l.0", "l.1", "l.1"]), ["l.[0..2] 2"]);
    }

    #[test]
    fn no_index_overflows() {
        assert_eq!(folded(&["l.4294967295.a", "l.4294967296.a"]), ["l.4294967295.a", "l.4294967296.a"]);
    }
}
