//! Tests that are files: a text for one stage of the compiler, and beside it what that stage is expected to say.
//!
//! The first line of a graph or a definition names its stage. `LATHE_BLESS=1` writes what was found into the files, to be reviewed.
//!
//! - `verify/*.ir`: a graph; `// error:` lines at the top say which invariants it breaks.
//! - `passes/*.ir`: a graph, `// ----`, the graph after a pass; `// edit:` lines say what the pass did, `// tie:` lines
//!   what the plan says of heads and tables.
//! - `model/*.lathe`: a definition. `// config:` is its config.json, `// tensors:` the checkpoint's tensors and shapes.
//! - `lint/*.lathe`: a definition that is checked without a checkpoint.
//! - `diag/*`: a spec, mostly a wrong one; see [`diag`].
//!
//! In the last three, lines below a line of text point at what is wrong in it: `^^^ error[M0005]: …` at the place at fault,
//! `--- …` at places that explain it. What has no place in the text stands at the top.

mod diag;
mod marks;
mod pairs;

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use lathe_compiler::definition;
use lathe_compiler::elaborate::{TieCandidate, lint};
use lathe_compiler::frames::{self, Frames, Request};
use lathe_compiler::ir::{self, Invariant, NodeId, Op, ParamId};
use lathe_compiler::passes::{Options, PIPELINE, run_passes};
use lathe_compiler::plan::{Finding, Plan, Tie};
use lathe_compiler::reference::TOPICS;
use lathe_compiler::spec::{Entry, NoFiles, Place, Site, TableBasis, Turn};
use lathe_grammar::span::{SourceId, Sources, Span};
use lathe_runtime::program::InputFormat;
use serde_json::Value;
use tempfile::TempDir;

use self::marks::{Comment, with_marks, without_marks};
use crate::end_to_end::families;
use crate::support::compiler::{Texts, diagnostics, open};
use crate::support::forge::Forge;
use crate::support::{self, files, llama};

/// Compares every file of a folder with what `found` makes of it.
fn check(folder: &str, found: impl Fn(&Path, &str) -> String) {
    let mut paths: Vec<PathBuf> = files::list(&support::root().join("filetests").join(folder));
    paths.retain(|path| path.is_file());
    assert!(!paths.is_empty());
    let mut failures = Vec::new();
    for path in paths {
        let text = files::read_text(&path);
        let found = found(&path, &text);
        if found == text {
            continue;
        }
        if env::var_os("LATHE_BLESS").is_some() {
            fs::write(&path, found).expect("file tests can be written");
        } else {
            failures.push(format!("{}\nexpected:\n{text}\nfound:\n{found}", path.display()));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// What a line at the top of the file says after `// KEY: `.
fn head<'t>(text: &'t str, key: &str) -> impl Iterator<Item = &'t str> {
    head_in(text, Comment::Slashes, key)
}

/// What a comment at the top of the file says after `KEY: `.
fn head_in<'t>(text: &'t str, comment: Comment, key: &str) -> impl Iterator<Item = &'t str> {
    let prefix = format!("{} {key}: ", comment.sign());
    let is_comment = move |line: &&str| line.starts_with(comment.sign());
    text.lines().take_while(is_comment).filter_map(move |line| line.strip_prefix(prefix.as_str()))
}

#[track_caller]
fn stage<'t>(path: &Path, text: &'t str) -> &'t str {
    head(text, "stage").next().unwrap_or_else(|| panic!("{}: expected `// stage: …` first", path.display()))
}

/// Lines as a text.
fn text_of(lines: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    lines.into_iter().fold(String::new(), |text, line| text + line.as_ref() + "\n")
}

/// The comments at the top without those that the test itself writes, and the rest.
fn split_head<'t>(text: &'t str, written: &str) -> (Vec<String>, Vec<&'t str>) {
    let written = format!("// {written}: ");
    let is_head = |line: &&str| line.starts_with("//") && *line != SEPARATOR;
    let head = text.lines().take_while(is_head).filter(|line| !line.starts_with(&written)).map(str::to_string);
    (head.collect(), text.lines().skip_while(is_head).collect())
}

const SEPARATOR: &str = "// ----";

