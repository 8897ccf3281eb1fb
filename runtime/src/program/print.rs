//! Programs as text for people: complete, stable, one line a step.
//!
//! Snapshots are made of it, so it shows nothing that depends on the machine or the run.

use std::fmt::Write;

use super::fold::LayerIndex;
use super::section::{Layers, Names, Same, section};
use super::types::{
    BufferId, CacheId, Elements, Index, InputFormat, Op, Program, RopeGrowth, RopeId, RopePairing, RopeTable, Rotation,
    Rows, Weight, WeightId,
};

impl Program {
    /// The program as text. Works for invalid programs too, which are what one wants to look at; an id that is out of
    /// range is shown with a `?`.
    pub fn listing(&self, layers: Layers) -> String {
        let mut listing = Listing { program: self, layers, text: String::new() };
        listing.write();
        listing.text
    }
}

struct Listing<'a> {
    program: &'a Program,
    layers: Layers,
    text: String,
}

impl Listing<'_> {
    fn write(&mut self) {
        self.write_header();
        self.write_weights();
        self.write_caches();
        self.write_rope_tables();
        self.write_rotations();
        self.write_steps();
        self.line(format_args!("output {}", self.program.shaped_buffer(self.program.output)));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = self.text.write_fmt(line);
        let trimmed = self.text.trim_end().len();
        self.text.truncate(trimmed);
        self.text.push('\n');
    }

    fn write_header(&mut self) {
        let program = self.program;
        self.line(format_args!("program {}, format version {}", program.model, program.version));
        let compute = program.compute.name();
        match program.max_positions {
            Some(positions) => self.line(format_args!("compute {compute}, at most {positions} positions")),
            None => self.line(format_args!("compute {compute}, any number of positions")),
        }
        let weight_bytes = program.weights.iter().filter_map(stored_bytes).fold(0u64, u64::saturating_add);
        let cache_bytes = program.caches.iter().map(super::Cache::bytes_per_position).fold(0u64, u64::saturating_add);
        self.line(format_args!("{} weights, {weight_bytes} bytes", program.weights.len()));
        self.line(format_args!("{} caches, {cache_bytes} bytes a position", program.caches.len()));
        self.line(format_args!("{} buffers, {} steps", program.buffers.len(), program.steps.len()));
    }

    fn write_weights(&mut self) {
        let program = self.program;
        let labels: Vec<&str> = program.weights.iter().map(|weight| weight.name.as_str()).collect();
        let same = |a: usize, b: usize, index: &LayerIndex, layer: u32| {
            program.same_weight(WeightId(a as u32), WeightId(b as u32), index, layer)
        };
        self.write_section("weights", &labels, &same, |place, _| {
            let weight = &program.weights[place];
            match stored_bytes(weight) {
                Some(bytes) => format!("{} {:?}, {bytes} bytes", weight.format, weight.shape),
                None => format!("{} {:?}, ? bytes", weight.format, weight.shape),
            }
        });
    }

    fn write_caches(&mut self) {
        self.line(format_args!("caches"));
        let program = self.program;
        let same = |a: &(usize, &super::Cache), b: &(usize, &super::Cache)| self.layers == Layers::Folded && a.1 == b.1;
        let caches: Vec<_> = program.caches.iter().enumerate().collect();
        let lines: Vec<String> = caches
            .chunk_by(same)
            .map(|run| {
                let (first, cache) = run[0];
                let range = if run.len() == 1 { String::new() } else { format!("..%c{}", first + run.len() - 1) };
                format!("  %c{first}{range}  {} heads of {}", cache.heads, cache.head_dim)
            })
            .collect();
        for line in lines {
            self.line(format_args!("{line}"));
        }
    }

    fn write_rope_tables(&mut self) {
        self.line(format_args!("rope tables"));
        for (id, table) in self.program.rope_tables.iter().enumerate() {
            self.line(format_args!("  %r{id}  {}", table.summary()));
        }
    }

    fn write_rotations(&mut self) {
        if !self.program.rotations.is_empty() {
            self.line(format_args!("rotations"));
        }
        for (id, rotation) in self.program.rotations.iter().enumerate() {
            let signs = match rotation {
                Rotation::Hadamard { signs: Some(signs), .. } => format!(", signs {}", shortened(signs)),
                _ => String::new(),
            };
            let text = self.program.rotation_text(rotation, &Names::default());
            self.line(format_args!("  %q{id}  {text}{signs}"));
        }
    }

    fn write_steps(&mut self) {
        let program = self.program;
        let labels: Vec<&str> = program.steps.iter().map(|step| step.label.as_str()).collect();
        let writers = program.writers();
        let same = |a: usize, b: usize, index: &LayerIndex, layer: u32| program.same_step(a, b, index, layer, &writers);
        self.write_section("steps", &labels, &same, |place, names| program.step_text(&program.steps[place].op, names));
    }

    /// A section of labelled items, as [`section`] takes them.
    fn write_section(&mut self, title: &str, labels: &[&str], same: &Same<'_>, text: impl Fn(usize, &Names) -> String) {
        self.text.push_str(&section(title, labels, self.layers, same, text));
    }
}

