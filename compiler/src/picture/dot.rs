//! A picture as DOT, for Graphviz and what else reads it.

use std::fmt::{self, Write};
use std::ops::Range;

use super::color::Colors;
use super::layout::Stream;
use super::text::printable;
use super::{Content, Diagram, Group};
use crate::units::bytes;

/// Writes a diagram.
pub fn dot(diagram: &Diagram) -> String {
    let colors = Colors::new(diagram.formats.iter().map(|(format, _)| format.as_str()));
    let mut dot = Dot { text: String::new(), diagram, colors, depth: 0 };
    dot.draw();
    dot.text
}

struct Dot<'a> {
    text: String,
    diagram: &'a Diagram,
    colors: Colors<'a>,
    /// Braces that are open.
    depth: usize,
}

impl Dot<'_> {
    fn line(&mut self, line: fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{:width$}{line}", "", width = 2 * self.depth);
    }

    fn open(&mut self, head: fmt::Arguments<'_>) {
        self.line(format_args!("{head} {{"));
        self.depth += 1;
    }

    fn close(&mut self) {
        self.depth -= 1;
        self.line(format_args!("}}"));
    }

    fn draw(&mut self) {
        let diagram = self.diagram;
        self.open(format_args!("digraph"));
        let mut label = vec![format!("{} · {}", diagram.model, diagram.spec), diagram.sizes()];
        label.extend(diagram.formats.iter().map(|(format, total)| format!("{format}  {}", bytes(*total))));
        self.line(format_args!("graph [label={}, labelloc=t, labeljust=l, fontname=monospace]", Quoted(&label)));
        self.line(format_args!("node [fontname=monospace, fontsize=11, style=\"filled,rounded\", fillcolor=white]"));
        self.line(format_args!("edge [fontname=monospace, fontsize=11, color=\"#5b6270\", arrowsize=0.7]"));
        let mut next = 0;
        for (index, group) in diagram.groups.iter().enumerate() {
            if let Some(first) = group.layers.first() {
                self.nodes(next..first.nodes.start);
            }
            self.group(index, group);
            next = group.layers.last().map_or(next, |layer| layer.nodes.end);
        }
        self.nodes(next..diagram.nodes.len());
        let stream = Stream::new(diagram.nodes.len(), &diagram.edges);
        for &(from, to) in &diagram.edges {
            let look = if stream.has_edge(from, to) { " [weight=8, penwidth=2]" } else { "" };
            self.line(format_args!("n{from} -> n{to}{look}"));
        }
        for (head, table) in &diagram.ties {
            self.line(format_args!("n{head} -> n{table} [style=dashed, constraint=false, label=\"shares the table\"]"));
        }
        self.close();
    }

    fn group(&mut self, index: usize, group: &Group) {
        self.open(format_args!("subgraph cluster_{index}"));
        self.line(format_args!("label={}", Quoted(&[group.title(), group.bytes.text()])));
        self.line(format_args!("style=rounded"));
        self.line(format_args!("color=\"#c5cad3\""));
        match &group.layers[..] {
            [layer] => self.nodes(layer.nodes.clone()),
            layers => {
                for (inner, layer) in layers.iter().enumerate() {
                    self.open(format_args!("subgraph cluster_{index}_{inner}"));
                    self.line(format_args!("label={}", Quoted(&[format!("{} {}", group.container, layer.indices)])));
                    self.nodes(layer.nodes.clone());
                    self.close();
                }
            }
        }
        self.close();
    }

    fn nodes(&mut self, nodes: Range<usize>) {
        for index in nodes {
            let node = &self.diagram.nodes[index];
            let (label, tooltip) = (node.content.lines(), [node.tooltip()]);
            let (label, tooltip) = (Quoted(&label), Quoted(&tooltip));
            let look = match &node.content {
                Content::Module { note, .. } => {
                    let color = self.colors.of(&note.format);
                    format!("shape=box, fillcolor=\"{}\", color=\"{}\"", color.fill, color.line)
                }
                Content::Operation { .. } => "shape=box".to_owned(),
                Content::Sign(_) => "shape=circle, width=0.3, fixedsize=true".to_owned(),
            };
            self.line(format_args!("n{index} [label={label}, {look}, tooltip={tooltip}]"));
        }
    }
}

/// Lines as a quoted string.
struct Quoted<'a>(&'a [String]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for (index, line) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\\n")?;
            }
            line.chars().map(printable).try_for_each(|c| match c {
                '"' => f.write_str("\\\""),
                '\\' => f.write_str("\\\\"),
                '\n' => f.write_str("\\n"),
                c => f.write_char(c),
            })?;
        }
        f.write_char('"')
    }
}
