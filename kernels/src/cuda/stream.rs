//! The stream of launches, graphs of them, events.

use std::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::sys;

use super::device::{Context, Gpu};
use super::error::{CudaError, check};
use super::module::Kernel;

/// A stream that does not wait for the default one.
pub(super) struct Stream {
    handle: sys::CUstream,
    context: Arc<Context>,
}

// SAFETY: the driver's calls may come from any thread.
unsafe impl Send for Stream {}
// SAFETY: as above.
unsafe impl Sync for Stream {}

impl Stream {
    /// The context is current.
    pub(super) fn new(context: Arc<Context>) -> Result<Stream, CudaError> {
        let mut handle = std::ptr::null_mut();
        let flags = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
        // SAFETY: the driver writes a handle.
        check("making a stream", unsafe { sys::cuStreamCreate(&raw mut handle, flags) })?;
        Ok(Stream { handle, context })
    }

    pub(super) fn handle(&self) -> sys::CUstream {
        self.handle
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.context.make_current().is_ok() {
            // SAFETY: made by `new` and not used again.
            let _ = unsafe { sys::cuStreamDestroy_v2(self.handle) };
        }
    }
}

/// How many threads run a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Blocks along x, y and z; none of them 0.
    pub blocks: [u32; 3],
    /// Threads of a block, along x.
    pub threads: u32,
    /// Bytes of dynamic shared memory of a block.
    pub shared_bytes: u32,
    /// Whether it may start before the launch before it has ended: the kernel calls `grid_dependency_wait` before it reads
    /// or writes anything that another launch writes.
    pub overlaps: bool,
}

impl Grid {
    /// `blocks` along x, of `threads` each.
    pub fn new(blocks: u32, threads: u32) -> Grid {
        Grid { blocks: [blocks, 1, 1], threads, shared_bytes: 0, overlaps: false }
    }
}

impl Gpu {
    /// Launches a kernel. Only launchers in [`super::ops`] call it, as they know what the kernel does with its arguments.
    pub(super) fn launch<A: Copy>(&self, kernel: &Kernel<A>, grid: Grid, arguments: &A) -> Result<(), CudaError> {
        let function = self.modules().function(kernel, grid.shared_bytes)?;
        let mut parameters = [std::ptr::from_ref(arguments).cast_mut().cast::<c_void>()];
        let mut attribute = sys::CUlaunchAttribute {
            id: sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
            pad: [0; 4],
            value: sys::CUlaunchAttributeValue { programmaticStreamSerializationAllowed: 1 },
        };
        let config = sys::CUlaunchConfig {
            gridDimX: grid.blocks[0],
            gridDimY: grid.blocks[1],
            gridDimZ: grid.blocks[2],
            blockDimX: grid.threads,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: grid.shared_bytes,
            hStream: self.stream().handle(),
            attrs: &raw mut attribute,
            numAttrs: u32::from(grid.overlaps && self.info().compute_capability >= (9, 0)),
        };
        // SAFETY: the function takes one argument of the size of `A`, as `Modules::function` has checked, and the driver
        // copies it before it returns.
        check(kernel.name, unsafe {
            sys::cuLaunchKernelEx(&raw const config, function, parameters.as_mut_ptr(), std::ptr::null_mut())
        })
    }

    /// Makes the device that of this thread. Launches from a thread come after a call of this; everything else does it
    /// itself.
    pub fn enter(&self) -> Result<(), CudaError> {
        self.context().make_current()
    }

    /// Waits for all launches, and reports if one has failed.
    pub fn synchronize(&self) -> Result<(), CudaError> {
        self.enter()?;
        // SAFETY: the stream lives.
        check("running kernels", unsafe { sys::cuStreamSynchronize(self.stream().handle()) })
    }

    /// Records what `launches` launches, and copies and fills within the device, without running it. Kernels must have been
    /// launched before, so that none is loaded meanwhile; nothing may be allocated, read or written meanwhile.
    pub fn record(&self, launches: impl FnOnce() -> Result<(), CudaError>) -> Result<Graph, CudaError> {
        self.enter()?;
        let stream = self.stream().handle();
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream lives and is not recorded: recordings do not nest, as `launches` is given no `Gpu` to itself.
        check("recording launches", unsafe { sys::cuStreamBeginCapture_v2(stream, mode) })?;
        let launched = launches();
        let mut graph = std::ptr::null_mut();
        // SAFETY: ends what was begun above, whatever `launches` did.
        let ended = check("recording launches", unsafe { sys::cuStreamEndCapture(stream, &raw mut graph) });
        launched?;
        ended?;
        let mut executable = std::ptr::null_mut();
        // SAFETY: a graph that the driver made; it is not needed once it is instantiated.
        let made = check("preparing recorded launches", unsafe {
            let status = sys::cuGraphInstantiateWithFlags(&raw mut executable, graph, 0);
            sys::cuGraphDestroy(graph);
            status
        });
        made?;
        let graph = Graph { handle: executable, context: Arc::clone(self.context()) };
        // SAFETY: both live.
        check("preparing recorded launches", unsafe { sys::cuGraphUpload(graph.handle, stream) })?;
        Ok(graph)
    }

    /// Runs what was recorded. All memory that it uses must live still.
    pub fn replay(&self, graph: &Graph) -> Result<(), CudaError> {
        self.enter()?;
        // SAFETY: both live.
        check("running recorded launches", unsafe { sys::cuGraphLaunch(graph.handle, self.stream().handle()) })
    }

    /// Marks a point in time between launches.
    pub fn event(&self) -> Result<Event, CudaError> {
        self.enter()?;
        let mut handle = std::ptr::null_mut();
        // SAFETY: the driver writes a handle.
        check("making an event", unsafe { sys::cuEventCreate(&raw mut handle, 0) })?;
        let event = Event { handle, context: Arc::clone(self.context()) };
        // SAFETY: both live.
        check("recording an event", unsafe { sys::cuEventRecord(event.handle, self.stream().handle()) })?;
        Ok(event)
    }
}

/// Recorded launches.
pub struct Graph {
    handle: sys::CUgraphExec,
    context: Arc<Context>,
}

// SAFETY: the driver's calls may come from any thread.
unsafe impl Send for Graph {}

impl Drop for Graph {
    fn drop(&mut self) {
        if self.context.make_current().is_ok() {
            // SAFETY: made by `record` and not used again; the driver waits for replays under way.
            let _ = unsafe { sys::cuGraphExecDestroy(self.handle) };
        }
    }
}

/// A point in time on the device.
pub struct Event {
    handle: sys::CUevent,
    context: Arc<Context>,
}

// SAFETY: the driver's calls may come from any thread.
unsafe impl Send for Event {}

impl Event {
    /// Waits for this point, and gives the seconds since an earlier one, to about half a microsecond.
    pub fn seconds_since(&self, earlier: &Event) -> Result<f64, CudaError> {
        self.context.make_current()?;
        // SAFETY: the event lives.
        check("waiting for an event", unsafe { sys::cuEventSynchronize(self.handle) })?;
        let mut milliseconds = 0.0_f32;
        // SAFETY: both live and are recorded; the driver writes a number.
        check("comparing events", unsafe {
            sys::cuEventElapsedTime_v2(&raw mut milliseconds, earlier.handle, self.handle)
        })?;
        Ok(f64::from(milliseconds) / 1e3)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if self.context.make_current().is_ok() {
            // SAFETY: made by `event` and not used again.
            let _ = unsafe { sys::cuEventDestroy_v2(self.handle) };
        }
    }
}
