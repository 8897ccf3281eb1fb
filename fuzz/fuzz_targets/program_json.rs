//! Any text is refused or a valid program, which every later stage takes.

#![no_main]

use lathe_runtime::memory::MemoryPlan;
use lathe_runtime::program::{Layers, Program};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(program) = Program::from_json(text) else { return };
    let written = program.to_json().expect("what is read can be written");
    assert_eq!(Program::from_json(&written).expect("what is written can be read"), program);
    for layers in [Layers::All, Layers::Folded] {
        assert!(program.listing(layers).ends_with('\n'));
    }
    let _ = MemoryPlan::new(&program);
});
