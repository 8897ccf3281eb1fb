//! The rotations of the language and the sites that they act on: two tables.

use std::fmt;
use std::path::PathBuf;

use lathe_grammar::Quoted;
use lathe_grammar::ast::Call;
use lathe_grammar::diag::Diagnostic;
use lathe_grammar::span::Spanned;

use super::elsewhere;
use super::formats::FormatKind;
use super::names::Names;
use super::parameters::{Arguments, Parameter, Type, bind};
use crate::ir::Real;

/// A rotation of the language, or a scaling, which is asked for in the same way.
#[derive(Debug, Clone, Copy)]
pub struct RotationKind {
    /// Its name.
    pub name: &'static str,
    /// One line for listings.
    pub summary: &'static str,
    /// What it takes.
    pub parameters: &'static [Parameter],
    /// How many of its parameters, the first ones, may be given without a name.
    pub positional: usize,
    /// Parameters that have no default.
    pub required: &'static [&'static str],
    /// Sites that it cannot act on, and why.
    pub refused: &'static [(Site, &'static str)],
    /// Whether this version of the compiler can build it.
    pub built: bool,
}

const BLOCK: Parameter = Parameter {
    name: "block",
    of: Type::Integer { least: 2, most: 1 << 20 },
    default: None,
    summary: "block-diagonal, of blocks of this size; the whole width when left out",
};
const SEED: Parameter = Parameter {
    name: "seed",
    of: Type::Integer { least: 0, most: i64::MAX },
    default: None,
    summary: "the random choice; the same seed gives the same rotation on every machine",
};
const FILE: Parameter = Parameter {
    name: "file",
    of: Type::Text,
    default: None,
    summary: "a safetensors file, by its path from the file of the spec",
};
const KEY: Parameter = Parameter {
    name: "key",
    of: Type::Text,
    default: None,
    summary: "the name of its tensor, where `{layer}` stands for the number of the layer that an edge lies in; may be left out when the file holds one tensor",
};
const ALPHA: Parameter = Parameter {
    name: "alpha",
    of: Type::Fraction,
    default: Some("0.5"),
    summary: "how much of the range of activations goes to the weights: 0 nothing, 1 all",
};

/// Stands for the number of a layer in the key of a matrix.
pub const LAYER: &str = "{layer}";

const EVERYWHERE: &[(Site, &str)] = &[];

/// Every rotation, in the order in which listings show them.
pub static ROTATIONS: &[RotationKind] = &[
    RotationKind {
        name: "none",
        summary: "no request; takes back what a base or another request asks for",
        parameters: &[],
        positional: 0,
        required: &[],
        refused: EVERYWHERE,
        built: true,
    },
    RotationKind {
        name: "identity",
        summary: "a request like any other: the edge keeps the basis of the model, also where its neighbours are rotated",
        parameters: &[],
        positional: 0,
        required: &[],
        refused: EVERYWHERE,
        built: true,
    },
    RotationKind {
        name: "hadamard",
        summary: "a Hadamard matrix, scaled to be orthogonal",
        parameters: &[BLOCK],
        positional: 0,
        required: &[],
        refused: EVERYWHERE,
        built: true,
    },
    RotationKind {
        name: "random_hadamard",
        summary: "random signs and a Hadamard matrix (QuIP#, Tseng et al. 2024, section 3)",
        parameters: &[SEED, BLOCK],
        positional: 0,
        required: &["seed"],
        refused: EVERYWHERE,
        built: true,
    },
    RotationKind {
        name: "orthogonal",
        summary: "a random orthogonal matrix, each as likely as any other (Haar measure)",
        parameters: &[SEED, BLOCK],
        positional: 0,
        required: &["seed"],
        refused: EVERYWHERE,
        built: true,
    },
    RotationKind {
        name: "matrix",
        summary: "an orthogonal matrix of your own, such as a learned one (SpinQuant, Liu et al. 2024)",
        parameters: &[FILE, KEY],
        positional: 2,
        required: &["file"],
        refused: EVERYWHERE,
        built: true,
    },
    RotationKind {
        name: "smooth",
        summary: "no rotation, but a scale for each channel, found by calibration (SmoothQuant, Xiao et al. 2023, equation 4)",
        parameters: &[ALPHA],
        positional: 0,
        required: &[],
        refused: &[
            (Site::Residual, "scales of channels do not pass through the norms that read the stream, as rotations do"),
            (Site::QueryKey, "q and k have one frame, and only a rotation of both leaves their products as they are"),
        ],
        built: true,
    },
];

