//! Tests that are files: a text for one stage of the compiler, and beside it what that stage is expected to say.
//!
//! The first line of a file names its stage. `LATHE_BLESS=1` writes what was found into the files, to be reviewed.
//!
//! - `verify/*.ir`: a graph; `// error:` lines at the top say which invariants it breaks.
//! - `passes/*.ir`: a graph, `// ----`, the graph after a pass; `// edit:` lines say what the pass did, `// tie:` lines
//!   what the plan says of heads and tables.
//! - `model/*.lathe`: a definition. `// config:` is its config.json, `// tensors:` the checkpoint's tensors and shapes.
//! - `spec/*`: a spec, resolved on `models/micro-llama`.
//!
//! In the last two, lines below a line of text point at what is wrong in it: `^^^ error[M0005]: …` at the place at fault,
//! `--- …` at places that explain it. What has no place in the text stands at the top.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use lathe_compiler::elaborate::TieCandidate;
use lathe_compiler::ir::{self, Invariant, Op, ParamId};
use lathe_compiler::passes::{Options, PIPELINE, run_passes};
use lathe_compiler::plan::{Finding, Plan, Tie};
use lathe_grammar::diag::{Diagnostic, Severity};
use lathe_grammar::span::{SourceId, Sources, Span};
use serde_json::Value;

use crate::support::compiler::{Texts, diagnostics, open};
use crate::support::forge::Forge;
use crate::support::{self, files, llama};

/// Compares every file of a folder with what `found` makes of it.
fn check(folder: &str, found: impl Fn(&Path, &str) -> String) {
    let paths: Vec<PathBuf> = files::list(&support::root().join("filetests").join(folder));
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
    let prefix = format!("// {key}: ");
    text.lines().take_while(|line| line.starts_with("//")).filter_map(move |line| line.strip_prefix(prefix.as_str()))
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
    for invariant in 2..=Invariant::Numbers as u8 {
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

#[test]
fn passes() {
    check("passes", |path, text| {
        let name = stage(path, text).strip_prefix("pass ").unwrap_or_else(|| panic!("{}: no pass", path.display()));
        let index = PIPELINE.iter().position(|pass| pass.name == name).unwrap_or_else(|| panic!("no pass {name}"));
        let pass = &PIPELINE[index..=index];
        let ties = head(text, "tie").map(tie).collect();
        let plan = Plan { ties, ..Plan::keep("test", 0) };
        let (mut head, body) = split_head(text, "edit");
        let input = text_of(body.iter().take_while(|line| **line != SEPARATOR));
        let mut graph = ir::read(&input).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
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

#[test]
fn printed_graphs_read_back() {
    for model in ["micro-llama", "tiny-qwen3"] {
        let prepared = Texts::library("keep").prepared(&open(&support::model(model)));
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

/// The text without the lines that point at mistakes.
fn without_marks(text: &str, comment: &str) -> String {
    let is_mark = |line: &&str| {
        let Some(mark) = line.trim_start().strip_prefix(comment) else { return false };
        let mark = mark.trim_start();
        ["^", "---", "error[", "warning[", "note: ", "help: "].iter().any(|start| mark.starts_with(start))
    };
    text_of(text.lines().filter(|line| !is_mark(line)))
}

/// Writes below each line what is wrong in it.
fn with_marks(sources: &Sources, source: SourceId, comment: &str, found: &[Diagnostic], folder: &Path) -> String {
    let lines: Vec<&str> = sources.get(source).text.lines().collect();
    // By line, from 1; at 0 what has no place in this text.
    let mut marks: Vec<Vec<String>> = vec![Vec::new(); lines.len() + 1];
    let at = |column: usize, text: &str| format!("{comment}{:width$}{text}", "", width = column - comment.len());
    for diagnostic in found {
        let severity = match diagnostic.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let title = format!("{severity}[{}]: {}", diagnostic.code, diagnostic.message);
        let mut labels = diagnostic.labels.iter().peekable();
        let (line, column) = match labels.next_if(|label| label.span.source == source) {
            Some(label) => {
                let (line, column, width) = place(sources, label.span);
                let label = if label.message.is_empty() { String::new() } else { format!(" ({})", label.message) };
                marks[line].push(at(column, &format!("{} {title}{label}", "^".repeat(width))));
                (line, column)
            }
            None => {
                marks[0].push(format!("{comment} {title}"));
                (0, comment.len() + 1)
            }
        };
        for label in labels {
            if label.span.source == source {
                let (line, column, width) = place(sources, label.span);
                marks[line].push(at(column, &format!("{} {}", "-".repeat(width.max(3)), label.message)));
            } else {
                let file = &sources.get(label.span.source).name;
                marks[line].push(at(column, &format!("note: in {file}: {}", label.message)));
            }
        }
        marks[line].extend(diagnostic.notes.iter().map(|note| at(column, &format!("note: {note}"))));
        marks[line].extend(diagnostic.help.iter().map(|help| at(column, &format!("help: {help}"))));
    }
    let head = lines.iter().take_while(|line| line.starts_with(comment)).count();
    let mut out: Vec<&str> = Vec::new();
    for (index, line) in lines.into_iter().enumerate() {
        if index == head {
            out.extend(marks[0].iter().map(String::as_str));
        }
        out.push(line);
        out.extend(marks[index + 1].iter().map(String::as_str));
    }
    text_of(out).replace(folder.to_str().expect("paths of the tests are UTF-8"), "[checkpoint]")
}

/// Line (from 1), column (from 0) and width of the part of a span on its first line. A span at the very start of a line
/// moves aside for the sign of the comment.
fn place(sources: &Sources, span: Span) -> (usize, usize, usize) {
    let (line, column) = sources.line_column(span);
    let covered = &sources.get(span.source).text[span.range()];
    let width = covered.lines().next().unwrap_or_default().chars().count().max(1);
    (line, column.max(4) - 1, width)
}

#[test]
fn model() {
    check("model", |path, text| {
        assert_eq!(stage(path, text), "model");
        let parse = |key: &str| -> Value {
            let text = head(text, key).next().unwrap_or("{}");
            serde_json::from_str(text).unwrap_or_else(|error| panic!("{}: {key}: {error}", path.display()))
        };
        let mut tensors = Forge::default();
        for (name, shape) in parse("tensors").as_object().expect("tensors are an object") {
            let shape: Vec<u64> = shape.as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
            tensors.push(name, "BF16", &shape, &vec![0; 2 * shape.iter().product::<u64>() as usize]);
        }
        let folder = tempfile::tempdir().unwrap();
        llama::write(folder.path(), &parse("config"), &tensors);
        let plain = without_marks(text, "//");
        let mut texts = Texts::library("keep").with_model(support::name(path), &plain);
        let found = match texts.prepare(&open(folder.path())) {
            Ok(prepared) => prepared.warnings,
            Err(error) => diagnostics(error),
        };
        with_marks(&texts.sources, SourceId(1), "//", &found, folder.path())
    });
}

#[test]
fn spec() {
    check("spec", |path, text| {
        let comment = if path.extension().is_some_and(|extension| extension == "yaml") { "#" } else { "//" };
        let plain = without_marks(text, comment);
        let mut texts = Texts::spec(support::name(path), &plain);
        let checkpoint = support::model("micro-llama");
        let found = match texts.prepare(&open(&checkpoint)) {
            Ok(prepared) => prepared.warnings,
            Err(error) => diagnostics(error),
        };
        with_marks(&texts.sources, SourceId(0), comment, &found, &checkpoint)
    });
}
