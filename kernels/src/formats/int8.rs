//! `int8`: integers from −128 to 127, a byte each.
//!
//! ```text
//! plane ""              I8 [rows, cols]      two's complement
//! plane ".scales"       BF16, F16 or F32 [rows, groups]
//! plane ".zero_points"  I8 [rows, groups]    asymmetric only
//! ```

use super::PlaneDtype;
use super::integers::Packing;

/// A byte each.
pub(crate) struct Int8;

impl Packing for Int8 {
    const NAME: &'static str = "int8";
    const SUMMARY: &'static str = "8-bit integers times a scale for each channel or group";
    const BITS: u32 = 8;
    const DTYPE: PlaneDtype = PlaneDtype::I8;

    fn row_bytes(len: usize) -> usize {
        len
    }

    fn pack(integers: &[u8], first: usize, row: &mut [u8]) {
        row[first..first + integers.len()].copy_from_slice(integers);
    }

    fn unpack(row: &[u8], index: usize) -> i8 {
        row[index] as i8
    }
}

#[cfg(test)]
mod tests {
    use crate::formats::{Fit, Format, Matrix};

    #[test]
    fn codes_and_zero_points_are_bytes() {
        let format: Format = "int8(group: 2, symmetric: false, scales: f16)".parse().unwrap();
        // Per row: a scale of 0.5 with zero point 27, of 1 with -128.
        let row = [-77.5, 50.0, 255.0, 17.0];
        let values = [row, row].concat();
        let (mut codes, mut scales, mut zero_points) = (vec![0xaa; 8], vec![0; 8], vec![0xaa; 4]);
        format.encode(Fit::Absmax, &values, 4, &mut [&mut codes, &mut scales, &mut zero_points]);
        assert_eq!(codes.as_chunks(), (&[[0x80, 127, 127, 0x91]; 2][..], &[][..]));
        assert_eq!(scales.as_chunks(), (&[[0x00, 0x38, 0x00, 0x3c]; 2][..], &[][..]));
        assert_eq!(zero_points.as_chunks(), (&[[27, 0x80]; 2][..], &[][..]));
        let matrix = Matrix::new(format, 2, 4, &[&codes, &scales, &zero_points]).unwrap();
        let mut decoded = [f32::NAN; 3];
        matrix.decode(1, 1..4, &mut decoded);
        assert_eq!(decoded, row[1..4]);
    }
}
