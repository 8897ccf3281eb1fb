//! The next-token distributions of two models.

use lathe_runtime::exec::log_sum_exp;

use super::Predictions;
use super::distance::Distance;

/// What was predicted after the tokens so far.
#[derive(Debug)]
pub(super) struct Tally {
    logits: Distance,
    tokens: u64,
    same_choice: u64,
    divergence: f64,
    largest_divergence: f64,
    /// Tokens whose probability was looked up, and minus the logarithms of these.
    predicted: u64,
    loss_original: f64,
    loss_compiled: f64,
    /// Smallest and largest logit of the original.
    range: (f32, f32),
}

impl Default for Tally {
    fn default() -> Self {
        Tally {
            logits: Distance::default(),
            tokens: 0,
            same_choice: 0,
            divergence: 0.0,
            largest_divergence: 0.0,
            predicted: 0,
            loss_original: 0.0,
            loss_compiled: 0.0,
            range: (f32::INFINITY, f32::NEG_INFINITY),
        }
    }
}

impl Tally {
    /// Adds the logits after `tokens` tokens of both, `[tokens, vocabulary]`, and the tokens that follow, of which the last
    /// may be missing.
    pub(super) fn add(&mut self, tokens: usize, original: &[f32], compiled: &[f32], following: &[u32]) {
        self.logits.add(original, compiled);
        self.tokens += tokens as u64;
        let vocabulary = original.len() / tokens;
        let mut following = following.iter();
        for (original, compiled) in original.chunks_exact(vocabulary).zip(compiled.chunks_exact(vocabulary)) {
            let normalizers = (log_sum_exp(original), log_sum_exp(compiled));
            let divergence = divergence(original, compiled, normalizers);
            self.divergence += divergence;
            self.largest_divergence = self.largest_divergence.max(divergence);
            let choice = likeliest(original);
            self.same_choice += u64::from(choice.is_some() && choice == likeliest(compiled));
            for &logit in original {
                self.range = (self.range.0.min(logit), self.range.1.max(logit));
            }
            if let Some(&token) = following.next() {
                self.predicted += 1;
                self.loss_original += normalizers.0 - f64::from(original[token as usize]);
                self.loss_compiled += normalizers.1 - f64::from(compiled[token as usize]);
            }
        }
    }

    /// Mean divergence in nats a token, of at least one token; `None` where it is no number.
    pub(super) fn divergence(&self) -> Option<f64> {
        let mean = self.divergence / self.tokens as f64;
        mean.is_finite().then_some(mean)
    }

    /// All of it, of at least one token that was predicted.
    pub(super) fn predictions(&self) -> Predictions {
        let finite = |number: f64| number.is_finite().then_some(number);
        let perplexity = |loss: f64| libm::exp(loss / self.predicted as f64);
        let (original, compiled) = (perplexity(self.loss_original), perplexity(self.loss_compiled));
        let kl_mean = self.divergence();
        Predictions {
            kl_mean,
            // Without NaN, which a maximum passes over.
            kl_max: kl_mean.and(finite(self.largest_divergence)),
            same_choice: self.same_choice as f64 / self.tokens as f64,
            perplexity_original: finite(original),
            perplexity_compiled: finite(compiled),
            perplexity_ratio: finite(compiled / original),
            logits: self.logits.agreement(),
            logits_range: finite(f64::from(self.range.1) - f64::from(self.range.0)),
        }
    }
}

/// Kullback-Leibler divergence of the second distribution from the first, in nats; rounding takes none below 0.
fn divergence(original: &[f32], compiled: &[f32], normalizers: (f64, f64)) -> f64 {
    let term = |(&p, &q): (&f32, &f32)| {
        let (p, q) = (f64::from(p) - normalizers.0, f64::from(q) - normalizers.1);
        let probability = libm::exp(p);
        if probability == 0.0 { 0.0 } else { probability * (p - q) }
    };
    let sum: f64 = original.iter().zip(compiled).map(term).sum();
    if sum < 0.0 { 0.0 } else { sum }
}

/// The first of the largest logits; `None` where one is NaN.
fn likeliest(logits: &[f32]) -> Option<usize> {
    let mut best = (0, f32::NEG_INFINITY);
    for (token, &logit) in logits.iter().enumerate() {
        if logit.is_nan() {
            return None;
        }
        if logit > best.1 {
            best = (token, logit);
        }
    }
    Some(best.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::State;

    fn predictions(original: &[f32], compiled: &[f32], tokens: usize, following: &[u32]) -> Predictions {
        let mut tally = Tally::default();
        tally.add(tokens, original, compiled, following);
        tally.predictions()
    }

    #[test]
    fn equal_models_predict_the_same() {
        let logits = [0.5, -3.0, 40.0, 2.0, 2.0, 1.0];
        let found = predictions(&logits, &logits, 2, &[0]);
        assert_eq!((found.kl_mean, found.kl_max, found.same_choice), (Some(0.0), Some(0.0), 1.0));
        assert_eq!((found.perplexity_ratio, found.logits.state), (Some(1.0), State::Equal));
        assert_eq!(found.logits_range, Some(43.0));
    }

    /// Two tokens of probabilities (3/4, 1/4) against (1/2, 1/2), then equal ones.
    #[test]
    fn divergence_and_perplexity_are_those_of_the_definition() {
        let original = [libm::logf(3.0), 0.0, 5.0, 5.0];
        let compiled = [0.0, 0.0, -1.0, -1.0];
        let found = predictions(&original, &compiled, 2, &[1]);
        let expected = 0.75 * libm::log(1.5) + 0.25 * libm::log(0.5);
        assert!((found.kl_max.unwrap() - expected).abs() < 1e-7);
        assert!((found.kl_mean.unwrap() - expected / 2.0).abs() < 1e-7);
        assert!((found.perplexity_original.unwrap() - 4.0).abs() < 1e-6);
        assert!((found.perplexity_compiled.unwrap() - 2.0).abs() < 1e-12);
        assert!((found.perplexity_ratio.unwrap() - 0.5).abs() < 1e-6);
        assert_eq!(found.same_choice, 1.0, "of equal ones the first");
    }

    #[test]
    fn what_is_no_number_stays_so() {
        let found = predictions(&[1.0, 2.0, 1.0, 2.0], &[f32::NAN, 2.0, 1.0, 2.0], 2, &[1, 1]);
        assert_eq!((found.kl_mean, found.kl_max, found.same_choice), (None, None, 0.5));
        assert!(found.perplexity_original.is_some() && found.perplexity_compiled.is_none());
        assert_eq!(found.logits.state, State::NotFinite);
    }
}
