//! Formats whose elements stand for themselves, and the general way for all others.

use super::dot::{self, DenseRows};
use super::simd::{Kernel, Simd, padded, store_partial};
use super::{FastFormat, Vectors};
use crate::formats::Matrix;
use crate::scratch::{self, Scratch};
use crate::tiles::Tile;
use std::marker::PhantomData;
use std::ops::Range;

/// An element in memory.
pub(crate) trait Element: Copy + Send + Sync + 'static {
    /// Its bytes, or itself.
    type Stored: Copy + Default + Send + Sync;

    /// A vector of elements.
    fn load<S: Simd>(simd: S, stored: &S::Array<Self::Stored>) -> S::F32;
}

/// An element of a plane.
pub(crate) trait PlaneElement: Element {
    /// The elements of a plane.
    fn elements(plane: &[u8]) -> &[Self::Stored];
}

/// Little-endian binary32 without alignment.
#[derive(Clone, Copy)]
pub(crate) struct F32;

/// Little-endian binary16 without alignment.
#[derive(Clone, Copy)]
pub(crate) struct F16;

/// Little-endian bfloat16 without alignment.
#[derive(Clone, Copy)]
pub(crate) struct Bf16;

/// An f32 of this program.
#[derive(Clone, Copy)]
pub(crate) struct Decoded;

impl Element for F32 {
    type Stored = [u8; 4];

    #[inline(always)]
    fn load<S: Simd>(simd: S, stored: &S::Array<[u8; 4]>) -> S::F32 {
        simd.load_f32(stored)
    }
}

impl PlaneElement for F32 {
    fn elements(plane: &[u8]) -> &[[u8; 4]] {
        plane.as_chunks().0
    }
}

impl Element for F16 {
    type Stored = [u8; 2];

    #[inline(always)]
    fn load<S: Simd>(simd: S, stored: &S::Array<[u8; 2]>) -> S::F32 {
        simd.load_f16(stored)
    }
}

impl PlaneElement for F16 {
    fn elements(plane: &[u8]) -> &[[u8; 2]] {
        plane.as_chunks().0
    }
}

impl Element for Bf16 {
    type Stored = [u8; 2];

    #[inline(always)]
    fn load<S: Simd>(simd: S, stored: &S::Array<[u8; 2]>) -> S::F32 {
        simd.load_bf16(stored)
    }
}

impl PlaneElement for Bf16 {
    fn elements(plane: &[u8]) -> &[[u8; 2]] {
        plane.as_chunks().0
    }
}

impl Element for Decoded {
    type Stored = f32;

    #[inline(always)]
    fn load<S: Simd>(simd: S, stored: &S::Array<f32>) -> S::F32 {
        simd.load(stored)
    }
}

/// A format with one plane of such elements, `[rows, cols]`.
pub(crate) struct Dense<E>(PhantomData<E>);

impl<E: Element> Dense<E> {
    /// The only value.
    pub(crate) const NEW: Dense<E> = Dense(PhantomData);
}

impl<E: PlaneElement> FastFormat for Dense<E> {
    fn decode(&self, vectors: Vectors, weight: &Matrix<'_>, row: usize, columns: Range<usize>, out: &mut [f32]) {
        let row = &E::elements(weight.plane(0))[row * weight.cols()..(row + 1) * weight.cols()];
        vectors.run(Widen::<E> { stored: &row[columns], out });
    }

    fn dot(&self, vectors: Vectors, x: &[f32], weight: &Matrix<'_>, tile: &mut Tile<'_>) {
        let (inner, columns) = (weight.cols(), tile.columns());
        let elements = &E::elements(weight.plane(0))[columns.start * inner..columns.end * inner];
        vectors.run(dot::DotTile { x, weight: DenseRows::<E> { elements, inner }, inner, first: 0, tile });
    }
}

/// `out = stored`, as f32.
struct Widen<'a, E: Element> {
    stored: &'a [E::Stored],
    out: &'a mut [f32],
}

impl<E: Element> Kernel for Widen<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        assert_eq!(self.stored.len(), self.out.len(), "as many elements as asked for");
        let (stored, stored_rest) = S::chunks(self.stored);
        let (out, out_rest) = S::chunks_mut(self.out);
        for (stored, out) in stored.iter().zip(out) {
            simd.store(E::load(simd, stored), out);
        }
        if !out_rest.is_empty() {
            store_partial(simd, E::load(simd, &padded::<S, _>(stored_rest)), out_rest);
        }
    }
}

/// Any format, by its scalar decoder.
pub(crate) struct AnyFormat;

thread_local! {
    static DECODED_ROWS: Scratch<f32> = const { Scratch::new(Vec::new()) };
}

impl FastFormat for AnyFormat {
    fn decode(&self, _: Vectors, weight: &Matrix<'_>, row: usize, columns: Range<usize>, out: &mut [f32]) {
        weight.decode(row, columns, out);
    }

    fn dot(&self, vectors: Vectors, x: &[f32], weight: &Matrix<'_>, tile: &mut Tile<'_>) {
        dot_decoded(self, vectors, x, weight, tile);
    }
}

/// [`FastFormat::dot`] of any format, by decoding a few rows at a time.
pub(super) fn dot_decoded(
    format: &impl FastFormat,
    vectors: Vectors,
    x: &[f32],
    weight: &Matrix<'_>,
    tile: &mut Tile<'_>,
) {
    let inner = weight.cols();
    let columns = tile.columns();
    scratch::with(&DECODED_ROWS, dot::WEIGHT_ROWS * inner, |decoded| {
        for start in columns.clone().step_by(dot::WEIGHT_ROWS) {
            let count = dot::WEIGHT_ROWS.min(columns.end - start);
            for (row, decoded) in (start..start + count).zip(decoded.chunks_exact_mut(inner)) {
                format.decode(vectors, weight, row, 0..inner, decoded);
            }
            let rows = DenseRows::<Decoded> { elements: &decoded[..count * inner], inner };
            vectors.run(dot::DotTile { x, weight: rows, inner, first: start - columns.start, tile });
        }
    });
}
