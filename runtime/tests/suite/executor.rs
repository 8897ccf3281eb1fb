//! The executor computes what the reference says, however a sequence is cut into calls and passes.

use lathe_runtime::artifact::Artifact;
use lathe_runtime::backend::{Backend, CpuBackend, Session, StepValues};
use lathe_runtime::exec::{ExecError, Logits, SessionOptions};
use lathe_runtime::program::{Op, RopePairing};
use lathe_runtime::reference;

use crate::common::testing::{SMALL, expert_program, with_int8_inputs};
use crate::common::{SmallModel, model, small_model, small_program, tokens};

/// Largest difference of a logit between f32 and f64, relative to the largest logit: 38 steps of sums of at most 40
/// products, each good to some 1e-7.
const TOLERANCE: f64 = 2e-5;

pub(crate) const TOKENS: usize = 23;

pub(crate) fn options(max_step_tokens: usize) -> SessionOptions {
    SessionOptions { capacity: 40, max_step_tokens, max_logits: 40, min_positions: 0 }
}

/// Largest difference of a logit, relative to the largest logit.
fn difference(found: &[f32], expected: &[Vec<f64>]) -> f64 {
    let expected: Vec<f64> = expected.iter().flatten().copied().collect();
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0f64, |largest, logit| largest.max(logit.abs()));
    found
        .iter()
        .zip(&expected)
        .fold(0.0, |worst, (&found, expected)| f64::max(worst, (f64::from(found) - expected).abs() / largest))
}

pub(crate) fn assert_close(found: &[f32], expected: &[Vec<f64>]) {
    let expected: Vec<f64> = expected.iter().flatten().copied().collect();
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0f64, |largest, logit| largest.max(logit.abs()));
    assert!(largest > 0.5, "the model says nothing: {largest}");
    for (index, (&found, expected)) in found.iter().zip(expected).enumerate() {
        let difference = (f64::from(found) - expected).abs() / largest;
        assert!(difference < TOLERANCE, "logit {index}: {found}, expected {expected}");
    }
}

/// The logits of all tokens.
pub(crate) fn expected_logits(model: &SmallModel, tokens: &[u32]) -> reference::Table {
    reference::logits(&model.program, &model.exact_values(), tokens).unwrap()
}

/// Opens the model and makes a session on two threads.
pub(crate) fn with_session(model: &SmallModel, options: &SessionOptions, test: impl FnOnce(&mut dyn Session)) {
    let artifact = Artifact::open(model.path()).unwrap();
    let matrices = artifact.weights.matrices().unwrap();
    let backend = CpuBackend::new(2).unwrap();
    let mut session = backend.session(&artifact.program, &matrices, options).unwrap();
    test(&mut *session);
}

#[test]
fn one_pass_gives_the_logits_of_the_reference() {
    let model = small_model();
    let expected = expected_logits(&model, &tokens(TOKENS));
    with_session(&model, &options(512), |session| {
        assert_close(session.forward(&tokens(TOKENS), Logits::All).unwrap(), &expected);
        assert_eq!(session.position(), TOKENS);
        assert!(session.memory_bytes() > 0);
    });
}

#[test]
fn interleaved_rotation_gives_the_logits_of_the_reference() {
    let mut model = small_model();
    model.program.rope_tables[0].pairing = RopePairing::Interleaved;
    model.program.rope_tables[0].amplitude = 1.25;
    std::fs::write(model.path().join("program.json"), model.program.to_json().unwrap()).unwrap();
    let expected = expected_logits(&model, &tokens(TOKENS));
    with_session(&model, &options(512), |session| {
        assert_close(session.forward(&tokens(TOKENS), Logits::All).unwrap(), &expected);
    });
}

/// Largest difference of a logit where x is rounded: f32 and f64 disagree about which integer is the nearest to few elements,
/// each a step apart.
const ROUNDED_TOLERANCE: f64 = 2e-3;

#[test]
fn products_of_int8_give_the_logits_of_the_reference() {
    for plain in [small_program(), expert_program(SMALL)] {
        let mut model = model(with_int8_inputs(plain));
        let expected = expected_logits(&model, &tokens(TOKENS));
        let mut found = Vec::new();
        with_session(&model, &options(512), |session| {
            found = session.forward(&tokens(TOKENS), Logits::All).unwrap().to_vec();
        });
        assert!(difference(&found, &expected) < ROUNDED_TOLERANCE, "{}", difference(&found, &expected));
        with_session(&model, &options(7), |session| {
            let found = session.forward(&tokens(TOKENS), Logits::All).unwrap();
            assert!(difference(found, &expected) < ROUNDED_TOLERANCE, "{}", difference(found, &expected));
        });
        // Weights of the same values whose x is not rounded give something else.
        for step in &mut model.program.steps {
            if let Op::MatMul { input, .. } | Op::ExpertMatMul { input, .. } = &mut step.op {
                *input = None;
            }
        }
        let exact = expected_logits(&model, &tokens(TOKENS));
        assert!(difference(&found, &exact) > 2.0 * ROUNDED_TOLERANCE, "{}", difference(&found, &exact));
    }
}

