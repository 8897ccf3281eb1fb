//! Rotary frequencies from config.json, in any of its spellings.
//!
//! `rope_parameters: {rope_type, rope_theta, …}` (since transformers 5), or `rope_theta` beside `rope_scaling:
//! {rope_type or type, …}` (before); `rope_parameters` may hold settings of its own for each type of layer. Base
//! frequencies are `theta^(-2i/width)` for pair i (Su et al. 2021, §3.2.2), rounded to f32 once. Scalings: one file and
//! one line of [`SCALINGS`] each.

mod scalings;

use lathe_grammar::diag::Diagnostic;
use lathe_grammar::span::Span;
use lathe_runtime::program::{RopeGrowth, RopePairing, RopeTable};
use serde_json::Value as Json;

use super::Elaborator;
use super::arguments::Arguments;
use super::value::{Reported, Value};
use scalings::SCALINGS;

/// Base of the frequencies where neither config nor definition say: what the first configs without the key mean.
const DEFAULT_THETA: f64 = 10_000.0;

/// Widest head that frequencies are made for, in elements.
const MAX_WIDTH: u64 = 65_536;

/// What a scaling makes of the base frequencies.
struct Frequencies {
    /// Radians per position, one for each pair.
    of_pairs: Vec<f64>,
    /// Factor on sine and cosine.
    amplitude: f64,
    growth: Option<RopeGrowth>,
}

impl Frequencies {
    fn new(of_pairs: Vec<f64>) -> Self {
        Frequencies { of_pairs, amplitude: 1.0, growth: None }
    }
}

/// The frequencies that a scaling starts from.
struct Base {
    theta: f64,
    width: u64,
}

impl Base {
    fn frequencies(&self) -> Vec<f64> {
        (0..self.width / 2).map(|pair| self.frequency(pair)).collect()
    }

    fn frequency(&self, pair: u64) -> f64 {
        libm::pow(self.theta, -2.0 * pair as f64 / self.width as f64)
    }
}

/// `rope_settings(config, width: …)`.
pub(super) fn settings(elaborator: &mut Elaborator<'_>, arguments: &Arguments) -> Result<Value, Reported> {
    let root = match arguments.get(0) {
        (Value::Object(path), _) => path.clone(),
        (other, span) => return Err(elaborator.expected("an object of config.json", other, span)),
    };
    let (value, span) = arguments.get(1);
    let width = elaborator.count(value, span)?;
    if width == 0 || width % 2 != 0 || width > MAX_WIDTH {
        let message = format!("expected an even width of 2 to {MAX_WIDTH}, found {width}");
        return Err(elaborator.error("M0002", span, message));
    }
    let layer_type = match arguments.option(2) {
        None => None,
        Some((Value::Str(name), _)) => Some(name.to_string()),
        Some((other, span)) => return Err(elaborator.expected("the name of a type of layer", other, span)),
    };
    let pairing = match arguments.option(3) {
        None => RopePairing::Half,
        Some((Value::Str(name), _)) if name.as_ref() == "half" => RopePairing::Half,
        Some((Value::Str(name), _)) if name.as_ref() == "interleaved" => RopePairing::Interleaved,
        Some((other, span)) => return Err(elaborator.expected("\"half\" or \"interleaved\"", other, span)),
    };
    let scaled = match arguments.option(4) {
        None => true,
        Some((Value::Bool(scaled), _)) => *scaled,
        Some((other, span)) => return Err(elaborator.expected("true or false", other, span)),
    };
    let theta = match arguments.option(5) {
        None => None,
        Some((value, span)) => Some(elaborator.number(value, span)?),
    };
    let backwards = match arguments.option(6) {
        None => false,
        Some((Value::Bool(backwards), _)) => *backwards,
        Some((other, span)) => return Err(elaborator.expected("true or false", other, span)),
    };
    let default_theta = match arguments.option(7) {
        None => None,
        Some((value, span)) => Some(elaborator.number(value, span)?),
    };
    let mut reader = Reader { elaborator, root, span: arguments.span };
    let home = reader.home(layer_type.as_deref())?;
    let theta = match theta {
        Some(theta) => theta,
        None => reader.theta(home.as_deref())?.or(default_theta).unwrap_or(DEFAULT_THETA),
    };
    if !(theta.is_finite() && theta > 0.0) {
        return Err(reader.wrong(&format!("expected a rope_theta above 0, found {theta}")));
    }
    let base = Base { theta, width };
    let Frequencies { of_pairs, amplitude, growth } = match home.filter(|_| scaled) {
        Some(home) => reader.scaled(&home, &base)?,
        None => Frequencies::new(base.frequencies()),
    };
    if backwards && growth.is_some() {
        return Err(reader.wrong("frequencies that grow with the text cannot turn backwards in this version"));
    }
    let turn = if backwards { -1.0 } else { 1.0 };
    let of_pairs: Vec<f64> = of_pairs.into_iter().map(|frequency| turn * frequency).collect();
    let inverse_frequencies = reader.rounded(&of_pairs)?;
    let amplitude = amplitude as f32;
    if !amplitude.is_finite() {
        return Err(reader.wrong("expected a finite attention factor, found an overflow"));
    }
    let table = RopeTable { pairing, inverse_frequencies, amplitude, growth };
    Ok(Value::Rope(elaborator.graph.add_rope_table(table)))
}

