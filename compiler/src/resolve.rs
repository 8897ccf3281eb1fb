//! A spec on a model: the last rule that matches decides, about weights and about inputs each on its own. Every rule must
//! match, and should decide, something; what it decides must fit the modules that it decides about.

mod dead;
mod inputs;
mod misfits;
mod places;
mod rotations;

use std::collections::BTreeMap;

use lathe_grammar::diag::{Diagnostic, nearest};
use lathe_grammar::pattern::Pattern;
use lathe_grammar::span::{Sources, Span, Spanned};
use lathe_kernels::formats::Fit;

use crate::elaborate::{Elaborated, ModuleId};
use crate::frames;
use crate::ir::{Param, ParamId, Values, View};
use crate::model::Checkpoint;
use crate::plan::{By, Decided, Encoding, Finding, Plan, RuleId, Tie};
use crate::spec::{Format, Rule, Spec, Stated, Tied};
pub use inputs::unbuilt as unbuilt_inputs;
use places::Places;

/// After so many diagnostics, what was meant by a pattern that matches nothing is not looked for.
const MAX_EXPLAINED: usize = 200;

/// Gives every module of `model` its decisions. Heads that may be tied are taken for what config.json says until a probe
/// has looked.
pub fn resolve(
    spec: &Spec,
    model: &Elaborated,
    checkpoint: &Checkpoint,
    sources: &Sources,
    diagnostics: &mut Vec<Diagnostic>,
) -> Plan {
    let mut plan = Plan::keep(&spec.name.value, model.modules.len());
    plan.rules.clone_from(&spec.rules);
    plan.tied = spec.tied;
    plan.table_basis = spec.table_basis;
    plan.compute = spec.compute;
    plan.kv_cache = spec.kv_cache.and_then(|stated| stated.format);
    diagnostics.extend(other_model(spec, model, checkpoint));
    let matched: Vec<Vec<usize>> = spec.rules.iter().map(|rule| matches(rule, model, sources, diagnostics)).collect();
    for (index, (rule, matched)) in spec.rules.iter().zip(&matched).enumerate() {
        let by = By::Rule(RuleId(index as u32));
        let decide = |decided: &mut Decided, stated: &Stated| {
            *decided = Decided { format: stated.format.unwrap_or(Decided::NOTHING.format), by };
        };
        for &module in matched {
            let decision = &mut plan.decisions[module];
            rule.format.iter().for_each(|stated| decide(&mut decision.format, stated));
            rule.input.iter().for_each(|stated| decide(&mut decision.input, stated));
        }
    }
    diagnostics.extend(shadowed(spec, &matched, model.modules.len()));
    diagnostics.extend(misfits::misfits(&plan, model));
    plan.inputs = inputs::inputs(&plan, model);
    plan.rotations = rotations::rotations(spec, model, sources, diagnostics);
    plan.ties =
        model.ties.iter().map(|&candidate| Tie { candidate, finding: Finding::Unprobed, shared: false }).collect();
    for tie in &mut plan.ties {
        let values = |param: ParamId| &model.graph.params()[param.index()].values;
        match (values(tie.candidate.head), values(tie.candidate.table)) {
            (Values::Tied(_), _) => tie.finding = Finding::NotStored,
            (Values::Stored(head), Values::Stored(table)) => {
                let dtype = |view: &View| checkpoint.tensor(view.tensor).stored_dtype();
                if dtype(head) != dtype(table) {
                    tie.finding = Finding::Different;
                }
            }
            _ => {}
        }
    }
    plan.ruled.clone_from(&plan.decisions);
    let own = plan.clone();
    settle(&mut plan, &own, model, checkpoint, diagnostics);
    frames::settle(&mut plan, model, diagnostics);
    plan
}

/// What to say of a pattern, written at `span`, that matches no module.
pub fn nothing_matches(pattern: &Pattern, span: Span, model: &Elaborated) -> Diagnostic {
    dead::diagnostic("S0101", pattern, span, model)
}

