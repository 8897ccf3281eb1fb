//! Results of a compiled model in the basis of its original, and back.

use std::borrow::Cow;

use crate::pack::Maps;

/// The basis that a result of the compiled model is in.
#[derive(Debug)]
pub(super) struct Basis<'a> {
    /// Turn rows to the basis of the original.
    maps: Maps<'a>,
    /// Turn them back, where that can be.
    inverse: Option<Maps<'a>>,
}

impl<'a> Basis<'a> {
    pub(super) fn new(maps: Maps<'a>) -> Self {
        let inverse = maps.inverse();
        Basis { maps, inverse }
    }

    /// Values of the compiled model, as the original has them.
    pub(super) fn of_original<'v>(&self, compiled: &'v [f32]) -> Cow<'v, [f32]> {
        if self.maps.is_identity() { Cow::Borrowed(compiled) } else { Cow::Owned(mapped(&self.maps, compiled)) }
    }

    /// Puts values of the original in the place of compiled ones. Where no matrix turns them back, compiled ones stay: they
    /// are what weights that are not packed, such as the gain of a norm, make of values that were the original's.
    pub(super) fn put(&self, original: &[f32], compiled: &mut [f32]) {
        match &self.inverse {
            _ if self.maps.is_identity() => compiled.copy_from_slice(original),
            Some(inverse) => compiled.copy_from_slice(&mapped(inverse, original)),
            None => {}
        }
    }
}

fn mapped(maps: &Maps<'_>, rows: &[f32]) -> Vec<f32> {
    let mut values: Vec<f64> = rows.iter().map(|&value| f64::from(value)).collect();
    maps.apply(&mut values);
    values.into_iter().map(|value| value as f32).collect()
}
