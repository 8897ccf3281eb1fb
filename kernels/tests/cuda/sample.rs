//! Choosing tokens, against the sampler of the runtime, whose steps are written down here once more.

use lathe_kernels::check::Random;
use lathe_kernels::cuda::ops::{SAMPLE_SCRATCH_BYTES, SampleStep};
use lathe_kernels::cuda::{Gpu, Memory};

#[derive(Debug, Clone, Copy)]
struct Options {
    temperature: f32,
    top_k: Option<u32>,
    top_p: Option<f32>,
}

const GREEDY: Options = Options { temperature: 0.0, top_k: None, top_p: None };
const ALL: Options = Options { temperature: 1.0, top_k: None, top_p: None };

fn greedy(logits: &[f32]) -> Option<u32> {
    let mut best: Option<(u32, f32)> = None;
    for (token, &logit) in logits.iter().enumerate() {
        if logit.is_nan() || logit == f32::INFINITY {
            return None;
        }
        if logit > best.map_or(f32::NEG_INFINITY, |(_, largest)| largest) {
            best = Some((token as u32, logit));
        }
    }
    best.map(|(token, _)| token)
}

/// `u32::MAX` where no token can be chosen.
fn reference(logits: &[f32], options: Options, uniform: f64) -> u32 {
    let Options { temperature, top_k, top_p } = options;
    let Some(best) = greedy(logits) else { return u32::MAX };
    if temperature == 0.0 {
        return best;
    }
    let largest = f64::from(logits[best as usize]);
    let weight = |logit: f32| libm::exp((f64::from(logit) - largest) / f64::from(temperature));
    let mut candidates: Vec<(u32, f64)> =
        logits.iter().enumerate().map(|(token, &logit)| (token as u32, weight(logit))).collect();
    if top_k.is_some() || top_p.is_some() {
        candidates.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    }
    candidates.truncate(top_k.map_or(usize::MAX, |k| k as usize));
    if let Some(p) = top_p {
        let wanted = f64::from(p) * candidates.iter().map(|candidate| candidate.1).sum::<f64>();
        let mut sum = 0.0;
        let reached = candidates.iter().position(|candidate| {
            sum += candidate.1;
            sum >= wanted
        });
        candidates.truncate(reached.map_or(candidates.len(), |last| last + 1));
    }
    let total: f64 = candidates.iter().map(|candidate| candidate.1).sum();
    let mut left = uniform * total;
    for &(token, weight) in &candidates {
        left -= weight;
        if left < 0.0 {
            return token;
        }
    }
    let last = candidates.iter().rev().find(|candidate| candidate.1 > 0.0);
    last.map_or(best, |candidate| candidate.0)
}

/// What a sampler needs on the device.
struct Sampler<'g> {
    gpu: &'g Gpu,
    logits: Memory,
    count: usize,
    uniform: Memory,
    token: Memory,
    scratch: Memory,
}

