//! Programs give the logits of the reference, however a text is cut into calls and passes.

use lathe_kernels::cuda::ops::rotates_heads;
use lathe_kernels::rotations;
use lathe_runtime::artifact::Artifact;
use lathe_runtime::backend::Backend;
use lathe_runtime::exec::Logits;
use lathe_runtime::program::{BufferId, Compute, Op, Program, RopePairing, Rotation, RotationId};
use lathe_runtime::reference;

use crate::common::random::{KERNELS, random_program};
use crate::common::testing::{SMALL, Sizes, expert_program, rotated_program, with_int8_inputs};
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
    for (program, tolerance) in [
        (small_program(), TOLERANCE),
        (expert_program(SMALL), TOLERANCE),
        (in_bf16(rotated_program(SMALL)), BF16_TOLERANCE),
        (with_int8_inputs(small_program()), INT8_TOLERANCE),
    ] {
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

/// What kernels do not take is refused, or computed step by step.
#[test]
fn what_kernels_do_not_take_is_no_panic() {
    let Some(device) = device() else { return };
    let with_heads = |head_dim| expert_program(Sizes { head_dim, ..SMALL });
    let wide = model(with_heads(516));
    let artifact = Artifact::open(wide.path()).unwrap();
    let matrices = artifact.weights.matrices().unwrap();
    let error = device.session(&artifact.program, &matrices, &options(8)).map(drop).unwrap_err();
    assert!(error.to_string().ends_with("516 elements of a head, but the device takes at most 512"), "{error}");
    assert_eq!(device.longest_context(&artifact.program).unwrap_err().to_string(), error.to_string());

    // A base of 92 is too large for the launch that prepares heads.
    let mut program = with_heads(92);
    let rotation = RotationId(program.rotations.len() as u32);
    let built = rotations::Rotation::hadamard(92).unwrap();
    assert!(!rotates_heads(&built) && rotates_heads(&rotations::Rotation::hadamard(96).unwrap()));
    program.rotations.push(Rotation::of(&built, |_| unreachable!("no matrix")));
    let at = program.steps.iter().position(|step| matches!(step.op, Op::Attention { .. })).unwrap();
    let out = BufferId(program.buffers.len() as u32);
    let mut rotate = program.steps[at].clone();
    if let Op::Attention { q, .. } = &mut program.steps[at].op {
        program.buffers.push(program.buffers[q.index()].clone());
        rotate.op = Op::Rotate { x: std::mem::replace(q, out), rotation, inverse: false, out };
    }
    program.steps.insert(at, rotate);
    let (model, read) = (model(program), tokens(3));
    let expected = expected(&model, &read);
    with_session(&device, &model, &options(8), |session| {
        let worst = difference(session.forward(&read, Logits::All).unwrap(), &expected);
        assert!(worst < TOLERANCE, "{worst}");
    });
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
