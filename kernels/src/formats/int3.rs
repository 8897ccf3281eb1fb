//! `int3`: integers from −4 to 3, eight in three bytes.
//!
//! ```text
//! plane ""              U8 [rows, ⌈3 cols / 8⌉]      codes of 3 bits, each q + 4
//! plane ".scales"       BF16, F16 or F32 [rows, groups]
//! plane ".zero_points"  U8 [rows, ⌈3 groups / 8⌉]    asymmetric only; of 3 bits as codes are, each z + 4
//!
//!                  bit 7                               0
//! byte 3 i            [ 1 0 ][ 2 1 0 ][ 2 1 0 ]            codes 8 i + 2, 8 i + 1, 8 i
//! byte 3 i + 1     [ 0 ][ 2 1 0 ][ 2 1 0 ][ 2 ]            codes 8 i + 5, 8 i + 4, 8 i + 3, 8 i + 2
//! byte 3 i + 2        [ 2 1 0 ][ 2 1 0 ][ 2 1 ]            codes 8 i + 7, 8 i + 6, 8 i + 5
//! ```
//!
//! Code c is bits 3 c to 3 c + 2 of its row, the least significant first, where bit b of a row is bit b mod 8 of byte
//! ⌊b / 8⌋. Bits behind the last code are 0.

use super::PlaneDtype;
use super::integers::Packing;

/// Eight in three bytes.
pub(crate) struct Int3;

/// What turns three bits in two's complement to ones that are counted from the lowest integer, and back.
const OFFSET: u8 = 4;

/// Where the bits of integer `index` of a row begin: which byte, and which bit of it. They go on in the next byte when
/// it is bit 6 or 7.
fn place(index: usize) -> (usize, usize) {
    (index * 3 / 8, index * 3 % 8)
}

impl Packing for Int3 {
    const NAME: &'static str = "int3";
    const SUMMARY: &'static str = "3-bit integers times a scale for each channel or group";
    const BITS: u32 = 3;
    const DTYPE: PlaneDtype = PlaneDtype::U8;

    fn row_bytes(len: usize) -> usize {
        len / 8 * 3 + (len % 8 * 3).div_ceil(8)
    }

    fn pack(integers: &[u8], first: usize, row: &mut [u8]) {
        for (index, integer) in (first..).zip(integers) {
            let (byte, bit) = place(index);
            let [low, high] = (u16::from(integer & 7 ^ OFFSET) << bit).to_le_bytes();
            let before = (1 << bit) - 1;
            row[byte] = row[byte] & before | low;
            if bit > 5 {
                row[byte + 1] = high;
            }
        }
    }

    fn unpack(row: &[u8], index: usize) -> i8 {
        let (byte, bit) = place(index);
        let next = if bit > 5 { row[byte + 1] } else { 0 };
        let code = u16::from_le_bytes([row[byte], next]) >> bit & 7;
        code as i8 - OFFSET as i8
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::{Fit, Format, Matrix};

    #[test]
    #[expect(clippy::unusual_byte_groupings, reason = "a group of digits is a code")]
    fn codes_lie_one_behind_the_other() {
        let format: Format = "int3(group: 3, symmetric: false, scales: f32)".parse().unwrap();
        // Per row: a scale of 1 with zero point 0, of 0.5 with -4, of 2 with 3.
        let row = [-4.0, 3.0, 1.0, 0.0, 3.5, 1.5, -14.0, 0.0, -6.0];
        let values = [row, row].concat();
        let (mut codes, mut scales, mut zero_points) = (vec![0xaa; 8], vec![0; 24], vec![0xaa; 4]);
        format.encode(Fit::Absmax, &values, 9, &mut [&mut codes, &mut scales, &mut zero_points]);
        // Stored: 0 7 5, 0 7 3, 0 7 4.
        assert_eq!(codes[..4], [0b01_111_000, 0b1_111_000_1, 0b111_000_01, 0b100]);
        assert_eq!(codes[4..], codes[..4]);
        let scale_bytes: Vec<u8> =
            [1.0_f32, 0.5, 2.0, 1.0, 0.5, 2.0].iter().flat_map(|scale| scale.to_le_bytes()).collect();
        assert_eq!(scales, scale_bytes);
        // Stored: 4 0 7.
        assert_eq!(zero_points, [0b11_000_100, 0b1, 0b11_000_100, 0b1]);
        let matrix = Matrix::new(format, 2, 9, &[&codes, &scales, &zero_points]).unwrap();
        let mut decoded = [f32::NAN; 6];
        matrix.decode(1, 2..8, &mut decoded);
        assert_eq!(decoded, row[2..8]);
    }

    #[test]
    fn rows_are_whole_bytes() {
        let bytes: Vec<usize> = (0..=9).map(Int3::row_bytes).collect();
        assert_eq!(bytes, [0, 1, 1, 2, 2, 2, 3, 3, 3, 4]);
        assert_eq!(Int3::row_bytes(usize::MAX), usize::MAX / 8 * 3 + 3);
    }

    #[test]
    fn integers_come_back_wherever_a_stretch_begins() {
        let integers: Vec<u8> = (0..40).map(|i| (i * 5 % 8) as u8 ^ 4).collect();
        for cut in 0..=integers.len() {
            let mut row = [0xff; 15];
            Int3::pack(&integers[..cut], 0, &mut row);
            Int3::pack(&integers[cut..], cut, &mut row);
            let read: Vec<u8> = (0..40).map(|i| Int3::unpack(&row, i) as u8 & 7).collect();
            assert_eq!(read, integers, "{cut}");
        }
    }
}
