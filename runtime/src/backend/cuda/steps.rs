//! A call that is looked at step by step.

use bytemuck::cast_slice_mut;
use lathe_kernels::cuda::{CudaError, Gpu, Slice};

use super::session::CudaSession;
use crate::backend::{StepOutput, StepValues, Steps};
use crate::exec::{ExecError, Pass, passes};
use crate::program::{Elements, Rows};

/// The rest of a call.
pub(super) struct CudaSteps<'s, 'a> {
    session: &'s mut CudaSession<'a>,
    tokens: &'s [u32],
    /// Passes to come, the next one last.
    passes: Vec<Pass>,
    /// The pass that runs, and its next step.
    current: Option<(Pass, usize)>,
    /// What the caller was shown, and where it lies on the device.
    values: Vec<f32>,
    shown: Slice<f32>,
}

impl<'s, 'a> CudaSteps<'s, 'a> {
    /// A call on a session that is prepared for it and gives `rows` rows of logits.
    pub(super) fn new(
        session: &'s mut CudaSession<'a>,
        gpu: &Gpu,
        tokens: &'s [u32],
        rows: usize,
    ) -> Result<Self, CudaError> {
        let mut passes: Vec<Pass> = passes(tokens.len(), rows, session.limits.max_step_tokens).collect();
        passes.reverse();
        let mut steps = CudaSteps { session, tokens, passes, current: None, values: Vec::new(), shown: Slice::NONE };
        steps.next_pass(gpu)?;
        Ok(steps)
    }

    fn next_pass(&mut self, gpu: &Gpu) -> Result<(), CudaError> {
        self.current = self.passes.pop().map(|pass| (pass, 0));
        let session = &mut *self.session;
        match &self.current {
            Some((pass, _)) => {
                let (tokens, position) = (&self.tokens[pass.tokens.clone()], session.position + pass.tokens.start);
                session.machine.write_tokens(gpu, tokens, position)?;
            }
            None => session.position += self.tokens.len(),
        }
        Ok(())
    }
}

impl Steps for CudaSteps<'_, '_> {
    fn next(&mut self) -> Result<Option<StepOutput<'_>>, ExecError> {
        let shared = self.session.gpu.clone();
        let gpu = &*shared.lock();
        gpu.enter()?;
        gpu.write(std::mem::replace(&mut self.shown, Slice::NONE), &self.values)?;
        self.values.clear();
        loop {
            let Some((pass, index)) = self.current.as_mut() else { return Ok(None) };
            let step = *index;
            let (machine, stage, ends) = self.session.by_step();
            let Some(called) = machine.program.steps.get(step) else {
                self.next_pass(gpu)?;
                continue;
            };
            *index += 1;
            let start = if step == 0 { 0 } else { ends[step - 1] };
            machine.run_range(gpu, stage, pass, start..ends[step])?;
            let out = &machine.program.buffers[called.op.out().index()];
            if pass.selected == 0 && out.rows == Rows::Selected {
                continue;
            }
            self.shown = machine.output(gpu, stage, pass, called.op.out());
            self.values.resize(self.shown.len(), 0.0);
            gpu.read(self.shown, &mut self.values)?;
            let values = match out.elements {
                Elements::Real => StepValues::Real(&mut self.values),
                Elements::Index { .. } => StepValues::Index(cast_slice_mut(&mut self.values)),
            };
            return Ok(Some(StepOutput { step, values }));
        }
    }
}
