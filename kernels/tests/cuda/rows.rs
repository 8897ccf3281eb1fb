//! Whole rows: what steps put together, and rows and rotations that are wider than the suite has them.

use half::bf16;
use lathe_kernels::check::Random;
use lathe_kernels::cuda::ops::{DeviceRotation, NormParameters, Outputs, RowStep};
use lathe_kernels::cuda::{Element, Gpu, Memory, Slice};
use lathe_kernels::ops::{self, Norm};
use lathe_kernels::rotations::Rotation;

/// Elements on a device.
struct Held<T>(Memory, usize, std::marker::PhantomData<T>);

impl<T: Element> Held<T> {
    fn new(gpu: &Gpu, values: &[T]) -> Held<T> {
        Held(gpu.upload("a test", values).unwrap(), values.len(), std::marker::PhantomData)
    }

    fn slice(&self) -> Slice<T> {
        self.0.slice().range(0..self.1)
    }

    fn values(&self, gpu: &Gpu) -> Vec<T> {
        gpu.to_vec(self.slice()).unwrap()
    }
}

/// Every element within `share` of the largest of its row.
fn assert_close(got: &[f32], expected: &[f32], width: usize, share: f32, case: &str) {
    assert_eq!(got.len(), expected.len());
    for (row, (got, expected)) in got.chunks(width).zip(expected.chunks(width)).enumerate() {
        let allowed = share * expected.iter().fold(0.0, |largest: f32, x| largest.max(x.abs()));
        for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
            assert!((got - expected).abs() <= allowed, "{case}, row {row}, element {i}: {got} for {expected}");
        }
    }
}

/// Sum, norm, rotation and every output of a step against the ops one by one.
fn step(gpu: &Gpu, rows: usize, width: usize, group: usize, block: Option<usize>, inverse: bool) {
    let case = format!("[{rows}, {width}], groups of {group}, blocks of {block:?}, inverse: {inverse}");
    let mut random = Random::new((rows * width + group) as u64);
    let (x, add) = (random.values(rows * width), random.values(rows * width));
    let (gain, shift) = (random.values(group), random.values(group));
    let rotation = block.map(|block| Rotation::random_hadamard(block, 5).unwrap());
    let norm = Norm {
        width: group,
        eps: 1e-6,
        centre: true,
        along: None,
        gain: Some(&gain),
        gain_offset: 1.0,
        shift: Some(&shift),
    };

    let mut sum = vec![0.0; x.len()];
    ops::binary(ops::Binary::Add, &x, &add, &mut sum);
    let mut expected = vec![0.0; x.len()];
    ops::norm(&sum, &norm, &mut expected);
    if let Some(rotation) = &rotation {
        ops::rotate(&expected.clone(), rotation, inverse, &mut expected);
    }

    let [x, add, gain, shift] = [&x, &add, &gain, &shift].map(|values| Held::new(gpu, values));
    let (real, half) = (Held::new(gpu, &vec![f32::NAN; rows * width]), Held::new(gpu, &vec![0_u16; rows * width]));
    let (codes, scales) = (Held::new(gpu, &vec![99_i8; rows * width]), Held::new(gpu, &vec![f32::NAN; rows]));
    let rotation = rotation.map(|rotation| DeviceRotation::upload(gpu, &rotation).unwrap());
    assert!(rotation.as_ref().is_none_or(|rotation| gpu.rotates_rows(rotation, width)));
    gpu.row_step(&RowStep {
        x: x.slice(),
        add: add.slice(),
        sum: x.slice(),
        width,
        norm: Some(NormParameters {
            width: group,
            eps: 1e-6,
            centre: true,
            along: Slice::NONE,
            gain: gain.slice(),
            gain_offset: 1.0,
            shift: shift.slice(),
        }),
        rotation: rotation.as_ref().map(|rotation| (rotation, inverse)),
        out: Outputs { real: real.slice(), bf16: half.slice(), int8: codes.slice(), scales: scales.slice() },
    })
    .unwrap();
    assert_eq!(x.values(gpu), sum, "{case}: the sum");
    let real = real.values(gpu);
    assert_close(&real, &expected, width, 1e-5, &case);
    let rounded: Vec<_> = real.iter().map(|&x| bf16::from_f32(x).to_bits()).collect();
    assert_eq!(half.values(gpu), rounded, "{case}: bf16");
    let (mut expected_codes, mut expected_scales) = (vec![0; rows * width], vec![0.0; rows]);
    ops::quantize_rows(&real, width, &mut expected_codes, &mut expected_scales);
    assert_eq!(codes.values(gpu), expected_codes, "{case}: codes");
    assert_eq!(scales.values(gpu), expected_scales, "{case}: scales");
}

