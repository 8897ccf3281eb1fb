//! Diagnostics as comments below the lines that they are about.

use std::path::Path;

use lathe_grammar::diag::{Diagnostic, Severity};
use lathe_grammar::span::{SourceId, Sources, Span};

use super::text_of;

/// How a comment begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comment {
    /// In the Lathe language.
    Slashes,
    /// In YAML.
    Hash,
}

impl Comment {
    /// In a file of this name.
    pub(super) fn of(path: &Path) -> Self {
        if lathe_grammar::is_yaml(path) { Comment::Hash } else { Comment::Slashes }
    }

    pub(super) fn sign(self) -> &'static str {
        match self {
            Comment::Slashes => "//",
            Comment::Hash => "#",
        }
    }
}

/// The text without the lines that point at mistakes.
pub(super) fn without_marks(text: &str, comment: Comment) -> String {
    let is_mark = |line: &&str| {
        let Some(mark) = line.trim_start().strip_prefix(comment.sign()) else { return false };
        let mark = mark.trim_start();
        ["^", "---", "error[", "warning[", "note: ", "help: ", "|"].iter().any(|start| mark.starts_with(start))
    };
    text_of(text.lines().filter(|line| !is_mark(line)))
}

/// Writes below each line what is wrong in it.
pub(super) fn with_marks(
    sources: &Sources,
    source: SourceId,
    comment: Comment,
    found: &[Diagnostic],
    folder: &Path,
) -> String {
    let comment = comment.sign();
    let lines: Vec<&str> = sources.get(source).text.lines().collect();
    // By line, from 1; at 0 what has no place in this text.
    let mut marks: Vec<Vec<String>> = vec![Vec::new(); lines.len() + 1];
    let at = |column: usize, text: &str| format!("{comment}{:width$}{text}", "", width = column - comment.len());
    for diagnostic in found {
        let severity = match diagnostic.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let title = format!("{severity}[{}]: {}", diagnostic.code, diagnostic.message);
        let mut labels = diagnostic.labels.iter().peekable();
        let (line, column) = match labels.next_if(|label| label.span.source == source) {
            Some(label) => {
                let (line, column, width) = place(sources, label.span);
                let label = if label.message.is_empty() { String::new() } else { format!(" ({})", label.message) };
                marks[line].push(at(column, &format!("{} {title}{label}", "^".repeat(width))));
                (line, column)
            }
            None => {
                marks[0].push(format!("{comment} {title}"));
                (0, comment.len() + 1)
            }
        };
        for label in labels {
            if label.span.source == source {
                let (line, column, width) = place(sources, label.span);
                marks[line].push(at(column, &format!("{} {}", "-".repeat(width.max(3)), label.message)));
            } else {
                let (file, (line_there, column_there)) =
                    (&sources.get(label.span.source).name, sources.line_column(label.span));
                let there = format!("note: {file}:{line_there}:{column_there} {}", label.message);
                marks[line].push(at(column, there.trim_end()));
            }
        }
        let notes = diagnostic.notes.iter().map(|note| format!("note: {note}"));
        for text in notes.chain(diagnostic.help.iter().map(|help| format!("help: {help}"))) {
            let more = |(index, line): (usize, &str)| if index == 0 { line.to_string() } else { format!("| {line}") };
            marks[line].extend(text.lines().enumerate().map(more).map(|text| at(column, text.trim_end())));
        }
    }
    let head = lines.iter().take_while(|line| line.starts_with(comment)).count();
    let mut out: Vec<&str> = Vec::new();
    for (index, line) in lines.into_iter().enumerate() {
        if index == head {
            out.extend(marks[0].iter().map(String::as_str));
        }
        out.push(line);
        out.extend(marks[index + 1].iter().map(String::as_str));
    }
    text_of(out).replace(folder.to_str().expect("paths of the tests are UTF-8"), "[checkpoint]")
}

/// Line (from 1), column (from 0) and width of the part of a span on its first line. A span at the very start of a line
/// moves aside for the sign of the comment.
fn place(sources: &Sources, span: Span) -> (usize, usize, usize) {
    let (line, column) = sources.line_column(span);
    let covered = &sources.get(span.source).text[span.range()];
    let width = covered.lines().next().unwrap_or_default().chars().count().max(1);
    (line, column.max(4) - 1, width)
}
