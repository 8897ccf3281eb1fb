//! Devices that run programs.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod kernels;

pub use cpu::{CpuBackend, StreamError, StreamOptions, Streamed, WantedRows, WeightSource};
#[cfg(feature = "cuda")]
pub use cuda::{CudaBackend, CudaMemoryPlan, cuda_launches};

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use lathe_kernels::cpu::{Isa, IsaError};
use lathe_kernels::formats::Matrix;

use crate::exec::{Choice, ExecError, Logits, Next, SessionOptions};
use crate::program::Program;

/// A device.
pub trait Backend: Send + Sync {
    /// What it is.
    fn info(&self) -> DeviceInfo;

    /// Makes a session; allocates all of its memory. `weights` are those of the program, in its order, as
    /// [`crate::weights::Weights::matrices`] gives them.
    fn session<'a>(
        &self,
        program: &'a Program,
        weights: &[Matrix<'a>],
        options: &SessionOptions,
    ) -> Result<Box<dyn Session + 'a>, ExecError>;

    /// Sizes of a session for generation that suit the device.
    fn options(&self, capacity: usize) -> SessionOptions {
        SessionOptions::with_capacity(capacity)
    }

    /// The largest capacity of a session on a program that the memory of the device has room for, if that bounds it: one for
    /// generation, see [`Backend::options`]. 0 where the program does not fit at all.
    ///
    /// # Errors
    /// When the device does not answer.
    fn longest_context(&self, program: &Program) -> Result<Option<usize>, ExecError> {
        let _ = program;
        Ok(None)
    }

    /// Runs `work` once, where calls of sessions start fastest. Calls made elsewhere do the same, but hand over to the
    /// device each time.
    fn enter(&self, work: &mut (dyn FnMut() + Send));
}

/// Runs `work` within a backend and gives its result, see [`Backend::enter`].
pub fn within<T: Send>(backend: &dyn Backend, work: impl FnOnce() -> T + Send) -> T {
    let (mut work, mut result) = (Some(work), None);
    backend.enter(&mut || result = work.take().map(|work| work()));
    result.unwrap_or_else(|| unreachable!("a backend runs the work that it is given"))
}

/// A program in the state of having read some tokens.
pub trait Session: Send {
    /// Reads `tokens` at the positions after those read so far. Gives the logits that are asked for, f32
    /// `[rows, vocabulary]` row-major, in the order of the tokens.
    ///
    /// A call that fails has read nothing. Where rotary frequencies switch at a length of the text, the call that takes
    /// the text across it reads all tokens again, at the cost of a prompt of as many; so does one that comes back after
    /// [`Session::truncate`].
    fn forward(&mut self, tokens: &[u32], logits: Logits) -> Result<&[f32], ExecError>;

    /// Reads `tokens` as [`Session::forward`] does, for the token that comes next: where the device can choose it, nothing but
    /// that is copied from it. Logits from which no token can be chosen, as one of them is NaN, are given as they are.
    fn next(&mut self, tokens: &[u32], choice: &Choice) -> Result<Next<'_>, ExecError> {
        let _ = choice;
        self.forward(tokens, Logits::Last(1)).map(Next::Logits)
    }

    /// As [`Session::forward`], but one step at a time, so that the caller can look at what each of them gives, and
    /// change it. Slower than `forward`, and it may allocate. Fails as `forward` does.
    fn steps<'s>(&'s mut self, tokens: &'s [u32], logits: Logits) -> Result<Box<dyn Steps + 's>, ExecError>;

    /// Tokens read so far.
    fn position(&self) -> usize;

    /// Forgets all tokens but the first `positions`; nothing if there are no more than that.
    fn truncate(&mut self, positions: usize);

    /// Bytes allocated for activations, caches, rotations, decoded vectors and tokens.
    fn memory_bytes(&self) -> u64;
}

