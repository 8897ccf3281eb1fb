//! What is the same in both syntaxes: comments and blank lines between the lines.

use std::ops::Range;

use super::lines::{Break, Code, Entry};
use crate::print::line::Line;

/// What the AST does not hold.
#[derive(Debug, Default)]
pub(super) struct Trivia {
    /// Without the blanks behind them, in the order of the text.
    pub(super) comments: Vec<Range<usize>>,
    /// Braces and their partners, in the order of the opening ones. None in YAML.
    pub(super) braces: Vec<(usize, usize)>,
}

/// What is left free before the next line.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Gap {
    /// Nothing: it is the first of a block.
    None,
    /// One line if there is one in the text.
    AsWritten,
    /// One line.
    Line,
}

pub(super) struct Writer<'a> {
    pub(super) text: &'a str,
    pub(super) trivia: Trivia,
    /// Those before it have been written.
    pub(super) next_comment: usize,
    pub(super) entries: Vec<Entry>,
    pub(super) indent: usize,
    /// Where in the text that ends which was written last.
    pub(super) end: usize,
    pub(super) gap: Gap,
}

impl<'a> Writer<'a> {
    pub(super) fn new(text: &'a str, trivia: Trivia) -> Self {
        Writer { text, trivia, next_comment: 0, entries: Vec::new(), indent: 0, end: 0, gap: Gap::None }
    }

    /// Writes what stands before an element: comments, a blank line. Comments within it move before it too.
    pub(super) fn lead(&mut self, element: Range<usize>) {
        self.comments_before(element.start);
        self.leave_gap(element.start);
        self.inner_comments_before(element.end);
        self.end = element.end;
    }

    /// Writes the comments that begin before `end`, each on a line of its own.
    pub(super) fn comments_before(&mut self, end: usize) {
        while let Some(comment) = self.comment_before(end) {
            self.leave_gap(comment.start);
            self.own_line(comment);
        }
    }

    /// The same, with no blank lines between them.
    pub(super) fn inner_comments_before(&mut self, end: usize) {
        while let Some(comment) = self.comment_before(end) {
            self.own_line(comment);
        }
    }

    /// The next comment, if it begins before `end`.
    fn comment_before(&mut self, end: usize) -> Option<Range<usize>> {
        let comment = self.trivia.comments.get(self.next_comment).filter(|comment| comment.start < end)?;
        self.next_comment += 1;
        Some(comment.clone())
    }

    fn own_line(&mut self, comment: Range<usize>) {
        self.end = comment.end;
        self.entries.push(Entry::Comment { indent: self.indent, text: self.text[comment].to_owned() });
    }

    fn leave_gap(&mut self, start: usize) {
        let between = self.text.get(self.end..start).unwrap_or_default();
        // The first and the last are what is left of the lines on which the last element ends and this one begins.
        let lines: Vec<&str> = between.split('\n').collect();
        let written = lines.len() > 2 && lines[1..lines.len() - 1].iter().any(|line| line.trim().is_empty());
        if self.gap == Gap::Line || self.gap == Gap::AsWritten && written {
            self.entries.push(Entry::Blank);
        }
        self.gap = Gap::AsWritten;
    }

    /// Writes a line, and the comment that stands behind what it was written for.
    pub(super) fn push(&mut self, line: Line, breaks: Break) {
        self.push_bare(line, breaks);
        self.trail();
    }

    pub(super) fn push_bare(&mut self, line: Line, breaks: Break) {
        self.entries.push(Entry::Code(Code { indent: self.indent, line, breaks, comment: None }));
    }

    /// Puts a comment that stands on the same line behind the line that was written last.
    pub(super) fn trail(&mut self) {
        let Some(comment) = self.trivia.comments.get(self.next_comment) else { return };
        let between = self.text.get(self.end..comment.start);
        if between.is_some_and(|between| between.bytes().all(|byte| matches!(byte, b' ' | b'\t')))
            && let Some(Entry::Code(code)) = self.entries.last_mut()
        {
            code.comment = Some(self.text[comment.clone()].to_owned());
            self.end = comment.end;
            self.next_comment += 1;
        }
    }
}

/// A line with nothing to align.
pub(super) fn whole(left: String) -> Line {
    Line { left, right: None }
}
