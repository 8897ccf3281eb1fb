//! The formats of the language, for weights, input activations and the cache of keys and values: one table.
//!
//! A format is written as a call, `int4(group: 128, symmetric: false)`. Here its arguments are checked, as far as that is
//! possible without a model; whether a group divides a weight is checked when the spec meets one.

mod check;
#[cfg(test)]
mod tests;

use std::fmt;

use lathe_kernels::formats::{self as packed, Fit, ScaleDtype};

use super::parameters::{Parameter, Type};
use crate::plan::Encoding;
use lathe_runtime::program::InputFormat;

pub(super) use check::format;

/// Where a format stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// What the weights of a module become: behind `=>`.
    Weight,
    /// What its input activations become: behind `with input`.
    Input,
    /// What the cached keys and values become: behind `kv_cache =>`.
    Cache,
}

impl Role {
    /// In messages and listings.
    pub fn name(self) -> &'static str {
        match self {
            Role::Weight => "weights",
            Role::Input => "input activations",
            Role::Cache => "the KV cache",
        }
    }
}

/// A format of the language.
#[derive(Debug, Clone, Copy)]
pub struct FormatKind {
    /// Its name.
    pub name: &'static str,
    /// One line for listings.
    pub summary: &'static str,
    /// Where it may stand.
    pub roles: &'static [Role],
    /// What it takes.
    pub parameters: &'static [Parameter],
    /// The elements that it stores.
    element: Element,
    /// Where this version of the compiler can build it; perhaps not with all that it takes, see [`Format::is_built`].
    pub built: &'static [Role],
}

/// What one stored value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Element {
    /// The stored dtype.
    Kept,
    /// A float of the machine.
    Float { bits: u32 },
    /// An integer with a scale, and perhaps a zero point, for each group.
    Integer { bits: u32 },
    /// A small float with a scale for each group.
    SmallFloat { bits: u32 },
    /// An index into a fixed table of 16 values, with a scale for each group.
    Table,
    /// A microscaling format: blocks of a fixed size that share a small scale.
    Block { bits: u32, size: u64, tensor_scale: bool },
}

const ANYWHERE: &[Role] = &[Role::Weight, Role::Input, Role::Cache];
const NOWHERE: &[Role] = &[];

const GROUP: Parameter = Parameter {
    name: "group",
    of: Type::Integer { least: 2, most: 65_536 },
    default: None,
    summary: "so many values along the inner dimension share a scale",
};
const PER: Parameter = Parameter {
    name: "per",
    of: Type::Word(&["tensor", "channel", "token", "head"]),
    default: None,
    summary: "what shares a scale: weights per tensor or channel, activations per tensor or token, caches per tensor, channel, token or head",
};
const BLOCK: Parameter = Parameter {
    name: "block",
    of: Type::Block { most: 65_536 },
    default: None,
    summary: "blocks of so many rows and columns of a weight share a scale",
};
const SYMMETRIC: Parameter =
    Parameter { name: "symmetric", of: Type::Flag, default: Some("true"), summary: "without zero points" };
const FIT: Parameter = Parameter {
    name: "fit",
    of: Type::Word(&["absmax", "mse", "hqq", "gptq", "awq", "smoothquant"]),
    default: Some("absmax"),
    summary: "how scales and codes are chosen; weights only",
};
const SCALE: Parameter = Parameter {
    name: "scale",
    of: Type::Word(&["dynamic", "static"]),
    default: Some("dynamic"),
    summary: "scales found as the model runs, or by calibration; activations and caches only",
};
const SCALES: Parameter = Parameter {
    name: "scales",
    of: Type::Word(&["bf16", "f16", "f32"]),
    default: Some("bf16"),
    summary: "the dtype of stored scales; weights only",
};
const SPARSE: Parameter = Parameter {
    name: "sparse",
    of: Type::Word(&["2:4"]),
    default: None,
    summary: "two of four neighbours are zero and not stored; weights only",
};
const EXACT: Parameter = Parameter {
    name: "exact",
    of: Type::Flag,
    default: None,
    summary: "written `keep(exact)`: the very values, never rounded again in another frame; weights only",
};

const INTEGER: &[Parameter] = &[GROUP, PER, BLOCK, SYMMETRIC, FIT, SCALE, SCALES, SPARSE];
const SMALL_FLOAT: &[Parameter] = &[GROUP, PER, BLOCK, FIT, SCALE];

const fn integer(name: &'static str, bits: u32, summary: &'static str) -> FormatKind {
    let element = Element::Integer { bits };
    let built: &[Role] = match bits {
        8 => &[Role::Weight, Role::Input],
        4 | 3 => &[Role::Weight],
        _ => NOWHERE,
    };
    FormatKind { name, summary, roles: ANYWHERE, parameters: INTEGER, element, built }
}

