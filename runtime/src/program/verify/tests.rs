use lathe_kernels::rotations::Construction;

use super::*;
use crate::program::{Binary, Buffer, CacheId, InputFormat, RopeId, Rotation, RotationId, Unary};
use crate::testing::{SMALL, expert_program, rotated_program, small_program};

/// Breaks a program and names the invariant and a part of the message that must result.
type Case = (u32, &'static str, fn(&mut Program));

/// The call of the step with this label.
fn op<'a>(program: &'a mut Program, label: &str) -> &'a mut Op {
    &mut program.steps.iter_mut().find(|step| step.label == label).unwrap().op
}

/// Applies `edit` to the call with this label.
macro_rules! edit {
    ($program:expr, $label:literal, $variant:ident { $($field:ident),* }, $edit:expr) => {
        match op($program, $label) {
            Op::$variant { $($field,)* .. } => $edit,
            other => panic!("{other:?}"),
        }
    };
}

/// Applies `edit` to the rotation of this index.
macro_rules! edit_rotation {
    ($program:expr, $index:literal, $variant:ident { $field:ident }, $edit:expr) => {
        match &mut $program.rotations[$index] {
            Rotation::$variant { $field, .. } => $edit,
            other => panic!("{other:?}"),
        }
    };
}

const INT8: Option<InputFormat> = Some(InputFormat::Int8PerToken);