/// A call that runs step by step, see [`Session::steps`].
pub trait Steps {
    /// Runs the next step. `None` after the last: only then the session has read the tokens; a call that is dropped before
    /// has read nothing.
    ///
    /// Steps come in the order of the program, once for each pass: see [`SessionOptions::max_step_tokens`]. Those on
    /// selected rows do not come where no row is selected.
    ///
    /// # Errors
    /// When the device fails. The processor does not.
    fn next(&mut self) -> Result<Option<StepOutput<'_>>, ExecError>;
}

/// What a step has given.
#[derive(Debug)]
pub struct StepOutput<'a> {
    /// Index into [`Program::steps`].
    pub step: usize,
    /// The values. Later steps read what the caller leaves here.
    pub values: StepValues<'a>,
}

/// The buffer that a step writes: `[rows, width]` row-major, with a row for each token of the pass or for each selected one.
#[derive(Debug)]
pub enum StepValues<'a> {
    /// Numbers.
    Real(&'a mut [f32]),
    /// Indices. Each must stay below the bound that the program states of the buffer, or later steps panic.
    Index(&'a mut [u32]),
}

/// What a device is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// As `--device` spells it.
    pub name: String,
    /// Instruction set that kernels run on.
    pub isa: String,
    /// Threads.
    pub threads: usize,
}

/// Which device is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The best that there is.
    Auto,
    /// The processor.
    Cpu,
    /// The CUDA device of this number.
    Cuda(u32),
}

