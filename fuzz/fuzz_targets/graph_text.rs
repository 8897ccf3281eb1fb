//! Any text is refused or a graph that can be printed and read. What the verifier accepts, the passes keep valid and
//! lowering lowers or refuses; nothing panics.

#![no_main]

use lathe_compiler::ir::{Graph, read, verify};
use lathe_compiler::lower::lower;
use lathe_compiler::model::StoredDtype;
use lathe_compiler::passes;
use lathe_compiler::plan::{Encoding, Plan};
use libfuzzer_sys::fuzz_target;

fn reread(printed: &str) -> Graph {
    read(printed).unwrap_or_else(|error| panic!("{error} of\n{printed}"))
}

fuzz_target!(|text: &str| {
    let Ok(mut graph) = read(text) else { return };
    let printed = graph.to_string();
    // Reading numbers the nodes in the order of the text, printing orders them: the second text is the final one.
    let ordered = reread(&printed).to_string();
    assert_eq!(reread(&ordered).to_string(), ordered);
    if verify(&graph).is_err() {
        return;
    }
    let encoding = Encoding { format: StoredDtype::F32.format(), fit: Default::default() };
    let plan = Plan { encodings: vec![encoding; graph.params().len()], ..Plan::keep("fuzz", 0) };
    passes::run(&mut graph, &plan, &passes::Options::default()).unwrap_or_else(|error| panic!("{error}\n{printed}"));
    if let Ok(lowered) = lower(&graph, &plan, "fuzz", None) {
        let _ = lathe_runtime::program::verify(&lowered.program);
    }
});
