//! Packed matrices in the memory of a device.
//!
//! Rows are padded to whole tiles of [`TILE_ROWS`], columns to whole tiles too; what pads has the code 0, and rows that pad
//! have the scale 0. A column past the last may have a scale: it is to be multiplied by zero.
//!
//! ```text
//! f32, f16, bf16   row-major [rows, columns], columns padded to 32
//! int4, int3       tiles of 16 rows × 64 columns, 512 bytes; by row tile, then by column. Lane l = 4 g + c of a warp has bytes
//!                  16 l .. 16 l + 15, four words: columns c·8 .. c·8 + 7 of row g, then of row g + 8, then both 32 columns on.
//!                  A word has column 2 j in bits 4 j .. 4 j + 3, column 2 j + 1 in bits 4 j + 16 .. 4 j + 19: so the bits
//!                  (word >> 4 j) & 0x000f000f | 0x43004300 are a pair of bf16, 128 + code.
//!                  A code is unsigned, q + 8 for int4 and q + 4 for int3; so are zero points
//! int8             tiles of 16 rows × 32 columns, 512 bytes. Lane l has columns c·8 .. c·8 + 7 of row g, then of row g + 8.
//!                  A code is q in two's complement; so are zero points
//! scales           [row tile][group][16 rows], in their dtype
//! zero points      [row tile][group][16 rows], a byte each; asymmetric formats only
//! ```
//!
//! Each of the three begins at a multiple of 256 bytes.

use std::fmt;

use rayon::prelude::*;

use super::device::Gpu;
use super::error::CudaError;
use super::memory::{Memory, Slice};
use crate::formats::{Format, Int3, Int4, Int8, Matrix, Packing, ScaleDtype, plane_row, scaling};

/// Rows of a tile.
pub(super) const TILE_ROWS: usize = 16;

/// Neighbours in a row that a lane holds.
const OCTET: usize = 8;

/// What planes are aligned to, in bytes.
const ALIGNMENT: u64 = 256;

/// Bytes of a matrix that the host repacks at a time, where a tile of rows has no more.
const PIECE: usize = 4 << 20;

/// How the codes of a matrix lie. The numbers are those of `matrix.cuh`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Layout {
    /// Row-major f32.
    F32 = 0,
    /// Row-major f16.
    F16 = 1,
    /// Row-major bf16.
    Bf16 = 2,
    /// Tiles of nibbles: int4 and int3.
    Int4 = 3,
    /// Tiles of bytes.
    Int8 = 4,
}

impl Layout {
    /// That of a format.
    ///
    /// # Panics
    /// When the format is of a kind that has no layout: a kind was added to the table of formats only.
    pub fn of(format: Format) -> Layout {
        match format.name() {
            "f32" => Layout::F32,
            "f16" => Layout::F16,
            "bf16" => Layout::Bf16,
            "int4" | "int3" => Layout::Int4,
            "int8" => Layout::Int8,
            name => panic!("{name} has no layout on devices"),
        }
    }

    /// Columns that rows are padded to whole numbers of.
    fn tile_columns(self) -> usize {
        match self {
            Layout::F32 | Layout::F16 | Layout::Bf16 | Layout::Int8 => 32,
            Layout::Int4 => 64,
        }
    }

    /// Bits of a code.
    fn bits(self) -> usize {
        match self {
            Layout::F32 => 32,
            Layout::F16 | Layout::Bf16 => 16,
            Layout::Int4 => 4,
            Layout::Int8 => 8,
        }
    }
}

/// As kernels take a matrix: `struct Matrix` of `matrix.cuh`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct MatrixArgs {
    codes: u64,
    /// 0 where elements have none.
    scales: u64,
    /// 0 where formats have none.
    zero_points: u64,
    rows: u32,
    cols: u32,
    /// Columns with those that pad.
    padded_cols: u32,
    /// Columns that share a scale; at least 1.
    group: u32,
    /// Scales of a row.
    groups: u32,
    layout: u32,
    /// 0 f32, 1 f16, 2 bf16.
    scale_dtype: u32,
    /// The zero point where none are stored.
    zero_point: i32,
}

impl MatrixArgs {
    /// In place of a matrix that a kernel does not read.
    pub(super) const NONE: MatrixArgs = MatrixArgs {
        codes: 0,
        scales: 0,
        zero_points: 0,
        rows: 0,
        cols: 0,
        padded_cols: 0,
        group: 1,
        groups: 0,
        layout: 0,
        scale_dtype: 0,
        zero_point: 0,
    };

