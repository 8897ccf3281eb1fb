//! What a compilation did to a model, as one page of HTML for people: `lathe report`.
//!
//! ```text
//! report.json, lathe.lock ─▶ Report, compiler ─▶ model ─┬─▶ bytes, sqnr, frames, tables ─┐
//! lathe verify --json ─────▶ Verification ──────────────┴─▶ verified ────────────────────┴─▶ page
//! ```
//!
//! The page is a file of its own: no font, script or picture from elsewhere, which its content security policy states.
//! Charts are SVG whose horizontal positions are percentages, so that they fill any width while their text stays as
//! large as it is. A script adds sorting, a filter and tooltips; without it nothing is missing.

mod bytes;
mod chart;
mod check;
mod frames;
mod html;
mod model;
mod sqnr;
mod tables;
mod verified;

use std::cmp::Ordering;

use crate::artifact::{Lock, Report};
use crate::picture::text::Escaped;
use crate::units::bytes as sized;
use crate::verify::{VERIFICATION_VERSION, Verification};
use check::MOST_DECIBELS;
use html::Html;
use model::Model;

const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// Why there is no page.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PageError {
    /// The report states a distance that no two weights have.
    #[error("expected a ratio within ±{MOST_DECIBELS} dB, found {decibels:e} of `{module}`")]
    Report {
        /// Path of the module.
        module: String,
        /// What was found.
        decibels: f64,
    },
    /// The verification states a distance that no two outputs have.
    #[error("expected a ratio within ±{MOST_DECIBELS} dB, found {decibels:e} of `{module}`")]
    Verification {
        /// What it is the distance of: the path of a module, or another part of the verification.
        module: String,
        /// What was found.
        decibels: f64,
    },
    /// The verification states another number that cannot be.
    #[error("expected `{name}` {expected}, found {found:e}")]
    Number {
        /// Its place.
        name: String,
        /// What it can be.
        expected: &'static str,
        /// What it is.
        found: f64,
    },
    /// The verification is in another form than this version reads.
    #[error("expected a verification of version {VERIFICATION_VERSION}, found version {found}")]
    Version {
        /// Its version.
        found: u32,
    },
    /// The verification is of another compiled model.
    #[error("it is about another compiled model: {what}")]
    Another {
        /// What tells them apart.
        what: String,
    },
}

/// The page about a compiled model: its `report`, its `lock`, and, where there is one, what `lathe verify` found.
///
/// # Errors
/// When a number cannot be, or the verification is not about this model; nothing else in `report` is relied on.
pub fn page(report: &Report, lock: &Lock, verification: Option<&Verification>) -> Result<String, PageError> {
    check::report(report)?;
    if let Some(verification) = verification {
        check::verification(verification, report, lock)?;
    }
    let model = Model::new(report);
    let mut html = Html::default();
    let title = format!("{} · {}", report.model, report.spec);
    html.put(format_args!("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"));
    html.put(format_args!("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"));
    html.put(format_args!(
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'\"/>\n"
    ));
    html.put(format_args!("<title>{}</title>\n<style>\n{STYLE}", Escaped(&title)));
    model.formats.write_styles(&mut html);
    html.put(format_args!("</style>\n</head>\n<body>\n"));
    model.formats.write_patterns(&mut html);
    head(&mut html, &model, &lock.compiler);
    html.put(format_args!("<main>\n"));
    bytes::section(&mut html, &model);
    sqnr::section(&mut html, &model);
    frames::section(&mut html, &model);
    verified::section(&mut html, &model, verification);
    tables::ties(&mut html, &model);
    tables::kept(&mut html, &model);
    tables::warnings(&mut html, report);
    tables::modules(&mut html, &model);
    html.put(format_args!("</main>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n"));
    Ok(html.into_text())
}

/// The title and the figures of the whole model.
fn head(html: &mut Html, model: &Model<'_>, compiler: &str) {
    let report = model.report;
    html.put(format_args!(
        "<header>\n<h1>{} <span>with spec</span> {}</h1>\n<p>compiled by {}</p>\n<dl class=\"figures\">\n",
        Escaped(&report.model),
        Escaped(&report.spec),
        Escaped(compiler)
    ));
    let totals = model.totals;
    let mut figure = |name: &str, value: &str, more: &str| {
        html.put(format_args!("<div><dt>{name}</dt><dd>{value}</dd><dd>{more}</dd></div>\n"));
    };
    // A table that is stored twice, there or here, is one.
    let parameters = totals.parameters.min(totals.stored_parameters);
    figure("parameters", &model::count(parameters), &format!("in {} modules", report.modules.len()));
    figure("in the checkpoint", &sized(totals.stored), &bits(totals.stored, totals.stored_parameters));
    figure("compiled", &sized(totals.packed), &bits(totals.packed, parameters));
    let (stored, packed) = (totals.stored as f64, totals.packed as f64);
    if stored > 0.0 && packed > 0.0 {
        let ratio = match totals.stored.cmp(&totals.packed) {
            Ordering::Less => format!("{:.2}× larger", packed / stored),
            Ordering::Equal => "as large".to_owned(),
            Ordering::Greater => format!("{:.2}× smaller", stored / packed),
        };
        figure("ratio", &ratio, &format!("{:.1} %", 100.0 * packed / stored));
    }
    html.put(format_args!("</dl>\n</header>\n"));
}

/// `4.25 bits per weight`
fn bits(bytes: u64, parameters: u64) -> String {
    if parameters == 0 {
        return String::new();
    }
    format!("{:.2} bits per weight", 8.0 * bytes as f64 / parameters as f64)
}
