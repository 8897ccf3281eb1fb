//! Attention over caches of bf16, recorded launches, orders of threads.

use half::bf16;
use lathe_kernels::check::{AttentionCase, Forced, Implementation, Random, attention_cases, host_driver};
use lathe_kernels::cpu::Isa;
use lathe_kernels::cuda::ops::{AttentionStep, DeviceCache, Outputs};
use lathe_kernels::cuda::{Gpu, Memory, Slice};
use lathe_kernels::ops::{Accuracy, AttentionShape, accuracy};

/// What rounding a weight to bf16 adds, of the largest value.
const ROUNDED_WEIGHTS: f64 = 1.0 / 512.0;

/// Tokens up to which weights are not rounded to 8 bits.
const FEW: usize = 8;

/// Operands of a case; what lies behind the last position is NaN.
struct Operands {
    q: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    sinks: Option<Vec<f32>>,
}

impl Operands {
    /// Random values that bf16 can hold.
    fn random(random: &mut Random, case: &AttentionCase) -> Operands {
        let AttentionCase { shape, sinks, tokens, past, capacity } = *case;
        let mut values = |len: usize| -> Vec<f32> { random.values(len).into_iter().map(rounded).collect() };
        let len = shape.kv_heads * capacity * shape.head_dim;
        let q = values(tokens * shape.heads * shape.head_dim);
        let sinks = sinks.then(|| values(shape.heads).iter().map(|sink| sink * 5.0).collect());
        let mut operands = Operands { q, keys: values(len), values: values(len), sinks };
        for cache in [&mut operands.keys, &mut operands.values] {
            for head in cache.chunks_exact_mut(capacity * shape.head_dim) {
                head[(past + tokens) * shape.head_dim..].fill(f32::NAN);
            }
        }
        operands
    }

    /// Scores of 0, so that all weights are 1, and values that are small whole numbers: results are exact, and one position
    /// too many or too few is seen.
    fn counting(random: &mut Random, case: &AttentionCase) -> Operands {
        let mut operands = Operands::random(random, case);
        operands.q.fill(0.0);
        for value in &mut operands.values {
            *value = (*value * 100.0).round();
        }
        if let Some(sinks) = &mut operands.sinks {
            sinks.fill(0.0);
        }
        operands
    }

    fn expected(&self, case: &AttentionCase) -> Vec<f32> {
        let AttentionCase { shape, past, capacity, .. } = *case;
        let mut out = vec![0.0; self.q.len()];
        let scalar = Forced::on(Isa::Scalar).expect("the reference runs everywhere");
        scalar.attention(&shape, &self.q, &self.keys, &self.values, self.sinks.as_deref(), capacity, past, &mut out);
        out
    }
}

fn rounded(value: f32) -> f32 {
    bf16::from_f32(value).to_f32()
}

/// A cache that holds keys and values.
fn cache(gpu: &Gpu, shape: &AttentionShape, capacity: usize, is_bf16: bool, operands: &Operands) -> DeviceCache {
    let cache = DeviceCache::new(gpu, shape.kv_heads, shape.head_dim, capacity, is_bf16).unwrap();
    fill(gpu, &cache, operands);
    cache
}

fn fill(gpu: &Gpu, cache: &DeviceCache, operands: &Operands) {
    for (to, values) in [(cache.keys(), &operands.keys), (cache.values(), &operands.values)] {
        if cache.bf16 {
            let bits: Vec<u16> = values.iter().map(|&value| bf16::from_f32(value).to_bits()).collect();
            gpu.write(to.cast(), &bits).unwrap();
        } else {
            gpu.write(to.cast(), values).unwrap();
        }
    }
}

/// Scratch for any number of tokens.
fn scratch(gpu: &Gpu, shape: &AttentionShape, capacity: usize) -> Memory {
    gpu.upload("scratch", &vec![0.0_f32; gpu.attention_scratch(shape, capacity, capacity)]).unwrap()
}

