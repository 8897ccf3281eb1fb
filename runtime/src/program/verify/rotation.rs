//! What holds of rotations: invariant 12, and 2 and 5 as far as they are about rotations.

use lathe_kernels::formats::Format;
use lathe_kernels::rotations::{MAX_DENSE, MAX_WIDTH};

use super::super::rotation::{RotationSizes, RotationSizesError, construction, hadamard};
use super::super::types::{Program, Rotation, RotationId, WeightId};
use super::super::violation::Violation;
use super::in_range;

/// Checks the rotations of a program whose weights are valid.
pub(super) fn verify(program: &Program) -> Result<(), Violation> {
    let mut sizes = RotationSizes::default();
    for (index, rotation) in program.rotations.iter().enumerate() {
        let width = u64::from(rotation.width());
        let is_dense = !matches!(rotation, Rotation::Hadamard { .. });
        let most = if is_dense { MAX_DENSE } else { MAX_WIDTH };
        in_range(format_args!("width of rotation {index}"), width, 1, most as u64)?;
        let too_much = |RotationSizesError { what, found, most: max }| Violation::Size {
            what: what.to_owned(),
            found,
            min: 0,
            max,
        };
        match rotation {
            Rotation::Hadamard { width, construction: text, base_blake3, signs } => {
                let wrong = |reason| Violation::Hadamard { rotation: index as u32, reason };
                sizes.add_hadamard(&construction(*width, text).map_err(wrong)?).map_err(too_much)?;
                hadamard(*width, text, base_blake3, signs.as_deref()).map_err(wrong)?;
            }
            Rotation::Orthogonal { .. } => sizes.add_dense(width).map_err(too_much)?,
            Rotation::Matrix { weight, .. } => {
                sizes.add_dense(width).map_err(too_much)?;
                verify_matrix(program, *weight, width)?;
            }
        }
    }
    Ok(())
}

/// Invariant 7 for rotations. Ids in steps are in range.
pub(super) fn verify_use(program: &Program) -> Result<(), Violation> {
    let mut is_used = vec![false; program.rotations.len()];
    for RotationId(id) in program.steps.iter().filter_map(|step| step.op.rotation()) {
        is_used[id as usize] = true;
    }
    match is_used.iter().position(|is_used| !is_used) {
        Some(rotation) => Err(Violation::RotationUse { rotation: rotation as u32 }),
        None => Ok(()),
    }
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
