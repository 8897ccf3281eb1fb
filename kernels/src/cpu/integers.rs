//! Integer formats: codes are decoded in registers, two vectors at a time.

use super::dense::{self, PlaneElement};
use super::dot::{DotTile, WeightRows};
use super::simd::{Kernel, Simd, padded};
use super::{FastFormat, Vectors};
use crate::formats::{Int4, Int8, Matrix, Packing, ScaleDtype, by_group, decoded, plane_row, scaling};
use crate::tiles::Tile;
use std::marker::PhantomData;
use std::ops::Range;

/// Groups whose scales and zero points are read at a time.
const BLOCK: usize = 32;

/// Bytes of codes that are asked for before they are used, in each stream.
const AHEAD: usize = 1024;

/// Groups of fewer elements are decoded one by one.
const SMALL_GROUP: usize = 8;

/// Integers that vectors read, a *pair* of vectors at a time: `2 · LANES` of them.
pub(crate) trait FastPacking: Packing {
    /// The integer 0 as it is stored.
    const ZERO: f32;

    /// The bytes of a pair.
    type Pair<S: Simd>: Copy;

    /// All whole pairs of a row.
    fn pairs<S: Simd>(row: &[u8]) -> &[Self::Pair<S>];

    /// Fewer bytes than those of a pair, followed by zeros.
    fn padded<S: Simd>(bytes: &[u8]) -> Self::Pair<S>;

    /// What integers of a group stand for.
    type Values<S: Simd>: Copy;

    /// An integer that is stored as n stands for `(n − zero_point) · scale`: the zero point is that of the group as it is
    /// stored.
    fn values<S: Simd>(simd: S, scale: f32, zero_point: f32) -> Self::Values<S>;

    /// What the integers of a pair stand for, in an order that suits the format.
    fn load<S: Simd>(simd: S, values: Self::Values<S>, integers: &Self::Pair<S>) -> [S::F32; 2];

    /// Elements in the order of columns to that of [`FastPacking::load`].
    fn arrange<S: Simd>(simd: S, pair: [S::F32; 2]) -> [S::F32; 2];

    /// Inverse of [`FastPacking::arrange`].
    fn restore<S: Simd>(simd: S, pair: [S::F32; 2]) -> [S::F32; 2];
}

impl FastPacking for Int8 {
    const ZERO: f32 = 0.0;

    type Pair<S: Simd> = [S::Array<u8>; 2];

    #[inline(always)]
    fn pairs<S: Simd>(row: &[u8]) -> &[[S::Array<u8>; 2]] {
        S::chunks(row).0.as_chunks().0
    }

    #[inline(always)]
    fn padded<S: Simd>(bytes: &[u8]) -> [S::Array<u8>; 2] {
        padded_pair::<S, _>(bytes)
    }

    /// Scale and zero point.
    type Values<S: Simd> = [S::F32; 2];

    #[inline(always)]
    fn values<S: Simd>(simd: S, scale: f32, zero_point: f32) -> [S::F32; 2] {
        [simd.splat(scale), simd.splat(zero_point)]
    }

    #[inline(always)]
    fn load<S: Simd>(simd: S, [scale, zero_point]: [S::F32; 2], integers: &[S::Array<u8>; 2]) -> [S::F32; 2] {
        let first = simd.sub(simd.load_i8(&integers[0]), zero_point);
        let second = simd.sub(simd.load_i8(&integers[1]), zero_point);
        [simd.mul(first, scale), simd.mul(second, scale)]
    }

    #[inline(always)]
    fn arrange<S: Simd>(_: S, pair: [S::F32; 2]) -> [S::F32; 2] {
        pair
    }

    #[inline(always)]
    fn restore<S: Simd>(_: S, pair: [S::F32; 2]) -> [S::F32; 2] {
        pair
    }
}

/// Even columns come first, then odd ones: so lie the nibbles.
impl FastPacking for Int4 {
    const ZERO: f32 = 8.0;

    type Pair<S: Simd> = S::Array<u8>;

    #[inline(always)]
    fn pairs<S: Simd>(row: &[u8]) -> &[S::Array<u8>] {
        S::chunks(row).0
    }

