//! The plan: for every module exactly one decision, with the rule that made it; for every head that may be tied, what
//! was found. Later stages read decisions here and make none of their own.

use std::fmt;

use lathe_grammar::span::Span;

use crate::elaborate::{Elaborated, ModuleId, TieCandidate};
use crate::ir::ParamId;

/// What a module's weight becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Choice {
    /// The dtype that the checkpoint stores.
    Keep {
        /// `keep(exact)`: the very values; a later stage that would re-express them in another frame must refuse.
        exact: bool,
    },
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Choice::Keep { exact: false } => "keep",
            Choice::Keep { exact: true } => "keep(exact)",
        })
    }
}

/// The decision about one module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// What its weight becomes.
    pub choice: Choice,
    /// The rule that decided; `None` when no rule matched and the module is kept.
    pub rule: Option<Span>,
}

/// What was found about a head that may be tied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Finding {
    /// The checkpoint does not store the head: it is the table.
    NotStored,
    /// Both are stored, with equal bytes (decided by probe).
    Equal,
    /// Both are stored and differ (decided by probe).
    Different,
}

/// A head, the table that it may share, and what was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tie {
    /// The head and the table.
    pub candidate: TieCandidate,
    /// What was found.
    pub finding: Finding,
}

impl Tie {
    /// The table that replaces the head's own parameter.
    pub fn shared(&self) -> Option<(ParamId, ParamId)> {
        match self.finding {
            Finding::NotStored | Finding::Equal => Some((self.candidate.head, self.candidate.table)),
            Finding::Different => None,
        }
    }
}

/// Every decision of a compilation.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Name of the spec.
    pub spec: String,
    /// By [`ModuleId`].
    pub decisions: Vec<Decision>,
    /// The weight format of each parameter, by [`ParamId`].
    pub formats: Vec<&'static str>,
    /// Heads that may be tied.
    pub ties: Vec<Tie>,
}

impl Plan {
    /// The decision about a module.
    pub fn decision(&self, module: ModuleId) -> &Decision {
        &self.decisions[module.0 as usize]
    }

    /// The plan as text, one line a module in the order of their paths, without spans, comments or files: what identifies
    /// a compilation, however its definition is written down.
    pub fn listing(&self, model: &Elaborated) -> String {
        use fmt::Write as _;
        let mut text = String::new();
        let mut modules: Vec<_> = model.modules.iter().zip(&self.decisions).collect();
        modules.sort_by_key(|(module, _)| natural_order(&module.path));
        let rows: Vec<[String; 4]> = modules
            .into_iter()
            .map(|(module, decision)| {
                let shape = module.params.first().map(|id| &model.graph.params()[id.index()].shape);
                [
                    module.path.clone(),
                    module.kind.name().to_string(),
                    shape.map(|shape| format!("{shape:?}")).unwrap_or_default(),
                    decision.choice.to_string(),
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
            let _ = match tie.finding {
                Finding::NotStored => writeln!(text, "tied {head} = {table} (not stored)"),
                Finding::Equal => writeln!(text, "tied {head} = {table} (decided by probe: equal)"),
                Finding::Different => writeln!(text, "not tied {head}, {table} (decided by probe: they differ)"),
            };
        }
        text
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