impl RopeTable {
    /// In one line, of the frequencies the first and the last.
    pub fn summary(&self) -> String {
        let pairing = match self.pairing {
            RopePairing::Half => "half",
            RopePairing::Interleaved => "interleaved",
        };
        let [first, last] = ends(&self.inverse_frequencies);
        let (pairs, amplitude) = (self.inverse_frequencies.len(), self.amplitude);
        let growth = match &self.growth {
            None => String::new(),
            Some(RopeGrowth::Switch { positions, inverse_frequencies }) => {
                let [first, last] = ends(inverse_frequencies);
                format!(", past {positions} positions {first} to {last}")
            }
            Some(RopeGrowth::Dynamic { positions, factor, theta }) => {
                format!(", past {positions} positions dynamic by {factor} from {theta}")
            }
        };
        format!("{pairing}, {pairs} pairs, {first} to {last}, amplitude {amplitude}{growth}")
    }
}

/// The first characters of a long text.
fn shortened(text: &str) -> String {
    const SHOWN: usize = 16;
    let mut characters = text.chars();
    let shown: String = characters.by_ref().take(SHOWN).collect();
    if characters.next().is_some() { shown + "…" } else { shown }
}

/// The first and the last frequency; of none, NaN.
fn ends(frequencies: &[f32]) -> [f32; 2] {
    [frequencies.first(), frequencies.last()].map(|frequency| frequency.copied().unwrap_or(f32::NAN))
}

fn stored_bytes(weight: &Weight) -> Option<u64> {
    weight.stored_tensors()?.iter().try_fold(0u64, |sum, tensor| sum.checked_add(tensor.bytes()? as u64))
}

impl Program {
    /// The step that writes each buffer.
    fn writers(&self) -> Vec<Option<usize>> {
        let mut writers = vec![None; self.buffers.len()];
        for (index, step) in self.steps.iter().enumerate() {
            if let Some(writer) = writers.get_mut(step.op.out().index()) {
                *writer = Some(index);
            }
        }
        writers
    }

    fn same_weight(&self, a: WeightId, b: WeightId, index: &LayerIndex, layer: u32) -> bool {
        match (self.weights.get(a.index()), self.weights.get(b.index())) {
            (Some(a), Some(b)) => {
                a.format == b.format && a.shape == b.shape && index.corresponds(&a.name, &b.name, layer)
            }
            _ => false,
        }
    }

