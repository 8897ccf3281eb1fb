//! Requests for rotations, on the edges of a graph.

use std::collections::BTreeSet;

use lathe_grammar::diag::Diagnostic;

use super::dead;
use crate::elaborate::Elaborated;
use crate::ir::NodeId;
use crate::plan::PlannedRotation;
use crate::sites;
use crate::spec::{Rotation, SITES, Site, Spec};

/// The edges of each rotation. One edge takes one; `none` takes its edges back.
pub(super) fn rotations(spec: &Spec, model: &Elaborated, diagnostics: &mut Vec<Diagnostic>) -> Vec<PlannedRotation> {
    let mut found: Vec<(&Rotation, Vec<NodeId>)> = Vec::new();
    for request in &spec.rotations {
        let within = request.within.as_ref().map(|pattern| &pattern.value);
        let edges = sites::edges(model, request.site.value, within);
        if edges.is_empty() && !request.optional {
            diagnostics.push(absent(request, model));
        } else {
            found.push((request, edges));
        }
    }
    let (none, some): (Vec<_>, Vec<_>) = found.into_iter().partition(|(request, _)| request.turn.is_none());
    let mut planned: Vec<PlannedRotation> = Vec::new();
    for (request, mut edges) in some {
        let later = none.iter().filter(|(other, _)| other.layer >= request.layer);
        let taken_back: BTreeSet<NodeId> = later.flat_map(|(_, edges)| edges).copied().collect();
        let taker = none
            .iter()
            .find(|(other, taken)| other.layer == request.layer && taken.iter().any(|edge| edges.contains(edge)));
        edges.retain(|edge| !taken_back.contains(edge));
        if let (true, Some((other, _))) = (edges.is_empty(), taker) {
            let message = "this rotation is asked for and taken back by `none` on all of its edges";
            diagnostics.push(
                Diagnostic::error("S0403", message)
                    .label(request.span, "")
                    .label(other.span, "taken back here")
                    .help("drop one of them"),
            );
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
        if !edges.is_empty() || request.optional {
            planned.push(PlannedRotation {
                site: request.site.value,
                within: request.within.as_ref().map(|pattern| pattern.value.to_string()),
                turn: request.turn.clone(),
                edges,
                span: request.span,
            });
        }
    }
    planned
}

/// The diagnostic for a request that no edge fits.
fn absent(request: &Rotation, model: &Elaborated) -> Diagnostic {
    const OPTIONAL: &str = "a request that is meant for several models can be `optional`";
    let site = request.site.value;
    let name = SITES.iter().find(|kind| kind.site == site).map_or("?", |kind| kind.name);
    let error = |what: String| Diagnostic::error("S0404", format!("the graph of {} has no edge at {what}", model.name));
    let Some(within) = &request.within else {
        return error(format!("`{name}`")).label(request.site.span, "").help(OPTIONAL);
    };
    let pattern = &within.value;
    let diagnostic = error(format!("`{name} of {pattern}`")).label(within.span, "");
    if let Some(note) = dead::index_out_of_range(pattern, model) {
        return diagnostic.note(note).help(OPTIONAL);
    }
    if site == Site::Input {
        return match model.matching(pattern).first() {
            None => diagnostic.help(dead::help(pattern, model)),
            Some(&module) => {
                let module = &model.modules[module];
                let note = format!("`{}` is of the kind {}, and multiplies nothing", module.path, module.kind.name());
                diagnostic.note(note).help("name modules that multiply their input, such as `:linear`")
            }
        };
    }
    let everywhere = sites::edges(model, site, None);
    let containers: BTreeSet<&str> = everywhere.iter().filter_map(|edge| container(model, *edge)).collect();
    match (containers.first(), containers.len()) {
        (Some(first), 1) => diagnostic.note(format!("its edges lie in `{first}`")),
        (Some(first), count) => diagnostic.note(format!("its edges lie in {count} places, the first in `{first}`")),
        (None, _) => diagnostic,
    }
    .help(OPTIONAL)
}

/// What holds the operation whose result an edge carries.
fn container(model: &Elaborated, edge: NodeId) -> Option<&str> {
    Some(model.graph.node(edge).label.rsplit_once('.')?.0)
}