/// Decides about ties anew, now that a probe has looked. `findings` are one for each tie.
///
/// # Errors
/// Conflicts that were only possible before.
pub fn settle_probed(
    plan: &mut Plan,
    findings: &[Finding],
    model: &Elaborated,
    checkpoint: &Checkpoint,
    diagnostics: &mut Vec<Diagnostic>,
) {
    for (tie, finding) in plan.ties.iter_mut().zip(findings) {
        tie.finding = *finding;
    }
    plan.decisions.clone_from(&plan.ruled);
    let own = plan.clone();
    settle(plan, &own, model, checkpoint, diagnostics);
    frames::settle(plan, model, diagnostics);
}

/// Ties: which heads read the table of another module. `own` has what rules decided.
fn settle(plan: &mut Plan, own: &Plan, model: &Elaborated, checkpoint: &Checkpoint, diagnostics: &mut Vec<Diagnostic>) {
    // By table, its heads that are tied whatever the formats are.
    let mut tied: BTreeMap<ModuleId, Vec<(usize, ModuleId)>> = BTreeMap::new();
    let mut equal = Vec::new();
    for index in 0..plan.ties.len() {
        let Tie { candidate, finding, .. } = plan.ties[index];
        plan.ties[index].shared = false;
        let (Some(head), Some(table)) = (model.module_of(candidate.head), model.module_of(candidate.table)) else {
            continue;
        };
        match (finding, candidate.claimed) {
            _ if plan.tied == Tied::Split => {}
            (Finding::NotStored, _) | (Finding::Unprobed, Some(true)) | (Finding::Equal, Some(true) | None) => {
                tied.entry(table).or_default().push((index, head));
            }
            (Finding::Equal, Some(false)) => equal.push((index, head, table)),
            // When the config says nothing, a probe may still find them equal.
            (Finding::Unprobed, None) if plan.tied == Tied::Share => {
                diagnostics.extend(possible_conflict(own, model, head, table));
            }
            (Finding::Unprobed | Finding::Different, _) => {}
        }
    }
    for (table, heads) in tied {
        share(plan, own, model, checkpoint, (table, &heads), diagnostics);
    }
    // Equal though the config says untied: one table where the formats agree anyway.
    for (index, head, table) in equal {
        plan.ties[index].shared = plan.decision(head).format.format.agrees_with(&plan.decision(table).format.format);
    }
    plan.encodings = model.graph.params().iter().map(|param| kept(param, model, checkpoint)).collect();
    for (module, decision) in model.modules.iter().zip(&plan.decisions) {
        if let Some(weight) = module.params.first()
            && let Some(encoding) = decision.format.format.encoding()
        {
            plan.encodings[weight.index()] = encoding;
        }
    }
}

/// Gives a table and the heads that read it one format: what rules say of any of them. Where they say several, that is a
/// mistake under `share`; under `auto` it is the one that takes most bytes, which is still less than two tables take.
/// `heads` are their ties and modules.
fn share(
    plan: &mut Plan,
    own: &Plan,
    model: &Elaborated,
    checkpoint: &Checkpoint,
    (table, heads): (ModuleId, &[(usize, ModuleId)]),
    diagnostics: &mut Vec<Diagnostic>,
) {
    let decided = |module: &ModuleId| match own.decision(*module).format {
        Decided { format, by: By::Rule(_) } => Some(format),
        _ => None,
    };
    let ends = || std::iter::once(table).chain(heads.iter().map(|(_, head)| *head));
    let mut chosen: Option<(ModuleId, Format)> = None;
    let mut agree = true;
    for end in ends() {
        let Some(format) = decided(&end) else { continue };
        let Some((first, known)) = chosen else {
            chosen = Some((end, format));
            continue;
        };
        if known.agrees_with(&format) {
            continue;
        }
        if plan.tied == Tied::Auto {
            let bytes = |module: ModuleId| own.weight_bytes(module, model, checkpoint);
            if bytes(end) > bytes(first) {
                chosen = Some((end, format));
            }
        } else {
            let tie = heads
                .iter()
                .find(|(_, head)| *head == end)
                .map_or(Finding::Unprobed, |(index, _)| plan.ties[*index].finding);
            diagnostics.extend(conflict(own, model, (end, first), tie));
            agree = false;
        }
    }
    if !agree {
        return;
    }
    if let Some((by, format)) = chosen {
        for module in ends().filter(|end| decided(end).is_none_or(|own| !own.agrees_with(&format))) {
            plan.decisions[module.0 as usize].format = Decided { format, by: By::Tie(by) };
        }
    }
    for (index, _) in heads {
        plan.ties[*index].shared = true;
    }
}

