//! `int4`: integers from −8 to 7, two in a byte.
//!
//! ```text
//! plane ""              U8 [rows, ⌈cols / 2⌉]      two codes in a byte, each q + 8
//! plane ".scales"       BF16, F16 or F32 [rows, groups]
//! plane ".zero_points"  U8 [rows, ⌈groups / 2⌉]    asymmetric only; two zero points in a byte, each z + 8
//!
//!            bit 7        4 3        0
//! byte i        [ 2 i + 1 ] [  2 i   ]             the even one is the low nibble; one that is missing is 0
//! ```

use super::PlaneDtype;
use super::integers::Packing;

/// Two in a byte.
pub(crate) struct Int4;

/// What turns a nibble in two's complement to one that is counted from the lowest integer, and back.
const OFFSET: u8 = 8;

impl Packing for Int4 {
    const NAME: &'static str = "int4";
    const SUMMARY: &'static str = "4-bit integers times a scale for each channel or group";
    const BITS: u32 = 4;
    const DTYPE: PlaneDtype = PlaneDtype::U8;

    fn row_bytes(len: usize) -> usize {
        len.div_ceil(2)
    }

    fn pack(integers: &[u8], first: usize, row: &mut [u8]) {
        let nibble = |integer: u8| (integer & 0xf) ^ OFFSET;
        let mut rest = integers;
        if let (1, [odd, others @ ..]) = (first % 2, rest) {
            row[first / 2] |= nibble(*odd) << 4;
            rest = others;
        }
        let (pairs, last) = rest.as_chunks::<2>();
        let bytes = &mut row[first.div_ceil(2)..];
        for (byte, [even, odd]) in bytes.iter_mut().zip(pairs) {
            *byte = nibble(*even) | nibble(*odd) << 4;
        }
        if let [even] = last {
            bytes[pairs.len()] = nibble(*even);
        }
    }

    fn unpack(row: &[u8], index: usize) -> i8 {
        let nibble = row[index / 2] >> (index % 2 * 4) & 0xf;
        nibble as i8 - OFFSET as i8
    }
}

#[cfg(test)]
mod tests {
    use crate::formats::{Fit, Format, Matrix};

    #[test]
    fn even_columns_are_low_nibbles() {
        let format: Format = "int4(group: 3, symmetric: false, scales: f32)".parse().unwrap();
        // Per row: a scale of 0.5 with zero point -8, of 1 with -3, of 2 with 7.
        let row = [0.0, 7.5, 1.5, -5.0, 10.0, 1.0, 0.0, -30.0, -2.0];
        let values = [row, row].concat();
        let (mut codes, mut scales, mut zero_points) = (vec![0xaa; 10], vec![0; 24], vec![0xaa; 4]);
        format.encode(Fit::Absmax, &values, 9, &mut [&mut codes, &mut scales, &mut zero_points]);
        assert_eq!(codes, [0xf0, 0x03, 0x6f, 0x0f, 0x0e, 0xf0, 0x03, 0x6f, 0x0f, 0x0e]);
        let scale_bytes: Vec<u8> =
            [0.5_f32, 1.0, 2.0, 0.5, 1.0, 2.0].iter().flat_map(|scale| scale.to_le_bytes()).collect();
        assert_eq!(scales, scale_bytes);
        assert_eq!(zero_points, [0x50, 0x0f, 0x50, 0x0f]);
        let matrix = Matrix::new(format, 2, 9, &[&codes, &scales, &zero_points]).unwrap();
        let mut decoded = [f32::NAN; 5];
        matrix.decode(1, 3..8, &mut decoded);
        assert_eq!(decoded, row[3..8]);
    }
}
