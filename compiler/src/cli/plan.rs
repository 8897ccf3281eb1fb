//! `lathe plan`

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use clap::value_parser;
use lathe_grammar::span::Sources;

use super::compile::{available, parse_bytes};
use super::device::{DeviceArgs, OnDevice};
use super::layout::terminal_columns;
use super::render::Messages;
use super::subject::{Subject, open_checkpoint};
use super::table::{Column, table};
use super::texts::{load_entry, write_file};
use super::{Failure, bytes, print};
use crate::compile::{Planned, plan};
use crate::elaborate::ModuleId;
use crate::pack::{Demand, PackOptions, peak_memory};
use crate::picture::{ModuleNote, diagram, dot, svg};
use crate::plan::{
    Finding, Folded, ReportedBasis, ReportedFrames, ReportedModule, ReportedOnline, ReportedPlace, ReportedPlan,
    ReportedTie, fold,
};

/// Show what would become of each module, and what it would cost, without reading a weight.
///
/// What this version cannot build is shown too, and ends the run with exit code 1.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Spec: a file, FILE#NAME, or the name of a shipped one (`lathe list specs`).
    spec: String,
    /// Checkpoint: a folder with config.json and safetensors files.
    checkpoint: PathBuf,
    #[command(flatten)]
    subject: Subject,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Read the tables that a decision depends on: are a head and an embedding that are both stored equal?
    #[arg(long)]
    probe: bool,
    /// Show every layer, also those that differ in their index only.
    #[arg(long, conflicts_with = "json")]
    all_layers: bool,
    /// Draw the model with its formats to this file; .svg or .dot says how.
    #[arg(long, value_name = "OUT", value_parser = parse_picture)]
    graph: Option<PathBuf>,
    /// Plan for this bound on the memory of `lathe compile`, as in 512M or 4G (powers of 1024).
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    memory: Option<u64>,
    /// Plan for this many threads of `lathe compile` [default: one for each processor].
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    #[command(flatten)]
    device: DeviceArgs,
}

pub(super) fn run(arguments: &Arguments, messages: Messages) -> Result<(), Failure> {
    let device = arguments.device.open().map_err(Failure::Run)?;
    let mut sources = Sources::new();
    let spec = load_entry(&arguments.spec, &mut sources)?;
    let definition = arguments.subject.definition(&mut sources)?;
    let checkpoint = open_checkpoint(&arguments.checkpoint, &mut sources)?;
    let threads = arguments.threads.map_or_else(available, usize::from);
    let never = AtomicBool::new(false);
    let packing = PackOptions { memory: arguments.memory, threads, interrupted: &never };
    let mut planned = match plan(arguments.subject.input(&spec, definition.as_ref(), &checkpoint), &mut sources) {
        Ok(planned) => planned,
        Err(diagnostics) => return Err(Failure::Input(sources, diagnostics)),
    };
    if arguments.probe
        && let Err(error) = planned.probe(&checkpoint)
    {
        return Err(Failure::of(error, sources));
    }
    let demand = Demand::of_plan(&planned.plan, &planned.model, &checkpoint);
    let memory = peak_memory(demand, packing).map_err(|error| Failure::Run(error.to_string()))?;
    let report = ReportedPlan::new(&planned.plan, &planned.model, &checkpoint, &sources, memory);
    // What cannot be built has no program to place.
    let on_device = match device.filter(|_| planned.unbuilt.is_empty()).map(|device| OnDevice::new(&planned, device)) {
        None => None,
        Some(Ok(on_device)) => Some(on_device),
        Some(Err(error)) => return Err(Failure::of(error, sources)),
    };
    if arguments.json {
        let report = Report { report: &report, on_device: on_device.as_ref().map(OnDevice::json) };
        let text = serde_json::to_string_pretty(&report);
        print(&(text.expect("invariant: a plan holds strings and numbers only") + "\n"))?;
    } else {
        print(&listing(&report, arguments.all_layers, terminal_columns()))?;
        if let Some(on_device) = &on_device {
            print(&on_device.text())?;
        }
    }
    if let Some(target) = &arguments.graph {
        draw(&planned, &report, target)?;
    }
    let failed = !planned.unbuilt.is_empty();
    let diagnostics = [planned.warnings, planned.unbuilt].concat();
    if failed {
        return Err(Failure::Input(sources, diagnostics));
    }
    messages.diagnostics(&sources, &diagnostics);
    Ok(())
}

