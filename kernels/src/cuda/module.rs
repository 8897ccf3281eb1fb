//! The kernels' code: images that are shipped, or compiled on the machine for devices that these do not fit.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fmt::Write as _;
use std::fs;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use cudarc::driver::sys;
use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;

use super::device::GpuInfo;
use super::error::{CudaError, check};
use super::images::IMAGES;
use super::nvrtc;

/// A kernel: a function of a source that takes one argument, of type `A`.
pub struct Kernel<A> {
    /// Its name in the source.
    pub name: &'static str,
    /// Name of the source, without `.cu`.
    pub source: &'static str,
    arguments: PhantomData<fn(A)>,
}

impl<A> Kernel<A> {
    /// `A` is the same struct as in the source, `#[repr(C)]`, of numbers.
    pub(super) const fn new(source: &'static str, name: &'static str) -> Kernel<A> {
        Kernel { name, source, arguments: PhantomData }
    }
}

/// A source of kernels.
pub(super) struct Source {
    /// Name, without `.cu`.
    pub(super) name: &'static str,
    /// Its text.
    pub(super) text: &'static str,
}

macro_rules! sources {
    ($($name:literal),* $(,)?) => {
        &[$(Source { name: $name, text: include_str!(concat!($name, ".cu")) }),*]
    };
}

macro_rules! headers {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!($name))),*]
    };
}

/// Every source, by name.
pub(super) static SOURCES: &[Source] = sources![
    "attention_decode",
    "attention_prefill",
    "elementwise",
    "embed",
    "experts",
    "heads",
    "limits",
    "product",
    "product_int8",
    "product_many",
    "rotate",
    "routing",
    "rows",
    "sample"
];

/// What sources include.
pub(super) static HEADERS: &[(&str, &str)] = headers![
    "activation.cuh",
    "attention.cuh",
    "device.cuh",
    "few.cuh",
    "finish.cuh",
    "hadamard.cuh",
    "matrix.cuh",
    "norm.cuh",
    "product_many.cuh",
    "rounding.cuh",
    "rows_of_x.cuh",
    "team.cuh",
    "tiles.cuh",
    "vectors.cuh"
];

/// Code of a source for an architecture.
#[derive(Debug, Clone, Copy)]
pub(super) struct Image {
    /// Name of the source.
    pub(super) source: &'static str,
    /// `sm_80` and `sm_90a` for code of these devices, `compute_80` for text that drivers compile.
    pub(super) target: &'static str,
    /// The image, as a zlib stream.
    pub(super) stream: &'static [u8],
}

/// Version of the driver that loads the shipped images: that of the toolkit they are made with.
const IMAGES_NEED: i32 = 13_000;

/// Version of the driver that has all functions that are called.
const LOWEST_DRIVER: i32 = 12_080;

/// Loaded code.
pub(super) struct Modules {
    origin: Origin,
    cache: Option<PathBuf>,
    loaded: Mutex<Loaded>,
}

/// Where code comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    /// From the image for a target.
    Shipped(&'static str),
    /// From the compiler of the machine, for an architecture.
    Compiled(String),
}

#[derive(Default)]
struct Loaded {
    modules: BTreeMap<&'static str, sys::CUmodule>,
    functions: BTreeMap<&'static str, Function>,
}

// SAFETY: handles of the driver, whose calls may come from any thread.
unsafe impl Send for Loaded {}

struct Function {
    handle: sys::CUfunction,
    /// Bytes of dynamic shared memory that it was said to be launched with. Without that it may have 48 KiB together with what
    /// it declares.
    shared_bytes: u32,
}

impl Modules {
    /// Chooses where code comes from. What is compiled is kept in `cache`, if there is one.
    pub(super) fn new(info: &GpuInfo, cache: Option<&Path>) -> Result<Modules, CudaError> {
        let origin = origin(info, nvrtc::is_present())?;
        if let Origin::Shipped(target) = origin
            && !cfg!(feature = "check")
            && let Some(source) = SOURCES.iter().find(|source| find_image(source.name, target).is_none())
        {
            return Err(no_image(source.name, target));
        }
        Ok(Modules { origin, cache: cache.map(Path::to_owned), loaded: Mutex::default() })
    }

    /// Where code comes from, for people.
    pub(super) fn origin(&self) -> &str {
        match &self.origin {
            Origin::Shipped(target) => target,
            Origin::Compiled(target) => target,
        }
    }

