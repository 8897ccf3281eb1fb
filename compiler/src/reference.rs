//! What the language has, as tables made from those that the compiler itself uses: for `lathe list` and for
//! docs/language.md.

use std::fmt::Write as _;

use lathe_grammar::ast::{BinaryOp, File, UnaryOp};
use lathe_grammar::codes::CODES;
use lathe_grammar::pattern::Kind;
use lathe_grammar::span::Sources;
use lathe_runtime::program::{Binary, Unary};

use crate::definition::architectures;
use crate::elaborate::{CONSTRUCTORS, FUNCTIONS, Parameter};
use crate::ir::{Op, ParamId, Real, RopeId, RotationId};
use crate::spec::Parameter as Argument;
use crate::spec::{FORMATS, ROTATIONS, Role, SETTINGS, SITES};

/// Something that there is a list of.
#[derive(Debug, Clone, Copy)]
pub struct Topic {
    /// Its name on the command line and in the documentation.
    pub name: &'static str,
    /// What is listed, in one line.
    pub summary: &'static str,
    /// The list.
    pub table: fn() -> Table,
}

/// A list. The first column holds names, the last one the longest texts.
#[derive(Debug, Clone)]
pub struct Table {
    /// Heads of the columns.
    pub columns: &'static [&'static str],
    /// As many cells in each as there are columns.
    pub rows: Vec<Vec<String>>,
}

/// Every list.
pub static TOPICS: &[Topic] = &[
    Topic { name: "specs", summary: "quantization specs that ship inside this binary", table: specs },
    Topic {
        name: "models",
        summary: "model definitions that ship, and the architectures they describe",
        table: models,
    },
    Topic { name: "kinds", summary: "kinds of module, as in `:linear`", table: kinds },
    Topic { name: "formats", summary: "formats of weights, input activations and the KV cache", table: formats },
    Topic { name: "rotations", summary: "rotations of edges of the graph", table: rotations },
    Topic { name: "sites", summary: "edges of the graph that rotations act on", table: sites },
    Topic { name: "arguments", summary: "arguments of formats and rotations", table: arguments },
    Topic { name: "settings", summary: "settings of a spec that are one of a few words", table: settings },
    Topic { name: "constructors", summary: "modules that a definition can declare", table: constructors },
    Topic { name: "functions", summary: "functions that a definition can call", table: functions },
    Topic { name: "operators", summary: "operators of expressions, loosest first", table: operators },
    Topic { name: "ops", summary: "operations of the graph that the compiler works on", table: ops },
    Topic { name: "codes", summary: "codes of messages; `lathe explain CODE` says more", table: codes },
];

impl Table {
    fn new<const N: usize>(columns: &'static [&'static str; N], rows: impl IntoIterator<Item = [String; N]>) -> Self {
        Table { columns, rows: rows.into_iter().map(Vec::from).collect() }
    }

    /// As a table of a Markdown document, names in the type of code.
    pub fn markdown(&self) -> String {
        let mut text = format!("| {} |\n|{}\n", self.columns.join(" | "), "---|".repeat(self.columns.len()));
        for row in &self.rows {
            let cell = |(column, cell): (usize, &String)| {
                let cell = cell.replace('|', "\\|");
                if column == 0 { format!("`{cell}`") } else { cell }
            };
            let cells: Vec<String> = row.iter().enumerate().map(cell).collect();
            // Writing to a string cannot fail.
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        }
        text
    }
}

fn specs() -> Table {
    Table::new(&["spec", "what it does"], lathe_specs::SPECS.iter().map(|entry| [entry.name.into(), entry.summary()]))
}

fn models() -> Table {
    let rows = lathe_specs::MODELS.iter().map(|entry| {
        let mut sources = Sources::new();
        let source = sources.add(entry.path, entry.text);
        let file = lathe_grammar::parse(&sources, source).file;
        let names: Vec<String> = file.iter().flat_map(File::models).flat_map(architectures).collect();
        [entry.name.into(), names.join(", ")]
    });
    Table::new(&["definition", "architectures"], rows)
}

