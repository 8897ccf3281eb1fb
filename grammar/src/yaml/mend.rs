//! What is done to a text that is not YAML, so that one mistake hides no other.
//!
//! Tabs in the indentation become blanks. What remains is taken apart: into blocks, each a key at the start of a line
//! with all that belongs to it, and blocks into the items or entries below their key. A piece that is not YAML on its
//! own has a mistake of its own. A value that should have stood in quotes is replaced by a word, any other piece with a
//! mistake is blanked; then the whole is read again.

use std::ops::Range;

use crate::diag::Diagnostic;
use crate::pattern::Pattern;
use crate::print::yaml::quoted;
use crate::span::{SourceId, Span};

use super::entry::{Slip, entries, line_of};
use super::layout;
use super::value::{Fault, FaultKind, Node, Value, read};

/// How often one piece is mended before it is blanked.
const MAX_ROUNDS: usize = 8;

/// How many pieces are looked at.
const MAX_PIECES: usize = 1024;

/// A text, as the YAML reader can read it.
pub(super) struct Mended<'a> {
    original: &'a str,
    source: SourceId,
    text: String,
    /// Offsets in `text` and in `original` from which on both run alike, ascending.
    shifts: Vec<(usize, usize)>,
    /// Values that were replaced, in `original`.
    pub(super) replaced: Vec<Span>,
    /// Whether a whole block is blanked, or an item of one.
    pub(super) lost_block: bool,
    pub(super) lost_item: bool,
    pub(super) faults: Vec<Diagnostic>,
}

impl<'a> Mended<'a> {
    pub(super) fn new(original: &'a str, source: SourceId) -> Self {
        Mended {
            original,
            source,
            text: original.to_owned(),
            shifts: Vec::new(),
            replaced: Vec::new(),
            lost_block: false,
            lost_item: false,
            faults: Vec::new(),
        }
    }

    /// Reads the text, mended where that is needed. Places are those of the mended text.
    pub(super) fn read(&mut self) -> Option<Node> {
        let mut fault = match read(&self.text) {
            Ok(root) => return Some(root),
            Err(fault) => fault,
        };
        if !matches!(fault.kind, FaultKind::Limit(_))
            && (self.cut_documents() | self.replace_tabs() | self.blank_comments())
        {
            fault = match read(&self.text) {
                Ok(root) => return Some(root),
                Err(fault) => fault,
            };
        }
        if matches!(fault.kind, FaultKind::Limit(_) | FaultKind::Documents) {
            self.report(&fault, &(0..self.text.len()));
            return None;
        }
        self.mend_blocks();
        match read(&self.text) {
            Ok(root) => Some(root),
            Err(fault) => {
                // Pieces that are YAML each, and are not together.
                let block = blocks(&self.text).into_iter().find(|block| fault.at < block.end);
                if self.faults.is_empty() {
                    self.report(&fault, block.as_ref().unwrap_or(&(0..self.text.len())));
                }
                let block = block?;
                self.blank(block);
                self.lost_block = true;
                read(&self.text).ok()
            }
        }
    }

    /// Where a range of the mended text stands in the original.
    pub(super) fn place(&self, range: &Range<usize>) -> Span {
        let at = |offset: usize| {
            let after = self.shifts.partition_point(|(mended, _)| *mended <= offset);
            let (mended, original) = after.checked_sub(1).map_or((0, 0), |before| self.shifts[before]);
            let limit = self.shifts.get(after).map_or(self.original.len(), |(_, original)| *original);
            (original + offset - mended).min(limit)
        };
        Span::new(self.source, at(range.start)..at(range.end))
    }

    pub(super) fn source(&self) -> SourceId {
        self.source
    }

    fn push(&mut self, at: &Range<usize>, message: String, help: Option<String>) {
        let mut fault = Diagnostic::error("P0006", message).label(self.place(at), "");
        fault.help = help;
        self.faults.push(fault);
    }

