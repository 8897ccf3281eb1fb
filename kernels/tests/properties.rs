//! Properties over random shapes and values.

use lathe_kernels::check::{Forced, Implementation, Random, formats};
use lathe_kernels::cpu::Isa;
use lathe_kernels::formats::{Fit, Format, Matrix};
use lathe_kernels::ops::Norm;
use proptest::prelude::*;

fn encode(format: Format, rows: usize, cols: usize, values: &[f32]) -> Vec<Vec<u8>> {
    let mut planes: Vec<_> = format.planes(rows, cols).iter().map(|plane| vec![0; plane.bytes().unwrap()]).collect();
    let mut bytes: Vec<_> = planes.iter_mut().map(Vec::as_mut_slice).collect();
    format.encode(Fit::Absmax, values, cols, &mut bytes);
    planes
}

fn decode(matrix: &Matrix<'_>) -> Vec<f32> {
    let mut values = vec![0.0; matrix.rows() * matrix.cols()];
    for (row, values) in values.chunks_exact_mut(matrix.cols().max(1)).enumerate() {
        matrix.decode_row(row, values);
    }
    values
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// What a format has decoded, it encodes to the same bytes and decodes to the same bits, NaN payloads included.
    #[test]
    fn decoded_values_survive(rows in 0usize..5, cols in 0usize..70, seed: u64) {
        let mut random = Random::new(seed);
        let values: Vec<_> = (0..rows * cols).map(|_| f32::from_bits(random.bits() as u32)).collect();
        for format in [Format::F32, Format::F16, Format::BF16] {
            if format.constraints(rows, cols).is_err() {
                continue;
            }
            let planes = encode(format, rows, cols, &values);
            let borrowed: Vec<_> = planes.iter().map(Vec::as_slice).collect();
            let decoded = decode(&Matrix::new(format, rows, cols, &borrowed).unwrap());
            let again = encode(format, rows, cols, &decoded);
            prop_assert_eq!(&again, &planes, "{}", format);
        }
    }

    /// f32 keeps every bit; f16 and bf16 give the nearest of their values, the even one of two.
    #[test]
    fn rounding_is_to_nearest_even(pattern: u32) {
        let value = f32::from_bits(pattern);
        let round_trip = |format: Format| {
            let plane = encode(format, 1, 1, &[value]).remove(0);
            (decode(&Matrix::new(format, 1, 1, &[&plane]).unwrap())[0], u16::from_le_bytes([plane[0], plane[1]]))
        };
        prop_assert_eq!(round_trip(Format::F32).0.to_bits(), pattern);
        for (format, step) in [(Format::F16, |code: u16| half::f16::from_bits(code).to_f64()),
                             (Format::BF16, |code: u16| half::bf16::from_bits(code).to_f64())] as [(Format, fn(u16) -> f64); 2] {
            let (decoded, code) = round_trip(format);
            if value.is_nan() {
                prop_assert!(decoded.is_nan() && decoded.is_sign_negative() == value.is_sign_negative());
                continue;
            }
            prop_assert_eq!(decoded.is_sign_negative(), value.is_sign_negative());
            if decoded.is_finite() {
                let error = (f64::from(decoded) - f64::from(value)).abs();
                for neighbour in [code.wrapping_sub(1), code.wrapping_add(1)].map(step).into_iter().filter(|n| n.is_finite()) {
                    let other = (neighbour - f64::from(value)).abs();
                    prop_assert!(error < other || error == other && code % 2 == 0, "{}: {} to {}", format, value, decoded);
                }
            }
        }
    }

    /// Products agree with sums in f64 on every instruction set and whatever the number of threads.
    #[test]
    fn products_agree_with_f64(rows in 0usize..70, outputs in 0usize..40, inner in 0usize..90, seed: u64, which in 0..formats().len()) {
        let format = formats()[which];
        prop_assume!(format.constraints(outputs, inner).is_ok());
        let mut random = Random::new(seed);
        let x = random.values(rows * inner);
        let planes = encode(format, outputs, inner, &random.values(outputs * inner));
        let borrowed: Vec<_> = planes.iter().map(Vec::as_slice).collect();
        let weight = Matrix::new(format, outputs, inner, &borrowed).unwrap();
        let decoded = decode(&weight);
        for ops in Isa::ALL.into_iter().filter_map(Forced::on) {
            let mut out = vec![f32::NAN; rows * outputs];
            ops.matmul(&x, &weight, None, &mut out);
            for (i, &out) in out.iter().enumerate() {
                let (row, output) = (i / outputs, i % outputs);
                let expected: f64 = (0..inner)
                    .map(|k| f64::from(x[row * inner + k]) * f64::from(decoded[output * inner + k]))
                    .sum();
                prop_assert!((f64::from(out) - expected).abs() <= inner as f64 / 32768.0);
            }
        }
    }
}

/// What `op` writes on one thread and on five.
fn on_one_and_five_threads(len: usize, op: impl Fn(&mut [f32]) + Sync) -> [Vec<u32>; 2] {
    [1, 5].map(|threads| {
        let mut out = vec![f32::NAN; len];
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| op(&mut out));
        bits(&out)
    })
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let mut random = Random::new(1);
    let (outputs, inner, experts, k) = (500, 1000, 6, 3);
    // Experts may differ in format.
    let formats =
        ["bf16", "int8(per: channel)", "int4(group: 40, symmetric: false)"].map(|text| text.parse::<Format>().unwrap());
    let packed: Vec<_> = (0..experts as usize)
        .map(|number| encode(formats[number % 3], outputs, inner, &random.values(outputs * inner)))
        .collect();
    let borrowed: Vec<Vec<_>> = packed.iter().map(|planes| planes.iter().map(Vec::as_slice).collect()).collect();
    let weights: Vec<_> = (0..experts as usize)
        .map(|number| Matrix::new(formats[number % 3], outputs, inner, &borrowed[number]).unwrap())
        .collect();
    for isa in Isa::ALL {
        let Some(ops) = Forced::on(isa) else { continue };
        for rows in [1, 3, 40] {
            let x = random.values(rows * inner);
            for weight in &weights[..3] {
                let [one, five] = on_one_and_five_threads(rows * outputs, |out| ops.matmul(&x, weight, None, out));
                assert_eq!(one, five, "{rows} rows times {weight:?} on {isa}");
            }

            let choice: Vec<_> = (0..rows * k).map(|_| (random.bits() % experts) as u32).collect();
            let [one, five] = on_one_and_five_threads(rows * k * outputs, |out| {
                ops.expert_matmul(&x, &choice, k, &|number| (&weights[number], None), experts as usize, out);
            });
            assert_eq!(one, five, "{rows} rows and experts on {isa}");

            let norm =
                Norm { width: 100, eps: 1e-5, centre: true, along: None, gain: None, gain_offset: 0.0, shift: None };
            let [one, five] = on_one_and_five_threads(x.len(), |out| ops.norm(&x, &norm, out));
            assert_eq!(one, five, "norms of {rows} rows on {isa}");
            let [one, five] = on_one_and_five_threads(x.len(), |out| ops.softmax(&x, 40, out));
            assert_eq!(one, five, "softmax of {rows} rows on {isa}");
        }
    }
}
