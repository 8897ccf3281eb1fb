//! The modules of a report, arranged as the page shows them: by format, by layer, by role.

use std::collections::{BTreeMap, BTreeSet};

use lathe_grammar::pattern::parse_index;

use super::html::Html;
use crate::artifact::{PackedModule, Report};
use crate::picture::color::Colors;
use crate::picture::fold::LayerPath;
use crate::picture::text::cut;

/// Lists of layers that have charts.
const MOST_CHARTED: usize = 12;

/// Layers of a chart: there are no more pixels.
const MOST_LAYERS: usize = 1000;

/// A report, arranged.
pub(super) struct Model<'a> {
    pub(super) report: &'a Report,
    /// In the order of the report.
    pub(super) entries: Vec<Entry<'a>>,
    pub(super) formats: Formats,
    /// Layers, in the order of their first module.
    pub(super) containers: Vec<Container<'a>>,
    pub(super) totals: Totals,
}

/// A module.
pub(super) struct Entry<'a> {
    pub(super) module: &'a PackedModule,
    /// Index in [`Formats`].
    pub(super) format: usize,
    /// The layer that it is in.
    pub(super) place: Option<LayerPath<'a>>,
}

/// Layers of one list: `model.layers`.
pub(super) struct Container<'a> {
    pub(super) name: &'a str,
    /// By index: the modules of each layer, as indices of [`Model::entries`].
    pub(super) layers: BTreeMap<u64, Vec<usize>>,
}

/// Sizes of some modules.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) modules: u64,
    pub(super) parameters: u64,
    /// Values in the checkpoint.
    pub(super) stored_parameters: u64,
    /// Bytes in the checkpoint.
    pub(super) stored: u64,
    /// Bytes when packed.
    pub(super) packed: u64,
}

impl Totals {
    pub(super) fn add(&mut self, module: &PackedModule) {
        self.modules += 1;
        self.parameters = self.parameters.saturating_add(module.parameters);
        self.stored_parameters = self.stored_parameters.saturating_add(module.stored_parameters);
        self.stored = self.stored.saturating_add(module.stored_bytes);
        self.packed = self.packed.saturating_add(module.bytes);
    }

    pub(super) fn of<'a>(entries: impl Iterator<Item = &'a Entry<'a>>) -> Self {
        entries.fold(Totals::default(), |mut totals, entry| {
            totals.add(entry.module);
            totals
        })
    }
}

impl<'a> Model<'a> {
    pub(super) fn new(report: &'a Report) -> Self {
        let formats = Formats::new(report);
        let entry = |module: &'a PackedModule| Entry {
            module,
            format: formats.index(module),
            place: LayerPath::split(&module.path),
        };
        let entries: Vec<Entry<'a>> = report.modules.iter().map(entry).collect();
        let totals = Totals::of(entries.iter());
        let mut containers: Vec<Container<'a>> = Vec::new();
        let mut known: BTreeMap<&str, usize> = BTreeMap::new();
        for (index, entry) in entries.iter().enumerate() {
            let Some(place) = entry.place else { continue };
            let container = *known.entry(place.container).or_insert_with(|| {
                containers.push(Container { name: place.container, layers: BTreeMap::new() });
                containers.len() - 1
            });
            containers[container].layers.entry(place.index).or_default().push(index);
        }
        Model { report, entries, formats, containers, totals }
    }

    /// Lists of layers that have charts.
    pub(super) fn charted(&self) -> impl Iterator<Item = &Container<'a>> {
        self.containers.iter().filter(|container| container.layers.len() <= MOST_LAYERS).take(MOST_CHARTED)
    }

    /// Says how many others there are, if there are.
    pub(super) fn write_uncharted(&self, html: &mut Html) {
        let others = self.containers.len() - self.charted().count();
        if others > 0 {
            html.put(format_args!(
                "<p>{others} lists of layers have no chart here; their modules are in the tables.</p>\n"
            ));
        }
    }

    /// Modules that are in no layer.
    pub(super) fn outside(&self) -> impl Iterator<Item = &Entry<'a>> {
        self.entries.iter().filter(|entry| entry.place.is_none())
    }
}

/// Formats with a color of their own; the smaller ones of more have one together.
const MOST_FORMATS: usize = 32;

/// Columns of the name of a format.
const MOST_COLUMNS: usize = 120;

/// The formats of a model, the one with the most bytes first.
pub(super) struct Formats {
    list: Vec<Format>,
    by_name: BTreeMap<String, usize>,
}

