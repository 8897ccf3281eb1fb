//! The processor: kernels on a pool of threads.

mod machine;
mod steps;
mod streamed;
mod weights;

pub use streamed::{StreamError, StreamOptions, Streamed, WantedRows, WeightSource};

use std::sync::Arc;

use lathe_kernels::cpu::Isa;
use lathe_kernels::formats::Matrix;
use lathe_kernels::rotations::Rotation;
use rayon::{ThreadPool, ThreadPoolBuilder};

use self::machine::{Allocator, Machine};
use self::weights::Resident;
use super::{Backend, DeviceError, DeviceInfo, Session, Steps};
use crate::exec::{ExecError, Limits, Logits, SessionOptions, check_weights, passes};
use crate::frequencies::{Text, can_switch};
use crate::program::{Program, WeightId, verify};

/// The processor.
#[derive(Debug)]
pub struct CpuBackend {
    pool: Arc<ThreadPool>,
    isa: Isa,
}

impl CpuBackend {
    /// Starts `threads` threads.
    pub fn new(threads: usize) -> Result<CpuBackend, DeviceError> {
        let isa = super::processor_isa()?;
        if threads == 0 {
            return Err(DeviceError::NoThreads);
        }
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("lathe-{index}"))
            .build()
            .map_err(|source| DeviceError::Threads { threads, source })?;
        Ok(CpuBackend { pool: Arc::new(pool), isa })
    }
}

impl Backend for CpuBackend {
    fn info(&self) -> DeviceInfo {
        DeviceInfo { name: "cpu".to_owned(), isa: self.isa.name().to_owned(), threads: self.pool.current_num_threads() }
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
        let mut memory = Allocator::default();
        let weights = Resident::new(program, weights, &mut memory)?;
        let rotations = rotations(&self.pool, program, &mut memory, |weight, values| {
            weights.decode(weight, values);
            Ok::<_, ExecError>(())
        })?;
        let machine = Machine::new(program, weights, rotations, &limits, &mut memory)?;
        let text = can_switch(program).then(|| memory.zeros("tokens", limits.capacity)).transpose()?.map(Text::new);
        let (pool, memory_bytes) = (Arc::clone(&self.pool), memory.bytes);
        Ok(Box::new(CpuSession { pool, machine, text, limits, position: 0, memory_bytes }))
    }

    fn enter(&self, work: &mut (dyn FnMut() + Send)) {
        self.pool.install(work);
    }
}

/// The rotations of a valid program. `read` gives the values of the weights that hold matrices.
fn rotations<E: From<ExecError>>(
    pool: &ThreadPool,
    program: &Program,
    memory: &mut Allocator,
    mut read: impl FnMut(WeightId, &mut [f32]) -> Result<(), E>,
) -> Result<Vec<Rotation>, E> {
    let mut rotations = Vec::with_capacity(program.rotations.len());
    for (index, rotation) in program.rotations.iter().enumerate() {
        let mut values = Vec::new();
        if let Some(weight) = rotation.weight() {
            values = Allocator::default().zeros("rotations", (rotation.width() as usize).pow(2))?;
            read(weight, &mut values)?;
        }
        let built = pool.install(|| rotation.build(values));
        let built = built.map_err(|source| ExecError::Rotation { rotation: index, source })?;
        memory.bytes += built.bytes() as u64;
        rotations.push(built);
    }
    Ok(rotations)
}

struct CpuSession<'a> {
    pool: Arc<ThreadPool>,
    machine: Machine<'a, Resident<'a>>,
    /// Where it may have to be read again.
    text: Option<Text>,
    limits: Limits,
    position: usize,
    memory_bytes: u64,
}

impl CpuSession<'_> {
    /// Prepares for reading `tokens` next: rotary frequencies become those of the longer text, and what was read before is
    /// read again where they switch. Gives the rows of logits that are asked for.
    fn begin(&mut self, tokens: &[u32], logits: Logits) -> Result<usize, ExecError> {
        let rows = self.limits.check(tokens, logits, self.position)?;
        let (machine, position) = (&mut self.machine, self.position);
        let length = (position + tokens.len()).max(self.limits.min_positions);
        machine.frequencies.set_length(length);
        let again = self.text.as_mut().map_or(&[][..], |text| text.append(machine.program, position, tokens, length));
        if !again.is_empty() {
            self.pool.install(|| {
                for pass in passes(again.len(), 0, self.limits.max_step_tokens) {
                    let Ok(()) = machine.run(again, &pass, 0);
                }
            });
        }
        Ok(rows)
    }
}

impl Session for CpuSession<'_> {
    fn forward(&mut self, tokens: &[u32], logits: Logits) -> Result<&[f32], ExecError> {
        let (rows, position, max_step_tokens) =
            (self.begin(tokens, logits)?, self.position, self.limits.max_step_tokens);
        let machine = &mut self.machine;
        self.pool.install(|| {
            for pass in passes(tokens.len(), rows, max_step_tokens) {
                let Ok(()) = machine.run(tokens, &pass, position);
            }
        });
        self.position += tokens.len();
        Ok(self.machine.logits(rows))
    }

    fn steps<'s>(&'s mut self, tokens: &'s [u32], logits: Logits) -> Result<Box<dyn Steps + 's>, ExecError> {
        let rows = self.begin(tokens, logits)?;
        Ok(Box::new(steps::CpuSteps::new(self, tokens, rows)))
    }

    fn position(&self) -> usize {
        self.position
    }

    fn truncate(&mut self, positions: usize) {
        self.position = self.position.min(positions);
    }

    fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }
}