    /// Says what made the reader stop in a piece of the text.
    fn report(&mut self, fault: &Fault, piece: &Range<usize>) {
        let at = fault.at..fault.at;
        match &fault.kind {
            FaultKind::Documents => {
                self.push(&at, "a spec is one YAML document; another one begins here".to_owned(), None);
            }
            FaultKind::Limit(message) => {
                self.faults.push(Diagnostic::error("P0007", message).label(self.place(&at), ""));
            }
            FaultKind::Tag => {
                let line = line_of(&self.text, fault.at);
                let tag = self.text[line.clone()].find(" !").map_or(fault.at, |tag| line.start + tag + 1);
                let end = self.text[tag..].find(char::is_whitespace).map_or(self.text.len(), |length| tag + length);
                self.push(&(tag..end), Slip::Tag.message(), Some("drop the tag".to_owned()));
            }
            FaultKind::NullKey => {
                let message = "a key cannot be `~` or `null`".to_owned();
                self.push(&at, message, Some("write the name of a key".to_owned()));
            }
            FaultKind::Merge => {
                let message = "merge keys (`<<`) are not taken".to_owned();
                self.push(&at, message, Some("write the keys out".to_owned()));
            }
            FaultKind::UnknownAlias => {
                let reason = "this is not YAML: no value before this one has the anchor that this alias names";
                let help = short_rule(&self.text[line_of(&self.text, fault.at)]);
                self.push(&at, reason.to_owned(), help);
            }
            FaultKind::Syntax(reason) => {
                if let Some(misplaced) = layout::misplaced(&self.text, piece, fault) {
                    self.push(&misplaced.at, misplaced.message, Some(misplaced.help));
                    return;
                }
                let help = short_rule(&self.text[line_of(&self.text, fault.at)]);
                self.push(&at, format!("this is not YAML: {reason}"), help);
            }
        }
    }

    /// Replaces all but newlines by blanks: offsets stay.
    fn blank(&mut self, range: Range<usize>) {
        let blanks: String = self.text[range.clone()].bytes().map(|b| if b == b'\n' { '\n' } else { ' ' }).collect();
        self.text.replace_range(range, &blanks);
    }

    /// Blanks all documents but the first.
    fn cut_documents(&mut self) -> bool {
        let Some(second) = second_document(&self.text) else { return false };
        self.report(&Fault { kind: FaultKind::Documents, at: second }, &(0..self.text.len()));
        self.blank(second..self.text.len());
        true
    }

    /// Indents with blanks the lines that are indented with tabs, like the lines around them.
    fn replace_tabs(&mut self) -> bool {
        let mut text = String::with_capacity(self.text.len());
        let mut tabs = Vec::new();
        // Of the lines before: indentation, and that of the last item of a list.
        let (mut indentation, mut dash, mut opens) = (0, 0, false);
        for line in lines(&self.text) {
            let written = &self.text[line.clone()];
            let content = written.trim_start_matches([' ', '\t']);
            let before = &written[..written.len() - content.len()];
            if is_blank(content) {
                text.push_str(written);
                continue;
            }
            let is_item = content.starts_with("- ");
            let mut columns = before.len();
            if before.contains('\t') {
                columns = match (is_item, opens) {
                    (true, false) => dash,
                    (_, true) => indentation + 2,
                    (false, false) => indentation,
                };
                tabs.push(line.start..line.start + before.len());
                text.extend(std::iter::repeat_n(' ', columns));
                self.shifts.push((text.len(), line.start + before.len()));
            } else {
                text.push_str(before);
            }
            text.push_str(content);
            let key = if is_item { content[1..].trim_start() } else { content };
            indentation = columns + content.len() - key.len();
            if is_item {
                dash = columns;
            }
            opens = key.trim_end().ends_with(':');
        }
        let Some(first) = tabs.first() else { return false };
        let span = Span::new(self.source, first.clone());
        let mut fault = Diagnostic::error("P0006", "this is not YAML: a tab in the indentation").label(span, "");
        if tabs.len() > 1 {
            fault = fault.note(format!("{} lines are indented with tabs", tabs.len()));
        }
        self.faults.push(fault.help("indent with blanks"));
        self.text = text;
        true
    }

