//! `lathe check`

use std::path::PathBuf;

use lathe_grammar::ast::File;
use lathe_grammar::diag::Diagnostic;
use lathe_grammar::span::Sources;

use super::render::Messages;
use super::subject::{Subject, open_checkpoint};
use super::texts::{Disk, load_entry};
use super::{Failure, bytes};
use crate::compile::{Planned, define, load_specs, plan};
use crate::plan::ReportedPlan;
use crate::spec::Entry;

/// Check a spec, alone or against a checkpoint, of which only headers are read.
///
/// A file of model definitions can be checked as well; against a checkpoint, as with --model-def.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Spec: a file, FILE#NAME, or the name of a shipped one (`lathe list specs`).
    spec: String,
    /// Checkpoint: a folder with config.json and safetensors files.
    checkpoint: Option<PathBuf>,
    #[command(flatten)]
    subject: Subject,
}

pub(super) fn run(arguments: &Arguments, messages: Messages) -> Result<(), Failure> {
    let mut sources = Sources::new();
    let entry = load_entry(&arguments.spec, &mut sources)?;
    let definition = arguments.subject.definition(&mut sources)?;
    let parsed = lathe_grammar::parse(&sources, entry.source);
    let count = |items: fn(&File) -> usize| parsed.file.as_ref().map_or(0, items);
    let (specs, models) = (count(|file| file.specs().count()), count(|file| file.models().count()));
    let is_definition = specs == 0 && models > 0 && entry.name.is_none();
    let mut diagnostics: Vec<Diagnostic> = Vec::new();
    let mut facts: Vec<String> = Vec::new();
    match &arguments.checkpoint {
        None if is_definition => diagnostics = parsed.diagnostics,
        None => {
            let overrides = arguments.subject.overrides();
            let checked = load_specs(&entry, true, overrides, &Disk, &mut sources, &mut diagnostics);
            diagnostics.extend(checked.into_iter().flat_map(|spec| spec.unbuilt));
        }
        Some(folder) => {
            let checkpoint = open_checkpoint(folder, &mut sources)?;
            if is_definition {
                let definition = Some(entry.source);
                let strict = arguments.subject.is_strict();
                if let Some(model) = define(definition, &checkpoint, strict, &mut sources, &mut diagnostics) {
                    facts.push(format!("model {} has {} modules", model.name, model.modules.len()));
                }
            } else {
                for entry in entries(&entry, parsed.file.as_ref()) {
                    let input = arguments.subject.input(&entry, definition, &checkpoint);
                    let found = match plan(input, &mut sources) {
                        Ok(Planned { model, plan, warnings, unbuilt }) => {
                            let report = ReportedPlan::new(&plan, &model, &checkpoint, &sources, 0);
                            let (before, after) = (bytes(report.bytes_before), bytes(report.bytes_after));
                            let modules = report.modules.len();
                            facts.push(format!(
                                "spec {}: {modules} modules of {}, {before} → {after}",
                                plan.spec, model.name
                            ));
                            [warnings, unbuilt].concat()
                        }
                        Err(diagnostics) => diagnostics,
                    };
                    let new = found.into_iter().filter(|fault| !diagnostics.contains(fault)).collect::<Vec<_>>();
                    diagnostics.extend(new);
                }
            }
        }
    }
    if diagnostics.iter().any(Diagnostic::is_error) {
        return Err(Failure::Input(sources, diagnostics));
    }
    messages.diagnostics(&sources, &diagnostics);
    for fact in facts {
        messages.status(&fact);
    }
    messages.status(&format!("{} has no mistakes", arguments.spec));
    Ok(())
}

/// Every spec of the file, when none is named.
fn entries(entry: &Entry, file: Option<&File>) -> Vec<Entry> {
    let names: Vec<String> = file.into_iter().flat_map(File::specs).map(|spec| spec.name.value.clone()).collect();
    match (&entry.name, &names[..]) {
        (None, [_, _, ..]) => names.into_iter().map(|name| Entry { name: Some(name), ..entry.clone() }).collect(),
        _ => vec![entry.clone()],
    }
}