    /// Whether step `b` does in the next layer what step `a` does in layer `layer`: the same kernel with the same
    /// numbers, corresponding weights, and inputs written equally many steps before, if that is within a layer, or
    /// else the same.
    fn same_step(&self, a: usize, b: usize, index: &LayerIndex, layer: u32, writers: &[Option<usize>]) -> bool {
        let (step_a, step_b) = (&self.steps[a], &self.steps[b]);
        let (op_a, op_b) = (&step_a.op, &step_b.op);
        let shape = |id: BufferId| self.buffers.get(id.index());
        let distance = |reader: usize, id: BufferId| reader.checked_sub((*writers.get(id.index())?)?);
        let same_input = |x: BufferId, y: BufferId| match (distance(a, x), distance(b, y)) {
            (Some(x), Some(y)) if x <= b - a => x == y,
            _ => x == y,
        };
        let cache = |op: &Op| op.cache().and_then(|id| self.caches.get(id.index()));
        index.corresponds(&step_a.label, &step_b.label, layer)
            && op_a.without_ids() == op_b.without_ids()
            && op_a.rope_table() == op_b.rope_table()
            && self.same_rotation(op_a, op_b, index, layer)
            && cache(op_a) == cache(op_b)
            && shape(op_a.out()) == shape(op_b.out())
            && op_a.inputs().zip(op_b.inputs()).all(|(x, y)| same_input(x, y))
            && op_a.weights().zip(op_b.weights()).all(|(x, y)| self.same_weight(x, y, index, layer))
    }

    /// Whether both rotate by the same or by corresponding matrices, or neither rotates.
    fn same_rotation(&self, a: &Op, b: &Op, index: &LayerIndex, layer: u32) -> bool {
        let [a, b] = [a, b].map(|op| op.rotation().and_then(|id| self.rotations.get(id.index())));
        match (a, b) {
            (Some(Rotation::Matrix { width, weight: a }), Some(Rotation::Matrix { width: other, weight: b })) => {
                width == other && (a == b || self.same_weight(*a, *b, index, layer))
            }
            _ => a == b,
        }
    }

    fn weight(&self, id: WeightId, names: &Names) -> String {
        match self.weights.get(id.index()) {
            Some(weight) => names.show(&weight.name),
            None => format!("%w{}?", id.0),
        }
    }

    /// A rotation without its signs.
    fn rotation_text(&self, rotation: &Rotation, names: &Names) -> String {
        match rotation {
            Rotation::Hadamard { width, construction, signs, .. } => {
                let random = if signs.is_some() { "random " } else { "" };
                format!("{random}hadamard {construction}, width {width}")
            }
            Rotation::Orthogonal { width, seed } => format!("orthogonal of seed {seed}, width {width}"),
            Rotation::Matrix { width, weight } => format!("matrix {}, width {width}", self.weight(*weight, names)),
        }
    }

    /// A gain with what is added to it.
    fn gain(&self, id: WeightId, offset: f32, names: &Names) -> String {
        let gain = self.weight(id, names);
        if offset == 0.0 { gain } else { format!("({offset} + {gain})") }
    }

