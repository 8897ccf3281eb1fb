//! `lathe check`

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use lathe_grammar::ast::File;
use lathe_grammar::diag::Diagnostic;
use lathe_grammar::span::Sources;

use super::render::Messages;
use super::subject::{MODEL_DEF, SET, STRICT, Subject, open_checkpoint};
use super::texts::{Disk, load_entry};
use super::{Failure, bytes};
use crate::compile::plan_on;
use crate::definition;
use crate::elaborate::{Elaborated, lint};
use crate::plan::ReportedPlan;
use crate::spec::{Entry, Spec};

/// Check a spec, alone or against a checkpoint, of which only headers are read.
///
/// A file of model definitions can be checked as well: alone for names, module paths and arguments; against a checkpoint
/// for all that is missing: tensors that no module reads, modules without a tensor, keys of the config that nobody
/// reads, the graph. A checkpoint alone is checked against its shipped definition, or that of --model-def.
#[derive(Debug, clap::Args)]
#[command(override_usage = "lathe check [OPTIONS] <SPEC|FILE> [CHECKPOINT]\n       lathe check [OPTIONS] <CHECKPOINT>")]
pub(super) struct Arguments {
    /// Spec: a file, FILE#NAME, or the name of a shipped one (`lathe list specs`). Or a file of model definitions, or a
    /// checkpoint.
    #[arg(value_name = "SPEC|FILE|CHECKPOINT")]
    subject_of: String,
    /// Checkpoint: a folder with config.json and safetensors files.
    checkpoint: Option<PathBuf>,
    #[command(flatten)]
    subject: Subject,
}

pub(super) fn run(arguments: &Arguments, messages: Messages) -> Result<(), Failure> {
    let Arguments { subject_of: name, checkpoint, subject } = arguments;
    let mut sources = Sources::new();
    let mut diagnostics: Vec<Diagnostic> = Vec::new();
    let mut facts: Vec<String> = Vec::new();
    if checkpoint.is_none() && Path::new(name).is_dir() {
        refuse(subject.given(&[SET]), "is for specs, and a checkpoint alone has none")?;
        let checkpoint = open_checkpoint(Path::new(name), &mut sources)?;
        let model = subject.model(&checkpoint, &mut sources, &mut diagnostics)?;
        facts.extend(model.map(|model| fact(&model)));
    } else {
        let entry = load_entry(name, &mut sources)?;
        let parsed = lathe_grammar::parse(&sources, entry.source);
        let count = |items: fn(&File) -> usize| parsed.file.as_ref().map_or(0, items);
        let (specs, models) = (count(|file| file.specs().count()), count(|file| file.models().count()));
        let is_definition = specs == 0 && models > 0;
        if checkpoint.is_none() {
            refuse(subject.given(&[MODEL_DEF, STRICT]), "needs a CHECKPOINT to check against")?;
        }
        if is_definition {
            refuse(subject.given(&[SET, MODEL_DEF]), &format!("is for specs, and {name} holds model definitions"))?;
        }
        match checkpoint {
            None if is_definition => definitions_alone(&entry, &mut sources, &mut diagnostics),
            None => {
                let checked = subject.specs(&entry, true, &mut sources, &mut diagnostics);
                diagnostics.extend(checked.iter().flat_map(Spec::unbuilt));
            }
            Some(folder) => {
                let checkpoint = open_checkpoint(folder, &mut sources)?;
                if is_definition {
                    let model = subject.define(Some(&entry), &checkpoint, &mut sources, &mut diagnostics);
                    facts.extend(model.map(|model| fact(&model)));
                } else {
                    let checked = subject.specs(&entry, specs > 0, &mut sources, &mut diagnostics);
                    let model = subject.model(&checkpoint, &mut sources, &mut diagnostics)?;
                    for spec in &checked {
                        let Some(model) = &model else {
                            diagnostics.extend(spec.unbuilt());
                            continue;
                        };
                        let (plan, unbuilt) = plan_on(spec, model, &checkpoint, &sources, &mut diagnostics);
                        diagnostics.extend(unbuilt);
                        let report = ReportedPlan::new(&plan, model, &checkpoint, &sources, 0);
                        let (before, after) = (bytes(report.bytes_before), bytes(report.bytes_after));
                        let (name, modules, model) = (&plan.spec, report.modules.len(), &model.name);
                        facts.push(format!("spec {name}: {modules} modules of {model}, {before} → {after}"));
                    }
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
    messages.status(&format!("{name} has no mistakes"));
    Ok(())
}

fn fact(model: &Elaborated) -> String {
    format!("model {} has {} modules", model.name, model.modules.len())
}

fn definitions_alone(entry: &Entry, sources: &mut Sources, diagnostics: &mut Vec<Diagnostic>) {
    let models = definition::load(entry, true, sources, &Disk, diagnostics);
    // What a mistake has cut out of the text cannot be missed in it.
    if diagnostics.iter().any(Diagnostic::is_error) {
        return;
    }
    // Models of one base have its mistakes in common.
    let mut seen = BTreeSet::new();
    let place = |fault: &Diagnostic| fault.labels.first().map(|label| label.span);
    let mut found: Vec<Diagnostic> = models.iter().flat_map(lint).collect();
    found.retain(|fault| seen.insert((place(fault), fault.code, fault.message.clone())));
    diagnostics.extend(found);
}

/// Options that would change nothing are not accepted.
fn refuse(option: Option<&str>, why: &str) -> Result<(), Failure> {
    option.map_or(Ok(()), |option| Err(Failure::Run(format!("{option} {why}"))))
}
