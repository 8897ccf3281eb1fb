//! The plan as rows, for tables and JSON: what each module becomes, who decided it, and what it costs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use lathe_grammar::pattern::parse_index;
use lathe_grammar::span::{Sources, Span};
use serde::Serialize;

use super::{Finding, Plan, ReportedFrames};
use crate::elaborate::{Elaborated, ModuleId};
use crate::model::Checkpoint;

/// A place in a text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ReportedPlace {
    /// The file, or `library:NAME`.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

impl ReportedPlace {
    /// Where a span begins.
    pub fn of(span: Span, sources: &Sources) -> Self {
        let (line, column) = sources.line_column(span);
        ReportedPlace { file: sources.get(span.source).name.clone(), line, column }
    }
}

/// What becomes of one module.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ReportedModule {
    /// Logical path.
    pub path: String,
    /// What it is.
    pub kind: &'static str,
    /// Of its weight: `[out, in]`, `[vocab, n]` or `[n]`.
    pub shape: Vec<u64>,
    /// What its weight becomes, in canonical form.
    pub format: String,
    /// Whether it is kept, and a rotation or scale changes its values, which are rounded again.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub rounded_again: bool,
    /// Whether all of its parameters go into other weights, so that none of its own is packed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub folded: bool,
    /// What its input activations become; absent when they are not quantized.
    pub input: Option<String>,
    /// The rule that decided about the weight; absent when none did.
    pub rule: Option<ReportedPlace>,
    /// The rule that decided about the input; absent when none did.
    pub input_rule: Option<ReportedPlace>,
    /// Bytes of its parameters in the checkpoint.
    pub bytes_before: u64,
    /// Bytes of its parameters when packed.
    pub bytes_after: u64,
    /// The module whose table it reads.
    pub tied_to: Option<String>,
    /// Whether its weight can take a format; gains of normalizations are always kept.
    #[serde(skip)]
    pub takes_format: bool,
}

/// A head that may share the table of an embedding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReportedTie {
    /// The head's parameter.
    pub head: String,
    /// The table.
    pub table: String,
    /// What is known of their values.
    pub found: Finding,
    /// Whether one table is packed for both.
    pub shared: bool,
    /// Whether a probe can change that.
    pub probe_decides: bool,
    /// Bytes of one packed table for both.
    pub bytes_shared: u64,
    /// Bytes of two, each in the format of its module.
    pub bytes_split: u64,
}

/// A plan with its costs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReportedPlan {
    /// Name of the spec.
    pub spec: String,
    /// Name of the model definition.
    pub model: String,
    /// Every module, in the order of the definition.
    pub modules: Vec<ReportedModule>,
    /// Heads that may be tied.
    pub ties: Vec<ReportedTie>,
    /// Rotations and settings, as text.
    pub settings: Vec<String>,
    /// In which frames values are held, and what that leaves for run time; absent where all are as the model states them.
    #[serde(skip_serializing_if = "ReportedFrames::is_identity")]
    pub frames: ReportedFrames,
    /// Bytes of all parameters in the checkpoint.
    pub bytes_before: u64,
    /// Bytes of all parameters when packed.
    pub bytes_after: u64,
    /// Most memory that packing takes, in bytes: all of what compiling takes, but for the proof where there are frames.
    pub peak_memory_bytes: u64,
}

impl ReportedPlan {
    /// Puts a plan into rows.
    pub fn new(
        plan: &Plan,
        model: &Elaborated,
        checkpoint: &Checkpoint,
        sources: &Sources,
        peak_memory_bytes: u64,
    ) -> Self {
        let row = |(index, module): (usize, &crate::elaborate::Module)| {
            let id = ModuleId(index as u32);
            let decision = plan.decision(id);
            let (bytes_before, bytes_after) = plan.bytes(id, model, checkpoint);
            let place = |decided| plan.rule_behind(decided).map(|rule| ReportedPlace::of(rule.span, sources));
            let is_exact = module.params.first().is_some_and(|&param| plan.is_exact_vector(param, model));
            let weight = module.params.first().map(|param| &model.graph.params()[param.index()]);
            ReportedModule {
                path: module.path.clone(),
                kind: module.kind.name(),
                shape: weight.map(|weight| weight.shape.clone()).unwrap_or_default(),
                format: decision.format.format.to_string(),
                rounded_again: decision.format.format.is_keep() && plan.is_folded(module) && !is_exact,
                folded: weight.is_some() && module.params.iter().all(|param| plan.frames.dropped.contains(param)),
                input: Some(decision.input.format).filter(|input| !input.is_keep()).map(|input| input.to_string()),
                rule: place(&decision.format),
                input_rule: place(&decision.input),
                bytes_before,
                bytes_after,
                takes_format: module.takes_format(),
                tied_to: plan.tied_to(module, model).map(|table| model.modules[table.0 as usize].path.clone()),
            }
        };
        let modules: Vec<ReportedModule> = model.modules.iter().enumerate().map(row).collect();
        let total = |bytes: fn(&ReportedModule) -> u64| modules.iter().map(bytes).fold(0_u64, u64::saturating_add);
        let name = |param: crate::ir::ParamId| model.graph.params()[param.index()].name.clone();
        let ties = plan.ties.iter().map(|tie| {
            let (bytes_shared, bytes_split) = plan.tie_bytes(tie, model, checkpoint);
            ReportedTie {
                head: name(tie.candidate.head),
                table: name(tie.candidate.table),
                found: tie.finding,
                shared: tie.shared,
                probe_decides: plan.probe_decides(tie, model),
                bytes_shared,
                bytes_split,
            }
        });
        ReportedPlan {
            spec: plan.spec.clone(),
            model: model.name.clone(),
            ties: ties.collect(),
            settings: plan.settings(),
            bytes_before: total(|module| module.bytes_before),
            frames: ReportedFrames::new(plan),
            bytes_after: total(|module| module.bytes_after).saturating_add(plan.frames.added_bytes()),
            peak_memory_bytes,
            modules,
        }
    }
}

