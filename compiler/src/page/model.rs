//! The modules of a report, arranged as the page shows them: by format, by layer, by role.

use std::collections::BTreeMap;

use lathe_grammar::pattern::parse_index;

use super::html::Html;
use crate::artifact::{PackedModule, Report};
use crate::picture::color::Colors;
use crate::picture::fold::LayerPath;

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
    /// Bytes in the checkpoint.
    pub(super) stored: u64,
    /// Bytes when packed.
    pub(super) packed: u64,
}

impl Totals {
    pub(super) fn add(&mut self, module: &PackedModule) {
        self.modules += 1;
        self.parameters = self.parameters.saturating_add(module.parameters);
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

    /// Modules that are in no layer.
    pub(super) fn outside(&self) -> impl Iterator<Item = &Entry<'a>> {
        self.entries.iter().filter(|entry| entry.place.is_none())
    }
}

/// The formats of a model, the one with the most bytes first.
pub(super) struct Formats {
    list: Vec<Format>,
    by_name: BTreeMap<String, usize>,
}

/// A format and how it is colored.
pub(super) struct Format {
    /// As in a spec; `keep (bf16)` says what is kept.
    pub(super) name: String,
    pub(super) bytes: u64,
    line: &'static str,
    /// Formats of one family have one color and are told apart by a pattern: its number, 0 for none.
    pattern: usize,
}

/// What the page calls the format of a module.
fn format_name(module: &PackedModule) -> String {
    match &module.packed {
        Some(packed) if module.format == "keep" => format!("keep ({packed})"),
        _ => module.format.clone(),
    }
}

/// Lines of a pattern, as the data of a path in a square of 6.
const PATTERNS: [&str; 3] = ["M-1 7L7 -1M-1 1L1 -1M5 7L7 5", "M0 3H6", "M3 0V6M0 3H6"];

impl Formats {
    fn new(report: &Report) -> Self {
        let mut bytes: BTreeMap<String, u64> = BTreeMap::new();
        for module in &report.modules {
            let total = bytes.entry(format_name(module)).or_default();
            *total = total.saturating_add(module.bytes);
        }
        let mut formats: Vec<(String, u64)> = bytes.into_iter().collect();
        formats.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let colors = Colors::new(formats.iter().map(|(name, _)| name.as_str()));
        let mut used: BTreeMap<&str, usize> = BTreeMap::new();
        let list = formats.iter().map(|(name, bytes)| {
            let line = colors.of(name).line;
            let next = used.entry(line).or_default();
            let pattern = *next;
            *next += 1;
            Format { name: name.clone(), bytes: *bytes, line, pattern: pattern.min(PATTERNS.len()) }
        });
        let list = list.collect();
        let by_name = formats.iter().enumerate().map(|(index, (name, _))| (name.clone(), index)).collect();
        Formats { list, by_name }
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