impl RotationKind {
    /// The rotation of this name.
    pub fn find(name: &str) -> Option<&'static RotationKind> {
        ROTATIONS.iter().find(|kind| kind.name == name)
    }

    /// Where an argument stands that may be given without its name.
    pub(super) fn place(&self, argument: &str) -> Option<usize> {
        self.parameters[..self.positional].iter().position(|parameter| parameter.name == argument)
    }
}

/// Edges of the graph that are found by structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Site {
    /// What additions join from the embedding to the final norm.
    Residual,
    /// From v to the output of attention.
    Value,
    /// Queries and keys behind the rotary embedding.
    QueryKey,
    /// The input of a linear that an activation or a product feeds.
    FfnHidden,
    /// The input of the linears that a pattern matches.
    Input,
}

/// How a site is written.
#[derive(Debug, Clone, Copy)]
pub struct SiteKind {
    /// Which it is.
    pub site: Site,
    /// Its name.
    pub name: &'static str,
    /// What it is called in the literature.
    pub also: &'static str,
    /// One line for listings.
    pub summary: &'static str,
    /// Whether `of PATTERN` may, must (`Some(true)`) or must not (`None`) follow.
    pub pattern: Option<bool>,
}

/// Every site, in the order in which listings show them.
pub static SITES: &[SiteKind] = &[
    SiteKind {
        site: Site::Residual,
        name: "residual",
        also: "R1",
        summary: "the residual stream: the edges that additions join from the embedding to the final norm",
        pattern: None,
    },
    SiteKind {
        site: Site::Value,
        name: "value",
        also: "R2",
        summary: "from v to the output of attention, in each head",
        pattern: Some(false),
    },
    SiteKind {
        site: Site::QueryKey,
        name: "query_key",
        also: "R3",
        summary: "queries and keys behind the rotary embedding, in each head",
        pattern: Some(false),
    },
    SiteKind {
        site: Site::FfnHidden,
        name: "ffn_hidden",
        also: "R4",
        summary: "the input of a linear that an activation or a product feeds",
        pattern: Some(false),
    },
    SiteKind {
        site: Site::Input,
        name: "input",
        also: "",
        summary: "the input of the modules that the pattern matches: `input of PATTERN`",
        pattern: Some(true),
    },
];

impl SiteKind {
    /// The site of this name.
    pub fn find(name: &str) -> Option<&'static SiteKind> {
        SITES.iter().find(|kind| kind.name == name)
    }
}

/// A rotation with its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Turn {
    /// Name in [`ROTATIONS`].
    pub kind: &'static str,
    /// Width of a block; the whole width when absent.
    pub block: Option<u64>,
    /// The random choice.
    pub seed: Option<u64>,
    /// The file of a matrix, as it is written.
    pub file: Option<String>,
    /// Where that file lies, from the working directory.
    pub path: Option<PathBuf>,
    /// The tensor in that file, with [`LAYER`] for the number of a layer; the only one when absent.
    pub key: Option<String>,
    /// The exponent of the maxima of activations, from 0 to 1.
    pub alpha: Option<Real>,
}

impl Turn {
    /// Whether it is no request.
    pub fn is_none(&self) -> bool {
        self.kind == "none"
    }

    /// Without the file of a matrix and the key in it.
    pub(crate) fn without_file(&self) -> Turn {
        Turn { file: None, path: None, key: None, ..self.clone() }
    }
}

impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |text: &Option<String>| text.as_ref().map(|text| Quoted(text).to_string());
        let (file, key) = (quoted(&self.file), quoted(&self.key));
        let seed = self.seed.map(|seed| format!("seed: {seed}"));
        let block = self.block.map(|block| format!("block: {block}"));
        let alpha = self.alpha.map(|alpha| format!("alpha: {alpha}"));
        let arguments: Vec<String> = [file, key, seed, block, alpha].into_iter().flatten().collect();
        f.write_str(self.kind)?;
        if arguments.is_empty() { Ok(()) } else { write!(f, "({})", arguments.join(", ")) }
    }
}

