//! Launchers of `routing.cu`: softmax of groups, choices of experts, and what is added up over them.

use crate::cuda::{CudaError, Gpu, Grid, Kernel, Slice};

/// `GroupArgs`
#[repr(C)]
#[derive(Clone, Copy)]
struct GroupArguments {
    x: u64,
    out: u64,
    width: u32,
}

/// `TopArgs`
#[repr(C)]
#[derive(Clone, Copy)]
struct TopArguments {
    x: u64,
    out: u64,
    width: u32,
    k: u32,
}

/// `GatherArgs`
#[repr(C)]
#[derive(Clone, Copy)]
struct GatherArguments {
    x: u64,
    choice: u64,
    out: u64,
    count: u64,
    width: u32,
    k: u32,
}

/// `CombineArgs`
#[repr(C)]
#[derive(Clone, Copy)]
struct CombineArguments {
    x: u64,
    weights: u64,
    out: u64,
    k: u32,
    width: u32,
    vectors: u32,
}

static SOFTMAX: Kernel<GroupArguments> = Kernel::new("routing", "softmax_groups");
static NORMALIZE: Kernel<GroupArguments> = Kernel::new("routing", "normalize_sums");
static TOP: Kernel<TopArguments> = Kernel::new("routing", "top_numbers");
static GATHER: Kernel<GatherArguments> = Kernel::new("routing", "gather_chosen");
static COMBINE: Kernel<CombineArguments> = Kernel::new("routing", "combine_parts");

impl Gpu {
    /// As [`crate::ops::softmax`]. `out` may be `x`.
    pub fn softmax(&self, x: Slice<f32>, width: usize, out: Slice<f32>) -> Result<(), CudaError> {
        self.groups(&SOFTMAX, x, width, out)
    }

    /// As [`crate::ops::normalize_sum`]: sums are in f64, and added up in another order. `out` may be `x`.
    pub fn normalize_sum(&self, x: Slice<f32>, width: usize, out: Slice<f32>) -> Result<(), CudaError> {
        self.groups(&NORMALIZE, x, width, out)
    }

    /// As [`crate::ops::top_k`]: bit for bit.
    pub fn top_k(&self, x: Slice<f32>, width: usize, k: usize, out: Slice<u32>) -> Result<(), CudaError> {
        assert!(k <= width, "the {k} largest of {width}");
        let groups = whole_groups(x, width);
        assert_eq!(out.len(), groups * k, "out is {groups} groups of {k}");
        if out.is_empty() {
            return Ok(());
        }
        let [groups, width, k] = [groups, width, k].map(number);
        let arguments = TopArguments { x: x.address(), out: out.address(), width, k };
        self.launch(&TOP, Grid { overlaps: true, ..Grid::new(groups, threads(width as usize)) }, &arguments)
    }

    /// As [`crate::ops::gather`], but that a choice that is not below `width` gives NaN.
    pub fn gather(
        &self,
        x: Slice<f32>,
        width: usize,
        choice: Slice<u32>,
        k: usize,
        out: Slice<f32>,
    ) -> Result<(), CudaError> {
        let groups = whole_groups(x, width);
        assert!(choice.len() == groups * k && out.len() == groups * k, "choice and out are {groups} groups of {k}");
        if out.is_empty() {
            return Ok(());
        }
        let [blocks, width, k] = [out.len().div_ceil(256), width, k].map(number);
        let arguments = GatherArguments {
            x: x.address(),
            choice: choice.address(),
            out: out.address(),
            count: out.len() as u64,
            width,
            k,
        };
        self.launch(&GATHER, Grid { overlaps: true, ..Grid::new(blocks, 256) }, &arguments)
    }

    /// As [`crate::ops::combine`].
    pub fn combine(&self, x: Slice<f32>, weights: Slice<f32>, k: usize, out: Slice<f32>) -> Result<(), CudaError> {
        assert!(weights.len().is_multiple_of(k), "{} weights are no whole rows of {k}", weights.len());
        if k == 0 {
            assert!(x.is_empty(), "x has 0 parts");
            return self.fill(out, 0);
        }
        let rows = weights.len() / k;
        let width = out.len().checked_div(rows).unwrap_or(0);
        assert_eq!(out.len(), rows * width, "out is {rows} rows");
        assert_eq!(x.len(), weights.len() * width, "x is {rows} rows of {k} parts of {width}");
        if out.is_empty() {
            return Ok(());
        }
        let vectors = width.is_multiple_of(4) && x.address().is_multiple_of(16) && out.address().is_multiple_of(16);
        let columns = width.div_ceil(if vectors { 4 } else { 1 });
        let threads = columns.next_multiple_of(32).min(256);
        let arguments = CombineArguments {
            x: x.address(),
            weights: weights.address(),
            out: out.address(),
            k: number(k),
            width: number(width),
            vectors: u32::from(vectors),
        };
        let blocks = [number(rows), number(columns.div_ceil(threads)), 1];
        self.launch(&COMBINE, Grid { blocks, overlaps: true, ..Grid::new(0, threads as u32) }, &arguments)
    }

    /// A block for each group.
    fn groups(
        &self,
        kernel: &Kernel<GroupArguments>,
        x: Slice<f32>,
        width: usize,
        out: Slice<f32>,
    ) -> Result<(), CudaError> {
        let groups = whole_groups(x, width);
        assert_eq!(x.len(), out.len(), "out is as long as x");
        if out.is_empty() {
            return Ok(());
        }
        let arguments = GroupArguments { x: x.address(), out: out.address(), width: number(width) };
        self.launch(kernel, Grid { overlaps: true, ..Grid::new(number(groups), threads(width)) }, &arguments)
    }
}

fn whole_groups(x: Slice<f32>, width: usize) -> usize {
    assert!(x.len().is_multiple_of(width), "{} elements are no whole groups of {width}", x.len());
    x.len().checked_div(width).unwrap_or(0)
}

/// Threads for a group: one for each element as far as a block goes.
fn threads(width: usize) -> u32 {
    width.next_multiple_of(32).min(1024) as u32
}

fn number(value: usize) -> u32 {
    u32::try_from(value).expect("below 2³² elements in a row, and rows")
}
