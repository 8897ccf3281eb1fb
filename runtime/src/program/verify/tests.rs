use super::*;
use crate::program::{Binary, Buffer, CacheId, RopeId, Unary};
use crate::testing::small_program;

/// Breaks the small program and names the invariant and a part of the message that must result.
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

#[rustfmt::skip]
const CASES: &[Case] = &[
    (1, "version 2, expected 1", |p| p.version = 2),
    (2, "width of buffer 3 is 0, expected 1 to 2147483647", |p| p.buffers[3].width = 0),
    (2, "width of buffer 3 is 2147483648", |p| p.buffers[3].width = 1 << 31),
    (2, "sum of buffer widths is", |p| p.buffers = vec![Buffer { rows: Rows::Tokens, width: i32::MAX as u32 }; 513]),
    (2, "max_positions is 0", |p| p.max_positions = Some(0)),
    (2, "heads of cache 1 is 0", |p| p.caches[1].heads = 0),
    (2, "head_dim of cache 0 is 4294967295", |p| p.caches[0].head_dim = u32::MAX),
    (2, "dimension of `embed.weight` is 0", |p| p.weights[0].shape[1] = 0),
    (2, "dimension of `embed.weight` is 18446744073709551615", |p| p.weights[0].shape[0] = u64::MAX),
    (2, "elements of `embed.weight` is 4611686014132420609", |p| p.weights[0].shape = vec![MAX_DIMENSION; 2]),
    (2, "number of caches is 4194305", |p| p.caches = vec![p.caches[0].clone(); (1 << 22) + 1]),
    (2, "heads is 0", |p| edit!(p, "layers.0.attention.attend", Attention { heads }, *heads = 0)),
    (2, "group width is 0", |p| edit!(p, "norm", RmsNorm { width }, *width = 0)),
    (2, "group width is 0", |p| edit!(p, "norm.gain", Gain { width }, *width = 0)),
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
    (6, "no step writes buffer", |p| p.buffers.push(Buffer { rows: Rows::Tokens, width: 1 })),
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
    (8, "group width 25 does not divide width of x 24", |p| edit!(p, "norm", RmsNorm { width }, *width = 25)),
    (8, "gain `norm.weight` has shape [24], expected [12]", |p| edit!(p, "norm.gain", Gain { width }, *width = 12)),
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
    (9, "eps is NaN, expected a finite number", |p| edit!(p, "norm", RmsNorm { eps }, *eps = f32::NAN)),
    (9, "eps is -1, expected a finite number of at least 0", |p| edit!(p, "norm", RmsNorm { eps }, *eps = -1.0)),
    (9, "scale is inf", |p| edit!(p, "layers.0.attention.attend", Attention { scale }, *scale = f32::INFINITY)),
    (9, "window is 0", |p| edit!(p, "layers.0.attention.attend", Attention { window }, *window = Some(0))),
    (9, "inverse frequency is NaN", |p| p.rope_tables[0].inverse_frequencies[1] = f32::NAN),
    (9, "rope amplitude is -inf", |p| p.rope_tables[0].amplitude = f32::NEG_INFINITY),
    (9, "rope table 0 has no frequencies", |p| p.rope_tables[0].inverse_frequencies.clear()),
    (10, "table of 38 rows, but another embedding has 37", second_embedding),
    (10, "output is [Tokens, 24], expected [Selected, 37]", |p| p.output = BufferId(0)),
];

/// An embedding of another vocabulary.
fn second_embedding(program: &mut Program) {
    let table = WeightId(program.weights.len() as u32);
    let out = BufferId(program.buffers.len() as u32);
    program.weights.push(Weight { name: "other".to_owned(), format: "f32".to_owned(), shape: vec![38, 3] });
    program.buffers.push(Buffer { rows: Rows::Tokens, width: 3 });
    program.steps.push(Step { label: "other".to_owned(), op: Op::Embed { table, out } });
}

/// Appends a step that reads the first buffer, `[Tokens, 24]`, and writes a new one, `[Tokens, width]`.
fn add_step(program: &mut Program, width: u32, op: impl FnOnce(BufferId, BufferId) -> Op) {
    let out = BufferId(program.buffers.len() as u32);
    program.buffers.push(Buffer { rows: Rows::Tokens, width });
    program.steps.push(Step { label: "added".to_owned(), op: op(BufferId(0), out) });
}

#[test]
fn the_small_program_is_valid() {
    verify(&small_program()).unwrap();
}

#[test]
fn every_corruption_is_found() {
    for &(invariant, message, corrupt) in CASES {
        let mut program = small_program();
        corrupt(&mut program);
        let error = verify(&program).expect_err(message);
        assert!(error.to_string().contains(message), "expected `{message}`, found `{error}`");
        assert_eq!(error.violation.invariant(), invariant, "{error}");
        assert!(error.to_string().ends_with(&format!("(invariant {invariant})")), "{error}");
    }
}

#[test]
fn every_invariant_has_a_case() {
    for invariant in 1..=10 {
        assert!(CASES.iter().any(|case| case.0 == invariant), "{invariant}");
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