#[rustfmt::skip]
const CASES: &[Case] = &[
    (1, "version 1, expected 4", |p| p.version = 1),
    (2, "width of buffer 3 is 0, expected 1 to 2147483647", |p| p.buffers[3].width = 0),
    (2, "width of buffer 3 is 2147483648", |p| p.buffers[3].width = 1 << 31),
    (2, "sum of buffer widths is", |p| p.buffers = vec![Buffer { width: i32::MAX as u32, ..p.buffers[0].clone() }; 513]),
    (2, "max_positions is 0", |p| p.max_positions = Some(0)),
    (2, "heads of cache 1 is 0", |p| p.caches[1].heads = 0),
    (2, "head_dim of cache 0 is 4294967295", |p| p.caches[0].head_dim = u32::MAX),
    (2, "dimension of `embed.weight` is 0", |p| p.weights[0].shape[1] = 0),
    (2, "dimension of `embed.weight` is 18446744073709551615", |p| p.weights[0].shape[0] = u64::MAX),
    (2, "elements of `embed.weight` is 4611686014132420609", |p| p.weights[0].shape = vec![MAX_DIMENSION; 2]),
    (2, "number of caches is 4194305", |p| p.caches = vec![p.caches[0].clone(); (1 << 22) + 1]),
    (2, "heads is 0", |p| edit!(p, "layers.0.attention.attend", Attention { heads }, *heads = 0)),
    (2, "group width is 0", |p| edit!(p, "norm", Norm { width }, *width = 0)),
    (2, "head_dim is 0", |p| edit!(p, "layers.0.attention.rope_q", Rope { head_dim }, *head_dim = 0)),
    (3, "weight name `` is empty", |p| p.weights[1].name.clear()),
    (3, r"label `a\nb` holds control characters", |p| p.steps[1].label = "a\nb".to_owned()),
    (3, r"model name `\u{1b}[2J` holds control characters", |p| p.model = "\x1b[2J".to_owned()),
    (3, "two weights have a tensor `embed.weight`", |p| p.weights[4].name = "embed.weight".to_owned()),
    (3, "tensor name `pad.0` is reserved", |p| p.weights[4].name = "pad.0".to_owned()),
    (3, "tensor name `__metadata__` is reserved", |p| p.weights[4].name = "__metadata__".to_owned()),
    (4, "weight `embed.weight` has rank 0", |p| p.weights[0].shape.clear()),
    (4, "weight `embed.weight` has rank 3", |p| p.weights[0].shape = vec![1, 2, 3]),
    (4, "weight `embed.weight` has the unknown format `bf17`", |p| p.weights[0].format = "bf17".to_owned()),
    (5, "step 2 (layers.0.attention.q): buffer 99, but there are", |p| edit!(p, "layers.0.attention.q", MatMul { x }, x.0 = 99)),
    (5, "buffer 99, but", |p| edit!(p, "layers.0.attention.q", MatMul { out }, out.0 = 99)),
    (5, "weight 99, but", |p| edit!(p, "layers.0.attention.q", MatMul { bias }, *bias = Some(WeightId(99)))),
    (5, "weight 99, but", |p| edit!(p, "embed", Embed { table }, table.0 = 99)),
    (5, "cache 2, but there are 2", |p| edit!(p, "layers.0.attention.attend", Attention { cache }, *cache = CacheId(2))),
    (5, "rope table 1, but there are 1", |p| edit!(p, "layers.0.attention.rope_q", Rope { table }, *table = RopeId(1))),
    (5, "output buffer 4294967295", |p| p.output.0 = u32::MAX),
    (6, "step 2 (layers.0.attention.q): reads buffer 2 before it is written", |p| edit!(p, "layers.0.attention.q", MatMul { x, out }, *x = *out)),
    (6, "writes buffer 0, which step 0 has written", |p| edit!(p, "layers.0.attention.q", MatMul { out }, out.0 = 0)),
    (6, "no step writes buffer", |p| p.buffers.push(p.buffers[0].clone())),
    (6, "before it is written", |p| p.steps.swap(0, 1)),
    (7, "cache 0 is used by 2 attentions", |p| edit!(p, "layers.1.attention.attend", Attention { cache }, cache.0 = 0)),
    (7, "cache 2 is used by 0 attentions", |p| p.caches.push(p.caches[0].clone())),
    (8, "out has width 25, expected 24", |p| p.buffers[0].width = 25),
    (8, "out has Selected rows, expected Tokens", |p| p.buffers[0].rows = Rows::Selected),
    (8, "table `norm.weight` has shape [24], expected a matrix", |p| { let gain = WeightId(p.weights.len() as u32 - 1); edit!(p, "embed", Embed { table }, *table = gain) }),
    (8, "x has width 24, expected 40", |p| p.weights[2].shape = vec![40, 40]),
    (8, "out has width 40, expected 48", |p| { p.weights[2].shape[0] = 48; p.weights[3].shape[0] = 48 }),
    (8, "bias `layers.0.attention.q.bias` has shape [41], expected [40]", |p| p.weights[3].shape[0] = 41),
    (8, "bias `layers.0.attention.q.bias` has shape [1, 40], expected [40]", |p| p.weights[3].shape = vec![1, 40]),
    (8, "out has Selected rows, expected Tokens", |p| p.buffers[2].rows = Rows::Selected),
    (8, "group width 25 does not divide width of x 24", |p| edit!(p, "norm", Norm { width }, *width = 25)),
    (8, "gain `norm.weight` has shape [24], expected [12]", |p| { let vector = WeightId(p.weights.len() as u32 - 1); edit!(p, "norm", Norm { width, gain }, { *width = 12; *gain = Some(vector) }) }),
    (8, "shift `norm.weight` has shape [24], expected [12]", |p| { let vector = WeightId(p.weights.len() as u32 - 1); edit!(p, "norm", Norm { width, shift }, { *width = 12; *shift = Some(vector) }) }),
    (8, "gain `embed.weight` has shape [37, 24], expected a vector", |p| edit!(p, "norm.gain", Gain { gain }, gain.0 = 0)),
    (8, "gain 40 does not divide width of x 24", |p| edit!(p, "norm.gain", Gain { gain }, gain.0 = 3)),
    (8, "head_dim 7 does not divide width of x 40", |p| edit!(p, "layers.0.attention.rope_q", Rope { head_dim }, *head_dim = 7)),
    (8, "rotary width 12 is larger than the head of 10", |p| p.rope_tables[0].inverse_frequencies = vec![1.0; 6]),
    (8, "key/value heads 2 does not divide heads 5", |p| edit!(p, "layers.0.attention.attend", Attention { heads }, *heads = 5)),
    (8, "q has width 40, expected 60", |p| edit!(p, "layers.0.attention.attend", Attention { heads }, *heads = 6)),
    (8, "q has width 40, expected 44", |p| p.caches[0].head_dim = 11),
    (8, "k has width 40, expected 20", |p| edit!(p, "layers.0.attention.attend", Attention { q, k }, *k = *q)),
    (8, "v has width 40, expected 20", |p| edit!(p, "layers.0.attention.attend", Attention { q, v }, *v = *q)),
    (8, "b has width 20, expected 24", |p| add_step(p, 24, |a, out| Op::Binary { function: Binary::Add, a, b: BufferId(4), out })),
    (8, "b has Selected rows, expected Tokens", |p| { let b = p.output; add_step(p, 24, |a, out| Op::Binary { function: Binary::Add, a, b, out }) }),
    (8, "out has width 23, expected 24", |p| add_step(p, 23, |x, out| Op::Unary { function: Unary::Silu, x, out })),
    (8, "gate has width 24, expected 20", |p| add_step(p, 20, |gate, out| Op::Gated { function: Unary::Silu, gate, value: BufferId(4), out })),
    (8, "out has Tokens rows, expected Selected", |p| add_step(p, 24, |x, out| Op::Select { x, out })),
    (8, "x has Selected rows, expected Tokens", |p| { let x = p.output; add_step(p, 37, |_, out| Op::Select { x, out }) }),
    (8, "weight `layers.0.attention.q.weight` is bf16 [40, 24], expected int8, symmetric, per channel, of at most 65536 columns for x as int8(per: token)", |p| edit!(p, "layers.0.attention.q", MatMul { input }, *input = INT8)),
    (8, "is int8(group: 6) [40, 24], expected int8", |p| { weight(p, "layers.0.attention.q.weight").format = "int8(group: 6)".to_owned(); edit!(p, "layers.0.attention.q", MatMul { input }, *input = INT8) }),
    (8, "is int8(per: channel, symmetric: false) [40, 24], expected int8", |p| { weight(p, "layers.0.attention.q.weight").format = "int8(per: channel, symmetric: false)".to_owned(); edit!(p, "layers.0.attention.q", MatMul { input }, *input = INT8) }),
    (8, "is int8(per: channel) [2, 65537], expected int8", too_wide),
    (9, "gain_offset without a gain is 1, expected a finite number, 0", |p| edit!(p, "norm", Norm { gain_offset }, *gain_offset = 1.0)),
    (9, "gain_offset is NaN", |p| edit!(p, "layers.0.mlp_norm", Norm { gain_offset }, *gain_offset = f32::NAN)),
    (9, "offset is inf", |p| edit!(p, "norm.gain", Gain { offset }, *offset = f32::INFINITY)),
    (9, "eps is NaN, expected a finite number", |p| edit!(p, "norm", Norm { eps }, *eps = f32::NAN)),
    (9, "eps is -1, expected a finite number, at least 0", |p| edit!(p, "norm", Norm { eps }, *eps = -1.0)),
    (9, "scale is inf", |p| edit!(p, "layers.0.attention.attend", Attention { scale }, *scale = f32::INFINITY)),
    (9, "window is 0", |p| edit!(p, "layers.0.attention.attend", Attention { window }, *window = Some(0))),
    (9, "inverse frequency is NaN", |p| p.rope_tables[0].inverse_frequencies[1] = f32::NAN),
    (9, "rope amplitude is -inf", |p| p.rope_tables[0].amplitude = f32::NEG_INFINITY),
    (9, "rope table 0 has no frequencies", |p| p.rope_tables[0].inverse_frequencies.clear()),
    (10, "table of 38 rows, but another embedding has 37", second_embedding),
    (10, "output is [Tokens, 24], expected [Selected, 37]", |p| p.output = BufferId(0)),
    (10, "table of 36 rows, but another embedding has 37", |p| add_step(p, 24, |_, out| Op::Embed { table: WeightId(0), index: Index::Tokens, first: 1, out })),
    (10, "first row 37 of a table of 37", |p| edit!(p, "embed", Embed { first }, *first = 37)),
    (10, "first row 4294967295 of a table of 37", |p| edit!(p, "embed", Embed { first }, *first = u32::MAX)),
    (10, "no step looks tokens up in a table", |p| { p.max_positions = Some(37); edit!(p, "embed", Embed { index }, *index = Index::Positions) }),
    (11, "buffer 38 holds real numbers, expected indices below 24", |p| add_step(p, 2, |x, out| Op::TopK { x, k: 2, out })),
    (11, "buffer 0 holds real numbers, expected indices below 24", |p| add_step(p, 24, |x, out| Op::Gather { x, choice: x, out })),
    (11, "buffer 0 holds real numbers, expected indices below 0", |p| add_step(p, 24, |x, out| Op::ExpertMatMul { x, input: None, choice: x, weights: Vec::new(), biases: Vec::new(), out })),
];

