//! Recipes without their encoding: the values of a weight as the program needs them, whatever format they are then given.
//!
//! Everything is computed in f64, in an order that depends on the recipe alone: whoever evaluates a recipe, in whichever
//! pieces and on whichever machine, gets the same bits.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lathe_kernels::formats::Matrix;
use lathe_kernels::rotations::Rotation;

use super::maps::{Linear, Maps};
use super::{Digest, stored_name, tiles};
use crate::ir::View;
use crate::lower::{FoldedProduct, Map, Recipe, Source};
use crate::model::{Checkpoint, StoredDtype};
use crate::plan::matrix;
use crate::source::{ReadTensorError, TensorReader};

/// Bytes that are read at once, unless somebody says another number of rows.
pub(super) const PIECE: u64 = 256 << 10;
/// Bytes of f64 that columns are gathered to before they are mapped: few enough to stay in a cache.
const PANEL: usize = 256 << 10;
/// Columns that are gathered at once, at least: a cache line of f32.
const PANEL_COLUMNS: usize = 16;
/// Rows that are gathered at once where none are mixed.
const PANEL_ROWS: u64 = 256;

/// Why a recipe cannot be evaluated.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// A stored value is NaN or infinite.
    #[error("{file}: tensor `{tensor}`: expected finite values, found {value} at row {row}, column {column}")]
    NotFinite {
        /// The weight file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Row of the value.
        row: u64,
        /// Its place in the row.
        column: u64,
        /// NaN, inf or -inf.
        value: f32,
    },
    /// A recipe whose parts do not fit each other or the checkpoint.
    #[error("{weight}: {reason}")]
    Invalid {
        /// The weight.
        weight: String,
        /// What does not fit.
        reason: String,
    },
    /// Rows that cannot be held.
    #[error("{weight}: no memory for {bytes} bytes")]
    Memory {
        /// The weight.
        weight: String,
        /// What was to be held.
        bytes: u64,
    },
    /// Somebody asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// A tensor could not be read.
    #[error(transparent)]
    Read(#[from] ReadTensorError),
}

/// Numbers that evaluated weights are held in.
pub trait Value: Copy {
    /// The nearest one.
    fn of(value: f64) -> Self;
    /// As f64.
    fn get(self) -> f64;
}

impl Value for f32 {
    fn of(value: f64) -> f32 {
        value as f32
    }

    fn get(self) -> f64 {
        self.into()
    }
}

impl Value for f64 {
    fn of(value: f64) -> f64 {
        value
    }

    fn get(self) -> f64 {
        self
    }
}

/// What recipes are evaluated with.
#[derive(Debug, Clone, Copy)]
pub struct Evaluator<'a> {
    /// The checkpoint that they read.
    pub checkpoint: &'a Checkpoint,
    /// Its weight files.
    pub reader: &'a TensorReader,
    /// The rotations that they refer to.
    pub rotations: &'a [Rotation],
    /// A weight to spoil, for tests that must notice: coordinate 0 of its rows is negated, as if one sign of what maps them
    /// were wrong; of its columns, where only columns are mapped.
    pub flip: Option<&'a str>,
    /// Set from elsewhere, evaluation ends with [`EvaluateError::Interrupted`].
    pub interrupted: Option<&'a AtomicBool>,
}

