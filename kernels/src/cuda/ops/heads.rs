//! Launchers of `heads.cu`: what happens to the heads of queries, keys and values before attention.

use super::rotate::HadamardFactors;
use super::rows::{NormArguments, WARP_BASE, padded_floats};
use super::{DeviceCache, DeviceRotation, NormParameters};
use crate::cuda::{CudaError, Gpu, Grid, Kernel, Slice};
use crate::ops::Pairing;
use crate::rotations::{Form, Rotation};

/// Sines and cosines of a rotary embedding for the tokens of a pass, from [`Gpu::angles`].
#[derive(Debug, Clone, Copy)]
pub struct Angles {
    /// `[tokens, 2, pairs]`: cosines, then sines, times the amplitude.
    pub table: Slice<f32>,
    /// Pairs of a head that turn.
    pub pairs: usize,
    /// Which elements form a pair.
    pub pairing: Pairing,
}

/// One of queries, keys and values: each head is normalized, then turned, then rotated, then written.
#[derive(Debug, Clone, Copy)]
pub struct HeadPart<'a> {
    /// `[tokens, heads, head_dim]`
    pub x: Slice<f32>,
    /// Heads.
    pub heads: usize,
    /// Of groups of `head_dim` elements.
    pub norm: Option<NormParameters>,
    /// Rotary embedding.
    pub angles: Option<Angles>,
    /// Of blocks whose width divides `head_dim`, a Hadamard matrix, and whether to rotate back.
    pub rotation: Option<(&'a DeviceRotation, bool)>,
    /// Where it goes.
    pub to: HeadTarget<'a>,
}

/// Where heads go.
#[derive(Debug, Clone, Copy)]
pub enum HeadTarget<'a> {
    /// `[tokens, heads, head_dim]`; may be `x` itself.
    Buffer(Slice<f32>),
    /// To the keys of a cache, from the position of the first token on.
    Keys(&'a DeviceCache),
    /// To its values.
    Values(&'a DeviceCache),
}

/// `AnglesArgs`
#[repr(C)]
#[derive(Clone, Copy)]
struct AnglesArguments {
    frequencies: u64,
    position: u64,
    out: u64,
    tokens: u32,
    pairs: u32,
    amplitude: f32,
}

/// `HeadPart`
#[repr(C)]
#[derive(Clone, Copy)]
struct PartArguments {
    x: u64,
    out: u64,
    angles: u64,
    rotation: HadamardFactors,
    norm: NormArguments,
    heads: u32,
    pairs: u32,
    interleaved: u32,
    target: u32,
    capacity: u32,
}

/// `HeadsArgs`
#[repr(C)]
#[derive(Clone, Copy)]
struct HeadsArguments {
    parts: [PartArguments; MOST_PARTS],
    position: u64,
    tokens: u32,
    head_dim: u32,
    stride: u32,
}

static ANGLES: Kernel<AnglesArguments> = Kernel::new("heads", "rope_angles");
static HEADS: Kernel<HeadsArguments> = Kernel::new("heads", "prepare_heads");
static HEADS_BY_FOUR: Kernel<HeadsArguments> = Kernel::new("heads", "prepare_heads_by_four");
static HEADS_WITH_BASES: Kernel<HeadsArguments> = Kernel::new("heads", "prepare_heads_with_bases");
static HEADS_BY_FOUR_WITH_BASES: Kernel<HeadsArguments> = Kernel::new("heads", "prepare_heads_by_four_with_bases");

/// Parts of a launch.
const MOST_PARTS: usize = 3;

/// Elements of a head at most: four of them lie in the shared memory that every kernel may have.
pub const MAX_HEAD_ELEMENTS: usize = 2048;

/// Warps of a block, each with a head.
const WARPS: usize = 4;

/// Whether heads of a multiple of its width are rotated in [`Gpu::heads`]: by Hadamard matrices whose bases have orders up to 64.
pub fn rotates_heads(rotation: &Rotation) -> bool {
    let Form::Hadamard(hadamard) = rotation.form() else { return false };
    rotation.width() <= MAX_HEAD_ELEMENTS && hadamard.bases.iter().all(|base| base.order() <= WARP_BASE)
}

impl HeadTarget<'_> {
    /// Address, `HeadTarget` of the kernel, positions.
    fn arguments(&self, heads: usize, head_dim: usize, elements: usize) -> (u64, u32, u32) {
        let (slice, cache) = match *self {
            HeadTarget::Buffer(out) => {
                assert_eq!(out.len(), elements, "out is as long as x");
                return (out.address(), 0, 0);
            }
            HeadTarget::Keys(cache) => (cache.keys(), cache),
            HeadTarget::Values(cache) => (cache.values(), cache),
        };
        assert!(cache.kv_heads == heads && cache.head_dim == head_dim, "a cache for {heads} heads of {head_dim}");
        let capacity = u32::try_from(cache.capacity).expect("below 2³² positions");
        (slice.address(), if cache.bf16 { 2 } else { 1 }, capacity)
    }
}

