//! Folded weights against dense matrices that are made here, from the checkpoint and what the program or plan states.

use lathe_compiler::ir::Basis;
use lathe_compiler::model::Checkpoint;
use lathe_kernels::formats::Matrix;
use lathe_kernels::rotations::{Construction, Rotation};

use super::{prepared, spec_of};
use crate::support::compiler::open;
use crate::support::{exact, model};

/// A stored tensor, row-major.
fn stored(checkpoint: &Checkpoint, name: &str) -> (Vec<f64>, usize) {
    let tensor = checkpoint.tensor(checkpoint.find(name).unwrap_or_else(|| panic!("no tensor {name}")));
    let bytes = crate::support::files::read(&checkpoint.files[tensor.file]);
    let bytes = &bytes[tensor.offset as usize..][..tensor.bytes as usize];
    let columns = *tensor.shape.last().expect("tensors have dimensions") as usize;
    let rows = tensor.shape.iter().product::<u64>() as usize / columns;
    let format = tensor.stored_dtype().expect("tensors of the tests are real").format();
    let matrix = Matrix::new(format, rows, columns, &[bytes]).expect("headers of the tests are right");
    let mut values = vec![0.0_f32; rows * columns];
    for (row, out) in values.chunks_exact_mut(columns).enumerate() {
        matrix.decode_row(row, out);
    }
    (values.into_iter().map(f64::from).collect(), columns)
}

/// Q `[width, width]` from the entries of its Hadamard matrix and its signs.
fn dense(rotation: &Rotation) -> Vec<f64> {
    let lathe_kernels::rotations::Kind::Hadamard { construction, signs } = rotation.kind() else {
        panic!("a Hadamard matrix was asked for");
    };
    // As a reader of the program would: from the text.
    let construction: Construction = construction.to_string().parse().expect("constructions read back");
    let width = construction.order();
    let sign = |row: usize| if signs.as_ref().is_some_and(|signs| signs[row]) { -1.0 } else { 1.0 };
    let entry = |at: usize| {
        let (i, j) = (at / width, at % width);
        sign(i) * f64::from(construction.entry(i, j)) / (width as f64).sqrt()
    };
    (0..width * width).map(entry).collect()
}

/// A B for A `[rows, inner]` and B `[inner, columns]`.
fn times(a: &[f64], b: &[f64], inner: usize) -> Vec<f64> {
    let columns = b.len() / inner;
    let row = |row: &[f64]| -> Vec<f64> {
        (0..columns).map(|column| (0..inner).map(|k| row[k] * b[k * columns + column]).sum()).collect()
    };
    a.chunks_exact(inner).flat_map(row).collect()
}

fn transposed(a: &[f64], columns: usize) -> Vec<f64> {
    let rows = a.len() / columns;
    (0..a.len()).map(|at| a[at % rows * columns + at / rows]).collect()
}

/// I ⊗ Q, `blocks` times.
fn repeated(q: &[f64], width: usize, blocks: usize) -> Vec<f64> {
    let size = width * blocks;
    let entry = |at: usize| {
        let (i, j) = (at / size, at % size);
        if i / width == j / width { q[i % width * width + j % width] } else { 0.0 }
    };
    (0..size * size).map(entry).collect()
}

#[test]
fn folded_weights_are_products_of_dense_matrices() {
    for name in ["micro-llama", "tiny-qwen3"] {
        let folder = model(name);
        let checkpoint = open(&folder);
        let prepared = prepared(&spec_of(0b1111, ""), &folder);
        let lowered = &prepared.lowered;
        let weights = exact::weights(lowered, &checkpoint, &prepared.reader);
        let rotation = |by: &str, width: Option<usize>| {
            let found =
                prepared.graph.rotations().iter().position(|rotation| {
                    rotation.name == by && width.is_none_or(|width| rotation.width == width as u64)
                });
            let found = found.unwrap_or_else(|| panic!("no rotation {by}"));
            assert!(matches!(prepared.graph.rotations()[found].basis, Basis::Hadamard { .. }));
            dense(&lowered.rotations[found])
        };
        let (embedding, d) = stored(&checkpoint, "model.embed_tokens.weight");
        let layer = "model.layers.1";
        let gain = |norm: &str| stored(&checkpoint, &format!("{layer}.{norm}.weight")).0;
        let (down, hidden) = stored(&checkpoint, &format!("{layer}.mlp.down_proj.weight"));
        let head_dim = prepared.lowered.program.caches[0].head_dim as usize;
        let residual = rotation("random_hadamard(seed: 7)", Some(d));
        let value = rotation("hadamard", Some(head_dim));
        let ffn = rotation("hadamard", Some(hidden));
        let scaled = |values: &[f64], gain: &[f64]| -> Vec<f64> {
            values.chunks_exact(gain.len()).flat_map(|row| row.iter().zip(gain).map(|(a, b)| a * b)).collect()
        };
        let (q, _) = stored(&checkpoint, &format!("{layer}.self_attn.q_proj.weight"));
        let (o, attended) = stored(&checkpoint, &format!("{layer}.self_attn.o_proj.weight"));
        let heads = repeated(&value, head_dim, attended / head_dim);
        let expected = [
            ("model.embed_tokens.weight".to_owned(), times(&embedding, &residual, d)),
            (format!("{layer}.self_attn.q_proj.weight"), times(&scaled(&q, &gain("input_layernorm")), &residual, d)),
            // Q1ᵀ W (I ⊗ Q2), and Q1ᵀ W Q4.
            (
                format!("{layer}.self_attn.o_proj.weight"),
                times(&transposed(&residual, d), &times(&o, &heads, attended), d),
            ),
            (format!("{layer}.mlp.down_proj.weight"), times(&transposed(&residual, d), &times(&down, &ffn, hidden), d)),
        ];
        for (weight, expected) in expected {
            let at = lowered.recipes.iter().position(|recipe| recipe.name == weight);
            let found = &weights[at.unwrap_or_else(|| panic!("no weight {weight}"))];
            let distance = exact::distance(found, &expected);
            assert!(distance <= 1e-12, "{name} {weight}: {distance:.1e} of the range");
            let unrotated = stored(&checkpoint, &weight).0;
            assert!(exact::distance(found, &unrotated) > 1e-2, "{name} {weight} is as it was");
        }
    }
}