/// The plan for programs.
#[derive(serde::Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    report: &'a ReportedPlan,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_device: Option<serde_json::Value>,
}

/// Draws the model as SVG or DOT, as the name of the file says.
fn draw(planned: &Planned, report: &ReportedPlan, target: &Path) -> Result<(), Failure> {
    let note = |id: ModuleId| {
        let module = &report.modules[id.0 as usize];
        ModuleNote {
            format: module.format.clone(),
            input: module.input.clone(),
            bytes_before: module.bytes_before,
            bytes_after: module.bytes_after,
            tied_to: module.tied_to.clone(),
        }
    };
    let diagram = diagram(&planned.model, &report.spec, &note)
        .map_err(|error| Failure::Run(format!("cannot draw {}: {error}", target.display())))?;
    write_file(target, &if is_svg(target) { svg(&diagram) } else { dot(&diagram) })
}

fn is_svg(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "svg")
}

/// A file whose name says how to draw.
fn parse_picture(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let is_dot = path.extension().is_some_and(|extension| extension == "dot");
    if is_svg(&path) || is_dot { Ok(path) } else { Err("expected a file that ends in .svg or .dot".into()) }
}

const COLUMNS: [Column; 8] = [
    Column::left("module", 0),
    Column::left("kind", 3),
    Column::left("shape", 4),
    Column::left("format", 0),
    Column::left("input", 1),
    Column::right("before", 2),
    Column::right("after", 0),
    Column::left("decided by", 1),
];

/// The plan for people.
fn listing(report: &ReportedPlan, all_layers: bool, width: Option<usize>) -> String {
    let modules = report.modules.iter().cloned().map(|mut module| (std::mem::take(&mut module.path), module));
    let folded: Vec<Folded<ReportedModule>> = if all_layers {
        modules.map(|(path, common)| Folded { path, count: 1, common }).collect()
    } else {
        fold(modules)
    };
    let files: BTreeSet<&str> =
        report.modules.iter().filter_map(|module| Some(module.rule.as_ref()?.file.as_str())).collect();
    let rows: Vec<Vec<String>> = folded.iter().map(|row| cells(row, files.len() > 1)).collect();
    let (text, left_out) = table(&COLUMNS, &rows, width);
    let (before, after) = (report.bytes_before, report.bytes_after);
    let mut out = format!("spec {} on model {}: {}\n\n{text}", report.spec, report.model, change(before, after));
    if !report.settings.is_empty() || !report.ties.is_empty() {
        out.push('\n');
    }
    for tie in &report.ties {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{}", tie_line(tie));
    }
    for setting in &report.settings {
        let _ = writeln!(out, "{setting}");
    }
    out.push_str(&frames(&report.frames, all_layers, width));
    let undecided = report.modules.iter().filter(|module| module.takes_format && module.rule.is_none()).count();
    if undecided > 0 {
        let modules = if undecided == 1 {
            "1 module that takes a format is".into()
        } else {
            format!("{undecided} modules that take a format are")
        };
        let _ = writeln!(out, "\n{modules} decided by no rule, and kept");
    }
    let memory = bytes(report.peak_memory_bytes);
    let _ = if report.frames.is_identity() {
        writeln!(out, "\ncompiling takes at most {memory} of memory")
    } else {
        writeln!(
            out,
            "\npacking takes at most {memory} of memory; the proof before it takes what activations need besides"
        )
    };
    if !left_out.is_empty() {
        let _ = writeln!(out, "left out, as the terminal is narrow: {}", left_out.join(", "));
    }
    out
}

const BASES: [Column; 4] =
    [Column::left("frame", 0), Column::left("by", 0), Column::right("width", 0), Column::left("built as", 1)];

const ONLINE: [Column; 6] = [
    Column::left("at run time behind", 0),
    Column::right("times", 0),
    Column::left("does", 0),
    Column::left("site", 1),
    Column::left("blocks", 2),
    Column::right("operations a token", 1),
];