    /// Address of the codes.
    pub(super) fn codes(&self) -> u64 {
        self.codes
    }

    /// Addresses of codes, scales and zero points.
    pub(super) fn addresses(&self) -> [u64; 3] {
        [self.codes, self.scales, self.zero_points]
    }

    /// Columns that share a scale; at least 1.
    pub(super) fn group(&self) -> usize {
        self.group as usize
    }

    /// Scales of a row.
    pub(super) fn groups(&self) -> usize {
        self.groups as usize
    }
}

/// Where the parts of a matrix lie.
#[derive(Debug, Clone, Copy)]
struct Places {
    row_tiles: usize,
    padded_cols: usize,
    /// Bytes of the codes, scales and zero points of a row tile.
    tile_bytes: [u64; 3],
    /// First bytes.
    starts: [u64; 3],
    /// Of all; saturates.
    bytes: u64,
}

impl Places {
    fn of(format: Format, rows: usize, cols: usize) -> Places {
        let (layout, parameters) = (Layout::of(format), format.parameters());
        let row_tiles = rows.div_ceil(TILE_ROWS);
        let padded_cols = cols.div_ceil(layout.tile_columns()).saturating_mul(layout.tile_columns());
        let groups = parameters.granularity.groups(cols) as u64;
        let row_bytes = (padded_cols as u64).div_ceil(8).saturating_mul(layout.bits() as u64);
        let scale_bytes = groups.saturating_mul(parameters.scales.bytes() as u64);
        let zero_point_bytes = if parameters.symmetric { 0 } else { groups };
        let tile_bytes = [row_bytes, scale_bytes, zero_point_bytes].map(|bytes| bytes.saturating_mul(TILE_ROWS as u64));
        let (mut bytes, mut starts) = (0_u64, [0; 3]);
        for (start, tile_bytes) in starts.iter_mut().zip(tile_bytes) {
            *start = bytes;
            let end = bytes.saturating_add(tile_bytes.saturating_mul(row_tiles as u64));
            bytes = end.checked_next_multiple_of(ALIGNMENT).unwrap_or(u64::MAX);
        }
        Places { row_tiles, padded_cols, tile_bytes, starts, bytes }
    }
}

/// A packed `[rows, cols]` matrix on a device.
pub struct DeviceMatrix {
    format: Format,
    rows: usize,
    cols: usize,
    memory: Memory,
}

impl DeviceMatrix {
    /// Bytes of device memory that a matrix takes; saturates.
    pub fn bytes(format: Format, rows: usize, cols: usize) -> u64 {
        Places::of(format, rows, cols).bytes
    }

    /// Copies a matrix to a device, in its layout there; in pieces, so that the host holds a few MiB of it at most.
    ///
    /// # Errors
    /// When the device lacks the memory, or a side of the matrix does not fit the 32 bits that kernels count in.
    pub fn upload(gpu: &Gpu, matrix: &Matrix<'_>) -> Result<DeviceMatrix, CudaError> {
        let (format, rows, cols) = (matrix.format(), matrix.rows(), matrix.cols());
        let places = Places::of(format, rows, cols);
        // Kernels add up to a tile to indices.
        if rows.max(cols) > i32::MAX as usize - 1024 {
            let free = gpu.free_memory()?;
            return Err(CudaError::Memory { what: "a weight", needed: u64::MAX, free });
        }
        let memory = gpu.allocate("a weight", places.bytes)?;
        let plane = |index: usize| {
            let bytes = places.tile_bytes[index] * places.row_tiles as u64;
            memory.part::<u8>(places.starts[index] as usize, bytes as usize)
        };
        send(gpu, plane(0), places.tile_bytes[0] as usize, |tile, out| match format.name() {
            "int4" => nibbles(matrix, tile, out, Int4::row_bytes(cols), int4_octet),
            "int3" => nibbles(matrix, tile, out, Int3::row_bytes(cols), int3_octet),
            "int8" => bytes(matrix, tile, out),
            _ => rows_as_they_are(matrix, tile, out, places.padded_cols),
        })?;
        send(gpu, plane(1), places.tile_bytes[1] as usize, |tile, out| scales(matrix, tile, out))?;
        send(gpu, plane(2), places.tile_bytes[2] as usize, |tile, out| match format.name() {
            "int4" => zero_points::<Int4>(matrix, tile, out, 8),
            "int3" => zero_points::<Int3>(matrix, tile, out, 4),
            _ => zero_points::<Int8>(matrix, tile, out, 0),
        })?;
        Ok(DeviceMatrix { format, rows, cols, memory })
    }

