//! Formats whose elements are integers times a scale, less a zero point where they are not symmetric.
//!
//! ```text
//! plane ""              codes q         [rows, cols]
//! plane ".scales"       scales s        [rows, groups]     in the dtype of the scales
//! plane ".zero_points"  zero points z   [rows, groups]     stored as codes are; asymmetric formats only
//!
//! w[row, column] = (q[row, column] − z[row, group]) · s[row, group]     group = column / group size
//! ```
//!
//! The product is rounded once, to f32. There is one group for each row where a scale belongs to a channel. How integers
//! lie in bytes is a [`Packing`], one file for each width; how they are chosen is `scaling.rs`.

use std::marker::PhantomData;
use std::ops::Range;

use super::scaling::{Codes, Scaling};
use super::{Codec, Constraint, Fit, Granularity, Matrix, Parameters, Plane, PlaneDtype, fits_memory};

/// Integers of a width, and how they lie in bytes. Each row starts at a byte of its own.
pub(crate) trait Packing: Send + Sync + 'static {
    /// Name of the format.
    const NAME: &'static str;
    /// Its line in listings.
    const SUMMARY: &'static str;
    /// Bits of an integer, at most 8.
    const BITS: u32;
    /// Dtype of planes of such integers.
    const DTYPE: PlaneDtype;

    /// Bytes of a row of `len` integers, which is as many elements of [`Packing::DTYPE`].
    fn row_bytes(len: usize) -> usize;

    /// Writes integers, in two's complement, from number `first` of `row` on. Called for all of a row, in order.
    fn pack(integers: &[u8], first: usize, row: &mut [u8]);

    /// Integer `index` of `row`.
    fn unpack(row: &[u8], index: usize) -> i8;
}

/// The format of integers that are packed in such a way.
pub(super) struct Integers<P>(PhantomData<P>);

impl<P> Integers<P> {
    /// The only value.
    pub(super) const NEW: Integers<P> = Integers(PhantomData);
}

/// Elements that are coded at a time.
const STRETCH: usize = 256;

/// Row `row` of a plane of rows of `bytes`.
pub(crate) fn plane_row(plane: &[u8], row: usize, bytes: usize) -> &[u8] {
    &plane[row * bytes..(row + 1) * bytes]
}