/// Of the program with experts.
#[rustfmt::skip]
const EXPERT_CASES: &[Case] = &[
    (2, "bound of the indices of buffer 18 is 0", |p| indices(p).elements = Elements::Index { below: 0 }),
    (2, "positions of rope table 0 is 0", |p| p.rope_tables[0].growth = Some(RopeGrowth::Switch { positions: 0, inverse_frequencies: vec![1.0; 3] })),
    (2, "positions of rope table 1 is 0", |p| p.rope_tables[1].growth = Some(RopeGrowth::Dynamic { positions: 0, factor: 1.0, theta: 1.0 })),
    (2, "pairs of rope table 1, which is dynamic, is 1, expected 2", |p| p.rope_tables[1].inverse_frequencies.truncate(1)),
    (2, "group width is 0", |p| edit!(p, "layers.0.attention.centre", Centre { width }, *width = 0)),
    (2, "k is 0, expected 1 to 5", |p| edit_router(p, |op| if let Op::TopK { k, .. } = op { *k = 0 })),
    (2, "k is 6, expected 1 to 5", |p| edit_router(p, |op| if let Op::TopK { k, .. } = op { *k = 6 })),
    (5, "weight 999, but", |p| edit!(p, "layers.0.mlp.up", ExpertMatMul { weights }, weights[2].0 = 999)),
    (5, "weight 999, but", |p| edit!(p, "layers.0.mlp.up", ExpertMatMul { biases }, biases[4].0 = 999)),
    (5, "weight 999, but", |p| edit!(p, "layers.0.attention.attend", Attention { sinks }, *sinks = Some(WeightId(999)))),
    (5, "weight 999, but", |p| edit!(p, "layers.0.attention_norm", Norm { shift }, *shift = Some(WeightId(999)))),
    (5, "weight 999, but", |p| edit!(p, "layers.0.attention.k_shift", Shift { shift }, shift.0 = 999)),
    (6, "before it is written", |p| edit!(p, "layers.0.mlp.up", ExpertMatMul { choice, out }, *choice = *out)),
    (6, "before it is written", |p| edit!(p, "layers.0.mlp.combine", Combine { weights, out }, *weights = *out)),
    (8, "sinks `layers.0.attention.k_shift.bias` has shape [20], expected [4]", |p| edit!(p, "layers.0.attention.attend", Attention { sinks }, *sinks = sinks.map(|WeightId(id)| WeightId(id - 2)))),
    (8, "shift 40 does not divide width of x 20", |p| weight(p, "layers.0.attention.k_shift.bias").shape[0] = 40),
    (8, "weight of an expert `layers.0.mlp.up.3.weight` has shape [40, 25], expected [40, 24]", |p| weight(p, "layers.0.mlp.up.3.weight").shape[1] = 25),
    (8, "weight of an expert `layers.0.mlp.up.0.weight` has shape [40], expected a matrix", |p| { weight(p, "layers.0.mlp.up.0.weight").shape.pop(); }),
    (8, "bias of an expert `layers.0.mlp.up.1.bias` has shape [41], expected [40]", |p| weight(p, "layers.0.mlp.up.1.bias").shape[0] = 41),
    (8, "4 biases for 5 experts", |p| edit!(p, "layers.0.mlp.up", ExpertMatMul { biases }, { biases.pop(); })),
    (8, "x has width 24, expected 80", |p| edit!(p, "layers.0.mlp.down", ExpertMatMul { x }, x.0 = 0)),
    (8, "out has width 80, expected 74", |p| edit!(p, "layers.1.mlp.gate", ExpertMatMul { weights }, weights.fill(WeightId(0)))),
    (8, "out has width 2, expected 3", |p| edit_router(p, |op| if let Op::TopK { k, .. } = op { *k = 3 })),
    (8, "x has width 24, expected 48", |p| edit!(p, "layers.0.mlp.combine", Combine { x }, x.0 = 0)),
    (8, "group width 5 does not divide width of x 2", |p| edit_router(p, |op| if let Op::Softmax { width, .. } = op { *width = 5 })),
    (9, "rope table 0 switches to 2 frequencies, expected 3", |p| p.rope_tables[0].growth = Some(RopeGrowth::Switch { positions: 1, inverse_frequencies: vec![1.0; 2] })),
    (9, "inverse frequency is NaN", |p| p.rope_tables[0].growth = Some(RopeGrowth::Switch { positions: 1, inverse_frequencies: vec![f32::NAN; 3] })),
    (9, "rope factor is 0.5, expected a finite number, at least 1", |p| p.rope_tables[1].growth = Some(RopeGrowth::Dynamic { positions: 1, factor: 0.5, theta: 1.0 })),
    (9, "rope theta is 0, expected a finite number, above 0", |p| p.rope_tables[1].growth = Some(RopeGrowth::Dynamic { positions: 1, factor: 1.0, theta: 0.0 })),
    (9, "softcap is 0, expected a finite number, above 0", |p| edit!(p, "layers.0.attention.attend", Attention { softcap }, *softcap = Some(0.0))),
    (9, "cap is NaN", |p| edit!(p, "softcap", Softcap { cap }, *cap = f32::NAN)),
    (9, "factor is inf", |p| edit!(p, "layers.0.attention_scale", Affine { factor }, *factor = f32::INFINITY)),
    (9, "offset is NaN", |p| edit!(p, "layers.0.attention_scale", Affine { offset }, *offset = f32::NAN)),
    (9, "neither low nor high is given", |p| edit!(p, "layers.1.mlp.clamp", Clamp { high }, *high = None)),
    (9, "low is 1, above high 0.75", |p| edit!(p, "layers.1.mlp.clamp", Clamp { low }, *low = Some(1.0))),
    (9, "low is -inf", |p| edit!(p, "layers.1.mlp.clamp", Clamp { low }, *low = Some(f32::NEG_INFINITY))),
    (9, "high is NaN", |p| edit!(p, "layers.1.mlp.clamp", Clamp { high }, *high = Some(f32::NAN))),
    (10, "table with rows for 64 positions, expected 65", |p| p.max_positions = Some(65)),
    (10, "table with rows for 64 positions, expected max_positions to be given", |p| p.max_positions = None),
    (10, "table with rows for 63 positions, expected 64", |p| edit!(p, "positions", Embed { first }, *first = 3)),
    (10, "table with rows for 0 positions, expected 64", |p| edit!(p, "positions", Embed { first }, *first = u32::MAX)),
    (11, "buffer 18 holds indices below 4, expected indices below 5", |p| indices(p).elements = Elements::Index { below: 4 }),
    (11, "buffer 18 holds indices below 5, expected real numbers", |p| edit!(p, "layers.0.mlp.combine", Combine { weights }, weights.0 = 18)),
    (11, "buffer 18 holds indices below 5, expected real numbers", |p| edit!(p, "layers.0.mlp.up", ExpertMatMul { x }, x.0 = 18)),
    (11, "buffer 19 holds real numbers, expected indices below 5", |p| edit!(p, "layers.0.mlp.up", ExpertMatMul { choice }, choice.0 = 19)),
    (11, "buffer 18 holds indices below 5, expected indices below 4", |p| edit!(p, "layers.0.mlp.up", ExpertMatMul { weights }, { weights.pop(); })),
    (11, "buffer 0 holds indices below 9, expected real numbers", |p| p.buffers[0].elements = Elements::Index { below: 9 }),
];

