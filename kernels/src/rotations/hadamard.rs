//! Products with Hadamard matrices by their factors: `O(n (m + log n))` for a row of n = m · 2ᵏ elements.
//!
//! A row is a tensor with an axis for each factor of the matrix, the last one the Sylvester matrix; a Kronecker product
//! multiplies each axis with its factor, one after the other.

#![allow(clippy::inline_always, reason = "code for vectors must end up in the function that has them enabled")]

use super::base::BaseMatrix;
use super::orders::Construction;
use super::panel::{Line, with_axis};
use crate::cpu::Vectors;
use crate::cpu::simd::{Kernel, Simd};

/// `diag(signs) H / √n`.
pub(crate) struct Hadamard {
    /// In the order of the product.
    pub(crate) bases: Vec<BaseMatrix>,
    /// Order of the Sylvester matrix.
    pub(crate) sylvester: usize,
    /// `sign / √n` for each element of a row.
    pub(crate) scales: Vec<f32>,
}

impl Hadamard {
    /// `signs` has as many elements as the construction has rows; true is −.
    pub(super) fn new(construction: &Construction, signs: Option<&[bool]>) -> Hadamard {
        let width = construction.order();
        let scale = (1.0 / (width as f64).sqrt()) as f32;
        let is_negative = |i| signs.is_some_and(|signs| signs[i]);
        Hadamard {
            bases: construction.bases().map(|(base, entries)| BaseMatrix::new(base.order(), entries)).collect(),
            sylvester: construction.sylvester(),
            scales: (0..width).map(|i| if is_negative(i) { -scale } else { scale }).collect(),
        }
    }

    pub(super) fn width(&self) -> usize {
        self.scales.len()
    }

    pub(super) fn bytes(&self) -> usize {
        let bases: usize = self.bases.iter().map(BaseMatrix::bytes).sum();
        bases + size_of_val(&*self.scales)
    }

    /// Rotates the columns of `panel`: signs, sums, one division, or with `inverse` sums, the division and signs.
    pub(super) fn apply_to_panel(&self, vectors: Option<Vectors>, panel: &mut [Line], inverse: bool) {
        let order = self.bases.iter().map(BaseMatrix::order).max().unwrap_or(0);
        with_axis(order, |axis| {
            let transform = Transform { hadamard: self, panel, inverse, axis };
            match vectors {
                None => transform.transform(),
                Some(vectors) => vectors.run(transform),
            }
        });
    }
}

/// A call of [`Hadamard::apply_to_panel`]. Compiled for an instruction set it does the same operations, only more of them at
/// a time.
struct Transform<'a> {
    hadamard: &'a Hadamard,
    panel: &'a mut [Line],
    inverse: bool,
    axis: &'a mut [Line],
}

impl Kernel for Transform<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        self.transform();
    }
}

impl Transform<'_> {
    #[inline(always)]
    fn transform(self) {
        let Transform { hadamard, panel, inverse, axis } = self;
        if !inverse {
            negate(panel, &hadamard.scales);
        }
        let mut after = panel.len();
        for base in &hadamard.bases {
            after /= base.order();
            base.multiply_axis(panel, after, inverse, axis);
        }
        for block in panel.chunks_exact_mut(hadamard.sylvester) {
            add_pairs(block);
        }
        let root = (hadamard.width() as f64).sqrt();
        for line in &mut *panel {
            for value in line {
                *value /= root;
            }
        }
        if inverse {
            negate(panel, &hadamard.scales);
        }
    }
}

/// Changes the sign of the lines whose sign is −.
#[inline(always)]
fn negate(panel: &mut [Line], scales: &[f32]) {
    for (line, _) in panel.iter_mut().zip(scales).filter(|(_, scale)| **scale < 0.0) {
        *line = line.map(|value| -value);
    }
}

/// Lines that fit into the nearest cache.
const NEAR: usize = 256;

/// Multiplies with the Sylvester matrix: sums and differences of pairs at distance 1, then 2, then 4, and so on, of a few
/// lines as far as that goes, then of all.
#[inline(always)]
fn add_pairs(panel: &mut [Line]) {
    let near = panel.len().min(NEAR);
    for block in panel.chunks_exact_mut(near) {
        add_pairs_from(block, 1);
    }
    add_pairs_from(panel, near);
}

/// The steps from `distance` on.
#[inline(always)]
fn add_pairs_from(panel: &mut [Line], mut distance: usize) {
    while distance < panel.len() {
        for pair in panel.chunks_exact_mut(2 * distance) {
            let (first, second) = pair.split_at_mut(distance);
            for (a, b) in first.as_flattened_mut().iter_mut().zip(second.as_flattened_mut()) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        distance *= 2;
    }
}
