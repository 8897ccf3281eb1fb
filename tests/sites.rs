//! Sites: which edges of the shipped models each of them means.

use std::collections::{BTreeMap, BTreeSet};

use lathe_compiler::compile::define;
use lathe_compiler::elaborate::Elaborated;
use lathe_compiler::ir::{self, NodeId};
use lathe_compiler::sites::edges;
use lathe_compiler::spec::Site;
use lathe_grammar::pattern::Pattern;
use lathe_grammar::span::Sources;

use crate::support;
use crate::support::compiler::open;

fn model(name: &str) -> Elaborated {
    let checkpoint = open(&support::model(name));
    define(None, &checkpoint, false, &mut Sources::new(), &mut Vec::new()).expect("a shipped definition fits")
}

fn found(model: &Elaborated, site: Site, within: &str) -> Vec<NodeId> {
    let pattern = Pattern::parse(within).unwrap();
    edges(model, site, Some(&pattern))
}

/// Sites that more than one layer has, counted.
#[test]
fn every_layer_has_its_edges() {
    for (name, layers) in [("micro-llama", 2), ("tiny-qwen3", 5)] {
        let model = model(name);
        let count = |site: Site| edges(&model, site, None).len();
        // What the embedding gives, and of attention and feed-forward of each layer what is added and the sum.
        assert_eq!(count(Site::Residual), 1 + 4 * layers, "{name}");
        assert_eq!(count(Site::Value), layers, "{name}");
        assert_eq!(count(Site::QueryKey), 2 * layers, "{name}");
        assert_eq!(count(Site::FfnHidden), layers, "{name}");
        // No pattern, no module.
        assert_eq!(count(Site::Input), 0, "{name}");
    }
}

#[test]
fn sites_share_no_edge() {
    let model = model("tiny-qwen3");
    let sites = [Site::Residual, Site::Value, Site::QueryKey, Site::FfnHidden];
    let all: Vec<NodeId> = sites.iter().flat_map(|site| edges(&model, *site, None)).collect();
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
}

#[test]
fn patterns_narrow_a_site() {
    let model = model("tiny-qwen3");
    let value = |within: &str| found(&model, Site::Value, within).len();
    assert_eq!([value("layers[0]"), value("layers[-2..]"), value("layers[9]"), value("model")], [1, 2, 0, 5]);
    assert_eq!(found(&model, Site::FfnHidden, "layers[1]").len(), 1);
}

#[test]
fn modules_that_read_one_value_share_their_input() {
    let model = model("micro-llama");
    let input = |within: &str| found(&model, Site::Input, within);
    assert_eq!(input("q_proj").len(), 2);
    assert_eq!(input("{q,k,v}_proj"), input("q_proj"));
    assert_eq!(input("mlp.down_proj"), edges(&model, Site::FfnHidden, None));
    assert_eq!(input("lm_head").len(), 1);
    // Neither an embedding nor a norm multiplies what it reads.
    assert_eq!(input("{embed_tokens,norm}"), []);
}

/// The ids in the text of a graph whose results are the residual stream.
#[track_caller]
fn residual(nodes: &str) -> Vec<String> {
    const HEAD: &str = "\
param p0 table [16, 8] tensor 0 rows 0..16
param p1 gain [8] tensor 1 rows 0..1
param p2 weight [8, 8] tensor 2 rows 0..8
%0 tokens : token[T]
%1 param p0 : real[16, 8]
%2 param p1 : real[8]
%3 param p2 : real[8, 8]
%4 embed %1 %0 : real[T, 8]  // %4
";
    let id = |line: &str| line.split_whitespace().next().expect("a node").to_owned();
    let lines = nodes.lines().map(|line| format!("{} : real[T, 8]  // {}", line.trim(), id(line)));
    let body = lines.collect::<Vec<_>>().join("\n");
    let last = id(nodes.lines().last().expect("a node"));
    let text = format!("{HEAD}{body}\n%90 linear {last} %1 : real[T, 16]\n%91 output %90 : real[T, 16]\n");
    let graph = ir::read(&text).unwrap_or_else(|error| panic!("{text}\n{error}"));
    ir::verify(&graph).unwrap_or_else(|violations| panic!("{text}\n{violations:?}"));
    let model = Elaborated {
        name: "small".to_owned(),
        graph,
        modules: Vec::new(),
        children: BTreeMap::new(),
        ties: Vec::new(),
        max_positions: None,
    };
    let label = |id: &NodeId| model.graph.node(*id).label.clone();
    edges(&model, Site::Residual, None).iter().map(label).collect()
}

#[test]
fn the_residual_stream_is_what_additions_join() {
    // What is added, and of a sum that is added its parts.
    let found = residual(
        "%10 normalize eps=1e-6 %4
         %11 linear %10 %3
         %12 linear %10 %3
         %13 add %11 %12
         %14 add %4 %13
         %15 normalize eps=1e-6 %14",
    );
    assert_eq!(found, ["%4", "%11", "%12", "%13", "%14"]);
    // A norm behind the embedding, and norms behind each addition.
    let found = residual(
        "%10 normalize eps=1e-6 %4
         %11 gain %10 %2
         %12 linear %11 %3
         %13 add %11 %12
         %14 rms_norm eps=1e-6 gain=0.0 %13 %2
         %15 silu %14
         %16 add %15 %14",
    );
    assert_eq!(found, ["%4", "%11", "%12", "%13", "%14", "%15", "%16"]);
    // A norm in front of an addition: one factor a row lets the frame pass, a gain does not.
    let found = residual(
        "%10 linear %4 %3
         %11 normalize eps=1e-6 %10
         %12 add %11 %4
         %13 linear %12 %3
         %14 normalize eps=1e-6 %13
         %15 gain %14 %2
         %16 add %15 %12",
    );
    assert_eq!(found, ["%4", "%10", "%11", "%12", "%15", "%16"]);
    // Sums within a branch are no part of it.
    let found = residual(
        "%10 linear %4 %3
         %11 linear %4 %3
         %12 add %10 %11
         %13 silu %12
         %14 add %4 %13",
    );
    assert_eq!(found, ["%4", "%13", "%14"]);
}
