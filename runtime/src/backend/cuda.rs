//! NVIDIA devices: launches on a stream, planned when a session is made.
//!
//! A session copies the weights to the device, in the layouts of its kernels, and allocates caches and activations there.
//! Passes of one token are recorded the second time that they run, and replayed from then on: what differs from one to the
//! next lies in device memory.

mod limits;
mod machine;
mod plan;
mod resident;
mod schedule;
mod session;
mod steps;

pub use plan::CudaMemoryPlan;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lathe_kernels::cuda::{CudaError, Gpu};
use lathe_kernels::formats::Matrix;

use self::plan::{Assumed, STEP_TOKENS};
use self::schedule::{Kind, Listing, Schedule};
use self::session::CudaSession;
use super::{Backend, DeviceInfo, Session};
use crate::exec::{ExecError, Limits, SessionOptions, check_weights};
use crate::program::{Program, verify};

/// A CUDA device.
#[derive(Debug)]
pub struct CudaBackend {
    gpu: Shared,
    info: DeviceInfo,
}

/// A device that sessions take turns on: its launches go to one stream.
#[derive(Debug, Clone)]
pub(crate) struct Shared(Arc<Mutex<Gpu>>);

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Gpu> {
        // What a panic leaves behind on the device, its next call reports.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CudaBackend {
    /// Opens the device of a number. Kernels that have to be compiled for it are kept in the folder `kernels`, if there is
    /// one.
    ///
    /// # Errors
    /// When there is no such device, or it cannot run the kernels.
    pub fn open(ordinal: u32, kernels: Option<&Path>) -> Result<CudaBackend, CudaError> {
        let gpu = Gpu::open(ordinal, kernels)?;
        let info = DeviceInfo {
            name: format!("cuda:{ordinal}"),
            isa: format!("{}, {}", gpu.info().name, gpu.target()),
            threads: gpu.info().multiprocessors as usize,
        };
        Ok(CudaBackend { gpu: Shared(Arc::new(Mutex::new(gpu))), info })
    }

    /// Bytes of the memory of the device that are free.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn free_memory(&self) -> Result<u64, CudaError> {
        self.gpu.lock().free_memory()
    }
}

impl Backend for CudaBackend {
    fn info(&self) -> DeviceInfo {
        self.info.clone()
    }

    fn session<'a>(
        &self,
        program: &'a Program,
        weights: &[Matrix<'a>],
        options: &SessionOptions,
    ) -> Result<Box<dyn Session + 'a>, ExecError> {
        verify(program)?;
        check_weights(program, weights)?;
        let limits = Limits::new(program, options)?;
        limits::check(program, limits.max_step_tokens)?;
        check_memory(program, &limits, self.free_memory()?)?;
        Ok(Box::new(CudaSession::new(&self.gpu, program, weights, limits)?))
    }

    fn options(&self, capacity: usize) -> SessionOptions {
        SessionOptions::on_device(capacity)
    }

    fn longest_context(&self, program: &Program) -> Result<Option<usize>, ExecError> {
        verify(program)?;
        limits::check(program, STEP_TOKENS)?;
        Ok(Some(CudaMemoryPlan::new(program).longest_context(self.free_memory()?)))
    }

    fn enter(&self, work: &mut (dyn FnMut() + Send)) {
        work();
    }
}

/// The launches of a pass of one token, or of any number of them, on a device that can do all that there is: a line for each,
/// with the labels of the steps that it computes. Of a valid program.
pub fn cuda_launches(program: &Program, is_one: bool) -> String {
    let kind = if is_one { Kind::One } else { Kind::Many };
    let schedule = Schedule::new(program, &Assumed { program }, kind);
    Listing { program, schedule: &schedule }.to_string()
}

/// Fails where a session does not fit, before anything is copied.
fn check_memory(program: &Program, limits: &Limits, free: u64) -> Result<(), ExecError> {
    let capacity = limits.capacity;
    let plan = CudaMemoryPlan::with_options(program, limits.max_step_tokens, limits.max_logits);
    let needed = plan.bytes(capacity);
    if needed <= free {
        return Ok(());
    }
    Err(ExecError::DeviceMemory { needed, capacity, free, longest: plan.longest_context(free).min(capacity) })
}
