//! Diagnostics for people: a snippet of the text at fault, colours on a terminal.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use lathe_grammar::diag::{Diagnostic, Severity};
use lathe_grammar::span::{SourceId, Sources};

use super::Color;

/// Most diagnostics that are shown; a broken checkpoint can have one for each of its tensors.
const MOST: usize = 30;

/// Writes diagnostics to standard error.
pub(super) fn diagnostics(sources: &Sources, diagnostics: &[Diagnostic], color: Color) {
    let colored = match color {
        Color::Auto => io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        Color::Always => true,
        Color::Never => false,
    };
    let renderer = if colored { Renderer::styled() } else { Renderer::plain() };
    let mut text = String::new();
    for diagnostic in diagnostics.iter().take(MOST) {
        text.push_str(&renderer.render(&report(sources, diagnostic)));
        text.push_str("\n\n");
    }
    if diagnostics.len() > MOST {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "… and {} more", diagnostics.len() - MOST);
    }
    // When standard error is closed nobody is listening.
    let _ = io::stderr().write_all(text.as_bytes());
}

fn report<'a>(sources: &'a Sources, diagnostic: &'a Diagnostic) -> Vec<Group<'a>> {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level.primary_title(diagnostic.message.as_str()).id(diagnostic.code);
    let mut group = Group::with_title(title);
    // One snippet for each source, the primary label's first.
    let mut by_source: BTreeMap<(bool, SourceId), Vec<(bool, &lathe_grammar::diag::Label)>> = BTreeMap::new();
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
