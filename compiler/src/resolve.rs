//! Rules on modules: the last rule that matches decides. Every rule must match, and should decide, something.

use lathe_grammar::ast::{Call, ExprKind, Rule, Spec};
use lathe_grammar::diag::{Diagnostic, nearest};
use lathe_grammar::pattern::{Candidate, Pattern};
use lathe_grammar::span::{Span, Spanned};

use crate::elaborate::Elaborated;
use crate::ir::{Param, Values};
use crate::model::Checkpoint;
use crate::plan::{Choice, Decision, Plan};

/// Formats that the language has and this version does not build.
const LATER: &[&str] = &[
    "int2", "int3", "int4", "int5", "int6", "int7", "int8", "fp8_e4m3", "fp8_e5m2", "nf4", "mxfp4", "nvfp4", "mxfp6",
    "mxfp8", "bf16", "f16", "f32",
];

fn rules(spec: &Spec) -> &[Rule] {
    spec.rules.as_ref().map_or(&[], |rules| &rules.value)
}

/// The mistakes of a spec's formats, which can be found without a model.
pub fn check_formats(spec: &Spec) -> Vec<Diagnostic> {
    rules(spec).iter().filter_map(|rule| choice(rule.format.as_ref()?).err()).map(|diagnostic| *diagnostic).collect()
}

/// Gives every module of `model` its decision. The ties of the plan are still to be found.
///
/// # Errors
/// Diagnostics, at least one of them an error; warnings come back beside the plan.
pub fn resolve(
    spec: &Spec,
    model: &Elaborated,
    checkpoint: &Checkpoint,
) -> Result<(Plan, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut diagnostics = Vec::new();
    let mut decisions = vec![Decision { choice: Choice::Keep { exact: false }, rule: None }; model.modules.len()];
    let mut matched = vec![0usize; rules(spec).len()];
    for (rule, matched) in rules(spec).iter().zip(&mut matched) {
        let Some(format) = &rule.format else { continue };
        let choice = match choice(format) {
            Ok(choice) => choice,
            Err(diagnostic) => {
                diagnostics.push(*diagnostic);
                continue;
            }
        };
        *matched = apply(rule, choice, model, &mut decisions, &mut diagnostics);
    }
    for (rule, matched) in rules(spec).iter().zip(matched) {
        let decides = decisions.iter().any(|decision| decision.rule == Some(rule.span));
        if matched > 0 && !decides {
            let message =
                format!("`{}` decides nothing: later rules decide every module it matches", rule.pattern.value);
            diagnostics.push(
                Diagnostic::warning("S0103", message)
                    .label(rule.pattern.span, format!("matches {matched} modules"))
                    .help("the last rule that matches decides: move this rule below the others, or drop it"),
            );
        }
    }
    if diagnostics.iter().any(Diagnostic::is_error) {
        return Err(diagnostics);
    }
    let formats = model.graph.params().iter().map(|param| kept_format(param, model, checkpoint)).collect();
    let plan = Plan { spec: spec.name.value.clone(), decisions, formats, ties: Vec::new() };
    Ok((plan, diagnostics))
}

/// The format that keeps the dtype of a parameter. A tied one has its table's.
fn kept_format(param: &Param, model: &Elaborated, checkpoint: &Checkpoint) -> &'static str {
    match &param.values {
        Values::Tied(table) => kept_format(&model.graph.params()[table.index()], model, checkpoint),
        Values::Stored(slice) => {
            let dtype = checkpoint.tensor(slice.tensor).stored_dtype();
            dtype.expect("elaboration refuses dtypes that cannot be read").format()
        }
    }
}

