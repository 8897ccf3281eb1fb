//! Names and order mean nothing: a definition with every module, variable and tensor renamed and its declarations
//! shuffled gives the plan, the edges and the logits that it gave before.

use std::fs;
use std::path::Path;

use lathe_compiler::compile::Prepared;
use lathe_compiler::definition;
use lathe_compiler::spec::{Entry, NoFiles, Place, SITES, Site};
use lathe_compiler::{elaborate, ir, sites};
use lathe_grammar::ast::{DeclKind, File, Item, ItemKind, Model};
use lathe_grammar::pattern::Pattern;
use lathe_grammar::print;
use lathe_grammar::span::{Sources, Span, Spanned};
use lathe_runtime::program::Program;

use crate::end_to_end::{families, trained};
use crate::support::compiler::{Texts, open};
use crate::support::files;
use crate::support::forge::Forge;
use crate::support::reference::{Artifact, Reference};
use crate::support::rename::Renamer;

/// Formats by kind, as no name is there to go by, and rotations of every width.
const SPEC: &str = "\
lathe 1
spec by_kind {
    rules {
        :linear => f16
        :embedding => f32
        :head => f32
        :router => f32 optional
    }
    rotate {
        residual by orthogonal(seed: 1)
        value by orthogonal(seed: 2)
        query_key by orthogonal(seed: 3)
        ffn_hidden by orthogonal(seed: 4) optional
    }
}
";

/// The definition of a checkpoint as one model that extends nothing.
fn definition_of(model: &Path, file: Option<&Path>) -> (Model, Spanned<u32>) {
    let entry = match file {
        Some(path) => (path.display().to_string(), files::read_text(path), Place::File(path.into())),
        None => {
            let config = files::read_json(&model.join("config.json"));
            let architecture = config["architectures"][0].as_str().expect("checkpoints name their architecture");
            let lists = |entry: &&lathe_specs::Entry| entry.text.contains(&format!("\"{architecture}\""));
            let entry = lathe_specs::MODELS.iter().find(lists).unwrap_or_else(|| panic!("{}", model.display()));
            (entry.path.to_string(), entry.text.to_string(), Place::Library(entry.path.to_owned()))
        }
    };
    let (name, text, place) = entry;
    let mut sources = Sources::new();
    let source = sources.add(name, text);
    let mut diagnostics = Vec::new();
    let entry = Entry { source, place, name: None };
    let model = definition::load(&entry, false, &mut sources, &NoFiles, &mut diagnostics).pop();
    let version = lathe_grammar::parse(&sources, source).file.expect("definitions of the tests parse").version;
    let model = model.unwrap_or_else(|| panic!("{diagnostics:?}"));
    (without_unused(model, &version), version)
}

/// The model without what it has of a base and does not use, which would be a mistake of its own text.
fn without_unused(mut model: Model, version: &Spanned<u32>) -> Model {
    loop {
        let text = text_of(model.clone(), version.clone());
        let mut sources = Sources::new();
        let source = sources.add("joined.lathe", text.clone());
        let file = lathe_grammar::parse(&sources, source).file.expect("printed definitions parse");
        let mistakes = file.models().flat_map(elaborate::lint);
        let spans = mistakes.filter(|mistake| mistake.code == "M0010").map(|mistake| mistake.labels[0].span);
        let unused: Vec<&str> = spans.map(|span| &text[span.start as usize..span.end as usize]).collect();
        if unused.is_empty() {
            return model;
        }
        model.body.retain(|decl| match &decl.kind {
            DeclKind::Let { name, .. } | DeclKind::Block { name, .. } => !unused.contains(&name.value.as_str()),
            _ => true,
        });
    }
}

fn text_of(model: Model, version: Spanned<u32>) -> String {
    let span: Span = version.span;
    print(&File { version, items: vec![Item { kind: ItemKind::Model(model), span }] })
}

/// All tensors of a checkpoint in one file.
fn tensors_of(model: &Path) -> Forge {
    let is_weights = |path: &&std::path::PathBuf| {
        crate::support::name(path).starts_with("model") && path.extension().is_some_and(|end| end == "safetensors")
    };
    let mut all = Forge::default();
    for path in files::list(model).iter().filter(is_weights) {
        let file = Forge::open(path);
        for entry in &file.entries {
            let bytes = &file.data[entry.offsets.0 as usize..entry.offsets.1 as usize];
            all.push(&entry.name, entry.dtype, &entry.shape, bytes);
        }
    }
    all
}

