//! How far values are from those that they should be: the largest difference, and the range and size of what should be.

/// Of values that were seen so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Distance {
    /// Largest absolute difference; NaN once one is no number.
    pub(super) error: f64,
    least: f64,
    most: f64,
}

impl Distance {
    /// Of nothing.
    pub(super) const NONE: Distance = Distance { error: 0.0, least: f64::INFINITY, most: f64::NEG_INFINITY };

    /// Adds a value and what it should be.
    pub(super) fn add(&mut self, expected: f64, found: f64) {
        let error = (expected - found).abs();
        // NaN would get lost in a maximum.
        if error.is_nan() || error > self.error {
            self.error = error;
        }
        self.least = self.least.min(expected);
        self.most = self.most.max(expected);
    }

    /// From the smallest to the largest value that should be; 0 of nothing.
    pub(super) fn range(&self) -> f64 {
        (self.most - self.least).max(0.0)
    }

    /// The largest absolute value that should be; 0 of nothing.
    pub(super) fn size(&self) -> f64 {
        self.most.max(-self.least).max(0.0)
    }

    /// The error as a part of the size. Infinite where it is no number, or all should be 0 and is not.
    pub(super) fn relative(&self) -> f64 {
        match self.error {
            0.0 => 0.0,
            error if error.is_nan() => f64::INFINITY,
            error => error / self.size(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distance(pairs: &[(f64, f64)]) -> Distance {
        let mut distance = Distance::NONE;
        for &(expected, found) in pairs {
            distance.add(expected, found);
        }
        distance
    }

    #[test]
    fn errors_are_parts_of_the_size() {
        let found = distance(&[(-4.0, -4.0), (3.0, 2.0), (1.0, 1.5)]);
        assert_eq!((found.error, found.range(), found.size(), found.relative()), (1.0, 7.0, 4.0, 0.25));
        let nothing = Distance::NONE;
        assert_eq!((nothing.range(), nothing.size(), nothing.relative()), (0.0, 0.0, 0.0));
        assert_eq!(distance(&[(-2.0, -2.5)]).relative(), 0.25);
        assert_eq!(distance(&[(0.0, 0.0)]).relative(), 0.0);
        assert_eq!(distance(&[(0.0, 0.5)]).relative(), f64::INFINITY);
    }

    #[test]
    fn what_is_no_number_is_no_small_error() {
        for (expected, found) in [(f64::NAN, 1.0), (1.0, f64::NAN), (f64::INFINITY, f64::INFINITY)] {
            let found = distance(&[(1.0, 1.0), (expected, found), (2.0, 3.0)]);
            assert!(found.error.is_nan());
            assert_eq!(found.relative(), f64::INFINITY);
        }
    }
}
