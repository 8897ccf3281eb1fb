//! A call that is looked at step by step.

use super::CpuSession;
use crate::backend::{StepOutput, Steps};
use crate::exec::{ExecError, Pass, passes};

/// The rest of a call.
pub(super) struct CpuSteps<'s, 'a> {
    session: &'s mut CpuSession<'a>,
    tokens: &'s [u32],
    /// Passes to come, the next one last.
    passes: Vec<Pass>,
    /// The pass that runs, and its next step.
    current: Option<(Pass, usize)>,
}

impl<'s, 'a> CpuSteps<'s, 'a> {
    /// A call on a session that is prepared for it and gives `rows` rows of logits.
    pub(super) fn new(session: &'s mut CpuSession<'a>, tokens: &'s [u32], rows: usize) -> Self {
        let mut passes: Vec<Pass> = passes(tokens.len(), rows, session.limits.max_step_tokens).collect();
        passes.reverse();
        let mut steps = CpuSteps { session, tokens, passes, current: None };
        steps.next_pass();
        steps
    }

    fn next_pass(&mut self) {
        self.current = self.passes.pop().map(|pass| (pass, 0));
        match &self.current {
            Some((pass, _)) => self.session.machine.set_positions(pass, self.session.position),
            None => self.session.position += self.tokens.len(),
        }
    }
}

impl Steps for CpuSteps<'_, '_> {
    fn next(&mut self) -> Result<Option<StepOutput<'_>>, ExecError> {
        let program = self.session.machine.program;
        loop {
            let Some((pass, index)) = self.current.as_mut() else { return Ok(None) };
            let step = *index;
            let Some(called) = program.steps.get(step) else {
                self.next_pass();
                continue;
            };
            *index += 1;
            let (pass, machine) = (pass.clone(), &mut self.session.machine);
            let (tokens, position) = (self.tokens, self.session.position);
            let Ok(has_run) = self.session.pool.install(|| machine.step(called, tokens, &pass, position));
            if has_run {
                return Ok(Some(self.session.machine.output(step, &pass)));
            }
        }
    }
}
