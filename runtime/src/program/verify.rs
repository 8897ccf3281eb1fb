//! What makes a program valid. The executor runs only programs for which all of this holds, and then never panics:
//!
//! 1. The version is [`PROGRAM_VERSION`].
//! 2. Sizes are bounded: at most 2²² entries in each table, every width, dimension and head count between 1 and
//!    [`MAX_DIMENSION`], at most 2⁴⁸ elements in a weight, at most 2⁴⁰ elements in one row of all buffers together,
//!    `max_positions`, the positions of growing frequencies and the bound of indices at least 1 where they are given.
//!    Rotations are at most [`MAX_WIDTH`](lathe_kernels::rotations::MAX_WIDTH) wide; those that are no Hadamard matrices are
//!    at most [`MAX_DENSE`](lathe_kernels::rotations::MAX_DENSE) wide and have at most 2³⁰ elements together. The bases of all
//!    Hadamard matrices and a row of each have at most 2²⁵ elements together.
//! 3. Names and labels are not empty and hold no control characters. The tensors of all weights have different names,
//!    none of which begins with `pad.` (alignment padding of the weight files) or `__` (their metadata).
//! 4. Weights have rank 1 or 2 and a format that exists and takes their shape.
//! 5. Ids are in range.
//! 6. Every buffer is written exactly once, before any step reads it; so the output of a step is none of its inputs.
//! 7. Every cache is used by exactly one attention, every rotation by a step.
//! 8. Rows and widths fit the kernel: matrices have rank 2 and vectors rank 1; `MatMul` maps `in` to `out`; the experts
//!    of `ExpertMatMul` have one shape, all of them a bias or none, and `x` one row or one for each choice;
//!    weights whose `x` is rounded to int8 are int8, symmetric, with a scale for each channel and rows of at most 2¹⁶
//!    elements; groups, gains,
//!    shifts, rotations and heads divide the width; `Norm` has a vector to centre along only if it centres; the rotary
//!    width is at most a head; element-wise operands have one shape;
//!    query heads are a multiple of key/value heads, and there is a sink for each; `TopK` chooses at most as many as
//!    there are; `Combine` has a row for each of its weights. Embedding, rotary embedding and attention work on `Tokens`
//!    rows, and only `Select` leads from `Tokens` to `Selected`.
//! 9. Numbers are finite; every `eps` is at least 0, every window at least 1, every cap above 0; a gain offset without a
//!    gain is 0; `Clamp` has a bound, and `low <= high` where it has both. Every rope table has a pair. Frequencies that
//!    switch are as many before as after; of dynamic ones the rotary width is above 2, the factor at least 1, the base
//!    above 0.
//! 10. All tables that tokens count have one number of rows from their `first` on, the vocabulary; those that positions
//!     count have at least `max_positions`, which then is given. The output is `[Selected, vocabulary]`.
//! 11. `TopK` writes indices below the width of its `x`; every other output is real. Indices are read as a `choice` only,
//!     and their bound is what there is to choose from: the elements of a row of `Gather`, the experts of `ExpertMatMul`.
//! 12. The construction of a Hadamard matrix is one that this build knows, in canonical form; its order is the width, its
//!     base has the stated hash, and there is a sign for each element, or none. The matrix of a rotation is an f32
//!     weight `[width, width]`.

use std::collections::HashSet;

use super::types::{
    BufferId, Elements, Index, Op, PROGRAM_VERSION, Program, RopeGrowth, RopeTable, Rows, Step, Weight, WeightId,
};
use super::violation::{StepRef, VerifyError, Violation};

mod rotation;
mod step;

/// Largest width or dimension, in elements.
pub const MAX_DIMENSION: u64 = (1 << 31) - 1;
const MAX_ENTRIES: usize = 1 << 22;
const MAX_WEIGHT_ELEMENTS: u64 = 1 << 48;
const MAX_ROW_ELEMENTS: u64 = 1 << 40;
/// First characters of tensor names that the weight files use for themselves.
const RESERVED_PREFIXES: [&str; 2] = ["pad.", "__"];

