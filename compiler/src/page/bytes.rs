//! Where the bytes are: by part of the model, by layer, by kind and format.

use std::collections::BTreeMap;

use super::chart::{Percent, Pixels, Scale, byte_tick, layer_ticks};
use super::html::{Column, Html};
use super::model::{Container, Entry, Model, Totals, count};
use crate::picture::text::Escaped;
use crate::units::bytes;

/// Parts with a bar of their own; what is smaller has one bar together.
const MOST_PARTS: usize = 20;

/// Height of the chart of layers, in pixels.
const HEIGHT: f64 = 200.0;

pub(super) fn section(html: &mut Html, model: &Model<'_>) {
    html.open("bytes", "Bytes by module and format");
    legend(html, model);
    parts(html, model);
    for container in model.charted().filter(|container| container.layers.len() > 1) {
        layers(html, model, container);
    }
    model.write_uncharted(html);
    kinds(html, model);
    html.close();
}

fn legend(html: &mut Html, model: &Model<'_>) {
    html.put(format_args!("<ul class=\"legend\">\n"));
    for (index, format) in model.formats.iter().enumerate() {
        match &format.full_name {
            Some(name) => html.put(format_args!("<li title=\"{}\">", Escaped(name))),
            None => html.put(format_args!("<li>")),
        }
        html.put(format_args!(
            "<svg class=\"swatch\" width=\"14\" height=\"14\" aria-hidden=\"true\"><rect class=\"f{index}\" width=\"14\" height=\"14\"/></svg> {} <b>{}</b></li>\n",
            Escaped(&format.name),
            bytes(format.bytes)
        ));
    }
    html.put(format_args!(
        "<li><svg class=\"swatch\" width=\"14\" height=\"14\" aria-hidden=\"true\"><rect class=\"stored\" y=\"4\" width=\"14\" height=\"5\"/></svg> in the checkpoint <b>{}</b></li>\n</ul>\n",
        bytes(model.totals.stored)
    ));
    if model.formats.are_alike() {
        html.put(format_args!(
            "<p>Some formats look the same here; tooltips and tables tell which one is meant.</p>\n"
        ));
    }
}

/// A part of the model: a module outside of layers, all layers of a list, or what is left.
struct Part<'a> {
    name: &'a str,
    note: String,
    entries: Vec<&'a Entry<'a>>,
    totals: Totals,
}

impl<'a> Part<'a> {
    fn new(name: &'a str, note: String, entries: Vec<&'a Entry<'a>>) -> Self {
        let totals = Totals::of(entries.iter().copied());
        Part { name, note, entries, totals }
    }
}

