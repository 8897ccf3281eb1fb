//! Both models in lockstep: three sessions run the same tokens step by step, and only the results of one step are looked
//! at together. One session is the original; one is the compiled model; one is the compiled model that reads at every step
//! what the original has there, because each result is replaced by the original's once it has been compared.

use std::collections::{BTreeMap, BTreeSet};

use lathe_kernels::formats::Matrix;
use lathe_runtime::backend::{Session, StepValues, Steps};
use lathe_runtime::exec::{ExecError, Logits, SessionOptions};
use lathe_runtime::program::{BufferId, Op, Program};

use super::basis::Basis;
use super::distance::Distance;
use super::pairs::Pair;
use super::predictions::Tally;
use super::{Comparison, VerifyError};
use crate::elaborate::ModuleId;

/// Tokens that go through the models together.
pub(super) const CHUNK: usize = 64;

/// What a module has given.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Given {
    /// Of an expert: tokens that have chosen it in the original; 0 of other modules.
    pub(super) chosen: u64,
    /// Of these, those that have not in the compiled model.
    pub(super) elsewhere: u64,
    pub(super) alone: Distance,
    pub(super) in_model: Distance,
}

/// Whose output a step gives.
pub(super) enum Role {
    /// That of modules that have parameters in it; of none for an operation without.
    Modules(BTreeSet<ModuleId>),
    /// Those of experts, by their numbers.
    Experts(Vec<Option<ModuleId>>),
}

/// A program and its weights.
pub(super) type Subject<'a> = (&'a Program, Vec<Matrix<'a>>);

/// What is run.
pub(super) struct Subjects<'a> {
    pub(super) original: Subject<'a>,
    pub(super) compiled: Subject<'a>,
    /// The steps of both, each with its role and the basis of what the compiled one gives.
    pub(super) pairs: Vec<(Pair, Role, Basis<'a>)>,
}

/// What was seen.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) given: BTreeMap<ModuleId, Given>,
    pub(super) tally: Tally,
}

/// Runs both models over the tokens.
pub(super) fn observe<'a>(comparison: &Comparison<'_>, subjects: &Subjects<'a>) -> Result<Seen, VerifyError> {
    let window = comparison.window;
    let chunk = CHUNK.min(window);
    let options = SessionOptions { capacity: window, max_step_tokens: chunk, max_logits: chunk, min_positions: window };
    let session = |(program, weights): &Subject<'a>| comparison.backend.session(program, weights, &options);
    let mut sessions = [session(&subjects.original)?, session(&subjects.compiled)?, session(&subjects.compiled)?];
    let mut observer = Observer { subjects, seen: Seen::default(), choices: BTreeMap::new() };
    for window in comparison.tokens.chunks_exact(window) {
        for session in &mut sessions {
            session.truncate(0);
        }
        for (index, tokens) in window.chunks(chunk).enumerate() {
            let following = &window[index * chunk + 1..];
            observer.run(&mut sessions, tokens, &following[..following.len().min(tokens.len())])?;
        }
    }
    Ok(observer.seen)
}

/// A buffer of either model: that of the original, or that of the compiled one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Choice {
    Original(BufferId),
    Compiled(BufferId),
}

struct Observer<'a> {
    subjects: &'a Subjects<'a>,
    seen: Seen,
    /// Experts that the tokens of the chunk have chosen.
    choices: BTreeMap<Choice, Vec<u32>>,
}

