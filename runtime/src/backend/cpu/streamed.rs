//! Programs whose weights are not in memory: each step asks for those that it needs, and forgets them.

use std::ops::Range;
use std::sync::Arc;

use bytemuck::cast_slice;
use lathe_kernels::formats::{Format, Matrix};
use lathe_kernels::ops;
use rayon::ThreadPool;

use super::machine::{Allocator, Machine};
use super::weights::{Operand, StepWeights};
use super::{CpuBackend, rotations};
use crate::backend::StepOutput;
use crate::exec::{ExecError, Limits, Logits, Pass, SessionOptions};
use crate::program::{Op, Program, WeightId, verify};

/// Gives the values of weights.
pub trait WeightSource: Send {
    /// Why it cannot.
    type Error: Send;

    /// Writes rows of a weight of the program to `out`, f32 `[rows.len(), columns]`. A vector is a matrix of one row.
    ///
    /// # Errors
    /// Whatever keeps the source from it; the step that asked can be tried again.
    fn read(&mut self, weight: WeightId, rows: &WantedRows<'_>, out: &mut [f32]) -> Result<(), Self::Error>;
}

/// Rows of a weight, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WantedRows<'r> {
    /// One after the other.
    Range(Range<usize>),
    /// Those of these numbers, in ascending order.
    List(&'r [usize]),
}

/// How a program is run with weights from a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamOptions {
    /// The tokens whose logits are wanted.
    pub logits: Logits,
    /// Bytes of a matrix that are asked for at once: as many rows as fit, at least one.
    pub tile_bytes: usize,
}

impl StreamOptions {
    /// Bytes of a matrix that are asked for at once, unless told otherwise.
    pub const DEFAULT_TILE_BYTES: usize = 16 << 20;
}

/// Why a program cannot be run with weights from a source.
#[derive(Debug, thiserror::Error)]
pub enum StreamError<E> {
    /// As of a session that cannot be made, or of a call that cannot be answered.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// The source has failed.
    #[error("{0}")]
    Source(E),
}

impl CpuBackend {
    /// Prepares to send some tokens through a program once, all together, with weights from `source`. Of the weights it
    /// holds the matrices of rotations, the vectors of a step and one tile of a matrix. Matrices are asked for as they are
    /// needed: of a table the rows of the tokens, of experts those that are chosen, one after the other.
    ///
    /// Products take x as it is, whatever the program rounds it to: such formats are for weights in their own. Otherwise
    /// results are those of a session that reads the tokens in one pass, to the bit where its weights are stored as f32, f16
    /// or bf16 and the source gives the same values.
    ///
    /// # Errors
    /// As of a session with room for the tokens and a call with them, and when the source does not give the matrix of a
    /// rotation.
    pub fn stream<'a, S: WeightSource>(
        &self,
        program: &'a Program,
        mut source: S,
        tokens: &'a [u32],
        options: &StreamOptions,
    ) -> Result<Streamed<'a, S>, StreamError<S::Error>> {
        verify(program).map_err(ExecError::from)?;
        let limits = Limits::new(
            program,
            &SessionOptions {
                capacity: tokens.len().max(1),
                max_step_tokens: tokens.len().max(1),
                max_logits: options.logits.count(tokens.len()).max(1),
                min_positions: 0,
            },
        )?;
        let selected = limits.check(tokens, options.logits, 0)?;
        let mut memory = Allocator::default();
        let rotations = rotations(&self.pool, program, &mut memory, |weight, values| {
            let rows = WantedRows::Range(0..Shape::of(program, weight).rows);
            source.read(weight, &rows, values).map_err(StreamError::Source)
        })?;
        let fetched = Fetched::new(program, source, tokens.len(), options.tile_bytes, &mut memory)?;
        let mut machine = Machine::new(program, fetched, rotations, &limits, &mut memory)?;
        let pass = Pass { tokens: 0..tokens.len(), selected, first_row: 0 };
        machine.frequencies.set_length(tokens.len());
        machine.set_positions(&pass, 0);
        let (pool, memory_bytes) = (Arc::clone(&self.pool), memory.bytes);
        Ok(Streamed { pool, machine, tokens, pass, next: 0, memory_bytes })
    }
}

/// A program that runs step by step with weights from a source, see [`CpuBackend::stream`].
pub struct Streamed<'a, S: WeightSource> {
    pool: Arc<ThreadPool>,
    machine: Machine<'a, Fetched<'a, S>>,
    tokens: &'a [u32],
    pass: Pass,
    next: usize,
    memory_bytes: u64,
}