impl<'a> Evaluator<'a> {
    /// Prepares a recipe: reads the vectors that it multiplies by, and computes what is added to a bias.
    ///
    /// # Errors
    /// When its parts do not fit, or cannot be read.
    pub fn open(&self, recipe: &'a Recipe) -> Result<Evaluation<'a>, EvaluateError> {
        let (rows, columns) = matrix(&recipe.shape);
        let elements = rows.saturating_mul(columns);
        let weight = recipe.name.as_str();
        if elements == 0 {
            return Err(invalid(weight, format!("shape {:?} has no elements", recipe.shape)));
        }
        let stored = match &recipe.source {
            Source::Stored(view) => Some((view, self.check_view(weight, view, elements)?)),
            Source::Uniform => None,
            Source::Values(values) if values.len() as u64 == elements => None,
            Source::Values(values) => {
                return Err(invalid(weight, format!("expected {elements} values, found {}", values.len())));
            }
        };
        let mut sources = Vec::new();
        let product = match &recipe.folded.product {
            Some(product) => Some(self.product(weight, product, (rows, columns), &mut sources)?),
            None => None,
        };
        let row_maps = self.maps_of(weight, &recipe.folded.rows, columns, &mut sources)?;
        let column_maps = self.maps_of(weight, &recipe.folded.columns, rows, &mut sources)?;
        let row_bytes = columns.saturating_mul(stored.map_or(8, |(_, dtype)| dtype.bytes())).max(1);
        Ok(Evaluation {
            evaluator: *self,
            recipe,
            stored,
            rows,
            columns,
            step: step(&recipe.folded.columns, self.rotations),
            piece: (PIECE / row_bytes).max(1),
            product,
            row_maps,
            column_maps,
            source: blake3::Hasher::new(),
            sources,
            reading: Reading::default(),
            batch: Vec::new(),
            panel: Vec::new(),
        })
    }

    /// Maps of rows of `width` elements.
    ///
    /// # Errors
    /// When one does not fit the width, or cannot be read. `label` is what the error speaks of.
    pub fn maps(&self, label: &str, maps: &[Map], width: u64) -> Result<Maps<'a>, EvaluateError> {
        self.maps_of(label, maps, width, &mut Vec::new())
    }

    fn maps_of(
        &self,
        weight: &str,
        maps: &[Map],
        width: u64,
        sources: &mut Vec<Digest>,
    ) -> Result<Maps<'a>, EvaluateError> {
        let fits = |what: &str, block: u64| match block {
            1.. if width.is_multiple_of(block) => Ok(()),
            _ => Err(invalid(weight, format!("expected {what} of a width that divides {width}, found {block}"))),
        };
        let mut linear = Vec::with_capacity(maps.len());
        for map in maps {
            linear.push(match map {
                Map::Rotate { rotation, inverse } => {
                    let Some(found) = self.rotations.get(*rotation) else {
                        return Err(invalid(weight, format!("there is no rotation {rotation}")));
                    };
                    fits("a rotation", found.width() as u64)?;
                    Linear::Rotate { rotation: found, inverse: *inverse }
                }
                Map::Gain { gain, offset } => {
                    fits("a gain", gain.elements())?;
                    let mut factors = self.vector(weight, gain, sources)?;
                    for factor in &mut factors {
                        *factor += offset;
                    }
                    Linear::Multiply(factors.into())
                }
                Map::Scale { values, inverse } => {
                    fits("a scale", values.len() as u64)?;
                    if let Some(factor) = values.iter().find(|factor| !(factor.is_normal() && **factor > 0.0)) {
                        return Err(invalid(weight, format!("expected factors above 0, found {factor}")));
                    }
                    if *inverse { Linear::Divide(Arc::clone(values)) } else { Linear::Multiply(Arc::clone(values)) }
                }
            });
        }
        Ok(Maps::new(linear))
    }

    /// All of a vector.
    fn vector(&self, weight: &str, view: &View, sources: &mut Vec<Digest>) -> Result<Vec<f64>, EvaluateError> {
        let dtype = self.check_view(weight, view, view.elements())?;
        let (mut reading, mut hash) = (Reading::default(), blake3::Hasher::new());
        let values = reading.read(*self, (view, dtype), 0..view.elements(), &mut hash)?;
        let values = values.iter().map(|&value| value.into()).collect();
        sources.push(self.digest(view, hash.finalize()));
        Ok(values)
    }

    /// `factor · v Wᵀ`. Each sum goes through the elements of v in their order.
    fn product(
        &self,
        weight: &str,
        product: &FoldedProduct,
        (rows, columns): (u64, u64),
        sources: &mut Vec<Digest>,
    ) -> Result<Vec<f64>, EvaluateError> {
        let inputs = product.vector.elements();
        if rows != 1 {
            return Err(invalid(weight, format!("a product is added to a vector, not to {rows} rows")));
        }
        let dtype = self.check_view(weight, &product.weight, inputs.saturating_mul(columns))?;
        let (mut reading, mut hash) = (Reading::default(), blake3::Hasher::new());
        let mut vectors = Vec::new();
        let vector = self.vector(weight, &product.vector, &mut vectors)?;
        let piece = (PIECE / inputs.saturating_mul(dtype.bytes()).max(1)).max(1);
        let mut sums = Vec::with_capacity(columns as usize);
        let mut at = 0;
        while at < columns {
            let next = columns.min(at + piece);
            let matrix = reading.read(*self, (&product.weight, dtype), at * inputs..next * inputs, &mut hash)?;
            let sum = |row: &[f32]| vector.iter().zip(row).map(|(v, &w)| v * f64::from(w)).sum::<f64>();
            sums.extend(matrix.chunks_exact(vector.len()).map(|row| product.factor * sum(row)));
            at = next;
        }
        sources.push(self.digest(&product.weight, hash.finalize()));
        sources.append(&mut vectors);
        Ok(sums)
    }

    pub(super) fn check_interrupted(&self) -> Result<(), EvaluateError> {
        match self.interrupted {
            Some(interrupted) if interrupted.load(Ordering::Relaxed) => Err(EvaluateError::Interrupted),
            _ => Ok(()),
        }
    }

    /// The dtype of a view that lies within its tensor and has so many elements.
    fn check_view(&self, weight: &str, view: &View, elements: u64) -> Result<StoredDtype, EvaluateError> {
        let Some(tensor) = self.checkpoint.tensors.get(view.tensor.0 as usize) else {
            return Err(invalid(weight, format!("there is no tensor {}", view.tensor.0)));
        };
        let stored = tensor.shape.iter().fold(1_u64, |product, size| product.saturating_mul(*size));
        let name = &tensor.name;
        if view.end().is_none_or(|end| end > stored) || view.axes.iter().any(|axis| axis.stride == 0) {
            return Err(invalid(weight, format!("expected elements of `{name}` within 0..{stored}")));
        }
        if view.elements() != elements {
            let found = view.elements();
            return Err(invalid(weight, format!("expected {elements} elements of `{name}`, found {found}")));
        }
        let dtype = tensor.stored_dtype();
        dtype.ok_or_else(|| invalid(weight, format!("`{name}` is stored in a dtype that cannot be read")))
    }

    /// The digest of stored elements.
    pub(super) fn digest(&self, view: &View, hash: blake3::Hash) -> Digest {
        Digest { name: stored_name(view, self.checkpoint), blake3: hash.to_string() }
    }
}