/// Decides what the rule matches; each alternative of its braces must match something.
fn apply(
    rule: &Rule,
    choice: Choice,
    model: &Elaborated,
    decisions: &mut [Decision],
    diagnostics: &mut Vec<Diagnostic>,
) -> usize {
    let children = |path: &str| indexed_children(model, path);
    let mut total = 0;
    for pattern in rule.pattern.value.alternatives() {
        let mut matched = 0;
        for (module, decision) in model.modules.iter().zip(decisions.iter_mut()) {
            let takes_format = module.takes_format();
            let candidate = Candidate { path: &module.path, kind: module.kind, takes_format, children: &children };
            if pattern.matches(&candidate) {
                matched += 1;
                *decision = Decision { choice, rule: Some(rule.span) };
            }
        }
        if matched == 0 && !rule.optional {
            diagnostics.push(dead(&pattern, rule.pattern.span, model));
        }
        total += matched;
    }
    total
}

/// The diagnostic for a pattern that matches no module.
fn dead(pattern: &Pattern, span: Span, model: &Elaborated) -> Diagnostic {
    let message = format!("`{pattern}` matches no module of {}", model.name);
    let diagnostic = Diagnostic::error("S0101", message).label(span, "");
    let children = |path: &str| indexed_children(model, path);
    for module in &model.modules {
        let containers = module.path.match_indices('.').map(|(dot, _)| &module.path[..dot]);
        if let Some(container) = containers.into_iter().find(|path| pattern.matches_container(path, &children)) {
            return diagnostic
                .note(format!("`{container}` holds modules but is none itself"))
                .help(format!("write `{pattern}.**` for every module below it"));
        }
    }
    let text = pattern.to_string();
    if let Some(note) = index_out_of_range(&text, model) {
        return diagnostic.note(note);
    }
    // `layers[0]` and `layers.0` are the same two segments.
    let text = text.replace('[', ".").replace(']', "");
    let segments = text.split('.').count();
    let tails = model.modules.iter().map(|module| {
        let start = module.path.rmatch_indices('.').nth(segments.saturating_sub(1)).map_or(0, |(dot, _)| dot + 1);
        &module.path[start..]
    });
    match nearest(&text, tails) {
        Some(near) => diagnostic.help(format!("did you mean `{near}`? A rule for several models can be `optional`")),
        None => diagnostic.help("a rule that is meant for several models can be `optional`"),
    }
}

/// What is said of the first single index of a pattern that its container does not have.
fn index_out_of_range(pattern: &str, model: &Elaborated) -> Option<String> {
    pattern.split('.').find_map(|segment| {
        let (name, index) = segment.strip_suffix(']')?.split_once('[')?;
        let index: i64 = index.parse().ok()?;
        let indexed = |(path, count): &(&String, &u64)| **count > 0 && path.rsplit('.').next() == Some(name);
        let (path, &count) = model.children.iter().find(indexed)?;
        let in_range = (-(count as i64)..count as i64).contains(&index);
        (!in_range).then(|| format!("the indices of `{path}` run from 0 to {}, found {index}", count - 1))
    })
}

fn indexed_children(model: &Elaborated, path: &str) -> usize {
    model.children.get(path).copied().unwrap_or(0) as usize
}

fn choice(format: &Spanned<Call>) -> Result<Choice, Box<Diagnostic>> {
    let (name, args) = (&format.value.name.value, &format.value.args);
    if name != "keep" {
        let diagnostic = if LATER.contains(&name.as_str()) {
            Diagnostic::error("S0202", format!("the format `{name}` cannot be built by this version"))
                .label(format.span, "")
                .help("`keep` can: the dtype that the checkpoint stores")
        } else {
            let diagnostic = Diagnostic::error("S0201", format!("`{name}` is no format")).label(format.span, "");
            match nearest(name, LATER.iter().copied().chain(["keep"])) {
                Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
                None => diagnostic,
            }
        };
        return Err(Box::new(diagnostic));
    }
    match &args[..] {
        [] => Ok(Choice::Keep { exact: false }),
        [arg] if arg.name.is_none() && matches!(&arg.value.kind, ExprKind::Name(name) if name == "exact") => {
            Ok(Choice::Keep { exact: true })
        }
        _ => Err(Box::new(Diagnostic::error("S0201", "keep takes no argument but `exact`").label(format.span, ""))),
    }
}
