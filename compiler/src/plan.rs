//! The plan: for every module exactly one decision about its weights and one about its inputs, each with the rule that made
//! it; for every head that may be tied, what was found. Later stages read decisions here and make none of their own.

mod frames;
mod report;

use std::fmt;

use lathe_grammar::pattern::{Kind, Pattern};
use lathe_grammar::span::Span;
use lathe_kernels::formats::{self, Fit};
use lathe_runtime::program::InputFormat;

use crate::elaborate::{Elaborated, Module, ModuleId, TieCandidate};
use crate::frames::Frames;
use crate::ir::{Basis, NodeId, ParamId, Values};
use crate::model::Checkpoint;
use crate::spec::{Compute, Format, Rule, Site, TableBasis, Tied, Turn};

pub use frames::{ReportedBasis, ReportedFrames, ReportedOnline};
pub use report::{Folded, ReportedModule, ReportedPlace, ReportedPlan, ReportedTie, fold};

/// Index into [`Plan::rules`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(pub u32);

/// Who decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// No rule: the module is kept as it is.
    Nobody,
    /// The last rule that matches and states this attribute.
    Rule(RuleId),
    /// The module that it shares a table with.
    Tie(ModuleId),
}

/// A format, and who decided it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decided {
    /// What was decided.
    pub format: Format,
    /// By whom.
    pub by: By,
}

impl Decided {
    /// What holds without a rule.
    pub const NOTHING: Decided = Decided { format: Format::KEEP, by: By::Nobody };
}

/// The decisions about one module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// What its weight becomes.
    pub format: Decided,
    /// What its input activations become; `keep` is no quantization.
    pub input: Decided,
}

/// How a parameter is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoding {
    /// The packed form.
    pub format: formats::Format,
    /// How its scales are chosen.
    pub fit: Fit,
}

impl Encoding {
    /// Values that only rounding to f32 changes.
    pub const EXACT: Encoding = Encoding { format: formats::Format::F32, fit: Fit::Absmax };
}

/// What was found about a head that may be tied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// The checkpoint does not store the head: it is the table.
    NotStored,
    /// Both are stored; whether they are equal is still to be probed.
    Unprobed,
    /// Both are stored, with equal bytes (decided by probe).
    Equal,
    /// Both are stored and differ (decided by probe).
    Different,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Finding::NotStored => "not stored",
            Finding::Unprobed => "to be decided by probe",
            Finding::Equal => "decided by probe: equal",
            Finding::Different => "decided by probe: they differ",
        })
    }
}

/// A head, the table that it may share, and what was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tie {
    /// The head and the table.
    pub candidate: TieCandidate,
    /// What was found.
    pub finding: Finding,
    /// Whether the head reads the table in place of its own parameter.
    pub shared: bool,
}

impl Tie {
    /// The head's parameter and the table that replaces it.
    pub fn replacement(&self) -> Option<(ParamId, ParamId)> {
        self.shared.then_some((self.candidate.head, self.candidate.table))
    }
}

/// A rotation and the edges that it acts on.
#[derive(Debug, Clone)]
pub struct PlannedRotation {
    /// Which site.
    pub site: Site,
    /// The pattern behind `of`.
    pub within: Option<Pattern>,
    /// By what.
    pub turn: Turn,
    /// Whether an operation at run time is refused.
    pub offline: bool,
    /// The nodes whose results are rotated.
    pub edges: Vec<NodeId>,
    /// The request.
    pub span: Span,
}

/// Every decision of a compilation.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Name of the spec.
    pub spec: String,
    /// The rules that decided, in their order.
    pub rules: Vec<Rule>,
    /// By [`ModuleId`].
    pub decisions: Vec<Decision>,
    /// The decisions of rules alone, before ties gave modules of one table one format.
    pub ruled: Vec<Decision>,
    /// How each parameter is written, by [`ParamId`].
    pub encodings: Vec<Encoding>,
    /// What products with each parameter round their x to, by [`ParamId`]; nothing past the end.
    pub inputs: Vec<Option<InputFormat>>,
    /// Heads that may be tied.
    pub ties: Vec<Tie>,
    /// What becomes of shared tables.
    pub tied: Tied,
    /// In which frame they are stored.
    pub table_basis: TableBasis,
    /// What operands of products may be rounded to.
    pub compute: Compute,
    /// What cached keys and values become.
    pub kv_cache: Option<Format>,
    /// Rotations.
    pub rotations: Vec<PlannedRotation>,
    /// The frames that they come to.
    pub frames: Frames,
}

