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

/// As [`MATMUL`], of each expert.
pub const EXPERT_MATMUL: Accuracy = MATMUL;

/// Codes and scales of rows: a maximum, quotients and roundings, each of which is part of the definition.
pub const QUANTIZE_ROWS: Accuracy = Accuracy::Bitwise;

/// Sums of integers are exact, and what follows them is part of the definition.
pub const MATMUL_INT8: Accuracy = Accuracy::Bitwise;

/// Of the result less its shift; of `(|x| + m) · factor · |gain_offset + gain|` with centre, m as for [`CENTRE`]; plus
/// |shift|. The sums have chains of at most 128 additions for up to 4096 elements, and the root halves the
/// error of the squares.
pub const NORM: Accuracy = Accuracy::Rel(1.0 / 131_072.0);

/// Of `|x| + m`, since what is taken off can cancel x: m is the mean of |x|, or along a vector u `|u| Σ |x u|`. As [`NORM`].
pub const CENTRE: Accuracy = Accuracy::Rel(1.0 / 131_072.0);

/// Two roundings that are part of the definition.
pub const GAIN: Accuracy = Accuracy::Bitwise;

/// One rounding.
pub const SHIFT: Accuracy = Accuracy::Bitwise;

/// One rounding.
pub const BINARY: Accuracy = Accuracy::Bitwise;

/// One rounding.
pub const AFFINE: Accuracy = Accuracy::Bitwise;

/// Of the result: a quotient, tanh to 4 ulp and a product.
pub const SOFTCAP: Accuracy = Accuracy::Rel(1.0 / 1_048_576.0);

/// Of the result times `1 + |e|`, where e is what the function takes the exponential of, if it has to be computed: rounding
/// e is a relative error of the exponential. That is x² / 2 for `Gelu`, 2 √(2/π) (x + 0.044715 x³) for `GeluTanh` and
/// 1.702 x for `GeluQuick`. Otherwise exp to 2 ulp or tanh to 4, a sum, a quotient, a product. Where `exp(−e)` overflows,
/// below −88, it may be 0.
pub const UNARY: Accuracy = Accuracy::Rel(1.0 / 1_048_576.0);

/// Of `Relu` and `ReluSquared`: at most one rounding.
pub const UNARY_RELU: Accuracy = Accuracy::Bitwise;

/// As [`UNARY`] times the value, or of 2⁻⁹⁶ times the value where that is more. An infinite value times a gate whose
/// function may be 0 is not specified.
pub const GATED: Accuracy = Accuracy::Rel(1.0 / 1_048_576.0);

/// Of the result times `1 + maximum − x`: rounding the difference is a relative error of its exponential. The sum has
/// chains of at most 512 additions for up to 4096 elements.
pub const SOFTMAX: Accuracy = Accuracy::Rel(1.0 / 32768.0);

/// Of `Σ |weight||x|`: a chain of at most 128 multiply-adds.
pub const COMBINE: Accuracy = Accuracy::Rel(1.0 / 131_072.0);

/// Of `Σ |x| / √width` of the block, for Hadamard matrices: chains of at most 64 additions within a base, one for each 64 of
/// its order, and one for each doubling; together at most 128 for widths up to 32 768.
pub const ROTATE_HADAMARD: Accuracy = Accuracy::Rel(1.0 / 131_072.0);

/// Of the root of the sum of squares of the block, for products of reflections. Each of them rounds the block by a few 2⁻²⁴
/// of it, in directions that have nothing to do with each other: over 4096 of them that adds up to the 64-fold.
pub const ROTATE_ORTHOGONAL: Accuracy = Accuracy::Rel(1.0 / 65_536.0);

/// Of `Σ |x| |q|`, for other matrices: as [`MATMUL`].
pub const ROTATE_MATRIX: Accuracy = MATMUL;

/// Of the largest value that the query sees, times 1 + the largest `scale · Σ |q||k|`: the error of a score, up to 32
/// roundings of 2⁻²⁴ in a head of up to 512 elements, becomes a relative error of its weight; a softcap does not raise it.
/// Where a visible score or value is infinite, the result is infinite or NaN, and which is not specified.
pub const ATTENTION: Accuracy = Accuracy::Rel(1.0 / 262_144.0);
