//! What kernels must compute, under every schedule.

use half::{bf16, f16};
use lathe_kernels::check::{Random, host_driver::set_schedule};

use crate::driver::{Device, Shape};
use crate::{CopyArgs, SCHEDULES, StagesArgs, device, random_words};

#[derive(Clone, Copy)]
#[repr(C)]
struct MatrixArgs {
    a: u64,
    b: u64,
    product: u64,
}

/// The product of `[16, inner]` and `[8, inner]`, and 1.
fn plain_product(a: &[f64], b: &[f64], inner: usize) -> Vec<f64> {
    let dot = |row: &[f64], column: &[f64]| row.iter().zip(column).map(|(x, y)| x * y).sum::<f64>();
    let rows = a.chunks_exact(inner);
    rows.flat_map(|row| b.chunks_exact(inner).map(move |column| 1.0 + dot(row, column))).collect()
}

fn multiply(device: &Device, kernel: &str, a: &[u32], b: &[u32]) -> Vec<u32> {
    let (a, b, product) = (device.upload(a), device.upload(b), device.allocate(16 * 8));
    let arguments = MatrixArgs { a: a.address, b: b.address, product: product.address };
    device.run(kernel, Shape::new(1, 32), &arguments).unwrap();
    product.words()
}

/// Words of pairs of 16-bit floats.
fn pairs(bits: &[u16]) -> Vec<u32> {
    bits.chunks_exact(2).map(|pair| u32::from(pair[0]) | u32::from(pair[1]) << 16).collect()
}

