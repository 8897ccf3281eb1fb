//! Formats whose elements stand for themselves, and the general way for all others.

use super::simd::{Kernel, Simd, padded, store_partial};
use super::{FastFormat, Vectors, dot};
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

impl Element for F16 {
    type Stored = [u8; 2];

    #[inline(always)]
    fn load<S: Simd>(simd: S, stored: &S::Array<[u8; 2]>) -> S::F32 {
        simd.load_f16(stored)
    }
}

impl Element for Bf16 {
    type Stored = [u8; 2];

    #[inline(always)]
    fn load<S: Simd>(simd: S, stored: &S::Array<[u8; 2]>) -> S::F32 {
        simd.load_bf16(stored)
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

macro_rules! dense {
    ($element:ty, $bytes:literal) => {
        impl FastFormat for Dense<$element> {
            fn decode(
                &self,
                vectors: Vectors,
                weight: &Matrix<'_>,
                row: usize,
                columns: Range<usize>,
                out: &mut [f32],
            ) {
                let (elements, _) = weight.plane(0).as_chunks::<$bytes>();
                let row = &elements[row * weight.cols()..(row + 1) * weight.cols()];
                vectors.run(Widen::<$element> { stored: &row[columns], out });
            }

            fn dot(&self, vectors: Vectors, x: &[f32], weight: &Matrix<'_>, tile: &mut Tile<'_>) {
                let (elements, _) = weight.plane(0).as_chunks::<$bytes>();
                let columns = tile.columns();
                let rows = &elements[columns.start * weight.cols()..columns.end * weight.cols()];
                vectors.run(dot::DotTile::<$element> { x, weight: rows, inner: weight.cols(), first: 0, tile });
            }
        }
    };
}

dense!(F32, 4);
dense!(F16, 2);
dense!(Bf16, 2);

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
        weight.format().decode(weight, row, columns, out);
    }

    fn dot(&self, vectors: Vectors, x: &[f32], weight: &Matrix<'_>, tile: &mut Tile<'_>) {
        let inner = weight.cols();
        let columns = tile.columns();
        scratch::with(&DECODED_ROWS, dot::WEIGHT_ROWS * inner, |decoded| {
            for start in columns.clone().step_by(dot::WEIGHT_ROWS) {
                let count = dot::WEIGHT_ROWS.min(columns.end - start);
                for i in 0..count {
                    weight.decode_row(start + i, &mut decoded[i * inner..(i + 1) * inner]);
                }
                let rows = &decoded[..count * inner];
                vectors.run(dot::DotTile::<Decoded> { x, weight: rows, inner, first: start - columns.start, tile });
            }
        });
    }
}
