//! Rotations of blocks.

use super::Vectors;
use super::dense::Decoded;
use super::dot::dots;
use super::simd::{Kernel, Simd, padded, store_partial};
use crate::rotations::{BaseMatrix, Hadamard, Orthogonal};
use crate::scratch::{self, Scratch};

/// Terms that are added up before they are added to the others, so that chains of additions stay short.
const CHAIN: usize = 64;

/// Elements of a product that are added up side by side, each in two vectors.
const SUMS: usize = 4;

thread_local! {
    static AXIS: Scratch<f32> = const { Scratch::new(Vec::new()) };
}

/// Elements of two vectors of any instruction set at most.
const WIDEST: usize = 32;

/// Some blocks of [`crate::ops::rotate`] by a Hadamard matrix.
pub(crate) fn hadamard_blocks(vectors: Vectors, x: &[f32], hadamard: &Hadamard, inverse: bool, out: &mut [f32]) {
    let order = hadamard.bases.iter().map(BaseMatrix::order).max().unwrap_or(0);
    // Here, as what is called from a closure is not compiled for the instruction set.
    scratch::with(&AXIS, order * WIDEST, |axis| vectors.run(HadamardBlocks { x, hadamard, inverse, axis, out }));
}

struct HadamardBlocks<'a> {
    x: &'a [f32],
    hadamard: &'a Hadamard,
    inverse: bool,
    /// For as many columns of the largest base as two vectors hold.
    axis: &'a mut [f32],
    out: &'a mut [f32],
}

impl Kernel for HadamardBlocks<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let HadamardBlocks { x, hadamard, inverse, axis, out } = self;
        out.copy_from_slice(x);
        if !inverse {
            scale_blocks(simd, out, &hadamard.scales);
        }
        let mut after = hadamard.scales.len();
        for base in &hadamard.bases {
            after /= base.order();
            multiply_axis(simd, out, base, after, inverse, axis);
        }
        add_pairs(simd, out, hadamard.sylvester);
        if inverse {
            scale_blocks(simd, out, &hadamard.scales);
        }
    }
}

/// Multiplies each block with `scales`, of its length.
#[inline(always)]
fn scale_blocks<S: Simd>(simd: S, blocks: &mut [f32], scales: &[f32]) {
    for block in blocks.chunks_exact_mut(scales.len()) {
        let (block, rest) = S::chunks_mut(block);
        let (scales, scales_rest) = S::chunks(scales);
        for (values, scales) in block.iter_mut().zip(scales) {
            simd.store(simd.mul(simd.load(values), simd.load(scales)), values);
        }
        for (value, scale) in rest.iter_mut().zip(scales_rest) {
            *value *= scale;
        }
    }
}

/// Multiplies an axis of a tensor with a base; `after` elements belong to each index of the axis.
///
/// A *column* of the tensor is the elements that differ only in this index. Two vectors of columns are copied together,
/// `[order, 2 · LANES]`; columns of several blocks where a block has not as many.
#[inline(always)]
fn multiply_axis<S: Simd>(
    simd: S,
    tensor: &mut [f32],
    base: &BaseMatrix,
    after: usize,
    transposed: bool,
    axis: &mut [f32],
) {
    let (order, factors, wide) = (base.order(), base.factors(transposed), 2 * S::LANES);
    let axis = &mut axis[..order * wide];
    let all = tensor.len() / order;
    for first in (0..all).step_by(wide) {
        let columns = Columns { order, after, first, count: wide.min(all - first) };
        columns.gather(tensor, wide, axis);
        for group in (0..order).step_by(SUMS) {
            for (i, sums) in (group..).zip(sums(simd, axis, &factors[group..], order)) {
                let mut lanes = [S::array(0.0); 2];
                simd.store(sums[0], &mut lanes[0]);
                simd.store(sums[1], &mut lanes[1]);
                columns.scatter(i, [lanes[0].as_ref(), lanes[1].as_ref()], tensor);
            }
        }
    }
}

/// Some columns of a tensor, one behind the other.
#[derive(Clone, Copy)]
struct Columns {
    order: usize,
    after: usize,
    first: usize,
    count: usize,
}

impl Columns {
    /// Where column `first + lane` starts.
    #[inline(always)]
    fn start(self, lane: usize) -> usize {
        let column = self.first + lane;
        column / self.after * self.after * self.order + column % self.after
    }

