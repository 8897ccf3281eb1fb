//! Programs give the logits of the reference, however a text is cut into calls and passes.

use lathe_runtime::exec::Logits;
use lathe_runtime::program::{Compute, Program, RopePairing};
use lathe_runtime::reference;

use crate::common::random::{KERNELS, random_program};
use crate::common::testing::{SMALL, expert_program, rotated_program, with_int8_inputs};
use crate::common::{SmallModel, model, small_program, tokens};
use crate::{device, difference, options, processor, with_session};

/// In f32, as on the processor.
const TOLERANCE: f64 = 2e-5;
/// Where x is rounded to int8: f32 and f64 disagree about which integer is the nearest to few elements, each a step apart.
const INT8_TOLERANCE: f64 = 2e-3;
/// Where operands and caches are rounded to bf16, half a unit of 2⁻⁸ each.
const BF16_TOLERANCE: f64 = 2e-2;
/// Both: what bf16 changes moves some elements by a step of int8.
const INT8_BF16_TOLERANCE: f64 = 6e-2;

const TOKENS: usize = 19;
const RANDOM_PROGRAMS: u64 = 40;

fn expected(model: &SmallModel, tokens: &[u32]) -> Vec<f64> {
    let table = reference::logits(&model.program, &model.exact_values(), tokens).unwrap();
    table.into_iter().flatten().collect()
}

fn in_bf16(program: Program) -> Program {
    Program { compute: Compute::Bf16, ..program }
}

#[test]
fn programs_give_the_logits_of_the_reference() {
    let Some(device) = device() else { return };
    let mut interleaved = small_program();
    interleaved.rope_tables[0].pairing = RopePairing::Interleaved;
    interleaved.rope_tables[0].amplitude = 1.25;
    let read = tokens(TOKENS);
    let plain = [small_program(), interleaved, rotated_program(SMALL)];
    let int8 = [small_program(), expert_program(SMALL)].map(with_int8_inputs);
    // Not of experts: rounding chooses others.
    let bf16 = plain.clone().map(|program| (in_bf16(program), BF16_TOLERANCE));
    let both = (in_bf16(int8[0].clone()), INT8_BF16_TOLERANCE);
    let exact = plain.into_iter().chain([expert_program(SMALL)]).map(|program| (program, TOLERANCE));
    let programs = exact.chain(int8.map(|program| (program, INT8_TOLERANCE))).chain(bf16).chain([both]);
    for (index, (program, tolerance)) in programs.enumerate() {
        let model = model(program);
        let expected = expected(&model, &read);
        for max_step_tokens in [512, 5] {
            with_session(&device, &model, &options(max_step_tokens), |session| {
                let found = session.forward(&read, Logits::All).unwrap();
                let worst = difference(found, &expected);
                assert!(worst < tolerance, "program {index}, passes of {max_step_tokens}: {worst}");
                assert_eq!(session.position(), TOKENS);
                assert!(session.memory_bytes() > 0);
            });
        }
    }
}

/// Recorded launches are replayed at other positions with other tokens, and other rotary frequencies.
#[test]
fn single_tokens_give_what_the_processor_gives() {
    let Some(device) = device() else { return };
    let (processor, read) = (processor(), tokens(TOKENS));
    for program in [small_program(), expert_program(SMALL), in_bf16(rotated_program(SMALL))] {
        let tolerance = if program.compute == Compute::Bf16 { BF16_TOLERANCE } else { TOLERANCE };
        let model = model(program);
        let mut expected = Vec::new();
        with_session(&processor, &model, &options(8), |session| {
            for token in &read {
                let logits = session.forward(&[*token], Logits::Last(1)).unwrap();
                expected.push(logits.iter().copied().map(f64::from).collect::<Vec<f64>>());
            }
        });
        with_session(&device, &model, &options(8), |session| {
            for (token, expected) in read.iter().zip(&expected) {
                let worst = difference(session.forward(&[*token], Logits::Last(1)).unwrap(), expected);
                assert!(worst < tolerance, "at {}: {worst}", session.position());
            }
        });
    }
}

#[test]
fn random_programs_give_what_the_processor_gives() {
    let Some(device) = device() else { return };
    let processor = processor();
    let mut kernels = std::collections::BTreeSet::new();
    for seed in 0..RANDOM_PROGRAMS {
        let program = random_program(seed);
        kernels.extend(program.steps.iter().map(|step| step.op.kernel()));
        let (model, read) = (model(program), tokens(9));
        let mut expected = Vec::new();
        with_session(&processor, &model, &options(6), |session| {
            expected = session.forward(&read, Logits::All).unwrap().iter().copied().map(f64::from).collect();
        });
        with_session(&device, &model, &options(6), |session| {
            let worst = difference(session.forward(&read, Logits::All).unwrap(), &expected);
            assert!(worst < TOLERANCE, "program {seed}: {worst}");
        });
    }
    assert_eq!(kernels.len(), KERNELS, "{kernels:?}");
}
