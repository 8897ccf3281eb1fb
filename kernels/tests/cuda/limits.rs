//! Kernels of benchmarks: that they read and copy all that they say.

use lathe_kernels::check::Random;

#[test]
fn everything_is_read_and_copied() {
    let Some(gpu) = super::gpu() else { return };
    let mut random = Random::new(1);
    // Fewer vectors than threads, some more, several for each thread with some left over.
    let threads = gpu.read_stream_words();
    for vectors in [1, 777, threads + 5, 9 * threads + 3] {
        let values: Vec<u32> = (0..4 * vectors).map(|_| random.bits() as u32).collect();
        let from = gpu.upload("a test", &values).unwrap();
        let to = gpu.allocate("a test", 4 * values.len() as u64).unwrap();
        let words = gpu.allocate("a test", 4 * threads as u64).unwrap();
        gpu.copy_stream(from.slice(), to.slice()).unwrap();
        gpu.read_stream(from.slice(), words.slice()).unwrap();
        assert_eq!(gpu.to_vec::<u32>(to.slice()).unwrap(), values, "{vectors} vectors");
        let all = |values: Vec<u32>| values.into_iter().fold(0, |all, value| all ^ value);
        assert_eq!(all(gpu.to_vec(words.slice()).unwrap()), all(values), "{vectors} vectors");
    }
}