fn kinds() -> Table {
    let summary = |kind| match kind {
        Kind::Linear => "a projection that is neither head nor router",
        Kind::Head => "the projection to the vocabulary",
        Kind::Embedding => "a table that is looked up by token",
        Kind::Router => "the projection that scores experts",
        Kind::Norm => "a normalization; takes no format, so `**` leaves it out",
        Kind::Conv => "a convolution",
        Kind::Vector => "a vector that the graph uses as it is; takes no format, so `**` leaves it out",
    };
    Table::new(&["kind", "meaning"], Kind::ALL.map(|kind| [format!(":{}", kind.name()), summary(kind).into()]))
}

fn formats() -> Table {
    let place = |role: &Role| match role {
        Role::Weight => "weights",
        Role::Input => "inputs",
        Role::Cache => "cache",
    };
    let rows = FORMATS.iter().map(|kind| {
        let (built, later): (Vec<&Role>, Vec<&Role>) = kind.roles.iter().partition(|role| kind.built.contains(role));
        let mut places: Vec<String> = built.into_iter().map(|role| place(role).to_owned()).collect();
        if !later.is_empty() {
            places.push(format!("({})", later.into_iter().map(place).collect::<Vec<_>>().join(", ")));
        }
        [kind.name.into(), places.join(", "), kind.summary.into()]
    });
    Table::new(&["format", "for (not built yet)", "meaning"], rows)
}

fn rotations() -> Table {
    let rows = ROTATIONS.iter().map(|kind| {
        let arguments: Vec<&str> = kind.parameters.iter().map(|argument| argument.name).collect();
        [kind.name.into(), arguments.join(", "), yes_or_no(kind.built).into(), kind.summary.into()]
    });
    Table::new(&["rotation", "arguments", "built", "meaning"], rows)
}

fn sites() -> Table {
    let rows = SITES.iter().map(|site| {
        let pattern = match site.pattern {
            Some(true) => "must follow",
            Some(false) => "may follow",
            None => "cannot follow",
        };
        [site.name.into(), site.also.into(), pattern.into(), site.summary.into()]
    });
    Table::new(&["site", "also called", "a pattern", "edges"], rows)
}

/// One row for each meaning that an argument has.
fn arguments() -> Table {
    let mut found: Vec<(&Argument, Vec<&str>)> = Vec::new();
    let formats = FORMATS.iter().map(|kind| (kind.name, kind.parameters));
    let rotations = ROTATIONS.iter().map(|kind| (kind.name, kind.parameters));
    for (kind, argument) in formats.chain(rotations).flat_map(|(kind, all)| all.iter().map(move |one| (kind, one))) {
        let meaning = |argument: &Argument| (argument.name, argument.of, argument.summary);
        match found.iter_mut().find(|(known, _)| meaning(known) == meaning(argument)) {
            Some((_, kinds)) => kinds.push(kind),
            None => found.push((argument, vec![kind])),
        }
    }
    let rows = found.into_iter().map(|(argument, kinds)| {
        let default = argument.default.unwrap_or("–");
        let meaning = format!("{} (of {})", argument.summary, kinds.join(", "));
        [argument.name.into(), argument.of.describe(), default.into(), meaning]
    });
    Table::new(&["argument", "takes", "default", "meaning"], rows)
}

fn settings() -> Table {
    let rows = SETTINGS.iter().flat_map(|setting| {
        setting.values.iter().map(|(word, summary, built)| {
            [format!("{} => {word}", setting.name), yes_or_no(*built).into(), (*summary).into()]
        })
    });
    Table::new(&["setting", "built", "meaning"], rows)
}

fn yes_or_no(flag: bool) -> &'static str {
    if flag { "yes" } else { "no" }
}

fn constructors() -> Table {
    let rows = CONSTRUCTORS.iter().map(|constructor| {
        let call = signature(constructor.name, constructor.parameters);
        [call, format!(":{}", constructor.kind.name()), constructor.summary.into()]
    });
    Table::new(&["constructor", "kind", "parameters of the module, what it computes"], rows)
}

