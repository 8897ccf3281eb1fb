//! Diagnostics as plain data: the user's spec, definition or checkpoint is at fault. Rendering is the binary's job.

use crate::span::Span;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The run goes on.
    Warning,
    /// The run ends with exit code 1 once everything has been looked at.
    Error,
}

/// A range of source text with a word on why it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Where.
    pub span: Span,
    /// What about it; may be empty for the primary label.
    pub message: String,
}

/// One finding. `message` must stand alone: it is all that the short format shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Stable code, listed in [`crate::codes::CODES`].
    pub code: &'static str,
    /// Error or warning.
    pub severity: Severity,
    /// One line, names and numbers on both sides.
    pub message: String,
    /// Primary label first. Empty when the fault lies in a binary file; then `file` says which.
    pub labels: Vec<Label>,
    /// The file at fault, when it is not a text with spans (a checkpoint, a config).
    pub file: Option<String>,
    /// Facts that help to understand.
    pub notes: Vec<String>,
    /// What to do; a piece that can be pasted where there is one.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error with this code and message.
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Error, message.into())
    }

    /// A warning with this code and message.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Warning, message.into())
    }

    fn new(code: &'static str, severity: Severity, message: String) -> Self {
        debug_assert!(crate::codes::find(code).is_some(), "code {code} is not in the table");
        Diagnostic { code, severity, message, labels: Vec::new(), file: None, notes: Vec::new(), help: None }
    }

    /// Adds a label; the first one added is the primary.
    #[must_use]
    pub fn label(mut self, span: Span, message: impl Into<String>) -> Self {
        self.labels.push(Label { span, message: message.into() });
        self
    }

    /// Adds a label where there is a span to point at.
    #[must_use]
    pub fn label_if(self, span: Option<Span>, message: impl Into<String>) -> Self {
        match span {
            Some(span) => self.label(span, message),
            None => self,
        }
    }

    /// Names the file at fault.
    #[must_use]
    pub fn file(mut self, file: impl Into<String>) -> Self {
        self.file = Some(file.into());
        self
    }

    /// Adds a fact.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// True for errors.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// Longer names, in bytes, are like no other. Paths of modules and names of tensors are shorter.
const MAX_COMPARED: usize = 128;

/// The nearest of `candidates` to `name` by edit distance, for "did you mean": at most a third of the letters differ.
/// Names of more than 128 bytes are not compared. Time grows with the number of candidates: callers that may ask often
/// bound it.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = |candidate: &str| name.len().max(candidate.len()).div_ceil(3);
    let is_compared = |candidate: &&str| {
        name.len().max(candidate.len()) <= MAX_COMPARED && name.len().abs_diff(candidate.len()) <= most(candidate)
    };
    candidates
        .into_iter()
        .filter(is_compared)
        .map(|candidate| (edit_distance(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance > 0 && *distance <= most(candidate))
        .min_by_key(|(distance, candidate)| (*distance, candidate.len()))
        .map(|(_, candidate)| candidate)
}

/// Edits from one to the other, in characters; two neighbours that changed places are one edit.
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let mut distance = (last[j] + usize::from(a[i] != b[j])).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                distance = distance.min(before_last[j - 1] + 1);
            }
            row.push(distance);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_prefers_the_closest_and_refuses_strangers() {
        let names = ["self_attn.q_proj", "self_attn.k_proj", "mlp.down_proj"];
        assert_eq!(nearest("mlp.down_prj", names), Some("mlp.down_proj"));
        assert_eq!(nearest("conv1d", names), None);
        assert_eq!(nearest("rulse", ["use", "rules"]), Some("rules"));
    }

    #[test]
    fn nearest_compares_no_long_names() {
        let tensor = "model.vision_tower.vision_model.encoder.layers.26.self_attn.out_proj.weight";
        assert_eq!(nearest(&tensor.replace("out", "uot"), [tensor]), Some(tensor));
        let [name, other] = ["a", "b"].map(|end| "a".repeat(120_000) + end);
        assert_eq!(nearest(&name, [other.as_str(); 1000]), None);
        assert_eq!(nearest("a", [other.as_str(); 1000]), None);
        assert_eq!(nearest(&name, ["a"; 1000]), None);
    }
}
