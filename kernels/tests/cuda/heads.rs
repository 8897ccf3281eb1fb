//! Heads before attention.

use half::bf16;
use lathe_kernels::check::Random;
use lathe_kernels::cuda::ops::{Angles, DeviceCache, DeviceRotation, HeadPart, HeadTarget, NormParameters};
use lathe_kernels::cuda::{Gpu, Memory, Slice};
use lathe_kernels::ops::{self, Norm, Pairing, RopeTable};
use lathe_kernels::rotations::Rotation;

const AMPLITUDE: f32 = 1.25;

fn angles(gpu: &Gpu, frequencies: &[f32], position: u32, tokens: usize) -> Memory {
    let (on_device, position) =
        (gpu.upload("frequencies", frequencies).unwrap(), gpu.upload("position", &[position]).unwrap());
    let out = gpu.upload("angles", &vec![f32::NAN; tokens * 2 * frequencies.len()]).unwrap();
    gpu.angles(on_device.slice(), AMPLITUDE, position.slice(), out.slice()).unwrap();
    out
}

#[test]
fn angles_are_those_of_the_reference() {
    let Some(gpu) = super::gpu() else { return };
    let frequencies: Vec<_> = (0..64).map(|i| 500_000_f32.powf(-i as f32 / 64.0)).collect();
    for position in [0, 1, 1000, 131_071, 16_777_217, u32::MAX - 9] {
        let table = angles(&gpu, &frequencies, position, 9);
        let got = gpu.to_vec(table.slice::<f32>()).unwrap();
        for (token, got) in got.chunks_exact(128).enumerate() {
            for (pair, &frequency) in frequencies.iter().enumerate() {
                let angle = f64::from((position + token as u32) as f32 * frequency);
                let expected = [angle.cos() as f32 * AMPLITUDE, angle.sin() as f32 * AMPLITUDE];
                for (got, expected) in [got[pair], got[64 + pair]].into_iter().zip(expected) {
                    assert!(
                        got.to_bits().abs_diff(expected.to_bits()) <= 1,
                        "position {position}, {angle}: {got} for {expected}"
                    );
                }
            }
        }
    }
}

struct Case {
    head_dim: usize,
    tokens: usize,
    pairs: usize,
    pairing: Pairing,
    norm: bool,
    block: Option<usize>,
    inverse: bool,
    bf16: bool,
    position: u32,
    capacity: usize,
}

/// The heads of a part after norm, rotary embedding and rotation.
fn expected(
    case: &Case,
    x: &[f32],
    gain: Option<&[f32]>,
    frequencies: Option<&[f32]>,
    rotation: Option<&Rotation>,
) -> Vec<f32> {
    let mut heads = x.to_vec();
    if let Some(gain) = gain {
        let norm = Norm {
            width: case.head_dim,
            eps: 1e-6,
            centre: false,
            along: None,
            gain: Some(gain),
            gain_offset: 0.0,
            shift: None,
        };
        ops::norm(&heads.clone(), &norm, &mut heads);
    }
    if let Some(inverse_frequencies) = frequencies {
        let table = RopeTable { inverse_frequencies, amplitude: AMPLITUDE, pairing: case.pairing };
        let positions: Vec<_> = (case.position..).take(case.tokens).collect();
        ops::rope(&heads.clone(), &positions, &table, case.head_dim, &mut heads);
    }
    if let Some(rotation) = rotation {
        ops::rotate(&heads.clone(), rotation, case.inverse, &mut heads);
    }
    heads
}

fn assert_close(got: impl Iterator<Item = f32>, expected: &[f32], allowed: f32, what: &str) {
    for (i, (got, expected)) in got.zip(expected).enumerate() {
        assert!(
            (got - expected).abs() <= allowed * expected.abs().max(1.0),
            "{what}, element {i}: {got} for {expected}"
        );
    }
}

