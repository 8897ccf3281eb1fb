//! One weight after the other, tile by tile.

use lathe_runtime::weights::{WeightsWriter, WriteError};

use super::evaluate::{EvaluateError, Evaluation, Evaluator, check_finite, place};
use super::memory::{FoldedUnit, Folding, Pieces, holds_matrix, stored_dtype};
use super::tiles::{Noise, Packing, Tiles, Unit};
use super::{Digest, PackError};
use crate::ir::View;
use crate::lower::{Recipe, Source};
use crate::plan::matrix;

/// What every worker needs.
pub(super) struct Worker<'a> {
    pub(super) evaluator: Evaluator<'a>,
    /// In bytes.
    pub(super) tile: u64,
    /// Elements of the largest matrix that is held besides.
    pub(super) matrix: usize,
}

/// What became of a weight.
pub(super) struct Done {
    /// What went in.
    pub(super) sources: Vec<Digest>,
    /// Hash of what came out, for each plane.
    pub(super) outputs: Vec<blake3::Hash>,
    /// `None` where every value is as it was.
    pub(super) noise: Option<Noise>,
}

impl<'a> Worker<'a> {
    /// Runs one recipe; its planes are tensors of `writer` from `index` on. A matrix is held in `matrix`.
    pub(super) fn run(
        &self,
        recipe: &'a Recipe,
        matrix: &mut Vec<f32>,
        writer: &WeightsWriter,
        index: usize,
    ) -> Result<Done, PackError> {
        let planes = recipe.encoding.format.planes(0, 0).len();
        let output = Output { writer, index, offsets: vec![0; planes], hashes: vec![blake3::Hasher::new(); planes] };
        match &recipe.source {
            Source::Stored(view) if recipe.folded.is_identity() && self.evaluator.flip != Some(&recipe.name) => {
                self.take(recipe, view, output)
            }
            _ => self.fold(recipe, matrix, output),
        }
    }

    /// Packs values as they are stored.
    fn take(&self, recipe: &Recipe, view: &View, mut output: Output<'_>) -> Result<Done, PackError> {
        let Evaluator { checkpoint, reader, .. } = self.evaluator;
        let (stored, tensor) = (stored_dtype(checkpoint, view), checkpoint.tensor(view.tensor));
        let (rows, columns) = matrix(&recipe.shape);
        let unit = Unit::new(recipe.encoding.format, columns, stored, view);
        let (mut tiles, step) = Tiles::make_room(self.tile, &unit, recipe.encoding.format);
        let mut source = blake3::Hasher::new();
        let mut noise = Noise::default();
        let (mut at, end) = (0, unit.count(rows, columns));
        while at < end {
            self.evaluator.check_interrupted()?;
            let next = end.min(at + step);
            let elements = at * unit.elements..next * unit.elements;
            tiles.read(reader, (tensor, view), stored, elements.clone())?;
            check_finite(checkpoint, view, stored, elements.start, tiles.stored())?;
            source.update(tiles.stored());
            if unit.encodes {
                let units = (next - at) as usize;
                if let Err((element, value)) = tiles.encode(recipe.encoding, &unit, units, stored, &mut noise) {
                    let (file, tensor, row, column) = place(checkpoint, view, elements.start + element as u64);
                    let format = recipe.encoding.format;
                    return Err(PackError::TooLarge { file, tensor, row, column, value, format });
                }
                output.write(tiles.packed())?;
            } else {
                output.write_unhashed(tiles.stored())?;
            }
            at = next;
        }
        let source = source.finalize();
        let outputs = if unit.encodes { output.hashes() } else { vec![source] };
        let sources = vec![self.evaluator.digest(view, source)];
        Ok(Done { sources, outputs, noise: Some(noise).filter(|noise| !noise.is_none()) })
    }

    /// Packs values that become others first.
    fn fold(&self, recipe: &'a Recipe, matrix: &mut Vec<f32>, mut output: Output<'_>) -> Result<Done, PackError> {
        let mut tiles = FoldedTiles::open(self.evaluator, recipe, self.tile)?;
        let noise = if holds_matrix(recipe, self.evaluator.rotations) {
            // Once for all: to grow it later would take both at a time.
            matrix.clear();
            let bytes = 4 * self.matrix as u64;
            let room = matrix.try_reserve_exact(self.matrix);
            room.map_err(|_| EvaluateError::Memory { weight: recipe.name.clone(), bytes })?;
            tiles.pack(matrix, |packing| output.write(packing.planes()))?
        } else {
            tiles.pack(&mut Vec::new(), |packing| output.write(packing.planes()))?
        };
        let (sources, outputs) = (tiles.evaluation.sources(), output.hashes());
        Ok(Done { sources, outputs, noise: Some(noise).filter(|noise| !noise.is_none()) })
    }
}