impl<P: Packing> Codec for Integers<P> {
    fn name(&self) -> &'static str {
        P::NAME
    }

    fn summary(&self) -> &'static str {
        P::SUMMARY
    }

    fn takes(&self, parameters: &Parameters) -> bool {
        match parameters.granularity {
            Granularity::None => false,
            Granularity::Channel => true,
            Granularity::Group(size) => size >= 2,
        }
    }

    fn constraints(&self, parameters: &Parameters, rows: usize, cols: usize) -> Result<(), Constraint> {
        if let Granularity::Group(group) = parameters.granularity
            && !cols.is_multiple_of(group as usize)
        {
            return Err(Constraint::Indivisible { group, cols });
        }
        // As if each element had a scale and a zero point, so that the sizes of all planes can be added.
        let groups = parameters.granularity.groups(cols);
        fits_memory(rows, cols.max(groups), 2 + parameters.scales.bytes())
    }

    fn planes(&self, parameters: &Parameters, rows: usize, cols: usize) -> Vec<Plane> {
        let groups = parameters.granularity.groups(cols);
        let integers = |suffix, len| Plane { suffix, dtype: P::DTYPE, shape: vec![rows, P::row_bytes(len)] };
        let scales = Plane { suffix: ".scales", dtype: parameters.scales.plane_dtype(), shape: vec![rows, groups] };
        let mut planes = vec![integers("", cols), scales];
        if !parameters.symmetric {
            planes.push(integers(".zero_points", groups));
        }
        planes
    }

    fn limit(&self, parameters: &Parameters) -> f32 {
        // The difference of two ends, and the lowest code times a scale that was rounded up, must stay finite.
        Codes::of(P::BITS).limit(parameters.scales.largest()).min(f32::MAX / 4.0)
    }

    fn encode(&self, parameters: &Parameters, fit: Fit, values: &[f32], cols: usize, planes: &mut [&mut [u8]]) {
        assert!(values.len().is_multiple_of(cols.max(1)), "{} values are no whole rows of {cols}", values.len());
        let (group, groups) = (parameters.granularity.group(cols), parameters.granularity.groups(cols));
        let [codes_plane, scales, zero_points @ ..] = planes else { panic!("planes of codes and scales") };
        // Rows without elements have scales all the same.
        let rows = values.len().checked_div(cols).unwrap_or(scales.len() / (groups * parameters.scales.bytes()).max(1));
        assert_eq!(codes_plane.len(), rows * P::row_bytes(cols), "bytes for {rows} rows of {cols}");
        assert_eq!(scales.len(), rows * groups * parameters.scales.bytes(), "scales of {rows} rows");
        assert_eq!(zero_points.len(), usize::from(!parameters.symmetric), "planes of zero points");
        if let [zero_points] = zero_points {
            assert_eq!(zero_points.len(), rows * P::row_bytes(groups), "zero points of {rows} rows");
        }

        let codes = Codes::of(P::BITS);
        let mut buffer = [0; STRETCH];
        for row in 0..rows {
            let packed = &mut codes_plane[row * P::row_bytes(cols)..][..P::row_bytes(cols)];
            for number in 0..groups {
                let first = number * group;
                let values = &values[row * cols + first..][..group];
                let scaling = Scaling::fit(codes, parameters, fit, values);
                parameters.scales.write(scales, row * groups + number, scaling.scale);
                if let [zero_points] = zero_points {
                    let zero_points = &mut zero_points[row * P::row_bytes(groups)..][..P::row_bytes(groups)];
                    P::pack(&[scaling.zero_point as i8 as u8], number, zero_points);
                }
                for (i, values) in values.chunks(STRETCH).enumerate() {
                    let integers = &mut buffer[..values.len()];
                    scaling.quantize(codes, values, integers);
                    P::pack(integers, first + i * STRETCH, packed);
                }
            }
        }
    }

    fn decode(&self, matrix: &Matrix<'_>, row: usize, columns: Range<usize>, out: &mut [f32]) {
        let cols = matrix.cols();
        assert!(row < matrix.rows() && columns.end <= cols, "row {row}, columns {columns:?} of {matrix:?}");
        assert_eq!(out.len(), columns.len(), "elements of {columns:?}");
        let packed = plane_row(matrix.plane(0), row, P::row_bytes(cols));
        let group = matrix.format().parameters().granularity.group(cols);
        for (number, first, out) in by_group(group, columns, out) {
            let (scale, zero_point) = scaling::<P>(matrix, row, number);
            for (column, value) in (first..).zip(out) {
                *value = decoded(P::unpack(packed, column), scale, zero_point);
            }
        }
    }
}

/// The parts of `out`, elements `columns` of a row, that belong to one group: number of the group, first column, part.
pub(crate) fn by_group(
    group: usize,
    columns: Range<usize>,
    mut out: &mut [f32],
) -> impl Iterator<Item = (usize, usize, &mut [f32])> {
    let mut column = columns.start;
    std::iter::from_fn(move || {
        let (first, number) = (column, column.checked_div(group)?);
        column = columns.end.min((number + 1) * group);
        (first < column).then(|| out.split_off_mut(..column - first).map(|part| (number, first, part)))?
    })
}

/// What an integer stands for.
pub(crate) fn decoded(integer: i8, scale: f32, zero_point: i8) -> f32 {
    f32::from(i16::from(integer) - i16::from(zero_point)) * scale
}

/// Scale and zero point of group `number` of a row.
#[inline]
pub(crate) fn scaling<P: Packing>(matrix: &Matrix<'_>, row: usize, number: usize) -> (f32, i8) {
    let parameters = matrix.format().parameters();
    let groups = parameters.granularity.groups(matrix.cols());
    let scale = parameters.scales.read(matrix.plane(1), row * groups + number);
    let zero_point =
        if parameters.symmetric { 0 } else { P::unpack(plane_row(matrix.plane(2), row, P::row_bytes(groups)), number) };
    (scale, zero_point)
}
