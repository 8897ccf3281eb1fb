//! A CUDA driver without a device: libraries that answer for `libcuda.so` and `libcublasLt.so` and run the kernels of
//! [`crate::cuda`] on the CPU, compiled from the same sources by the C++ compiler of the machine (`kernels/src/cuda/host/`).
//!
//! [`load`] brings them into this process. For a child process, set `LD_LIBRARY_PATH` to the folder that [`HostDriver::build`]
//! gives. It is controlled by the environment:
//!
//! | variable | what |
//! |---|---|
//! | `CXX` | the compiler; `c++` otherwise |
//! | `LATHE_REQUIRE_HOST_CUDA` | tests fail where the driver cannot be built, instead of being skipped |
//! | `LATHE_HOST_CUDA_SANITIZE` | compile it with the address and undefined-behaviour sanitizers; the process needs `LD_PRELOAD` of [`sanitizer_library`] |
//! | `LATHE_HOST_SCHEDULE` | `forward`, `reverse`, `random:SEED`, `greedy-forward` (the default) or `greedy-reverse`: in which order threads of a block run |
//! | `LATHE_HOST_CUDA_DEVICES`, `…_DRIVER_VERSION`, `…_MEMORY`, `…_COMPUTE_CAPABILITY`, `…_MULTIPROCESSORS` | what it says of itself: 1, 13000, bytes (256 MiB), 9.0, 132 |

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rayon::prelude::*;

/// Which libraries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostDriver {
    /// With the address and undefined-behaviour sanitizers.
    pub sanitized: bool,
    /// With the kernels of `host/selftest.cu` only, which are in every driver.
    pub only_selftest: bool,
}

/// Why there is no library.
#[derive(Debug, thiserror::Error)]
pub enum HostDriverError {
    /// No compiler.
    #[error("there is no C++ compiler: `{compiler}` cannot be run (set CXX to name another)")]
    NoCompiler {
        /// As it was called.
        compiler: String,
    },
    /// A compiler that refuses a source.
    #[error("{compiler} cannot compile {file}:\n{log}")]
    Compile {
        /// As it was called.
        compiler: String,
        /// The source.
        file: String,
        /// What it says.
        log: String,
    },
    /// A file or folder.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A library that cannot be loaded.
    #[error("{0}")]
    Load(#[from] libloading::Error),
    /// Another one is loaded already.
    #[error("this process has loaded another host driver")]
    Another,
}

/// What cudarc looks for first.
const DRIVER: &str = "libcuda.so";
const CUBLASLT: &str = "libcublasLt.so";
/// The source of that one; all others make the driver.
const CUBLASLT_SOURCE: &str = "cublaslt.cpp";

/// As for every source; kernels are written for compilers that know no strict aliasing.
const FLAGS: &[&str] = &[
    "-std=c++17",
    "-O2",
    "-g1",
    "-fPIC",
    "-fvisibility=hidden",
    "-fno-strict-aliasing",
    "-Wall",
    "-Wextra",
    "-Wno-unknown-pragmas",
];

const SANITIZERS: &[&str] =
    &["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer"];

fn sources_folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/cuda"))
}

fn compiler() -> String {
    std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned())
}

impl HostDriver {
    /// All kernels, sanitized where `LATHE_HOST_CUDA_SANITIZE` is set.
    pub fn from_environment() -> HostDriver {
        HostDriver { sanitized: std::env::var_os("LATHE_HOST_CUDA_SANITIZE").is_some(), only_selftest: false }
    }

    /// The folder that the libraries are in, which are built if they are not there yet. They and their parts are kept under
    /// `folder`, named after what they are made of. Other processes may build there at the same time.
    pub fn build(self, folder: &Path) -> Result<PathBuf, HostDriverError> {
        let folder = folder.join("host-cuda");
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| HostDriverError::Io { path, source }
        };
        fs::create_dir_all(&folder).map_err(at(&folder))?;
        let lock = folder.join("lock");
        let lock_file = File::create(&lock).map_err(at(&lock))?;
        lock_file.lock().map_err(at(&lock))?;

