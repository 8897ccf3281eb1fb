//! What holds of rotations: invariant 12, and 2 and 5 as far as they are about rotations.

use lathe_kernels::formats::Format;
use lathe_kernels::rotations::{MAX_DENSE, MAX_WIDTH};

use super::super::rotation::hadamard;
use super::super::types::{Program, Rotation, WeightId};
use super::super::violation::Violation;
use super::{MAX_ROTATION_ELEMENTS, in_range};

/// Checks the rotations of a program whose weights are valid.
pub(super) fn verify(program: &Program) -> Result<(), Violation> {
    let mut elements = 0;
    for (index, rotation) in program.rotations.iter().enumerate() {
        let width = u64::from(rotation.width());
        let is_dense = !matches!(rotation, Rotation::Hadamard { .. });
        let most = if is_dense { MAX_DENSE } else { MAX_WIDTH };
        in_range(format_args!("width of rotation {index}"), width, 1, most as u64)?;
        if is_dense {
            elements += width * width;
            in_range("elements of rotations", elements, 0, MAX_ROTATION_ELEMENTS)?;
        }
        match rotation {
            Rotation::Hadamard { width, construction, base_blake3, signs } => {
                hadamard(*width, construction, base_blake3, signs.as_deref())
                    .map_err(|reason| Violation::Hadamard { rotation: index as u32, reason })?;
            }
            Rotation::Orthogonal { .. } => {}
            Rotation::Matrix { weight, .. } => verify_matrix(program, *weight, width)?,
        }
    }
    Ok(())
}

fn verify_matrix(program: &Program, WeightId(id): WeightId, width: u64) -> Result<(), Violation> {
    let Some(weight) = program.weights.get(id as usize) else {
        return Err(Violation::Id { table: "weight", found: id, count: program.weights.len() });
    };
    let (name, found) = (weight.name.clone(), weight.shape.clone());
    if found != [width, width] {
        let (operand, expected) = ("matrix of a rotation", vec![width, width]);
        return Err(Violation::WeightShape { operand, name, found, expected });
    }
    if weight.find_format() != Some(Format::F32) {
        return Err(Violation::RotationFormat { name, format: weight.format.clone() });
    }
    Ok(())
}
