//! Where values lie in the memory of a session, by the algorithm of [`crate::memory`].
//!
//! Counted in bytes of a row: with n rows, a value at `offset` of its region takes the bytes
//! `offset · n .. (offset + width) · n`. Offsets are multiples of 16.

use std::collections::BTreeMap;

use super::{Call, Form, Launch, Schedule};
use crate::memory::{Life, Place, Region, place_lives, region_of};
use crate::program::{BufferId, Program, RopeId};

/// What lies in the memory of activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    /// A buffer in a form.
    Value(BufferId, Form),
    /// The scales of a buffer that is rounded to int8 in so many parts.
    Scales(BufferId, u32),
    /// Sines and cosines.
    Angles(RopeId),
}

/// Where each value of a schedule lies.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    of: BTreeMap<Key, Place>,
    /// Bytes of a row of the region with a row for each token.
    pub(crate) tokens_width: u64,
    /// Bytes of a row of the region with a row for each selected token.
    pub(crate) selected_width: u64,
}

impl Places {
    pub(crate) fn new(program: &Program, schedule: &Schedule) -> Places {
        let mut lives: BTreeMap<Key, Life> = BTreeMap::new();
        for (at, launch) in schedule.launches.iter().enumerate() {
            for key in keys(program, schedule, launch) {
                let width = width(program, key);
                lives.entry(key).or_insert(Life { width, first: at, last: at }).last = at;
            }
        }
        let mut places = BTreeMap::new();
        let mut place_region = |region| {
            let in_region = |(key, _): &(&Key, &Life)| match **key {
                Key::Angles(_) => region == Region::Tokens,
                // Only what is f32 is output.
                Key::Value(buffer, Form::Real) => region == region_of(program, buffer),
                Key::Value(buffer, _) | Key::Scales(buffer, _) => match region_of(program, buffer) {
                    Region::Output => region == Region::Selected,
                    own => region == own,
                },
            };
            let mut placed: Vec<(Key, Life)> =
                lives.iter().filter(in_region).map(|(&key, &life)| (key, life)).collect();
            placed.sort_by_key(|(_, life)| life.first);
            let lives: Vec<Life> = placed.iter().map(|&(_, life)| life).collect();
            let (offsets, region_width) = place_lives(&lives);
            for ((key, Life { width, .. }), offset) in placed.into_iter().zip(offsets) {
                places.insert(key, Place { region, offset, width });
            }
            region_width
        };
        let (tokens_width, selected_width) = (place_region(Region::Tokens), place_region(Region::Selected));
        place_region(Region::Output);
        Places { of: places, tokens_width, selected_width }
    }

    /// # Panics
    /// When the schedule neither reads nor writes it.
    pub(crate) fn of(&self, key: Key) -> Place {
        self.of[&key]
    }
}

/// What a launch reads and writes; a view as what it is a view of.
pub(super) fn keys(program: &Program, schedule: &Schedule, launch: &Launch) -> Vec<Key> {
    let value = |(buffer, form): (BufferId, Form)| {
        let (buffer, _) = schedule.source(buffer);
        let scales = if let Form::Int8 { parts } = form { Some(Key::Scales(buffer, parts)) } else { None };
        [Some(Key::Value(buffer, form)), scales].into_iter().flatten()
    };
    let angles = if let Call::Angles(rope) = launch.call { Some(rope) } else { None };
    let ropes = launch.ropes().chain(angles).map(Key::Angles);
    let (reads, writes) = (launch.reads(program), launch.writes(program));
    reads.into_iter().chain(writes).flat_map(value).chain(ropes).collect()
}

/// Bytes of a row, up to a multiple of 16.
fn width(program: &Program, key: Key) -> u64 {
    let elements = |buffer: BufferId| u64::from(program.buffers[buffer.index()].width);
    let bytes = match key {
        Key::Value(buffer, Form::Real) => 4 * elements(buffer),
        Key::Value(buffer, Form::Bf16) => 2 * elements(buffer),
        Key::Value(buffer, Form::Int8 { .. }) => elements(buffer),
        Key::Scales(_, parts) => 4 * u64::from(parts),
        // Cosines and sines.
        Key::Angles(rope) => 2 * 4 * program.rope_tables[rope.index()].inverse_frequencies.len() as u64,
    };
    bytes.next_multiple_of(16)
}
