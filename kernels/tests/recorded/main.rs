//! Ops on every instruction set against what torch and transformers computed; `record.py` recorded it.

mod integers;

use lathe_kernels::check::{Forced, Implementation};
use lathe_kernels::cpu::Isa;
use lathe_kernels::formats::{Format, Matrix};
use lathe_kernels::ops::{self, AttentionShape, Binary, Norm, Pairing, RopeTable, Unary};
use serde_json::Value;

/// One recorded computation.
struct Case<'a>(&'a Value);

impl Case<'_> {
    fn text(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap()
    }

    fn number(&self, name: &str) -> f32 {
        self.0[name].as_f64().unwrap() as f32
    }

    fn optional_number(&self, name: &str) -> Option<f32> {
        self.0.get(name).map(|_| self.number(name))
    }

    fn size(&self, name: &str) -> usize {
        usize::try_from(self.0[name].as_u64().unwrap()).unwrap()
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        self.optional_floats(name).unwrap()
    }

    fn optional_floats(&self, name: &str) -> Option<Vec<f32>> {
        let values = self.0.get(name)?.as_array().unwrap();
        Some(values.iter().map(|value| value.as_f64().unwrap() as f32).collect())
    }

    fn indices(&self, name: &str) -> Vec<u32> {
        let values = self.0[name].as_array().unwrap();
        values.iter().map(|value| u32::try_from(value.as_u64().unwrap()).unwrap()).collect()
    }

    fn function(&self) -> Unary {
        match self.text("function") {
            "silu" => Unary::Silu,
            "gelu" => Unary::Gelu,
            "gelu_tanh" => Unary::GeluTanh,
            "gelu_quick" => Unary::GeluQuick,
            "relu" => Unary::Relu,
            "relu_squared" => Unary::ReluSquared,
            "sigmoid" => Unary::Sigmoid,
            "tanh" => Unary::Tanh,
            other => panic!("function {other}"),
        }
    }
}

/// An f32 matrix with rows of a given width.
struct Weight {
    bytes: Vec<u8>,
    cols: usize,
}

impl Weight {
    fn new(values: &[f32], cols: usize) -> Weight {
        Weight { bytes: values.iter().flat_map(|value| value.to_le_bytes()).collect(), cols }
    }

    fn matrix(&self) -> Matrix<'_> {
        let rows = self.bytes.len() / 4 / self.cols;
        Matrix::new(Format::F32, rows, self.cols, &[&self.bytes]).unwrap()
    }
}

/// What `op` writes to an output of `len` elements.
fn filled(len: usize, op: impl FnOnce(&mut [f32])) -> Vec<f32> {
    let mut out = vec![f32::NAN; len];
    op(&mut out);
    out
}

fn computed(case: &Case<'_>, ops: Forced) -> Vec<f32> {
    let len = case.floats("out").len();
    filled(len, |out| match case.text("op") {
        "norm" => {
            let (gain, shift) = (case.optional_floats("gain"), case.optional_floats("shift"));
            let norm = Norm {
                width: case.size("width"),
                eps: case.number("eps"),
                centre: case.0["centre"].as_bool().unwrap(),
                along: None,
                gain: gain.as_deref(),
                gain_offset: case.number("offset"),
                shift: shift.as_deref(),
            };
            ops.norm(&case.floats("x"), &norm, out);
        }
        "norm_of_heads" => {
            let (width, eps) = (case.size("width"), case.number("eps"));
            let norm = Norm { width, eps, centre: true, along: None, gain: None, gain_offset: 0.0, shift: None };
            let normalized = filled(len, |out| ops.norm(&case.floats("x"), &norm, out));
            ops.gain(&normalized, &case.floats("gain"), 0.0, out);
        }
        "centre" => ops.centre(&case.floats("x"), case.size("width"), None, out),
        "gain" => ops.gain(&case.floats("x"), &case.floats("gain"), case.number("offset"), out),
        "shift" => ops.shift(&case.floats("x"), &case.floats("shift"), out),
        "unary" => ops.unary(case.function(), &case.floats("x"), out),
        "gated" => ops.gated(case.function(), &case.floats("gate"), &case.floats("value"), out),
        "binary" => {
            let function = match case.text("function") {
                "add" => Binary::Add,
                "sub" => Binary::Sub,
                "mul" => Binary::Mul,
                other => panic!("function {other}"),
            };
            ops.binary(function, &case.floats("a"), &case.floats("b"), out);
        }
        "affine" => ops.affine(&case.floats("x"), case.number("factor"), case.number("offset"), out),
        "clamp" => ops::clamp(&case.floats("x"), case.number("low"), case.number("high"), out),
        "softcap" => ops.softcap(&case.floats("x"), case.number("cap"), out),
        "softmax" => ops.softmax(&case.floats("x"), case.size("width"), out),
        "normalize_sum" => ops::normalize_sum(&case.floats("x"), case.size("width"), out),
        "matmul" => {
            let weight = Weight::new(&case.floats("weight"), case.size("width"));
            ops.matmul(&case.floats("x"), &weight.matrix(), case.optional_floats("bias").as_deref(), out);
        }
        "embed" => {
            let table = Weight::new(&case.floats("table"), case.size("width"));
            ops.embed(&table.matrix(), &case.indices("index"), case.size("first") as u32, out);
        }
        "rope" => {
            let pairing = match case.text("pairing") {
                "half" => Pairing::Half,
                "interleaved" => Pairing::Interleaved,
                other => panic!("pairing {other}"),
            };
            let table = RopeTable { inverse_frequencies: &case.floats("frequencies"), amplitude: 1.0, pairing };
            ops::rope(&case.floats("x"), &case.indices("positions"), &table, case.size("width"), out);
        }
        "attention" => attention(case, ops, out),
        "experts" => experts(case, ops, out),
        router => routed(router, case, ops, out),
    })
}

