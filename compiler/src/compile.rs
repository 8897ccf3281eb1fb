//! The stages in their order: texts and headers to a plan, a graph, a program, an artifact.

use std::collections::BTreeMap;
use std::path::Path;

use lathe_grammar::diag::Diagnostic;
use lathe_grammar::span::Sources;
use lathe_runtime::program::{PROGRAM_FILE, ProgramError};

use crate::artifact::{
    ArtifactError, Folds, FoldsError, LOCK_FILE, LOCK_VERSION, Lock, PackedModule, REPORT_FILE, Report, Staging,
};
use crate::calibrate::{CalibrateError, Calibration, measure};
use crate::definition;
use crate::elaborate::{Elaborated, Module, ModuleId, elaborate};
use crate::frames::read_matrices;
use crate::ir::Values;
use crate::lower::{LowerError, Lowered, Recipe, lower};
use crate::model::Checkpoint;
use crate::pack::evaluate::Evaluator;
use crate::pack::{Noise, PackError, PackOptions, pack};
use crate::passes::{self, PassError};
use crate::plan::{Finding, Plan, ReportedFrames, Tie};
use crate::probe::probe;
use crate::proof::{Proof, ProofError, is_called_for};
use crate::resolve::{resolve, settle_probed, unbuilt_inputs};
use crate::source::{ReadTensorError, TensorReader};
use crate::spec::{self, Entry, Files, Loaded, Spec};