/// What a device gives, as f32, which its bf16 form must be the rounding of.
fn on_device(gpu: &Gpu, case: &AttentionCase, is_bf16: bool, operands: &Operands) -> Vec<f32> {
    let AttentionCase { shape, tokens, past, capacity, .. } = *case;
    let cache = cache(gpu, &shape, capacity, is_bf16, operands);
    let q = gpu.upload("q", &operands.q).unwrap();
    let sinks = operands.sinks.as_ref().map(|sinks| gpu.upload("sinks", sinks).unwrap());
    let position = gpu.upload("position", &[past as u32]).unwrap();
    let scratch = scratch(gpu, &shape, capacity);
    let real = gpu.upload("out", &vec![f32::NAN; operands.q.len()]).unwrap();
    let halves = gpu.upload("out", &vec![0_u16; operands.q.len()]).unwrap();
    let step = AttentionStep {
        shape,
        q: q.slice::<f32>().range(0..operands.q.len()),
        cache: &cache,
        sinks: sinks.as_ref().map_or(Slice::NONE, Memory::slice),
        tokens,
        position: position.slice(),
        scratch: scratch.slice(),
        out: Outputs { real: real.slice(), bf16: halves.slice(), ..Outputs::NONE },
    };
    gpu.attention(&step).unwrap();
    let out = gpu.to_vec(real.slice::<f32>()).unwrap();
    for (&value, half) in out.iter().zip(gpu.to_vec(halves.slice::<u16>()).unwrap()) {
        let half = bf16::from_bits(half);
        assert!(half == bf16::from_f32(value) || half.is_nan() && value.is_nan(), "{half} for {value}");
    }
    out
}

/// `allowed` is absolute.
fn compare(case: &AttentionCase, got: &[f32], expected: &[f32], allowed: f64) {
    assert_eq!(got.len(), expected.len());
    for (i, (&got, &expected)) in got.iter().zip(expected).enumerate() {
        let error = (f64::from(got) - f64::from(expected)).abs();
        let agrees = error <= allowed || got.is_nan() && expected.is_nan();
        assert!(agrees, "{case:?}, element {i}: {got} instead of {expected}, {allowed} is allowed");
    }
}

/// As [`accuracy::ATTENTION`] where neither q nor weights are rounded to 8 bits; the terms of two bf16 are as many roundings more.
fn allowed(case: &AttentionCase) -> f64 {
    let Accuracy::Rel(relative) = accuracy::ATTENTION else { panic!("relative to a magnitude") };
    let magnitude = 1.0 + (case.shape.head_dim as f64).sqrt();
    let exact = case.tokens <= FEW || !case.shape.head_dim.is_multiple_of(8) || case.shape.head_dim > 256;
    2.0 * f64::from(relative) * magnitude + if exact { 0.0 } else { ROUNDED_WEIGHTS }
}

fn cases() -> impl Iterator<Item = AttentionCase> {
    attention_cases().into_iter().filter(|case| case.tokens > 0)
}

#[test]
fn caches_of_bf16_are_as_good_as_their_operands() {
    let Some(gpu) = super::gpu() else { return };
    let mut random = Random::new(11);
    for case in cases() {
        let operands = Operands::random(&mut random, &case);
        let got = on_device(&gpu, &case, true, &operands);
        compare(&case, &got, &operands.expected(&case), allowed(&case));
    }
}

#[test]
fn queries_see_the_positions_that_they_should() {
    let Some(gpu) = super::gpu() else { return };
    let mut random = Random::new(12);
    for case in cases().filter(|case| case.shape.softcap.is_none()) {
        let operands = Operands::counting(&mut random, &case);
        let expected = operands.expected(&case);
        for is_bf16 in [false, true] {
            compare(&case, &on_device(&gpu, &case, is_bf16, &operands), &expected, 1.0e-4);
        }
    }
}

