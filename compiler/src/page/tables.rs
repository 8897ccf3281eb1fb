//! Tables of the page: what is shared, what was kept, what the compiler warned of, and all modules.

use std::collections::BTreeMap;

use super::html::{Column, Html, Number};
use super::model::{Entry, Model, Totals, count, role};
use super::sqnr::{Measured, range};
use crate::artifact::Report;
use crate::picture::text::Escaped;
use crate::plan::fold;
use crate::units::bytes;

/// Most modules that have a row each; more are folded.
const MOST_ROWS: usize = 200;

/// Most patterns that name the modules of a row.
const MOST_PATTERNS: usize = 4;

/// Who reads whose table, what was found about them, and what it saved.
pub(super) fn ties(html: &mut Html, model: &Model<'_>) {
    html.open("ties", "Tied tables");
    let by_path: BTreeMap<&str, &Entry<'_>> =
        model.entries.iter().map(|entry| (entry.module.path.as_str(), entry)).collect();
    let is_apart = |entry: &Entry<'_>| {
        let module = entry.module;
        module.shares.is_none() && module.packed.is_some() && module.stored_bytes == 0 && module.bytes > 0
    };
    let tied: Vec<&Entry<'_>> =
        model.entries.iter().filter(|entry| entry.module.shares.is_some() || is_apart(entry)).collect();
    if tied.is_empty() {
        html.put(format_args!("<p>No module reads the table of another.</p>\n"));
        html.close();
        return;
    }
    html.open_table(
        "",
        "Modules that are stored as the table of another",
        &[Column::Text("module"), Column::Text("in the checkpoint"), Column::Text("compiled"), Column::Text("bytes")],
    );
    for entry in tied {
        let module = entry.module;
        html.put(format_args!("<tr><th scope=\"row\"><code>{}</code></th>", Escaped(&module.path)));
        match &module.shares {
            Some(path) => {
                let table = by_path.get(path.as_str()).map(|table| table.module);
                let is_stored = table.is_some_and(|table| module.stored_bytes > 0 && module.stored_bytes >= table.stored_bytes);
                let found = if is_stored { "stored, and equal to the table in every value" } else { "not stored: it is the table" };
                html.put(format_args!(
                    "<td>{found}</td><td>reads the table of <code>{}</code></td><td>{} less than with a table of its own</td></tr>\n",
                    Escaped(path),
                    bytes(table.map_or(0, |table| table.bytes))
                ));
            }
            None => html.put(format_args!(
                "<td>not stored: it is the table of another</td><td>has a table of its own in {}</td><td>{} more than with a shared table</td></tr>\n",
                Escaped(&model.formats.get(entry.format).name),
                bytes(module.bytes)
            )),
        }
    }
    html.close_table();
    html.close();
}

/// What holds the values of the checkpoint.
pub(super) fn kept(html: &mut Html, model: &Model<'_>) {
    html.open("kept", "What was kept");
    let is_kept = |entry: &&Entry<'_>| {
        entry.module.packed.is_some() && entry.module.sqnr_db.is_none() && entry.module.shares.is_none()
    };
    let kept: Vec<&Entry<'_>> = model.entries.iter().filter(is_kept).collect();
    if kept.is_empty() {
        html.put(format_args!("<p>Nothing: every weight was rounded.</p>\n"));
        html.close();
        return;
    }
    let totals = Totals::of(kept.iter().copied());
    html.put(format_args!(
        "<p>{} of {} modules hold exactly the values of the checkpoint{}, and take {} of {}: a rule keeps them, no rule is about them, or their format lost nothing.</p>\n",
        totals.modules,
        model.report.modules.len(),
        if model.report.frames.is_identity() { "" } else { ", or what rotations and scales make of them" },
        bytes(totals.packed),
        bytes(model.totals.packed)
    ));
    html.open_table(
        "sortable",
        "Modules that were kept",
        &[
            Column::Text("modules"),
            Column::Text("kind"),
            Column::Text("format"),
            Column::Number("number"),
            Column::Number("compiled"),
        ],
    );
    for group in groups(kept.into_iter()) {
        let totals = group.totals();
        html.put(format_args!("<tr><th scope=\"row\"><code>{}</code></th>", Escaped(&group.pattern())));
        html.put(format_args!(
            "<td>{}</td><td class=\"format\">{}</td><td class=\"n\" data-v=\"{2}\">{2}</td><td class=\"n\" data-v=\"{3}\">{4}</td></tr>\n",
            Escaped(&group.first().module.kind),
            Escaped(&model.formats.get(group.first().format).name),
            totals.modules,
            totals.packed,
            bytes(totals.packed)
        ));
    }
    html.close_table();
    html.close();
}

