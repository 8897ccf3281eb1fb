//! Parts of stored tensors: what a definition takes by subscripts, `reshape` and `transpose` is packed as an array of
//! the same elements would be, whatever the memory.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use half::{bf16, f16};
use lathe_compiler::ir::{Shaped, TensorId, ViewError};
use lathe_compiler::lower::{Folded, Recipe, Source};
use lathe_compiler::pack::evaluate::Evaluator;
use lathe_compiler::pack::{Demand, PackError, PackOptions, check_memory, pack};
use lathe_compiler::plan::Encoding;
use lathe_compiler::source::TensorReader;
use lathe_kernels::formats::Fit;
use lathe_runtime::program::Weight;
use safetensors::SafeTensors;
use serde_json::json;

use crate::support::command::{compile, lathe, least_memory, run, succeed};
use crate::support::compiler::open;
use crate::support::files;
use crate::support::forge::Forge;
use crate::support::llama::{Stored, write};
use crate::support::random::Random;

const DTYPES: [(Stored, &str); 3] = [(Stored::Bf16, "bf16"), (Stored::F16, "f16"), (Stored::F32, "f32")];

/// An array of the numbers of elements, and the view and the text that should stand for it.
#[derive(Clone)]
struct Part {
    shape: Vec<u64>,
    elements: Vec<u64>,
    view: Shaped,
    text: String,
}

impl Part {
    fn whole(tensor: u32, name: &str, shape: &[u64]) -> Part {
        let (view, elements) = (Shaped::whole(TensorId(tensor), shape), (0..shape.iter().product()).collect());
        Part { shape: shape.to_vec(), elements, view, text: format!("stored({name:?})") }
    }

    /// The part where the subscript of a dimension lies in a range.
    fn range(&self, dimension: usize, from: u64, to: u64) -> Option<Part> {
        let inner: u64 = self.shape[dimension + 1..].iter().product();
        let size = self.shape[dimension];
        let within = |at: &usize| (from..to).contains(&(*at as u64 / inner % size));
        let elements = (0..self.elements.len()).filter(within).map(|at| self.elements[at]).collect();
        let mut shape = self.shape.clone();
        shape[dimension] = to - from;
        let subscripts = "..,".repeat(dimension);
        let view = self.view.clone().range(dimension, from, to);
        Part::of(view, shape, elements, format!("{}[{subscripts} {from}..{to}]", self.text))
    }

    fn index(&self, dimension: usize, at: u64) -> Option<Part> {
        let mut part = self.range(dimension, at, at + 1)?;
        part.shape.remove(dimension);
        let subscripts = "..,".repeat(dimension);
        let view = self.view.clone().index(dimension, at);
        Part::of(view, part.shape, part.elements, format!("{}[{subscripts} {at}]", self.text))
    }

    fn transpose(&self) -> Option<Part> {
        let [outer @ .., rows, columns] = &self.shape[..] else { return None };
        let (rows, columns) = (*rows as usize, *columns as usize);
        let turned = |matrix: &[u64]| -> Vec<u64> {
            (0..columns)
                .flat_map(|column| (0..rows).map(move |row| (row, column)))
                .map(|(row, column)| matrix[row * columns + column])
                .collect()
        };
        let elements = self.elements.chunks(rows * columns).flat_map(turned).collect();
        let shape = outer.iter().copied().chain([columns as u64, rows as u64]).collect();
        let view = self.view.clone().transpose()?;
        Part::of(Ok(view), shape, elements, format!("transpose({})", self.text))
    }

    fn reshape(&self, shape: &[u64]) -> Option<Part> {
        let view = self.view.reshape(shape);
        Part::of(view, shape.to_vec(), self.elements.clone(), format!("reshape({}, {shape:?})", self.text))
    }

    /// What an operation came to; none where it is no view, for which its strides must be the reason.
    #[track_caller]
    fn of(view: Result<Shaped, ViewError>, shape: Vec<u64>, elements: Vec<u64>, text: String) -> Option<Part> {
        match view {
            Ok(view) => {
                assert_eq!(view.shape(), shape, "{text}");
                Some(Part { shape, elements, view, text })
            }
            Err(ViewError::Strides { .. }) => None,
            Err(error) => panic!("{text}: {error}"),
        }
    }

