//! What holds of a rotation: invariant 12, and 2 and 5 as far as they are about rotations.

use lathe_kernels::formats::Format;

use super::super::rotation::signs_from_text;
use super::super::types::{Program, Rotation, WeightId};
use super::super::violation::Violation;
use super::{MAX_DENSE_WIDTH, MAX_DIMENSION, in_range};

/// Checks the rotation of this index of a program whose weights are valid.
pub(super) fn verify(program: &Program, index: usize, rotation: &Rotation) -> Result<(), Violation> {
    let max = if matches!(rotation, Rotation::Hadamard { .. }) { MAX_DIMENSION } else { MAX_DENSE_WIDTH };
    in_range(format_args!("width of rotation {index}"), rotation.width().into(), 1, max)?;
    match rotation {
        Rotation::Hadamard { width, signs, .. } => match signs {
            Some(signs) if signs_from_text(signs, *width as usize).is_none() => {
                Err(Violation::Signs { rotation: index as u32, width: *width })
            }
            _ => Ok(()),
        },
        Rotation::Orthogonal { .. } => Ok(()),
        &Rotation::Matrix { width, weight: WeightId(id) } => {
            let count = program.weights.len();
            let weight = program.weights.get(id as usize);
            let weight = weight.ok_or(Violation::Id { table: "weight", found: id, count })?;
            let (name, expected) = (weight.name.clone(), [u64::from(width); 2]);
            if weight.shape != expected {
                let (operand, found, expected) = ("matrix of a rotation", weight.shape.clone(), expected.to_vec());
                return Err(Violation::WeightShape { operand, name, found, expected });
            }
            if weight.find_format() != Some(Format::F32) {
                return Err(Violation::RotationFormat { name, format: weight.format.clone() });
            }
            Ok(())
        }
    }
}
