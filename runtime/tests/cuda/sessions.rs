//! What sessions on a device do besides: steps, choices, errors.

use lathe_runtime::artifact::Artifact;
use lathe_runtime::backend::{Backend, CudaMemoryPlan, Session, StepValues};
use lathe_runtime::exec::{Choice, ExecError, Logits, Next, SessionOptions};
use lathe_runtime::program::Compute;

use crate::common::testing::{SMALL, expert_program};
use crate::common::{model, small_model, tokens};
use crate::{device, difference, options, processor, with_session};

const TOLERANCE: f64 = 2e-5;
const TOKENS: usize = 13;

/// Runs a call step by step and shows every output to `visit`, with the index of its step.
fn run_steps(session: &mut dyn Session, tokens: &[u32], mut visit: impl FnMut(usize, StepValues<'_>)) {
    let mut steps = session.steps(tokens, Logits::All).unwrap();
    while let Some(output) = steps.next().unwrap() {
        visit(output.step, output.values);
    }
}

#[test]
fn steps_are_those_of_the_processor() {
    let Some(device) = device() else { return };
    let model = model(expert_program(SMALL));
    let read = tokens(TOKENS);
    let steps = |backend: &dyn Backend| {
        let mut outputs = Vec::new();
        with_session(backend, &model, &options(5), |session| {
            run_steps(session, &read, |step, values| {
                let values = match values {
                    StepValues::Real(values) => values.iter().copied().map(f64::from).collect(),
                    StepValues::Index(values) => values.iter().copied().map(f64::from).collect::<Vec<f64>>(),
                };
                outputs.push((step, values));
            });
            assert_eq!(session.position(), TOKENS);
        });
        outputs
    };
    let (found, expected) = (steps(&device), steps(&processor()));
    assert_eq!(found.len(), expected.len());
    for ((step, found), (expected_step, expected)) in found.iter().zip(&expected) {
        assert_eq!(step, expected_step);
        let found: Vec<f32> = found.iter().map(|&value| value as f32).collect();
        let worst = difference(&found, expected);
        assert!(worst < TOLERANCE, "{}: {worst}", model.program.steps[*step].label);
    }
}

#[test]
fn what_a_caller_leaves_is_what_later_steps_read() {
    let Some(device) = device() else { return };
    let model = small_model();
    let (mut outputs, mut expected) = (Vec::new(), Vec::new());
    with_session(&device, &model, &options(512), |session| {
        run_steps(session, &tokens(TOKENS), |_, values| match values {
            StepValues::Real(values) => outputs.push(values.to_vec()),
            StepValues::Index(_) => unreachable!("a model without experts"),
        });
        expected = session.forward(&tokens(3), Logits::All).unwrap().to_vec();
    });
    with_session(&device, &model, &options(512), |session| {
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

#[test]
fn what_is_truncated_is_forgotten() {
    let Some(device) = device() else { return };
    let model = small_model();
    let read = tokens(TOKENS);
    with_session(&device, &model, &options(512), |session| {
        let whole = session.forward(&read, Logits::All).unwrap().to_vec();
        session.truncate(6);
        assert_eq!(session.position(), 6);
        session.forward(&[5; 4], Logits::Last(1)).unwrap();
        session.truncate(6);
        let mut steps = session.steps(&[3; 5], Logits::All).unwrap();
        assert!(steps.next().unwrap().is_some());
        drop(steps);
        assert_eq!(session.position(), 6);
        assert!(session.forward(&read[6..9], Logits::Last(0)).unwrap().is_empty());
        let vocabulary = SMALL.vocabulary as usize;
        let expected: Vec<f64> = whole[10 * vocabulary..].iter().copied().map(f64::from).collect();
        let found = session.forward(&read[9..], Logits::Last(3)).unwrap();
        assert!(difference(found, &expected) < TOLERANCE);
    });
}

/// The likeliest token of each position, by a device that chooses it and by the caller.
#[test]
fn the_device_chooses_as_the_processor_does() {
    let Some(device) = device() else { return };
    let model = small_model();
    let manners = [(0.0, None, None), (0.8, Some(5), None), (1.3, None, Some(0.7)), (0.9, Some(12), Some(0.9))];
    for (temperature, top_k, top_p) in manners {
        let choices = (0..9).map(|index| Choice { temperature, top_k, top_p, uniform: f64::from(index * 5 % 9) / 9.0 });
        let choices: Vec<Choice> = choices.collect();
        let mut read = tokens(4);
        let mut device_tokens = Vec::new();
        with_session(&device, &model, &options(512), |session| {
            for choice in &choices {
                let Next::Token(token) = session.next(&read[session.position()..], choice).unwrap() else {
                    panic!("the device leaves the choice to the caller");
                };
                read.push(token);
                device_tokens.push(token);
            }
        });
        let mut read = tokens(4);
        with_session(&processor(), &model, &options(512), |session| {
            for (choice, &token) in choices.iter().zip(&device_tokens) {
                let Next::Logits(logits) = session.next(&read[session.position()..], choice).unwrap() else {
                    panic!("the processor chooses no token");
                };
                assert_eq!(chosen(logits, choice), token, "{choice:?}");
                read.push(token);
            }
        });
    }
}

/// The token that a choice makes of logits.
fn chosen(logits: &[f32], choice: &Choice) -> u32 {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
    if choice.temperature == 0.0 {
        return order[0] as u32;
    }
    let weight = |&token: &usize| f64::from((logits[token] - logits[order[0]]) / choice.temperature).exp();
    let mut kept: Vec<(usize, f64)> = order.iter().map(|token| (*token, weight(token))).collect();
    kept.truncate(choice.top_k.unwrap_or(usize::MAX));
    if let Some(p) = choice.top_p {
        let total: f64 = kept.iter().map(|token| token.1).sum();
        let mut sum = 0.0;
        let reached = kept.iter().position(|token| {
            sum += token.1;
            sum >= f64::from(p) * total
        });
        kept.truncate(reached.map_or(kept.len(), |last| last + 1));
    }
    // Without a bound the processor goes through the tokens as they are.
    if choice.top_k.is_none() && choice.top_p.is_none() {
        kept.sort_unstable_by_key(|token| token.0);
    }
    let mut left = choice.uniform * kept.iter().map(|token| token.1).sum::<f64>();
    for &(token, weight) in &kept {
        left -= weight;
        if left < 0.0 {
            return token as u32;
        }
    }
    kept[kept.len() - 1].0 as u32
}

#[test]
fn calls_that_cannot_be_answered_change_nothing() {
    let Some(device) = device() else { return };
    let model = small_model();
    with_session(&device, &model, &SessionOptions { capacity: 8, ..options(8) }, |session| {
        assert!(matches!(session.forward(&[], Logits::All), Err(ExecError::NoTokens)));
        assert!(matches!(session.forward(&[SMALL.vocabulary], Logits::All), Err(ExecError::Token { .. })));
        assert!(matches!(session.forward(&[1; 9], Logits::Last(1)), Err(ExecError::Full { .. })));
        assert_eq!(session.position(), 0);
        session.forward(&[1; 8], Logits::Last(1)).unwrap();
    });
}

#[test]
fn what_does_not_fit_is_refused_with_what_would() {
    let Some(device) = device() else { return };
    let model = small_model();
    let artifact = Artifact::open(model.path()).unwrap();
    let matrices = artifact.weights.matrices().unwrap();
    let mut program = artifact.program.clone();
    program.max_positions = None;
    let plan = CudaMemoryPlan::new(&program);
    assert_eq!(plan.cache_per_position, 2 * 2 * 4 * 2 * u64::from(SMALL.head_dim), "two layers, f32");
    program.compute = Compute::Bf16;
    assert_eq!(CudaMemoryPlan::new(&program).cache_per_position, plan.cache_per_position / 2);
    program.compute = Compute::F32;
    assert_eq!(plan.longest_context(0), 0);
    assert_eq!(plan.longest_context(plan.bytes(0)), 0);
    let free = device.free_memory().unwrap();
    let longest = device.longest_context(&program).unwrap().unwrap();
    assert!(plan.bytes(longest) < free && longest > 100_000, "{longest}");
    let session = |capacity| {
        let options = SessionOptions { capacity, ..options(8) };
        device.session(&program, &matrices, &options).map(|session| session.memory_bytes())
    };
    // Other tests use the device meanwhile.
    assert!(session(longest / 8).unwrap() < free);
    match session(2 * longest) {
        Err(ExecError::DeviceMemory { needed, capacity, longest: fits, .. }) => {
            assert!(needed > free && capacity == 2 * longest && fits > 0, "{needed} {capacity} {fits}");
        }
        other => panic!("{other:?}"),
    }
}