#[test]
fn passes_and_single_tokens_give_the_same_logits() {
    let model = small_model();
    let expected = expected_logits(&model, &tokens(TOKENS));
    for max_step_tokens in [1, 2, 7, 22, 23, 24] {
        with_session(&model, &options(max_step_tokens), |session| {
            assert_close(session.forward(&tokens(TOKENS), Logits::All).unwrap(), &expected);
        });
    }
    with_session(&model, &options(8), |session| {
        for (token, expected) in tokens(TOKENS).iter().zip(&expected) {
            let logits = session.forward(&[*token], Logits::Last(1)).unwrap();
            assert_close(logits, std::slice::from_ref(expected));
        }
    });
}

#[test]
fn the_last_rows_are_the_ones_asked_for() {
    let model = small_model();
    let expected = expected_logits(&model, &tokens(TOKENS));
    for count in [0, 1, 5, 9, TOKENS, 100] {
        with_session(&model, &options(4), |session| {
            let logits = session.forward(&tokens(TOKENS), Logits::Last(count)).unwrap();
            let rows = count.min(TOKENS);
            assert_eq!(logits.len(), rows * SMALL.vocabulary as usize);
            if rows > 0 {
                assert_close(logits, &expected[TOKENS - rows..]);
            }
        });
    }
}