/// Checks a rotation. `None` when there is a mistake; every one has been reported.
pub(super) fn rotation(call: &Spanned<Call>, names: &Names<'_>, diagnostics: &mut Vec<Diagnostic>) -> Option<Turn> {
    if !call.value.is_readable() {
        return None;
    }
    let (meant, _) = names.call(call, diagnostics)?;
    let name = &meant.value.name;
    let Some(kind) = RotationKind::find(&name.value) else {
        if names.is_lost(&name.value) {
            return None;
        }
        let diagnostic = Diagnostic::error("S0402", format!("`{}` is no rotation", name.value)).label(name.span, "");
        let known: Vec<&str> = ROTATIONS.iter().map(|kind| kind.name).collect();
        let lets = names.names_at(name.span.source);
        let help = if let Some(here) = elsewhere::rotation(&name.value) {
            format!("write `{here}`")
        } else if FormatKind::find(&name.value).is_some() {
            "it is a format: those stand in `rules` and behind `kv_cache`".to_owned()
        } else {
            match elsewhere::near(&name.value, known.iter().copied().chain(lets)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the rotations are {}", known.join(", ")),
            }
        };
        diagnostics.push(diagnostic.help(help));
        return None;
    };
    let parameters = (kind.parameters, kind.positional);
    let arguments = bind(kind.name, parameters, &meant.value.args, names, diagnostics)?;
    let missing: Vec<&&str> = kind.required.iter().filter(|name| arguments.find(name).is_none()).collect();
    for name in &missing {
        let message = format!("`{}` needs the argument `{name}`", kind.name);
        let value = if **name == "file" { "\"rotation.safetensors\"" } else { "7" };
        let help = format!("write `{}({name}: {value})`", kind.name);
        diagnostics.push(Diagnostic::error("S0206", message).label(meant.span, "").help(help));
    }
    let path = arguments.text("file").map(|file| names.file(file)).transpose();
    let path = path.map_err(|fault| diagnostics.push(*fault));
    let key = arguments.text("key").filter(|key| !is_readable(&key.value));
    if let Some(key) = key {
        let message = "the key of a matrix holds braces other than `{layer}`";
        let help = "write `{layer}` where the number of a layer stands, as in `\"layers.{layer}.R2\"`";
        diagnostics.push(Diagnostic::error("S0205", message).label(key.span, "").help(help));
    }
    (missing.is_empty() && key.is_none()).then_some(Turn { path: path.ok()?, ..turn(kind, &arguments) })
}

/// Whether a key holds no braces but those of [`LAYER`].
fn is_readable(key: &str) -> bool {
    !key.replace(LAYER, "").contains(['{', '}'])
}

fn turn(kind: &'static RotationKind, arguments: &Arguments) -> Turn {
    let with_default = |parameter: &Parameter| (parameter.name == ALPHA.name).then(|| Real::new(0.5));
    Turn {
        kind: kind.name,
        block: arguments.integer("block").map(|block| block as u64),
        seed: arguments.integer("seed").map(|seed| seed as u64),
        file: arguments.text("file").map(|file| file.value.clone()),
        path: None,
        key: arguments.text("key").map(|key| key.value.clone()),
        alpha: arguments.fraction("alpha").or_else(|| kind.parameters.iter().find_map(with_default)),
    }
}

/// Why a rotation cannot act on a site.
pub(super) fn refused(turn: &Turn, site: Site) -> Option<&'static str> {
    let kind = RotationKind::find(turn.kind)?;
    let of_kind = kind.refused.iter().find(|(refused, _)| *refused == site).map(|(_, reason)| *reason);
    let names_a_layer = || turn.key.as_ref().is_some_and(|key| key.contains(LAYER));
    let one_stream = "`{layer}` stands for the number of a layer, and the stream runs through all of them";
    of_kind.or_else(|| (site == Site::Residual && names_a_layer()).then_some(one_stream))
}
