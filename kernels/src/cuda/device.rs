//! Finding and opening devices.

use std::collections::BTreeMap;
use std::ffi::{CStr, c_int};
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::sys::{self, CUdevice_attribute as Attribute};

use super::cublaslt::Libraries;
use super::error::{CudaError, check};
use super::module::Modules;
use super::stream::Stream;

/// Lowest compute capability that the kernels are written for: tensor cores take bf16 from there on.
const LOWEST: (u32, u32) = (8, 0);

/// A CUDA device that is in use.
///
/// Its calls come one after another: a `Gpu` may be sent to another thread, and be used by one at a time.
pub struct Gpu {
    // Fields are dropped in this order: the context last.
    libraries: Libraries,
    modules: Modules,
    stream: Stream,
    context: Arc<Context>,
    info: GpuInfo,
}

/// What a device is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuInfo {
    /// Its number.
    pub ordinal: u32,
    /// As the driver says it, `NVIDIA H200`.
    pub name: String,
    /// Major and minor.
    pub compute_capability: (u32, u32),
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Bytes of its memory.
    pub memory: u64,
    /// Bytes of shared memory that a block can ask for.
    pub shared_memory_per_block: u32,
    /// Bytes of its L2 cache.
    pub l2_cache: u32,
    /// CUDA version that the driver supports: 1000 · major + 10 · minor.
    pub driver: i32,
}

/// The primary context of a device.
pub(super) struct Context {
    handle: sys::CUcontext,
}

// SAFETY: the driver's calls may come from any thread.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Context {
    /// Makes it that of this thread's calls.
    pub(super) fn make_current(&self) -> Result<(), CudaError> {
        // SAFETY: a context that is retained.
        check("choosing the device", unsafe { sys::cuCtxSetCurrent(self.handle) })
    }
}

/// The contexts of devices that this process has opened. They are kept to its end: making one takes a good part of a second, and
/// libraries hold on to what they have made in one.
static CONTEXTS: Mutex<BTreeMap<u32, Arc<Context>>> = Mutex::new(BTreeMap::new());

impl Context {
    /// That of a device.
    fn of(ordinal: u32, device: sys::CUdevice) -> Result<Arc<Context>, CudaError> {
        let mut contexts = CONTEXTS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(context) = contexts.get(&ordinal) {
            return Ok(Arc::clone(context));
        }
        let mut handle = std::ptr::null_mut();
        // SAFETY: the driver writes a handle.
        check("opening the device", unsafe { sys::cuDevicePrimaryCtxRetain(&raw mut handle, device) })?;
        let context = Arc::new(Context { handle });
        contexts.insert(ordinal, Arc::clone(&context));
        Ok(context)
    }
}

/// Loads the driver and initializes it. Nothing of cudarc is called before, as it panics where the library is missing.
fn driver() -> Result<i32, CudaError> {
    // SAFETY: loads a library whose initializers are those of the driver.
    if !unsafe { sys::is_culib_present() } {
        return Err(CudaError::NoDriver);
    }
    let mut version: c_int = 0;
    // SAFETY: the library is present; the driver writes a number.
    check("asking for the driver's version", unsafe { sys::cuDriverGetVersion(&raw mut version) })?;
    // SAFETY: as above.
    match unsafe { sys::cuInit(0) } {
        sys::CUresult::CUDA_ERROR_NO_DEVICE => Err(CudaError::NoDevice),
        status => check("initializing the driver", status).map(|()| version),
    }
}

/// How many devices there are; at least 1.
pub fn devices() -> Result<u32, CudaError> {
    driver()?;
    count()
}

fn count() -> Result<u32, CudaError> {
    let mut devices: c_int = 0;
    // SAFETY: the driver is initialized; it writes a number.
    check("counting devices", unsafe { sys::cuDeviceGetCount(&raw mut devices) })?;
    match u32::try_from(devices) {
        Ok(devices) if devices > 0 => Ok(devices),
        _ => Err(CudaError::NoDevice),
    }
}

impl Gpu {
    /// Opens the device of a number. Kernels are loaded when they are first launched; those that have to be compiled for it
    /// are kept in the folder `cache`, if there is one.
    pub fn open(ordinal: u32, cache: Option<&Path>) -> Result<Gpu, CudaError> {
        let version = driver()?;
        let devices = count()?;
        if ordinal >= devices {
            return Err(CudaError::NoSuchDevice { asked: ordinal, devices });
        }
        let mut device = 0;
        // SAFETY: the driver writes a handle.
        check("opening the device", unsafe { sys::cuDeviceGet(&raw mut device, ordinal as c_int) })?;
        let info = GpuInfo::of(ordinal, device, version)?;
        if info.compute_capability < LOWEST {
            return Err(CudaError::TooOld { device: info.name, found: info.compute_capability, needed: LOWEST });
        }
        let modules = Modules::new(&info, cache)?;
        let context = Context::of(ordinal, device)?;
        context.make_current()?;
        let libraries = Libraries::default();
        Ok(Gpu { libraries, modules, stream: Stream::new(Arc::clone(&context))?, context, info })
    }

    /// What it is.
    pub fn info(&self) -> &GpuInfo {
        &self.info
    }

    /// Bytes of its memory that nobody uses.
    pub fn free_memory(&self) -> Result<u64, CudaError> {
        self.context.make_current()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: the driver writes two numbers.
        check("asking for free memory", unsafe { sys::cuMemGetInfo_v2(&raw mut free, &raw mut total) })?;
        Ok(free as u64)
    }

    /// The architecture whose code it runs, `sm_90a`.
    pub fn target(&self) -> &str {
        self.modules.origin()
    }

    pub(super) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    pub(super) fn stream(&self) -> &Stream {
        &self.stream
    }

    pub(super) fn libraries(&self) -> &Libraries {
        &self.libraries
    }

    pub(super) fn modules(&self) -> &Modules {
        &self.modules
    }
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.info.fmt(f)
    }
}

impl GpuInfo {
    fn of(ordinal: u32, device: sys::CUdevice, driver: i32) -> Result<GpuInfo, CudaError> {
        let attribute = |attribute| {
            let mut value: c_int = 0;
            // SAFETY: the driver writes a number.
            check("asking what the device is", unsafe {
                sys::cuDeviceGetAttribute(&raw mut value, attribute, device)
            })?;
            Ok::<_, CudaError>(u32::try_from(value).unwrap_or(0))
        };
        let mut name = [0; 256];
        // SAFETY: the driver writes at most 256 bytes, the last of them 0.
        check("asking what the device is", unsafe {
            sys::cuDeviceGetName(name.as_mut_ptr(), name.len() as c_int, device)
        })?;
        // SAFETY: ended by 0 within its length.
        let name = unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned();
        let mut memory = 0;
        // SAFETY: the driver writes a number.
        check("asking what the device is", unsafe { sys::cuDeviceTotalMem_v2(&raw mut memory, device) })?;
        Ok(GpuInfo {
            ordinal,
            name,
            compute_capability: (
                attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
                attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
            ),
            multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?.max(1),
            memory: memory as u64,
            shared_memory_per_block: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
            l2_cache: attribute(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)?,
            driver,
        })
    }
}
