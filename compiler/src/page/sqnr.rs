//! Signal-to-noise ratios by layer: a series for each role that modules have in a layer.

use std::collections::BTreeMap;

use super::chart::{Percent, Pixels, Scale, layer_ticks};
use super::html::{Column, Html};
use super::model::{Container, Entry, Model, role};
use crate::picture::text::Escaped;

/// Height of a plot, in pixels.
const HEIGHT: f64 = 260.0;
/// Height of the strip for what is exact, above the plot.
const STRIP: f64 = 26.0;
/// Space above the scale, for half of a tick's text.
const MARGIN: f64 = 6.0;
/// Colors of series, as classes of the style sheet.
const COLORS: usize = 7;
/// Marks of series, as data of paths around the origin: circle, square, triangle, diamond, triangle down.
const MARKS: [&str; 5] = [
    "M-4 0A4 4 0 1 0 4 0A4 4 0 1 0 -4 0Z",
    "M-3.6 -3.6H3.6V3.6H-3.6Z",
    "M0 -4.8L4.6 3.4H-4.6Z",
    "M0 -5L5 0L0 5L-5 0Z",
    "M0 4.8L4.6 -3.4H-4.6Z",
];
/// Series of a chart: as many as have a color and a mark of their own.
const MOST_SERIES: usize = COLORS * MARKS.len();

/// What was measured of a module.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Measured {
    /// Nothing was lost.
    Exact,
    Decibels(f64),
    /// Something was lost, but its ratio is no number.
    Unknown,
}

impl Measured {
    /// The weight of a module against the stored one; `None` where it has none.
    pub(super) fn of_weight(entry: &Entry<'_>) -> Option<Self> {
        entry.module.packed.as_ref()?;
        Some(match entry.module.sqnr_db {
            None => Measured::Exact,
            Some(decibels) if decibels.is_nan() => Measured::Unknown,
            Some(decibels) => Measured::Decibels(decibels),
        })
    }

    /// Where it is in a table: the largest loss first.
    pub(super) fn rank(self) -> f64 {
        match self {
            Measured::Exact => f64::INFINITY,
            Measured::Decibels(decibels) => decibels,
            Measured::Unknown => f64::NEG_INFINITY,
        }
    }
}

pub(super) fn section(html: &mut Html, model: &Model<'_>) {
    html.open("sqnr", "What the weights lost");
    html.put(format_args!(
        "<p>The signal-to-noise ratio of each packed weight against the stored one: 20 dB is an error of a tenth, 40 dB of a hundredth. Higher is better; where no value changed, a weight is exact.</p>\n"
    ));
    if model.report.modules.iter().all(|module| module.sqnr_db.is_none()) {
        html.put(format_args!("<p class=\"exact\">Every weight is exact: no value changed.</p>\n"));
        html.close();
        return;
    }
    for container in model.charted() {
        plot(html, model, container, "SQNR of the weight", &Measured::of_weight);
    }
    model.write_uncharted(html);
    outside(html, model);
    lowest(html, model);
    html.close();
}

/// Modules of one role in one layer.
#[derive(Default)]
struct Cell {
    decibels: Vec<f64>,
    exact: usize,
    unknown: usize,
    /// Of those with decibels, each once.
    formats: Vec<usize>,
}

/// Modules of one role, layer by layer.
struct Series<'a> {
    role: String,
    /// Of the role's first module.
    kind: &'a str,
    /// By the place of the layer, where it has such modules.
    cells: BTreeMap<usize, Cell>,
}

fn series<'a>(
    model: &'a Model<'a>,
    container: &Container<'a>,
    measure: &dyn Fn(&Entry<'_>) -> Option<Measured>,
) -> Vec<Series<'a>> {
    let mut all: Vec<Series<'a>> = Vec::new();
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    for (at, modules) in container.layers.values().enumerate() {
        for entry in modules.iter().map(|&index| &model.entries[index]) {
            let (Some(place), Some(measured)) = (entry.place, measure(entry)) else { continue };
            let role = role(place.rest);
            let index = *known.entry(role.clone()).or_insert_with(|| {
                all.push(Series { role, kind: &entry.module.kind, cells: BTreeMap::new() });
                all.len() - 1
            });
            let cell = all[index].cells.entry(at).or_default();
            match measured {
                Measured::Exact => cell.exact += 1,
                Measured::Unknown => cell.unknown += 1,
                Measured::Decibels(decibels) => {
                    cell.decibels.push(decibels);
                    if !cell.formats.contains(&entry.format) {
                        cell.formats.push(entry.format);
                    }
                }
            }
        }
    }
    for cell in all.iter_mut().flat_map(|series| series.cells.values_mut()) {
        cell.decibels.sort_by(f64::total_cmp);
    }
    all
}

