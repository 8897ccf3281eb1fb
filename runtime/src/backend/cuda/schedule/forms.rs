//! In which forms buffers are written: those that are read.

use std::collections::{BTreeMap, BTreeSet};

use super::{Call, Form, Forms, Launch};
use crate::program::{BufferId, Op, Program, RopeId};

/// For each buffer the one whose last rows it is. The output is none: it lies where rows of several passes do.
pub(super) fn views(program: &Program) -> Vec<Option<BufferId>> {
    let mut views = vec![None; program.buffers.len()];
    for step in &program.steps {
        if let Op::Select { x, out } = step.op
            && out != program.output
        {
            views[out.index()] = Some(x);
        }
    }
    views
}

/// Puts the angles of rotary embeddings first, leaves out launches that are views, and lets each buffer be written in the
/// forms that are read, by its launch where that can, by one behind it where not.
pub(super) fn complete(program: &Program, views: &[Option<BufferId>], launches: Vec<Launch>) -> Vec<Launch> {
    let mut wanted: BTreeMap<BufferId, BTreeSet<Form>> =
        BTreeMap::from([(program.output, BTreeSet::from([Form::Real]))]);
    for (buffer, form) in launches.iter().flat_map(|launch| launch.reads(program)) {
        wanted.entry(views[buffer.index()].unwrap_or(buffer)).or_default().insert(form);
    }
    let mut completed = Vec::with_capacity(launches.len());
    for mut launch in angles(launches) {
        let written: BTreeSet<BufferId> = launch.writes(program).into_iter().map(|(buffer, _)| buffer).collect();
        if written.iter().any(|buffer| views[buffer.index()].is_some()) {
            continue;
        }
        let steps = launch.steps.clone();
        let can = launch.can_write(program);
        let mut rounds = Vec::new();
        for x in written {
            let Some(forms) = wanted.get(&x) else { continue };
            let mut direct = Forms::default();
            for &form in forms {
                match form {
                    Form::Real => direct.real = true,
                    Form::Bf16 if can.bf16 && launch.forms_mut(program, x).is_some() => direct.bf16 = true,
                    Form::Int8 { parts: 1 } if can.int8 && launch.forms_mut(program, x).is_some() => direct.int8 = true,
                    Form::Bf16 | Form::Int8 { .. } => rounds.push(Call::Round { x, form }),
                }
            }
            direct.real |= rounds.iter().any(|round| matches!(round, Call::Round { x: rounded, .. } if *rounded == x));
            if let Some(forms) = launch.forms_mut(program, x) {
                *forms = direct;
            }
        }
        completed.push(launch);
        completed.extend(rounds.into_iter().map(|call| Launch { call, steps: steps.clone() }));
    }
    completed
}

/// Puts the angles of rotary embeddings before the first launch.
pub(super) fn angles(launches: Vec<Launch>) -> impl Iterator<Item = Launch> {
    let ropes: BTreeSet<RopeId> = launches.iter().flat_map(Launch::ropes).collect();
    ropes.into_iter().map(|rope| Launch { call: Call::Angles(rope), steps: Vec::new() }).chain(launches)
}

/// The operands of a launch, from what is there in f32.
pub(super) fn rounds_before(program: &Program, launch: &Launch) -> Vec<Launch> {
    let round = |(x, form)| Launch { call: Call::Round { x, form }, steps: launch.steps.clone() };
    launch.reads(program).into_iter().filter(|&(_, form)| form != Form::Real).map(round).collect()
}
