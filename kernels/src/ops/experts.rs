//! Product of activations with the weights of chosen experts.

use super::int8::{self, quantized_matmul_on};
use super::matmul::{self, column_block, is_parallel, matmul_on};
use crate::cpu::Vectors;
use crate::formats::Matrix;
use crate::scratch::{self, Scratch};
use crate::tiles::{Tile, for_each_tile};

thread_local! {
    static ENDS: Scratch<usize> = const { Scratch::new(Vec::new()) };
    static ORDER: Scratch<usize> = const { Scratch::new(Vec::new()) };
    static X: Scratch<f32> = const { Scratch::new(Vec::new()) };
    static OUT: Scratch<f32> = const { Scratch::new(Vec::new()) };
}

/// `out[r, j] = x[r] Wᵀ + b`, or `x[r, j] Wᵀ + b` where `x` has a row for each choice: W and b are weight and bias of
/// expert `choice[r, j]`, which `expert` gives by its number.
///
/// `choice` is `[n, k]`, `x` is `[n, in]` or `[n, k, in]`, weights are `[out, in]`, biases `[out]`, `out` is
/// `[n, k, out]`. Only chosen experts are asked for, and the weight of each is read once.
///
/// # Panics
/// When a choice is not below `experts`, chosen experts differ in shape, or the lengths do not fit together.
pub fn expert_matmul<'m, 'w: 'm>(
    x: &[f32],
    choice: &[u32],
    k: usize,
    expert: impl Fn(usize) -> (&'m Matrix<'w>, Option<&'m [f32]>) + Sync,
    experts: usize,
    out: &mut [f32],
) {
    expert_matmul_on(Product::Real(Vectors::current()), x, choice, k, expert, experts, out);
}

/// [`expert_matmul`] with each row of x rounded by [`quantize_rows`](super::quantize_rows), and products as
/// [`matmul_int8`](super::matmul_int8) states them.
///
/// # Panics
/// As these.
pub fn quantized_expert_matmul<'m, 'w: 'm>(
    x: &[f32],
    choice: &[u32],
    k: usize,
    expert: impl Fn(usize) -> (&'m Matrix<'w>, Option<&'m [f32]>) + Sync,
    experts: usize,
    out: &mut [f32],
) {
    expert_matmul_on(Product::Int8(Vectors::current()), x, choice, k, expert, experts, out);
}

/// How rows are multiplied, and with which vectors.
#[derive(Clone, Copy)]
pub(crate) enum Product {
    /// As they are.
    Real(Option<Vectors>),
    /// Rounded to int8 first.
    Int8(Option<Vectors>),
}

