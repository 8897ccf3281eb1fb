//! Launchers of `elementwise.cu`: what computes each element on its own.

use super::Outputs;
use crate::cuda::{CudaError, Gpu, Grid, Kernel, Slice};
use crate::ops::{Binary, Unary};

/// `ElementwiseArgs`
#[repr(C)]
#[derive(Clone, Copy)]
struct Arguments {
    a: u64,
    b: u64,
    real: u64,
    bf16: u64,
    count: u64,
    width: u32,
    vectors: u32,
    first: f32,
    second: f32,
}

macro_rules! kernels {
    ($($constant:ident = $name:literal),* $(,)?) => {
        $(static $constant: Kernel<Arguments> = Kernel::new("elementwise", $name);)*
    };
}

kernels! {
    UNARY_SILU = "unary_silu",
    UNARY_GELU = "unary_gelu",
    UNARY_GELU_TANH = "unary_gelu_tanh",
    UNARY_GELU_QUICK = "unary_gelu_quick",
    UNARY_RELU = "unary_relu",
    UNARY_RELU_SQUARED = "unary_relu_squared",
    UNARY_SIGMOID = "unary_sigmoid",
    UNARY_TANH = "unary_tanh",
    GATED_SILU = "gated_silu",
    GATED_GELU = "gated_gelu",
    GATED_GELU_TANH = "gated_gelu_tanh",
    GATED_GELU_QUICK = "gated_gelu_quick",
    GATED_RELU = "gated_relu",
    GATED_RELU_SQUARED = "gated_relu_squared",
    GATED_SIGMOID = "gated_sigmoid",
    GATED_TANH = "gated_tanh",
    BINARY_ADD = "binary_add",
    BINARY_SUB = "binary_sub",
    BINARY_MUL = "binary_mul",
    AFFINE = "affine",
    CLAMP = "clamp_elements",
    SOFTCAP = "softcap",
    GAIN = "gain_columns",
    SHIFT = "shift_columns",
}

/// Threads of a block.
const THREADS: u32 = 256;

/// Blocks of a multiprocessor that are enough to keep memory busy.
const BLOCKS: u32 = 8;

impl Gpu {
    /// As [`crate::ops::unary`], to f32 and bf16. An output may be `x`.
    pub fn unary(&self, function: Unary, x: Slice<f32>, out: &Outputs) -> Result<(), CudaError> {
        let kernel = match function {
            Unary::Silu => &UNARY_SILU,
            Unary::Gelu => &UNARY_GELU,
            Unary::GeluTanh => &UNARY_GELU_TANH,
            Unary::GeluQuick => &UNARY_GELU_QUICK,
            Unary::Relu => &UNARY_RELU,
            Unary::ReluSquared => &UNARY_RELU_SQUARED,
            Unary::Sigmoid => &UNARY_SIGMOID,
            Unary::Tanh => &UNARY_TANH,
        };
        self.map_elements(kernel, x, Slice::NONE, [0.0; 2], out)
    }

    /// As [`crate::ops::gated`], to f32 and bf16. An output may be an operand.
    pub fn gated(&self, function: Unary, gate: Slice<f32>, value: Slice<f32>, out: &Outputs) -> Result<(), CudaError> {
        let kernel = match function {
            Unary::Silu => &GATED_SILU,
            Unary::Gelu => &GATED_GELU,
            Unary::GeluTanh => &GATED_GELU_TANH,
            Unary::GeluQuick => &GATED_GELU_QUICK,
            Unary::Relu => &GATED_RELU,
            Unary::ReluSquared => &GATED_RELU_SQUARED,
            Unary::Sigmoid => &GATED_SIGMOID,
            Unary::Tanh => &GATED_TANH,
        };
        assert_eq!(gate.len(), value.len(), "operands are equally long");
        self.map_elements(kernel, gate, value, [0.0; 2], out)
    }