/// Queries to a buffer, keys and values to a cache, with 4 and 2 heads.
fn run(gpu: &Gpu, case: &Case) {
    let what = format!("heads of {}, {} tokens, blocks of {:?}", case.head_dim, case.tokens, case.block);
    let mut random = Random::new(case.head_dim as u64);
    let [q, k, v] = [4, 2, 2].map(|heads| random.values(case.tokens * heads * case.head_dim));
    let gain = case.norm.then(|| random.values(case.head_dim));
    let frequencies: Vec<_> = (0..case.pairs).map(|i| 100_f32.powf(-(i as f32) / case.pairs as f32)).collect();
    let frequencies = (case.pairs > 0).then_some(frequencies.as_slice());
    let rotation = case.block.map(|block| Rotation::random_hadamard(block, 3).unwrap());

    let device = [&q, &k, &v].map(|values| gpu.upload("heads", values).unwrap());
    let gain_there = gain.as_ref().map(|gain| gpu.upload("gain", gain).unwrap());
    let table = frequencies.map(|frequencies| angles(gpu, frequencies, case.position, case.tokens));
    let rotation_there = rotation.as_ref().map(|rotation| DeviceRotation::upload(gpu, rotation).unwrap());
    let cache = DeviceCache::new(gpu, 2, case.head_dim, case.capacity, case.bf16).unwrap();
    for plane in [cache.keys(), cache.values()] {
        gpu.fill(plane, 0x7f).unwrap();
    }
    let part = |x: Slice<f32>, heads, prepared: bool, to| HeadPart {
        x,
        heads,
        norm: gain_there.as_ref().filter(|_| prepared).map(|gain| NormParameters {
            width: case.head_dim,
            eps: 1e-6,
            centre: false,
            along: Slice::NONE,
            gain: gain.slice(),
            gain_offset: 0.0,
            shift: Slice::NONE,
        }),
        angles: table.as_ref().filter(|_| prepared).map(|table| Angles {
            table: table.slice(),
            pairs: case.pairs,
            pairing: case.pairing,
        }),
        rotation: rotation_there.as_ref().filter(|_| prepared).map(|rotation| (rotation, case.inverse)),
        to,
    };
    let [q_there, k_there, v_there] = device.each_ref().map(Memory::slice::<f32>);
    let position = gpu.upload("position", &[case.position]).unwrap();
    let parts = [
        part(q_there, 4, true, HeadTarget::Buffer(q_there)),
        part(k_there, 2, true, HeadTarget::Keys(&cache)),
        part(v_there, 2, false, HeadTarget::Values(&cache)),
    ];
    gpu.heads(&parts, case.tokens, case.head_dim, position.slice()).unwrap();

    let prepared = |x| expected(case, x, gain.as_deref(), frequencies, rotation.as_ref());
    assert_close(gpu.to_vec(q_there).unwrap().into_iter(), &prepared(&q), 1e-5, &format!("queries, {what}"));
    for (plane, new, name) in [(cache.keys(), prepared(&k), "keys"), (cache.values(), v.clone(), "values")] {
        let read = |bytes: Vec<u8>| -> Vec<f32> {
            if case.bf16 {
                bytes.chunks_exact(2).map(|pair| bf16::from_le_bytes([pair[0], pair[1]]).to_f32()).collect()
            } else {
                bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect()
            }
        };
        let got = read(gpu.to_vec(plane).unwrap());
        let untouched = read(vec![0x7f; 4])[0];
        let past = case.position as usize;
        let mut wanted = vec![untouched; 2 * case.capacity * case.head_dim];
        let fitting = case.tokens.min(case.capacity.saturating_sub(past));
        for (head, wanted) in wanted.chunks_exact_mut(case.capacity * case.head_dim).enumerate() {
            for token in 0..fitting {
                let new = &new[(token * 2 + head) * case.head_dim..][..case.head_dim];
                wanted[(past + token) * case.head_dim..][..case.head_dim].copy_from_slice(new);
            }
        }
        let allowed = if case.bf16 { 1.0 / 256.0 } else { 1e-5 };
        assert_close(got.into_iter(), &wanted, allowed, &format!("{name}, {what}"));
    }
}

#[test]
fn heads_are_normalized_turned_rotated_and_kept() {
    let Some(gpu) = super::gpu() else { return };
    let plain = Case {
        head_dim: 128,
        tokens: 1,
        pairs: 64,
        pairing: Pairing::Half,
        norm: true,
        block: Some(128),
        inverse: false,
        bf16: true,
        position: 5,
        capacity: 16,
    };
    for case in [
        Case { ..plain },
        Case { tokens: 70, position: 0, capacity: 70, bf16: false, norm: false, ..plain },
        Case {
            head_dim: 64,
            pairs: 16,
            pairing: Pairing::Interleaved,
            tokens: 3,
            block: Some(32),
            inverse: true,
            ..plain
        },
        // More tokens than the cache has room for.
        Case { head_dim: 96, pairs: 48, tokens: 14, block: Some(12), ..plain },
        Case { head_dim: 7, pairs: 3, tokens: 2, block: None, bf16: false, ..plain },
        Case { head_dim: 80, pairs: 0, tokens: 2, block: Some(80), inverse: true, norm: false, ..plain },
        Case { head_dim: 256, pairs: 128, tokens: 40, capacity: 45, block: Some(256), ..plain },
        Case { head_dim: 6, pairs: 3, tokens: 2, block: Some(2), ..plain },
    ] {
        run(&gpu, &case);
    }
}

#[test]
#[should_panic(expected = "heads are rotated by")]
fn heads_are_rotated_by_hadamard_matrices_only() {
    let Some(gpu) = super::gpu() else { panic!("heads are rotated by nothing without a compiler") };
    let rotation = DeviceRotation::upload(&gpu, &Rotation::orthogonal(8, 1).unwrap()).unwrap();
    let (x, position) = (gpu.upload("x", &[0.0_f32; 8]).unwrap(), gpu.upload("position", &[0_u32]).unwrap());
    let to = HeadTarget::Buffer(x.slice());
    let part = HeadPart { x: x.slice(), heads: 1, norm: None, angles: None, rotation: Some((&rotation, false)), to };
    let _ = gpu.heads(&[part], 1, 8, position.slice());
}
