//! What is folded into weights: their values are those of dense products, whatever the pieces they are made in.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use half::bf16;
use lathe_compiler::artifact::{Lock, LockedRotation};
use lathe_compiler::ir::{Axis, TensorId, View};
use lathe_compiler::lower::{Folded, FoldedProduct, Map, Recipe, Source};
use lathe_compiler::model::Checkpoint;
use lathe_compiler::pack::evaluate::{EvaluateError, Evaluator};
use lathe_compiler::pack::{Demand, Digest, PackError, PackOptions, check_memory, pack};
use lathe_compiler::plan::{Encoding, matrix};
use lathe_compiler::source::TensorReader;
use lathe_kernels::formats::{Fit, Format};
use lathe_kernels::rotations::Rotation;
use lathe_runtime::program::{Program, Weight};
use safetensors::SafeTensors;
use serde_json::json;

use crate::support::command::{compile, least_memory, succeed};
use crate::support::compiler::open;
use crate::support::forge::Forge;
use crate::support::llama::{Stored, write};
use crate::support::random::Random;
use crate::support::{files, model};

const F32: Encoding = Encoding { format: Format::F32, fit: Fit::Absmax };

/// A checkpoint of random values, and those values as they are stored.
struct Setting {
    folder: tempfile::TempDir,
    checkpoint: Checkpoint,
    reader: TensorReader,
    values: Vec<Vec<f64>>,
    rotations: Vec<Rotation>,
}

const TENSORS: [(&str, &[u64]); 5] =
    [("bias", &[40]), ("gain", &[40]), ("heads", &[8]), ("table", &[3, 40, 24]), ("weight", &[24, 40])];

fn id(name: &str) -> TensorId {
    TensorId(TENSORS.iter().position(|(tensor, _)| *tensor == name).unwrap() as u32)
}

fn whole(name: &str) -> View {
    let id = id(name);
    View::contiguous(id, 0, TENSORS[id.0 as usize].1.iter().product())
}

/// Random matrices: orders with and without a doubling, blocks, and one that is given.
fn rotations() -> Vec<Rotation> {
    let given: Vec<f32> = dense_rotation(&Rotation::orthogonal(8, 3).unwrap(), 8).iter().map(|&v| v as f32).collect();
    vec![
        Rotation::random_hadamard(40, 1).unwrap(),
        Rotation::random_hadamard(24, 2).unwrap(),
        Rotation::hadamard(8).unwrap(),
        Rotation::orthogonal(4, 7).unwrap(),
        Rotation::matrix(8, given.into()).unwrap(),
    ]
}

impl Setting {
    fn new(stored: Stored) -> Setting {
        let (mut random, mut tensors, mut values) = (Random::new(5), Forge::default(), Vec::new());
        for (name, shape) in TENSORS {
            let drawn: Vec<f64> = (0..shape.iter().product()).map(|_| random.unit()).collect();
            tensors.push(name, stored.name(), shape, &stored.encode(&drawn));
            values.push(match stored {
                Stored::Bf16 => drawn.iter().map(|&value| bf16::from_f64(value).to_f64()).collect(),
                _ => drawn.iter().map(|&value| f64::from(value as f32)).collect(),
            });
        }
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &json!({}), &tensors);
        let checkpoint = open(folder.path());
        let reader = TensorReader::open(&checkpoint).unwrap();
        Setting { folder, checkpoint, reader, values, rotations: rotations() }
    }

    fn evaluator(&self) -> Evaluator<'_> {
        let Setting { checkpoint, reader, rotations, .. } = self;
        Evaluator { checkpoint, reader, rotations, flip: None, interrupted: None }
    }

    /// The elements of a view.
    fn view(&self, view: &View) -> Vec<f64> {
        let values = &self.values[view.tensor.0 as usize];
        (0..view.elements()).map(|at| values[view.locate(at) as usize]).collect()
    }
}

fn rotate(rotation: usize, inverse: bool) -> Map {
    Map::Rotate { rotation, inverse }
}

fn scale(factors: &[f64], inverse: bool) -> Map {
    Map::Scale { values: factors.into(), inverse }
}

fn rows(maps: Vec<Map>) -> Folded {
    Folded { rows: maps, ..Folded::default() }
}

