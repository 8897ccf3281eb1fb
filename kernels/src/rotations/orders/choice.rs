//! Which construction an order gets.

use super::{Base, MAX_BASE, cost, galois, goethals_seidel};
use crate::rotations::MAX_WIDTH;

/// Whether a Hadamard matrix of this order can be built here.
pub fn constructible(order: usize) -> bool {
    cheapest(order).is_some()
}

/// Widths of blocks of Hadamard matrices that a row of `width` elements can be rotated by: the divisors of `width` that are
/// [constructible], 1 excepted, the largest first.
///
/// ```
/// use lathe_kernels::rotations::orders::block_sizes;
///
/// assert_eq!(block_sizes(90), [2]);
/// ```
pub fn block_sizes(width: usize) -> Vec<usize> {
    (2..=width.min(MAX_WIDTH)).rev().filter(|&size| width.is_multiple_of(size) && constructible(size)).collect()
}

/// Bases in ascending order, and the order of the Sylvester matrix, whose product is the cheapest of this order.
///
/// Of equally cheap ones it is the one with the fewest bases, then the one whose first base is the smallest, then the
/// second, and so on. Of bases of one order it is the first of those in [`base`].
pub(super) fn cheapest(order: usize) -> Option<(Vec<Base>, usize)> {
    if !(1..=MAX_WIDTH).contains(&order) {
        return None;
    }
    let mut best = None;
    extend(&mut Vec::new(), order, &mut best);
    best
}

/// Puts the cheapest product that starts with `bases` and goes on to a rest of order `rest` into `best`, where it is
/// better than what is there.
fn extend(bases: &mut Vec<Base>, rest: usize, best: &mut Option<(Vec<Base>, usize)>) {
    if rest.is_power_of_two() {
        let rank = |bases: &[Base], sylvester| {
            let orders: Vec<_> = bases.iter().map(|base| base.order()).collect();
            (cost(bases.iter().copied(), sylvester), bases.len(), orders)
        };
        if best.as_ref().is_none_or(|(other, sylvester)| rank(bases, rest) < rank(other, *sylvester)) {
            *best = Some((bases.clone(), rest));
        }
    }
    let smallest = bases.last().map_or(12, |base| base.order());
    for order in (smallest..=rest.min(MAX_BASE)).step_by(4) {
        if rest.is_multiple_of(order)
            && let Some(base) = base(order)
        {
            bases.push(base);
            extend(bases, rest / order, best);
            bases.pop();
        }
    }
}

/// The base of this order, a multiple of 4 and at least 12: of those that are valid the first in the order of [`Base`].
fn base(order: usize) -> Option<Base> {
    [Base::Paley1 { q: order - 1 }, Base::Paley2 { q: order / 2 - 1 }, Base::GoethalsSeidel { order }]
        .into_iter()
        .find(|&base| is_valid(base))
}

/// Whether there is such a matrix here.
pub(super) fn is_valid(base: Base) -> bool {
    match base {
        Base::Paley1 { q } => q % 4 == 3 && q < MAX_BASE && galois::is_prime_power(q),
        Base::Paley2 { q } => q % 4 == 1 && q < MAX_BASE / 2 && galois::is_prime_power(q),
        Base::GoethalsSeidel { order } => goethals_seidel::has(order),
    }
}
