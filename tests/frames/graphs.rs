//! Random graphs in random frames compute what they computed: every operation in every neighbourhood, not only those of
//! models that exist.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use lathe_compiler::frames::{self, Frames, Request};
use lathe_compiler::ir::{self, Dim, Dtype, Fact, Graph, NodeId, Op, Param, ParamId, Real, TensorId, Values, View};
use lathe_compiler::lower::lower;
use lathe_compiler::model::Checkpoint;
use lathe_compiler::passes::{self, PIPELINE};
use lathe_compiler::plan::{Encoding, Plan};
use lathe_compiler::source::TensorReader;
use lathe_compiler::spec::{Site, TableBasis, Turn};
use lathe_grammar::span::{Sources, Span};
use lathe_runtime::program::{Binary, RopePairing, RopeTable, Unary};

use crate::support::exact;
use crate::support::forge::Forge;
use crate::support::random::Random;

/// Elements of the stream.
const WIDTH: u64 = 24;
/// Elements of a head.
const HEAD_DIM: u64 = 4;
const VOCABULARY: u64 = 11;
const EXPERTS: u32 = 3;
const CHOSEN: u64 = 2;

/// A graph that grows, over one file of random numbers.
struct Maker<'r> {
    graph: Graph,
    random: &'r mut Random,
    tokens: NodeId,
    positions: NodeId,
    /// Elements of the file that are taken.
    taken: u64,
    /// Results `[T, WIDTH]`.
    streams: Vec<NodeId>,
    /// Weights `[WIDTH, WIDTH]` and tables `[VOCABULARY, WIDTH]` that others may read too.
    squares: Vec<NodeId>,
    tables: Vec<NodeId>,
}

impl<'r> Maker<'r> {
    fn new(random: &'r mut Random) -> Self {
        let mut graph = Graph::new();
        let mut input = |op: Op| graph.add(op, &[], "input", None).expect("inputs have no operands");
        let (tokens, positions) = (input(Op::Tokens), input(Op::Positions));
        let (streams, squares, tables) = (Vec::new(), Vec::new(), Vec::new());
        Maker { graph, random, tokens, positions, taken: 0, streams, squares, tables }
    }

    fn chance(&mut self, of: u64) -> bool {
        self.random.below(of) == 0
    }

    fn param(&mut self, shape: &[u64]) -> NodeId {
        let elements = shape.iter().product();
        let values = Values::Stored(View::contiguous(TensorId(0), self.taken, elements));
        self.taken += elements;
        let name = format!("param{}", self.graph.params().len());
        let id = self.graph.add_param(Param::new(name, shape.to_vec(), values));
        self.graph.add(Op::Param(id), &[], "", None).expect("it is in the table")
    }

    #[track_caller]
    fn add(&mut self, op: Op, operands: &[NodeId]) -> NodeId {
        let label = format!("layers.{}.{}", self.graph.len(), op.name());
        self.graph.add(op, operands, &label, None).unwrap_or_else(|misfit| panic!("{label}: {misfit}"))
    }

    fn last(&self, id: NodeId) -> u64 {
        self.graph.node(id).fact.last().expect("activations have a width")
    }

    /// One of the results so far.
    fn stream(&mut self) -> NodeId {
        // The newest ones more often: deep graphs rather than wide ones.
        let count = self.streams.len() as u64;
        let at = self.random.below(count).max(self.random.below(count));
        self.streams[at as usize]
    }

    fn embed(&mut self) -> NodeId {
        let shared = !self.tables.is_empty() && self.chance(2);
        let table = if shared { self.tables[0] } else { self.param(&[VOCABULARY, WIDTH]) };
        self.tables.push(table);
        // Logits depend on the first one: a program looks tokens up.
        let index = if !self.streams.is_empty() && self.chance(3) { self.positions } else { self.tokens };
        self.add(Op::Embed { first: 0 }, &[table, index])
    }

    fn linear(&mut self, x: NodeId, out: u64) -> NodeId {
        let input = self.last(x);
        let square = input == WIDTH && out == WIDTH;
        let weight = if square && !self.squares.is_empty() && self.chance(4) {
            self.squares[0]
        } else {
            self.param(&[out, input])
        };
        if square {
            self.squares.push(weight);
        }
        let mut operands = vec![x, weight];
        if self.chance(2) {
            operands.push(self.param(&[out]));
        }
        self.add(Op::Linear { input: None }, &operands)
    }

