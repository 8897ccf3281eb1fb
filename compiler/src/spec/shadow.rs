//! Rules that later rules of the same spec shadow whatever the model is.

use lathe_grammar::ast::{Rule, Spec};
use lathe_grammar::diag::Diagnostic;

/// Every rule of `spec` that decides nothing for any model, by its index, with what to say about it: each of its attributes
/// is stated again by later rules that match all that it matches.
pub(super) fn shadowed(spec: &Spec) -> Vec<(usize, Diagnostic)> {
    let rules: &[Rule] = spec.rules.as_ref().map_or(&[], |rules| &rules.value);
    let found = rules.iter().enumerate().map(|(i, rule)| (i, diagnostic(rule, &rules[i + 1..])));
    found.filter_map(|(i, diagnostic)| Some((i, diagnostic?))).collect()
}

fn diagnostic(rule: &Rule, later: &[Rule]) -> Option<Diagnostic> {
    let mut by: Vec<&Rule> = Vec::new();
    for alternative in rule.pattern.value.alternatives() {
        let mut cover = |states: &dyn Fn(&Rule) -> bool| {
            let found = later.iter().find(|other| states(other) && other.pattern.value.covers(&alternative));
            by.extend(found);
            found.is_some()
        };
        let format = rule.format.is_none() || cover(&|other| other.format.is_some());
        let input = rule.input.is_none() || cover(&|other| other.input.is_some());
        if !(format && input) {
            return None;
        }
    }
    by.sort_by_key(|rule| rule.span);
    by.dedup_by_key(|rule| rule.span);
    let message = format!("`{}` decides nothing: later rules match all that it matches", rule.pattern.value);
    let mut diagnostic = Diagnostic::error("S0103", message).label(rule.pattern.span, "");
    for rule in by.iter().take(4) {
        diagnostic = diagnostic.label(rule.pattern.span, "this one decides instead");
    }
    Some(diagnostic.help("the last rule that matches decides: move this rule below the others, or drop it"))
}
