//! Throughput of the kernels as a share of what the machine can do, measured in turns.
//!
//! ```text
//! cargo bench -p lathe-kernels --features check -- [--repeats N] [--threads N,M] [--csv FILE] [FILTER]
//! ```
//!
//! Names are `op/format/shape/version`; FILTER keeps those that contain it. For each benchmark and repeat, the limit (bytes
//! read with four streams per thread, bytes copied, or f32 multiply-adds) and the kernel run one after the other; the table gives
//! medians. Weights are cut from 1 GiB, so that each call reads other ones.
#![allow(clippy::print_stdout, reason = "the result of a benchmark")]

mod limits;

use lathe_kernels::check::{Forced, Implementation, Random};
use lathe_kernels::cpu::Isa;
use lathe_kernels::formats::{Fit, Format, Matrix};
use lathe_kernels::ops::{AttentionShape, Binary, Norm, Unary};
use lathe_kernels::rotations::Rotation;
use std::error::Error;
use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Instant;

/// Bytes of weights that calls go through in turn.
const ARENA: usize = 1 << 30;

/// Shortest time of a measurement in seconds.
const SAMPLE: f64 = 0.05;

/// What bounds a kernel.
#[derive(Clone, Copy, PartialEq)]
enum Bound {
    /// Bytes read.
    Bytes,
    /// Bytes read and written where so many f32 are copied again and again.
    Copies(usize),
    /// f32 operations with the vectors of the instruction set.
    Operations(Isa),
}

/// One kernel on one shape.
struct Bench<'a> {
    name: String,
    bound: Bound,
    /// Bytes or operations of a call.
    amount: f64,
    call: Box<dyn FnMut() + Send + 'a>,
}

struct Options {
    repeats: usize,
    threads: Vec<usize>,
    csv: Option<String>,
    filter: String,
}

fn options() -> Result<Option<Options>, Box<dyn Error>> {
    let mut options = Options { repeats: 9, threads: vec![1, num_threads()], csv: None, filter: String::new() };
    options.threads.dedup();
    let mut is_bench = false;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or("an option needs a value");
        match argument.as_str() {
            "--bench" => is_bench = true,
            "--repeats" => options.repeats = value()?.parse()?,
            "--threads" => options.threads = value()?.split(',').map(str::parse).collect::<Result<_, _>>()?,
            "--csv" => options.csv = Some(value()?),
            _ => options.filter = argument,
        }
    }
    Ok(is_bench.then_some(options))
}

fn num_threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn main() -> Result<(), Box<dyn Error>> {
    // `cargo test` runs benchmarks too, without `--bench`; then it is enough that this compiles.
    let Some(options) = options()? else { return Ok(()) };
    let arena = arena();
    let mut csv = String::from("name,threads,repeat,per_second,limit_per_second,share\n");
    println!("{:<68} {:>7} {:>12} {:>12} {:>7} {:>15}", "name", "threads", "throughput", "limit", "share", "quartiles");
    for &threads in &options.threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        for mut bench in benches(&arena) {
            if !bench.name.contains(&options.filter) {
                continue;
            }
            let mut samples = Vec::new();
            for repeat in 0..options.repeats {
                let limit = pool.install(|| limit(bench.bound, &arena));
                let achieved = bench.amount * pool.install(|| calls_per_second(&mut bench.call));
                samples.push((achieved, limit, achieved / limit));
                writeln!(
                    csv,
                    "\"{}\",{threads},{repeat},{achieved:.4e},{limit:.4e},{:.4}",
                    bench.name,
                    achieved / limit
                )?;
            }
            let quantile = |q: usize, key: fn(&(f64, f64, f64)) -> f64| {
                let mut values: Vec<_> = samples.iter().map(key).collect();
                values.sort_by(f64::total_cmp);
                values[(values.len() - 1) * q / 4]
            };
            let unit = if matches!(bench.bound, Bound::Operations(_)) { "GFLOP/s" } else { "GB/s" };
            println!(
                "{:<68} {threads:>7} {:>7.1} {unit:<7} {:>7.1} {:>11.0}% {:>8.0}–{:.0}%",
                bench.name,
                quantile(2, |s| s.0) / 1e9,
                quantile(2, |s| s.1) / 1e9,
                quantile(2, |s| s.2) * 100.0,
                quantile(1, |s| s.2) * 100.0,
                quantile(3, |s| s.2) * 100.0,
            );
        }
    }
    if let Some(path) = options.csv {
        std::fs::write(path, csv)?;
    }
    Ok(())
}

