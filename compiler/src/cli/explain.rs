//! `lathe explain`

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use lathe_grammar::codes::{self, CODES};
use lathe_grammar::diag::{Diagnostic, nearest};
use lathe_grammar::pattern::Pattern;
use lathe_grammar::pattern_diagnostic;
use lathe_grammar::span::{Sources, Span};

use super::layout::{prose_columns, wrap};
use super::render::Messages;
use super::subject::{MODEL_DEF, SET, STRICT, Subject, open_checkpoint};
use super::texts::load_entry;
use super::{Failure, bytes, print};
use crate::compile::{Planned, plan};
use crate::elaborate::{Elaborated, Module, ModuleId};
use crate::model::Checkpoint;
use crate::plan::{By, Decided, Plan, RuleId, fold};
use crate::resolve::nothing_matches;
use crate::spec::{Rule, Stated};

/// Say what a code of a message means, or why a module becomes what it does.
///
/// `lathe explain S0101` explains a code. `lathe explain SPEC CHECKPOINT MODULE` shows the rules that match a module and
/// which of them decides. A code or module that does not exist is an error with exit code 1.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "lathe explain [OPTIONS] <CODE>\n       lathe explain [OPTIONS] <SPEC> <CHECKPOINT> <MODULE>"
)]
pub(super) struct Arguments {
    /// Code, as in S0101; `lathe list codes` shows all. Or a spec: a file, FILE#NAME, or the name of a shipped one.
    #[arg(value_name = "CODE|SPEC")]
    subject_of: String,
    /// Checkpoint: a folder with config.json and safetensors files.
    #[arg(requires = "module")]
    checkpoint: Option<PathBuf>,
    /// Module: its path, or a pattern as in a rule.
    module: Option<String>,
    #[command(flatten)]
    subject: Subject,
}

pub(super) fn run(arguments: &Arguments, messages: Messages) -> Result<(), Failure> {
    match (&arguments.checkpoint, &arguments.module) {
        (Some(checkpoint), Some(module)) => explain_module(arguments, checkpoint, module, messages),
        _ => match arguments.subject.given(&[MODEL_DEF, SET, STRICT]) {
            Some(option) => Err(Failure::Run(format!("{option} is for specs, and a code has none"))),
            None => explain_code(&arguments.subject_of),
        },
    }
}

fn explain_code(written: &str) -> Result<(), Failure> {
    let code = written.to_ascii_uppercase();
    let Some(entry) = codes::find(&code) else {
        let help = match nearest(&code, CODES.iter().map(|entry| entry.code)) {
            Some(near) => format!("did you mean `{near}`? `lathe list codes` shows all"),
            None => "`lathe list codes` shows all".to_owned(),
        };
        return Err(Failure::Unknown(format!("no message has the code `{written}`; {help}")));
    };
    let explanation = wrap(entry.explanation, prose_columns()).join("\n");
    print(&format!("{}: {}\n\n{explanation}\n", entry.code, entry.title))
}

fn explain_module(arguments: &Arguments, checkpoint: &Path, written: &str, messages: Messages) -> Result<(), Failure> {
    let mut sources = Sources::new();
    let spec = load_entry(&arguments.subject_of, &mut sources)?;
    let definition = arguments.subject.definition(&mut sources)?;
    let checkpoint = open_checkpoint(checkpoint, &mut sources)?;
    let planned = match plan(arguments.subject.input(&spec, definition.as_ref(), &checkpoint), &mut sources) {
        Ok(planned) => planned,
        Err(diagnostics) => return Err(Failure::Input(sources, diagnostics)),
    };
    let modules = match find(written, &planned.model, &mut sources) {
        Ok(modules) => modules,
        Err(diagnostic) => return Err(Failure::Input(sources, vec![*diagnostic])),
    };
    let explained = modules.into_iter().map(|id| {
        let path = planned.model.modules[id.0 as usize].path.clone();
        (path, explanation(&planned, id, &checkpoint, &sources))
    });
    let texts: Vec<String> = fold(explained)
        .into_iter()
        .map(|row| {
            let count = if row.count == 1 { String::new() } else { format!(" ({} modules, each)", row.count) };
            format!("{}{count}\n{}", row.path, row.common)
        })
        .collect();
    print(&texts.join("\n"))?;
    if planned.unbuilt.is_empty() {
        return Ok(());
    }
    let diagnostics: Vec<Diagnostic> = planned.unbuilt;
    messages.diagnostics(&sources, &diagnostics);
    Err(Failure::Reported)
}

