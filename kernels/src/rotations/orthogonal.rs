//! Random orthogonal matrices, Haar distributed: each is as likely as any other.
//!
//! `Q = D H₀ H₁ ⋯` (Stewart 1980, "The efficient generation of random orthogonal matrices with an application to condition
//! estimators", SIAM Journal on Numerical Analysis 17, section 3). `Hₖ` is the reflection that turns a vector of n − k
//! normal numbers, rounded to f32, into a multiple of its first axis, on the last n − k elements of a row; D has the signs of these
//! multiples. The matrix itself is never formed: a product with it takes two passes over n² / 2 numbers.

#![allow(clippy::inline_always, reason = "code for vectors must end up in the function that has them enabled")]

use super::SplitMix64;
use super::panel::Line;
use crate::cpu::Vectors;
use crate::cpu::simd::{Kernel, Simd};
use rayon::prelude::*;

/// A product of reflections.
pub(crate) struct Orthogonal {
    /// The diagonal of D: whether each sign is −.
    pub(crate) signs: Vec<bool>,
    /// One after the other what `Hₖ = I − fₖ vₖ vₖᵀ` reflects along, of n − k elements each, for k below n − 1. They are
    /// rounded to f32, and the factors are made for the rounded ones: no rounding here makes Q less orthogonal.
    vectors: Vec<f32>,
    /// `fₖ = 2 / ‖vₖ‖²`
    factors: Vec<f64>,
}

/// A reflection of the last elements of a row.
pub(crate) struct Reflection<'a> {
    /// As many elements as it changes.
    pub(crate) vector: &'a [f32],
    /// 2 / ‖vector‖²
    pub(crate) factor: f64,
}

impl Orthogonal {
    /// The matrix of width `width`, at least 1, of `seed`.
    pub(super) fn new(width: usize, seed: u64) -> Orthogonal {
        let numbers = Gaussian(SplitMix64::new(seed));
        let mut vectors = vec![0.0; first_of(width, width - 1)];
        let mut rest = &mut vectors[..];
        let slices = (0..width - 1).map(|k| rest.split_off_mut(..width - k).expect("elements of each vector"));
        let slices: Vec<_> = slices.collect();
        let reflections = slices.into_par_iter().enumerate();
        let reflections = reflections.map(|(k, vector)| reflection(numbers, first_of(width, k), vector));
        let (mut signs, factors): (Vec<_>, Vec<_>) = reflections.unzip();
        signs.push(numbers.number(first_of(width, width - 1)) < 0.0);
        Orthogonal { signs, vectors, factors }
    }

    pub(super) fn width(&self) -> usize {
        self.signs.len()
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.vectors) + size_of_val(&*self.factors) + size_of_val(&*self.signs)
    }

    /// How many reflections there are.
    pub(crate) fn reflections(&self) -> usize {
        self.factors.len()
    }

    /// What all reflections reflect along, one after the other.
    #[cfg(feature = "cuda")]
    pub(crate) fn vectors(&self) -> &[f32] {
        &self.vectors
    }

    /// Reflection `k`.
    #[inline(always)]
    pub(crate) fn reflection(&self, k: usize) -> Reflection<'_> {
        let first = first_of(self.width(), k);
        Reflection { vector: &self.vectors[first..first + self.width() - k], factor: self.factors[k] }
    }

    /// Rotates the columns of `panel`.
    pub(super) fn apply_to_panel(&self, vectors: Option<Vectors>, panel: &mut [Line], inverse: bool) {
        let reflections = Reflections { orthogonal: self, panel, inverse };
        match vectors {
            None => reflections.reflect(),
            Some(vectors) => vectors.run(reflections),
        }
    }
}

/// Elements of the vectors before the one of reflection `k`.
fn first_of(width: usize, k: usize) -> usize {
    (2 * width + 1 - k) * k / 2
}

/// Fills `vector`, of at least two elements, from the numbers from `first` on; gives the sign of D, and the factor.
fn reflection(numbers: Gaussian, first: usize, vector: &mut [f32]) -> (bool, f64) {
    for (index, value) in (first..).zip(&mut *vector) {
        *value = numbers.number(index) as f32;
    }
    let squares = |vector: &[f32]| vector.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>();
    let (head, length) = (f64::from(vector[0]), squares(vector).sqrt());
    // Away from 0, so that the sum loses no digits: the vector turns to the other side.
    vector[0] = (head + length.copysign(head)) as f32;
    (head.is_sign_positive(), 2.0 / squares(vector))
}

/// Numbers of the normal distribution (Box and Muller 1958, "A note on the generation of random normal deviates").
#[derive(Clone, Copy)]
struct Gaussian(SplitMix64);

impl Gaussian {
    /// Number `index`: `√(−2 ln u) cos(2π v)`, where u = (a + 1) / 2⁵³ and v = b / 2⁵³ with the top 53 bits a of output
    /// 2 · index and b of the next.
    fn number(self, index: usize) -> f64 {
        let bits = |which: u64| (self.0.output(2 * index as u64 + which) >> 11) as f64;
        let end = (1_u64 << 53) as f64;
        let (u, v) = ((bits(0) + 1.0) / end, bits(1) / end);
        (-2.0 * libm::log(u)).sqrt() * libm::cos(std::f64::consts::TAU * v)
    }
}

/// A call of [`Orthogonal::apply_to_panel`]. Compiled for an instruction set it does the same operations, only more of them
/// at a time.
struct Reflections<'a> {
    orthogonal: &'a Orthogonal,
    panel: &'a mut [Line],
    inverse: bool,
}

impl Kernel for Reflections<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        self.reflect();
    }
}

impl Reflections<'_> {
    #[inline(always)]
    fn reflect(self) {
        let Reflections { orthogonal, panel, inverse } = self;
        let count = orthogonal.reflections();
        if inverse {
            for k in (0..count).rev() {
                reflect(orthogonal.reflection(k), &mut panel[k..]);
            }
        }
        for (line, _) in panel.iter_mut().zip(&orthogonal.signs).filter(|(_, negative)| **negative) {
            *line = line.map(|value| -value);
        }
        if !inverse {
            for k in 0..count {
                reflect(orthogonal.reflection(k), &mut panel[k..]);
            }
        }
    }
}

/// `x − f (x · v) v` for each column x.
#[inline(always)]
fn reflect(Reflection { vector, factor }: Reflection<'_>, panel: &mut [Line]) {
    let mut products = Line::default();
    for (line, &v) in panel.iter().zip(vector) {
        for (product, x) in products.iter_mut().zip(line) {
            *product += f64::from(v) * x;
        }
    }
    for product in &mut products {
        *product *= factor;
    }
    for (line, &v) in panel.iter_mut().zip(vector) {
        for (x, product) in line.iter_mut().zip(products) {
            *x -= f64::from(v) * product;
        }
    }
}