fn columns(maps: Vec<Map>) -> Folded {
    Folded { columns: maps, ..Folded::default() }
}

fn recipe(name: &str, shape: &[u64], source: Source, folded: Folded) -> Recipe {
    Recipe { name: name.to_string(), shape: shape.to_vec(), encoding: F32, source, folded }
}

/// One of each kind of recipe.
fn recipes() -> Vec<Recipe> {
    let weight = |name: &str, folded| recipe(name, &[24, 40], Source::Stored(whole("weight")), folded);
    let vector = |name: &str, source, folded| recipe(name, &[40], source, folded);
    let bias = || Source::Stored(whole("bias"));
    let gain = |name: &str, offset| Map::Gain { gain: whole(name), offset };
    let twelve: Vec<f64> = (1..=12).map(|factor| 0.25 * f64::from(factor)).collect();
    let product = FoldedProduct {
        weight: View::contiguous(id("table"), 960, 960),
        vector: View::contiguous(id("weight"), 24, 24),
        factor: -0.75,
    };
    // Every second of the matrices of a stack, transposed.
    let transposed = View::new(id("table"), 960, [(24, 1), (40, 24)].map(|(size, stride)| Axis { size, stride }));
    let slices = View::new(id("table"), 0, [(2, 1920), (12, 1), (40, 24)].map(|(size, stride)| Axis { size, stride }));
    vec![
        weight("as it is", Folded::default()),
        weight("rows", rows(vec![rotate(0, false)])),
        weight("rows back", rows(vec![rotate(0, true)])),
        weight("rows with a gain", rows(vec![gain("gain", 1.0), rotate(0, true)])),
        weight("blocks of rows", rows(vec![rotate(2, false), gain("heads", 0.0), rotate(4, false)])),
        weight("columns", columns(vec![rotate(1, false)])),
        weight("columns back", columns(vec![rotate(1, true)])),
        weight("blocks of columns", columns(vec![rotate(3, true), scale(&twelve, false)])),
        weight("blocks, then all columns", columns(vec![rotate(4, false), rotate(3, false), rotate(1, true)])),
        weight("scaled columns", columns(vec![scale(&twelve, true), gain("heads", 2.0)])),
        weight(
            "both",
            Folded { rows: vec![gain("gain", 0.5), rotate(0, false)], columns: vec![rotate(1, true)], ..rows(vec![]) },
        ),
        weight("both in blocks", Folded { columns: vec![rotate(3, false)], ..rows(vec![scale(&[0.5, 3.0], false)]) }),
        recipe("transposed", &[24, 40], Source::Stored(transposed), rows(vec![rotate(0, false), rotate(3, false)])),
        recipe("slices", &[24, 40], Source::Stored(slices), columns(vec![rotate(2, false)])),
        vector("offset", bias(), Folded { offset: 1.0, ..rows(vec![rotate(2, false)]) }),
        vector("product", bias(), Folded { product: Some(product), ..rows(vec![rotate(0, false)]) }),
        vector("uniform", Source::Uniform, rows(vec![rotate(0, false)])),
        vector("values", Source::Values((0..40).map(f64::from).collect()), rows(vec![scale(&[2.0, 4.0], true)])),
    ]
}

/// Q `[width, width]`, of unit vectors.
fn dense_rotation(rotation: &Rotation, width: usize) -> Vec<f64> {
    let unit = |at: usize| (0..width).map(move |column| f64::from(u8::from(column == at)));
    let mut units: Vec<f64> = (0..width).flat_map(unit).collect();
    units.chunks_exact_mut(width).for_each(|row| rotation.apply(row, false));
    units
}

