//! What makes a program valid. The executor runs only programs for which all of this holds, and then never panics:
//!
//! 1. The version is [`PROGRAM_VERSION`].
//! 2. Sizes are bounded: at most 2²² entries in each table, every width, dimension and head count between 1 and
//!    [`MAX_DIMENSION`], at most 2⁴⁸ elements in a weight, at most 2⁴⁰ elements in one row of all buffers together,
//!    `max_positions` at least 1 where it is given.
//! 3. Names and labels are not empty and hold no control characters. The tensors of all weights have different names,
//!    none of which begins with `pad.` (alignment padding of the weight files) or `__` (their metadata).
//! 4. Weights have rank 1 or 2 and a format that exists and takes their shape.
//! 5. Ids are in range.
//! 6. Every buffer is written exactly once, before any step reads it; so the output of a step is none of its inputs.
//! 7. Every cache is used by exactly one attention.
//! 8. Rows and widths fit the kernel: matrices have rank 2 and vectors rank 1, `MatMul` maps `in` to `out`, groups and
//!    heads divide the width, the rotary width is at most a head, element-wise operands have one shape, query heads are
//!    a multiple of key/value heads, embedding, rotary embedding and attention work on `Tokens` rows, and only `Select`
//!    leads from `Tokens` to `Selected`.
//! 9. Numbers are finite, every `eps` is at least 0, every window at least 1, every rope table has a pair.
//! 10. All embedding tables have one number of rows, the vocabulary, and the output is `[Selected, vocabulary]`.

use std::collections::HashSet;

use super::types::{BufferId, Op, PROGRAM_VERSION, Program, Rows, Step, Weight, WeightId};
use super::violation::{StepRef, VerifyError, Violation};

/// Largest width or dimension, in elements.
pub const MAX_DIMENSION: u64 = (1 << 31) - 1;
const MAX_ENTRIES: usize = 1 << 22;
const MAX_WEIGHT_ELEMENTS: u64 = 1 << 48;
const MAX_ROW_ELEMENTS: u64 = 1 << 40;
/// First characters of tensor names that the weight files use for themselves.
const RESERVED_PREFIXES: [&str; 2] = ["pad.", "__"];

/// Checks every invariant of this module, in order; the first violation is the error.
pub fn verify(program: &Program) -> Result<(), VerifyError> {
    let outside_steps = |violation| VerifyError { step: None, violation };
    verify_tables(program).map_err(outside_steps)?;
    for (index, step) in program.steps.iter().enumerate() {
        verify_ids(program, step).map_err(|violation| in_step(index, step, violation))?;
    }
    verify_data_flow(program)?;
    verify_cache_use(program).map_err(outside_steps)?;
    let mut vocabulary = None;
    for (index, step) in program.steps.iter().enumerate() {
        let checked = StepCheck { program }.verify(&step.op).and_then(|()| match step.op {
            Op::Embed { table, .. } => verify_vocabulary(program, table, &mut vocabulary),
            _ => Ok(()),
        });
        checked.map_err(|violation| in_step(index, step, violation))?;
    }
    verify_output(program, vocabulary).map_err(outside_steps)
}

fn in_step(index: usize, step: &Step, violation: Violation) -> VerifyError {
    VerifyError { step: Some(StepRef { index, label: step.label.clone() }), violation }
}

/// Invariants 1 to 4, and those of 9 that concern rope tables: everything that can be said without looking at a step.
fn verify_tables(program: &Program) -> Result<(), Violation> {
    if program.version != PROGRAM_VERSION {
        return Err(Violation::Version { found: program.version });
    }
    let counts = [
        ("number of weights", program.weights.len()),
        ("number of buffers", program.buffers.len()),
        ("number of caches", program.caches.len()),
        ("number of rope tables", program.rope_tables.len()),
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
        in_range(
            format_args!("pairs of rope table {index}"),
            table.inverse_frequencies.len() as u64,
            0,
            MAX_DIMENSION,
        )?;
        if table.inverse_frequencies.is_empty() {
            return Err(Violation::NoPairs { table: index as u32 });
        }
        for &frequency in &table.inverse_frequencies {
            finite("inverse frequency", frequency)?;
        }
        finite("rope amplitude", table.amplitude)?;
    }
    Ok(())
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

/// Invariant 7. Ids in steps are in range.
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

/// Invariant 10, first half.
fn verify_vocabulary(program: &Program, table: WeightId, vocabulary: &mut Option<u64>) -> Result<(), Violation> {
    let found = program.weights[table.index()].shape[0];
    match *vocabulary.get_or_insert(found) {
        expected if expected == found => Ok(()),
        expected => Err(Violation::Vocabulary { found, expected }),
    }
}

/// Invariant 10, second half.
fn verify_output(program: &Program, vocabulary: Option<u64>) -> Result<(), Violation> {
    // Without an embedding no buffer can be written, so there is one: invariant 6.
    let expected_width = vocabulary.unwrap_or(0);
    let output = &program.buffers[program.output.index()];
    let (found_rows, found_width) = (output.rows, u64::from(output.width));
    if found_rows == Rows::Selected && found_width == expected_width {
        Ok(())
    } else {
        Err(Violation::Output { found_rows, found_width, expected_width })
    }
}

/// Invariant 8, and 9 for steps. Ids are in range.
struct StepCheck<'a> {
    program: &'a Program,
}

