//! Choosing the next token from logits.

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::exec::Choice;

/// How tokens are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SamplerOptions {
    /// Logits are divided by it; 0 takes the largest logit always.
    pub temperature: f32,
    /// Only the `k` likeliest tokens can be chosen.
    pub top_k: Option<usize>,
    /// Only the likeliest tokens whose probabilities first add up to `p` can be chosen; applied after `top_k`.
    pub top_p: Option<f32>,
    /// Seed of the random numbers: ChaCha12, the same on every machine.
    pub seed: u64,
}

/// Why no token can be chosen.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SampleError {
    /// A setting out of its range.
    #[error("{option} is {found}, expected {expected}")]
    Option {
        /// Which setting.
        option: &'static str,
        /// Its value.
        found: String,
        /// Its range.
        expected: &'static str,
    },
    /// Logits that say nothing.
    #[error("the logit of token {token} is {logit}")]
    NotFinite {
        /// The token.
        token: usize,
        /// NaN or infinity.
        logit: f32,
    },
    /// No token that could be chosen.
    #[error("no token has a finite logit")]
    Empty,
}

/// Chooses tokens. Equal options and equal logits give equal tokens.
#[derive(Debug)]
pub struct Sampler {
    options: SamplerOptions,
    random: ChaCha12Rng,
    /// Tokens with their weights, reused from call to call.
    candidates: Vec<(u32, f64)>,
}

impl Sampler {
    /// Checks the options.
    pub fn new(options: SamplerOptions) -> Result<Sampler, SampleError> {
        let SamplerOptions { temperature, top_k, top_p, seed } = options;
        let out_of_range = |option, found: String, expected| Err(SampleError::Option { option, found, expected });
        if !(temperature.is_finite() && temperature >= 0.0) {
            return out_of_range("temperature", temperature.to_string(), "at least 0");
        }
        if top_k == Some(0) {
            return out_of_range("top-k", "0".to_owned(), "at least 1");
        }
        if let Some(p) = top_p
            && !(p > 0.0 && p <= 1.0)
        {
            return out_of_range("top-p", p.to_string(), "above 0 and at most 1");
        }
        Ok(Sampler { options, random: ChaCha12Rng::seed_from_u64(seed), candidates: Vec::new() })
    }

    /// The next token, from the logits of all tokens. Of equal logits the lowest token comes first. A logit of
    /// negative infinity is a token that cannot be chosen.
    pub fn sample(&mut self, logits: &[f32]) -> Result<u32, SampleError> {
        let choice = self.draw();
        self.choose(logits, &choice)
    }

    /// The next choice, for a device that makes it or for [`Sampler::choose`]: a random number is drawn where one is needed.
    pub fn draw(&mut self) -> Choice {
        let SamplerOptions { temperature, top_k, top_p, seed: _ } = self.options;
        let uniform = if temperature == 0.0 { 0.0 } else { self.uniform() };
        Choice { temperature, top_k, top_p, uniform }
    }

    /// As [`Sampler::sample`], with a random number that was drawn.
    pub fn choose(&mut self, logits: &[f32], choice: &Choice) -> Result<u32, SampleError> {
        let best = greedy(logits)?;
        if self.options.temperature == 0.0 {
            return Ok(best);
        }
        self.gather(logits, logits[best as usize]);
        let total: f64 = self.candidates.iter().map(|candidate| candidate.1).sum();
        let mut left = choice.uniform * total;
        for &(token, weight) in &self.candidates {
            left -= weight;
            if left < 0.0 {
                return Ok(token);
            }
        }
        // Rounding can leave a little: it belongs to the last token that has a weight.
        let last = self.candidates.iter().rev().find(|candidate| candidate.1 > 0.0);
        Ok(last.map_or(best, |candidate| candidate.0))
    }

    /// The tokens that can be chosen, with weights relative to that of the best.
    fn gather(&mut self, logits: &[f32], largest: f32) {
        let SamplerOptions { temperature, top_k, top_p, .. } = self.options;
        // The same bits on every platform, so that a seed gives the same tokens.
        let weight = |logit: f32| libm::exp((f64::from(logit) - f64::from(largest)) / f64::from(temperature));
        let candidates = &mut self.candidates;
        candidates.clear();
        candidates.extend(logits.iter().enumerate().map(|(token, &logit)| (token as u32, weight(logit))));
        // Likeliest first; of equal weights the lowest token.
        let order = |a: &(u32, f64), b: &(u32, f64)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        if let Some(k) = top_k
            && k < candidates.len()
        {
            candidates.select_nth_unstable_by(k - 1, order);
            candidates.truncate(k);
        }
        if top_k.is_some() || top_p.is_some() {
            candidates.sort_unstable_by(order);
        }
        if let Some(p) = top_p {
            let wanted = f64::from(p) * candidates.iter().map(|candidate| candidate.1).sum::<f64>();
            let mut sum = 0.0;
            let reached = candidates.iter().position(|candidate| {
                sum += candidate.1;
                sum >= wanted
            });
            candidates.truncate(reached.map_or(candidates.len(), |last| last + 1));
        }
    }