/// A conflict that there would be if both ends were equal.
fn possible_conflict(own: &Plan, model: &Elaborated, head: ModuleId, table: ModuleId) -> Option<Diagnostic> {
    let [a, b] = [head, table].map(|module| own.decision(module).format);
    let differ = matches!((a.by, b.by), (By::Rule(_), By::Rule(_))) && !a.format.agrees_with(&b.format);
    if differ { conflict(own, model, (head, table), Finding::Unprobed) } else { None }
}

/// `head` and another end of its table, which rules give another format. None when one of these had a mistake: that was
/// reported, and what it would have been is not known.
fn conflict(
    plan: &Plan,
    model: &Elaborated,
    (head, table): (ModuleId, ModuleId),
    finding: Finding,
) -> Option<Diagnostic> {
    let path = |module: ModuleId| model.modules[module.0 as usize].path.as_str();
    let format = |module: ModuleId| plan.decision(module).format.format;
    let stated = |module: ModuleId| plan.rule_behind(&plan.decision(module).format).and_then(|rule| rule.format);
    let (a, b) = (path(head), path(table));
    let message = format!("`{a}` and `{b}` share one table, found {} and {}", format(head), format(table));
    let diagnostic = if finding == Finding::Unprobed {
        let message = format!("{message}: an error if their stored values are equal, which a probe will tell");
        Diagnostic::warning("S0301", message)
    } else {
        Diagnostic::error("S0301", message)
    };
    let ends = [(stated(head), a), (stated(table), b)];
    if ends.iter().any(|(stated, _)| stated.is_some_and(|stated| stated.format.is_none())) {
        return None;
    }
    let diagnostic = ends.iter().fold(diagnostic, |diagnostic, (stated, end)| {
        diagnostic.label_if(stated.map(|stated| stated.span), format!("for `{end}`"))
    });
    // A value that stands elsewhere, behind a `let` or on the command line, is where the conflict was set.
    let elsewhere = ends.iter().filter_map(|(stated, end)| Some((stated.as_ref()?.origin_elsewhere()?, end)));
    let diagnostic = elsewhere
        .fold(diagnostic, |diagnostic, (origin, end)| diagnostic.label(origin, format!("the value for `{end}`")));
    let help = "give both one format, leave one undecided, or write `tied => split` for two tables, `tied => auto` for one \
        in the larger format; `--set tied=split` does so for one run";
    Some(diagnostic.help(help))
}

/// What keeps the dtype of a parameter. A tied one has its table's.
pub(crate) fn kept(param: &Param, model: &Elaborated, checkpoint: &Checkpoint) -> Encoding {
    match &param.values {
        Values::Tied(table) => kept(&model.graph.params()[table.index()], model, checkpoint),
        Values::Stored(view) => {
            let dtype = checkpoint.tensor(view.tensor).stored_dtype();
            let dtype = dtype.expect("elaboration refuses dtypes that cannot be read");
            Encoding { format: dtype.format(), fit: Fit::Absmax }
        }
        Values::Uniform | Values::Zeros | Values::Scale { .. } => Encoding::EXACT,
    }
}

/// A spec that lists the models that it is meant for, and this is none.
fn other_model(spec: &Spec, model: &Elaborated, checkpoint: &Checkpoint) -> Option<Diagnostic> {
    let models = spec.models.as_ref()?;
    let kind = checkpoint.config.text("model_type");
    let fits = |name: &str| name == model.name || Some(name) == kind;
    if models.value.iter().any(|name| fits(&name.value)) {
        return None;
    }
    let listed: Vec<&str> = models.value.iter().map(|name| name.value.as_str()).collect();
    let found = match kind {
        Some(kind) if kind != model.name => format!("{} (model_type {kind})", model.name),
        _ => model.name.clone(),
    };
    let message = format!("spec `{}` is for {}, found a checkpoint of {found}", spec.name.value, listed.join(", "));
    let diagnostic = Diagnostic::error("S0008", message);
    let architecture =
        models.value.iter().find(|name| checkpoint.config.architectures().contains(&name.value.as_str()));
    if let Some(name) = architecture {
        let help = format!("it lists definitions and model types, not architectures: write `{}`", model.name);
        return Some(diagnostic.label(name.span, "").help(help));
    }
    let near = listed.iter().zip(&models.value).find(|(name, _)| nearest(name, [model.name.as_str()]).is_some());
    Some(match near {
        Some((_, name)) => diagnostic.label(name.span, "").help(format!("did you mean `{}`?", model.name)),
        None => diagnostic.label(models.span, "").help(format!("when it fits this model too, add `{}`", model.name)),
    })
}

