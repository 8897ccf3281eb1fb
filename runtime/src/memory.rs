//! Where activations lie: buffers that are never needed at the same time share memory.
//!
//! A buffer has as many rows as a pass has tokens, or as many as were selected, so there is a region of memory for
//! each, and the plan counts in elements of one row: with `n` rows, a buffer at `offset` of its region takes the
//! elements `offset * n .. (offset + width) * n`. The logits have a region of their own, since a long prompt fills it
//! pass by pass.
//!
//! A buffer lives from the step that writes it to the last one that reads it, both included, so an output never
//! overlaps an input. The widest buffers are placed first, each in the smallest hole that those before it leave.

use crate::program::{BufferId, Program, Rows};

/// A part of the activation memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Region {
    /// Buffers with one row for each token of the pass.
    Tokens,
    /// Buffers with one row for each selected token of the pass.
    Selected,
    /// The logits, one row for each selected token of the whole call.
    Output,
}

/// Where a buffer lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The region.
    pub region: Region,
    /// Elements of one row before it.
    pub offset: u64,
    /// Elements of one row.
    pub width: u64,
}

/// Where every buffer of a program lies. The same for every run on every machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryPlan {
    places: Vec<Place>,
    /// Elements of one row of the region of [`Region::Tokens`].
    pub tokens_width: u64,
    /// Elements of one row of the region of [`Region::Selected`].
    pub selected_width: u64,
    /// Elements of one row of logits.
    pub output_width: u64,
}

impl MemoryPlan {
    /// Plans the memory of a valid program.
    pub fn new(program: &Program) -> MemoryPlan {
        let nowhere = Place { region: Region::Output, offset: 0, width: 0 };
        let mut places = vec![nowhere; program.buffers.len()];
        let lives = lives(program);
        let mut place_region = |region| {
            let (buffers, lives): (Vec<BufferId>, Vec<Life>) =
                lives.iter().filter(|(buffer, _)| region_of(program, *buffer) == region).copied().unzip();
            let (offsets, region_width) = place_lives(&lives);
            for ((buffer, life), offset) in buffers.iter().zip(&lives).zip(offsets) {
                places[buffer.index()] = Place { region, offset, width: life.width };
            }
            region_width
        };
        let (tokens_width, selected_width) = (place_region(Region::Tokens), place_region(Region::Selected));
        let output_width = place_region(Region::Output);
        MemoryPlan { places, tokens_width, selected_width, output_width }
    }

    /// Where a buffer lies.
    ///
    /// # Panics
    /// When there is no such buffer.
    pub fn place(&self, buffer: BufferId) -> Place {
        self.places[buffer.index()]
    }

    /// Bytes of activations for each token of a pass.
    pub fn bytes_per_token(&self) -> u64 {
        self.tokens_width * size_of::<f32>() as u64
    }
}

/// The region of a buffer.
pub(crate) fn region_of(program: &Program, buffer: BufferId) -> Region {
    match program.buffers[buffer.index()].rows {
        Rows::Selected if buffer == program.output => Region::Output,
        Rows::Selected => Region::Selected,
        Rows::Tokens => Region::Tokens,
    }
}

/// When something lives, and what it takes of a row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Life {
    pub(crate) width: u64,
    /// The first step that writes it.
    pub(crate) first: usize,
    /// The last step that reads it; the last that writes it if none does.
    pub(crate) last: usize,
}

/// The output of each step, and its life.
fn lives(program: &Program) -> Vec<(BufferId, Life)> {
    let mut last = vec![0; program.buffers.len()];
    for (index, step) in program.steps.iter().enumerate() {
        for buffer in step.op.inputs().chain([step.op.out()]) {
            last[buffer.index()] = index;
        }
    }
    let life = |(first, out): (usize, BufferId)| {
        let width = program.buffers[out.index()].width.into();
        (out, Life { width, first, last: last[out.index()] })
    };
    program.steps.iter().map(|step| step.op.out()).enumerate().map(life).collect()
}

/// Places what lives in one region, in the order of their first steps. Gives their offsets and the region's width.
pub(crate) fn place_lives(lives: &[Life]) -> (Vec<u64>, u64) {
    debug_assert!(lives.is_sorted_by_key(|life| life.first));
    let mut order: Vec<usize> = (0..lives.len()).collect();
    order.sort_by_key(|&index| (std::cmp::Reverse(lives[index].width), index));
    let longest = lives.iter().map(|life| life.last - life.first).max().unwrap_or(0);

    let mut placed: Vec<Option<u64>> = vec![None; lives.len()];
    let mut region_width = 0;
    let mut taken: Vec<(u64, u64)> = Vec::new();
    for index in order {
        let Life { width, first, last } = lives[index];
        let nearby = lives.partition_point(|other| other.first + longest < first)
            ..lives.partition_point(|other| other.first <= last);
        taken.clear();
        taken.extend(nearby.filter_map(|other| {
            let offset = placed[other]?;
            (lives[other].last >= first).then_some((offset, offset + lives[other].width))
        }));
        taken.sort_unstable();
        let offset = smallest_hole(&taken, width);
        placed[index] = Some(offset);
        region_width = region_width.max(offset + width);
    }
    (placed.into_iter().map(|offset| offset.unwrap_or(0)).collect(), region_width)
}