impl Plan {
    /// A plan that keeps everything.
    pub fn keep(spec: &str, modules: usize) -> Self {
        let nothing = Decision { format: Decided::NOTHING, input: Decided::NOTHING };
        Plan {
            spec: spec.to_owned(),
            rules: Vec::new(),
            decisions: vec![nothing; modules],
            ruled: vec![nothing; modules],
            encodings: Vec::new(),
            inputs: Vec::new(),
            ties: Vec::new(),
            tied: Tied::Share,
            table_basis: TableBasis::Rotated,
            compute: Compute::F32,
            kv_cache: None,
            rotations: Vec::new(),
            frames: Frames::default(),
        }
    }

    /// The decisions about a module.
    pub fn decision(&self, module: ModuleId) -> &Decision {
        &self.decisions[module.0 as usize]
    }

    /// A rule.
    pub fn rule(&self, id: RuleId) -> &Rule {
        &self.rules[id.0 as usize]
    }

    /// The rule behind a decision; that of the other end when it came by a tie.
    pub fn rule_behind(&self, decided: &Decided) -> Option<&Rule> {
        match decided.by {
            By::Nobody => None,
            By::Rule(id) => Some(self.rule(id)),
            By::Tie(module) => match self.decision(module).format.by {
                By::Rule(id) => Some(self.rule(id)),
                _ => None,
            },
        }
    }

    /// Whether a head's parameter is replaced by a table.
    pub fn shares(&self, head: ParamId) -> bool {
        self.ties.iter().filter_map(Tie::replacement).any(|(shared, _)| shared == head)
    }

    /// Whether a vector is stored in f32 because something is folded into it.
    fn is_exact_vector(&self, param: ParamId, model: &Elaborated) -> bool {
        let is_vector = model.graph.params()[param.index()].shape.len() == 1;
        is_vector && self.frames.folded.contains(&param) && self.encodings[param.index()] == Encoding::EXACT
    }

    /// Whether values of a module's parameters are in a frame of their own when they are packed.
    pub fn is_folded(&self, module: &Module) -> bool {
        let table_of = |param: ParamId| {
            let replaced = self.ties.iter().filter_map(Tie::replacement).find(|(head, _)| *head == param);
            replaced.map_or(param, |(_, table)| table)
        };
        module.params.iter().any(|param| self.frames.folded.contains(&table_of(*param)))
    }

    /// The module whose table this one reads.
    pub fn tied_to(&self, module: &Module, model: &Elaborated) -> Option<ModuleId> {
        let weight = module.params.first()?;
        let (_, table) = self.ties.iter().filter_map(Tie::replacement).find(|(head, _)| head == weight)?;
        model.module_of(table)
    }

    /// Bytes of a module's parameters: as stored in the checkpoint, and as they will be packed. A parameter that is read
    /// from another one's table has none of its own.
    pub fn bytes(&self, id: ModuleId, model: &Elaborated, checkpoint: &Checkpoint) -> (u64, u64) {
        let module = &model.modules[id.0 as usize];
        let shares = self.tied_to(module, model).is_some();
        let (mut before, mut after) = (0_u64, 0_u64);
        for (index, &param) in module.params.iter().enumerate() {
            let stored = stored_bytes(param, model, checkpoint);
            let own = matches!(model.graph.params()[param.index()].values, Values::Stored(_));
            before = before.saturating_add(if own { stored } else { 0 });
            after = after.saturating_add(match index {
                _ if self.frames.dropped.contains(&param) => 0,
                _ if self.is_exact_vector(param, model) => 4 * elements(&model.graph.params()[param.index()].shape),
                0 if shares => 0,
                0 => self.packed_bytes(id, param, model, checkpoint),
                _ => stored,
            });
        }
        (before, after)
    }