/// What the compiler warned of.
pub(super) fn warnings(html: &mut Html, report: &Report) {
    html.open("warnings", "Warnings");
    if report.warnings.is_empty() {
        html.put(format_args!("<p>None.</p>\n"));
    } else {
        html.put(format_args!("<ul>\n"));
        for warning in &report.warnings {
            html.put(format_args!("<li>{}</li>\n", Escaped(warning)));
        }
        html.put(format_args!("</ul>\n"));
    }
    html.close();
}

/// Every module; where there are many, those that differ in numbers of their paths only have one row.
pub(super) fn modules(html: &mut Html, model: &Model<'_>) {
    html.open("modules", "All modules");
    let all = model.entries.iter();
    let folded = model.entries.len() > MOST_ROWS;
    let rows: Vec<Group<'_>> = if folded { groups(all) } else { all.map(|entry| Group(vec![entry])).collect() };
    let columns = [
        Column::Text("module"),
        Column::Text("kind"),
        Column::Text("format"),
        Column::Text("shape"),
        Column::Number("parameters"),
        Column::Number("in the checkpoint"),
        Column::Number("compiled"),
        Column::Number("bits per weight"),
        Column::Number("SQNR"),
    ];
    let caption = if folded { "Modules; those that are alike have one row" } else { "Modules" };
    html.open_table("sortable filterable", caption, &columns);
    for row in &rows {
        module_row(html, model, row);
    }
    html.close_table();
    html.close();
}

fn module_row(html: &mut Html, model: &Model<'_>, group: &Group<'_>) {
    let module = group.first().module;
    let totals = group.totals();
    html.put(format_args!("<tr><th scope=\"row\">"));
    members(html, group);
    html.put(format_args!("</th><td>{}</td><td class=\"format\">", Escaped(&module.kind)));
    match &module.shares {
        Some(table) => html.put(format_args!("reads <code>{}</code>", Escaped(table))),
        None => html.put(format_args!("{}", Escaped(&model.formats.get(group.first().format).name))),
    }
    if let Some(input) = &module.input {
        html.put(format_args!("<br>input {}", Escaped(input)));
    }
    let shape: Vec<String> = module.shape.iter().map(u64::to_string).collect();
    html.put(format_args!(
        "</td><td data-v=\"{}\">{}</td><td class=\"n\" data-v=\"{}\">{}</td><td class=\"n\" data-v=\"{}\">{}</td><td class=\"n\" data-v=\"{}\">{}</td>",
        module.parameters,
        shape.join(" × "),
        totals.parameters,
        count(totals.parameters),
        totals.stored,
        bytes(totals.stored),
        totals.packed,
        bytes(totals.packed)
    ));
    if totals.parameters == 0 {
        html.put(format_args!("<td></td>"));
    } else {
        let bits = 8.0 * totals.packed as f64 / totals.parameters as f64;
        html.put(format_args!("<td class=\"n\" data-v=\"{bits:.4}\">{bits:.2}</td>"));
    }
    let rank = group.measured().map(Measured::rank).reduce(f64::min);
    match (group.decibels(), rank) {
        (_, None) => html.put(format_args!("<td></td></tr>\n")),
        (None, Some(rank)) => {
            let text = if rank == f64::INFINITY { "exact" } else { "unknown" };
            html.put(format_args!("<td class=\"n\" data-v=\"{}\">{text}</td></tr>\n", Number(rank)));
        }
        (Some((low, high)), Some(rank)) => {
            let more = if rank == f64::NEG_INFINITY { " or unknown" } else { "" };
            html.put(format_args!(
                "<td class=\"n\" data-v=\"{}\">{}{more}</td></tr>\n",
                Number(rank),
                range(low, high)
            ));
        }
    }
}