        let build = Build::new(self, folder)?;
        let sources = build.sources()?;
        let objects =
            sources.par_iter().map(|source| build.object(source)).collect::<Result<Vec<_>, HostDriverError>>()?;
        let mut hasher = blake3::Hasher::new();
        for object in &objects {
            hasher.update(object.as_os_str().as_encoded_bytes());
        }
        let libraries = build.folder.join(&hasher.finalize().to_hex()[..32]);
        fs::create_dir_all(&libraries).map_err(at(&libraries))?;
        for (library, of_cublaslt) in [(DRIVER, false), (CUBLASLT, true)] {
            let library = libraries.join(library);
            let parts =
                sources.iter().zip(&objects).filter(|(source, _)| source.ends_with(CUBLASLT_SOURCE) == of_cublaslt);
            if !library.exists() {
                build.link(&library, parts.map(|(_, object)| object.as_path()))?;
            }
        }
        Ok(libraries)
    }
}

struct Build {
    folder: PathBuf,
    compiler: String,
    driver: HostDriver,
    /// Of what goes into every object.
    common: blake3::Hasher,
}

impl Build {
    fn new(driver: HostDriver, folder: PathBuf) -> Result<Build, HostDriverError> {
        let compiler = compiler();
        let version = Command::new(&compiler).arg("--version").output();
        let Some(version) = version.ok().filter(|output| output.status.success()) else {
            return Err(HostDriverError::NoCompiler { compiler });
        };
        let mut build = Build { folder, compiler, driver, common: blake3::Hasher::new() };
        build.common.update(&version.stdout);
        let command = build.command();
        for argument in command.get_args() {
            build.common.update(argument.as_encoded_bytes()).update(&[0]);
        }
        for header in [files(sources_folder(), "cuh")?, files(&sources_folder().join("host"), "h")?].concat() {
            build.common.update(&read(&header)?);
        }
        Ok(build)
    }

    fn sources(&self) -> Result<Vec<PathBuf>, HostDriverError> {
        let host = sources_folder().join("host");
        let mut sources = [files(&host, "cpp")?, files(&host, "cu")?].concat();
        if !self.driver.only_selftest {
            sources.extend(files(sources_folder(), "cu")?);
        }
        Ok(sources)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.compiler);
        command.args(FLAGS).args(if self.driver.sanitized { SANITIZERS } else { &[] });
        command.arg("-I").arg(sources_folder());
        command
    }

    fn object(&self, source: &Path) -> Result<PathBuf, HostDriverError> {
        let digest = self.common.clone().update(&read(source)?).finalize().to_hex();
        let stem = source.file_stem().unwrap_or_default().to_string_lossy();
        let object = self.folder.join(format!("{stem}-{}.o", &digest[..32]));
        if object.exists() {
            return Ok(object);
        }
        let mut command = self.command();
        command.arg("-c");
        if source.extension().is_some_and(|extension| extension == "cu") {
            // Each in a namespace, so that what two of them name alike stays apart.
            let wrapped = object.with_extension("cpp");
            let text = format!(
                "#include \"device.cuh\"\nnamespace {stem} {{\n#include \"{}\"\n}}\n",
                source.to_string_lossy()
            );
            fs::write(&wrapped, text).map_err(|source| HostDriverError::Io { path: wrapped.clone(), source })?;
            command.arg(wrapped);
        } else {
            command.arg(source);
        }
        self.run(command, &object)?;
        Ok(object)
    }

    fn link<'a>(&self, library: &Path, objects: impl Iterator<Item = &'a Path>) -> Result<(), HostDriverError> {
        let name = library.file_name().unwrap_or_default().to_string_lossy();
        let mut command = self.command();
        command.args(["-shared", "-Wl,--no-undefined", &format!("-Wl,-soname,{name}")]).args(objects).arg("-lpthread");
        self.run(command, library)
    }

    /// Writes `output` whole or not at all.
    fn run(&self, mut command: Command, output: &Path) -> Result<(), HostDriverError> {
        let partial = output.with_extension(format!("partial-{}", std::process::id()));
        let done = command.arg("-o").arg(&partial).output();
        let done = done.map_err(|_| HostDriverError::NoCompiler { compiler: self.compiler.clone() })?;
        if !done.status.success() {
            let log = String::from_utf8_lossy(&done.stderr).into_owned();
            let file = output.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            return Err(HostDriverError::Compile { compiler: self.compiler.clone(), file, log });
        }
        fs::rename(&partial, output).map_err(|source| HostDriverError::Io { path: output.to_owned(), source })
    }
}

