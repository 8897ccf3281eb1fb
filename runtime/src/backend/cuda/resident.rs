//! Weights and rotations in the memory of a device.

use std::collections::BTreeMap;

use lathe_kernels::cuda::ops::{DeviceExperts, DeviceRotation};
use lathe_kernels::cuda::{DeviceMatrix, Gpu, Memory, Slice};
use lathe_kernels::formats::Matrix;

use crate::exec::ExecError;
use crate::program::{Op, Program, WeightId};

/// The weights of a valid program, in the way that its steps use them, and its rotations.
pub(super) struct Resident {
    /// By weight, those that are multiplied by or looked up.
    matrices: Vec<Option<DeviceMatrix>>,
    /// All vectors, decoded.
    vectors: Memory,
    /// By weight, the elements of `vectors`.
    places: Vec<Option<(usize, usize)>>,
    experts: Vec<DeviceExperts>,
    /// By step, the index of its experts.
    experts_of: BTreeMap<usize, usize>,
    rotations: Vec<DeviceRotation>,
}

/// What vectors are aligned to, in elements: 256 bytes.
const VECTOR_ALIGNMENT: usize = 64;

/// Which weights a step multiplies by or looks up, not counting experts.
pub(super) fn matrix_of(op: &Op) -> Option<WeightId> {
    match *op {
        Op::MatMul { weight, .. } => Some(weight),
        Op::Embed { table, .. } => Some(table),
        _ => None,
    }
}

/// The different lists of experts of a program, with the steps that use them.
pub(super) fn experts_of(program: &Program) -> Vec<(&[WeightId], &[WeightId], Vec<usize>)> {
    let mut lists: BTreeMap<(&[WeightId], &[WeightId]), Vec<usize>> = BTreeMap::new();
    for (index, step) in program.steps.iter().enumerate() {
        if let Op::ExpertMatMul { weights, biases, .. } = &step.op {
            lists.entry((weights, biases)).or_default().push(index);
        }
    }
    lists.into_iter().map(|((weights, biases), steps)| (weights, biases, steps)).collect()
}

/// Elements that vectors of these lengths take together; gives where each begins.
pub(super) fn vector_places(program: &Program) -> (Vec<Option<(usize, usize)>>, usize) {
    let mut end = 0;
    let place = |weight: &crate::program::Weight| {
        let length = (weight.shape.len() == 1).then(|| weight.shape[0] as usize)?;
        let start = end;
        end = (start + length).next_multiple_of(VECTOR_ALIGNMENT);
        Some((start, length))
    };
    let places = program.weights.iter().map(place).collect();
    (places, end)
}

impl Resident {
    /// Copies the weights of the program, which these are, to the device.
    pub(super) fn upload(gpu: &Gpu, program: &Program, weights: &[Matrix<'_>]) -> Result<Resident, ExecError> {
        let (places, length) = vector_places(program);
        let vectors = upload_vectors(gpu, weights, &places, length)?;
        let slice = |weight: &WeightId| slice_of(&vectors, places[weight.index()]);
        let mut matrices: Vec<Option<DeviceMatrix>> = program.weights.iter().map(|_| None).collect();
        for weight in program.steps.iter().filter_map(|step| matrix_of(&step.op)) {
            if matrices[weight.index()].is_none() {
                matrices[weight.index()] = Some(DeviceMatrix::upload(gpu, &weights[weight.index()])?);
            }
        }
        let (mut experts, mut of_step) = (Vec::new(), BTreeMap::new());
        for (list, biases, steps) in experts_of(program) {
            let uploaded = list.iter().map(|weight| DeviceMatrix::upload(gpu, &weights[weight.index()]));
            let biases: Vec<Slice<f32>> = biases.iter().map(slice).collect();
            of_step.extend(steps.into_iter().map(|step| (step, experts.len())));
            experts.push(DeviceExperts::new(gpu, uploaded.collect::<Result<_, _>>()?, &biases)?);
        }
        let rotations = upload_rotations(gpu, program, weights)?;
        Ok(Resident { matrices, vectors, places, experts, experts_of: of_step, rotations })
    }

    /// A weight that steps multiply by or look up.
    pub(super) fn matrix(&self, weight: WeightId) -> &DeviceMatrix {
        match &self.matrices[weight.index()] {
            Some(matrix) => matrix,
            None => unreachable!("every matrix of a step is uploaded"),
        }
    }

    /// A vector.
    pub(super) fn vector(&self, weight: WeightId) -> Slice<f32> {
        slice_of(&self.vectors, self.places[weight.index()])
    }

    /// A vector, or what stands for none.
    pub(super) fn optional(&self, weight: Option<WeightId>) -> Slice<f32> {
        weight.map_or(Slice::NONE, |weight| self.vector(weight))
    }

    /// The experts of a step.
    pub(super) fn experts(&self, step: usize) -> &DeviceExperts {
        &self.experts[self.experts_of[&step]]
    }

    /// A rotation.
    pub(super) fn rotation(&self, rotation: crate::program::RotationId) -> &DeviceRotation {
        &self.rotations[rotation.index()]
    }

    /// Bytes of device memory.
    pub(super) fn memory_bytes(&self) -> u64 {
        let matrices = self.matrices.iter().flatten().map(DeviceMatrix::memory_bytes).sum::<u64>();
        let experts = self.experts.iter().map(DeviceExperts::memory_bytes).sum::<u64>();
        let rotations = self.rotations.iter().map(DeviceRotation::memory_bytes).sum::<u64>();
        matrices + experts + rotations + self.vectors.bytes() as u64
    }
}

fn slice_of(vectors: &Memory, place: Option<(usize, usize)>) -> Slice<f32> {
    match place {
        Some((start, length)) => vectors.slice().range(start..start + length),
        None => unreachable!("invariant 8: vectors have rank 1"),
    }
}

fn upload_vectors(
    gpu: &Gpu,
    weights: &[Matrix<'_>],
    places: &[Option<(usize, usize)>],
    length: usize,
) -> Result<Memory, ExecError> {
    let mut values = vec![0.0; length];
    for (matrix, place) in weights.iter().zip(places) {
        let Some((start, length)) = *place else { continue };
        matrix.decode_row(0, &mut values[start..start + length]);
    }
    Ok(gpu.upload("vectors", &values)?)
}

fn upload_rotations(gpu: &Gpu, program: &Program, weights: &[Matrix<'_>]) -> Result<Vec<DeviceRotation>, ExecError> {
    let mut rotations = Vec::with_capacity(program.rotations.len());
    for (index, rotation) in program.rotations.iter().enumerate() {
        let mut values = Vec::new();
        if let Some(weight) = rotation.weight() {
            let matrix = &weights[weight.index()];
            values.resize(matrix.rows() * matrix.cols(), 0.0);
            for (row, values) in values.chunks_exact_mut(matrix.cols()).enumerate() {
                matrix.decode_row(row, values);
            }
        }
        let built = rotation.build(values).map_err(|source| ExecError::Rotation { rotation: index, source })?;
        rotations.push(DeviceRotation::upload(gpu, &built)?);
    }
    Ok(rotations)
}
