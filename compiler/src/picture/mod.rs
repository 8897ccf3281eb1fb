//! A model and what becomes of it as a picture: SVG, or DOT for Graphviz.
//!
//! ```text
//! Elaborated + a note on each module ─ collect ─▶ items ─ diagram ─▶ Diagram ─┬─ layout ─▶ svg
//!                                                                             └──────────▶ dot
//! ```
//!
//! Data flows from the tokens at the top to the logits at the bottom. Every application of a module is a box, operations
//! without parameters are small nodes, and layers that are the same but for their index are drawn once.

mod collect;
pub(crate) mod color;
mod diagram;
mod dot;
pub(crate) mod fold;
mod layout;
mod svg;
#[cfg(test)]
mod tests;
pub(crate) mod text;

use std::ops::Range;

use crate::units::bytes;

pub use diagram::{TooLarge, diagram};
pub use dot::dot;
pub use svg::svg;

/// What becomes of a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleNote {
    /// The format of its weight, as in a spec: `int4(group: 128)`.
    pub format: String,
    /// The format of its input activations, when a rule states one.
    pub input: Option<String>,
    /// What it takes in the checkpoint; nothing, when it is not stored there.
    pub bytes_before: u64,
    /// What it will take; nothing, when it shares the table of another module.
    pub bytes_after: u64,
    /// Path of the module whose table it shares.
    pub tied_to: Option<String>,
}

/// What a picture shows: made by [`diagram()`], drawn by [`svg()`] and [`dot()`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagram {
    model: String,
    spec: String,
    /// Of the whole model.
    bytes: Bytes,
    /// Every format with the bytes that it will take, the largest first.
    formats: Vec<(String, u64)>,
    /// In topological order.
    nodes: Vec<Node>,
    /// From an earlier node to a later one, each once.
    edges: Vec<(usize, usize)>,
    /// Disjoint, in the order of their nodes.
    groups: Vec<Group>,
    /// Head and table.
    ties: Vec<(usize, usize)>,
}

/// Before and after.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Bytes {
    before: u64,
    after: u64,
}

/// A node of a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    /// Full path, with the indices of all the layers that it stands for.
    path: String,
    /// Dtype and shape of what it computes.
    result: String,
    content: Content,
}

/// What is written in a node.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    /// The application of a module.
    Module {
        /// Path within its layer.
        name: String,
        kind: &'static str,
        /// In as few lines as possible.
        compact: bool,
        /// Of the weight.
        shape: Vec<u64>,
        note: ModuleNote,
    },
    /// An operation without parameters.
    Operation { name: &'static str, details: Vec<String> },
    /// An operation that is one sign.
    Sign(&'static str),
}

/// Layers that are drawn together: one block of them stands for all its repetitions.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    /// The path that the layers are in: `model.layers`.
    container: String,
    /// Indices of all layers.
    indices: String,
    /// How often the block is repeated.
    count: usize,
    /// Of all layers together.
    bytes: Bytes,
    /// The block.
    layers: Vec<Layer>,
}

/// A layer that is drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Layer {
    /// Indices of the layers that it stands for.
    indices: String,
    nodes: Range<usize>,
}

impl Group {
    fn title(&self) -> String {
        let title = format!("{} {}", self.container, self.indices);
        match (self.count, self.layers.len()) {
            (1, _) => title,
            (count, 1) => format!("{title} ×{count}"),
            (count, period) => format!("{title} · {count} × {period} layers"),
        }
    }
}

impl ModuleNote {
    fn bytes(&self) -> Bytes {
        Bytes { before: self.bytes_before, after: self.bytes_after }
    }
}

impl Bytes {
    /// `33.55 MB → 8.91 MB`; one number when both are the same.
    fn text(self) -> String {
        let Bytes { before, after } = self;
        if before == after { bytes(before) } else { format!("{} → {}", bytes(before), bytes(after)) }
    }
}

impl Diagram {
    /// The line under the title: sizes and their ratio.
    fn sizes(&self) -> String {
        let Bytes { before, after } = self.bytes;
        let text = self.bytes.text();
        if before == after || before == 0 || after == 0 {
            return text;
        }
        let (before, after) = (before as f64, after as f64);
        let (ratio, change) = if after < before { (before / after, "smaller") } else { (after / before, "larger") };
        format!("{text} ({:.1} %, {ratio:.2}× {change})", 100.0 * after / before)
    }
}

impl Content {
    /// What is written in the node, a name first. No line is longer than fits a box.
    fn lines(&self) -> Vec<String> {
        match self {
            Content::Sign(sign) => vec![(*sign).to_owned()],
            Content::Operation { name, details } => {
                [(*name).to_owned()].into_iter().chain(details.iter().map(|line| text::shorten(line))).collect()
            }
            Content::Module { name, kind, compact: true, shape, note } => {
                let text = format!("{kind} {shape:?} · {} · {}", note.format, note.bytes().text());
                [text::shorten(name)].into_iter().chain(text::wrap(&text)).collect()
            }
            Content::Module { name, kind, compact: false, shape, note } => {
                let mut lines = vec![text::shorten(name)];
                lines.extend(text::wrap(&format!("{kind} {shape:?}")));
                match &note.tied_to {
                    Some(table) => lines.extend(["shares the table of".to_owned(), text::shorten(table)]),
                    None => lines.extend(text::wrap(&note.format)),
                }
                lines.extend(note.input.iter().flat_map(|input| text::wrap(&format!("input {input}"))));
                if note.tied_to.is_none() || note.bytes_before > 0 {
                    lines.extend(text::wrap(&note.bytes().text()));
                }
                lines
            }
        }
    }
}

impl Node {
    /// Everything about the node, for who points at it.
    fn tooltip(&self) -> String {
        let mut lines = vec![self.path.clone(), self.result.clone()];
        if let Content::Module { kind, shape, note, .. } = &self.content {
            lines.push(format!("{kind} {shape:?}"));
            lines.push(note.format.clone());
            lines.extend(note.input.iter().map(|input| format!("input {input}")));
            lines.extend(note.tied_to.iter().map(|table| format!("shares the table of {table}")));
            lines.push(note.bytes().text());
        }
        lines.join("\n")
    }
}