#[test]
fn what_is_truncated_is_forgotten() {
    let model = small_model();
    let expected = expected_logits(&model, &tokens(TOKENS));
    with_session(&model, &options(512), |session| {
        session.forward(&tokens(TOKENS)[..10], Logits::Last(1)).unwrap();
        session.forward(&[5; 9], Logits::Last(1)).unwrap();
        session.truncate(100);
        assert_eq!(session.position(), 19);
        session.truncate(10);
        assert_eq!(session.position(), 10);
        assert_close(session.forward(&tokens(TOKENS)[10..], Logits::All).unwrap(), &expected[10..]);
        session.truncate(0);
        assert_close(session.forward(&tokens(TOKENS), Logits::All).unwrap(), &expected);
    });
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let model = small_model();
    let artifact = Artifact::open(model.path()).unwrap();
    let matrices = artifact.weights.matrices().unwrap();
    let run = |threads: usize| -> Vec<u32> {
        let backend = CpuBackend::new(threads).unwrap();
        let mut session = backend.session(&artifact.program, &matrices, &options(512)).unwrap();
        let logits = session.forward(&tokens(TOKENS), Logits::All).unwrap();
        logits.iter().map(|logit| logit.to_bits()).collect()
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn calls_that_cannot_be_answered_change_nothing() {
    let model = small_model();
    let expected = expected_logits(&model, &tokens(TOKENS));
    let options = SessionOptions { capacity: TOKENS, max_step_tokens: 8, max_logits: 13, min_positions: 0 };
    with_session(&model, &options, |session| {
        session.forward(&tokens(TOKENS)[..10], Logits::Last(0)).unwrap();
        let mut error = |tokens: &[u32], logits| session.forward(tokens, logits).unwrap_err();
        assert!(matches!(error(&[], Logits::All), ExecError::NoTokens));
        let unknown = error(&[1, SMALL.vocabulary], Logits::All);
        assert_eq!(unknown.to_string(), "token 37 at index 1 is not below the vocabulary's 37");
        let full = error(&[1; TOKENS - 9], Logits::Last(1));
        assert_eq!(full.to_string(), "14 tokens after 10 positions, but the session holds 23");
        session.truncate(9);
        let rows = session.forward(&[1; 14], Logits::All).unwrap_err();
        assert_eq!(rows.to_string(), "14 rows of logits, but the session was made for 13");
        session.forward(&tokens(TOKENS)[9..10], Logits::Last(0)).unwrap();
        assert_close(session.forward(&tokens(TOKENS)[10..], Logits::All).unwrap(), &expected[10..]);
        assert!(matches!(session.forward(&[1], Logits::All), Err(ExecError::Full { .. })));
    });
}

#[test]
fn sessions_that_cannot_be_made_are_errors() {
    let model = small_model();
    let artifact = Artifact::open(model.path()).unwrap();
    let matrices = artifact.weights.matrices().unwrap();
    let backend = CpuBackend::new(1).unwrap();
    let good = options(8);
    let error = |options: &SessionOptions| match backend.session(&artifact.program, &matrices, options) {
        Ok(_) => panic!("a session"),
        Err(error) => error.to_string(),
    };
    assert_eq!(error(&SessionOptions { capacity: 0, ..good }), "capacity is 0, expected at least 1");
    assert_eq!(error(&SessionOptions { max_step_tokens: 0, ..good }), "max_step_tokens is 0, expected at least 1");
    assert_eq!(error(&SessionOptions { max_logits: 0, ..good }), "max_logits is 0, expected at least 1");
    assert_eq!(error(&SessionOptions { capacity: 65, ..good }), "65 positions, but the model was made for 64");

    let mut program = artifact.program.clone();
    program.max_positions = None;
    let huge = SessionOptions { capacity: usize::MAX, ..good };
    let result = backend.session(&program, &matrices, &huge);
    assert!(matches!(result.err(), Some(ExecError::MaxPositions { .. })));
    let huge =
        SessionOptions { capacity: u32::MAX as usize, max_step_tokens: usize::MAX, max_logits: usize::MAX, ..good };
    assert!(matches!(backend.session(&program, &matrices, &huge).err(), Some(ExecError::Memory { .. })));

    let missing = backend.session(&program, &matrices[1..], &good);
    assert!(matches!(missing.err(), Some(ExecError::WeightCount { found: 25, expected: 26 })));
    let mut swapped = matrices.clone();
    swapped.swap(0, 1);
    let error = backend.session(&program, &swapped, &good).err().unwrap().to_string();
    assert_eq!(error, "weight `embed.weight` is f16[1, 24], expected bf16 [37, 24]");
    program.steps.swap(0, 1);
    assert!(matches!(backend.session(&program, &matrices, &good).err(), Some(ExecError::Program(_))));
}

/// Runs a call step by step and shows every output to `visit`, with the index of its step.
fn run_steps(session: &mut dyn Session, tokens: &[u32], mut visit: impl FnMut(usize, StepValues<'_>)) {
    let mut steps = session.steps(tokens, Logits::All).unwrap();
    while let Some(output) = steps.next().unwrap() {
        visit(output.step, output.values);
    }
}

#[test]
fn steps_are_those_of_a_call() {
    let model = small_model();
    let last = model.program.steps.len() - 1;
    assert_eq!(model.program.steps[last].op.out(), model.program.output);
    let read = tokens(TOKENS);
    for max_step_tokens in [5, 512] {
        let (mut expected, mut found, mut order) = (Vec::new(), Vec::new(), Vec::new());
        with_session(&model, &options(max_step_tokens), |session| {
            session.forward(&read[..9], Logits::Last(0)).unwrap();
            expected = session.forward(&read[9..], Logits::All).unwrap().to_vec();
        });
        with_session(&model, &options(max_step_tokens), |session| {
            session.forward(&read[..9], Logits::Last(0)).unwrap();
            run_steps(session, &read[9..], |step, values| {
                order.push(step);
                if let (true, StepValues::Real(logits)) = (step == last, values) {
                    found.extend_from_slice(logits);
                }
            });
            assert_eq!(session.position(), TOKENS);
        });
        assert_eq!(found, expected);
        let passes = (TOKENS - 9).div_ceil(max_step_tokens);
        assert_eq!(order, (0..passes).flat_map(|_| 0..=last).collect::<Vec<_>>());
    }
}

#[test]
fn a_call_that_is_not_finished_has_read_nothing() {
    let model = small_model();
    let expected = expected_logits(&model, &tokens(TOKENS));
    with_session(&model, &options(8), |session| {
        let mut steps = session.steps(&[3; 20], Logits::All).unwrap();
        for _ in 0..50 {
            assert!(steps.next().unwrap().is_some());
        }
        drop(steps);
        assert_eq!(session.position(), 0);
        assert!(matches!(session.steps(&[], Logits::All), Err(ExecError::NoTokens)));
        assert_close(session.forward(&tokens(TOKENS), Logits::All).unwrap(), &expected);
    });
}

#[test]
fn what_a_caller_leaves_is_what_later_steps_read() {
    let model = small_model();
    let mut outputs = Vec::new();
    let mut expected = Vec::new();
    with_session(&model, &options(512), |session| {
        run_steps(session, &tokens(TOKENS), |_, values| match values {
            StepValues::Real(values) => outputs.push(values.to_vec()),
            StepValues::Index(_) => unreachable!("a model without experts"),
        });
        expected = session.forward(&tokens(3), Logits::All).unwrap().to_vec();
    });
    with_session(&model, &options(512), |session| {
        run_steps(session, &[7; TOKENS], |step, values| {
            if let StepValues::Real(values) = values {
                if step > 0 {
                    assert_eq!(values, outputs[step], "step {step} is given what the other session had");
                }
                values.copy_from_slice(&outputs[step]);
            }
        });
        assert_eq!(session.forward(&tokens(3), Logits::All).unwrap(), expected);
    });
}