/// The matrix M `[size, size]` of a map x ↦ x M.
fn dense(setting: &Setting, map: &Map, size: usize) -> Vec<f64> {
    let block = match map {
        Map::Rotate { rotation, .. } => setting.rotations[*rotation].width(),
        Map::Gain { gain, .. } => gain.elements() as usize,
        Map::Scale { values, .. } => values.len(),
    };
    let diagonal = |factor: &dyn Fn(usize) -> f64| -> Vec<f64> {
        (0..block * block).map(|at| if at / block == at % block { factor(at % block) } else { 0.0 }).collect()
    };
    let blocks = match map {
        Map::Rotate { rotation, inverse: false } => dense_rotation(&setting.rotations[*rotation], block),
        Map::Rotate { rotation, inverse: true } => {
            transposed(&dense_rotation(&setting.rotations[*rotation], block), block)
        }
        Map::Gain { gain, offset } => {
            let gain = setting.view(gain);
            diagonal(&|at| gain[at] + offset)
        }
        Map::Scale { values, inverse: false } => diagonal(&|at| values[at]),
        Map::Scale { values, inverse: true } => diagonal(&|at| 1.0 / values[at]),
    };
    let mut matrix = vec![0.0; size * size];
    for row in 0..size {
        for column in (0..size).filter(|column| column / block == row / block) {
            matrix[row * size + column] = blocks[row % block * block + column % block];
        }
    }
    matrix
}

/// A B, `[n, k]` times `[k, m]`.
fn times(a: &[f64], b: &[f64], k: usize, m: usize) -> Vec<f64> {
    let row = |row: usize| (0..m).map(move |column| (0..k).map(|at| a[row * k + at] * b[at * m + column]).sum());
    (0..a.len() / k).flat_map(row).collect()
}

fn transposed(matrix: &[f64], size: usize) -> Vec<f64> {
    (0..size * size).map(|at| matrix[at % size * size + at / size]).collect()
}

/// Bᵀ A.
fn times_from_left(a: &[f64], b: &[f64], columns: usize) -> Vec<f64> {
    let size = a.len() / columns;
    times(&transposed(b, size), a, size, columns)
}

/// What a recipe says, as products of dense matrices.
fn expected(setting: &Setting, recipe: &Recipe) -> Vec<f64> {
    let (height, width) = matrix(&recipe.shape);
    let mut values = match &recipe.source {
        Source::Stored(view) => setting.view(view),
        Source::Uniform => vec![1.0 / ((height * width) as f64).sqrt(); (height * width) as usize],
        Source::Values(values) => values.to_vec(),
    };
    for value in &mut values {
        *value += recipe.folded.offset;
    }
    if let Some(product) = &recipe.folded.product {
        let vector = setting.view(&product.vector);
        let sums = times(&setting.view(&product.weight), &vector, vector.len(), 1);
        values.iter_mut().zip(sums).for_each(|(value, sum)| *value += product.factor * sum);
    }
    for map in &recipe.folded.rows {
        values = times(&values, &dense(setting, map, width as usize), width as usize, width as usize);
    }
    for map in &recipe.folded.columns {
        values = times_from_left(&values, &dense(setting, map, height as usize), width as usize);
    }
    values
}

fn furthest(found: impl Iterator<Item = f64>, expected: &[f64]) -> f64 {
    found.zip(expected).map(|(found, expected)| (found - expected).abs()).fold(0.0, f64::max)
}

#[test]
fn folded_values_are_those_of_dense_products() {
    for stored in [Stored::F32, Stored::Bf16] {
        let setting = Setting::new(stored);
        for recipe in recipes() {
            let expected = expected(&setting, &recipe);
            let mut evaluation = setting.evaluator().open(&recipe).unwrap();
            let (rows, step) = (evaluation.rows(), evaluation.step());
            let (mut exact, mut rounded, mut pieces) = (Vec::<f64>::new(), Vec::<f32>::new(), Vec::<f32>::new());
            evaluation.evaluate(0..rows, &mut exact).unwrap();
            assert_eq!(exact.len(), expected.len());
            let error = furthest(exact.iter().copied(), &expected);
            assert!(error < 1e-12, "{}: off by {error}", recipe.name);
            evaluation.evaluate(0..rows, &mut rounded).unwrap();
            let error = furthest(rounded.iter().map(|&value| value.into()), &expected);
            assert!(error < 1e-6, "{}: off by {error} in f32", recipe.name);

            // The same bits from pieces of any size.
            let mut evaluation = setting.evaluator().open(&recipe).unwrap();
            let mut all = Vec::new();
            for first in (0..rows).step_by(step as usize) {
                evaluation.evaluate(first..first + step, &mut pieces).unwrap();
                all.extend_from_slice(&pieces);
            }
            assert!(all == rounded, "{} in steps of {step}", recipe.name);
        }
    }
}

