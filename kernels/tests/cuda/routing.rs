//! Choices and what is made of them.

use lathe_kernels::check::Random;
use lathe_kernels::cuda::Slice;
use lathe_kernels::ops;

/// Groups and their width: around warps, blocks, and what a block has in shared memory at once.
const GROUPS: [(usize, usize); 9] =
    [(0, 3), (1, 1), (5, 7), (3, 8), (2, 64), (40, 128), (3, 1024), (2, 1025), (1, 5000)];

#[test]
fn the_largest_are_chosen_as_by_the_reference() {
    let Some(gpu) = super::gpu() else { return };
    let mut random = Random::new(31);
    for (groups, width) in GROUPS {
        // Few values, so that many are equal.
        let special = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, f32::MAX, 1.0e-45, -1.0e-45];
        let mut value = |_| match random.bits() % 16 {
            which @ 0..8 => special[which as usize],
            which => which as f32 - 12.0,
        };
        let x: Vec<f32> = (0..groups * width).map(&mut value).collect();
        let device = gpu.upload("x", &x).unwrap();
        for k in [0, 1, width.min(8), width] {
            let out = gpu.upload("out", &vec![u32::MAX; groups * k]).unwrap();
            let out = out.slice::<u32>().range(0..groups * k);
            gpu.top_k(device.slice::<f32>().range(0..x.len()), width, k, out).unwrap();
            let mut expected = vec![0; groups * k];
            ops::top_k(&x, width, k, &mut expected);
            assert_eq!(gpu.to_vec(out).unwrap(), expected, "the {k} largest of [{groups}, {width}]");
        }
    }
}

#[test]
fn chosen_elements_are_gathered_and_none_beyond_the_row() {
    let Some(gpu) = super::gpu() else { return };
    let mut random = Random::new(32);
    for (groups, width) in GROUPS {
        let k = width.min(5);
        let x = random.values(groups * width);
        let choice: Vec<_> = (0..groups * k).map(|_| (random.bits() % width as u64) as u32).collect();
        let (device, chosen) = (gpu.upload("x", &x).unwrap(), gpu.upload("choice", &choice).unwrap());
        let out = gpu.upload("out", &vec![f32::NAN; groups * k]).unwrap();
        let [from, out] =
            [(device, x.len()), (out, choice.len())].map(|(memory, len)| (memory.slice().range(0..len), memory));
        gpu.gather(from.0, width, chosen.slice::<u32>().range(0..choice.len()), k, out.0).unwrap();
        let mut expected = vec![f32::NAN; groups * k];
        ops::gather(&x, width, &choice, k, &mut expected);
        assert_eq!(gpu.to_vec(out.0).unwrap(), expected, "[{groups}, {width}]");
    }
    let (x, choice) =
        (gpu.upload("x", &[1.0_f32, 2.0, 3.0]).unwrap(), gpu.upload("choice", &[2_u32, 3, u32::MAX]).unwrap());
    let out = gpu.upload("out", &[0.0_f32; 3]).unwrap();
    gpu.gather(x.slice(), 3, choice.slice(), 3, out.slice()).unwrap();
    let out = gpu.to_vec(out.slice::<f32>()).unwrap();
    assert!(out[0] == 3.0 && out[1].is_nan() && out[2].is_nan(), "{out:?}");
}

#[test]
fn shares_are_of_the_sum() {
    let Some(gpu) = super::gpu() else { return };
    let mut random = Random::new(33);
    for (groups, width) in GROUPS {
        let x: Vec<_> = random.values(groups * width).iter().map(|x| x + 0.5).collect();
        let device = gpu.upload("x", &x).unwrap();
        let x_there: Slice<f32> = device.slice::<f32>().range(0..x.len());
        gpu.normalize_sum(x_there, width, x_there).unwrap();
        let mut expected = vec![f32::NAN; x.len()];
        ops::normalize_sum(&x, width, &mut expected);
        for (got, expected) in gpu.to_vec(x_there).unwrap().into_iter().zip(expected) {
            assert!(
                (got - expected).abs() <= expected.abs() * f32::EPSILON,
                "[{groups}, {width}]: {got} for {expected}"
            );
        }
    }
}

#[test]
fn a_vocabulary_has_a_softmax() {
    let Some(gpu) = super::gpu() else { return };
    let x = Random::new(34).values(100_003);
    let device = gpu.upload("x", &x).unwrap();
    gpu.softmax(device.slice(), x.len(), device.slice()).unwrap();
    let mut expected = vec![f32::NAN; x.len()];
    ops::softmax(&x, x.len(), &mut expected);
    for (got, expected) in gpu.to_vec(device.slice::<f32>()).unwrap().into_iter().zip(expected) {
        assert!((got - expected).abs() <= expected / 32768.0, "{got} for {expected}");
    }
}