    /// A function that can be launched with so much dynamic shared memory. The context is current.
    pub(super) fn function<A>(&self, kernel: &Kernel<A>, shared_bytes: u32) -> Result<sys::CUfunction, CudaError> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if !loaded.functions.contains_key(kernel.name) {
            let module = match loaded.modules.get(kernel.source) {
                Some(&module) => module,
                None => {
                    let module = self.load(kernel.source)?;
                    loaded.modules.insert(kernel.source, module);
                    module
                }
            };
            let handle = function(module, kernel)?;
            loaded.functions.insert(kernel.name, Function { handle, shared_bytes: 0 });
        }
        let Some(function) = loaded.functions.get_mut(kernel.name) else { unreachable!("inserted above") };
        if shared_bytes > function.shared_bytes {
            let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the function is loaded.
            check(kernel.name, unsafe { sys::cuFuncSetAttribute(function.handle, attribute, shared_bytes as i32) })?;
            function.shared_bytes = shared_bytes;
        }
        Ok(function.handle)
    }

    fn load(&self, name: &'static str) -> Result<sys::CUmodule, CudaError> {
        let source = SOURCES.iter().find(|source| source.name == name);
        let source = source.unwrap_or_else(|| panic!("{name}.cu is not in the table of sources"));
        let mut image = match &self.origin {
            Origin::Shipped(target) => image(name, target)?,
            Origin::Compiled(target) => self.compile(source, target)?,
        };
        image.push(0);
        let mut module = std::ptr::null_mut();
        // SAFETY: a whole image, or text that is ended by 0, aligned as allocations are; the driver checks what it is.
        check("loading kernels", unsafe { sys::cuModuleLoadData(&raw mut module, image.as_ptr().cast()) })?;
        Ok(module)
    }

    /// From the cache, or compiled and put there. A cache that cannot be read or written is none.
    fn compile(&self, source: &Source, target: &str) -> Result<Vec<u8>, CudaError> {
        let file = self.cache.as_ref().map(|cache| cache.join(file_name(source, target, nvrtc::version())));
        if let Some(image) = file.as_ref().and_then(|file| read_whole(file)) {
            return Ok(image);
        }
        let image = nvrtc::compile(source, target)?;
        if let Some(file) = file {
            let _ = write_whole(&file, &image);
        }
        Ok(image)
    }
}

impl Drop for Modules {
    fn drop(&mut self) {
        let loaded = self.loaded.get_mut().unwrap_or_else(PoisonError::into_inner);
        for &module in loaded.modules.values() {
            // SAFETY: loaded by `load`, and no launch comes after. Without a current context it fails, and the context that
            // is released next unloads it.
            let _ = unsafe { sys::cuModuleUnload(module) };
        }
    }
}

/// Shipped images where they fit device and driver, else the compiler, else text that the driver compiles.
fn origin(info: &GpuInfo, has_compiler: bool) -> Result<Origin, CudaError> {
    let (major, minor) = info.compute_capability;
    let target = format!("sm_{major}{minor}");
    if info.driver < LOWEST_DRIVER {
        return Err(CudaError::DriverTooOld { found: info.driver, needed: LOWEST_DRIVER });
    }
    let loads_images = info.driver >= IMAGES_NEED;
    match (major, minor) {
        (8, _) if loads_images => Ok(Origin::Shipped("sm_80")),
        (9, 0) if loads_images => Ok(Origin::Shipped("sm_90a")),
        _ if has_compiler => Ok(Origin::Compiled(if (major, minor) == (9, 0) { "sm_90a".to_owned() } else { target })),
        _ if loads_images => Ok(Origin::Shipped("compute_80")),
        _ => Err(CudaError::NoKernels {
            target,
            reason: format!(
                "the driver supports CUDA {}.{}, the kernels of this build need {}.{}, and there is no libnvrtc to compile them",
                info.driver / 1000,
                info.driver % 1000 / 10,
                IMAGES_NEED / 1000,
                IMAGES_NEED % 1000 / 10,
            ),
        }),
    }
}

/// Most bytes of an image.
const LARGEST_IMAGE: usize = 64 << 20;

fn find_image(name: &str, target: &str) -> Option<&'static Image> {
    IMAGES.iter().find(|image| image.source == name && image.target == target)
}

fn no_image(name: &str, target: &str) -> CudaError {
    CudaError::NoKernels { target: target.to_owned(), reason: format!("this build has no code of {name}.cu") }
}

fn image(name: &str, target: &str) -> Result<Vec<u8>, CudaError> {
    match find_image(name, target) {
        Some(image) => decompress_to_vec_zlib_with_limit(image.stream, LARGEST_IMAGE).map_err(|error| {
            let reason = format!("the code of {name}.cu in this build is broken: {error}");
            CudaError::NoKernels { target: target.to_owned(), reason }
        }),
        // A source that is being written: the host driver takes any image, and none other is there.
        None if cfg!(feature = "check") => Ok(Vec::new()),
        None => Err(no_image(name, target)),
    }
}

