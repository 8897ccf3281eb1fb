//! What holds of a single step: invariant 8, and 9 and 11 as far as they are about steps.

use super::super::types::{BufferId, Elements, InputFormat, Op, Program, Rows, Weight, WeightId};
use super::super::violation::Violation;
use super::{MAX_DIMENSION, finite, finite_and, in_range};

/// Checks a step whose ids are in range.
pub(super) fn verify(program: &Program, op: &Op) -> Result<(), Violation> {
    let check = StepCheck { program };
    check.elements(op)?;
    check.shapes(op)
}

struct StepCheck<'a> {
    program: &'a Program,
}

impl StepCheck<'_> {
    /// Invariant 11.
    fn elements(&self, op: &Op) -> Result<(), Violation> {
        let below = |count: u64| Elements::Index { below: u32::try_from(count).unwrap_or(u32::MAX) };
        let out = match *op {
            Op::TopK { x, .. } => below(self.width_of(x)),
            _ => Elements::Real,
        };
        match op {
            Op::ExpertMatMul { x, choice, weights, .. } => {
                self.holds(*x, Elements::Real)?;
                self.holds(*choice, below(weights.len() as u64))?;
            }
            Op::Gather { x, choice, .. } => {
                self.holds(*x, Elements::Real)?;
                self.holds(*choice, below(self.width_of(*x)))?;
            }
            _ => op.inputs().try_for_each(|input| self.holds(input, Elements::Real))?,
        }
        self.holds(op.out(), out)
    }

    /// Invariants 8 and 9.
    fn shapes(&self, op: &Op) -> Result<(), Violation> {
        match *op {
            Op::Embed { table, index: _, first: _, out } => {
                let [_, width] = self.matrix("table", table)?;
                self.rows("out", out, Rows::Tokens)?;
                self.width("out", out, width)
            }
            Op::MatMul { x, input, weight, bias, out } => {
                let [outputs, inputs] = self.matrix("weight", weight)?;
                self.takes_input("weight", weight, input, inputs)?;
                self.width("x", x, inputs)?;
                if let Some(bias) = bias {
                    self.shape("bias", bias, &[outputs])?;
                }
                self.rows("out", out, self.rows_of(x))?;
                self.width("out", out, outputs)
            }
            Op::ExpertMatMul { x, input, choice, ref weights, ref biases, out } => {
                self.expert_mat_mul((x, input), choice, weights, biases, out)
            }
            Op::Norm { x, centre, along, width, eps, gain, gain_offset, shift, out } => {
                self.groups("group width", width, "width of x", x)?;
                if along.is_some() && !centre {
                    return Err(Violation::AlongWithoutCentre);
                }
                for (operand, vector) in [("along", along), ("gain", gain), ("shift", shift)] {
                    if let Some(vector) = vector {
                        self.shape(operand, vector, &[width.into()])?;
                    }
                }
                finite_and("eps", eps.into(), eps >= 0.0, "at least 0")?;
                finite("gain_offset", gain_offset)?;
                let offset_used = gain.is_some() || gain_offset == 0.0;
                finite_and("gain_offset without a gain", gain_offset.into(), offset_used, "0")?;
                self.same_shape("out", out, x)
            }
            Op::Centre { x, along, width, out } => {
                self.groups("group width", width, "width of x", x)?;
                if let Some(along) = along {
                    self.shape("along", along, &[width.into()])?;
                }
                self.same_shape("out", out, x)
            }
            Op::Softmax { x, width, out } | Op::NormalizeSum { x, width, out } => {
                self.groups("group width", width, "width of x", x)?;
                self.same_shape("out", out, x)
            }
            Op::Gain { x, gain, offset, out } => {
                self.vector_groups("gain", gain, x)?;
                finite("offset", offset)?;
                self.same_shape("out", out, x)
            }
            Op::Shift { x, shift, out } => {
                self.vector_groups("shift", shift, x)?;
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
            Op::Rotate { x, rotation, inverse: _, out } => {
                let width = self.program.rotations[rotation.index()].width();
                self.divides("rotation of width", width.into(), "width of x", x)?;
                self.same_shape("out", out, x)
            }
            Op::Attention { q, k, v, cache, heads, scale, window, softcap, sinks, out } => {
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
                if let Some(sinks) = sinks {
                    self.shape("sinks", sinks, &[heads.into()])?;
                }
                finite("scale", scale)?;
                if let Some(softcap) = softcap {
                    finite_and("softcap", softcap.into(), softcap > 0.0, "above 0")?;
                }
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
            Op::Affine { x, factor, offset, out } => {
                finite("factor", factor)?;
                finite("offset", offset)?;
                self.same_shape("out", out, x)
            }
            Op::Clamp { x, low, high, out } => {
                low.map_or(Ok(()), |low| finite("low", low))?;
                high.map_or(Ok(()), |high| finite("high", high))?;
                match (low, high) {
                    (None, None) => return Err(Violation::NoBounds),
                    (Some(low), Some(high)) if low > high => {
                        return Err(Violation::Bounds { low: low.to_string(), high: high.to_string() });
                    }
                    _ => {}
                }
                self.same_shape("out", out, x)
            }
            Op::Softcap { x, cap, out } => {
                finite_and("cap", cap.into(), cap > 0.0, "above 0")?;
                self.same_shape("out", out, x)
            }
            Op::TopK { x, k, out } => {
                in_range("k", k.into(), 1, self.width_of(x))?;
                self.rows("out", out, self.rows_of(x))?;
                self.width("out", out, k.into())
            }
            Op::Gather { x, choice, out } => {
                self.rows("choice", choice, self.rows_of(x))?;
                self.same_shape("out", out, choice)
            }
            Op::Combine { x, weights, out } => {
                self.rows("weights", weights, self.rows_of(x))?;
                self.rows("out", out, self.rows_of(x))?;
                self.width("x", x, self.width_of(weights).saturating_mul(self.width_of(out)))
            }
            Op::Select { x, out } => {
                self.rows("x", x, Rows::Tokens)?;
                self.rows("out", out, Rows::Selected)?;
                self.width("out", out, self.width_of(x))
            }
        }
    }

    /// There are as many weights as `choice` can name, so at least one.
    fn expert_mat_mul(
        &self,
        (x, input): (BufferId, Option<InputFormat>),
        choice: BufferId,
        weights: &[WeightId],
        biases: &[WeightId],
        out: BufferId,
    ) -> Result<(), Violation> {
        let [outputs, inputs] = self.matrix("weight of an expert", weights[0])?;
        for &weight in weights {
            self.shape("weight of an expert", weight, &[outputs, inputs])?;
            self.takes_input("weight of an expert", weight, input, inputs)?;
        }
        if !biases.is_empty() && biases.len() != weights.len() {
            return Err(Violation::Biases { found: biases.len(), experts: weights.len() });
        }
        for &bias in biases {
            self.shape("bias of an expert", bias, &[outputs])?;
        }
        let choices = self.width_of(choice);
        self.rows("choice", choice, self.rows_of(x))?;
        if self.width_of(x) != inputs {
            self.width("x", x, choices.saturating_mul(inputs))?;
        }
        self.rows("out", out, self.rows_of(x))?;
        self.width("out", out, choices.saturating_mul(outputs))
    }

    /// Whether a weight with rows of `inner` elements can be multiplied by rows that are rounded so.
    fn takes_input(
        &self,
        operand: &'static str,
        weight: WeightId,
        input: Option<InputFormat>,
        inner: u64,
    ) -> Result<(), Violation> {
        let (Some(input), weight) = (input, &self.program.weights[weight.index()]) else { return Ok(()) };
        if weight.find_format().is_some_and(|format| input.takes_format(format)) && inner <= input.most_columns() {
            return Ok(());
        }
        let (name, found) = (weight.name.clone(), format!("{} {:?}", weight.format, weight.shape));
        Err(Violation::Input { operand, name, found, input: input.name(), most: input.most_columns() })
    }

    fn width_of(&self, buffer: BufferId) -> u64 {
        self.program.buffers[buffer.index()].width.into()
    }

    fn rows_of(&self, buffer: BufferId) -> Rows {
        self.program.buffers[buffer.index()].rows
    }

    fn holds(&self, buffer: BufferId, expected: Elements) -> Result<(), Violation> {
        let found = self.program.buffers[buffer.index()].elements;
        if found == expected { Ok(()) } else { Err(Violation::Elements { buffer: buffer.0, found, expected }) }
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
        self.divides(part, divisor.into(), whole, x)
    }

    fn divides(&self, part: &'static str, divisor: u64, whole: &'static str, x: BufferId) -> Result<(), Violation> {
        let dividend = self.width_of(x);
        if dividend.is_multiple_of(divisor) {
            Ok(())
        } else {
            Err(Violation::Division { part, divisor, whole, dividend })
        }
    }

    /// `[rows, columns]`
    fn matrix(&self, operand: &'static str, weight: WeightId) -> Result<[u64; 2], Violation> {
        let Weight { name, shape, .. } = &self.program.weights[weight.index()];
        shape.as_slice().try_into().map_err(|_| Violation::WeightRank {
            operand,
            name: name.clone(),
            found: shape.clone(),
            expected: "a matrix",
        })
    }

    /// A vector whose length divides the width of `x`.
    fn vector_groups(&self, operand: &'static str, weight: WeightId, x: BufferId) -> Result<(), Violation> {
        let Weight { name, shape, .. } = &self.program.weights[weight.index()];
        match *shape.as_slice() {
            [length] => self.divides(operand, length, "width of x", x),
            _ => Err(Violation::WeightRank { operand, name: name.clone(), found: shape.clone(), expected: "a vector" }),
        }
    }

    fn shape(&self, operand: &'static str, weight: WeightId, expected: &[u64]) -> Result<(), Violation> {
        let Weight { name, shape, .. } = &self.program.weights[weight.index()];
        if shape == expected {
            return Ok(());
        }
        Err(Violation::WeightShape { operand, name: name.clone(), found: shape.clone(), expected: expected.to_vec() })
    }
}