#[test]
fn steps_are_the_ops_one_after_the_other() {
    let Some(gpu) = super::gpu() else { return };
    for (rows, width, group, block, inverse) in [
        (3, 1, 1, None, false),
        (5, 33, 11, None, false),
        (2, 128, 128, Some(128), false),
        (300, 96, 48, Some(12), true),
        (3, 512, 64, Some(256), true),
        (2, 1024, 1024, Some(1024), false),
        (2, 2048, 128, Some(128), false),
        (300, 1536, 1536, Some(1536), true),
        (2, 5120, 40, Some(5120), true),
        (1, 14336, 14336, Some(14336), false),
        (1, 18944, 4736, Some(18944), true),
        // A base for which a warp has too few threads.
        (2, 284, 284, Some(284), false),
    ] {
        step(&gpu, rows, width, group, block, inverse);
    }
}

#[test]
fn rows_that_do_not_fit_into_shared_memory_are_normalized_and_rounded() {
    let Some(gpu) = super::gpu() else { return };
    step(&gpu, 2, 60_000, 60_000, None, false);
    step(&gpu, 1, 60_001, 60_001, None, false);
    step(&gpu, 1, 65_536, 8192, None, false);
}

#[test]
fn hadamard_matrices_of_every_base_and_width_are_there() {
    let Some(gpu) = super::gpu() else { return };
    // In shared memory at once; a base behind; Sylvester in two parts; bases in two parts; the widest.
    for (width, seed) in
        [(4096, 1), (8192, 2), (11008, 3), (28672, 4), (65_536, 5), (57_344, 6), (144 * 512, 7), (1 << 20, 8)]
    {
        let rotation = Rotation::random_hadamard(width, seed).unwrap();
        let device = DeviceRotation::upload(&gpu, &rotation).unwrap();
        let x = Random::new(seed).values(width);
        let (from, out) = (Held::new(&gpu, &x), Held::new(&gpu, &vec![f32::NAN; width]));
        for inverse in [false, true] {
            gpu.rotate(from.slice(), &device, inverse, out.slice()).unwrap();
            let mut expected = vec![0.0; width];
            ops::rotate(&x, &rotation, inverse, &mut expected);
            assert_close(&out.values(&gpu), &expected, width, 1e-5, &format!("{rotation:?}, inverse: {inverse}"));
        }
    }
}

#[test]
fn narrow_blocks_go_side_by_side() {
    let Some(gpu) = super::gpu() else { return };
    let rotation = Rotation::random_hadamard(12, 1).unwrap();
    let device = DeviceRotation::upload(&gpu, &rotation).unwrap();
    for blocks in [1, 9, 10, 11, 25] {
        let x = Random::new(9).values(12 * blocks);
        let (from, out) = (Held::new(&gpu, &x), Held::new(&gpu, &vec![f32::NAN; 12 * blocks]));
        gpu.rotate(from.slice(), &device, true, out.slice()).unwrap();
        let mut expected = vec![0.0; x.len()];
        ops::rotate(&x, &rotation, true, &mut expected);
        assert_close(&out.values(&gpu), &expected, 12, 1e-5, &format!("{blocks} blocks"));
    }
}
