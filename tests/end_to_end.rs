//! Checkpoint to logits, text and perplexity, against what another implementation recorded.
//!
//! Every folder of `models/` is tested, and every one of `$LATHE_TEST_MODELS`, when that is set.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde_json::Value;

use crate::support::command::{compile, ids, lathe_run, run, succeed, succeed_json};
use crate::support::{self, files};

/// Largest difference of a logit, relative to the range of the reference. Both sides compute in f32 and add in
/// different orders.
const LOGITS: f64 = 5e-5;

/// Largest relative difference of a perplexity.
const PERPLEXITY: f64 = 5e-4;

/// New tokens in the recorded continuations.
const NEW_TOKENS: usize = 32;

/// Instruction sets that `LATHE_ISA` can ask for.
const ISAS: [&str; 3] = ["scalar", "avx2", "avx512"];

/// A recorded reference.
struct Reference {
    tensors: Vec<u8>,
    json: Value,
}

impl Reference {
    fn open(model: &Path) -> Self {
        Reference {
            tensors: files::read(&model.join("reference.safetensors")),
            json: files::read_json(&model.join("reference.json")),
        }
    }

    fn tokens(&self, name: &str) -> Vec<u32> {
        let tensors = SafeTensors::deserialize(&self.tensors).expect("references are sound");
        let view = tensors.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        let (elements, _) = view.data().as_chunks::<8>();
        elements.iter().map(|&element| i64::from_le_bytes(element) as u32).collect()
    }

    fn logits(&self, name: &str) -> Vec<f32> {
        floats(&self.tensors, name)
    }

    fn prompts(&self) -> &[Value] {
        self.json["prompts"].as_array().expect("references have prompts")
    }
}

/// A tensor of a safetensors file, which must be f32.
fn floats(file: &[u8], name: &str) -> Vec<f32> {
    let tensors = SafeTensors::deserialize(file).expect("the file is sound");
    let view = tensors.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(view.dtype(), safetensors::Dtype::F32);
    let (elements, _) = view.data().as_chunks::<4>();
    elements.iter().map(|&element| f32::from_le_bytes(element)).collect()
}

/// A compiled model.
struct Artifact {
    folder: tempfile::TempDir,
}