/// Bytes that read as numbers of magnitude 2⁻⁷ to 2 in f32, f16 and bf16. Subnormal ones would cost extra.
fn arena() -> Vec<u8> {
    let mut random = Random::new(1);
    let mut word = || (random.bits() & 0xbfff_bfff_bfff_bfff) | 0x3c00_3c00_3c00_3c00;
    let block: Vec<u8> = (0..1 << 16).flat_map(|_| word().to_le_bytes()).collect();
    block.iter().copied().cycle().take(ARENA).collect()
}

fn limit(bound: Bound, arena: &[u8]) -> f64 {
    let start = Instant::now();
    let amount = match bound {
        Bound::Bytes => {
            black_box(limits::read(arena));
            arena.len() as f64
        }
        Bound::Copies(len) => return limits::copy(len, SAMPLE),
        Bound::Operations(isa) => limits::multiply_add(isa, 4_000_000),
    };
    amount / start.elapsed().as_secs_f64()
}

fn calls_per_second(call: &mut (dyn FnMut() + Send)) -> f64 {
    let (start, mut calls) = (Instant::now(), 0.0);
    loop {
        call();
        calls += 1.0;
        let elapsed = start.elapsed().as_secs_f64();
        if elapsed > SAMPLE {
            return calls / elapsed;
        }
    }
}

/// Weight formats, as in specs.
const FORMATS: [&str; 7] = [
    "bf16",
    "f16",
    "f32",
    "int8(per: channel)",
    "int4(group: 32)",
    "int4(group: 32, symmetric: false)",
    "int4(per: channel)",
];

fn benches(arena: &[u8]) -> Vec<Bench<'_>> {
    let mut benches = Vec::new();
    for format in FORMATS {
        let fits = if format.starts_with("int") { &[Fit::Absmax, Fit::Mse][..] } else { &[Fit::Absmax] };
        benches.extend(fits.iter().map(|&fit| encode(format, fit)));
    }
    benches.extend([4096, 11008, 14336].map(rotate_in_f64));
    for (isa, ops) in Isa::ALL.into_iter().filter_map(|isa| Forced::on(isa).map(|ops| (isa, ops))) {
        for (outputs, inner) in [(2048, 2048), (5632, 2048), (2048, 5632), (4864, 896), (896, 4864), (256, 2048)] {
            for format in FORMATS {
                for rows in [1, 4, 8, 16, 32, 64, 512] {
                    if isa != Isa::Scalar && (rows <= 4 || !["f16", "f32"].contains(&format)) {
                        benches.push(matmul(arena, ops, isa, format, [rows, outputs, inner]));
                    }
                }
            }
        }
        benches.extend(FORMATS.map(|format| embed(arena, ops, isa, format)));
        for rows in [1, 64] {
            benches.extend((isa != Isa::Scalar).then(|| experts(arena, ops, isa, rows)));
        }
        for (tokens, past) in [(1, 512), (1, 4096), (512, 0)] {
            benches.push(attention(ops, isa, tokens, past));
        }
        benches.extend(elementwise(ops, isa));
        for (rows, width, block) in
            [(1, 11008, 11008), (512, 4096, 4096), (512, 4096, 128), (512, 11008, 11008), (512, 14336, 14336)]
        {
            benches.push(rotate(ops, isa, &format!("{rows}x{width}by{block}"), rows * width, block));
        }
    }
    benches
}