impl StepCheck<'_> {
    fn verify(&self, op: &Op) -> Result<(), Violation> {
        match *op {
            Op::Embed { table, out } => {
                let [_, width] = self.matrix("table", table)?;
                self.rows("out", out, Rows::Tokens)?;
                self.width("out", out, width)
            }
            Op::MatMul { x, weight, bias, out } => {
                let [outputs, inputs] = self.matrix("weight", weight)?;
                self.width("x", x, inputs)?;
                if let Some(bias) = bias {
                    self.vector("bias", bias, outputs)?;
                }
                self.rows("out", out, self.rows_of(x))?;
                self.width("out", out, outputs)
            }
            Op::RmsNorm { x, gain, width, eps, out } => {
                self.groups("group width", width, "width of x", x)?;
                if let Some(gain) = gain {
                    self.vector("gain", gain, width.into())?;
                }
                finite("eps", eps)?;
                if eps < 0.0 {
                    return Err(Violation::Number { what: "eps", found: eps.to_string(), at_least_zero: true });
                }
                self.same_shape("out", out, x)
            }
            Op::Gain { x, gain, width, out } => {
                self.groups("group width", width, "width of x", x)?;
                self.vector("gain", gain, width.into())?;
                self.same_shape("out", out, x)
            }
            Op::Rope { x, table, head_dim, out } => {
                self.rows("x", x, Rows::Tokens)?;
                self.groups("head_dim", head_dim, "width of x", x)?;
                let rotary = 2 * self.program.rope_tables[table.index()].inverse_frequencies.len() as u64;
                if rotary > u64::from(head_dim) {
                    return Err(Violation::RotaryWidth { rotary, head_dim: head_dim.into() });
                }
                self.same_shape("out", out, x)
            }
            Op::Attention { q, k, v, cache, heads, scale, window, out } => {
                let cache = &self.program.caches[cache.index()];
                in_range("heads", heads.into(), 1, MAX_DIMENSION)?;
                if heads % cache.heads != 0 {
                    let (divisor, dividend) = (cache.heads.into(), heads.into());
                    return Err(Violation::Division { part: "key/value heads", divisor, whole: "heads", dividend });
                }
                let head_dim = u64::from(cache.head_dim);
                for (operand, buffer, heads) in [("q", q, heads), ("k", k, cache.heads), ("v", v, cache.heads)] {
                    self.rows(operand, buffer, Rows::Tokens)?;
                    self.width(operand, buffer, u64::from(heads).saturating_mul(head_dim))?;
                }
                finite("scale", scale)?;
                if window == Some(0) {
                    return Err(Violation::Window);
                }
                self.same_shape("out", out, q)
            }
            Op::Unary { function: _, x, out } => self.same_shape("out", out, x),
            Op::Binary { function: _, a, b, out } => {
                self.same_shape("b", b, a)?;
                self.same_shape("out", out, a)
            }
            Op::Gated { function: _, gate, value, out } => {
                self.same_shape("gate", gate, value)?;
                self.same_shape("out", out, value)
            }
            Op::Select { x, out } => {
                self.rows("x", x, Rows::Tokens)?;
                self.rows("out", out, Rows::Selected)?;
                self.width("out", out, self.width_of(x))
            }
        }
    }

    fn width_of(&self, buffer: BufferId) -> u64 {
        self.program.buffers[buffer.index()].width.into()
    }

    fn rows_of(&self, buffer: BufferId) -> Rows {
        self.program.buffers[buffer.index()].rows
    }

    fn width(&self, operand: &'static str, buffer: BufferId, expected: u64) -> Result<(), Violation> {
        let found = self.width_of(buffer);
        if found == expected { Ok(()) } else { Err(Violation::Width { operand, found, expected }) }
    }

    fn rows(&self, operand: &'static str, buffer: BufferId, expected: Rows) -> Result<(), Violation> {
        let found = self.rows_of(buffer);
        if found == expected { Ok(()) } else { Err(Violation::RowCount { operand, found, expected }) }
    }

    fn same_shape(&self, operand: &'static str, buffer: BufferId, as_buffer: BufferId) -> Result<(), Violation> {
        self.rows(operand, buffer, self.rows_of(as_buffer))?;
        self.width(operand, buffer, self.width_of(as_buffer))
    }

    fn groups(&self, part: &'static str, divisor: u32, whole: &'static str, x: BufferId) -> Result<(), Violation> {
        in_range(part, divisor.into(), 1, MAX_DIMENSION)?;
        let (divisor, dividend) = (u64::from(divisor), self.width_of(x));
        if dividend.is_multiple_of(divisor) {
            Ok(())
        } else {
            Err(Violation::Division { part, divisor, whole, dividend })
        }
    }

    fn matrix(&self, operand: &'static str, weight: WeightId) -> Result<[u64; 2], Violation> {
        let Weight { name, shape, .. } = &self.program.weights[weight.index()];
        shape.as_slice().try_into().map_err(|_| Violation::NotAMatrix {
            operand,
            name: name.clone(),
            found: shape.clone(),
        })
    }

    fn vector(&self, operand: &'static str, weight: WeightId, length: u64) -> Result<(), Violation> {
        let Weight { name, shape, .. } = &self.program.weights[weight.index()];
        if *shape == [length] {
            return Ok(());
        }
        Err(Violation::WeightShape { operand, name: name.clone(), found: shape.clone(), expected: vec![length] })
    }
}

fn in_range(what: impl std::fmt::Display, found: u64, min: u64, max: u64) -> Result<(), Violation> {
    if (min..=max).contains(&found) {
        return Ok(());
    }
    Err(Violation::Size { what: what.to_string(), found, min, max })
}

fn finite(what: &'static str, value: f32) -> Result<(), Violation> {
    if value.is_finite() {
        return Ok(());
    }
    Err(Violation::Number { what, found: value.to_string(), at_least_zero: false })
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
