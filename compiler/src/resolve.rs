//! A spec on a model: the last rule that matches decides, about weights and about inputs each on its own. Every rule must
//! match, and should decide, something; what it decides must fit the modules that it decides about.

use std::collections::{BTreeMap, BTreeSet};

use lathe_grammar::diag::{Diagnostic, nearest};
use lathe_grammar::pattern::{Candidate, Pattern};
use lathe_grammar::span::{Sources, Span};

use crate::elaborate::{Elaborated, Module, ModuleId};
use crate::ir::{Param, Values};
use crate::model::Checkpoint;
use crate::plan::{By, Decided, Decision, Finding, Plan, PlannedRotation, RuleId, Tie, matrix, takes_input};
use crate::sites;
use crate::spec::{Rule, SITES, Spec, Stated, Tied};

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
    diagnostics.extend(misfits(&plan, model));
    plan.rotations = rotations(spec, model, diagnostics);
    plan.ties =
        model.ties.iter().map(|&candidate| Tie { candidate, finding: Finding::Unprobed, shared: false }).collect();
    for tie in &mut plan.ties {
        if let Values::Tied(_) = model.graph.params()[tie.candidate.head.index()].values {
            tie.finding = Finding::NotStored;
        }
    }
    let own = plan.clone();
    settle(&mut plan, &own, model, checkpoint, diagnostics);
    plan
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
    let mut own = plan.clone();
    for decision in &mut own.decisions {
        if let By::Tie(_) = decision.format.by {
            decision.format = Decided::NOTHING;
        }
    }
    plan.decisions.clone_from(&own.decisions);
    settle(plan, &own, model, checkpoint, diagnostics);
}

/// Ties: which heads read the table of another module. `own` has what rules decided.
fn settle(plan: &mut Plan, own: &Plan, model: &Elaborated, checkpoint: &Checkpoint, diagnostics: &mut Vec<Diagnostic>) {
    for index in 0..plan.ties.len() {
        let Tie { candidate, finding, .. } = plan.ties[index];
        plan.ties[index].shared = false;
        let (Some(head), Some(table)) = (model.module_of(candidate.head), model.module_of(candidate.table)) else {
            continue;
        };
        let (of_head, of_table) = (own.decision(head).format, own.decision(table).format);
        let agree = of_head.format == of_table.format;
        let is_tied = match (finding, candidate.claimed) {
            (Finding::NotStored, _) | (Finding::Equal | Finding::Unprobed, Some(true)) | (Finding::Equal, None) => true,
            (Finding::Equal, Some(false)) => agree,
            (Finding::Unprobed, _) | (Finding::Different, _) => false,
        };
        if !is_tied || plan.tied == Tied::Split {
            continue;
        }
        match (of_head.by, of_table.by) {
            (By::Nobody, By::Rule(_)) => {
                plan.decisions[head.0 as usize].format = Decided { format: of_table.format, by: By::Tie(table) };
            }
            (By::Rule(_), By::Nobody) => {
                plan.decisions[table.0 as usize].format = Decided { format: of_head.format, by: By::Tie(head) };
            }
            _ if agree => {}
            _ => {
                diagnostics.push(conflict(own, model, (head, table), finding));
                continue;
            }
        }
        plan.ties[index].shared = true;
    }
    plan.formats = model.graph.params().iter().map(|param| kept_format(param, model, checkpoint)).collect();
    for (module, decision) in model.modules.iter().zip(&plan.decisions) {
        let format = decision.format.format;
        if let Some(weight) = module.params.first()
            && !format.is_keep()
        {
            plan.formats[weight.index()] = format.kind().name;
        }
    }
}