pub(crate) fn expert_matmul_on<'m, 'w: 'm>(
    product: Product,
    x: &[f32],
    choice: &[u32],
    k: usize,
    expert: impl Fn(usize) -> (&'m Matrix<'w>, Option<&'m [f32]>) + Sync,
    experts: usize,
    out: &mut [f32],
) {
    assert!(choice.len().is_multiple_of(k), "{} choices are no whole rows of {k}", choice.len());
    let Some(&first) = choice.first() else {
        assert!(x.is_empty() || k == 0, "x has rows without choices");
        assert!(out.is_empty(), "out has rows without choices");
        return;
    };
    for &number in choice {
        assert!((number as usize) < experts, "expert {number} of {experts}");
    }
    let (outputs, inner) = shape(expert(first as usize).0);
    let rows = choice.len() / k;
    assert!(
        x.len() == rows * inner || x.len() == choice.len() * inner,
        "x has {} elements, experts take {inner}, for {rows} rows with {k} choices each",
        x.len()
    );
    assert_eq!(out.len(), choice.len() * outputs, "out is [{rows}, {k}, {outputs}]");
    // Choices that share a row of `x`.
    let sharing = if x.len() == choice.len() * inner { 1 } else { k };
    let x_row = |pair: usize| &x[pair / sharing * inner..(pair / sharing + 1) * inner];
    let expert = |number: usize| {
        let (weight, bias) = expert(number);
        assert_eq!(shape(weight), (outputs, inner), "all experts have one shape");
        assert!(bias.is_none_or(|bias| bias.len() == outputs), "bias of {weight:?}");
        if let Product::Int8(_) = product {
            int8::assert_weight(weight);
        }
        (weight, bias)
    };

    if rows == 1 {
        let parallel = is_parallel(k, outputs, inner);
        let chosen = |tile: &Tile<'_>| {
            let pair = tile.rows().start;
            let (weight, bias) = expert(choice[pair] as usize);
            (pair, weight, bias)
        };
        let block = column_block(inner);
        match product {
            Product::Real(vectors) => for_each_tile(out, outputs, 1, block, parallel, |mut tile| {
                let (pair, weight, bias) = chosen(&tile);
                matmul::write_tile(vectors, x_row(pair), weight, bias, &mut tile);
            }),
            Product::Int8(vectors) => int8::with_codes(vectors, x, inner, k / sharing, |codes, scales| {
                for_each_tile(out, outputs, 1, block, parallel, |mut tile| {
                    let (pair, weight, bias) = chosen(&tile);
                    let row = pair / sharing;
                    let (codes, scales) = (&codes[row * inner..][..inner], &scales[row..=row]);
                    int8::write_tile(vectors, codes, scales, weight, bias, &mut tile);
                });
            }),
        }
        return;
    }
    by_expert(choice, experts, |number, pairs| {
        let (weight, bias) = expert(number);
        // As many as a call of this size can need where a row does not choose an expert twice: which experts are
        // chosen does not decide what is allocated.
        let most = pairs.len().max(rows);
        scratch::with(&X, most * inner, |gathered| {
            scratch::with(&OUT, most * outputs, |products| {
                let (gathered, products) =
                    (&mut gathered[..pairs.len() * inner], &mut products[..pairs.len() * outputs]);
                if inner > 0 {
                    for (gathered, &pair) in gathered.chunks_exact_mut(inner).zip(pairs) {
                        gathered.copy_from_slice(x_row(pair));
                    }
                }
                match product {
                    Product::Real(vectors) => matmul_on(vectors, gathered, weight, bias, products),
                    Product::Int8(vectors) => quantized_matmul_on(vectors, gathered, weight, bias, products),
                }
                if outputs > 0 {
                    for (product, &pair) in products.chunks_exact(outputs).zip(pairs) {
                        out[pair * outputs..][..outputs].copy_from_slice(product);
                    }
                }
            });
        });
    });
}

fn shape(weight: &Matrix<'_>) -> (usize, usize) {
    (weight.rows(), weight.cols())
}

/// Calls `body` for each chosen expert, in order, with the places in `choice` that choose it, in order.
fn by_expert(choice: &[u32], experts: usize, mut body: impl FnMut(usize, &[usize])) {
    scratch::with(&ENDS, experts, |ends| {
        scratch::with(&ORDER, choice.len(), |order| {
            ends.fill(0);
            for &number in choice {
                ends[number as usize] += 1;
            }
            let mut end = 0;
            for count in &mut *ends {
                // Where the expert's places start; each that is written moves it on, to their end at last.
                (*count, end) = (end, end + *count);
            }
            for (pair, &number) in choice.iter().enumerate() {
                let next = &mut ends[number as usize];
                order[*next] = pair;
                *next += 1;
            }
            let mut start = 0;
            for (number, &end) in ends.iter().enumerate() {
                if start < end {
                    body(number, &order[start..end]);
                }
                start = end;
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::Format;

    #[test]
    fn only_chosen_experts_are_asked_for() {
        let plane = 2.0_f32.to_le_bytes();
        let weight = Matrix::new(Format::F32, 1, 1, &[&plane]).unwrap();
        let expert = |number: usize| {
            assert!(number == 0 || number == 3, "expert {number}");
            (&weight, None)
        };
        let mut out = [f32::NAN; 4];
        expert_matmul(&[1.0, 10.0], &[3, 0, 0, 3], 2, expert, 4, &mut out);
        assert_eq!(out, [2.0, 2.0, 20.0, 20.0]);
        expert_matmul(&[1.0, 2.0, 3.0, 4.0], &[3, 0, 3, 3], 2, expert, 4, &mut out);
        assert_eq!(out, [2.0, 4.0, 6.0, 8.0]);
        expert_matmul(&[], &[], 2, expert, 4, &mut []);
    }

    #[test]
    #[should_panic(expected = "expert 4 of 4")]
    fn an_expert_that_does_not_exist_is_refused() {
        expert_matmul(&[1.0], &[4], 1, |_| unreachable!(), 4, &mut [0.0]);
    }
}
