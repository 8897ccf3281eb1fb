//! The harm that each module does alone: the original model with the output of one module taken from the compiled one, and
//! how far that moves what is predicted.
//!
//! Everything before a module is the original's, so on its inputs its compiled weights give the very output that it would
//! have if it alone were compiled. The original goes on from there.

use std::collections::{BTreeMap, BTreeSet};

use lathe_runtime::backend::{Session, StepValues};
use lathe_runtime::exec::{ExecError, Logits, SessionOptions};
use lathe_runtime::program::{BufferId, Op};

use super::outputs::{CHUNK, Role, Subject, Subjects, skip};
use super::pairs::Pair;
use super::predictions::Tally;
use super::{Comparison, VerifyError};
use crate::elaborate::ModuleId;

/// Mean KL divergence in nats a token over the first `tokens` tokens of the text, in pieces that are each read from an empty
/// cache, for each of the modules; `None` where it is no number.
pub(super) fn divergences<'a>(
    comparison: &Comparison<'_>,
    subjects: &Subjects<'a>,
    modules: &BTreeSet<ModuleId>,
    tokens: usize,
) -> Result<BTreeMap<ModuleId, Option<f64>>, VerifyError> {
    let piece = CHUNK.min(comparison.window);
    let options =
        SessionOptions { capacity: piece, max_step_tokens: piece, max_logits: piece, min_positions: comparison.window };
    let session = |(program, weights): &Subject<'a>| comparison.backend.session(program, weights, &options);
    let (mut original, mut compiled) = (session(&subjects.original)?, session(&subjects.compiled)?);
    let mut tallies: BTreeMap<ModuleId, Tally> = modules.iter().map(|&module| (module, Tally::default())).collect();
    for tokens in comparison.tokens[..tokens.min(comparison.tokens.len())].chunks(piece) {
        let expected = logits(&mut *original, subjects, tokens)?;
        for (&module, tally) in &mut tallies {
            let found = with_module(&mut *original, &mut *compiled, subjects, module, tokens)?;
            tally.add(tokens.len(), &expected, &found, &[]);
        }
    }
    Ok(tallies.into_iter().map(|(module, tally)| (module, tally.divergence())).collect())
}

/// What the original predicts.
fn logits(session: &mut dyn Session, subjects: &Subjects<'_>, tokens: &[u32]) -> Result<Vec<f32>, ExecError> {
    let program = subjects.original.0;
    session.truncate(0);
    let mut steps = session.steps(tokens, Logits::All)?;
    let mut found = Vec::new();
    while let Some(output) = steps.next()? {
        if let (true, StepValues::Real(values)) = (program.steps[output.step].op.out() == program.output, output.values)
        {
            found = values.to_vec();
        }
    }
    Ok(found)
}

/// What the original predicts when the output of one module is that of the compiled model.
fn with_module(
    original: &mut dyn Session,
    compiled: &mut dyn Session,
    subjects: &Subjects<'_>,
    module: ModuleId,
    tokens: &[u32],
) -> Result<Vec<f32>, ExecError> {
    let program = subjects.original.0;
    original.truncate(0);
    let mut original = original.steps(tokens, Logits::All)?;
    let mut compiled = compiled.steps(tokens, Logits::All)?;
    let mut next = Pair { original: 0, compiled: 0 };
    let mut choices: BTreeMap<BufferId, Vec<u32>> = BTreeMap::new();
    let mut found = Vec::new();
    for (pair, role, basis) in &subjects.pairs {
        let own = skip(&mut *original, pair.original - next.original)?;
        let other = skip(&mut *compiled, pair.compiled - next.compiled)?;
        next = Pair { original: pair.original + 1, compiled: pair.compiled + 1 };
        let op = &program.steps[pair.original].op;
        match (own, other) {
            (StepValues::Real(own), StepValues::Real(other)) => {
                take(op, role, module, &choices, own, &basis.of_original(other));
                if op.out() == program.output {
                    found = own.to_vec();
                }
                basis.put(own, other);
            }
            (StepValues::Index(own), StepValues::Index(other)) => {
                choices.insert(op.out(), own.to_vec());
                other.copy_from_slice(own);
            }
            _ => unreachable!("paired steps write buffers of the same elements"),
        }
    }
    Ok(found)
}

/// Takes to `own` what the module gives in `other`; of experts only the rows of those tokens that have chosen it.
fn take(
    op: &Op,
    role: &Role,
    module: ModuleId,
    choices: &BTreeMap<BufferId, Vec<u32>>,
    own: &mut [f32],
    other: &[f32],
) {
    match (role, op) {
        (Role::Modules(modules), _) if modules.contains(&module) => own.copy_from_slice(other),
        (Role::Experts(modules), Op::ExpertMatMul { choice, .. }) => {
            let Some(chosen) = choices.get(choice).filter(|chosen| !chosen.is_empty()) else { return };
            let width = own.len() / chosen.len();
            for ((own, other), &expert) in own.chunks_exact_mut(width).zip(other.chunks_exact(width)).zip(chosen) {
                if modules.get(expert as usize).copied().flatten() == Some(module) {
                    own.copy_from_slice(other);
                }
            }
        }
        _ => {}
    }
}
