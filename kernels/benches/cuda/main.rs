//! Times of the kernels on a CUDA device, and what it can do at most, on the shapes of a model of 8 billion weights.
//!
//! ```text
//! cargo bench -p lathe-kernels --features check,cuda --bench cuda -- [OPTION…] [FILTER…]
//!   --device N            the device [default: 0]
//!   --json FILE           append a line for each result
//!   --seconds N           begin nothing new after so long [default: 400]
//!   --bf16-tflops X       rate of products in bf16 that floors are taken from, where it is above the measured one
//!   --int8-tops X         the same, in int8
//!   --host FOLDER         run on the CPU, with the driver of `lathe_kernels::check::host_driver` built in FOLDER
//! ```
//!
//! With `LATHE_GPU_TINY` set, shapes are so small that a CPU can run them. A FILTER keeps the results whose
//! `kernel/format/shape/rows` contains it.
//!
//! A time is the median of seven replays of a recorded graph, of at least 20 launches and 3 ms, by events, divided by the
//! launches. They go through as many copies of what they read as exceed eight times the L2 cache. All data is random. The
//! floor is the larger of two times: of the bytes that must be moved, at the measured rate of reading or copying; of the
//! operations, at the measured rate of the largest product.
#![allow(clippy::print_stdout, reason = "the result of a benchmark")]

mod attention;
mod ceilings;
mod measure;
mod products;
mod rows;

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use lathe_kernels::check::host_driver::{HostDriver, load};
use lathe_kernels::cuda::Gpu;

use measure::Bench;

/// What is asked for.
struct Options {
    device: u32,
    json: Option<PathBuf>,
    seconds: u64,
    bf16_tflops: f64,
    int8_tops: f64,
    host: Option<PathBuf>,
    filters: Vec<String>,
}

fn options() -> Result<Option<Options>, Box<dyn Error>> {
    let mut options = Options {
        device: 0,
        json: None,
        seconds: 400,
        bf16_tflops: 0.0,
        int8_tops: 0.0,
        host: None,
        filters: Vec::new(),
    };
    let mut is_bench = false;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or("an option needs a value");
        match argument.as_str() {
            "--bench" => is_bench = true,
            "--device" => options.device = value()?.parse()?,
            "--json" => options.json = Some(value()?.into()),
            "--seconds" => options.seconds = value()?.parse()?,
            "--bf16-tflops" => options.bf16_tflops = value()?.parse()?,
            "--int8-tops" => options.int8_tops = value()?.parse()?,
            "--host" => options.host = Some(value()?.into()),
            _ if argument.starts_with("--") => return Err(format!("unknown option {argument}").into()),
            _ => options.filters.push(argument),
        }
    }
    Ok(is_bench.then_some(options))
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    // `cargo test` runs benchmarks too, without `--bench`; then it is enough that this compiles.
    let Some(options) = options()? else { return Ok(ExitCode::SUCCESS) };
    if let Some(folder) = &options.host {
        load(HostDriver::from_environment(), folder)?;
    }
    let gpu = Gpu::open(options.device, None)?;
    let json = options.json.as_deref().map(append).transpose()?;
    let is_tiny = std::env::var_os("LATHE_GPU_TINY").is_some();
    let mut bench = Bench::new(&gpu, is_tiny, json, Duration::from_secs(options.seconds), options.filters);
    println!("{:?}", gpu.info());
    ceilings::measure(&mut bench, options.bf16_tflops * 1e12, options.int8_tops * 1e12)?;
    products::measure(&mut bench);
    attention::measure(&mut bench);
    rows::measure(&mut bench);
    Ok(bench.finish())
}

fn append(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}
