//! The graph behind our own interface. petgraph's types stay in this file.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use lathe_grammar::span::Span;
use lathe_runtime::program::RopeTable;
use petgraph::Direction;
use petgraph::stable_graph::{NodeIndex, StableDiGraph};
use petgraph::visit::EdgeRef;

use super::fact::{Fact, Misfit};
use super::frame::{Chain, Fold, Rotation, RotationId, Scale, ScaleId};
use super::op::{Op, RopeId};
use super::view::View;

/// Identity of a node; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

/// Index into the graph's parameter table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParamId(pub u32);

impl ParamId {
    /// As an index into the table.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Index into the checkpoint's table of tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TensorId(pub u32);

/// Where the values of a parameter come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Values {
    /// Elements of a stored tensor.
    Stored(View),
    /// The checkpoint does not hold it: it is the other parameter, of the same shape.
    Tied(ParamId),
    /// A vector `[n]` of 1/√n each: the unit vector along which a mean is taken.
    Uniform,
    /// A vector `[n]` of zeros.
    Zeros,
    /// A scale, or its reciprocal.
    Scale {
        /// Which.
        id: ScaleId,
        /// Whether it is the reciprocal.
        inverse: bool,
    },
}

/// A tensor of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Param {
    /// Logical name: module path and `.weight` or `.bias`.
    pub name: String,
    /// `[out, in]`, `[vocab, n]`, `[n]`, or `[heads, n]` for gains of each head.
    pub shape: Vec<u64>,
    /// Where its values come from.
    pub values: Values,
    /// What they become before they are packed.
    pub fold: Fold,
}

impl Param {
    /// A parameter whose values are packed as they are.
    pub fn new(name: String, shape: Vec<u64>, values: Values) -> Param {
        Param { name, shape, values, fold: Fold::default() }
    }
}

/// One operation.
#[derive(Debug, Clone)]
pub struct Node {
    /// What it computes.
    pub op: Op,
    /// Dtype and shape of its result.
    pub fact: Fact,
    /// Turns the values of the result back to those that the operation of the model states.
    pub frame: Chain,
    /// The module or operation of the model that it belongs to, for people.
    pub label: String,
    /// The text of the definition that it comes from.
    pub origin: Option<Span>,
}

#[derive(Debug, Clone)]
struct Entry {
    id: NodeId,
    node: Node,
}