/// Modules that differ in indices of their paths only, as one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folded<T> {
    /// The paths as one pattern: `model.layers[0..32].mlp.up_proj`.
    pub path: String,
    /// How many modules.
    pub count: usize,
    /// What they have in common.
    pub common: T,
}

/// Folds rows, keeping the order of their first ones. Rows are folded when `T` is equal and their paths differ in numbers
/// only.
pub fn fold<T: Clone + Ord>(rows: impl IntoIterator<Item = (String, T)>) -> Vec<Folded<T>> {
    let segments = |path: String| path.split('.').map(str::to_owned).collect();
    let mut rows: Vec<Row<T>> =
        rows.into_iter().map(|(path, common)| Row { path: segments(path), count: 1, common }).collect();
    while rows.iter().any(|row| last_number(&row.path).is_some()) {
        rows = fold_last_numbers(rows);
    }
    rows.into_iter().map(|row| Folded { path: joined(&row.path), count: row.count, common: row.common }).collect()
}

/// A row that is being folded: the last numbers of its path have become sets of numbers.
struct Row<T> {
    path: Vec<String>,
    count: usize,
    common: T,
}

/// Where the last number of a path stands, and the number.
fn last_number(path: &[String]) -> Option<(usize, u32)> {
    path.iter().enumerate().rev().find_map(|(at, segment)| Some((at, parse_index(segment)?)))
}

/// Makes one row of those that differ in the last number of their path only.
fn fold_last_numbers<T: Clone + Ord>(rows: Vec<Row<T>>) -> Vec<Row<T>> {
    let mut known: BTreeMap<(Vec<String>, usize, T), usize> = BTreeMap::new();
    let mut folded: Vec<(Row<T>, Option<usize>, Vec<u64>)> = Vec::new();
    for mut row in rows {
        let Some((at, number)) = last_number(&row.path) else {
            folded.push((row, None, Vec::new()));
            continue;
        };
        row.path[at].clear();
        let key = (row.path.clone(), row.count, row.common.clone());
        let index = *known.entry(key).or_insert_with(|| {
            folded.push((row, Some(at), Vec::new()));
            folded.len() - 1
        });
        folded[index].2.push(number.into());
    }
    let with_numbers = |(mut row, at, numbers): (Row<T>, Option<usize>, Vec<u64>)| {
        if let Some(at) = at {
            row.path[at] = ranges(&numbers);
            row.count *= numbers.len();
        }
        row
    };
    folded.into_iter().map(with_numbers).collect()
}

/// `[0..4, 7]`: what the numbers are, as an index of a pattern.
pub(super) fn ranges(indices: &[u64]) -> String {
    let mut text = String::from("[");
    let mut at = 0;
    while let Some(&first) = indices.get(at) {
        let length = indices[at..].iter().zip(first..).take_while(|(index, expected)| *index == expected).count();
        let separator = if at == 0 { "" } else { ", " };
        // Writing to a string cannot fail.
        let _ = match length {
            1 => write!(text, "{separator}{first}"),
            _ => write!(text, "{separator}{first}..{}", first + length as u64),
        };
        at += length;
    }
    text.push(']');
    text
}

fn joined(path: &[String]) -> String {
    let mut text = String::new();
    for segment in path {
        if !text.is_empty() && !segment.starts_with('[') {
            text.push('.');
        }
        text.push_str(segment);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_rows_fold_to_a_pattern() {
        let mut rows = vec![("embed".to_owned(), "a")];
        for layer in 0..5 {
            rows.push((format!("layers.{layer}.up"), if layer == 0 || layer == 4 { "b" } else { "a" }));
            rows.extend((0..3).map(|expert| (format!("layers.{layer}.experts.{expert}.down"), "a")));
        }
        let folded = fold(rows);
        let shown: Vec<(&str, usize, &str)> =
            folded.iter().map(|row| (row.path.as_str(), row.count, row.common)).collect();
        assert_eq!(
            shown,
            [
                ("embed", 1, "a"),
                ("layers[0, 4].up", 2, "b"),
                ("layers[0..5].experts[0..3].down", 15, "a"),
                ("layers[1..4].up", 3, "a"),
            ]
        );
    }
}