    fn step_text(&self, op: &Op, names: &Names) -> String {
        let weight = |id: WeightId| self.weight(id, names);
        let added = |id: Option<WeightId>| id.map(|id| format!(" + {}", weight(id))).unwrap_or_default();
        let along_text = |id: Option<WeightId>| id.map(|id| format!(" along {}", weight(id))).unwrap_or_default();
        let call = match *op {
            Op::Embed { table, index, first, .. } => {
                let index = match index {
                    Index::Tokens => "tokens",
                    Index::Positions => "positions",
                };
                let first = if first == 0 { String::new() } else { format!(" from row {first}") };
                format!("embed {index}, {}{first}", weight(table))
            }
            Op::MatMul { x, input, weight: matrix, bias, .. } => {
                format!("matmul {}, {}{}", self.rounded(x, input), weight(matrix), added(bias))
            }
            Op::ExpertMatMul { x, input, choice, ref weights, ref biases, .. } => {
                let all = |ids: &[WeightId]| match ids {
                    [] => String::new(),
                    [only] => weight(*only),
                    [first, .., last] => format!("{}, … {} ({} experts)", weight(*first), weight(*last), ids.len()),
                };
                let plus = if biases.is_empty() { "" } else { " + " };
                let (x, choice) = (self.rounded(x, input), self.buffer(choice));
                let (weights, biases) = (all(weights), all(biases));
                format!("expert_matmul {x}, {choice}, {weights}{plus}{biases}")
            }
            Op::Norm { x, centre, along, width, eps, gain, gain_offset, shift, .. } => {
                let centred = if centre { format!(", centred{}", along_text(along)) } else { String::new() };
                let gain = gain.map(|gain| format!(" * {}", self.gain(gain, gain_offset, names))).unwrap_or_default();
                format!("norm {}{gain}{}, width {width}{centred}, eps {eps:e}", self.buffer(x), added(shift))
            }
            Op::Centre { x, along, width, .. } => {
                format!("centre {}{}, width {width}", self.buffer(x), along_text(along))
            }
            Op::Gain { x, gain, offset, .. } => {
                format!("gain {} * {}", self.buffer(x), self.gain(gain, offset, names))
            }
            Op::Shift { x, shift, .. } => format!("shift {} + {}", self.buffer(x), weight(shift)),
            Op::Rope { x, table: RopeId(table), head_dim, .. } => {
                let known = if (table as usize) < self.rope_tables.len() { "" } else { "?" };
                format!("rope {}, %r{table}{known}, head_dim {head_dim}", self.buffer(x))
            }
            Op::Rotate { x, rotation, inverse, .. } => {
                let inverse = if inverse { "inverse of " } else { "" };
                let text = match self.rotations.get(rotation.index()) {
                    Some(rotation) => format!(", {}", self.rotation_text(rotation, names)),
                    None => "?".to_owned(),
                };
                format!("rotate {} by {inverse}%q{}{text}", self.buffer(x), rotation.0)
            }
            Op::Attention { q, k, v, cache: CacheId(cache), heads, scale, window, softcap, sinks, .. } => {
                let known = if (cache as usize) < self.caches.len() { "" } else { "?" };
                let mut options = String::new();
                if let Some(window) = window {
                    let _ = write!(options, ", window {window}");
                }
                if let Some(softcap) = softcap {
                    let _ = write!(options, ", softcap {softcap}");
                }
                if let Some(sinks) = sinks {
                    let _ = write!(options, ", sinks {}", weight(sinks));
                }
                let (q, k, v) = (self.buffer(q), self.buffer(k), self.buffer(v));
                format!("attention {q}, {k}, {v}, %c{cache}{known}, {heads} heads, scale {scale}{options}")
            }
            Op::Unary { function, x, .. } => format!("{} {}", function.name(), self.buffer(x)),
            Op::Binary { function, a, b, .. } => {
                format!("{} {}, {}", function.name(), self.buffer(a), self.buffer(b))
            }
            Op::Gated { function, gate, value, .. } => {
                format!("{}_mul {}, {}", function.name(), self.buffer(gate), self.buffer(value))
            }
            Op::Affine { x, factor, offset, .. } => format!("affine {} * {factor} + {offset}", self.buffer(x)),
            Op::Clamp { x, low, high, .. } => {
                let low = low.map(|low| format!(", low {low}")).unwrap_or_default();
                let high = high.map(|high| format!(", high {high}")).unwrap_or_default();
                format!("clamp {}{low}{high}", self.buffer(x))
            }
            Op::Softcap { x, cap, .. } => format!("softcap {}, cap {cap}", self.buffer(x)),
            Op::Softmax { x, width, .. } => format!("softmax {}, width {width}", self.buffer(x)),
            Op::NormalizeSum { x, width, .. } => format!("normalize_sum {}, width {width}", self.buffer(x)),
            Op::TopK { x, k, .. } => format!("top_k {}, k {k}", self.buffer(x)),
            Op::Gather { x, choice, .. } => format!("gather {}, {}", self.buffer(x), self.buffer(choice)),
            Op::Combine { x, weights, .. } => format!("combine {}, {}", self.buffer(x), self.buffer(weights)),
            Op::Select { x, .. } => format!("select {}", self.buffer(x)),
        };
        format!("{} = {call}", self.shaped_buffer(op.out()))
    }

