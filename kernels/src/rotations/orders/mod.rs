//! How Hadamard matrices are built.
//!
//! A Hadamard matrix H of order n has entries ±1 and H Hᵀ = n I. A [`Construction`] is a Kronecker product of *factors*:
//! [bases](Base), each built by a formula or from a table, and a Sylvester matrix of a power of two at the end. Its text,
//! `paley1(11) * sylvester(64)`, says all of it: `A * B` has the entry `A[i / b, j / b] · B[i % b, j % b]` where B is of
//! order b.

mod choice;
mod galois;
mod goethals_seidel;
mod paley;
mod text;

pub use choice::{block_sizes, constructible};
pub use text::ConstructionError;

use std::sync::{Arc, OnceLock};

/// The largest order of a base: one of order m takes m additions for each element of a row, and m² bytes.
pub const MAX_BASE: usize = 2048;

/// A Hadamard matrix that is no Kronecker product of smaller ones here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Base {
    /// Order q + 1, q a power of a prime and 3 modulo 4 (Paley 1933, lemma 2). Written `paley1(q)`.
    Paley1 {
        /// Size of the field.
        q: usize,
    },
    /// Order 2 (q + 1), q a power of a prime and 1 modulo 4 (Paley 1933, lemma 3). Written `paley2(q)`.
    Paley2 {
        /// Size of the field.
        q: usize,
    },
    /// One of the orders 92, 116, 156, 172, 188 and 236, from four sequences of signs each (Goethals and Seidel 1967).
    /// Written `goethals_seidel(order)`.
    GoethalsSeidel {
        /// Number of rows.
        order: usize,
    },
}

impl Base {
    /// Number of rows.
    pub fn order(self) -> usize {
        match self {
            Base::Paley1 { q } => q + 1,
            Base::Paley2 { q } => 2 * (q + 1),
            Base::GoethalsSeidel { order } => order,
        }
    }

    /// Entries, `[order, order]` row-major, each 1 or −1.
    fn entries(self) -> Vec<i8> {
        match self {
            Base::Paley1 { q } => paley::first(q),
            Base::Paley2 { q } => paley::second(q),
            Base::GoethalsSeidel { order } => goethals_seidel::entries(order),
        }
    }
}

/// `[order, order]` row-major, once they are made.
type Entries = OnceLock<Box<[i8]>>;

/// A Hadamard matrix as a Kronecker product of bases and a Sylvester matrix. Entries of bases are made when they are first
/// read; cloning copies none.
#[derive(Clone)]
pub struct Construction {
    bases: Vec<(Base, Arc<Entries>)>,
    sylvester: usize,
}

impl Construction {
    /// The cheapest construction of this order, `None` where there is none here. Ties are settled as `docs/rotations.md`
    /// says.
    ///
    /// ```
    /// use lathe_kernels::rotations::Construction;
    ///
    /// assert_eq!(Construction::of(768).unwrap().to_string(), "paley1(11) * sylvester(64)");
    /// assert_eq!(Construction::of(6), None);
    /// ```
    pub fn of(order: usize) -> Option<Construction> {
        choice::cheapest(order).map(|(bases, sylvester)| Construction::new(bases, sylvester))
    }

    /// The product of `bases` and of the Sylvester matrix of order `sylvester`, all of them valid.
    fn new(bases: Vec<Base>, sylvester: usize) -> Construction {
        let bases = bases.into_iter().map(|base| (base, Arc::default())).collect();
        Construction { bases, sylvester }
    }

    /// How many entries all bases have together. None is made for it.
    pub fn base_entries(&self) -> usize {
        self.bases.iter().map(|(base, _)| base.order().pow(2)).sum()
    }

    /// Number of rows.
    pub fn order(&self) -> usize {
        self.bases.iter().map(|(base, _)| base.order()).product::<usize>() * self.sylvester
    }

    /// Additions for each element of a row that is multiplied with the matrix: the order of each base, and 1 for each
    /// doubling.
    pub fn cost(&self) -> usize {
        cost(self.bases.iter().map(|(base, _)| *base), self.sylvester)
    }

    /// Entry of row `i` and column `j`, 1 or −1.
    ///
    /// # Panics
    /// When `i` or `j` is not below the order.
    pub fn entry(&self, i: usize, j: usize) -> i8 {
        assert!(i.max(j) < self.order(), "entry {i}, {j} of a matrix of order {}", self.order());
        let (mut i, mut j) = (i, j);
        // Sylvester 1867: − where the numbers of row and column have an odd number of common bits.
        let common = (i % self.sylvester) & (j % self.sylvester);
        let mut entry = if common.count_ones().is_multiple_of(2) { 1 } else { -1 };
        (i, j) = (i / self.sylvester, j / self.sylvester);
        for (base, entries) in self.bases().rev() {
            let order = base.order();
            entry *= entries[i % order * order + j % order];
            (i, j) = (i / order, j / order);
        }
        entry
    }

    /// The bases in the order of the product, each with its entries `[order, order]`, row-major.
    pub fn bases(&self) -> impl ExactSizeIterator<Item = (Base, &[i8])> + DoubleEndedIterator {
        self.bases.iter().map(|(base, entries)| (*base, &**entries.get_or_init(|| base.entries().into())))
    }

    /// Order of the Sylvester matrix, a power of two.
    pub fn sylvester(&self) -> usize {
        self.sylvester
    }

    /// What a hash of the bases is taken of: their entries in the order of the product, row-major, a byte for each, 0 for 1
    /// and 1 for −1. Empty where there are none.
    pub fn base_bytes(&self) -> Vec<u8> {
        self.bases().flat_map(|(_, entries)| entries.iter().map(|&entry| u8::from(entry < 0))).collect()
    }
}

impl PartialEq for Construction {
    /// Entries follow from what the bases are.
    fn eq(&self, other: &Construction) -> bool {
        let bases = |construction: &Construction| construction.bases.iter().map(|(base, _)| *base).collect::<Vec<_>>();
        self.sylvester == other.sylvester && bases(self) == bases(other)
    }
}

impl Eq for Construction {}

fn cost(bases: impl IntoIterator<Item = Base>, sylvester: usize) -> usize {
    bases.into_iter().map(Base::order).sum::<usize>() + sylvester.trailing_zeros() as usize
}
