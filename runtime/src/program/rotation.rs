//! Rotations as programs hold them.

use super::types::{Rotation, WeightId};

impl Rotation {
    /// Elements of a block.
    pub fn width(&self) -> u32 {
        match *self {
            Rotation::Hadamard { width, .. } | Rotation::Orthogonal { width, .. } | Rotation::Matrix { width, .. } => {
                width
            }
        }
    }

    /// The weight that holds the matrix, where it is given.
    pub fn weight(&self) -> Option<WeightId> {
        if let Rotation::Matrix { weight, .. } = *self { Some(weight) } else { None }
    }
}

/// Which signs are −, as [`Rotation::Hadamard`] spells them.
pub fn signs_to_text(negative: &[bool]) -> String {
    let byte = |bits: &[bool]| bits.iter().enumerate().fold(0u8, |byte, (at, &bit)| byte | u8::from(bit) << at);
    negative.chunks(8).map(|bits| format!("{:02x}", byte(bits))).collect()
}

/// The signs of a text, if it is that of `width` of them.
pub fn signs_from_text(text: &str, width: usize) -> Option<Vec<bool>> {
    let (digits, _) = text.as_bytes().as_chunks::<2>();
    if text.len() != 2 * width.div_ceil(8) {
        return None;
    }
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut negative = Vec::with_capacity(8 * digits.len());
    for &[high, low] in digits {
        let byte = digit(high)? << 4 | digit(low)?;
        negative.extend((0..8).map(|bit| byte >> bit & 1 == 1));
    }
    let past = negative.split_off(width);
    past.iter().all(|&negative| !negative).then_some(negative)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_have_one_text() {
        let signs = [true, false, false, true, false, false, false, false, false, true];
        assert_eq!(signs_to_text(&signs), "0902");
        assert_eq!(signs_from_text("0902", 10).as_deref(), Some(&signs[..]));
        for (text, width) in [("0902", 8), ("0902", 17), ("09", 10), ("0906", 10), ("0a0G", 16), ("0A02", 10), ("é00", 16)] {
            assert_eq!(signs_from_text(text, width), None, "{text}");
        }
        assert_eq!(signs_to_text(&[]), "");
        assert_eq!(signs_from_text("", 0), Some(Vec::new()));
    }
}