impl<S: WeightSource> Streamed<'_, S> {
    /// Runs the next step and gives its values; later steps read what the caller leaves there. `None` after the last.
    /// Steps come in the order of the program; those on selected rows do not come where no row is selected.
    ///
    /// # Errors
    /// That of the source. The next call runs the same step again.
    pub fn next_step(&mut self) -> Result<Option<StepOutput<'_>>, S::Error> {
        while let Some(step) = self.machine.program.steps.get(self.next) {
            let (machine, tokens, pass) = (&mut self.machine, self.tokens, &self.pass);
            let has_run = self.pool.install(|| machine.step(step, tokens, pass, 0))?;
            let index = self.next;
            self.next += 1;
            if has_run {
                return Ok(Some(self.machine.output(index, &self.pass)));
            }
        }
        Ok(None)
    }

    /// Where the weights come from.
    pub fn source(&self) -> &S {
        &self.machine.weights.source
    }

    /// Bytes allocated for activations, caches, rotations and what is held of weights.
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }
}

/// Weights from a source. The buffers are as large as the step that needs most of each.
struct Fetched<'a, S> {
    program: &'a Program,
    source: S,
    tile_bytes: usize,
    vectors: [Vec<f32>; 3],
    tile: Vec<f32>,
    /// Products with the rows of a tile, `[rows of x, rows of the tile]`.
    products: Vec<f32>,
    /// The rows of x that have chosen an expert.
    gathered: Vec<f32>,
}

impl<'a, S: WeightSource> Fetched<'a, S> {
    /// For a pass of `tokens` tokens.
    fn new(
        program: &'a Program,
        source: S,
        tokens: usize,
        tile_bytes: usize,
        memory: &mut Allocator,
    ) -> Result<Self, ExecError> {
        let mut lengths = Lengths::default();
        for step in &program.steps {
            match &step.op {
                &Op::Embed { table, .. } => lengths.tile(Shape::of(program, table), tile_bytes),
                &Op::MatMul { weight, .. } => lengths.product(Shape::of(program, weight), tile_bytes, tokens),
                Op::ExpertMatMul { choice, weights, .. } => {
                    let pairs = tokens.saturating_mul(program.buffers[choice.index()].width as usize);
                    let shape = Shape::of(program, weights[0]);
                    lengths.product(shape, tile_bytes, pairs);
                    lengths.gathered = lengths.gathered.max(pairs.saturating_mul(shape.columns));
                }
                _ => {}
            }
            for weight in step.op.weights() {
                if let [length] = *program.weights[weight.index()].shape {
                    lengths.vector = lengths.vector.max(length as usize);
                }
            }
        }
        let mut buffer = |length| memory.zeros("weights", length);
        Ok(Fetched {
            program,
            source,
            tile_bytes,
            vectors: [buffer(lengths.vector)?, buffer(lengths.vector)?, buffer(lengths.vector)?],
            tile: buffer(lengths.tile)?,
            products: buffer(lengths.products)?,
            gathered: buffer(lengths.gathered)?,
        })
    }

    /// Calls `take` with some columns of `x Wᵀ + bias` after the other, `[rows of x, columns]`, until it has had all.
    fn product(
        &mut self,
        x: Rows<'_>,
        weight: WeightId,
        bias: Option<WeightId>,
        mut take: impl FnMut(Range<usize>, &[f32]),
    ) -> Result<(), S::Error> {
        self.vectors([bias, None, None])?;
        let shape = Shape::of(self.program, weight);
        let x = match x {
            Rows::Given(x) => x,
            Rows::Gathered(count) => &self.gathered[..count * shape.columns],
        };
        let bias = bias.map(|_| &self.vectors[0][..shape.rows]);
        let mut rows = 0..0;
        while rows.end < shape.rows {
            rows = rows.end..shape.rows.min(rows.end + shape.rows_of_tile(self.tile_bytes));
            let tile = &mut self.tile[..rows.len() * shape.columns];
            self.source.read(weight, &WantedRows::Range(rows.clone()), tile)?;
            for value in &mut *tile {
                // The bytes of f32 weights are little-endian.
                *value = f32::from_bits(value.to_bits().to_le());
            }
            let matrix = Matrix::new(Format::F32, rows.len(), shape.columns, &[cast_slice(tile)])
                .unwrap_or_else(|error| unreachable!("rows of a weight that verifies: {error}"));
            let products = &mut self.products[..x.len() / shape.columns * rows.len()];
            ops::matmul(x, &matrix, bias.map(|bias| &bias[rows.clone()]), products);
            take(rows.clone(), products);
        }
        Ok(())
    }
}

/// Rows of activations.
#[derive(Clone, Copy)]
enum Rows<'x> {
    Given(&'x [f32]),
    /// So many of [`Fetched::gathered`].
    Gathered(usize),
}

