//! A program on a device, in the state of having read some tokens.

use bytemuck::allocation::try_zeroed_vec;
use lathe_kernels::cuda::ops::{MAX_VOCABULARY, SAMPLE_SCRATCH_BYTES, SampleStep};
use lathe_kernels::cuda::{CudaError, DeviceMatrix, Gpu, Graph, Memory};
use lathe_kernels::formats::Matrix;

use super::Shared;
use super::machine::{Control, Machine, Stage};
use super::plan::Arrangement;
use super::resident::Resident;
use super::schedule::{Abilities, Kind, Schedule};
use super::steps::CudaSteps;
use crate::backend::{Session, Steps};
use crate::exec::{Choice, ExecError, Limits, Logits, Next, Pass, passes};
use crate::frequencies::{Text, can_switch};
use crate::program::{Program, RotationId, WeightId};

/// A session on a device.
pub(super) struct CudaSession<'a> {
    // Recorded launches are dropped before the memory that they use.
    /// The pass of one token that gives its logits.
    logits_step: Recorded,
    /// The one that chooses the next token, and how.
    choice_step: (Option<Manner>, Recorded),
    pub(super) machine: Machine<'a>,
    /// For passes of one token.
    one: Stage,
    /// For passes of several.
    many: Stage,
    /// For calls that run step by step, with the number of launches up to the end of each step; made when there is one.
    by_step: Option<(Stage, Vec<usize>)>,
    sample_scratch: Memory,
    /// What the device holds, where that is known.
    held: Option<Control>,
    /// Logits of the last call.
    logits: Vec<f32>,
    /// Where it may have to be read again.
    text: Option<Text>,
    pub(super) limits: Limits,
    pub(super) position: usize,
    pub(super) gpu: Shared,
}

/// How far the launches of a pass are from being replayed. Kernels are loaded when they are first launched, which cannot be
/// recorded.
#[derive(Default)]
enum Recorded {
    #[default]
    Never,
    Launched,
    Graph(Graph),
}

/// What of a [`Choice`] is part of a recorded launch.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Manner {
    temperature: f32,
    top_k: Option<usize>,
    top_p: Option<f32>,
}

/// The pass of a call of one token.
const ONE: Pass = Pass { tokens: 0..1, selected: 1, first_row: 0 };

/// What the device and the layout of the weights allow.
struct OnDevice<'d> {
    gpu: &'d Gpu,
    resident: &'d Resident,
}

impl Abilities for OnDevice<'_> {
    fn joins(&self, weights: &[WeightId]) -> bool {
        let matrices: Vec<&DeviceMatrix> = weights.iter().map(|&weight| self.resident.matrix(weight)).collect();
        self.gpu.joins_products(&matrices)
    }

    fn normalizes(&self, weight: WeightId) -> bool {
        self.gpu.normalizes_products(self.resident.matrix(weight), 1)
    }

    fn quantizes(&self, weight: WeightId) -> bool {
        self.gpu.quantizes_products(self.resident.matrix(weight), 1)
    }

    fn rotates_rows(&self, rotation: RotationId, width: u32) -> bool {
        self.gpu.rotates_rows(self.resident.rotation(rotation), width as usize)
    }
}

impl<'a> CudaSession<'a> {
    /// Copies the weights of a valid program, which these are, and allocates all that calls within the limits need.
    pub(super) fn new(
        shared: &Shared,
        program: &'a Program,
        weights: &[Matrix<'_>],
        limits: Limits,
    ) -> Result<CudaSession<'a>, ExecError> {
        let gpu = &*shared.lock();
        gpu.enter()?;
        let resident = Resident::upload(gpu, program, weights)?;
        let abilities = OnDevice { gpu, resident: &resident };
        let selected = limits.max_logits.min(limits.max_step_tokens);
        let [one, many] =
            [(Kind::One, 1, 1), (Kind::Many, limits.max_step_tokens, selected)].map(|(kind, rows, selected)| {
                Arrangement::new(program, Schedule::new(program, &abilities, kind), rows, selected)
            });
        let machine = Machine::new(gpu, program, resident, &limits)?;
        let (one, many) = (Stage::new(gpu, &machine, one)?, Stage::new(gpu, &machine, many)?);
        let rows = limits.max_logits.saturating_mul(program.vocabulary());
        let text = can_switch(program).then(|| zeros("tokens", limits.capacity)).transpose()?.map(Text::new);
        Ok(CudaSession {
            logits_step: Recorded::Never,
            choice_step: (None, Recorded::Never),
            machine,
            one,
            many,
            by_step: None,
            sample_scratch: gpu.allocate("sampling", SAMPLE_SCRATCH_BYTES as u64)?,
            held: None,
            logits: zeros("logits", rows)?,
            text,
            limits,
            position: 0,
            gpu: shared.clone(),
        })
    }

