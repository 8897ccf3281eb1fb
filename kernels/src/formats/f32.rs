//! `f32`: IEEE 754 binary32, bit for bit, NaN payloads included.
//!
//! ```text
//! plane ""   F32 [rows, cols]
//! ```

use super::{Codec, Constraint, Fit, Matrix, Parameters, Plane, PlaneDtype, element_bytes, fits_memory};
use std::ops::Range;

/// Bytes of an element.
const BYTES: usize = 4;

/// The format.
pub(super) struct F32;

impl Codec for F32 {
    fn name(&self) -> &'static str {
        "f32"
    }

    fn summary(&self) -> &'static str {
        "IEEE single precision, 4 bytes per weight"
    }

    fn takes(&self, parameters: &Parameters) -> bool {
        *parameters == Parameters::NONE
    }

    fn constraints(&self, _: &Parameters, rows: usize, cols: usize) -> Result<(), Constraint> {
        fits_memory(rows, cols, BYTES)
    }

    fn planes(&self, _: &Parameters, rows: usize, cols: usize) -> Vec<Plane> {
        vec![Plane { suffix: "", dtype: PlaneDtype::F32, shape: vec![rows, cols] }]
    }

    fn limit(&self, _: &Parameters) -> f32 {
        f32::MAX
    }

    fn encode(&self, _: &Parameters, _: Fit, values: &[f32], cols: usize, planes: &mut [&mut [u8]]) {
        assert!(values.len().is_multiple_of(cols.max(1)), "{} values are no whole rows of {cols}", values.len());
        assert_eq!(planes[0].len(), values.len() * BYTES, "bytes for {} values", values.len());
        let (elements, _) = planes[0].as_chunks_mut::<BYTES>();
        for (element, &value) in elements.iter_mut().zip(values) {
            *element = value.to_le_bytes();
        }
    }

    fn decode(&self, matrix: &Matrix<'_>, row: usize, columns: Range<usize>, out: &mut [f32]) {
        assert_eq!(out.len(), columns.len(), "elements of {columns:?}");
        for (value, &bytes) in out.iter_mut().zip(element_bytes::<BYTES>(matrix, row, &columns)) {
            *value = f32::from_le_bytes(bytes);
        }
    }
}
