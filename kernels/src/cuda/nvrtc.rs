//! The compiler of the machine.

use std::ffi::{CStr, CString, c_char};

use cudarc::nvrtc::sys;

use super::error::CudaError;
use super::module::{HEADERS, Source};

/// As `build.sh` compiles; the architecture comes on top.
pub(super) const OPTIONS: &[&CStr] = &[c"--std=c++17", c"--fmad=true"];

/// Whether there is one. Nothing else here is called before.
pub(super) fn is_present() -> bool {
    // SAFETY: loads a library whose initializers are those of the compiler.
    unsafe { sys::is_culib_present() }
}

/// Major and minor.
pub(super) fn version() -> (i32, i32) {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: the library is present; it writes two numbers.
    let _ = unsafe { sys::nvrtcVersion(&raw mut major, &raw mut minor) };
    (major, minor)
}

/// Code for an architecture such as `sm_90a`.
pub(super) fn compile(source: &Source, target: &str) -> Result<Vec<u8>, CudaError> {
    let text = |text: &str| CString::new(text).unwrap_or_else(|_| unreachable!("sources have no byte 0"));
    let failed = |log: String| CudaError::Compile { kernels: source.name, target: target.to_owned(), log };
    let (name, code) = (text(source.name), text(source.text));
    let names: Vec<CString> = HEADERS.iter().map(|(name, _)| text(name)).collect();
    let headers: Vec<CString> = HEADERS.iter().map(|(_, header)| text(header)).collect();
    let pointers = |texts: &[CString]| texts.iter().map(|text| text.as_ptr()).collect::<Vec<_>>();
    let (name_pointers, header_pointers) = (pointers(&names), pointers(&headers));
    let mut handle = std::ptr::null_mut();
    // SAFETY: all are texts ended by 0 that live until the program is destroyed; the lists are equally long.
    let status = unsafe {
        sys::nvrtcCreateProgram(
            &raw mut handle,
            code.as_ptr(),
            name.as_ptr(),
            headers.len() as i32,
            header_pointers.as_ptr(),
            name_pointers.as_ptr(),
        )
    };
    if status != sys::nvrtcResult::NVRTC_SUCCESS {
        return Err(failed(describe(status)));
    }
    let program = Program(handle);
    let architecture = text(&format!("--gpu-architecture={target}"));
    let mut options: Vec<*const c_char> = OPTIONS.iter().map(|option| option.as_ptr()).collect();
    options.push(architecture.as_ptr());
    // SAFETY: the program lives; the options are texts ended by 0.
    let status = unsafe { sys::nvrtcCompileProgram(program.0, options.len() as i32, options.as_ptr()) };
    if status != sys::nvrtcResult::NVRTC_SUCCESS {
        let log = program.bytes(sys::nvrtcGetProgramLogSize, sys::nvrtcGetProgramLog).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        return Err(failed(format!("{}\n{}", describe(status), log.trim_end_matches('\0'))));
    }
    program.bytes(sys::nvrtcGetCUBINSize, sys::nvrtcGetCUBIN).map_err(|status| failed(describe(status)))
}

fn describe(status: sys::nvrtcResult) -> String {
    // SAFETY: the library is present; it gives a constant string.
    unsafe { CStr::from_ptr(sys::nvrtcGetErrorString(status)) }.to_string_lossy().into_owned()
}

/// Destroyed when it is dropped.
struct Program(sys::nvrtcProgram);

impl Program {
    fn bytes(
        &self,
        size: unsafe fn(sys::nvrtcProgram, *mut usize) -> sys::nvrtcResult,
        get: unsafe fn(sys::nvrtcProgram, *mut c_char) -> sys::nvrtcResult,
    ) -> Result<Vec<u8>, sys::nvrtcResult> {
        let ok = |status| if status == sys::nvrtcResult::NVRTC_SUCCESS { Ok(()) } else { Err(status) };
        let mut length = 0;
        // SAFETY: the program lives; the library writes a number.
        ok(unsafe { size(self.0, &raw mut length) })?;
        let mut bytes = vec![0_u8; length];
        // SAFETY: the library writes as many bytes as it has said.
        ok(unsafe { get(self.0, bytes.as_mut_ptr().cast()) })?;
        Ok(bytes)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: made by `compile` and not used again.
        let _ = unsafe { sys::nvrtcDestroyProgram(&raw mut self.0) };
    }
}