fn invalid(weight: &str, reason: String) -> EvaluateError {
    EvaluateError::Invalid { weight: weight.to_string(), reason }
}

/// Rows that column maps mix with each other, and that are evaluated together for it: 1 where none are mixed.
pub(super) fn step(columns: &[Map], rotations: &[Rotation]) -> u64 {
    let widths = columns.iter().filter_map(|map| match map {
        Map::Rotate { rotation, .. } => rotations.get(*rotation).map(|rotation| rotation.width() as u64),
        Map::Gain { .. } | Map::Scale { .. } => None,
    });
    widths.fold(1, least_common_multiple)
}

/// Of two numbers above 0.
pub(super) fn least_common_multiple(a: u64, b: u64) -> u64 {
    let (mut divisor, mut rest) = (a, b);
    while rest > 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    (a / divisor.max(1)).saturating_mul(b)
}

/// Rows and columns of the panel that columns are gathered to.
pub(super) fn panel(step: u64) -> (usize, usize) {
    let rows = (step * (PANEL_ROWS / step).max(1)) as usize;
    (rows, (PANEL / (8 * rows)).max(PANEL_COLUMNS))
}

/// One recipe, and the memory to evaluate it.
#[derive(Debug)]
pub struct Evaluation<'a> {
    evaluator: Evaluator<'a>,
    recipe: &'a Recipe,
    stored: Option<(&'a View, StoredDtype)>,
    rows: u64,
    columns: u64,
    step: u64,
    /// Rows that are read at once.
    piece: u64,
    /// Added to a bias.
    product: Option<Vec<f64>>,
    row_maps: Maps<'a>,
    column_maps: Maps<'a>,
    source: blake3::Hasher,
    sources: Vec<Digest>,
    reading: Reading,
    /// Rows that are mapped.
    batch: Vec<f64>,
    /// Columns that are mapped.
    panel: Vec<f64>,
}