fn matmul<'a>(
    arena: &'a [u8],
    ops: Forced,
    isa: Isa,
    format: &'static str,
    [rows, outputs, inner]: [usize; 3],
) -> Bench<'a> {
    let format: Format = format.parse().expect("a known format");
    let bytes = format.bytes(outputs, inner);
    let x = Random::new(2).values(rows * inner);
    let mut out = vec![0.0; rows * outputs];
    let mut weights = arena.chunks_exact(bytes).cycle();
    let call = move || {
        let weight = matrix(format, outputs, inner, weights.next().expect("an endless iterator"));
        ops.matmul(&x, &weight, None, &mut out);
        black_box(&out);
    };
    let few = rows <= 4;
    Bench {
        name: format!("matmul/{format}/{rows}x{outputs}x{inner}/{isa}"),
        bound: if few { Bound::Bytes } else { Bound::Operations(isa) },
        amount: if few { bytes as f64 } else { 2.0 * (rows * outputs * inner) as f64 },
        call: Box::new(call),
    }
}

/// The matrix whose planes `bytes` are, one after the other.
fn matrix(format: Format, rows: usize, cols: usize, mut bytes: &[u8]) -> Matrix<'_> {
    let planes = format.planes(rows, cols);
    let sizes = planes.iter().map(|plane| plane.bytes().expect("a small plane"));
    let planes: Vec<_> = sizes.map(|size| bytes.split_off(..size).expect("bytes of all planes")).collect();
    Matrix::new(format, rows, cols, &planes).expect("planes of the right sizes")
}

/// Lookup of 512 rows of a large table.
fn embed<'a>(arena: &'a [u8], ops: Forced, isa: Isa, format: &'static str) -> Bench<'a> {
    let format: Format = format.parse().expect("a known format");
    let (rows, cols, tokens) = (32_000, 2048, 512);
    let table = matrix(format, rows, cols, arena);
    let mut random = Random::new(6);
    let index: Vec<_> = (0..tokens).map(|_| (random.bits() % rows as u64) as u32).collect();
    let mut out = vec![0.0; tokens * cols];
    Bench {
        name: format!("embed/{format}/{tokens}of{rows}x{cols}/{isa}"),
        bound: Bound::Bytes,
        amount: (format.bytes(tokens, cols) + size_of_val(out.as_slice())) as f64,
        call: Box::new(move || ops.embed(&table, &index, 0, black_box(&mut out))),
    }
}

/// On one thread, whatever the pool; bytes are those of the f32 values.
fn encode<'a>(format: &'static str, fit: Fit) -> Bench<'a> {
    let format: Format = format.parse().expect("a known format");
    let (rows, cols) = (256, 2048);
    let mut random = Random::new(7);
    // Sums of four are bell-shaped.
    let values: Vec<f32> = (0..rows * cols).map(|_| random.values(4).iter().sum()).collect();
    let mut planes: Vec<_> = format.planes(rows, cols).iter().map(|plane| vec![0; plane.bytes().unwrap()]).collect();
    Bench {
        name: format!("encode/{format}/{fit:?}/{rows}x{cols}").to_lowercase(),
        bound: Bound::Bytes,
        amount: size_of_val(values.as_slice()) as f64,
        call: Box::new(move || {
            let mut bytes: Vec<_> = planes.iter_mut().map(Vec::as_mut_slice).collect();
            format.encode(fit, &values, cols, &mut bytes);
            black_box(&planes);
        }),
    }
}

/// 8 of 128 experts for each row, as even as can be.
fn experts(arena: &[u8], ops: Forced, isa: Isa, rows: usize) -> Bench<'_> {
    let (experts, k, outputs, inner) = (128, 8, 768, 2048);
    let bytes = outputs * inner * 2;
    let planes = arena.chunks_exact(bytes).take(experts);
    let weights: Vec<_> = planes
        .map(|plane| Matrix::new(Format::BF16, outputs, inner, &[plane]).expect("a plane of the right size"))
        .collect();
    let x = Random::new(5).values(rows * inner);
    let mut choice: Vec<_> = (0..rows * k).map(|pair| (pair % experts) as u32).collect();
    let mut out = vec![0.0; rows * k * outputs];
    let read = experts.min(rows * k) * bytes;
    let call = move || {
        // Other experts than before, so that their weights come from memory.
        for number in &mut choice {
            *number = (*number + k as u32) % experts as u32;
        }
        ops.expert_matmul(&x, &choice, k, &|number| (&weights[number], None), experts, &mut out);
        black_box(&out);
    };
    Bench {
        name: format!("experts/bf16/{rows}x{k}of{experts}x{outputs}x{inner}/{isa}"),
        bound: Bound::Bytes,
        amount: read as f64,
        call: Box::new(call),
    }
}