/// Of the program with rotations.
#[rustfmt::skip]
const ROTATED_CASES: &[Case] = &[
    (2, "width of rotation 2 is 0, expected 1 to 16384", |p| p.rotations[2] = Rotation::Orthogonal { width: 0, seed: 1 }),
    (2, "width of rotation 2 is 16385, expected 1 to 16384", |p| p.rotations[2] = Rotation::Orthogonal { width: 16385, seed: 1 }),
    (2, "width of rotation 3 is 4294967295, expected 1 to 16384", |p| edit_rotation!(p, 3, Matrix { width }, *width = u32::MAX)),
    (2, "width of rotation 1 is 1048577, expected 1 to 1048576", |p| edit_rotation!(p, 1, Hadamard { width }, *width = (1 << 20) + 1)),
    (2, "elements of rotations is 1073742032, expected 0 to 1073741824", |p| p.rotations.extend([(); 4].map(|()| Rotation::Orthogonal { width: 1 << 14, seed: 1 }))),
    (2, "elements of Hadamard matrices is 37472932, expected 0 to 33554432", |p| p.rotations.extend([(); 9].map(|()| paley(2040)))),
    (2, "elements of Hadamard matrices is 33554604, expected 0 to 33554432", |p| p.rotations.extend([(); 32].map(|()| sylvester(1 << 20)))),
    (7, "no step uses rotation 4", |p| p.rotations.push(p.rotations[1].clone())),
    (5, "rotation 4, but there are 4", |p| edit!(p, "rotate", Rotate { rotation }, rotation.0 = 4)),
    (5, "weight 99, but", |p| edit_rotation!(p, 3, Matrix { weight }, weight.0 = 99)),
    (5, "weight 99, but", |p| edit!(p, "norm", Norm { along }, *along = Some(WeightId(99)))),
    (5, "weight 99, but", |p| edit!(p, "centre", Centre { along }, *along = Some(WeightId(99)))),
    (6, "before it is written", |p| edit!(p, "rotate", Rotate { x, out }, *x = *out)),
    (8, "rotation of width 5 does not divide width of x 24", |p| p.rotations[2] = Rotation::Orthogonal { width: 5, seed: 1 }),
    (8, "out has width 12, expected 24", |p| add_step(p, 12, |x, out| Op::Rotate { x, rotation: RotationId(1), inverse: false, out })),
    (8, "along `norm.along` has shape [25], expected [24]", |p| weight(p, "norm.along").shape[0] = 25),
    (8, "along `centre.along` has shape [24], expected [12]", |p| weight(p, "centre.along").shape[0] = 24),
    (8, "a vector to centre along, but x is not centred", |p| edit!(p, "norm", Norm { centre }, *centre = false)),
    (8, "matrix of a rotation `basis` has shape [8, 7], expected [8, 8]", |p| weight(p, "basis").shape[1] = 7),
    (8, "matrix of a rotation `basis` has shape [64], expected [8, 8]", |p| weight(p, "basis").shape = vec![64]),
    (12, "matrix of a rotation `basis` is stored as bf16, expected f32", |p| weight(p, "basis").format = "bf16".to_owned()),
    (12, "rotation 0: construction `paley1(11)` has order 12, expected 24", |p| edit_rotation!(p, 0, Hadamard { construction }, *construction = "paley1(11)".to_owned())),
    (12, "rotation 0: construction `magic(\\n)`: ", |p| edit_rotation!(p, 0, Hadamard { construction }, *construction = "magic(\n)".to_owned())),
    (12, "rotation 0: the base of `paley1(23)` has the BLAKE3 ", |p| edit_rotation!(p, 0, Hadamard { construction }, *construction = "paley1(23)".to_owned())),
    (12, "found ABC", |p| edit_rotation!(p, 1, Hadamard { base_blake3 }, *base_blake3 = "ABC".to_owned())),
    (12, "rotation 0: expected the signs of 24 elements in lower-case hexadecimal", |p| edit_rotation!(p, 0, Hadamard { signs }, *signs = Some("0000".to_owned()))),
];