#[test]
fn rows_that_a_rotation_mixes_come_together() {
    let setting = Setting::new(Stored::F32);
    let steps = recipes().into_iter().map(|recipe| {
        let step = setting.evaluator().open(&recipe).unwrap().step();
        (recipe.name, step)
    });
    let steps: Vec<_> = steps.filter(|(_, step)| *step > 1).collect();
    let expected = [
        ("columns", 24),
        ("columns back", 24),
        ("blocks of columns", 4),
        ("blocks, then all columns", 24),
        ("both", 24),
        ("both in blocks", 4),
        ("slices", 8),
    ];
    assert_eq!(steps, expected.map(|(name, step)| (name.to_string(), step)));
}

/// Everything that was read has a digest: of the weight, of what is folded in, in a fixed order.
#[test]
fn whatever_is_read_has_a_digest() {
    let setting = Setting::new(Stored::F32);
    let mut forge = Forge::open(&setting.folder.path().join("model.safetensors"));
    let product = FoldedProduct { weight: View::contiguous(id("table"), 0, 960), vector: whole("gain"), factor: 1.0 };
    let gain = |name| Map::Gain { gain: whole(name), offset: 0.0 };
    let folded = Folded { product: Some(product), ..rows(vec![gain("heads")]) };
    let bias = recipe("b", &[24], Source::Stored(View::contiguous(id("bias"), 0, 24)), folded);
    let both = Folded { columns: vec![gain("heads")], ..rows(vec![gain("gain"), gain("bias")]) };
    let weight = recipe("w", &[24, 40], Source::Stored(whole("weight")), both);
    let sources = |recipe: &Recipe| {
        let mut evaluation = setting.evaluator().open(recipe).unwrap();
        let (step, mut values) = (evaluation.step(), Vec::<f32>::new());
        for first in (0..evaluation.rows()).step_by(step as usize) {
            evaluation.evaluate(first..first + step, &mut values).unwrap();
        }
        let sources = evaluation.sources();
        sources.into_iter().map(|digest| (digest.name, digest.blake3)).collect::<Vec<_>>()
    };
    let mut expected = |parts: &[(&str, usize, &str)]| {
        let part = |&(tensor, bytes, name): &(&str, usize, &str)| {
            (name.to_string(), blake3::hash(&forge.bytes(tensor)[..bytes]).to_string())
        };
        parts.iter().map(part).collect::<Vec<_>>()
    };
    let of_bias = [("bias", 96, "bias[0: 24*1]"), ("table", 3840, "table[0: 960*1]"), ("gain", 160, "gain")];
    assert_eq!(sources(&bias), expected(&[&of_bias[..], &[("heads", 32, "heads")]].concat()));
    let of_weight = [("weight", 3840, "weight"), ("gain", 160, "gain"), ("bias", 160, "bias")];
    assert_eq!(sources(&weight), expected(&[&of_weight[..], &[("heads", 32, "heads")]].concat()));
}

/// A wrong sign is one coordinate of what the maps give.
#[test]
fn a_weight_can_be_spoiled_for_a_test() {
    let setting = Setting::new(Stored::F32);
    for recipe in recipes() {
        let values = |flip| {
            let mut values = Vec::<f64>::new();
            let evaluator = Evaluator { flip, ..setting.evaluator() };
            let mut evaluation = evaluator.open(&recipe).unwrap();
            evaluation.evaluate(0..evaluation.rows(), &mut values).unwrap();
            values
        };
        let (right, wrong) = (values(None), values(Some(recipe.name.as_str())));
        assert_eq!(values(Some("another")), right);
        let width = recipe.shape[recipe.shape.len() - 1] as usize;
        let only_columns = recipe.folded.rows.is_empty() && !recipe.folded.columns.is_empty();
        for (at, (right, wrong)) in right.iter().zip(&wrong).enumerate() {
            let flipped = if only_columns { at < width } else { at % width == 0 };
            assert_eq!(if flipped { -right } else { *right }, *wrong, "{} at {at}", recipe.name);
        }
    }
}