    #[inline(always)]
    fn padded<S: Simd>(bytes: &[u8]) -> S::Array<u8> {
        padded::<S, _>(bytes)
    }

    type Values<S: Simd> = S::Nibbles;

    #[inline(always)]
    fn values<S: Simd>(simd: S, scale: f32, zero_point: f32) -> S::Nibbles {
        simd.nibbles(zero_point, scale)
    }

    #[inline(always)]
    fn load<S: Simd>(simd: S, nibbles: S::Nibbles, integers: &S::Array<u8>) -> [S::F32; 2] {
        simd.load_nibbles(nibbles, integers)
    }

    #[inline(always)]
    fn arrange<S: Simd>(simd: S, pair: [S::F32; 2]) -> [S::F32; 2] {
        simd.deinterleave(pair)
    }

    #[inline(always)]
    fn restore<S: Simd>(simd: S, pair: [S::F32; 2]) -> [S::F32; 2] {
        simd.interleave(pair)
    }
}

/// The format of integers that are packed in such a way.
pub(crate) struct Integers<P>(PhantomData<P>);

impl<P> Integers<P> {
    /// The only value.
    pub(crate) const NEW: Integers<P> = Integers(PhantomData);
}

impl<P: FastPacking> FastFormat for Integers<P> {
    fn decode(&self, vectors: Vectors, weight: &Matrix<'_>, row: usize, columns: Range<usize>, out: &mut [f32]) {
        assert_eq!(columns.len(), out.len(), "as many elements as asked for");
        if weight.format().parameters().granularity.group(weight.cols()) < SMALL_GROUP {
            weight.decode(row, columns, out);
        } else {
            vectors.run(Decode::<P> { weight, row, columns, out, packing: PhantomData });
        }
    }

    fn dot(&self, vectors: Vectors, x: &[f32], weight: &Matrix<'_>, tile: &mut Tile<'_>) {
        let inner = weight.cols();
        let rows = Rows::<P>::new(weight, tile.columns());
        if rows.group == inner || vectors.run(DividesGroup(rows.group)) {
            vectors.run(DotTile { x, weight: rows, inner, first: 0, tile });
        } else {
            dense::dot_decoded(self, vectors, x, weight, tile);
        }
    }
}

/// Decodes elements of a row, group by group.
struct Decode<'a, 'b, P> {
    weight: &'a Matrix<'b>,
    row: usize,
    columns: Range<usize>,
    out: &'a mut [f32],
    packing: PhantomData<P>,
}

impl<P: FastPacking> Kernel for Decode<'_, '_, P> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Decode { weight, row, columns, out, .. } = self;
        let codes = plane_row(weight.plane(0), row, P::row_bytes(weight.cols()));
        let group = weight.format().parameters().granularity.group(weight.cols());
        for (number, first, out) in by_group(group, columns, out) {
            let (scale, zero_point) = scaling::<P>(weight, row, number);
            decode_group::<S, P>(simd, codes, first, scale, zero_point, out);
        }
    }
}

/// Decodes elements of one group from column `first` on; `codes` are those of the row.
#[inline(always)]
fn decode_group<S: Simd, P: FastPacking>(
    simd: S,
    codes: &[u8],
    mut first: usize,
    scale: f32,
    zero_point: i8,
    mut out: &mut [f32],
) {
    // The first whole byte.
    while P::row_bytes(first) != (first * P::BITS as usize) / 8 {
        let Some(value) = out.split_off_first_mut() else { return };
        *value = decoded(P::unpack(codes, first), scale, zero_point);
        first += 1;
    }
    let values = P::values(simd, scale, P::ZERO + f32::from(zero_point));
    let codes = &codes[P::row_bytes(first)..][..P::row_bytes(out.len())];
    let whole = out.len() / (2 * S::LANES);
    let (out, out_rest) = out.split_at_mut(whole * 2 * S::LANES);
    for (integers, out) in P::pairs::<S>(codes).iter().zip(S::chunks_mut(out).0.as_chunks_mut::<2>().0) {
        store_pair(simd, P::restore(simd, P::load(simd, values, integers)), out);
    }
    if !out_rest.is_empty() {
        let rest = P::padded::<S>(&codes[whole * P::row_bytes(2 * S::LANES)..]);
        let mut decoded = [S::array(0.0); 2];
        store_pair(simd, P::restore(simd, P::load(simd, values, &rest)), &mut decoded);
        let (first, second) = out_rest.split_at_mut(out_rest.len().min(S::LANES));
        first.copy_from_slice(&decoded[0].as_ref()[..first.len()]);
        second.copy_from_slice(&decoded[1].as_ref()[..second.len()]);
    }
}