impl Observer<'_> {
    /// Sends tokens through all sessions. `following` are the tokens after each of them.
    fn run(
        &mut self,
        [original, alone, free]: &mut [Box<dyn Session + '_>; 3],
        tokens: &[u32],
        following: &[u32],
    ) -> Result<(), ExecError> {
        let mut original = original.steps(tokens, Logits::All)?;
        let mut alone = alone.steps(tokens, Logits::All)?;
        let mut free = free.steps(tokens, Logits::All)?;
        let mut next = Pair { original: 0, compiled: 0 };
        let subjects = self.subjects;
        for (pair, role, basis) in &subjects.pairs {
            let expected = skip(&mut *original, pair.original - next.original)?;
            let alone = skip(&mut *alone, pair.compiled - next.compiled)?;
            let found = skip(&mut *free, pair.compiled - next.compiled)?;
            next = Pair { original: pair.original + 1, compiled: pair.compiled + 1 };
            let ops = [(&subjects.original, pair.original), (&subjects.compiled, pair.compiled)];
            let [of_original, of_compiled] = ops.map(|((program, _), step)| &program.steps[step].op);
            match (expected, alone, found) {
                (StepValues::Real(expected), StepValues::Real(compiled), StepValues::Real(found)) => {
                    let (alone, found) = (basis.of_original(compiled), basis.of_original(found));
                    match role {
                        Role::Modules(modules) => self.modules(modules, expected, &alone, &found),
                        Role::Experts(modules) => {
                            let values = [expected, &*alone, &*found];
                            self.experts(modules, (of_original, of_compiled), tokens.len(), values);
                        }
                    }
                    if of_original.out() == subjects.original.0.output
                        && of_compiled.out() == subjects.compiled.0.output
                    {
                        self.seen.tally.add(tokens.len(), expected, &found, following);
                    }
                    drop(alone);
                    basis.put(expected, compiled);
                }
                (StepValues::Index(expected), StepValues::Index(alone), StepValues::Index(found)) => {
                    self.choices.insert(Choice::Original(of_original.out()), expected.to_vec());
                    self.choices.insert(Choice::Compiled(of_compiled.out()), found.to_vec());
                    alone.copy_from_slice(expected);
                }
                _ => unreachable!("paired steps write buffers of the same elements"),
            }
        }
        for mut rest in [original, alone, free] {
            while rest.next()?.is_some() {}
        }
        self.choices.clear();
        Ok(())
    }

    fn modules(&mut self, modules: &BTreeSet<ModuleId>, expected: &[f32], alone: &[f32], found: &[f32]) {
        for module in modules {
            let given = self.seen.given.entry(*module).or_default();
            given.alone.add(expected, alone);
            given.in_model.add(expected, found);
        }
    }

    /// Outputs of experts, `[tokens, choices, width]`: each belongs to the expert that the token has chosen there.
    fn experts(
        &mut self,
        modules: &[Option<ModuleId>],
        ops: (&Op, &Op),
        tokens: usize,
        [expected, alone, found]: [&[f32]; 3],
    ) {
        let (Op::ExpertMatMul { choice: of_original, .. }, Op::ExpertMatMul { choice: of_compiled, .. }) = ops else {
            unreachable!("paired steps call the same kernel")
        };
        let choices = [Choice::Original(*of_original), Choice::Compiled(*of_compiled)];
        // Choices that cannot be compared leave experts without an output; the steps that made them are listed.
        let [Some(original), Some(compiled)] = choices.map(|choice| self.choices.get(&choice)) else { return };
        if original.len() != compiled.len() {
            return;
        }
        let (per_token, width) = (original.len() / tokens, expected.len() / original.len());
        let slot = |index: usize| index * width..(index + 1) * width;
        for (index, &expert) in original.iter().enumerate() {
            let Some(module) = modules.get(expert as usize).copied().flatten() else { continue };
            let given = self.seen.given.entry(module).or_default();
            given.chosen += 1;
            let here = slot(index);
            given.alone.add(&expected[here.clone()], &alone[here.clone()]);
            let first = index / per_token * per_token;
            match compiled[first..first + per_token].iter().position(|&chosen| chosen == expert) {
                Some(place) => given.in_model.add(&expected[here], &found[slot(first + place)]),
                None => given.elsewhere += 1,
            }
        }
    }
}

/// Runs `skipped` steps, then one more, and gives the values of that.
pub(super) fn skip(steps: &mut dyn Steps, skipped: usize) -> Result<StepValues<'_>, ExecError> {
    for _ in 0..skipped {
        steps.next()?;
    }
    let output = steps.next()?;
    Ok(output.expect("invariant: a chunk is one pass with all rows selected, in which every step runs once").values)
}
