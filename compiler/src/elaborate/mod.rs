//! A model definition, evaluated on a config and the headers of a checkpoint: modules, parameters and the graph.
//!
//! Declarations may stand in any order: a `let` is evaluated when it is first used, constructors once all module paths
//! are known, the graph last. Every mistake is reported, but not what only follows from another: what has failed is a
//! value of its own, which silences what uses it.

mod activations;
mod arguments;
mod blocks;
mod claims;
mod constructors;
mod coverage;
mod declare;
mod eval;
mod functions;
mod graph;
mod lint;
mod mistakes;
mod numbers;
mod rope;
mod suggest;
mod unused;
mod value;
mod views;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use lathe_grammar::ast;
use lathe_grammar::diag::Diagnostic;
use lathe_grammar::pattern::{Candidate, Kind, Pattern, parse_index};
use lathe_grammar::span::Span;

use crate::ir::{Graph, NodeId, ParamId, TensorId};
use crate::model::{Checkpoint, Config, unread_keys};
use value::{Reported, Scope};

pub use arguments::Parameter;
pub use constructors::CONSTRUCTORS;
pub use functions::FUNCTIONS;
pub use lint::lint;

/// Most modules and operations that a definition may evaluate to.
const MAX_SIZE: u64 = 1_000_000;

/// Most keys of config.json that are quoted to be pasted.
const MAX_QUOTED: usize = 8;

/// Deepest nesting of expressions, counted through the `let`s that they use; each level takes stack.
const MAX_DEPTH: usize = 300;

/// Most expressions that are evaluated, and elements of lists that are looked at.
const MAX_WORK: u64 = 20_000_000;

/// Longest text that is put together, in bytes.
const MAX_TEXT: usize = 4096;

/// Index into [`Elaborated::modules`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModuleId(pub u32);

/// A module of the model: what a rule of a spec decides about.
#[derive(Debug, Clone)]
pub struct Module {
    /// Logical path: `model.layers.0.self_attn.q_proj`.
    pub path: String,
    /// The path by which its weight is stored, where that is another: `model.layers.0.self_attn.qkv_proj`. Patterns that
    /// match it match the module.
    pub stored: Option<String>,
    /// What it is.
    pub kind: Kind,
    /// Its parameters, the weight first.
    pub params: Vec<ParamId>,
    /// Its declaration.
    pub span: Span,
}

impl Module {
    /// Whether the weight can take a format: matrices can, gains are always kept.
    pub fn takes_format(&self) -> bool {
        self.kind.takes_format()
    }
}

/// A head that may read the table of an embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TieCandidate {
    /// The head's weight.
    pub head: ParamId,
    /// The embedding's table.
    pub table: ParamId,
    /// What config.json says; `None` when it says nothing.
    pub claimed: Option<bool>,
    /// The head's declaration.
    pub span: Span,
}

/// A definition evaluated for one checkpoint.
#[derive(Debug)]
pub struct Elaborated {
    /// Name of the definition.
    pub name: String,
    /// What the model computes.
    pub graph: Graph,
    /// Every module, in the order of the declarations.
    pub modules: Vec<Module>,
    /// Every proper prefix of a module path, and how many indexed children it has.
    pub children: BTreeMap<String, u64>,
    /// Heads that may be tied.
    pub ties: Vec<TieCandidate>,
    /// Largest number of positions that the model was made for.
    pub max_positions: Option<u32>,
}

impl Elaborated {
    /// How many indexed children the container at `path` has; 0 for what is none.
    pub fn indexed_children(&self, path: &str) -> usize {
        self.children.get(path).copied().unwrap_or(0) as usize
    }

    /// Whether a pattern matches a module.
    pub fn is_match(&self, pattern: &Pattern, module: &Module) -> bool {
        let children = |path: &str| self.indexed_children(path);
        let takes_format = module.takes_format();
        let matches =
            |path: &str| pattern.matches(&Candidate { path, kind: module.kind, takes_format, children: &children });
        matches(&module.path) || module.stored.as_deref().is_some_and(matches)
    }