    fn buffer(&self, id: BufferId) -> String {
        let known = if id.index() < self.buffers.len() { "" } else { "?" };
        format!("%b{}{known}", id.0)
    }

    /// A buffer, and what its rows are rounded to when they are read.
    fn rounded(&self, id: BufferId, input: Option<InputFormat>) -> String {
        let buffer = self.buffer(id);
        input.map_or(buffer.clone(), |input| format!("{buffer} as {}", input.name()))
    }

    fn shaped_buffer(&self, id: BufferId) -> String {
        match self.buffers.get(id.index()) {
            Some(buffer) => {
                let rows = match buffer.rows {
                    Rows::Tokens => "Tokens",
                    Rows::Selected => "Selected",
                };
                let elements = match buffer.elements {
                    Elements::Real => String::new(),
                    Elements::Index { below } => format!(" below {below}"),
                };
                format!("%b{}[{rows},{}{elements}]", id.0, buffer.width)
            }
            None => self.buffer(id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::{Binary, RotationId};
    use crate::testing::{Builder, SMALL, expert_program, rotated_program, small_program, with_int8_inputs};

    const FOLDED: &str = "\
program small, format version 4
compute f32, any number of positions
4 weights, 132 bytes
0 caches, 0 bytes a position
8 buffers, 8 steps
weights
     0  embed      bf16 [5, 6], 60 bytes
  a.b[1..4]: 3 times 1 weights
  |    1  a.b.{i}.w  f32 [6], 24 bytes
caches
rope tables
steps
     0  embed         %b0[Tokens,6] = embed tokens, embed
  a.b[1..4]: 3 times 2 steps
  |    1  a.b.{i}.gain  %b1[Tokens,6] = gain %b0 * a.b.{i}.w
  |    2  a.b.{i}.add   %b2[Tokens,6] = add %b0, %b1
     7  select        %b7[Selected,6] = select %b6
output %b7[Selected,6]
";

    /// An embedding, three layers that add a gain, and a selection.
    fn layered_program() -> Program {
        let mut builder = Builder::new(SMALL);
        builder.program.max_positions = None;
        let table = builder.weight("embed", "bf16", &[5, 6]);
        let mut x = builder.embed("embed", table, 6);
        for layer in 1..4 {
            let gain = builder.weight(&format!("a.b.{layer}.w"), "f32", &[6]);
            let label = format!("a.b.{layer}.gain");
            let b = builder.step(&label, Rows::Tokens, 6, |out| Op::Gain { x, gain, offset: 0.0, out });
            let (function, label) = (Binary::Add, format!("a.b.{layer}.add"));
            x = builder.step(&label, Rows::Tokens, 6, |out| Op::Binary { function, a: x, b, out });
        }
        builder.program.output = builder.step("select", Rows::Selected, 6, |out| Op::Select { x, out });
        builder.program
    }

    #[test]
    fn equal_layers_fold() {
        assert_eq!(layered_program().listing(Layers::Folded), FOLDED);
    }

    #[test]
    fn layers_that_differ_in_a_weight_do_not_fold() {
        let mut program = layered_program();
        program.weights[3].format = "f16".to_owned();
        let listing = program.listing(Layers::Folded);
        assert!(listing.contains("a.b[1..3]: 2 times 2 steps"), "{listing}");
        assert!(listing.contains("5  a.b.3.gain    %b5[Tokens,6] = gain %b4 * a.b.3.w"), "{listing}");
    }

    #[test]
    fn layers_that_read_other_buffers_do_not_fold() {
        let mut program = layered_program();
        program.steps[6].op = Op::Binary { function: Binary::Add, a: BufferId(2), b: BufferId(5), out: BufferId(6) };
        assert!(program.listing(Layers::Folded).contains("a.b[1..3]: 2 times 2 steps"));
    }

    #[test]
    fn calls_show_all_their_operands() {
        let listing = small_program().listing(Layers::All);
        for line in [
            "program small, format version 4",
            "compute f32, at most 64 positions",
            "26 weights, 25624 bytes",
            "2 caches, 320 bytes a position",
            "  %c1  2 heads of 10",
            "  %r0  half, 4 pairs, 1 to 0.015625, amplitude 1",
            "%b1[Tokens,24] = norm %b0 * layers.0.attention_norm.weight, width 24, eps 1e-6",
            "%b2[Tokens,40] = matmul %b1, layers.0.attention.q.weight + layers.0.attention.q.bias",
            "%b5[Tokens,20] = matmul %b1, layers.0.attention.v.weight",
            "%b6[Tokens,40] = rope %b3, %r0, head_dim 10",
            "%b24[Tokens,40] = attention %b22, %b23, %b21, %c1, 4 heads, scale 0.31622776, window 5",
            "%b14[Tokens,40] = silu_mul %b12, %b13",
            "%b30[Tokens,40] = silu %b28",
            "output %b37[Selected,37]",
        ] {
            assert!(listing.lines().any(|found| found.ends_with(line)), "`{line}` in {listing}");
        }
        let listing = expert_program(SMALL).listing(Layers::All);
        for line in [
            "  %r0  half, 3 pairs, 1 to 0.01, amplitude 1.25, past 12 positions 0.5 to 0.2",
            "  %r1  interleaved, 3 pairs, 1 to 0.01, amplitude 1.25, past 6 positions dynamic by 2 from 1000",
            "%b1[Tokens,24] = embed positions, positions.weight from row 2",
            "= norm %b2 * layers.0.attention_norm.weight + layers.0.attention_norm.bias, width 24, centred, eps 1e-5",
            "= centre %b4, width 10",
            "= gain %b5 * (1 + layers.0.attention.q_gain.weight)",
            "= shift %b7 + layers.0.attention.k_shift.bias",
            "4 heads, scale 0.31622776, softcap 1.5, sinks layers.0.attention.sinks",
            "= affine %b13 * 0.5 + 0.125",
            "%b18[Tokens,2 below 5] = top_k %b17, k 2",
            "= gather %b17, %b18",
            "= softmax %b19, width 2",
            "%b21[Tokens,80] = expert_matmul %b16, %b18, layers.0.mlp.up.0.weight, … layers.0.mlp.up.4.weight (5 experts) \
             + layers.0.mlp.up.0.bias, … layers.0.mlp.up.4.bias (5 experts)",
            "= clamp %b22, low -1, high 0.75",
            "= gelu_tanh_mul %b23, %b21",
            "%b26[Tokens,24] = combine %b25, %b20",
            "= sub %b15, %b26",
            "= clamp %b48, high 0.75",
            "= softcap %b56, cap 5",
        ] {
            assert!(listing.lines().any(|found| found.ends_with(line)), "`{line}` in {listing}");
        }
    }

    #[test]
    fn what_x_is_rounded_to_is_shown() {
        let listing = with_int8_inputs(small_program()).listing(Layers::All);
        let line = "= matmul %b1 as int8(per: token), layers.0.attention.v.weight\n";
        assert!(listing.contains(line) && listing.contains(" = matmul %b36, embed.weight\n"), "{listing}");
        let listing = with_int8_inputs(expert_program(SMALL)).listing(Layers::All);
        assert!(listing.contains("= expert_matmul %b16 as int8(per: token), %b18, layers.0.mlp.up.0"), "{listing}");
    }

    #[test]
    fn rotations_are_shown() {
        let listing = rotated_program(SMALL).listing(Layers::All);
        for line in [
            "  %q1  hadamard sylvester(4), width 4",
            "  %q2  orthogonal of seed 5, width 12",
            "  %q3  matrix basis, width 8",
            "= rotate %b0 by %q0, random hadamard paley1(11) * sylvester(2), width 24",
            "= norm %b1 * norm.weight, width 24, centred along norm.along, eps 1e-5",
            "= rotate %b3 by inverse of %q1, hadamard sylvester(4), width 4",
            "= centre %b5 along centre.along, width 12",
            "= rotate %b6 by inverse of %q3, matrix basis, width 8",
        ] {
            assert!(listing.lines().any(|found| found.ends_with(line)), "`{line}` in {listing}");
        }
        assert!(listing.contains("\n  %q0  random hadamard paley1(11) * sylvester(2), width 24, signs "), "{listing}");

        let mut program = rotated_program(SMALL);
        program.rotations.clear();
        assert!(program.listing(Layers::All).contains("= rotate %b0 by %q0?\n"));
    }

    #[test]
    fn signs_are_shortened() {
        assert_eq!(shortened("0123456789abcdef"), "0123456789abcdef");
        assert_eq!(shortened("0123456789abcdef0"), "0123456789abcdef…");
    }

    /// Layers that rotate by matrices of their own fold where the matrices correspond.
    #[test]
    fn layers_with_rotations_fold() {
        let program = |rotation: fn(&mut Builder, u32) -> RotationId| {
            let mut builder = Builder::new(SMALL);
            let table = builder.weight("embed", "bf16", &[5, 8]);
            let mut x = builder.embed("embed", table, 8);
            for layer in 0..3 {
                let rotation = rotation(&mut builder, layer);
                x = builder.rotate(&format!("l.{layer}.rotate"), x, rotation, false);
            }
            builder.program.listing(Layers::Folded)
        };
        let own = program(|builder, layer| builder.matrix_rotation(&format!("l.{layer}.basis"), 8));
        assert!(own.contains("  l[0..3]: 3 times 1 steps\n"), "{own}");
        assert!(own.contains("= rotate %b0 by %q0, matrix l.{i}.basis, width 8\n"), "{own}");
        let other = program(|builder, layer| {
            builder.rotation(&lathe_kernels::rotations::Rotation::random_hadamard(8, layer.into()).unwrap())
        });
        assert!(!other.contains("times 1 steps"), "{other}");
        let same =
            program(|builder, _| builder.rotation(&lathe_kernels::rotations::Rotation::random_hadamard(8, 1).unwrap()));
        assert!(same.contains("  l[0..3]: 3 times 1 steps\n"), "{same}");
    }

    #[test]
    fn layers_of_experts_fold() {
        let listing = expert_program(SMALL).listing(Layers::Folded);
        assert!(listing.contains("\n  layers.0.mlp.up[0..5]: 5 times 1 weights\n"), "{listing}");

        let mut program = expert_program(SMALL);
        // The layers of this one differ; of two that are the same, experts are shown within the layer.
        let twin = |name: &str| name.replacen("layers.1", "layers.2", 1);
        let second: Vec<Weight> =
            program.weights.iter().filter(|weight| weight.name.starts_with("layers.1")).cloned().collect();
        program.weights.extend(second.into_iter().map(|weight| Weight { name: twin(&weight.name), ..weight }));
        program.weights.retain(|weight| weight.name != "head.weight");
        let listing = program.listing(Layers::Folded);
        assert!(listing.contains("\n  layers[1..3]: 2 times 27 weights\n"), "{listing}");
        assert!(listing.contains("\n  | layers.{i}.mlp.gate[0..5]: 5 times 1 weights\n"), "{listing}");
        assert!(listing.contains("  layers.{i}.mlp.gate.{j}.weight      bf16 [40, 24], 1920 bytes"), "{listing}");
    }

    #[test]
    fn invalid_programs_are_shown() {
        let mut program = small_program();
        program.weights.clear();
        program.buffers.truncate(3);
        program.caches.clear();
        program.rope_tables.clear();
        for layers in [Layers::All, Layers::Folded] {
            let listing = program.listing(layers);
            assert!(listing.contains("%b9? = matmul %b8?, %w8?"), "{listing}");
            assert!(listing.contains("attention %b6?, %b7?, %b5?, %c0?"), "{listing}");
        }
    }
}
