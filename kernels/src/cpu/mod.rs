//! What the processor offers, and the code that uses it.
//!
//! Vector code is written once, generic over `Simd`; the folder of an architecture implements that trait with
//! intrinsics. How a weight format is read fast is one `FastFormat` and one line in `FAST_FORMATS`; a format
//! without one is decoded by its own scalar code and multiplied by the same kernels.

#![allow(
    clippy::inline_always,
    reason = "vector code must end up in the function that has the instruction set enabled"
)]
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "no other architecture implements the vectors"))]

pub(crate) mod activation;
pub(crate) mod attention;
pub(crate) mod dense;
pub(crate) mod dot;
pub(crate) mod elementwise;
mod features;
pub(crate) mod int8;
mod integers;
mod math;
pub(crate) mod norm;
pub(crate) mod panels;
pub(crate) mod rotate;
pub(crate) mod routing;
pub(crate) mod simd;
pub(crate) mod softmax;
#[cfg(target_arch = "x86_64")]
mod x86_64;

pub use features::{Isa, IsaError, isa, isa_from_env};

use crate::formats::{Format, Int4, Int8, Matrix};
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
    #[cfg_attr(
        not(target_arch = "x86_64"),
        allow(unused_variables, clippy::needless_pass_by_value, reason = "no arms")
    )]
    pub(crate) fn run<K: simd::Kernel>(self, kernel: K) -> K::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Vectors::Avx2(simd) => simd.run(kernel),
            #[cfg(target_arch = "x86_64")]
            Vectors::Avx512(simd) => simd.run(kernel),
        }
    }
}

/// Reads a weight format with vectors.
pub(crate) trait FastFormat: Sync {
    /// Decodes `columns` of row `row`, as [`Matrix::decode`] does, to the bit except for which NaN.
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
    ("int8", &integers::Integers::<Int8>::NEW),
    ("int4", &integers::Integers::<Int4>::NEW),
];

/// The fast path of `format`; the general one where it has none of its own.
pub(crate) fn fast_format(format: Format) -> &'static dyn FastFormat {
    let name = format.name();
    FAST_FORMATS.iter().find(|(fast, _)| *fast == name).map_or(&dense::AnyFormat, |(_, fast)| *fast)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::{Codec, Constraint, FORMATS, Fit, Parameters, Plane};
    use crate::ops;

    /// bf16 under a name that has no fast path.
    struct Slow;

    impl Codec for Slow {
        fn name(&self) -> &'static str {
            "slow"
        }

        fn summary(&self) -> &'static str {
            "bf16 without a fast path"
        }

        fn takes(&self, _: &Parameters) -> bool {
            true
        }

        fn constraints(&self, _: &Parameters, rows: usize, cols: usize) -> Result<(), Constraint> {
            Format::BF16.constraints(rows, cols)
        }

        fn planes(&self, _: &Parameters, rows: usize, cols: usize) -> Vec<Plane> {
            Format::BF16.planes(rows, cols)
        }

        fn limit(&self, _: &Parameters) -> f32 {
            Format::BF16.limit()
        }

        fn encode(&self, _: &Parameters, fit: Fit, values: &[f32], cols: usize, planes: &mut [&mut [u8]]) {
            Format::BF16.encode(fit, values, cols, planes);
        }

        fn decode(&self, matrix: &Matrix<'_>, row: usize, columns: Range<usize>, out: &mut [f32]) {
            let bf16 = Matrix::new(Format::BF16, matrix.rows(), matrix.cols(), &[matrix.plane(0)]);
            bf16.unwrap().decode(row, columns, out);
        }
    }

    #[test]
    fn fast_paths_belong_to_formats() {
        for (name, _) in FAST_FORMATS {
            assert!(FORMATS.iter().any(|format| format.name() == *name), "{name}");
        }
    }

    #[test]
    fn a_format_without_a_fast_path_gives_the_same_products() {
        let (outputs, inner) = (103, 300);
        let mut random = crate::check::Random::new(1);
        let mut plane = vec![0; outputs * inner * 2];
        Format::BF16.encode(Fit::Absmax, &random.values(outputs * inner), inner, &mut [&mut plane]);
        for vectors in Isa::ALL.map(Vectors::of) {
            for rows in [1, 6, 40] {
                let x = random.values(rows * inner);
                let [fast, slow] = [Format::BF16, Format::of(&Slow)].map(|format| {
                    let weight = Matrix::new(format, outputs, inner, &[&plane]).unwrap();
                    let mut out = vec![f32::NAN; rows * outputs];
                    ops::matmul_on(vectors, &x, &weight, None, &mut out);
                    out
                });
                assert_eq!(fast, slow);
            }
        }
    }
}
