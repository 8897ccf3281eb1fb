//! Rotary frequencies from config.json, in either of its spellings.
//!
//! `rope_parameters: {rope_type, rope_theta, …}` (since transformers 5), or `rope_theta` beside `rope_scaling:
//! {rope_type or type, …}` (before). Base frequencies are `theta^(-2i/width)` for pair i (Su et al. 2021, §3.2.2),
//! rounded to f32 once. Scalings:
//!
//! - `default`: none.
//! - `linear`: all frequencies divided by `factor` (Chen et al. 2023, position interpolation).
//! - `llama3`: long wavelengths divided by `factor`, short ones kept, blended between
//!   `original_max_position_embeddings / low_freq_factor` and `… / high_freq_factor` (Llama 3.1's published scheme).
//!
//! Others (`dynamic`, `yarn`, `longrope`) are refused.

use lathe_grammar::diag::Diagnostic;
use lathe_grammar::span::Span;
use lathe_runtime::program::{RopePairing, RopeTable};
use serde_json::Value as Json;

use super::Elaborator;
use super::arguments::Arguments;
use super::value::{Reported, Value};

/// Base of the frequencies where the config does not say; what every published config without the key means.
const DEFAULT_THETA: f64 = 10_000.0;

/// Scalings that can be built.
const KINDS: [&str; 3] = ["default", "linear", "llama3"];

/// Widest head that frequencies are made for, in elements.
const MAX_WIDTH: u64 = 65_536;

pub(super) fn settings(elaborator: &mut Elaborator<'_>, arguments: &Arguments) -> Result<Value, Reported> {
    let root = match arguments.get(0) {
        (Value::Object(path), _) => path.clone(),
        (other, span) => return Err(elaborator.expected("an object of config.json", other, span)),
    };
    let (width, span) = arguments.get(1);
    let width = elaborator.count(width, span)?;
    if width == 0 || width % 2 != 0 || width > MAX_WIDTH {
        let message = format!("expected an even width of 2 to {MAX_WIDTH}, found {width}");
        return Err(elaborator.error("M0002", span, message));
    }
    let mut reader = Reader { elaborator, root, span: arguments.span };
    let inverse_frequencies = reader.frequencies(width)?;
    let table = RopeTable { pairing: RopePairing::Half, inverse_frequencies, amplitude: 1.0 };
    Ok(Value::Rope(elaborator.graph.add_rope_table(table)))
}

struct Reader<'r, 'a> {
    elaborator: &'r mut Elaborator<'a>,
    root: Vec<String>,
    span: Span,
}

impl Reader<'_, '_> {
    fn frequencies(&mut self, width: u64) -> Result<Vec<f32>, Reported> {
        let home = self.home()?;
        let theta = match home.map(|home| self.number(&[home, "rope_theta"])).transpose()?.flatten() {
            Some(theta) => Some(theta),
            None => self.number(&["rope_theta"])?,
        };
        let theta = theta.unwrap_or(DEFAULT_THETA);
        if !(theta.is_finite() && theta > 0.0) {
            return Err(self.wrong(&format!("expected a rope_theta above 0, found {theta}")));
        }
        let base = (0..width / 2).map(|pair| libm::pow(theta, -2.0 * pair as f64 / width as f64));
        let base: Vec<f64> = base.collect();
        let Some(home) = home else { return self.rounded(&base) };
        let kind = match self.text(&[home, "rope_type"])? {
            Some(kind) => Some(kind),
            None => self.text(&[home, "type"])?,
        };
        let kind = match kind {
            Some(kind) => kind,
            None if self.at(&[home, "factor"]).is_some() => {
                return Err(self.wrong(&format!("expected {home}.rope_type beside {home}.factor, found none")));
            }
            None => "default".into(),
        };
        let settings: &[&str] = match kind.as_str() {
            "linear" => &["factor"],
            "llama3" => &["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"],
            _ => &[],
        };
        if KINDS.contains(&kind.as_str()) {
            self.check_settings(home, &kind, settings)?;
        }
        match kind.as_str() {
            "default" => self.rounded(&base),
            "linear" => {
                let factor = self.positive(home, "factor")?;
                let scaled: Vec<f64> = base.iter().map(|frequency| frequency / factor).collect();
                self.rounded(&scaled)
            }
            "llama3" => {
                let factor = self.positive(home, "factor")?;
                let low = self.positive(home, "low_freq_factor")?;
                let high = self.positive(home, "high_freq_factor")?;
                let original = self.positive(home, "original_max_position_embeddings")?;
                if high <= low {
                    let message = format!("expected high_freq_factor above low_freq_factor {low}, found {high}");
                    return Err(self.wrong(&message));
                }
                let scale = |&frequency: &f64| {
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
                let scaled: Vec<f64> = base.iter().map(scale).collect();
                self.rounded(&scaled)
            }
            other => {
                let message = format!("{other:?} scaling of rotary embeddings cannot be built by this version");
                let diagnostic = Diagnostic::error("M0008", message)
                    .label(self.span, "")
                    .note(format!("{home}.rope_type in {}", self.elaborator.config.file))
                    .help(format!("those that can: {}", KINDS.join(", ")));
                Err(self.elaborator.report(diagnostic))
            }
        }
    }

    /// The key that holds the settings, in either spelling: an object of plain values.
    fn home(&mut self) -> Result<Option<&'static str>, Reported> {
        if let [Some(new), Some(old)] = ["rope_parameters", "rope_scaling"].map(|key| self.at(&[key]))
            && new != old
        {
            return Err(self.wrong("expected rope_parameters or rope_scaling, found both, and they differ"));
        }
        for key in ["rope_parameters", "rope_scaling"] {
            match self.at(&[key]) {
                None => {}
                Some(Json::Object(settings)) => {
                    if let Some((inner, _)) = settings.iter().find(|(_, value)| value.is_object()) {
                        let message = format!("settings of its own for `{inner}` cannot be built by this version");
                        let diagnostic = Diagnostic::error("M0008", message)
                            .label(self.span, "")
                            .note(format!("{key}.{inner} in {}", self.elaborator.config.file));
                        return Err(self.elaborator.report(diagnostic));
                    }
                    return Ok(Some(key));
                }
                Some(other) => return Err(self.wrong(&format!("expected an object at {key}, found {other}"))),
            }
        }
        Ok(None)
    }

