//! Products of many rows against sums in f64, and in integers bit for bit.

use half::bf16;
use lathe_kernels::check::Random;
use lathe_kernels::cuda::ops::{Finish, Outputs, Product, ProductInput, ProductPart};
use lathe_kernels::cuda::{DeviceMatrix, Element, Gpu, Memory, Slice};
use lathe_kernels::formats::{Fit, Format, Matrix};
use lathe_kernels::ops::{self, Unary};

/// Formats of each decoder: groups of one step, of several and of a part of a stage, zero points, scales of each dtype.
const FORMATS: &[&str] = &[
    "bf16",
    "int4(group: 32)",
    "int4(group: 96, symmetric: false, scales: f16)",
    "int4(group: 128, symmetric: false)",
    "int4(per: channel, scales: f32)",
    "int3(group: 32)",
    "int3(group: 96, symmetric: false)",
    "int8(group: 32, scales: f16)",
    "int8(group: 128, symmetric: false, scales: f16)",
    "int8(per: channel)",
    "int8(per: channel, symmetric: false, scales: f32)",
];

const INT8: &str = "int8(per: channel, scales: f32)";

/// Of the magnitudes that are summed: f32 sums of the tensor cores, of exact products.
const EXACT_WEIGHTS: f64 = 1.0 / 32768.0;
/// The same, of weights that are rounded to bf16.
const ROUNDED_WEIGHTS: f64 = 1.0 / 256.0;

/// A weight with its bias, on both sides.
struct Weight {
    planes: Vec<Vec<u8>>,
    format: Format,
    rows: usize,
    cols: usize,
    decoded: Vec<f32>,
    device: DeviceMatrix,
    bias: Option<(Vec<f32>, Memory)>,
}

impl Weight {
    fn new(gpu: &Gpu, random: &mut Random, format: &str, [rows, cols]: [usize; 2], with_bias: bool) -> Option<Weight> {
        let format: Format = format.parse().unwrap();
        format.constraints(rows, cols).ok()?;
        let mut planes: Vec<_> =
            format.planes(rows, cols).iter().map(|plane| vec![0; plane.bytes().unwrap()]).collect();
        let mut bytes: Vec<_> = planes.iter_mut().map(Vec::as_mut_slice).collect();
        format.encode(Fit::Absmax, &random.values(rows * cols), cols, &mut bytes);
        let slices: Vec<_> = planes.iter().map(Vec::as_slice).collect();
        let matrix = Matrix::new(format, rows, cols, &slices).unwrap();
        let mut decoded = vec![0.0; rows * cols];
        for row in 0..rows {
            matrix.decode_row(row, &mut decoded[row * cols..][..cols]);
        }
        let device = DeviceMatrix::upload(gpu, &matrix).unwrap();
        let bias = with_bias.then(|| {
            let bias = random.values(rows);
            let memory = gpu.upload("a bias", &bias).unwrap();
            (bias, memory)
        });
        Some(Weight { planes, format, rows, cols, decoded, device, bias })
    }

    fn part(&self, out: Slice<f32>) -> ProductPart<'_> {
        let bias = self.bias.as_ref().map_or(Slice::NONE, |(bias, memory)| memory.slice().range(0..bias.len()));
        ProductPart { weight: &self.device, bias, out }
    }

    /// Sum and sum of magnitudes for each row of x and each weight row, with the bias.
    fn reference(&self, x: &[f32]) -> Vec<(f64, f64)> {
        let mut sums = Vec::new();
        for x in x.chunks_exact(self.cols) {
            for (output, weight) in self.decoded.chunks_exact(self.cols).enumerate() {
                let bias = self.bias.as_ref().map_or(0.0, |(bias, _)| f64::from(bias[output]));
                let products = x.iter().zip(weight).map(|(&x, &w)| f64::from(x) * f64::from(w));
                let add = |(sum, size): (f64, f64), product: f64| (sum + product, size + product.abs());
                sums.push(products.fold((bias, bias.abs()), add));
            }
        }
        sums
    }

    /// What [`ops::matmul_int8`] gives.
    fn int8_reference(&self, codes: &[i8], scales: &[f32]) -> Vec<f32> {
        let slices: Vec<_> = self.planes.iter().map(Vec::as_slice).collect();
        let matrix = Matrix::new(self.format, self.rows, self.cols, &slices).unwrap();
        let mut out = vec![f32::NAN; scales.len() * self.rows];
        ops::matmul_int8(codes, scales, &matrix, self.bias.as_ref().map(|(bias, _)| bias.as_slice()), &mut out);
        out
    }
}