/// Checks every invariant of this module; the first violation that is found is the error.
pub fn verify(program: &Program) -> Result<(), VerifyError> {
    let outside_steps = |violation| VerifyError { step: None, violation };
    verify_tables(program).map_err(outside_steps)?;
    for (index, step) in program.steps.iter().enumerate() {
        verify_ids(program, step).map_err(|violation| in_step(index, step, violation))?;
    }
    verify_data_flow(program)?;
    verify_cache_use(program).map_err(outside_steps)?;
    rotation::verify_use(program).map_err(outside_steps)?;
    let mut vocabulary = None;
    for (index, step) in program.steps.iter().enumerate() {
        let checked = step::verify(program, &step.op).and_then(|()| match step.op {
            Op::Embed { table, index, first, .. } => {
                verify_table_rows(program, &program.weights[table.index()], index, first, &mut vocabulary)
            }
            _ => Ok(()),
        });
        checked.map_err(|violation| in_step(index, step, violation))?;
    }
    verify_output(program, vocabulary).map_err(outside_steps)
}

fn in_step(index: usize, step: &Step, violation: Violation) -> VerifyError {
    VerifyError { step: Some(StepRef { index, label: step.label.clone() }), violation }
}

/// Invariants 1 to 4, 12, and those of 9 that concern rope tables: everything that can be said without looking at a step.
fn verify_tables(program: &Program) -> Result<(), Violation> {
    if program.version != PROGRAM_VERSION {
        return Err(Violation::Version { found: program.version });
    }
    let counts = [
        ("number of weights", program.weights.len()),
        ("number of buffers", program.buffers.len()),
        ("number of caches", program.caches.len()),
        ("number of rope tables", program.rope_tables.len()),
        ("number of rotations", program.rotations.len()),
        ("number of steps", program.steps.len()),
    ];
    for (what, count) in counts {
        in_range(what, count as u64, 0, MAX_ENTRIES as u64)?;
    }
    if let Some(positions) = program.max_positions {
        in_range("max_positions", positions.into(), 1, u32::MAX.into())?;
    }
    let mut row_elements = 0;
    for (index, buffer) in program.buffers.iter().enumerate() {
        in_range(format_args!("width of buffer {index}"), buffer.width.into(), 1, MAX_DIMENSION)?;
        row_elements += u64::from(buffer.width);
        if let Elements::Index { below } = buffer.elements {
            in_range(format_args!("bound of the indices of buffer {index}"), below.into(), 1, MAX_DIMENSION)?;
        }
    }
    in_range("sum of buffer widths", row_elements, 0, MAX_ROW_ELEMENTS)?;
    for (index, cache) in program.caches.iter().enumerate() {
        in_range(format_args!("heads of cache {index}"), cache.heads.into(), 1, MAX_DIMENSION)?;
        in_range(format_args!("head_dim of cache {index}"), cache.head_dim.into(), 1, MAX_DIMENSION)?;
    }
    printable("model name", &program.model)?;
    for step in &program.steps {
        printable("label", &step.label)?;
    }
    verify_weights(&program.weights)?;
    for (index, table) in program.rope_tables.iter().enumerate() {
        verify_rope_table(index, table)?;
    }
    rotation::verify(program)
}

