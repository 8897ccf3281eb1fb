//! Whether views take every element of a tensor, and none twice.

use std::ops::Range;

use crate::ir::{Axis, View};

/// Most pairs of views that are compared.
const MAX_PAIRS: u64 = 1 << 26;

/// Most elements that are counted one by one, where views do not fit into one another's strides.
const MAX_COUNTED: u64 = 1 << 27;

/// What is wrong with the views of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// Two views, by index, take one element.
    Twice(usize, usize),
    /// So many elements are taken by no view.
    Nobody(u64),
    /// The views are too many or too intricate to be compared.
    Unknown,
}

/// Checks that `views` take each of the `elements` of their tensor exactly once.
pub(super) fn check(elements: u64, views: &[&View]) -> Result<(), Fault> {
    let sets: Vec<View> = views.iter().map(|view| as_set(view)).collect();
    let ranges: Option<Vec<Vec<Range<u64>>>> = sets.iter().map(|set| Some(vec![set.range()?])).collect();
    match ranges.or_else(|| boxes(elements, &sets)) {
        Some(boxes) => compare(elements, &boxes),
        None => count(elements, &sets),
    }
}

/// The same elements in the order of the tensor, which may let axes become one.
fn as_set(view: &View) -> View {
    let mut axes = view.axes.clone();
    axes.sort_by_key(|axis| std::cmp::Reverse(axis.stride));
    View::new(view.tensor, view.offset, axes)
}

/// Every view as a range in each digit of a number system for the places in the tensor, in which the strides of all
/// views are the values of the digits. The last digit comes first. `None` when there is no such system.
fn boxes(elements: u64, views: &[View]) -> Option<Vec<Vec<Range<u64>>>> {
    let mut values: Vec<u64> = views.iter().flat_map(|view| &view.axes).map(|axis| axis.stride).chain([1]).collect();
    values.sort_unstable();
    values.dedup();
    if values[0] == 0 || values.windows(2).any(|pair| !pair[1].is_multiple_of(pair[0])) {
        return None;
    }
    let last = *values.last()?;
    let radices: Vec<u64> =
        values.windows(2).map(|pair| pair[1] / pair[0]).chain([elements.div_ceil(last).max(1)]).collect();
    views.iter().map(|view| as_box(view, &values, &radices)).collect()
}

fn as_box(view: &View, values: &[u64], radices: &[u64]) -> Option<Vec<Range<u64>>> {
    let digit = |(value, radix): (&u64, &u64)| view.offset / value % radix;
    let first: Vec<u64> = values.iter().zip(radices).map(digit).collect();
    let mut ranges: Vec<Range<u64>> = first.iter().map(|&digit| digit..digit + 1).collect();
    let mut taken = vec![false; values.len()];
    for &Axis { size, stride } in &view.axes {
        let mut at = values.iter().position(|&value| value == stride)?;
        let mut left = size;
        while left > 1 {
            if std::mem::replace(taken.get_mut(at)?, true) {
                return None;
            }
            if left <= radices[at] - first[at] {
                ranges[at] = first[at]..first[at] + left;
                left = 1;
            } else if first[at] == 0 && left.is_multiple_of(radices[at]) {
                ranges[at] = 0..radices[at];
                left /= radices[at];
                at += 1;
            } else {
                return None;
            }
        }
    }
    ranges.reverse();
    Some(ranges)
}

fn compare(elements: u64, boxes: &[Vec<Range<u64>>]) -> Result<(), Fault> {
    let mut order: Vec<usize> = (0..boxes.len()).collect();
    order.sort_by_key(|&index| boxes[index][0].start);
    let mut pairs = 0;
    for (at, &first) in order.iter().enumerate() {
        for &second in &order[at + 1..] {
            if boxes[second][0].start >= boxes[first][0].end {
                break;
            }
            pairs += 1;
            if pairs > MAX_PAIRS {
                return Err(Fault::Unknown);
            }
            let meet = |(a, b): (&Range<u64>, &Range<u64>)| a.start < b.end && b.start < a.end;
            if boxes[first].iter().zip(&boxes[second]).all(meet) {
                return Err(Fault::Twice(first.min(second), first.max(second)));
            }
        }
    }
    let size = |ranges: &Vec<Range<u64>>| ranges.iter().map(|range| range.end - range.start).product::<u64>();
    match elements.saturating_sub(boxes.iter().map(size).sum()) {
        0 => Ok(()),
        left => Err(Fault::Nobody(left)),
    }
}