/// The memory of a worker for a weight whose values become others.
struct FoldedTiles<'a> {
    evaluator: Evaluator<'a>,
    recipe: &'a Recipe,
    evaluation: Evaluation<'a>,
    /// Rows that are evaluated, and of those that are encoded, at once.
    pieces: Pieces,
    packing: Packing,
}

impl<'a> FoldedTiles<'a> {
    /// Allocates for a weight within `tile` bytes, and those of a matrix where one must be held whole.
    fn open(evaluator: Evaluator<'a>, recipe: &'a Recipe, tile: u64) -> Result<FoldedTiles<'a>, PackError> {
        let stored = recipe.view().map(|view| (stored_dtype(evaluator.checkpoint, view), view));
        let folding = Folding::of_recipe(recipe, evaluator.rotations).unwrap_or_default();
        let mut evaluation = evaluator.open(recipe)?;
        let pieces = FoldedUnit::new(recipe.encoding.format, &recipe.shape, stored, folding).pieces(tile);
        let rows = evaluation.rows();
        let pieces = Pieces { evaluated: pieces.evaluated.min(rows), encoded: pieces.encoded.min(rows) };
        evaluation.read_at_once(pieces.encoded);
        let columns = evaluation.columns() as usize;
        let packing = Packing::with_capacity(recipe.encoding.format, pieces.encoded as usize, columns);
        Ok(FoldedTiles { evaluator, recipe, evaluation, pieces, packing })
    }

    /// Packs the weight, piece by piece, for `write`; `values` takes them as they are to be packed. Returns what packing
    /// loses of them.
    fn pack(
        &mut self,
        values: &mut Vec<f32>,
        mut write: impl FnMut(&Packing) -> Result<(), WriteError>,
    ) -> Result<Noise, PackError> {
        let Recipe { name, encoding, .. } = self.recipe;
        let (rows, columns) = (self.evaluation.rows(), self.evaluation.columns());
        let mut noise = Noise::default();
        let mut at = 0;
        while at < rows {
            let next = rows.min(at + self.pieces.evaluated);
            self.evaluation.evaluate(at..next, values)?;
            for values in values.chunks((self.pieces.encoded * columns) as usize) {
                self.evaluator.check_interrupted()?;
                let packed = self.packing.encode(*encoding, values, columns as usize, &mut noise);
                packed.map_err(|(element, value)| {
                    let (row, column) = (at + element as u64 / columns, element as u64 % columns);
                    PackError::FoldedTooLarge { weight: name.clone(), row, column, value, format: encoding.format }
                })?;
                write(&self.packing)?;
                at += values.len() as u64 / columns;
            }
        }
        Ok(noise)
    }
}

/// Where the planes of a weight go.
struct Output<'a> {
    writer: &'a WeightsWriter,
    /// Of the first plane, among the tensors of the writer.
    index: usize,
    /// Bytes written to each plane.
    offsets: Vec<u64>,
    hashes: Vec<blake3::Hasher>,
}

