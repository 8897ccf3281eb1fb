//! Products with weights, on the shapes of a layer and of the head.

use lathe_kernels::check::Random;
use lathe_kernels::cuda::ops::{Finish, Outputs, Product, ProductInput, ProductPart};
use lathe_kernels::cuda::{CudaError, DeviceMatrix, Gpu, Memory, Slice};
use lathe_kernels::formats::{Fit, Format, Matrix};
use lathe_kernels::ops::Unary;

use super::measure::{Bench, Case, Floor, Sizes};

/// Rows of a weight that are encoded; those behind them are the same again.
const ENCODED_ROWS: usize = 256;

/// Weights that share their x.
struct Shape {
    name: &'static str,
    /// Output channels of each.
    outputs: Vec<usize>,
    inner: usize,
    finish: Kind,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Store,
    Add,
    Gated,
}

fn shapes(sizes: &Sizes) -> [Shape; 5] {
    let Sizes { hidden, ffn, vocabulary, .. } = *sizes;
    let (q, kv) = (sizes.heads * sizes.head_dim, sizes.kv_heads * sizes.head_dim);
    let shape = |name, outputs: &[usize], inner, finish| Shape { name, outputs: outputs.to_vec(), inner, finish };
    [
        shape("qkv", &[q, kv, kv], hidden, Kind::Store),
        shape("o", &[hidden], q, Kind::Add),
        shape("gate_up", &[ffn, ffn], hidden, Kind::Gated),
        shape("down", &[hidden], ffn, Kind::Add),
        shape("lm_head", &[vocabulary], hidden, Kind::Store),
    ]
}

/// Times products in every format.
pub(crate) fn measure(bench: &mut Bench<'_>) {
    let grouped = format!("int4(group: {})", bench.sizes.group);
    for (format, int8) in
        [(grouped.as_str(), false), ("int8(per: channel)", false), ("bf16", false), ("int8(per: channel)", true)]
    {
        for shape in shapes(bench.sizes) {
            if bench.wants("product") {
                measure_shape(bench, format, int8, &shape);
            }
        }
    }
}

fn measure_shape(bench: &mut Bench<'_>, format: &str, int8: bool, shape: &Shape) {
    let Shape { name, outputs, inner, finish } = shape;
    // A prompt needs the head for its last token only.
    let rows = bench.sizes.rows.into_iter().filter(|&rows| *name != "lm_head" || rows < bench.sizes.rows[3]);
    let rows: Vec<usize> = rows.collect();
    let most = rows.last().copied().unwrap_or(1);
    let all_outputs: usize = outputs.iter().sum();
    let parsed: Format = format.parse().expect("the text of a format");
    let bytes: usize = outputs.iter().map(|&out| parsed.bytes(out, *inner)).sum();
    let copies = bench.copies(bytes);
    let label = format!("product of {format} {name}");
    let prepared = bench.prepare(&label, |gpu| {
        let parts: Vec<_> = outputs.iter().map(|&out| HostMatrix::random(format, out, *inner)).collect();
        let copy = |_| parts.iter().map(|part| part.upload(gpu)).collect::<Result<Vec<_>, _>>();
        let weights = (0..copies).map(copy).collect::<Result<Vec<_>, _>>()?;
        let scratch = weights[0].iter().flat_map(|weight| rows.iter().map(|&rows| gpu.product_scratch(weight, rows)));
        let scratch = gpu.allocate("a benchmark", scratch.max().unwrap_or(0) as u64)?;
        let x = Activations::new(gpu, most, *inner)?;
        let addend = random_floats(gpu, most * all_outputs)?;
        let out = gpu.allocate("a benchmark", 4 * (most * all_outputs) as u64)?;
        Ok((weights, scratch, x, addend, out))
    });
    let Some((weights, scratch, x, addend, out)) = prepared else { return };
    for rows in rows {
        let mut left = out.slice::<f32>().range(0..rows * all_outputs);
        let outs: Vec<Slice<f32>> = outputs
            .iter()
            .map(|&width| {
                let part = left.range(0..rows * width);
                left = left.range(rows * width..left.len());
                if *finish == Kind::Gated { Slice::NONE } else { part }
            })
            .collect();
        let gated = out.slice::<u16>().range(0..rows * outputs[0]);
        let finish = match finish {
            Kind::Store => Finish::Store,
            Kind::Add => Finish::Add(addend.slice::<f32>().range(0..rows * all_outputs)),
            Kind::Gated => Finish::Gated(Unary::Silu, Outputs { bf16: gated, ..Outputs::NONE }),
        };
        let x = if int8 { x.int8(rows, *inner) } else { x.bf16(rows, *inner) };
        let input_bytes = if int8 { rows * (inner + 4) } else { 2 * rows * inner };
        let output_bytes = match finish {
            Finish::Store => 4 * rows * all_outputs,
            Finish::Add(_) => 8 * rows * all_outputs,
            Finish::Gated(..) => 2 * rows * outputs[0],
        };
        let moved = (bytes + input_bytes + output_bytes) as f64;
        let operations = 2.0 * (rows * inner * all_outputs) as f64;
        let case = Case {
            kernel: "product",
            format: if int8 { "w8a8".to_owned() } else { format.to_owned() },
            shape: (*name).to_owned(),
            rows,
            floor: if int8 { Floor::Int8(moved, operations) } else { Floor::Bf16(moved, operations) },
        };
        bench.case(&case, copies, |gpu, copy| {
            let part = |(weight, &out)| ProductPart { weight, bias: Slice::NONE, out };
            let parts: Vec<_> = weights[copy].iter().zip(&outs).map(part).collect();
            gpu.product(&Product { x, rows, parts: &parts, finish, scratch: scratch.slice() })
        });
    }
}

