//! How passes change a graph: they look, return edits, and a driver applies them.

use lathe_grammar::span::Span;

use super::fact::Fact;
use super::frame::{Chain, Fold, Rotation, Scale};
use super::graph::{Graph, Node, NodeId, Param, ParamId};
use super::op::Op;

/// An operand of a new node, or the new operand of an old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operand {
    /// A node of the graph.
    Node(NodeId),
    /// The n-th node that this edit adds.
    New(usize),
}

/// A node that an edit adds.
#[derive(Debug, Clone)]
pub struct NewNode {
    /// What it computes.
    pub op: Op,
    /// On what; [`Operand::New`] refers to nodes added before it.
    pub operands: Vec<Operand>,
    /// In which frame its result is.
    pub frame: Chain,
    /// Module or operation of the model.
    pub label: String,
    /// Text of the definition.
    pub origin: Option<Span>,
}

/// What frames change besides nodes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Bases {
    /// The graph's table of rotations.
    pub rotations: Vec<Rotation>,
    /// The graph's table of scales.
    pub scales: Vec<Scale>,
    /// Parameters to add, in this order behind those that are there.
    pub params: Vec<Param>,
    /// What becomes of the values of parameters.
    pub folds: Vec<(ParamId, Fold)>,
    /// Frames of nodes.
    pub frames: Vec<(NodeId, Chain)>,
}

/// One rewrite: bases and operations to set, nodes to add, operands to replace, nodes to drop; applied in this order.
#[derive(Debug, Clone)]
pub struct Edit {
    /// What it does, for the log: `tie lm_head.weight to model.embed_tokens.weight`.
    pub label: String,
    /// Frames and what they do to parameters.
    pub bases: Option<Box<Bases>>,
    /// Operations that change in place; they take the same operands.
    pub ops: Vec<(NodeId, Op)>,
    /// Nodes to add.
    pub add: Vec<NewNode>,
    /// `(user, slot, operand)`: this operand of the user becomes another.
    pub rewire: Vec<(NodeId, u32, Operand)>,
    /// Nodes to drop; nobody may use them any more, except nodes dropped before them.
    pub remove: Vec<NodeId>,
}

impl Edit {
    /// An edit that changes nothing yet.
    pub fn new(label: impl Into<String>) -> Self {
        Edit {
            label: label.into(),
            bases: None,
            ops: Vec::new(),
            add: Vec::new(),
            rewire: Vec::new(),
            remove: Vec::new(),
        }
    }

    /// Adds a node and returns how later parts of this edit refer to it.
    pub fn add(&mut self, node: NewNode) -> Operand {
        self.add.push(node);
        Operand::New(self.add.len() - 1)
    }

    /// Every present user of `old` will use `new`, and `old` is dropped.
    pub fn replace(&mut self, graph: &Graph, old: NodeId, new: Operand) {
        self.rewire.extend(graph.users(old).into_iter().map(|(user, slot)| (user, slot, new)));
        self.remove.push(old);
    }
}

impl Graph {
    /// Applies an edit. Facts are as they were until [`Graph::infer_facts`]; the result may break an invariant; [`super::verify()`] tells.
    ///
    /// # Panics
    /// When the edit refers to nodes that are not there, or drops one that is still used: a bug of the pass.
    pub fn apply(&mut self, edit: &Edit) {
        let mut added = Vec::with_capacity(edit.add.len());
        let resolve = |added: &[NodeId], operand: Operand| match operand {
            Operand::Node(id) => id,
            Operand::New(index) => added[index],
        };
        if let Some(bases) = &edit.bases {
            self.set_bases(bases.rotations.clone(), bases.scales.clone());
            for param in &bases.params {
                self.add_param(param.clone());
            }
            bases.folds.iter().for_each(|(id, fold)| self.set_fold(*id, fold.clone()));
            bases.frames.iter().for_each(|(id, frame)| self.set_frame(*id, frame.clone()));
        }
        edit.ops.iter().for_each(|(id, op)| self.set_op(*id, op.clone()));
        for new in &edit.add {
            let operands: Vec<NodeId> = new.operands.iter().map(|&operand| resolve(&added, operand)).collect();
            // A placeholder that no operation accepts, until facts are inferred anew.
            let node = Node {
                op: new.op.clone(),
                fact: Fact::real([]),
                frame: new.frame.clone(),
                label: new.label.clone(),
                origin: new.origin,
            };

            added.push(self.add_unchecked(node, &operands));
        }
        for &(user, slot, operand) in &edit.rewire {
            self.rewire(resolve(&added, operand), user, slot);
        }
        for &node in &edit.remove {
            assert!(self.users(node).is_empty(), "edit `{}` drops a node that is still used", edit.label);
            self.remove(node);
        }
    }

    /// Infers the fact of every node from those of its operands. Where that fails the fact stays as it is, for the
    /// verifier to find.
    pub fn infer_facts(&mut self) {
        for id in self.topological().unwrap_or_default() {
            let operands: Vec<Fact> = self.operands(id).iter().map(|&id| self.node(id).fact.clone()).collect();
            let references: Vec<&Fact> = operands.iter().collect();
            if let Ok(fact) = self.node(id).op.infer(self, &references) {
                self.set_fact(id, fact);
            }
        }
    }
}