fn function<A>(module: sys::CUmodule, kernel: &Kernel<A>) -> Result<sys::CUfunction, CudaError> {
    let name = CString::new(kernel.name).unwrap_or_else(|_| unreachable!("names have no byte 0"));
    let mut handle = std::ptr::null_mut();
    // SAFETY: the module is loaded; the name is ended by 0.
    check(kernel.name, unsafe { sys::cuModuleGetFunction(&raw mut handle, module, name.as_ptr()) })?;
    let (mut offset, mut size) = (0, 0);
    // SAFETY: the function is loaded; the driver writes two numbers.
    check(kernel.name, unsafe { sys::cuFuncGetParamInfo(handle, 0, &raw mut offset, &raw mut size) })?;
    if size != size_of::<A>() {
        return Err(CudaError::Arguments { kernel: kernel.name, found: size, expected: size_of::<A>() });
    }
    Ok(handle)
}

/// Names what an image is made of, so that one of other sources is never taken for it.
fn file_name(source: &Source, target: &str, compiler: (i32, i32)) -> String {
    let mut hasher = blake3::Hasher::new();
    for (name, text) in HEADERS.iter().copied().chain([(source.name, source.text)]) {
        hasher.update(&(text.len() as u64).to_le_bytes()).update(name.as_bytes()).update(text.as_bytes());
    }
    for option in nvrtc::OPTIONS {
        hasher.update(option.to_bytes_with_nul());
    }
    let mut name = format!("{}-{target}-nvrtc{}.{}-", source.name, compiler.0, compiler.1);
    let _ = write!(name, "{}.cubin", &hasher.finalize().to_hex()[..32]);
    name
}

/// A file of the cache: the image, then its BLAKE3.
fn read_whole(file: &Path) -> Option<Vec<u8>> {
    let mut bytes = fs::read(file).ok()?;
    let image = bytes.len().checked_sub(blake3::OUT_LEN)?;
    let hash = bytes.split_off(image);
    (blake3::hash(&bytes).as_bytes().as_slice() == hash).then_some(bytes)
}

fn write_whole(file: &Path, image: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let partial = file.with_extension(format!("partial-{}", std::process::id()));
    let bytes = [image, blake3::hash(image).as_bytes()].concat();
    fs::write(&partial, bytes).and_then(|()| fs::rename(&partial, file)).inspect_err(|_| {
        let _ = fs::remove_file(&partial);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(compute_capability: (u32, u32), driver: i32) -> GpuInfo {
        GpuInfo {
            ordinal: 0,
            name: "a device".to_owned(),
            compute_capability,
            multiprocessors: 1,
            memory: 1,
            shared_memory_per_block: 1,
            l2_cache: 1,
            driver,
        }
    }

    #[test]
    fn images_are_for_devices_that_they_fit() {
        let origin = |device, driver, compiler| origin(&info(device, driver), compiler);
        for (device, target) in [((8, 0), "sm_80"), ((8, 9), "sm_80"), ((9, 0), "sm_90a"), ((12, 0), "compute_80")] {
            assert_eq!(origin(device, 13_000, false).unwrap(), Origin::Shipped(target));
        }
        for (device, target) in [((8, 9), "sm_89"), ((9, 0), "sm_90a"), ((12, 0), "sm_120")] {
            assert_eq!(origin(device, 12_080, true).unwrap(), Origin::Compiled(target.to_owned()));
        }
        assert_eq!(origin((12, 0), 13_000, true).unwrap(), Origin::Compiled("sm_120".to_owned()));
        assert_eq!(
            origin((9, 0), 12_080, false).unwrap_err().to_string(),
            "no kernels for sm_90: the driver supports CUDA 12.8, the kernels of this build need 13.0, and there is no libnvrtc to compile them"
        );
        assert_eq!(
            origin((9, 0), 11_080, true).unwrap_err().to_string(),
            "the CUDA driver supports CUDA 11.8, expected at least 12.8"
        );
    }

    #[test]
    fn a_cache_gives_back_whole_images_only() {
        let folder = std::env::temp_dir().join(format!("lathe-kernels-{}", std::process::id()));
        let file = folder.join("image");
        write_whole(&file, b"code").unwrap();
        assert_eq!(read_whole(&file).unwrap(), b"code");
        fs::write(&file, &fs::read(&file).unwrap()[1..]).unwrap();
        assert_eq!(read_whole(&file), None);
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(read_whole(&file), None);
    }
}
