//! Formats of inputs on a model: what each product rounds its x to, and what of it cannot be built.

use std::collections::BTreeMap;

use lathe_grammar::diag::Diagnostic;
use lathe_runtime::program::InputFormat;

use super::modules_in_words;
use crate::elaborate::{Elaborated, Module, ModuleId};
use crate::ir::{Op, ParamId};
use crate::plan::{By, Plan, RuleId, matrix, takes_input};
use crate::spec::Role;

/// What products with each parameter round their x to, by [`ParamId`]. Only weights are multiplied by an x.
pub(super) fn inputs(plan: &Plan, model: &Elaborated) -> Vec<Option<InputFormat>> {
    let mut inputs = vec![None; model.graph.params().len()];
    for (module, decision) in model.modules.iter().zip(&plan.decisions) {
        if let Some(weight) = module.params.first().filter(|_| takes_input(module.kind)) {
            inputs[weight.index()] = decision.input.format.input();
        }
    }
    inputs
}

/// What a plan comes to and cannot be built: formats of inputs that do not go with the weights, and experts of one product
/// with several. One diagnostic for each rule and reason.
pub fn unbuilt(plan: &Plan, model: &Elaborated) -> Vec<Diagnostic> {
    let mut found: BTreeMap<(RuleId, String), (Diagnostic, usize)> = BTreeMap::new();
    for (id, module) in (0..).map(ModuleId).zip(&model.modules) {
        let By::Rule(rule) = plan.decision(id).input.by else { continue };
        let Some((input, reason, help)) = misfit(plan, model, id, module) else { continue };
        let known = found.entry((rule, reason.clone())).or_insert_with(|| {
            let message = format!("`{}` for the input of `{}`, {reason}, {UNBUILT}", input.name(), module.path);
            let stated = plan.rule(rule).input.map(|stated| stated.span);
            (Diagnostic::error("S0202", message).label_if(stated, "").help(help), 0)
        });
        known.1 += 1;
    }
    let counted = |(diagnostic, modules): (Diagnostic, usize)| match modules {
        1 => diagnostic,
        _ => diagnostic.note(format!("the same holds for {} more", modules_in_words(modules - 1))),
    };
    found.into_values().map(counted).chain(uneven_experts(plan, model)).collect()
}

const UNBUILT: &str = "is part of the language, but this version cannot build it";

/// Why the weight of a module cannot be multiplied by what its x is rounded to, and what can.
fn misfit(plan: &Plan, model: &Elaborated, id: ModuleId, module: &Module) -> Option<(InputFormat, String, String)> {
    let weight = *module.params.first()?;
    let input = plan.inputs[weight.index()]?;
    let (format, encoding) = (plan.decision(id).format.format, plan.encodings[weight.index()]);
    // What cannot be built for any input is said elsewhere.
    if !format.is_built(Role::Weight) {
        return None;
    }
    if !input.takes_format(encoding.format) {
        let reason = format!("whose weights become {}", encoding.format);
        let help = "it can build it where weights are `int8(per: channel)`; for others write `with input keep`";
        return Some((input, reason, help.to_owned()));
    }
    let (_, columns) = matrix(&model.graph.params()[weight.index()].shape);
    let most = input.most_columns();
    (columns > most).then(|| {
        let help = format!("it can build it for {most} values in a row or fewer: write `with input keep`");
        (input, format!("which has {columns} values in a row"), help)
    })
}

/// Experts that are multiplied together and whose x is rounded differently.
fn uneven_experts(plan: &Plan, model: &Elaborated) -> Option<Diagnostic> {
    let weights_of = |id, experts: u32| -> Vec<ParamId> {
        let operands = model.graph.operands(id).into_iter().skip(2).take(experts as usize);
        let param = |operand| match model.graph.node(operand).op {
            Op::Param(param) => Some(param),
            _ => None,
        };
        operands.filter_map(param).collect()
    };
    model.graph.nodes().find_map(|(id, node)| {
        let Op::ExpertLinear { experts, .. } = node.op else { return None };
        let weights = weights_of(id, experts);
        let (&first, rest) = weights.split_first()?;
        let &other = rest.iter().find(|weight| plan.inputs[weight.index()] != plan.inputs[first.index()])?;
        let (a, b) = (model.module_of(first)?, model.module_of(other)?);
        let end =
            |id: ModuleId| format!("`{}` for `{}`", plan.decision(id).input.format, model.modules[id.0 as usize].path);
        let (first, other) = (end(a), end(b));
        let message =
            format!("that experts of one layer have several formats of input, {first} and {other}, {UNBUILT}");
        let stated = |id: ModuleId| match plan.decision(id).input.by {
            By::Rule(rule) => plan.rule(rule).input.map(|stated| stated.span),
            _ => None,
        };
        let diagnostic = Diagnostic::error("S0202", message).help("give all experts of a layer one format of input");
        Some(diagnostic.label_if(stated(a), "").label_if(stated(b), "the other"))
    })
}
