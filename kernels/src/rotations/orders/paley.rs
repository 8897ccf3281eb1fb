//! Paley's constructions (R. E. A. C. Paley 1933, "On orthogonal matrices", Journal of Mathematics and Physics 12).

use super::galois::Field;

/// With χ the quadratic character of the field of `q` elements, q = 3 modulo 4, and Q the matrix `χ(a − b)`:
///
/// ```text
/// I + |  0  1 |
///     | −1  Q |
/// ```
pub(super) fn first(q: usize) -> Vec<i8> {
    bordered(q, -1, |i, j, entry| if i == j { 1 } else { entry })
}

/// With Q as for [`first`], but q = 1 modulo 4, `C = [0 1; 1 Q]` and each entry replaced by a block:
///
/// ```text
/// 0 by | 1 −1 |     ±1 by ± | 1  1 |
///      |−1 −1 |             | 1 −1 |
/// ```
pub(super) fn second(q: usize) -> Vec<i8> {
    let core = bordered(q, 1, |_, _, entry| entry);
    let order = 2 * (q + 1);
    let mut entries = Vec::with_capacity(order * order);
    for i in 0..order {
        for j in 0..order {
            let entry = core[i / 2 * (q + 1) + j / 2];
            let (last_row, last_column) = (i % 2 == 1, j % 2 == 1);
            entries.push(match entry {
                0 if last_row || last_column => -1,
                0 => 1,
                entry if last_row && last_column => -entry,
                entry => entry,
            });
        }
    }
    entries
}

/// `function(i, j, entry)` of the entries of `[0 1; left Q]`.
fn bordered(q: usize, left: i8, function: impl Fn(usize, usize, i8) -> i8) -> Vec<i8> {
    let field = Field::new(q).expect("a power of a prime");
    let character = field.quadratic_character();
    let mut entries = Vec::with_capacity((q + 1) * (q + 1));
    for i in 0..=q {
        for j in 0..=q {
            let entry = match (i, j) {
                (0, 0) => 0,
                (0, _) => 1,
                (_, 0) => left,
                (i, j) => character[field.difference(i - 1, j - 1)],
            };
            entries.push(function(i, j, entry));
        }
    }
    entries
}