    fn norm(&mut self, mut x: NodeId) -> NodeId {
        let width = self.last(x);
        if self.chance(2) {
            x = self.add(Op::Centre, &[x]);
        }
        if !self.chance(6) {
            x = self.add(Op::Normalize { eps: Real::new(1e-3) }, &[x]);
        }
        if !self.chance(4) {
            let gain = self.param(&[width]);
            let offset = Real::new(if self.chance(2) { 1.0 } else { 0.0 });
            x = self.add(Op::Gain { offset }, &[x, gain]);
        }
        if self.chance(2) {
            let shift = self.param(&[width]);
            x = self.add(Op::Shift, &[x, shift]);
            if self.chance(4) {
                x = self.add(Op::Shift, &[x, shift]);
            }
        }
        if self.chance(5) {
            x = self.add(Op::Affine { factor: Real::new(0.5), offset: Real::new(0.0) }, &[x]);
        }
        x
    }

    fn heads(&mut self, x: NodeId, heads: u64, rotary: bool) -> NodeId {
        let mut x = self.linear(x, heads * HEAD_DIM);
        x = self.add(Op::SplitHeads { head_dim: HEAD_DIM }, &[x]);
        if self.chance(3) {
            x = self.norm(x);
        }
        if rotary {
            let pairs = 1 + self.random.below(2) as usize;
            let pairing = if self.chance(2) { RopePairing::Half } else { RopePairing::Interleaved };
            let inverse_frequencies = [0.9, 0.2][..pairs].to_vec();
            let table = RopeTable { pairing, inverse_frequencies, amplitude: 1.0, growth: None };
            let table = self.graph.add_rope_table(table);
            x = self.add(Op::Rope(table), &[x, self.positions]);
        }
        x
    }

    fn attention(&mut self, x: NodeId) -> NodeId {
        let kv = 1 + self.random.below(2);
        let heads = kv * (1 + self.random.below(2));
        let rotary = self.chance(2);
        let [q, k] = [heads, kv].map(|heads| self.heads(x, heads, rotary));
        let v = self.heads(x, kv, false);
        let op = Op::Attention { scale: Real::new(0.5), window: None, softcap: None };
        let attended = self.add(op, &[q, k, v]);
        let merged = self.add(Op::MergeHeads, &[attended]);
        self.linear(merged, WIDTH)
    }

    fn feed_forward(&mut self, x: NodeId) -> NodeId {
        let width = 12 * (1 + self.random.below(3));
        let function = [Unary::Relu, Unary::Silu, Unary::GeluTanh, Unary::ReluSquared][self.random.below(4) as usize];
        let up = self.linear(x, width);
        let hidden = if self.chance(3) {
            self.add(Op::Unary(function), &[up])
        } else {
            let gate = self.linear(x, width);
            if self.chance(3) {
                self.add(Op::Gated(function), &[gate, up])
            } else {
                let gate = self.add(Op::Unary(function), &[gate]);
                self.add(Op::Binary(Binary::Mul), &[gate, up])
            }
        };
        self.linear(hidden, WIDTH)
    }

    fn experts(&mut self, x: NodeId) -> NodeId {
        let scores = self.linear(x, u64::from(EXPERTS));
        let scores = self.add(Op::Softmax, &[scores]);
        let choice = self.add(Op::TopK { k: CHOSEN as u32 }, &[scores]);
        let chosen = self.add(Op::Gather, &[scores, choice]);
        let chosen = self.add(Op::NormalizeSum, &[chosen]);
        let mut of_experts = |x: NodeId, out: u64| {
            let input = self.last(x);
            let mut operands = vec![x, choice];
            operands.extend((0..EXPERTS).map(|_| self.param(&[out, input])));
            if self.chance(2) {
                operands.extend((0..EXPERTS).map(|_| self.param(&[out])));
            }
            self.add(Op::ExpertLinear { experts: EXPERTS, input: None }, &operands)
        };
        let up = of_experts(x, 8);
        let gate = of_experts(x, 8);
        let gate = self.add(Op::Unary(Unary::Silu), &[gate]);
        let hidden = self.add(Op::Binary(Binary::Mul), &[gate, up]);
        let input = self.last(hidden);
        let mut operands = vec![hidden, choice];
        operands.extend((0..EXPERTS).map(|_| self.param(&[WIDTH, input])));
        let out = self.add(Op::ExpertLinear { experts: EXPERTS, input: None }, &operands);
        self.add(Op::Combine, &[out, chosen])
    }