    /// The same elements in a random shape.
    fn reshaped(&self, random: &mut Random) -> Option<Part> {
        let mut left = self.elements.len() as u64;
        let mut shape = Vec::new();
        while left > 1 && shape.len() < 3 {
            let divisors: Vec<u64> = (1..=left.min(40)).filter(|size| left.is_multiple_of(*size)).collect();
            let size = divisors[random.below(divisors.len() as u64) as usize];
            shape.push(size);
            left /= size;
        }
        shape.push(left);
        random.shuffle(&mut shape);
        self.reshape(&shape)
    }

    /// Parts that together have every element once.
    fn split(&self, random: &mut Random) -> Vec<Part> {
        let dimension = random.below(self.shape.len() as u64) as usize;
        let size = self.shape[dimension];
        let parts = match random.below(4) {
            0 => self.reshaped(random).map(|part| vec![part]),
            1 => self.transpose().map(|part| vec![part]),
            2 if self.shape.len() > 1 && size <= 4 => (0..size).map(|at| self.index(dimension, at)).collect(),
            _ if size > 1 => {
                let at = 1 + random.below(size - 1);
                [(0, at), (at, size)].into_iter().map(|(from, to)| self.range(dimension, from, to)).collect()
            }
            _ => None,
        };
        parts.unwrap_or_else(|| vec![self.clone()])
    }
}

/// Parts of a tensor that have each of its elements once, at least `count` where that goes.
fn partition(whole: Part, steps: usize, count: usize, random: &mut Random) -> Vec<Part> {
    let mut parts = vec![whole];
    for _ in 0..steps {
        let at = random.below(parts.len() as u64) as usize;
        let part = parts.swap_remove(at);
        if parts.len() + 1 < count { parts.extend(part.split(random)) } else { parts.push(part) }
    }
    parts
}

/// Values that every dtype can hold.
fn values(count: u64, random: &mut Random) -> Vec<f64> {
    (0..count).map(|_| random.unit()).collect()
}

/// As a value is stored.
fn rounded(stored: Stored, value: f64) -> f64 {
    match stored {
        Stored::Bf16 => bf16::from_f64(value).to_f64(),
        Stored::F16 => f16::from_f64(value).to_f64(),
        Stored::F32 => f64::from(value as f32),
    }
}

/// The bytes that a part is packed to.
fn expected(part: &Part, values: &[f64], stored: Stored, target: Stored) -> Vec<u8> {
    let gathered = part.elements.iter().map(|&at| rounded(stored, values[at as usize]) as f32);
    match target {
        Stored::Bf16 => gathered.flat_map(|value| bf16::from_f32(value).to_le_bytes()).collect(),
        Stored::F16 => gathered.flat_map(|value| f16::from_f32(value).to_le_bytes()).collect(),
        Stored::F32 => gathered.flat_map(f32::to_le_bytes).collect(),
    }
}

/// The smallest bound on memory, and one for packing with several workers.
fn bounds(demand: Demand) -> [(u64, usize); 2] {
    let interrupted = AtomicBool::new(false);
    match check_memory(demand, PackOptions { memory: Some(1), threads: 1, interrupted: &interrupted }) {
        Err(PackError::TooLittleMemory { minimum, .. }) => [(minimum, 1), (minimum + (8 << 20), 3)],
        other => panic!("{other:?}"),
    }
}

fn packed_tensors(folder: &Path) -> Vec<u8> {
    let paths = files::list(folder);
    let weights: Vec<_> = paths.iter().filter(|path| crate::support::name(path).starts_with("weights")).collect();
    let [path] = weights[..] else { panic!("expected one file, found {weights:?}") };
    files::read(path)
}

