//! Formats that do not fit the modules that rules gave them.

use std::collections::BTreeMap;

use lathe_grammar::diag::Diagnostic;

use super::modules_in_words;
use crate::elaborate::Elaborated;
use crate::plan::{By, Decision, Plan, RuleId, matrix, takes_input};
use crate::spec::{Indivisible, Stated};

/// One diagnostic for each rule and reason.
pub(super) fn misfits(plan: &Plan, model: &Elaborated) -> Vec<Diagnostic> {
    let mut found: Vec<Diagnostic> = Vec::new();
    let mut places: BTreeMap<(&str, RuleId, String), (usize, usize)> = BTreeMap::new();
    let mut report = |code: &'static str, rule: RuleId, reason: String, make: &dyn Fn() -> Diagnostic| match places
        .get_mut(&(code, rule, reason.clone()))
    {
        Some((_, more)) => *more += 1,
        None => {
            places.insert((code, rule, reason), (found.len(), 0));
            found.push(make());
        }
    };
    for (module, decision) in model.modules.iter().zip(&plan.decisions) {
        let path = &module.path;
        let kind = module.kind.name();
        let article = if kind.starts_with('e') { "an" } else { "a" };
        let shape = module.params.first().map_or(&[][..], |param| &model.graph.params()[param.index()].shape);
        let (rows, columns) = matrix(shape);
        let Decision { format, input } = decision;
        if let By::Rule(rule) = format.by
            && !format.format.is_keep()
        {
            let pattern = plan.rule(rule).pattern.span;
            if !module.takes_format() {
                report("S0210", rule, String::new(), &|| {
                    let message = format!("`{path}` is {article} {kind} and takes no format, found {}", format.format);
                    Diagnostic::error("S0210", message)
                        .label(pattern, "")
                        .help("its gain stays as it is stored: match other modules, or write `keep`")
                });
            } else if let Some(misfit) = format.format.indivisible(rows, columns) {
                let Indivisible { part, whole, help } = misfit;
                report("S0209", rule, format!("{part} {whole}"), &|| {
                    let message = format!("{part} does not divide {whole} of `{path}`");
                    indivisible(message, plan.rule(rule).format, &help)
                });
            }
        }
        if let By::Rule(rule) = input.by
            && !input.format.is_keep()
        {
            let stated = plan.rule(rule).input;
            if !takes_input(module.kind) {
                report("S0211", rule, kind.to_owned(), &|| {
                    let why = if kind == "embedding" { "it looks rows up by token" } else { "it multiplies nothing" };
                    let message = format!("`{path}` is {article} {kind} and has no input to quantize: {why}");
                    Diagnostic::error("S0211", message).label_if(stated.map(|stated| stated.span), "").help(format!(
                        "match `:linear` instead, or take it back below this rule: `:{kind} => with input keep`"
                    ))
                });
            } else if let Some(misfit) = input.format.indivisible(rows, columns) {
                let Indivisible { part, whole, help } = misfit;
                report("S0209", rule, format!("input {part} {whole}"), &|| {
                    let message = format!("{part} of the input does not divide {whole} of `{path}`");
                    indivisible(message, stated, &help)
                });
            }
        }
    }
    for (at, more) in places.into_values().filter(|(_, more)| *more > 0) {
        let words = modules_in_words(more);
        found[at].notes.push(format!("the same holds for {words} more"));
    }
    found
}

fn indivisible(message: String, stated: Option<Stated>, help: &str) -> Diagnostic {
    let diagnostic = Diagnostic::error("S0209", message).help(help);
    match stated {
        Some(stated) => stated.point_at(diagnostic, stated.size),
        None => diagnostic,
    }
}
