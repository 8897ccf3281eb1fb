//! What a spec asks for and this version cannot build: an error for each, so that nothing is accepted and then ignored.

use lathe_grammar::diag::Diagnostic;
use lathe_grammar::span::Span;

use super::{Role, RotationKind, SETTINGS, Spec, Stated, Turn};
use crate::plan::{By, Plan, RuleId};

impl Spec {
    /// Everything that it states and that cannot be built.
    pub fn unbuilt(&self) -> Vec<Diagnostic> {
        let formats = self.rules.iter().flat_map(|rule| [(rule.format, Role::Weight), (rule.input, Role::Input)]);
        self.list(formats, self.rotations.iter().map(|request| (&request.turn, request.span)))
    }

    /// What it comes to on a model and cannot be built: formats that decide about no module, and requests without edges, do
    /// not count.
    pub fn unbuilt_in(&self, plan: &Plan) -> Vec<Diagnostic> {
        let formats = self.rules.iter().enumerate().flat_map(|(index, rule)| {
            let by = By::Rule(RuleId(index as u32));
            let weights = plan.decisions.iter().any(|decision| decision.format.by == by);
            let inputs = plan.decisions.iter().any(|decision| decision.input.by == by);
            [(rule.format.filter(|_| weights), Role::Weight), (rule.input.filter(|_| inputs), Role::Input)]
        });
        self.list(formats, plan.rotations.iter().map(|rotation| (&rotation.turn, rotation.span)))
    }

    fn list<'a>(
        &self,
        formats: impl Iterator<Item = (Option<Stated>, Role)>,
        rotations: impl Iterator<Item = (&'a Turn, Span)>,
    ) -> Vec<Diagnostic> {
        let mut found: Vec<(String, Diagnostic, usize)> = Vec::new();
        let mut add = |what: String, point_at: &dyn Fn(Diagnostic) -> Diagnostic| match found
            .iter_mut()
            .find(|(known, ..)| *known == what)
        {
            Some((.., more)) => *more += 1,
            None => {
                let message = format!("{what} is part of the language, but this version cannot build it");
                found.push((what, point_at(Diagnostic::error("S0202", message)), 0));
            }
        };
        for (stated, role) in formats.chain([(self.kv_cache, Role::Cache)]) {
            if let Some(stated @ Stated { format: Some(format), .. }) = stated
                && !format.is_built(role)
            {
                // A kind of which something is built is shown with the arguments that make the difference.
                let built = format.kind().built.contains(&role);
                let name = if built { format.to_string() } else { format.kind().name.to_owned() };
                let help = match format.nearest_built(role) {
                    Some(nearest) => format!("the nearest that it can build is `{nearest}`"),
                    None => "write `keep`".to_owned(),
                };
                let point_at = |diagnostic: Diagnostic| stated.point_at(diagnostic, stated.origin).help(help.as_str());
                add(format!("the format `{name}` for {}", role.name()), &point_at);
            }
        }
        for (turn, span) in rotations {
            if RotationKind::find(turn.kind).is_some_and(|kind| !kind.built) {
                add("a rotation".to_owned(), &|diagnostic| diagnostic.label(span, ""));
            }
        }
        for (name, word, span) in &self.words {
            let Some(setting) = SETTINGS.iter().find(|setting| setting.name == *name) else { continue };
            if setting.values.iter().any(|(value, _, built)| value == word && !built) {
                let built: Vec<&str> =
                    setting.values.iter().filter(|(.., built)| *built).map(|(value, ..)| *value).collect();
                let help = format!("it can build {}", super::parameters::one_of(&built));
                add(format!("`{name} => {word}`"), &|diagnostic| diagnostic.label(*span, "").help(help.as_str()));
            }
        }
        let counted = |(_, diagnostic, more): (String, Diagnostic, usize)| match more {
            0 => diagnostic,
            1 => diagnostic.note("it is asked for once more"),
            _ => diagnostic.note(format!("it is asked for {more} times more")),
        };
        found.into_iter().map(counted).collect()
    }
}
