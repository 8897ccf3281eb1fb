//! Rotations of every kind, and what centres along vectors.

use std::fs;

use lathe_kernels::rotations::Rotation;
use lathe_runtime::artifact::Artifact;
use lathe_runtime::backend::{Backend, CpuBackend};
use lathe_runtime::exec::Logits;
use lathe_runtime::program::{self, Op, Rows};
use lathe_runtime::reference;

use crate::common::testing::{Builder, SMALL, rotated_program};
use crate::common::{model, tokens};
use crate::executor::{TOKENS, assert_close, expected_logits, options, with_session};

#[test]
fn rotations_give_the_logits_of_the_reference() {
    let (model, tokens) = (model(rotated_program(SMALL)), tokens(TOKENS));
    let expected = expected_logits(&model, &tokens);
    for max_step_tokens in [1, 7, 512] {
        with_session(&model, &options(max_step_tokens), |session| {
            assert_close(session.forward(&tokens, Logits::All).unwrap(), &expected);
        });
    }
}

/// A rotation and its inverse leave the model what it is, but for rounding.
#[test]
fn what_is_rotated_back_is_as_it_was() {
    let logits = |rotated: bool| {
        let mut builder = Builder::new(SMALL);
        let table = builder.weight("embed", "f32", &[SMALL.vocabulary, 24]);
        let mut x = builder.embed("embed", table, 24);
        if rotated {
            for rotation in [Rotation::random_hadamard(12, 3), Rotation::orthogonal(8, 1)] {
                let rotation = builder.rotation(&rotation.unwrap());
                x = builder.rotate("there", x, rotation, false);
                x = builder.rotate("back", x, rotation, true);
            }
        }
        let x = builder.step("select", Rows::Selected, 24, |out| Op::Select { x, out });
        let head = |out| Op::MatMul { x, input: None, weight: table, bias: None, out };
        builder.program.output = builder.step("head", Rows::Selected, SMALL.vocabulary, head);
        expected_logits(&model(builder.program), &tokens(TOKENS))
    };
    for (found, expected) in logits(true).iter().flatten().zip(logits(false).iter().flatten()) {
        assert!((found - expected).abs() < 1e-12, "{found}, expected {expected}");
    }
}

#[test]
fn a_matrix_that_is_not_orthogonal_is_refused() {
    let model = model(rotated_program(SMALL));
    let mut file = fs::read(model.weight_file()).unwrap();
    let matrix = safetensors::SafeTensors::deserialize(&file).unwrap().tensor("basis").unwrap().data().as_ptr().addr();
    let start = matrix - file.as_ptr().addr();
    file[start..start + 4].copy_from_slice(&2.0f32.to_le_bytes());
    fs::write(model.weight_file(), file).unwrap();
    let artifact = Artifact::open(model.path()).unwrap();
    let matrices = artifact.weights.matrices().unwrap();
    let error = CpuBackend::new(1).unwrap().session(&artifact.program, &matrices, &options(4)).err().unwrap();
    assert!(error.to_string().starts_with("rotation 3: Q Qᵀ differs from the identity by "), "{error}");
}

/// A random orthogonal matrix takes memory that grows with the square of its width.
#[test]
fn memory_of_rotations_is_counted() {
    let bytes = |width: u32| {
        let mut program = rotated_program(SMALL);
        let orthogonal = |rotation: &&mut program::Rotation| matches!(rotation, program::Rotation::Orthogonal { .. });
        let rotation = program.rotations.iter_mut().find(orthogonal).expect("the program has one");
        *rotation = program::Rotation::Orthogonal { width, seed: 1 };
        let (model, mut bytes) = (model(program), 0);
        with_session(&model, &options(4), |session| bytes = session.memory_bytes());
        bytes
    };
    let hidden = SMALL.hidden;
    assert!(bytes(hidden) >= bytes(2) + 2 * u64::from(hidden - 2) * u64::from(hidden));
}

#[test]
fn the_reference_refuses_what_is_not_of_the_program() {
    let model = model(rotated_program(SMALL));
    let values = model.exact_values();
    let error = |values: &[Vec<f64>], tokens: &[u32]| {
        reference::logits(&model.program, values, tokens).unwrap_err().to_string()
    };
    assert_eq!(error(&values[1..], &[1]), format!("{} weights, expected {}", values.len() - 1, values.len()));
    assert_eq!(error(&values, &[1, 37]), "token 37 at index 1 is not below the vocabulary's 37");
    assert_eq!(error(&values, &[]), "no tokens");
    assert_eq!(error(&values, &[1; 65]), "65 positions, but the model was made for 64");
    let mut short = values.clone();
    short[0].pop();
    assert_eq!(error(&short, &[1]), "weight `basis` is 63 values, expected [8, 8]");
    let mut skewed = values.clone();
    skewed[0][0] += 1.0;
    assert!(error(&skewed, &[1]).starts_with("rotation 3: Q Qᵀ differs"), "{}", error(&skewed, &[1]));
    let mut invalid = model.program.clone();
    invalid.steps.clear();
    assert!(reference::logits(&invalid, &values, &[1]).is_err());
}