/// Reads settings below an object of config.json.
struct Reader<'r, 'a> {
    elaborator: &'r mut Elaborator<'a>,
    root: Vec<String>,
    span: Span,
}

impl Reader<'_, '_> {
    fn theta(&mut self, home: Option<&[String]>) -> Result<Option<f64>, Reported> {
        let own = match home {
            Some(home) => self.number(&below(home, "rope_theta"))?,
            None => None,
        };
        match own {
            Some(theta) => Ok(Some(theta)),
            None => self.number(&["rope_theta".to_string()]),
        }
    }

    fn scaled(&mut self, home: &[String], base: &Base) -> Result<Frequencies, Reported> {
        let name = match self.text(&below(home, "rope_type"))? {
            Some(name) => Some(name),
            None => self.text(&below(home, "type"))?,
        };
        let name = match name {
            Some(name) => name,
            None if self.at(&below(home, "factor")).is_some() => {
                let place = home.join(".");
                return Err(self.wrong(&format!("expected {place}.rope_type beside {place}.factor, found none")));
            }
            None => "default".into(),
        };
        let Some(scaling) = SCALINGS.iter().find(|scaling| scaling.names.contains(&name.as_str())) else {
            let known: Vec<&str> = SCALINGS.iter().map(|scaling| scaling.names[0]).collect();
            let message = format!("{name:?} scaling of rotary embeddings cannot be built by this version");
            let diagnostic = Diagnostic::error("M0008", message)
                .label(self.span, "")
                .note(format!("{}.rope_type in {}", home.join("."), self.elaborator.config.file))
                .help(format!("those that can: {}", known.join(", ")));
            return Err(self.elaborator.report(diagnostic));
        };
        self.check_settings(home, &name, scaling.settings)?;
        (scaling.build)(&mut Settings { reader: self, home }, base)
    }

    /// Where the settings are, in either spelling: an object of plain values.
    fn home(&mut self, layer_type: Option<&str>) -> Result<Option<Vec<String>>, Reported> {
        let keys = ["rope_parameters", "rope_scaling"].map(str::to_string);
        if let [Some(new), Some(old)] = keys.each_ref().map(|key| self.at(std::slice::from_ref(key)))
            && new != old
        {
            return Err(self.wrong("expected rope_parameters or rope_scaling, found both, and they differ"));
        }
        for key in keys {
            let settings = match self.at(std::slice::from_ref(&key)) {
                None => continue,
                Some(Json::Object(settings)) => settings,
                Some(other) => return Err(self.wrong(&format!("expected an object at {key}, found {other}"))),
            };
            let types: Vec<&str> =
                settings.iter().filter(|(_, value)| value.is_object()).map(|(name, _)| name.as_str()).collect();
            return match layer_type {
                _ if types.is_empty() => Ok(Some(vec![key])),
                Some(name) if types.contains(&name) => Ok(Some(vec![key, name.to_string()])),
                Some(name) if settings.contains_key(name) => Ok(None),
                Some(name) => {
                    let message =
                        format!("expected settings for {name:?} at {key}, found some for {}", types.join(", "));
                    Err(self.wrong(&message))
                }
                None => {
                    let message = format!(
                        "{key} has settings of its own for {}: which are meant is told by `layer_type`",
                        types.join(", ")
                    );
                    Err(self.wrong(&message))
                }
            };
        }
        Ok(None)
    }