fn count(elements: u64, views: &[View]) -> Result<(), Fault> {
    if elements > MAX_COUNTED || views.len() > usize::from(u16::MAX) {
        return Err(Fault::Unknown);
    }
    let mut taken = vec![0u16; elements as usize];
    let mut left = elements;
    for (index, view) in views.iter().enumerate() {
        for at in 0..view.elements() {
            let owner = taken.get_mut(view.locate(at) as usize).ok_or(Fault::Unknown)?;
            if *owner != 0 {
                return Err(Fault::Twice(usize::from(*owner) - 1, index));
            }
            *owner = index as u16 + 1;
            left -= 1;
        }
    }
    if left == 0 { Ok(()) } else { Err(Fault::Nobody(left)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{Shaped, TensorId};

    fn whole(shape: &[u64]) -> Shaped {
        Shaped::whole(TensorId(0), shape)
    }

    fn found(elements: u64, views: &[Shaped]) -> Result<(), Fault> {
        let views: Vec<View> = views.iter().map(Shaped::view).collect();
        let views: Vec<&View> = views.iter().collect();
        let fast = check(elements, &views);
        let slow = count(elements, &views.iter().map(|&view| view.clone()).collect::<Vec<_>>());
        assert_eq!(fast.is_ok(), slow.is_ok());
        if let (Err(Fault::Nobody(a)), Err(Fault::Nobody(b))) = (&fast, &slow) {
            assert_eq!(a, b);
        }
        fast
    }

    #[test]
    fn rows_and_heads_of_a_fused_tensor() {
        let fused = whole(&[12, 4]);
        let rows = |from, to| fused.clone().range(0, from, to).unwrap();
        assert_eq!(found(48, &[rows(0, 8), rows(8, 10), rows(10, 12)]), Ok(()));
        assert_eq!(found(48, &[rows(0, 8), rows(10, 12)]), Err(Fault::Nobody(8)));
        assert_eq!(found(48, &[rows(0, 8), rows(7, 12)]), Err(Fault::Twice(0, 1)));
        let part = |at| fused.reshape(&[2, 3, 2, 4]).unwrap().index(1, at).unwrap().reshape(&[4, 4]).unwrap();
        assert_eq!(found(48, &[part(2), part(0), part(1)]), Ok(()));
        assert_eq!(found(48, &[part(2), part(0), part(2)]), Err(Fault::Twice(0, 2)));
    }

    #[test]
    fn transposed_columns_and_interleaved_experts() {
        let columns = |from, to| whole(&[4, 9]).range(1, from, to).unwrap().transpose().unwrap();
        assert_eq!(found(36, &[columns(0, 3), columns(3, 6), columns(6, 9)]), Ok(()));
        assert_eq!(found(36, &[columns(0, 4), columns(3, 9)]), Err(Fault::Twice(0, 1)));
        let expert = |expert, part| {
            let stack = whole(&[3, 5, 8]).index(0, expert).unwrap().reshape(&[5, 4, 2]).unwrap();
            stack.index(2, part).unwrap().transpose().unwrap()
        };
        let mut all: Vec<Shaped> = (0..3).flat_map(|e| [expert(e, 0), expert(e, 1)]).collect();
        assert_eq!(found(120, &all), Ok(()));
        all.pop();
        assert_eq!(found(120, &all), Err(Fault::Nobody(20)));
    }

    /// Random numbers below a bound (Knuth's MMIX constants; the high bits).
    fn below(state: &mut u64, end: u64) -> u64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) % end
    }

    /// Parts of a view that together have each of its elements once.
    fn split(view: &Shaped, state: &mut u64) -> Vec<Shaped> {
        let shape = view.shape();
        let dimension = below(state, shape.len() as u64) as usize;
        let size = shape[dimension];
        let parts: Option<Vec<Shaped>> = match below(state, 4) {
            0 => (shape.len() > 1).then(|| (0..size).filter_map(|at| view.clone().index(dimension, at).ok()).collect()),
            1 => view.clone().transpose().map(|turned| vec![turned]),
            2 => {
                let elements: u64 = shape.iter().product();
                let divisors: Vec<u64> = (1..=elements).filter(|outer| elements.is_multiple_of(*outer)).collect();
                let outer = divisors[below(state, divisors.len() as u64) as usize];
                view.reshape(&[outer, elements / outer]).ok().map(|shaped| vec![shaped])
            }
            _ => {
                let at = below(state, size);
                let part = |from, to| view.clone().range(dimension, from, to).ok();
                if at == 0 { None } else { part(0, at).zip(part(at, size)).map(|(one, other)| vec![one, other]) }
            }
        };
        let whole = |parts: &Vec<Shaped>| {
            parts.iter().map(|part| part.view().elements()).sum::<u64>() == view.view().elements()
        };
        parts.filter(whole).unwrap_or_else(|| vec![view.clone()])
    }

    #[test]
    fn random_partitions_are_whole_and_changed_ones_are_not() {
        let mut state = 1;
        for _ in 0..400 {
            let rank = 1 + below(&mut state, 4);
            let shape: Vec<u64> = (0..rank).map(|_| 1 + below(&mut state, 8)).collect();
            let elements = shape.iter().product();
            let mut parts = vec![whole(&shape)];
            for _ in 0..10 {
                let at = below(&mut state, parts.len() as u64) as usize;
                let part = parts.swap_remove(at);
                parts.extend(split(&part, &mut state));
            }
            assert_eq!(found(elements, &parts), Ok(()), "{parts:?}");

            let changed = below(&mut state, parts.len() as u64) as usize;
            let part = parts.swap_remove(changed);
            assert_eq!(found(elements, &parts), Err(Fault::Nobody(part.view().elements())), "{parts:?}");
            parts.extend([part.clone(), part]);
            let last = parts.len() - 1;
            assert_eq!(found(elements, &parts), Err(Fault::Twice(last - 1, last)), "{parts:?}");
            // One view in the place of another: some elements are taken twice or some by nobody, or both are one.
            parts.truncate(last);
            let (one, other) = (below(&mut state, last as u64) as usize, below(&mut state, last as u64) as usize);
            parts[one] = parts[other].clone();
            assert_eq!(found(elements, &parts).is_ok(), one == other, "{parts:?}");
        }
    }

    #[test]
    fn strides_that_do_not_divide_are_counted() {
        let by = |sizes: [u64; 2]| whole(&[12]).reshape(&sizes).unwrap();
        let third = by([4, 3]).index(1, 0).unwrap();
        let half = by([6, 2]).index(1, 1).unwrap();
        assert_eq!(found(12, &[third, half]), Err(Fault::Twice(0, 1)));
    }
}