/// Invariants 2 and 9 for a rope table.
fn verify_rope_table(index: usize, table: &RopeTable) -> Result<(), Violation> {
    let pairs = table.inverse_frequencies.len();
    in_range(format_args!("pairs of rope table {index}"), pairs as u64, 0, MAX_DIMENSION)?;
    if pairs == 0 {
        return Err(Violation::NoPairs { table: index as u32 });
    }
    finite("rope amplitude", table.amplitude)?;
    let positions_in_range = |positions: u32| {
        in_range(format_args!("positions of rope table {index}"), positions.into(), 1, u32::MAX.into())
    };
    let all_finite =
        |frequencies: &[f32]| frequencies.iter().try_for_each(|&frequency| finite("inverse frequency", frequency));
    all_finite(&table.inverse_frequencies)?;
    match &table.growth {
        None => Ok(()),
        Some(RopeGrowth::Switch { positions, inverse_frequencies }) => {
            positions_in_range(*positions)?;
            if inverse_frequencies.len() != pairs {
                let (table, found) = (index as u32, inverse_frequencies.len());
                return Err(Violation::Frequencies { table, found, expected: pairs });
            }
            all_finite(inverse_frequencies)
        }
        Some(RopeGrowth::Dynamic { positions, factor, theta }) => {
            positions_in_range(*positions)?;
            in_range(format_args!("pairs of rope table {index}, which is dynamic,"), pairs as u64, 2, MAX_DIMENSION)?;
            finite_and("rope factor", *factor, *factor >= 1.0, "at least 1")?;
            finite_and("rope theta", *theta, *theta > 0.0, "above 0")
        }
    }
}

fn verify_weights(weights: &[Weight]) -> Result<(), Violation> {
    let mut names = HashSet::new();
    for weight in weights {
        let name = weight.name.clone();
        printable("weight name", &name)?;
        if !(1..=2).contains(&weight.shape.len()) {
            return Err(Violation::Rank { name, found: weight.shape.len() });
        }
        for &dimension in &weight.shape {
            in_range(format_args!("dimension of `{name}`"), dimension, 1, MAX_DIMENSION)?;
        }
        let elements = weight.shape.iter().fold(1u64, |product, &dimension| product.saturating_mul(dimension));
        in_range(format_args!("elements of `{name}`"), elements, 1, MAX_WEIGHT_ELEMENTS)?;
        let Some(format) = weight.find_format() else {
            return Err(Violation::Format { name, format: weight.format.clone() });
        };
        let Some(shape) = weight.matrix_shape() else {
            return Err(Violation::Rank { name, found: weight.shape.len() });
        };
        if let Err(constraint) = format.constraints(shape.rows, shape.cols) {
            return Err(Violation::Constraint { name, reason: constraint.to_string() });
        }
        for tensor in weight.stored_tensors().unwrap_or_default() {
            if RESERVED_PREFIXES.iter().any(|prefix| tensor.name.starts_with(prefix)) {
                return Err(Violation::Name { what: "tensor name", name: tensor.name, reason: "is reserved" });
            }
            if !names.insert(tensor.name.clone()) {
                return Err(Violation::DuplicateName { name: tensor.name });
            }
        }
    }
    Ok(())
}

/// Invariant 5.
fn verify_ids(program: &Program, step: &Step) -> Result<(), Violation> {
    let in_table = |table, id: u32, count| {
        if (id as usize) < count { Ok(()) } else { Err(Violation::Id { table, found: id, count }) }
    };
    for BufferId(id) in step.op.inputs().chain([step.op.out()]) {
        in_table("buffer", id, program.buffers.len())?;
    }
    for WeightId(id) in step.op.weights() {
        in_table("weight", id, program.weights.len())?;
    }
    if let Some(cache) = step.op.cache() {
        in_table("cache", cache.0, program.caches.len())?;
    }
    if let Some(table) = step.op.rope_table() {
        in_table("rope table", table.0, program.rope_tables.len())?;
    }
    if let Some(rotation) = step.op.rotation() {
        in_table("rotation", rotation.0, program.rotations.len())?;
    }
    Ok(())
}

