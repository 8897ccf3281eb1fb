//! What a compilation did to a model, as one page of HTML for people: `lathe report`.
//!
//! ```text
//! report.json, lathe.lock ─▶ Report, compiler ─▶ model ─┬─▶ bytes, sqnr, tables ─┐
//! lathe verify --json ─────▶ Verification ──────────────┴─▶ verified ────────────┴─▶ page
//! ```
//!
//! The page is a file of its own: no font, script or picture from elsewhere, which its content security policy states.
//! Charts are SVG whose horizontal positions are percentages, so that they fill any width while their text stays as
//! large as it is. A script adds sorting, a filter and tooltips; without it nothing is missing.

mod bytes;
mod chart;
mod html;
mod model;
mod sqnr;
mod tables;
mod verified;

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::artifact::Report;
use crate::picture::text::Escaped;
use crate::units::bytes as sized;
use crate::verify::{self, VERIFICATION_VERSION, Verification};
use html::Html;
use model::Model;

const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// Ratios of energies that any float can have are within this many decibels of 1.
const MOST_DECIBELS: f64 = 10_000.0;

/// Why there is no page.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PageError {
    /// The report states a distance that no two weights have.
    #[error("expected at most {MOST_DECIBELS} dB, found {decibels:e} of `{module}`")]
    Report {
        /// Path of the module.
        module: String,
        /// What was found.
        decibels: f64,
    },
    /// The verification states a distance that no two outputs have.
    #[error("expected at most {MOST_DECIBELS} dB, found {decibels:e} of `{module}`")]
    Verification {
        /// Path of the module.
        module: String,
        /// What was found.
        decibels: f64,
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

/// The page about a compiled model: its `report`, the name and version of the `compiler` that made it, and, where there
/// is one, what `lathe verify` found.
///
/// # Errors
/// When a number cannot be, or the verification is not about this model; nothing else in `report` is relied on.
pub fn page(report: &Report, compiler: &str, verification: Option<&Verification>) -> Result<String, PageError> {
    let measured = report.modules.iter().filter_map(|module| Some((&module.path, module.sqnr_db?)));
    if let Some((module, decibels)) = impossible(measured) {
        return Err(PageError::Report { module, decibels });
    }
    if let Some(verification) = verification {
        check_verification(verification, report)?;
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
    head(&mut html, &model, compiler);
    html.put(format_args!("<main>\n"));
    bytes::section(&mut html, &model);
    sqnr::section(&mut html, &model);
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
    figure("parameters", &model::count(totals.parameters), &format!("in {} modules", report.modules.len()));
    figure("in the checkpoint", &sized(totals.stored), &bits(totals.stored, totals.parameters));
    figure("compiled", &sized(totals.packed), &bits(totals.packed, totals.parameters));
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

/// The first that no two lists of floats have.
fn impossible<'a>(mut measured: impl Iterator<Item = (&'a String, f64)>) -> Option<(String, f64)> {
    let (module, decibels) = measured.find(|(_, decibels)| decibels.is_nan() || decibels.abs() > MOST_DECIBELS)?;
    Some((module.clone(), decibels))
}

/// Whether a verification can be read, and is of the model of the report.
fn check_verification(verification: &Verification, report: &Report) -> Result<(), PageError> {
    if verification.version != VERIFICATION_VERSION {
        return Err(PageError::Version { found: verification.version });
    }
    let another = |what: String| Err(PageError::Another { what });
    if verification.model != report.model {
        return another(format!("it verifies `{}`, and this is `{}`", verification.model, report.model));
    }
    let packed: BTreeMap<&str, &str> =
        report.modules.iter().filter_map(|module| Some((module.path.as_str(), module.packed.as_deref()?))).collect();
    for module in &verification.modules {
        let (path, format) = (&module.path, &module.format);
        match packed.get(path.as_str()) {
            None => return another(format!("this one has no weight of `{path}`")),
            Some(packed) if packed != format => {
                return another(format!("it has `{path}` in {format}, and this one in {packed}"));
            }
            Some(_) => {}
        }
    }
    let agreements = |module: &verify::Module| {
        let (alone, in_model) = module.output.map_or((None, None), |output| (Some(output.alone), output.in_model));
        [module.weight, module.others, alone, in_model]
    };
    let measured = verification.modules.iter().flat_map(|module| {
        let decibels = agreements(module).into_iter().flatten().filter_map(|agreement| agreement.sqnr_db);
        decibels.map(|decibels| (&module.path, decibels))
    });
    match impossible(measured) {
        Some((module, decibels)) => Err(PageError::Verification { module, decibels }),
        None => Ok(()),
    }
}
