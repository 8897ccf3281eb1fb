//! Launcher of `embed.cu`: rows of a packed table.

use crate::cuda::layout::MatrixArgs;
use crate::cuda::{CudaError, DeviceMatrix, Gpu, Grid, Kernel, Slice};

/// `EmbedArgs`
#[repr(C)]
#[derive(Clone, Copy)]
struct EmbedArgs {
    table: MatrixArgs,
    index: u64,
    out: u64,
    tokens: u32,
    first: u32,
    vectors: u32,
}

static EMBED: Kernel<EmbedArgs> = Kernel::new("embed", "embed_rows");

/// Threads of a block.
const THREADS: usize = 256;

/// Blocks along tokens at most; each takes many of more.
const BLOCKS: usize = 1 << 16;

impl Gpu {
    /// As [`crate::ops::embed`]: `out[t] = table[first + index[t]]`, `index` `[tokens]`, `out` `[tokens, table.cols()]`. An
    /// index past the table gives NaN.
    pub fn embed(&self, table: &DeviceMatrix, index: Slice<u32>, first: u32, out: Slice<f32>) -> Result<(), CudaError> {
        let (tokens, cols) = (index.len(), table.cols());
        assert_eq!(out.len(), tokens * cols, "out is [{tokens}, {cols}]");
        if out.is_empty() {
            return Ok(());
        }
        let arguments = EmbedArgs {
            table: table.arguments(),
            index: index.address(),
            out: out.address(),
            tokens: u32::try_from(tokens).expect("tokens are counted in 32 bits"),
            first,
            vectors: u32::from(cols.is_multiple_of(4) && out.address().is_multiple_of(16)),
        };
        let blocks = [tokens.min(BLOCKS) as u32, cols.div_ceil(8 * THREADS) as u32, 1];
        self.launch(&EMBED, Grid { blocks, overlaps: true, ..Grid::new(1, THREADS as u32) }, &arguments)
    }
}