    /// Refuses settings that this kind of scaling does not have: each would change what the model computes.
    fn check_settings(&mut self, home: &[String], name: &str, known: &[&str]) -> Result<(), Reported> {
        let Some(Json::Object(settings)) = self.at(home) else { return Ok(()) };
        let shared = ["rope_type", "type", "rope_theta"];
        for (key, value) in &settings {
            if key == "partial_rotary_factor" && !known.contains(&key.as_str()) {
                // The definition reads it, as it says of how much of a head the rotary width is; a whole needs no reader.
                if value.as_f64() == Some(1.0) {
                    self.at(&below(home, key));
                }
            } else if !value.is_null() && !known.contains(&key.as_str()) && !shared.contains(&key.as_str()) {
                let place = home.join(".");
                let message = format!("{place}.{key} = {value} cannot be built by this version for {name:?} scaling");
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
    fn at(&mut self, keys: &[String]) -> Option<Json> {
        let path = [&self.root[..], keys].concat();
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

    fn number(&mut self, keys: &[String]) -> Result<Option<f64>, Reported> {
        match self.at(keys) {
            None => Ok(None),
            Some(value) => match value.as_f64() {
                Some(number) => Ok(Some(number)),
                None => Err(self.wrong(&format!("expected a number at {}, found {value}", keys.join(".")))),
            },
        }
    }

    fn text(&mut self, keys: &[String]) -> Result<Option<String>, Reported> {
        match self.at(keys) {
            None => Ok(None),
            Some(Json::String(text)) => Ok(Some(text)),
            Some(value) => Err(self.wrong(&format!("expected a string at {}, found {value}", keys.join(".")))),
        }
    }
}

/// The settings of one scaling.
struct Settings<'s, 'r, 'a> {
    reader: &'s mut Reader<'r, 'a>,
    home: &'s [String],
}

impl Settings<'_, '_, '_> {
    fn wrong(&mut self, message: &str) -> Reported {
        self.reader.wrong(message)
    }

    fn place(&self, key: &str) -> String {
        below(self.home, key).join(".")
    }

    fn number(&mut self, key: &str) -> Result<Option<f64>, Reported> {
        self.reader.number(&below(self.home, key))
    }

    fn above_zero(&mut self, key: &str, number: Option<f64>) -> Result<Option<f64>, Reported> {
        match number {
            Some(number) if !(number > 0.0 && number.is_finite()) => {
                let place = self.place(key);
                Err(self.wrong(&format!("expected {place} above 0, found {number}")))
            }
            number => Ok(number),
        }
    }

    /// A number above 0 that may be missing.
    fn maybe_positive(&mut self, key: &str) -> Result<Option<f64>, Reported> {
        let number = self.number(key)?;
        self.above_zero(key, number)
    }

    /// A number above 0 that must be there.
    fn positive(&mut self, key: &str) -> Result<f64, Reported> {
        match self.maybe_positive(key)? {
            Some(number) => Ok(number),
            None => Err(self.lacks(key)),
        }
    }

    fn bool(&mut self, key: &str) -> Result<Option<bool>, Reported> {
        match self.reader.at(&below(self.home, key)) {
            None => Ok(None),
            Some(Json::Bool(value)) => Ok(Some(value)),
            Some(other) => {
                let place = self.place(key);
                Err(self.wrong(&format!("expected true or false at {place}, found {other}")))
            }
        }
    }

    /// As many numbers above 0 as there are pairs.
    fn factors(&mut self, key: &str, pairs: u64) -> Result<Vec<f64>, Reported> {
        let place = self.place(key);
        let found = self.reader.at(&below(self.home, key));
        let Some(Json::Array(values)) = &found else {
            let found = found.map_or("none".to_string(), |found| found.to_string());
            return Err(self.wrong(&format!("expected a list of numbers at {place}, found {found}")));
        };
        let factors: Option<Vec<f64>> =
            values.iter().map(|value| value.as_f64().filter(|factor| *factor > 0.0 && factor.is_finite())).collect();
        match factors {
            Some(factors) if factors.len() as u64 == pairs => Ok(factors),
            _ => {
                let found = values.len();
                Err(self.wrong(&format!(
                    "expected {pairs} numbers above 0 at {place}, one for each pair, found {found} values"
                )))
            }
        }
    }

    /// The longest text of the model, in positions.
    fn max_positions(&mut self) -> Result<Option<f64>, Reported> {
        let key = "max_position_embeddings";
        let number = self.reader.number(&[key.to_string()])?;
        self.above_zero(key, number)
    }

    /// The longest text that the model was first trained on: at the root of the config, beside the other settings, or the
    /// longest text of the model.
    fn original_positions(&mut self) -> Result<f64, Reported> {
        let number = match self.stated_original_positions()? {
            None => self.max_positions()?,
            number => number,
        };
        number.ok_or_else(|| self.lacks("original_max_position_embeddings"))
    }

    /// The same, where the config states it.
    fn stated_original_positions(&mut self) -> Result<Option<f64>, Reported> {
        let key = "original_max_position_embeddings";
        let root = self.reader.number(&[key.to_string()])?;
        let own = self.number(key)?;
        self.above_zero(key, root.or(own))
    }

    fn lacks(&mut self, key: &str) -> Reported {
        let place = self.place(key);
        self.wrong(&format!("expected a number at {place}, found none"))
    }
}

fn below(path: &[String], key: &str) -> Vec<String> {
    let mut path = path.to_vec();
    path.push(key.to_string());
    path
}
