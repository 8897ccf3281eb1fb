//! Scalings of rotary frequencies: one table.

use lathe_runtime::program::RopeGrowth;

use super::{Base, Frequencies, Settings};
use crate::elaborate::value::Reported;

/// A scaling.
pub(super) struct Scaling {
    /// As `rope_type` says it; older spellings after the first.
    pub(super) names: &'static [&'static str],
    /// Settings that it has besides `rope_type` and `rope_theta`.
    pub(super) settings: &'static [&'static str],
    pub(super) build: fn(&mut Settings<'_, '_, '_>, &Base) -> Result<Frequencies, Reported>,
}

const ORIGINAL: &str = "original_max_position_embeddings";

/// All scalings.
pub(super) static SCALINGS: &[Scaling] = &[
    Scaling { names: &["default"], settings: &[], build: |_, base| Ok(Frequencies::new(base.frequencies())) },
    Scaling { names: &["linear"], settings: &["factor"], build: linear },
    Scaling { names: &["dynamic"], settings: &["factor", ORIGINAL], build: dynamic },
    Scaling {
        names: &["llama3"],
        settings: &["factor", "low_freq_factor", "high_freq_factor", ORIGINAL],
        build: by_wavelength,
    },
    Scaling {
        names: &["yarn"],
        settings: &[
            "factor",
            "attention_factor",
            "beta_fast",
            "beta_slow",
            "mscale",
            "mscale_all_dim",
            "truncate",
            ORIGINAL,
        ],
        build: yarn,
    },
    Scaling {
        names: &["longrope", "su"],
        settings: &["factor", "attention_factor", "short_factor", "long_factor", ORIGINAL],
        build: longrope,
    },
    Scaling { names: &["proportional"], settings: &["factor", "partial_rotary_factor"], build: proportional },
];

/// All frequencies divided by `factor`: position interpolation (Chen et al. 2023, arXiv:2306.15595, eq. 4).
fn linear(settings: &mut Settings<'_, '_, '_>, base: &Base) -> Result<Frequencies, Reported> {
    let factor = settings.positive("factor")?;
    Ok(Frequencies::new(base.frequencies().into_iter().map(|frequency| frequency / factor).collect()))
}

/// A larger theta the longer the text is, beyond `max_position_embeddings` (dynamic NTK scaling: Peng et al. 2023,
/// arXiv:2309.00071, appendix B.1). The frequencies are made when the model runs.
fn dynamic(settings: &mut Settings<'_, '_, '_>, base: &Base) -> Result<Frequencies, Reported> {
    let factor = settings.positive("factor")?;
    if factor < 1.0 {
        return Err(settings.wrong(&format!("expected a factor of 1 or more for dynamic scaling, found {factor}")));
    }
    if base.width < 4 {
        return Err(settings.wrong(&format!("expected a rotary width of 4 or more, found {}", base.width)));
    }
    // The text has its longest length from `max_position_embeddings`, whatever the settings say besides.
    let positions = match settings.max_positions()? {
        Some(positions) => positions,
        None => settings.original_positions()?,
    };
    settings.number(ORIGINAL)?;
    let growth = RopeGrowth::Dynamic { positions: whole(settings, positions)?, factor, theta: base.theta };
    Ok(Frequencies { growth: Some(growth), ..Frequencies::new(base.frequencies()) })
}

/// Long wavelengths divided by `factor`, short ones kept, blended between `original / low_freq_factor` and
/// `original / high_freq_factor` (the scheme published with Llama 3.1).
fn by_wavelength(settings: &mut Settings<'_, '_, '_>, base: &Base) -> Result<Frequencies, Reported> {
    let factor = settings.positive("factor")?;
    let low = settings.positive("low_freq_factor")?;
    let high = settings.positive("high_freq_factor")?;
    let original = settings.original_positions()?;
    if high <= low {
        return Err(settings.wrong(&format!("expected high_freq_factor above low_freq_factor {low}, found {high}")));
    }
    let scale = |frequency: f64| {
        let wavelength = 2.0 * std::f64::consts::PI / frequency;
        if wavelength < original / high {
            frequency
        } else if wavelength > original / low {
            frequency / factor
        } else {
            let smooth = (original / wavelength - low) / (high - low);
            (1.0 - smooth) * frequency / factor + smooth * frequency
        }
    };
    Ok(Frequencies::new(base.frequencies().into_iter().map(scale).collect()))
}