    /// Whether the columns lie side by side.
    #[inline(always)]
    fn are_adjacent(self) -> bool {
        self.first % self.after + self.count <= self.after
    }

    /// Copies the columns to `lines`, `[order, wide]`. What is behind the last of them is left over from others.
    #[inline(always)]
    fn gather(self, tensor: &[f32], wide: usize, lines: &mut [f32]) {
        if self.are_adjacent() {
            let start = self.start(0);
            for (i, line) in lines.chunks_exact_mut(wide).enumerate() {
                line[..self.count].copy_from_slice(&tensor[start + i * self.after..][..self.count]);
            }
        } else {
            for lane in 0..self.count {
                let start = self.start(lane);
                for (i, line) in lines.chunks_exact_mut(wide).enumerate() {
                    line[lane] = tensor[start + i * self.after];
                }
            }
        }
    }

    /// Copies two vectors to element `i` of the columns.
    #[inline(always)]
    fn scatter(self, i: usize, vectors: [&[f32]; 2], tensor: &mut [f32]) {
        let half = vectors[0].len();
        if self.are_adjacent() && self.count == 2 * half {
            let out = &mut tensor[self.start(0) + i * self.after..][..2 * half];
            out[..half].copy_from_slice(vectors[0]);
            out[half..].copy_from_slice(vectors[1]);
        } else {
            for lane in 0..self.count {
                tensor[self.start(lane) + i * self.after] = vectors[lane / half][lane % half];
            }
        }
    }
}

/// Sums of the lines of `axis`, each of two vectors and times its factor; the factors of a line are `order` behind those of
/// the line before.
#[inline(always)]
fn sums<S: Simd>(simd: S, axis: &[f32], factors: &[f32], order: usize) -> [[S::F32; 2]; SUMS] {
    let mut totals = [[simd.splat(0.0); 2]; SUMS];
    let (lines, _) = S::chunks(axis);
    let (lines, _) = lines.as_chunks::<2>();
    for (lines, factors) in lines.chunks(CHAIN).zip(factors.chunks(CHAIN * order)) {
        let mut sums = [[simd.splat(0.0); 2]; SUMS];
        for (line, factors) in lines.iter().zip(factors.chunks(order)) {
            let line = [simd.load(&line[0]), simd.load(&line[1])];
            let factors = factors.first_chunk::<SUMS>().expect("as many factors as sums");
            for i in 0..SUMS {
                let factor = simd.splat(factors[i]);
                sums[i][0] = simd.mul_add(factor, line[0], sums[i][0]);
                sums[i][1] = simd.mul_add(factor, line[1], sums[i][1]);
            }
        }
        for i in 0..SUMS {
            totals[i][0] = simd.add(totals[i][0], sums[i][0]);
            totals[i][1] = simd.add(totals[i][1], sums[i][1]);
        }
    }
    totals
}

/// Multiplies blocks of `order` elements, a power of two, with the Sylvester matrix: sums and differences of pairs at distance
/// 1, then 2, then 4, and so on.
#[inline(always)]
fn add_pairs<S: Simd>(simd: S, blocks: &mut [f32], order: usize) {
    let steps = order.trailing_zeros();
    let wide = 2 * S::LANES;
    let (whole, rest) = blocks.split_at_mut(blocks.len() / wide * wide);
    for pair in S::chunks_mut(whole).0.as_chunks_mut::<2>().0 {
        add_pairs_within(simd, pair, steps);
    }
    if !rest.is_empty() {
        let mut pair = [S::array(0.0); 2];
        let (first, second) = rest.split_at_mut(rest.len().min(S::LANES));
        pair[0].as_mut()[..first.len()].copy_from_slice(first);
        pair[1].as_mut()[..second.len()].copy_from_slice(second);
        add_pairs_within(simd, &mut pair, steps);
        first.copy_from_slice(&pair[0].as_ref()[..first.len()]);
        second.copy_from_slice(&pair[1].as_ref()[..second.len()]);
    }
    let mut distance = wide;
    while 4 * distance <= order {
        for group in blocks.chunks_exact_mut(4 * distance) {
            add_pairs_of_pairs(simd, group, distance);
        }
        distance *= 4;
    }
    if 2 * distance <= order {
        for group in blocks.chunks_exact_mut(2 * distance) {
            let (a, b) = group.split_at_mut(distance);
            for (a, b) in S::chunks_mut(a).0.iter_mut().zip(S::chunks_mut(b).0) {
                let [sum, difference] = sum_and_difference(simd, simd.load(a), simd.load(b));
                simd.store(sum, a);
                simd.store(difference, b);
            }
        }
    }
}

