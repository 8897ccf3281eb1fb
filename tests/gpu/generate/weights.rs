//! Random weights for a program.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

use lathe_kernels::formats::{Fit, Format};
use lathe_runtime::program::{MatrixShape, Op, Program, Rotation, StoredTensor, WeightId};
use lathe_runtime::weights::{WeightsWriter, WriteError, weight_file_name};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;

/// Largest weight file in bytes; a single weight may be larger.
const FILE_BYTES: usize = 8 << 30;

/// Values that a thread makes and encodes at a time, unless a row has more.
const PIECE: usize = 1 << 20;

/// Why weights cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WeightsError {
    /// A matrix that must be orthogonal.
    #[error("`{0}` is the matrix of a rotation, which random values are not")]
    Rotation(String),
    /// A weight without a layout; no valid program has one.
    #[error("`{0}` has no layout")]
    NoLayout(String),
    /// Files that cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// What the values of a weight are about.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Values {
    /// Gains: near 1.
    Gain,
    /// A unit vector: all the same.
    Unit,
    /// Everything else: of mean 0 and variance 1 / columns, so that products keep the size of what they multiply.
    Weight,
}

/// Some rows of a weight.
struct Piece {
    weight: usize,
    file: usize,
    /// Index of the first plane among the tensors of the file.
    tensor: usize,
    rows: Range<usize>,
}

/// Writes the weight files of a program into a folder; gives their bytes. The same seed gives the same bytes, whatever the
/// number of threads.
pub(crate) fn write(program: &Program, seed: u64, folder: &Path) -> Result<usize, WeightsError> {
    if let Some(weight) = program.rotations.iter().find_map(Rotation::weight) {
        return Err(WeightsError::Rotation(program.weights[weight.index()].name.clone()));
    }
    let mut files: Vec<Vec<StoredTensor>> = vec![Vec::new()];
    let (mut pieces, mut layouts, mut filled, mut total) = (Vec::new(), Vec::new(), 0, 0);
    for (index, weight) in program.weights.iter().enumerate() {
        let layout = weight.find_format().zip(weight.matrix_shape()).zip(weight.stored_tensors());
        let ((format, shape), planes) = layout.ok_or_else(|| WeightsError::NoLayout(weight.name.clone()))?;
        let bytes = format.bytes(shape.rows, shape.cols);
        if filled > 0 && filled + bytes > FILE_BYTES {
            files.push(Vec::new());
            filled = 0;
        }
        filled += bytes;
        total += bytes;
        let file = files.len() - 1;
        let (tensor, step) = (files[file].len(), (PIECE / shape.cols.max(1)).max(1));
        files[file].extend(planes);
        let starts = (0..shape.rows).step_by(step);
        let piece = |start| Piece { weight: index, file, tensor, rows: start..(start + step).min(shape.rows) };
        pieces.extend(starts.map(piece));
        layouts.push((format, shape));
    }
    let count = files.len();
    let create = |(index, tensors)| WeightsWriter::create(&folder.join(weight_file_name(index + 1, count)), tensors);
    let writers = files.into_iter().enumerate().map(create).collect::<Result<Vec<_>, _>>()?;
    let values = values(program);
    pieces.par_iter().enumerate().try_for_each(|(stream, piece)| {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(stream as u64);
        let (format, shape) = layouts[piece.weight];
        let x = random_values(values[piece.weight], shape, piece.rows.len(), &mut random);
        write_rows(&writers[piece.file], piece, format, shape, &x)
    })?;
    writers.into_par_iter().try_for_each(WeightsWriter::finish)?;
    Ok(total)
}

fn values(program: &Program) -> Vec<Values> {
    let (mut gains, mut units) = (BTreeSet::<WeightId>::new(), BTreeSet::<WeightId>::new());
    for step in &program.steps {
        match &step.op {
            Op::Norm { gain, along, .. } => {
                gains.extend(gain);
                units.extend(along);
            }
            Op::Centre { along, .. } => units.extend(along),
            Op::Gain { gain, .. } => gains.extend([gain]),
            _ => {}
        }
    }
    let values = |index| match WeightId(index as u32) {
        id if gains.contains(&id) => Values::Gain,
        id if units.contains(&id) => Values::Unit,
        _ => Values::Weight,
    };
    (0..program.weights.len()).map(values).collect()
}

fn random_values(values: Values, shape: MatrixShape, rows: usize, random: &mut ChaCha8Rng) -> Vec<f32> {
    let scale = 1.0 / (shape.cols as f32).sqrt();
    let value = || match values {
        Values::Gain => 1.0 + 0.1 * bell(random.next_u64()),
        Values::Unit => scale,
        Values::Weight => scale * bell(random.next_u64()),
    };
    std::iter::repeat_with(value).take(rows * shape.cols).collect()
}

/// The sum of four uniform numbers of 16 bits each, made to have mean 0 and variance 1: bell-shaped, within ±3.5.
fn bell(bits: u64) -> f32 {
    let sum: u32 = (0..4).map(|part| (bits >> (16 * part)) as u32 & 0xffff).sum();
    (sum as f32 - 2.0 * 65_535.0) * (1.732_050_8 / 65_536.0)
}

fn write_rows(
    writer: &WeightsWriter,
    piece: &Piece,
    format: Format,
    shape: MatrixShape,
    values: &[f32],
) -> Result<(), WriteError> {
    let bytes = |rows| format.planes(rows, shape.cols).into_iter().map(|plane| plane.bytes().unwrap_or(0));
    let mut planes: Vec<Vec<u8>> = bytes(piece.rows.len()).map(|bytes| vec![0; bytes]).collect();
    let mut slices: Vec<&mut [u8]> = planes.iter_mut().map(Vec::as_mut_slice).collect();
    format.encode(Fit::Absmax, values, shape.cols, &mut slices);
    for ((index, plane), offset) in planes.iter().enumerate().zip(bytes(piece.rows.start)) {
        writer.write_at(piece.tensor + index, offset as u64, plane)?;
    }
    Ok(())
}