impl Cell {
    fn median(&self) -> Option<f64> {
        self.decibels.get(self.decibels.len() / 2).copied()
    }
}

impl Series<'_> {
    fn decibels(&self) -> impl Iterator<Item = f64> {
        self.cells.values().flat_map(|cell| cell.decibels.iter().copied())
    }

    fn has_unknown(&self) -> bool {
        self.cells.values().any(|cell| cell.unknown > 0)
    }

    /// What the modules of the role are called: that of the layer itself has no name of its own.
    fn name(&self) -> &str {
        if self.role.is_empty() { self.kind } else { &self.role }
    }
}

/// A chart over the layers of a container, unless nothing in it is other than exact. `what` is the vertical axis.
pub(super) fn plot(
    html: &mut Html,
    model: &Model<'_>,
    container: &Container<'_>,
    what: &str,
    measure: &dyn Fn(&Entry<'_>) -> Option<Measured>,
) {
    let all = series(model, container, measure);
    let named = |series: &[&Series<'_>]| series.iter().map(|series| series.name()).collect::<Vec<_>>().join(", ");
    let unknown: Vec<_> = all.iter().filter(|series| series.has_unknown()).collect();
    if !unknown.is_empty() {
        html.put(format_args!(
            "<p class=\"exact\">{what} is no number in some layers of {}.</p>\n",
            Escaped(&named(&unknown))
        ));
    }
    let (mut shown, mut exact): (Vec<_>, Vec<_>) = all.iter().partition(|series| series.decibels().next().is_some());
    exact.retain(|series| !series.has_unknown());
    let others = shown.split_off(shown.len().min(MOST_SERIES)).len();
    let values = || shown.iter().flat_map(|series| series.decibels());
    let (Some(low), Some(high)) = (values().reduce(f64::min), values().reduce(f64::max)) else { return };
    let has_strip = shown.iter().flat_map(|series| series.cells.values()).any(|cell| cell.exact > 0);
    let plot = Plot {
        model,
        container: container.name,
        layers: container.layers.keys().copied().collect(),
        scale: Scale::new(low, high, 5),
        top: if has_strip { STRIP + MARGIN } else { MARGIN },
    };
    let name = Escaped(container.name);
    html.put(format_args!("<figure>\n<figcaption>{what} in dB, by layer</figcaption>\n"));
    legend(html, &shown);
    html.put(format_args!(
        "<div class=\"plot\"><svg class=\"chart series\" width=\"100%\" height=\"{}\" role=\"img\"><title>{what} by layer of {name}, in decibels</title><desc>{} series over {} layers, between {low:.1} and {high:.1} dB.</desc>\n",
        plot.top + HEIGHT + 22.0,
        shown.len(),
        plot.layers.len()
    ));
    plot.scale.draw(html, plot.top, HEIGHT, |tick| format!("{tick} dB"));
    layer_ticks(html, &plot.layers, plot.top + HEIGHT);
    for (index, series) in shown.iter().enumerate() {
        plot.ranges(html, index, shown.len(), series);
        plot.curve(html, index, series);
    }
    for (index, series) in shown.iter().enumerate() {
        plot.points(html, index, series);
    }
    if has_strip {
        plot.strip(html, &shown);
    }
    html.put(format_args!("</svg><p class=\"axis\">layer of <code>{name}</code></p></div>\n"));
    if others > 0 {
        html.put(format_args!("<p class=\"exact\">{others} more series are not shown.</p>\n"));
    }
    if !exact.is_empty() {
        html.put(format_args!("<p class=\"exact\">Exact in every layer: {}.</p>\n", Escaped(&named(&exact))));
    }
    html.put(format_args!("</figure>\n"));
}

fn legend(html: &mut Html, shown: &[&Series<'_>]) {
    html.put(format_args!("<ul class=\"legend\">\n"));
    for (index, series) in shown.iter().enumerate() {
        let (low, high) = (series.decibels().reduce(f64::min), series.decibels().reduce(f64::max));
        html.put(format_args!(
            "<li><svg class=\"swatch\" width=\"14\" height=\"14\" aria-hidden=\"true\"><path class=\"{}\" transform=\"translate(7 7)\" d=\"{}\"/></svg> <code>{}</code> <b>{}</b></li>\n",
            color(index),
            mark(index),
            Escaped(series.name()),
            range(low.unwrap_or_default(), high.unwrap_or_default())
        ));
    }
    html.put(format_args!("</ul>\n"));
}

fn color(series: usize) -> String {
    format!("s{}", series % COLORS)
}

/// Neighbours differ in color and mark; a pair of both comes again after [`MOST_SERIES`].
fn mark(series: usize) -> &'static str {
    MARKS[series % MARKS.len()]
}

/// `21.40 dB`, or `21.40 to 33.10 dB`.
pub(super) fn range(low: f64, high: f64) -> String {
    if low == high { format!("{low:.2} dB") } else { format!("{low:.2} to {high:.2} dB") }
}

/// What the marks of a chart have in common.
struct Plot<'a> {
    model: &'a Model<'a>,
    container: &'a str,
    /// Indices of the layers, from left to right.
    layers: Vec<u64>,
    scale: Scale,
    /// Where the scale begins, in pixels.
    top: f64,
}

impl Plot<'_> {
    fn x(&self, layer: usize) -> Percent {
        Percent::middle(layer, self.layers.len())
    }

    fn y(&self, decibels: f64) -> Pixels {
        Pixels(self.top + HEIGHT * (1.0 - self.scale.place(decibels)))
    }

    /// The line through the medians of a series; where a layer has none, it is interrupted.
    fn curve(&self, html: &mut Html, index: usize, series: &Series<'_>) {
        html.put(format_args!(
            "<svg x=\"0\" y=\"{}\" width=\"100%\" height=\"{HEIGHT}\" viewBox=\"0 0 {} {HEIGHT}\" preserveAspectRatio=\"none\"><path class=\"curve {}\" d=\"",
            Pixels(self.top),
            2 * self.layers.len(),
            color(index)
        ));
        let mut pen = 'M';
        for layer in 0..self.layers.len() {
            match series.cells.get(&layer).and_then(Cell::median) {
                Some(median) => {
                    let y = HEIGHT * (1.0 - self.scale.place(median));
                    html.put(format_args!("{pen}{} {}", 2 * layer + 1, Pixels(y)));
                    pen = 'L';
                }
                None => pen = 'M',
            }
        }
        html.put(format_args!("\"/></svg>\n"));
    }

    /// Marks of many layers are smaller.
    fn size(&self) -> &'static str {
        match self.layers.len() {
            0..=48 => "",
            49..=120 => " medium",
            _ => " small",
        }
    }

    /// A line for each layer whose modules differ, side by side with those of the `count` other series.
    fn ranges(&self, html: &mut Html, index: usize, count: usize, series: &Series<'_>) {
        for (&layer, cell) in &series.cells {
            if let [low, .., high] = cell.decibels[..]
                && low < high
            {
                html.put(format_args!(
                    "<line class=\"range {}{}\" x1=\"{3}\" x2=\"{3}\" y1=\"{4}\" y2=\"{5}\" transform=\"translate({2} 0)\"/>\n",
                    color(index),
                    self.size(),
                    Pixels(index as f64 - (count as f64 - 1.0) / 2.0),
                    self.x(layer),
                    self.y(low),
                    self.y(high)
                ));
            }
        }
    }

    /// A mark for each layer.
    fn points(&self, html: &mut Html, index: usize, series: &Series<'_>) {
        for (&layer, cell) in &series.cells {
            let (Some(median), Some(&low), Some(&high)) = (cell.median(), cell.decibels.first(), cell.decibels.last())
            else {
                continue;
            };
            let formats = cell.formats.iter().map(|&format| self.model.formats.get(format).name.as_str());
            let many = match (cell.decibels.len(), cell.exact) {
                (1, 0) => String::new(),
                (modules, 0) => format!(", median of {modules} modules {median:.2} dB"),
                (modules, exact) => format!(", median of {modules} modules {median:.2} dB, {exact} more exact"),
            };
            html.put(format_args!(
                "<svg class=\"point{}\" x=\"{}\" y=\"{}\"><path class=\"{}\" d=\"{}\"><title>{}.{}.{}: {}{many}; {}</title></path></svg>\n",
                self.size(),
                self.x(layer),
                self.y(median),
                color(index),
                mark(index),
                Escaped(self.container),
                self.layers[layer],
                Escaped(series.name()),
                range(low, high),
                Escaped(&formats.collect::<Vec<_>>().join(", "))
            ));
        }
    }

    /// What is exact in some layers only, above the scale.
    fn strip(&self, html: &mut Html, shown: &[&Series<'_>]) {
        html.put(format_args!(
            "<rect class=\"strip\" x=\"0\" y=\"0\" width=\"100%\" height=\"20\"/><text class=\"tick y\" x=\"-8\" y=\"14\">exact</text>\n"
        ));
        for (layer, index) in self.layers.iter().enumerate() {
            let is_exact = |series: &&&Series<'_>| series.cells.get(&layer).is_some_and(|cell| cell.exact > 0);
            let exact: Vec<&str> = shown.iter().filter(is_exact).map(|series| series.name()).collect();
            if exact.is_empty() {
                continue;
            }
            html.put(format_args!(
                "<circle class=\"hollow\" cx=\"{}\" cy=\"10\" r=\"4\"><title>{}.{index}: exact are {}</title></circle>\n",
                self.x(layer),
                Escaped(self.container),
                Escaped(&exact.join(", "))
            ));
        }
    }
}

