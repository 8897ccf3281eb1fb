//! Ops on a CUDA device, of operands on the host.

use super::implementation::{Experts, Implementation};
use crate::cuda::ops::{
    AttentionStep, DeviceCache, DeviceExperts, DeviceRotation, ExpertProduct, Finish, NormParameters, Outputs, Product,
    ProductInput, ProductPart, RowStep,
};
use crate::cuda::{CudaError, DeviceMatrix, Element, Gpu, Memory, Slice};
use crate::formats::Matrix;
use crate::ops::{AttentionShape, Binary, Norm, Unary};
use crate::rotations::Rotation;

/// The ops on a device: operands are copied there, results back. Methods panic when the device fails.
#[derive(Clone, Copy)]
pub struct OnDevice<'g> {
    gpu: &'g Gpu,
    /// Elements that lie before each operand.
    before: usize,
}

/// Elements in memory of their own.
struct Held<T> {
    slice: Slice<T>,
    #[expect(dead_code, reason = "keeps the elements alive")]
    memory: Memory,
}

impl<'g> OnDevice<'g> {
    /// With operands that are aligned to 16 bytes.
    pub fn aligned(gpu: &'g Gpu) -> OnDevice<'g> {
        OnDevice { gpu, before: 0 }
    }

    /// With activations that are aligned to their elements only.
    pub fn unaligned(gpu: &'g Gpu) -> OnDevice<'g> {
        OnDevice { gpu, before: 1 }
    }

    fn with<T: Element>(self, values: &[T], zero: T) -> Held<T> {
        let values = [&vec![zero; self.before], values].concat();
        let memory = done(self.gpu.upload("operands of a check", &values));
        Held { slice: memory.slice::<T>().range(self.before..values.len()), memory }
    }

    fn x(self, values: &[f32]) -> Held<f32> {
        self.with(values, 0.0)
    }

    /// What is absent or empty is not there.
    fn optional(self, values: Option<&[f32]>) -> Option<Held<f32>> {
        values.map(|values| self.x(values))
    }

    fn scratch(self, bytes: usize) -> Held<u8> {
        let memory = done(self.gpu.allocate("scratch of a check", bytes as u64));
        Held { slice: memory.slice::<u8>().range(0..bytes), memory }
    }

    /// What `launch` writes to the device, whose memory is NaN before.
    fn results(self, out: &mut [f32], launch: impl FnOnce(Slice<f32>) -> Result<(), CudaError>) {
        let held = self.x(&vec![f32::NAN; out.len()]);
        done(launch(held.slice));
        done(self.gpu.read(held.slice, out));
    }

    fn product(self, x: ProductInput, rows: usize, weight: &Matrix<'_>, bias: Option<&[f32]>, out: &mut [f32]) {
        let weight = done(DeviceMatrix::upload(self.gpu, weight));
        let bias = self.optional(bias);
        let scratch = self.scratch(self.gpu.product_scratch(&weight, rows));
        self.results(out, |out| {
            let part = ProductPart { weight: &weight, bias: slice(bias.as_ref()), out };
            let product = Product { x, rows, parts: &[part], finish: Finish::Store, scratch: scratch.slice };
            self.gpu.product(&product)
        });
    }

    fn expert_product<'m, 'w: 'm>(
        self,
        x: ProductInput,
        choice: &[u32],
        k: usize,
        (expert, experts): (Experts<'_, 'm, 'w>, usize),
        out: &mut [f32],
    ) {
        let rows = choice.len() / k;
        let matrices = (0..experts).map(|number| done(DeviceMatrix::upload(self.gpu, expert(number).0))).collect();
        let biases: Vec<_> = (0..experts).map(|number| self.optional(expert(number).1)).collect();
        let width = expert(0).0.rows();
        // On a device either all experts have a bias or none.
        let zeros = self.x(&vec![0.0; width]);
        let biases: Vec<_> = biases.iter().map(|bias| bias.as_ref().map_or(zeros.slice, |bias| bias.slice)).collect();
        let experts = done(DeviceExperts::new(self.gpu, matrices, &biases));
        let scratch = self.scratch(self.gpu.expert_scratch(&experts, rows, k));
        let choice = self.with(choice, 0);
        self.results(out, |out| {
            let choice = choice.slice;
            let product = ExpertProduct { x, choice, rows, k, experts: &experts, out, scratch: scratch.slice };
            self.gpu.expert_product(&product)
        });
    }
}

impl Implementation for OnDevice<'_> {
    fn embed(&self, table: &Matrix<'_>, index: &[u32], first: u32, out: &mut [f32]) {
        let (table, index) = (done(DeviceMatrix::upload(self.gpu, table)), self.with(index, 0));
        self.results(out, |out| self.gpu.embed(&table, index.slice, first, out));
    }

    fn matmul(&self, x: &[f32], weight: &Matrix<'_>, bias: Option<&[f32]>, out: &mut [f32]) {
        let rows = x.len().checked_div(weight.cols()).unwrap_or(out.len() / weight.rows().max(1));
        let x = self.x(x);
        self.product(ProductInput::Real(x.slice), rows, weight, bias, out);
    }

    fn expert_matmul<'m, 'w: 'm>(
        &self,
        x: &[f32],
        choice: &[u32],
        k: usize,
        expert: Experts<'_, 'm, 'w>,
        experts: usize,
        out: &mut [f32],
    ) {
        let x = self.x(x);
        self.expert_product(ProductInput::Real(x.slice), choice, k, (expert, experts), out);
    }

