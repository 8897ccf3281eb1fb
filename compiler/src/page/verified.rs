//! What `lathe verify` found: predictions, and the outputs of modules.

use std::collections::BTreeMap;

use super::html::{Column, Html, Number};
use super::model::{Entry, Model};
use super::sqnr::{Measured, plot};
use crate::picture::text::Escaped;
use crate::verify::{Agreement, Module, Side, State, Verification};

/// Modules with a place in the table of those that do most harm.
const WORST: usize = 20;

pub(super) fn section(html: &mut Html, model: &Model<'_>, verification: Option<&Verification>) {
    html.open("verified", "What the model lost");
    match verification {
        Some(verification) => {
            figures(html, verification);
            outputs(html, model, verification);
            groups(html, verification);
            worst(html, verification);
            not_comparable(html, verification);
        }
        None => html.put(format_args!(
            "<p>Not measured. This runs the model beside its checkpoint and puts the result on this page:</p>\n<pre>lathe verify OUT CHECKPOINT --json &gt; verify.json\nlathe report OUT --verify verify.json -o report.html</pre>\n"
        )),
    }
    html.close();
}

fn figures(html: &mut Html, verification: &Verification) {
    let (predictions, text) = (&verification.predictions, &verification.text);
    html.put(format_args!(
        "<p>Both models have read {} tokens (text: <code>{}</code>), in windows of {}.</p>\n<dl class=\"figures\">\n",
        text.tokens,
        Escaped(&text.source),
        text.window
    ));
    let number = |value: Option<f64>| value.map_or_else(|| "not finite".to_owned(), figure);
    let mut put = |name: &str, value: &str, more: &str| {
        html.put(format_args!("<div><dt>{name}</dt><dd>{value}</dd><dd>{more}</dd></div>\n"));
    };
    put(
        "perplexity",
        &number(predictions.perplexity_compiled),
        &format!(
            "{} of the checkpoint, ratio {}",
            number(predictions.perplexity_original),
            number(predictions.perplexity_ratio)
        ),
    );
    put(
        "KL divergence, mean",
        &format!("{} nats", number(predictions.kl_mean)),
        &format!("at most {} nats", number(predictions.kl_max)),
    );
    put("same likeliest token", &format!("{:.2} %", 100.0 * predictions.same_choice), "of all tokens");
    let range = predictions.logits_range.map(|range| format!(", their range is {}", figure(range))).unwrap_or_default();
    let error = predictions.logits.max_error.map(|error| format!("off by at most {}{range}", figure(error)));
    put("logits", &agreement(predictions.logits), &error.unwrap_or_default());
    html.put(format_args!("</dl>\n"));
}

/// A number to four digits.
fn figure(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if (1e-3..1e6).contains(&size) => {
            let digits = if size >= 100.0 { 2 } else { 4 };
            format!("{value:.digits$}")
        }
        _ => format!("{value:.2e}"),
    }
}

/// `31.20 dB`, `equal`, …
fn agreement(agreement: Agreement) -> String {
    match (agreement.state, agreement.sqnr_db) {
        (State::Equal, _) => "equal".to_owned(),
        (State::NotFinite, _) => "not finite".to_owned(),
        (State::Differs, Some(decibels)) => format!("{decibels:.2} dB"),
        (State::Differs, None) => "other than zero".to_owned(),
    }
}

fn measured(agreement: Agreement) -> Measured {
    match agreement.state {
        State::Equal => Measured::Exact,
        State::Differs => agreement.sqnr_db.map_or(Measured::Unknown, Measured::Decibels),
        State::NotFinite => Measured::Unknown,
    }
}