/// Elements on the device, behind `before` others.
struct Held<T> {
    slice: Slice<T>,
    _memory: Memory,
}

fn hold<T: Element>(gpu: &Gpu, values: &[T], before: usize, filler: T) -> Held<T> {
    let all = [&vec![filler; before], values].concat();
    let memory = gpu.upload("operands of a test", &all).unwrap();
    Held { slice: memory.slice::<T>().range(before..all.len()), _memory: memory }
}

/// `[rows, cols]` of bf16, with their bits.
fn bf16_rows(random: &mut Random, rows: usize, cols: usize) -> (Vec<f32>, Vec<u16>) {
    let rounded: Vec<_> = random.values(rows * cols).into_iter().map(bf16::from_f32).collect();
    (rounded.iter().map(|x| x.to_f32()).collect(), rounded.iter().map(|x| x.to_bits()).collect())
}

#[track_caller]
fn assert_close(case: &str, got: &[f32], expected: &[(f64, f64)], allowed: f64) {
    assert_eq!(got.len(), expected.len(), "{case}");
    for (i, (&got, &(expected, size))) in got.iter().zip(expected).enumerate() {
        let error = (f64::from(got) - expected).abs();
        assert!(error <= allowed * size + 1e-30, "{case}, element {i}: {got} instead of {expected}");
    }
}

fn scratch(gpu: &Gpu, weights: &[&Weight], rows: usize) -> Memory {
    let bytes: usize = weights.iter().map(|weight| gpu.product_of_many_scratch(&weight.device, rows)).sum();
    gpu.allocate("scratch", bytes as u64).unwrap()
}

/// `[out]` of one weight, stored; x starts `before` elements behind an aligned address.
fn stored(gpu: &Gpu, x: &[u16], before: usize, weight: &Weight, rows: usize) -> Vec<f32> {
    let x = hold(gpu, x, before, 0x7fff);
    let out = hold(gpu, &vec![f32::NAN; rows * weight.rows], before, f32::NAN);
    let scratch = scratch(gpu, &[weight], rows);
    let parts = [weight.part(out.slice)];
    let product = Product {
        x: ProductInput::Bf16(x.slice),
        rows,
        parts: &parts,
        finish: Finish::Store,
        scratch: scratch.slice(),
    };
    gpu.product_of_many(&product).unwrap();
    gpu.to_vec(out.slice).unwrap()
}

#[test]
fn rows_in_bf16_meet_the_edges_of_blocks() {
    let Some(gpu) = super::gpu() else { return };
    gpu.use_library(false);
    let mut random = Random::new(71);
    for format in FORMATS {
        for (number, [rows, outputs, cols]) in [
            [1, 1, 96],
            [15, 16, 384],
            [16, 17, 32],
            [17, 5, 160],
            [33, 130, 96],
            [63, 15, 128],
            [64, 127, 256],
            [65, 129, 96],
            [129, 33, 192],
            [3, 20, 7],
            [2, 3, 0],
        ]
        .into_iter()
        .enumerate()
        {
            let Some(weight) = Weight::new(&gpu, &mut random, format, [outputs, cols], number % 2 == 0) else {
                continue;
            };
            let (x, bits) = bf16_rows(&mut random, rows, cols);
            let case = format!("{rows} rows times {:?}", weight.device);
            let expected = if cols == 0 {
                let bias = weight.bias.as_ref().map(|(bias, _)| bias.clone()).unwrap_or(vec![0.0; outputs]);
                (0..rows * outputs).map(|i| (f64::from(bias[i % outputs]), 0.0)).collect()
            } else {
                weight.reference(&x)
            };
            for before in [0, usize::from(number % 3 == 0)] {
                let got = stored(&gpu, &bits, before, &weight, rows);
                assert_close(&case, &got, &expected, EXACT_WEIGHTS);
            }
        }
    }
}

