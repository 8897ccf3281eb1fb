//! The rotations of the language and the sites that they act on: two tables.

use std::fmt;

use lathe_grammar::ast::Call;
use lathe_grammar::diag::Diagnostic;
use lathe_grammar::span::Spanned;

use super::elsewhere;
use super::formats::FormatKind;
use super::names::Names;
use super::parameters::{Arguments, Parameter, Type, bind};

/// A rotation of the language.
#[derive(Debug, Clone, Copy)]
pub struct RotationKind {
    /// Its name.
    pub name: &'static str,
    /// One line for listings.
    pub summary: &'static str,
    /// What it takes.
    pub parameters: &'static [Parameter],
    /// Parameters that have no default.
    pub required: &'static [&'static str],
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
    summary: "a safetensors file beside the spec with one orthogonal matrix",
};

/// Every rotation, in the order in which listings show them.
pub static ROTATIONS: &[RotationKind] = &[
    RotationKind {
        name: "none",
        summary: "no rotation; takes back what a base asks for",
        parameters: &[],
        required: &[],
        built: true,
    },
    RotationKind {
        name: "hadamard",
        summary: "a Hadamard matrix, scaled to be orthogonal",
        parameters: &[BLOCK],
        required: &[],
        built: false,
    },
    RotationKind {
        name: "random_hadamard",
        summary: "a Hadamard matrix with random signs (QuIP#, Tseng et al. 2024, section 3)",
        parameters: &[SEED, BLOCK],
        required: &["seed"],
        built: false,
    },
    RotationKind {
        name: "random_orthogonal",
        summary: "a random orthogonal matrix",
        parameters: &[SEED, BLOCK],
        required: &["seed"],
        built: false,
    },
    RotationKind {
        name: "matrix",
        summary: "an orthogonal matrix of your own",
        parameters: &[FILE],
        required: &["file"],
        built: false,
    },
];

impl RotationKind {
    /// The rotation of this name.
    pub fn find(name: &str) -> Option<&'static RotationKind> {
        ROTATIONS.iter().find(|kind| kind.name == name)
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Name in [`ROTATIONS`].
    pub kind: &'static str,
    /// Width of a block; the whole width when absent.
    pub block: Option<u64>,
    /// The random choice.
    pub seed: Option<u64>,
    /// The file of a matrix.
    pub file: Option<String>,
}

impl Turn {
    /// Whether it leaves everything as it is.
    pub fn is_none(&self) -> bool {
        self.kind == "none"
    }
}

impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seed = self.seed.map(|seed| format!("seed: {seed}"));
        let block = self.block.map(|block| format!("block: {block}"));
        let file = self.file.as_ref().map(|file| format!("file: {file:?}"));
        let arguments: Vec<String> = [seed, block, file].into_iter().flatten().collect();
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
    let arguments = bind(kind.name, kind.parameters, &meant.value.args, names, diagnostics)?;
    let missing: Vec<&&str> = kind.required.iter().filter(|name| arguments.find(name).is_none()).collect();
    for name in &missing {
        let message = format!("`{}` needs the argument `{name}`", kind.name);
        let value = if **name == "file" { "\"rotation.safetensors\"" } else { "7" };
        let help = format!("write `{}({name}: {value})`", kind.name);
        diagnostics.push(Diagnostic::error("S0206", message).label(meant.span, "").help(help));
    }
    missing.is_empty().then(|| turn(kind, &arguments))
}

fn turn(kind: &'static RotationKind, arguments: &Arguments) -> Turn {
    Turn {
        kind: kind.name,
        block: arguments.integer("block").map(|block| block as u64),
        seed: arguments.integer("seed").map(|seed| seed as u64),
        file: arguments.text("file").map(str::to_owned),
    }
}