fn conflict(plan: &Plan, model: &Elaborated, (head, table): (ModuleId, ModuleId), finding: Finding) -> Diagnostic {
    let path = |module: ModuleId| model.modules[module.0 as usize].path.as_str();
    let format = |module: ModuleId| plan.decision(module).format.format;
    let place = |module: ModuleId| {
        let rule = plan.rule_behind(&plan.decision(module).format);
        rule.and_then(|rule| rule.format).map(|stated| stated.span)
    };
    let (a, b) = (path(head), path(table));
    let message = format!("`{a}` and `{b}` share one table, found {} and {}", format(head), format(table));
    let diagnostic = if finding == Finding::Unprobed {
        let message = format!("{message}: an error if their stored values are equal, which a probe will tell");
        Diagnostic::warning("S0301", message)
    } else {
        Diagnostic::error("S0301", message)
    };
    diagnostic
        .label_if(place(head), format!("for `{a}`"))
        .label_if(place(table), format!("for `{b}`"))
        .help("give both one format, leave one undecided, or store the table twice with `tied => split`")
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
    let near = listed.iter().zip(&models.value).find(|(name, _)| nearest(name, [model.name.as_str()]).is_some());
    Some(match near {
        Some((_, name)) => diagnostic.label(name.span, "").help(format!("did you mean `{}`?", model.name)),
        None => diagnostic.label(models.span, "").help(format!("when it fits this model too, add `{}`", model.name)),
    })
}

/// The modules that a rule matches, by index, in order. Each alternative of its braces must match something.
fn matches(rule: &Rule, model: &Elaborated, sources: &Sources, diagnostics: &mut Vec<Diagnostic>) -> Vec<usize> {
    let found = matching(&rule.pattern.value, model);
    if rule.optional {
        return found;
    }
    let alternatives = rule.pattern.value.alternatives();
    if let [_] = alternatives[..] {
        if found.is_empty() {
            diagnostics.push(dead(&rule.pattern.value, rule.pattern.span, model, "S0101"));
        }
        return found;
    }
    let dead_ones: Vec<&Pattern> = alternatives.iter().filter(|pattern| matching(pattern, model).is_empty()).collect();
    if found.is_empty() && dead_ones.iter().all(|pattern| explanation(pattern, model).is_none()) {
        diagnostics.push(dead(&rule.pattern.value, rule.pattern.span, model, "S0101"));
        return found;
    }
    for pattern in dead_ones {
        let place = place_of(pattern, &alternatives, rule.pattern.span, sources);
        diagnostics.push(dead(pattern, place, model, "S0106"));
    }
    found
}

fn matching(pattern: &Pattern, model: &Elaborated) -> Vec<usize> {
    let children = |path: &str| model.indexed_children(path);
    let matches = |(_, module): &(usize, &Module)| {
        let takes_format = module.takes_format();
        pattern.matches(&Candidate { path: &module.path, kind: module.kind, takes_format, children: &children })
    };
    model.modules.iter().enumerate().filter(matches).map(|(index, _)| index).collect()
}

/// Where an alternative stands in the text of its pattern: the part that not all alternatives have, when it stands there
/// once; else the whole pattern.
fn place_of(alternative: &Pattern, all: &[Pattern], pattern: Span, sources: &Sources) -> Span {
    let parts = |pattern: &Pattern| -> Vec<String> {
        let text = pattern.to_string();
        text.split(['.', '/', '[', ']', ':']).filter(|part| !part.is_empty()).map(str::to_owned).collect()
    };
    let others: Vec<Vec<String>> = all.iter().filter(|other| *other != alternative).map(parts).collect();
    let written = &sources.get(pattern.source).text[pattern.range()];
    let own = parts(alternative).into_iter().find_map(|part| {
        let is_own = others.iter().any(|other| !other.contains(&part));
        let mut places = written.match_indices(part.as_str()).filter(|(at, found)| {
            let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '*');
            let before = written[..*at].chars().next_back().is_some_and(is_word);
            let after = written[at + found.len()..].chars().next().is_some_and(is_word);
            !before && !after
        });
        match (is_own, places.next(), places.next()) {
            (true, Some((at, _)), None) => Some((at, part.len())),
            _ => None,
        }
    });
    match own {
        Some((at, length)) => {
            let start = pattern.range().start + at;
            Span::new(pattern.source, start..start + length)
        }
        None => pattern,
    }
}