fn functions() -> Table {
    let rows =
        FUNCTIONS.iter().map(|function| [signature(function.name, function.parameters), function.summary.into()]);
    Table::new(&["function", "result"], rows)
}

/// `attention(q, k, v, scale: …, [window: …])`
fn signature(name: &str, parameters: &[Parameter]) -> String {
    let parameters: Vec<String> = parameters
        .iter()
        .map(|parameter| match (parameter.named, parameter.optional) {
            (false, _) => parameter.name.to_owned(),
            (true, false) => format!("{}: …", parameter.name),
            (true, true) => format!("[{}: …]", parameter.name),
        })
        .collect();
    format!("{name}({})", parameters.join(", "))
}

/// An array of each variant of a type with what is said of it: `PATTERN = VARIANT => TEXT`, or `VARIANT => TEXT` for those
/// that carry nothing. It becomes a match without `_ =>`, so that none can be missing.
macro_rules! every {
    ($($pattern:pat = $variant:expr => $text:expr,)*) => {
        [$($variant),*].map(|variant| {
            let text = match &variant {
                $($pattern => $text,)*
            };
            (variant, text)
        })
    };
    ($($variant:path => $text:expr,)*) => {
        every! { $($variant = $variant => $text,)* }
    };
}

fn operators() -> Table {
    // Loosest first.
    let binary = every! {
        BinaryOp::Or => "`a`, or `b` when `a` is null or a missing key of the config",
        BinaryOp::Either => "either is true; `b` is looked at only when `a` is false",
        BinaryOp::Both => "both are true; `b` is looked at only when `a` is true",
        BinaryOp::Eq => "equal",
        BinaryOp::Ne => "not equal",
        BinaryOp::Lt => "less",
        BinaryOp::Le => "less or equal",
        BinaryOp::Gt => "greater",
        BinaryOp::Ge => "greater or equal",
        BinaryOp::Add => "sum; of activations, element by element; of one and a number or a vector, on each row; texts are joined",
        BinaryOp::Sub => "difference; of activations, or of one and a number, element by element",
        BinaryOp::Mul => "product; of activations, element by element; of one and a number or a vector, on each row",
        BinaryOp::Div => "quotient; between whole numbers it must be whole; an activation is divided by numbers only",
        BinaryOp::Rem => "remainder of whole numbers",
        BinaryOp::Pow => "power; right-associative",
    };
    let unary = every! {
        UnaryOp::Neg => ("-a", "negative"),
        UnaryOp::Not => ("!a", "not true"),
    };
    let row = |written: String, meaning: &str| [written, meaning.to_owned()];
    let between = |(operator, meaning): &(BinaryOp, &str)| row(format!("a {} b", operator.symbol()), meaning);
    let (power, looser) = binary.split_last().expect("there are operators");
    let rows = [row("a when c".into(), "`a` when `c` is true, else null")]
        .into_iter()
        .chain(looser.iter().map(between))
        .chain(unary.map(|(_, (written, meaning))| row(written.to_owned(), meaning)))
        .chain([between(power)]);
    Table::new(&["operator", "meaning"], rows)
}

