//! Products and tables beside the shared suite: operands in bf16, what is fused, weights side by side.

use lathe_kernels::check::{self, Random};
use lathe_kernels::cuda::ops::{
    DeviceExperts, ExpertProduct, Finish, NormParameters, Outputs, Product, ProductInput, ProductPart, RowStep,
};
use lathe_kernels::cuda::{DeviceMatrix, Gpu, Memory, Slice};
use lathe_kernels::formats::{Fit, Format, Matrix};
use lathe_kernels::ops::{self, Norm, Unary};

/// An encoded matrix of random values.
struct Packed {
    format: Format,
    rows: usize,
    cols: usize,
    planes: Vec<Vec<u8>>,
}

impl Packed {
    fn random(random: &mut Random, format: Format, rows: usize, cols: usize) -> Packed {
        let mut planes: Vec<Vec<u8>> =
            format.planes(rows, cols).iter().map(|plane| vec![0; plane.bytes().unwrap()]).collect();
        let mut bytes: Vec<_> = planes.iter_mut().map(Vec::as_mut_slice).collect();
        format.encode(Fit::Absmax, &random.values(rows * cols), cols, &mut bytes);
        Packed { format, rows, cols, planes }
    }

    fn matrix(&self) -> Matrix<'_> {
        let planes: Vec<_> = self.planes.iter().map(Vec::as_slice).collect();
        Matrix::new(self.format, self.rows, self.cols, &planes).unwrap()
    }

    fn decoded(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.rows * self.cols];
        for (row, values) in values.chunks_exact_mut(self.cols.max(1)).enumerate() {
            self.matrix().decode_row(row, values);
        }
        values
    }
}

/// To the nearest, ties to even.
fn bf16(value: f32) -> u16 {
    half::bf16::from_f32(value).to_bits()
}

fn from_bf16(bits: u16) -> f32 {
    half::bf16::from_bits(bits).to_f32()
}

fn rounded(values: &[f32]) -> Vec<f32> {
    values.iter().map(|&value| from_bf16(bf16(value))).collect()
}