/// Why a compilation ended without an artifact.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// Spec, definition or checkpoint are at fault.
    #[error("{} diagnostics", .0.len())]
    Diagnostics(Vec<Diagnostic>),
    /// A tensor could not be read.
    #[error(transparent)]
    Read(#[from] ReadTensorError),
    /// A pass broke the graph: our bug.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// The graph cannot be lowered.
    #[error(transparent)]
    Lower(#[from] LowerError),
    /// The program cannot be stated.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The weights could not be packed.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// Scales could not be measured.
    #[error(transparent)]
    Calibrate(Box<CalibrateError>),
    /// The compiled model could not be proven to compute what its checkpoint computes.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// What was folded into weights could not be stated.
    #[error(transparent)]
    Folds(#[from] FoldsError),
    /// The artifact could not be written.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
}

/// What is compiled.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// The spec.
    pub spec: &'a Entry,
    /// Values that replace those of the spec, as `NAME=VALUE`.
    pub overrides: &'a [String],
    /// Reads the files that the spec and the definition name.
    pub files: &'a dyn Files,
    /// A definition to use in place of the shipped ones.
    pub model: Option<&'a Entry>,
    /// The checkpoint.
    pub checkpoint: &'a Checkpoint,
    /// Whether config keys that nobody reads are errors.
    pub strict: bool,
    /// What scales are measured on, for specs that ask for some.
    pub calibration: Option<Calibration<'a>>,
}

/// A model and what becomes of it, from headers alone.
#[derive(Debug)]
pub struct Planned {
    /// The model, its graph as the definition states it.
    pub model: Elaborated,
    /// What becomes of each module.
    pub plan: Plan,
    /// Warnings.
    pub warnings: Vec<Diagnostic>,
    /// Errors for what the spec asks for and this version cannot build. The plan says what it would come to.
    pub unbuilt: Vec<Diagnostic>,
}

/// A model, what becomes of it, and the graph after the passes.
#[derive(Debug)]
pub struct Rewritten {
    /// The model, its graph as the definition states it.
    pub model: Elaborated,
    /// What becomes of each module.
    pub plan: Plan,
    /// The graph after the passes.
    pub graph: crate::ir::Graph,
    /// What the passes did.
    pub log: passes::Log,
    /// Warnings.
    pub warnings: Vec<Diagnostic>,
    /// BLAKE3, in hexadecimal, of the tokens that scales were measured on, where some were.
    pub calibration_blake3: Option<String>,
    /// The open weight files, with what probes have read of them.
    pub reader: TensorReader,
}

/// Everything that is known before a weight is packed.
#[derive(Debug)]
pub struct Prepared {
    /// The model, its graph as the definition states it.
    pub model: Elaborated,
    /// What becomes of each module.
    pub plan: Plan,
    /// The graph after the passes.
    pub graph: crate::ir::Graph,
    /// What the passes did.
    pub log: passes::Log,
    /// What runs, and how its weights are made.
    pub lowered: Lowered,
    /// Warnings.
    pub warnings: Vec<Diagnostic>,
    /// BLAKE3, in hexadecimal, of the tokens that scales were measured on, where some were.
    pub calibration_blake3: Option<String>,
    /// The open weight files, with what probes have read of them.
    pub reader: TensorReader,
}

/// Runs every stage up to packing. `sources` gets every text that is read.
///
/// # Errors
/// As [`CompileError`]; nothing was written.
pub fn prepare(input: Input<'_>, sources: &mut Sources, options: &passes::Options) -> Result<Prepared, CompileError> {
    rewrite(input, sources, options)?.lower()
}

/// Runs every stage up to lowering. `sources` gets every text that is read.
///
/// # Errors
/// As [`CompileError`]; nothing was written.
pub fn rewrite(input: Input<'_>, sources: &mut Sources, options: &passes::Options) -> Result<Rewritten, CompileError> {
    let mut planned = plan(input, sources).map_err(CompileError::Diagnostics)?;
    if !planned.unbuilt.is_empty() {
        planned.warnings.append(&mut planned.unbuilt);
        return Err(CompileError::Diagnostics(planned.warnings));
    }
    let reader = planned.probe(input.checkpoint)?;
    let calibration_blake3 = planned.calibrate(input.checkpoint, &reader, input.calibration)?;
    let Planned { model, plan, warnings, .. } = planned;
    let mut graph = model.graph.clone();
    let log = passes::run(&mut graph, &plan, options)?;
    Ok(Rewritten { model, plan, graph, log, warnings, calibration_blake3, reader })
}

/// The specs of a text, all of them or the one that was asked for, checked without a model.
pub fn load_specs(
    entry: &Entry,
    all: bool,
    overrides: &[String],
    files: &dyn Files,
    sources: &mut Sources,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Spec> {
    let loaded = spec::load(entry, all, sources, files, diagnostics);
    let check = |mut loaded: Loaded| {
        spec::apply_overrides(overrides, &mut loaded, sources, diagnostics);
        spec::check(&loaded, diagnostics)
    };
    loaded.into_iter().filter_map(check).collect()
}

/// The plan of one spec: reads headers only, and no weight. `sources` gets every text that is read.
///
/// # Errors
/// Diagnostics, at least one of them an error.
pub fn plan(input: Input<'_>, sources: &mut Sources) -> Result<Planned, Vec<Diagnostic>> {
    let Input { spec, overrides, files, model, checkpoint, strict, .. } = input;
    let mut diagnostics = Vec::new();
    let spec = load_specs(spec, false, overrides, files, sources, &mut diagnostics).pop();
    let model = define(model.map(|entry| (entry, files)), checkpoint, strict, sources, &mut diagnostics);
    let (Some(spec), Some(model)) = (&spec, model) else {
        diagnostics.extend(spec.iter().flat_map(Spec::unbuilt));
        return Err(diagnostics);
    };
    let (plan, unbuilt) = plan_on(spec, &model, checkpoint, sources, &mut diagnostics);
    if diagnostics.iter().any(Diagnostic::is_error) {
        diagnostics.extend(unbuilt);
        return Err(diagnostics);
    }
    Ok(Planned { model, plan, warnings: diagnostics, unbuilt })
}

/// The plan of a spec on a model, and errors for what it comes to and cannot be built. Mistakes are added to `diagnostics`.
pub fn plan_on(
    spec: &Spec,
    model: &Elaborated,
    checkpoint: &Checkpoint,
    sources: &Sources,
    diagnostics: &mut Vec<Diagnostic>,
) -> (Plan, Vec<Diagnostic>) {
    let plan = resolve(spec, model, checkpoint, sources, diagnostics);
    let mut unbuilt = spec.unbuilt_in(&plan);
    unbuilt.extend(unbuilt_inputs(&plan, model));
    (plan, unbuilt)
}

/// Evaluates the definition of a checkpoint: the one that is given, with what reads the files that it names, or the shipped
/// one. `None` when there are mistakes, which are added to `diagnostics`.
pub fn define(
    definition: Option<(&Entry, &dyn Files)>,
    checkpoint: &Checkpoint,
    strict: bool,
    sources: &mut Sources,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Elaborated> {
    let mut found = Vec::new();
    let definition = match definition {
        Some((entry, files)) => definition::load(entry, false, sources, files, &mut found).pop(),
        None => definition::shipped(sources, checkpoint, &mut found),
    };
    let bookkeeping = definition::bookkeeping(sources, &mut found);
    found.extend(already_quantized(checkpoint));
    let is_right = !found.iter().any(Diagnostic::is_error);
    diagnostics.append(&mut found);
    let (Some(definition), Some(bookkeeping), true) = (definition, bookkeeping, is_right) else { return None };
    match elaborate(&definition, &bookkeeping, checkpoint, strict) {
        Ok((model, warnings)) => {
            diagnostics.extend(warnings);
            Some(model)
        }
        Err(errors) => {
            diagnostics.extend(errors);
            None
        }
    }
}

impl Planned {
    /// Decides what only stored values can tell: reads tables that may be tied, until they differ.
    ///
    /// # Errors
    /// When a tensor cannot be read, or what was found contradicts the spec.
    pub fn probe(&mut self, checkpoint: &Checkpoint) -> Result<TensorReader, CompileError> {
        let mut reader = TensorReader::open(checkpoint)?;
        let findings = probe(checkpoint, &self.model, &mut reader)?;
        // Conflicts that were only possible are now settled.
        self.warnings.retain(|warning| warning.code != "S0301");
        settle_probed(&mut self.plan, &findings, &self.model, checkpoint, &mut self.warnings);
        self.warnings.extend(unbuilt_inputs(&self.plan, &self.model));
        self.warnings.extend(broken_ties(&self.plan, &self.model, checkpoint));
        if let Err(faults) = read_matrices(&mut self.plan.frames) {
            self.warnings.extend(faults);
        }
        if self.warnings.iter().any(Diagnostic::is_error) {
            return Err(CompileError::Diagnostics(std::mem::take(&mut self.warnings)));
        }
        Ok(reader)
    }

    /// Measures the scales that the spec asks for, if any. Gives the hash of the tokens that were read for it.
    ///
    /// # Errors
    /// When there is nothing to measure them on, or they cannot be measured.
    fn calibrate(
        &mut self,
        checkpoint: &Checkpoint,
        reader: &TensorReader,
        calibration: Option<Calibration<'_>>,
    ) -> Result<Option<String>, CompileError> {
        if self.plan.frames.measured.is_empty() {
            return Ok(None);
        }
        let Some(calibration) = calibration else {
            let asked = self.plan.rotations.iter().find(|rotation| rotation.turn.alpha.is_some());
            let diagnostic = Diagnostic::error("S0410", "scales are measured on a text, and none was given")
                .label_if(asked.map(|rotation| rotation.span), "asked for here")
                .help("add `--calibrate FILE`, a text like those that the model will read");
            return Err(CompileError::Diagnostics(vec![diagnostic]));
        };
        let scales = measure(&self.plan, &self.model, checkpoint, reader, calibration);
        for (id, values) in scales.map_err(|error| CompileError::Calibrate(Box::new(error)))? {
            self.plan.frames.set_scale(id, values);
        }
        Ok(Some(calibration.blake3()))
    }
}

impl Rewritten {
    /// Lowers the graph. One that passes were stopped on may not be ready for it.
    ///
    /// # Errors
    /// When the graph cannot be lowered, or not to a valid program.
    pub fn lower(self) -> Result<Prepared, CompileError> {
        let Rewritten { model, plan, graph, log, warnings, calibration_blake3, reader } = self;
        let lowered = lower(&graph, &plan, &model.name, model.max_positions)?;
        lathe_runtime::program::verify(&lowered.program).map_err(ProgramError::from)?;
        Ok(Prepared { model, plan, graph, log, lowered, warnings, calibration_blake3, reader })
    }
}

/// What a compilation did.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Bytes of weights that were read, probes included.
    pub bytes_read: u64,
    /// Bytes of packed weights.
    pub bytes_written: u64,
    /// What was found while packing.
    pub warnings: Vec<Diagnostic>,
}

/// Signal to noise in decibels below which little is left of a weight.
const LOST: f64 = 3.0;

/// Weights of which next to nothing was packed.
fn lost(recipes: &[Recipe], noise: &[Option<Noise>]) -> Vec<Diagnostic> {
    let lost = |(recipe, noise): (&Recipe, &Option<Noise>)| {
        let decibels = noise.as_ref().map(Noise::decibels).filter(|decibels| *decibels < LOST)?;
        let (name, format) = (&recipe.name, recipe.encoding.format);
        let message = format!("`{name}` as {format}: expected at least {LOST} dB of signal to noise, found {decibels}");
        Some(
            Diagnostic::warning("C0015", message)
                .help("choose a format with more bits, smaller groups or other scales"),
        )
    };
    recipes.iter().zip(noise).filter_map(lost).collect()
}

/// Packs the weights and writes the artifact to `target`. The report says what the proof, if any, has found.
///
/// # Errors
/// As [`CompileError`]; `target` is then as it was.
pub fn write(
    prepared: &Prepared,
    checkpoint: &Checkpoint,
    target: &Path,
    proof: Option<Proof>,
    options: PackOptions<'_>,
) -> Result<Outcome, CompileError> {
    let Prepared { model, plan, lowered, calibration_blake3, reader, .. } = prepared;
    let staging = Staging::new(target)?;
    staging.copy_companions(checkpoint)?;
    let weights = &lowered.program.weights;
    let evaluator = Evaluator { checkpoint, reader, rotations: &lowered.rotations, flip: None, interrupted: None };
    let packed = pack(&lowered.recipes, weights, evaluator, staging.folder(), options)?;
    let program = lowered.program.to_json()?;
    let warnings = lost(&lowered.recipes, &packed.noise);
    let outcome = Outcome { bytes_read: reader.bytes_read(), bytes_written: packed.bytes_written, warnings };
    let names: Vec<&str> = prepared.graph.rotations().iter().map(|rotation| rotation.name.as_str()).collect();
    let folds = is_called_for(lowered).then(|| Folds::new(lowered, &names, &packed.sources, checkpoint)).transpose()?;
    let lock = Lock {
        version: LOCK_VERSION,
        compiler: format!("lathe {}", env!("CARGO_PKG_VERSION")),
        plan_blake3: blake3::hash(plan.listing(model).as_bytes()).to_string(),
        program_blake3: blake3::hash(program.as_bytes()).to_string(),
        sources: packed.sources,
        outputs: packed.outputs,
        folds,
        calibration_blake3: calibration_blake3.clone(),
    };
    let report = report(prepared, checkpoint, proof, &packed.noise, &outcome);
    staging.write(PROGRAM_FILE, &program)?;
    staging.write(LOCK_FILE, &json(&lock))?;
    staging.write(REPORT_FILE, &json(&report))?;
    staging.publish()?;
    Ok(outcome)
}

fn json(value: &impl serde::Serialize) -> String {
    let text = serde_json::to_string_pretty(value);
    text.expect("invariant: locks and reports hold strings and numbers only") + "\n"
}

fn report(
    prepared: &Prepared,
    checkpoint: &Checkpoint,
    proof: Option<Proof>,
    noise: &[Option<Noise>],
    outcome: &Outcome,
) -> Report {
    let Prepared { model, plan, lowered, warnings, .. } = prepared;
    let params = model.graph.params();
    let noise: BTreeMap<&str, Noise> = lowered
        .recipes
        .iter()
        .zip(noise)
        .filter_map(|(recipe, noise)| Some((recipe.name.as_str(), (*noise)?)))
        .collect();
    let module = |(index, module): (usize, &Module)| {
        let id = ModuleId(index as u32);
        let weight = module.params.first().map(|weight| (&params[weight.index()], plan.encodings[weight.index()]));
        let table = plan.tied_to(module, model).map(|table| &model.modules[table.0 as usize]);
        let own = module.params.iter().skip(usize::from(table.is_some()));
        let values = own.map(|param| params[param.index()].shape.iter().product::<u64>());
        let stored = module.params.iter().map(|param| &params[param.index()]);
        let stored = stored.filter(|param| matches!(param.values, Values::Stored(_)));
        let (stored_bytes, bytes) = plan.bytes(id, model, checkpoint);
        let packed = match table.and_then(|table| table.params.first()) {
            Some(table) => Some(&params[table.index()]),
            None => weight.map(|(weight, _)| weight),
        };
        PackedModule {
            path: module.path.clone(),
            kind: module.kind.name().to_owned(),
            shape: weight.map(|(weight, _)| weight.shape.clone()).unwrap_or_default(),
            format: plan.decision(id).format.format.to_string(),
            packed: weight.map(|(_, encoding)| encoding.format.to_string()),
            input: plan.decision(id).input.format.input().map(|input| input.name().to_owned()),
            stored_parameters: stored.map(|param| param.shape.iter().product::<u64>()).sum(),
            parameters: values.sum(),
            stored_bytes,
            bytes,
            shares: table.map(|table| table.path.clone()),
            sqnr_db: packed.and_then(|weight| noise.get(weight.name.as_str())).map(Noise::decibels),
        }
    };
    Report {
        spec: plan.spec.clone(),
        model: model.name.clone(),
        modules: model.modules.iter().enumerate().map(module).collect(),
        tied: plan
            .ties
            .iter()
            .filter_map(Tie::replacement)
            .map(|(head, table)| format!("{} = {}", params[head.index()].name, params[table.index()].name))
            .collect(),
        bytes_read: outcome.bytes_read,
        bytes_written: outcome.bytes_written,
        frames: ReportedFrames::new(plan),
        proof,
        warnings: warnings
            .iter()
            .chain(&outcome.warnings)
            .map(|warning| format!("{}: {}", warning.code, warning.message))
            .collect(),
    }
}

/// A checkpoint whose tensors are codes of some format cannot be read as numbers.
fn already_quantized(checkpoint: &Checkpoint) -> Option<Diagnostic> {
    let key = "quantization_config";
    let settings = checkpoint.config.get(&[key.to_string()]).filter(|value| !value.is_null())?;
    let method = settings.get("quant_method").and_then(|method| method.as_str()).unwrap_or("an unnamed method");
    let file = checkpoint.config.file.clone();
    let message = format!("{file}: expected weights that are not quantized, found {key} of {method}");
    Some(Diagnostic::error("C0013", message).file(file).help("compile the checkpoint that it was made from"))
}

/// Heads that the config calls tied and that the checkpoint stores with other values.
fn broken_ties(plan: &Plan, model: &Elaborated, checkpoint: &Checkpoint) -> Vec<Diagnostic> {
    let name = |id: crate::ir::ParamId| model.graph.params()[id.index()].name.as_str();
    plan.ties
        .iter()
        .filter(|tie| tie.finding == Finding::Different && tie.candidate.claimed == Some(true))
        .map(|tie| {
            let (head, table) = (name(tie.candidate.head), name(tie.candidate.table));
            let file = checkpoint.config.file.clone();
            let message = format!("{file} says that `{head}` and `{table}` are tied, but they differ: both are kept");
            Diagnostic::warning("C0011", message).file(file).label(tie.candidate.span, "declared here")
        })
        .collect()
}
