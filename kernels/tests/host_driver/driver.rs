//! Calls of the driver, as the tests need them.

use std::ffi::{CStr, CString, c_void};

use cudarc::driver::sys::{self, CUresult};

/// The words of the driver for a failure.
pub(crate) fn check(status: CUresult) -> Result<(), String> {
    if status == CUresult::CUDA_SUCCESS {
        return Ok(());
    }
    let mut text = std::ptr::null();
    // SAFETY: the driver writes a pointer to a text that is ended by 0.
    let text = unsafe {
        assert_eq!(sys::cuGetErrorString(status, &raw mut text), CUresult::CUDA_SUCCESS);
        CStr::from_ptr(text)
    };
    Err(text.to_string_lossy().into_owned())
}

/// How a kernel is launched.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) blocks: u32,
    pub(crate) threads: u32,
    pub(crate) shared_bytes: u32,
    pub(crate) overlaps: bool,
}

impl Shape {
    pub(crate) fn new(blocks: u32, threads: u32) -> Shape {
        Shape { blocks, threads, shared_bytes: 0, overlaps: false }
    }
}

/// A stream, and a module with all kernels.
pub(crate) struct Device {
    pub(crate) stream: sys::CUstream,
    module: sys::CUmodule,
}

impl Device {
    pub(crate) fn open() -> Device {
        let (mut context, mut stream, mut module) = (std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: the driver writes handles, and looks at no byte of an image.
        unsafe {
            check(sys::cuInit(0)).unwrap();
            check(sys::cuDevicePrimaryCtxRetain(&raw mut context, 0)).unwrap();
            check(sys::cuCtxSetCurrent(context)).unwrap();
            check(sys::cuStreamCreate(&raw mut stream, 1)).unwrap();
            check(sys::cuModuleLoadData(&raw mut module, c"".as_ptr().cast())).unwrap();
        }
        Device { stream, module }
    }

    pub(crate) fn function(&self, name: &str) -> Result<sys::CUfunction, String> {
        let (name, mut function) = (CString::new(name).unwrap(), std::ptr::null_mut());
        // SAFETY: the module is loaded; the name is ended by 0.
        check(unsafe { sys::cuModuleGetFunction(&raw mut function, self.module, name.as_ptr()) })?;
        Ok(function)
    }

    pub(crate) fn launch<A: Copy>(&self, name: &str, shape: Shape, arguments: &A) -> Result<(), String> {
        let function = self.function(name)?;
        let (mut offset, mut size) = (0, 0);
        // SAFETY: the driver writes two numbers.
        check(unsafe { sys::cuFuncGetParamInfo(function, 0, &raw mut offset, &raw mut size) })?;
        assert_eq!(size, size_of::<A>(), "arguments of {name}");
        let mut parameters = [std::ptr::from_ref(arguments).cast_mut().cast::<c_void>()];
        let mut attribute = sys::CUlaunchAttribute {
            id: sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
            pad: [0; 4],
            value: sys::CUlaunchAttributeValue { programmaticStreamSerializationAllowed: 1 },
        };
        let config = sys::CUlaunchConfig {
            gridDimX: shape.blocks,
            gridDimY: 1,
            gridDimZ: 1,
            blockDimX: shape.threads,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: shape.shared_bytes,
            hStream: self.stream,
            attrs: &raw mut attribute,
            numAttrs: u32::from(shape.overlaps),
        };
        // SAFETY: the kernel takes one argument of this size.
        check(unsafe {
            sys::cuLaunchKernelEx(&raw const config, function, parameters.as_mut_ptr(), std::ptr::null_mut())
        })
    }

    pub(crate) fn synchronize(&self) -> Result<(), String> {
        // SAFETY: the stream lives.
        check(unsafe { sys::cuStreamSynchronize(self.stream) })
    }

    /// Launches and waits.
    pub(crate) fn run<A: Copy>(&self, name: &str, shape: Shape, arguments: &A) -> Result<(), String> {
        self.launch(name, shape, arguments)?;
        self.synchronize()
    }

    pub(crate) fn allocate(&self, words: usize) -> Buffer {
        let mut address = 0;
        // SAFETY: the driver writes an address.
        check(unsafe { sys::cuMemAlloc_v2(&raw mut address, 4 * words) }).unwrap();
        Buffer { address, words, stream: self.stream }
    }

    pub(crate) fn upload(&self, words: &[u32]) -> Buffer {
        let buffer = self.allocate(words.len());
        // SAFETY: as many bytes as both have; the stream is waited for.
        check(unsafe {
            sys::cuMemcpyHtoDAsync_v2(buffer.address, words.as_ptr().cast(), 4 * words.len(), self.stream)
        })
        .unwrap();
        self.synchronize().unwrap();
        buffer
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: not used again.
        unsafe {
            check(sys::cuStreamDestroy_v2(self.stream)).unwrap();
            check(sys::cuModuleUnload(self.module)).unwrap();
        }
    }
}

/// Words of device memory.
pub(crate) struct Buffer {
    pub(crate) address: u64,
    words: usize,
    stream: sys::CUstream,
}

impl Buffer {
    pub(crate) fn words(&self) -> Vec<u32> {
        let mut words = vec![0_u32; self.words];
        // SAFETY: as many bytes as both have; the stream is waited for.
        unsafe {
            check(sys::cuMemcpyDtoHAsync_v2(words.as_mut_ptr().cast(), self.address, 4 * self.words, self.stream))
                .unwrap();
            check(sys::cuStreamSynchronize(self.stream)).unwrap();
        }
        words
    }

    pub(crate) fn floats(&self) -> Vec<f32> {
        self.words().into_iter().map(f32::from_bits).collect()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: allocated once, and not used again.
        check(unsafe { sys::cuMemFree_v2(self.address) }).unwrap();
    }
}