    /// One more result of the stream.
    fn grow(&mut self) {
        let x = self.stream();
        let result = match self.random.below(14) {
            0..4 => {
                let normed = self.norm(x);
                let branch = match self.random.below(4) {
                    0 => self.attention(normed),
                    1 => self.experts(normed),
                    _ => self.feed_forward(normed),
                };
                let branch = if self.chance(4) { self.norm(branch) } else { branch };
                self.add(Op::Binary(Binary::Add), &[x, branch])
            }
            4 => self.attention(x),
            5 => self.feed_forward(x),
            6 => self.linear(x, WIDTH),
            7 => self.norm(x),
            8 => {
                let other = self.stream();
                let function = [Binary::Add, Binary::Sub, Binary::Mul][self.random.below(3) as usize];
                self.add(Op::Binary(function), &[x, other])
            }
            9 => self.add(Op::Affine { factor: Real::new(-1.5), offset: Real::new(0.0) }, &[x]),
            10 => match self.random.below(4) {
                0 => self.add(Op::Affine { factor: Real::new(0.7), offset: Real::new(0.3) }, &[x]),
                1 => self.add(Op::Softcap { cap: Real::new(3.0) }, &[x]),
                2 => self.add(Op::Clamp { low: Some(Real::new(-1.0)), high: None }, &[x]),
                _ => self.add(Op::Unary(Unary::Tanh), &[x]),
            },
            11 => self.add(Op::Unary(Unary::Relu), &[x]),
            12 => self.experts(x),
            _ => self.embed(),
        };
        self.streams.push(result);
    }

    /// Logits of one of the newest results, by a head that may share a table.
    fn finish(mut self) -> Graph {
        let (first, last) = (self.streams[0], self.streams[self.streams.len() - 1]);
        let x = self.add(Op::Binary(Binary::Add), &[first, last]);
        let mut x = self.norm(x);
        if self.chance(3) {
            x = self.add(Op::Affine { factor: Real::new(0.25), offset: Real::new(0.0) }, &[x]);
        }
        let shares = !self.tables.is_empty() && !self.chance(3);
        let logits = if shares {
            let table = self.tables[0];
            self.add(Op::Linear { input: None }, &[x, table])
        } else {
            self.linear(x, VOCABULARY)
        };
        self.add(Op::Output, &[logits]);
        self.graph
    }
}

fn graph(random: &mut Random) -> (Graph, u64) {
    let mut maker = Maker::new(random);
    let first = maker.embed();
    maker.streams.push(first);
    for _ in 0..3 + maker.random.below(6) {
        maker.grow();
    }
    let taken = maker.taken;
    let graph = maker.finish();
    // The head was made last.
    (graph, taken + 1_000)
}

/// A checkpoint with one file of one tensor.
fn checkpoint(folder: &Path, random: &mut Random, elements: u64) -> Checkpoint {
    let mut file = Forge::default();
    // In bf16 exactly, so that nothing is rounded on the way to f64.
    let values = (0..elements).map(|_| half::bf16::from_f64(random.unit()));
    let bytes: Vec<u8> = values.flat_map(half::bf16::to_le_bytes).collect();
    file.push("all", "BF16", &[elements], &bytes);
    file.write(&folder.join("model.safetensors"));
    std::fs::write(folder.join("config.json"), "{}").expect("temporary files can be written");
    crate::support::compiler::open(folder)
}

/// A rotation that fits a width, or a scale.
fn turn(random: &mut Random, width: u64) -> Turn {
    let divisors: Vec<u64> = [1, 2, 4, 8, 12, 24].into_iter().filter(|block| width.is_multiple_of(*block)).collect();
    let block = Some(divisors[random.below(divisors.len() as u64) as usize]);
    let seed = Some(random.below(100));
    let none = Turn { kind: "identity", block: None, seed: None, file: None, path: None, key: None, alpha: None };
    match random.below(6) {
        0 | 1 => Turn { kind: "hadamard", block, ..none },
        2 => Turn { kind: "random_hadamard", seed, block, ..none },
        3 => Turn { kind: "orthogonal", seed, block, ..none },
        4 => none,
        _ => Turn { kind: "smooth", alpha: Some(Real::new(0.5)), ..none },
    }
}

/// Whether a request can be about the result of a node.
fn takes_request(graph: &Graph, id: NodeId) -> bool {
    let node = graph.node(id);
    node.fact.dtype == Dtype::Real
        && node.fact.shape.first() == Some(&Dim::Tokens)
        && !matches!(node.op, Op::Output | Op::Param(_))
}

