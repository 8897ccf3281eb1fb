//! The frames of a plan as rows: which rotations there are, how each is built, and what is left for run time.

use lathe_kernels::rotations::Construction;
use serde::{Deserialize, Serialize};

use super::report::{Folded, fold, ranges};
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

    /// The rotations and scales; scales that differ in their id only, and matrices that differ in one number of their key
    /// besides, as one row: `Q1 to Q80`, `matrix("r.safetensors", "layers.[0..80].R2")`.
    pub fn folded_bases(&self) -> Vec<ReportedBasis> {
        let mut rows: Vec<Alternatives<'_>> = Vec::new();
        for basis in &self.bases {
            if !rows.last_mut().is_some_and(|row| row.take(basis)) {
                rows.push(Alternatives { bases: vec![basis], varying: None });
            }
        }
        rows.iter().map(Alternatives::row).collect()
    }

    /// Whether every edge is as the model states it.
    pub fn is_identity(&self) -> bool {
        *self == ReportedFrames::default()
    }
}

/// Rotations or scales that differ in one number of their key at most.
struct Alternatives<'a> {
    /// At least one.
    bases: Vec<&'a ReportedBasis>,
    /// Which part of their texts differs, if one does.
    varying: Option<usize>,
}

impl<'a> Alternatives<'a> {
    /// Takes another one in, where it is like the others.
    fn take(&mut self, basis: &'a ReportedBasis) -> bool {
        let first = self.bases[0];
        let (known, found) = (parts(&first.by), parts(&basis.by));
        let is_alike = first.id.get(..1) == basis.id.get(..1)
            && (first.width, &first.construction) == (basis.width, &basis.construction)
            && known.len() == found.len();
        let mut differing = known.iter().zip(&found).enumerate().filter(|(_, (known, found))| known != found);
        let varying = match (differing.next(), differing.next()) {
            // Equal rotations of one request are one already.
            (None, _) if basis.id.starts_with('S') => None,
            (Some((at, (known, found))), None) if number(known).is_some() && number(found).is_some() => Some(at),
            _ => return false,
        };
        if !is_alike || (self.bases.len() > 1 && varying != self.varying) {
            return false;
        }
        self.varying = varying;
        self.bases.push(basis);
        true
    }

    /// All of them as one.
    fn row(&self) -> ReportedBasis {
        let first = self.bases[0];
        let id = match self.bases[..] {
            [.., last] if last.id != first.id => format!("{} to {}", first.id, last.id),
            _ => first.id.clone(),
        };
        let mut by = parts(&first.by);
        let numbers = |at: usize| self.bases.iter().filter_map(move |basis| number(parts(&basis.by)[at]));
        let varying = self.varying.map(|at| (at, ranges(&numbers(at).collect::<Vec<_>>())));
        if let Some((at, numbers)) = &varying {
            by[*at] = numbers;
        }
        ReportedBasis { id, by: by.concat(), ..first.clone() }
    }
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok()
}

/// A rotation as text in parts: what stands before the key of a matrix, then numbers of the key and what is between them.
fn parts(text: &str) -> Vec<&str> {
    let Some((before, _)) = text.rsplit_once(", \"") else { return vec![text] };
    let (before, key) = text.split_at(before.len());
    let digits = |pair: &[u8]| pair[0].is_ascii_digit() != pair[1].is_ascii_digit();
    let mut parts = vec![before];
    let mut rest = key;
    while let Some(end) = rest.as_bytes().windows(2).position(digits) {
        let (part, behind) = rest.split_at(end + 1);
        parts.push(part);
        rest = behind;
    }
    parts.push(rest);
    parts
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_layers_fold_to_one() {
        let basis = |id: &str, by: &str, width: u64| ReportedBasis {
            id: id.to_owned(),
            by: by.to_owned(),
            width,
            construction: None,
        };
        let matrix = |id: &str, key: &str| basis(id, &format!("matrix(\"r9.st\", \"{key}\")"), 64);
        let bases = vec![
            basis("Q0", "orthogonal(seed: 1)", 64),
            basis("Q1", "orthogonal(seed: 2)", 64),
            matrix("Q2", "layers.0.R2"),
            matrix("Q3", "layers.1.R2"),
            matrix("Q4", "layers.9.R2"),
            matrix("Q5", "layers.9.R3"),
            matrix("Q6", "v10"),
            basis("Q7", "hadamard", 64),
            basis("Q8", "hadamard", 64),
            basis("S0", "smooth(alpha: 0.5)", 64),
            basis("S1", "smooth(alpha: 0.5)", 64),
            basis("S2", "smooth(alpha: 0.5)", 128),
            basis("S3", "smooth(alpha: 0.3)", 128),
        ];
        let folded = ReportedFrames { bases, ..ReportedFrames::default() }.folded_bases();
        let shown: Vec<(&str, &str)> = folded.iter().map(|row| (row.id.as_str(), row.by.as_str())).collect();
        assert_eq!(
            shown,
            [
                ("Q0", "orthogonal(seed: 1)"),
                ("Q1", "orthogonal(seed: 2)"),
                ("Q2 to Q4", "matrix(\"r9.st\", \"layers.[0..2, 9].R2\")"),
                ("Q5", "matrix(\"r9.st\", \"layers.9.R3\")"),
                ("Q6", "matrix(\"r9.st\", \"v10\")"),
                ("Q7", "hadamard"),
                ("Q8", "hadamard"),
                ("S0 to S1", "smooth(alpha: 0.5)"),
                ("S2", "smooth(alpha: 0.5)"),
                ("S3", "smooth(alpha: 0.3)"),
            ]
        );
    }
}
