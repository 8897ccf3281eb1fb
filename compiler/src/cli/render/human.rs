//! Diagnostics for people: a snippet of the text at fault, colours on a terminal, and a line at the end that counts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use lathe_grammar::diag::{Diagnostic, Label, Severity};
use lathe_grammar::span::{SourceId, Sources};

/// Most diagnostics that are shown; a broken checkpoint can have one for each of its tensors.
const MOST: usize = 30;

/// Most codes that the last line names.
const MOST_CODES: usize = 4;

pub(super) fn diagnostics(sources: &Sources, diagnostics: &[Diagnostic], colored: bool) -> String {
    let renderer = if colored { Renderer::styled() } else { Renderer::plain() };
    let mut text = String::new();
    let mut shown: Vec<&Diagnostic> = diagnostics.iter().collect();
    if shown.len() > MOST {
        shown.sort_by_key(|diagnostic| !diagnostic.is_error());
    }
    for diagnostic in shown.into_iter().take(MOST) {
        text.push_str(&renderer.render(&report(sources, diagnostic)));
        text.push_str("\n\n");
    }
    if diagnostics.len() > MOST {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "… and {} more", diagnostics.len() - MOST);
    }
    if !diagnostics.is_empty() {
        text.push_str(&renderer.render(&[summary(diagnostics)]));
        text.push('\n');
    }
    text
}

/// How many there were, and how to learn more about them.
fn summary(diagnostics: &[Diagnostic]) -> Group<'static> {
    let errors = diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).count();
    let warnings = diagnostics.len() - errors;
    let counts = [counted(errors, "error"), counted(warnings, "warning")].into_iter().flatten();
    let counts = counts.collect::<Vec<_>>().join(", ");
    let codes: BTreeSet<&str> = diagnostics.iter().map(|diagnostic| diagnostic.code).collect();
    let mut codes = codes.into_iter();
    let first = codes.next().unwrap_or_default();
    let others: Vec<&str> = codes.by_ref().take(MOST_CODES - 1).collect();
    let others = match (others.is_empty(), codes.next()) {
        (true, _) => String::new(),
        (false, None) => format!(", also of {}", others.join(", ")),
        (false, Some(_)) => format!(", also of {}, …", others.join(", ")),
    };
    let level = if errors > 0 { Level::ERROR } else { Level::WARNING };
    Group::with_title(level.primary_title(format!("{counts}; `lathe explain {first}` says more{others}")))
}

fn counted(count: usize, what: &str) -> Option<String> {
    match count {
        0 => None,
        1 => Some(format!("1 {what}")),
        _ => Some(format!("{count} {what}s")),
    }
}

fn report<'a>(sources: &'a Sources, diagnostic: &'a Diagnostic) -> Vec<Group<'a>> {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level.primary_title(diagnostic.message.as_str()).id(diagnostic.code);
    let mut group = Group::with_title(title);
    // One snippet for each source, the primary label's first.
    let mut by_source: BTreeMap<(bool, SourceId), Vec<(bool, &Label)>> = BTreeMap::new();
    let primary = diagnostic.labels.first().map(|label| label.span.source);
    for (index, label) in diagnostic.labels.iter().enumerate() {
        let source = label.span.source;
        by_source.entry((Some(source) != primary, source)).or_default().push((index == 0, label));
    }
    for ((_, id), labels) in by_source {
        let source = sources.get(id);
        let annotations = labels.into_iter().map(|(primary, label)| {
            let kind = if primary { AnnotationKind::Primary } else { AnnotationKind::Context };
            let end = (label.span.end as usize).min(source.text.len());
            let start = (label.span.start as usize).min(end);
            let annotation = kind.span(start..end);
            if label.message.is_empty() { annotation } else { annotation.label(label.message.as_str()) }
        });
        let snippet =
            Snippet::source(source.text.as_str()).path(source.name.as_str()).fold(true).annotations(annotations);
        group = group.element(snippet);
    }
    for note in &diagnostic.notes {
        group = group.element(Level::NOTE.message(note.as_str()));
    }
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    vec![group]
}
