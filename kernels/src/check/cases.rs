//! Inputs of the checks.

use crate::formats::{Fit, Format, Matrix};
use crate::rotations::SplitMix64;

/// Lengths around the blocks of every instruction set, and long ones.
pub(super) const LENGTHS: [usize; 17] = [0, 1, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 100, 1000, 40_001];

/// Values at the ends of what f32 can be.
pub(super) const SPECIAL: [f32; 20] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    f32::MIN_POSITIVE,
    -f32::MIN_POSITIVE,
    1.0e-45,
    -1.0e-45,
    f32::MAX,
    f32::MIN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
    88.0,
    -88.0,
    89.5,
    -103.0,
    -104.5,
    -200.0,
    f32::EPSILON,
];

/// Seeded numbers.
pub struct Random {
    generator: SplitMix64,
    next: u64,
}

impl Random {
    /// The sequence of `seed`.
    pub fn new(seed: u64) -> Random {
        Random { generator: SplitMix64::new(seed), next: 0 }
    }

    /// 64 uniform bits.
    pub fn bits(&mut self) -> u64 {
        self.next += 1;
        self.generator.output(self.next - 1)
    }

    /// Uniform in [-1, 1).
    pub fn value(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// `len` of [`Random::value`].
    pub fn values(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.value()).collect()
    }
}

/// A copy of values that starts 4 bytes behind the start of an allocation, so that it is aligned to no vector.
pub(super) struct Unaligned(Vec<f32>);

impl Unaligned {
    pub(super) fn new(values: &[f32]) -> Unaligned {
        Unaligned(std::iter::once(0.0).chain(values.iter().copied()).collect())
    }

    pub(super) fn get(&self) -> &[f32] {
        &self.0[1..]
    }

    pub(super) fn get_mut(&mut self) -> &mut [f32] {
        &mut self.0[1..]
    }
}

/// Random values in which special ones are sprinkled.
pub(super) fn sprinkled(random: &mut Random, len: usize) -> Unaligned {
    let mut values = random.values(len);
    for (i, value) in values.iter_mut().enumerate() {
        match random.bits() % 4 {
            0 => *value = SPECIAL[i % SPECIAL.len()],
            1 => *value *= 100.0,
            2 => *value *= 10.0,
            _ => {}
        }
    }
    Unaligned::new(&values)
}

/// An encoded matrix whose planes start at odd addresses.
pub(super) struct Packed {
    format: Format,
    rows: usize,
    cols: usize,
    planes: Vec<Vec<u8>>,
}

impl Packed {
    /// Encodes `values`, `[rows, cols]`, of a shape that the format allows.
    pub(super) fn new(format: Format, rows: usize, cols: usize, values: &[f32]) -> Packed {
        let sizes = format.planes(rows, cols);
        let mut planes: Vec<_> =
            sizes.iter().map(|plane| vec![0; 1 + plane.bytes().expect("a small matrix")]).collect();
        let mut bytes: Vec<_> = planes.iter_mut().map(|plane| &mut plane[1..]).collect();
        format.encode(Fit::Absmax, values, cols, &mut bytes);
        Packed { format, rows, cols, planes }
    }

    pub(super) fn matrix(&self) -> Matrix<'_> {
        let planes: Vec<_> = self.planes.iter().map(|plane| &plane[1..]).collect();
        Matrix::new(self.format, self.rows, self.cols, &planes).expect("planes as the format asks for")
    }

    /// What the matrix decodes to.
    pub(super) fn decoded(&self) -> Vec<f32> {
        let matrix = self.matrix();
        let mut values = vec![0.0; self.rows * self.cols];
        for row in 0..self.rows {
            matrix.decode_row(row, &mut values[row * self.cols..(row + 1) * self.cols]);
        }
        values
    }
}