#[test]
fn many_blocks_take_every_row_once() {
    let Some(gpu) = super::gpu() else { return };
    gpu.use_library(false);
    let (mut random, rows) = (Random::new(76), 2200);
    let weight = Weight::new(&gpu, &mut random, "int4(group: 32)", [270, 32], true).unwrap();
    let (x, bits) = bf16_rows(&mut random, rows, weight.cols);
    assert_close("2200 rows", &stored(&gpu, &bits, 0, &weight, rows), &weight.reference(&x), EXACT_WEIGHTS);
}

#[test]
fn columns_are_split_where_blocks_are_few() {
    let Some(gpu) = super::gpu() else { return };
    gpu.use_library(false);
    let mut random = Random::new(72);
    for format in ["int4(group: 128)", "int8(group: 96, symmetric: false)", "bf16"] {
        let weight = Weight::new(&gpu, &mut random, format, [20, 1920], true).unwrap();
        let (x, bits) = bf16_rows(&mut random, 20, weight.cols);
        let got = stored(&gpu, &bits, 0, &weight, 20);
        assert_close(format, &got, &weight.reference(&x), EXACT_WEIGHTS);
    }
}

/// What products with three weights, an addend, and a gate come to.
fn finishes(gpu: &Gpu, format: &str, rows: usize, cols: usize, outputs: [usize; 3], allowed: f64) {
    let mut random = Random::new(73);
    let (x, bits) = bf16_rows(&mut random, rows, cols);
    let x_device = hold(gpu, &bits, 0, 0);
    let input = ProductInput::Bf16(x_device.slice);
    let weights =
        outputs.map(|outputs| Weight::new(gpu, &mut random, format, [outputs, cols], outputs % 8 == 0).unwrap());

    let outs = weights.each_ref().map(|weight| hold(gpu, &vec![f32::NAN; rows * weight.rows], 0, 0.0));
    let parts: Vec<_> = weights.iter().zip(&outs).map(|(weight, out)| weight.part(out.slice)).collect();
    let memory = scratch(gpu, &weights.each_ref(), rows);
    let product = Product { x: input, rows, parts: &parts, finish: Finish::Store, scratch: memory.slice() };
    gpu.product_of_many(&product).unwrap();
    for (weight, out) in weights.iter().zip(&outs) {
        let case = format!("{rows} rows times three weights, {:?}", weight.device);
        assert_close(&case, &gpu.to_vec(out.slice).unwrap(), &weight.reference(&x), allowed);
    }

    for weight in &weights[..2] {
        let addend = random.values(rows * weight.rows);
        let out = hold(gpu, &addend, 0, 0.0);
        let parts = [weight.part(out.slice)];
        let memory = scratch(gpu, &[weight], rows);
        let finish = Finish::Add(out.slice);
        gpu.product_of_many(&Product { x: input, rows, parts: &parts, finish, scratch: memory.slice() }).unwrap();
        let expected: Vec<_> = weight
            .reference(&x)
            .into_iter()
            .zip(&addend)
            .map(|((sum, size), &addend)| (sum + f64::from(addend), size + f64::from(addend).abs()))
            .collect();
        let case = format!("{rows} rows times {:?}, added in place", weight.device);
        assert_close(&case, &gpu.to_vec(out.slice).unwrap(), &expected, allowed);
    }

    let value = Weight::new(gpu, &mut random, format, [outputs[0], cols], true).unwrap();
    let gate = &weights[0];
    let (real, half) =
        (hold(gpu, &vec![f32::NAN; rows * gate.rows], 0, 0.0), hold(gpu, &vec![7; rows * gate.rows], 0, 0));
    let out = Outputs { real: real.slice, bf16: half.slice, ..Outputs::NONE };
    let parts = [gate.part(Slice::NONE), value.part(Slice::NONE)];
    let memory = scratch(gpu, &[gate, &value], rows);
    let finish = Finish::Gated(Unary::Silu, out);
    gpu.product_of_many(&Product { x: input, rows, parts: &parts, finish, scratch: memory.slice() }).unwrap();
    let expected: Vec<_> = gate
        .reference(&x)
        .into_iter()
        .zip(value.reference(&x))
        .map(|((gate, gate_size), (value, value_size))| {
            // The slope of the function is at most 1.1.
            let sigmoid = 1.0 / (1.0 + (-gate).exp());
            let result = gate * sigmoid * value;
            (result, 1.1 * gate_size * value.abs() + (gate * sigmoid).abs() * value_size + result.abs())
        })
        .collect();
    let got = gpu.to_vec(real.slice).unwrap();
    assert_close(&format!("{rows} rows gated, {:?}", gate.device), &got, &expected, allowed);
    let rounded: Vec<_> = got.iter().map(|&value| bf16::from_f32(value).to_bits()).collect();
    assert_eq!(gpu.to_vec(half.slice).unwrap(), rounded);
}

