//! What a worker holds: a piece of a stored tensor on its way to its packed form.

use std::cmp::Ordering;
use std::ops::Range;

use lathe_kernels::formats::{Format, Granularity, Matrix};

use crate::ir::View;
use crate::model::{StoredDtype, Tensor};
use crate::plan::Encoding;
use crate::source::{ReadTensorError, TensorReader};

/// The smallest piece of a weight that can be packed alone: an element where each stands for itself, else a row.
pub(super) struct Unit {
    /// Its elements.
    pub(super) elements: u64,
    /// Whether it is a row.
    is_row: bool,
    /// Whether its bytes change.
    pub(super) encodes: bool,
    /// Bytes that a worker holds for it.
    pub(super) bytes: u64,
    /// Of those, as stored.
    read: u64,
    /// Of those, what lies between elements that are read.
    scratch: u64,
    /// Elements of a row of the view.
    row: u64,
}

impl Unit {
    /// Of a weight with rows of `columns`.
    pub(super) fn new(format: Format, columns: u64, stored: StoredDtype, view: &View) -> Unit {
        let encodes = format != stored.format();
        let is_row = encodes && format.parameters().granularity != Granularity::None;
        let elements = if is_row { columns } else { 1 };
        let read = elements.saturating_mul(stored.bytes());
        let scratch = if view.range().is_none() { read } else { 0 };
        // Values as they were and as they have become, and what is written.
        let encoded = if encodes { elements.saturating_mul(8).saturating_add(packed(format, elements)) } else { 0 };
        let row = view.axes.last().map_or(1, |axis| axis.size);
        Unit {
            elements,
            is_row,
            encodes,
            bytes: read.saturating_add(scratch).saturating_add(encoded),
            read,
            scratch,
            row,
        }
    }

    /// How many there are in a weight.
    pub(super) fn count(&self, rows: u64, columns: u64) -> u64 {
        if self.is_row { rows } else { rows * columns }
    }
}

/// Bytes of a packed row. No weight has rows that memory cannot hold: the program is verified before anything is packed.
pub(super) fn packed(format: Format, columns: u64) -> u64 {
    match usize::try_from(columns) {
        Ok(columns) if format.constraints(1, columns).is_ok() => format.bytes(1, columns) as u64,
        _ => u64::MAX,
    }
}

/// How far packed values are from those that were stored.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Noise {
    /// Sum of the squares of the stored values.
    pub signal: f64,
    /// Sum of the squares of the differences.
    pub noise: f64,
}

impl Noise {
    /// Whether every value is as it was.
    pub(super) fn is_none(&self) -> bool {
        self.noise == 0.0
    }

    /// Signal to noise, 10 log₁₀, rounded to two decimals.
    pub fn decibels(&self) -> f64 {
        (1000.0 * libm::log10(self.signal / self.noise)).round() / 100.0
    }

    /// Adds values as stored and as packed; as many of both.
    pub(crate) fn add(&mut self, stored: &[f32], packed: &[f32]) {
        /// Partial sums: added one by one, each would wait for the one before.
        const LANES: usize = 8;
        let (mut signal, mut noise) = ([0.0; LANES], [0.0; LANES]);
        for (stored, packed) in stored.chunks(LANES).zip(packed.chunks(LANES)) {
            for (lane, (&stored, &packed)) in stored.iter().zip(packed).enumerate() {
                let (stored, packed) = (f64::from(stored), f64::from(packed));
                signal[lane] += stored * stored;
                noise[lane] += (stored - packed) * (stored - packed);
            }
        }
        self.signal += signal.iter().sum::<f64>();
        self.noise += noise.iter().sum::<f64>();
    }
}

/// The packed form of some values.
#[derive(Default)]
pub(super) struct Packing {
    /// A buffer for each plane.
    planes: Vec<Vec<u8>>,
    /// What the packed form stands for.
    again: Vec<f32>,
}

impl Packing {
    /// Allocates for so many rows and columns.
    pub(super) fn with_capacity(format: Format, rows: usize, columns: usize) -> Packing {
        let planes = format.planes(rows, columns);
        let planes = planes.iter().map(|plane| Vec::with_capacity(plane.bytes().unwrap_or(0))).collect();
        Packing { planes, again: Vec::with_capacity(rows * columns) }
    }