/// Of one base of this order, one above a prime.
fn paley(order: u32) -> Rotation {
    hadamard(order, format!("paley1({})", order - 1))
}

fn sylvester(order: u32) -> Rotation {
    hadamard(order, format!("sylvester({order})"))
}

fn hadamard(width: u32, construction: String) -> Rotation {
    let base_blake3 = blake3::hash(&construction.parse::<Construction>().unwrap().base_bytes()).to_string();
    Rotation::Hadamard { width, construction, base_blake3, signs: None }
}

/// A product with rows of one element more than can be multiplied by int8.
fn too_wide(program: &mut Program) {
    let width = 65_537;
    let mut weight = |name: &str, format: &str, shape: [u64; 2]| {
        program.weights.push(Weight { name: name.to_owned(), format: format.to_owned(), shape: shape.to_vec() });
        WeightId(program.weights.len() as u32 - 1)
    };
    let table = weight("table", "bf16", [37, width]);
    let weight = weight("wide", "int8(per: channel)", [2, width]);
    add_step(program, width as u32, |_, out| Op::Embed { table, index: Index::Tokens, first: 0, out });
    let x = BufferId(program.buffers.len() as u32 - 1);
    add_step(program, 2, |_, out| Op::MatMul { x, input: INT8, weight, bias: None, out });
}