    /// Blanks the lines that are comments in the Lathe language.
    fn blank_comments(&mut self) -> bool {
        let is_comment = |line: &Range<usize>| self.text[line.clone()].trim_start().starts_with("//");
        let comments: Vec<Range<usize>> = lines(&self.text).filter(is_comment).collect();
        let Some(first) = comments.first() else { return false };
        let start = first.end - self.text[first.clone()].trim_start().len();
        let mut fault = Diagnostic::error("P0006", "this is not YAML: a comment that begins with `//`")
            .label(self.place(&(start..start + 2)), "");
        if comments.len() > 1 {
            fault = fault.note(format!("{} lines begin with `//`", comments.len()));
        }
        self.faults.push(fault.help("comments begin with `#`"));
        for comment in comments {
            self.blank(comment);
        }
        true
    }

    fn mend_blocks(&mut self) {
        let mut budget = MAX_PIECES;
        for block in blocks(&self.text) {
            let pieces = pieces(&self.text, &block);
            let is_whole = pieces.len() == 1 && pieces[0] == block;
            for piece in pieces {
                if budget == 0 {
                    return;
                }
                budget -= 1;
                if !self.mend_piece(&piece) {
                    self.blank(piece);
                    *(if is_whole { &mut self.lost_block } else { &mut self.lost_item }) = true;
                }
            }
        }
    }

    /// False when the piece is not YAML, even with some of its values replaced. What is wrong has been reported.
    fn mend_piece(&mut self, piece: &Range<usize>) -> bool {
        for _ in 0..MAX_ROUNDS {
            let fault = match read(&self.text[piece.clone()]) {
                // Nothing: a comment.
                Ok(Node { value: Value::Map(_) | Value::List(_) | Value::Null, .. }) => return true,
                Ok(Node { at, .. }) => {
                    let at = piece.start + at.start..piece.start + at.end;
                    if self.replace_value(piece, at.start) {
                        continue;
                    }
                    match layout::no_colon(&self.text, at.start) {
                        Some(misplaced) => self.push(&misplaced.at, misplaced.message, Some(misplaced.help)),
                        None => self.push(&at, "this is not YAML: expected `KEY: VALUE`".to_owned(), None),
                    }
                    return false;
                }
                Err(fault) => Fault { at: piece.start + fault.at, ..fault },
            };
            let is_limit = matches!(fault.kind, FaultKind::Limit(_) | FaultKind::Documents);
            // The anchor may stand in another piece.
            if matches!(fault.kind, FaultKind::UnknownAlias) && self.is_anchored(fault.at) {
                return true;
            }
            if !is_limit && self.replace_value(piece, fault.at) {
                continue;
            }
            let spoilt = self.faults.iter().any(|known| {
                let piece = self.place(piece);
                known.labels.iter().any(|label| piece.start <= label.span.start && label.span.start < piece.end)
            });
            // What follows from another mistake is not one of its own.
            if !spoilt {
                self.report(&fault, piece);
            }
            return false;
        }
        false
    }

    /// Whether the text holds an anchor for the alias at this place.
    fn is_anchored(&self, at: usize) -> bool {
        let alias = self.text[at..].split(|c: char| c.is_whitespace() || matches!(c, ',' | ']' | '}')).next();
        let name = alias.and_then(|alias| alias.strip_prefix('*'));
        name.is_some_and(|name| !name.is_empty() && self.text.contains(&format!("&{name}")))
    }

    /// Replaces the value in a piece that should have stood in quotes and made the reader stop at `at`.
    fn replace_value(&mut self, piece: &Range<usize>, at: usize) -> bool {
        let mut found = None;
        let mut line = line_of(&self.text, at.min(piece.end.saturating_sub(1)).max(piece.start));
        loop {
            let slips = entries(&self.text, line.start).into_iter().filter_map(|entry| {
                let slip = entry.slip(&self.text)?;
                let holds = (entry.value.start..=entry.value.end).contains(&at);
                (holds || slip == Slip::NoBlank || !entry.is_readable(&self.text)).then_some((holds, entry, slip))
            });
            found = found.or(slips.max_by_key(|(holds, ..)| *holds));
            if found.is_some() || line.start <= piece.start {
                break;
            }
            line = line_of(&self.text, line.start - 1);
        }
        let Some((_, entry, slip)) = found else { return false };
        let help = entry.help(&self.text, slip);
        let (at, replaced) = match slip {
            Slip::OpenQuote => (entry.value.start..entry.value.start + 1, entry.value.clone()),
            Slip::FirstCharacter(_) | Slip::Colon | Slip::Escape(_) => (entry.value.clone(), entry.value.clone()),
            Slip::NoBlank => (entry.key.start..entry.value.start, entry.key.start..entry.value.end),
            Slip::Tag => (entry.tag(&self.text), entry.key.start..entry.value.end),
        };
        self.push(&at, slip.message(), Some(help));
        self.replaced.push(self.place(&replaced));
        if slip == Slip::Tag {
            self.blank(at);
            return true;
        }
        let first = if slip == Slip::NoBlank { " " } else { "x" };
        let word = first.to_owned() + &"x".repeat(entry.value.len() - 1);
        self.text.replace_range(entry.value, &word);
        true
    }
}

