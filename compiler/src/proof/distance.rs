//! How far the results of a step are from those that they should be.

/// Rows that are smaller than this part of the largest row are taken to be of that size: rounding leaves no less of a row of
/// zeros that large values have cancelled to.
const SMALLEST_ROW: f64 = 0.01;

/// Between some rows and those that they should be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Distance {
    /// Largest absolute difference; NaN if one is no number.
    pub(super) error: f64,
    /// From the smallest to the largest value that should be.
    pub(super) range: f64,
    /// Largest difference as a part of the root mean square of what its row should be. Unlike a part of the largest value of
    /// all, it shows where a channel of small values is wrong. Infinite where it is no number, or all should be 0 and is not.
    pub(super) relative: f64,
    /// What a row is at least as large as.
    smallest_row: f64,
}

impl Distance {
    /// Of nothing yet. The rows that should be are all there is to be compared, `[rows, width]`, the width at least 1.
    pub(super) fn from(expected: &[f32], width: usize) -> Self {
        let values = || expected.iter().map(|&value| f64::from(value));
        let range = values().fold(f64::NEG_INFINITY, f64::max) - values().fold(f64::INFINITY, f64::min);
        let largest_row = expected.chunks_exact(width).map(root_mean_square).fold(0.0, f64::max);
        Distance { error: 0.0, range: range.max(0.0), relative: 0.0, smallest_row: SMALLEST_ROW * largest_row }
    }

    /// Adds a row, and what it should be.
    pub(super) fn add(&mut self, expected: &[f32], found: &[f64]) {
        let errors = expected.iter().zip(found).map(|(&expected, found)| (f64::from(expected) - found).abs());
        let error = errors.fold(0.0, larger);
        self.error = larger(self.error, error);
        let relative = match error {
            0.0 => 0.0,
            error if error.is_nan() => f64::INFINITY,
            error => error / root_mean_square(expected).max(self.smallest_row),
        };
        self.relative = self.relative.max(relative);
    }
}

/// The larger number; NaN if either is, which would get lost in a maximum.
fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

fn root_mean_square(row: &[f32]) -> f64 {
    let squares: f64 = row.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
    (squares / row.len() as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distance(expected: &[f32], found: &[f64], width: usize) -> Distance {
        let mut distance = Distance::from(expected, width);
        let rows = expected.chunks_exact(width).zip(found.chunks_exact(width));
        rows.for_each(|(expected, found)| distance.add(expected, found));
        distance
    }

    #[test]
    fn errors_are_parts_of_their_rows() {
        let expected = [3.0, -3.0, 3.0, -3.0, 0.5, 0.5, -0.5, 0.5];
        let found = distance(&expected, &[3.0, -3.0, 3.0, -2.7, 0.5, 0.5, -0.5, 0.25], 4);
        assert!((found.error - 0.3).abs() < 1e-15, "{found:?}");
        assert_eq!((found.range, found.relative), (6.0, 0.5));
        assert_eq!(distance(&expected, &expected.map(f64::from), 4).relative, 0.0);
    }

    #[test]
    fn rows_of_zeros_are_as_large_as_rounding_makes_them() {
        let found = distance(&[100.0, -100.0, 0.0, 0.0], &[100.0, -100.0, 0.5, 0.0], 2);
        assert_eq!((found.error, found.relative), (0.5, 0.5));
        assert_eq!(distance(&[0.0], &[0.0], 1).relative, 0.0);
        assert_eq!(distance(&[0.0], &[0.5], 1).relative, f64::INFINITY);
        let nothing = distance(&[], &[], 4);
        assert_eq!((nothing.error, nothing.range, nothing.relative), (0.0, 0.0, 0.0));
    }

    #[test]
    fn what_is_no_number_is_no_small_error() {
        for (expected, found) in [(f32::NAN, 1.0), (1.0, f64::NAN), (f32::INFINITY, f64::INFINITY)] {
            let found = distance(&[1.0, expected, 2.0], &[1.0, found, 3.0], 1);
            assert!(found.error.is_nan(), "{found:?}");
            assert_eq!(found.relative, f64::INFINITY);
        }
    }
}