/// Operations and the edges between them, with the tables that they refer to.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    inner: StableDiGraph<Entry, u32>,
    index: Vec<Option<NodeIndex>>,
    params: Vec<Param>,
    rope_tables: Vec<RopeTable>,
    rotations: Vec<Rotation>,
    scales: Vec<Scale>,
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an entry to the parameter table.
    pub fn add_param(&mut self, param: Param) -> ParamId {
        self.params.push(param);
        ParamId(self.params.len() as u32 - 1)
    }

    /// The parameter table. Entries stay when the last node that refers to them goes.
    pub fn params(&self) -> &[Param] {
        &self.params
    }

    /// An entry of the parameter table.
    pub fn param(&self, id: ParamId) -> Option<&Param> {
        self.params.get(id.index())
    }

    /// Adds a table of frequencies, or finds an equal one.
    pub fn add_rope_table(&mut self, table: RopeTable) -> RopeId {
        let found = self.rope_tables.iter().position(|known| *known == table);
        let index = found.unwrap_or_else(|| {
            self.rope_tables.push(table);
            self.rope_tables.len() - 1
        });
        RopeId(index as u32)
    }

    /// All tables of frequencies.
    pub fn rope_tables(&self) -> &[RopeTable] {
        &self.rope_tables
    }

    /// A table of frequencies.
    pub fn rope_table(&self, id: RopeId) -> Option<&RopeTable> {
        self.rope_tables.get(id.0 as usize)
    }

    /// All rotations.
    pub fn rotations(&self) -> &[Rotation] {
        &self.rotations
    }

    /// A rotation.
    pub fn rotation(&self, id: RotationId) -> Option<&Rotation> {
        self.rotations.get(id.index())
    }

    /// All scales.
    pub fn scales(&self) -> &[Scale] {
        &self.scales
    }

    /// A scale.
    pub fn scale(&self, id: ScaleId) -> Option<&Scale> {
        self.scales.get(id.index())
    }

    /// Sets the tables that frames refer to.
    pub(super) fn set_bases(&mut self, rotations: Vec<Rotation>, scales: Vec<Scale>) {
        (self.rotations, self.scales) = (rotations, scales);
    }

    /// Sets what becomes of the values of a parameter.
    pub(super) fn set_fold(&mut self, id: ParamId, fold: Fold) {
        self.params[id.index()].fold = fold;
    }

    /// Sets the operation of a node.
    pub(super) fn set_op(&mut self, id: NodeId, op: Op) {
        let at = self.at(id);
        self.inner[at].node.op = op;
    }

    /// Sets the frame of a node.
    pub(super) fn set_frame(&mut self, id: NodeId, frame: Chain) {
        let at = self.at(id);
        self.inner[at].node.frame = frame;
    }

    /// Adds an operation on these operands. Its fact is inferred.
    ///
    /// # Errors
    /// When the operands do not fit the operation.
    ///
    /// # Panics
    /// When an operand is not in the graph: our bug.
    pub fn add(&mut self, op: Op, operands: &[NodeId], label: &str, origin: Option<Span>) -> Result<NodeId, Misfit> {
        let facts: Vec<&Fact> = operands.iter().map(|&operand| &self.node(operand).fact).collect();
        let fact = op.infer(self, &facts)?;
        Ok(self.add_unchecked(Node { op, fact, frame: Chain::IDENTITY, label: label.to_string(), origin }, operands))
    }

    /// Adds a node as it is; for the reader and for tests, which [`super::verify()`] then answers.
    pub(super) fn add_unchecked(&mut self, node: Node, operands: &[NodeId]) -> NodeId {
        let id = self.reserve();
        self.fill(id, node);
        for (slot, &operand) in operands.iter().enumerate() {
            self.connect(operand, id, slot as u32);
        }
        id
    }

    /// An id whose node follows by [`Graph::fill`].
    pub(super) fn reserve(&mut self) -> NodeId {
        self.index.push(None);
        NodeId(self.index.len() as u32 - 1)
    }

    /// Puts a node under a reserved id.
    pub(super) fn fill(&mut self, id: NodeId, node: Node) {
        self.index[id.0 as usize] = Some(self.inner.add_node(Entry { id, node }));
    }

    /// Makes the result of `from` operand `slot` of `to`.
    pub(super) fn connect(&mut self, from: NodeId, to: NodeId, slot: u32) {
        let (from, to) = (self.at(from), self.at(to));
        self.inner.add_edge(from, to, slot);
    }

    fn at(&self, id: NodeId) -> NodeIndex {
        self.index.get(id.0 as usize).copied().flatten().expect("node ids refer to nodes of this graph")
    }

    /// Whether the node is still there.
    pub fn contains(&self, id: NodeId) -> bool {
        self.index.get(id.0 as usize).copied().flatten().is_some()
    }

    /// A node.
    ///
    /// # Panics
    /// When it is not in the graph: our bug.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.inner[self.at(id)].node
    }

    /// All nodes in the order of their ids.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.index.iter().enumerate().filter_map(|(id, at)| {
            let at = (*at)?;
            Some((NodeId(id as u32), &self.inner[at].node))
        })
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.inner.node_count()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The operands of a node with their slots, by slot.
    pub(super) fn slots(&self, id: NodeId) -> Vec<(u32, NodeId)> {
        let edges = self.inner.edges_directed(self.at(id), Direction::Incoming);
        let mut slots: Vec<_> = edges.map(|edge| (*edge.weight(), self.inner[edge.source()].id)).collect();
        slots.sort_unstable();
        slots
    }

    /// The operands of a node, in order.
    pub fn operands(&self, id: NodeId) -> Vec<NodeId> {
        self.slots(id).into_iter().map(|(_, operand)| operand).collect()
    }

    /// The users of a node's result with the slots they use it in, by id.
    pub fn users(&self, id: NodeId) -> Vec<(NodeId, u32)> {
        let edges = self.inner.edges_directed(self.at(id), Direction::Outgoing);
        let mut users: Vec<_> = edges.map(|edge| (self.inner[edge.target()].id, *edge.weight())).collect();
        users.sort_unstable();
        users
    }

    /// The output node, when there is exactly one.
    pub fn output(&self) -> Option<NodeId> {
        let mut outputs = self.nodes().filter(|(_, node)| node.op == Op::Output).map(|(id, _)| id);
        outputs.next().filter(|_| outputs.next().is_none())
    }

    /// Makes `from` the operand `slot` of `to`, in place of whatever it was.
    pub(super) fn rewire(&mut self, from: NodeId, to: NodeId, slot: u32) {
        let at = self.at(to);
        let old: Vec<_> = self
            .inner
            .edges_directed(at, Direction::Incoming)
            .filter(|edge| *edge.weight() == slot)
            .map(|edge| edge.id())
            .collect();
        for edge in old {
            self.inner.remove_edge(edge);
        }
        self.connect(from, to, slot);
    }

    /// Sets the fact of a node; the driver of the passes infers facts anew after an edit.
    pub(super) fn set_fact(&mut self, id: NodeId, fact: Fact) {
        let at = self.at(id);
        self.inner[at].node.fact = fact;
    }

    /// Removes a node and its edges.
    pub fn remove(&mut self, id: NodeId) {
        let at = self.at(id);
        self.inner.remove_node(at);
        self.index[id.0 as usize] = None;
    }

    /// All nodes, operands before users, ties by id. `None` when there is a cycle.
    pub fn topological(&self) -> Option<Vec<NodeId>> {
        let mut waiting: BTreeMap<NodeId, usize> = BTreeMap::new();
        let mut ready = BinaryHeap::new();
        for (id, _) in self.nodes() {
            match self.inner.edges_directed(self.at(id), Direction::Incoming).count() {
                0 => ready.push(Reverse(id)),
                n => {
                    waiting.insert(id, n);
                }
            }
        }
        let mut order = Vec::with_capacity(self.len());
        while let Some(Reverse(id)) = ready.pop() {
            order.push(id);
            for edge in self.inner.edges_directed(self.at(id), Direction::Outgoing) {
                let user = self.inner[edge.target()].id;
                let left = waiting.get_mut(&user).expect("a node with operands waits for each of them once");
                *left -= 1;
                if *left == 0 {
                    waiting.remove(&user);
                    ready.push(Reverse(user));
                }
            }
        }
        waiting.is_empty().then_some(order)
    }
}