    /// As [`crate::ops::binary`]. `out` may be an operand.
    pub fn binary(&self, function: Binary, a: Slice<f32>, b: Slice<f32>, out: Slice<f32>) -> Result<(), CudaError> {
        let kernel = match function {
            Binary::Add => &BINARY_ADD,
            Binary::Sub => &BINARY_SUB,
            Binary::Mul => &BINARY_MUL,
        };
        assert_eq!(a.len(), b.len(), "operands are equally long");
        self.map_elements(kernel, a, b, [0.0; 2], &Outputs::real(out))
    }

    /// As [`crate::ops::affine`]. `out` may be `x`.
    pub fn affine(&self, x: Slice<f32>, factor: f32, offset: f32, out: Slice<f32>) -> Result<(), CudaError> {
        self.map_elements(&AFFINE, x, Slice::NONE, [factor, offset], &Outputs::real(out))
    }

    /// As [`crate::ops::clamp`]. `out` may be `x`.
    pub fn clamp(&self, x: Slice<f32>, low: f32, high: f32, out: Slice<f32>) -> Result<(), CudaError> {
        self.map_elements(&CLAMP, x, Slice::NONE, [low, high], &Outputs::real(out))
    }

    /// As [`crate::ops::softcap`]. `out` may be `x`.
    pub fn softcap(&self, x: Slice<f32>, cap: f32, out: Slice<f32>) -> Result<(), CudaError> {
        self.map_elements(&SOFTCAP, x, Slice::NONE, [cap, 0.0], &Outputs::real(out))
    }

    /// As [`crate::ops::gain`]. `out` may be `x`.
    pub fn gain(&self, x: Slice<f32>, gain: Slice<f32>, offset: f32, out: Slice<f32>) -> Result<(), CudaError> {
        assert!(x.len().is_multiple_of(gain.len()), "{} elements are no whole groups of {}", x.len(), gain.len());
        self.map_elements(&GAIN, x, gain, [offset, 0.0], &Outputs::real(out))
    }

    /// As [`crate::ops::shift`]. `out` may be `x`.
    pub fn shift(&self, x: Slice<f32>, shift: Slice<f32>, out: Slice<f32>) -> Result<(), CudaError> {
        assert!(x.len().is_multiple_of(shift.len()), "{} elements are no whole groups of {}", x.len(), shift.len());
        self.map_elements(&SHIFT, x, shift, [0.0; 2], &Outputs::real(out))
    }

    /// Launches a kernel of elements of `a` and, where there is one, of `b`, of the same number or one for each column.
    fn map_elements(
        &self,
        kernel: &Kernel<Arguments>,
        a: Slice<f32>,
        b: Slice<f32>,
        [first, second]: [f32; 2],
        out: &Outputs,
    ) -> Result<(), CudaError> {
        let count = a.len();
        assert!(out.int8.is_empty() && out.scales.is_empty(), "elements are not rounded to int8");
        assert!(out.real.is_empty() || out.real.len() == count, "out is as long as x");
        assert!(out.bf16.is_empty() || out.bf16.len() == count, "out is as long as x");
        if count == 0 {
            return Ok(());
        }
        assert!(!(out.real.is_empty() && out.bf16.is_empty()), "there is an output");
        let width = u32::try_from(b.len().min(count)).expect("rows below 2³² elements");
        let addresses = [a.address(), b.address(), out.real.address(), 2 * out.bf16.address()];
        let vectors = addresses.iter().all(|address| address.is_multiple_of(16))
            && count.is_multiple_of(4)
            && width.is_multiple_of(4);
        let elements = if vectors { 4 } else { 1 };
        let blocks = count.div_ceil(THREADS as usize * elements).min((BLOCKS * self.info().multiprocessors) as usize);
        let arguments = Arguments {
            a: a.address(),
            b: b.address(),
            real: out.real.address(),
            bf16: out.bf16.address(),
            count: count as u64,
            width,
            vectors: u32::from(vectors),
            first,
            second,
        };
        self.launch(kernel, Grid { overlaps: true, ..Grid::new(blocks as u32, THREADS) }, &arguments)
    }
}