    /// What it was made of.
    pub fn format(&self) -> Format {
        self.format
    }

    /// How its codes lie.
    pub fn layout(&self) -> Layout {
        Layout::of(self.format)
    }

    /// Output channels.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Elements in a row.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes of device memory.
    pub fn memory_bytes(&self) -> u64 {
        self.memory.bytes() as u64
    }

    /// Columns with those that pad.
    pub(super) fn padded_cols(&self) -> usize {
        Places::of(self.format, self.rows, self.cols).padded_cols
    }

    /// As kernels take it.
    pub(super) fn arguments(&self) -> MatrixArgs {
        let places = Places::of(self.format, self.rows, self.cols);
        let parameters = self.format.parameters();
        let groups = parameters.granularity.groups(self.cols);
        let base = self.memory.slice::<u8>().address();
        let plane = |index: usize| if places.tile_bytes[index] > 0 { base + places.starts[index] } else { 0 };
        MatrixArgs {
            codes: base,
            scales: plane(1),
            zero_points: plane(2),
            rows: self.rows as u32,
            cols: self.cols as u32,
            padded_cols: places.padded_cols as u32,
            group: parameters.granularity.group(self.cols).max(1) as u32,
            groups: groups as u32,
            layout: self.layout() as u32,
            scale_dtype: match parameters.scales {
                ScaleDtype::F32 => 0,
                ScaleDtype::F16 => 1,
                ScaleDtype::Bf16 => 2,
            },
            zero_point: match self.format.name() {
                "int4" => 8,
                "int3" => 4,
                _ => 0,
            },
        }
    }
}

impl fmt::Debug for DeviceMatrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}, {}]", self.format, self.rows, self.cols)
    }
}

/// Writes a plane: `fill` is called with the number of each row tile and its bytes, all 0.
fn send(
    gpu: &Gpu,
    plane: Slice<u8>,
    tile_bytes: usize,
    fill: impl Fn(usize, &mut [u8]) + Sync,
) -> Result<(), CudaError> {
    if tile_bytes == 0 {
        return Ok(());
    }
    let piece = (PIECE / tile_bytes).max(1) * tile_bytes;
    let mut buffer = vec![0; piece.min(plane.len())];
    let mut start = 0;
    while start < plane.len() {
        let buffer = &mut buffer[..piece.min(plane.len() - start)];
        buffer.par_chunks_exact_mut(tile_bytes).enumerate().for_each(|(i, out)| {
            out.fill(0);
            fill(start / tile_bytes + i, out);
        });
        gpu.write(plane.range(start..start + buffer.len()), buffer)?;
        start += buffer.len();
    }
    Ok(())
}

/// The rows of a tile that there are, with their numbers in it.
fn tile_rows(matrix: &Matrix<'_>, tile: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
    (tile * TILE_ROWS..matrix.rows().min((tile + 1) * TILE_ROWS)).enumerate()
}

fn rows_as_they_are(matrix: &Matrix<'_>, tile: usize, out: &mut [u8], padded_cols: usize) {
    let (cols, stride) = (matrix.cols(), out.len() / TILE_ROWS);
    if cols == 0 {
        return;
    }
    let bytes = cols * (stride / padded_cols);
    for (i, row) in tile_rows(matrix, tile) {
        out[i * stride..][..bytes].copy_from_slice(plane_row(matrix.plane(0), row, bytes));
    }
}

/// `octet` gives codes 8 i .. 8 i + 7 of a row, code k in bits 4 k .. 4 k + 3.
fn nibbles(matrix: &Matrix<'_>, tile: usize, out: &mut [u8], row_bytes: usize, octet: impl Fn(&[u8], usize) -> u32) {
    let (words, _) = out.as_chunks_mut::<4>();
    for (i, row) in tile_rows(matrix, tile) {
        let packed = plane_row(matrix.plane(0), row, row_bytes);
        for number in 0..matrix.cols().div_ceil(OCTET) {
            let (column_tile, block, c) = (number / 8, number / 4 % 2, number % 4);
            let lane = 4 * (i % 8) + c;
            words[128 * column_tile + 4 * lane + 2 * block + i / 8] = interleaved(octet(packed, number)).to_le_bytes();
        }
    }
}