/// The experts that the first layer chooses: buffer 18.
fn indices(program: &mut Program) -> &mut Buffer {
    program.buffers.iter_mut().find(|buffer| buffer.elements != Elements::Real).unwrap()
}

fn weight<'a>(program: &'a mut Program, name: &str) -> &'a mut Weight {
    program.weights.iter_mut().find(|weight| weight.name == name).unwrap()
}

/// Edits the steps of the first layer's router.
fn edit_router(program: &mut Program, edit: fn(&mut Op)) {
    let router = program.steps.iter_mut().filter(|step| step.label == "layers.0.mlp.router");
    router.for_each(|step| edit(&mut step.op));
}

/// An embedding of another vocabulary.
fn second_embedding(program: &mut Program) {
    let table = WeightId(program.weights.len() as u32);
    let out = BufferId(program.buffers.len() as u32);
    program.weights.push(Weight { name: "other".to_owned(), format: "f32".to_owned(), shape: vec![38, 3] });
    program.buffers.push(Buffer { width: 3, ..program.buffers[0].clone() });
    let op = Op::Embed { table, index: Index::Tokens, first: 0, out };
    program.steps.push(Step { label: "other".to_owned(), op });
}

/// Appends a step that reads the first buffer, `[Tokens, 24]`, and writes a new one, `[Tokens, width]`.
fn add_step(program: &mut Program, width: u32, op: impl FnOnce(BufferId, BufferId) -> Op) {
    let out = BufferId(program.buffers.len() as u32);
    program.buffers.push(Buffer { width, ..program.buffers[0].clone() });
    program.steps.push(Step { label: "added".to_owned(), op: op(BufferId(0), out) });
}