/// A recipe may come from a file.
#[test]
fn recipes_that_do_not_fit_are_refused() {
    let setting = Setting::new(Stored::F32);
    let gain = |view| Map::Gain { gain: view, offset: 0.0 };
    let weight = |folded| recipe("w", &[24, 40], Source::Stored(whole("weight")), folded);
    let view = |offset, axes: [(u64, u64); 2]| {
        let axes = axes.map(|(size, stride)| Axis { size, stride });
        recipe("w", &[24, 40], Source::Stored(View::new(id("weight"), offset, axes)), Folded::default())
    };
    let product = |weight, vector| {
        let product = FoldedProduct { weight, vector, factor: 1.0 };
        Folded { product: Some(product), ..Folded::default() }
    };
    let wrong = [
        (weight(rows(vec![rotate(1, false)])), "a rotation of a width that divides 40, found 24"),
        (weight(columns(vec![rotate(0, false)])), "a rotation of a width that divides 24, found 40"),
        (weight(rows(vec![rotate(9, false)])), "no rotation 9"),
        (weight(rows(vec![gain(View::contiguous(id("gain"), 0, 24))])), "a gain of a width that divides 40, found 24"),
        (weight(rows(vec![gain(View::contiguous(id("gain"), 8, 40))])), "elements of `gain` within 0..40"),
        (weight(rows(vec![gain(View::contiguous(TensorId(99), 0, 40))])), "no tensor 99"),
        (weight(rows(vec![scale(&[], false)])), "a scale of a width that divides 40, found 0"),
        (weight(rows(vec![scale(&[1.0, 0.0], false)])), "factors above 0, found 0"),
        (weight(columns(vec![scale(&[f64::NAN], false)])), "factors above 0, found NaN"),
        (weight(product(whole("weight"), whole("gain"))), "to a vector, not to 24 rows"),
        (view(0, [(24, 0), (40, 1)]), "elements of `weight` within 0..960"),
        (view(0, [(23, 41), (40, 1)]), "960 elements of `weight`, found 920"),
        (view(0, [(u64::MAX, 1 << 40), (40, 1)]), "elements of `weight` within 0..960"),
        (recipe("w", &[0, 40], Source::Uniform, Folded::default()), "no elements"),
        (recipe("w", &[40], Source::Values([1.0].into()), Folded::default()), "expected 40 values, found 1"),
        (
            recipe("w", &[40], Source::Uniform, product(whole("weight"), whole("gain"))),
            "1600 elements of `weight`, found 960",
        ),
    ];
    for (recipe, expected) in wrong {
        match setting.evaluator().open(&recipe) {
            Err(EvaluateError::Invalid { weight, reason }) => {
                assert!(weight == "w" && reason.contains(expected), "expected {expected:?} in {reason:?}");
            }
            Err(other) => panic!("expected {expected:?}, found {other}"),
            Ok(_) => panic!("expected {expected:?}, found no error"),
        }
    }
}

/// Whatever is read for a weight is checked.
#[test]
fn a_gain_that_is_not_finite_is_refused() {
    let setting = Setting::new(Stored::F32);
    let file = setting.folder.path().join("model.safetensors");
    let mut forge = Forge::open(&file);
    forge.bytes("gain")[12..16].copy_from_slice(&f32::NAN.to_le_bytes());
    forge.write(&file);
    let gain = Map::Gain { gain: whole("gain"), offset: 0.0 };
    let recipe = recipe("w", &[24, 40], Source::Stored(whole("weight")), rows(vec![gain]));
    match setting.evaluator().open(&recipe) {
        Err(EvaluateError::NotFinite { tensor, row: 0, column: 3, .. }) => assert_eq!(tensor, "gain"),
        other => panic!("{:?}", other.err()),
    }
}

fn weights(recipes: &[Recipe]) -> Vec<Weight> {
    let weight = |recipe: &Recipe| Weight {
        name: recipe.name.clone(),
        format: recipe.encoding.format.to_string(),
        shape: recipe.shape.clone(),
    };
    recipes.iter().map(weight).collect()
}

fn packed(recipes: &[Recipe], evaluator: Evaluator<'_>, memory: Option<u64>, threads: usize) -> Vec<u8> {
    let (out, interrupted) = (tempfile::tempdir().unwrap(), AtomicBool::new(false));
    let options = PackOptions { memory, threads, interrupted: &interrupted };
    pack(recipes, &weights(recipes), evaluator, out.path(), options).unwrap();
    files::read(&out.path().join("weights-00001-of-00001.safetensors"))
}

