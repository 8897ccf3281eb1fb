//! How far a fast version of an op may be from its scalar reference.
//!
//! Everywhere: where the reference is NaN, so is the fast version; where it is infinite, it is the same infinity.
//! Sums whose parts overflow f32 are not specified.

/// A class of agreement between a fast version (`got`) and the scalar reference (`expected`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Accuracy {
    /// The same bits; any NaN stands for any other.
    Bitwise,
    /// At most so many representable values apart.
    Ulp(u32),
    /// `|got − expected| ≤ x · max(magnitude, 2⁻⁹⁶)`, where the magnitude is what the op says.
    Rel(f32),
}

/// Decodes only.
pub const EMBED: Accuracy = Accuracy::Bitwise;

/// Of `Σ |x||w| + |bias|`. The longest chain of f32 additions is 512 for rows of up to 4096 elements, and each rounds by
/// at most 2⁻²⁴ of the sum so far.
pub const MATMUL: Accuracy = Accuracy::Rel(1.0 / 32768.0);

/// Of the result. The sum of squares has chains of at most 512 additions, whose error the root halves; the factor and
/// two products round once each.
pub const RMS_NORM: Accuracy = Accuracy::Rel(1.0 / 65536.0);

/// One rounding.
pub const GAIN: Accuracy = Accuracy::Bitwise;

/// One rounding.
pub const ADD: Accuracy = Accuracy::Bitwise;

/// One rounding.
pub const MUL: Accuracy = Accuracy::Bitwise;

/// Of the result: exp to 2 ulp, a sum and a quotient. Below x = −88 it may be 0, because exp(−x) overflows.
pub const SILU: Accuracy = Accuracy::Rel(1.0 / 2_097_152.0);

/// Of the result, or of 2⁻⁹⁶ times the value where that is more: as [`SILU`], and a product. An
/// infinite value times a gate below −88, whose `SiLU` may be 0, is not specified.
pub const SILU_MUL: Accuracy = Accuracy::Rel(1.0 / 2_097_152.0);

/// Of the largest value that the query sees, times 1 + the largest `scale · Σ |q||k|`: the error of a score, up to 32
/// roundings of 2⁻²⁴ in a head of up to 512 elements, becomes a relative error of its weight. Where a
/// visible score or value is infinite, the result is infinite or NaN, and which is not specified.
pub const ATTENTION: Accuracy = Accuracy::Rel(1.0 / 262_144.0);