fn assert_every_corruption_is_found(valid: &Program, cases: &[Case]) {
    verify(valid).unwrap();
    for &(invariant, message, corrupt) in cases {
        let mut program = valid.clone();
        corrupt(&mut program);
        let error = verify(&program).expect_err(message);
        assert!(error.to_string().contains(message), "expected `{message}`, found `{error}`");
        assert_eq!(error.violation.invariant(), invariant, "{error}");
        assert!(error.to_string().ends_with(&format!("(invariant {invariant})")), "{error}");
    }
}

#[test]
fn every_corruption_is_found() {
    assert_every_corruption_is_found(&small_program(), CASES);
    assert_every_corruption_is_found(&expert_program(SMALL), EXPERT_CASES);
    assert_every_corruption_is_found(&rotated_program(SMALL), ROTATED_CASES);
}

#[test]
fn every_invariant_has_a_case() {
    for invariant in 1..=12 {
        assert!(CASES.iter().chain(ROTATED_CASES).any(|case| case.0 == invariant), "{invariant}");
    }
}

/// Without an embedding no buffer can be written, so there is no output.
#[test]
fn a_program_without_steps_is_invalid() {
    let mut program = small_program();
    program.steps.clear();
    program.caches.clear();
    program.buffers.clear();
    assert_eq!(verify(&program).unwrap_err().violation.invariant(), 5);
}
