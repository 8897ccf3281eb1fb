//! How far numbers are from those that they should be, summed up piece by piece.

use super::{Agreement, State};
use crate::pack::Noise;

/// Of numbers that were seen so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Distance {
    noise: Noise,
    max_error: f64,
}

impl Distance {
    /// Adds numbers and what they should be; as many of both.
    pub(super) fn add(&mut self, expected: &[f32], found: &[f32]) {
        self.noise.add(expected, found);
        let error = |(&expected, &found): (&f32, &f32)| (f64::from(expected) - f64::from(found)).abs();
        // NaN would get lost in a maximum; the sums keep it.
        self.max_error = expected.iter().zip(found).map(error).fold(self.max_error, f64::max);
    }

    /// Adds what another one has seen.
    pub(super) fn merge(&mut self, other: &Distance) {
        self.noise.signal += other.noise.signal;
        self.noise.noise += other.noise.noise;
        self.max_error = self.max_error.max(other.max_error);
    }

    pub(super) fn agreement(&self) -> Agreement {
        let Noise { signal, noise } = self.noise;
        let state = match noise {
            _ if !(signal.is_finite() && noise.is_finite()) => State::NotFinite,
            0.0 => State::Equal,
            _ => State::Differs,
        };
        let finite = |number: f64| (state != State::NotFinite && number.is_finite()).then_some(number);
        let sqnr_db = if state == State::Differs { finite(self.noise.decibels()) } else { None };
        Agreement { state, sqnr_db, max_error: finite(self.max_error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreement(pairs: &[(&[f32], &[f32])]) -> Agreement {
        let mut distance = Distance::default();
        for (expected, found) in pairs {
            distance.add(expected, found);
        }
        distance.agreement()
    }

    #[test]
    fn decibels_are_of_all_that_was_seen() {
        let found = agreement(&[(&[3.0, 4.0], &[3.0, 4.5]), (&[0.0; 3], &[0.0; 3])]);
        assert_eq!(found, Agreement { state: State::Differs, sqnr_db: Some(20.0), max_error: Some(0.5) });
        let equal = agreement(&[(&[3.0, -0.0], &[3.0, 0.0]), (&[], &[])]);
        assert_eq!(equal, Agreement { state: State::Equal, sqnr_db: None, max_error: Some(0.0) });
    }

    #[test]
    fn what_is_no_number_is_said() {
        let not_finite = Agreement { state: State::NotFinite, sqnr_db: None, max_error: None };
        for bad in [f32::NAN, f32::INFINITY] {
            assert_eq!(agreement(&[(&[1.0, 2.0], &[1.0, bad]), (&[1.0], &[1.0])]), not_finite);
            assert_eq!(agreement(&[(&[1.0, bad], &[1.0, bad])]), not_finite, "in both");
        }
        let from_zero = agreement(&[(&[0.0, 0.0], &[0.0, 0.25])]);
        assert_eq!(from_zero, Agreement { state: State::Differs, sqnr_db: None, max_error: Some(0.25) });
    }
}
