//! Who reads which parameter, and what can absorb a frame.

use std::collections::{BTreeMap, BTreeSet};

use crate::ir::{Graph, NodeId, Op, ParamId};

/// The readers of parameters, with tables in place of the heads that share them.
pub(super) struct Uses<'a> {
    graph: &'a Graph,
    table_of: &'a dyn Fn(ParamId) -> ParamId,
    /// How often each parameter is an operand.
    counts: BTreeMap<ParamId, usize>,
    /// Parameters that are something else than a table which is looked up, or the weight of a linear.
    others: BTreeSet<ParamId>,
    /// Nodes whose frame somebody asked for.
    requested: BTreeSet<NodeId>,
}

/// The parameters of a linear, or of one expert.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weights {
    /// W `[out, in]`.
    pub(super) weight: ParamId,
    /// b `[out]`.
    pub(super) bias: Option<ParamId>,
}

impl<'a> Uses<'a> {
    pub(super) fn new(
        graph: &'a Graph,
        table_of: &'a dyn Fn(ParamId) -> ParamId,
        requested: BTreeSet<NodeId>,
    ) -> Uses<'a> {
        let (mut counts, mut others) = (BTreeMap::new(), BTreeSet::new());
        for (id, node) in graph.nodes() {
            let Op::Param(param) = node.op else { continue };
            let param = table_of(param);
            for (user, slot) in graph.users(id) {
                *counts.entry(param).or_insert(0) += 1;
                if !matches!((&graph.node(user).op, slot), (Op::Embed { .. }, 0) | (Op::Linear { .. }, 1)) {
                    others.insert(param);
                }
            }
        }
        Uses { graph, table_of, counts, others, requested }
    }

    /// The parameter behind a node.
    pub(super) fn param(&self, id: NodeId) -> Option<ParamId> {
        match self.graph.node(id).op {
            Op::Param(param) => Some((self.table_of)(param)),
            _ => None,
        }
    }

    /// Whether a parameter has one reader, so that it can be changed for it.
    pub(super) fn is_own(&self, param: ParamId) -> bool {
        self.counts.get(&param) == Some(&1)
    }

    /// Whether all that reads it looks its rows up or multiplies by it.
    pub(super) fn is_table(&self, param: ParamId) -> bool {
        !self.others.contains(&param)
    }

    /// The parameters of a linear, or of each expert. `None` for another operation, and where one is no parameter.
    pub(super) fn weights(&self, id: NodeId) -> Option<Vec<Weights>> {
        let operands = self.graph.operands(id);
        let (weights, biases) = match self.graph.node(id).op {
            Op::Linear { .. } => operands[1..].split_at(1),
            Op::ExpertLinear { experts, .. } => operands[2..].split_at(experts as usize),
            _ => return None,
        };
        let found = weights.iter().enumerate().map(|(index, weight)| {
            let bias = biases.get(index).map(|&bias| self.param(bias).ok_or(())).transpose().ok()?;
            Some(Weights { weight: self.param(*weight)?, bias })
        });
        found.collect()
    }

    /// Whether a linear, or every expert, can change its weights and biases to suit frames.
    pub(super) fn absorbs(&self, id: NodeId) -> bool {
        let own = |weights: &Weights| self.is_own(weights.weight) && weights.bias.is_none_or(|bias| self.is_own(bias));
        self.weights(id).is_some_and(|weights| weights.iter().all(own))
    }

    /// Whether all that reads the result of a gain or shift can absorb it, so that it needs not be computed.
    pub(super) fn folds(&self, id: NodeId) -> bool {
        self.folds_behind(id, self.graph.node(id).op == Op::Shift)
    }

    /// As [`Uses::folds`]; `shifted` says whether a shift is to be absorbed as well, which one bias can do for one of them.
    fn folds_behind(&self, id: NodeId, shifted: bool) -> bool {
        let (users, operands) = (self.graph.users(id), self.graph.operands(id));
        let is_vector = match self.graph.node(id).op {
            Op::Gain { .. } | Op::Shift => self.graph.node(operands[1]).fact.shape.len() == 1,
            _ => true,
        };
        let absorbs = |&(user, slot): &(NodeId, u32)| match self.graph.node(user).op {
            Op::Linear { .. } | Op::ExpertLinear { .. } => slot == 0 && self.absorbs(user),
            Op::Shift => slot == 0 && !shifted && self.folds_behind(user, true),
            Op::Affine { offset, .. } => offset.get() == 0.0 && !shifted && self.folds_behind(user, shifted),
            _ => false,
        };
        is_vector && !self.requested.contains(&id) && !users.is_empty() && users.iter().all(absorbs)
    }

    /// Whether the result of a node can be scaled for each channel by changing parameters alone.
    pub(super) fn absorbs_scale(&self, id: NodeId) -> bool {
        let operands = self.graph.operands(id);
        if self.graph.users(id).len() > 1 || self.requested.contains(&id) {
            return false;
        }
        match self.graph.node(id).op {
            Op::Linear { .. } | Op::ExpertLinear { .. } => self.absorbs(id),
            Op::Gain { .. } => self.param(operands[1]).is_some_and(|gain| self.is_own(gain)),
            Op::Binary(lathe_runtime::program::Binary::Mul) => operands.iter().any(|&id| self.absorbs_scale(id)),
            Op::Unary(lathe_runtime::program::Unary::Relu) | Op::SplitHeads { .. } | Op::MergeHeads => {
                self.absorbs_scale(operands[0])
            }
            Op::Affine { offset, .. } => offset.get() == 0.0 && self.absorbs_scale(operands[0]),
            _ => false,
        }
    }
}