/// Runs a product with scratch and reads its results.
fn run(gpu: &Gpu, x: ProductInput, rows: usize, parts: &[ProductPart<'_>], finish: Finish) {
    let bytes: usize = parts.iter().map(|part| gpu.product_scratch(part.weight, rows)).sum();
    let scratch = gpu.allocate("scratch", bytes as u64).unwrap();
    let product = Product { x, rows, parts, finish, scratch: scratch.slice().range(0..bytes) };
    gpu.product(&product).unwrap();
}

fn zeros(gpu: &Gpu, len: usize) -> Memory {
    gpu.upload("results", &vec![f32::NAN; len]).unwrap()
}

/// `x Wᵀ + bias` in f64, and `Σ |x||w| + |bias|`.
fn exact(x: &[f32], weight: &Packed, bias: &[f32]) -> Vec<(f64, f64)> {
    let decoded = weight.decoded();
    let rows = x.chunks_exact(weight.cols);
    rows.flat_map(|x| {
        decoded.chunks_exact(weight.cols).zip(bias).map(|(w, &bias)| {
            let products = x.iter().zip(w).map(|(&x, &w)| f64::from(x) * f64::from(w));
            products.fold((f64::from(bias), f64::from(bias).abs()), |(sum, size), p| (sum + p, size + p.abs()))
        })
    })
    .collect()
}

/// Against sums of operands that are rounded already: what is left is f32. `slack` is of the offset of codes, see few.cuh.
fn assert_close(case: &str, got: &[f32], expected: &[(f64, f64)], relative: f64) {
    assert_eq!(got.len(), expected.len(), "{case}");
    for (i, (&got, &(expected, size))) in got.iter().zip(expected).enumerate() {
        let error = (f64::from(got) - expected).abs();
        assert!(error <= relative * size.max(1e-20), "{case}, element {i}: {got} instead of {expected}, of {size}");
    }
}

/// Of `Σ |x||w|`, where operands are rounded on both sides: sums of 128 + code in f32, less what the offset adds.
const SUMS: f64 = 1.0 / 4096.0;

#[test]
fn products_in_bf16_are_those_of_rounded_rows() {
    let Some(gpu) = super::gpu() else { return };
    let mut random = Random::new(71);
    for format in check::formats() {
        for (rows, outputs, inner) in [
            (1, 16, 128),
            (1, 5, 96),
            (2, 40, 384),
            (7, 33, 640),
            (8, 48, 1152),
            (9, 17, 192),
            (16, 50, 576),
            (3, 20, 70),
        ] {
            if format.constraints(outputs, inner).is_err() {
                continue;
            }
            let weight = Packed::random(&mut random, format, outputs, inner);
            let x = random.values(rows * inner);
            let bias = random.values(outputs);
            let device = DeviceMatrix::upload(&gpu, &weight.matrix()).unwrap();
            let bits: Vec<_> = x.iter().map(|&x| bf16(x)).collect();
            let (x_memory, bias_memory) = (gpu.upload("x", &bits).unwrap(), gpu.upload("bias", &bias).unwrap());
            let out = zeros(&gpu, rows * outputs);
            let part = ProductPart { weight: &device, bias: bias_memory.slice(), out: out.slice() };
            run(&gpu, ProductInput::Bf16(x_memory.slice()), rows, &[part], Finish::Store);
            let got = gpu.to_vec::<f32>(out.slice()).unwrap();
            let case = format!("{rows} rows times {:?}", weight.matrix());
            // A library may round scaled codes to bf16 as well; products here do not.
            assert_close(&case, &got, &exact(&rounded(&x), &weight, &bias), SUMS);
        }
    }
}

#[test]
fn a_product_with_parts_writes_each() {
    let Some(gpu) = super::gpu() else { return };
    let mut random = Random::new(72);
    for (format, rows, in_f32) in
        [("int4(group: 128)", 2, false), ("int8(per: channel)", 1, true), ("int4(group: 9)", 3, true)]
    {
        let (format, inner): (Format, _) = (format.parse().unwrap(), 1152);
        let weights: Vec<_> =
            [70, 16, 3].map(|outputs| Packed::random(&mut random, format, outputs, inner)).into_iter().collect();
        let x = random.values(rows * inner);
        let bits: Vec<_> = x.iter().map(|&x| bf16(x)).collect();
        let (real, half) = (gpu.upload("x", &x).unwrap(), gpu.upload("x", &bits).unwrap());
        let input = if in_f32 { ProductInput::Real(real.slice()) } else { ProductInput::Bf16(half.slice()) };
        let x = if in_f32 { x } else { rounded(&x) };
        let devices: Vec<_> = weights.iter().map(|w| DeviceMatrix::upload(&gpu, &w.matrix()).unwrap()).collect();
        assert!(gpu.joins_products(&devices.iter().collect::<Vec<_>>()));
        let outs: Vec<_> = weights.iter().map(|w| zeros(&gpu, rows * w.rows)).collect();
        let parts: Vec<_> = devices
            .iter()
            .zip(&outs)
            .map(|(weight, out)| ProductPart { weight, bias: Slice::NONE, out: out.slice() })
            .collect();
        run(&gpu, input, rows, &parts, Finish::Store);
        for (weight, out) in weights.iter().zip(&outs) {
            let expected = exact(&x, weight, &vec![0.0; weight.rows]);
            assert_close(&format!("{:?}", weight.matrix()), &gpu.to_vec::<f32>(out.slice()).unwrap(), &expected, SUMS);
        }
    }
}

#[test]
fn a_product_can_be_added_to_its_own_result() {
    let Some(gpu) = super::gpu() else { return };
    let mut random = Random::new(73);
    for (format, rows, inner) in [("int4(group: 32)", 1, 1024), ("f32", 40, 700), ("int4(group: 9)", 1, 2304)] {
        let weight = Packed::random(&mut random, format.parse().unwrap(), 37, inner);
        let (x, before) = (random.values(rows * inner), random.values(rows * 37));
        let device = DeviceMatrix::upload(&gpu, &weight.matrix()).unwrap();
        let (x_memory, out) = (gpu.upload("x", &x).unwrap(), gpu.upload("out", &before).unwrap());
        let part = ProductPart { weight: &device, bias: Slice::NONE, out: out.slice() };
        run(&gpu, ProductInput::Real(x_memory.slice()), rows, &[part], Finish::Add(out.slice()));
        let mut expected = exact(&x, &weight, &[0.0; 37]);
        for ((sum, size), &before) in expected.iter_mut().zip(&before) {
            *sum += f64::from(before);
            *size += f64::from(before).abs();
        }
        assert_close(format, &gpu.to_vec::<f32>(out.slice()).unwrap(), &expected, SUMS);
    }
}

#[test]
fn gate_and_value_become_one_output() {
    let Some(gpu) = super::gpu() else { return };
    let mut random = Random::new(74);
    for (formats, rows, outputs, inner) in [
        (["int4(group: 128)", "int4(group: 128)"], 1, 300, 1024),
        (["bf16", "bf16"], 5, 40, 96),
        (["int4(group: 9)", "int8(per: channel)"], 70, 66, 90),
    ] {
        let [gate, value] = formats.map(|format| Packed::random(&mut random, format.parse().unwrap(), outputs, inner));
        let x = random.values(rows * inner);
        let bits: Vec<_> = x.iter().map(|&x| bf16(x)).collect();
        let x_memory = gpu.upload("x", &bits).unwrap();
        let devices = [&gate, &value].map(|weight| DeviceMatrix::upload(&gpu, &weight.matrix()).unwrap());
        let (real, half) = (zeros(&gpu, rows * outputs), gpu.upload("half", &vec![0_u16; rows * outputs]).unwrap());
        let biases = [random.values(outputs), random.values(outputs)];
        let bias_memory = biases.each_ref().map(|bias| gpu.upload("bias", bias).unwrap());
        let parts = [0, 1].map(|i| ProductPart { weight: &devices[i], bias: bias_memory[i].slice(), out: Slice::NONE });
        let outputs_to = Outputs { real: real.slice(), bf16: half.slice(), ..Outputs::NONE };
        run(&gpu, ProductInput::Bf16(x_memory.slice()), rows, &parts, Finish::Gated(Unary::Silu, outputs_to));
        let x = rounded(&x);
        let products = exact(&x, &gate, &biases[0]).into_iter().zip(exact(&x, &value, &biases[1]));
        let expected: Vec<_> = products
            .map(|((gate, gate_size), (value, value_size))| {
                let silu = gate / (1.0 + (-gate).exp());
                (silu * value, 1.1 * gate_size * value.abs() + silu.abs() * value_size)
            })
            .collect();
        let got = gpu.to_vec::<f32>(real.slice()).unwrap();
        assert_close(&format!("{formats:?}"), &got, &expected, SUMS);
        let bits = gpu.to_vec::<u16>(half.slice()).unwrap();
        assert_eq!(bits, got.iter().map(|&value| bf16(value)).collect::<Vec<_>>());
    }
}

#[test]
fn rows_are_normalized_within_a_product() {
    let Some(gpu) = super::gpu() else { return };
    let mut random = Random::new(75);
    let inner = 640;
    let weight = Packed::random(&mut random, "int4(group: 128, symmetric: false)".parse().unwrap(), 40, inner);
    let device = DeviceMatrix::upload(&gpu, &weight.matrix()).unwrap();
    assert!(gpu.normalizes_products(&device, 1) && !gpu.normalizes_products(&device, 0));
    assert!(!gpu.normalizes_products(&device, 3));
    let mut along = random.values(inner);
    let length = along.iter().map(|x| x * x).sum::<f32>().sqrt();
    for x in &mut along {
        *x /= length;
    }
    let (gain, shift) = (random.values(inner), random.values(inner));
    for rows in [1, 2] {
        for (centre, with_along, with_gain, with_shift) in [
            (false, false, true, false),
            (true, false, true, true),
            (true, true, false, true),
            (false, false, false, false),
        ] {
            let x: Vec<f32> = random.values(rows * inner).iter().map(|x| 3.0 * x + 0.5).collect();
            let norm = Norm {
                width: inner,
                eps: 1e-5,
                centre,
                along: with_along.then_some(along.as_slice()),
                gain: with_gain.then_some(gain.as_slice()),
                gain_offset: 1.0,
                shift: with_shift.then_some(shift.as_slice()),
            };
            let mut normalized = vec![0.0; x.len()];
            ops::norm(&x, &norm, &mut normalized);
            let vectors = [norm.along, norm.gain, norm.shift].map(|v| v.map(|v| gpu.upload("vector", v).unwrap()));
            let [along, gain, shift] = vectors.each_ref().map(|v| v.as_ref().map_or(Slice::NONE, Memory::slice));
            let parameters = NormParameters { width: inner, eps: 1e-5, centre, along, gain, gain_offset: 1.0, shift };
            let (x_memory, out) = (gpu.upload("x", &x).unwrap(), zeros(&gpu, rows * 40));
            let part = ProductPart { weight: &device, bias: Slice::NONE, out: out.slice() };
            run(&gpu, ProductInput::NormalizedBf16(x_memory.slice(), parameters), rows, &[part], Finish::Store);
            // An element whose f32 is next to a tie may be rounded to the other bf16: 2⁻⁸ of it.
            let expected = exact(&rounded(&normalized), &weight, &[0.0; 40]);
            assert_close(&format!("{norm:?}"), &gpu.to_vec::<f32>(out.slice()).unwrap(), &expected, 1.0 / 2048.0);
        }
    }
}

/// Bit for bit as rows that are rounded before.
#[test]
fn rows_are_rounded_to_int8_within_a_product() {
    let Some(gpu) = super::gpu() else { return };
    let mut random = Random::new(78);
    let other = Packed::random(&mut random, "int8(group: 64)".parse().unwrap(), 16, 64);
    assert!(!gpu.quantizes_products(&DeviceMatrix::upload(&gpu, &other.matrix()).unwrap(), 1));
    for (rows, outputs, inner) in [(1, 40, 640), (2, 17, 198), (2, 5, 1153), (1, 16, 64)] {
        let weight = Packed::random(&mut random, "int8(per: channel)".parse().unwrap(), outputs, inner);
        let device = DeviceMatrix::upload(&gpu, &weight.matrix()).unwrap();
        assert!(gpu.quantizes_products(&device, rows) && gpu.normalizes_products(&device, rows));
        assert!(!gpu.quantizes_products(&device, 3) && !gpu.quantizes_products(&device, 0));
        let mut x = random.values(rows * inner);
        x[3] = 9.0;
        if rows == 2 {
            x[inner..].fill(0.0);
        }
        let gain = random.values(inner);
        let (x_memory, gain_memory) = (gpu.upload("x", &x).unwrap(), gpu.upload("gain", &gain).unwrap());
        let norm = NormParameters {
            width: inner,
            eps: 1e-5,
            centre: false,
            along: Slice::NONE,
            gain: gain_memory.slice(),
            gain_offset: 0.0,
            shift: Slice::NONE,
        };
        let (codes, scales) = (gpu.upload("codes", &vec![0_i8; x.len()]).unwrap(), zeros(&gpu, rows));
        let multiply = |input| {
            let out = zeros(&gpu, rows * outputs);
            let part = ProductPart { weight: &device, bias: Slice::NONE, out: out.slice() };
            run(&gpu, input, rows, &[part], Finish::Store);
            gpu.to_vec::<f32>(out.slice()).unwrap()
        };
        let out = Outputs { int8: codes.slice(), scales: scales.slice(), ..Outputs::NONE };
        let rounded = ProductInput::Int8 { codes: codes.slice(), scales: scales.slice() };
        let step = RowStep { out, ..RowStep::of(x_memory.slice(), inner) };
        gpu.row_step(&step).unwrap();
        let expected = multiply(rounded);
        assert_eq!(multiply(ProductInput::Quantized(x_memory.slice())), expected, "{rows} × {outputs} × {inner}");
        assert!(rows == 1 || expected[outputs..].iter().all(|&value| value == 0.0));
        // Sums of squares are in another order, so elements may be rounded to the integer next to theirs.
        gpu.row_step(&RowStep { norm: Some(norm), ..step }).unwrap();
        let scales = gpu.to_vec::<f32>(scales.slice()).unwrap();
        let codes = gpu.to_vec::<i8>(codes.slice()).unwrap();
        let x: Vec<f32> = codes.iter().enumerate().map(|(i, &code)| f32::from(code) * scales[i / inner]).collect();
        let expected = exact(&x, &weight, &vec![0.0; outputs]);
        let found = multiply(ProductInput::NormalizedInt8(x_memory.slice(), norm));
        assert_close(&format!("{rows} × {outputs} × {inner}"), &found, &expected, 1.0 / 512.0);
    }
}

#[test]
fn a_token_past_the_table_is_nan() {
    let Some(gpu) = super::gpu() else { return };
    let table = Packed::random(&mut Random::new(76), "int8(group: 6, symmetric: false)".parse().unwrap(), 5, 18);
    let device = DeviceMatrix::upload(&gpu, &table.matrix()).unwrap();
    let (index, out) = (gpu.upload("index", &[2, 3, u32::MAX]).unwrap(), zeros(&gpu, 3 * 18));
    gpu.embed(&device, index.slice(), 2, out.slice()).unwrap();
    let got = gpu.to_vec::<f32>(out.slice()).unwrap();
    assert_eq!(got[..18], table.decoded()[4 * 18..]);
    assert!(got[18..].iter().all(|value| value.is_nan()));
}

#[test]
fn experts_multiply_rows_in_bf16_and_no_expert_gives_nan() {
    let Some(gpu) = super::gpu() else { return };
    let mut random = Random::new(77);
    let (experts, outputs, inner) = (5, 37, 576);
    for format in ["int4(group: 64)", "int8(group: 32, symmetric: false)", "bf16", "f16", "int4(group: 9)"] {
        let weights: Vec<_> =
            (0..experts).map(|_| Packed::random(&mut random, format.parse().unwrap(), outputs, inner)).collect();
        let matrices = weights.iter().map(|weight| DeviceMatrix::upload(&gpu, &weight.matrix()).unwrap()).collect();
        let device = DeviceExperts::new(&gpu, matrices, &[]).unwrap();
        // One by one, and sorted.
        for (rows, k) in [(2, 3), (31, 2)] {
            let x = random.values(rows * inner);
            let bits: Vec<_> = x.iter().map(|&x| bf16(x)).collect();
            let mut choice: Vec<_> = (0..rows * k).map(|_| (random.bits() % experts as u64) as u32).collect();
            choice[1] = experts as u32;
            let (x_memory, choice_memory) = (gpu.upload("x", &bits).unwrap(), gpu.upload("choice", &choice).unwrap());
            let out = zeros(&gpu, rows * k * outputs);
            let bytes = gpu.expert_scratch(&device, rows, k);
            let scratch = gpu.allocate("scratch", bytes as u64).unwrap();
            let product = ExpertProduct {
                x: ProductInput::Bf16(x_memory.slice()),
                choice: choice_memory.slice(),
                rows,
                k,
                experts: &device,
                out: out.slice(),
                scratch: scratch.slice().range(0..bytes),
            };
            gpu.expert_product(&product).unwrap();
            let got = gpu.to_vec::<f32>(out.slice()).unwrap();
            let x = rounded(&x);
            for (pair, got) in got.chunks_exact(outputs).enumerate() {
                let Some(weight) = weights.get(choice[pair] as usize) else {
                    assert!(got.iter().all(|value| value.is_nan()), "pair {pair} of {format}");
                    continue;
                };
                let expected = exact(&x[pair / k * inner..][..inner], weight, &vec![0.0; outputs]);
                assert_close(&format!("pair {pair} of {format}"), got, &expected, SUMS);
            }
        }
    }
}