    /// Bytes of a module's weight when it is packed for this module.
    fn packed_bytes(&self, id: ModuleId, weight: ParamId, model: &Elaborated, checkpoint: &Checkpoint) -> u64 {
        let (rows, columns) = matrix(&model.graph.params()[weight.index()].shape);
        let format = self.decision(id).format.format;
        format.bytes(rows, columns).unwrap_or_else(|| stored_bytes(weight, model, checkpoint))
    }

    /// Bytes of a module's weight when it is packed for this module; 0 when it has none.
    pub fn weight_bytes(&self, id: ModuleId, model: &Elaborated, checkpoint: &Checkpoint) -> u64 {
        let weight = model.modules[id.0 as usize].params.first();
        weight.map_or(0, |&weight| self.packed_bytes(id, weight, model, checkpoint))
    }

    /// Whether what a probe finds can change what becomes of a tie.
    pub fn probe_decides(&self, tie: &Tie, model: &Elaborated) -> bool {
        let TieCandidate { head, table, claimed, .. } = tie.candidate;
        let [head, table] = [head, table].map(|param| model.module_of(param).map(|id| self.decision(id).format.format));
        let agree = matches!((head, table), (Some(head), Some(table)) if head.agrees_with(&table));
        tie.finding == Finding::Unprobed && self.tied != Tied::Split && (agree || claimed != Some(false))
    }

    /// What a head and its table take as one packed tensor, and as two, in bytes.
    pub fn tie_bytes(&self, tie: &Tie, model: &Elaborated, checkpoint: &Checkpoint) -> (u64, u64) {
        let TieCandidate { head, table, .. } = tie.candidate;
        let bytes = |param: ParamId| match model.module_of(param) {
            Some(module) => self.packed_bytes(module, param, model, checkpoint),
            None => stored_bytes(param, model, checkpoint),
        };
        (bytes(table), bytes(table).saturating_add(bytes(head)))
    }

    /// The plan as text, one line a module in the order of their paths, without spans, comments or files: what identifies
    /// a compilation, however its spec and its definition are written down.
    pub fn listing(&self, model: &Elaborated) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        let mut modules: Vec<_> = model.modules.iter().zip(&self.decisions).collect();
        modules.sort_by_key(|(module, _)| natural_order(&module.path));
        let rows: Vec<[String; 4]> = modules
            .into_iter()
            .map(|(module, decision)| {
                let shape = module.params.first().map(|id| &model.graph.params()[id.index()].shape);
                let input = decision.input.format;
                let input = if input.is_keep() { String::new() } else { format!(" with input {input}") };
                [
                    module.path.clone(),
                    module.kind.name().to_string(),
                    shape.map(|shape| format!("{shape:?}")).unwrap_or_default(),
                    format!("{}{input}", decision.format.format),
                ]
            })
            .collect();
        let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
        let (path, kind, shape) = (width(0), width(1), width(2));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "spec {} on model {}", self.spec, model.name);
        for [a, b, c, d] in &rows {
            let _ = writeln!(text, "{a:path$}  {b:kind$}  {c:shape$}  {d}");
        }
        for tie in &self.ties {
            let name = |id: ParamId| &model.graph.params()[id.index()].name;
            let (head, table) = (name(tie.candidate.head), name(tie.candidate.table));
            let found = tie.finding;
            let _ = if tie.shared {
                writeln!(text, "tied {head} = {table} ({found})")
            } else {
                writeln!(text, "not tied {head}, {table} ({found})")
            };
        }
        for line in self.settings_with(|turn| turn.without_file().to_string()) {
            let _ = writeln!(text, "{line}");
        }
        let is_matrix = |index: usize| {
            self.frames.rotations().get(index).is_some_and(|rotation| matches!(rotation.basis, Basis::Matrix { .. }))
        };
        let ReportedFrames { bases, online, .. } = ReportedFrames::new(self);
        for (index, ReportedBasis { id, by, width, construction }) in bases.into_iter().enumerate() {
            let by = if is_matrix(index) { "matrix" } else { &by };
            let construction = construction.map_or_else(String::new, |construction| format!(" = {construction}"));
            let _ = writeln!(text, "frame {id} {by}, width {width}{construction}");
        }
        for ReportedOnline { path, count, operation, .. } in online {
            let _ = writeln!(text, "at run time behind {path}, {count} times: {operation}");
        }
        text
    }

    /// What the spec says about the whole model, where it is not what holds anyway.
    pub fn settings(&self) -> Vec<String> {
        self.settings_with(Turn::to_string)
    }

    fn settings_with(&self, turn_text: impl Fn(&Turn) -> String) -> Vec<String> {
        let mut lines = Vec::new();
        for rotation in &self.rotations {
            let site = site_name(rotation.site);
            let within = rotation.within.as_ref().map_or_else(String::new, |pattern| format!(" of {pattern}"));
            let offline = if rotation.offline { " offline" } else { "" };
            let turn = turn_text(&rotation.turn);
            lines.push(format!("rotate {site}{within} by {turn}{offline} ({} edges)", rotation.edges.len()));
        }
        lines.extend(self.kv_cache.filter(|format| !format.is_keep()).map(|format| format!("kv_cache => {format}")));
        if self.tied != Tied::Share {
            lines.push(format!("tied => {}", self.tied));
        }
        if self.table_basis != TableBasis::Rotated {
            lines.push(format!("table_basis => {}", self.table_basis));
        }
        if self.compute != Compute::F32 {
            lines.push(format!("compute => {}", self.compute));
        }
        lines
    }
}

