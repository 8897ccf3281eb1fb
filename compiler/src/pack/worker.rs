//! One weight after the other, tile by tile.

use lathe_runtime::weights::{WeightsWriter, WriteError};

use super::evaluate::{Evaluator, check_finite, place};
use super::memory::{FoldedUnit, Folding, stored_dtype};
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
    /// Runs one recipe; its planes are tensors of `writer` from `index` on.
    pub(super) fn run(&self, recipe: &'a Recipe, writer: &WeightsWriter, index: usize) -> Result<Done, PackError> {
        let planes = recipe.encoding.format.planes(0, 0).len();
        let output = Output { writer, index, offsets: vec![0; planes], hashes: vec![blake3::Hasher::new(); planes] };
        match &recipe.source {
            Source::Stored(view) if recipe.folded.is_identity() && self.evaluator.flip != Some(&recipe.name) => {
                self.take(recipe, view, output)
            }
            _ => self.fold(recipe, output),
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
        let sources = vec![self.evaluator.source(&recipe.name, view, source)];
        Ok(Done { sources, outputs, noise: Some(noise).filter(|noise| !noise.is_none()) })
    }

    /// Packs values that become others first.
    fn fold(&self, recipe: &'a Recipe, mut output: Output<'_>) -> Result<Done, PackError> {
        let Evaluator { checkpoint, rotations, .. } = self.evaluator;
        let stored = match &recipe.source {
            Source::Stored(view) => Some((stored_dtype(checkpoint, view), view)),
            Source::Uniform | Source::Values(_) => None,
        };
        let (format, (rows, columns)) = (recipe.encoding.format, matrix(&recipe.shape));
        let folding = Folding::of_recipe(recipe, rotations).unwrap_or_default();
        let pieces = FoldedUnit::new(format, &recipe.shape, stored, folding).pieces(self.tile);
        let (evaluated, encoded) = (pieces.evaluated.min(rows), pieces.encoded.min(rows));
        let mut evaluation = self.evaluator.open(recipe)?;
        evaluation.read_at_once(encoded);
        let mut packing = Packing::with_capacity(format, encoded as usize, columns as usize);
        let (mut values, mut noise) = (Vec::<f32>::new(), Noise::default());
        let mut at = 0;
        while at < rows {
            let next = rows.min(at + evaluated);
            evaluation.evaluate(at..next, &mut values)?;
            for values in values.chunks((encoded * columns) as usize) {
                self.evaluator.check_interrupted()?;
                packing.encode(recipe.encoding, values, columns as usize, &mut noise).map_err(|(element, value)| {
                    let (row, column) = (at + element as u64 / columns, element as u64 % columns);
                    PackError::FoldedTooLarge { weight: recipe.name.clone(), row, column, value, format }
                })?;
                output.write(packing.planes())?;
                at += values.len() as u64 / columns;
            }
        }
        let (sources, outputs) = (evaluation.sources(), output.hashes());
        Ok(Done { sources, outputs, noise: Some(noise).filter(|noise| !noise.is_none()) })
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
