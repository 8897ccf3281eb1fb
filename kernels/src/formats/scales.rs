//! Scales as they are stored.

use half::{bf16, f16};

use super::{PlaneDtype, ScaleDtype};

impl ScaleDtype {
    /// Dtype of the plane.
    pub(super) fn plane_dtype(self) -> PlaneDtype {
        match self {
            ScaleDtype::Bf16 => PlaneDtype::Bf16,
            ScaleDtype::F16 => PlaneDtype::F16,
            ScaleDtype::F32 => PlaneDtype::F32,
        }
    }

    /// Bytes of a scale.
    pub(crate) fn bytes(self) -> usize {
        self.plane_dtype().bytes()
    }

    /// The largest finite scale.
    pub(super) fn largest(self) -> f32 {
        match self {
            ScaleDtype::Bf16 => bf16::MAX.to_f32(),
            ScaleDtype::F16 => f16::MAX.to_f32(),
            ScaleDtype::F32 => f32::MAX,
        }
    }

    /// Distance of 1 to the next scale: what stands where a scale would be 0.
    pub(super) fn epsilon(self) -> f32 {
        match self {
            ScaleDtype::Bf16 => bf16::EPSILON.to_f32(),
            ScaleDtype::F16 => f16::EPSILON.to_f32(),
            ScaleDtype::F32 => f32::EPSILON,
        }
    }

    /// The nearest finite scale, ties to even, of a number that is not negative; the largest for NaN.
    pub(super) fn round(self, scale: f32) -> f32 {
        let scale = if scale < self.largest() { scale } else { self.largest() };
        match self {
            ScaleDtype::Bf16 => bf16::from_f32(scale).to_f32(),
            ScaleDtype::F16 => f16::from_f32(scale).to_f32(),
            ScaleDtype::F32 => scale,
        }
    }

    /// Scale `index` of a plane.
    #[inline]
    pub(crate) fn read(self, plane: &[u8], index: usize) -> f32 {
        match self {
            ScaleDtype::Bf16 => bf16::from_le_bytes(plane.as_chunks().0[index]).to_f32(),
            ScaleDtype::F16 => f16::from_le_bytes(plane.as_chunks().0[index]).to_f32(),
            ScaleDtype::F32 => f32::from_le_bytes(plane.as_chunks().0[index]),
        }
    }

    /// Writes scale `index` of a plane; one that [`ScaleDtype::round`] has given is kept.
    pub(super) fn write(self, plane: &mut [u8], index: usize, scale: f32) {
        match self {
            ScaleDtype::Bf16 => plane.as_chunks_mut().0[index] = bf16::from_f32(scale).to_le_bytes(),
            ScaleDtype::F16 => plane.as_chunks_mut().0[index] = f16::from_f32(scale).to_le_bytes(),
            ScaleDtype::F32 => plane.as_chunks_mut().0[index] = scale.to_le_bytes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_rounded_to_finite_ones_that_are_kept() {
        for dtype in ScaleDtype::ALL {
            let mut plane = vec![0; 2 * dtype.bytes()];
            for scale in [0.0, 1.0e-45, 1.0e-7, 0.3, 1.0 + dtype.epsilon(), 65519.0, 3.0e38, f32::INFINITY, f32::NAN] {
                let rounded = dtype.round(scale);
                assert!(rounded.is_finite() && rounded >= 0.0, "{scale} as {}", dtype.name());
                assert_eq!(dtype.round(rounded), rounded);
                dtype.write(&mut plane, 1, rounded);
                assert_eq!(dtype.read(&plane, 1), rounded);
            }
            assert_eq!(dtype.read(&plane, 0), 0.0);
            assert_eq!(dtype.round(f32::INFINITY), dtype.largest());
            assert!(dtype.round(1.0 + dtype.epsilon()) > 1.0 && dtype.round(1.0 + dtype.epsilon() / 2.0) == 1.0);
        }
    }
}