/// The modules that a rule matches, by index, in order. Each alternative of its braces must match something.
fn matches(rule: &Rule, model: &Elaborated, sources: &Sources, diagnostics: &mut Vec<Diagnostic>) -> Vec<usize> {
    let Rule { pattern: Spanned { value: pattern, span }, optional, .. } = rule;
    let found = model.matching(pattern);
    if *optional || !pattern.is_readable() {
        return found;
    }
    if found.is_empty() && diagnostics.len() >= MAX_EXPLAINED {
        let message = format!("`{pattern}` matches no module of {}", model.name);
        diagnostics.push(Diagnostic::error("S0101", message).label(*span, ""));
        return found;
    }
    let alternatives = pattern.alternatives();
    let mut without: Vec<&Pattern> = alternatives.iter().collect();
    for &index in &found {
        // Most alternatives find one of the first modules, so few are left to ask about.
        without.retain(|alternative| !model.is_match(alternative, &model.modules[index]));
        if without.is_empty() {
            return found;
        }
    }
    let is_whole = alternatives.len() == 1
        || found.is_empty() && without.iter().all(|alternative| dead::explanation(alternative, model).is_none());
    if is_whole {
        diagnostics.push(dead::diagnostic("S0101", pattern, *span, model));
        return found;
    }
    let places = Places::new(&alternatives, *span, sources);
    let fault = |alternative: &Pattern| dead::diagnostic("S0106", alternative, places.of(alternative), model);
    diagnostics.extend(dead::of_each(&without, fault));
    found
}

/// The last rule of a layer that states each attribute, by module.
struct LastOfLayer {
    formats: Vec<Option<usize>>,
    inputs: Vec<Option<usize>>,
}

/// Rules that decide nothing about this model, as later rules of the same layer do.
fn shadowed(spec: &Spec, matched: &[Vec<usize>], modules: usize) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let mut last: BTreeMap<usize, LastOfLayer> = BTreeMap::new();
    for (index, rule) in spec.rules.iter().enumerate() {
        let LastOfLayer { formats, inputs } = last
            .entry(rule.layer)
            .or_insert_with(|| LastOfLayer { formats: vec![None; modules], inputs: vec![None; modules] });
        for &module in matched[index].iter().filter(|_| rule.readable) {
            if rule.format.is_some() {
                formats[module] = Some(index);
            }
            if rule.input.is_some() {
                inputs[module] = Some(index);
            }
        }
    }
    for (index, rule) in spec.rules.iter().enumerate() {
        if matched[index].is_empty() || rule.shadowed || !rule.readable {
            continue;
        }
        let LastOfLayer { formats, inputs } = &last[&rule.layer];
        let stated = |states: bool, deciders: &[Option<usize>]| -> Vec<usize> {
            if states { matched[index].iter().filter_map(|&module| deciders[module]).collect() } else { Vec::new() }
        };
        let mut deciders = stated(rule.format.is_some(), formats);
        deciders.extend(stated(rule.input.is_some(), inputs));
        if deciders.contains(&index) {
            continue;
        }
        deciders.sort_unstable();
        deciders.dedup();
        let pattern = &rule.pattern.value;
        let message = format!("`{pattern}` decides nothing here: later rules decide every module that it matches");
        let mut diagnostic = Diagnostic::warning("S0103", message)
            .label(rule.pattern.span, format!("matches {}", modules_in_words(matched[index].len())));
        for decider in deciders.iter().take(3) {
            diagnostic = diagnostic.label(spec.rules[*decider].pattern.span, "this one decides instead");
        }
        found.push(diagnostic.help("the last rule that matches decides: move this rule below the others, or drop it"));
    }
    found
}

/// `1 module`, `3 modules`
fn modules_in_words(count: usize) -> String {
    if count == 1 { "1 module".into() } else { format!("{count} modules") }
}
