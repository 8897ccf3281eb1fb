//! Orders that no formula gives: four sequences each, in the array of Goethals and Seidel.
//!
//! With A, B, C and D the circulant matrices of sequences a, b, c and d of n signs, and R the matrix that reverses the
//! order of columns, the array is a Hadamard matrix of order 4 n where `A Aᵀ + B Bᵀ + C Cᵀ + D Dᵀ = 4 n I`
//! (Goethals and Seidel 1967, "Orthogonal matrices with zero diagonal", Canadian Journal of Mathematics 19):
//!
//! ```text
//! |   A     B R     C R     D R  |
//! | −B R     A     Dᵀ R   −Cᵀ R  |
//! | −C R  −Dᵀ R     A      Bᵀ R  |
//! | −D R   Cᵀ R  −Bᵀ R      A    |
//! ```
//!
//! The sequences are read off the matrices of N. J. A. Sloane's library of Hadamard matrices
//! (<http://neilsloane.com/hadamard/>), whose names for them stand below; that they fit is tested.

/// A row of the array: number of the sequence, and whether its circulant is negated, transposed and reversed.
type Blocks = [(usize, bool, bool, bool); 4];

const ARRAY: [Blocks; 4] = {
    const N: bool = true;
    const T: bool = true;
    const R: bool = true;
    const O: bool = false;
    [
        [(0, O, O, O), (1, O, O, R), (2, O, O, R), (3, O, O, R)],
        [(1, N, O, R), (0, O, O, O), (3, O, T, R), (2, N, T, R)],
        [(2, N, O, R), (3, N, T, R), (0, O, O, O), (1, O, T, R)],
        [(3, N, O, R), (2, O, T, R), (1, N, T, R), (0, O, O, O)],
    ]
};

/// First rows of A, B, C and D.
struct Sequences {
    order: usize,
    rows: [&'static str; 4],
}

static SEQUENCES: &[Sequences] = &[
    // Baumert, Golomb and Hall 1962, "Discovery of an Hadamard matrix of order 92"; had.92.will.
    Sequences {
        order: 92,
        rows: [
            "+++-+++-+------+-+++-++",
            "+++---++-+-++-+-++---++",
            "+-++-++--++++++--++-++-",
            "++---+---+-++-+---+---+",
        ],
    },
    // Baumert 1966, "Hadamard matrices of orders 116 and 232"; had.116.will.
    Sequences {
        order: 116,
        rows: [
            "++--+--+-+++-++++-+++-+--+--+",
            "++++-++-+---++++++---+-++-+++",
            "+-+---++--+-++++++-+--++---+-",
            "+++---++--+-+----+-+--++---++",
        ],
    },
    // had.156.will.
    Sequences {
        order: 156,
        rows: [
            "+++--+-+-----+--++----++--+-----+-+--++",
            "++++---+--++----+-+--+-+----++--+---+++",
            "+++--++-+---+-+--+----+--+-+---+-++--++",
            "+---++-+-+-----+++-++-+++-----+-+-++---",
        ],
    },
    // Williamson 1944, "Hadamard's determinant theorem and the sum of four squares"; had.172.will.
    Sequences {
        order: 172,
        rows: [
            "+---++--++++-+-+++-++--++-+++-+-++++--++---",
            "++-++++++----+-+--++-++-++--+-+----++++++-+",
            "+++-+-++--+-+-++++-+----+-++++-+-+--++-+-++",
            "++---++++-+--+--++--------++--+--+-++++---+",
        ],
    },
    // had.188.tur, after Turyn.
    Sequences {
        order: 188,
        rows: [
            "+-+----+--+----++---++++---+-+----++++++--+---+",
            "-+-++++-++-++++--+++---+---+-+----++++++--+---+",
            "+---+--+-+-+++-++-+--++---+---+-----+++-+--+--+",
            "-+++-++-+-+---+--+-++-----+---+-----+++-+--+--+",
        ],
    },
    // had.236.od, from an orthogonal design.
    Sequences {
        order: 236,
        rows: [
            "+++++-++++-+--++--++++-+---+-++++-+---+-++---+--++++-++++--",
            "-++++-++++-+--++--++++-+---+-++-++++-++++--+---++-+---+-++-",
            "-----+----+-++--++----+-+++-+-+++-+---+-++---+--++++-++++--",
            "-++++-++++-+--++--++++-+---+-+-+----+----++-+++--+-+++-+--+",
        ],
    },
];

/// Whether there are sequences for a matrix of this order.
pub(super) fn has(order: usize) -> bool {
    SEQUENCES.iter().any(|sequences| sequences.order == order)
}

/// Entries of the matrix of this order, row-major.
pub(super) fn entries(order: usize) -> Vec<i8> {
    let sequences = SEQUENCES.iter().find(|sequences| sequences.order == order).expect("sequences for the order");
    let n = order / 4;
    let mut entries = Vec::with_capacity(order * order);
    for i in 0..order {
        for j in 0..order {
            let (sequence, negated, transposed, reversed) = ARRAY[i / n][j / n];
            let (row, column) = (i % n, if reversed { n - 1 - j % n } else { j % n });
            let (row, column) = if transposed { (column, row) } else { (row, column) };
            let is_negative = sequences.rows[sequence].as_bytes()[(column + n - row) % n] == b'-';
            entries.push(if is_negative == negated { 1 } else { -1 });
        }
    }
    entries
}
