//! What other implementations recorded about a checkpoint, and how far a compiled model is from it.

use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde_json::Value;

use super::command::{compile, ids, lathe_run, run, succeed, succeed_json};
use super::files;

/// Largest difference of a logit, relative to the range of the reference. Both sides compute in f32 and add in
/// different orders.
pub(crate) const LOGITS: f64 = 5e-5;

/// Two logits nearer to each other than this part of the range are as good as equal: which is larger is left open.
const OPEN: f64 = 1e-4;

/// `reference.safetensors`.
pub(crate) struct Reference {
    tensors: Vec<u8>,
}

impl Reference {
    /// The one in the folder of a checkpoint.
    pub(crate) fn open(model: &Path) -> Self {
        Reference { tensors: files::read(&model.join("reference.safetensors")) }
    }

    /// How many prompts were recorded.
    pub(crate) fn prompts(&self) -> usize {
        let tensors = SafeTensors::deserialize(&self.tensors).expect("references are sound");
        tensors.names().iter().filter(|name| name.starts_with("prompt") && name.ends_with(".input_ids")).count()
    }

    /// Ids of tokens.
    pub(crate) fn tokens(&self, name: &str) -> Vec<u32> {
        let tensors = SafeTensors::deserialize(&self.tensors).expect("references are sound");
        let view = tensors.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        let (elements, _) = view.data().as_chunks::<8>();
        elements.iter().map(|&element| i64::from_le_bytes(element) as u32).collect()
    }

    /// Logits, row by row.
    pub(crate) fn logits(&self, name: &str) -> Vec<f32> {
        floats(&self.tensors, name)
    }
}

/// A tensor of a safetensors file, which must be f32.
pub(crate) fn floats(file: &[u8], name: &str) -> Vec<f32> {
    let tensors = SafeTensors::deserialize(file).expect("the file is sound");
    let view = tensors.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(view.dtype(), safetensors::Dtype::F32);
    let (elements, _) = view.data().as_chunks::<4>();
    elements.iter().map(|&element| f32::from_le_bytes(element)).collect()
}

/// A compiled model.
pub(crate) struct Artifact {
    folder: tempfile::TempDir,
}

impl Artifact {
    /// With `keep`, by a definition in a file or the shipped one.
    #[track_caller]
    pub(crate) fn compile(model: &Path, definition: Option<&Path>) -> Self {
        Self::try_compile(model, definition).unwrap_or_else(|message| panic!("{}: {message}", model.display()))
    }

    /// The same, or what was said instead.
    pub(crate) fn try_compile(model: &Path, definition: Option<&Path>) -> Result<Self, String> {
        Self::try_with("keep", model, definition)
    }

    /// With the spec in a file.
    #[track_caller]
    pub(crate) fn compile_with(spec: &Path, model: &Path, definition: Option<&Path>) -> Self {
        let spec = spec.to_str().expect("paths of the tests are UTF-8");
        Self::try_with(spec, model, definition).unwrap_or_else(|message| panic!("{}: {message}", model.display()))
    }

    fn try_with(spec: &str, model: &Path, definition: Option<&Path>) -> Result<Self, String> {
        let folder = tempfile::tempdir().expect("temporary folders can be made");
        let mut command = compile(spec, model, &folder.path().join("out"));
        if let Some(definition) = definition {
            command.arg("--model-def").arg(definition);
        }
        let ended = run(&mut command);
        if ended.code == Some(0) { Ok(Artifact { folder }) } else { Err(ended.stderr) }
    }

    /// The folder that was written.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    /// Logits at every one of these tokens.
    #[track_caller]
    pub(crate) fn logits(&self, tokens: &[u32]) -> Vec<f32> {
        self.logits_with(tokens, None).expect("the default instruction set is there")
    }

    /// The same with an instruction set. `None` when the machine does not have it.
    #[track_caller]
    pub(crate) fn logits_with(&self, tokens: &[u32], isa: Option<&str>) -> Option<Vec<f32>> {
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

    /// How far the logits of every recorded prompt are from the reference, at most.
    #[track_caller]
    pub(crate) fn distance(&self, reference: &Reference) -> f64 {
        let of_prompt = |index: usize| {
            let logits = self.logits(&reference.tokens(&format!("prompt{index}.input_ids")));
            distance(&logits, &reference.logits(&format!("prompt{index}.logits")))
        };
        (0..reference.prompts()).map(of_prompt).fold(0.0, f64::max)
    }

    /// Logits at the last of these tokens.
    #[track_caller]
    fn last_logits(&self, tokens: &[u32]) -> Vec<f32> {
        let mut logits = self.logits(tokens);
        logits.split_off(logits.len() - logits.len() / tokens.len())
    }

    /// What is wrong with what follows the recorded prompts greedily. It is as recorded up to the first choice that
    /// rounding leaves open.
    #[track_caller]
    pub(crate) fn wrong_choices(&self, reference: &Reference) -> Vec<String> {
        (0..reference.prompts()).filter_map(|prompt| self.wrong_choice(reference, prompt)).collect()
    }

    #[track_caller]
    fn wrong_choice(&self, reference: &Reference, prompt: usize) -> Option<String> {
        let tokens = reference.tokens(&format!("prompt{prompt}.input_ids"));
        let recorded = reference.tokens(&format!("prompt{prompt}.greedy_ids"));
        let new = recorded.len() - tokens.len();
        assert!(new > 0, "prompt {prompt}");
        let mut command = lathe_run();
        command.arg("generate").arg(self.path()).args(["--max-new-tokens", &new.to_string()]);
        command.args(["--ignore-eos", "--json", "--ids", &ids(&tokens)]);
        let generated = succeed_json(&mut command)["ids"].take();
        if generated == Value::from(recorded.clone()) {
            return None;
        }
        let generated: Vec<u64> = generated.as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
        assert_eq!(generated.len(), recorded.len(), "prompt {prompt}");
        let pairs = generated.iter().zip(&recorded);
        let first = pairs.take_while(|(found, expected)| **found == u64::from(**expected)).count();
        assert!(first >= tokens.len(), "prompt {prompt}: the ids of the prompt were changed");
        let mut last = self.last_logits(&recorded[..first]);
        last.sort_by(|a, b| b.total_cmp(a));
        let gap = f64::from(last[0] - last[1]) / f64::from(last[0] - last[last.len() - 1]);
        let at = first - tokens.len();
        (gap >= OPEN)
            .then(|| format!("prompt {prompt}: greedy token {at} is another, though the choice is clear by {gap:.1e}"))
    }
}

/// Largest difference over the range of the reference.
#[track_caller]
pub(crate) fn distance(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let (least, most) = expected.iter().fold((f32::MAX, f32::MIN), |(low, high), &x| (low.min(x), high.max(x)));
    let largest = found
        .iter()
        .zip(expected)
        .map(|(a, b)| f64::from((a - b).abs()))
        .fold(0.0, |most: f64, difference| if difference.is_nan() { f64::INFINITY } else { most.max(difference) });
    largest / f64::from(most - least)
}
