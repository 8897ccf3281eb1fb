//! What the device can do at most.

use std::error::Error;

use lathe_kernels::check::Random;
use lathe_kernels::cuda::ops::{Finish, Product, ProductInput, ProductPart};
use lathe_kernels::cuda::{CudaError, Gpu, Memory, Slice};
use serde_json::json;

use super::measure::{Bench, Ceilings, seconds};
use super::products::{Activations, device_matrix};

/// Measures the ceilings. Rates of products are the higher of what was measured and of what was given, in operations for
/// each second.
pub(crate) fn measure(bench: &mut Bench<'_>, bf16: f64, int8: f64) -> Result<(), Box<dyn Error>> {
    let (gpu, sizes) = (bench.gpu, bench.sizes);
    let buffers = [random_words(gpu, sizes.stream)?, random_words(gpu, sizes.stream)?];
    let words = gpu.allocate("a benchmark", 4 * gpu.read_stream_words() as u64)?;
    check(gpu, &buffers, &words)?;
    let read = seconds(gpu, sizes.seconds, 2, |gpu, copy| gpu.read_stream(buffers[copy].slice(), words.slice()))?;
    let copy = copy_seconds(gpu, sizes.seconds, &buffers[..1], &buffers[1..])?;
    bench.ceilings.read = sizes.stream as f64 / read;
    bench.ceilings.copy = 2.0 * sizes.stream as f64 / copy;
    drop((buffers, words));

    let own_bf16 = bench.prepare("ceiling of products in bf16", |gpu| product_rate(gpu, sizes.largest, false));
    let own_int8 = bench.prepare("ceiling of products in int8", |gpu| product_rate(gpu, sizes.largest, true));
    bench.ceilings.bf16 = own_bf16.unwrap_or(0.0).max(bf16);
    bench.ceilings.int8 = own_int8.unwrap_or(0.0).max(int8);
    let Ceilings { read, copy, bf16, int8 } = bench.ceilings;
    println!(
        "read {:.0} GB/s, copy {:.0} GB/s, bf16 {:.0} TFLOP/s, int8 {:.0} TOP/s\n",
        read / 1e9,
        copy / 1e9,
        bf16 / 1e12,
        int8 / 1e12
    );
    bench.write(&json!({
        "ceilings": { "read": read, "copy": copy, "bf16": bf16, "int8": int8 },
        "own": { "bf16": own_bf16, "int8": own_int8 },
    }));
    Ok(())
}

pub(crate) fn random_words(gpu: &Gpu, bytes: usize) -> Result<Memory, CudaError> {
    let block: Vec<u32> = {
        let mut random = Random::new(1);
        (0..(bytes / 4).min(1 << 20)).map(|_| random.bits() as u32).collect()
    };
    let memory = gpu.allocate("a benchmark", bytes as u64)?;
    let all = memory.slice::<u32>();
    for start in (0..all.len()).step_by(block.len()) {
        let len = block.len().min(all.len() - start);
        gpu.write(all.range(start..start + len), &block[..len])?;
    }
    Ok(memory)
}

/// Whether reading reads everything, and copying copies everything.
fn check(gpu: &Gpu, buffers: &[Memory; 2], words: &Memory) -> Result<(), Box<dyn Error>> {
    let all = |values: Vec<u32>| values.into_iter().fold(0, |all, value| all ^ value);
    gpu.enter()?;
    gpu.fill(buffers[1].slice::<u32>(), 0)?;
    gpu.copy_stream(buffers[0].slice(), buffers[1].slice())?;
    // Reading does not wait for the launch before it.
    gpu.synchronize()?;
    gpu.read_stream(buffers[1].slice(), words.slice())?;
    if all(gpu.to_vec(words.slice())?) != all(gpu.to_vec(buffers[0].slice())?) {
        return Err("reading or copying memory leaves out some of it".into());
    }
    Ok(())
}

/// Seconds of the fastest copy of each of `from` to its like in `to`.
pub(crate) fn copy_seconds(gpu: &Gpu, least: f64, from: &[Memory], to: &[Memory]) -> Result<f64, CudaError> {
    let slice = |memory: &Memory| memory.slice::<u32>();
    let by_kernel = seconds(gpu, least, from.len(), |gpu, i| gpu.copy_stream(slice(&from[i]), slice(&to[i])))?;
    let by_driver = seconds(gpu, least, from.len(), |gpu, i| gpu.copy(slice(&from[i]), slice(&to[i])))?;
    Ok(by_kernel.min(by_driver))
}

/// Operations for each second of a product of two square matrices.
fn product_rate(gpu: &Gpu, size: usize, int8: bool) -> Result<f64, CudaError> {
    let format = if int8 { "int8(per: channel)" } else { "bf16" };
    let weight = device_matrix(gpu, format, size, size)?;
    let x = Activations::new(gpu, size, size)?;
    let out = gpu.allocate("a benchmark", 4 * (size * size) as u64)?;
    let scratch = gpu.allocate("a benchmark", gpu.product_scratch(&weight, size) as u64)?;
    let parts = [ProductPart { weight: &weight, bias: Slice::NONE, out: out.slice() }];
    let x: ProductInput = if int8 { x.int8(size, size) } else { x.bf16(size, size) };
    let product = Product { x, rows: size, parts: &parts, finish: Finish::Store, scratch: scratch.slice() };
    let seconds = seconds(gpu, 0.0, 1, |gpu, _| gpu.product(&product))?;
    Ok(2.0 * (size as f64).powi(3) / seconds)
}
