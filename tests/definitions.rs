//! Architectures are data: no Rust source knows one, and names and order in a definition mean nothing.

use std::collections::BTreeSet;
use std::path::Path;

use lathe_compiler::definition::{architectures, load};
use lathe_compiler::elaborate::lint;
use lathe_compiler::spec::{Entry, NoFiles, Place};
use lathe_grammar::ast::{DeclKind, Ignored, Model};
use lathe_grammar::span::Sources;

use crate::support::{self, files};

/// The models of a text.
fn models(name: &str, text: &str) -> Vec<Model> {
    let mut sources = Sources::new();
    let source = sources.add(name, text);
    let file = lathe_grammar::parse(&sources, source).file.expect("definitions parse");
    file.models().cloned().collect()
}

/// The shipped definitions.
fn shipped() -> Vec<Model> {
    lathe_specs::MODELS.iter().flat_map(|entry| models(entry.path, entry.text)).collect()
}

/// Every architecture that a shipped definition describes.
pub(crate) fn shipped_architectures() -> BTreeSet<String> {
    shipped().iter().flat_map(architectures).collect()
}

fn sources(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for path in files::list(folder) {
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Words that name an architecture and something else besides.
const ORDINARY: &[(&str, &str)] = &[("llama3", "a scaling of rotary frequencies is called so in config.json")];

/// Every name of a model or of an architecture: shipped, and described by the definitions beside the tests' checkpoints.
fn names_of_architectures() -> BTreeSet<String> {
    let mut names = shipped_architectures();
    names.extend(lathe_specs::MODELS.iter().map(|entry| entry.name.to_string()));
    names.extend(shipped().into_iter().map(|model| model.name.value));
    for (model, _) in crate::end_to_end::families() {
        let config = files::read_json(&model.join("config.json"));
        let listed = config["architectures"].as_array().into_iter().flatten().chain([&config["model_type"]]);
        names.extend(listed.filter_map(|name| name.as_str()).map(str::to_string));
        names.insert(support::name(&model).to_string());
    }
    // Variants of a family are called by what is special in them.
    let variants = ["default", "dynamic", "linear", "yarn", "longrope", "grouped", "parallel", "sequential"];
    let names = names.into_iter().map(|name| name.to_lowercase());
    names.filter(|name| !variants.contains(&name.as_str()) && ORDINARY.iter().all(|(word, _)| word != name)).collect()
}

#[test]
fn no_source_names_an_architecture() {
    let names = names_of_architectures();
    assert!(names.len() > 80, "{names:?}");
    let mut paths = Vec::new();
    for part in ["grammar", "kernels", "runtime", "compiler"] {
        let root = support::root().parent().expect("this package lies in the workspace");
        sources(&root.join(part).join("src"), &mut paths);
    }
    assert!(paths.len() > 50);
    let mut named = Vec::new();
    for path in paths {
        if support::name(&path) == "tests.rs" {
            continue;
        }
        // A program of that name has formats of its own.
        let text = files::read_text(&path).replace("llama.cpp", "");
        // What unit tests at the end of a file call their examples does not reach the binary, nor do comments.
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for (number, line) in code.lines().enumerate() {
            let line = line.split("//").next().unwrap_or_default().to_lowercase();
            let mut words = line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            if let Some(word) = words.find(|word| names.contains(*word)) {
                named.push(format!("{}:{} names {word}", path.display(), number + 1));
            }
        }
    }
    assert!(named.is_empty(), "{}", named.join("\n"));
}

/// What is found in a definition without a checkpoint: `LINE:COLUMN CODE MESSAGE`.
fn found_alone(name: &str, text: &str) -> Vec<String> {
    let mut sources = Sources::new();
    let entry = Entry { source: sources.add(name, text), place: Place::File(name.into()), name: None };
    let mut found = Vec::new();
    let models = load(&entry, true, &mut sources, &NoFiles, &mut found);
    assert!(found.is_empty(), "{name}: {found:?}");
    let shown = models.iter().flat_map(lint).map(|diagnostic| {
        let (line, column) = sources.line_column(diagnostic.labels[0].span);
        format!("{line}:{column} {} {}", diagnostic.code, diagnostic.message)
    });
    shown.collect()
}

#[test]
fn right_definitions_have_no_mistakes() {
    for entry in lathe_specs::MODELS.iter().chain([&lathe_specs::BOOKKEEPING]) {
        assert_eq!(found_alone(entry.path, entry.text), [""; 0], "{}", entry.path);
    }
    let valid = support::root().join("filetests/model/valid.lathe");
    assert_eq!(found_alone("valid.lathe", &files::read_text(&valid)), [""; 0]);
}

/// Keys of the config that a model says to change nothing.
fn ignored_keys(model: &Model) -> BTreeSet<&str> {
    let ignored = model.body.iter().filter_map(|decl| match &decl.kind {
        DeclKind::Ignore { what: Ignored::Config, names } => Some(names),
        _ => None,
    });
    ignored.flatten().map(|name| name.value.as_str()).collect()
}

#[test]
fn definitions_leave_bookkeeping_to_its_own() {
    let bookkeeping = models(lathe_specs::BOOKKEEPING.path, lathe_specs::BOOKKEEPING.text);
    let bookkeeping: BTreeSet<&str> = bookkeeping.iter().flat_map(ignored_keys).collect();
    assert!(bookkeeping.len() > 20, "{bookkeeping:?}");
    let mut definitions = shipped();
    let beside = crate::end_to_end::families().into_iter().filter_map(|(_, definition)| definition);
    definitions.extend(beside.flat_map(|path| models("model.lathe", &files::read_text(&path))));
    for model in definitions {
        let twice: Vec<_> = ignored_keys(&model).intersection(&bookkeeping).copied().collect();
        assert!(twice.is_empty(), "{} ignores {twice:?} once more", model.name.value);
    }
}

/// A definition with a bit of everything.
const WHOLE: &str = include_str!("definitions/whole.lathe");

/// A text of that definition, what it is replaced with, and what is then found.
const MISTAKES: &[(&str, &str, &str)] = &[
    ("silu(", "silo(", "42:41 M0001 nothing is called `silo` here"),
    ("linear(ffn", "liner(ffn", "26:50 M0001 `liner` is no kind of module"),
    (
        "module model.norm = rms_norm(d, eps:",
        "module model.norm = rms_norm(d, epz:",
        "29:37 M0007 rms_norm has no argument `epz`",
    ),
    ("scale:", "scael:", "39:36 M0007 attention has no argument `scael`"),
    (
        "v = split_heads(layer.self_attn.v_proj(h), hd)",
        "v = split_heads(h)",
        "38:17 M0007 split_heads needs the argument `head_dim`",
    ),
    ("rms_norm(d, eps:", "rms_norm(d, d, eps:", "20:62 M0007 rms_norm takes 1 arguments by place, found more"),
    ("linear(ffn,", "linear(fnn,", "26:57 M0001 nothing is called `fnn` here"),
    ("attention(q, k,", "attention(q, kk,", "39:30 M0001 nothing is called `kk` here"),
    ("layer.self_attn.o_proj", "layer.self_attn.oproj", "40:37 M0001 `model.layers.*.self_attn` has no module `oproj`"),
    ("in model.layers {", "in model.layer {", "34:28 M0001 `model` has no module `layer`"),
    ("tied_to: model.embed_tokens", "tied_to: model.embed_token", "30:64 M0001 `model` has no module `embed_token`"),
    ("let heads ", "let d = 1\n    let heads ", "9:9 M0006 `d` is defined twice"),
    ("module lm_head", "module model.norm, lm_head", "30:12 M0006 module `model.norm` is declared twice"),
    ("context", "context 1\n    context", "16:5 M0006 a model has one `context`, found two"),
    ("return lm_head(model.norm(x))", "x = lm_head(x)", "32:5 M0006 the graph ends without a `return`"),
    (
        "graph(tokens, positions)",
        "graph(tokens)",
        "32:5 M0007 expected `graph(tokens, positions)`, found `graph(tokens)`",
    ),
];

#[test]
fn each_mistake_is_found_without_a_checkpoint() {
    for (old, new, expected) in MISTAKES {
        assert_eq!(found_alone("changed.lathe", &WHOLE.replacen(old, new, 1)), [*expected]);
    }
    let (declarations, _) = WHOLE.split_once("    graph(").expect("it has a graph");
    let found = found_alone("changed.lathe", &format!("{declarations}}}\n"));
    assert_eq!(found, ["4:7 M0006 model `whole` has no graph"]);
}
