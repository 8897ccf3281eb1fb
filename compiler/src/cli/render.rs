//! What goes to standard error: diagnostics and failures, for people or for programs.

mod human;
mod json;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};

use clap::ValueEnum;
use lathe_grammar::diag::{Diagnostic, Severity};
use lathe_grammar::span::{Sources, Span};

/// When messages are coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Color {
    Auto,
    Always,
    Never,
}

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum MessageFormat {
    /// With the text at fault, for people.
    Human,
    /// One line each: FILE:LINE:COLUMN: error[CODE]: MESSAGE.
    Short,
    /// One JSON object a line.
    Json,
}

impl MessageFormat {
    /// What these arguments ask for, when they could not be read as a whole.
    pub(super) fn asked_for(arguments: impl Iterator<Item = OsString>) -> Self {
        let arguments: Vec<String> = arguments.map(|argument| argument.to_string_lossy().into_owned()).collect();
        let values = arguments.iter().enumerate().filter_map(|(index, argument)| {
            let rest = argument.strip_prefix("--message-format")?;
            rest.strip_prefix('=').or_else(|| arguments.get(index + 1).map(String::as_str).filter(|_| rest.is_empty()))
        });
        let known = values.filter_map(|value| MessageFormat::from_str(value, false).ok()).next_back();
        known.unwrap_or(MessageFormat::Human)
    }
}

/// Writes messages to standard error in the format that was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Messages {
    format: MessageFormat,
    colored: bool,
}

impl Messages {
    pub(super) fn new(format: MessageFormat, color: Color) -> Self {
        let colored = match color {
            Color::Auto => io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
            Color::Always => true,
            Color::Never => false,
        };
        Messages { format, colored }
    }

    /// Writes diagnostics in the order of the texts that they point into; those that point into none follow.
    pub(super) fn diagnostics(self, sources: &Sources, diagnostics: &[Diagnostic]) {
        let mut ordered = diagnostics.to_vec();
        ordered.sort_by_key(|diagnostic| {
            let place = diagnostic.labels.first().map(|label| (label.span.source, label.span.start));
            (place.is_none(), place)
        });
        let diagnostics = ordered.as_slice();
        let text = match self.format {
            MessageFormat::Human => human::diagnostics(sources, diagnostics, self.colored),
            MessageFormat::Short => diagnostics.iter().map(|diagnostic| short(sources, diagnostic) + "\n").collect(),
            MessageFormat::Json => diagnostics.iter().map(|diagnostic| json::diagnostic(sources, diagnostic)).collect(),
        };
        say(&text);
    }

    /// Writes why a verb failed that found no fault in a text.
    pub(super) fn failure(self, message: &str) {
        say(&match self.format {
            MessageFormat::Human => format!("error: {message}\n"),
            MessageFormat::Short => format!("error: {}\n", one_line(message)),
            MessageFormat::Json => json::message("error", message),
        });
    }

    /// Writes what was done.
    pub(super) fn status(self, message: &str) {
        say(&match self.format {
            MessageFormat::Human => format!("{message}\n"),
            MessageFormat::Short => format!("{}\n", one_line(message)),
            MessageFormat::Json => json::message("note", message),
        });
    }
}

fn say(text: &str) {
    // When standard error is closed nobody is listening.
    let _ = io::stderr().write_all(text.as_bytes());
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

fn short(sources: &Sources, diagnostic: &Diagnostic) -> String {
    let mut line = String::new();
    // Writing to a string cannot fail.
    if let Some(label) = diagnostic.labels.first() {
        let (row, column) = sources.line_column(label.span);
        let _ = write!(line, "{}:{row}:{column}: ", sources.get(label.span.source).name);
    }
    let severity = severity(diagnostic.severity);
    let _ = write!(line, "{severity}[{}]: {}", diagnostic.code, diagnostic.message);
    one_line(&line)
}

/// Names of files and tensors can hold what ends a line, or moves the cursor of a terminal.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// Line and column of the end of `span`, its last character excluded.
fn end(sources: &Sources, span: Span) -> (usize, usize) {
    sources.line_column(Span { start: span.end, ..span })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_of_messages_is_found_in_arguments_that_are_wrong() {
        let asked = |line: &str| MessageFormat::asked_for(line.split(' ').map(OsString::from));
        assert_eq!(asked("lathe nonsense --message-format json"), MessageFormat::Json);
        assert_eq!(asked("lathe --message-format=short nonsense"), MessageFormat::Short);
        assert_eq!(asked("lathe --message-format=xml --message-format"), MessageFormat::Human);
        assert_eq!(asked("lathe nonsense"), MessageFormat::Human);
    }
}
