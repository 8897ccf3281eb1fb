//! What two formats of one kind may differ in.

use std::fmt;
use std::str::FromStr;

use super::Format;

/// Parameters of a format: how its codes are scaled. A format without scales has [`Parameters::NONE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Parameters {
    /// What shares a scale.
    pub granularity: Granularity,
    /// Without zero points.
    pub symmetric: bool,
    /// Dtype in which scales are stored.
    pub scales: ScaleDtype,
}

impl Parameters {
    /// Of formats whose elements stand for themselves.
    pub const NONE: Parameters =
        Parameters { granularity: Granularity::None, symmetric: true, scales: ScaleDtype::Bf16 };
}

/// What shares a scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Granularity {
    /// There is none.
    None,
    /// A row of the matrix: an output channel.
    Channel,
    /// So many neighbours in a row, which the length of a row must be a multiple of. At least 2.
    Group(u32),
}

impl Granularity {
    /// Elements of a row of `cols` that share a scale; 0 where rows are empty, or nothing has a scale.
    pub fn group(self, cols: usize) -> usize {
        match self {
            Granularity::None => 0,
            Granularity::Channel => cols,
            Granularity::Group(size) => size as usize,
        }
    }

    /// Scales of a row of `cols`. A row without elements has one where each row has one.
    pub fn groups(self, cols: usize) -> usize {
        match self {
            Granularity::None => 0,
            Granularity::Channel => 1,
            Granularity::Group(size) => cols / size as usize,
        }
    }
}

/// Dtype of stored scales.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ScaleDtype {
    /// The range of f32 with 8 bits of precision: codes are chosen for the rounded scale, so little is lost.
    Bf16,
    /// 11 bits of precision, from 2⁻²⁴ to 65504.
    F16,
    /// As they are computed.
    F32,
}

impl ScaleDtype {
    /// All, the usual one first.
    pub const ALL: [ScaleDtype; 3] = [ScaleDtype::Bf16, ScaleDtype::F16, ScaleDtype::F32];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            ScaleDtype::Bf16 => "bf16",
            ScaleDtype::F16 => "f16",
            ScaleDtype::F32 => "f32",
        }
    }
}

/// How scales and zero points are chosen. It decides about bytes when they are written, and is no part of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Fit {
    /// So that the codes reach the largest magnitude, or the smallest and the largest value.
    #[default]
    Absmax,
    /// So that the sum of squared errors is small: the best of a list of narrower ranges.
    Mse,
}

impl fmt::Display for Format {
    /// Canonical, as in specs: `int4(group: 32, symmetric: false)`. What holds anyway is not written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parameters { granularity, symmetric, scales } = self.parameters();
        f.write_str(self.name())?;
        match granularity {
            Granularity::None => return Ok(()),
            Granularity::Channel => f.write_str("(per: channel")?,
            Granularity::Group(size) => write!(f, "(group: {size}")?,
        }
        if !symmetric {
            f.write_str(", symmetric: false")?;
        }
        if scales != ScaleDtype::Bf16 {
            write!(f, ", scales: {}", scales.name())?;
        }
        f.write_str(")")
    }
}

/// Not the canonical text of a format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no weight format", text.escape_debug())]
pub struct FormatError {
    /// What was read.
    pub text: String,
}

impl FromStr for Format {
    type Err = FormatError;

    /// Reads what [`Display`](fmt::Display) writes, and nothing else.
    fn from_str(text: &str) -> Result<Format, FormatError> {
        read(text).filter(|format| format.to_string() == text).ok_or_else(|| FormatError { text: text.to_owned() })
    }
}

fn read(text: &str) -> Option<Format> {
    let (name, arguments) = match text.split_once('(') {
        Some((name, rest)) => (name, rest.strip_suffix(')')?),
        None => (text, ""),
    };
    let mut parameters = Parameters::NONE;
    for argument in arguments.split(", ").filter(|argument| !argument.is_empty()) {
        match argument.split_once(": ")? {
            ("per", "channel") => parameters.granularity = Granularity::Channel,
            ("group", size) => parameters.granularity = Granularity::Group(size.parse().ok()?),
            ("symmetric", "false") => parameters.symmetric = false,
            ("scales", name) => {
                parameters.scales = ScaleDtype::ALL.into_iter().find(|dtype| dtype.name() == name)?;
            }
            _ => return None,
        }
    }
    Format::new(name, parameters)
}
