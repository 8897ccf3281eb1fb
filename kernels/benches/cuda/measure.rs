//! How a kernel is timed, and what is said of it.

use std::any::Any;
use std::fs::File;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use lathe_kernels::cuda::{CudaError, Gpu, Graph};
use serde_json::json;

/// Replays of a graph; their median counts.
const REPLAYS: usize = 7;
/// Fewest launches of a graph.
const LAUNCHES: usize = 20;
/// Most of them.
const MOST_LAUNCHES: usize = 4000;
/// Most copies of what launches read.
const MOST_COPIES: usize = 256;

/// Sizes of the model whose kernels are measured.
pub(crate) struct Sizes {
    pub(crate) hidden: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) ffn: usize,
    pub(crate) vocabulary: usize,
    /// Elements in a group of 4-bit weights.
    pub(crate) group: usize,
    /// Tokens at once: a step of one sequence, of some, of many, a prompt.
    pub(crate) rows: [usize; 4],
    /// Positions of decoding.
    pub(crate) contexts: [usize; 2],
    /// Widths of rotations.
    pub(crate) widths: &'static [usize],
    /// Rows and columns of the product whose rate is taken for the highest.
    pub(crate) largest: usize,
    /// Bytes that reads and copies of the ceilings go through.
    pub(crate) stream: usize,
    /// Bytes that launches go through before they come to the same again.
    pub(crate) cold: usize,
    /// Seconds that a graph takes at least.
    pub(crate) seconds: f64,
}

const FULL: Sizes = Sizes {
    hidden: 4096,
    heads: 32,
    kv_heads: 8,
    head_dim: 128,
    ffn: 14336,
    vocabulary: 128_256,
    group: 128,
    rows: [1, 16, 128, 2048],
    contexts: [1024, 8192],
    widths: &[128, 256, 512, 1024, 2048, 4096, 8192, 11008, 14336, 16384, 32768],
    largest: 8192,
    stream: 1 << 30,
    cold: 480 << 20,
    seconds: 3e-3,
};

const TINY: Sizes = Sizes {
    hidden: 128,
    heads: 4,
    kv_heads: 2,
    head_dim: 32,
    ffn: 256,
    vocabulary: 512,
    group: 32,
    rows: [1, 3, 17, 33],
    contexts: [16, 64],
    widths: &[32, 384],
    largest: 64,
    stream: 1 << 16,
    cold: 1 << 10,
    seconds: 0.0,
};

/// Bytes and operations for each second.
#[derive(Default)]
pub(crate) struct Ceilings {
    pub(crate) read: f64,
    pub(crate) copy: f64,
    pub(crate) bf16: f64,
    pub(crate) int8: f64,
}

/// What bounds the time of a launch.
#[derive(Clone, Copy)]
pub(crate) enum Floor {
    /// Bytes that are read, most of them once: weights, caches.
    Read(f64),
    /// Bytes that are read and written.
    Copy(f64),
    /// Seconds that were measured.
    Seconds(f64),
    /// Bytes of weights and activations; operations in bf16.
    Bf16(f64, f64),
    /// The same in int8.
    Int8(f64, f64),
}

/// What is timed.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) kernel: &'static str,
    pub(crate) format: String,
    pub(crate) shape: String,
    pub(crate) rows: usize,
    pub(crate) floor: Floor,
}

/// A run of the benchmark.
pub(crate) struct Bench<'a> {
    pub(crate) gpu: &'a Gpu,
    pub(crate) sizes: &'static Sizes,
    pub(crate) ceilings: Ceilings,
    json: Option<File>,
    end: Instant,
    filters: Vec<String>,
    left_out: usize,
    failed: usize,
}

