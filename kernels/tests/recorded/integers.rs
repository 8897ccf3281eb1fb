//! Integer formats against what compressed-tensors quantizes; `integers.py` recorded it.

use lathe_kernels::formats::{Fit, Format, Matrix, ScaleDtype};
use serde_json::Value;

fn floats(values: &Value) -> Vec<f32> {
    values.as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect()
}

fn integers(values: &Value) -> Vec<i64> {
    values.as_array().unwrap().iter().map(|value| value.as_i64().unwrap()).collect()
}

fn size(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

/// Scales, zero points and codes of a matrix.
struct Quantized {
    scales: Vec<f32>,
    zero_points: Vec<i64>,
    codes: Vec<i64>,
}

impl Quantized {
    fn recorded(case: &Value) -> Quantized {
        Quantized {
            scales: floats(&case["scales"]),
            zero_points: integers(&case["zero_points"]),
            codes: integers(&case["codes"]),
        }
    }

    /// What the format itself makes of `weights`. Integers are read by a matrix whose scales are 1 and zero points 0.
    fn encoded(format: Format, weights: &[f32], rows: usize, cols: usize) -> Quantized {
        let mut planes: Vec<_> =
            format.planes(rows, cols).iter().map(|plane| vec![0; plane.bytes().unwrap()]).collect();
        let mut bytes: Vec<_> = planes.iter_mut().map(Vec::as_mut_slice).collect();
        format.encode(Fit::Absmax, weights, cols, &mut bytes);
        let parameters = format.parameters();
        let dtype = parameters.scales;
        let scales = planes[1].chunks(if dtype == ScaleDtype::F32 { 4 } else { 2 }).map(|bytes| match dtype {
            ScaleDtype::Bf16 => half::bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
            ScaleDtype::F16 => half::f16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
            ScaleDtype::F32 => f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
        });
        let read = |plane: &[u8], cols: usize| -> Vec<i64> {
            let format: Format = format!("{}(per: channel, scales: f32)", format.name()).parse().unwrap();
            let ones: Vec<u8> = (0..rows).flat_map(|_| 1.0_f32.to_le_bytes()).collect();
            let matrix = Matrix::new(format, rows, cols, &[plane, &ones]).unwrap();
            let mut values = vec![0.0; rows * cols];
            for (row, values) in values.chunks_exact_mut(cols).enumerate() {
                matrix.decode_row(row, values);
            }
            values.into_iter().map(|value| value as i64).collect()
        };
        let groups = parameters.granularity.groups(cols);
        let zero_points = planes.get(2).map_or(vec![0; rows * groups], |plane| read(plane, groups));
        Quantized { scales: scales.collect(), zero_points, codes: read(&planes[0], cols) }
    }

    /// Sum of the squared errors.
    fn error(&self, weights: &[f32]) -> f64 {
        let group = weights.len() / self.scales.len();
        let square = |(i, (&weight, &code)): (usize, (&f32, &i64))| {
            let decoded = (code - self.zero_points[i / group]) as f64 * f64::from(self.scales[i / group]);
            (f64::from(weight) - decoded).powi(2)
        };
        weights.iter().zip(&self.codes).enumerate().map(square).sum()
    }
}

/// How many elements differ.
fn differences<T: PartialEq>(ours: &[T], theirs: &[T]) -> usize {
    assert_eq!(ours.len(), theirs.len());
    ours.iter().zip(theirs).filter(|(ours, theirs)| ours != theirs).count()
}

/// What differs in all cases of a kind.
#[derive(Debug, PartialEq)]
struct Differences {
    scales: usize,
    zero_points: usize,
    codes: usize,
}

#[test]
fn integers_are_those_of_compressed_tensors() {
    let recorded: Value = serde_json::from_str(include_str!("integers.json")).unwrap();
    let (rows, cols) = (size(&recorded["rows"]), size(&recorded["columns"]));
    // Each of 864 scales, as many zero points and 6,912 codes; docs/formats.md says where the differences come from.
    for (dtype, symmetric, expected) in [
        ("f32", true, Differences { scales: 0, zero_points: 0, codes: 0 }),
        ("f32", false, Differences { scales: 0, zero_points: 0, codes: 0 }),
        ("bf16", true, Differences { scales: 0, zero_points: 0, codes: 414 }),
        ("bf16", false, Differences { scales: 120, zero_points: 50, codes: 562 }),
        ("f16", true, Differences { scales: 0, zero_points: 0, codes: 143 }),
        ("f16", false, Differences { scales: 118, zero_points: 8, codes: 62 }),
    ] {
        let weights = floats(&recorded["weights"][dtype]);
        let mut found = Differences { scales: 0, zero_points: 0, codes: 0 };
        let (mut scales, mut our_error, mut their_error) = (0, 0.0, 0.0);
        for case in recorded["cases"].as_array().unwrap() {
            let format: Format = case["format"].as_str().unwrap().parse().unwrap();
            if case["weights"] != dtype || format.parameters().symmetric != symmetric {
                continue;
            }
            let theirs = Quantized::recorded(case);
            let ours = Quantized::encoded(format, &weights, rows, cols);
            found.scales += differences(&ours.scales, &theirs.scales);
            found.zero_points += differences(&ours.zero_points, &theirs.zero_points);
            found.codes += differences(&ours.codes, &theirs.codes);
            scales += ours.scales.len();
            our_error += ours.error(&weights);
            their_error += theirs.error(&weights);
        }
        assert_eq!((scales, &found), (864, &expected), "{dtype}, symmetric: {symmetric}");
        assert!(our_error <= their_error, "{dtype}, symmetric: {symmetric}: {our_error} and {their_error}");
    }
}
