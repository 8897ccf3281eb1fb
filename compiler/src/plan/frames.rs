//! The frames of a plan as rows: which rotations there are, how each is built, and what is left for run time.

use lathe_kernels::rotations::Construction;
use serde::{Deserialize, Serialize};

use super::report::{Folded, fold};
use super::{Plan, site_name};
use crate::frames::Does;
use crate::ir::{Basis, Factor};

/// A rotation or a scale of the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportedBasis {
    /// `Q0`, `S0`: how listings of the graph call it.
    pub id: String,
    /// As the spec writes it.
    pub by: String,
    /// Elements of a block.
    pub width: u64,
    /// How its Hadamard matrix is built, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub construction: Option<String>,
}

/// Operations at run time that frames need, alike in several layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportedOnline {
    /// The modules or operations behind whose results they stand, as one pattern.
    pub path: String,
    /// How many.
    pub count: u64,
    /// The site of the request that needs them.
    pub site: String,
    /// What they do to a row: `x Q0`, `x Q0'`, `x ⊙ S0`, `x ⊘ S0`; or, in place of taking the mean off, `x − (x·u) u`.
    pub operation: String,
    /// Blocks of a row.
    pub blocks: u64,
    /// Elements of a block.
    pub width: u64,
    /// Additions, or multiplications and additions, for each token and each of them.
    pub cost: u64,
}

/// The frames of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportedFrames {
    /// Rotations and scales.
    pub bases: Vec<ReportedBasis>,
    /// What is left for run time, in the order of the graph.
    pub online: Vec<ReportedOnline>,
    /// How many edges are in a frame of their own, and how many operations lie behind them that pass it on.
    pub edges: u64,
    /// Parameters that rotations and scales are fused into.
    pub fused: u64,
}

/// What makes online operations alike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Alike {
    operation: String,
    site: &'static str,
    width: u64,
    row: u64,
    cost: u64,
}

impl ReportedFrames {
    /// Puts the frames of a plan into rows.
    pub fn new(plan: &Plan) -> Self {
        let frames = &plan.frames;
        let rotation = |(index, rotation): (usize, &crate::ir::Rotation)| ReportedBasis {
            id: format!("Q{index}"),
            by: rotation.name.clone(),
            width: rotation.width,
            construction: construction(rotation).map(|construction| construction.to_string()),
        };
        let scale = |(index, scale): (usize, &crate::ir::Scale)| ReportedBasis {
            id: format!("S{index}"),
            by: scale.name.clone(),
            width: scale.width,
            construction: None,
        };
        let alike = |online: &crate::frames::Online| {
            let (operation, width, per_element) = match online.does {
                Does::Centre => ("x − (x·u) u".to_owned(), online.width, 2),
                Does::Map(Factor::Rotation { id, inverse }) => {
                    let rotation = &frames.rotations()[id.index()];
                    (format!("x {id}{}", if inverse { "'" } else { "" }), rotation.width, per_element(rotation))
                }
                Does::Map(Factor::Scale { id, inverse }) => {
                    let sign = if inverse { '⊘' } else { '⊙' };
                    (format!("x {sign} S{}", id.0), frames.scales()[id.index()].width, 1)
                }
                Does::Map(Factor::Gain { .. }) => unreachable!("invariant: gains are never undone"),
            };
            let site = site_name(plan.rotations[online.request].site);
            let cost = online.width.saturating_mul(per_element);
            (online.label.clone(), Alike { operation, site, width, row: online.width, cost })
        };
        let online = |Folded { path, count, common }: Folded<Alike>| ReportedOnline {
            path,
            count: count as u64,
            site: common.site.to_owned(),
            operation: common.operation,
            blocks: common.row / common.width.max(1),
            width: common.width,
            cost: common.cost,
        };
        ReportedFrames {
            bases: frames
                .rotations()
                .iter()
                .enumerate()
                .map(rotation)
                .chain(frames.scales().iter().enumerate().map(scale))
                .collect(),
            online: fold(frames.online.iter().map(alike)).into_iter().map(online).collect(),
            edges: frames.edges() as u64,
            fused: frames.folded.len() as u64,
        }
    }

    /// Whether every edge is as the model states it.
    pub fn is_identity(&self) -> bool {
        *self == ReportedFrames::default()
    }
}

/// How the Hadamard matrix of a rotation is built.
fn construction(rotation: &crate::ir::Rotation) -> Option<Construction> {
    match rotation.basis {
        Basis::Hadamard { .. } => Construction::of(usize::try_from(rotation.width).ok()?),
        Basis::Orthogonal { .. } | Basis::Matrix { .. } => None,
    }
}

/// Operations for each element of a row.
fn per_element(rotation: &crate::ir::Rotation) -> u64 {
    match (construction(rotation), &rotation.basis) {
        (Some(construction), _) => construction.cost() as u64,
        // As reflections, each of which is a product and a sum.
        (None, Basis::Orthogonal { .. }) => rotation.width.saturating_mul(2),
        (None, _) => rotation.width,
    }
}
