//! `f16`: IEEE 754 binary16 (11 bits of precision, largest 65504, smallest positive 2⁻²⁴).
//!
//! Values that round past 65504 become infinite; NaN stays NaN, quiet, with sign and the upper payload bits.
//!
//! ```text
//! plane ""   F16 [rows, cols]
//! ```

use super::{Codec, Constraint, Fit, Matrix, Parameters, Plane, PlaneDtype, element_bytes, fits_memory};
use half::f16;
use std::ops::Range;

/// Bytes of an element.
const BYTES: usize = 2;

/// The format.
pub(super) struct F16;

impl Codec for F16 {
    fn name(&self) -> &'static str {
        "f16"
    }

    fn summary(&self) -> &'static str {
        "IEEE half precision, 2 bytes per weight"
    }

    fn takes(&self, parameters: &Parameters) -> bool {
        *parameters == Parameters::NONE
    }

    fn constraints(&self, _: &Parameters, rows: usize, cols: usize) -> Result<(), Constraint> {
        fits_memory(rows, cols, BYTES)
    }

    fn planes(&self, _: &Parameters, rows: usize, cols: usize) -> Vec<Plane> {
        vec![Plane { suffix: "", dtype: PlaneDtype::F16, shape: vec![rows, cols] }]
    }

    fn limit(&self, _: &Parameters) -> f32 {
        // Less than half a unit above 65504, which rounds to it.
        f32::from_bits(0x477f_efff)
    }

    fn encode(&self, _: &Parameters, _: Fit, values: &[f32], cols: usize, planes: &mut [&mut [u8]]) {
        assert!(values.len().is_multiple_of(cols.max(1)), "{} values are no whole rows of {cols}", values.len());
        assert_eq!(planes[0].len(), values.len() * BYTES, "bytes for {} values", values.len());
        let (elements, _) = planes[0].as_chunks_mut::<BYTES>();
        for (element, &value) in elements.iter_mut().zip(values) {
            *element = f16::from_f32(value).to_le_bytes();
        }
    }

    fn decode(&self, matrix: &Matrix<'_>, row: usize, columns: Range<usize>, out: &mut [f32]) {
        assert_eq!(out.len(), columns.len(), "elements of {columns:?}");
        for (value, &bytes) in out.iter_mut().zip(element_bytes::<BYTES>(matrix, row, &columns)) {
            *value = f16::from_le_bytes(bytes).to_f32();
        }
    }
}