/// Tensors that take many tiles, taken apart in every way, to every dtype.
#[test]
fn large_parts_are_packed_in_their_order() {
    let mut random = Random::new(11);
    for (stored, _) in DTYPES {
        let shapes: [&[u64]; 6] =
            [&[300, 350], &[90_000, 2], &[3, 70_000], &[40, 3, 16, 60], &[6, 250, 96], &[150_001]];
        let mut tensors = Forge::default();
        let mut stored_values = Vec::new();
        for (index, shape) in shapes.iter().enumerate() {
            let values = values(shape.iter().product(), &mut random);
            tensors.push(&format!("t{index}"), stored.name(), shape, &stored.encode(&values));
            stored_values.push(values);
        }
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &json!({}), &tensors);
        let checkpoint = open(folder.path());
        let mut parts = Vec::new();
        for (index, shape) in shapes.iter().enumerate() {
            let id = checkpoint.find(&format!("t{index}")).expect("it was written");
            for _ in 0..2 {
                let whole = Part::whole(id.0, &format!("t{index}"), shape);
                parts.extend(partition(whole, 8, 5, &mut random).into_iter().map(|part| (index, part)));
            }
        }
        let targets: Vec<(Stored, &'static str)> = (0..parts.len()).map(|_| DTYPES[random.below(3) as usize]).collect();
        let recipe = |(index, (_, part)): (usize, &(usize, Part))| Recipe {
            name: format!("w{index}"),
            shape: vec![part.elements.len() as u64],
            encoding: Encoding { format: targets[index].1.parse().unwrap(), fit: Fit::Absmax },
            source: Source::Stored(part.view.view()),
            folded: Folded::default(),
        };
        let recipes: Vec<Recipe> = parts.iter().enumerate().map(recipe).collect();
        let weight = |recipe: &Recipe| Weight {
            name: recipe.name.clone(),
            format: recipe.encoding.format.to_string(),
            shape: recipe.shape.clone(),
        };
        let weights: Vec<Weight> = recipes.iter().map(weight).collect();
        for (memory, threads) in bounds(Demand::of_recipes(&recipes, &[], &checkpoint)) {
            let out = tempfile::tempdir().unwrap();
            let interrupted = AtomicBool::new(false);
            let options = PackOptions { memory: Some(memory), threads, interrupted: &interrupted };
            let reader = TensorReader::open(&checkpoint).unwrap();
            let evaluator =
                Evaluator { checkpoint: &checkpoint, reader: &reader, rotations: &[], flip: None, interrupted: None };
            pack(&recipes, &weights, evaluator, out.path(), options).unwrap();
            let file = packed_tensors(out.path());
            let packed = SafeTensors::deserialize(&file).unwrap();
            for (index, (tensor, part)) in parts.iter().enumerate() {
                let found = packed.tensor(&format!("w{index}")).unwrap();
                let expected = expected(part, &stored_values[*tensor], stored, targets[index].0);
                assert!(found.data() == expected, "{}: {} as {}", memory, part.text, targets[index].1);
            }
        }
    }
}

/// A definition in which linears, each between two of its own, are the parts of a few tensors.
struct Fused {
    definition: String,
    tensors: Forge,
    /// Of each linear.
    parts: Vec<(usize, Part)>,
    values: Vec<Vec<f64>>,
}

const WIDTH: u64 = 4;

fn fused(stored: Stored, random: &mut Random) -> Fused {
    let mut tensors = Forge::default();
    let mut push = |name: String, shape: &[u64], random: &mut Random| {
        let values = values(shape.iter().product(), random);
        tensors.push(&name, stored.name(), shape, &stored.encode(&values));
        values
    };
    push("table.weight".into(), &[8, WIDTH], random);
    let (mut modules, mut graph) = (String::new(), String::new());
    let (mut parts, mut all_values) = (Vec::new(), Vec::new());
    for tensor in 0..3 {
        let rank = 1 + random.below(4);
        let shape: Vec<u64> = (0..rank).map(|_| [1, 2, 3, 4, 6, 8][random.below(6) as usize]).collect();
        all_values.push(push(format!("fused.{tensor}"), &shape, random));
        let whole = Part::whole(0, &format!("fused.{tensor}"), &shape);
        for part in partition(whole, 12, 6, random) {
            let count = part.elements.len() as u64;
            let outs: Vec<u64> = (1..=count).filter(|out| count.is_multiple_of(*out)).collect();
            let out = outs[random.below(outs.len() as u64) as usize];
            // A part without fixed strides in that shape stays in its own, where it is a matrix, or is one row.
            let candidates = [vec![out, count / out], vec![1, count], vec![count, 1]];
            let matrix = candidates.iter().find_map(|shape| part.reshape(shape)).expect("one row always goes");
            let (out, input) = (matrix.shape[0], matrix.shape[1]);
            let index = parts.len();
            push(format!("before.{index}.weight"), &[input, WIDTH], random);
            push(format!("after.{index}.weight"), &[WIDTH, out], random);
            writeln!(modules, "    module before[{index}] = linear({WIDTH}, {input})").unwrap();
            writeln!(modules, "    module part[{index}] = linear({input}, {out}, weight: {})", matrix.text).unwrap();
            writeln!(modules, "    module after[{index}] = linear({out}, {WIDTH})").unwrap();
            writeln!(graph, "        x = x + after[{index}](part[{index}](before[{index}](x)))").unwrap();
            parts.push((tensor, matrix));
        }
    }
    let definition = format!(
        "lathe 1\nmodel fused {{\n    module table = embedding(8, {WIDTH})\n    module out = head({WIDTH}, 8, tied_to: table)\n\
         {modules}    graph(tokens, positions) {{\n        x = table(tokens)\n{graph}        return out(x)\n    }}\n}}\n"
    );
    Fused { definition, tensors, parts, values: all_values }
}