impl Output<'_> {
    /// Writes more of each plane.
    fn write<'b>(&mut self, planes: impl Iterator<Item = &'b [u8]>) -> Result<(), WriteError> {
        for (plane, bytes) in planes.enumerate() {
            self.hashes[plane].update(bytes);
            self.append(plane, bytes)?;
        }
        Ok(())
    }

    /// Writes more of the only plane, whose bytes are hashed as those of its source.
    fn write_unhashed(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.append(0, bytes)
    }

    fn append(&mut self, plane: usize, bytes: &[u8]) -> Result<(), WriteError> {
        self.writer.write_at(self.index + plane, self.offsets[plane], bytes)?;
        self.offsets[plane] += bytes.len() as u64;
        Ok(())
    }

    fn hashes(&self) -> Vec<blake3::Hash> {
        self.hashes.iter().map(blake3::Hasher::finalize).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use lathe_kernels::formats::{Fit, Format};
    use lathe_kernels::rotations::Rotation;
    use safetensors::tensor::{Dtype, TensorView};

    use super::*;
    use crate::ir::{Axis, TensorId};
    use crate::lower::{Folded, FoldedProduct, Map};
    use crate::model::Checkpoint;
    use crate::pack::memory::{LARGEST_TILE, SMALLEST_TILE};
    use crate::plan::Encoding;
    use crate::source::TensorReader;

    #[test]
    fn whatever_is_folded_in_a_worker_holds_one_tile_and_one_matrix() {
        /// Rows and columns of a matrix that fits a tile, and of one that does not.
        const SIZES: [u64; 2] = [256, 1152];
        let folder = tempfile::tempdir().unwrap();
        let bytes = SIZES.map(|size| (0..size * size).flat_map(|at| [at as u8, 0x3f]).collect::<Vec<u8>>());
        let tensor = |at: usize| TensorView::new(Dtype::BF16, vec![SIZES[at] as usize; 2], &bytes[at]).unwrap();
        let file = safetensors::serialize([("small", tensor(0)), ("wide", tensor(1))], None).unwrap();
        fs::write(folder.path().join("model.safetensors"), file).unwrap();
        fs::write(folder.path().join("config.json"), "{}").unwrap();
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        let reader = TensorReader::open(&checkpoint).unwrap();
        let rotations = [128, 256, 1152].map(|width| Rotation::hadamard(width).unwrap());
        let evaluator = Evaluator {
            checkpoint: &checkpoint,
            reader: &reader,
            rotations: &rotations,
            flip: None,
            interrupted: None,
        };

        let whole = |tensor: usize| View::contiguous(TensorId(tensor as u32), 0, SIZES[tensor] * SIZES[tensor]);
        let transposed = |tensor: usize| {
            let axes = [(SIZES[tensor], 1), (SIZES[tensor], SIZES[tensor])].map(|(size, stride)| Axis { size, stride });
            View::new(TensorId(tensor as u32), 0, axes)
        };
        let vector = View::contiguous(TensorId(0), 0, SIZES[0]);
        let rotate = |rotation| vec![Map::Rotate { rotation, inverse: false }];
        let gain = Map::Gain { gain: vector.clone(), offset: 1.0 };
        let product = FoldedProduct { weight: whole(0), vector: vector.clone(), factor: 1.0 };
        let matrices = [
            Folded { rows: [vec![gain.clone()], rotate(1)].concat(), ..Folded::default() },
            Folded { columns: rotate(1), ..Folded::default() },
            Folded { rows: rotate(0), columns: rotate(0), ..Folded::default() },
            Folded { columns: vec![gain], ..Folded::default() },
        ];
        let formats = ["f32", "bf16", "int8(per: channel)", "int4(group: 32, symmetric: false)"];
        let mut weights = Vec::new();
        for format in formats {
            let views = [whole(0), transposed(0)];
            weights.extend(matrices.iter().flat_map(|folded| views.clone().map(|view| (view, folded.clone(), format))));
            let bias = Folded { product: Some(product.clone()), rows: rotate(1), ..Folded::default() };
            weights.push((vector.clone(), bias, format));
        }
        let wide = Folded { columns: rotate(2), ..Folded::default() };
        weights.extend([whole(1), transposed(1)].map(|view| (view, wide.clone(), formats[3])));
        for (view, folded, format) in weights {
            let format: Format = format.parse().unwrap();
            let size = SIZES[view.tensor.0 as usize];
            let shape = if view.elements() == size { vec![size] } else { vec![size; 2] };
            let encoding = Encoding { format, fit: Fit::Absmax };
            let name = "w".to_string();
            let recipe = Recipe { name, shape, encoding, source: Source::Stored(view.clone()), folded };
            let stored = stored_dtype(&checkpoint, &view);
            let folding = Folding::of_recipe(&recipe, &rotations).unwrap();
            let unit = FoldedUnit::new(format, &recipe.shape, Some((stored, &view)), folding);
            assert_eq!(unit.matrix() > 0, size == SIZES[1]);
            let smallest = unit.tile().next_multiple_of(SMALLEST_TILE);
            for tile in [smallest, smallest + SMALLEST_TILE, LARGEST_TILE] {
                let mut tiles = FoldedTiles::open(evaluator, &recipe, tile).unwrap();
                let mut values = Vec::new();
                tiles.pack(&mut values, |_| Ok(())).unwrap();
                let held = tiles.evaluation.held() + tiles.packing.held() + 4 * values.capacity() as u64;
                let stated = tile + unit.matrix();
                assert!(held <= stated, "{format} {:?}: {held} bytes of {stated}", recipe.folded);
            }
        }
    }
}
