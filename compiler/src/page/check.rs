//! Whether what was read can be shown: numbers that can be, a verification of this very compilation.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::PageError;
use crate::artifact::{Lock, Report};
use crate::verify::{Agreement, Module, VERIFICATION_VERSION, Verification};

/// Ratios of energies that any float can have are within this many decibels of 1.
pub(super) const MOST_DECIBELS: f64 = 10_000.0;

/// Distances of weights can be; one that is not known is NaN.
pub(super) fn report(report: &Report) -> Result<(), PageError> {
    let measured = report.modules.iter().filter_map(|module| Some((module.path.as_str(), module.sqnr_db?)));
    match impossible(measured) {
        Some((module, decibels)) => Err(PageError::Report { module, decibels }),
        None => Ok(()),
    }
}

/// A verification is in the form of this version, of the compilation of the report and lock, and its numbers can be.
pub(super) fn verification(verification: &Verification, report: &Report, lock: &Lock) -> Result<(), PageError> {
    if verification.version != VERIFICATION_VERSION {
        return Err(PageError::Version { found: verification.version });
    }
    same_compilation(verification, report, lock)?;
    predictions(verification)?;
    let measured = verification.modules.iter().flat_map(|module| {
        let decibels = agreements(module).filter_map(|agreement| agreement.sqnr_db);
        decibels.map(|decibels| (module.path.as_str(), decibels))
    });
    let grouped = verification.groups.iter().flat_map(|group| {
        let decibels = [group.median_db, group.worst_db].into_iter().flatten();
        decibels.map(|decibels| (group.worst.as_deref().unwrap_or(&group.kind), decibels))
    });
    let logits = verification.predictions.logits.sqnr_db.map(|decibels| ("predictions.logits", decibels));
    match impossible(measured.chain(grouped).chain(logits)) {
        Some((module, decibels)) => Err(PageError::Verification { module, decibels }),
        None => Ok(()),
    }
}

fn same_compilation(verification: &Verification, report: &Report, lock: &Lock) -> Result<(), PageError> {
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
    if verification.plan_blake3 != lock.plan_blake3 {
        let (verified, this) = (short(&verification.plan_blake3), short(&lock.plan_blake3));
        return another(format!("it verifies the plan {verified}, and this one was compiled by the plan {this}"));
    }
    Ok(())
}

/// Enough of a digest to tell it from others.
fn short(digest: &str) -> String {
    digest.chars().take(12).collect()
}

fn agreements(module: &Module) -> impl Iterator<Item = Agreement> {
    let (alone, in_model) = module.output.map_or((None, None), |output| (Some(output.alone), output.in_model));
    [module.weight, module.others, alone, in_model].into_iter().flatten()
}

const AT_LEAST_ZERO: (RangeInclusive<f64>, &str) = (0.0..=f64::MAX, "of at least 0");
const AT_LEAST_ONE: (RangeInclusive<f64>, &str) = (1.0..=f64::MAX, "of at least 1");
const ABOVE_ZERO: (RangeInclusive<f64>, &str) = (f64::from_bits(1)..=f64::MAX, "above 0");
const SHARE: (RangeInclusive<f64>, &str) = (0.0..=1.0, "from 0 to 1");

/// Numbers other than ratios are where their definitions have them.
fn predictions(verification: &Verification) -> Result<(), PageError> {
    let (predictions, text) = (&verification.predictions, &verification.text);
    let numbers = [
        ("text.tokens", Some(text.tokens as f64), AT_LEAST_ONE),
        ("text.window", Some(text.window as f64), AT_LEAST_ONE),
        ("predictions.kl_mean", predictions.kl_mean, AT_LEAST_ZERO),
        ("predictions.kl_max", predictions.kl_max, AT_LEAST_ZERO),
        ("predictions.same_choice", Some(predictions.same_choice), SHARE),
        ("predictions.perplexity_original", predictions.perplexity_original, ABOVE_ZERO),
        ("predictions.perplexity_compiled", predictions.perplexity_compiled, ABOVE_ZERO),
        ("predictions.perplexity_ratio", predictions.perplexity_ratio, ABOVE_ZERO),
        ("predictions.logits_range", predictions.logits_range, AT_LEAST_ZERO),
        ("predictions.logits.max_error", predictions.logits.max_error, AT_LEAST_ZERO),
    ];
    let numbers = numbers.into_iter().map(|(name, number, bounds)| (name.to_owned(), number, bounds));
    let errors = verification.modules.iter().flat_map(|module| {
        let errors = agreements(module).map(|agreement| agreement.max_error);
        errors.map(|error| (format!("max_error of {}", module.path), error, AT_LEAST_ZERO))
    });
    for (name, number, (range, expected)) in numbers.chain(errors) {
        match number {
            Some(found) if !range.contains(&found) => return Err(PageError::Number { name, expected, found }),
            _ => {}
        }
    }
    Ok(())
}

/// The first that no two lists of floats have.
fn impossible<'a>(mut measured: impl Iterator<Item = (&'a str, f64)>) -> Option<(String, f64)> {
    let (module, decibels) = measured.find(|(_, decibels)| decibels.abs() > MOST_DECIBELS)?;
    Some((module.to_owned(), decibels))
}
