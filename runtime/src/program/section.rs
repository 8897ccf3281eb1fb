//! Lists as text for people: a labelled item on each line, equal layers once.

use std::fmt::Write as _;
use std::ops::Range;

use super::fold::{LayerIndex, Run, fold};

/// Longer labels push their lines to the right instead of all others.
const MAX_LABEL_WIDTH: usize = 60;

/// How a listing shows layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layers {
    /// Every item of every layer.
    All,
    /// Layers that are the same but for their index once, with how many there are, and so the experts of a layer. The
    /// items shown are those of the first of them, its index written `{i}`, of an expert within a layer `{j}`. Where
    /// kinds of layers take turns, those of one turn are shown, `{i}`, `{i+1}`, ….
    Folded,
}

/// `same(a, b, index, layer)` says whether item `a` in the layers from `layer` on and item `b` in the next ones agree in everything,
/// labels included.
pub type Same<'a> = dyn Fn(usize, usize, &LayerIndex, u32) -> bool + 'a;

/// How names are shown: with the numbers of the runs that they are in replaced by letters, of the outermost by `{i}`.
#[derive(Debug, Clone, Default)]
pub struct Names(Vec<LayerIndex>);

impl Names {
    fn within(&self, index: LayerIndex) -> Names {
        Names(self.0.iter().cloned().chain([index]).collect())
    }

    /// The name as it is shown where these hold.
    pub fn show(&self, name: &str) -> String {
        // The innermost first: what stands before its number holds the numbers of the others.
        self.0.iter().enumerate().rev().fold(name.to_owned(), |name, (depth, index)| {
            // A run is at most half of what it is in, so there are letters for all.
            let letter = char::from(b'i' + depth as u8);
            index.template(&name, letter).unwrap_or(name)
        })
    }
}

/// A title, and below it a line for each item: its place in the list, its label, and its `text`.
pub fn section(
    title: &str,
    labels: &[&str],
    layers: Layers,
    same: &Same<'_>,
    text: impl Fn(usize, &Names) -> String,
) -> String {
    let lines = match layers {
        Layers::All => (0..labels.len()).map(|place| Line::Item { place, names: Names::default() }).collect(),
        Layers::Folded => {
            let mut lines = Vec::new();
            fold_lines(title, labels, 0..labels.len(), &Names::default(), same, &mut lines);
            lines
        }
    };
    let label_length = |line: &Line| match line {
        Line::Heading { .. } => 0,
        Line::Item { place, names } => names.show(labels[*place]).chars().count(),
    };
    let label_width = lines.iter().map(label_length).max().unwrap_or(0).min(MAX_LABEL_WIDTH);
    let mut out = format!("{title}\n");
    for line in lines {
        let line = match line {
            Line::Heading { text, depth } => format!("  {}{text}", "| ".repeat(depth)),
            Line::Item { place, names } => {
                let (bars, label) = ("| ".repeat(names.0.len()), names.show(labels[place]));
                format!("  {bars}{place:>4}  {label:label_width$}  {}", text(place, &names))
            }
        };
        // Writing to a string does not fail.
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

/// A line of a section.
enum Line {
    /// What the lines behind a further bar are.
    Heading {
        text: String,
        depth: usize,
    },
    Item {
        place: usize,
        names: Names,
    },
}

/// The lines of some items: layers once, and in them experts once.
fn fold_lines(
    title: &str,
    labels: &[&str],
    items: Range<usize>,
    names: &Names,
    same: &Same<'_>,
    lines: &mut Vec<Line>,
) {
    let begin = items.start;
    for run in fold(&labels[items], &names.0, |a, b, index, layer| same(begin + a, begin + b, index, layer)) {
        match run {
            Run::One(place) => lines.push(Line::Item { place: begin + place, names: names.clone() }),
            Run::Layers { start, period, count, index } => {
                let (layers, first) = (names.show(index.prefix.trim_end_matches('.')), index.first);
                let end = u64::from(first) + count as u64 * u64::from(index.step);
                let by = if index.step == 1 { String::new() } else { format!(" by {}", index.step) };
                let text = format!("{layers}[{first}..{end}]{by}: {count} times {period} {title}");
                lines.push(Line::Heading { text, depth: names.0.len() });
                let start = begin + start;
                fold_lines(title, labels, start..start + period, &names.within(index), same, lines);
            }
        }
    }
}
