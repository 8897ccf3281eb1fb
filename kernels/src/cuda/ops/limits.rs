//! Launchers of `limits.cu`: what the memory of a device can do at most, for benchmarks.

use crate::cuda::{CudaError, Gpu, Grid, Kernel, Slice};

#[repr(C)]
#[derive(Clone, Copy)]
struct StreamArgs {
    from: u64,
    to: u64,
    count: u64,
}

static READ: Kernel<StreamArgs> = Kernel::new("limits", "read_stream");
static COPY: Kernel<StreamArgs> = Kernel::new("limits", "copy_stream");

/// Threads of a block.
const THREADS: u32 = 512;
/// Blocks of a multiprocessor.
const BLOCKS: u32 = 4;

impl Gpu {
    /// Words that [`Gpu::read_stream`] writes.
    pub fn read_stream_words(&self) -> usize {
        (self.stream_blocks() * THREADS) as usize
    }

    /// Reads all of `from`, as fast as it can be read, and writes [`Gpu::read_stream_words`] words whose exclusive or is that
    /// of the words of `from`. It begins before the launch before it has ended, which may not write `from`: as products read
    /// their weights.
    ///
    /// # Panics
    /// When `from` is no multiple of 4 words, or `to` has another length.
    pub fn read_stream(&self, from: Slice<u32>, to: Slice<u32>) -> Result<(), CudaError> {
        assert_eq!(to.len(), self.read_stream_words(), "a word for each thread");
        stream(self, &READ, from, to)
    }

    /// Copies `from` to `to`, as fast as kernels can copy.
    ///
    /// # Panics
    /// When the lengths differ, or are no multiple of 4 words.
    pub fn copy_stream(&self, from: Slice<u32>, to: Slice<u32>) -> Result<(), CudaError> {
        assert_eq!(from.len(), to.len(), "as many words as are copied");
        stream(self, &COPY, from, to)
    }

    fn stream_blocks(&self) -> u32 {
        BLOCKS * self.info().multiprocessors
    }
}

fn stream(gpu: &Gpu, kernel: &Kernel<StreamArgs>, from: Slice<u32>, to: Slice<u32>) -> Result<(), CudaError> {
    assert!(from.len().is_multiple_of(4), "{} words are no whole vectors", from.len());
    let arguments = StreamArgs { from: from.address(), to: to.address(), count: from.len() as u64 / 4 };
    gpu.launch(kernel, Grid { overlaps: true, ..Grid::new(gpu.stream_blocks(), THREADS) }, &arguments)
}