/// How a site is written.
fn site_name(site: Site) -> &'static str {
    crate::spec::SITES.iter().find(|kind| kind.site == site).map_or("?", |kind| kind.name)
}

/// Bytes of a parameter in the dtype of the checkpoint; those of its table when it is tied.
fn stored_bytes(param: ParamId, model: &Elaborated, checkpoint: &Checkpoint) -> u64 {
    let mut param = &model.graph.params()[param.index()];
    let elements = elements(&param.shape);
    while let Values::Tied(table) = param.values {
        param = &model.graph.params()[table.index()];
    }
    let Values::Stored(view) = &param.values else { return 0 };
    let width = checkpoint.tensor(view.tensor).stored_dtype().map_or(0, crate::model::StoredDtype::bytes);
    elements.saturating_mul(width)
}

fn elements(shape: &[u64]) -> u64 {
    shape.iter().fold(1, |product, size| product.saturating_mul(*size))
}

/// Rows and columns of a weight; a vector is one row.
pub fn matrix(shape: &[u64]) -> (u64, u64) {
    match shape {
        [] => (1, 1),
        [columns] => (1, *columns),
        [rows, columns @ ..] => (*rows, columns.iter().fold(1_u64, |product, size| product.saturating_mul(*size))),
    }
}

/// Whether modules of this kind multiply activations, which can then be quantized.
pub fn takes_input(kind: Kind) -> bool {
    match kind {
        Kind::Linear | Kind::Head | Kind::Router | Kind::Conv => true,
        Kind::Embedding | Kind::Norm | Kind::Vector => false,
    }
}

/// Sorts paths by their segments, numbers among them by value.
fn natural_order(path: &str) -> Vec<(u64, &str)> {
    path.split('.').map(|segment| segment.parse().map_or((u64::MAX, segment), |number| (number, ""))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_sorted_by_number() {
        let mut paths = ["model.layers.10.a", "model.norm", "lm_head", "model.layers.9.b", "model.layers.9.a"];
        paths.sort_by_key(|path| natural_order(path));
        assert_eq!(paths, ["lm_head", "model.layers.9.a", "model.layers.9.b", "model.layers.10.a", "model.norm"]);
    }
}