#[test]
fn verify() {
    check("verify", |path, text| {
        assert_eq!(stage(path, text), "verify");
        let (mut head, graph) = split_head(text, "error");
        let graph = text_of(graph);
        let read = ir::read(&graph).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let violations = ir::verify(&read).err().unwrap_or_default();
        head.extend(violations.iter().map(|violation| format!("// error: {violation}")));
        text_of(head) + &graph
    });
    let texts: Vec<String> =
        files::list(&support::root().join("filetests/verify")).iter().map(|path| files::read_text(path)).collect();
    // No text can break the first: the slots of an operand are the order that it is written in.
    for invariant in 2..=Invariant::Frames as u8 {
        let error = format!("// error: invariant {invariant} ");
        assert!(texts.iter().any(|text| text.contains(&error)), "no test breaks invariant {invariant}");
    }
}

/// `p1 = p0 equal`: the head, its table, and what was found of them.
fn tie(text: &str) -> Tie {
    let parts: Vec<&str> = text.split_whitespace().collect();
    let [head, "=", table, finding] = parts[..] else { panic!("expected `// tie: pN = pN FINDING`, found {text}") };
    let param = |text: &str| ParamId(text.strip_prefix('p').and_then(|id| id.parse().ok()).expect("a parameter"));
    let span = Span::new(SourceId(0), 0..0);
    let candidate = TieCandidate { head: param(head), table: param(table), claimed: None, span };
    let finding = match finding {
        "not_stored" => Finding::NotStored,
        "equal" => Finding::Equal,
        "different" => Finding::Different,
        other => panic!("expected not_stored, equal or different, found {other}"),
    };
    Tie { candidate, finding, shared: finding != Finding::Different }
}

/// `%5 %9 by random_hadamard(seed: 7)`: nodes, and what their results are rotated by.
fn rotation(text: &str) -> (Vec<NodeId>, Turn) {
    let (nodes, by) = text.split_once(" by ").expect("expected `%N … by ROTATION`");
    let node = |text: &str| NodeId(text.strip_prefix('%').and_then(|id| id.parse().ok()).expect("a node"));
    let none = Turn { kind: "hadamard", block: None, seed: None, file: None, path: None, key: None, alpha: None };
    let turn = match by {
        "hadamard" => none,
        "random_hadamard(seed: 7)" => Turn { kind: "random_hadamard", seed: Some(7), ..none },
        "hadamard(block: 4)" => Turn { block: Some(4), ..none },
        "smooth" => Turn { kind: "smooth", ..none },
        other => panic!("no file test rotates by {other}"),
    };
    (nodes.split_whitespace().map(node).collect(), turn)
}

/// Parameters whose products round their x to int8, as `p1 p2`.
fn inputs(count: usize, rounded: &[&str]) -> Vec<Option<InputFormat>> {
    let mut inputs = vec![None; count];
    for param in rounded {
        let index: usize = param.strip_prefix('p').and_then(|index| index.parse().ok()).expect("a parameter");
        inputs[index] = Some(InputFormat::Int8PerToken);
    }
    inputs
}

/// The frames that these requests come to.
fn frames_of(graph: &ir::Graph, rotations: &[(Vec<NodeId>, Turn)]) -> Frames {
    let span = Span::new(SourceId(0), 0..0);
    let requests =
        rotations.iter().map(|(edges, turn)| Request { site: Site::Input, edges, turn, offline: false, span });
    let requests: Vec<Request<'_>> = requests.collect();
    let (table_of, table_basis) = (|param: ParamId| param, TableBasis::Rotated);
    let input = frames::Input { graph, requests: &requests, table_of: &table_of, table_basis };
    let mut diagnostics = Vec::new();
    let frames = frames::infer(&input, &mut diagnostics);
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    frames
}

#[test]
fn passes() {
    check("passes", |path, text| {
        let name = stage(path, text).strip_prefix("pass ").unwrap_or_else(|| panic!("{}: no pass", path.display()));
        let index = PIPELINE.iter().position(|pass| pass.name == name).unwrap_or_else(|| panic!("no pass {name}"));
        let pass = &PIPELINE[index..=index];
        let ties = head(text, "tie").map(tie).collect();
        let mut plan = Plan { ties, ..Plan::keep("test", 0) };
        let rotations: Vec<(Vec<NodeId>, Turn)> = head(text, "rotate").map(rotation).collect();
        let rounded: Vec<&str> = head(text, "input").flat_map(str::split_whitespace).collect();
        let (mut head, body) = split_head(text, "edit");
        let input = text_of(body.iter().take_while(|line| **line != SEPARATOR));
        let mut graph = ir::read(&input).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        plan.inputs = inputs(graph.params().len(), &rounded);
        plan.frames = frames_of(&graph, &rotations);
        let mut run = || {
            let log = run_passes(pass, &mut graph, &plan, &Options::default());
            (log.unwrap_or_else(|error| panic!("{}: {error}", path.display())).edits, graph.to_string())
        };
        let (edits, output) = run();
        assert_eq!(run(), (Vec::new(), output.clone()), "{}: a second run changes the graph", path.display());
        head.extend(edits.iter().map(|edit| format!("// edit: {edit}")));
        format!("{}{input}{SEPARATOR}\n{output}", text_of(head))
    });
    let tested: Vec<PathBuf> = files::list(&support::root().join("filetests/passes"));
    for pass in PIPELINE {
        let stage = format!("// stage: pass {}\n", pass.name);
        assert!(tested.iter().any(|path| files::read_text(path).starts_with(&stage)), "no test of {}", pass.name);
    }
}