#[test]
fn values_that_are_not_finite_are_seen_by_their_queries_only() {
    let Some(gpu) = super::gpu() else { return };
    let mut random = Random::new(13);
    let shape = AttentionShape { heads: 4, kv_heads: 2, head_dim: 16, scale: 1.0, window: Some(10), softcap: None };
    for (tokens, past) in [(30, 0), (3, 10), (70, 5)] {
        let case = AttentionCase { shape, sinks: true, tokens, past, capacity: tokens + past };
        let mut operands = Operands::random(&mut random, &case);
        for q in &mut operands.q {
            *q *= 1024.0;
        }
        operands.sinks = Some(vec![1.0e4, -1.0e4, f32::MIN, 0.0]);
        operands.values[12 * 16 + 3] = f32::NAN;
        operands.values[(case.capacity + 11) * 16 + 5] = f32::NAN;
        let expected = operands.expected(&case);
        assert!(expected.iter().any(|value| value.is_nan()) && expected.iter().any(|value| !value.is_nan()));
        for is_bf16 in [false, true] {
            // Scores of up to 16 384.
            compare(&case, &on_device(&gpu, &case, is_bf16, &operands), &expected, ROUNDED_WEIGHTS + 0.008);
        }
    }
}

#[test]
fn a_recorded_launch_holds_for_any_position() {
    let Some(gpu) = super::gpu() else { return };
    let mut random = Random::new(14);
    let capacity = 300;
    for (head_dim, window, is_bf16) in [(64, None, true), (128, Some(70), true), (20, None, false), (12, Some(1), true)]
    {
        let shape = AttentionShape { heads: 6, kv_heads: 2, head_dim, scale: 0.2, window, softcap: None };
        let width = shape.heads * head_dim;
        let cache = DeviceCache::new(&gpu, shape.kv_heads, head_dim, capacity, is_bf16).unwrap();
        let scratch = scratch(&gpu, &shape, capacity);
        let [q, out] = [0, 1].map(|_| gpu.upload("a token", &vec![0.0_f32; width]).unwrap());
        let position = gpu.upload("position", &[0_u32]).unwrap();
        let step = AttentionStep {
            shape,
            q: q.slice(),
            cache: &cache,
            sinks: Slice::NONE,
            tokens: 1,
            position: position.slice(),
            scratch: scratch.slice(),
            out: Outputs::real(out.slice()),
        };
        gpu.attention(&step).unwrap();
        let graph = gpu.record(|| gpu.attention(&step)).unwrap();
        for past in [0, 1, 62, 63, 64, 65, 128, 200, 299] {
            let case = AttentionCase { shape, sinks: false, tokens: 1, past, capacity };
            let operands = Operands::random(&mut random, &case);
            fill(&gpu, &cache, &operands);
            gpu.write(q.slice(), &operands.q).unwrap();
            gpu.write(position.slice(), &[past as u32]).unwrap();
            gpu.replay(&graph).unwrap();
            let got = gpu.to_vec(out.slice::<f32>()).unwrap();
            compare(&case, &got, &operands.expected(&case), allowed(&case));
            // The same bits again: the order in which blocks end does not count.
            gpu.replay(&graph).unwrap();
            assert_eq!(got, gpu.to_vec(out.slice::<f32>()).unwrap());
        }
    }
}

#[test]
fn the_order_of_threads_does_not_count() {
    if std::env::var_os("LATHE_TEST_CUDA").is_some() {
        return;
    }
    let Some(gpu) = super::gpu() else { return };
    let mut random = Random::new(15);
    let shape =
        |head_dim, window| AttentionShape { heads: 4, kv_heads: 1, head_dim, scale: 0.2, window, softcap: None };
    for (head_dim, window, tokens) in
        [(80, None, 2), (64, Some(50), 20), (16, None, 20), (130, None, 18), (20, None, 2)]
    {
        let case = AttentionCase { shape: shape(head_dim, window), sinks: false, tokens, past: 150, capacity: 180 };
        let operands = Operands::random(&mut random, &case);
        for is_bf16 in [false, true] {
            let first = on_device(&gpu, &case, is_bf16, &operands);
            for schedule in [c"greedy-reverse", c"reverse", c"random:3"] {
                host_driver::set_schedule(schedule);
                assert_eq!(first, on_device(&gpu, &case, is_bf16, &operands), "{case:?}, {schedule:?}");
            }
            host_driver::set_schedule(c"greedy-forward");
        }
    }
}
