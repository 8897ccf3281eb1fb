//! Any text is refused or a graph that prints back to itself. What the verifier accepts, the passes keep valid and
//! lowering lowers or refuses; nothing panics.

#![no_main]

use lathe_compiler::ir::{read, verify};
use lathe_compiler::lower::lower;
use lathe_compiler::passes;
use lathe_compiler::plan::Plan;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(mut graph) = read(text) else { return };
    let printed = graph.to_string();
    let again = read(&printed).unwrap_or_else(|error| panic!("{error} of\n{printed}"));
    assert_eq!(again.to_string(), printed);
    if verify(&graph).is_err() {
        return;
    }
    let formats = vec!["f32"; graph.params().len()];
    let plan = Plan { spec: "fuzz".into(), decisions: Vec::new(), formats, ties: Vec::new() };
    passes::run(&mut graph, &plan, &passes::Options::default()).unwrap_or_else(|error| panic!("{error}\n{printed}"));
    if let Ok(lowered) = lower(&graph, &plan, "fuzz", None) {
        let _ = lathe_runtime::program::verify(&lowered.program);
    }
});