/// Outputs by layer: alone, and in the model.
fn outputs(html: &mut Html, model: &Model<'_>, verification: &Verification) {
    let modules: BTreeMap<&str, &Module> =
        verification.modules.iter().map(|module| (module.path.as_str(), module)).collect();
    let output = |entry: &Entry<'_>| modules.get(entry.module.path.as_str())?.output;
    for container in model.charted() {
        let alone = |entry: &Entry<'_>| Some(measured(output(entry)?.alone));
        plot(html, model, container, "SQNR of the output alone, on inputs of the checkpoint,", &alone);
        let in_model = |entry: &Entry<'_>| Some(measured(output(entry)?.in_model?));
        plot(html, model, container, "SQNR of the output in the model", &in_model);
    }
}

fn groups(html: &mut Html, verification: &Verification) {
    let columns = [
        Column::Text("kind"),
        Column::Text("format"),
        Column::Number("modules"),
        Column::Number("equal"),
        Column::Number("median"),
        Column::Number("lowest"),
        Column::Text("which"),
    ];
    html.open_table("", "Outputs alone, by kind and format", &columns);
    for group in &verification.groups {
        let decibels = |value: Option<f64>| value.map(|value| format!("{value:.2} dB")).unwrap_or_default();
        html.put(format_args!(
            "<tr><th scope=\"row\">{}</th><td class=\"format\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td><code>{}</code></td></tr>\n",
            Escaped(&group.kind),
            Escaped(&group.format),
            group.modules,
            group.equal,
            decibels(group.median_db),
            decibels(group.worst_db),
            Escaped(group.worst.as_deref().unwrap_or_default())
        ));
    }
    html.close_table();
}

/// The modules that do most harm, in the order of the verification.
fn worst(html: &mut Html, verification: &Verification) {
    let harmful = |module: &&Module| {
        let output = module.output;
        output.is_some_and(|output| {
            output.alone.state != State::Equal || output.in_model.is_some_and(|found| found.state != State::Equal)
        })
    };
    let columns = [
        Column::Text("module"),
        Column::Text("format"),
        Column::Number("weight"),
        Column::Number("output alone"),
        Column::Number("output in the model"),
        Column::Number("largest error alone"),
    ];
    html.open_table("sortable", "Modules that do most harm", &columns);
    for module in verification.modules.iter().filter(harmful).take(WORST) {
        let weight = module.weight.map(agreement).unwrap_or_default();
        html.put(format_args!(
            "<tr><th scope=\"row\"><code>{}</code></th><td class=\"format\">{}</td><td class=\"n\">{weight}</td>",
            Escaped(&module.path),
            Escaped(&module.format)
        ));
        for found in [module.output.map(|output| output.alone), module.output.and_then(|output| output.in_model)] {
            html.put(format_args!(
                "<td class=\"n\" data-v=\"{}\">{}</td>",
                Number(found.map_or(f64::INFINITY, |found| measured(found).rank())),
                found.map(agreement).unwrap_or_default()
            ));
        }
        let error = module.output.and_then(|output| output.alone.max_error).map(figure).unwrap_or_default();
        html.put(format_args!("<td class=\"n\">{error}</td></tr>\n"));
    }
    html.close_table();
    let unseen = verification.modules.iter().filter(|module| module.output.is_none()).count();
    if unseen > 0 {
        html.put(format_args!(
            "<p>The outputs of {unseen} modules were not compared: experts that no token of the text has chosen, and what one of the models has alone.</p>\n"
        ));
    }
}

fn not_comparable(html: &mut Html, verification: &Verification) {
    if verification.not_comparable.is_empty() {
        return;
    }
    html.open_table(
        "",
        "Steps that only one of the models has",
        &[Column::Text("step"), Column::Text("kernel"), Column::Text("model")],
    );
    for step in &verification.not_comparable {
        let side = match step.only_in {
            Side::Original => "checkpoint",
            Side::Compiled => "compiled",
        };
        html.put(format_args!(
            "<tr><th scope=\"row\"><code>{}</code></th><td>{}</td><td>{side}</td></tr>\n",
            Escaped(&step.label),
            Escaped(&step.kernel)
        ));
    }
    html.close_table();
}
