//! Rules on a model of as many modules as the largest mixtures of experts have.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use lathe_compiler::compile::{define, load_specs};
use lathe_compiler::elaborate::{Elaborated, Module};
use lathe_compiler::model::Checkpoint;
use lathe_compiler::plan::By;
use lathe_compiler::resolve::resolve;
use lathe_compiler::spec::{Entry, NoFiles, Place};
use lathe_grammar::diag::Diagnostic;
use lathe_grammar::pattern::Kind;
use lathe_grammar::span::Sources;

use crate::support;
use crate::support::compiler::open;

const LAYERS: usize = 27;
const EXPERTS: usize = 256;

/// The parts of a small model with the modules of a large one.
fn experts(checkpoint: &Checkpoint) -> Elaborated {
    let mut sources = Sources::new();
    let mut model = define(None, checkpoint, false, &mut sources, &mut Vec::new()).expect("a shipped definition fits");
    let span = model.modules[0].span;
    let module = |path: String, kind: Kind| Module { path, stored: None, kind, params: Vec::new(), span };
    let mut modules = Vec::new();
    let mut children = BTreeMap::from([("model".to_owned(), 0), ("model.layers".to_owned(), LAYERS as u64)]);
    for layer in 0..LAYERS {
        let layer = format!("model.layers.{layer}");
        children.insert(layer.clone(), 0);
        children.insert(format!("{layer}.mlp"), 0);
        children.insert(format!("{layer}.mlp.experts"), EXPERTS as u64);
        modules.push(module(format!("{layer}.mlp.gate"), Kind::Router));
        for expert in 0..EXPERTS {
            let expert = format!("{layer}.mlp.experts.{expert}");
            modules.extend(
                ["gate_proj", "up_proj", "down_proj"].map(|name| module(format!("{expert}.{name}"), Kind::Linear)),
            );
            children.insert(expert, 0);
        }
    }
    modules.push(module("lm_head".into(), Kind::Head));
    (model.modules, model.children, model.ties) = (modules, children, Vec::new());
    model
}

/// Decides about every module; how many rules decided something, and what was said.
fn resolved(model: &Elaborated, checkpoint: &Checkpoint, rules: &[String]) -> (usize, Vec<Diagnostic>) {
    let mut text = "lathe 1\nspec many {\n    rules {\n".to_owned();
    for rule in rules {
        writeln!(text, "        {rule}").unwrap();
    }
    text.push_str("    }\n}\n");
    let mut sources = Sources::new();
    let entry = Entry { source: sources.add("many.lathe", text), place: Place::File("many.lathe".into()), name: None };
    let mut found = Vec::new();
    let specs = load_specs(&entry, false, &[], &NoFiles, &mut sources, &mut found);
    assert_eq!((specs.len(), found.len()), (1, 0), "{found:?}");
    let plan = resolve(&specs[0], model, checkpoint, &sources, &mut found);
    let mut deciders: Vec<u32> = plan.decisions.iter().filter_map(|decision| rule(decision.format.by)).collect();
    deciders.sort_unstable();
    deciders.dedup();
    (deciders.len(), found)
}

fn rule(by: By) -> Option<u32> {
    if let By::Rule(rule) = by { Some(rule.0) } else { None }
}

#[test]
fn thirty_rules_of_hundreds_of_alternatives() {
    let checkpoint = open(&support::model("micro-llama"));
    let model = experts(&checkpoint);
    assert!(model.modules.len() > 20_000);
    let list = |of: &dyn Fn(usize) -> bool| {
        let numbers: Vec<String> = (0..EXPERTS).filter(|expert| of(*expert)).map(|expert| expert.to_string()).collect();
        numbers.join(", ")
    };
    let mut rules = vec!["** => keep".to_owned()];
    for layer in 0..LAYERS {
        let (list, braces) = (list(&|expert| expert % 2 == layer % 2), list(&|expert| expert % 5 == 0));
        rules.push(if layer % 3 == 0 {
            format!("layers[{layer}].mlp.experts.{{{braces}}}.{{up,gate,down}}_proj => keep(exact)")
        } else {
            format!("layers[{layer}].mlp.experts[{list}].{{up,down}}_proj => keep(exact)")
        });
    }
    rules.push(":router => keep(exact)".to_owned());
    rules.push("lm_head => keep(exact)".to_owned());
    assert_eq!(resolved(&model, &checkpoint, &rules), (rules.len(), Vec::new()));
}

#[test]
fn thirty_rules_that_match_nothing() {
    let checkpoint = open(&support::model("micro-llama"));
    let model = experts(&checkpoint);
    let rules: Vec<String> =
        (0..30).map(|rule| format!("layers[{}].mlp.experts[{rule}].up_prj => keep", rule % LAYERS)).collect();
    let (deciders, found) = resolved(&model, &checkpoint, &rules);
    assert_eq!((deciders, found.len()), (0, rules.len()));
    assert_eq!(found[7].help.as_deref(), Some("did you mean `layers[7].mlp.experts[7].up_proj`?"));
}