/// Nibbles 0, 2, 4, 6, 1, 3, 5, 7 of a word.
fn interleaved(word: u32) -> u32 {
    let gathered = |nibbles: u32| {
        let pairs = (nibbles | nibbles >> 4) & 0x00ff_00ff;
        (pairs | pairs >> 8) & 0xffff
    };
    gathered(word & 0x0f0f_0f0f) | gathered(word >> 4 & 0x0f0f_0f0f) << 16
}

fn int4_octet(packed: &[u8], number: usize) -> u32 {
    little_endian(&packed[4 * number..packed.len().min(4 * number + 4)])
}

fn int3_octet(packed: &[u8], number: usize) -> u32 {
    let bits = little_endian(&packed[3 * number..packed.len().min(3 * number + 3)]);
    (0..8).map(|k| (bits >> (3 * k) & 7) << (4 * k)).sum()
}

/// At most four bytes; those that are missing are 0.
fn little_endian(bytes: &[u8]) -> u32 {
    let mut word = [0; 4];
    word[..bytes.len()].copy_from_slice(bytes);
    u32::from_le_bytes(word)
}

fn bytes(matrix: &Matrix<'_>, tile: usize, out: &mut [u8]) {
    for (i, row) in tile_rows(matrix, tile) {
        let codes = plane_row(matrix.plane(0), row, matrix.cols());
        for (number, codes) in codes.chunks(OCTET).enumerate() {
            let (column_tile, c) = (number / 4, number % 4);
            let lane = 4 * (i % 8) + c;
            out[512 * column_tile + 16 * lane + 8 * (i / 8)..][..codes.len()].copy_from_slice(codes);
        }
    }
}

fn scales(matrix: &Matrix<'_>, tile: usize, out: &mut [u8]) {
    let bytes = matrix.format().parameters().scales.bytes();
    let groups = out.len() / bytes / TILE_ROWS;
    for (i, row) in tile_rows(matrix, tile) {
        let scales = plane_row(matrix.plane(1), row, groups * bytes);
        for (group, scale) in scales.chunks_exact(bytes).enumerate() {
            out[(group * TILE_ROWS + i) * bytes..][..bytes].copy_from_slice(scale);
        }
    }
}

/// `offset`: what the zero point 0 is stored as.
fn zero_points<P: Packing>(matrix: &Matrix<'_>, tile: usize, out: &mut [u8], offset: u8) {
    for (i, row) in tile_rows(matrix, tile) {
        for (group, out) in out.chunks_exact_mut(TILE_ROWS).enumerate() {
            let (_, zero_point) = scaling::<P>(matrix, row, group);
            out[i] = (zero_point as u8).wrapping_add(offset);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::unusual_byte_groupings, reason = "a group of digits is a code")]
    fn columns_of_a_pair_are_16_bits_apart() {
        assert_eq!(interleaved(0x7654_3210), 0x7531_6420);
        assert_eq!(int4_octet(&[0x10, 0x32, 0x54, 0x76, 0x98], 0), 0x7654_3210);
        assert_eq!(int4_octet(&[0x10, 0x32, 0x54, 0x76, 0x98], 1), 0x98);
        // 0, 1, .. 7 in three bits each.
        assert_eq!(int3_octet(&[0b10_001_000, 0b1_100_011_0, 0b111_110_10], 0), 0x7654_3210);
        assert_eq!(int3_octet(&[0; 3], 1), 0);
    }

    #[test]
    fn sizes_are_of_whole_tiles() {
        let bytes = |format: &str, rows, cols| DeviceMatrix::bytes(format.parse().unwrap(), rows, cols);
        assert_eq!(bytes("f32", 17, 33), 32 * 64 * 4);
        assert_eq!(bytes("bf16", 1, 1), 16 * 32 * 2);
        assert_eq!(bytes("int4(group: 32)", 17, 96), 32 * 128 / 2 + 256);
        assert_eq!(bytes("int4(group: 32, symmetric: false, scales: f32)", 17, 96), 32 * 128 / 2 + 512 + 256);
        assert_eq!(bytes("int8(per: channel)", 16, 64), 16 * 64 + 256);
        assert_eq!(bytes("int3(per: channel)", 0, 9), 0);
        assert_eq!(bytes("f32", usize::MAX, 1), u64::MAX);
    }
}
