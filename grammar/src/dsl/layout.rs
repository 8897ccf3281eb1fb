//! What is done to a text before the grammar sees it, so that the grammar can be simple and one mistake stays small.
//!
//! Comments become blanks, and so do newlines inside `( )` and `[ ]`. Brackets are paired: nesting is bounded here, once
//! for all that follows, and braces that do not pair are mended, so that a block always ends. Every byte keeps its
//! offset; closing braces that are missing are appended.

use crate::diag::Diagnostic;
use crate::parse::MAX_DIAGNOSTICS;

use super::Origin;

/// How deep brackets of all kinds may nest together.
pub(super) const MAX_NESTING: usize = 32;

/// The text as the grammar reads it.
#[derive(Debug)]
pub(super) struct Layout {
    /// Same offsets as the source; longer only by braces that were missing.
    pub(super) text: String,
    /// Brackets and strings that do not close.
    pub(super) diagnostics: Vec<Diagnostic>,
    /// Comments that begin with `#`. They are blanked like those that begin with `//`.
    pub(super) comments: Vec<Diagnostic>,
    /// False when brackets nest too deep, or nearly all are astray: then the text must not be parsed.
    pub(super) parseable: bool,
}

/// Blanks, pairs and mends.
pub(super) fn lay_out(text: &str, origin: Origin) -> Layout {
    let mut scanner = Scanner::new(text, origin, false);
    let mut parseable = scanner.run();
    if parseable && scanner.braces_astray {
        scanner = Scanner::new(text, origin, true);
        parseable = scanner.run();
    }
    let text = String::from_utf8(scanner.output).expect("only whole characters are replaced, by ASCII");
    Layout { text, diagnostics: scanner.diagnostics, comments: scanner.comments, parseable }
}

/// An opening bracket.
#[derive(Debug, Clone, Copy)]
struct Opening {
    bracket: u8,
    at: usize,
    /// Blanks at the start of its line.
    indentation: usize,
}

