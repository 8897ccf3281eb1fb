//! `lathe diff`

use std::collections::BTreeMap;
use std::path::PathBuf;

use lathe_grammar::diag::Diagnostic;
use lathe_grammar::span::Sources;
use serde_json::json;

use super::layout::terminal_columns;
use super::plan::change;
use super::render::Messages;
use super::subject::{Subject, open_checkpoint};
use super::table::{Column, table};
use super::texts::load_entry;
use super::{Failure, bytes, print};
use crate::compile::plan_on;
use crate::plan::{ReportedModule, ReportedPlan, fold};
use crate::spec::{Spec, UNKNOWN_NAME};

/// Show what changes per module, and in bytes, from one spec to another on a checkpoint.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// First spec: a file, FILE#NAME, or the name of a shipped one (`lathe list specs`).
    spec_a: String,
    /// Second spec.
    spec_b: String,
    /// Checkpoint: a folder with config.json and safetensors files.
    checkpoint: PathBuf,
    #[command(flatten)]
    subject: Subject,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, messages: Messages) -> Result<(), Failure> {
    let mut sources = Sources::new();
    let subject = &arguments.subject;
    let checkpoint = open_checkpoint(&arguments.checkpoint, &mut sources)?;
    let mut diagnostics: Vec<Diagnostic> = Vec::new();
    let mut specs: Vec<Spec> = Vec::new();
    let mut found: Vec<Vec<Diagnostic>> = Vec::new();
    for name in [&arguments.spec_a, &arguments.spec_b] {
        let entry = load_entry(name, &mut sources)?;
        let mut faults = Vec::new();
        specs.extend(subject.specs(&entry, false, &mut sources, &mut faults));
        found.push(faults);
    }
    // A name that only one of them has is set in that one.
    let is_unknown = |fault: &Diagnostic| fault.code == "S0007" && fault.message.starts_with(UNKNOWN_NAME);
    for at in [0, 1] {
        let of_other: Vec<String> = found[1 - at].iter().map(|fault| fault.message.clone()).collect();
        let news = |fault: &Diagnostic| !is_unknown(fault) || (at == 0 && of_other.contains(&fault.message));
        diagnostics.extend(found[at].iter().filter(|fault| news(fault)).cloned());
    }
    let model = subject.model(&checkpoint, &mut sources, &mut diagnostics)?;
    let (Some(model), [_, _]) = (model, &specs[..]) else { return Err(Failure::Input(sources, diagnostics)) };
    let mut unbuilt: Vec<Diagnostic> = Vec::new();
    let mut reports: Vec<ReportedPlan> = Vec::new();
    for spec in &specs {
        let (plan, found) = plan_on(spec, &model, &checkpoint, &sources, &mut diagnostics);
        reports.push(ReportedPlan::new(&plan, &model, &checkpoint, &sources, 0));
        unbuilt.extend(found);
    }
    let failed = diagnostics.iter().any(Diagnostic::is_error);
    diagnostics.extend(unbuilt);
    let ([a, b], false) = (&reports[..], failed) else { return Err(Failure::Input(sources, diagnostics)) };
    print(&if arguments.json { as_json(a, b) } else { listing(a, b, terminal_columns()) })?;
    let failed = diagnostics.iter().any(Diagnostic::is_error);
    messages.diagnostics(&sources, &diagnostics);
    if failed { Err(Failure::Reported) } else { Ok(()) }
}

/// Modules that become something else, in the order of the model.
fn changed<'r>(a: &'r ReportedPlan, b: &'r ReportedPlan) -> Vec<(&'r ReportedModule, &'r ReportedModule)> {
    let others: BTreeMap<&str, &ReportedModule> =
        b.modules.iter().map(|module| (module.path.as_str(), module)).collect();
    let pairs = a.modules.iter().filter_map(|module| Some((module, *others.get(module.path.as_str())?)));
    let same = |a: &ReportedModule, b: &ReportedModule| {
        (&a.format, &a.input, &a.tied_to, a.bytes_after) == (&b.format, &b.input, &b.tied_to, b.bytes_after)
    };
    pairs.filter(|(a, b)| !same(a, b)).collect()
}

fn as_json(a: &ReportedPlan, b: &ReportedPlan) -> String {
    let side = |module: &ReportedModule| json!({"format": module.format, "input": module.input, "tied_to": module.tied_to, "bytes": module.bytes_after, "rule": module.rule});
    let modules: Vec<_> = changed(a, b)
        .into_iter()
        .map(|(a, b)| json!({"path": a.path, "kind": a.kind, "shape": a.shape, "a": side(a), "b": side(b)}))
        .collect();
    let plan = |plan: &ReportedPlan| json!({"spec": plan.spec, "bytes": plan.bytes_after, "settings": plan.settings});
    let value = json!({"model": a.model, "a": plan(a), "b": plan(b), "modules": modules});
    format!("{value:#}\n")
}

const COLUMNS: [Column; 5] = [
    Column::left("module", 0),
    Column::left("kind", 2),
    Column::left("format", 0),
    Column::left("input", 1),
    Column::right("bytes", 0),
];

fn listing(a: &ReportedPlan, b: &ReportedPlan, width: Option<usize>) -> String {
    let arrow = |a: &str, b: &str| if a == b { a.to_owned() } else { format!("{a} → {b}") };
    let format = |module: &ReportedModule| match &module.tied_to {
        Some(table) => format!("shares {table}"),
        None => module.format.clone(),
    };
    let input = |module: &ReportedModule| module.input.clone().unwrap_or_else(|| "-".into());
    let modules = changed(a, b).into_iter().map(|(a, b)| {
        let inputs = if a.input == b.input { a.input.clone().unwrap_or_default() } else { arrow(&input(a), &input(b)) };
        (a.path.clone(), (a.kind, arrow(&format(a), &format(b)), inputs, a.bytes_after, b.bytes_after))
    });
    let rows: Vec<Vec<String>> = fold(modules)
        .into_iter()
        .map(|row| {
            let (kind, format, input, before, after) = row.common;
            let count = row.count as u64;
            let sizes = arrow(&bytes(before.saturating_mul(count)), &bytes(after.saturating_mul(count)));
            vec![row.path, kind.to_owned(), format, input, sizes]
        })
        .collect();
    let mut text = if rows.is_empty() {
        "no module changes\n".to_owned()
    } else {
        let (text, left_out) = table(&COLUMNS, &rows, width);
        let note = format!("\nleft out, as the terminal is narrow: {}\n", left_out.join(", "));
        if left_out.is_empty() { text } else { text + &note }
    };
    let removed = a.settings.iter().filter(|line| !b.settings.contains(line)).map(|line| format!("- {line}\n"));
    let added = b.settings.iter().filter(|line| !a.settings.contains(line)).map(|line| format!("+ {line}\n"));
    let settings: String = removed.chain(added).collect();
    if !settings.is_empty() {
        text.push('\n');
        text.push_str(&settings);
    }
    text + &format!("\n{} to {}: {}\n", a.spec, b.spec, change(a.bytes_after, b.bytes_after))
}
