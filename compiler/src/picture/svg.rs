//! A picture as SVG. It needs no font, script or file from elsewhere.

use std::fmt::{self, Write as _};
use std::ops::Range;

use super::color::Colors;
use super::layout::{Band, Layout, Line, Point, Rect, Size, layout};
use super::text::{Escaped, width};
use super::{Content, Diagram, Group, Node};
use crate::units::bytes;

/// Size of the text of a node.
const FONT: i64 = 12;
const LINE_HEIGHT: i64 = 16;
/// Space between text and the border of a box.
const PADDING: i64 = 9;
/// Width of the colored end of a box.
const STRIPE: i64 = 7;
/// Radius of the corners of a box.
const CORNER: i64 = 6;
/// Diameter of a sign.
const SIGN: i64 = 24;

/// Space around all.
const MARGIN: i64 = 28;
/// Height of the title and the line below it.
const HEADER: i64 = 78;
const TITLE_FONT: i64 = 20;
const SUBTITLE_FONT: i64 = 13;
/// Side of a patch of color in the legend.
const SWATCH: i64 = 15;
/// Height of a row of the legend.
const LEGEND_ROW: i64 = 24;
/// Least width that rows of the legend are broken to.
const LEAST_WIDTH: i64 = 420;

/// Space between a frame and what it frames.
const FRAME: i64 = 16;
/// Height of the title of a frame.
const FRAME_TITLE: i64 = 26;
/// Where the title of a frame begins: right of the stream.
const TITLE_LEFT: i64 = 22;
/// How much further out the frame around several layers is.
const FRAME_STEP: i64 = 10;
/// Space between frames and the line of a tie.
const TIE: i64 = 14;

const INK: &str = "#1f2430";
const MUTED: &str = "#5b6270";
const FONT_FAMILY: &str = "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace";

/// Draws a diagram.
pub fn svg(diagram: &Diagram) -> String {
    let sizes: Vec<Size> = diagram.nodes.iter().map(|node| size(&node.content)).collect();
    let (bands, frames) = bands(diagram);
    let layout = layout(&sizes, &diagram.edges, &bands);
    let colors = Colors::new(diagram.formats.iter().map(|(format, _)| format.as_str()));
    Svg { text: String::new(), diagram, layout, colors }.draw(&frames)
}

/// A frame around the layers of a group.
struct Frame<'a> {
    group: &'a Group,
    /// The bands of its layers.
    bands: Range<usize>,
}

impl Frame<'_> {
    /// What is written beside the title.
    fn bytes(&self) -> String {
        self.group.bytes.text()
    }

    fn title_width(&self) -> i64 {
        TITLE_LEFT + width(&self.group.title(), FONT) + 2 * PADDING + width(&self.bytes(), FONT)
    }
}

/// A band for each layer that is drawn, and for what is between them.
fn bands(diagram: &Diagram) -> (Vec<Band>, Vec<Frame<'_>>) {
    let (mut bands, mut frames, mut next) = (Vec::new(), Vec::new(), 0);
    let plain = |nodes: Range<usize>| (!nodes.is_empty()).then_some(Band { nodes, above: 0, below: 0, width: 0 });
    for group in &diagram.groups {
        bands.extend(group.layers.first().and_then(|layer| plain(next..layer.nodes.start)));
        let begin = bands.len();
        let nested = group.layers.len() > 1;
        for (index, layer) in group.layers.iter().enumerate() {
            let above = if nested && index == 0 { 2 * FRAME_TITLE } else { FRAME_TITLE };
            let below = if nested && index + 1 == group.layers.len() { FRAME + FRAME_STEP } else { FRAME };
            bands.push(Band { nodes: layer.nodes.clone(), above, below, width: 0 });
            next = layer.nodes.end;
        }
        let frame = Frame { group, bands: begin..bands.len() };
        bands[begin].width = frame.title_width();
        frames.push(frame);
    }
    bands.extend(plain(next..diagram.nodes.len()));
    (bands, frames)
}