/// Where the smallest hole of at least `width` begins between sorted ranges; behind them all if there is none.
fn smallest_hole(taken: &[(u64, u64)], width: u64) -> u64 {
    let mut best: Option<(u64, u64)> = None;
    let mut end = 0;
    for &(start, next_end) in taken {
        let hole = start.saturating_sub(end);
        if hole >= width && best.is_none_or(|(smallest, _)| hole < smallest) {
            best = Some((hole, end));
        }
        end = end.max(next_end);
    }
    best.map_or(end, |(_, offset)| offset)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::program::{Binary, Op, verify};
    use crate::testing::{Builder, SMALL, expert_program, small_program};

    /// Buffers by the steps at which they live, recomputed the slow way.
    fn lifetime(program: &Program, buffer: BufferId) -> (usize, usize) {
        let touches = |op: &Op| op.out() == buffer || op.inputs().any(|input| input == buffer);
        let first = program.steps.iter().position(|step| step.op.out() == buffer).unwrap();
        (first, program.steps.iter().rposition(|step| touches(&step.op)).unwrap())
    }

    fn assert_nothing_overlaps(program: &Program) {
        let plan = MemoryPlan::new(program);
        let buffers: Vec<BufferId> = (0..program.buffers.len() as u32).map(BufferId).collect();
        for (i, &a) in buffers.iter().enumerate() {
            let (place, (first, last)) = (plan.place(a), lifetime(program, a));
            let end = match place.region {
                Region::Tokens => plan.tokens_width,
                Region::Selected => plan.selected_width,
                Region::Output => plan.output_width,
            };
            assert!(place.width == u64::from(program.buffers[a.index()].width) && place.offset + place.width <= end);
            for &b in &buffers[i + 1..] {
                let (other, (other_first, other_last)) = (plan.place(b), lifetime(program, b));
                let together = first <= other_last && other_first <= last;
                let overlap = place.region == other.region
                    && place.offset < other.offset + other.width
                    && other.offset < place.offset + place.width;
                assert!(!(together && overlap), "{a:?} at {place:?} and {b:?} at {other:?}");
            }
        }
    }

    #[test]
    fn experts_share_memory() {
        assert_nothing_overlaps(&expert_program(SMALL));
    }

    #[test]
    fn layers_share_memory() {
        let program = small_program();
        assert_nothing_overlaps(&program);
        let plan = MemoryPlan::new(&program);
        // At its widest a layer has x, q before and after rotation, k and v; that leaves holes for 24 elements.
        assert_eq!(plan.bytes_per_token(), 4 * (24 + 40 + 40 + 20 + 20 + 24));
        assert_eq!(plan.output_width, 37);
    }

    #[test]
    fn the_smallest_hole_is_taken() {
        assert_eq!(smallest_hole(&[], 4), 0);
        assert_eq!(smallest_hole(&[(0, 8), (16, 20), (24, 30)], 4), 20);
        assert_eq!(smallest_hole(&[(0, 8), (16, 20), (24, 30)], 5), 8);
        assert_eq!(smallest_hole(&[(2, 8), (4, 6), (9, 20)], 3), 20);
        assert_eq!(smallest_hole(&[(3, 8)], 3), 0);
    }

    /// A program of additions over buffers of various widths, each reading two earlier buffers of its width.
    fn random_program(choices: &[(usize, usize, usize)]) -> Program {
        const WIDTHS: [u32; 3] = [1, 5, 8];
        let mut builder = Builder::new(SMALL);
        let mut written: [Vec<BufferId>; 3] = Default::default();
        for (written, &width) in written.iter_mut().zip(&WIDTHS) {
            let table = builder.weight(&format!("w{width}"), "f32", &[8, width]);
            written.push(builder.embed("embed", table, width));
        }
        for &(class, a, b) in choices {
            let (class, a, b) = (class % 3, a, b);
            let pick = |choice: usize| written[class][choice % written[class].len()];
            let (a, b, function) = (pick(a), pick(b), Binary::Add);
            let add = |out| Op::Binary { function, a, b, out };
            let out = builder.step("add", Rows::Tokens, WIDTHS[class], add);
            written[class].push(out);
        }
        let x = written[2][written[2].len() - 1];
        builder.program.output = builder.step("select", Rows::Selected, 8, |out| Op::Select { x, out });
        builder.program
    }

    proptest! {
        #[test]
        fn live_buffers_never_overlap(choices in prop::collection::vec(any::<(usize, usize, usize)>(), 0..60)) {
            let program = random_program(&choices);
            verify(&program).unwrap();
            assert_nothing_overlaps(&program);
            prop_assert_eq!(MemoryPlan::new(&program), MemoryPlan::new(&program));
        }
    }
}