    /// Prepares for reading `tokens` next: rotary frequencies become those of the longer text, and what was read before is
    /// read again where they switch. Gives the rows of logits that are asked for.
    pub(super) fn begin(&mut self, gpu: &Gpu, tokens: &[u32], logits: Logits) -> Result<usize, ExecError> {
        let rows = self.limits.check(tokens, logits, self.position)?;
        gpu.enter()?;
        let length = (self.position + tokens.len()).max(self.limits.min_positions);
        self.machine.in_effect.set_length(length);
        self.machine.write_frequencies(gpu)?;
        let (machine, position) = (&self.machine, self.position);
        let again = self.text.as_mut().map_or(&[][..], |text| text.append(machine.program, position, tokens, length));
        if !again.is_empty() {
            self.held = None;
            for pass in passes(again.len(), 0, self.limits.max_step_tokens) {
                launch_pass(gpu, machine, [&self.one, &self.many], again, &pass, 0)?;
            }
        }
        Ok(rows)
    }

    /// Reads tokens whose logits of the last `rows` go to the device's memory for them.
    fn read(&mut self, gpu: &Gpu, tokens: &[u32], rows: usize) -> Result<(), CudaError> {
        if tokens.len() == 1 && rows == 1 {
            let uniform = self.held.map_or(0, |held| held.uniform);
            return self.read_one(gpu, tokens[0], uniform, None);
        }
        self.held = None;
        for pass in passes(tokens.len(), rows, self.limits.max_step_tokens) {
            launch_pass(gpu, &self.machine, [&self.one, &self.many], tokens, &pass, self.position)?;
        }
        Ok(())
    }

    /// Reads one token, and chooses the next if there is a manner for it.
    fn read_one(&mut self, gpu: &Gpu, token: u32, uniform: u64, manner: Option<Manner>) -> Result<(), CudaError> {
        let control = Control { position: self.position as u32, token, uniform };
        if self.held != Some(control) {
            self.held = None;
            self.machine.write_control(gpu, control)?;
        }
        self.held = None;
        let (machine, one, scratch) = (&self.machine, &self.one, &self.sample_scratch);
        let launches = || {
            machine.run(gpu, one, &ONE)?;
            if let Some(manner) = manner {
                choose(gpu, machine, scratch, manner)?;
                gpu.advance(machine.position())?;
            }
            Ok(())
        };
        let recorded = if manner.is_some() {
            if self.choice_step.0 != manner {
                self.choice_step = (manner, Recorded::Never);
            }
            &mut self.choice_step.1
        } else {
            &mut self.logits_step
        };
        if let Recorded::Launched = recorded {
            *recorded = Recorded::Graph(gpu.record(launches)?);
        }
        match recorded {
            Recorded::Graph(graph) => gpu.replay(graph)?,
            Recorded::Never | Recorded::Launched => {
                launches()?;
                *recorded = Recorded::Launched;
            }
        }
        if manner.is_none() {
            self.held = Some(control);
        }
        Ok(())
    }

    /// The stage of calls that run step by step.
    pub(super) fn stage_by_step(&mut self, gpu: &Gpu) -> Result<(), ExecError> {
        if self.by_step.is_none() {
            let (schedule, ends) = Schedule::step_by_step(self.machine.program);
            let (rows, selected) =
                (self.limits.max_step_tokens, self.limits.max_logits.min(self.limits.max_step_tokens));
            let arrangement = Arrangement::new(self.machine.program, schedule, rows, selected);
            self.by_step = Some((Stage::new(gpu, &self.machine, arrangement)?, ends));
        }
        self.held = None;
        Ok(())
    }

    /// Machine, stage and ends of steps of a call that runs step by step.
    pub(super) fn by_step(&self) -> (&Machine<'a>, &Stage, &[usize]) {
        match &self.by_step {
            Some((stage, ends)) => (&self.machine, stage, ends),
            None => unreachable!("made when the call began"),
        }
    }
}