/// What is printed of a graph with every operation is what was read.
#[test]
fn graphs_of_every_operation_are_printed_as_they_are_written() {
    let text = files::read_text(&support::root().join("filetests/verify/valid.ir"));
    let (_, graph) = split_head(&text, "error");
    let text = text_of(graph);
    let graph = ir::read(&text).unwrap_or_else(|error| panic!("{error}"));
    graph.to_string().lines().zip(text.lines()).for_each(|(found, expected)| assert_eq!(found, expected));
    assert_eq!(graph.to_string().len(), text.len());
    let printed: BTreeSet<&str> = graph.nodes().map(|(_, node)| node.op.name()).collect();
    let listed = TOPICS.iter().find(|topic| topic.name == "ops").expect("operations are listed");
    for row in (listed.table)().rows {
        assert!(printed.contains(row[0].as_str()), "no {} in it", row[0]);
    }
}

#[test]
fn printed_graphs_read_back() {
    let shipped = ["micro-llama", "tiny-qwen3"].map(|model| (support::model(model), None));
    for (model, definition) in shipped.into_iter().chain(families()) {
        let prepared = Texts::keep(definition.as_deref()).prepared(&open(&model));
        for graph in [&prepared.model.graph, &prepared.graph] {
            let text = graph.to_string();
            let read = ir::read(&text).unwrap();
            ir::verify(&read).unwrap();
            // Ids are given anew, in the order of the text.
            assert_eq!(read.len(), graph.len());
            assert_eq!(ir::read(&read.to_string()).unwrap().to_string(), read.to_string());
            let ops = |graph: &ir::Graph| -> Vec<Op> {
                let order = graph.topological().unwrap();
                order.into_iter().map(|id| graph.node(id).op.clone()).collect()
            };
            let (mut expected, mut found) = (ops(graph), ops(&read));
            expected.sort_by_key(|op| format!("{op:?}"));
            found.sort_by_key(|op| format!("{op:?}"));
            assert_eq!(found, expected);
        }
    }
}

/// A checkpoint as the comments `config` and `tensors` describe it; its weights are zeros.
fn synthetic_checkpoint(path: &Path, text: &str, comment: Comment) -> TempDir {
    let parse = |key: &str| -> Value {
        let text = head_in(text, comment, key).next().unwrap_or("{}");
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{}: {key}: {error}", path.display()))
    };
    let mut tensors = Forge::default();
    for (name, shape) in parse("tensors").as_object().expect("tensors are an object") {
        let shape: Vec<u64> = shape.as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
        tensors.push(name, "BF16", &shape, &vec![0; 2 * shape.iter().product::<u64>() as usize]);
    }
    let folder = tempfile::tempdir().unwrap();
    llama::write(folder.path(), &parse("config"), &tensors);
    folder
}

#[test]
fn model() {
    check("model", |path, text| {
        assert_eq!(stage(path, text), "model");
        let folder = synthetic_checkpoint(path, text, Comment::Slashes);
        let plain = without_marks(text, Comment::Slashes);
        let mut texts = Texts::library("keep").with_model(support::name(path), &plain);
        let found = match texts.prepare(&open(folder.path())) {
            Ok(prepared) => prepared.warnings,
            Err(error) => diagnostics(error),
        };
        with_marks(&texts.sources, SourceId(1), Comment::Slashes, &found, folder.path())
    });
}

#[test]
fn definitions_alone() {
    check("lint", |path, text| {
        assert_eq!(stage(path, text), "lint");
        let mut sources = Sources::new();
        let source = sources.add(support::name(path), without_marks(text, Comment::Slashes));
        let entry = Entry { source, place: Place::File(support::name(path).into()), name: None };
        let mut found = Vec::new();
        let models = definition::load(&entry, true, &mut sources, &NoFiles, &mut found);
        found.extend(models.iter().flat_map(lint));
        with_marks(&sources, source, Comment::Slashes, &found, path)
    });
}