impl PartArguments {
    fn of(part: &HeadPart<'_>, tokens: usize, head_dim: usize) -> PartArguments {
        let elements = tokens * part.heads * head_dim;
        assert_eq!(part.x.len(), elements, "x is {tokens} tokens of {} heads of {head_dim}", part.heads);
        if let Some(norm) = &part.norm {
            assert_eq!(norm.width, head_dim, "groups of a norm are heads");
            norm.assert_lengths();
        }
        if let Some(angles) = &part.angles {
            assert!(2 * angles.pairs <= head_dim, "{} pairs do not fit a head of {head_dim}", angles.pairs);
            assert_eq!(angles.table.len(), tokens * 2 * angles.pairs, "angles of {tokens} tokens");
        }
        let rotation = part.rotation.map_or_else(HadamardFactors::default, |(rotation, inverse)| {
            let factors = rotation.factors(inverse).filter(|factors| factors.largest_base() <= WARP_BASE);
            let factors = factors.unwrap_or_else(|| panic!("heads are rotated by {rotation:?}"));
            assert!(head_dim.is_multiple_of(factors.width()), "blocks of {} divide {head_dim}", factors.width());
            factors
        });
        let (out, target, capacity) = part.to.arguments(part.heads, head_dim, elements);
        let no_norm = NormParameters::none(head_dim);
        PartArguments {
            x: part.x.address(),
            out,
            angles: part.angles.map_or(0, |angles| angles.table.address()),
            rotation,
            norm: NormArguments::of(part.norm.as_ref().unwrap_or(&no_norm), part.norm.is_some()),
            heads: u32::try_from(part.heads).expect("below 2³² heads"),
            pairs: part.angles.map_or(0, |angles| angles.pairs as u32),
            interleaved: u32::from(part.angles.is_some_and(|angles| angles.pairing == Pairing::Interleaved)),
            target,
            capacity,
        }
    }

    /// Whether heads of a multiple of four elements are aligned to what is read and written at once.
    fn is_aligned(&self) -> bool {
        self.x.is_multiple_of(16) && self.out.is_multiple_of(if self.target == 2 { 8 } else { 16 })
    }
}

impl Gpu {
    /// Sines and cosines for the tokens of a pass: `frequencies` `[pairs]` are radians per position, `position` `[1]` is that
    /// of the first token, `out` is `[tokens, 2, pairs]`. Angles are rounded to f32 and their functions taken in f64, as
    /// [`crate::ops::rope`] does.
    pub fn angles(
        &self,
        frequencies: Slice<f32>,
        amplitude: f32,
        position: Slice<u32>,
        out: Slice<f32>,
    ) -> Result<(), CudaError> {
        let pairs = frequencies.len();
        assert!(out.len().is_multiple_of(2 * pairs), "{} angles are no whole tokens of {pairs} pairs", out.len());
        assert_eq!(position.len(), 1, "one position");
        if out.is_empty() {
            return Ok(());
        }
        let [tokens, pairs, blocks] = [out.len() / (2 * pairs), pairs, (out.len() / 2).div_ceil(128)]
            .map(|number| u32::try_from(number).expect("below 2³² tokens, and pairs of them"));
        let arguments = AnglesArguments {
            frequencies: frequencies.address(),
            position: position.address(),
            out: out.address(),
            tokens,
            pairs,
            amplitude,
        };
        self.launch(&ANGLES, Grid { overlaps: true, ..Grid::new(blocks, 128) }, &arguments)
    }

    /// Prepares up to three parts in one launch. `position` `[1]` is that of the first token; what would go past the end of a
    /// cache is not written.
    ///
    /// # Panics
    /// When lengths do not fit together, heads have more than 2048 elements, or a rotation is no Hadamard matrix whose bases
    /// have orders up to 64.
    pub fn heads(
        &self,
        parts: &[HeadPart<'_>],
        tokens: usize,
        head_dim: usize,
        position: Slice<u32>,
    ) -> Result<(), CudaError> {
        assert!(parts.len() <= MOST_PARTS, "{} parts of a launch for {MOST_PARTS}", parts.len());
        assert!(
            (1..=MAX_HEAD_ELEMENTS).contains(&head_dim),
            "heads of 1 to {MAX_HEAD_ELEMENTS} elements, not {head_dim}"
        );
        assert_eq!(position.len(), 1, "one position");
        let most_heads = parts.iter().map(|part| part.heads).max().unwrap_or(0);
        if tokens * most_heads == 0 {
            return Ok(());
        }
        // What is behind the last part is not looked at.
        let arguments: [_; MOST_PARTS] =
            std::array::from_fn(|i| PartArguments::of(&parts[i.min(parts.len() - 1)], tokens, head_dim));
        let has_bases = arguments.iter().any(|part| part.rotation.orders().next().is_some());
        let kernel = match (has_bases, head_dim.is_multiple_of(4) && arguments.iter().all(PartArguments::is_aligned)) {
            (false, false) => &HEADS,
            (false, true) => &HEADS_BY_FOUR,
            (true, false) => &HEADS_WITH_BASES,
            (true, true) => &HEADS_BY_FOUR_WITH_BASES,
        };
        // One head for each multiprocessor before there is a second one.
        let warps = if tokens * most_heads <= self.info().multiprocessors as usize { 1 } else { WARPS };
        let floats = padded_floats(head_dim);
        let [blocks, tokens] = [(tokens * most_heads).div_ceil(warps), tokens]
            .map(|number| u32::try_from(number).expect("below 2³² tokens, and heads of them"));
        let grid = Grid {
            blocks: [blocks, parts.len() as u32, 1],
            shared_bytes: (warps * floats * size_of::<f32>()) as u32,
            overlaps: true,
            ..Grid::new(0, 32 * warps as u32)
        };
        let arguments = HeadsArguments {
            parts: arguments,
            position: position.address(),
            tokens,
            head_dim: head_dim as u32,
            stride: floats as u32,
        };
        self.launch(kernel, grid, &arguments)
    }
}