impl Artifact {
    fn compile(model: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        succeed(&mut compile("keep", model, &folder.path().join("out")));
        Artifact { folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    /// Logits at every one of these tokens. `None` when the machine does not have the instruction set.
    fn logits(&self, tokens: &[u32], isa: Option<&str>) -> Option<Vec<f32>> {
        let file = self.folder.path().join("logits.safetensors");
        let mut command = lathe_run();
        command.arg("logits").arg(self.path()).args(["--ids", &ids(tokens)]).arg("-o").arg(&file);
        let Some(isa) = isa else {
            succeed(&mut command);
            return Some(floats(&files::read(&file), "logits"));
        };
        let ended = run(command.env("LATHE_ISA", isa));
        match ended.code {
            Some(0) => Some(floats(&files::read(&file), "logits")),
            Some(2) if isa != "scalar" && ended.stderr.contains(isa) => None,
            _ => panic!("LATHE_ISA={isa}: {:?}\n{}", ended.code, ended.stderr),
        }
    }
}

/// Largest difference over the range of the reference.
fn distance(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let (least, most) = expected.iter().fold((f32::MAX, f32::MIN), |(low, high), &x| (low.min(x), high.max(x)));
    let largest = found
        .iter()
        .zip(expected)
        .map(|(a, b)| f64::from((a - b).abs()))
        .fold(0.0, |most: f64, difference| if difference.is_nan() { f64::INFINITY } else { most.max(difference) });
    largest / f64::from(most - least)
}

/// Everything that is recorded about a model. Adds what it measured to `measured`.
fn check(model: &Path, measured: &mut String) {
    let name = support::name(model);
    let reference = Reference::open(model);
    let artifact = Artifact::compile(model);

    let mut largest = 0f64;
    for (index, prompt) in reference.prompts().iter().enumerate() {
        let tokens = reference.tokens(&format!("prompt{index}.input_ids"));
        let logits = artifact.logits(&tokens, None).expect("the default instruction set is there");
        largest = largest.max(distance(&logits, &reference.logits(&format!("prompt{index}.logits"))));

        let mut command = lathe_run();
        command.arg("generate").arg(artifact.path()).args(["--max-new-tokens", &NEW_TOKENS.to_string()]);
        command.args(["--ignore-eos", "--json", "--ids", &ids(&tokens)]);
        let generated = succeed_json(&mut command);
        let greedy = reference.tokens(&format!("prompt{index}.greedy_ids"));
        assert_eq!(greedy.len(), tokens.len() + NEW_TOKENS);
        assert_eq!(generated["ids"], Value::from(greedy), "{name}, prompt {index}");

        let text = prompt["text"].as_str().expect("prompts have a text");
        let mut command = lathe_run();
        command.arg("generate").arg(artifact.path()).args(["--max-new-tokens", &NEW_TOKENS.to_string()]);
        command.args(["--ignore-eos", "--prompt", text]);
        let greedy = prompt["greedy"].as_str().expect("prompts have a greedy text");
        assert_eq!(succeed_json(command.arg("--json"))["text"], greedy, "{name}, prompt {index}");
    }
    let tokens = reference.tokens("long.input_ids");
    let expected = reference.logits("long.last_logits");
    let logits = artifact.logits(&tokens, None).expect("the default instruction set is there");
    largest = largest.max(distance(&logits[logits.len() - expected.len()..], &expected));
    assert!(largest <= LOGITS, "{name}: logits differ by {largest:.2e} of their range");
    write!(measured, "{name}: logits within {largest:.2e} of their range").unwrap();

    for text in ["heldout.txt", "wikitext2-test.txt"] {
        let recorded = &reference.json["perplexity"][text];
        let mut command = lathe_run();
        command.arg("perplexity").arg(artifact.path()).arg("--text").arg(support::model(text));
        let windows = recorded["windows"].as_u64().expect("perplexities state their windows");
        let found = succeed_json(command.args(["--window", "256", "--windows", &windows.to_string(), "--json"]));
        assert_eq!(found["tokens"], windows * 255, "{name}, {text}");
        let expected = recorded["value"].as_f64().expect("perplexities have a value");
        let found = found["perplexity"].as_f64().expect("perplexities are numbers");
        let difference = (found / expected - 1.0).abs();
        assert!(difference <= PERPLEXITY, "{name}, {text}: perplexity {found}, expected {expected}");
        write!(measured, ", perplexity of {text} {found:.4} ({difference:.1e} from {expected:.4})").unwrap();
    }
    measured.push('\n');
}

#[test]
fn shipped_models_match_their_references() {
    let models = support::models_in(&support::root().join("models"));
    assert!(models.len() >= 2, "{models:?}");
    let mut measured = String::new();
    for model in models {
        check(&model, &mut measured);
    }
    support::measured(&measured);
}

#[test]
fn models_of_the_environment_match_their_references() {
    let Some(folder) = env::var_os("LATHE_TEST_MODELS") else {
        return support::skipped("more models: LATHE_TEST_MODELS names no folder");
    };
    let mut measured = String::new();
    for model in support::models_in(Path::new(&folder)) {
        let config = files::read_json(&model.join("config.json"));
        let architecture = config["architectures"][0].as_str().unwrap_or_default().to_string();
        if crate::definitions::shipped_architectures().contains(&architecture) {
            check(&model, &mut measured);
        } else {
            support::skipped(&format!("{}: no definition of {architecture} is shipped", support::name(&model)));
        }
    }
    assert!(!measured.is_empty(), "no model in {} could be tested", Path::new(&folder).display());
    support::measured(&measured);
}

#[test]
fn every_instruction_set_gives_the_recorded_logits() {
    let model = support::model("micro-llama");
    let (reference, artifact) = (Reference::open(&model), Artifact::compile(&model));
    for isa in ISAS {
        for index in 0..reference.prompts().len() {
            let tokens = reference.tokens(&format!("prompt{index}.input_ids"));
            let Some(logits) = artifact.logits(&tokens, Some(isa)) else {
                support::skipped(&format!("logits with {isa}: this machine does not have it"));
                break;
            };
            let difference = distance(&logits, &reference.logits(&format!("prompt{index}.logits")));
            assert!(difference <= LOGITS, "{isa}, prompt {index}: {difference:.2e}");
        }
    }
}

#[test]
fn thread_counts_give_equal_logits() {
    let model = support::model("micro-llama");
    let (reference, artifact) = (Reference::open(&model), Artifact::compile(&model));
    let tokens = ids(&reference.tokens("long.input_ids"));
    let logits = |threads: &str| {
        let file = artifact.folder.path().join("threads.safetensors");
        let mut command = lathe_run();
        command.arg("logits").arg(artifact.path()).args(["--ids", &tokens, "--threads", threads]).arg("-o").arg(&file);
        succeed(&mut command);
        fs::read(file).unwrap()
    };
    assert!(logits("1") == logits("3"));
}
