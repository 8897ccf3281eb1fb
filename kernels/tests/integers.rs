//! Properties of the integer formats over random shapes and values.

use lathe_kernels::check::{Random, formats};
use lathe_kernels::formats::{Fit, Format, Granularity, Matrix, ScaleDtype};
use proptest::prelude::*;

/// Integer formats that checks run on.
fn integer_formats() -> Vec<Format> {
    let is_integer = |format: &Format| format.name().starts_with("int");
    formats().into_iter().filter(is_integer).collect()
}

/// Bits of a code.
fn bits(format: Format) -> usize {
    format.name().strip_prefix("int").and_then(|bits| bits.parse().ok()).unwrap()
}

fn lowest(format: Format) -> i32 {
    -1 << (bits(format) - 1)
}

fn zeroed(format: Format, rows: usize, cols: usize) -> Vec<Vec<u8>> {
    format.planes(rows, cols).iter().map(|plane| vec![0; plane.bytes().unwrap()]).collect()
}

fn encode(format: Format, fit: Fit, rows: usize, cols: usize, values: &[f32]) -> Vec<Vec<u8>> {
    let mut planes = zeroed(format, rows, cols);
    let mut bytes: Vec<_> = planes.iter_mut().map(Vec::as_mut_slice).collect();
    format.encode(fit, values, cols, &mut bytes);
    planes
}

fn decode(format: Format, rows: usize, cols: usize, planes: &[Vec<u8>]) -> Vec<f32> {
    let planes: Vec<_> = planes.iter().map(Vec::as_slice).collect();
    let matrix = Matrix::new(format, rows, cols, &planes).unwrap();
    let mut values = vec![f32::NAN; rows * cols];
    for row in 0..rows {
        matrix.decode_row(row, &mut values[row * cols..(row + 1) * cols]);
    }
    values
}

/// Element `index` of row `row` of a plane of codes or zero points with `len` in a row, read in another way than by the
/// format.
fn integer(format: Format, plane: &[u8], row: usize, len: usize, index: usize) -> i32 {
    if format.name() == "int8" {
        return i32::from(plane[row * len + index].cast_signed());
    }
    let width = bits(format);
    let row = &plane[row * (width * len).div_ceil(8)..];
    let bit = |number: usize| i32::from(row[number / 8] >> (number % 8) & 1);
    (0..width).map(|i| bit(index * width + i) << i).sum::<i32>() + lowest(format)
}

fn scale(dtype: ScaleDtype, plane: &[u8], index: usize) -> f32 {
    match dtype {
        ScaleDtype::Bf16 => f32::from_le_bytes([0, 0, plane[2 * index], plane[2 * index + 1]]),
        ScaleDtype::F16 => half::f16::from_le_bytes([plane[2 * index], plane[2 * index + 1]]).to_f32(),
        ScaleDtype::F32 => f32::from_le_bytes(*plane[4 * index..].first_chunk().unwrap()),
    }
}

/// Code, zero point and scale of each element.
fn elements(format: Format, rows: usize, cols: usize, planes: &[Vec<u8>]) -> Vec<(i32, i32, f32)> {
    let parameters = format.parameters();
    let group = match parameters.granularity {
        Granularity::Group(size) => size as usize,
        _ => cols,
    };
    let groups = cols / group;
    let places = (0..rows).flat_map(|row| (0..cols).map(move |column| (row, column)));
    let element = |(row, column)| {
        let number = column / group;
        let code = integer(format, &planes[0], row, cols, column);
        let zero_point = planes.get(2).map_or(0, |plane| integer(format, plane, row, groups, number));
        (code, zero_point, scale(parameters.scales, &planes[1], row * groups + number))
    };
    places.map(element).collect()
}

/// Columns that are a few whole groups.
fn columns(format: Format, groups: usize) -> usize {
    match format.parameters().granularity {
        Granularity::Group(size) => size as usize * groups,
        _ => 7 * groups + groups % 3,
    }
}