    /// The modules that a pattern matches, by index, in order.
    pub fn matching(&self, pattern: &Pattern) -> Vec<usize> {
        let modules = self.modules.iter().enumerate();
        modules.filter(|(_, module)| self.is_match(pattern, module)).map(|(index, _)| index).collect()
    }

    /// The module whose weight a parameter is.
    pub fn module_of(&self, param: ParamId) -> Option<ModuleId> {
        let index = self.modules.iter().position(|module| module.params.first() == Some(&param))?;
        Some(ModuleId(index as u32))
    }
}

/// Evaluates `model` for `checkpoint`. `bookkeeping` holds the keys of config.json that no model reads. Keys that nobody
/// reads are errors when `strict`, else warnings.
///
/// # Errors
/// Diagnostics, at least one of them an error. Warnings come back beside the result.
pub fn elaborate(
    model: &ast::Model,
    bookkeeping: &ast::Model,
    checkpoint: &Checkpoint,
    strict: bool,
) -> Result<(Elaborated, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut elaborator = Elaborator::new(checkpoint);
    // A marker only: what was reported is in `diagnostics`.
    let outcome = elaborator.run(model, bookkeeping, strict);
    let Elaborator { diagnostics, modules, graph, ties, max_positions, containers, .. } = elaborator;
    if outcome.is_err() || diagnostics.iter().any(Diagnostic::is_error) {
        return Err(fold(diagnostics));
    }
    let name = model.name.value.clone();
    let modules = modules.into_iter().map(|built| built.module).collect();
    let elaborated = Elaborated { name, graph, modules, children: containers, ties, max_positions };
    Ok((elaborated, diagnostics))
}

/// How the modules of a definition and the tensors of a checkpoint go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fit {
    /// Stored tensors that a module reads.
    pub read: usize,
    /// Tensors that a module reads and that are not stored.
    pub missing: usize,
}

/// How `model` and the tensors of `checkpoint` go together, whatever else is wrong.
pub fn fit(model: &ast::Model, checkpoint: &Checkpoint) -> Fit {
    let mut elaborator = Elaborator::new(checkpoint);
    elaborator.only_counts = true;
    elaborator.bind_aliases(&model.body);
    elaborator.bind_blocks(&model.body);
    let pending = elaborator.declare(&model.body, &Scope::root(), "");
    elaborator.build_modules(pending);
    Fit { read: elaborator.claimed.len(), missing: elaborator.missing }
}