fn ops() -> Table {
    let eps = Real::new(0.0);
    // Operands, result, and what is computed. T counts tokens, S those that logits are asked for. What the operations carry
    // means nothing.
    let ops = every! {
        Op::Tokens = Op::Tokens => ("", "[T]", "the token ids of a step"),
        Op::Positions = Op::Positions => ("", "[T]", "their positions"),
        Op::Selection = Op::Selection => ("", "[S]", "which of them logits are asked for"),
        Op::Param(_) = Op::Param(ParamId(0)) => ("", "as stored", "a weight, gain or bias of the checkpoint"),
        Op::Embed { .. } = Op::Embed { first: 0 } => (
            "table [rows, n], tokens or positions [T]",
            "[T, n]",
            "the row of each, counted from `first`",
        ),
        Op::Linear { .. } = Op::Linear { input: None } => ("x […, in], W [out, in], optional b [out]", "[…, out]", "x Wᵀ + b"),
        Op::ExpertLinear { .. } = Op::ExpertLinear { experts: 1, input: None } => (
            "x [T, in] or [T, k, in], choice [T, k], W [out, in] of each expert, optional b [out] of each",
            "[T, k, out]",
            "x Wᵀ + b with the experts that a row has chosen",
        ),
        Op::Centre = Op::Centre => ("x […, n], optional u [n]", "[…, n]", "x - mean(x) over the last dimension; with u, x - (x·u) u"),
        Op::Normalize { .. } = Op::Normalize { eps } => ("x […, n]", "[…, n]", "x / sqrt(mean(x²) + eps) over the last dimension"),
        Op::Gain { .. } = Op::Gain { offset: eps } => ("x […, n], g [n] or [heads, n]", "[…, n]", "x ⊙ (offset + g)"),
        Op::Shift = Op::Shift => ("x […, n], b [n] or [heads, n]", "[…, n]", "x + b"),
        Op::Norm { centre: false, .. } = Op::Norm { centre: false, along: false, eps, gain: None, shift: false } => (
            "x […, n], optional g [n], optional b [n]",
            "[…, n]",
            "normalize, gain, shift, as one kernel",
        ),
        Op::Norm { centre: true, .. } = Op::Norm { centre: true, along: false, eps, gain: None, shift: false } => (
            "x […, n], optional g [n], optional b [n]",
            "[…, n]",
            "centre, normalize, gain, shift, as one kernel",
        ),
        Op::Rotate { .. } = Op::Rotate { rotation: RotationId(0), inverse: false } => ("x […, k·n]", "[…, k·n]", "each block of n times an orthogonal matrix Q, or times Qᵀ"),
        Op::SplitHeads { .. } = Op::SplitHeads { head_dim: 1 } => ("x […, h·d]", "[…, h, d]", "another view of the same values"),
        Op::MergeHeads = Op::MergeHeads => ("x […, h, d]", "[…, h·d]", "another view of the same values"),
        Op::Rope(_) = Op::Rope(RopeId(0)) => ("x [T, h, d], positions [T]", "[T, h, d]", "rotary embedding"),
        Op::Attention { .. } = Op::Attention { scale: eps, window: None, softcap: None } => (
            "q [T, h, d], k and v [T, kv, d], optional sinks [h]",
            "[T, h, d]",
            "causal softmax attention over these and earlier positions",
        ),
        Op::Unary(Unary::Silu) = Op::Unary(Unary::Silu) => ("x […]", "[…]", "x / (1 + exp(-x)), element by element"),
        Op::Unary(Unary::Gelu) = Op::Unary(Unary::Gelu) => ("x […]", "[…]", "x · Φ(x), by the error function, element by element"),
        Op::Unary(Unary::GeluTanh) = Op::Unary(Unary::GeluTanh) => ("x […]", "[…]", "x / 2 · (1 + tanh(√(2/π) (x + 0.044715 x³))), element by element"),
        Op::Unary(Unary::GeluQuick) = Op::Unary(Unary::GeluQuick) => ("x […]", "[…]", "x / (1 + exp(-1.702 x)), element by element"),
        Op::Unary(Unary::Relu) = Op::Unary(Unary::Relu) => ("x […]", "[…]", "max(x, 0), element by element"),
        Op::Unary(Unary::ReluSquared) = Op::Unary(Unary::ReluSquared) => ("x […]", "[…]", "max(x, 0)², element by element"),
        Op::Unary(Unary::Sigmoid) = Op::Unary(Unary::Sigmoid) => ("x […]", "[…]", "1 / (1 + exp(-x)), element by element"),
        Op::Unary(Unary::Tanh) = Op::Unary(Unary::Tanh) => ("x […]", "[…]", "tanh(x), element by element"),
        Op::Binary(Binary::Add) = Op::Binary(Binary::Add) => ("a […], b […]", "[…]", "a + b, element by element"),
        Op::Binary(Binary::Sub) = Op::Binary(Binary::Sub) => ("a […], b […]", "[…]", "a - b, element by element"),
        Op::Binary(Binary::Mul) = Op::Binary(Binary::Mul) => ("a […], b […]", "[…]", "a · b, element by element"),
        Op::Gated(Unary::Silu) = Op::Gated(Unary::Silu) => ("gate […], value […]", "[…]", "silu(gate) · value, as one kernel"),
        Op::Gated(Unary::Gelu) = Op::Gated(Unary::Gelu) => ("gate […], value […]", "[…]", "gelu(gate) · value, as one kernel"),
        Op::Gated(Unary::GeluTanh) = Op::Gated(Unary::GeluTanh) => ("gate […], value […]", "[…]", "gelu_tanh(gate) · value, as one kernel"),
        Op::Gated(Unary::GeluQuick) = Op::Gated(Unary::GeluQuick) => ("gate […], value […]", "[…]", "gelu_quick(gate) · value, as one kernel"),
        Op::Gated(Unary::Relu) = Op::Gated(Unary::Relu) => ("gate […], value […]", "[…]", "relu(gate) · value, as one kernel"),
        Op::Gated(Unary::ReluSquared) = Op::Gated(Unary::ReluSquared) => ("gate […], value […]", "[…]", "relu_squared(gate) · value, as one kernel"),
        Op::Gated(Unary::Sigmoid) = Op::Gated(Unary::Sigmoid) => ("gate […], value […]", "[…]", "sigmoid(gate) · value, as one kernel"),
        Op::Gated(Unary::Tanh) = Op::Gated(Unary::Tanh) => ("gate […], value […]", "[…]", "tanh(gate) · value, as one kernel"),
        Op::Affine { .. } = Op::Affine { factor: eps, offset: eps } => ("x […]", "[…]", "factor · x + offset, element by element"),
        Op::Clamp { .. } = Op::Clamp { low: None, high: None } => ("x […]", "[…]", "min(max(x, low), high), element by element"),
        Op::Softcap { .. } = Op::Softcap { cap: eps } => ("x […]", "[…]", "cap · tanh(x / cap), element by element"),
        Op::Softmax = Op::Softmax => ("x […, n]", "[…, n]", "exp(x) / Σ exp(x) over the last dimension"),
        Op::NormalizeSum = Op::NormalizeSum => ("x […, n]", "[…, n]", "x / Σ x over the last dimension"),
        Op::TopK { .. } = Op::TopK { k: 1 } => ("scores [T, n]", "choice [T, k]", "the numbers of the k largest, largest first"),
        Op::Gather = Op::Gather => ("x [T, n], choice [T, k]", "[T, k]", "the chosen elements"),
        Op::Combine = Op::Combine => ("x [T, k, n], weights [T, k]", "[T, n]", "the weighted sum over the choices"),
        Op::Select = Op::Select => ("x [T, …], selection [S]", "[S, …]", "the selected rows"),
        Op::Output = Op::Output => ("logits [T or S, vocab]", "", "the result of the graph"),
    };
    let row = |(op, (operands, result, meaning)): (Op, (&str, &str, &str))| {
        [op.name().to_owned(), operands.into(), result.into(), meaning.into()]
    };
    Table::new(&["op", "operands", "result", "meaning"], ops.into_iter().map(row))
}

fn codes() -> Table {
    Table::new(&["code", "meaning"], CODES.iter().map(|entry| [entry.code.into(), entry.title.into()]))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_rows_are_whole() {
        let names: BTreeSet<&str> = TOPICS.iter().map(|topic| topic.name).collect();
        assert_eq!(names.len(), TOPICS.len());
        for topic in TOPICS {
            let table = (topic.table)();
            let rows: BTreeSet<&Vec<String>> = table.rows.iter().collect();
            assert_eq!(rows.len(), table.rows.len(), "{}", topic.name);
            assert!(table.rows.iter().all(|row| row.len() == table.columns.len()), "{}", topic.name);
        }
    }
}
