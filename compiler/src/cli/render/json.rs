//! Messages for programs: one JSON object a line, every key in each.

use lathe_grammar::diag::{Diagnostic, Label};
use lathe_grammar::span::Sources;
use serde::Serialize;

/// A line. What a message does not have is null.
#[derive(Serialize)]
struct Line<'a> {
    code: Option<&'a str>,
    /// `error`, `warning`, or `note` for what is neither: what was done.
    severity: &'a str,
    message: &'a str,
    #[serde(flatten)]
    place: Place<'a>,
    labels: Vec<MarkedPlace<'a>>,
    notes: &'a [String],
    help: Option<&'a str>,
}

#[derive(Serialize)]
struct MarkedPlace<'a> {
    #[serde(flatten)]
    place: Place<'a>,
    message: &'a str,
    primary: bool,
}

/// Lines and columns count from 1, columns in characters, bytes from 0; ends are one past the last.
#[derive(Serialize, Default)]
struct Place<'a> {
    file: Option<&'a str>,
    line: Option<usize>,
    column: Option<usize>,
    end_line: Option<usize>,
    end_column: Option<usize>,
    byte_start: Option<u32>,
    byte_end: Option<u32>,
}

impl<'a> Place<'a> {
    fn of(sources: &'a Sources, label: &Label) -> Self {
        let (line, column) = sources.line_column(label.span);
        let (end_line, end_column) = super::end(sources, label.span);
        Place {
            file: Some(&sources.get(label.span.source).name),
            line: Some(line),
            column: Some(column),
            end_line: Some(end_line),
            end_column: Some(end_column),
            byte_start: Some(label.span.start),
            byte_end: Some(label.span.end),
        }
    }
}

pub(super) fn diagnostic(sources: &Sources, diagnostic: &Diagnostic) -> String {
    let place = match diagnostic.labels.first() {
        Some(label) => Place::of(sources, label),
        None => Place { file: diagnostic.file.as_deref(), ..Place::default() },
    };
    let labels = diagnostic.labels.iter().enumerate().map(|(index, label)| MarkedPlace {
        place: Place::of(sources, label),
        message: &label.message,
        primary: index == 0,
    });
    line(&Line {
        code: Some(diagnostic.code),
        severity: super::severity(diagnostic.severity),
        message: &diagnostic.message,
        place,
        labels: labels.collect(),
        notes: &diagnostic.notes,
        help: diagnostic.help.as_deref(),
    })
}

/// A message that is no diagnostic.
pub(super) fn message(severity: &str, message: &str) -> String {
    let place = Place::default();
    line(&Line { code: None, severity, message, place, labels: Vec::new(), notes: &[], help: None })
}

fn line(line: &Line<'_>) -> String {
    serde_json::to_string(line).expect("invariant: messages hold strings and numbers only") + "\n"
}