/// Files of a folder with an extension, by name.
fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, HostDriverError> {
    let failed = |source| HostDriverError::Io { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<Vec<u8>, HostDriverError> {
    fs::read(path).map_err(|source| HostDriverError::Io { path: path.to_owned(), source })
}

/// The library that must be in `LD_PRELOAD` of a process that loads a sanitized driver.
pub fn sanitizer_library() -> Result<PathBuf, HostDriverError> {
    let compiler = compiler();
    let output = Command::new(&compiler).arg("-print-file-name=libasan.so").output();
    match output.map(|output| String::from_utf8(output.stdout)) {
        Ok(Ok(path)) => Ok(PathBuf::from(path.trim_end())),
        _ => Err(HostDriverError::NoCompiler { compiler }),
    }
}

struct Loaded {
    which: HostDriver,
    driver: libloading::Library,
    #[expect(dead_code, reason = "stays loaded")]
    cublaslt: libloading::Library,
}

static LOADED: OnceLock<Loaded> = OnceLock::new();

/// Builds the libraries under `folder` and loads them into this process, for good. Before the first call into
/// [`crate::cuda`]: that would load the driver of the machine where it has one.
pub fn load(driver: HostDriver, folder: &Path) -> Result<(), HostDriverError> {
    if LOADED.get().is_none() {
        let libraries = driver.build(folder)?;
        let library = |name| {
            // SAFETY: the initializers of the libraries register kernels, nothing else.
            #[expect(unsafe_code, reason = "loading a library is")]
            unsafe {
                libloading::Library::new(libraries.join(name))
            }
        };
        let _ = LOADED.set(Loaded { which: driver, driver: library(DRIVER)?, cublaslt: library(CUBLASLT)? });
    }
    match LOADED.get() {
        Some(loaded) if loaded.which == driver => Ok(()),
        _ => Err(HostDriverError::Another),
    }
}

/// For tests that need it: loads what the environment asks for. `false`, and the reason on stderr, where it cannot be built.
///
/// # Panics
/// Then, when `LATHE_REQUIRE_HOST_CUDA` is set; and when it can be built and not be loaded.
#[expect(clippy::print_stderr, reason = "a test says why it is skipped")]
pub fn is_loaded(folder: &Path) -> bool {
    match load(HostDriver::from_environment(), folder) {
        Ok(()) => true,
        Err(error @ HostDriverError::NoCompiler { .. }) if std::env::var_os("LATHE_REQUIRE_HOST_CUDA").is_none() => {
            eprintln!("skipped: {error}");
            false
        }
        Err(error) => panic!("the host driver: {error}"),
    }
}

/// In which order threads of a block run, in launches from this OS thread; see `LATHE_HOST_SCHEDULE`.
///
/// # Panics
/// When no driver is loaded, or `schedule` is none.
pub fn set_schedule(schedule: &std::ffi::CStr) {
    let loaded = LOADED.get().expect("a host driver is loaded");
    // SAFETY: the function has this type, and reads a text that is ended by 0.
    #[expect(unsafe_code, reason = "a function of a loaded library")]
    let known = unsafe {
        let set: libloading::Symbol<'_, unsafe extern "C" fn(*const std::ffi::c_char) -> std::ffi::c_int> =
            loaded.driver.get(c"lathe_host_set_schedule").expect("the host driver has this function");
        set(schedule.as_ptr())
    };
    assert!(known != 0, "{schedule:?} is no schedule");
}
