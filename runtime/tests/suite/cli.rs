//! The binary: its results, its exit codes, what it says.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use lathe_runtime::artifact::Artifact;
use lathe_runtime::backend::{Backend, CpuBackend};
use lathe_runtime::exec::{Logits, SessionOptions};
use lathe_runtime::program::RopeGrowth;
use safetensors::SafeTensors;
use serde_json::Value;

use crate::common::testing::{SMALL, tokenizer_json};
use crate::common::{SmallModel, model, small_model, small_program, tokens};

const TEXT: &str = "the quick brown fox jumps over the lazy dog, and runs away. then it sleeps. ";

fn command(verb: &str, model: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lathe-run"));
    command.arg(verb).arg(model).args(["--threads", "2"]).env_remove("LATHE_ISA").env("CUDA_VISIBLE_DEVICES", "");
    command
}

fn lathe_run(verb: &str, model: &Path, args: &[&str]) -> Output {
    command(verb, model).args(args).output().unwrap()
}

/// What a command that must succeed writes to stdout.
fn stdout(verb: &str, model: &Path, args: &[&str]) -> String {
    let output = lathe_run(verb, model, args);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn json(verb: &str, model: &Path, args: &[&str]) -> Value {
    serde_json::from_str(&stdout(verb, model, &[args, &["--json"]].concat())).unwrap()
}

/// Exit code and message of a command that must fail; it writes nothing to stdout.
fn failure(verb: &str, model: &Path, args: &[&str]) -> (i32, String) {
    let output = lathe_run(verb, model, args);
    assert!(output.stdout.is_empty());
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

fn model_with_tokenizer() -> SmallModel {
    let model = small_model();
    fs::write(model.path().join("tokenizer.json"), tokenizer_json()).unwrap();
    model
}

fn ids(value: &Value) -> Vec<u32> {
    value["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// Logits of all tokens, by the library.
fn all_logits(model: &SmallModel, tokens: &[u32]) -> Vec<Vec<f32>> {
    let artifact = Artifact::open(model.path()).unwrap();
    let matrices = artifact.weights.matrices().unwrap();
    let options = SessionOptions { max_logits: tokens.len(), ..SessionOptions::with_capacity(tokens.len()) };
    let backend = CpuBackend::new(1).unwrap();
    let mut session = backend.session(&artifact.program, &matrices, &options).unwrap();
    let logits = session.forward(tokens, Logits::All).unwrap();
    logits.chunks_exact(SMALL.vocabulary as usize).map(<[f32]>::to_vec).collect()
}

#[test]
fn generate_takes_the_likeliest_tokens() {
    let model = model_with_tokenizer();
    let result = json("generate", model.path(), &["--ids", "1,2,3", "--max-new-tokens", "9"]);
    let ids = ids(&result);
    assert_eq!((&ids[..3], ids.len()), (&[1, 2, 3][..], 12));
    for (logits, &next) in all_logits(&model, &ids).iter().zip(&ids[1..]).skip(2) {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        assert!(largest - logits[next as usize] < 1e-4, "{next} of {logits:?}");
    }
    assert!(result["prefill_tok_s"].as_f64().unwrap() > 0.0 && result["decode_tok_s"].as_f64().unwrap() > 0.0);
    assert!(result["text"].as_str().unwrap().starts_with("ab"));
}

#[test]
fn generate_streams_what_the_prompt_continues_with() {
    let model = model_with_tokenizer();
    let args = ["--prompt", "the dog", "--max-new-tokens", "20"];
    let result = json("generate", model.path(), &args);
    assert_eq!(ids(&result)[..4], [0, 21, 9, 6]);
    let text = result["text"].as_str().unwrap();
    assert_eq!(stdout("generate", model.path(), &args), text.strip_prefix("the dog").unwrap().to_owned() + "\n");
    let prompt_file = model.path().join("prompt.txt");
    fs::write(&prompt_file, "the dog").unwrap();
    let args = ["--prompt-file", prompt_file.to_str().unwrap(), "--max-new-tokens", "20"];
    assert_eq!(json("generate", model.path(), &args)["ids"], result["ids"]);
}

#[test]
fn generate_stops_at_the_end_of_text() {
    let model = model_with_tokenizer();
    let args = ["--ids", "1,2,3", "--max-new-tokens", "12"];
    let free = ids(&json("generate", model.path(), &args));
    // A token that comes some way into the continuation ends it.
    let end = free[7];
    let expected = 3 + free[3..].iter().position(|&id| id == end).unwrap() + 1;
    fs::write(model.path().join("generation_config.json"), format!("{{\"eos_token_id\": [{end}, 36]}}")).unwrap();
    let stopped = ids(&json("generate", model.path(), &args));
    assert_eq!(stopped, free[..expected]);
    let ignoring = [&args[..], &["--ignore-eos"]].concat();
    assert_eq!(ids(&json("generate", model.path(), &ignoring)), free);
}

#[test]
fn generate_stops_where_the_model_ends() {
    let model = model_with_tokenizer();
    let output = lathe_run("generate", model.path(), &["--ids", "1,2,3", "--max-new-tokens", "500", "--json"]);
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(ids(&result).len(), 65);
    let note = String::from_utf8(output.stderr).unwrap();
    assert_eq!(note, "note: stopped after 62 tokens: the model was made for 64 positions\n");
}

#[test]
fn generate_repeats_itself_with_a_seed() {
    let model = model_with_tokenizer();
    let sample = |seed: &str| {
        let args = ["--ids", "1,2,3", "--temperature", "1.5", "--top-k", "30", "--top-p", "0.95", "--seed", seed];
        ids(&json("generate", model.path(), &args))
    };
    assert_eq!(sample("5"), sample("5"));
    assert_ne!(sample("5"), sample("6"));
}

#[test]
fn generate_without_a_tokenizer_knows_ids_only() {
    let model = small_model();
    let result = json("generate", model.path(), &["--ids", "1,2,3", "--max-new-tokens", "1"]);
    assert!(result["text"].is_null() && result["decode_tok_s"].is_null());
    assert_eq!(ids(&result).len(), 4);
    let none = json("generate", model.path(), &["--ids", "1,2,3", "--max-new-tokens", "0"]);
    assert_eq!(ids(&none), [1, 2, 3]);
    for args in [["--prompt", "the"], ["--ids", "1"]] {
        let (code, message) = failure("generate", model.path(), &args);
        assert!(code == 1 && message.contains("has no tokenizer.json"), "{message}");
    }
}

#[test]
fn perplexity_is_that_of_the_logits() {
    let model = model_with_tokenizer();
    let text = model.path().join("text.txt");
    fs::write(&text, TEXT).unwrap();
    let args = ["--text", text.to_str().unwrap(), "--window", "20", "--windows", "3"];
    let result = json("perplexity", model.path(), &args);
    assert_eq!(result["tokens"], 57);
    assert!(result["tok_s"].as_f64().unwrap() > 0.0);

    let ids: Vec<u32> = TEXT.bytes().map(token_of).collect();
    let loss: f64 = ids.chunks_exact(20).take(3).map(|window| loss(&model, window)).sum();
    let (found, expected) = (result["perplexity"].as_f64().unwrap(), (loss / 57.0).exp());
    assert!((found / expected - 1.0).abs() < 1e-5, "{found}, expected {expected}");

    let shown = stdout("perplexity", model.path(), &args);
    assert!(shown.starts_with(&format!("perplexity {found:.6} over 57 tokens, ")), "{shown}");
}

/// Sum of the losses of all tokens but the first.
fn loss(model: &SmallModel, tokens: &[u32]) -> f64 {
    let loss = |(logits, &next): (&Vec<f32>, &u32)| {
        let sum: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
        sum.ln() - f64::from(logits[next as usize])
    };
    all_logits(model, tokens).iter().zip(&tokens[1..]).map(loss).sum()
}

/// Texts that the verbs read in several calls, the last of which takes them past a switch of frequencies.
#[test]
fn frequencies_are_those_of_the_whole_text() {
    let mut program = small_program();
    program.max_positions = Some(200);
    let inverse_frequencies = vec![0.9, 0.7, 0.5, 0.3];
    program.rope_tables[0].growth = Some(RopeGrowth::Switch { positions: 140, inverse_frequencies });
    let model = model(program);
    fs::write(model.path().join("tokenizer.json"), tokenizer_json()).unwrap();
    let tokens: Vec<u32> = TEXT.bytes().chain(TEXT.bytes()).map(token_of).collect();
    let list = tokens.iter().map(u32::to_string).collect::<Vec<_>>().join(",");

    let file = lathe_run("logits", model.path(), &["--ids", &list, "-o", "-"]).stdout;
    let read = SafeTensors::deserialize(&file).unwrap();
    let expected = all_logits(&model, &tokens).concat();
    let found = read.tensor("logits").unwrap().data().as_chunks().0;
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((f32::from_le_bytes(*found) - expected).abs() < 1e-4);
    }

    let text = model.path().join("text.txt");
    fs::write(&text, TEXT.repeat(2)).unwrap();
    let result = json("perplexity", model.path(), &["--text", text.to_str().unwrap(), "--window", "152"]);
    let (found, expected) = (result["perplexity"].as_f64().unwrap(), (loss(&model, &tokens) / 151.0).exp());
    assert!((found / expected - 1.0).abs() < 1e-5, "{found}, expected {expected}");
}

/// The token of a byte in the small tokenizer.
fn token_of(byte: u8) -> u32 {
    match byte {
        b'a'..=b'z' => u32::from(byte - b'a') + 2,
        b' ' => 28,
        b'.' => 34,
        b',' => 35,
        _ => panic!("{byte}"),
    }
}

#[test]
fn perplexity_says_when_the_text_is_short() {
    let model = model_with_tokenizer();
    let text = model.path().join("text.txt");
    fs::write(&text, TEXT).unwrap();
    let path = text.to_str().unwrap();
    let output = lathe_run("perplexity", model.path(), &["--text", path, "--window", "30", "--json"]);
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["tokens"], 58);
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "note: the text has 76 tokens: 2 windows instead of 64\n");
    let (code, message) = failure("perplexity", model.path(), &["--text", path, "--window", "77"]);
    assert_eq!((code, message.as_str()), (1, "error: the text has 76 tokens, a window needs 77\n"));
}

#[test]
fn logits_are_written_whole() {
    let model = small_model();
    let tokens = tokens(20);
    let list = tokens.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let path = model.path().join("logits.safetensors");
    stdout("logits", model.path(), &["--ids", &list, "-o", path.to_str().unwrap()]);
    let file = fs::read(&path).unwrap();
    let read = SafeTensors::deserialize(&file).unwrap();
    let view = read.tensor("logits").unwrap();
    assert_eq!((view.dtype(), view.shape()), (safetensors::Dtype::F32, &[20, 37][..]));
    let expected: Vec<u8> = all_logits(&model, &tokens).concat().iter().flat_map(|logit| logit.to_le_bytes()).collect();
    assert_eq!(view.data(), expected);
    let output = lathe_run("logits", model.path(), &["--ids", &list, "-o", "-"]);
    assert_eq!(output.stdout, file);

    let (code, message) = failure("logits", model.path(), &["--ids", "1,37", "-o", path.to_str().unwrap()]);
    assert_eq!((code, message.as_str()), (1, "error: token 37 at index 1 is not below the vocabulary's 37\n"));
    assert_eq!(fs::read(&path).unwrap(), file);
    let names = fs::read_dir(model.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(names.into_iter().all(|name| !name.contains(".part")));
}

#[test]
fn bench_measures() {
    let model = small_model();
    let result = json("bench", model.path(), &["--prompt-tokens", "20", "--new-tokens", "10"]);
    for key in ["prefill_tok_s", "decode_tok_s", "load_s"] {
        assert!(result[key].as_f64().unwrap() > 0.0, "{key}");
    }
    assert_eq!(
        (&result["weights_bytes"], &result["threads"], &result["device"]),
        (&25_624.into(), &2.into(), &"cpu".into())
    );
    assert!(result["isa"].is_string() && result.as_object().unwrap().contains_key("peak_rss_bytes"));
    assert!(stdout("bench", model.path(), &["--prompt-tokens", "20", "--new-tokens", "10"]).contains("prefill"));
    let several = ["--prompt-tokens", "20", "--new-tokens", "10", "--prompts", "3"];
    let result = json("bench", model.path(), &several);
    let quartiles = &result["decode_tok_s_quartiles"];
    let decode = [&quartiles[0], &result["decode_tok_s"], &quartiles[1]].map(|rate| rate.as_f64().unwrap());
    assert!(decode.is_sorted() && result["prompts"] == 3 && result["session_bytes"].as_u64().unwrap() > 0, "{result}");
    assert!(stdout("bench", model.path(), &several).contains("quartiles"));
    let (code, message) = failure("bench", model.path(), &[]);
    assert_eq!((code, message.as_str()), (1, "error: 576 positions, but the model was made for 64\n"));
}

#[test]
fn whose_fault_it_is_shows_in_the_exit_code() {
    let model = small_model();
    let ids = ["--ids", "1", "--json"];
    let check = |model: &Path, args: &[&str], code: i32, expected: &str| {
        let (found, message) = failure("generate", model, args);
        assert!(found == code && message.contains(expected), "{found}: {message}");
    };
    check(&model.path().join("none"), &ids, 2, "error: cannot read ");
    check(&model.path().join("program.json"), &ids, 1, "expected a folder");
    check(model.path(), &["--ids", "1,99", "--json"], 1, "token 99 at index 1");
    check(model.path(), &[], 2, "required arguments were not provided");
    check(model.path(), &["--ids", "1", "--prompt", "a"], 2, "cannot be used with");
    check(model.path(), &["--ids", "1,x"], 2, "invalid value 'x'");
    check(model.path(), &["--ids", "1", "--temperature=-1"], 2, "temperature is -1, expected at least 0");
    check(model.path(), &["--prompt-file", "/nonexistent"], 2, "cannot read /nonexistent");
    check(model.path(), &["--ids", "1", "--device", "gpu"], 2, "unknown device `gpu`");
    check(model.path(), &["--ids", "1", "--device", "cuda"], 2, "there is no device cuda:0: ");

    if cfg!(unix) {
        let (code, message) = failure("logits", model.path(), &["--ids", "1", "-o", "/dev/null"]);
        assert!(code == 2 && message.contains("not a regular file"), "{message}");
    }

    let empty = tempfile::tempdir().unwrap();
    check(empty.path(), &ids, 1, "is not a compiled model");
    let program = fs::read_to_string(model.path().join("program.json")).unwrap();
    fs::write(model.path().join("program.json"), program.replacen("\"version\": 4", "\"version\": 5", 1)).unwrap();
    check(model.path(), &ids, 1, "program.json: program format version 5, this build reads version 4");
    fs::write(model.path().join("program.json"), &program).unwrap();
    fs::write(model.weight_file(), "short").unwrap();
    check(model.path(), &ids, 1, "weights-00001.safetensors: expected 8 bytes of header, found a file of 5 bytes");
}

#[test]
fn an_unknown_instruction_set_is_refused() {
    let model = small_model();
    let output = command("generate", model.path()).args(["--ids", "1"]).env("LATHE_ISA", "sse9").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("LATHE_ISA=sse9"));
    let output = command("bench", model.path())
        .args(["--prompt-tokens", "3", "--new-tokens", "3", "--json"])
        .env("LATHE_ISA", "scalar")
        .output()
        .unwrap();
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["isa"], "scalar");
}

#[test]
fn a_closed_pipe_is_success() {
    let model = model_with_tokenizer();
    let mut command = command("generate", model.path());
    command.args(["--prompt", "the dog", "--max-new-tokens", "50"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty());
}

#[test]
fn colour_is_as_asked_for() {
    let missing = Path::new("/nonexistent");
    let (_, message) = failure("generate", missing, &["--ids", "1", "--color", "always"]);
    assert!(message.starts_with("\x1b[1;31merror\x1b[0m: "));
    let (_, message) = failure("generate", missing, &["--ids", "1"]);
    assert!(message.starts_with("error: "));
}
