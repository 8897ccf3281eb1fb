//! Experts, positions from a table, and rotary frequencies that depend on the length of the text.

use std::fs;

use lathe_runtime::exec::{Logits, SessionOptions};
use lathe_runtime::program::RopeGrowth;
use lathe_runtime::reference;
use safetensors::SafeTensors;

use crate::common::testing::{CHOSEN, EXPERTS, SMALL, SWITCH_POSITIONS, expert_program};
use crate::common::{SmallModel, model, small_program, tokens};
use crate::executor::{TOKENS, assert_close, expected_logits, options, with_session};

const SWITCH: usize = SWITCH_POSITIONS as usize;

fn expert_model() -> SmallModel {
    model(expert_program(SMALL))
}

/// The logits of the last token of a text that was read token by token from position `read_at_once` on, and
/// up to there at once.
fn last_logits(model: &SmallModel, tokens: &[u32], read_at_once: usize) -> Vec<Vec<f64>> {
    let lengths: Vec<usize> = (1..=tokens.len()).map(|length| length.max(read_at_once)).collect();
    let logits = reference::logits_in_calls(&model.program, &model.exact_values(), tokens, &lengths);
    logits.unwrap().split_off(tokens.len() - 1)
}

#[test]
fn passes_give_the_logits_of_the_reference() {
    let model = expert_model();
    for text in [tokens(TOKENS), tokens(SWITCH), tokens(1)] {
        let expected = expected_logits(&model, &text);
        for max_step_tokens in [1, 3, 512] {
            with_session(&model, &options(max_step_tokens), |session| {
                assert_close(session.forward(&text, Logits::All).unwrap(), &expected);
            });
        }
    }
}

#[test]
fn a_text_that_grows_past_a_switch_is_read_anew() {
    let (model, tokens) = (expert_model(), tokens(TOKENS));
    with_session(&model, &options(5), |session| {
        for end in 1..=TOKENS {
            let logits = session.forward(&tokens[end - 1..end], Logits::Last(1)).unwrap();
            // The token behind the last position of the first frequencies brings all others back.
            let read_at_once = if end > SWITCH { SWITCH + 1 } else { 1 };
            assert_close(logits, &last_logits(&model, &tokens[..end], read_at_once));
            assert_eq!(session.position(), end);
        }
        session.truncate(5);
        let logits = session.forward(&tokens[5..6], Logits::Last(1)).unwrap();
        assert_close(logits, &last_logits(&model, &tokens[..6], 6));
        session.truncate(0);
        let logits = session.forward(&tokens, Logits::All).unwrap();
        assert_close(logits, &expected_logits(&model, &tokens));
    });
}

#[test]
fn a_failed_call_does_not_switch() {
    let (model, tokens) = (expert_model(), tokens(TOKENS));
    with_session(&model, &options(8), |session| {
        session.forward(&tokens[..SWITCH - 1], Logits::Last(1)).unwrap();
        session.forward(&[SMALL.vocabulary; 4], Logits::Last(1)).unwrap_err();
        let logits = session.forward(&tokens[SWITCH - 1..SWITCH], Logits::Last(1)).unwrap();
        assert_close(logits, &last_logits(&model, &tokens[..SWITCH], SWITCH - 1));
    });
}

#[test]
fn a_text_of_known_length_may_be_read_in_parts() {
    let (model, tokens) = (expert_model(), tokens(TOKENS));
    let expected = expected_logits(&model, &tokens);
    let options = SessionOptions { min_positions: TOKENS, ..options(8) };
    with_session(&model, &options, |session| {
        for (part, expected) in tokens.chunks(7).zip(expected.chunks(7)) {
            assert_close(session.forward(part, Logits::All).unwrap(), expected);
        }
    });
}

#[test]
fn a_program_that_only_switches_is_as_the_whole_text() {
    let mut program = small_program();
    let frequencies = vec![0.9, 0.7, 0.5, 0.3];
    program.rope_tables[0].growth = Some(RopeGrowth::Switch { positions: 9, inverse_frequencies: frequencies });
    let (model, tokens) = (model(program), tokens(TOKENS));
    with_session(&model, &options(4), |session| {
        for (start, end) in [(0, 6), (6, 9), (9, 10), (10, 17), (17, TOKENS)] {
            let logits = session.forward(&tokens[start..end], Logits::Last(1)).unwrap();
            let expected = expected_logits(&model, &tokens[..end]).split_off(end - 1);
            assert_close(logits, &expected);
        }
    });
}

/// Every matrix of an expert that was not chosen may hold anything.
#[test]
fn only_chosen_experts_are_read() {
    let model = expert_model();
    let file = fs::read(model.weight_file()).unwrap();
    let logits = || {
        let mut found = Vec::new();
        with_session(&model, &options(8), |session| {
            found = session.forward(&[7], Logits::Last(1)).unwrap().to_vec();
        });
        found
    };
    let expected = logits();
    for layer in 0..2 {
        for projection in ["up", "gate", "down"] {
            let is_unused = |expert: &u32| {
                let mut poisoned = file.clone();
                let tensor = SafeTensors::deserialize(&file)
                    .unwrap()
                    .tensor(&format!("layers.{layer}.mlp.{projection}.{expert}.weight"))
                    .unwrap();
                let start = tensor.data().as_ptr().addr() - file.as_ptr().addr();
                poisoned[start..start + tensor.data().len()].fill(0xff);
                fs::write(model.weight_file(), poisoned).unwrap();
                let logits = logits();
                assert!(logits == expected || logits.iter().all(|logit| logit.is_nan()));
                logits == expected
            };
            assert_eq!((0..EXPERTS).filter(is_unused).count(), (EXPERTS - CHOSEN) as usize);
        }
    }
}