/// The parts in the order of the model.
fn parts_of<'a>(model: &'a Model<'a>) -> Vec<Part<'a>> {
    let mut parts: Vec<(usize, Part<'a>)> = Vec::new();
    for (index, entry) in model.entries.iter().enumerate().filter(|(_, entry)| entry.place.is_none()) {
        let module = entry.module;
        let note = match &module.shares {
            Some(table) => format!("{}, reads the table of {table}", module.kind),
            None => module.kind.clone(),
        };
        parts.push((index, Part::new(&module.path, note, vec![entry])));
    }
    for container in &model.containers {
        let indices: Vec<usize> = container.layers.values().flatten().copied().collect();
        let first = indices.iter().copied().min().unwrap_or_default();
        let entries = indices.into_iter().map(|index| &model.entries[index]).collect();
        let layers = container.layers.len();
        let note = if layers == 1 { "1 layer".to_owned() } else { format!("{layers} layers") };
        parts.push((first, Part::new(container.name, note, entries)));
    }
    if parts.len() > MOST_PARTS {
        parts.sort_by_key(|(index, part)| (std::cmp::Reverse(part.totals.stored.max(part.totals.packed)), *index));
        let others = parts.split_off(MOST_PARTS - 1);
        let note = format!("{} smaller parts", others.len());
        let entries = others.into_iter().flat_map(|(_, part)| part.entries).collect();
        parts.push((usize::MAX, Part::new("others", note, entries)));
    }
    parts.sort_by_key(|(index, _)| *index);
    parts.into_iter().map(|(_, part)| part).collect()
}

/// A bar for each part, and one for the whole model: stored above, packed below.
fn parts(html: &mut Html, model: &Model<'_>) {
    let parts = parts_of(model);
    let widest = parts.iter().map(|part| part.totals.stored.max(part.totals.packed)).max().unwrap_or_default();
    html.put(format_args!(
        "<figure>\n<figcaption>Parts of the model, in the checkpoint and compiled; the whole model has a scale of its own</figcaption>\n"
    ));
    let whole = Part::new("whole model", String::new(), model.entries.iter().collect());
    bar(html, model, &whole, whole.totals.stored.max(whole.totals.packed));
    for part in &parts {
        bar(html, model, part, widest);
    }
    html.put(format_args!("</figure>\n"));
}

fn bar(html: &mut Html, model: &Model<'_>, part: &Part<'_>, widest: u64) {
    let Totals { stored, packed, .. } = part.totals;
    let share = |size: u64| size as f64 / widest.max(1) as f64;
    html.put(format_args!(
        "<div class=\"part\"><div class=\"name\"><code>{}</code> {}</div>",
        Escaped(part.name),
        Escaped(&part.note)
    ));
    if (stored, packed) == (0, 0) {
        return html.put(format_args!("<div class=\"sizes\">nothing of its own</div></div>\n"));
    }
    html.put(format_args!("<div class=\"sizes\">{} → {}</div>\n", bytes(stored), bytes(packed)));
    html.put(format_args!(
        "<svg class=\"bar\" width=\"100%\" height=\"24\" role=\"img\"><title>{}: {} in the checkpoint, {} compiled</title>\n<rect class=\"stored\" x=\"0\" y=\"0\" width=\"{}\" height=\"5\"/>\n",
        Escaped(part.name),
        bytes(stored),
        bytes(packed),
        Percent(share(stored))
    ));
    let mut before = 0;
    for (format, totals) in by_format(part.entries.iter().copied()) {
        if totals.packed == 0 {
            continue;
        }
        html.put(format_args!(
            "<rect class=\"segment f{format}\" x=\"{}\" y=\"7\" width=\"{}\" height=\"16\"><title>{}: {} in {}</title></rect>\n",
            Percent(share(before)),
            Percent(share(totals.packed)),
            Escaped(part.name),
            bytes(totals.packed),
            Escaped(&model.formats.get(format).name)
        ));
        before = before.saturating_add(totals.packed);
    }
    html.put(format_args!("</svg></div>\n"));
}

/// Sizes of each format, in the order of the formats.
fn by_format<'a>(entries: impl Iterator<Item = &'a Entry<'a>>) -> BTreeMap<usize, Totals> {
    let mut formats: BTreeMap<usize, Totals> = BTreeMap::new();
    for entry in entries {
        formats.entry(entry.format).or_default().add(entry.module);
    }
    formats
}

