//! The formats of the language, for weights, input activations and the cache of keys and values: one table.
//!
//! A format is written as a call, `int4(group: 128, symmetric: false)`. Here its arguments are checked, as far as that is
//! possible without a model; whether a group divides a weight is checked when the spec meets one.

use std::fmt;

use lathe_grammar::ast::Call;
use lathe_grammar::diag::{Diagnostic, nearest};
use lathe_grammar::span::{Span, Spanned};

use super::names::Names;
use super::parameters::{Arguments, Parameter, Type, Value, bind, place};

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
    /// Where this version of the compiler can build it.
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

const INTEGER: &[Parameter] = &[GROUP, PER, BLOCK, SYMMETRIC, FIT, SCALE, SPARSE];
const SMALL_FLOAT: &[Parameter] = &[GROUP, PER, BLOCK, FIT, SCALE];

const fn integer(name: &'static str, bits: u32, summary: &'static str) -> FormatKind {
    let element = Element::Integer { bits };
    FormatKind { name, summary, roles: ANYWHERE, parameters: INTEGER, element, built: NOWHERE }
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

    /// What shares a scale.
    pub fn granularity(&self) -> Granularity {
        self.granularity
    }

    /// Why values `[rows, columns]` cannot be divided into groups or blocks: what does not divide, and what it should.
    pub fn indivisible(&self, rows: u64, columns: u64) -> Option<(String, String)> {
        match (self.granularity, self.kind.element) {
            (_, Element::Block { size, .. }) | (Granularity::Group(size), _) if columns % size != 0 => {
                let whose = if self.kind.takes("group") { "group" } else { "the block size" };
                Some((format!("{whose} {size}"), format!("in_features {columns}")))
            }
            (Granularity::Block(r, c), _) if rows % r != 0 || columns % c != 0 => {
                Some((format!("block [{r}, {c}]"), format!("the shape [{rows}, {columns}]")))
            }
            _ if self.sparse && columns % 4 != 0 => Some(("4 of `sparse`".into(), format!("in_features {columns}"))),
            _ => None,
        }
    }

    /// Bytes of a weight `[rows, columns]`. Scales take 2 bytes (4 where there is one for many values, 1 in
    /// microscaling formats), zero points 1. `None` for a kept one.
    pub fn bytes(&self, rows: u64, columns: u64) -> Option<u64> {
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
        let named = [("fit", self.fit), ("scale", self.scale), ("element", self.values)];
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

/// Checks a format that stands in `role`. `None` when there is a mistake; every one has been reported.
pub(super) fn format(
    call: &Spanned<Call>,
    role: Role,
    names: &Names<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Format> {
    let (meant, used) = names.call(call, diagnostics)?;
    let name = &meant.value.name;
    let mut report = |mut diagnostic: Diagnostic| {
        if let Some(used) = used {
            diagnostic = diagnostic.label(used, "used here");
        }
        diagnostics.push(diagnostic);
        None
    };
    let Some(kind) = FormatKind::find(&name.value) else {
        let diagnostic = Diagnostic::error("S0201", format!("`{}` is no format", name.value)).label(name.span, "");
        if super::rotations::RotationKind::find(&name.value).is_some() {
            return report(diagnostic.help("it is a rotation: those stand in `rotate`"));
        }
        let lets = names.names_at(name.span.source);
        let known = FORMATS.iter().map(|kind| kind.name).chain(lets);
        let help = match nearest(&name.value, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "`lathe list formats` shows all".into(),
        };
        return report(diagnostic.help(help));
    };
    if !kind.roles.contains(&role) {
        let message = format!("`{}` is no format for {}", kind.name, role.name());
        let roles: Vec<&str> = kind.roles.iter().map(|role| role.name()).collect();
        let help = format!("it is one for {}", roles.join(" and "));
        return report(Diagnostic::error("S0208", message).label(name.span, "").help(help));
    }
    if kind.element == Element::Kept {
        let exact = match &meant.value.args[..] {
            [] => false,
            [arg] if arg.name.is_none() && arg.value.to_string() == "exact" => true,
            [first, ..] => {
                let span = first.name.as_ref().map_or(first.value.span, |name| name.span.to(first.value.span));
                let message = "`keep` takes no argument but `exact`";
                return report(Diagnostic::error("S0203", message).label(span, "").help("write `keep(exact)`"));
            }
        };
        if exact && role != Role::Weight {
            let message = format!("`keep(exact)` is for weights, found it for {}", role.name());
            return report(Diagnostic::error("S0208", message).label(meant.span, "").help("write `keep`"));
        }
        return Some(Format { exact, ..Format::KEEP });
    }
    let before = diagnostics.len();
    let arguments = bind(kind.name, kind.parameters, &meant.value.args, names, diagnostics);
    let format = arguments.and_then(|arguments| typed(kind, &arguments, meant.span, role, diagnostics));
    if let Some(used) = used {
        for diagnostic in &mut diagnostics[before..] {
            if diagnostic.labels.len() == 1 {
                *diagnostic = diagnostic.clone().label(used, "used here");
            }
        }
    }
    format
}

fn typed(
    kind: &'static FormatKind,
    arguments: &Arguments,
    call: Span,
    role: Role,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Format> {
    let before = diagnostics.len();
    let granularity = granularity(kind, arguments, call, role, diagnostics);
    let only = |name: &str, holds: bool, whom: &str, diagnostics: &mut Vec<Diagnostic>| {
        if let Some(given) = arguments.find(name).filter(|_| !holds) {
            let message = format!("`{name}` is for {whom}, found it for {}", role.name());
            diagnostics.push(Diagnostic::error("S0208", message).label(given.span, ""));
        }
    };
    only("fit", role == Role::Weight, "weights", diagnostics);
    only("sparse", role == Role::Weight, "weights", diagnostics);
    only("scale", role != Role::Weight, "activations and caches", diagnostics);
    if diagnostics.len() > before {
        return None;
    }
    let unless = |name: &str, default: &str| arguments.word(name).filter(|word| *word != default);
    Some(Format {
        kind,
        granularity: granularity?,
        symmetric: arguments.flag("symmetric").unwrap_or(true),
        exact: false,
        sparse: arguments.word("sparse").is_some(),
        fit: unless("fit", "absmax"),
        scale: unless("scale", "dynamic"),
        values: arguments
            .word("element")
            .filter(|word| kind.parameters.iter().all(|known| known.default != Some(word))),
    })
}

fn granularity(
    kind: &FormatKind,
    arguments: &Arguments,
    call: Span,
    role: Role,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Granularity> {
    let name = kind.name;
    let given: Vec<&str> =
        ["group", "per", "block"].into_iter().filter(|name| arguments.find(name).is_some()).collect();
    if let [first, second, ..] = given[..] {
        let message = format!("`{first}` and `{second}` of `{name}` both say what shares a scale");
        diagnostics.push(
            Diagnostic::error("S0207", message)
                .label(place(arguments, second, call), "")
                .label(place(arguments, first, call), "said here"),
        );
        return None;
    }
    match arguments.find("per").or(arguments.find("block")).map(|value| (&value.value, value.span)) {
        Some((Value::Word(word), span)) => {
            let (granularity, allowed): (_, &[Role]) = match *word {
                "tensor" => (Granularity::Tensor, ANYWHERE),
                "channel" => (Granularity::Channel, &[Role::Weight, Role::Cache]),
                "token" => (Granularity::Token, &[Role::Input, Role::Cache]),
                _ => (Granularity::Head, &[Role::Cache]),
            };
            if allowed.contains(&role) {
                return Some(granularity);
            }
            let whom: Vec<&str> = allowed.iter().map(|role| role.name()).collect();
            let message = format!("`per: {word}` is for {}, found it for {}", whom.join(" and "), role.name());
            diagnostics.push(Diagnostic::error("S0208", message).label(span, "").help(match role {
                Role::Weight => "weights share a scale `per: channel`, `per: tensor` or in a `group: N`",
                Role::Input => "activations share a scale `per: token`, `per: tensor` or in a `group: N`",
                Role::Cache => "caches share a scale `per: head`, `per: token`, `per: channel` or `per: tensor`",
            }));
            None
        }
        Some((Value::Block(rows, columns), span)) => {
            if role == Role::Weight {
                return Some(Granularity::Block(*rows as u64, *columns as u64));
            }
            let message = format!("`block` is for weights, found it for {}", role.name());
            diagnostics.push(Diagnostic::error("S0208", message).label(span, ""));
            None
        }
        _ => {
            if let Some(size) = arguments.integer("group") {
                return Some(Granularity::Group(size as u64));
            }
            if !kind.takes("group") {
                return Some(Granularity::Tensor);
            }
            let (message, help) = if kind.takes("per") {
                let per = match role {
                    Role::Weight => "channel",
                    Role::Input => "token",
                    Role::Cache => "head",
                };
                let help = format!("write `{name}(per: {per})`, or `{name}(group: 128)`");
                (format!("`{name}` is not told what shares a scale: `group` or `per` is missing"), help)
            } else {
                (format!("`{name}` needs the argument `group`"), format!("write `{name}(group: 64)`"))
            };
            diagnostics.push(Diagnostic::error("S0206", message).label(call, "").help(help));
            None
        }
    }
}