/// In which frames values are held, and what that leaves for run time.
fn frames(frames: &ReportedFrames, all_layers: bool, width: Option<usize>) -> String {
    if frames.is_identity() {
        return String::new();
    }
    let basis = |basis: &ReportedBasis| {
        let construction = basis.construction.clone().unwrap_or_default();
        vec![basis.id.clone(), basis.by.clone(), basis.width.to_string(), construction]
    };
    let online = |online: &ReportedOnline| {
        let ReportedOnline { path, count, site, operation, blocks, width, cost } = online;
        let blocks = format!("{blocks} of {width}");
        vec![path.clone(), count.to_string(), operation.clone(), site.clone(), blocks, cost.to_string()]
    };
    let bases = if all_layers { frames.bases.clone() } else { frames.folded_bases() };
    let (bases, _) = table(&BASES, &bases.iter().map(basis).collect::<Vec<_>>(), width);
    let mut out = format!("\n{bases}");
    if !frames.online.is_empty() {
        let (rows, _) = table(&ONLINE, &frames.online.iter().map(online).collect::<Vec<_>>(), width);
        out.push('\n');
        out.push_str(&rows);
    }
    let count: u64 = frames.online.iter().map(|online| online.count).sum();
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "\n{} results are held in a frame of their own: {} parameters take it up, {count} operations run for each token",
        frames.edges, frames.fused
    );
    out
}

/// What becomes of a head that may be tied, and what each choice costs.
fn tie_line(tie: &ReportedTie) -> String {
    let ReportedTie { head, table, found, .. } = tie;
    let (one, two) = (bytes(tie.bytes_shared), bytes(tie.bytes_split));
    let costs = match (tie.shared, found) {
        (false, Finding::Different) => return format!("{head} and {table} are two tables ({found}): {two}"),
        (true, _) => format!("one takes {one}, two would take {two}"),
        (false, _) => format!("two take {two}, one would take {one}"),
    };
    let becomes = match (tie.shared, tie.probe_decides) {
        (true, true) => format!("{head} shares {table} if they are equal: decided by probe (--probe)"),
        (false, true) => {
            format!("{head} and {table} are two tables unless they are equal: decided by probe (--probe)")
        }
        (true, false) => format!("{head} shares {table} ({found})"),
        (false, false) if *found == Finding::Unprobed => format!("{head} and {table} are two tables, equal or not"),
        (false, false) => format!("{head} and {table} are two tables ({found})"),
    };
    format!("{becomes}; {costs}")
}

/// `1.20 GB → 0.60 GB (50 %)`
pub(super) fn change(before: u64, after: u64) -> String {
    let percent = if before == 0 { 100.0 } else { after as f64 / before as f64 * 100.0 };
    format!("{} → {} ({percent:.0} %)", bytes(before), bytes(after))
}

fn cells(row: &Folded<ReportedModule>, many_files: bool) -> Vec<String> {
    let module = &row.common;
    let count = row.count as u64;
    let place = |place: &ReportedPlace| {
        let name = Path::new(&place.file).file_name().map_or(place.file.clone(), |name| name.display().to_string());
        if many_files { format!("{name}:{}", place.line) } else { format!("line {}", place.line) }
    };
    let decided = match (&module.rule, &module.input_rule) {
        (None, None) if !module.takes_format => String::new(),
        (None, None) => "no rule".to_owned(),
        (Some(rule), Some(input)) if input != rule => format!("{}, input {}", place(rule), place(input)),
        (None, Some(input)) => format!("input {}", place(input)),
        (Some(rule), _) => place(rule),
    };
    let after = match &module.tied_to {
        Some(_) => "shared".to_owned(),
        None if module.folded => "folded".to_owned(),
        None => bytes(module.bytes_after.saturating_mul(count)),
    };
    vec![
        row.path.clone(),
        module.kind.to_owned(),
        format!("{:?}", module.shape),
        if module.rounded_again { format!("{}, rounded again", module.format) } else { module.format.clone() },
        module.input.clone().unwrap_or_default(),
        bytes(module.bytes_before.saturating_mul(count)),
        after,
        decided,
    ]
}
