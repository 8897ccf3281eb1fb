//! Requests for rotations, on the edges of a graph.
//!
//! ```text
//! base:  value by hadamard               layers 0, 1 and 3
//!        value of layers[3] by none
//! spec:  value of layers[2] by matrix    layer 2, which the base then lacks
//! ```
//!
//! An edge belongs to the requests of the highest layer that speaks of it, and takes one rotation. Of the requests of one
//! layer `none` has precedence, whatever their order; two others on one edge are an error.

use std::collections::BTreeSet;

use lathe_grammar::diag::Diagnostic;
use lathe_grammar::pattern::Pattern;
use lathe_grammar::span::{Sources, Span};

use super::dead;
use super::places::Places;
use crate::elaborate::Elaborated;
use crate::ir::NodeId;
use crate::plan::PlannedRotation;
use crate::sites::{self, Edge};
use crate::spec::{Rotation, SITES, Site, Spec};

const OPTIONAL: &str = "a request that is meant for several models can be `optional`";

/// A request with its edges.
struct Found<'s> {
    request: &'s Rotation,
    edges: BTreeSet<NodeId>,
}

/// The edges of each rotation that has any, in the order of the requests.
pub(super) fn rotations(
    spec: &Spec,
    model: &Elaborated,
    sources: &Sources,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<PlannedRotation> {
    let mut found: Vec<Found<'_>> = Vec::new();
    for request in &spec.rotations {
        let (edges, faults) = edges(request, model, sources);
        diagnostics.extend(faults);
        found.push(Found { request, edges });
    }
    let mut planned: Vec<PlannedRotation> = Vec::new();
    for own in &found {
        let (request, edges) = (own.request, left(own, &found, diagnostics));
        if edges.is_empty() {
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
            site: request.site.value,
            within: request.within.as_ref().map(|pattern| pattern.value.clone()),
            turn: request.turn.clone(),
            offline: request.offline,
            edges: edges.into_iter().collect(),
            span: request.span,
        });
    }
    planned
}

/// The edges that are left to a request by those of higher layers and by `none` in its own; one by `none` rotates nothing.
fn left(own: &Found<'_>, all: &[Found<'_>], diagnostics: &mut Vec<Diagnostic>) -> BTreeSet<NodeId> {
    let Found { request, edges } = own;
    if request.turn.is_none() {
        return BTreeSet::new();
    }
    let mut left = edges.clone();
    for other in all.iter().filter(|other| other.request.layer > request.layer) {
        left.retain(|edge| !other.edges.contains(edge));
    }
    let mut taker = None;
    for other in all.iter().filter(|other| other.request.layer == request.layer && other.request.turn.is_none()) {
        let before = left.len();
        left.retain(|edge| !other.edges.contains(edge));
        if left.len() < before {
            taker.get_or_insert(other.request);
        }
    }
    if let Some(taker) = taker.filter(|_| left.is_empty()) {
        let message = "this rotation is asked for and taken back by `none` on all of its edges";
        diagnostics.push(
            Diagnostic::error("S0403", message)
                .label(request.span, "")
                .label(taker.span, "taken back here")
                .help("drop one of them"),
        );
    }
    left
}

/// The edges that a request asks for. Each alternative of its pattern must find one, unless it is `optional`.
fn edges(request: &Rotation, model: &Elaborated, sources: &Sources) -> (BTreeSet<NodeId>, Vec<Diagnostic>) {
    let all = sites::find(model, request.site.value);
    let Some(within) = &request.within else {
        let faults = if all.is_empty() && !request.optional {
            let message = format!("the graph of {} has no edge at `{}`", model.name, name_of(request.site.value));
            vec![Diagnostic::error("S0404", message).label(request.site.span, "").help(OPTIONAL)]
        } else {
            Vec::new()
        };
        return (all.iter().map(|edge| edge.id).collect(), faults);
    };
    let pattern = &within.value;
    let found: BTreeSet<NodeId> =
        all.iter().filter(|edge| edge.is_within(pattern, model)).map(|edge| edge.id).collect();
    if request.optional || !pattern.is_readable() {
        return (found, Vec::new());
    }
    let alternatives = pattern.alternatives();
    let mut without: Vec<&Pattern> = alternatives.iter().collect();
    for edge in &all {
        if without.is_empty() {
            break;
        }
        without.retain(|alternative| !edge.is_within(alternative, model));
    }
    let site = request.site.value;
    let is_whole = alternatives.len() == 1
        || found.is_empty() && without.iter().all(|alternative| explanation(site, alternative, model).is_none());
    let faults = if without.is_empty() {
        Vec::new()
    } else if is_whole {
        vec![absent("S0404", site, pattern, within.span, &all, model)]
    } else {
        let places = Places::new(&alternatives, within.span, sources);
        dead::of_each(&without, |alternative| absent("S0106", site, alternative, places.of(alternative), &all, model))
    };
    (found, faults)
}

/// The diagnostic for a pattern that no edge of the site fits; with `code`, when there is none that says more. `all` are
/// the edges of the site.
fn absent(
    code: &'static str,
    site: Site,
    pattern: &Pattern,
    span: Span,
    all: &[Edge<'_>],
    model: &Elaborated,
) -> Diagnostic {
    if let Some(explanation) = explanation(site, pattern, model) {
        return explanation.diagnostic(span);
    }
    let message = format!("the graph of {} has no edge at `{} of {pattern}`", model.name, name_of(site));
    let diagnostic = Diagnostic::error(code, message).label(span, "");
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
    let holders: BTreeSet<&str> = all.iter().filter_map(|edge| Some(edge.label.rsplit_once('.')?.0)).collect();
    let containers: BTreeSet<&str> =
        holders.iter().flat_map(|path| path.match_indices('.').map(|(dot, _)| &path[..dot]).chain([*path])).collect();
    if let Some(help) = dead::container(pattern, model, &containers) {
        return diagnostic.help(help);
    }
    match (holders.first(), holders.len()) {
        (Some(first), 1) => diagnostic.note(format!("its edges lie in `{first}`")),
        (Some(first), count) => diagnostic.note(format!("its edges lie in {count} places, the first in `{first}`")),
        (None, _) => diagnostic,
    }
    .help(OPTIONAL)
}

/// Why a pattern finds no edge of a site, when rules know: containers have no input, and an index must exist.
fn explanation(site: Site, pattern: &Pattern, model: &Elaborated) -> Option<dead::Explanation> {
    if site == Site::Input { dead::explanation(pattern, model) } else { dead::index_out_of_range(pattern, model) }
}

fn name_of(site: Site) -> &'static str {
    SITES.iter().find(|kind| kind.site == site).map_or("?", |kind| kind.name)
}
