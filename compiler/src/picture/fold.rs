//! Layers: how a path names one, and which neighbours are the same.

use std::ops::Range;

use lathe_grammar::pattern::parse_index;

/// A path in a layer: `model.layers`, 3 and `mlp.up_proj` of `model.layers.3.mlp.up_proj`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LayerPath<'a> {
    /// What is before the index; not empty.
    pub(crate) container: &'a str,
    /// Which layer.
    pub(crate) index: u64,
    /// What is after it; empty for the layer itself.
    pub(crate) rest: &'a str,
}

impl<'a> LayerPath<'a> {
    /// Splits a path at its first number. `None` when it has none.
    pub(crate) fn split(path: &'a str) -> Option<Self> {
        let mut begin = 0;
        for segment in path.split('.') {
            let end = begin + segment.len();
            if begin > 0
                && let Some(index) = parse_index(segment)
            {
                let rest = path.get(end + 1..).unwrap_or_default();
                return Some(LayerPath { container: &path[..begin - 1], index: index.into(), rest });
            }
            begin = end + 1;
        }
        None
    }
}

/// Neighbouring blocks of a list that are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    /// First item of the first block.
    pub(super) start: usize,
    /// Items in a block, at least 1.
    pub(super) period: usize,
    /// Blocks, at least 1.
    pub(super) count: usize,
}

impl Stretch {
    /// The first block.
    pub(super) fn first(&self) -> Range<usize> {
        self.start..self.start + self.period
    }

    /// All blocks.
    pub(super) fn all(&self) -> Range<usize> {
        self.start..self.start + self.period * self.count
    }
}

/// Longest block that is looked for. Models alternate between two to six sorts of layer.
const LONGEST_PERIOD: usize = 8;

/// Folds a list of `length` layers: from the first on, the stretch that covers the most layers, of those the one with the
/// shortest block. `continues(stretch)` says whether the block after a stretch is the same as its last one; it is asked
/// only where there are enough layers for one.
pub(super) fn fold_layers(length: usize, continues: impl Fn(Stretch) -> bool) -> Vec<Stretch> {
    let mut stretches = Vec::new();
    let mut start = 0;
    while start < length {
        let mut best = Stretch { start, period: 1, count: 1 };
        for period in 1..=LONGEST_PERIOD {
            let mut stretch = Stretch { start, period, count: 1 };
            while stretch.all().end + period <= length && continues(stretch) {
                stretch.count += 1;
            }
            if stretch.count > 1 && stretch.all().len() > best.all().len() {
                best = stretch;
            }
        }
        start = best.all().end;
        stretches.push(best);
    }
    stretches
}

/// The indices `first`, `first + step`, … as people write them: `0–31`, `0, 2 … 30`. There are `count`.
pub(super) fn index_text(first: u64, step: u64, count: u64) -> String {
    let index = |n: u64| first.saturating_add(step.saturating_mul(n));
    match (count, step) {
        (0 | 1, _) => first.to_string(),
        (_, 1) => format!("{first}–{}", index(count - 1)),
        (2, _) => format!("{first}, {}", index(1)),
        (3, _) => format!("{first}, {}, {}", index(1), index(2)),
        _ => format!("{first}, {} … {}", index(1), index(count - 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `A×3 (AB)×2` for layers that are letters.
    fn folded(layers: &str) -> String {
        let layers = layers.as_bytes();
        let continues = |stretch: Stretch| {
            let end = stretch.all().end;
            layers[end - stretch.period..end] == layers[end..end + stretch.period]
        };
        let texts = fold_layers(layers.len(), continues)
            .into_iter()
            .map(|stretch| format!("{}×{}", String::from_utf8_lossy(&layers[stretch.first()]), stretch.count));
        texts.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn equal_neighbours_become_one() {
        assert_eq!(folded("AAAA"), "A×4");
        assert_eq!(folded("XAAAY"), "X×1 A×3 Y×1");
        assert_eq!(folded("AABBAA"), "A×2 B×2 A×2");
        assert_eq!(folded("ABC"), "A×1 B×1 C×1");
        assert_eq!(folded(""), "");
    }

    #[test]
    fn alternation_is_one_stretch() {
        assert_eq!(folded("ABABAB"), "AB×3");
        assert_eq!(folded("SSSSSFSSSSSF"), "SSSSSF×2");
        assert_eq!(folded("XABABY"), "X×1 AB×2 Y×1");
    }

    #[test]
    fn paths_split_at_their_first_number() {
        let split = |path| LayerPath::split(path).map(|at| (at.container, at.index, at.rest));
        assert_eq!(split("model.layers.3.mlp.experts.7.up"), Some(("model.layers", 3, "mlp.experts.7.up")));
        assert_eq!(split("h.0"), Some(("h", 0, "")));
        assert_eq!(split("lm_head"), None);
        assert_eq!(split("0.a"), None);
        assert_eq!(split("layers.00.a"), None);
        assert_eq!(split("layers.99999999999999999999.a"), None);
    }

    #[test]
    fn indices_are_short() {
        assert_eq!(index_text(7, 1, 1), "7");
        assert_eq!(index_text(0, 1, 32), "0–31");
        assert_eq!(index_text(0, 2, 2), "0, 2");
        assert_eq!(index_text(1, 6, 3), "1, 7, 13");
        assert_eq!(index_text(1, 2, 16), "1, 3 … 31");
    }
}