/// The module of this path, or all that a pattern matches.
fn find(written: &str, model: &Elaborated, sources: &mut Sources) -> Result<Vec<ModuleId>, Box<Diagnostic>> {
    let ids = |matches: &dyn Fn(&Module) -> bool| -> Vec<ModuleId> {
        let matching = model.modules.iter().enumerate().filter(|(_, module)| matches(module));
        matching.map(|(index, _)| ModuleId(index as u32)).collect()
    };
    let exact = ids(&|module| module.path == written);
    if !exact.is_empty() {
        return Ok(exact);
    }
    let source = sources.add("MODULE", written);
    let span = Span::new(source, 0..sources.get(source).text.len());
    let pattern = Pattern::parse(written).map_err(|fault| Box::new(pattern_diagnostic(&fault, span)))?;
    let found = ids(&|module| model.is_match(&pattern, module));
    if found.is_empty() { Err(Box::new(nothing_matches(&pattern, span, model))) } else { Ok(found) }
}

/// Everything about one module but its path.
fn explanation(planned: &Planned, id: ModuleId, checkpoint: &Checkpoint, sources: &Sources) -> String {
    let Planned { model, plan, .. } = planned;
    let module = &model.modules[id.0 as usize];
    let decision = plan.decision(id);
    let shape = module.params.first().map(|param| &model.graph.params()[param.index()].shape);
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "  {} {:?}", module.kind.name(), shape.map_or(&[][..], |shape| &shape[..]));
    if let Some(stored) = &module.stored {
        let _ = writeln!(text, "  stored as `{stored}`, or as a part of it");
    }
    let matching: Vec<RuleId> = plan
        .rules
        .iter()
        .enumerate()
        .filter(|(_, rule)| model.is_match(&rule.pattern.value, module))
        .map(|(index, _)| RuleId(index as u32))
        .collect();
    if matching.is_empty() {
        text.push_str("  no rule matches it\n");
    } else {
        text.push_str("  rules that match; of those that state the same, the last decides:\n");
    }
    for rule in &matching {
        let decides: Vec<&str> = [("format", decision.format.by), ("input", decision.input.by)]
            .into_iter()
            .filter(|(_, by)| *by == By::Rule(*rule))
            .map(|(what, _)| what)
            .collect();
        let verdict = match &decides[..] {
            [] => "overruled".to_owned(),
            what => format!("decides {}", what.join(" and ")),
        };
        let rule = plan.rule(*rule);
        let _ = writeln!(text, "    {}  {}  ({verdict})", place(rule.span, sources), one_line(rule, sources));
    }
    let rule_text = |decided: &Decided| match decided.by {
        By::Nobody => "no rule decides".to_owned(),
        By::Rule(rule) => format!("the last rule that states it, {}", place(plan.rule(rule).span, sources)),
        By::Tie(other) => {
            let other_path = &model.modules[other.0 as usize].path;
            let rule =
                plan.rule_behind(decided).map_or_else(String::new, |rule| format!(", {}", place(rule.span, sources)));
            format!("no rule decides; it shares a table with `{other_path}`, which is decided{rule}")
        }
    };
    let _ = writeln!(text, "  format: {} ({})", decision.format.format, rule_text(&decision.format));
    if crate::plan::takes_input(module.kind) {
        let input = match decision.input.format {
            format if format.is_keep() => "not quantized".to_owned(),
            format => format.to_string(),
        };
        let _ = writeln!(text, "  input: {input} ({})", rule_text(&decision.input));
    }
    text.push_str(&tie(plan, model, module));
    let (before, after) = plan.bytes(id, model, checkpoint);
    let _ = writeln!(text, "  size: {} → {}", bytes(before), bytes(after));
    text
}

fn tie(plan: &Plan, model: &Elaborated, module: &Module) -> String {
    let Some(weight) = module.params.first() else { return String::new() };
    let candidate = plan.ties.iter().find(|tie| tie.candidate.head == *weight || tie.candidate.table == *weight);
    let Some(tie) = candidate else { return String::new() };
    let other = if tie.candidate.head == *weight { tie.candidate.table } else { tie.candidate.head };
    let Some(other) = model.module_of(other) else { return String::new() };
    let other = &model.modules[other.0 as usize].path;
    let shares = if tie.shared { "shares its table with" } else { "has a table of its own, beside" };
    format!("  tied: {shares} `{other}` ({})\n", tie.finding)
}

fn place(span: Span, sources: &Sources) -> String {
    let (line, column) = sources.line_column(span);
    format!("{}:{line}:{column}", sources.get(span.source).name)
}

/// A rule on one line, its formats as they are written.
fn one_line(rule: &Rule, sources: &Sources) -> String {
    let written = |stated: Stated| {
        let text = &sources.get(stated.span.source).text[stated.span.range()];
        text.trim_matches(['"', '\'']).split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let format = rule.format.map(|stated| format!(" {}", written(stated))).unwrap_or_default();
    let input = rule.input.map(|stated| format!(" with input {}", written(stated))).unwrap_or_default();
    let optional = if rule.optional { " optional" } else { "" };
    format!("{} =>{format}{input}{optional}", rule.pattern.value)
}