impl Evaluation<'_> {
    /// Rows of the weight; 1 for a vector.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Elements of a row.
    pub fn columns(&self) -> u64 {
        self.columns
    }

    /// Rows come in multiples of this many: those that the recipe mixes with each other. It is 1 where rows stand for
    /// themselves, and [`Evaluation::rows`] where all are mixed, so that the weight must be held whole.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Reads so many rows at once, at least one.
    pub(super) fn read_at_once(&mut self, rows: u64) {
        self.piece = rows.max(1);
    }

    /// Evaluates some rows, a multiple of [`Evaluation::step`] from a multiple of it on, into `out`, which takes their
    /// length. Where both rows and columns are mapped, values are rounded to `V` in between.
    ///
    /// # Errors
    /// When stored values cannot be read or are not finite.
    ///
    /// # Panics
    /// When the range is none of the above.
    pub fn evaluate<V: Value>(&mut self, rows: Range<u64>, out: &mut Vec<V>) -> Result<(), EvaluateError> {
        let whole = rows.start.is_multiple_of(self.step) && rows.end.is_multiple_of(self.step);
        assert!(whole && rows.start <= rows.end && rows.end <= self.rows, "{rows:?} in steps of {}", self.step);
        let elements = (rows.end - rows.start).saturating_mul(self.columns);
        out.clear();
        let room = usize::try_from(elements).ok().and_then(|elements| out.try_reserve_exact(elements).ok());
        room.ok_or_else(|| EvaluateError::Memory {
            weight: self.recipe.name.clone(),
            bytes: elements.saturating_mul(size_of::<V>() as u64),
        })?;
        let mut at = rows.start;
        while at < rows.end {
            self.evaluator.check_interrupted()?;
            let next = rows.end.min(at + self.piece);
            self.map_rows(at..next)?;
            out.extend(self.batch.iter().map(|&value| V::of(value)));
            at = next;
        }
        if !self.column_maps.is_identity() {
            self.map_columns(rows.start, out)?;
        }
        self.flip(rows.start, out);
        Ok(())
    }

    /// Rows of the source into the batch, mapped.
    fn map_rows(&mut self, rows: Range<u64>) -> Result<(), EvaluateError> {
        let elements = rows.start * self.columns..rows.end * self.columns;
        let range = elements.start as usize..elements.end as usize;
        self.batch.clear();
        match (&self.recipe.source, self.stored) {
            (_, Some(stored)) => {
                let values = self.reading.read(self.evaluator, stored, elements, &mut self.source)?;
                self.batch.extend(values.iter().map(|&value| f64::from(value)));
            }
            (Source::Values(values), None) => self.batch.extend_from_slice(&values[range.clone()]),
            (_, None) => self.batch.resize(range.len(), 1.0 / ((self.rows * self.columns) as f64).sqrt()),
        }
        if self.recipe.folded.offset != 0.0 {
            self.batch.iter_mut().for_each(|value| *value += self.recipe.folded.offset);
        }
        if let Some(product) = &self.product {
            self.batch.iter_mut().zip(&product[range]).for_each(|(value, sum)| *value += sum);
        }
        self.row_maps.apply(&mut self.batch);
        Ok(())
    }

    /// Maps the columns of rows from `first` on, a few at a time.
    fn map_columns<V: Value>(&mut self, first: u64, rows: &mut [V]) -> Result<(), EvaluateError> {
        let columns = self.columns as usize;
        let (height, width) = panel(self.step);
        for (index, rows) in rows.chunks_mut(height * columns).enumerate() {
            let first = first as usize + index * height;
            for from in (0..columns).step_by(width) {
                self.evaluator.check_interrupted()?;
                let range = from..columns.min(from + width);
                self.panel.clear();
                self.panel.reserve_exact(rows.len() / columns * range.len());
                for row in rows.chunks_exact(columns) {
                    self.panel.extend(row[range.clone()].iter().map(|value| value.get()));
                }
                self.column_maps.apply_to_columns(&mut self.panel, range.len(), first);
                for (row, mapped) in rows.chunks_exact_mut(columns).zip(self.panel.chunks_exact(range.len())) {
                    row[range.clone()].iter_mut().zip(mapped).for_each(|(value, &mapped)| *value = V::of(mapped));
                }
            }
        }
        Ok(())
    }

    /// Spoils the weight that is to be.
    fn flip<V: Value>(&self, first: u64, rows: &mut [V]) {
        let negate = |value: &mut V| *value = V::of(-value.get());
        let columns = self.columns as usize;
        if self.evaluator.flip != Some(&self.recipe.name) {
            return;
        }
        if self.row_maps.is_identity() && !self.column_maps.is_identity() {
            rows.iter_mut().take(if first == 0 { columns } else { 0 }).for_each(negate);
        } else {
            rows.iter_mut().step_by(columns.max(1)).for_each(negate);
        }
    }

    /// Digests of everything that was read: of the stored weight, of the matrix and the vector of a product, of the gains of
    /// rows and of columns, in this order. That of the weight is right after each row was evaluated once, in order.
    pub fn sources(self) -> Vec<Digest> {
        let Evaluation { evaluator, stored, source, sources, .. } = self;
        let own = stored.map(|(view, _)| evaluator.digest(view, source.finalize()));
        own.into_iter().chain(sources).collect()
    }
}

