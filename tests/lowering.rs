//! Lowering sees only the graph: whatever is taken out of it is missing from the program.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;

use lathe_compiler::compile::{Prepared, write};
use lathe_compiler::ir::{Edit, Graph, NewNode, NodeId, Op, Operand, verify};
use lathe_compiler::lower::{LowerError, lower};
use lathe_compiler::model::Checkpoint;
use lathe_compiler::pack::PackOptions;
use lathe_compiler::passes::{Options, PIPELINE, run_passes};
use lathe_runtime::program::{self, Program, Unary};

use crate::end_to_end::families;
use crate::support::command::{ids, lathe_run, succeed};
use crate::support::compiler::{Texts, open};
use crate::support::llama::{Llama, Shape};
use crate::support::{files, model, reference};

fn micro() -> Prepared {
    Texts::library("keep").prepared(&open(&model("micro-llama")))
}

/// Lowers a valid graph; the program is valid too.
#[track_caller]
fn program(graph: &Graph, prepared: &Prepared) -> Program {
    verify(graph).unwrap_or_else(|violations| panic!("{violations:?}"));
    let lowered = lower(graph, &prepared.plan, &prepared.model.name, prepared.model.max_positions);
    let program = lowered.unwrap_or_else(|error| panic!("{error}")).program;
    program::verify(&program).unwrap_or_else(|error| panic!("a valid graph gave an invalid program: {error}"));
    program
}

/// The graph before kernels are fused: every operation of the model is a node.
fn unfused(prepared: &Prepared) -> Graph {
    let mut graph = prepared.model.graph.clone();
    let fuse = PIPELINE.iter().position(|pass| pass.name == "fuse_kernels").expect("it is in the pipeline");
    run_passes(&PIPELINE[..fuse], &mut graph, &prepared.plan, &Options::default()).expect("passes keep graphs valid");
    graph
}

/// The graph without a node: its users read `instead`.
fn without(graph: &Graph, node: NodeId, instead: NodeId) -> Graph {
    let mut edit = Edit::new("without");
    edit.replace(graph, node, Operand::Node(instead));
    let mut graph = graph.clone();
    graph.apply(&edit);
    graph.infer_facts();
    graph
}

#[test]
fn lowering_the_same_graph_gives_the_same_program() {
    let prepared = micro();
    assert_eq!(program(&prepared.graph, &prepared), prepared.lowered.program);
}

/// Logits of a model as it is lowered from this graph.
fn logits(mut prepared: Prepared, graph: &Graph, checkpoint: &Checkpoint, tokens: &[u32]) -> Vec<f32> {
    let lowered = lower(graph, &prepared.plan, &prepared.model.name, prepared.model.max_positions);
    prepared.lowered = lowered.unwrap_or_else(|error| panic!("{error}"));
    let folder = tempfile::tempdir().unwrap();
    let [out, file] = ["out", "logits.safetensors"].map(|name| folder.path().join(name));
    let interrupted = AtomicBool::new(false);
    write(&prepared, checkpoint, &out, None, PackOptions { memory: None, threads: 1, interrupted: &interrupted })
        .unwrap();
    succeed(lathe_run().arg("logits").arg(&out).args(["--ids", &ids(tokens)]).arg("-o").arg(&file));
    reference::floats(&files::read(&file), "logits")
}

/// Kernels that do what several did: the function stays.
#[test]
fn fused_kernels_compute_what_the_operations_did() {
    let mut fused = BTreeSet::new();
    for (model, definition) in families() {
        let checkpoint = open(&model);
        let prepare = || Texts::keep(definition.as_deref()).prepared(&checkpoint);
        let prepared = prepare();
        let (apart, together) = (unfused(&prepared), prepared.graph.clone());
        let names = |graph: &Graph| graph.nodes().map(|(_, node)| node.op.name()).collect::<BTreeSet<_>>();
        fused.extend(names(&together).difference(&names(&apart)).copied());
        let tokens = reference::Reference::open(&model).tokens("prompt0.input_ids");
        let [expected, found] = [&apart, &together].map(|graph| logits(prepare(), graph, &checkpoint, &tokens));
        let distance = reference::distance(&found, &expected);
        assert!(distance <= 1e-5, "{}: {distance:.1e} of the range", model.display());
    }
    for name in ["rms_norm", "layer_norm", "silu_mul", "gelu_tanh_mul"] {
        assert!(fused.contains(name), "nothing was fused to {name}: {fused:?}");
    }
}