fn attention<'a>(ops: Forced, isa: Isa, tokens: usize, past: usize) -> Bench<'a> {
    let shape = AttentionShape { heads: 32, kv_heads: 4, head_dim: 64, scale: 0.125, window: None, softcap: None };
    let capacity = past + tokens;
    let mut random = Random::new(3);
    let q = random.values(tokens * 2048);
    let (keys, values) = (random.values(4 * capacity * 64), random.values(4 * capacity * 64));
    let mut out = vec![0.0; tokens * 2048];
    let visible: usize = (past + 1..=past + tokens).sum();
    Bench {
        name: format!("attention/f32/{tokens}+{past}/{isa}"),
        bound: Bound::Operations(isa),
        amount: 4.0 * 2048.0 * visible as f64,
        call: Box::new(move || {
            ops.attention(&shape, &q, &keys, &values, None, capacity, past, &mut out);
            black_box(&out);
        }),
    }
}

fn rotate<'a>(ops: Forced, isa: Isa, shape: &str, len: usize, block: usize) -> Bench<'a> {
    let rotation = Rotation::random_hadamard(block, 1).expect("a width with a Hadamard matrix");
    let (x, mut out) = (Random::new(8).values(len), vec![0.0; len]);
    Bench {
        name: format!("rotate/f32/{shape}/{isa}"),
        bound: Bound::Copies(len),
        amount: (8 * len) as f64,
        call: Box::new(move || ops.rotate(&x, &rotation, false, black_box(&mut out))),
    }
}

/// As weights are rotated, on one thread, whatever the pool.
fn rotate_in_f64<'a>(width: usize) -> Bench<'a> {
    let rotation = Rotation::random_hadamard(width, 1).expect("a width with a Hadamard matrix");
    let mut rows: Vec<_> = Random::new(8).values(64 * width).into_iter().map(f64::from).collect();
    Bench {
        name: format!("rotate/f64/64x{width}"),
        bound: Bound::Copies(2 * rows.len()),
        amount: (16 * rows.len()) as f64,
        call: Box::new(move || rotation.apply(black_box(&mut rows), false)),
    }
}

fn elementwise<'a>(ops: Forced, isa: Isa) -> [Bench<'a>; 4] {
    let (rows, width) = (512, 2048);
    let len = rows * width;
    let mut random = Random::new(4);
    let (a, b, gain) = (random.values(len), random.values(len), random.values(width));
    let bench = |op: &str, bytes: usize, call: Box<dyn FnMut() + Send>| Bench {
        name: format!("{op}/f32/{rows}x{width}/{isa}"),
        bound: Bound::Bytes,
        amount: (bytes * len) as f64,
        call,
    };
    let (x, mut out) = (a.clone(), vec![0.0; len]);
    let norm = move || {
        let norm =
            Norm { width, eps: 1e-6, centre: false, along: None, gain: Some(&gain), gain_offset: 0.0, shift: None };
        ops.norm(&x, &norm, black_box(&mut out));
    };
    let (x, y, mut out) = (a.clone(), b.clone(), vec![0.0; len]);
    let silu_mul = move || ops.gated(Unary::Silu, &x, &y, black_box(&mut out));
    let (x, mut out) = (a.clone(), vec![0.0; len]);
    let gelu = move || ops.unary(Unary::Gelu, &x, black_box(&mut out));
    let mut out = vec![0.0; len];
    let add = move || ops.binary(Binary::Add, &a, &b, black_box(&mut out));
    [
        bench("rms_norm", 8, Box::new(norm)),
        bench("silu_mul", 12, Box::new(silu_mul)),
        bench("gelu", 8, Box::new(gelu)),
        bench("add", 12, Box::new(add)),
    ]
}