/// Diagnostics at one place that differ in a layer's number only become one. So do those of one missing key.
fn fold(diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut first: BTreeMap<(&'static str, Option<Span>, String), usize> = BTreeMap::new();
    let mut folded: Vec<(Diagnostic, usize)> = Vec::new();
    for diagnostic in diagnostics {
        let segments = diagnostic.message.split('.');
        let numberless = segments.map(|segment| if parse_index(segment).is_some() { "#" } else { segment });
        let place = diagnostic.labels.first().map(|label| label.span).filter(|_| diagnostic.code != "M0003");
        let key = (diagnostic.code, place, numberless.collect::<Vec<_>>().join("."));
        match first.get(&key) {
            Some(&index) => folded[index].1 += 1,
            None => {
                first.insert(key, folded.len());
                folded.push((diagnostic, 0));
            }
        }
    }
    folded
        .into_iter()
        .map(|(diagnostic, more)| match more {
            0 => diagnostic,
            1 => diagnostic.note("the same holds once more"),
            _ => diagnostic.note(format!("the same holds {more} times more")),
        })
        .collect()
}

/// A module with what the graph needs to apply it.
struct Built {
    module: Module,
    /// Absent until the constructor has run, and when it failed.
    apply: Option<constructors::Apply>,
    /// Keys of config.json that its sizes come from, for messages.
    keys: Rc<[String]>,
}

struct Elaborator<'a> {
    checkpoint: &'a Checkpoint,
    config: &'a Config,
    diagnostics: Vec<Diagnostic>,
    modules: Vec<Built>,
    /// Module by logical path.
    paths: BTreeMap<String, ModuleId>,
    /// Every proper prefix of a module path, and how many indexed children it has.
    containers: BTreeMap<String, u64>,
    graph: Graph,
    ties: Vec<TieCandidate>,
    /// The node of each parameter that the graph uses.
    nodes: BTreeMap<ParamId, NodeId>,
    /// Keys of config.json that were read, mentioned or ignored by name.
    reads: BTreeSet<String>,
    /// Every `let` of the declarations by name, for notes on where a size comes from.
    lets: BTreeMap<&'a str, &'a ast::Expr>,
    /// The parameters that read each stored tensor.
    claimed: BTreeMap<TensorId, Vec<claims::Claim>>,
    /// Paths of modules, and what tensors below them may be stored under instead.
    aliases: Vec<(String, String)>,
    /// The names by which the definition asked for tensors, before any alias.
    asked: BTreeMap<TensorId, String>,
    /// The functions of the graph by name.
    blocks: BTreeMap<&'a str, blocks::Block<'a>>,
    /// The blocks that are being run, innermost last.
    calling: Vec<&'a str>,
    /// Tensors that the checkpoint lacks, so far.
    missing: usize,
    /// Whether tensors are counted only: nobody will read the messages, so that what helps to understand them need not be
    /// looked for.
    only_counts: bool,
    ignored_tensors: Vec<(String, Span)>,
    max_positions: Option<u32>,
    /// The `context` declaration.
    context: Option<Span>,
    /// Expressions that are being evaluated, one within the other.
    depth: usize,
    /// Iterations and operations so far, against [`MAX_SIZE`].
    steps: u64,
    /// Whether a `let` has no value.
    failed: bool,
    /// Expressions and elements of lists so far, against [`MAX_WORK`].
    work: u64,
    /// Containers that the graph's loops are in, innermost last.
    label: Vec<String>,
}

impl<'a> Elaborator<'a> {
    fn new(checkpoint: &'a Checkpoint) -> Self {
        Elaborator {
            checkpoint,
            config: &checkpoint.config,
            diagnostics: Vec::new(),
            modules: Vec::new(),
            paths: BTreeMap::new(),
            containers: BTreeMap::new(),
            graph: Graph::new(),
            ties: Vec::new(),
            nodes: BTreeMap::new(),
            reads: BTreeSet::new(),
            lets: BTreeMap::new(),
            claimed: BTreeMap::new(),
            aliases: Vec::new(),
            asked: BTreeMap::new(),
            blocks: BTreeMap::new(),
            calling: Vec::new(),
            missing: 0,
            only_counts: false,
            ignored_tensors: Vec::new(),
            max_positions: None,
            context: None,
            depth: 0,
            steps: 0,
            failed: false,
            work: 0,
            label: Vec::new(),
        }
    }

    fn run(&mut self, model: &'a ast::Model, bookkeeping: &'a ast::Model, strict: bool) -> Result<(), Reported> {
        self.ignored_keys(&bookkeeping.body);
        self.mentioned_keys(model);
        self.diagnostics.extend(unused::names(model));
        let root = Scope::root();
        self.bind_aliases(&model.body);
        self.bind_blocks(&model.body);
        let pending = self.declare(&model.body, &root, "");
        if self.diagnostics.iter().any(|diagnostic| ["M0004", "M0009"].contains(&diagnostic.code)) {
            // The definition is for another model, or was cut short: what else does not fit says nothing new.
            return Err(Reported);
        }
        self.build_modules(pending);
        self.claims();
        let graphs: Vec<_> =
            model.body.iter().filter(|decl| matches!(decl.kind, ast::DeclKind::Graph { .. })).collect();
        let outcome = match graphs[..] {
            [decl] => self.run_graph(decl, &root),
            [] => Err(self.report(mistakes::no_graph(&model.name))),
            [first, second, ..] => Err(self.report(mistakes::found_two("graph", second.span, first.span))),
        };
        for decl in &model.body {
            if let ast::DeclKind::Let { name, .. } = &decl.kind {
                // One that nothing uses is looked at too; what is wrong with it is reported.
                self.failed |= self.name(&name.value, name.span, &root).is_err();
            }
        }
        self.unread_keys(strict);
        outcome
    }