/// Invariant 6, and 5 for the output. Ids in steps are in range.
fn verify_data_flow(program: &Program) -> Result<(), VerifyError> {
    let mut writer: Vec<Option<usize>> = vec![None; program.buffers.len()];
    for (index, step) in program.steps.iter().enumerate() {
        for input in step.op.inputs() {
            if writer[input.index()].is_none() {
                return Err(in_step(index, step, Violation::ReadBeforeWrite { buffer: input.0 }));
            }
        }
        let out = step.op.out();
        if let Some(first) = writer[out.index()].replace(index) {
            return Err(in_step(index, step, Violation::WrittenTwice { buffer: out.0, first }));
        }
    }
    let outside_steps = |violation| VerifyError { step: None, violation };
    if let Some(buffer) = writer.iter().position(Option::is_none) {
        return Err(outside_steps(Violation::NeverWritten { buffer: buffer as u32 }));
    }
    if program.output.index() >= program.buffers.len() {
        let (found, count) = (program.output.0, program.buffers.len());
        return Err(outside_steps(Violation::Id { table: "output buffer", found, count }));
    }
    Ok(())
}

/// Invariant 7 for caches. Ids in steps are in range.
fn verify_cache_use(program: &Program) -> Result<(), Violation> {
    let mut uses = vec![0; program.caches.len()];
    for cache in program.steps.iter().filter_map(|step| step.op.cache()) {
        uses[cache.index()] += 1;
    }
    match uses.iter().position(|&count| count != 1) {
        Some(cache) => Err(Violation::CacheUse { cache: cache as u32, found: uses[cache] }),
        None => Ok(()),
    }
}

/// Invariant 10 for an embedding. `table` has rank 2.
fn verify_table_rows(
    program: &Program,
    table: &Weight,
    index: Index,
    first: u32,
    vocabulary: &mut Option<u64>,
) -> Result<(), Violation> {
    let found = table.rows_from(first).unwrap_or(0);
    match index {
        Index::Tokens => match *vocabulary.get_or_insert(found) {
            0 => Err(Violation::FirstRow { first, rows: table.shape[0] }),
            expected if expected == found => Ok(()),
            expected => Err(Violation::Vocabulary { found, expected }),
        },
        Index::Positions => match program.max_positions {
            Some(expected) if u64::from(expected) <= found => Ok(()),
            max_positions => Err(Violation::PositionTable { found, max_positions }),
        },
    }
}

/// Invariant 10 for the output.
fn verify_output(program: &Program, vocabulary: Option<u64>) -> Result<(), Violation> {
    let Some(expected_width) = vocabulary else { return Err(Violation::NoVocabulary) };
    let output = &program.buffers[program.output.index()];
    let (found_rows, found_width) = (output.rows, u64::from(output.width));
    if found_rows != Rows::Selected || found_width != expected_width {
        return Err(Violation::Output { found_rows, found_width, expected_width });
    }
    let (found, expected) = (output.elements, Elements::Real);
    if found == expected { Ok(()) } else { Err(Violation::Elements { buffer: program.output.0, found, expected }) }
}

fn in_range(what: impl std::fmt::Display, found: u64, min: u64, max: u64) -> Result<(), Violation> {
    if (min..=max).contains(&found) {
        return Ok(());
    }
    Err(Violation::Size { what: what.to_string(), found, min, max })
}

fn finite(what: &'static str, value: f32) -> Result<(), Violation> {
    finite_and(what, value.into(), true, "")
}

/// That a number is finite and fulfils `condition`, which `bound` says in words.
fn finite_and(what: &'static str, value: f64, condition: bool, bound: &'static str) -> Result<(), Violation> {
    if value.is_finite() && condition {
        return Ok(());
    }
    Err(Violation::Number { what, found: value.to_string(), bound })
}

fn printable(what: &'static str, name: &str) -> Result<(), Violation> {
    let reason = match name {
        "" => "is empty",
        _ if name.contains(char::is_control) => "holds control characters",
        _ => return Ok(()),
    };
    Err(Violation::Name { what, name: name.to_owned(), reason })
}

#[cfg(test)]
mod tests;