/// The smallest bound on memory that is accepted.
fn least_bound(demand: Demand) -> u64 {
    let interrupted = AtomicBool::new(false);
    match check_memory(demand, PackOptions { memory: Some(1), threads: 1, interrupted: &interrupted }) {
        Err(PackError::TooLittleMemory { minimum, .. }) => minimum,
        other => panic!("{other:?}"),
    }
}

/// A matrix that must be held whole, others that need not, in formats of each granularity.
#[test]
fn packed_bytes_depend_on_neither_memory_nor_threads() {
    const SIZE: [u64; 2] = [1152, 1024];
    let (mut random, mut tensors) = (Random::new(9), Forge::default());
    let values: Vec<f64> = (0..SIZE[0] * SIZE[1]).map(|_| random.unit()).collect();
    tensors.push("w", "BF16", &SIZE, &Stored::Bf16.encode(&values));
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &json!({}), &tensors);
    let checkpoint = open(folder.path());
    let reader = TensorReader::open(&checkpoint).unwrap();
    let rotations = [Rotation::random_hadamard(1152, 1).unwrap(), Rotation::hadamard(128).unwrap()];
    let evaluator =
        Evaluator { checkpoint: &checkpoint, reader: &reader, rotations: &rotations, flip: None, interrupted: None };
    let folds = [
        (columns(vec![rotate(0, false)]), "int4(group: 32)"),
        (rows(vec![rotate(1, true)]), "int8(per: channel)"),
        (Folded { columns: vec![rotate(1, false)], ..rows(vec![rotate(1, false)]) }, "bf16"),
        (rows(vec![scale(&[0.5, 0.25], true)]), "f32"),
    ];
    let recipe = |(at, (folded, format)): (usize, (Folded, &str))| Recipe {
        name: format!("w{at}"),
        shape: SIZE.to_vec(),
        encoding: Encoding { format: format.parse().unwrap(), fit: Fit::Absmax },
        source: Source::Stored(View::contiguous(TensorId(0), 0, SIZE[0] * SIZE[1])),
        folded,
    };
    let recipes: Vec<Recipe> = folds.into_iter().enumerate().map(recipe).collect();
    let demand = |recipes: &[Recipe]| Demand::of_recipes(recipes, &rotations, &checkpoint);
    let least = least_bound(demand(&recipes));
    // The matrix is counted once, in f32.
    assert!(least - least_bound(demand(&recipes[1..])) >= 4 * SIZE[0] * SIZE[1]);
    let first = packed(&recipes, evaluator, None, 4);
    assert!(first == packed(&recipes, evaluator, Some(least), 1), "the least memory");
    assert!(first == packed(&recipes, evaluator, Some(least + (1 << 20)), 3), "a little more");

    // Formats that lose nothing or round: what the evaluator gives.
    let file = SafeTensors::deserialize(&first).unwrap();
    let in_bf16 = |value: f32| bf16::from_f32(value).to_le_bytes().to_vec();
    let in_f32 = |value: f32| value.to_le_bytes().to_vec();
    for (at, encode) in [(2, &in_bf16 as &dyn Fn(f32) -> Vec<u8>), (3, &in_f32)] {
        let mut values = Vec::<f32>::new();
        evaluator.open(&recipes[at]).unwrap().evaluate(0..SIZE[0], &mut values).unwrap();
        let bytes: Vec<u8> = values.into_iter().flat_map(encode).collect();
        assert!(file.tensor(&format!("w{at}")).unwrap().data() == bytes, "w{at}");
    }
}

/// A value that folding makes too large for its format.
#[test]
fn a_folded_value_that_a_format_cannot_hold_is_refused() {
    let setting = Setting::new(Stored::F32);
    let large = rows(vec![scale(&[1e5], false)]);
    let mut recipe = recipe("w", &[24, 40], Source::Stored(whole("weight")), large);
    recipe.encoding.format = Format::F16;
    let (out, interrupted) = (tempfile::tempdir().unwrap(), AtomicBool::new(false));
    let options = PackOptions { memory: None, threads: 1, interrupted: &interrupted };
    let recipes = [recipe];
    match pack(&recipes, &weights(&recipes), setting.evaluator(), out.path(), options) {
        Err(error @ PackError::FoldedTooLarge { .. }) => {
            assert!(error.to_string().starts_with("`w`: ") && error.to_string().ends_with("f16 can hold"), "{error}");
        }
        other => panic!("{:?}", other.err()),
    }
}