/// Launches a pass, in one way where it has one token.
fn launch_pass(
    gpu: &Gpu,
    machine: &Machine<'_>,
    [one, many]: [&Stage; 2],
    tokens: &[u32],
    pass: &Pass,
    position: usize,
) -> Result<(), CudaError> {
    machine.write_tokens(gpu, &tokens[pass.tokens.clone()], position + pass.tokens.start)?;
    machine.run(gpu, if pass.tokens.len() == 1 { one } else { many }, pass)
}

/// Chooses a token from the first row of logits.
fn choose(gpu: &Gpu, machine: &Machine<'_>, scratch: &Memory, manner: Manner) -> Result<(), CudaError> {
    gpu.sample(&SampleStep {
        logits: machine.logits(0..1),
        temperature: manner.temperature,
        // As many as there are tokens are all of them.
        top_k: manner.top_k.map(|k| u32::try_from(k).unwrap_or(u32::MAX)),
        top_p: manner.top_p,
        uniform: machine.uniform(),
        token: machine.token(),
        scratch: scratch.slice().range(0..SAMPLE_SCRATCH_BYTES),
    })
}

fn zeros<T: bytemuck::Zeroable>(what: &'static str, length: usize) -> Result<Vec<T>, ExecError> {
    let bytes = (length as u64).saturating_mul(size_of::<T>() as u64);
    try_zeroed_vec(length).map_err(|()| ExecError::Memory { what, bytes })
}

impl Session for CudaSession<'_> {
    fn forward(&mut self, tokens: &[u32], logits: Logits) -> Result<&[f32], ExecError> {
        let shared = self.gpu.clone();
        let gpu = &*shared.lock();
        let rows = self.begin(gpu, tokens, logits)?;
        self.read(gpu, tokens, rows)?;
        let logits = self.machine.logits(0..rows);
        gpu.read(logits, &mut self.logits[..logits.len()])?;
        self.position += tokens.len();
        Ok(&self.logits[..logits.len()])
    }

    fn next(&mut self, tokens: &[u32], choice: &Choice) -> Result<Next<'_>, ExecError> {
        if self.limits.vocabulary > MAX_VOCABULARY {
            return Ok(Next::Logits(self.forward(tokens, Logits::Last(1))?));
        }
        let shared = self.gpu.clone();
        let gpu = &*shared.lock();
        self.begin(gpu, tokens, Logits::Last(1))?;
        let Choice { temperature, top_k, top_p, uniform } = *choice;
        let manner = Manner { temperature, top_k, top_p };
        // The largest logit is taken without a random number: what the device holds is as good as any.
        let held = self.held.filter(|_| temperature == 0.0);
        let uniform = held.map_or(uniform.to_bits(), |held| held.uniform);
        let mut position = self.position;
        if let [token] = *tokens {
            self.read_one(gpu, token, uniform, Some(manner))?;
            position += 1;
        } else {
            self.read(gpu, tokens, 1)?;
            self.machine.write_control(gpu, Control { position: position as u32, token: 0, uniform })?;
            choose(gpu, &self.machine, &self.sample_scratch, manner)?;
        }
        let mut chosen = [0];
        gpu.read(self.machine.token(), &mut chosen)?;
        let [token] = chosen;
        self.position += tokens.len();
        if (token as usize) < self.limits.vocabulary {
            self.held = Some(Control { position: position as u32, token, uniform });
            return Ok(Next::Token(token));
        }
        let logits = self.machine.logits(0..1);
        gpu.read(logits, &mut self.logits[..logits.len()])?;
        Ok(Next::Logits(&self.logits[..logits.len()]))
    }

    fn steps<'s>(&'s mut self, tokens: &'s [u32], logits: Logits) -> Result<Box<dyn Steps + 's>, ExecError> {
        let shared = self.gpu.clone();
        let gpu = &*shared.lock();
        let rows = self.begin(gpu, tokens, logits)?;
        self.stage_by_step(gpu)?;
        Ok(Box::new(CudaSteps::new(self, gpu, tokens, rows)?))
    }

    fn position(&self) -> usize {
        self.position
    }

    fn truncate(&mut self, positions: usize) {
        self.position = self.position.min(positions);
    }

    fn memory_bytes(&self) -> u64 {
        let stages = [Some(&self.one), Some(&self.many), self.by_step.as_ref().map(|(stage, _)| stage)];
        let stages = stages.into_iter().flatten().map(Stage::memory_bytes).sum::<u64>();
        let host = size_of_val(self.logits.as_slice()) as u64;
        self.machine.memory_bytes() + stages + host + self.sample_scratch.bytes() as u64
    }
}
