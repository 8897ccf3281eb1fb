//! Rules that later rules of the same spec shadow whatever the model is.
//!
//! A rule decides nothing when each of its attributes is stated again by later rules that match every module that takes a
//! format and that it matches. `layers[0].* => keep` before `** => f16` is such a rule, though it could match norms as
//! well, which `**` leaves out: nothing but `keep` can be said of a norm, so there, too, it decides nothing. A rule that
//! names norms, as `layers[0].*:norm => keep`, is shadowed only by others that match them. Of a rule that could not be read
//! as a whole, nothing of all this can be told.

use lathe_grammar::ast::{Rule, Spec};
use lathe_grammar::diag::Diagnostic;
use lathe_grammar::pattern::{Effort, Outline};

/// How many steps the rules of one spec are compared for. Rules that are not looked at any more count as not shadowed;
/// whether they decide anything about a model is seen when there is one.
const MAX_STEPS: usize = 1 << 24;

/// Every rule of `spec` that decides nothing for any model, by its index, with what to say about it.
pub(super) fn shadowed(spec: &Spec) -> Vec<(usize, Diagnostic)> {
    let rules = spec.rules.iter().flat_map(|rules| &rules.value).enumerate().filter(|(_, rule)| rule.is_readable());
    let (places, outlines): (Vec<usize>, Vec<(&Rule, Outline)>) =
        rules.map(|(at, rule)| (at, (rule, Outline::of(&rule.pattern.value)))).unzip();
    let effort = Effort::new(MAX_STEPS);
    let looked_at = (0..outlines.len()).take_while(|_| !effort.is_spent());
    looked_at.filter_map(|i| Some((places[i], diagnostic(&outlines[i], &outlines[i + 1..], &effort)?))).collect()
}

fn diagnostic((rule, outline): &(&Rule, Outline), later: &[(&Rule, Outline)], effort: &Effort) -> Option<Diagnostic> {
    let mut by: Vec<&Rule> = Vec::new();
    for alternative in outline.alternatives() {
        let mut cover = |states: &dyn Fn(&Rule) -> bool| {
            let mut others = later.iter().take_while(|_| !effort.is_spent());
            let found = others.find(|(other, outline)| states(other) && outline.covers(alternative, effort));
            by.extend(found.map(|(rule, _)| *rule));
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
