use std::collections::BTreeMap;

use super::places::keys;
use super::*;
use crate::backend::cuda::plan::Assumed;
use crate::memory::Region;
use crate::program::{Compute, Op};
use crate::testing::{Builder, SMALL, expert_program, rotated_program, small_program, with_int8_inputs};

/// A device that can do nothing that it need not.
struct Least;

impl Abilities for Least {
    fn joins(&self, weights: &[WeightId]) -> bool {
        weights.len() == 1
    }

    fn normalizes(&self, _: WeightId) -> bool {
        false
    }

    fn quantizes(&self, _: WeightId) -> bool {
        false
    }

    fn rotates_rows(&self, _: RotationId, _: u32) -> bool {
        false
    }
}

fn in_bf16(program: Program) -> Program {
    Program { compute: Compute::Bf16, ..program }
}

fn programs() -> Vec<Program> {
    let plain = [small_program(), expert_program(SMALL), rotated_program(SMALL)];
    let int8 = [small_program(), expert_program(SMALL)].map(with_int8_inputs);
    let bf16 = plain.clone().map(in_bf16).into_iter().chain(int8.clone().map(in_bf16));
    plain.into_iter().chain(int8.clone()).chain(bf16).collect()
}

fn schedules(program: &Program) -> Vec<Schedule> {
    let (most, least) = (&Assumed { program }, &Least);
    let mut schedules = vec![Schedule::step_by_step(program).0];
    for kind in [Kind::One, Kind::Many] {
        schedules.extend([most as &dyn Abilities, least].map(|abilities| Schedule::new(program, abilities, kind)));
    }
    schedules
}

/// Every step is computed once, and nothing is read before it is written.
#[test]
fn launches_compute_the_program() {
    for program in programs() {
        for schedule in schedules(&program) {
            let mut written: Vec<(BufferId, Form)> = Vec::new();
            let mut filled: Vec<CacheId> = Vec::new();
            let mut computed = vec![0; program.steps.len()];
            for launch in &schedule.launches {
                for (buffer, form) in launch.reads(&program) {
                    assert!(written.contains(&(schedule.source(buffer).0, form)), "{launch:?}");
                }
                written.extend(launch.writes(&program));
                match &launch.call {
                    Call::Heads { heads, .. } => filled.extend(heads.iter().filter_map(|head| match head.to {
                        HeadTo::Keys(cache) | HeadTo::Values(cache) => Some(cache),
                        HeadTo::Buffer(_) => None,
                    })),
                    Call::Attention { step, .. } => {
                        let cache = program.steps[*step].op.cache().unwrap();
                        assert_eq!(filled.iter().filter(|&&other| other == cache).count(), 2);
                    }
                    _ => {}
                }
                if !matches!(launch.call, Call::Round { .. } | Call::Attention { .. }) {
                    launch.steps.iter().for_each(|&step| computed[step] += 1);
                }
            }
            for (step, count) in program.steps.iter().zip(computed) {
                let is_view = schedule.source(step.op.out()).1;
                assert_eq!(count, usize::from(!is_view), "{}: {count} times", step.label);
            }
            assert!(written.contains(&(program.output, Form::Real)));
        }
    }
}

/// What lives at the same time lies apart.
#[test]
fn values_do_not_overlap() {
    for program in programs() {
        for schedule in schedules(&program) {
            let places = Places::new(&program, &schedule);
            let mut lives: BTreeMap<Key, (usize, usize)> = BTreeMap::new();
            for (at, launch) in schedule.launches.iter().enumerate() {
                for key in keys(&program, &schedule, launch) {
                    lives.entry(key).or_insert((at, at)).1 = at;
                }
            }
            let lives: Vec<_> = lives.into_iter().collect();
            for (index, &(a, (first, last))) in lives.iter().enumerate() {
                let place = places.of(a);
                assert!(place.offset.is_multiple_of(16));
                let end = if place.region == Region::Tokens { places.tokens_width } else { places.selected_width };
                assert!(place.region == Region::Output || place.offset + place.width <= end);
                for &(b, (other_first, other_last)) in &lives[index + 1..] {
                    let other = places.of(b);
                    let together = first <= other_last && other_first <= last;
                    let overlap = place.region == other.region
                        && place.offset < other.offset + other.width
                        && other.offset < place.offset + place.width;
                    assert!(!(together && overlap), "{a:?} and {b:?}");
                }
            }
        }
    }
}

fn listing(program: &Program, kind: Kind) -> String {
    let schedule = Schedule::new(program, &Assumed { program }, kind);
    Listing { program, schedule: &schedule }.to_string()
}

#[test]
fn a_token_takes_few_launches() {
    let found = listing(&in_bf16(small_program()), Kind::One);
    assert_eq!(found, include_str!("small_one.txt"), "{found}");
}

#[test]
fn many_tokens_are_normalized_once() {
    let found = listing(&in_bf16(with_int8_inputs(expert_program(SMALL))), Kind::Many);
    assert_eq!(found, include_str!("experts_many.txt"), "{found}");
}

#[test]
fn steps_have_their_own_launches() {
    for program in programs() {
        let (schedule, ends) = Schedule::step_by_step(&program);
        assert_eq!((ends.len(), ends.last()), (program.steps.len(), Some(&schedule.launches.len())));
        let mut start = 0;
        for (step, &end) in ends.iter().enumerate() {
            let launches = &schedule.launches[start..end];
            assert!(launches.iter().any(|launch| launch.steps == [step]));
            assert!(launches.iter().all(|launch| launch.steps == [step] || launch.steps.is_empty()));
            start = end;
        }
    }
}

/// A value that two steps need is kept for both.
#[test]
fn what_others_read_is_not_fused_away() {
    let mut builder = Builder::new(SMALL);
    let table = builder.weight("embed", "bf16", &[SMALL.vocabulary, 24]);
    let x = builder.embed("embed", table, 24);
    let product = builder.linear("linear", x, [24, 24], false);
    let add = |a, b| move |out| Op::Binary { function: crate::program::Binary::Add, a, b, out };
    let sum = builder.step("sum", crate::program::Rows::Tokens, 24, add(x, product));
    let twice = builder.step("twice", crate::program::Rows::Tokens, 24, add(sum, product));
    let x = builder.step("select", crate::program::Rows::Selected, 24, |out| Op::Select { x: twice, out });
    let head = |out| Op::MatMul { x, input: None, weight: table, bias: None, out };
    builder.program.output = builder.step("head", crate::program::Rows::Selected, SMALL.vocabulary, head);
    let calls: Vec<String> = listing(&builder.program, Kind::One).lines().map(str::to_owned).collect();
    let calls: Vec<&str> = calls.iter().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(calls, ["embed", "product:", "binary", "binary", "product:"]);
}