    /// Packs `values`, rows of `columns` elements, and adds what they lose to `noise`.
    ///
    /// # Errors
    /// The first element that is too large for the format, and its value.
    pub(super) fn encode(
        &mut self,
        encoding: Encoding,
        values: &[f32],
        columns: usize,
        noise: &mut Noise,
    ) -> Result<(), (usize, f32)> {
        let limit = encoding.format.limit();
        // Not `>`, which NaN would pass.
        let too_large = |value: &f32| value.abs().partial_cmp(&limit).is_none_or(Ordering::is_gt);
        if let Some(element) = values.iter().position(too_large) {
            return Err((element, values[element]));
        }
        let rows = values.len() / columns.max(1);
        for (bytes, plane) in self.planes.iter_mut().zip(encoding.format.planes(rows, columns)) {
            bytes.resize(plane.bytes().unwrap_or(0), 0);
        }
        let mut planes: Vec<&mut [u8]> = self.planes.iter_mut().map(Vec::as_mut_slice).collect();
        encoding.format.encode(encoding.fit, values, columns, &mut planes);
        let planes: Vec<&[u8]> = self.planes.iter().map(Vec::as_slice).collect();
        let matrix = Matrix::new(encoding.format, rows, columns, &planes);
        let matrix = matrix.expect("invariant: planes are as long as the format says");
        self.again.resize(values.len(), 0.0);
        if columns > 0 {
            for (row, again) in self.again.chunks_exact_mut(columns).enumerate() {
                matrix.decode_row(row, again);
            }
        }
        noise.add(values, &self.again);
        Ok(())
    }

    /// The planes.
    pub(super) fn planes(&self) -> impl Iterator<Item = &[u8]> {
        self.planes.iter().map(Vec::as_slice)
    }

    /// Bytes that are held.
    #[cfg(test)]
    pub(super) fn held(&self) -> u64 {
        (self.planes.iter().map(Vec::capacity).sum::<usize>() + 4 * self.again.capacity()) as u64
    }
}

/// The memory of a worker for a weight whose values stay as they are.
#[derive(Default)]
pub(super) struct Tiles {
    /// As stored.
    read: Vec<u8>,
    /// What lies between stored elements that are read.
    scratch: Vec<u8>,
    /// Decoded, where the format changes.
    values: Vec<f32>,
    /// As packed, where the format changes.
    packing: Packing,
}

impl Tiles {
    /// Allocates for a weight within `tile` bytes. Returns how many units to pack at a time.
    pub(super) fn make_room(tile: u64, unit: &Unit, format: Format) -> (Tiles, u64) {
        let most = tile / unit.bytes.max(1);
        let units = if unit.is_row {
            most.max(1)
        } else if unit.scratch > 0 && unit.row <= most {
            // Whole rows, where they fit: a part of a row of a transposed tensor is read element by element.
            most - most % unit.row
        } else {
            most - most % 8
        };
        let mut tiles = Tiles::default();
        tiles.read.reserve_exact((units * unit.read) as usize);
        tiles.scratch.reserve_exact((units * unit.scratch) as usize);
        if unit.encodes {
            let (rows, columns) = shape(unit, units as usize);
            tiles.values.reserve_exact(rows * columns);
            tiles.packing = Packing::with_capacity(format, rows, columns);
        }
        (tiles, units)
    }

    /// Reads elements of a view.
    pub(super) fn read(
        &mut self,
        reader: &TensorReader,
        source: (&Tensor, &View),
        stored: StoredDtype,
        elements: Range<u64>,
    ) -> Result<(), ReadTensorError> {
        let room = self.scratch.capacity() as u64;
        reader.read_view(source, stored.bytes(), elements, (&mut self.scratch, room), &mut self.read)
    }

    /// What was read.
    pub(super) fn stored(&self) -> &[u8] {
        &self.read
    }

    /// Packs what was read, `units` of it, and adds what it loses to `noise`. Every stored value is one of f32, so values
    /// are rounded once.
    ///
    /// # Errors
    /// As [`Packing::encode`].
    pub(super) fn encode(
        &mut self,
        encoding: Encoding,
        unit: &Unit,
        units: usize,
        stored: StoredDtype,
        noise: &mut Noise,
    ) -> Result<(), (usize, f32)> {
        let (rows, columns) = shape(unit, units);
        let elements = rows * columns;
        self.values.resize(elements, 0.0);
        let matrix = Matrix::new(stored.format(), 1, elements, &[&self.read]);
        matrix.expect("invariant: a tile holds whole elements").decode_row(0, &mut self.values);
        self.packing.encode(encoding, &self.values, columns, noise)
    }

    /// The planes of the packed form.
    pub(super) fn packed(&self) -> impl Iterator<Item = &[u8]> {
        self.packing.planes()
    }
}

/// Rows and columns of some units: elements that stand for themselves are one row.
fn shape(unit: &Unit, units: usize) -> (usize, usize) {
    if unit.is_row { (units, unit.elements as usize) } else { (1, units) }
}

