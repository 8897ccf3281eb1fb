//! Checkpoint to logits, text and perplexity, against what another implementation recorded.
//!
//! Every folder of `models/` and of `families/` is tested, and every one of `$LATHE_TEST_MODELS`, when that is set.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::definitions::shipped_architectures;
use crate::support::command::{ids, lathe, lathe_run, run, succeed, succeed_json};
use crate::support::reference::{Artifact, LOGITS, Reference, distance};
use crate::support::{self, files};

/// Largest relative difference of a perplexity.
const PERPLEXITY: f64 = 5e-4;

/// New tokens in the continuations recorded as text.
const NEW_TOKENS: usize = 32;

/// Instruction sets that `LATHE_ISA` can ask for.
const ISAS: [&str; 3] = ["scalar", "avx2", "avx512"];

/// Everything that is recorded about a trained model. Adds what it measured to `measured`.
fn check(model: &Path, measured: &mut String) {
    let name = support::name(model);
    let (reference, recorded) = (Reference::open(model), files::read_json(&model.join("reference.json")));
    let artifact = Artifact::compile(model, None);
    let mut largest = artifact.distance(&reference);
    let prompts = recorded["prompts"].as_array().expect("references have prompts");
    assert_eq!(prompts.len(), reference.prompts(), "{name}");
    assert_eq!(artifact.wrong_choices(&reference), [""; 0], "{name}");
    for (index, prompt) in prompts.iter().enumerate() {
        let text = prompt["text"].as_str().expect("prompts have a text");
        let mut command = lathe_run();
        command.arg("generate").arg(artifact.path()).args(["--max-new-tokens", &NEW_TOKENS.to_string()]);
        command.args(["--ignore-eos", "--prompt", text]);
        let greedy = prompt["greedy"].as_str().expect("prompts have a greedy text");
        assert_eq!(succeed_json(command.arg("--json"))["text"], greedy, "{name}, prompt {index}");
    }
    let tokens = reference.tokens("long.input_ids");
    let expected = reference.logits("long.last_logits");
    let logits = artifact.logits(&tokens);
    largest = largest.max(distance(&logits[logits.len() - expected.len()..], &expected));
    assert!(largest <= LOGITS, "{name}: logits differ by {largest:.2e} of their range");
    write!(measured, "{name}: logits within {largest:.2e} of their range").unwrap();

    for text in ["heldout.txt", "wikitext2-test.txt"] {
        let recorded = &recorded["perplexity"][text];
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

/// The trained models: the shipped ones and those of the environment.
pub(crate) fn trained() -> Vec<PathBuf> {
    let mut models = support::models_in(&support::root().join("models"));
    assert!(models.len() >= 2, "{models:?}");
    match env::var_os("LATHE_TEST_MODELS") {
        None => support::skipped("more models: LATHE_TEST_MODELS names no folder"),
        Some(folder) => {
            let more = support::models_in(Path::new(&folder));
            assert!(!more.is_empty(), "there is no model in {}", Path::new(&folder).display());
            let shipped: Vec<String> = models.iter().map(|model| support::name(model).to_string()).collect();
            models.extend(more.into_iter().filter(|model| !shipped.iter().any(|name| name == support::name(model))));
        }
    }
    models
}

#[test]
fn trained_models_match_their_references() {
    let mut measured = String::new();
    for model in trained() {
        check(&model, &mut measured);
    }
    support::measured(&measured);
}

/// The random tiny checkpoints, each with the definition beside it where there is one.
pub(crate) fn families() -> Vec<(PathBuf, Option<PathBuf>)> {
    let is_checkpoint = |path: &PathBuf| path.join("config.json").is_file();
    let folders = files::list(&support::root().join("families")).into_iter().filter(|path| path.is_dir());
    let with_definition = |family: PathBuf| {
        let definition = family.join("model.lathe");
        let variants = files::list(&family).into_iter().filter(|path| path.is_dir());
        let checkpoints: Vec<PathBuf> = [family.clone()].into_iter().chain(variants).filter(is_checkpoint).collect();
        assert!(!checkpoints.is_empty(), "{}", family.display());
        checkpoints.into_iter().map(move |path| (path, definition.is_file().then(|| definition.clone())))
    };
    folders.flat_map(with_definition).collect()
}

fn architecture(model: &Path) -> String {
    let config = files::read_json(&model.join("config.json"));
    config["architectures"][0].as_str().unwrap_or_else(|| panic!("{}: no architecture", model.display())).to_string()
}

#[test]
fn families_match_their_references() {
    let (families, shipped) = (families(), shipped_architectures());
    assert!(families.len() >= 30, "{families:?}");
    let (mut measured, mut failures, mut undefined) = (String::new(), Vec::new(), Vec::new());
    for (model, definition) in &families {
        let name = model.strip_prefix(support::root().join("families")).expect("families lie there").display();
        if definition.is_none() && !shipped.contains(&architecture(model)) {
            undefined.push(name.to_string());
            continue;
        }
        let reference = Reference::open(model);
        assert!(reference.prompts() > 0, "{name}");
        let artifact = match Artifact::try_compile(model, definition.as_deref()) {
            Ok(artifact) => artifact,
            Err(message) => {
                failures.push(format!("{name}: {message}"));
                continue;
            }
        };
        let largest = artifact.distance(&reference);
        writeln!(measured, "{name}: logits within {largest:.2e} of their range").unwrap();
        if largest > LOGITS {
            failures.push(format!("{name}: logits differ by {largest:.2e} of their range"));
        }
        failures.extend(artifact.wrong_choices(&reference).iter().map(|wrong| format!("{name}: {wrong}")));
    }
    support::measured(&measured);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(undefined.is_empty(), "no definition describes {}", undefined.join(", "));
}

#[test]
fn definitions_of_families_leave_nothing_unread() {
    let mut failures = Vec::new();
    for (model, definition) in families() {
        let mut command = lathe();
        command.args(["check", "keep"]).arg(&model).arg("--strict");
        if let Some(definition) = definition {
            command.arg("--model-def").arg(definition);
        }
        let ended = run(&mut command);
        if ended.code != Some(0) {
            failures.push(format!("{}: {}", model.display(), ended.stderr));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_instruction_set_gives_the_recorded_logits() {
    let model = support::model("micro-llama");
    let (reference, artifact) = (Reference::open(&model), Artifact::compile(&model, None));
    for isa in ISAS {
        for index in 0..reference.prompts() {
            let tokens = reference.tokens(&format!("prompt{index}.input_ids"));
            let Some(logits) = artifact.logits_with(&tokens, Some(isa)) else {
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
    let (reference, artifact) = (Reference::open(&model), Artifact::compile(&model, None));
    let tokens = ids(&reference.tokens("long.input_ids"));
    let folder = tempfile::tempdir().unwrap();
    let logits = |threads: &str| {
        let file = folder.path().join("threads.safetensors");
        let mut command = lathe_run();
        command.arg("logits").arg(artifact.path()).args(["--ids", &tokens, "--threads", threads]).arg("-o").arg(&file);
        succeed(&mut command);
        fs::read(file).unwrap()
    };
    assert!(logits("1") == logits("3"));
}