    /// Reports keys of config.json that nobody read: one may be a feature that the graph lacks.
    fn unread_keys(&mut self, strict: bool) {
        let keys = unread_keys(self.config, &self.reads);
        if keys.is_empty() || self.failed || self.a_module_failed() {
            // What failed may have read any of them.
            return;
        }
        let file = self.config.file.clone();
        let paths: Vec<&str> = keys.iter().map(|key| key.path.as_str()).collect();
        let message = format!("{file}: keys that the definition does not read: {}", paths.join(", "));
        let severity = if strict { Diagnostic::error } else { Diagnostic::warning };
        let mut diagnostic = severity("C0010", message).file(file);
        let (features, others): (Vec<_>, Vec<_>) = keys.iter().partition(|key| key.looks_like_a_feature);
        for (title, keys) in [("these may change what the model computes", features), ("others", others)] {
            if !keys.is_empty() {
                let shown: Vec<String> = keys.iter().map(|key| format!("{} = {}", key.path, key.value)).collect();
                diagnostic = diagnostic.note(format!("{title}: {}", shown.join(", ")));
            }
        }
        let quoted: Vec<String> = paths.iter().take(MAX_QUOTED).map(|path| format!("\"{path}\"")).collect();
        let names = if paths.len() > MAX_QUOTED { "\"KEY\", …".to_owned() } else { quoted.join(", ") };
        let help = format!(
            "`config.{}` in the definition reads a key; when they change nothing, write `ignore config {names}`",
            paths[0]
        );
        self.diagnostics.push(diagnostic.help(help));
    }

    /// Whether a module was declared whose constructor failed.
    fn a_module_failed(&self) -> bool {
        self.modules.iter().any(|built| built.apply.is_none())
    }

    /// Records a diagnostic; the marker says that the value is missing for a reason that was reported.
    fn report(&mut self, diagnostic: Diagnostic) -> Reported {
        self.diagnostics.push(diagnostic);
        Reported
    }

    fn error(&mut self, code: &'static str, span: Span, message: impl Into<String>) -> Reported {
        self.report(Diagnostic::error(code, message).label(span, ""))
    }

    /// Counts what is evaluated or looked at. Too much is reported once.
    fn work(&mut self, count: u64, span: Span) -> Result<(), Reported> {
        let before = self.work;
        self.work = before.saturating_add(count);
        if self.work <= MAX_WORK {
            Ok(())
        } else if before <= MAX_WORK {
            Err(self.error("M0009", span, format!("more than {MAX_WORK} expressions to evaluate")))
        } else {
            Err(Reported)
        }
    }

    /// Counts one iteration or operation.
    fn step(&mut self, span: Span) -> Result<(), Reported> {
        self.steps(1, span)
    }

    /// Counts iterations before they are made. Too many are reported once.
    fn steps(&mut self, count: u64, span: Span) -> Result<(), Reported> {
        let before = self.steps;
        self.steps = before.saturating_add(count);
        if self.steps <= MAX_SIZE {
            Ok(())
        } else if before <= MAX_SIZE {
            Err(self.error("M0009", span, format!("more than {MAX_SIZE} modules and operations")))
        } else {
            Err(Reported)
        }
    }
}
