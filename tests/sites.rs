//! Sites: which edges of the shipped models each of them means.

use std::collections::BTreeSet;

use lathe_compiler::compile::define;
use lathe_compiler::elaborate::Elaborated;
use lathe_compiler::ir::NodeId;
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
        // What the embedding gives, and behind attention and feed-forward of each layer.
        assert_eq!(count(Site::Residual), 1 + 2 * layers, "{name}");
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