    /// Refuses settings that this kind of scaling does not have: each would change what the model computes.
    fn check_settings(&mut self, home: &str, kind: &str, known: &[&str]) -> Result<(), Reported> {
        let Some(Json::Object(settings)) = self.at(&[home]) else { return Ok(()) };
        let shared = ["rope_type", "type", "rope_theta"];
        for (key, value) in &settings {
            let whole = key == "partial_rotary_factor" && value.as_f64() == Some(1.0);
            if whole {
                self.at(&[home, key]);
            } else if !value.is_null() && !known.contains(&key.as_str()) && !shared.contains(&key.as_str()) {
                let message = format!("{home}.{key} = {value} cannot be built by this version for {kind:?} scaling");
                let diagnostic = Diagnostic::error("M0008", message)
                    .label(self.span, "")
                    .note(format!("in {}", self.elaborator.config.file));
                return Err(self.elaborator.report(diagnostic));
            }
        }
        Ok(())
    }

    fn rounded(&mut self, frequencies: &[f64]) -> Result<Vec<f32>, Reported> {
        let rounded: Vec<f32> = frequencies.iter().map(|&frequency| frequency as f32).collect();
        if rounded.iter().all(|frequency| frequency.is_finite()) {
            Ok(rounded)
        } else {
            Err(self.wrong("expected finite frequencies, found an overflow"))
        }
    }

    /// A value that is there and not null; it counts as read.
    fn at(&mut self, keys: &[&str]) -> Option<Json> {
        let mut path = self.root.clone();
        path.extend(keys.iter().map(|key| (*key).to_string()));
        let value = self.elaborator.config.get(&path).filter(|value| !value.is_null())?.clone();
        if !value.is_object() {
            self.elaborator.mark_read(&path.join("."));
        }
        Some(value)
    }

    fn wrong(&mut self, message: &str) -> Reported {
        let file = self.elaborator.config.file.clone();
        self.elaborator.error("M0002", self.span, format!("{file}: {message}"))
    }

    fn number(&mut self, keys: &[&str]) -> Result<Option<f64>, Reported> {
        match self.at(keys) {
            None => Ok(None),
            Some(value) => match value.as_f64() {
                Some(number) => Ok(Some(number)),
                None => Err(self.wrong(&format!("expected a number at {}, found {value}", keys.join(".")))),
            },
        }
    }

    fn positive(&mut self, home: &str, key: &str) -> Result<f64, Reported> {
        match self.number(&[home, key])? {
            Some(number) if number > 0.0 && number.is_finite() => Ok(number),
            Some(number) => Err(self.wrong(&format!("expected {home}.{key} above 0, found {number}"))),
            None => Err(self.wrong(&format!("expected a number at {home}.{key}, found none"))),
        }
    }

    fn text(&mut self, keys: &[&str]) -> Result<Option<String>, Reported> {
        match self.at(keys) {
            None => Ok(None),
            Some(Json::String(text)) => Ok(Some(text)),
            Some(value) => Err(self.wrong(&format!("expected a string at {}, found {value}", keys.join(".")))),
        }
    }
}