    fn expert_matmul_int8<'m, 'w: 'm>(
        &self,
        x: &[f32],
        choice: &[u32],
        k: usize,
        expert: Experts<'_, 'm, 'w>,
        experts: usize,
        out: &mut [f32],
    ) {
        let width = expert(0).0.cols();
        let mut codes = vec![0; x.len()];
        let mut scales = vec![0.0; x.len().checked_div(width).unwrap_or(0)];
        self.quantize_rows(x, width, &mut codes, &mut scales);
        let (codes, scales) = (self.with(&codes, 0), self.x(&scales));
        let x = ProductInput::Int8 { codes: codes.slice, scales: scales.slice };
        self.expert_product(x, choice, k, (expert, experts), out);
    }

    fn quantize_rows(&self, x: &[f32], width: usize, codes: &mut [i8], scales: &mut [f32]) {
        let (x, int8) = (self.x(x), self.with(&vec![99; codes.len()], 0));
        self.results(scales, |scales| {
            let out = Outputs { int8: int8.slice, scales, ..Outputs::NONE };
            self.gpu.row_step(&RowStep { out, ..RowStep::of(x.slice, width) })
        });
        done(self.gpu.read(int8.slice, codes));
    }

    fn matmul_int8(&self, codes: &[i8], scales: &[f32], weight: &Matrix<'_>, bias: Option<&[f32]>, out: &mut [f32]) {
        let (rows, codes, scales) = (scales.len(), self.with(codes, 0), self.x(scales));
        self.product(ProductInput::Int8 { codes: codes.slice, scales: scales.slice }, rows, weight, bias, out);
    }

    fn norm(&self, x: &[f32], norm: &Norm<'_>, out: &mut [f32]) {
        let x = self.x(x);
        let [along, gain, shift] = [norm.along, norm.gain, norm.shift].map(|vector| self.optional(vector));
        let parameters = NormParameters {
            width: norm.width,
            eps: norm.eps,
            centre: norm.centre,
            along: slice(along.as_ref()),
            gain: slice(gain.as_ref()),
            gain_offset: norm.gain_offset,
            shift: slice(shift.as_ref()),
        };
        self.results(out, |out| {
            let out = Outputs::real(out);
            self.gpu.row_step(&RowStep { norm: Some(parameters), out, ..RowStep::of(x.slice, norm.width) })
        });
    }

    fn centre(&self, x: &[f32], width: usize, along: Option<&[f32]>, out: &mut [f32]) {
        let (x, along) = (self.x(x), self.optional(along));
        self.results(out, |out| self.gpu.centre(x.slice, width, slice(along.as_ref()), out));
    }

    fn gain(&self, x: &[f32], gain: &[f32], offset: f32, out: &mut [f32]) {
        let (x, gain) = (self.x(x), self.x(gain));
        self.results(out, |out| self.gpu.gain(x.slice, gain.slice, offset, out));
    }

    fn shift(&self, x: &[f32], shift: &[f32], out: &mut [f32]) {
        let (x, shift) = (self.x(x), self.x(shift));
        self.results(out, |out| self.gpu.shift(x.slice, shift.slice, out));
    }

    fn rotate(&self, x: &[f32], rotation: &Rotation, inverse: bool, out: &mut [f32]) {
        let (x, rotation) = (self.x(x), done(DeviceRotation::upload(self.gpu, rotation)));
        self.results(out, |out| self.gpu.rotate(x.slice, &rotation, inverse, out));
    }

    fn unary(&self, function: Unary, x: &[f32], out: &mut [f32]) {
        let x = self.x(x);
        self.results(out, |out| self.gpu.unary(function, x.slice, &Outputs::real(out)));
    }

    fn gated(&self, function: Unary, gate: &[f32], value: &[f32], out: &mut [f32]) {
        let (gate, value) = (self.x(gate), self.x(value));
        self.results(out, |out| self.gpu.gated(function, gate.slice, value.slice, &Outputs::real(out)));
    }

    fn binary(&self, function: Binary, a: &[f32], b: &[f32], out: &mut [f32]) {
        let (a, b) = (self.x(a), self.x(b));
        self.results(out, |out| self.gpu.binary(function, a.slice, b.slice, out));
    }

    fn affine(&self, x: &[f32], factor: f32, offset: f32, out: &mut [f32]) {
        let x = self.x(x);
        self.results(out, |out| self.gpu.affine(x.slice, factor, offset, out));
    }

    fn softcap(&self, x: &[f32], cap: f32, out: &mut [f32]) {
        let x = self.x(x);
        self.results(out, |out| self.gpu.softcap(x.slice, cap, out));
    }

    fn softmax(&self, x: &[f32], width: usize, out: &mut [f32]) {
        let x = self.x(x);
        self.results(out, |out| self.gpu.softmax(x.slice, width, out));
    }

    fn combine(&self, x: &[f32], weights: &[f32], k: usize, out: &mut [f32]) {
        let (x, weights) = (self.x(x), self.x(weights));
        self.results(out, |out| self.gpu.combine(x.slice, weights.slice, k, out));
    }

    fn attention(
        &self,
        shape: &AttentionShape,
        q: &[f32],
        keys: &[f32],
        values: &[f32],
        sinks: Option<&[f32]>,
        capacity: usize,
        past: usize,
        out: &mut [f32],
    ) {
        let tokens = q.len() / (shape.heads * shape.head_dim);
        let cache = done(DeviceCache::new(self.gpu, shape.kv_heads, shape.head_dim, capacity, false));
        done(self.gpu.write(cache.keys().cast(), keys));
        done(self.gpu.write(cache.values().cast(), values));
        let position = self.with(&[u32::try_from(past).expect("a small position")], 0);
        let (q, sinks) = (self.x(q), self.optional(sinks));
        let scratch = vec![0.0; self.gpu.attention_scratch(shape, capacity, tokens)];
        let scratch = done(self.gpu.upload("scratch of attention", &scratch));
        self.results(out, |out| {
            self.gpu.attention(&AttentionStep {
                shape: *shape,
                q: q.slice,
                cache: &cache,
                sinks: slice(sinks.as_ref()),
                tokens,
                position: position.slice,
                scratch: scratch.slice(),
                out: Outputs::real(out),
            })
        });
    }
}

fn slice(held: Option<&Held<f32>>) -> Slice<f32> {
    held.map_or(Slice::NONE, |held| held.slice)
}

fn done<T>(result: Result<T, CudaError>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}