#[test]
fn products_are_finished_in_each_way() {
    let Some(gpu) = super::gpu() else { return };
    gpu.use_library(false);
    // One block; splits; several blocks of rows and of weights.
    finishes(&gpu, "int4(group: 32)", 20, 96, [40, 17, 3], EXACT_WEIGHTS);
    finishes(&gpu, "int4(group: 128, symmetric: false)", 12, 1280, [24, 33, 7], EXACT_WEIGHTS);
    finishes(&gpu, "int8(per: channel)", 70, 64, [136, 20, 1], EXACT_WEIGHTS);
    finishes(&gpu, "bf16", 40, 40, [72, 9, 30], EXACT_WEIGHTS);
}

/// Whether there is cuBLASLt; the host driver has it.
#[expect(clippy::print_stderr, reason = "a test says why it is skipped")]
fn has_library(gpu: &Gpu) -> bool {
    let name = gpu.cublaslt_name();
    if name.is_none() {
        eprintln!("skipped: the machine has no cuBLASLt");
    }
    name.is_some()
}

#[test]
fn products_of_the_library_are_finished_in_each_way() {
    let Some(gpu) = super::gpu() else { return };
    if !has_library(&gpu) {
        return;
    }
    finishes(&gpu, "bf16", 130, 40, [136, 20, 8], EXACT_WEIGHTS);
    finishes(&gpu, "int4(group: 32)", 512, 96, [160, 20, 8], ROUNDED_WEIGHTS);
    finishes(&gpu, "int8(per: channel, symmetric: false, scales: f32)", 515, 24, [12, 20, 8], ROUNDED_WEIGHTS);
}

#[test]
fn the_library_takes_weights_in_panels_that_scratch_holds() {
    let Some(gpu) = super::gpu() else { return };
    if !has_library(&gpu) {
        return;
    }
    let (mut random, rows) = (Random::new(75), 512);
    let gate = Weight::new(&gpu, &mut random, "int4(group: 128)", [300, 128], true).unwrap();
    let value = Weight::new(&gpu, &mut random, "int4(group: 128)", [300, 128], false).unwrap();
    let (x, bits) = bf16_rows(&mut random, rows, gate.cols);
    let x_device = hold(&gpu, &bits, 0, 0);
    let real = hold(&gpu, &vec![f32::NAN; rows * gate.rows], 0, 0.0);
    let run = |panel: usize| {
        let memory = gpu.allocate("scratch", (2 * panel * (2 * gate.cols + 4 * rows) + 512) as u64).unwrap();
        gpu.product_of_many(&Product {
            x: ProductInput::Bf16(x_device.slice),
            rows,
            parts: &[gate.part(Slice::NONE), value.part(Slice::NONE)],
            finish: Finish::Gated(Unary::Relu, Outputs::real(real.slice)),
            scratch: memory.slice(),
        })
        .unwrap();
        gpu.to_vec(real.slice).unwrap()
    };
    let whole = run(384);
    let references = gate.reference(&x).into_iter().zip(value.reference(&x));
    let expected: Vec<_> = references
        .map(|((gate, gate_size), (value, value_size))| {
            (gate.max(0.0) * value, gate_size * value.abs() + gate.max(0.0) * value_size)
        })
        .collect();
    assert_close("gated by the library", &whole, &expected, 1.1 * ROUNDED_WEIGHTS);
    // Another shape can have another order of additions.
    assert_close("in panels", &run(128), &expected, 1.1 * ROUNDED_WEIGHTS);
    gpu.use_library(false);
    let exact = run(384);
    assert_close("gated by kernels", &exact, &expected, EXACT_WEIGHTS);
    assert_ne!(exact, whole, "the library was asked");
}