/// Why a pattern that matches nothing does not, when that is known: code, note, help.
fn explanation(pattern: &Pattern, model: &Elaborated) -> Option<(&'static str, String, Option<String>)> {
    let children = |path: &str| model.indexed_children(path);
    for module in &model.modules {
        let containers = module.path.match_indices('.').map(|(dot, _)| &module.path[..dot]);
        if let Some(container) = containers.into_iter().find(|path| pattern.matches_container(path, &children)) {
            let note = format!("`{container}` holds modules but is none itself");
            return Some(("S0104", note, Some(format!("write `{pattern}.**` for every module below it"))));
        }
    }
    // A final `**` skips what takes no format.
    let text = pattern.to_string();
    index_out_of_range(&text, model).map(|note| ("S0105", note, None))
}

/// The diagnostic for a pattern that matches no module.
fn dead(pattern: &Pattern, span: Span, model: &Elaborated, code: &'static str) -> Diagnostic {
    let message = format!("`{pattern}` matches no module of {}", model.name);
    if let Some((code, note, help)) = explanation(pattern, model) {
        let message = match code {
            "S0104" => format!("`{pattern}` matches containers only, and no module of {}", model.name),
            _ => format!("`{pattern}` is out of range: {note}"),
        };
        let mut diagnostic = Diagnostic::error(code, message).label(span, "");
        if code == "S0104" {
            diagnostic = diagnostic.note(note);
        }
        diagnostic.help = help;
        return diagnostic;
    }
    let diagnostic = Diagnostic::error(code, message).label(span, "");
    // `layers[0]` and `layers.0` are the same two segments.
    let text = pattern.to_string().replace('[', ".").replace(']', "");
    let text = text.trim_start_matches('/');
    let segments = text.split('.').count();
    let tails: BTreeSet<&str> = model
        .modules
        .iter()
        .map(|module| {
            let start = module.path.rmatch_indices('.').nth(segments.saturating_sub(1)).map_or(0, |(dot, _)| dot + 1);
            &module.path[start..]
        })
        .collect();
    let whole = model.modules.iter().map(|module| module.path.as_str());
    match nearest(text, tails).or_else(|| nearest(text, whole)) {
        Some(near) => diagnostic.help(format!("did you mean `{near}`? A rule for several models can be `optional`")),
        None => diagnostic.help("a rule that is meant for several models can be `optional`"),
    }
}

/// What is said of the first single index of a pattern that its container does not have.
fn index_out_of_range(pattern: &str, model: &Elaborated) -> Option<String> {
    let mut rest = pattern;
    while let Some(open) = rest.find('[') {
        let name = rest[..open].rsplit(['.', '/']).next().unwrap_or_default();
        let close = open + rest[open..].find(']')?;
        let index: Option<i64> = rest[open + 1..close].parse().ok();
        let indexed = |(path, count): &(&String, &u64)| **count > 0 && path.rsplit('.').next() == Some(name);
        if let Some(index) = index
            && let Some((path, &count)) = model.children.iter().find(indexed)
            && !(-(count as i64)..count as i64).contains(&index)
        {
            return Some(format!("the indices of `{path}` run from 0 to {}, found {index}", count - 1));
        }
        rest = &rest[close + 1..];
    }
    None
}

