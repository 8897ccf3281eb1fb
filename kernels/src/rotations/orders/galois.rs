//! Small finite fields.

/// The field of q = pᵏ elements, up to the quadratic character, which is all that Paley's constructions need.
///
/// Element `Σ cᵢ xⁱ` is the number `Σ cᵢ pⁱ`, with 0 ≤ cᵢ < p. Products are taken modulo the first monic irreducible
/// polynomial of degree k, in the order of the numbers of the coefficients below xᵏ.
pub(super) struct Field {
    p: usize,
    k: u32,
    /// Coefficients of the modulus below xᵏ.
    modulus: usize,
}

impl Field {
    /// The field of `q` elements; `None` where `q` is no power of a prime.
    pub(super) fn new(q: usize) -> Option<Field> {
        let (p, k) = prime_power(q)?;
        Some(Field { p, k, modulus: first_irreducible(p, k) })
    }

    fn size(&self) -> usize {
        self.p.pow(self.k)
    }

    /// `a − b`
    pub(super) fn difference(&self, mut a: usize, mut b: usize) -> usize {
        let (mut difference, mut place) = (0, 1);
        while place < self.size() {
            difference += (a + self.p - b % self.p) % self.p * place;
            (a, b, place) = (a / self.p, b / self.p, place * self.p);
        }
        difference
    }

    /// For each element: 0 of 0, 1 of squares, −1 of the others.
    pub(super) fn quadratic_character(&self) -> Vec<i8> {
        let mut character = vec![-1; self.size()];
        for a in 1..self.size() {
            character[self.product(a, a)] = 1;
        }
        character[0] = 0;
        character
    }

    /// `a · b`, by Horner's rule in the coefficients of `a`.
    fn product(&self, a: usize, b: usize) -> usize {
        let top = self.size() / self.p;
        let mut product = 0;
        for i in (0..self.k).rev() {
            // Times x: what leaves at the top comes back as minus that many of the modulus.
            let carry = product / top;
            product = self.difference(product % top * self.p, self.times(carry, self.modulus));
            let c = a / self.p.pow(i) % self.p;
            product = self.difference(product, self.times(self.p - c, b));
        }
        product
    }

    /// `c · a` for a number c.
    fn times(&self, c: usize, mut a: usize) -> usize {
        let (mut product, mut place) = (0, 1);
        while place < self.size() {
            product += c * (a % self.p) % self.p * place;
            (a, place) = (a / self.p, place * self.p);
        }
        product
    }
}

/// p and k with q = pᵏ, where q is a power of a prime.
fn prime_power(q: usize) -> Option<(usize, u32)> {
    let p = (2..=q).find(|p| q.is_multiple_of(*p))?;
    let k = q.ilog(p);
    (p.pow(k) == q).then_some((p, k))
}

/// Whether q is a power of a prime.
pub(super) fn is_prime_power(q: usize) -> bool {
    prime_power(q).is_some()
}

/// Coefficients below xᵏ of the first monic irreducible polynomial of degree k: the first that is no product of two
/// monic ones of smaller degree.
fn first_irreducible(p: usize, k: u32) -> usize {
    let q = p.pow(k);
    let mut is_product = vec![false; q];
    for i in 1..=k / 2 {
        let (small, large) = (p.pow(i), p.pow(k - i));
        for a in small..2 * small {
            for b in large..2 * large {
                is_product[polynomial_product(p, a, b) % q] = true;
            }
        }
    }
    is_product.iter().position(|is_product| !is_product).expect("there are irreducible polynomials of every degree")
}

/// Product of two polynomials over the integers modulo p, as numbers.
fn polynomial_product(p: usize, mut a: usize, b: usize) -> usize {
    let (mut product, mut shift) = (0, 1);
    while a > 0 {
        let (mut rest, mut place) = (b, shift);
        while rest > 0 {
            let digit = product / place % p;
            product = product - digit * place + (digit + a % p * (rest % p)) % p * place;
            (rest, place) = (rest / p, place * p);
        }
        (a, shift) = (a / p, shift * p);
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_inverses_and_obey_the_distributive_law() {
        for q in [2, 3, 4, 5, 8, 9, 25, 27, 49, 81, 121] {
            let field = Field::new(q).unwrap();
            for a in 0..q {
                assert_eq!(field.product(a, 1), a);
                assert_eq!((1..q).filter(|&b| field.product(a, b) == 1).count(), usize::from(a > 0), "{a} of {q}");
                for b in [1, q / 2, q - 1] {
                    let c = (a * 7 + 3) % q;
                    let right = field.difference(field.product(a, b), field.product(a, c));
                    assert_eq!(field.product(a, field.difference(b, c)), right);
                }
            }
        }
        assert!([1, 6, 12, 100, 1331 * 7].into_iter().all(|q| Field::new(q).is_none()));
    }

    #[test]
    fn moduli_are_the_first_irreducible_polynomials() {
        // x² + 1 over 3, x² + 2 over 5, x³ + 2 x + 1 over 3, x² + 1 over 7.
        for (q, modulus) in [(9, 1), (25, 2), (27, 1 + 2 * 3), (49, 1), (11, 0)] {
            assert_eq!(Field::new(q).unwrap().modulus, modulus, "{q}");
        }
    }

    #[test]
    fn half_of_the_elements_but_0_are_squares() {
        for q in [3, 9, 25, 27, 461] {
            let character = Field::new(q).unwrap().quadratic_character();
            assert_eq!(character.iter().filter(|&&c| c == 1).count(), (q - 1) / 2);
            assert_eq!(character.iter().filter(|&&c| c == 0).count(), 1);
        }
    }
}
