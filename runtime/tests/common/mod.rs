//! A small compiled model, written as a compiler would write it.

#![allow(dead_code, reason = "each test binary uses a part")]

pub(crate) mod random;
#[path = "../../src/testing.rs"]
pub(crate) mod testing;

use std::path::{Path, PathBuf};

use lathe_kernels::formats::{Fit, Matrix};
use lathe_kernels::rotations::Rotation;
use lathe_runtime::program::{PROGRAM_FILE, Program, StoredTensor, Weight, WeightId};
use lathe_runtime::weights::WeightsWriter;
use tempfile::TempDir;

pub(crate) use testing::small_program;

/// A folder with a program, its weights and their values.
pub(crate) struct SmallModel {
    pub(crate) folder: TempDir,
    pub(crate) program: Program,
    /// f32, row-major, as the weight files hold them, rounded to their formats.
    pub(crate) values: Vec<Vec<f32>>,
}

impl SmallModel {
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The values in f64.
    pub(crate) fn exact_values(&self) -> Vec<Vec<f64>> {
        self.values.iter().map(|values| values.iter().map(|&value| value.into()).collect()).collect()
    }

    pub(crate) fn weight_file(&self) -> PathBuf {
        self.path().join("weights-00001.safetensors")
    }
}

/// The small program with seeded random weights.
pub(crate) fn small_model() -> SmallModel {
    model(small_program())
}

/// Writes a program with seeded random weights.
pub(crate) fn model(program: Program) -> SmallModel {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(PROGRAM_FILE), program.to_json().unwrap()).unwrap();
    let mut random = Random(1);
    let is_matrix = |index: usize| program.rotations.iter().any(|it| it.weight() == Some(WeightId(index as u32)));
    let encode = |(index, weight): (usize, &Weight)| {
        let values = if is_matrix(index) { orthogonal(weight) } else { drawn(weight, &mut random) };
        Encoded::new(weight, values)
    };
    let encoded: Vec<Encoded> = program.weights.iter().enumerate().map(encode).collect();
    let path = folder.path().join("weights-00001.safetensors");
    let stored = encoded.iter().flat_map(|encoded| encoded.tensors.clone()).collect();
    let writer = WeightsWriter::create(&path, stored).unwrap();
    for (index, plane) in encoded.iter().flat_map(|encoded| &encoded.planes).enumerate() {
        writer.write_at(index, 0, plane).unwrap();
    }
    writer.finish().unwrap();
    SmallModel { folder, program, values: encoded.into_iter().map(|encoded| encoded.values).collect() }
}

/// Gains around 1, vectors to centre along of length 1, matrices that keep the size of their input.
fn drawn(weight: &Weight, random: &mut Random) -> Vec<f32> {
    let shape = weight.matrix_shape().unwrap();
    let is_direction = weight.name.ends_with("along");
    let (centre, spread) = match weight.shape.len() {
        1 if is_direction => (0.0, 1.0),
        1 => (1.0, 0.3),
        _ => (0.0, 1.7 / (shape.cols as f32).sqrt()),
    };
    let mut values: Vec<f32> = (0..shape.rows * shape.cols).map(|_| centre + spread * random.next()).collect();
    if is_direction {
        let length = values.iter().map(|value| value * value).sum::<f32>().sqrt();
        for value in &mut values {
            *value /= length;
        }
    }
    values
}

/// The values of a matrix that rotates.
fn orthogonal(weight: &Weight) -> Vec<f32> {
    let width = weight.matrix_shape().unwrap().cols;
    let mut rows: Vec<f64> = (0..width * width).map(|at| f64::from(u8::from(at % (width + 1) == 0))).collect();
    Rotation::orthogonal(width, 3).unwrap().apply(&mut rows, false);
    rows.into_iter().map(|value| value as f32).collect()
}

struct Encoded {
    tensors: Vec<StoredTensor>,
    planes: Vec<Vec<u8>>,
    values: Vec<f32>,
}

impl Encoded {
    fn new(weight: &Weight, drawn: Vec<f32>) -> Encoded {
        let (format, shape) = (weight.find_format().unwrap(), weight.matrix_shape().unwrap());
        let tensors = weight.stored_tensors().unwrap();
        let mut planes: Vec<Vec<u8>> = tensors.iter().map(|tensor| vec![0; tensor.bytes().unwrap()]).collect();
        format.encode(
            Fit::Absmax,
            &drawn,
            shape.cols,
            &mut planes.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>(),
        );
        let slices: Vec<&[u8]> = planes.iter().map(Vec::as_slice).collect();
        let matrix = Matrix::new(format, shape.rows, shape.cols, &slices).unwrap();
        let mut values = drawn;
        for (row, values) in values.chunks_exact_mut(shape.cols).enumerate() {
            matrix.decode_row(row, values);
        }
        Encoded { tensors, planes, values }
    }
}

/// A linear congruential generator: numbers from -1 to 1.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// Tokens that the small model knows.
pub(crate) fn tokens(count: usize) -> Vec<u32> {
    (0..count).map(|index| (index * index * 7 + 3 * index + 1) as u32 % testing::SMALL.vocabulary).collect()
}