/// Frequencies that turn often within the original length kept, those that turn seldom divided by `factor`, a ramp
/// between; sine and cosine times the attention factor (Peng et al. 2023, arXiv:2309.00071, §3.2 and §3.4).
fn yarn(settings: &mut Settings<'_, '_, '_>, base: &Base) -> Result<Frequencies, Reported> {
    let original = settings.original_positions()?;
    let factor = match (settings.maybe_positive("factor")?, settings.max_positions()?) {
        (Some(factor), _) => factor,
        (None, Some(positions)) => positions / original,
        (None, None) => settings.positive("factor")?,
    };
    let mscale = |scale: f64, mscale: f64| if scale <= 1.0 { 1.0 } else { 0.1 * mscale * libm::log(scale) + 1.0 };
    // 0 stands for none, as it does where these settings come from.
    let by_dimension = settings.number("mscale")?.zip(settings.number("mscale_all_dim")?);
    let amplitude = match settings.maybe_positive("attention_factor")? {
        Some(amplitude) => amplitude,
        None => match by_dimension.filter(|(one, all)| *one != 0.0 && *all != 0.0) {
            Some((one, all)) => mscale(factor, one) / mscale(factor, all),
            None => mscale(factor, 1.0),
        },
    };
    let fast = settings.maybe_positive("beta_fast")?.unwrap_or(32.0);
    let slow = settings.maybe_positive("beta_slow")?.unwrap_or(1.0);
    let truncate = settings.bool("truncate")?.unwrap_or(true);
    if base.theta <= 1.0 {
        return Err(settings.wrong(&format!("expected a rope_theta above 1 for yarn scaling, found {}", base.theta)));
    }
    let width = base.width as f64;
    // The pair, counted in elements, that turns so often within the original length.
    let pair =
        |turns: f64| width * libm::log(original / (turns * 2.0 * std::f64::consts::PI)) / (2.0 * libm::log(base.theta));
    let (low, high) = match (pair(fast), pair(slow)) {
        (low, high) if truncate => (low.floor(), high.ceil()),
        range => range,
    };
    let (low, high) = (low.max(0.0), high.min(width - 1.0));
    let high = if low == high { high + 0.001 } else { high };
    let scale = |(pair, frequency): (usize, f64)| {
        let ramp = ((pair as f64 - low) / (high - low)).clamp(0.0, 1.0);
        frequency / factor * ramp + frequency * (1.0 - ramp)
    };
    let of_pairs = base.frequencies().into_iter().enumerate().map(scale).collect();
    Ok(Frequencies { amplitude, ..Frequencies::new(of_pairs) })
}

/// Frequencies divided by factors of their own, others for texts longer than the original length (Ding et al. 2024,
/// arXiv:2402.13753, §3.3).
fn longrope(settings: &mut Settings<'_, '_, '_>, base: &Base) -> Result<Frequencies, Reported> {
    // From the longest length no factor would follow, and no length to switch at.
    let Some(original) = settings.stated_original_positions()? else {
        return Err(settings.lacks(ORIGINAL));
    };
    let factor = match (settings.maybe_positive("factor")?, settings.max_positions()?) {
        (Some(factor), _) => factor,
        (None, Some(positions)) => positions / original,
        (None, None) => settings.positive("factor")?,
    };
    let amplitude = match settings.maybe_positive("attention_factor")? {
        Some(amplitude) => amplitude,
        None if factor <= 1.0 => 1.0,
        None => libm::sqrt(1.0 + libm::log(factor) / libm::log(original)),
    };
    let mut divided = |key: &str| -> Result<Vec<f64>, Reported> {
        let factors = settings.factors(key, base.width / 2)?;
        Ok(base.frequencies().into_iter().zip(factors).map(|(frequency, factor)| frequency / factor).collect())
    };
    let (short, long) = (divided("short_factor")?, divided("long_factor")?);
    let inverse_frequencies = settings.reader.rounded(&long)?;
    let growth = RopeGrowth::Switch { positions: whole(settings, original)?, inverse_frequencies };
    Ok(Frequencies { of_pairs: short, amplitude, growth: Some(growth) })
}

/// Frequencies of the whole width for the first part of the pairs, none for the others.
fn proportional(settings: &mut Settings<'_, '_, '_>, base: &Base) -> Result<Frequencies, Reported> {
    let factor = settings.maybe_positive("factor")?.unwrap_or(1.0);
    let part = settings.maybe_positive("partial_rotary_factor")?.unwrap_or(1.0);
    let turned = (part * base.width as f64 / 2.0).floor() as usize;
    let of_pair = |(pair, frequency): (usize, f64)| if pair < turned { frequency / factor } else { 0.0 };
    Ok(Frequencies::new(base.frequencies().into_iter().enumerate().map(of_pair).collect()))
}

/// A number of positions.
fn whole(settings: &mut Settings<'_, '_, '_>, positions: f64) -> Result<u32, Reported> {
    if positions >= 1.0 && positions <= f64::from(u32::MAX) && positions.fract() == 0.0 {
        Ok(positions as u32)
    } else {
        Err(settings.wrong(&format!("expected a whole number of positions, found {positions}")))
    }
}