struct Scanner<'a> {
    text: &'a str,
    origin: Origin,
    output: Vec<u8>,
    position: usize,
    /// Where the line begins that `position` is on, and what is visible on it.
    line_start: usize,
    first_visible: Option<usize>,
    /// Opening brackets that wait for their partner.
    open: Vec<Opening>,
    /// Newlines that became blanks as they stood inside `( )` or `[ ]`.
    blanked_newlines: Vec<usize>,
    /// The first pair of braces of which the second begins a line, but not at the indentation of the first.
    suspect: Option<(usize, usize)>,
    /// Some brace has no partner.
    braces_astray: bool,
    /// On the second try, after some brace had no partner: braces with a neighbour, as in `{a,b}` and unlike those of
    /// blocks, must find their partner on their line.
    tight_braces: bool,
    diagnostics: Vec<Diagnostic>,
    comments: Vec<Diagnostic>,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str, origin: Origin, tight_braces: bool) -> Self {
        Scanner {
            text,
            origin,
            output: text.as_bytes().to_vec(),
            position: 0,
            line_start: 0,
            first_visible: None,
            open: Vec::new(),
            blanked_newlines: Vec::new(),
            suspect: None,
            braces_astray: false,
            tight_braces,
            diagnostics: Vec::new(),
            comments: Vec::new(),
        }
    }

    /// False when the text must not be parsed.
    fn run(&mut self) -> bool {
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.position) {
            let start = self.position;
            self.position += 1;
            if !byte.is_ascii_whitespace() {
                self.first_visible.get_or_insert(start);
            }
            match byte {
                b'\r' => self.blank(start, start + 1),
                b'\n' => self.newline(start),
                b'/' if bytes.get(self.position) == Some(&b'/') => {
                    self.position = self.line_end(start);
                    self.blank(start, self.position);
                }
                b'#' => {
                    let fault = Diagnostic::error("P0001", "a comment begins with `//`, not with `#`");
                    self.comments.push(fault.label(self.origin.place(start..start + 1), ""));
                    self.position = self.line_end(start);
                    self.blank(start, self.position);
                }
                b'"' => self.string(start),
                b'(' | b'[' | b'{' if self.open.len() == MAX_NESTING => {
                    self.report(start, format!("brackets nest deeper than {MAX_NESTING} levels"));
                    return false;
                }
                b'(' | b'[' | b'{' => {
                    let indentation = self.first_visible.map_or(0, |visible| visible - self.line_start);
                    self.open.push(Opening { bracket: byte, at: start, indentation });
                }
                b'}' if self.tight_braces && self.is_stray_tight_brace(start) => self.drop_closing(start),
                b')' | b']' | b'}' => self.close(byte, start),
                _ => {}
            }
            if self.diagnostics.len() + self.comments.len() == MAX_DIAGNOSTICS {
                return false;
            }
        }
        self.close_at_end();
        true
    }

    fn newline(&mut self, at: usize) {
        if self.tight_braces {
            self.drop_tight_braces();
        }
        if self.open.iter().any(|opening| opening.bracket != b'{') {
            self.blank(at, at + 1);
            self.blanked_newlines.push(at);
        }
        self.line_start = at + 1;
        self.first_visible = None;
    }

    fn line_end(&self, from: usize) -> usize {
        self.text[from..].find('\n').map_or(self.text.len(), |at| from + at)
    }

    fn blank(&mut self, start: usize, end: usize) {
        self.output[start..end].fill(b' ');
    }

    fn report(&mut self, at: usize, message: String) {
        self.diagnostics.push(Diagnostic::error("P0001", message).label(self.origin.place(at..at + 1), ""));
    }

    /// Skips a string that begins at `start`. One that does not end on its line is blanked.
    fn string(&mut self, start: usize) {
        let bytes = self.text.as_bytes();
        let mut at = start + 1;
        while let Some(&byte) = bytes.get(at) {
            match byte {
                b'"' => {
                    self.position = at + 1;
                    return;
                }
                b'\n' => break,
                b'\\' if bytes.get(at + 1).is_some_and(|next| *next != b'\n') => at += 2,
                _ => at += 1,
            }
        }
        let end = self.line_end(start);
        let trimmed = start + self.text[start..end].trim_end().len();
        self.diagnostics.push(
            Diagnostic::error("P0001", "this string has no closing `\"`")
                .label(self.origin.place(start..trimmed), "")
                .help("a string ends on the line on which it begins; write `\\n` for a newline in it"),
        );
        self.blank(start, end);
        self.position = end;
    }

    /// Pairs a closing bracket with the one that it closes.
    fn close(&mut self, closing: u8, at: usize) {
        let wanted = match closing {
            b')' => b'(',
            b']' => b'[',
            _ => b'{',
        };
        // A round or square bracket never closes one that stands outside the block around it.
        let reach = match wanted {
            b'{' => 0,
            _ => self.open.iter().rposition(|opening| opening.bracket == b'{').map_or(0, |brace| brace + 1),
        };
        let Some(partner) = self.open[reach..].iter().rposition(|opening| opening.bracket == wanted) else {
            return self.drop_closing(at);
        };
        let partner = reach + partner;
        self.give_up_on(partner + 1);
        let opening = self.open[partner];
        self.open.truncate(partner);
        let begins_line = self.first_visible == Some(at);
        if wanted == b'{' && begins_line && at - self.line_start != opening.indentation {
            self.suspect.get_or_insert((opening.at, at));
        }
    }

    fn drop_closing(&mut self, at: usize) {
        let bracket = self.text.as_bytes()[at];
        self.report(at, format!("this `{}` closes nothing", char::from(bracket)));
        if bracket == b'}' {
            self.braces_astray = true;
            self.blank(at, at + 1);
        }
    }

    /// At the end of a line: reports `{a,b` on it.
    fn drop_tight_braces(&mut self) {
        let bytes = self.text.as_bytes();
        let is_tight = |opening: &mut Opening| {
            opening.bracket == b'{' && bytes.get(opening.at + 1).is_some_and(|next| !next.is_ascii_whitespace())
        };
        while let Some(opening) = self.open.pop_if(is_tight) {
            self.report(opening.at, "this `{` is never closed".to_owned());
            self.blank(opening.at, opening.at + 1);
        }
    }

    /// Whether this is the `}` of `a,b}` with no `{` before it on its line.
    fn is_stray_tight_brace(&self, at: usize) -> bool {
        let is_tight = self.text[..at].ends_with(|before: char| before.is_ascii_alphanumeric() || before == '*');
        is_tight && self.open.last().is_none_or(|opening| opening.at < self.line_start)
    }

    /// Reports round and square brackets from `first` on as never closed, and lets the lines behind them be lines again.
    fn give_up_on(&mut self, first: usize) {
        let Some(opening) = self.open.get(first).copied() else { return };
        self.report(opening.at, format!("this `{}` is never closed", char::from(opening.bracket)));
        self.open.truncate(first);
        while let Some(newline) = self.blanked_newlines.pop_if(|newline| *newline > opening.at) {
            self.output[newline] = b'\n';
        }
    }

    fn close_at_end(&mut self) {
        if let Some(first) = self.open.iter().position(|opening| opening.bracket != b'{') {
            self.give_up_on(first);
        }
        let Some(innermost) = self.open.last() else { return };
        self.braces_astray = true;
        let place = |at: usize| self.origin.place(at..at + 1);
        let mut diagnostic = Diagnostic::error("P0001", "this `{` is never closed").label(place(innermost.at), "");
        if let Some((start, end)) = self.suspect {
            diagnostic = diagnostic
                .label(place(start), "a `}` may be missing for this one")
                .label(place(end), "which is closed here, at another indentation");
        }
        self.diagnostics.push(diagnostic);
        self.output.push(b'\n');
        self.output.extend(self.open.iter().map(|_| b'}'));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::SourceId;

    fn laid_out(text: &str) -> (String, Vec<String>) {
        let layout = lay_out(text, Origin::start(SourceId(0), text.len()));
        let messages = layout.diagnostics.iter().map(|diagnostic| diagnostic.message.clone()).collect();
        (layout.text, messages)
    }

    #[test]
    fn comments_and_inner_newlines_become_blanks() {
        let (text, messages) = laid_out("a // ü (\nf(1,\n  2) \"//\"\n");
        assert_eq!(text, "a        \nf(1,   2) \"//\"\n");
        assert!(messages.is_empty());
    }

    #[test]
    fn an_open_bracket_spoils_its_line_only() {
        let (text, messages) = laid_out("{\nf(a\ng(b)\n}\nh]\n");
        assert_eq!(text, "{\nf(a\ng(b)\n}\nh]\n");
        assert_eq!(messages, ["this `(` is never closed", "this `]` closes nothing"]);
    }

    #[test]
    fn braces_are_mended() {
        assert_eq!(laid_out("{ {").0, "{ {\n}}");
        assert_eq!(laid_out("} x").0, "  x");
    }

    #[test]
    fn braces_of_a_pattern_stay_on_their_line() {
        let (text, messages) = laid_out("{\n{a,b\n}\n");
        assert_eq!(text, "{\n a,b\n}\n");
        assert_eq!(messages, ["this `{` is never closed"]);
        let (text, messages) = laid_out("{\na,b}\n}\n");
        assert_eq!(text, "{\na,b \n}\n");
        assert_eq!(messages, ["this `}` closes nothing"]);
    }

    #[test]
    fn deep_nesting_is_refused() {
        for bracket in ["(", "[", "{"] {
            let layout = lay_out(&bracket.repeat(100_000), Origin::start(SourceId(0), 100_000));
            assert!(!layout.parseable);
            assert_eq!(layout.diagnostics.len(), 1);
        }
    }
}
