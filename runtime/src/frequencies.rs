//! Rotary frequencies, which may depend on the length of the text.
//!
//! The length of a text is the number of its positions after a call: those before it and those of the call. All tokens of
//! a call are rotated alike, however it is cut into passes. Keys of earlier calls stay in the cache as they are while
//! dynamic frequencies change; where frequencies switch, the text is read anew.

use crate::program::{Program, RopeGrowth, RopeId, RopeTable};

/// The frequencies in effect.
pub(crate) struct Frequencies<'a> {
    tables: &'a [RopeTable],
    length: usize,
    /// By table; empty for those that are not dynamic.
    dynamic: Vec<Vec<f32>>,
}

impl<'a> Frequencies<'a> {
    pub(crate) fn new(program: &'a Program) -> Self {
        let dynamic = |table: &RopeTable| match table.growth {
            Some(RopeGrowth::Dynamic { .. }) => table.inverse_frequencies.clone(),
            Some(RopeGrowth::Switch { .. }) | None => Vec::new(),
        };
        let tables = &program.rope_tables;
        Frequencies { tables, length: 0, dynamic: tables.iter().map(dynamic).collect() }
    }

    /// From here on those of a text of `length` positions. Allocates nothing.
    pub(crate) fn set_length(&mut self, length: usize) {
        self.length = length;
        for (table, frequencies) in self.tables.iter().zip(&mut self.dynamic) {
            if let Some(RopeGrowth::Dynamic { positions, factor, theta }) = table.growth
                && length > positions as usize
            {
                dynamic(length, positions, factor, theta, frequencies);
            }
        }
    }

    /// The frequencies of a table.
    pub(crate) fn of(&self, id: RopeId) -> &[f32] {
        let table = &self.tables[id.index()];
        match &table.growth {
            Some(RopeGrowth::Switch { positions, inverse_frequencies }) if self.length > *positions as usize => {
                inverse_frequencies
            }
            Some(RopeGrowth::Dynamic { positions, .. }) if self.length > *positions as usize => {
                &self.dynamic[id.index()]
            }
            _ => &table.inverse_frequencies,
        }
    }
}

/// Dynamic frequencies of a text of `length` positions, more than `positions`: computed in f64, rounded once.
fn dynamic(length: usize, positions: u32, factor: f64, theta: f64, frequencies: &mut [f32]) {
    let width = 2.0 * frequencies.len() as f64;
    let growth = factor * length as f64 / f64::from(positions) - (factor - 1.0);
    let base = theta * growth.powf(width / (width - 2.0));
    for (pair, frequency) in frequencies.iter_mut().enumerate() {
        *frequency = (1.0 / base.powf(2.0 * pair as f64 / width)) as f32;
    }
}

/// How many tables have switched for a text of `length` positions. As lengths that have as many have the same, keys that
/// were read at one of them fit the other.
fn switched(tables: &[RopeTable], length: usize) -> usize {
    let has_switched = |table: &&RopeTable| match table.growth {
        Some(RopeGrowth::Switch { positions, .. }) => length > positions as usize,
        Some(RopeGrowth::Dynamic { .. }) | None => false,
    };
    tables.iter().filter(has_switched).count()
}

/// Whether frequencies of the program can switch, so that a session has to keep its [`Text`].
pub(crate) fn can_switch(program: &Program) -> bool {
    switched(&program.rope_tables, usize::MAX) > 0
}

/// The tokens that a session has read, for reading them anew when frequencies switch.
pub(crate) struct Text {
    tokens: Vec<u32>,
    switched: usize,
}

impl Text {
    /// `tokens` has an element for each position of the session; what they are is of no importance.
    pub(crate) fn new(tokens: Vec<u32>) -> Self {
        Text { tokens, switched: 0 }
    }

    /// Takes the tokens of a call at `position`, which gives a text of `length` positions as far as frequencies are
    /// concerned. Gives the tokens before the call that must be read again first, which are all or none.
    pub(crate) fn append(&mut self, program: &Program, position: usize, tokens: &[u32], length: usize) -> &[u32] {
        self.tokens[position..position + tokens.len()].copy_from_slice(tokens);
        let before = std::mem::replace(&mut self.switched, switched(&program.rope_tables, length));
        if before == self.switched { &[] } else { &self.tokens[..position] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::RopePairing;
    use crate::testing::small_program;

    fn program(growths: &[RopeGrowth]) -> Program {
        let table = |growth: &RopeGrowth| RopeTable {
            pairing: RopePairing::Half,
            inverse_frequencies: vec![1.0, 0.5],
            amplitude: 1.0,
            growth: Some(growth.clone()),
        };
        Program { rope_tables: growths.iter().map(table).collect(), ..small_program() }
    }

    fn switch(positions: u32) -> RopeGrowth {
        RopeGrowth::Switch { positions, inverse_frequencies: vec![0.25, 0.125] }
    }

    #[test]
    fn frequencies_switch_past_their_positions() {
        let program = program(&[switch(8)]);
        let mut frequencies = Frequencies::new(&program);
        for (length, expected) in [(1, [1.0, 0.5]), (8, [1.0, 0.5]), (9, [0.25, 0.125]), (8, [1.0, 0.5])] {
            frequencies.set_length(length);
            assert_eq!(frequencies.of(RopeId(0)), expected);
        }
    }

    /// With a factor of 2, twice the positions make the growth 3; of 4 elements the exponent is 4 / 2.
    #[test]
    fn dynamic_frequencies_follow_the_length() {
        let program = program(&[RopeGrowth::Dynamic { positions: 8, factor: 2.0, theta: 4.0 }]);
        let mut frequencies = Frequencies::new(&program);
        for (length, expected) in [(8, [1.0, 0.5]), (16, [1.0, 1.0 / 6.0]), (12, [1.0, 0.25]), (7, [1.0, 0.5])] {
            frequencies.set_length(length);
            assert_eq!(frequencies.of(RopeId(0)), expected);
        }
    }

    #[test]
    fn texts_are_read_anew_when_a_table_switches() {
        let program = program(&[switch(4), switch(6)]);
        assert!(can_switch(&program) && !can_switch(&small_program()));
        let mut text = Text::new(vec![0; 10]);
        assert!(text.append(&program, 0, &[1, 2, 3], 3).is_empty());
        assert!(text.append(&program, 3, &[4], 4).is_empty());
        assert_eq!(text.append(&program, 4, &[5], 5), [1, 2, 3, 4]);
        assert!(text.append(&program, 5, &[6], 6).is_empty());
        assert_eq!(text.append(&program, 6, &[7], 7), [1, 2, 3, 4, 5, 6]);
        assert!(text.append(&program, 7, &[8], 8).is_empty());
        assert_eq!(text.append(&program, 2, &[9], 3), [1, 2], "truncated");
        assert!(text.append(&program, 0, &[1; 9], 9).is_empty(), "nothing to read again");
    }
}
