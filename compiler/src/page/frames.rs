//! In which frames values are held: rotations and scales, what they leave for run time, and whether the model was proven
//! equal.

use super::html::{Column, Html};
use super::model::Model;
use crate::picture::text::Escaped;
use crate::plan::ReportedFrames;
use crate::proof::{Proof, Proved};

pub(super) fn section(html: &mut Html, model: &Model<'_>) {
    let report = model.report;
    html.open("frames", "Rotations and scales");
    if report.frames.is_identity() {
        html.put(format_args!("<p>None: all values are held as the model states them.</p>\n"));
    } else {
        frames(html, &report.frames);
    }
    match &report.proof {
        None => {}
        Some(Proof::Skipped) => html.put(format_args!(
            "<p>Not proven: <code>--no-prove</code> left out the check that the model still computes what its checkpoint computes.</p>\n"
        )),
        Some(Proof::Proved(proved)) => proof(html, proved),
    }
    html.close();
}

fn frames(html: &mut Html, frames: &ReportedFrames) {
    let count = frames.online.iter().fold(0_u64, |sum, online| sum.saturating_add(online.count));
    html.put(format_args!(
        "<p>{} results are held in a frame of their own. {} parameters take it up, and {count} operations run for each token.</p>\n",
        frames.edges, frames.fused
    ));
    let columns = [Column::Text("frame"), Column::Text("by"), Column::Number("width"), Column::Text("built as")];
    html.open_table("", "Rotations and scales", &columns);
    for basis in &frames.folded_bases() {
        html.put(format_args!(
            "<tr><th scope=\"row\">{}</th><td><code>{}</code></td><td class=\"n\">{}</td><td>{}</td></tr>\n",
            Escaped(&basis.id),
            Escaped(&basis.by),
            basis.width,
            Escaped(basis.construction.as_deref().unwrap_or_default())
        ));
    }
    html.close_table();
    if frames.online.is_empty() {
        return;
    }
    let columns = [
        Column::Text("behind"),
        Column::Number("times"),
        Column::Text("does"),
        Column::Text("site"),
        Column::Number("blocks"),
        Column::Number("width"),
        Column::Number("operations a token, each"),
    ];
    html.open_table("", "Operations at run time", &columns);
    for online in &frames.online {
        html.put(format_args!(
            "<tr><th scope=\"row\"><code>{}</code></th><td class=\"n\">{}</td><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>\n",
            Escaped(&online.path),
            online.count,
            Escaped(&online.operation),
            Escaped(&online.site),
            online.blocks,
            online.width,
            online.cost
        ));
    }
    html.close_table();
}

fn proof(html: &mut Html, proved: &Proved) {
    html.put(format_args!(
        "<p>Proven before weights were encoded: {}, {} of them of text. Of {} steps that both models have, the result of <code>{}</code> differs most where there are weights, by {:.1e} of the root mean square of its row.</p>\n",
        proved.summary(),
        proved.text_tokens,
        proved.steps,
        Escaped(&proved.worst),
        proved.worst_error
    ));
}