/// Modules outside of layers.
fn outside(html: &mut Html, model: &Model<'_>) {
    let measured = || model.outside().filter_map(|entry| Some((entry, Measured::of_weight(entry)?)));
    if measured().next().is_none() {
        return;
    }
    html.open_table(
        "",
        "Weights outside of layers",
        &[Column::Text("module"), Column::Text("format"), Column::Number("SQNR")],
    );
    for (entry, measured) in measured() {
        row(html, model, entry, measured);
    }
    html.close_table();
}

/// Weights with a place in the table of those that lost most.
const LOWEST: usize = 10;

fn lowest(html: &mut Html, model: &Model<'_>) {
    let own = model.entries.iter().filter(|entry| entry.module.shares.is_none());
    let mut measured: Vec<_> = own.filter_map(|entry| Some((entry, Measured::of_weight(entry)?))).collect();
    measured.retain(|(_, measured)| *measured != Measured::Exact);
    measured.sort_by(|a, b| a.1.rank().total_cmp(&b.1.rank()));
    html.open_table(
        "",
        "Weights that lost most",
        &[Column::Text("module"), Column::Text("format"), Column::Number("SQNR")],
    );
    for (entry, measured) in measured.into_iter().take(LOWEST) {
        row(html, model, entry, measured);
    }
    html.close_table();
}

fn row(html: &mut Html, model: &Model<'_>, entry: &Entry<'_>, measured: Measured) {
    let text = match measured {
        Measured::Exact => "exact".to_owned(),
        Measured::Decibels(decibels) => format!("{decibels:.2} dB"),
        Measured::Unknown => "unknown".to_owned(),
    };
    html.put(format_args!("<tr><th scope=\"row\"><code>{}</code>", Escaped(&entry.module.path)));
    if let Some(table) = &entry.module.shares {
        html.put(format_args!(" reads the table of <code>{}</code>", Escaped(table)));
    }
    html.put(format_args!(
        "</th><td class=\"format\">{}</td><td class=\"n\">{text}</td></tr>\n",
        Escaped(&model.formats.get(entry.format).name)
    ));
}