    /// A number from 0 to below 1, of 53 random bits.
    fn uniform(&mut self) -> f64 {
        (self.random.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The token of the largest logit, the lowest of several.
fn greedy(logits: &[f32]) -> Result<u32, SampleError> {
    let mut best: Option<(u32, f32)> = None;
    for (token, &logit) in logits.iter().enumerate() {
        if logit.is_nan() || logit == f32::INFINITY {
            return Err(SampleError::NotFinite { token, logit });
        }
        if logit > best.map_or(f32::NEG_INFINITY, |(_, largest)| largest) {
            best = Some((token as u32, logit));
        }
    }
    best.map(|(token, _)| token).ok_or(SampleError::Empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(temperature: f32, top_k: Option<usize>, top_p: Option<f32>) -> SamplerOptions {
        SamplerOptions { temperature, top_k, top_p, seed: 7 }
    }

    fn counts(options: SamplerOptions, logits: &[f32]) -> Vec<usize> {
        let mut sampler = Sampler::new(options).unwrap();
        let mut counts = vec![0; logits.len()];
        for _ in 0..4000 {
            counts[sampler.sample(logits).unwrap() as usize] += 1;
        }
        counts
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest() {
        let mut sampler = Sampler::new(options(0.0, None, None)).unwrap();
        assert_eq!(sampler.sample(&[0.0, 2.0, 2.0, -1.0]), Ok(1));
        assert_eq!(sampler.sample(&[f32::NEG_INFINITY, -3.0]), Ok(1));
    }

    #[test]
    fn tokens_come_as_often_as_they_are_likely() {
        let logits: Vec<f32> = [0.5f32, 0.3, 0.15, 0.05].iter().map(|p| p.ln()).collect();
        let counts = counts(options(1.0, None, None), &logits);
        for (count, expected) in counts.iter().zip([2000.0, 1200.0, 600.0, 200.0]) {
            assert!((*count as f64 - expected).abs() < 120.0, "{counts:?}");
        }
    }

    #[test]
    fn top_k_and_top_p_leave_the_rest_out() {
        let logits: Vec<f32> = [0.1f32, 0.5, 0.15, 0.25].iter().map(|p| p.ln()).collect();
        let top_k = counts(options(1.0, Some(2), None), &logits);
        assert!(top_k[0] == 0 && top_k[2] == 0 && top_k[1] > top_k[3] && top_k[3] > 1000);
        let top_p = counts(options(1.0, None, Some(0.7)), &logits);
        assert!(top_p[0] == 0 && top_p[2] == 0 && top_p[3] > 1000);
        assert_eq!(counts(options(1.0, None, Some(0.4)), &logits)[1], 4000);
        assert_eq!(counts(options(1.0, Some(100), Some(1.0)), &logits).iter().filter(|&&count| count > 0).count(), 4);
    }

    #[test]
    fn ties_at_the_border_go_to_the_lowest_token() {
        let counts = counts(options(1.0, Some(2), None), &[1.0; 5]);
        assert_eq!(counts[2..], [0, 0, 0]);
    }

    #[test]
    fn a_seed_decides() {
        let draw = |seed| {
            let mut sampler = Sampler::new(SamplerOptions { seed, ..options(1.0, None, None) }).unwrap();
            (0..20).map(|_| sampler.sample(&[0.0; 50]).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
        assert_eq!(draw(0)[..5], FIRST_OF_SEED_0);
    }

    /// What seed 0 gave when this was written; another value is another generator.
    const FIRST_OF_SEED_0: [u32; 5] = [36, 38, 1, 29, 13];

    #[test]
    fn bad_logits_are_errors() {
        for temperature in [0.0, 1.0] {
            let mut sampler = Sampler::new(options(temperature, None, None)).unwrap();
            assert!(matches!(sampler.sample(&[0.0, f32::NAN]), Err(SampleError::NotFinite { token: 1, .. })));
            assert!(matches!(sampler.sample(&[f32::INFINITY]), Err(SampleError::NotFinite { token: 0, .. })));
            assert_eq!(sampler.sample(&[]), Err(SampleError::Empty));
            assert_eq!(sampler.sample(&[f32::NEG_INFINITY; 3]), Err(SampleError::Empty));
        }
    }

    #[test]
    fn bad_options_are_errors() {
        for bad in [
            options(-1.0, None, None),
            options(f32::NAN, None, None),
            options(1.0, Some(0), None),
            options(1.0, None, Some(0.0)),
            options(1.0, None, Some(1.5)),
            options(1.0, None, Some(f32::NAN)),
        ] {
            assert!(matches!(Sampler::new(bad), Err(SampleError::Option { .. })), "{bad:?}");
        }
    }
}