impl<S: WeightSource> StepWeights for Fetched<'_, S> {
    type Error = S::Error;

    fn vectors(&mut self, vectors: [Option<WeightId>; 3]) -> Result<[Option<&[f32]>; 3], S::Error> {
        let mut values = [None; 3];
        for ((weight, buffer), values) in vectors.into_iter().zip(&mut self.vectors).zip(&mut values) {
            if let Some(weight) = weight {
                let vector = &mut buffer[..Shape::of(self.program, weight).columns];
                self.source.read(weight, &WantedRows::Range(0..1), vector)?;
                *values = Some(&*vector);
            }
        }
        Ok(values)
    }

    fn embed(&mut self, table: WeightId, index: &[u32], first: u32, out: &mut [f32]) -> Result<(), S::Error> {
        let shape = Shape::of(self.program, table);
        let row = |index: u32| first as usize + index as usize;
        let mut wanted: Vec<usize> = index.iter().map(|&index| row(index)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        for wanted in wanted.chunks(shape.rows_of_tile(self.tile_bytes)) {
            let tile = &mut self.tile[..wanted.len() * shape.columns];
            self.source.read(table, &WantedRows::List(wanted), tile)?;
            for (&index, out) in index.iter().zip(out.chunks_exact_mut(shape.columns)) {
                if let Ok(at) = wanted.binary_search(&row(index)) {
                    out.copy_from_slice(&tile[at * shape.columns..][..shape.columns]);
                }
            }
        }
        Ok(())
    }

    fn matmul(
        &mut self,
        (x, _): Operand<'_>,
        weight: WeightId,
        bias: Option<WeightId>,
        out: &mut [f32],
    ) -> Result<(), S::Error> {
        let outputs = Shape::of(self.program, weight).rows;
        self.product(Rows::Given(x), weight, bias, |columns, products| {
            for (out, products) in out.chunks_exact_mut(outputs).zip(products.chunks_exact(columns.len())) {
                out[columns.clone()].copy_from_slice(products);
            }
        })
    }

    fn expert_matmul(
        &mut self,
        (x, _): Operand<'_>,
        choice: &[u32],
        k: usize,
        [weights, biases]: [&[WeightId]; 2],
        out: &mut [f32],
    ) -> Result<(), S::Error> {
        let shape = Shape::of(self.program, weights[0]);
        // Choices that share a row of x.
        let sharing = if x.len() == choice.len() * shape.columns { 1 } else { k };
        for (expert, &weight) in weights.iter().enumerate() {
            let chosen_by: Vec<usize> = (0..choice.len()).filter(|&pair| choice[pair] as usize == expert).collect();
            if chosen_by.is_empty() {
                continue;
            }
            for (&pair, gathered) in chosen_by.iter().zip(self.gathered.chunks_exact_mut(shape.columns)) {
                gathered.copy_from_slice(&x[pair / sharing * shape.columns..][..shape.columns]);
            }
            let rows = Rows::Gathered(chosen_by.len());
            self.product(rows, weight, biases.get(expert).copied(), |columns, products| {
                for (&pair, products) in chosen_by.iter().zip(products.chunks_exact(columns.len())) {
                    out[pair * shape.rows..][columns.clone()].copy_from_slice(products);
                }
            })?;
        }
        Ok(())
    }
}

/// Rows and columns of a weight of a valid program.
#[derive(Clone, Copy)]
struct Shape {
    rows: usize,
    columns: usize,
}

impl Shape {
    fn of(program: &Program, weight: WeightId) -> Shape {
        match *program.weights[weight.index()].shape {
            [rows, columns] => Shape { rows: rows as usize, columns: columns as usize },
            [columns] => Shape { rows: 1, columns: columns as usize },
            _ => unreachable!("invariant 4: weights have rank 1 or 2"),
        }
    }

    /// How many rows are asked for at once.
    fn rows_of_tile(self, tile_bytes: usize) -> usize {
        (tile_bytes / (size_of::<f32>() * self.columns)).clamp(1, self.rows)
    }
}

/// Elements of each buffer.
#[derive(Default)]
struct Lengths {
    vector: usize,
    tile: usize,
    products: usize,
    gathered: usize,
}

impl Lengths {
    fn tile(&mut self, shape: Shape, tile_bytes: usize) {
        self.tile = self.tile.max(shape.rows_of_tile(tile_bytes) * shape.columns);
    }

    fn product(&mut self, shape: Shape, tile_bytes: usize, rows: usize) {
        self.tile(shape, tile_bytes);
        self.products = self.products.max(shape.rows_of_tile(tile_bytes).saturating_mul(rows));
    }
}
