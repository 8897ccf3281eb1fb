//! From users to operands: in which frame each result would best be made.
//!
//! An operation that passes frames through wants of its operand what is wanted of its result; one that absorbs them wants
//! nothing; one that needs values as they are wants the identity.

use std::collections::BTreeMap;

use lathe_runtime::program::{Binary, Unary};

use super::uses::Uses;
use crate::ir::{Chain, Dim, Factor, Graph, NodeId, Op, Rotation, Scale};

/// What is wanted of the result of each node. `None` where every user takes whatever comes.
pub(super) struct Wanted<'a> {
    graph: &'a Graph,
    uses: &'a Uses<'a>,
    bases: (&'a [Rotation], &'a [Scale]),
    by_node: BTreeMap<NodeId, Option<Chain>>,
}

impl<'a> Wanted<'a> {
    /// `requested` are the frames that were asked for.
    pub(super) fn new(
        graph: &'a Graph,
        uses: &'a Uses<'a>,
        bases: (&'a [Rotation], &'a [Scale]),
        requested: &BTreeMap<NodeId, Chain>,
    ) -> Wanted<'a> {
        let mut wanted = Wanted { graph, uses, bases, by_node: BTreeMap::new() };
        for id in graph.topological().unwrap_or_default().into_iter().rev() {
            let of_users = || {
                let mut demands = graph.users(id).into_iter().filter_map(|(user, slot)| wanted.demand(user, slot));
                let first = demands.next()?;
                Some(if demands.all(|other| other == first) { first } else { Chain::IDENTITY })
            };
            let found = requested.get(&id).cloned().or_else(of_users);
            wanted.by_node.insert(id, found);
        }
        wanted
    }

    /// What is wanted of a result, if anything.
    pub(super) fn of(&self, id: NodeId) -> Option<&Chain> {
        self.by_node.get(&id).and_then(Option::as_ref)
    }

    /// What a user wants of an operand; `None` when it takes anything.
    fn demand(&self, user: NodeId, slot: u32) -> Option<Chain> {
        let identity = Some(Chain::IDENTITY);
        let through = |fits: &dyn Fn(&Chain) -> bool| match self.of(user) {
            Some(frame) if fits(frame) => Some(frame.clone()),
            Some(_) => Some(Chain::IDENTITY),
            None => None,
        };
        let last = |id: NodeId| self.graph.node(id).fact.last().unwrap_or(0);
        let operands = self.graph.operands(user);
        match &self.graph.node(user).op {
            Op::Linear { .. } | Op::ExpertLinear { .. } if slot == 0 && self.uses.absorbs(user) => None,
            Op::Centre | Op::Normalize { .. } => {
                through(&|frame| frame.is_orthogonal() && fits(frame, last(user), self.bases))
            }
            Op::Gain { .. } | Op::Shift if slot == 0 && self.uses.folds(user) => None,
            Op::Shift if slot == 0 => match self.of(user) {
                Some(frame) if is_scale(frame) && self.owns(operands[1]) && self.scales(frame, operands[1]) => {
                    Some(frame.clone())
                }
                _ => identity,
            },
            Op::SplitHeads { head_dim } => through(&|frame| fits(frame, *head_dim, self.bases)),
            Op::MergeHeads => through(&|frame| fits(frame, last(operands[0]), self.bases)),
            Op::Attention { .. } if slot == 2 => {
                through(&|frame| frame.is_orthogonal() && fits(frame, last(user), self.bases))
            }
            Op::Binary(Binary::Add | Binary::Sub) => through(&|_| true),
            Op::Binary(Binary::Mul) => match self.of(user) {
                Some(frame) if is_scale(frame) && self.scaled_operand(&operands) == Some(slot as usize) => {
                    Some(frame.clone())
                }
                _ => identity,
            },
            Op::Unary(Unary::Relu) => through(&is_scale),
            Op::Affine { offset, .. } if offset.get() == 0.0 => through(&|_| true),
            Op::Combine if slot == 0 => through(&|frame| fits(frame, last(user), self.bases)),
            _ => identity,
        }
    }

    /// The operand of a product whose parameters can take up a scale: the last, if both can.
    pub(super) fn scaled_operand(&self, operands: &[NodeId]) -> Option<usize> {
        let same = operands.windows(2).any(|pair| pair[0] == pair[1]);
        (0..operands.len()).rev().find(|&slot| !same && self.uses.absorbs_scale(operands[slot]))
    }

    /// Whether a scale has factors for the elements of a vector.
    pub(super) fn scales(&self, frame: &Chain, vector: NodeId) -> bool {
        let elements = row_width(self.graph, vector);
        frame.factors().iter().all(|factor| match *factor {
            Factor::Scale { id, .. } => self.bases.1.get(id.index()).is_some_and(|scale| scale.width == elements),
            Factor::Rotation { .. } | Factor::Gain { .. } => false,
        })
    }

    /// Whether a parameter node is read here only.
    fn owns(&self, id: NodeId) -> bool {
        self.uses.param(id).is_some_and(|param| self.uses.is_own(param))
    }
}

/// Whether a frame multiplies channels by positive numbers, and does nothing else.
pub(super) fn is_scale(frame: &Chain) -> bool {
    !frame.is_identity() && frame.factors().iter().all(|factor| matches!(factor, Factor::Scale { .. }))
}

/// Whether a frame acts on blocks within the last `last` elements of a row, so that it is the same however rows are split.
pub(super) fn fits(frame: &Chain, last: u64, (rotations, scales): (&[Rotation], &[Scale])) -> bool {
    let divides = |width: Option<u64>| width.is_some_and(|width| width > 0 && last.is_multiple_of(width));
    frame.factors().iter().all(|factor| match *factor {
        Factor::Rotation { id, .. } => divides(rotations.get(id.index()).map(|rotation| rotation.width)),
        // Splitting rows moves nothing, and a scale has a factor for each element.
        Factor::Scale { id, .. } => scales.get(id.index()).is_some(),
        Factor::Gain { .. } => false,
    })
}

/// Elements of a row of a result, all dimensions but the rows together.
pub(super) fn row_width(graph: &Graph, id: NodeId) -> u64 {
    graph.node(id).fact.shape.iter().fold(1, |product, dim| match dim {
        Dim::Fixed(size) => product.saturating_mul(*size),
        Dim::Tokens | Dim::Selected => product,
    })
}