/// A rotated model, with f32 weights.
const ROTATED: &str = "lathe 1\n\nspec rotated {
    rules { ** => f32 }
    rotate {
        residual by random_hadamard(seed: 7)
        value by hadamard
        ffn_hidden by hadamard
    }
}
";

/// The command that writes one to `folder/NAME`.
fn compile_rotated(checkpoint: &Path, folder: &Path, name: &str) -> Command {
    let spec = folder.join("rotated.lathe");
    fs::write(&spec, ROTATED).unwrap();
    compile(spec.to_str().unwrap(), checkpoint, &folder.join(name))
}

fn rotated(checkpoint: &Path, folder: &Path) -> (Lock, Program, Vec<u8>) {
    let out = folder.join("out");
    succeed(&mut compile_rotated(checkpoint, folder, "out"));
    let lock = serde_json::from_str(&files::read_text(&out.join("lathe.lock"))).unwrap();
    let program = serde_json::from_str(&files::read_text(&out.join("program.json"))).unwrap();
    (lock, program, files::read(&out.join("weights-00001-of-00001.safetensors")))
}

/// The bound that the plan states is enough for what packing then needs.
#[test]
fn a_rotated_model_is_packed_within_the_least_memory() {
    let folder = tempfile::tempdir().unwrap();
    let compiled = |name: &str, options: &[&str]| {
        succeed(compile_rotated(&model("micro-llama"), folder.path(), name).args(options));
        files::contents(&folder.path().join(name))
    };
    let least = least_memory(&mut compile_rotated(&model("micro-llama"), folder.path(), "none")).to_string();
    let first = compiled("first", &["--threads", "4"]);
    let second = compiled("second", &["--no-prove", "--memory", &least]);
    for name in ["weights-00001-of-00001.safetensors", "program.json", "lathe.lock"] {
        assert!(first[name] == second[name], "{name} differs");
    }
}

/// Nobody needs the spec to make the packed weights again.
#[test]
fn the_lock_says_how_packed_weights_were_made() {
    for name in ["micro-llama", "tiny-qwen3"] {
        let (folder, checkpoint) = (tempfile::tempdir().unwrap(), open(&model(name)));
        let (lock, program, file) = rotated(&model(name), folder.path());
        let folds = lock.folds.expect("rotations were folded in");
        let reader = TensorReader::open(&checkpoint).unwrap();
        let rotations = folds.rotations(|_| None::<Arc<[f32]>>).unwrap();
        let names: Vec<&str> = folds.rotations.iter().map(LockedRotation::name).collect();
        assert!(names[0].starts_with("random_hadamard(seed: 7"), "{names:?}");
        let evaluator = Evaluator {
            checkpoint: &checkpoint,
            reader: &reader,
            rotations: &rotations,
            flip: None,
            interrupted: None,
        };
        let (mut read, mut folded) = (Vec::<Digest>::new(), 0);
        let recipes = folds.recipes(&program.weights, &lock.sources, &checkpoint).unwrap();
        for (weight, recipe) in program.weights.iter().zip(recipes) {
            let recipe = recipe.expect("no weight is a matrix of the user");
            let mut evaluation = evaluator.open(&recipe).unwrap();
            let mut values = Vec::<f32>::new();
            evaluation.evaluate(0..evaluation.rows(), &mut values).unwrap();
            for digest in evaluation.sources() {
                if !read.contains(&digest) {
                    read.push(digest);
                }
            }
            // As it is stored, in the format that it is stored in.
            if recipe.folded.is_identity() {
                continue;
            }
            folded += 1;
            let bytes: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
            let packed = SafeTensors::deserialize(&file).unwrap();
            assert!(packed.tensor(&weight.name).unwrap().data() == bytes, "{name} {}", weight.name);
        }
        assert_eq!(lock.sources, read, "{name}");
        assert!(folded * 2 > program.weights.len(), "{name}: {folded} of {} weights", program.weights.len());
        let frames = folds.frames(program.buffers.len(), &lock.sources, &checkpoint).unwrap();
        assert!(frames.iter().any(|frame| !frame.is_empty()), "{name}");
    }
}