impl<'g> Sampler<'g> {
    fn new(gpu: &'g Gpu, logits: &[f32]) -> Sampler<'g> {
        Sampler {
            gpu,
            logits: gpu.upload("logits", logits).unwrap(),
            count: logits.len(),
            uniform: gpu.upload("a number", &[0_u64]).unwrap(),
            token: gpu.upload("a token", &[0_u32]).unwrap(),
            scratch: gpu.upload("scratch", &vec![0xff_u8; SAMPLE_SCRATCH_BYTES]).unwrap(),
        }
    }

    fn step(&self, options: Options) -> SampleStep {
        SampleStep {
            logits: self.logits.slice::<f32>().range(0..self.count),
            temperature: options.temperature,
            top_k: options.top_k,
            top_p: options.top_p,
            uniform: self.uniform.slice(),
            token: self.token.slice(),
            scratch: self.scratch.slice(),
        }
    }

    fn token(&self, options: Options, uniform: f64) -> u32 {
        self.gpu.write(self.uniform.slice(), &[uniform.to_bits()]).unwrap();
        self.gpu.sample(&self.step(options)).unwrap();
        self.gpu.to_vec(self.token.slice::<u32>()).unwrap()[0]
    }
}

fn check(gpu: &Gpu, logits: &[f32], options: Options, uniforms: &[f64]) {
    let sampler = Sampler::new(gpu, logits);
    for &uniform in uniforms {
        let (got, expected) = (sampler.token(options, uniform), reference(logits, options, uniform));
        assert_eq!(got, expected, "{} logits, {options:?}, {uniform}", logits.len());
    }
}

/// Like those of a model: most of them far below a few.
fn logits(random: &mut Random, count: usize) -> Vec<f32> {
    (0..count).map(|_| 12.0 * random.value() * random.value() * random.value()).collect()
}

#[test]
fn greedy_takes_the_first_of_the_largest() {
    let Some(gpu) = super::gpu() else { return };
    let mut random = Random::new(21);
    let mut many = logits(&mut random, 3000);
    check(&gpu, &many, GREEDY, &[0.0]);
    many[2900] = 50.0;
    many[1700] = 50.0;
    check(&gpu, &many, GREEDY, &[0.0]);
    let low: Vec<f32> = many.iter().map(|logit| logit - 1000.0).collect();
    check(&gpu, &low, GREEDY, &[0.0]);
    check(&gpu, &[-1.0, -0.0, 0.0], GREEDY, &[0.0]);
    check(&gpu, &[f32::NEG_INFINITY, f32::MIN, f32::MIN], GREEDY, &[0.0]);
}

#[test]
fn nothing_is_chosen_from_bad_logits() {
    let Some(gpu) = super::gpu() else { return };
    let likeliest = Options { top_k: Some(1), ..ALL };
    for options in [GREEDY, ALL, likeliest] {
        let mut bad = vec![0.0; 1500];
        bad[1400] = f32::NAN;
        for logits in [&bad, [f32::NEG_INFINITY; 3].as_slice(), &[1.0, f32::INFINITY], &[-f32::NAN, 0.0], &[]] {
            assert_eq!(Sampler::new(&gpu, logits).token(options, 0.5), u32::MAX, "{options:?}");
        }
    }
}

#[test]
fn all_tokens_are_drawn_in_their_order() {
    let Some(gpu) = super::gpu() else { return };
    let mut random = Random::new(22);
    let below_one = 1.0 - f64::EPSILON / 2.0;
    for count in [1, 2, 255, 2500] {
        let logits = logits(&mut random, count);
        for temperature in [0.7, 3.0, 1.0e-3] {
            check(&gpu, &logits, Options { temperature, ..ALL }, &[0.0, 0.1, 0.5, 0.93, below_one]);
        }
    }
    let masked = [f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY];
    check(&gpu, &masked, ALL, &[0.0, 0.49, 0.5, 0.75, below_one]);
}

#[test]
fn the_likeliest_are_drawn_in_descending_order() {
    let Some(gpu) = super::gpu() else { return };
    let mut random = Random::new(23);
    let uniforms = [0.0, 0.3, 0.8, 1.0 - f64::EPSILON / 2.0];
    for count in [1, 300, 2100] {
        let logits = logits(&mut random, count);
        for (temperature, top_k, top_p) in [
            (0.8, Some(40), None),
            (1.0, None, Some(0.9)),
            (1.5, Some(50), Some(0.95)),
            (1.0, Some(1), None),
            (1.0, None, Some(1.0)),
            (20.0, Some(1000), Some(0.5)),
            (1.0, Some(5000), None),
            (1.0e-3, None, Some(0.1)),
        ] {
            check(&gpu, &logits, Options { temperature, top_k, top_p }, &uniforms);
        }
    }
}

#[test]
fn a_large_vocabulary_has_long_slices() {
    let Some(gpu) = super::gpu() else { return };
    let logits = logits(&mut Random::new(25), 140_000);
    check(&gpu, &logits, GREEDY, &[0.0]);
    check(&gpu, &logits, Options { temperature: 4.0, ..ALL }, &[0.61]);
    check(&gpu, &logits, Options { temperature: 4.0, top_k: None, top_p: Some(0.8) }, &[0.97]);
}

#[test]
fn equal_weights_are_in_the_order_of_tokens() {
    let Some(gpu) = super::gpu() else { return };
    let likeliest = |top_k, top_p| Options { temperature: 1.0, top_k, top_p };
    let uniforms = [0.0, 0.26, 0.6, 0.99];
    // All alike; of four values; zeros of both signs; logits that differ, weights that do not.
    let alike = [1.0; 1100];
    let four: Vec<f32> = (0..1100).map(|token| (token * 7 % 4) as f32).collect();
    let zeros: Vec<f32> = (0..9).map(|token| if token % 2 == 0 { -0.0 } else { 0.0 }).collect();
    let tiny: Vec<f32> = (0..9).map(|token| [-1.0e-20, 0.0, -3.0e-20, -1.0][token % 4]).collect();
    for logits in [alike.as_slice(), &four, &zeros, &tiny] {
        for options in [likeliest(Some(5), None), likeliest(Some(600), Some(0.5)), likeliest(None, Some(0.7))] {
            check(&gpu, logits, options, &uniforms);
        }
    }
    let masked: Vec<f32> = (0..40).map(|token| if token % 3 == 0 { 1.0 } else { f32::NEG_INFINITY }).collect();
    check(&gpu, &masked, likeliest(Some(20), Some(1.0)), &uniforms);
}

#[test]
fn a_recorded_choice_goes_on_with_the_next_token() {
    let Some(gpu) = super::gpu() else { return };
    let mut random = Random::new(24);
    let first = logits(&mut random, 200);
    let sampler = Sampler::new(&gpu, &first);
    let position = gpu.upload("position", &[41_u32]).unwrap();
    let options = Options { temperature: 1.0, top_k: Some(20), top_p: Some(0.9) };
    let launches = || {
        gpu.sample(&sampler.step(options))?;
        gpu.advance(position.slice())
    };
    launches().unwrap();
    let graph = gpu.record(launches).unwrap();
    for (i, uniform) in [0.2, 0.7].into_iter().enumerate() {
        let logits = logits(&mut random, 200);
        gpu.write(sampler.logits.slice(), &logits).unwrap();
        gpu.write(sampler.uniform.slice(), &[f64::to_bits(uniform)]).unwrap();
        gpu.replay(&graph).unwrap();
        assert_eq!(gpu.to_vec(sampler.token.slice::<u32>()).unwrap(), [reference(&logits, options, uniform)]);
        assert_eq!(gpu.to_vec(position.slice::<u32>()).unwrap(), [43 + i as u32]);
    }
}
