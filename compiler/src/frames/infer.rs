//! From operands to results: the frame of each result, what parameters become, and which operations go in.
//!
//! Nodes are taken in topological order. The frame that an operation gives follows from those of its operands; where the
//! result was asked for in another, the difference goes in behind it, and where a user needs another, in front of that user.
//! Equal differences behind one result are one operation.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use lathe_grammar::diag::Diagnostic;
use lathe_runtime::program::{Binary, Unary};

use super::bases::Bases;
use super::uses::{Uses, Weights};
use super::wanted::{Wanted, fits, is_scale, row_width};
use super::{Does, Frames, Input, Online};
use crate::ir::{
    self, Chain, Dim, Edit, Factor, Fold, Graph, NewNode, NodeId, Op, Operand, Param, ParamId, Product, Real, Scale,
    ScaleId, Values,
};
use crate::spec::{Site, TableBasis};

/// In which frame a result is: x = x' F + s.
#[derive(Debug, Clone, PartialEq, Default)]
struct State {
    /// F.
    frame: Chain,
    /// s: a shift that readers add to their biases.
    shift: Option<ParamId>,
}

/// Where a result is to be had, and in which frame.
#[derive(Debug, Clone)]
struct Result {
    node: Operand,
    state: State,
    /// The node of the original graph that it is the result of, for labels.
    of: NodeId,
}

pub(super) fn run(input: &Input<'_>, bases: Bases, diagnostics: &mut Vec<Diagnostic>) -> Frames {
    let Bases { rotations, requests, sources, scales, measured, frames: requested, asked } = bases;
    let uses = Uses::new(input.graph, input.table_of, requested.keys().copied().collect());
    let wanted = Wanted::new(input.graph, &uses, (&rotations, &scales), &requested);
    let mut inference = Inference {
        input,
        uses: &uses,
        wanted: &wanted,
        requested: &requested,
        asked: &asked,
        by_rotation: &requests,
        tables: BTreeMap::new(),
        edit: Edit::new(String::new()),
        changes: ir::Bases { rotations: rotations.clone(), scales: scales.clone(), ..ir::Bases::default() },
        params: input.graph.params().len(),
        results: BTreeMap::new(),
        differences: HashMap::new(),
        vectors: HashMap::new(),
        folds: BTreeMap::new(),
        online: Vec::new(),
        repeated: Vec::new(),
        diagnostics,
    };
    inference.tables();
    for id in input.graph.topological().unwrap_or_default() {
        inference.visit(id);
    }
    let Inference { mut edit, mut changes, folds, online, repeated, params, .. } = inference;
    let folded: BTreeSet<ParamId> = folds.keys().copied().collect();
    changes.folds = folds.into_iter().collect();
    let removed: BTreeSet<NodeId> = edit.remove.iter().copied().collect();
    changes.frames.retain(|(id, _)| !removed.contains(id));
    edit.label = format!("{} frames, {} online operations", requested.len(), online.len());
    // Users before what they use.
    edit.remove.reverse();
    edit.bases = Some(Box::new(changes));
    let added = params - input.graph.params().len();
    let dropped = dropped(input.graph, &uses, &edit.remove);
    Frames { edit: Some(edit), requests, online, measured, repeated, sources, folded, dropped, added }
}

/// Parameters that only removed operations read.
fn dropped(graph: &Graph, uses: &Uses<'_>, removed: &[NodeId]) -> BTreeSet<ParamId> {
    let removed: BTreeSet<NodeId> = removed.iter().copied().collect();
    let is_removed = |id: NodeId| removed.contains(&id);
    let nodes = graph.nodes().filter(|(id, node)| {
        let users = graph.users(*id);
        matches!(node.op, Op::Param(_)) && !users.is_empty() && users.iter().all(|(user, _)| is_removed(*user))
    });
    nodes.filter_map(|(id, _)| uses.param(id)).collect()
}