impl FromStr for DeviceChoice {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let unknown = || DeviceError::Unknown { text: text.to_owned() };
        match text {
            "auto" => Ok(DeviceChoice::Auto),
            "cpu" => Ok(DeviceChoice::Cpu),
            "cuda" => Ok(DeviceChoice::Cuda(0)),
            _ => {
                let number = text.strip_prefix("cuda:").ok_or_else(unknown)?;
                number.parse().map(DeviceChoice::Cuda).map_err(|_| unknown())
            }
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceChoice::Auto => f.write_str("auto"),
            DeviceChoice::Cpu => f.write_str("cpu"),
            DeviceChoice::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

/// Why a device cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// Not the name of a device.
    #[error("unknown device `{text}`, expected auto, cpu, cuda or cuda:N")]
    Unknown {
        /// What was asked for.
        text: String,
    },
    /// CUDA in a build without it.
    #[cfg(not(feature = "cuda"))]
    #[error("this build of lathe-run has no CUDA backend, so there is no device {choice}")]
    NoCuda {
        /// What was asked for.
        choice: DeviceChoice,
    },
    /// A CUDA device that cannot be had.
    #[cfg(feature = "cuda")]
    #[error("there is no device {choice}: {source}")]
    Cuda {
        /// What was asked for.
        choice: DeviceChoice,
        /// Why.
        source: lathe_kernels::cuda::CudaError,
    },
    /// An instruction set that cannot be followed.
    #[error(transparent)]
    Isa(#[from] IsaError),
    /// Zero threads.
    #[error("0 threads, expected at least 1")]
    NoThreads,
    /// Threads that cannot be started.
    #[error("cannot start {threads} threads: {source}")]
    Threads {
        /// How many.
        threads: usize,
        /// Why.
        source: rayon::ThreadPoolBuildError,
    },
}

/// Opens a device. `threads` is the number of threads of the processor that kernels run on, `kernels` the folder for those
/// that are compiled for a CUDA device.
///
/// `auto` is the processor: which device is best depends on the model, see [`open_for`].
pub fn open(choice: DeviceChoice, threads: usize, kernels: Option<&Path>) -> Result<Box<dyn Backend>, DeviceError> {
    match choice {
        DeviceChoice::Auto | DeviceChoice::Cpu => Ok(Box::new(CpuBackend::new(threads)?)),
        DeviceChoice::Cuda(ordinal) => open_cuda(ordinal, kernels),
    }
}

#[cfg(feature = "cuda")]
fn open_cuda(ordinal: u32, kernels: Option<&Path>) -> Result<Box<dyn Backend>, DeviceError> {
    let choice = DeviceChoice::Cuda(ordinal);
    match CudaBackend::open(ordinal, kernels) {
        Ok(backend) => Ok(Box::new(backend)),
        Err(source) => Err(DeviceError::Cuda { choice, source }),
    }
}

#[cfg(not(feature = "cuda"))]
fn open_cuda(ordinal: u32, _: Option<&Path>) -> Result<Box<dyn Backend>, DeviceError> {
    Err(DeviceError::NoCuda { choice: DeviceChoice::Cuda(ordinal) })
}

/// A device, and why it is that.
pub struct Opened {
    /// The device.
    pub backend: Box<dyn Backend>,
    /// Why it is that and no other, where `auto` has chosen between several.
    pub why: Option<String>,
}

/// Opens a device for a program, as [`open`] does. `auto` is the first CUDA device where it can be opened and has room for the
/// program, else the processor.
pub fn open_for(
    program: &Program,
    choice: DeviceChoice,
    threads: usize,
    kernels: Option<&Path>,
) -> Result<Opened, DeviceError> {
    let mut why = None;
    if choice == DeviceChoice::Auto {
        match best_cuda(program, kernels) {
            Ok(backend) => {
                let why = Some(backend.info().isa);
                return Ok(Opened { backend, why });
            }
            Err(reason) => why = reason,
        }
    }
    Ok(Opened { backend: open(choice, threads, kernels)?, why })
}

/// The first CUDA device, with room for the program. Without one the reason, unless it is that there is none to be expected.
#[cfg(feature = "cuda")]
fn best_cuda(program: &Program, kernels: Option<&Path>) -> Result<Box<dyn Backend>, Option<String>> {
    use lathe_kernels::cuda::CudaError;

    let backend = CudaBackend::open(0, kernels).map_err(|error| match error {
        CudaError::NoDriver | CudaError::NoDevice => None,
        error => Some(error.to_string()),
    })?;
    match backend.longest_context(program) {
        Ok(Some(0)) => Err(Some(format!("the model does not fit into the free memory of {}", backend.info().isa))),
        Ok(_) => Ok(Box::new(backend)),
        Err(error) => Err(Some(error.to_string())),
    }
}

#[cfg(not(feature = "cuda"))]
fn best_cuda(_: &Program, _: Option<&Path>) -> Result<Box<dyn Backend>, Option<String>> {
    Err(None)
}

/// The instruction set of the processor that kernels will use, or why `LATHE_ISA` asks for one that cannot be had.
pub fn processor_isa() -> Result<Isa, DeviceError> {
    Ok(lathe_kernels::cpu::isa_from_env()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_names() {
        for (text, choice) in [
            ("auto", DeviceChoice::Auto),
            ("cpu", DeviceChoice::Cpu),
            ("cuda", DeviceChoice::Cuda(0)),
            ("cuda:3", DeviceChoice::Cuda(3)),
        ] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap(), choice);
            assert_eq!(choice.to_string().parse::<DeviceChoice>().unwrap(), choice);
        }
        for text in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "CPU"] {
            let error = text.parse::<DeviceChoice>().unwrap_err();
            assert_eq!(error.to_string(), format!("unknown device `{text}`, expected auto, cpu, cuda or cuda:N"));
        }
    }

    #[test]
    #[cfg(not(feature = "cuda"))]
    fn cuda_is_refused() {
        let error = open(DeviceChoice::Cuda(1), 1, None).err().unwrap();
        assert_eq!(error.to_string(), "this build of lathe-run has no CUDA backend, so there is no device cuda:1");
    }

    #[test]
    fn work_runs_within_a_backend() {
        let backend = open(DeviceChoice::Auto, 2, None).unwrap();
        assert_eq!(within(&*backend, rayon::current_num_threads), 2);
        assert!(open(DeviceChoice::Cpu, 0, None).is_err());
    }
}