const fn small_float(name: &'static str, summary: &'static str) -> FormatKind {
    let element = Element::SmallFloat { bits: 8 };
    FormatKind { name, summary, roles: ANYWHERE, parameters: SMALL_FLOAT, element, built: NOWHERE }
}

const fn float(name: &'static str, bits: u32, summary: &'static str) -> FormatKind {
    let (roles, element) = (&[Role::Weight, Role::Cache], Element::Float { bits });
    FormatKind { name, summary, roles, parameters: &[], element, built: &[Role::Weight] }
}

const fn block(
    name: &'static str,
    bits: u32,
    size: u64,
    parameters: &'static [Parameter],
    summary: &'static str,
) -> FormatKind {
    let element = Element::Block { bits, size, tensor_scale: size == 16 };
    FormatKind { name, summary, roles: &[Role::Weight, Role::Input], parameters, element, built: NOWHERE }
}

/// Every format, in the order in which listings show them.
pub static FORMATS: &[FormatKind] = &[
    FormatKind {
        name: "keep",
        summary: "the dtype that the checkpoint stores; for inputs and caches, no quantization",
        roles: ANYWHERE,
        parameters: &[EXACT],
        element: Element::Kept,
        built: ANYWHERE,
    },
    float("f32", 32, "IEEE 754 binary32"),
    float("f16", 16, "IEEE 754 binary16"),
    float("bf16", 16, "bfloat16: the upper half of a binary32"),
    integer("int8", 8, "8-bit integers"),
    integer("int7", 7, "7-bit integers"),
    integer("int6", 6, "6-bit integers"),
    integer("int5", 5, "5-bit integers"),
    integer("int4", 4, "4-bit integers"),
    integer("int3", 3, "3-bit integers"),
    integer("int2", 2, "2-bit integers"),
    small_float("fp8_e4m3", "8-bit floats, 4 bits of exponent (OCP 8-bit floating point specification, E4M3)"),
    small_float("fp8_e5m2", "8-bit floats, 5 bits of exponent (OCP 8-bit floating point specification, E5M2)"),
    FormatKind {
        name: "nf4",
        summary: "4-bit codes for quantiles of the normal distribution (Dettmers et al. 2023, QLoRA, appendix E)",
        roles: &[Role::Weight],
        parameters: &[GROUP],
        element: Element::Table,
        built: NOWHERE,
    },
    block(
        "mxfp8",
        8,
        32,
        &[ELEMENT_8],
        "8-bit floats in blocks of 32 with an E8M0 scale (OCP microscaling formats 1.0)",
    ),
    block(
        "mxfp6",
        6,
        32,
        &[ELEMENT_6],
        "6-bit floats in blocks of 32 with an E8M0 scale (OCP microscaling formats 1.0)",
    ),
    block("mxfp4", 4, 32, &[], "4-bit floats in blocks of 32 with an E8M0 scale (OCP microscaling formats 1.0)"),
    block("nvfp4", 4, 16, &[], "4-bit floats in blocks of 16 with an E4M3 scale, and one f32 scale for each tensor"),
];

const ELEMENT_8: Parameter = Parameter {
    name: "element",
    of: Type::Word(&["e4m3", "e5m2"]),
    default: Some("e4m3"),
    summary: "bits of exponent and mantissa of a value",
};
const ELEMENT_6: Parameter = Parameter {
    name: "element",
    of: Type::Word(&["e2m3", "e3m2"]),
    default: Some("e2m3"),
    summary: "bits of exponent and mantissa of a value",
};

/// What shares a scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Granularity {
    /// Everything, or what the format itself fixes.
    Tensor,
    /// A row of a weight; a column of a cache.
    Channel,
    /// A row of an activation.
    Token,
    /// A head of a row of the cache.
    Head,
    /// So many values along the inner dimension.
    Group(u64),
    /// So many rows and columns.
    Block(u64, u64),
}

/// Groups or blocks that do not fit a weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Indivisible {
    /// What does not divide, with its size.
    pub part: String,
    /// What it should divide, with its size.
    pub whole: String,
    /// What to write instead.
    pub help: String,
}

/// A format with its arguments: two are equal when they mean the same, however they were written.
#[derive(Clone, Copy)]
pub struct Format {
    kind: &'static FormatKind,
    granularity: Granularity,
    symmetric: bool,
    exact: bool,
    sparse: bool,
    fit: Option<&'static str>,
    scale: Option<&'static str>,
    scales: Option<&'static str>,
    values: Option<&'static str>,
}

impl Format {
    /// What no rule decides.
    pub const KEEP: Format = Format {
        kind: &FORMATS[0],
        granularity: Granularity::Tensor,
        symmetric: true,
        exact: false,
        sparse: false,
        fit: None,
        scale: None,
        scales: None,
        values: None,
    };