/// A packed matrix of random values.
struct HostMatrix {
    format: Format,
    rows: usize,
    cols: usize,
    planes: Vec<Vec<u8>>,
}

impl HostMatrix {
    fn random(format: &str, rows: usize, cols: usize) -> HostMatrix {
        let format: Format = format.parse().expect("the text of a format");
        let encoded = rows.min(ENCODED_ROWS);
        let values = Random::new(1).values(encoded * cols);
        let bytes = |rows| format.planes(rows, cols).into_iter().map(|plane| plane.bytes().expect("a plane in memory"));
        let mut planes: Vec<Vec<u8>> = bytes(encoded).map(|bytes| vec![0; bytes]).collect();
        let mut slices: Vec<&mut [u8]> = planes.iter_mut().map(Vec::as_mut_slice).collect();
        format.encode(Fit::Absmax, &values, cols, &mut slices);
        for (plane, bytes) in planes.iter_mut().zip(bytes(rows)) {
            while plane.len() < bytes {
                let more = plane.len().min(bytes - plane.len());
                plane.extend_from_within(..more);
            }
        }
        HostMatrix { format, rows, cols, planes }
    }

    fn upload(&self, gpu: &Gpu) -> Result<DeviceMatrix, CudaError> {
        let planes: Vec<&[u8]> = self.planes.iter().map(Vec::as_slice).collect();
        let matrix = Matrix::new(self.format, self.rows, self.cols, &planes).expect("planes of the right sizes");
        DeviceMatrix::upload(gpu, &matrix)
    }
}

/// A matrix of random values on the device.
pub(crate) fn device_matrix(gpu: &Gpu, format: &str, rows: usize, cols: usize) -> Result<DeviceMatrix, CudaError> {
    HostMatrix::random(format, rows, cols).upload(gpu)
}

pub(crate) fn random_floats(gpu: &Gpu, len: usize) -> Result<Memory, CudaError> {
    let block = Random::new(2).values(len.clamp(1, 1 << 20));
    let values: Vec<f32> = block.iter().copied().cycle().take(len).collect();
    gpu.upload("a benchmark", &values)
}

/// Rows of random numbers as each kind of operand.
pub(crate) struct Activations {
    codes: Memory,
    scales: Memory,
    bf16: Memory,
}

impl Activations {
    pub(crate) fn new(gpu: &Gpu, rows: usize, width: usize) -> Result<Activations, CudaError> {
        let mut random = Random::new(3);
        let len = rows * width;
        let block: Vec<f32> = random.values(len.clamp(1, 1 << 20));
        let codes: Vec<i8> = block.iter().cycle().take(len).map(|value| (value * 127.0) as i8).collect();
        let bf16: Vec<u16> = block.iter().cycle().take(len).map(|value| (value.to_bits() >> 16) as u16).collect();
        Ok(Activations {
            codes: gpu.upload("a benchmark", &codes)?,
            scales: gpu.upload("a benchmark", &vec![0.01_f32; rows])?,
            bf16: gpu.upload("a benchmark", &bf16)?,
        })
    }

    /// The first rows in bf16.
    pub(crate) fn bf16(&self, rows: usize, width: usize) -> ProductInput {
        ProductInput::Bf16(self.bf16.slice().range(0..rows * width))
    }

    /// The first rows in int8.
    pub(crate) fn int8(&self, rows: usize, width: usize) -> ProductInput {
        let scales = self.scales.slice().range(0..rows);
        ProductInput::Int8 { codes: self.codes.slice().range(0..rows * width), scales }
    }
}