fn requested(graph: &Graph, random: &mut Random) -> Vec<(Vec<NodeId>, Turn)> {
    let nodes: Vec<NodeId> = graph.nodes().map(|(id, _)| id).filter(|id| takes_request(graph, *id)).collect();
    let mut free: BTreeSet<NodeId> = nodes.iter().copied().collect();
    let mut requests = Vec::new();
    // The stream as a whole, as specs ask for it.
    if random.below(2) == 0 {
        let stream: Vec<NodeId> = nodes
            .iter()
            .copied()
            .filter(|id| graph.node(*id).fact == Fact::real([Dim::Tokens, Dim::Fixed(WIDTH)]))
            .collect();
        let edges: Vec<NodeId> = stream
            .into_iter()
            .filter(|id| matches!(graph.node(*id).op, Op::Embed { .. } | Op::Binary(Binary::Add | Binary::Sub)))
            .collect();
        for id in &edges {
            free.remove(id);
        }
        let by = loop {
            let by = turn(random, WIDTH);
            if by.kind != "smooth" {
                break by;
            }
        };
        requests.push((edges, by));
    }
    for _ in 0..random.below(5) {
        let left: Vec<NodeId> = free.iter().copied().collect();
        let Some(&id) = left.get(random.below(left.len().max(1) as u64) as usize) else { break };
        free.remove(&id);
        let width = graph.node(id).fact.last().expect("activations have a width");
        requests.push((vec![id], turn(random, width)));
    }
    requests
}

/// The frames of a graph, with scales that nobody measured but that are positive.
fn framed(graph: &Graph, requests: &[(Vec<NodeId>, Turn)], basis: TableBasis, random: &mut Random) -> Frames {
    let mut sources = Sources::new();
    let source = sources.add("requests", " ");
    let span = Span::new(source, 0..1);
    let requests: Vec<Request<'_>> =
        requests.iter().map(|(edges, turn)| Request { site: Site::Input, edges, turn, offline: false, span }).collect();
    let input = frames::Input { graph, requests: &requests, table_of: &|param: ParamId| param, table_basis: basis };
    let mut diagnostics = Vec::new();
    let mut frames = frames::infer(&input, &mut diagnostics);
    assert!(diagnostics.is_empty(), "{diagnostics:#?}");
    for measured in frames.measured.clone() {
        let values: Vec<f64> = (0..measured.width).map(|_| 0.25 + random.unit().abs() * 3.0).collect();
        frames.set_scale(measured.id, Arc::from(values));
    }
    frames
}

fn logits(graph: &Graph, frames: Frames, checkpoint: &Checkpoint, reader: &TensorReader, tokens: &[u32]) -> Vec<f64> {
    let mut plan = Plan::keep("random", 0);
    plan.encodings = vec![Encoding::EXACT; graph.params().len() + frames.added];
    plan.frames = frames;
    let mut graph = graph.clone();
    let done = passes::run_passes(PIPELINE, &mut graph, &plan, &passes::Options::default());
    done.unwrap_or_else(|error| panic!("{error}\n{graph}"));
    let lowered =
        lower(&graph, &plan, "random", Some(VOCABULARY as u32)).unwrap_or_else(|error| panic!("{error}\n{graph}"));
    exact::logits(&lowered, checkpoint, reader, tokens)
}

#[test]
fn random_graphs_in_random_frames_compute_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (mut online, mut folded, mut rotated) = (0, 0, 0);
    for seed in 0..150 {
        let mut random = Random::new(seed);
        let (graph, elements) = graph(&mut random);
        ir::verify(&graph).unwrap_or_else(|violations| panic!("seed {seed}: {violations:?}"));
        let requests = requested(&graph, &mut random);
        let basis = if random.below(2) == 0 { TableBasis::Rotated } else { TableBasis::Original };
        let checkpoint = checkpoint(folder.path(), &mut random, elements);
        let reader = TensorReader::open(&checkpoint).expect("the file was just written");
        let frames = framed(&graph, &requests, basis, &mut random);
        online += frames.online.len();
        folded += frames.folded.len();
        rotated += usize::from(frames.edit.is_some());
        let tokens: Vec<u32> = (0..5).map(|_| random.below(VOCABULARY) as u32).collect();
        let expected = logits(&graph, Frames::default(), &checkpoint, &reader, &tokens);
        let found = logits(&graph, frames, &checkpoint, &reader, &tokens);
        let distance = exact::distance(&found, &expected);
        assert!(distance <= 1e-8, "seed {seed}: {distance:.1e} of the range\n{requests:#?}\n{graph}");
    }
    assert!(online > 100 && folded > 500 && rotated > 100, "{online} {folded} {rotated}");
}