/// A format and how it is colored.
pub(super) struct Format {
    /// As in a spec, but cut where it is very long; `keep (bf16)` says what is kept.
    pub(super) name: String,
    /// All of the name, where that is longer.
    pub(super) full_name: Option<String>,
    pub(super) bytes: u64,
    line: &'static str,
    /// Formats of one color are told apart by a pattern: its number, 0 for none.
    pattern: usize,
}

/// What the page calls the format of a module.
fn format_name(module: &PackedModule) -> String {
    match &module.packed {
        Some(packed) if module.format == "keep" => format!("keep ({packed})"),
        _ => module.format.clone(),
    }
}

/// Lines of a pattern, as the data of a path in a square of 6: hatched, level, crossed, hatched the other way, upright,
/// crossed aslant, dotted.
const PATTERNS: [&str; 7] = [
    "M-1 7L7 -1M-1 1L1 -1M5 7L7 5",
    "M0 3H6",
    "M3 0V6M0 3H6",
    "M-1 -1L7 7M-1 5L1 7M5 -1L7 1",
    "M3 0V6",
    "M0 0L6 6M0 6L6 0",
    "M2 3H4M3 2V4",
];

impl Formats {
    fn new(report: &Report) -> Self {
        let mut bytes: BTreeMap<String, u64> = BTreeMap::new();
        for module in &report.modules {
            let total = bytes.entry(format_name(module)).or_default();
            *total = total.saturating_add(module.bytes);
        }
        let mut formats: Vec<(String, u64)> = bytes.into_iter().collect();
        formats.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let own = if formats.len() > MOST_FORMATS { MOST_FORMATS - 1 } else { formats.len() };
        let by_name = formats.iter().enumerate().map(|(index, (name, _))| (name.clone(), index.min(own))).collect();
        let others = formats.split_off(own);
        if !others.is_empty() {
            let bytes = others.iter().fold(0, |total: u64, (_, bytes)| total.saturating_add(*bytes));
            formats.push((format!("{} other formats", others.len()), bytes));
        }
        let colors = Colors::new(formats.iter().map(|(name, _)| name.as_str()));
        let mut used: BTreeMap<&str, usize> = BTreeMap::new();
        let list = formats.iter().map(|(name, bytes)| {
            let line = colors.of(name).line;
            let next = used.entry(line).or_default();
            let pattern = *next;
            *next += 1;
            let short = cut(name, MOST_COLUMNS);
            let full_name = (short != *name).then(|| name.clone());
            Format { name: short, full_name, bytes: *bytes, line, pattern: pattern.min(PATTERNS.len()) }
        });
        Formats { list: list.collect(), by_name }
    }

    /// Whether there are two that look the same.
    pub(super) fn are_alike(&self) -> bool {
        let mut looks = BTreeSet::new();
        !self.list.iter().all(|format| looks.insert((format.line, format.pattern)))
    }

    fn index(&self, module: &PackedModule) -> usize {
        self.by_name[&format_name(module)]
    }

    pub(super) fn get(&self, index: usize) -> &Format {
        &self.list[index]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Format> {
        self.list.iter()
    }

    /// The classes `f0`, `f1`, … that fill a shape.
    pub(super) fn write_styles(&self, html: &mut Html) {
        for (index, format) in self.list.iter().enumerate() {
            match format.pattern {
                0 => html.put(format_args!(".f{index}{{fill:{}}}\n", format.line)),
                _ => html.put(format_args!(".f{index}{{fill:url(#p{index})}}\n")),
            }
        }
    }

    /// The patterns that these classes refer to.
    pub(super) fn write_patterns(&self, html: &mut Html) {
        html.put(format_args!("<svg class=\"defs\" width=\"0\" height=\"0\" aria-hidden=\"true\"><defs>\n"));
        for (index, format) in self.list.iter().enumerate().filter(|(_, format)| format.pattern > 0) {
            let path = PATTERNS[format.pattern - 1];
            html.put(format_args!(
                "<pattern id=\"p{index}\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\"><rect width=\"6\" height=\"6\" fill=\"{}\"/><path class=\"hatch\" d=\"{path}\"/></pattern>\n",
                format.line
            ));
        }
        html.put(format_args!("</defs></svg>\n"));
    }
}

/// What a module is called within its layer, whatever its numbers: `mlp.experts.*.up_proj`.
pub(super) fn role(path: &str) -> String {
    let name = |segment| if parse_index(segment).is_some() { "*" } else { segment };
    path.split('.').map(name).collect::<Vec<_>>().join(".")
}

/// A number of things: `1.24 billion`.
pub(super) fn count(number: u64) -> String {
    let value = number as f64;
    match number {
        0..10_000 => number.to_string(),
        10_000..1_000_000 => format!("{:.1} thousand", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} million", value / 1e6),
        _ => format!("{:.2} billion", value / 1e9),
    }
}