/// Where the first document ends that has any content.
fn second_document(text: &str) -> Option<usize> {
    let is_mark = |line: &str| matches!(line.trim_end(), "---" | "...") || line.starts_with("--- ");
    let mut has_content = false;
    lines(text).find_map(|at| {
        let line = &text[at.clone()];
        has_content |= !is_blank(line) && !line.starts_with('%') && !is_mark(line);
        (has_content && is_mark(line)).then_some(at.start)
    })
}

/// For a line `- PATTERN: FORMAT`: how a rule is written.
fn short_rule(line: &str) -> Option<String> {
    let rule = line.trim_start().strip_prefix("- ")?;
    let (pattern, format) = rule.split_once(": ").or_else(|| rule.split_once("=>"))?;
    let is_pattern = pattern.starts_with(['*', '{']) && Pattern::parse(pattern.trim()).is_ok();
    is_pattern.then(|| long_rule(pattern.trim(), format.trim()))
}

/// Help for a rule that is no mapping with the right keys.
pub(super) fn long_rule(pattern: &str, format: &str) -> String {
    let format = if format.contains(": ") { quoted(format) } else { format.to_owned() };
    format!("write `- match: {}`, and `format: {format}` below it", quoted(pattern))
}

/// Without anything but a comment.
pub(super) fn is_blank(line: &str) -> bool {
    let content = line.trim();
    content.is_empty() || content.starts_with('#')
}

pub(super) fn indentation(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// The lines of a text, with their ends.
pub(super) fn lines(text: &str) -> impl Iterator<Item = Range<usize>> {
    text.split_inclusive('\n').scan(0, |start, line| {
        let range = *start..*start + line.len();
        *start = range.end;
        Some(range)
    })
}

/// Cuts a range of a text before each line that is accepted; what stands before the first of them is left out.
fn cut(text: &str, range: &Range<usize>, begins: impl Fn(&str) -> bool) -> Vec<Range<usize>> {
    let mut parts: Vec<Range<usize>> = Vec::new();
    for line in lines(&text[range.clone()]) {
        let line = range.start + line.start..range.start + line.end;
        if begins(&text[line.clone()]) {
            parts.push(line);
        } else if let Some(part) = parts.last_mut() {
            part.end = line.end;
        }
    }
    parts
}

/// A key at the start of a line, and all that belongs to it.
fn blocks(text: &str) -> Vec<Range<usize>> {
    let begins = |first: char| first.is_alphanumeric() || matches!(first, '_' | '"' | '\'');
    cut(text, &(0..text.len()), |line| line.starts_with(begins))
}

/// The items or entries below the key of a block, or the whole block.
fn pieces(text: &str, block: &Range<usize>) -> Vec<Range<usize>> {
    let head = line_of(text, block.start);
    let below = block.end.min(head.end + 1)..block.end;
    let key = text[head].split(" #").next().unwrap_or_default().trim_end();
    let first = lines(&text[below.clone()]).map(|line| &text[below.start + line.start..below.start + line.end]);
    let Some(first) = first.into_iter().find(|line| !is_blank(line)).filter(|_| key.ends_with(':')) else {
        return vec![block.clone()];
    };
    let columns = indentation(first);
    let is_list = first.trim_start().starts_with('-');
    if !is_list && columns == 0 {
        return vec![block.clone()];
    }
    cut(text, &below, |line| {
        !is_blank(line) && indentation(line) <= columns && (!is_list || line.trim_start().starts_with('-'))
    })
}