    /// Its entry in the table.
    pub fn kind(&self) -> &'static FormatKind {
        self.kind
    }

    /// Whether the dtype of the checkpoint is kept.
    pub fn is_keep(&self) -> bool {
        self.kind.element == Element::Kept
    }

    /// Whether the very values are asked for.
    pub fn is_exact(&self) -> bool {
        self.exact
    }

    /// How weights are written in it; `None` where the dtype is kept, and where this version cannot build it.
    pub fn encoding(&self) -> Option<Encoding> {
        let granularity = match self.granularity {
            Granularity::Channel => packed::Granularity::Channel,
            Granularity::Group(size) => packed::Granularity::Group(size.try_into().ok()?),
            Granularity::Tensor if matches!(self.kind.element, Element::Float { .. }) => packed::Granularity::None,
            _ => return None,
        };
        let fit = match self.fit {
            None => Fit::Absmax,
            Some("mse") => Fit::Mse,
            Some(_) => return None,
        };
        if self.sparse || self.values.is_some() {
            return None;
        }
        let scales = ScaleDtype::ALL.into_iter().find(|dtype| self.scales.is_none_or(|name| dtype.name() == name))?;
        let parameters = packed::Parameters { granularity, symmetric: self.symmetric, scales };
        Some(Encoding { format: packed::Format::new(self.kind.name, parameters)?, fit })
    }

    /// What a product rounds its x to; `None` where it takes it as it is, and where this version cannot build it.
    pub fn input(&self) -> Option<InputFormat> {
        InputFormat::ALL.into_iter().find(|input| input.name() == self.to_string())
    }

    /// Whether this version can build it in a role.
    pub fn is_built(&self, role: Role) -> bool {
        let is_packed = match role {
            Role::Weight => self.encoding().is_some(),
            Role::Input => self.input().is_some(),
            Role::Cache => false,
        };
        self.kind.built.contains(&role) && (self.is_keep() || is_packed)
    }

    /// The format nearest to it that this version can build in a role, for one that it cannot; not `keep`.
    pub fn nearest_built(&self, role: Role) -> Option<Format> {
        let keeps_codes = matches!(self.kind.element, Element::Kept | Element::Float { .. });
        match role {
            Role::Weight => self.nearest_weight(),
            Role::Input if !keeps_codes => {
                Some(Format { kind: FormatKind::find("int8")?, granularity: Granularity::Token, ..Format::KEEP })
            }
            Role::Input | Role::Cache => None,
        }
    }

    fn nearest_weight(&self) -> Option<Format> {
        let name = match self.kind.element {
            Element::Kept | Element::Float { .. } => return None,
            Element::Integer { bits } | Element::SmallFloat { bits } | Element::Block { bits, .. } => match bits {
                ..=3 => "int3",
                4 => "int4",
                _ => "int8",
            },
            Element::Table => "int4",
        };
        let granularity = match (self.granularity, self.kind.element) {
            (Granularity::Group(size), _) | (_, Element::Block { size, .. }) => Granularity::Group(size),
            _ => Granularity::Channel,
        };
        Some(Format {
            kind: FormatKind::find(name)?,
            granularity,
            fit: self.fit.map(|_| "mse"),
            sparse: false,
            values: None,
            ..*self
        })
    }

    /// Whether a weight can have both: they are equal, or both keep it.
    pub fn agrees_with(&self, other: &Format) -> bool {
        self == other || self.is_keep() && other.is_keep()
    }

    /// What shares a scale.
    pub fn granularity(&self) -> Granularity {
        self.granularity
    }

    /// Why values `[rows, columns]` cannot be divided into groups or blocks.
    pub fn indivisible(&self, rows: u64, columns: u64) -> Option<Indivisible> {
        let name = self.kind.name;
        let usual = |fits: &dyn Fn(u64) -> bool| -> Vec<String> {
            [256, 128, 64, 32, 16].into_iter().filter(|size| fits(*size)).map(|size: u64| size.to_string()).collect()
        };
        let whole = format!("in_features {columns}");
        match (self.granularity, self.kind.element) {
            (_, Element::Block { size, .. }) if !columns.is_multiple_of(size) => {
                let help = format!(
                    "`{name}` has blocks of {size} values: choose a format without blocks, such as `int8(per: channel)`"
                );
                Some(Indivisible { part: format!("the block size {size}"), whole, help })
            }
            (Granularity::Group(size), _) if !columns.is_multiple_of(size) => {
                let sizes = usual(&|size| columns.is_multiple_of(size));
                let help = match &sizes[..] {
                    [] if self.kind.takes("per") => format!("no usual size does: write `{name}(per: channel)`"),
                    [] => "no usual size does: choose a format that can be `per: channel`".to_owned(),
                    [only] => format!("of the usual sizes {only} does"),
                    [first, ..] => format!("of the usual sizes {} do: write `group: {first}`", sizes.join(", ")),
                };
                Some(Indivisible { part: format!("group {size}"), whole, help })
            }
            (Granularity::Block(r, c), _) if !rows.is_multiple_of(r) || !columns.is_multiple_of(c) => {
                let (part, whole) = (format!("block [{r}, {c}]"), format!("the shape [{rows}, {columns}]"));
                let help = match usual(&|size| rows.is_multiple_of(size) && columns.is_multiple_of(size)).first() {
                    Some(size) => format!("write `block: [{size}, {size}]`"),
                    None => format!("no usual size does: write `{name}(per: channel)`"),
                };
                Some(Indivisible { part, whole, help })
            }
            _ if self.sparse && !columns.is_multiple_of(4) => {
                let help = "drop `sparse`: it needs whole fours".into();
                Some(Indivisible { part: "4 of `sparse`".into(), whole, help })
            }
            _ => None,
        }
    }

    /// Bytes of a weight `[rows, columns]`; `None` for a kept one. Where it cannot be built yet, scales are taken for 2
    /// bytes (4 where there is one for many values, 1 in microscaling formats), zero points for 1.
    pub fn bytes(&self, rows: u64, columns: u64) -> Option<u64> {
        if let Some(Encoding { format, .. }) = self.encoding()
            && let (Ok(rows), Ok(columns)) = (rows.try_into(), columns.try_into())
            && format.constraints(rows, columns).is_ok()
        {
            return Some(format.bytes(rows, columns) as u64);
        }
        let values = rows.saturating_mul(columns);
        let groups = match self.granularity {
            Granularity::Tensor => 1,
            Granularity::Channel | Granularity::Token | Granularity::Head => rows,
            Granularity::Group(size) => rows.saturating_mul(columns.div_ceil(size)),
            Granularity::Block(r, c) => rows.div_ceil(r).saturating_mul(columns.div_ceil(c)),
        };
        let codes = |bits: u32| {
            // Of four neighbours two are stored, with two bits each that say which.
            let (stored, bits) = if self.sparse { (values / 2, bits + 2) } else { (values, bits) };
            stored.saturating_mul(u64::from(bits)).div_ceil(8)
        };
        let zero_points = if self.symmetric { 0 } else { groups };
        Some(match self.kind.element {
            Element::Kept => return None,
            Element::Float { bits } => values.saturating_mul(u64::from(bits / 8)),
            Element::Integer { bits } => {
                codes(bits).saturating_add(groups.saturating_mul(2)).saturating_add(zero_points)
            }
            Element::SmallFloat { bits } => codes(bits).saturating_add(groups.saturating_mul(4)),
            Element::Table => codes(4).saturating_add(groups.saturating_mul(2)),
            Element::Block { bits, size, tensor_scale } => {
                let scales = rows.saturating_mul(columns.div_ceil(size));
                codes(bits).saturating_add(scales).saturating_add(if tensor_scale { 4 } else { 0 })
            }
        })
    }

    fn written_arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        if self.exact {
            arguments.push("exact".to_owned());
        }
        let per = |what: &str| format!("per: {what}");
        arguments.extend(match self.granularity {
            Granularity::Tensor => self.kind.takes("per").then(|| per("tensor")),
            Granularity::Channel => Some(per("channel")),
            Granularity::Token => Some(per("token")),
            Granularity::Head => Some(per("head")),
            Granularity::Group(size) => Some(format!("group: {size}")),
            Granularity::Block(rows, columns) => Some(format!("block: [{rows}, {columns}]")),
        });
        if !self.symmetric {
            arguments.push("symmetric: false".into());
        }
        let named = [("fit", self.fit), ("scale", self.scale), ("scales", self.scales), ("element", self.values)];
        arguments.extend(named.into_iter().filter_map(|(name, word)| Some(format!("{name}: {}", word?))));
        if self.sparse {
            arguments.push("sparse: \"2:4\"".into());
        }
        arguments
    }
}

/// Canonical: what holds anyway is not written.
impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arguments = self.written_arguments();
        f.write_str(self.kind.name)?;
        if arguments.is_empty() { Ok(()) } else { write!(f, "({})", arguments.join(", ")) }
    }
}

impl fmt::Debug for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PartialEq for Format {
    fn eq(&self, other: &Self) -> bool {
        self.kind.name == other.kind.name && self.written_arguments() == other.written_arguments()
    }
}

impl Eq for Format {}

impl FormatKind {
    /// The format of this name.
    pub fn find(name: &str) -> Option<&'static FormatKind> {
        FORMATS.iter().find(|kind| kind.name == name)
    }

    fn takes(&self, parameter: &str) -> bool {
        self.parameters.iter().any(|known| known.name == parameter)
    }
}
