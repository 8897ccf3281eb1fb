//! Why a device cannot be used.

use cudarc::driver::sys::{CUresult, cuGetErrorString};
use std::ffi::CStr;

/// Why a CUDA device cannot be had, or what it answered.
#[derive(Debug, thiserror::Error)]
pub enum CudaError {
    /// No driver library.
    #[error("there is no CUDA driver on this machine (libcuda.so is not found)")]
    NoDriver,
    /// A driver that cannot load what this build ships, nor the library that compiles kernels for it.
    #[error("the CUDA driver supports CUDA {}.{}, expected at least {}.{}", found / 1000, found % 1000 / 10, needed / 1000, needed % 1000 / 10)]
    DriverTooOld {
        /// As the driver says it: 1000 · major + 10 · minor.
        found: i32,
        /// In the same way.
        needed: i32,
    },
    /// A driver without devices.
    #[error("the CUDA driver finds no device")]
    NoDevice,
    /// A number that no device has.
    #[error("there is no CUDA device {asked}, the driver finds {devices}")]
    NoSuchDevice {
        /// Asked for.
        asked: u32,
        /// How many there are.
        devices: u32,
    },
    /// A device that lacks instructions.
    #[error("{device} has compute capability {}.{}, expected at least {}.{}", found.0, found.1, needed.0, needed.1)]
    TooOld {
        /// Its name.
        device: String,
        /// Its compute capability.
        found: (u32, u32),
        /// Lowest that kernels are for.
        needed: (u32, u32),
    },
    /// More memory than is free.
    #[error("{what} needs {needed} bytes of device memory, of which {free} are free")]
    Memory {
        /// What it is for.
        what: &'static str,
        /// Bytes asked for; saturates.
        needed: u64,
        /// Bytes that were free.
        free: u64,
    },
    /// No image of the kernels runs on the device, and they cannot be compiled for it.
    #[error("no kernels for {target}: {reason}")]
    NoKernels {
        /// The architecture, `sm_120`.
        target: String,
        /// Why they cannot be compiled.
        reason: String,
    },
    /// The compiler of the machine refuses a source of the kernels.
    #[error("{kernels} cannot be compiled for {target}:\n{log}")]
    Compile {
        /// Name of the source.
        kernels: &'static str,
        /// The architecture.
        target: String,
        /// What the compiler says.
        log: String,
    },
    /// A function whose arguments are not those that this build passes: an image of other sources.
    #[error("kernel `{kernel}` takes {found} bytes of arguments, expected {expected}")]
    Arguments {
        /// The kernel.
        kernel: &'static str,
        /// What its image says.
        found: usize,
        /// What this build passes.
        expected: usize,
    },
    /// The driver refused a call, or an earlier launch failed.
    #[error("{call}: {text}")]
    Driver {
        /// What was being done.
        call: &'static str,
        /// The driver's words.
        text: String,
    },
    /// A library refused a call.
    #[error("cuBLASLt, {call}: {text}")]
    Library {
        /// What was being done.
        call: &'static str,
        /// Its status.
        text: String,
    },
}

/// `Ok` where the driver says so. Only after [`super::device::driver`] has found it.
pub(super) fn check(call: &'static str, status: CUresult) -> Result<(), CudaError> {
    if status == CUresult::CUDA_SUCCESS { Ok(()) } else { Err(CudaError::Driver { call, text: text(status) }) }
}

fn text(status: CUresult) -> String {
    let mut text = std::ptr::null();
    // SAFETY: the driver is loaded, as it gave the status; it writes a pointer to a constant string, or none.
    let known = unsafe { cuGetErrorString(status, &raw mut text) } == CUresult::CUDA_SUCCESS && !text.is_null();
    if known {
        // SAFETY: a constant string of the driver, ended by 0.
        unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
    } else {
        format!("error {}", status as u32)
    }
}