#[inline(always)]
fn sum_and_difference<S: Simd>(simd: S, a: S::F32, b: S::F32) -> [S::F32; 2] {
    [simd.add(a, b), simd.sub(a, b)]
}

/// The first `steps` steps, as far as distances are within two vectors.
///
/// Each moves the elements with even numbers before the others, so that pairs lie side by side in two vectors; after as many
/// as the number of an element has bits, each is in its place.
#[inline(always)]
fn add_pairs_within<S: Simd>(simd: S, pair: &mut [S::Array<f32>; 2], steps: u32) {
    let mut vectors = [simd.load(&pair[0]), simd.load(&pair[1])];
    for step in 0..(2 * S::LANES).trailing_zeros() {
        let [even, odd] = simd.deinterleave(vectors);
        vectors = if step < steps { sum_and_difference(simd, even, odd) } else { [even, odd] };
    }
    simd.store(vectors[0], &mut pair[0]);
    simd.store(vectors[1], &mut pair[1]);
}

/// Two steps at once, at `distance` and twice as far, in a group of four times as many elements.
#[inline(always)]
fn add_pairs_of_pairs<S: Simd>(simd: S, group: &mut [f32], distance: usize) {
    let (front, back) = group.split_at_mut(2 * distance);
    let ((a, b), (c, d)) = (front.split_at_mut(distance), back.split_at_mut(distance));
    let [a, b, c, d] = [a, b, c, d].map(|quarter| S::chunks_mut(quarter).0);
    for (((a, b), c), d) in a.iter_mut().zip(b).zip(c).zip(d) {
        let [ab, a_b] = sum_and_difference(simd, simd.load(a), simd.load(b));
        let [cd, c_d] = sum_and_difference(simd, simd.load(c), simd.load(d));
        let ([sum_even, difference_even], [sum_odd, difference_odd]) =
            (sum_and_difference(simd, ab, cd), sum_and_difference(simd, a_b, c_d));
        simd.store(sum_even, a);
        simd.store(sum_odd, b);
        simd.store(difference_even, c);
        simd.store(difference_odd, d);
    }
}

/// Some blocks of [`crate::ops::rotate`] by a product of reflections.
pub(crate) struct ReflectedBlocks<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) orthogonal: &'a Orthogonal,
    pub(crate) inverse: bool,
    pub(crate) out: &'a mut [f32],
}

impl Kernel for ReflectedBlocks<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let ReflectedBlocks { x, orthogonal, inverse, out } = self;
        out.copy_from_slice(x);
        if inverse {
            for k in (0..orthogonal.reflections()).rev() {
                reflect_blocks(simd, out, orthogonal, k);
            }
        }
        for block in out.chunks_exact_mut(orthogonal.signs.len()) {
            for (value, _) in block.iter_mut().zip(&orthogonal.signs).filter(|(_, negative)| **negative) {
                *value = -*value;
            }
        }
        if !inverse {
            for k in 0..orthogonal.reflections() {
                reflect_blocks(simd, out, orthogonal, k);
            }
        }
    }
}

/// `x − f (x · v) v` on the elements from `k` on of each block.
#[inline(always)]
fn reflect_blocks<S: Simd>(simd: S, blocks: &mut [f32], orthogonal: &Orthogonal, k: usize) {
    let reflection = orthogonal.reflection(k);
    for block in blocks.chunks_exact_mut(orthogonal.signs.len()) {
        let x = &mut block[k..];
        let [[product]] = dots::<S, Decoded, 1, 1>(simd, [x], [reflection.vector]);
        let factor = simd.splat((reflection.factor * -f64::from(product)) as f32);
        let (x, x_rest) = S::chunks_mut(x);
        let (v, v_rest) = S::chunks(reflection.vector);
        for (x, v) in x.iter_mut().zip(v) {
            simd.store(simd.mul_add(factor, simd.load(v), simd.load(x)), x);
        }
        if !x_rest.is_empty() {
            let (x, v) = (simd.load(&padded::<S, _>(x_rest)), simd.load(&padded::<S, _>(v_rest)));
            store_partial(simd, simd.mul_add(factor, v, x), x_rest);
        }
    }
}