#[test]
fn every_node_taken_out_changes_the_program() {
    let prepared = micro();
    for graph in [unfused(&prepared), prepared.graph.clone()] {
        let whole = program(&graph, &prepared);
        let (mut changed, mut refused) = (0, 0);
        for (id, node) in graph.nodes() {
            if node.op == Op::Output {
                continue;
            }
            for instead in graph.operands(id) {
                let less = without(&graph, id, instead);
                if graph.node(instead).fact == node.fact {
                    assert_ne!(program(&less, &prepared), whole, "%{} {} is not missed", id.0, node.label);
                    changed += 1;
                } else {
                    // Rows of logits that nobody asked for are a valid result of a graph, but not of a program.
                    let lowered = verify(&less).is_ok().then(|| lower(&less, &prepared.plan, "less", None));
                    let program = lowered.and_then(Result::ok).map(|lowered| lowered.program);
                    assert!(
                        program.is_none_or(|program| program::verify(&program).is_err()),
                        "%{} {}",
                        id.0,
                        node.label
                    );
                    refused += 1;
                }
            }
        }
        // Of each layer at least: two norms, o_proj, down_proj of the same width, two ropes, two additions.
        assert!(changed >= 2 * 8, "{changed} changed, {refused} refused");
        assert!(refused > 0);
    }
}

#[test]
fn a_silu_taken_out_is_missing() {
    let prepared = micro();
    let graph = unfused(&prepared);
    let silu = |program: &Program| {
        let is_silu = |step: &&program::Step| matches!(step.op, program::Op::Unary { function: Unary::Silu, .. });
        program.steps.iter().filter(is_silu).count()
    };
    assert_eq!(silu(&program(&graph, &prepared)), 2);
    let (id, _) = graph.nodes().find(|(_, node)| node.op == Op::Unary(Unary::Silu)).unwrap();
    let less = without(&graph, id, graph.operands(id)[0]);
    verify(&less).unwrap();
    assert_eq!(silu(&program(&less, &prepared)), 1);
}

#[test]
fn a_bias_taken_out_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    Llama::new(Shape { attention_bias: true, ..Shape::tiny() }).write(folder.path());
    let prepared = Texts::library("keep").prepared(&open(folder.path()));
    let mut graph = prepared.graph.clone();
    let biases = |program: &Program| {
        let has_bias = |step: &&program::Step| matches!(step.op, program::Op::MatMul { bias: Some(_), .. });
        program.steps.iter().filter(has_bias).count()
    };
    assert_eq!(biases(&prepared.lowered.program), 4);
    let (id, node) = graph.nodes().find(|(id, _)| graph.operands(*id).len() == 3).unwrap();
    assert_eq!(node.op, Op::Linear { input: None });
    let operands = graph.operands(id)[..2].iter().map(|&operand| Operand::Node(operand)).collect();
    let mut edit = Edit::new("without bias");
    let (frame, label) = (node.frame.clone(), node.label.clone());
    let plain = edit.add(NewNode { op: Op::Linear { input: None }, operands, frame, label, origin: None });
    edit.replace(&graph, id, plain);
    graph.apply(&edit);
    graph.infer_facts();
    verify(&graph).unwrap();
    let less = program(&graph, &prepared);
    assert_eq!(biases(&less), 3);
    assert_eq!(less.weights.len(), prepared.lowered.program.weights.len() - 1);
}

#[test]
fn a_tie_that_no_pass_replaced_is_an_error() {
    let prepared = micro();
    match lower(&prepared.model.graph, &prepared.plan, "model", None) {
        Err(LowerError::StillTied { name }) => assert_eq!(name, "lm_head.weight"),
        other => panic!("{other:?}"),
    }
}