#[test]
fn rows_in_int8_give_the_bits_of_the_reference() {
    let Some(gpu) = super::gpu() else { return };
    let mut random = Random::new(74);
    for (number, [rows, outputs, cols]) in [
        [1, 1, 32],
        [15, 17, 7],
        [16, 16, 16],
        [17, 130, 100],
        [33, 5, 2048],
        [63, 40, 128],
        [64, 33, 160],
        [65, 129, 96],
        [127, 20, 33],
        [129, 10, 256],
        [250, 140, 300],
        [3, 9, 0],
    ]
    .into_iter()
    .enumerate()
    {
        let weight = Weight::new(&gpu, &mut random, INT8, [outputs, cols], number % 2 == 0).unwrap();
        let (mut codes, mut scales) = (vec![0; rows * cols], vec![0.0; rows]);
        ops::quantize_rows(&random.values(rows * cols), cols, &mut codes, &mut scales);
        let before = number % 2;
        let (device_codes, device_scales) = (hold(&gpu, &codes, before, 99), hold(&gpu, &scales, before, f32::NAN));
        let input = ProductInput::Int8 { codes: device_codes.slice, scales: device_scales.slice };
        let out = hold(&gpu, &vec![f32::NAN; rows * outputs], before, 0.0);
        let memory = scratch(&gpu, &[&weight], rows);
        let parts = [weight.part(out.slice)];
        let product = Product { x: input, rows, parts: &parts, finish: Finish::Store, scratch: memory.slice() };
        gpu.product_of_many(&product).unwrap();
        let expected = weight.int8_reference(&codes, &scales);
        assert_eq!(gpu.to_vec(out.slice).unwrap(), expected, "{rows} rows times {:?}", weight.device);

        // Gated, with the roundings of the reference up to the gate; added, bit for bit.
        let addend = random.values(rows * outputs);
        let added = hold(&gpu, &addend, 0, 0.0);
        let parts = [weight.part(added.slice)];
        let finish = Finish::Add(added.slice);
        gpu.product_of_many(&Product { x: input, rows, parts: &parts, finish, scratch: memory.slice() }).unwrap();
        let sums: Vec<_> = expected.iter().zip(&addend).map(|(product, addend)| product + addend).collect();
        assert_eq!(gpu.to_vec(added.slice).unwrap(), sums, "{rows} rows added, {:?}", weight.device);

        let value = Weight::new(&gpu, &mut random, INT8, [outputs, cols], true).unwrap();
        let real = hold(&gpu, &vec![f32::NAN; rows * outputs], 0, 0.0);
        let parts = [weight.part(Slice::NONE), value.part(Slice::NONE)];
        let memory = scratch(&gpu, &[&weight, &value], rows);
        let finish = Finish::Gated(Unary::Relu, Outputs::real(real.slice));
        gpu.product_of_many(&Product { x: input, rows, parts: &parts, finish, scratch: memory.slice() }).unwrap();
        let values = value.int8_reference(&codes, &scales);
        let gated: Vec<_> = expected.iter().zip(&values).map(|(gate, value)| gate.max(0.0) * value).collect();
        assert_eq!(gpu.to_vec(real.slice).unwrap(), gated, "{rows} rows gated, {:?}", weight.device);
    }
}