fn size(content: &Content) -> Size {
    let lines = content.lines();
    let widest = lines.iter().map(|line| width(line, FONT)).max().unwrap_or(0);
    let text = Size { width: widest + 2 * PADDING, height: LINE_HEIGHT * lines.len() as i64 + PADDING };
    match content {
        Content::Sign(_) => Size { width: SIGN, height: SIGN },
        Content::Operation { .. } => Size { width: text.width + PADDING, ..text },
        Content::Module { .. } => Size { width: text.width + STRIPE, ..text },
    }
}

/// A format in the legend.
struct Entry<'a> {
    format: &'a str,
    text: String,
    at: Point,
}

struct Svg<'a> {
    text: String,
    diagram: &'a Diagram,
    layout: Layout,
    colors: Colors<'a>,
}

impl<'a> Svg<'a> {
    fn line(&mut self, line: fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = self.text.write_fmt(line);
        self.text.push('\n');
    }

    fn draw(mut self, frames: &[Frame<'_>]) -> String {
        let diagram = self.diagram;
        let title = format!("{} · {}", diagram.model, diagram.spec);
        let sizes = diagram.sizes();
        let frame = if frames.is_empty() { 0 } else { FRAME + FRAME_STEP };
        let left = self.layout.inner.left - frame - TIE * diagram.ties.len() as i64;
        let right = self.layout.outer.right().max(self.layout.inner.right() + frame);
        let header = width(&title, TITLE_FONT).max(width(&sizes, SUBTITLE_FONT));
        let (legend, legend_size) = self.legend((right - left).max(header).max(LEAST_WIDTH));
        let content = (right - left).max(header).max(legend_size.width);
        let top = HEADER + legend_size.height;
        let (total_width, total_height) = (content + 2 * MARGIN, top + self.layout.outer.height + 2 * MARGIN);

        self.line(format_args!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" width="{total_width}" height="{total_height}" viewBox="0 0 {total_width} {total_height}" role="img" font-family="{FONT_FAMILY}" font-size="{FONT}" fill="{INK}">"#
        ));
        self.line(format_args!("<title>{}</title>", Escaped(&format!("{title}: {sizes}"))));
        self.line(format_args!("<defs>"));
        for (name, color) in [("arrow", MUTED), ("stream", INK)] {
            self.line(format_args!(
                r#"<marker id="{name}" markerUnits="userSpaceOnUse" markerWidth="9" markerHeight="8" refX="8" refY="4" orient="auto"><path d="M0 0L9 4L0 8z" fill="{color}"/></marker>"#
            ));
        }
        self.line(format_args!("</defs>"));
        self.line(format_args!(r##"<rect width="{total_width}" height="{total_height}" rx="10" fill="#ffffff"/>"##));
        self.line(format_args!(r#"<g transform="translate({MARGIN} {MARGIN})">"#));
        self.line(format_args!(
            r#"<text y="{TITLE_FONT}" font-size="{TITLE_FONT}" font-weight="700">{}</text>"#,
            Escaped(&title)
        ));
        self.line(format_args!(
            r#"<text y="44" font-size="{SUBTITLE_FONT}" fill="{MUTED}">{}</text>"#,
            Escaped(&sizes)
        ));
        for entry in &legend {
            self.entry(entry);
        }
        self.line(format_args!("</g>"));
        self.line(format_args!(r#"<g transform="translate({} {})">"#, MARGIN - left, MARGIN + top));
        for frame in frames {
            self.frame(frame);
        }
        self.lines();
        self.ties();
        let places = self.layout.boxes.clone();
        diagram.nodes.iter().zip(places).for_each(|(node, place)| self.node(node, place));
        self.line(format_args!("</g>"));
        self.line(format_args!("</svg>"));
        self.text
    }

    /// The formats that occur, in rows of this width, or as wide as the widest.
    fn legend(&self, most: i64) -> (Vec<Entry<'a>>, Size) {
        let mut entries: Vec<Entry<'a>> = Vec::new();
        let (mut next, mut widest) = (Point { x: 0, y: 0 }, 0);
        for (format, total) in &self.diagram.formats {
            let text = format!("{format}  {}", bytes(*total));
            let width = SWATCH + PADDING + width(&text, FONT);
            if next.x > 0 && next.x + width > most {
                next = Point { x: 0, y: next.y + LEGEND_ROW };
            }
            entries.push(Entry { format, text, at: next });
            widest = widest.max(next.x + width);
            next.x += width + 2 * SWATCH;
        }
        let height = entries.last().map_or(0, |entry| entry.at.y + LEGEND_ROW);
        (entries, Size { width: widest, height })
    }

    fn entry(&mut self, entry: &Entry<'_>) {
        let color = self.colors.of(entry.format);
        let (x, y) = (entry.at.x, entry.at.y + HEADER - FRAME);
        self.line(format_args!(
            r#"<rect x="{x}" y="{y}" width="{SWATCH}" height="{SWATCH}" rx="3" fill="{}" stroke="{}" stroke-width="1.5"/><rect x="{x}" y="{y}" width="5" height="{SWATCH}" fill="{}"/>"#,
            color.fill, color.line, color.line
        ));
        let (x, y) = (x + SWATCH + PADDING, y + FONT);
        self.line(format_args!(r#"<text x="{x}" y="{y}" xml:space="preserve">{}</text>"#, Escaped(&entry.text)));
    }

    fn frame(&mut self, frame: &Frame<'_>) {
        let Frame { group, bands } = frame;
        let ends = self.layout.bands[bands.clone()].to_vec();
        let (Some(&(top, _)), Some(&(_, bottom))) = (ends.first(), ends.last()) else { return };
        let nested = group.layers.len() > 1;
        self.frame_rect(top, bottom, if nested { FRAME + FRAME_STEP } else { FRAME }, "#fafbfc");
        let y = top + 18;
        let x = TITLE_LEFT + width(&group.title(), FONT) + 2 * PADDING;
        self.line(format_args!(
            r#"<text x="{TITLE_LEFT}" y="{y}" font-weight="700">{}</text><text x="{x}" y="{y}" fill="{MUTED}">{}</text>"#,
            Escaped(&group.title()),
            Escaped(&frame.bytes())
        ));
        if nested {
            let last = ends.len() - 1;
            for (index, (layer, (top, bottom))) in group.layers.iter().zip(ends).enumerate() {
                let top = if index == 0 { top + FRAME_TITLE } else { top };
                let bottom = if index == last { bottom - FRAME_STEP } else { bottom };
                self.frame_rect(top, bottom, FRAME, "#ffffff");
                let y = top + 18;
                self.line(format_args!(
                    r#"<text x="{TITLE_LEFT}" y="{y}" fill="{MUTED}">{}</text>"#,
                    Escaped(&format!("{} {}", group.container, layer.indices))
                ));
            }
        }
    }

    fn frame_rect(&mut self, top: i64, bottom: i64, outset: i64, fill: &str) {
        let Rect { left, width, .. } = self.layout.inner;
        let (x, width, height) = (left - outset, width + 2 * outset, bottom - top);
        self.line(format_args!(
            r##"<rect x="{x}" y="{top}" width="{width}" height="{height}" rx="10" fill="{fill}" stroke="#c5cad3"/>"##
        ));
    }

    /// All edges, the stream on top.
    fn lines(&mut self) {
        let (stream, others): (Vec<Line>, Vec<Line>) =
            std::mem::take(&mut self.layout.lines).into_iter().partition(|line| line.stream);
        for (lines, color, width, marker) in [(others, MUTED, "1.3", "arrow"), (stream, INK, "2.6", "stream")] {
            self.line(format_args!(r#"<g fill="none" stroke="{color}" stroke-width="{width}">"#));
            for line in lines {
                self.line(format_args!(r#"<path d="{}" marker-end="url(#{marker})"/>"#, Way(&line.points)));
            }
            self.line(format_args!("</g>"));
        }
    }

    /// From each head that shares a table around the left to the table.
    fn ties(&mut self) {
        let left = self.layout.inner.left - FRAME - FRAME_STEP;
        for (index, &(head, table)) in self.diagram.ties.iter().enumerate() {
            let (head, table) = (self.layout.boxes[head], self.layout.boxes[table]);
            let x = left - TIE * (index as i64 + 1) + TIE / 2;
            let points = [
                Point { x: head.left, y: head.middle().y },
                Point { x, y: head.middle().y },
                Point { x, y: table.middle().y },
                Point { x: table.left, y: table.middle().y },
            ];
            self.line(format_args!(
                r#"<path d="{}" fill="none" stroke="{MUTED}" stroke-width="1.6" stroke-dasharray="5 4" marker-end="url(#arrow)"/>"#,
                Way(&points)
            ));
        }
    }

    fn node(&mut self, node: &Node, place: Rect) {
        let lines = node.content.lines();
        self.line(format_args!("<g><title>{}</title>", Escaped(&node.tooltip())));
        let Rect { left, top, width, height } = place;
        let (anchor, x) = match &node.content {
            Content::Module { note, .. } => {
                let color = self.colors.of(&note.format);
                self.line(format_args!(
                    r#"<rect x="{left}" y="{top}" width="{width}" height="{height}" rx="{CORNER}" fill="{}" stroke="{}" stroke-width="1.2"/>"#,
                    color.fill, color.line
                ));
                let straight = height - 2 * CORNER;
                self.line(format_args!(
                    r#"<path d="M{} {top}h{}v{height}h-{}a{CORNER} {CORNER} 0 0 1 -{CORNER} -{CORNER}v-{straight}a{CORNER} {CORNER} 0 0 1 {CORNER} -{CORNER}z" fill="{}"/>"#,
                    left + CORNER,
                    STRIPE - CORNER,
                    STRIPE - CORNER,
                    color.line
                ));
                ("start", left + STRIPE + PADDING)
            }
            Content::Operation { .. } | Content::Sign(_) => {
                let radius = (height / 2).min(13);
                self.line(format_args!(
                    r##"<rect x="{left}" y="{top}" width="{width}" height="{height}" rx="{radius}" fill="#ffffff" stroke="{MUTED}" stroke-width="1.2"/>"##
                ));
                ("middle", place.middle().x)
            }
        };
        for (index, text) in lines.iter().enumerate() {
            let y = top + PADDING / 2 + FONT + LINE_HEIGHT * index as i64;
            let weight = if index == 0 { " font-weight=\"600\"" } else { "" };
            self.line(format_args!(r#"<text x="{x}" y="{y}" text-anchor="{anchor}"{weight}>{}</text>"#, Escaped(text)));
        }
        self.line(format_args!("</g>"));
    }
}

/// Points as the data of a path, its corners rounded.
struct Way<'a>(&'a [Point]);

impl fmt::Display for Way<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const RADIUS: i64 = 6;
        let mut points: Vec<Point> = Vec::new();
        for &point in self.0 {
            match points[..] {
                [.., a, b] if (a.x == b.x && b.x == point.x) || (a.y == b.y && b.y == point.y) => {
                    points.pop();
                    points.push(point);
                }
                [.., last] if last == point => {}
                _ => points.push(point),
            }
        }
        let Some(first) = points.first() else { return Ok(()) };
        write!(f, "M{} {}", first.x, first.y)?;
        for corner in points.windows(3) {
            let [a, b, c] = [corner[0], corner[1], corner[2]];
            let distance = |p: Point| (p.x - b.x).abs() + (p.y - b.y).abs();
            let radius = RADIUS.min(distance(a) / 2).min(distance(c) / 2);
            // The point that is `radius` away from the corner, towards `p`.
            let towards = |p: Point| (b.x + radius * (p.x - b.x).signum(), b.y + radius * (p.y - b.y).signum());
            let ((x, y), (to_x, to_y)) = (towards(a), towards(c));
            write!(f, "L{x} {y}Q{} {} {to_x} {to_y}", b.x, b.y)?;
        }
        match points[..] {
            [_, .., last] => write!(f, "L{} {}", last.x, last.y),
            _ => Ok(()),
        }
    }
}
