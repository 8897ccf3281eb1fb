//! Rotations at full size, and the list of Hadamard matrices in `docs/rotations.md`.
//!
//! `LATHE_BLESS=1` writes the list anew.

use lathe_kernels::check::{Forced, Implementation, Random};
use lathe_kernels::cpu::Isa;
use lathe_kernels::rotations::orders::{block_sizes, constructible};
use lathe_kernels::rotations::{Construction, Kind, Rotation, RotationError, SplitMix64};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// Widths of rows, heads and inner rows of published models.
const WIDTHS: [usize; 46] = [
    64, 80, 96, 128, 576, 896, 960, 1024, 1152, 1536, 2048, 2304, 2560, 3072, 3584, 3840, 4096, 4864, 5120, 5376, 5632,
    6912, 8192, 8960, 9216, 9728, 10240, 11008, 12288, 13824, 14336, 15360, 17408, 17920, 18944, 21504, 23040, 25600,
    27648, 28672, 29568, 5504, 6144, 7168, 16384, 18432,
];

/// H Hᵀ = n I for the matrix of order n with these entries, row-major; in integers.
fn assert_hadamard(name: &str, order: usize, entries: &[i8]) {
    assert_eq!(entries.len(), order * order);
    assert!(entries.iter().all(|entry| entry.abs() == 1), "{name}");
    // Rows as bits, so that a product of two is a count.
    let words = order.div_ceil(64);
    let mut rows = vec![0_u64; order * words];
    for (row, entries) in rows.chunks_exact_mut(words).zip(entries.chunks_exact(order)) {
        for (j, _) in entries.iter().enumerate().filter(|(_, entry)| **entry < 0) {
            row[j / 64] |= 1 << (j % 64);
        }
    }
    for (i, a) in rows.chunks_exact(words).enumerate() {
        for (j, b) in rows.chunks_exact(words).enumerate().take(i) {
            let differ: u32 = a.iter().zip(b).map(|(a, b)| (a ^ b).count_ones()).sum();
            assert_eq!(2 * differ as usize, order, "{name}: rows {i} and {j}");
        }
    }
}

#[test]
fn every_multiple_of_4_up_to_256_has_a_hadamard_matrix() {
    for order in (4..=256).step_by(4).chain([1, 2]) {
        let construction = Construction::of(order).unwrap_or_else(|| panic!("no matrix of order {order}"));
        let entries: Vec<_> = (0..order * order).map(|i| construction.entry(i / order, i % order)).collect();
        assert_hadamard(&construction.to_string(), order, &entries);
    }
    // 231 · 128 elements of a row are no power of two times a smaller order.
    let construction = Construction::of(924).unwrap();
    assert_eq!(construction.to_string(), "paley2(461)");
    let (_, entries) = construction.bases().next().unwrap();
    assert_hadamard("paley2(461)", 924, entries);
    assert!((1..=256).all(|order| constructible(order) == (order <= 2 || order % 4 == 0)));
}

/// A Kronecker product of Hadamard matrices is one, and unit vectors show that the fast transform is that product.
#[test]
fn widths_of_models_are_rotated_at_full_size() {
    let mut random = Random::new(1);
    let kernels: Vec<_> = Isa::ALL.into_iter().filter_map(Forced::on).collect();
    for width in WIDTHS {
        let construction = Construction::of(width).unwrap_or_else(|| panic!("no matrix of order {width}"));
        for (base, entries) in construction.bases() {
            assert_hadamard(&base.to_string(), base.order(), entries);
        }
        let rotation = Rotation::hadamard(width).unwrap();
        let unit = 1.0 / (width as f64).sqrt();
        for inverse in [false, true] {
            let i = random.bits() as usize % width;
            let entry = |j| if inverse { construction.entry(j, i) } else { construction.entry(i, j) };
            let mut row = vec![0.0; width];
            row[i] = 1.0;
            rotation.apply(&mut row, inverse);
            assert!(row.iter().enumerate().all(|(j, &got)| got == f64::from(entry(j)) * unit), "{construction}, {i}");
            let mut unit_vector = vec![0.0; width];
            unit_vector[i] = 1.0;
            for kernels in &kernels {
                let mut out = vec![0.0; width];
                kernels.rotate(&unit_vector, &rotation, inverse, &mut out);
                let all = out.iter().enumerate().all(|(j, &got)| got == f32::from(entry(j)) * unit as f32);
                assert!(all, "{construction}, {i}");
            }
        }
        let rotation = Rotation::random_hadamard(width, 7).unwrap();
        let row: Vec<_> = random.values(width).into_iter().map(f64::from).collect();
        let mut turned = row.clone();
        rotation.apply(&mut turned, false);
        rotation.apply(&mut turned, true);
        assert!(row.iter().zip(turned).all(|(row, turned)| (row - turned).abs() < 1e-12), "{construction}");
    }
}

