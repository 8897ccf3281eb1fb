//! What computes whole rows: rotations, norms, lookups.

use lathe_kernels::check::Random;
use lathe_kernels::cuda::ops::{DeviceRotation, NormParameters, Outputs, RowStep};
use lathe_kernels::cuda::{Memory, Slice};
use lathe_kernels::rotations::Rotation;

use super::ceilings::copy_seconds;
use super::measure::{Bench, Case, Floor};
use super::products::{device_matrix, random_floats};

/// Times them.
pub(crate) fn measure(bench: &mut Bench<'_>) {
    for &width in bench.sizes.widths {
        if bench.wants("rotate") {
            rotate(bench, width);
        }
    }
    let [one, some, _, many] = bench.sizes.rows;
    for rows in [one, some, many] {
        for width in [bench.sizes.hidden, bench.sizes.ffn] {
            if bench.wants("rows") {
                row_steps(bench, rows, width);
            }
        }
    }
    let grouped = format!("int4(group: {})", bench.sizes.group);
    for format in [grouped.as_str(), "int8(per: channel)", "bf16"] {
        if bench.wants("embed") {
            embed(bench, format);
        }
    }
}

/// Of as many rows as a prompt has, against a copy of the same bytes.
fn rotate(bench: &mut Bench<'_>, width: usize) {
    let rows = bench.sizes.rows[3];
    let copies = bench.copies(8 * rows * width);
    let least = bench.sizes.seconds;
    let prepared = bench.prepare(&format!("rotate {width}"), |gpu| {
        let rotation = Rotation::random_hadamard(width, 1).expect("a width with a Hadamard matrix");
        let rotation = DeviceRotation::upload(gpu, &rotation)?;
        let buffers = || (0..copies).map(|_| random_floats(gpu, rows * width)).collect::<Result<Vec<Memory>, _>>();
        let (from, to) = (buffers()?, buffers()?);
        let copied = copy_seconds(gpu, least, &from, &to)?;
        Ok((rotation, from, to, copied))
    });
    let Some((rotation, from, to, copied)) = prepared else { return };
    let case = |format: &str| Case {
        kernel: "rotate",
        format: format.to_owned(),
        shape: format!("{width}"),
        rows,
        floor: Floor::Seconds(copied),
    };
    bench.case(&case("f32"), copies, |gpu, i| gpu.rotate(from[i].slice(), &rotation, false, to[i].slice()));
    bench.case(&case("f32, inverse"), copies, |gpu, i| gpu.rotate(from[i].slice(), &rotation, true, to[i].slice()));
}

/// Rows as they become operands of products.
fn row_steps(bench: &mut Bench<'_>, rows: usize, width: usize) {
    let len = rows * width;
    let copies = bench.copies(14 * len);
    let prepared = bench.prepare(&format!("rows of {width}"), |gpu| {
        let rotation = Rotation::hadamard(width).expect("a width with a Hadamard matrix");
        let rotation = DeviceRotation::upload(gpu, &rotation)?;
        let buffers = || (0..copies).map(|_| random_floats(gpu, len)).collect::<Result<Vec<Memory>, _>>();
        let (x, add) = (buffers()?, buffers()?);
        let out = (0..copies).map(|_| gpu.allocate("a benchmark", 2 * len as u64)).collect::<Result<Vec<_>, _>>()?;
        let scales = gpu.allocate("a benchmark", 4 * rows as u64)?;
        Ok((rotation, x, add, out, scales))
    });
    let Some((rotation, x, add, out, scales)) = prepared else { return };
    let norm = NormParameters {
        width,
        eps: 1e-5,
        centre: false,
        along: Slice::NONE,
        gain: Slice::NONE,
        gain_offset: 0.0,
        shift: Slice::NONE,
    };
    let rotates = bench.prepare(&format!("rows of {width}"), |gpu| Ok(gpu.rotates_rows(&rotation, width)));
    // What is done, whether it adds and normalizes, whether it rotates, whether it ends in int8.
    let steps = [
        ("add, norm", true, false, false),
        ("add, norm, int8", true, false, true),
        ("add, norm, rotate, int8", true, true, true),
        ("rotate", false, true, false),
        ("rotate, int8", false, true, true),
        ("int8", false, false, true),
    ];
    for (format, adds, rotated, int8) in steps {
        if rotated && rotates != Some(true) {
            println!("rows/{format}/{width}/{rows}: this width is rotated by a launch of its own");
            continue;
        }
        let element = 4 + if adds { 8 } else { 0 } + if int8 { 1 } else { 2 };
        let floor = Floor::Copy((element * len) as f64);
        let case = Case { kernel: "rows", format: format.to_owned(), shape: format!("{width}"), rows, floor };
        bench.case(&case, copies, |gpu, i| {
            let out = if int8 {
                Outputs { int8: out[i].slice::<i8>().range(0..len), scales: scales.slice(), ..Outputs::NONE }
            } else {
                Outputs { bf16: out[i].slice(), ..Outputs::NONE }
            };
            let (x, add) = (x[i].slice(), add[i].slice());
            gpu.row_step(&RowStep {
                x,
                add: if adds { add } else { Slice::NONE },
                sum: if adds { add } else { Slice::NONE },
                width,
                norm: adds.then_some(norm),
                rotation: rotated.then_some((&rotation, false)),
                out,
            })
        });
    }
}

/// Lookup of one token and of a prompt.
fn embed(bench: &mut Bench<'_>, format: &str) {
    let sizes = bench.sizes;
    let (tokens, width) = (sizes.rows[3], sizes.hidden);
    // Enough tokens that their rows do not fit the cache together.
    let copies = bench.copies(tokens * width).max(2);
    let prepared = bench.prepare(&format!("embed {format}"), |gpu| {
        let table = device_matrix(gpu, format, sizes.vocabulary, width)?;
        let mut random = Random::new(5);
        let index: Vec<u32> = (0..copies * tokens).map(|_| (random.bits() % sizes.vocabulary as u64) as u32).collect();
        let index = gpu.upload("a benchmark", &index)?;
        let out = gpu.allocate("a benchmark", 4 * (tokens * width) as u64)?;
        Ok((table, index, out))
    });
    let Some((table, index, out)) = prepared else { return };
    for rows in [1, tokens] {
        let moved = table.memory_bytes() as f64 / sizes.vocabulary as f64 * rows as f64 + (4 * rows * width) as f64;
        let floor = Floor::Copy(moved);
        let shape = format!("{}x{width}", sizes.vocabulary);
        let case = Case { kernel: "embed", format: format.to_owned(), shape, rows, floor };
        bench.case(&case, copies, |gpu, copy| {
            let index = index.slice::<u32>().range(copy * tokens..copy * tokens + rows);
            gpu.embed(&table, index, 0, out.slice::<f32>().range(0..rows * width))
        });
    }
}
