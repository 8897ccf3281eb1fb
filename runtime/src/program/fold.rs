//! Finds layers in a list: neighbouring blocks that are the same but for one index in their labels.
//!
//! The items of a block carry labels such as `model.layers.3.mlp.up_proj`; the next block has `model.layers.4.…`.
//! Which segment counts is not known beforehand: every number in a label is tried, the outermost first.

use std::collections::HashMap;

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
pub(super) struct LayerIndex {
    /// What stands before the number, with its dot: `model.layers.`.
    pub(super) prefix: String,
    /// The number in the first block.
    pub(super) first: u32,
}

impl LayerIndex {
    /// The label with the number of the first layer replaced by a letter in braces, if it carries that number.
    pub(super) fn template(&self, label: &str, letter: char) -> Option<String> {
        let rest = self.strip(label, self.first)?;
        Some(format!("{}{{{letter}}}{rest}", self.prefix))
    }

    /// Whether `a` in layer `layer` and `b` in the next are the same but for the number.
    pub(super) fn corresponds(&self, a: &str, b: &str, layer: u32) -> bool {
        match (self.strip(a, layer), self.strip(b, layer + 1)) {
            (None, None) => a == b,
            (a, b) => a == b,
        }
    }

    /// What follows the number.
    fn strip<'a>(&self, label: &'a str, layer: u32) -> Option<&'a str> {
        let rest = label.strip_prefix(&self.prefix)?;
        let (number, rest) = rest.split_at(rest.find('.').unwrap_or(rest.len()));
        (number == layer.to_string()).then_some(rest)
    }
}

/// Folds a list of which `labels` are the labels. `same(a, b, index, layer)` says whether item `a` in layer `layer` and
/// item `b` in the next one agree in everything, labels included.
pub(super) fn fold(labels: &[&str], same: impl Fn(usize, usize, &LayerIndex, u32) -> bool) -> Vec<Run> {
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (place, label) in labels.iter().enumerate() {
        places.entry(label).or_default().push(place);
    }
    let mut runs = Vec::new();
    let mut start = 0;
    while start < labels.len() {
        let found = layer_indices(labels[start]).find_map(|(index, next_label)| {
            let next = *places.get(next_label.as_str())?.iter().find(|&&place| place > start)?;
            let period = next - start;
            let count = count_blocks(labels.len(), start, period, &index, &same);
            (count >= 2).then_some((period, count, index))
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
        let layer = index.first.saturating_add(block as u32 - 1);
        let begin = start + block * period;
        begin + period <= length
            && layer < u32::MAX
            && (begin..begin + period).all(|b| same(b - period, b, index, layer))
    };
    1 + (1..length).take_while(|&block| agrees(block)).count()
}

/// Every number in a label that may count layers, with the label that the next layer would have.
fn layer_indices(label: &str) -> impl Iterator<Item = (LayerIndex, String)> {
    let mut begin = 0;
    label.split('.').filter_map(move |segment| {
        let end = begin + segment.len();
        let prefix = &label[..begin];
        begin = end + 1;
        let first: u32 = segment.parse().ok()?;
        let next = first.checked_add(1)?;
        let canonical = first.to_string() == segment;
        canonical.then(|| (LayerIndex { prefix: prefix.to_owned(), first }, format!("{prefix}{next}{}", &label[end..])))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One line for each run: a label, or `prefix[first..end] period`.
    fn folded(labels: &[&str]) -> Vec<String> {
        let runs = fold(labels, |a, b, index, layer| index.corresponds(labels[a], labels[b], layer));
        let text = |run| match run {
            Run::One(place) => labels[place].to_owned(),
            Run::Layers { period, count, index, .. } => {
                format!("{}[{}..{}] {period}", index.prefix, index.first, index.first as usize + count)
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