fn attention(case: &Case<'_>, ops: Forced, out: &mut [f32]) {
    let shape = AttentionShape {
        heads: case.size("heads"),
        kv_heads: case.size("kv_heads"),
        head_dim: case.size("width"),
        scale: case.number("scale"),
        window: case.0.get("window").map(|_| case.size("window") as u32),
        softcap: case.optional_number("softcap"),
    };
    let (q, keys, values) = (case.floats("q"), case.floats("keys"), case.floats("values"));
    let capacity = keys.len() / shape.kv_heads / shape.head_dim;
    let sinks = case.optional_floats("sinks");
    ops.attention(&shape, &q, &keys, &values, sinks.as_deref(), capacity, case.size("past"), out);
}

/// A mixture of gated experts.
fn experts(case: &Case<'_>, ops: Forced, out: &mut [f32]) {
    let (experts, width, inner) = (case.size("experts"), case.size("width"), case.size("inner"));
    let (x, choice) = (case.floats("x"), case.indices("choice"));
    let k = choice.len() / (x.len() / width);
    let product = |x: &[f32], name: &str, inputs: usize, outputs: usize| {
        let all = case.floats(name);
        let weights: Vec<_> = all.chunks_exact(inputs * outputs).map(|values| Weight::new(values, inputs)).collect();
        let matrices: Vec<_> = weights.iter().map(Weight::matrix).collect();
        filled(choice.len() * outputs, |out| {
            ops.expert_matmul(x, &choice, k, &|number| (&matrices[number], None), experts, out);
        })
    };
    let (gate, up) = (product(&x, "gate", width, inner), product(&x, "up", width, inner));
    let hidden = filled(gate.len(), |out| ops.gated(Unary::Silu, &gate, &up, out));
    let parts = product(&hidden, "down", inner, width);
    ops.combine(&parts, &case.floats("weights"), k, out);
}

/// What each expert weighs, 0 where it is not chosen.
fn routed(router: &str, case: &Case<'_>, ops: Forced, out: &mut [f32]) {
    let (width, k) = (case.size("width"), case.size("k"));
    let (x, weight) = (case.floats("x"), Weight::new(&case.floats("weight"), width));
    let (rows, experts) = (x.len() / width, weight.matrix().rows());
    let bias = case.optional_floats("bias");
    let logits = filled(rows * experts, |out| ops.matmul(&x, &weight.matrix(), bias.as_deref(), out));
    let scores = filled(logits.len(), |out| match router {
        "softmax_router" | "unnormalized_router" => ops.softmax(&logits, experts, out),
        "sigmoid_router" => ops.unary(Unary::Sigmoid, &logits, out),
        "logits_router" => out.copy_from_slice(&logits),
        other => panic!("op {other}"),
    });
    let ranked = match case.optional_floats("correction") {
        Some(correction) => filled(scores.len(), |out| ops.shift(&scores, &correction, out)),
        None => scores.clone(),
    };
    let mut choice = vec![u32::MAX; rows * k];
    ops::top_k(&ranked, experts, k, &mut choice);
    let chosen = filled(rows * k, |out| ops::gather(&scores, experts, &choice, k, out));
    let weights = filled(chosen.len(), |out| match router {
        "unnormalized_router" => out.copy_from_slice(&chosen),
        "logits_router" => ops.softmax(&chosen, k, out),
        _ => ops::normalize_sum(&chosen, k, out),
    });
    out.fill(0.0);
    for (pair, (&number, weight)) in choice.iter().zip(weights).enumerate() {
        out[pair / k * experts + number as usize] = weight * case.optional_number("factor").unwrap_or(1.0);
    }
}

/// How far apart results may be, as a share of `1 + |expected|`.
fn tolerance(op: &str) -> f32 {
    match op {
        // The same roundings.
        "gain" | "shift" | "binary" | "clamp" | "embed" => 0.0,
        // A few roundings on each side.
        _ => 1.0 / 1_048_576.0,
    }
}

#[test]
fn ops_compute_what_torch_and_transformers_do() {
    let recorded: Value = serde_json::from_str(include_str!("values.json")).unwrap();
    let cases = recorded["cases"].as_array().unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        let case = Case(case);
        let (op, source, expected) = (case.text("op"), case.text("source"), case.floats("out"));
        for isa in Isa::ALL {
            let Some(ops) = Forced::on(isa) else { continue };
            for (i, (got, expected)) in computed(&case, ops).into_iter().zip(&expected).enumerate() {
                let allowed = tolerance(op) * (1.0 + expected.abs());
                assert!(
                    (got - expected).abs() <= allowed,
                    "{op} on {isa}, element {i}: {got:e} instead of {expected:e}, which {source} gives"
                );
            }
        }
    }
}
