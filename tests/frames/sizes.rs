//! What rotations add to an artifact: next to nothing, also where a head shares its table.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use lathe_compiler::artifact::Folds;
use lathe_compiler::lower::Recipe;
use lathe_compiler::pack::evaluate::Evaluator;
use lathe_compiler::pack::{PackOptions, pack};
use lathe_runtime::program::{Op, Program, Rows};

use super::{models, prepared};
use crate::end_to_end::families;
use crate::support::command::{compile, lathe_run, succeed};
use crate::support::compiler::{Texts, open};
use crate::support::{self, files, name};

/// Bytes that the files of a rotated model may have beyond those of the same model without rotations.
const ROTATION_BYTES: usize = 4096;

fn int8(rotate: &str) -> String {
    format!(
        "lathe 1\n\nspec sized {{\n    rules {{\n        ** => int8(per: channel)\n    }}\n{rotate}    tied => share\n}}\n"
    )
}

/// Compiles a spec to `folder/NAME`; the bytes of each file.
fn sizes(text: &str, model: &Path, folder: &Path, name: &str) -> Vec<(String, usize)> {
    let (spec, out) = (folder.join(format!("{name}.lathe")), folder.join(name));
    fs::write(&spec, text).unwrap();
    succeed(&mut compile(spec.to_str().expect("temporary folders have names in UTF-8"), model, &out));
    files::contents(&out).into_iter().map(|(name, bytes)| (name, bytes.len())).collect()
}

#[test]
fn rotated_artifacts_are_as_small_as_others() {
    for model in models() {
        if prepared(&int8(""), &model).plan.ties.iter().all(|tie| !tie.shared) {
            continue;
        }
        let folder = tempfile::tempdir().unwrap();
        let plain = sizes(&int8(""), &model, folder.path(), "plain");
        let rotate = "    rotate {\n        residual by random_hadamard(seed: 7)\n    }\n";
        let rotated = sizes(&int8(rotate), &model, folder.path(), "rotated");
        let sum = |sizes: &[(String, usize)]| sizes.iter().map(|(_, bytes)| bytes).sum::<usize>();
        let grown = sum(&rotated) as i64 - sum(&plain) as i64;
        let files = plain.iter().zip(&rotated).filter(|(plain, rotated)| plain != rotated);
        let files = files.map(|(plain, rotated)| format!("{} {} -> {}", plain.0, plain.1, rotated.1));
        let files: Vec<String> = files.collect();
        support::measured(&format!("{}: {grown} bytes more: {}", name(&model), files.join(", ")));
        assert!(grown <= ROTATION_BYTES as i64, "{}: {grown} bytes more: {files:?}", name(&model));

        let out = folder.path().join("rotated");
        let program: Program = serde_json::from_str(&files::read_text(&out.join("program.json"))).unwrap();
        let at_head = program.steps.iter().filter(|step| {
            matches!(step.op, Op::Rotate { .. }) && program.buffers[step.op.out().index()].rows == Rows::Selected
        });
        assert_eq!(at_head.count(), 2, "{}", name(&model));
        succeed(lathe_run().arg("generate").arg(&out).args(["--ids", "5,9,700", "--max-new-tokens", "2"]));
    }
}

/// All sites of any model.
const ROTATED: &str = "lathe 1

spec rotated {
    rotate {
        residual by random_hadamard(seed: 7, block: 4)
        value by orthogonal(seed: 2)
        query_key by orthogonal(seed: 3)
        ffn_hidden by orthogonal(seed: 4) optional
    }
}
";

/// What a lock says of weights and frames is what was packed, for every kind of fold that a family has.
#[test]
fn locks_say_how_weights_were_made() {
    let shipped = models().into_iter().map(|model| (model, None));
    for (model, definition) in shipped.chain(families()) {
        let checkpoint = open(&model);
        let texts = Texts::spec("rotated.lathe", ROTATED);
        let texts = match &definition {
            Some(path) => texts.with_model(name(path), &files::read_text(path)),
            None => texts,
        };
        let prepared = texts.prepared(&checkpoint);
        let lowered = &prepared.lowered;
        let (folder, interrupted) = (tempfile::tempdir().unwrap(), AtomicBool::new(false));
        let evaluator = Evaluator {
            checkpoint: &checkpoint,
            reader: &prepared.reader,
            rotations: &lowered.rotations,
            flip: None,
            interrupted: None,
        };
        let options = PackOptions { memory: None, threads: 2, interrupted: &interrupted };
        let packed = pack(&lowered.recipes, &lowered.program.weights, evaluator, folder.path(), options).unwrap();
        let mut names: Vec<&str> = packed.sources.iter().map(|source| source.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), packed.sources.len(), "sources are listed once");

        let written: Vec<&str> = prepared.graph.rotations().iter().map(|rotation| rotation.name.as_str()).collect();
        let folds = Folds::new(lowered, &written, &packed.sources, &checkpoint).unwrap();
        let folds: Folds = serde_json::from_str(&serde_json::to_string(&folds).unwrap()).unwrap();
        let recipes = folds.recipes(&lowered.program.weights, &packed.sources, &checkpoint).unwrap();
        for (recipe, read) in lowered.recipes.iter().zip(recipes) {
            let read = read.expect("no matrix is a weight");
            assert_eq!(*recipe, Recipe { encoding: recipe.encoding, ..read });
        }
        let frames = folds.frames(lowered.program.buffers.len(), &packed.sources, &checkpoint).unwrap();
        assert_eq!(frames, lowered.frames, "{}", model.display());
        assert_eq!(folds.rotations(|_| None).unwrap(), lowered.rotations);
        assert!(folds.recipes(&lowered.program.weights[1..], &packed.sources, &checkpoint).is_err());
        assert!(folds.frames(frames.len() + 1, &packed.sources, &checkpoint).is_err());
    }
}