/// A column for each layer.
fn layers(html: &mut Html, model: &Model<'_>, container: &Container<'_>) {
    let name = Escaped(container.name);
    let indices: Vec<u64> = container.layers.keys().copied().collect();
    let layers: Vec<(Totals, BTreeMap<usize, Totals>)> = container
        .layers
        .values()
        .map(|modules| {
            let entries = || modules.iter().map(|&index| &model.entries[index]);
            (Totals::of(entries()), by_format(entries()))
        })
        .collect();
    let highest = layers.iter().map(|(totals, _)| totals.stored.max(totals.packed)).max().unwrap_or_default();
    let scale = Scale::new(0.0, highest as f64, 4);
    let count = indices.len();
    // Columns of many layers touch: a gap would be thinner than a pixel.
    let (gap, dense) = if count > 60 { (0.0, " dense") } else { (0.12, "") };
    html.put(format_args!(
        "<figure>\n<figcaption>Bytes of each layer; a line shows what it takes in the checkpoint</figcaption>\n<div class=\"plot\"><svg class=\"chart columns{dense}\" width=\"100%\" height=\"{}\" role=\"img\"><title>Bytes of each layer of {name}</title><desc>A column for each of {count} layers, stacked by format. The exact numbers are in the table of modules.</desc>\n",
        HEIGHT + 28.0
    ));
    scale.draw(html, 6.0, HEIGHT, |tick| byte_tick(tick, scale.high));
    layer_ticks(html, &indices, HEIGHT + 6.0);
    let height = |size: u64| HEIGHT * scale.place(size as f64);
    let bottom = HEIGHT + 6.0;
    for (at, (totals, formats)) in layers.iter().enumerate() {
        let x = (at as f64 + gap) / count as f64;
        let width = (1.0 - 2.0 * gap) / count as f64;
        let mut before = 0;
        for (&format, part) in formats.iter().filter(|(_, part)| part.packed > 0) {
            let (from, to) = (height(before), height(before.saturating_add(part.packed)));
            html.put(format_args!(
                "<rect class=\"segment f{format}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"><title>{name}.{}: {} in {}; all of the layer {}, in the checkpoint {}</title></rect>\n",
                Percent(x),
                Pixels(bottom - to),
                Percent(width),
                Pixels(to - from),
                indices[at],
                bytes(part.packed),
                Escaped(&model.formats.get(format).name),
                bytes(totals.packed),
                bytes(totals.stored)
            ));
            before = before.saturating_add(part.packed);
        }
        html.put(format_args!(
            "<line class=\"before\" x1=\"{}\" x2=\"{}\" y1=\"{2}\" y2=\"{2}\"/>\n",
            Percent(at as f64 / count as f64),
            Percent((at as f64 + 1.0) / count as f64),
            Pixels(bottom - height(totals.stored))
        ));
    }
    html.put(format_args!("</svg><p class=\"axis\">layer of <code>{name}</code></p></div>\n</figure>\n"));
}

/// A row for each kind and format, with a bar.
fn kinds(html: &mut Html, model: &Model<'_>) {
    let mut rows: BTreeMap<(&str, usize), Totals> = BTreeMap::new();
    for entry in &model.entries {
        rows.entry((&entry.module.kind, entry.format)).or_default().add(entry.module);
    }
    let mut rows: Vec<_> = rows.into_iter().collect();
    rows.sort_by_key(|(key, totals)| (std::cmp::Reverse(totals.packed), *key));
    let widest = rows.iter().map(|(_, totals)| totals.packed).max().unwrap_or_default();
    let columns = [
        Column::Text("kind"),
        Column::Text("format"),
        Column::Number("modules"),
        Column::Number("parameters"),
        Column::Number("in the checkpoint"),
        Column::Number("compiled"),
        Column::Number("bits per weight"),
        Column::Text("share"),
    ];
    html.open_table("sortable", "Bytes by kind and format", &columns);
    for ((kind, format), totals) in rows {
        let share = totals.packed as f64 / model.totals.packed.max(1) as f64;
        let bits = 8.0 * totals.packed as f64 / totals.parameters.max(1) as f64;
        html.put(format_args!(
            "<tr><th scope=\"row\">{}</th><td class=\"format\">{}</td><td class=\"n\" data-v=\"{2}\">{2}</td><td class=\"n\" data-v=\"{3}\">{4}</td><td class=\"n\" data-v=\"{5}\">{6}</td><td class=\"n\" data-v=\"{7}\">{8}</td>",
            Escaped(kind),
            Escaped(&model.formats.get(format).name),
            totals.modules,
            totals.parameters,
            count(totals.parameters),
            totals.stored,
            bytes(totals.stored),
            totals.packed,
            bytes(totals.packed)
        ));
        let bits = if totals.parameters == 0 { String::new() } else { format!("{bits:.2}") };
        html.put(format_args!(
            "<td class=\"n\" data-v=\"{bits}\">{bits}</td><td data-v=\"{share:.6}\"><svg class=\"share\" width=\"60\" height=\"12\" aria-hidden=\"true\"><rect class=\"f{format}\" width=\"{}\" height=\"12\"/></svg> {:.1} %</td></tr>\n",
            Percent(totals.packed as f64 / widest.max(1) as f64),
            100.0 * share
        ));
    }
    html.close_table();
}