/// The name of a module; of several, a pattern, and what each of them lost.
fn members(html: &mut Html, group: &Group<'_>) {
    let entries = &group.0;
    let (pattern, number) = (group.pattern(), entries.len());
    if number == 1 {
        return html.put(format_args!("<code>{}</code>", Escaped(&pattern)));
    }
    if group.measured().all(|measured| measured == Measured::Exact) {
        return html.put(format_args!("<code>{}</code> ×{number}", Escaped(&pattern)));
    }
    html.put(format_args!("<details><summary><code>{}</code> ×{number}</summary><ul>", Escaped(&pattern)));
    for entry in entries {
        let path = Escaped(&entry.module.path);
        match Measured::of_weight(entry) {
            Some(Measured::Decibels(decibels)) => html.put(format_args!("<li>{path} {decibels} dB</li>")),
            Some(Measured::Exact) => html.put(format_args!("<li>{path} exact</li>")),
            Some(Measured::Unknown) => html.put(format_args!("<li>{path} unknown</li>")),
            None => html.put(format_args!("<li>{path}</li>")),
        }
    }
    html.put(format_args!("</ul></details>"));
}

/// Modules that differ in numbers of their paths and in what they lost only; at least one.
struct Group<'a>(Vec<&'a Entry<'a>>);

/// Groups modules, in the order of the first of each.
fn groups<'a>(entries: impl Iterator<Item = &'a Entry<'a>>) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    let mut known: BTreeMap<_, usize> = BTreeMap::new();
    for entry in entries {
        let module = entry.module;
        let sizes = (module.parameters, module.stored_bytes, module.bytes);
        let key =
            (role(&module.path), &module.kind, (entry.format, &module.input), &module.shape, sizes, &module.shares);
        match known.get(&key) {
            Some(&group) => groups[group].0.push(entry),
            None => {
                known.insert(key, groups.len());
                groups.push(Group(vec![entry]));
            }
        }
    }
    groups
}

impl<'a> Group<'a> {
    fn first(&self) -> &'a Entry<'a> {
        self.0[0]
    }

    fn totals(&self) -> Totals {
        Totals::of(self.0.iter().copied())
    }

    /// Of each weight.
    fn measured(&self) -> impl Iterator<Item = Measured> {
        self.0.iter().filter_map(|entry| Measured::of_weight(entry))
    }

    /// The lowest and the highest, where there are some.
    fn decibels(&self) -> Option<(f64, f64)> {
        let all = || self.0.iter().filter_map(|entry| entry.module.sqnr_db).filter(|decibels| !decibels.is_nan());
        all().reduce(f64::min).zip(all().reduce(f64::max))
    }

    /// `model.layers[0..32].mlp.up_proj`
    fn pattern(&self) -> String {
        if let [entry] = self.0[..] {
            return entry.module.path.clone();
        }
        let mut patterns = fold(self.0.iter().map(|entry| (entry.module.path.clone(), ())));
        let others = patterns.split_off(patterns.len().min(MOST_PATTERNS)).len();
        let mut text = patterns.into_iter().map(|folded| folded.path).collect::<Vec<_>>().join(", ");
        if others > 0 {
            text.push_str(", …");
        }
        text
    }
}