#[test]
fn parts_that_a_definition_takes_are_packed_as_arrays_of_their_elements() {
    let mut random = Random::new(5);
    for (stored, _) in DTYPES {
        for (target, format) in DTYPES {
            for _ in 0..4 {
                let model = fused(stored, &mut random);
                let folder = tempfile::tempdir().unwrap();
                let [checkpoint, spec, file] =
                    ["checkpoint", "spec.lathe", "model.lathe"].map(|name| folder.path().join(name));
                write(&checkpoint, &json!({}), &model.tensors);
                fs::write(&spec, format!("lathe 1\nspec all {{ rules {{ part.* => {format} }} }}\n")).unwrap();
                fs::write(&file, &model.definition).unwrap();
                let mut files_of = Vec::new();
                let command = |out: &Path| {
                    let mut command = compile(spec.to_str().expect("temporary paths are UTF-8"), &checkpoint, out);
                    command.arg("--model-def").arg(&file);
                    command
                };
                let least = least_memory(&mut command(&folder.path().join("least")));
                for (memory, threads) in [(least, 1), (least + (8 << 20), 3)] {
                    let out = folder.path().join(memory.to_string());
                    let mut command = command(&out);
                    command.args(["--memory", &memory.to_string()]);
                    let ended = run(command.args(["--threads", &threads.to_string()]));
                    assert_eq!(ended.code, Some(0), "{}\n{}", ended.stderr, model.definition);
                    files_of.push(packed_tensors(&out));
                    succeed(lathe().arg("inspect").arg(&out));
                }
                assert!(files_of[0] == files_of[1]);
                let packed = SafeTensors::deserialize(&files_of[0]).unwrap();
                for (index, (tensor, part)) in model.parts.iter().enumerate() {
                    let found = packed.tensor(&format!("part.{index}.weight")).unwrap();
                    let expected = expected(part, &model.values[*tensor], stored, target);
                    assert!(found.data() == expected, "{} as {format}\n{}", part.text, model.definition);
                }
            }
        }
    }
}

/// Of a partition, a part that is taken twice, or not at all, is an error that names the tensor.
#[test]
fn elements_that_two_parts_take_or_none_are_errors() {
    let mut random = Random::new(23);
    let mut changed = 0;
    for _ in 0..12 {
        let model = fused(Stored::Bf16, &mut random);
        let index = random.below(model.parts.len() as u64) as usize;
        let (tensor, part) = &model.parts[index];
        let shared: Vec<&Part> =
            model.parts.iter().filter(|(other, _)| other == tensor).map(|(_, part)| part).collect();
        // Another part of the same tensor with as many elements, or the same one: then nothing changes.
        let Some(other) = shared.iter().find(|other| other.shape == part.shape && other.elements != part.elements)
        else {
            continue;
        };
        let text = model.definition.replace(&format!("weight: {})", part.text), &format!("weight: {})", other.text));
        assert_ne!(text, model.definition);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model.lathe");
        fs::write(&file, text).unwrap();
        write(&folder.path().join("checkpoint"), &json!({}), &model.tensors);
        let mut command = lathe();
        command.args(["plan", "keep"]).arg(folder.path().join("checkpoint")).arg("--model-def").arg(&file);
        let ended = run(command.args(["--message-format", "short"]));
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        assert!(ended.stderr.contains(&format!("fused.{tensor}")), "{}", ended.stderr);
        changed += 1;
    }
    assert!(changed > 3, "only {changed} definitions could be changed");
}