/// Everything that a compilation decides, in the names that `name` gives, sorted.
fn decided(prepared: &Prepared, name: impl Fn(&str) -> String) -> Vec<String> {
    let Prepared { model, plan, .. } = prepared;
    let mut lines = Vec::new();
    for (module, decision) in model.modules.iter().zip(&plan.decisions) {
        let params = module.params.iter().map(|param| {
            let ir::Param { name: param, shape, .. } = &model.graph.params()[param.index()];
            format!("{} {shape:?}", name(param))
        });
        let params: Vec<String> = params.collect();
        let (format, input) = (decision.format.format, decision.input.format);
        lines.push(format!("{} {} {params:?} {format} {input}", name(&module.path), module.kind.name()));
    }
    for tie in &plan.ties {
        let param = |id: ir::ParamId| name(&model.graph.params()[id.index()].name);
        let (head, table) = (param(tie.candidate.head), param(tie.candidate.table));
        lines.push(format!("tie {head} {table} {:?} {} {}", tie.candidate.claimed, tie.finding, tie.shared));
    }
    let everything = Pattern::parse("**").expect("it is a pattern");
    for kind in SITES {
        let within = (kind.site == Site::Input).then_some(&everything);
        for edge in sites::find(model, kind.site) {
            let reader = edge.reader.map_or_else(String::new, |module| format!(" into {}", name(&module.path)));
            lines.push(format!("{} {}{reader}", kind.name, name(edge.label)));
        }
        lines.push(format!("{} {}", kind.name, sites::edges(model, kind.site, within).len()));
    }
    for online in &plan.frames.online {
        lines.push(format!("{} {:?} {}", name(&online.label), online.does, online.width));
    }
    lines.sort_unstable();
    lines
}

/// The program, in the names that `name` gives.
fn program(prepared: &Prepared, name: impl Fn(&str) -> String) -> Program {
    let mut program = prepared.lowered.program.clone();
    program.weights.iter_mut().for_each(|weight| weight.name = name(&weight.name));
    program.steps.iter_mut().for_each(|step| step.label = name(&step.label));
    program
}

/// Compares a checkpoint with itself under other names, for each of these seeds.
fn check(model: &Path, file: Option<&Path>, seeds: &[u64]) {
    let shown = model.display();
    let (definition, version) = definition_of(model, file);
    let tensors = tensors_of(model);
    let tokens = Reference::open(model).tokens("prompt0.input_ids");
    let folder = tempfile::tempdir().unwrap();
    let spec = folder.path().join("by_kind.lathe");
    fs::write(&spec, SPEC).unwrap();

    let plain =
        Texts::spec("by_kind.lathe", SPEC).with_model("plain.lathe", &text_of(definition.clone(), version.clone()));
    let expected = plain.prepared(&open(model));
    let same = |name: &str| name.to_string();
    let logits = Artifact::compile_with(&spec, model, file).logits(&tokens);
    for &seed in seeds {
        let renamer = Renamer::new(seed);
        let text = text_of(renamer.model(definition.clone()), version.clone());
        let renamed = folder.path().join(seed.to_string());
        fs::create_dir(&renamed).unwrap();
        fs::copy(model.join("config.json"), renamed.join("config.json")).unwrap();
        renamer.tensors(&tensors).write(&renamed.join("model.safetensors"));
        let definition = folder.path().join(format!("{seed}.lathe"));
        fs::write(&definition, &text).unwrap();

        let found = Texts::spec("by_kind.lathe", SPEC).with_model("renamed.lathe", &text).prepared(&open(&renamed));
        assert_eq!(decided(&found, |name| renamer.original(name)), decided(&expected, same), "{shown}, seed {seed}");
        let (found, expected) = (program(&found, |name| renamer.original(name)), program(&expected, same));
        assert!(found == expected, "{shown}, seed {seed}:\n{found:#?}\nexpected\n{expected:#?}");
        let found = Artifact::compile_with(&spec, &renamed, Some(&definition)).logits(&tokens);
        let bits = |logits: &[f32]| logits.iter().map(|logit| logit.to_bits()).collect::<Vec<_>>();
        assert!(bits(&found) == bits(&logits), "{shown}, seed {seed}: other logits");
    }
}

#[test]
fn names_and_order_mean_nothing_to_trained_models() {
    for model in trained() {
        check(&model, None, &[1, 2]);
    }
}

#[test]
fn names_and_order_mean_nothing_to_families() {
    for (model, file) in families() {
        check(&model, file.as_deref(), &[1, 2, 3]);
    }
}