/// The first element whose exponent is all ones, and its value.
pub(super) fn first_not_finite(dtype: StoredDtype, bytes: &[u8]) -> Option<(usize, f32)> {
    /// The question without an early exit, which compiles to vector instructions; the place only when the answer is yes.
    fn find<const N: usize>(bytes: &[u8], bad: impl Fn([u8; N]) -> bool) -> Option<usize> {
        let (elements, _) = bytes.as_chunks::<N>();
        let any = |elements: &[[u8; N]]| elements.iter().fold(false, |any, &element| any | bad(element));
        let block = elements.chunks(4096).position(any)?;
        let within = elements[block * 4096..].iter().position(|&element| bad(element))?;
        Some(block * 4096 + within)
    }
    let half = |mask: u16| move |element: [u8; 2]| u16::from_le_bytes(element) & mask == mask;
    match dtype {
        StoredDtype::F32 => {
            let at = find(bytes, |element: [u8; 4]| u32::from_le_bytes(element) & 0x7f80_0000 == 0x7f80_0000)?;
            Some((at, f32::from_le_bytes(bytes[at * 4..at * 4 + 4].try_into().ok()?)))
        }
        StoredDtype::F16 => {
            let at = find(bytes, half(0x7c00))?;
            let bits = u16::from_le_bytes(bytes[at * 2..at * 2 + 2].try_into().ok()?);
            // The mantissa tells NaN from infinity, wherever its bits are.
            let value = if bits & 0x03ff == 0 { f32::INFINITY } else { f32::NAN };
            Some((at, if bits >> 15 == 1 { -value } else { value }))
        }
        StoredDtype::Bf16 => {
            let at = find(bytes, half(0x7f80))?;
            let bits = u16::from_le_bytes(bytes[at * 2..at * 2 + 2].try_into().ok()?);
            Some((at, f32::from_bits(u32::from(bits) << 16)))
        }
    }
}

#[cfg(test)]
mod tests {
    use lathe_kernels::formats::{Fit, Parameters};

    use super::*;
    use crate::ir::{Axis, TensorId};

    #[test]
    fn non_finite_values_are_found_where_they_are() {
        let f32s = [1.0f32, -0.0, f32::MAX, f32::NEG_INFINITY];
        let bytes: Vec<u8> = f32s.iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(first_not_finite(StoredDtype::F32, &bytes), Some((3, f32::NEG_INFINITY)));
        assert_eq!(first_not_finite(StoredDtype::F32, &bytes[..12]), None);

        let mut bf16 = vec![0u8; 2 * 10_000];
        bf16[2 * 7_777..2 * 7_778].copy_from_slice(&0x7fc0u16.to_le_bytes());
        let (at, value) = first_not_finite(StoredDtype::Bf16, &bf16).unwrap();
        assert!(at == 7_777 && value.is_nan());

        let f16: Vec<u8> = [0x7bffu16, 0xfc00].iter().flat_map(|bits| bits.to_le_bytes()).collect();
        assert_eq!(first_not_finite(StoredDtype::F16, &f16), Some((1, f32::NEG_INFINITY)));
    }

    /// Formats that a tile is packed in, one of each granularity.
    fn targets() -> Vec<Format> {
        let group = Parameters { granularity: Granularity::Group(50), ..Parameters::NONE };
        let channel = Parameters { granularity: Granularity::Channel, symmetric: false, ..Parameters::NONE };
        let scaled =
            [("int4", group), ("int8", channel)].map(|(name, parameters)| Format::new(name, parameters).unwrap());
        [[Format::F32, Format::F16, Format::BF16].as_slice(), &scaled].concat()
    }

    #[test]
    fn whatever_the_formats_a_worker_holds_one_tile() {
        let dtypes = [StoredDtype::F32, StoredDtype::F16, StoredDtype::Bf16];
        for tile in [64 << 10, 3 * (64 << 10), 4 << 20] {
            let whole = View::contiguous(TensorId(0), 0, 1 << 20);
            let axes = [(1000, 1), (1000, 1000)].map(|(size, stride)| Axis { size, stride });
            for view in [whole, View::new(TensorId(0), 0, axes)] {
                for (stored, format) in dtypes.iter().flat_map(|stored| targets().into_iter().map(|to| (*stored, to))) {
                    let unit = Unit::new(format, 1000, stored, &view);
                    let (mut tiles, units) = Tiles::make_room(tile, &unit, format);
                    assert!(units > 0 && (unit.is_row || units.is_multiple_of(8)));
                    tiles.read.resize((units * unit.read) as usize, 0);
                    if unit.encodes {
                        let encoding = Encoding { format, fit: Fit::Mse };
                        tiles.encode(encoding, &unit, units as usize, stored, &mut Noise::default()).unwrap();
                    }
                    let read = tiles.read.capacity() + tiles.scratch.capacity();
                    let held = (read + 4 * tiles.values.capacity()) as u64 + tiles.packing.held();
                    assert!(held <= tile, "{stored:?} to {format}: {held} bytes of {tile}");
                }
            }
        }
    }
}