/// A kernel, and how its operands are made and read.
type Case = (&'static str, fn(f32) -> u16, fn(u16) -> f64);

#[test]
fn products_of_tensor_cores() {
    let Some(device) = device() else { return };
    let mut random = Random::new(1);
    let (a, b) = (random.values(16 * 16), random.values(8 * 16));
    let real = |values: &[u16], to_f64: fn(u16) -> f64| values.iter().map(|&bits| to_f64(bits)).collect::<Vec<_>>();
    let cases: [Case; 3] = [
        ("selftest_mma_bf16", |x| bf16::from_f32(x).to_bits(), |bits| bf16::from_bits(bits).to_f64()),
        ("selftest_load_matrix", |x| bf16::from_f32(x).to_bits(), |bits| bf16::from_bits(bits).to_f64()),
        ("selftest_mma_f16", |x| f16::from_f32(x).to_bits(), |bits| f16::from_bits(bits).to_f64()),
    ];
    for (kernel, to_bits, to_f64) in cases {
        let bits = |values: &[f32]| values.iter().map(|&x| to_bits(x)).collect::<Vec<u16>>();
        let (a, b) = (bits(&a), bits(&b));
        let expected = plain_product(&real(&a, to_f64), &real(&b, to_f64), 16);
        let got = multiply(&device, kernel, &pairs(&a), &pairs(&b));
        for (got, expected) in got.into_iter().map(f32::from_bits).zip(expected) {
            assert!((f64::from(got) - expected).abs() <= 1e-5, "{kernel}: {got}, expected {expected}");
        }
    }

    let (a, b) = (random_words(16 * 8), random_words(8 * 8));
    let codes = |words: &[u32]| -> Vec<f64> {
        words.iter().flat_map(|word| word.to_le_bytes()).map(|byte| f64::from(byte as i8)).collect()
    };
    let expected: Vec<i32> = plain_product(&codes(&a), &codes(&b), 32).into_iter().map(|x| x as i32).collect();
    let got: Vec<i32> = multiply(&device, "selftest_mma_s8", &a, &b).into_iter().map(|word| word as i32).collect();
    assert_eq!(got, expected);
}

#[test]
fn conversions_of_16_bit_floats() {
    let Some(device) = device() else { return };
    let special = [
        0.0,
        -0.0,
        1.0,
        65504.0,
        65520.0,
        1e-8,
        6e-8,
        -5.97e-8,
        6.1e-5,
        3e38,
        -3.4e38,
        1e-40,
        1.0 + 1.0 / 256.0,
        1.0 + 3.0 / 256.0,
    ];
    let mut values = special.to_vec();
    values.extend([f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE, 2048.5, 2049.0]);
    // The last of each three makes a tie no tie, by less than f32 has digits.
    values.extend([1.5, 1.007_812_5, -9.094_947e-13, 1.5, 1.000_976_6, -5.960_464_5e-8]);
    values.extend(Random::new(3).values(1000));
    values.extend(random_words(2000).into_iter().map(f32::from_bits).filter(|x| !x.is_nan()));
    let count = values.len();
    let input = device.upload(&values.iter().map(|x| x.to_bits()).collect::<Vec<_>>());
    let output = device.allocate(8 * count);
    let arguments = CopyArgs { input: input.address, output: output.address, count: count as u32 };
    device.run("selftest_convert", Shape::new(count.div_ceil(256) as u32, 256), &arguments).unwrap();
    for (i, words) in output.words().chunks_exact(8).enumerate() {
        let (value, next) = (values[i], values[(i + 1) % count]);
        let (brain, brain_next) = (bf16::from_f32(value), bf16::from_f32(next));
        let (half, half_next) = (f16::from_f32(value), f16::from_f32(next));
        assert_eq!(words[0], u32::from(brain.to_bits()), "{value}");
        assert_eq!(words[1], u32::from(half.to_bits()), "{value}");
        assert_eq!(words[2], pairs(&[brain.to_bits(), brain_next.to_bits()])[0]);
        assert_eq!(words[3], pairs(&[half.to_bits(), half_next.to_bits()])[0]);
        assert_eq!(f32::from_bits(words[6]), half.to_f32());
        assert_eq!(f32::from_bits(words[7]), brain_next.to_f32());
        let third = values[(i + 2) % count];
        let (x, y, z) = (brain.to_f64(), brain_next.to_f64(), bf16::from_f32(third).to_f64());
        assert_nearest(words[4] as u16, [x, y, z], bf16::MAX.to_f64(), |bits| bf16::from_bits(bits).to_f64());
        assert_nearest((words[4] >> 16) as u16, [y, x, x], bf16::MAX.to_f64(), |bits| bf16::from_bits(bits).to_f64());
        let (x, y, z) = (half.to_f64(), half_next.to_f64(), f16::from_f32(third).to_f64());
        assert_nearest(words[5] as u16, [x, y, z], f16::MAX.to_f64(), |bits| f16::from_bits(bits).to_f64());
        assert_nearest((words[5] >> 16) as u16, [y, x, x], f16::MAX.to_f64(), |bits| f16::from_bits(bits).to_f64());
    }
}

/// `got` is x · y + z rounded once, where f64 holds that exactly and it is no infinity.
fn assert_nearest(got: u16, [x, y, z]: [f64; 3], max: f64, to_f64: fn(u16) -> f64) {
    let exact = x * y + z;
    let ratio = (x * y / z).abs();
    if !(ratio > 2.0_f64.powi(-28) && ratio < 2.0_f64.powi(44) && exact.abs() <= max) {
        return;
    }
    for neighbour in
        [got.wrapping_sub(1), got.wrapping_add(1)].map(to_f64).into_iter().filter(|value| value.is_finite())
    {
        let (error, other) = ((to_f64(got) - exact).abs(), (neighbour - exact).abs());
        assert!(error <= other, "{x} · {y} + {z}: {}, expected {neighbour}", to_f64(got));
    }
}

#[test]
fn collectives() {
    let Some(device) = device() else { return };
    let input = random_words(128);
    let warps = || input.chunks_exact(32);
    let of_warps = |value: fn(&[u32]) -> u32| warps().flat_map(|warp| [value(warp); 32]).collect::<Vec<_>>();
    let of_lanes = |source: fn(usize) -> usize| {
        warps().flat_map(|warp| (0..32).map(|lane| warp[source(lane)]).collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    let sum = |words: &[u32]| words.iter().fold(0_u32, |total, word| total.wrapping_add(*word));
    let of_each = |value: fn(u32) -> u32| input.iter().map(|&word| value(word)).collect::<Vec<_>>();
    let expected: Vec<Vec<u32>> = vec![
        of_warps(sum),
        of_warps(|warp| *warp.iter().max().unwrap()),
        of_lanes(|lane| lane / 8 * 8 + (lane + 5) % 8),
        of_lanes(|lane| if lane < 3 { lane } else { lane - 3 }),
        of_lanes(|lane| if lane % 16 + 3 < 16 { lane + 3 } else { lane }),
        of_warps(|warp| (0..32).map(|lane| u32::from(warp[lane] % 3 == 0) << lane).sum()),
        vec![2; 128],
        of_warps(sum),
        vec![sum(&input); 128],
        vec![*input.iter().max().unwrap(); 128],
        vec![input.iter().filter(|&word| word % 2 == 0).count() as u32; 128],
        of_each(|word| (word & 0x0f0f_0f0f) | 0x4300_4300),
        of_each(|word| (word & 0xffff) | 0x4387_0000),
    ];
    let buffer = device.upload(&input);
    for schedule in SCHEDULES {
        set_schedule(schedule);
        let output = device.allocate(expected.len() * 128);
        let arguments = CopyArgs { input: buffer.address, output: output.address, count: 128 };
        device.run("selftest_collectives", Shape::new(1, 128), &arguments).unwrap();
        for (kind, (got, expected)) in output.words().chunks_exact(128).zip(&expected).enumerate() {
            assert_eq!(got, expected, "collective {kind}, {schedule:?}");
        }
    }
}

#[test]
fn atomics_of_many_blocks() {
    let Some(device) = device() else { return };
    let input: Vec<u32> = random_words(1000).into_iter().map(|word| word % 1000 + 1).collect();
    let buffer = device.upload(&input);
    for schedule in SCHEDULES {
        set_schedule(schedule);
        let output = device.upload(&[0, 0, u32::MAX, 0, 0, 0, 0]);
        let arguments = CopyArgs { input: buffer.address, output: output.address, count: 1000 };
        device.run("selftest_atomics", Shape::new(8, 128), &arguments).unwrap();
        let words = output.words();
        let sum: u32 = input.iter().sum();
        assert_eq!(words[..3], [sum, *input.iter().max().unwrap(), *input.iter().min().unwrap()]);
        assert_eq!(f32::from_bits(words[3]), sum as f32);
        assert_eq!(words[4], 0, "1000 times up to 9");
        assert!(input.contains(&words[5]));
        assert_eq!(words[6], input.iter().fold(0, |all, word| all | word));
    }
}

#[test]
fn copies_that_do_not_wait() {
    let Some(device) = device() else { return };
    let mut input = random_words(448);
    let buffer = device.upload(&input);
    input[250..256].fill(0);
    for schedule in SCHEDULES {
        set_schedule(schedule);
        let output = device.allocate(448);
        let arguments = StagesArgs { input: buffer.address, output: output.address, variant: 0 };
        device.run("selftest_copy_async", Shape::new(1, 64), &arguments).unwrap();
        assert_eq!(output.words(), input, "{schedule:?}");
    }
}