impl<'a> Bench<'a> {
    pub(crate) fn new(
        gpu: &'a Gpu,
        is_tiny: bool,
        json: Option<File>,
        time: Duration,
        filters: Vec<String>,
    ) -> Bench<'a> {
        // Panics become results.
        std::panic::set_hook(Box::new(|_| {}));
        let sizes = if is_tiny { &TINY } else { &FULL };
        let end = Instant::now() + time;
        Bench { gpu, sizes, ceilings: Ceilings::default(), json, end, filters, left_out: 0, failed: 0 }
    }

    /// Whether results of a kernel are asked for, as far as its name tells, and there is time left.
    pub(crate) fn wants(&mut self, kernel: &str) -> bool {
        let wanted = self.filters.is_empty() || self.filters.iter().any(|filter| filter.starts_with(kernel));
        let in_time = Instant::now() < self.end;
        self.left_out += usize::from(wanted && !in_time);
        wanted && in_time
    }

    /// Copies of so many bytes that launches go through. What is so small that its copies would be more than these lies in the
    /// cache in models, too.
    pub(crate) fn copies(&self, bytes: usize) -> usize {
        self.sizes.cold.div_ceil(bytes.max(1)).min(MOST_COPIES)
    }

    /// Prepares what the measurements of a kernel share. A failure is a result.
    pub(crate) fn prepare<T>(&mut self, kernel: &str, prepare: impl FnOnce(&Gpu) -> Result<T, CudaError>) -> Option<T> {
        match caught(|| prepare(self.gpu)) {
            Ok(prepared) => Some(prepared),
            Err(reason) => {
                self.fail(kernel, &reason);
                None
            }
        }
    }

    /// Times a launch, which is given the number of its copy, and says what was found. Gives the seconds.
    pub(crate) fn case(
        &mut self,
        case: &Case,
        copies: usize,
        launch: impl Fn(&Gpu, usize) -> Result<(), CudaError>,
    ) -> Option<f64> {
        let Case { kernel, format, shape, rows, floor } = case;
        let name = format!("{kernel}/{format}/{shape}/{rows}");
        if !self.filters.is_empty() && !self.filters.iter().any(|filter| name.contains(filter)) {
            return None;
        }
        if Instant::now() >= self.end {
            self.left_out += 1;
            return None;
        }
        let seconds = match caught(|| seconds(self.gpu, self.sizes.seconds, copies, launch)) {
            Ok(seconds) => seconds,
            Err(reason) => {
                self.fail(&name, &reason);
                return None;
            }
        };
        let (bound, floor) = self.floor(*floor);
        let (us, floor_us) = (seconds * 1e6, floor * 1e6);
        println!("{name:<58} {us:>10.2} µs   floor {floor_us:>10.2} µs ({bound:<5})  {:>6.2}×", us / floor_us);
        self.write(&json!({
            "kernel": kernel, "format": format, "shape": shape, "rows": rows,
            "us": us, "bound": bound, "floor_us": floor_us, "ratio": us / floor_us,
        }));
        Some(seconds)
    }

    /// Seconds that a launch takes at least, and what decides.
    fn floor(&self, floor: Floor) -> (&'static str, f64) {
        let Ceilings { read, copy, bf16, int8 } = self.ceilings;
        let larger = |bytes: f64, (name, operations): (&'static str, f64)| {
            if operations > bytes / read { (name, operations) } else { ("read", bytes / read) }
        };
        match floor {
            Floor::Read(bytes) => ("read", bytes / read),
            Floor::Copy(bytes) => ("copy", bytes / copy),
            Floor::Seconds(seconds) => ("copy", seconds),
            Floor::Bf16(bytes, operations) => larger(bytes, ("bf16", operations / bf16)),
            Floor::Int8(bytes, operations) => larger(bytes, ("int8", operations / int8)),
        }
    }

    /// Adds a line to the JSON.
    pub(crate) fn write(&mut self, line: &serde_json::Value) {
        if let Some(file) = &mut self.json
            && let Err(error) = writeln!(file, "{line}")
        {
            println!("the JSON cannot be written: {error}");
            self.failed += 1;
            self.json = None;
        }
    }

    fn fail(&mut self, name: &str, reason: &str) {
        println!("{name:<58} failed: {reason}");
        self.failed += 1;
        self.write(&json!({ "kernel": name, "error": reason }));
    }

    /// What the run comes to: failure where anything has failed.
    pub(crate) fn finish(self) -> ExitCode {
        if self.left_out > 0 {
            println!("{} kernels or shapes left out for lack of time", self.left_out);
        }
        if self.failed > 0 {
            println!("{} failed", self.failed);
        }
        if self.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Runs something that may also panic.
fn caught<T>(work: impl FnOnce() -> Result<T, CudaError>) -> Result<T, String> {
    let text = |panic: Box<dyn Any + Send>| match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
        (Some(text), _) => text.clone(),
        (_, Some(text)) => (*text).to_owned(),
        _ => "a panic without words".to_owned(),
    };
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(error.to_string()),
        Err(panic) => Err(text(panic)),
    }
}

/// Seconds of a launch.
pub(crate) fn seconds(
    gpu: &Gpu,
    least: f64,
    copies: usize,
    launch: impl Fn(&Gpu, usize) -> Result<(), CudaError>,
) -> Result<f64, CudaError> {
    gpu.enter()?;
    let copies = copies.max(1);
    (0..copies).try_for_each(|copy| launch(gpu, copy))?;
    gpu.synchronize()?;
    let graph = |launches: usize| gpu.record(|| (0..launches).try_for_each(|index| launch(gpu, index % copies)));
    let mut launches = LAUNCHES.max(copies);
    let mut recorded = graph(launches)?;
    let estimate = replay(gpu, &recorded)?.min(replay(gpu, &recorded)?);
    if estimate < least {
        launches = ((launches as f64 * least / estimate.max(1e-9)) as usize).clamp(launches, MOST_LAUNCHES);
        recorded = graph(launches)?;
        replay(gpu, &recorded)?;
    }
    let mut times = (0..REPLAYS).map(|_| replay(gpu, &recorded)).collect::<Result<Vec<_>, _>>()?;
    times.sort_by(f64::total_cmp);
    Ok(times[REPLAYS / 2] / launches as f64)
}

fn replay(gpu: &Gpu, graph: &Graph) -> Result<f64, CudaError> {
    let start = gpu.event()?;
    gpu.replay(graph)?;
    gpu.event()?.seconds_since(&start)
}