/// Rules that decide nothing about this model, as later rules of the same layer do.
fn shadowed(spec: &Spec, matched: &[Vec<usize>], modules: usize) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    // The last rule of a layer that states each attribute of each module.
    let mut last: BTreeMap<usize, (Vec<Option<usize>>, Vec<Option<usize>>)> = BTreeMap::new();
    for (index, rule) in spec.rules.iter().enumerate() {
        let (formats, inputs) = last.entry(rule.layer).or_insert_with(|| (vec![None; modules], vec![None; modules]));
        for &module in &matched[index] {
            if rule.format.is_some() {
                formats[module] = Some(index);
            }
            if rule.input.is_some() {
                inputs[module] = Some(index);
            }
        }
    }
    for (index, rule) in spec.rules.iter().enumerate() {
        if matched[index].is_empty() || rule.shadowed {
            continue;
        }
        let (formats, inputs) = &last[&rule.layer];
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

fn modules_in_words(count: usize) -> String {
    if count == 1 { "1 module".into() } else { format!("{count} modules") }
}

/// Formats that do not fit the modules that rules gave them, one diagnostic for each rule and reason.
fn misfits(plan: &Plan, model: &Elaborated) -> Vec<Diagnostic> {
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
        let shape = module.params.first().map_or(&[][..], |param| &model.graph.params()[param.index()].shape);
        let (rows, columns) = matrix(shape);
        let Decision { format, input } = decision;
        if let By::Rule(rule) = format.by
            && !format.format.is_keep()
        {
            let place = plan.rule(rule).format.map(|stated| stated.span);
            let pattern = plan.rule(rule).pattern.span;
            if !module.takes_format() {
                report("S0210", rule, String::new(), &|| {
                    let message = format!("`{path}` is a {kind} and takes no format, found {}", format.format);
                    Diagnostic::error("S0210", message)
                        .label(pattern, "")
                        .help("its gain stays as it is stored: match other modules, or write `keep`")
                });
            } else if let Some((what, whole)) = format.format.indivisible(rows, columns) {
                report("S0209", rule, format!("{what} {whole}"), &|| {
                    let message = format!("{what} does not divide {whole} of `{path}`");
                    indivisible(message, place, columns)
                });
            }
        }
        if let By::Rule(rule) = input.by
            && !input.format.is_keep()
        {
            let place = plan.rule(rule).input.map(|stated| stated.span);
            if !takes_input(module.kind) {
                report("S0211", rule, kind.to_owned(), &|| {
                    let why = if kind == "embedding" { "it looks rows up by token" } else { "it multiplies nothing" };
                    let message = format!("`{path}` is a {kind} and has no input to quantize: {why}");
                    Diagnostic::error("S0211", message).label_if(place, "").help(format!(
                        "match `:linear` instead, or take it back below this rule: `:{kind} => with input keep`"
                    ))
                });
            } else if let Some((what, whole)) = input.format.indivisible(rows, columns) {
                report("S0209", rule, format!("input {what} {whole}"), &|| {
                    let message = format!("{what} of the input does not divide {whole} of `{path}`");
                    indivisible(message, place, columns)
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

fn indivisible(message: String, place: Option<Span>, columns: u64) -> Diagnostic {
    let diagnostic = Diagnostic::error("S0209", message).label_if(place, "");
    let fitting: Vec<String> = [256, 128, 64, 32, 16]
        .into_iter()
        .filter(|size| columns % size == 0)
        .map(|size: u64| size.to_string())
        .collect();
    if fitting.is_empty() {
        diagnostic
    } else {
        diagnostic.help(format!("of the usual sizes these do: {}", fitting.join(", ")))
    }
}

/// The edges of each rotation. One edge takes one.
fn rotations(spec: &Spec, model: &Elaborated, diagnostics: &mut Vec<Diagnostic>) -> Vec<PlannedRotation> {
    let mut planned: Vec<PlannedRotation> = Vec::new();
    for request in &spec.rotations {
        let site = request.site.value;
        let within = request.within.as_ref();
        let edges = sites::edges(model, site, within.map(|pattern| &pattern.value));
        let name = SITES.iter().find(|kind| kind.site == site).map_or("?", |kind| kind.name);
        if edges.is_empty() && !request.optional {
            let (span, what) = match within {
                Some(pattern) => (pattern.span, format!("`{name} of {}`", pattern.value)),
                None => (request.site.span, format!("`{name}`")),
            };
            let message = format!("the graph of {} has no edge at {what}", model.name);
            let help = "a request that is meant for several models can be `optional`";
            diagnostics.push(Diagnostic::error("S0404", message).label(span, "").help(help));
            continue;
        }
        let clash = planned.iter().find_map(|other| {
            let edge = other.edges.iter().find(|edge| edges.contains(edge))?;
            Some((other, *edge))
        });
        if let Some((other, edge)) = clash {
            let label = &model.graph.node(edge).label;
            let message = format!("two rotations on one edge: the result of `{label}`");
            diagnostics.push(
                Diagnostic::error("S0403", message)
                    .label(request.span, "")
                    .label(other.span, "the first one")
                    .help("an edge has one frame: drop one request, or narrow its pattern"),
            );
            continue;
        }
        planned.push(PlannedRotation {
            site,
            within: within.map(|pattern| pattern.value.to_string()),
            turn: request.turn.clone(),
            edges,
            span: request.span,
        });
    }
    planned
}