/// Asks whether groups of so many elements are whole pairs of vectors.
struct DividesGroup(usize);

impl Kernel for DividesGroup {
    type Output = bool;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> bool {
        self.0.is_multiple_of(2 * S::LANES)
    }
}

/// Some rows of a weight whose groups are whole pairs of vectors, or whole rows.
struct Rows<'a, P> {
    /// Codes, `[count, P::row_bytes(inner)]`.
    codes: &'a [u8],
    /// `[count, groups]` of `scale_dtype`.
    scales: &'a [u8],
    /// `[count, P::row_bytes(groups)]`, or nothing where formats are symmetric.
    zero_points: Option<&'a [u8]>,
    scale_dtype: ScaleDtype,
    inner: usize,
    group: usize,
    groups: usize,
    count: usize,
    packing: PhantomData<P>,
}

impl<'a, P: FastPacking> Rows<'a, P> {
    fn new(weight: &Matrix<'a>, rows: Range<usize>) -> Rows<'a, P> {
        let (inner, parameters) = (weight.cols(), weight.format().parameters());
        let (group, groups) = (parameters.granularity.group(inner), parameters.granularity.groups(inner));
        let part = |plane: usize, bytes: usize| &weight.plane(plane)[rows.start * bytes..rows.end * bytes];
        Rows {
            codes: part(0, P::row_bytes(inner)),
            scales: part(1, groups * parameters.scales.bytes()),
            zero_points: (!parameters.symmetric).then(|| part(2, P::row_bytes(groups))),
            scale_dtype: parameters.scales,
            inner,
            group,
            groups,
            count: rows.len(),
            packing: PhantomData,
        }
    }

    /// Scales and zero points of a block of groups of a row from `first` on, a multiple of [`BLOCK`]. What follows the last
    /// group is of no use.
    #[inline(always)]
    fn scalings<S: Simd>(&self, simd: S, row: usize, first: usize) -> Scalings {
        let mut scalings = Scalings { scales: [0.0; BLOCK], zero_points: [P::ZERO; BLOCK] };
        let count = BLOCK.min(self.groups - first);
        let bytes = self.scale_dtype.bytes();
        let stored = &plane_row(self.scales, row, self.groups * bytes)[first * bytes..];
        // The same block of the next row; its first two lines.
        simd.prefetch(&stored[0], self.groups * bytes);
        simd.prefetch(&stored[0], self.groups * bytes + 64);
        match self.scale_dtype {
            ScaleDtype::Bf16 => load_scales::<S, dense::Bf16>(simd, stored, &mut scalings.scales),
            ScaleDtype::F16 => load_scales::<S, dense::F16>(simd, stored, &mut scalings.scales),
            ScaleDtype::F32 => load_scales::<S, dense::F32>(simd, stored, &mut scalings.scales),
        }
        for i in count - count % S::LANES..count {
            scalings.scales[i] = self.scale_dtype.read(stored, i);
        }
        if let Some(stored) = self.zero_points {
            let stored = &plane_row(stored, row, P::row_bytes(self.groups))[P::row_bytes(first)..];
            let values = P::values(simd, 1.0, 0.0);
            let (out, _) = S::chunks_mut(&mut scalings.zero_points).0.as_chunks_mut::<2>();
            for (integers, out) in P::pairs::<S>(stored).iter().zip(out) {
                store_pair(simd, P::restore(simd, P::load(simd, values, integers)), out);
            }
            for i in count - count % (2 * S::LANES)..count {
                scalings.zero_points[i] = P::ZERO + f32::from(P::unpack(stored, i));
            }
        }
        scalings
    }
}

/// Scales and stored zero points of a block of groups.
#[derive(Clone, Copy)]
struct Scalings {
    scales: [f32; BLOCK],
    zero_points: [f32; BLOCK],
}

/// The first scales of `stored`, as far as they are whole vectors.
#[inline(always)]
fn load_scales<S: Simd, E: PlaneElement>(simd: S, stored: &[u8], scales: &mut [f32; BLOCK]) {
    for (stored, out) in S::chunks(E::elements(stored)).0.iter().zip(S::chunks_mut(scales).0) {
        simd.store(E::load(simd, stored), out);
    }
}

impl<P: FastPacking> WeightRows for Rows<'_, P> {
    fn count(&self) -> usize {
        self.count
    }