struct Inference<'a> {
    input: &'a Input<'a>,
    uses: &'a Uses<'a>,
    wanted: &'a Wanted<'a>,
    requested: &'a BTreeMap<NodeId, Chain>,
    /// The request behind each requested frame.
    asked: &'a BTreeMap<NodeId, usize>,
    /// The request behind each rotation.
    by_rotation: &'a [usize],
    /// The frame in which a table that several operations read is stored.
    tables: BTreeMap<ParamId, Chain>,
    edit: Edit,
    changes: ir::Bases,
    /// How many parameters there are, added ones too.
    params: usize,
    results: BTreeMap<NodeId, Result>,
    /// Results in other frames.
    differences: HashMap<(NodeId, Chain), Operand>,
    /// Nodes of added vectors by their names.
    vectors: HashMap<String, Operand>,
    folds: BTreeMap<ParamId, Fold>,
    online: Vec<Online>,
    /// Scales that are others for several heads: `(of, is, head_dim, times)`.
    repeated: Vec<super::Repeated>,
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl<'a> Inference<'a> {
    fn graph(&self) -> &'a Graph {
        self.input.graph
    }

    fn bases(&self) -> (&[ir::Rotation], &[Scale]) {
        (&self.changes.rotations, &self.changes.scales)
    }

    fn visit(&mut self, id: NodeId) {
        let state = self.operation(id);
        let (node, state) = match state {
            Some(state) => (Operand::Node(id), state),
            // Its result is that of its operand, in a frame of its own.
            None => {
                let Result { node, state, .. } = self.results[&id].clone();
                (node, state)
            }
        };
        if node == Operand::Node(id) && !state.frame.is_identity() {
            self.changes.frames.push((id, state.frame.clone()));
        }
        let mut result = Result { node, state, of: id };
        if let Some(frame) = self.requested.get(&id).filter(|frame| **frame != result.state.frame) {
            // Who needs the result as the operation gives it has it without undoing anything.
            self.differences.insert((id, result.state.frame.clone()), result.node);
            let user = self.graph().users(id).first().map_or(id, |(user, _)| *user);
            let request = self.cause(&result.state.frame, frame).unwrap_or(self.asked[&id]);
            let node = self.difference(&result, frame, (request, user));
            result = Result { node, state: State { frame: frame.clone(), shift: None }, of: id };
        }
        self.results.insert(id, result);
    }

    /// The frame that an operation gives, once its operands are in those that it needs. `None` when its result was entered
    /// in the table: the operation is dropped.
    fn operation(&mut self, id: NodeId) -> Option<State> {
        let graph = self.graph();
        let node = graph.node(id);
        let operands = graph.operands(id);
        let last = node.fact.last().unwrap_or(0);
        match &node.op {
            Op::Tokens | Op::Positions | Op::Selection | Op::Param(_) => Some(State::default()),
            Op::Embed { .. } => Some(self.embed(id)),
            Op::Linear { .. } | Op::ExpertLinear { .. } => Some(self.linear(id)),
            Op::Centre => {
                let frame = self.orthogonal(id, last);
                if !frame.is_identity() {
                    let along = self.along(last, &frame);
                    self.edit.rewire.push((id, 1, along));
                    let (label, request) = (node.label.clone(), self.cause(&frame, &Chain::IDENTITY).unwrap_or(0));
                    let width = row_width(graph, id);
                    self.online.push(Online { label, does: Does::Centre, width, request });
                }
                Some(State { frame, shift: None })
            }
            Op::Normalize { .. } => Some(State { frame: self.orthogonal(id, last), shift: None }),
            Op::Gain { offset } => self.gain(id, *offset),
            Op::Shift => self.shift(id),
            Op::SplitHeads { head_dim } => Some(self.passing(id, |frame, bases| fits(frame, *head_dim, bases))),
            Op::MergeHeads => {
                let head_dim = graph.node(operands[0]).fact.last().unwrap_or(0);
                Some(self.passing(id, |frame, bases| fits(frame, head_dim, bases)))
            }
            Op::Attention { .. } => Some(self.attention(id)),
            Op::Binary(Binary::Add | Binary::Sub) => {
                let states = [0, 1].map(|slot: usize| self.results[&operands[slot]].state.clone());
                let common = (states[0] == states[1] && states[0].shift.is_none()).then(|| states[0].frame.clone());
                let frame = self.wanted.of(id).cloned().or(common).filter(|frame| frame.inverse().is_some());
                let frame = frame.unwrap_or_default();
                self.need(id, 0, &frame);
                self.need(id, 1, &frame);
                Some(State { frame, shift: None })
            }
            Op::Binary(Binary::Mul) => Some(self.product(id)),
            Op::Unary(Unary::Relu) => Some(self.passing(id, |frame, _| is_scale(frame))),
            Op::Affine { offset, .. } if offset.get() == 0.0 => Some(self.passing(id, |_, _| true)),
            Op::Combine => {
                self.need(id, 1, &Chain::IDENTITY);
                Some(self.passing(id, |frame, bases| fits(frame, last, bases)))
            }
            // What later passes make is not there yet where frames are found.
            Op::Norm { .. }
            | Op::Gated(_)
            | Op::Select
            | Op::Rotate { .. }
            | Op::Rope(_)
            | Op::Unary(_)
            | Op::Affine { .. }
            | Op::Clamp { .. }
            | Op::Softcap { .. }
            | Op::Softmax
            | Op::NormalizeSum
            | Op::TopK { .. }
            | Op::Gather
            | Op::Output => {
                for slot in 0..operands.len() {
                    self.need(id, slot, &Chain::IDENTITY);
                }
                Some(State::default())
            }
        }
    }

    /// Reads an operand as it comes.
    fn take(&mut self, id: NodeId, slot: usize) -> State {
        let operand = self.graph().operands(id)[slot];
        let Result { node, state, .. } = self.results[&operand].clone();
        if node != Operand::Node(operand) {
            self.edit.rewire.push((id, slot as u32, node));
        }
        state
    }

    /// Reads an operand in a frame.
    fn need(&mut self, id: NodeId, slot: usize, frame: &Chain) {
        let operand = self.graph().operands(id)[slot];
        let result = self.results[&operand].clone();
        let node = if result.state.frame == *frame && result.state.shift.is_none() {
            result.node
        } else {
            let request = self.cause(&result.state.frame, frame).unwrap_or(0);
            self.difference(&result, frame, (request, id))
        };
        if node != Operand::Node(operand) {
            self.edit.rewire.push((id, slot as u32, node));
        }
    }

    /// Operand 0 as it comes where its frame passes, else as it is.
    fn passing(&mut self, id: NodeId, passes: impl Fn(&Chain, (&[ir::Rotation], &[Scale])) -> bool) -> State {
        let state = self.results[&self.graph().operands(id)[0]].state.clone();
        if passes(&state.frame, self.bases()) {
            return self.take(id, 0);
        }
        self.need(id, 0, &Chain::IDENTITY);
        State::default()
    }

    /// Operand 0 in an orthogonal frame on its last dimension.
    fn orthogonal(&mut self, id: NodeId, last: u64) -> Chain {
        let passes =
            |frame: &Chain, bases: (&[ir::Rotation], &[Scale])| frame.is_orthogonal() && fits(frame, last, bases);
        let state = &self.results[&self.graph().operands(id)[0]].state;
        if state.shift.is_some() {
            self.need(id, 0, &Chain::IDENTITY);
            return Chain::IDENTITY;
        }
        self.passing(id, passes).frame
    }

    /// Decides in which frame tables that several operations read are stored: that of what the first embedding gives.
    fn tables(&mut self) {
        for (id, node) in self.graph().nodes() {
            let Op::Embed { .. } = node.op else { continue };
            let Some(table) = self.uses.param(self.graph().operands(id)[0]) else { continue };
            if self.uses.is_own(table) || self.tables.contains_key(&table) {
                continue;
            }
            let wanted = self.wanted.of(id).filter(|frame| frame.is_orthogonal() && self.uses.is_table(table));
            let wanted = wanted.filter(|_| self.input.table_basis == TableBasis::Rotated);
            let frame = wanted.cloned().unwrap_or_default();
            self.fold(table, |fold| fold.rows = frame.transpose());
            self.tables.insert(table, frame);
        }
    }

    fn embed(&mut self, id: NodeId) -> State {
        let Some(table) = self.uses.param(self.graph().operands(id)[0]) else { return State::default() };
        if !self.uses.is_own(table) {
            return State { frame: self.tables.get(&table).cloned().unwrap_or_default(), shift: None };
        }
        let wanted = self.wanted.of(id).cloned().unwrap_or_default();
        let Some(inverse) = wanted.inverse() else { return State::default() };
        self.fold(table, |fold| fold.rows = inverse);
        State { frame: wanted, shift: None }
    }

    fn linear(&mut self, id: NodeId) -> State {
        let weights = self.uses.weights(id).filter(|_| self.uses.absorbs(id));
        let Some(weights) = weights else {
            // A table is read as it is stored.
            let table = self.uses.weights(id).and_then(|weights| weights.first().map(|weights| weights.weight));
            let frame = table.and_then(|table| self.tables.get(&table).cloned()).unwrap_or_default();
            self.need(id, 0, &frame);
            if let Op::ExpertLinear { .. } = self.graph().node(id).op {
                self.need(id, 1, &Chain::IDENTITY);
            }
            return State::default();
        };
        let State { frame, shift } = self.take(id, 0);
        let out = self.wanted.of(id).filter(|frame| frame.inverse().is_some()).cloned().unwrap_or_default();
        let inverse = out.inverse().unwrap_or_default();
        let adds_biases = shift.is_some() && weights.iter().all(|weights| weights.bias.is_none());
        let first_bias = self.graph().operands(id).len();
        for (index, &Weights { weight, bias }) in weights.iter().enumerate() {
            self.fold(weight, |fold| (fold.rows, fold.columns) = (frame.transpose(), inverse.clone()));
            let product = shift.map(|vector| Product { weight, vector, factor: Real::new(1.0) });
            if let Some(bias) = bias {
                self.fold(bias, |fold| (fold.product, fold.rows) = (product, inverse.clone()));
            } else if adds_biases {
                let entry = &self.graph().params()[weight.index()];
                let name = format!("{}.bias", entry.name.strip_suffix(".weight").unwrap_or(&entry.name));
                let shape = vec![entry.shape[0]];
                let fold = Fold { product, rows: inverse.clone(), ..Fold::default() };
                let node = self.vector(Param { name, shape, values: Values::Zeros, fold });
                self.edit.rewire.push((id, (first_bias + index) as u32, node));
            }
        }
        State { frame: out, shift: None }
    }

    fn gain(&mut self, id: NodeId, offset: Real) -> Option<State> {
        let operands = self.graph().operands(id);
        let Result { node, state, .. } = self.results[&operands[0]].clone();
        let Some(gain) = self.uses.param(operands[1]) else {
            self.need(id, 0, &Chain::IDENTITY);
            return Some(State::default());
        };
        if !state.frame.is_diagonal() && state.shift.is_none() && self.uses.folds(id) {
            let mut frame = state.frame;
            frame.push(Factor::Gain { param: gain, offset });
            self.edit.remove.push(id);
            self.results.insert(id, Result { node, state: State { frame, shift: None }, of: id });
            return None;
        }
        self.need(id, 0, &Chain::IDENTITY);
        match self.taken_up(id, gain) {
            Some(frame) => {
                let inverse = frame.inverse().unwrap_or_default();
                let offset = Some(offset).filter(|offset| offset.get() != 0.0);
                self.fold(gain, |fold| (fold.offset, fold.rows) = (offset, inverse));
                self.edit.ops.push((id, Op::Gain { offset: Real::new(0.0) }));
                Some(State { frame, shift: None })
            }
            None => Some(State::default()),
        }
    }

    fn shift(&mut self, id: NodeId) -> Option<State> {
        let operands = self.graph().operands(id);
        let Result { node, state, .. } = self.results[&operands[0]].clone();
        let Some(shift) = self.uses.param(operands[1]) else {
            self.need(id, 0, &Chain::IDENTITY);
            return Some(State::default());
        };
        if !state.frame.is_diagonal() && state.shift.is_none() && self.uses.folds(id) {
            let state = State { frame: state.frame, shift: Some(shift) };
            self.edit.remove.push(id);
            self.results.insert(id, Result { node, state, of: id });
            return None;
        }
        match self.taken_up(id, shift) {
            Some(frame) => {
                self.need(id, 0, &frame);
                let inverse = frame.inverse().unwrap_or_default();
                self.fold(shift, |fold| fold.rows = inverse);
                Some(State { frame, shift: None })
            }
            None => {
                self.need(id, 0, &Chain::IDENTITY);
                Some(State::default())
            }
        }
    }

    /// The scale that is wanted of a gain or shift, where its vector can take it up.
    fn taken_up(&self, id: NodeId, vector: ParamId) -> Option<Chain> {
        let frame = self.wanted.of(id).filter(|frame| is_scale(frame) && self.uses.is_own(vector))?;
        self.wanted.scales(frame, self.graph().operands(id)[1]).then(|| frame.clone())
    }

    fn attention(&mut self, id: NodeId) -> State {
        let operands = self.graph().operands(id);
        let head_dim = self.graph().node(id).fact.last().unwrap_or(0);
        let frame_of = |this: &Self, slot: usize| this.results[&operands[slot]].state.frame.clone();
        let per_head = |this: &Self, frame: &Chain| frame.is_orthogonal() && fits(frame, head_dim, this.bases());
        // Products of rotated queries and keys are those of the original ones.
        let (q, k) = (frame_of(self, 0), frame_of(self, 1));
        let common = if q == k && per_head(self, &q) { q } else { Chain::IDENTITY };
        self.need(id, 0, &common);
        self.need(id, 1, &common);
        let v = frame_of(self, 2);
        if per_head(self, &v) {
            self.take(id, 2);
            return State { frame: v, shift: None };
        }
        if let [Factor::Scale { id: scale, inverse: false }] = *v.factors()
            && let Some(scale) = self.for_every_head(scale, operands[2], id)
        {
            self.take(id, 2);
            return State { frame: Chain::of(Factor::Scale { id: scale, inverse: false }), shift: None };
        }
        self.need(id, 2, &Chain::IDENTITY);
        State::default()
    }

    /// The scale of values as that of what attention makes of them: each key/value head for all query heads that read it.
    fn for_every_head(&mut self, scale: ScaleId, values: NodeId, result: NodeId) -> Option<ScaleId> {
        let head_dim = self.graph().node(values).fact.last()?;
        let [from, to] = [values, result].map(|id| row_width(self.graph(), id));
        let entry = self.changes.scales[scale.index()].clone();
        if from == to || head_dim.is_multiple_of(entry.width) {
            return Some(scale);
        }
        if entry.width != from {
            return None;
        }
        let id = ScaleId(self.changes.scales.len() as u32);
        self.changes.scales.push(Scale { width: to, ..entry });
        self.repeated.push(super::Repeated { of: scale, id, head_dim, times: to / from });
        Some(id)
    }

    fn product(&mut self, id: NodeId) -> State {
        let operands = self.graph().operands(id);
        let frames = [0, 1].map(|slot: usize| self.results[&operands[slot]].state.frame.clone());
        let scaled = [0, 1].into_iter().find(|&slot: &usize| {
            operands[0] != operands[1] && is_scale(&frames[slot]) && frames[1 - slot].is_identity()
        });
        let mut frame = Chain::IDENTITY;
        for slot in [0, 1] {
            if scaled == Some(slot) {
                frame.clone_from(&frames[slot]);
                self.need(id, slot, &frame);
            } else {
                self.need(id, slot, &Chain::IDENTITY);
            }
        }
        State { frame, shift: None }
    }

    /// Changes what becomes of a parameter.
    fn fold(&mut self, param: ParamId, change: impl FnOnce(&mut Fold)) {
        let mut fold = self.folds.remove(&param).unwrap_or_default();
        change(&mut fold);
        if !fold.is_identity() {
            self.folds.insert(param, fold);
        }
    }

    /// The node of an added vector; the first use adds it.
    fn vector(&mut self, param: Param) -> Operand {
        if let Some(&node) = self.vectors.get(&param.name) {
            return node;
        }
        let name = param.name.clone();
        let op = Op::Param(ParamId(self.params as u32));
        self.params += 1;
        self.changes.params.push(param);
        let node = NewNode { op, operands: Vec::new(), frame: Chain::IDENTITY, label: name.clone(), origin: None };
        let node = self.edit.add(node);
        self.vectors.insert(name, node);
        node
    }

    /// The unit vector along which means lie, in a frame.
    fn along(&mut self, width: u64, frame: &Chain) -> Operand {
        let rows = frame.transpose();
        let name = format!("mean.{width}.{rows}").replace(' ', ".");
        self.vector(Param { name, shape: vec![width], values: Values::Uniform, fold: Fold { rows, ..Fold::default() } })
    }

    /// A result in another frame, for a request and a user.
    fn difference(&mut self, result: &Result, frame: &Chain, (request, user): (usize, NodeId)) -> Operand {
        let graph = self.graph();
        let key = (result.of, frame.clone());
        if let Some(&node) = self.differences.get(&key) {
            return node;
        }
        let inverse = frame.inverse().expect("invariant: frames that are needed have an inverse");
        assert!(result.state.shift.is_none(), "invariant: shifts are folded only where all readers absorb them");
        let (label, origin) = (graph.node(result.of).label.clone(), graph.node(result.of).origin);
        let (mut node, mut state) = (result.node, result.state.frame.clone());
        for &factor in result.state.frame.then(&inverse).factors() {
            let width = row_width(graph, result.of);
            let request = self.request_of(&factor).unwrap_or(request);
            self.online.push(Online { label: label.clone(), does: Does::Map(factor), width, request });
            // Values x' of frame F become x' M, of frame M⁻¹ F.
            let undone = Chain::of(factor).inverse().expect("invariant: gains are never undone");
            state = undone.then(&state);
            let (op, operands) = match factor {
                Factor::Rotation { id, inverse } => (Op::Rotate { rotation: id, inverse }, vec![node]),
                Factor::Scale { id, inverse } => {
                    let name = format!("scale.{}{}", id.0, if inverse { ".inverse" } else { "" });
                    let shape = self.vector_shape(result.of, self.changes.scales[id.index()].width);
                    let values = Values::Scale { id, inverse };
                    let vector = self.vector(Param { name, shape, values, fold: Fold::default() });
                    (Op::Gain { offset: Real::new(0.0) }, vec![node, vector])
                }
                Factor::Gain { .. } => unreachable!("gains are never undone"),
            };
            node = self.edit.add(NewNode { op, operands, frame: state.clone(), label: label.clone(), origin });
        }
        self.refuse_offline(result, frame, request, user);
        self.differences.insert(key, node);
        node
    }

    /// The shape of a vector that multiplies each element of a row of a result, or of its last dimension.
    fn vector_shape(&self, of: NodeId, width: u64) -> Vec<u64> {
        let fact = &self.graph().node(of).fact;
        let fixed: Vec<u64> = fact
            .shape
            .iter()
            .filter_map(|dim| match dim {
                Dim::Fixed(size) => Some(*size),
                Dim::Tokens | Dim::Selected => None,
            })
            .collect();
        if fact.last() == Some(width) { vec![width] } else { fixed }
    }

    /// The request behind a rotation or scale.
    fn request_of(&self, factor: &Factor) -> Option<usize> {
        match *factor {
            Factor::Rotation { id, .. } => self.by_rotation.get(id.index()).copied(),
            Factor::Scale { id, .. } => {
                let of = self.repeated.iter().find(|repeated| repeated.id == id).map_or(id, |repeated| repeated.of);
                let is_it = |factor: &Factor| matches!(factor, Factor::Scale { id, .. } if *id == of);
                let node = self.requested.iter().find(|(_, frame)| frame.factors().iter().any(is_it));
                node.and_then(|(node, _)| self.asked.get(node).copied())
            }
            Factor::Gain { .. } => None,
        }
    }

    /// The request behind a difference of two frames; one that refuses it before others.
    fn cause(&self, from: &Chain, to: &Chain) -> Option<usize> {
        let mut found: Vec<usize> =
            from.factors().iter().chain(to.factors()).filter_map(|factor| self.request_of(factor)).collect();
        found.sort_by_key(|request| !self.input.requests[*request].offline);
        found.first().copied()
    }

    /// Reports an operation at run time that its request refuses.
    fn refuse_offline(&mut self, result: &Result, frame: &Chain, request: usize, user: NodeId) {
        let asked = &self.input.requests[request];
        if !asked.offline {
            return;
        }
        let [node, user] = [result.of, user].map(|id| self.graph().node(id));
        let [what, needed] =
            [&result.state.frame, frame].map(|frame| if frame.is_identity() { "as it is" } else { "rotated" });
        let message = format!(
            "`{}` is offline, and would run between `{}` ({}), which gives its result {what}, and `{}` ({}), which reads it {needed}",
            asked.turn,
            node.label,
            node.op.name(),
            user.label,
            user.op.name()
        );
        let mut diagnostic = Diagnostic::error("S0405", message).label(asked.span, "");
        if let Some(origin) = node.origin {
            diagnostic = diagnostic.label(origin, "whose result it is");
        }
        let help = match asked.site {
            Site::Residual => "drop `offline`; a head that shares its table has one of its own under `tied => split`",
            _ => "drop `offline`, or narrow the request to edges between operations that have weights",
        };
        if !self.diagnostics.iter().any(|other| other.code == "S0405" && other.labels[0].span == asked.span) {
            self.diagnostics.push(diagnostic.help(help));
        }
    }
}
