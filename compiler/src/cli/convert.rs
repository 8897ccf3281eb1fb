//! `lathe convert`

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use lathe_grammar::ast::{File, Item, ItemKind, Spec};
use lathe_grammar::diag::Diagnostic;
use lathe_grammar::span::{SourceId, Sources, Span};
use lathe_grammar::{comments, is_yaml, parse, print as print_lathe, print_yaml};

use super::render::Messages;
use super::texts::{is_lathe, load_spec, write_file};
use super::{Failure, print};
use crate::spec::{Loaded, apply_overrides};

/// Write a spec in the other syntax.
///
/// What it says stays the same; comments are dropped, with a warning.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Spec: a file, or the name of a shipped one (`lathe list specs`).
    input: String,
    /// Write to this file; .lathe, .yaml or .yml says in which syntax. With -, write to stdout; needs --to.
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Write this syntax; needed where the name of the output does not say.
    #[arg(long, value_enum, value_name = "SYNTAX")]
    to: Option<Syntax>,
    /// Replace a `let` or a setting that stands in the file, as in body.group=64; may be repeated.
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Syntax {
    Lathe,
    Yaml,
}

pub(super) fn run(arguments: &Arguments, messages: Messages) -> Result<(), Failure> {
    let Arguments { input, output, to, set } = arguments;
    let to_stdout = output.as_os_str() == "-";
    let syntax = syntax(output, *to).map_err(Failure::Run)?;
    if !to_stdout && is_same_file(Path::new(input), output) {
        let message = format!("{input} would be overwritten by its conversion; name another file");
        return Err(Failure::Run(message));
    }
    let mut sources = Sources::new();
    let source = load_spec(input, &mut sources)?;
    let parsed = parse(&sources, source);
    let Some(file) = parsed.file.filter(|_| !parsed.diagnostics.iter().any(Diagnostic::is_error)) else {
        return Err(Failure::Input(sources, parsed.diagnostics));
    };
    let file = match overridden(file, source, set, &mut sources) {
        Ok(file) => file,
        Err(diagnostics) => return Err(Failure::Input(sources, diagnostics)),
    };
    let text = match syntax {
        Syntax::Lathe => canonical(print_lathe(&file)),
        Syntax::Yaml => match print_yaml(&file) {
            Some(text) => text,
            None => return Err(Failure::input(&mut sources, not_in_yaml(&file))),
        },
    };
    let mut warnings = parsed.diagnostics;
    warnings.extend(dropped_comments(&sources, source));
    messages.diagnostics(&sources, &warnings);
    if to_stdout { print(&text) } else { write_file(output, &text) }
}

/// The text as `lathe fmt` leaves it.
fn canonical(text: String) -> String {
    let mut sources = Sources::new();
    let source = sources.add("converted.lathe", text.as_str());
    lathe_grammar::format(&sources, source).unwrap_or(text)
}

/// The syntax of the output, of which name and option must say the same.
fn syntax(output: &Path, to: Option<Syntax>) -> Result<Syntax, String> {
    let by_name = match output {
        path if is_lathe(path) => Some(Syntax::Lathe),
        path if is_yaml(path) => Some(Syntax::Yaml),
        _ => None,
    };
    match (by_name, to) {
        (Some(named), Some(to)) if named != to => {
            Err(format!("the extension of {} and --to ask for different syntaxes", output.display()))
        }
        (Some(syntax), _) | (None, Some(syntax)) => Ok(syntax),
        (None, None) => {
            Err("expected an output that ends in .lathe, .yaml or .yml, or --to lathe or --to yaml".to_owned())
        }
    }
}

/// The file with other values in its one spec, and in the `let`s beside it.
fn overridden(
    mut file: File,
    source: SourceId,
    overrides: &[String],
    sources: &mut Sources,
) -> Result<File, Vec<Diagnostic>> {
    if overrides.is_empty() {
        return Ok(file);
    }
    let specs: Vec<Spec> = file.specs().cloned().collect();
    if specs.len() != 1 {
        let message = format!("expected one spec that --set speaks of, found {}", specs.len());
        return Err(vec![Diagnostic::error("S0002", message).label(file.version.span, "")]);
    }
    let of_file = |item: &Item| if let ItemKind::Let(binding) = &item.kind { Some(binding.clone()) } else { None };
    let lets = file.items.iter().filter_map(of_file).collect();
    let file_lets = BTreeMap::from([(source, lets)]);
    let mut loaded = Loaded { source, layers: specs, file_lets, lost: BTreeSet::new(), places: BTreeMap::new() };
    let mut diagnostics = Vec::new();
    apply_overrides(overrides, &mut loaded, sources, &mut diagnostics);
    if !diagnostics.is_empty() {
        return Err(diagnostics);
    }
    let mut specs = loaded.layers.into_iter();
    let mut lets = loaded.file_lets.into_values().flatten();
    for item in &mut file.items {
        match &mut item.kind {
            ItemKind::Spec(spec) => *spec = specs.next().expect("there are as many as before"),
            ItemKind::Let(binding) => *binding = lets.next().expect("there are as many as before"),
            ItemKind::Use(_) | ItemKind::Model(_) => {}
        }
    }
    Ok(file)
}

fn is_same_file(a: &Path, b: &Path) -> bool {
    fs::canonicalize(a).is_ok_and(|a| fs::canonicalize(b).is_ok_and(|b| a == b))
}

/// What is lost: the AST holds no comments.
fn dropped_comments(sources: &Sources, source: SourceId) -> Option<Diagnostic> {
    let Some(found) = comments(sources, source) else {
        let is_possible = sources.get(source).text.contains('#');
        let message = "comments of this file, if it has any, are dropped";
        return is_possible.then(|| Diagnostic::warning("F0003", message).label(Span::new(source, 0..0), ""));
    };
    let (first, count) = (*found.first()?, found.len());
    let message = if count == 1 { "a comment is dropped".to_owned() } else { format!("{count} comments are dropped") };
    Some(Diagnostic::warning("F0003", message).label(first, if count == 1 { "" } else { "the first" }))
}

/// Points at the first item that YAML has no place for.
fn not_in_yaml(file: &File) -> Diagnostic {
    let is_spec = |kind: &ItemKind| matches!(kind, ItemKind::Spec(_));
    let has_spec = file.items.iter().any(|item| is_spec(&item.kind));
    let mut specs = 0;
    let foreign = file.items.iter().find_map(|item| match &item.kind {
        ItemKind::Model(model) => Some((model.name.span, "a model definition")),
        ItemKind::Spec(spec) => {
            specs += 1;
            (specs > 1).then_some((spec.name.span, "a second spec"))
        }
        ItemKind::Let(binding) if has_spec => Some((binding.name.span, "a `let` outside of the spec")),
        ItemKind::Let(_) | ItemKind::Use(_) => None,
    });
    let (span, what) = foreign.unwrap_or((file.version.span, "a file without items"));
    Diagnostic::error("F0003", format!("YAML cannot hold {what}"))
        .label(span, "")
        .help("a YAML file holds one spec, or the names that other specs share: put the rest into another file")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_and_option_say_the_syntax() {
        let of = |output: &str, to| syntax(Path::new(output), to);
        assert_eq!(of("a.lathe", None), Ok(Syntax::Lathe));
        assert_eq!(of("a.yml", Some(Syntax::Yaml)), Ok(Syntax::Yaml));
        assert_eq!(of("-", Some(Syntax::Yaml)), Ok(Syntax::Yaml));
        assert!(of("-", None).is_err() && of("a.txt", None).is_err());
        assert!(of("a.yaml", Some(Syntax::Lathe)).is_err());
    }
}