/// Values of uneven spread, some of them all of a sign, some zero.
fn values(seed: u64, len: usize) -> Vec<f32> {
    let mut random = Random::new(seed);
    let (offset, scale) = (f32::from((seed % 3) as u8) - 1.0, 2.0_f32.powi((seed % 31) as i32 - 20));
    (0..len).map(|_| (random.value().powi(3) + 0.4 * offset) * scale).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// All bytes are codes and zero points, and decode as the layout says.
    #[test]
    fn planes_decode_as_laid_out(rows in 1usize..4, groups in 1usize..9, seed: u64, which in 0..integer_formats().len()) {
        let format = integer_formats()[which];
        let cols = columns(format, groups);
        let mut random = Random::new(seed);
        let mut planes = encode(format, Fit::Absmax, rows, cols, &values(seed, rows * cols));
        let is_integer = |index: &usize| *index != 1;
        for index in (0..planes.len()).filter(is_integer) {
            planes[index].fill_with(|| random.bits() as u8);
        }
        let decoded = decode(format, rows, cols, &planes);
        for (value, (code, zero_point, scale)) in decoded.iter().zip(elements(format, rows, cols, &planes)) {
            prop_assert_eq!(*value, (code - zero_point) as f32 * scale, "{}", format);
        }
    }

    /// Within half a step, and what the rounding of the scale moves; each group on its own.
    #[test]
    fn values_are_near(rows in 1usize..4, groups in 1usize..9, seed: u64, which in 0..integer_formats().len()) {
        let format = integer_formats()[which];
        let cols = columns(format, groups);
        let values = values(seed, rows * cols);
        let planes = encode(format, Fit::Absmax, rows, cols, &values);
        let decoded = decode(format, rows, cols, &planes);
        let steps = -2 * lowest(format);
        for ((&value, decoded), (_, _, scale)) in values.iter().zip(decoded).zip(elements(format, rows, cols, &planes)) {
            // Subnormal scales of f16 are further apart.
            let rounding = match format.parameters().scales {
                ScaleDtype::Bf16 => scale / 256.0,
                ScaleDtype::F16 => (scale / 2048.0).max(2.0_f32.powi(-25)),
                ScaleDtype::F32 => scale * 1.0e-6,
            };
            let allowed = scale / 2.0 + steps as f32 * rounding;
            prop_assert!((value - decoded).abs() <= allowed, "{}: {} as {}, scale {}", format, value, decoded, scale);
        }
    }

    /// The sum of squared errors of each group is no larger than that of absmax.
    #[test]
    fn mse_is_no_worse_than_absmax(rows in 1usize..4, groups in 1usize..5, seed: u64, which in 0..integer_formats().len()) {
        let format = integer_formats()[which];
        let cols = columns(format, groups);
        let values = values(seed, rows * cols);
        let group = match format.parameters().granularity {
            Granularity::Group(size) => size as usize,
            _ => cols,
        };
        let [absmax, mse] = [Fit::Absmax, Fit::Mse].map(|fit| {
            let decoded = decode(format, rows, cols, &encode(format, fit, rows, cols, &values));
            let square = |(value, decoded): (&f32, &f32)| (f64::from(*value) - f64::from(*decoded)).powi(2);
            let groups = values.chunks(group).zip(decoded.chunks(group));
            groups.map(|(values, decoded)| values.iter().zip(decoded).map(square).sum::<f64>()).collect::<Vec<_>>()
        });
        for (absmax, mse) in absmax.into_iter().zip(mse) {
            prop_assert!(mse <= absmax * 1.000_001, "{}: {} instead of {}", format, mse, absmax);
        }
    }

    /// Groups whose ends are codes at both ends are stored without loss.
    #[test]
    fn a_grid_survives(rows in 1usize..4, groups in 1usize..9, seed: u64, which in 0..integer_formats().len()) {
        let format = integer_formats()[which];
        prop_assume!(!format.parameters().symmetric);
        let cols = columns(format, groups);
        let group = cols / format.parameters().granularity.groups(cols);
        let (mut random, lowest) = (Random::new(seed), lowest(format));
        let mut integer = || (random.bits() % (-2 * lowest) as u64) as i32 + lowest;
        let mut values = Vec::new();
        for number in 0..rows * cols / group {
            let zero_point = integer();
            let mut codes: Vec<_> = (0..group).map(|_| integer()).collect();
            (codes[number % 2], codes[1 - number % 2]) = (lowest, -lowest - 1);
            let scale = 2.0_f32.powi(number as i32 % 20 - 10);
            values.extend(codes.iter().map(|code| (code - zero_point) as f32 * scale));
        }
        for fit in [Fit::Absmax, Fit::Mse] {
            let planes = encode(format, fit, rows, cols, &values);
            prop_assert_eq!(&decode(format, rows, cols, &planes), &values, "{}", format);
        }
    }

    /// No bits of values are a panic, and scales are always finite and positive.
    #[test]
    fn any_bits_are_coded(groups in 1usize..9, seed: u64, which in 0..integer_formats().len()) {
        let format = integer_formats()[which];
        let cols = columns(format, groups);
        let mut random = Random::new(seed);
        let values: Vec<_> = (0..2 * cols).map(|_| f32::from_bits(random.bits() as u32)).collect();
        for fit in [Fit::Absmax, Fit::Mse] {
            let planes = encode(format, fit, 2, cols, &values);
            for (_, _, scale) in elements(format, 2, cols, &planes) {
                prop_assert!(scale.is_finite() && scale > 0.0, "{}: scale {}", format, scale);
            }
        }
    }
}

#[test]
fn values_up_to_the_limit_stay_finite() {
    for format in integer_formats() {
        let cols = columns(format, 1);
        let limit = format.limit();
        // Half a step, and as much as half of that for the rounding of scale and zero point.
        let allowed = 0.75 * limit / -lowest(format) as f32;
        for fit in [Fit::Absmax, Fit::Mse] {
            let mut values = vec![0.0; cols];
            (values[0], values[1]) = (-limit, limit);
            let decoded = decode(format, 1, cols, &encode(format, fit, 1, cols, &values));
            for (value, decoded) in values.iter().zip(decoded) {
                assert!((value - decoded).abs() <= allowed, "{format}: {value} as {decoded}");
            }
        }
    }
}

#[test]
fn values_that_are_not_finite_do_not_panic() {
    for format in integer_formats() {
        let cols = columns(format, 1);
        for fit in [Fit::Absmax, Fit::Mse] {
            for special in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN] {
                let mut values = vec![1.0; cols];
                values[1] = special;
                let planes = encode(format, fit, 1, cols, &values);
                for (i, (code, _, scale)) in elements(format, 1, cols, &planes).into_iter().enumerate() {
                    assert!(scale.is_finite() && scale > 0.0, "{format}: {special} has the scale {scale}");
                    if i == 1 && special.is_nan() {
                        assert_eq!(code, lowest(format), "{format}");
                    }
                }
            }
        }
    }
}

#[test]
fn groups_of_zeros_stay_zero() {
    for format in integer_formats() {
        for groups in [0, 1, 5] {
            let cols = columns(format, groups);
            for fit in [Fit::Absmax, Fit::Mse] {
                let planes = encode(format, fit, 3, cols, &vec![0.0; 3 * cols]);
                assert!(decode(format, 3, cols, &planes).iter().all(|&value| value == 0.0), "{format}");
            }
        }
    }
}