/// FNV-1a, of bits.
fn digest(values: impl IntoIterator<Item = u64>) -> u64 {
    let bytes = values.into_iter().flat_map(u64::to_le_bytes);
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[test]
fn seeds_give_the_same_matrices_everywhere() {
    // The first outputs of the seed 1234567, as published with the generator's reference code.
    let outputs = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
    assert_eq!([0, 1, 2].map(|index| SplitMix64::new(1_234_567).output(index)), outputs);

    let Kind::Hadamard { signs: Some(signs), .. } = Rotation::random_hadamard(4096, 7).unwrap().kind().clone() else {
        panic!("a random Hadamard matrix has signs");
    };
    assert_eq!(digest(signs.iter().map(|&sign| u64::from(sign))), 6_539_417_049_069_027_396);

    for (width, expected) in
        [(1, 12_299_727_721_494_879_672), (2, 11_069_368_324_376_994_611), (64, 10_564_853_184_354_324_645)]
    {
        let mut rows: Vec<_> = (0..width * width).map(|i| f64::from(u8::from(i % (width + 1) == 0))).collect();
        Rotation::orthogonal(width, 7).unwrap().apply(&mut rows, false);
        assert_eq!(digest(rows.iter().map(|value| value.to_bits())), expected, "{width}: {rows:?}");
    }
    assert_ne!(Rotation::orthogonal(8, 1), Rotation::orthogonal(8, 2));
}

/// Entries of a Haar distributed matrix of width n have mean 0 and variance 1/n; those of two matrices of other seeds have
/// nothing to do with each other.
#[test]
fn orthogonal_matrices_are_evenly_distributed() {
    let (width, seeds) = (6, 4000);
    let mut squares = vec![0.0; width * width];
    let mut sums = vec![0.0; width * width];
    for seed in 0..seeds {
        let mut rows: Vec<_> = (0..width * width).map(|i| f64::from(u8::from(i % (width + 1) == 0))).collect();
        Rotation::orthogonal(width, seed).unwrap().apply(&mut rows, false);
        for (value, (sum, square)) in rows.iter().zip(sums.iter_mut().zip(&mut squares)) {
            *sum += value / seeds as f64;
            *square += value * value / seeds as f64;
        }
    }
    // Five standard deviations of a mean of so many.
    assert!(sums.iter().all(|mean| mean.abs() < 5.0 * (1.0 / 6.0 / seeds as f64).sqrt()), "{sums:?}");
    assert!(
        squares.iter().all(|square| (square - 1.0 / 6.0).abs() < 5.0 * 0.21 / (seeds as f64).sqrt()),
        "{squares:?}"
    );
}

#[test]
fn only_orthogonal_matrices_are_taken() {
    let width = 40;
    let mut rows: Vec<_> = (0..width * width).map(|i| f64::from(u8::from(i % (width + 1) == 0))).collect();
    Rotation::orthogonal(width, 1).unwrap().apply(&mut rows, false);
    let values = |scale: f64| -> Arc<[f32]> {
        let scaled = rows.iter().enumerate().map(|(i, value)| if i / width == 3 { value * scale } else { *value });
        scaled.map(|value| value as f32).collect()
    };
    assert!(Rotation::matrix(width, values(1.0)).is_ok());
    assert!(Rotation::matrix(width, values(1.0 + 0.4e-4)).is_ok());
    let error = Rotation::matrix(width, values(1.0 + 1e-4)).unwrap_err();
    assert_eq!(error.to_string(), "Q Qᵀ differs from the identity by 2.0e-4 in row 3 and column 3; 1e-4 is allowed");
    // Rows that are not of one length are one way to be off; two that are not at a right angle another.
    let mut skew = values(1.0).to_vec();
    for j in 0..width {
        skew[5 * width + j] += 2e-4 * skew[9 * width + j];
    }
    let Err(RotationError::NotOrthogonal { error, row: 5, column: 9 }) = Rotation::matrix(width, skew.into()) else {
        panic!("rows 5 and 9 are not at a right angle");
    };
    assert!((error - 2e-4).abs() < 1e-6, "{error}");

    let with = |value: f32| -> Arc<[f32]> {
        let mut values = values(1.0).to_vec();
        values[2 * width + 1] = value;
        values.into()
    };
    for value in [f32::NAN, f32::INFINITY] {
        assert_eq!(Rotation::matrix(width, with(value)), Err(RotationError::NotFinite { row: 2, column: 1 }));
    }
    let overflow = Rotation::matrix(width, with(f32::MAX));
    assert!(matches!(overflow, Err(RotationError::NotOrthogonal { error: f32::INFINITY, .. })), "{overflow:?}");
    let found = width * width;
    let size = RotationError::Size { width: width + 1, expected: (width + 1) * (width + 1), found };
    assert_eq!(Rotation::matrix(width + 1, values(1.0)), Err(size));
}

#[test]
fn impossible_rotations_are_refused() {
    assert_eq!(Rotation::hadamard(6), Err(RotationError::Order { order: 6 }));
    // A multiple of 4, but of a prime for which there is only a base that is too large.
    assert_eq!(Rotation::random_hadamard(4 * 1021, 0), Err(RotationError::Order { order: 4084 }));
    for width in [0, usize::MAX] {
        assert!(matches!(Rotation::hadamard(width), Err(RotationError::Width { .. })));
        assert!(matches!(Rotation::orthogonal(width, 0), Err(RotationError::Width { .. })));
        assert!(matches!(Rotation::matrix(width, Arc::new([])), Err(RotationError::Width { .. })));
        assert!(!constructible(width) && block_sizes(width.min(1)).is_empty());
    }
    let signs: Arc<[bool]> = Arc::new([true; 5]);
    assert_eq!(Rotation::with_signs(4, Some(signs)), Err(RotationError::Signs { width: 4, found: 5 }));
}

/// The lists of `docs/rotations.md`.
fn lists() -> String {
    let mut text = String::new();
    for (title, orders) in [
        ("order", (4..=256).step_by(4).collect::<Vec<_>>()),
        ("width", {
            let mut widths = WIDTHS.to_vec();
            widths.sort_unstable();
            widths.retain(|&width| width > 256);
            widths
        }),
    ] {
        write!(text, "\n| {title} | construction | cost |\n|---:|---|---:|\n").unwrap();
        for order in orders {
            let construction = Construction::of(order).unwrap();
            writeln!(text, "| {order} | `{construction}` | {} |", construction.cost()).unwrap();
        }
    }
    text
}

#[test]
fn the_list_in_the_documents_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/rotations.md");
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once("<!-- orders -->\n").expect("a place for the list");
    let (_, after) = rest.split_once("\n<!-- end -->").expect("an end of the list");
    let current = format!("{before}<!-- orders -->\n{}\n<!-- end -->{after}", lists());
    if current != text && std::env::var_os("LATHE_BLESS").is_some() {
        fs::write(&path, &current).unwrap();
    } else {
        assert!(current == text, "{} is not current: run the tests with LATHE_BLESS=1", path.display());
    }
}
