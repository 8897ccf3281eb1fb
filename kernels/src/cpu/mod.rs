//! What the processor offers, and the code that uses it.
//!
//! Vector code is written once, generic over [`simd::Simd`]; the folder of an architecture implements that trait with
//! intrinsics. How a weight format is read fast is one [`FastFormat`] and one line in [`FAST_FORMATS`]; a format
//! without one is decoded by its own scalar code and multiplied by the same kernels.

#![allow(
    clippy::inline_always,
    reason = "vector code must end up in the function that has the instruction set enabled"
)]

pub(crate) mod attention;
pub(crate) mod dense;
pub(crate) mod dot;
pub(crate) mod elementwise;
mod features;
pub(crate) mod panels;
pub(crate) mod simd;
#[cfg(target_arch = "x86_64")]
mod x86_64;

pub use features::{Isa, IsaError, isa, isa_from_env};

use crate::formats::{Format, Matrix};
use crate::tiles::Tile;
use std::ops::Range;
use std::sync::OnceLock;

/// A vector instruction set that the processor has.
#[derive(Clone, Copy)]
pub(crate) enum Vectors {
    /// AVX2, FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2(x86_64::Avx2),
    /// AVX-512 F, BW, VL and DQ.
    #[cfg(target_arch = "x86_64")]
    Avx512(x86_64::Avx512),
}

impl Vectors {
    /// The vectors of `isa`; `None` for the scalar one, and where the processor lacks it.
    pub(crate) fn of(isa: Isa) -> Option<Vectors> {
        match isa {
            Isa::Scalar => None,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => x86_64::Avx2::detect().map(Vectors::Avx2),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => x86_64::Avx512::detect().map(Vectors::Avx512),
            #[cfg(not(target_arch = "x86_64"))]
            Isa::Avx2 | Isa::Avx512 => None,
        }
    }

    /// Those of [`isa`].
    pub(crate) fn current() -> Option<Vectors> {
        static VECTORS: OnceLock<Option<Vectors>> = OnceLock::new();
        *VECTORS.get_or_init(|| Vectors::of(isa()))
    }

    /// Runs `kernel` compiled for this instruction set.
    pub(crate) fn run<K: simd::Kernel>(self, kernel: K) -> K::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Vectors::Avx2(simd) => simd.run(kernel),
            #[cfg(target_arch = "x86_64")]
            Vectors::Avx512(simd) => simd.run(kernel),
            #[cfg(not(target_arch = "x86_64"))]
            _ => {
                drop(kernel);
                unreachable!("no value of Vectors exists on this processor")
            }
        }
    }
}

/// Reads a weight format with vectors.
pub(crate) trait FastFormat: Sync {
    /// Decodes `columns` of row `row`, as [`Format::decode`] does, bit for bit.
    fn decode(&self, vectors: Vectors, weight: &Matrix<'_>, row: usize, columns: Range<usize>, out: &mut [f32]);

    /// `tile = x Wᵀ` for a few rows of `x`, `[tile rows, weight.cols]`; the tile covers all rows of `x` and some rows of
    /// `weight`, which are read from memory once.
    fn dot(&self, vectors: Vectors, x: &[f32], weight: &Matrix<'_>, tile: &mut Tile<'_>);
}

/// The fast paths by name of the format.
static FAST_FORMATS: &[(&str, &dyn FastFormat)] = &[
    ("f32", &dense::Dense::<dense::F32>::NEW),
    ("f16", &dense::Dense::<dense::F16>::NEW),
    ("bf16", &dense::Dense::<dense::Bf16>::NEW),
];

/// The fast path of `format`; the general one where it has none of its own.
pub(crate) fn fast_format(format: &dyn Format) -> &'static dyn FastFormat {
    let name = format.name();
    FAST_FORMATS.iter().find(|(fast, _)| *fast == name).map_or(&dense::AnyFormat, |(_, fast)| *fast)
}
