//! Llamas of random sizes, compiled and run, against the equations spelled out in f64.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

use crate::support::command::{compile, ids, lathe_run, succeed};
use crate::support::files;
use crate::support::llama::{Llama, Shape, Stored};

/// Largest difference of a logit, relative to their range: f32 against f64, over widths below a hundred.
const TOLERANCE: f64 = 1e-4;

prop_compose! {
    fn shapes()(
        layers in 1usize..4,
        kv_heads in 1usize..4,
        group in 1usize..4,
        half_head in 1usize..12,
        hidden in 1usize..60,
        ffn in 1usize..80,
        vocab in 2usize..150,
        flags in proptest::array::uniform3(any::<bool>()),
        window in proptest::option::of(1usize..12),
        theta in prop_oneof![Just(10_000.0), Just(500_000.0), 2.0..1e6],
        eps in prop_oneof![Just(1e-6), Just(1e-5), Just(0.01)],
        stored in prop_oneof![Just(Stored::Bf16), Just(Stored::F16), Just(Stored::F32)],
        seed in any::<u64>(),
    ) -> Shape {
        Shape {
            layers, heads: kv_heads * group, kv_heads, head_dim: 2 * half_head, hidden, ffn, vocab,
            tied: flags[0], attention_bias: flags[1], mlp_bias: flags[2], window, theta, eps, stored, seed,
        }
    }
}

fn check(shape: Shape, tokens: &[u32]) -> Result<(), TestCaseError> {
    let folder = tempfile::tempdir().unwrap();
    let [checkpoint, out, file] = ["checkpoint", "out", "logits.safetensors"].map(|name| folder.path().join(name));
    let tokens: Vec<u32> = tokens.iter().map(|token| token % shape.vocab as u32).collect();
    let model = Llama::new(shape);
    model.write(&checkpoint);
    succeed(&mut compile("keep", &checkpoint, &out));
    succeed(lathe_run().arg("logits").arg(&out).args(["--ids", &ids(&tokens)]).arg("-o").arg(&file));

    let bytes = files::read(&file);
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let view = tensors.tensor("logits").unwrap();
    prop_assert_eq!(view.shape(), &[tokens.len(), model.shape.vocab]);
    let (elements, _) = view.data().as_chunks::<4>();
    let found: Vec<f64> = elements.iter().map(|&element| f64::from(f32::from_le_bytes(element))).collect();
    let expected = model.logits(&tokens).concat();
    let (least, most) = expected.iter().fold((f64::MAX, f64::MIN), |(low, high), &x| (low.min(x), high.max(x)));
    for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let difference = (found - expected).abs() / (most - least);
        let (row, column) = (index / model.shape.vocab, index % model.shape.vocab);
        prop_assert!(difference <= TOLERANCE, "logit {column} at token {row}: expected {expected}, found {found}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(Config {
        cases: 12,
        failure_persistence: None,
        max_shrink_iters: 100,
        rng_seed: RngSeed::Fixed(0x1a7e),
        ..Config::default()
    })]

    #[test]
    fn logits_are_those_of_the_equations(shape in shapes(), tokens in proptest::collection::vec(any::<u32>(), 1..24)) {
        check(shape, &tokens)?;
    }
}