    /// Lane `l` sums elements `l` of both vectors of each pair, as they are arranged, in order; the lanes are added at the
    /// end. Only rows of one group end in a part of a pair.
    #[inline(always)]
    fn dots<S: Simd, const R: usize, const W: usize>(
        &self,
        simd: S,
        x: [&[f32]; R],
        rows: [usize; W],
    ) -> [[f32; W]; R] {
        let pair = 2 * S::LANES;
        let codes = rows.map(|row| plane_row(self.codes, row, P::row_bytes(self.inner)));
        let pairs = codes.map(P::pairs::<S>);
        let x_pairs = x.map(|row| S::chunks(row).0.as_chunks::<2>().0);
        let mut sums = [[simd.splat(0.0); W]; R];
        let mut values = [P::values(simd, 0.0, 0.0); W];
        let pairs_per_group = self.group / pair;
        for block in (0..self.groups).step_by(BLOCK) {
            let mut scalings = [Scalings { scales: [0.0; BLOCK], zero_points: [0.0; BLOCK] }; W];
            for w in 0..W {
                scalings[w] = self.scalings(simd, rows[w], block);
            }
            for number in 0..BLOCK.min(self.groups - block) {
                for w in 0..W {
                    values[w] = P::values(simd, scalings[w].scales[number], scalings[w].zero_points[number]);
                }
                let first = (block + number) * pairs_per_group;
                for i in first..first + pairs_per_group {
                    let mut arranged = [[simd.splat(0.0); 2]; R];
                    for r in 0..R {
                        arranged[r] = P::arrange(simd, load_pair(simd, &x_pairs[r][i]));
                    }
                    for w in 0..W {
                        simd.prefetch(&pairs[w][i], AHEAD);
                        let weight = P::load(simd, values[w], &pairs[w][i]);
                        for r in 0..R {
                            sums[r][w] = simd.mul_add(arranged[r][0], weight[0], sums[r][w]);
                            sums[r][w] = simd.mul_add(arranged[r][1], weight[1], sums[r][w]);
                        }
                    }
                }
            }
        }
        let whole = self.inner / pair;
        if whole * pair < self.inner {
            for w in 0..W {
                let rest = P::padded::<S>(&codes[w][whole * P::row_bytes(pair)..]);
                let weight = P::load(simd, values[w], &rest);
                for r in 0..R {
                    let x = P::arrange(simd, load_pair(simd, &padded_pair::<S, _>(&x[r][whole * pair..])));
                    sums[r][w] = simd.mul_add(x[0], weight[0], sums[r][w]);
                    sums[r][w] = simd.mul_add(x[1], weight[1], sums[r][w]);
                }
            }
        }
        let mut products = [[0.0; W]; R];
        for r in 0..R {
            for w in 0..W {
                products[r][w] = simd.sum(sums[r][w]);
            }
        }
        products
    }
}

/// Loads both vectors of a pair.
#[inline(always)]
fn load_pair<S: Simd>(simd: S, [first, second]: &[S::Array<f32>; 2]) -> [S::F32; 2] {
    [simd.load(first), simd.load(second)]
}

/// Inverse of [`load_pair`].
#[inline(always)]
fn store_pair<S: Simd>(simd: S, pair: [S::F32; 2], [first, second]: &mut [S::Array<f32>; 2]) {
    simd.store(pair[0], first);
    simd.store(pair[1], second);
}

/// Fewer elements than those of a pair, followed by zeros.
#[inline(always)]
fn padded_pair<S: Simd, T: Copy + Default>(values: &[T]) -> [S::Array<T>; 2] {
    let (first, second) = values.split_at(values.len().min(S::LANES));
    [padded::<S, _>(first), padded::<S, _>(second)]
}