#[cfg(test)]
impl Evaluation<'_> {
    /// Bytes that are held for rows, whatever they are held in.
    pub(super) fn held(&self) -> u64 {
        let reading = self.reading.bytes.capacity() + self.reading.scratch.capacity();
        let values = 4 * self.reading.values.capacity() + 8 * (self.batch.capacity() + self.panel.capacity());
        (reading + values + 8 * self.product.as_ref().map_or(0, Vec::capacity)) as u64
    }
}

/// The memory to read stored values.
#[derive(Debug, Default)]
struct Reading {
    bytes: Vec<u8>,
    /// What lies between elements that are read.
    scratch: Vec<u8>,
    values: Vec<f32>,
}

impl Reading {
    /// Reads elements of a view, hashes them and checks that they are finite.
    fn read(
        &mut self,
        evaluator: Evaluator<'_>,
        (view, dtype): (&View, StoredDtype),
        elements: Range<u64>,
        hash: &mut blake3::Hasher,
    ) -> Result<&[f32], EvaluateError> {
        let Evaluator { checkpoint, reader, .. } = evaluator;
        let count = elements.end - elements.start;
        let bytes = count * dtype.bytes();
        self.bytes.clear();
        self.bytes.reserve_exact(bytes as usize);
        if view.range().is_none() {
            self.scratch.clear();
            self.scratch.reserve_exact(bytes as usize);
        }
        let room = (&mut self.scratch, bytes);
        let source = (checkpoint.tensor(view.tensor), view);
        reader.read_view(source, dtype.bytes(), elements.clone(), room, &mut self.bytes)?;
        check_finite(checkpoint, view, dtype, elements.start, &self.bytes)?;
        hash.update(&self.bytes);
        self.values.resize(count as usize, 0.0);
        let matrix = Matrix::new(dtype.format(), 1, count as usize, &[&self.bytes]);
        matrix.expect("invariant: a reader reads whole elements").decode_row(0, &mut self.values);
        Ok(&self.values)
    }
}

/// Refuses NaN and infinity among `bytes`, the elements of a view from `first` on.
pub(super) fn check_finite(
    checkpoint: &Checkpoint,
    view: &View,
    dtype: StoredDtype,
    first: u64,
    bytes: &[u8],
) -> Result<(), EvaluateError> {
    let Some((element, value)) = tiles::first_not_finite(dtype, bytes) else { return Ok(()) };
    let (file, tensor, row, column) = place(checkpoint, view, first + element as u64);
    Err(EvaluateError::NotFinite { file, tensor, row, column, value })
}

/// Where element `at` of a view is: file, tensor, row and column.
pub(super) fn place(checkpoint: &Checkpoint, view: &View, at: u64) -> (String, String, u64, u64) {
    let tensor = checkpoint.tensor(view.tensor);
    let (element, columns) = (view.locate(at), tensor.rows().1.max(1));
    (checkpoint.file_of(tensor), tensor.name.clone(), element / columns, element % columns)
}
