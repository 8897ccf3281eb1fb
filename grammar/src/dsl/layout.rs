//! What is done to a text before the grammar sees it, so that the grammar can be simple and one mistake stays small.
//!
//! Comments become blanks, and so do newlines inside `( )` and `[ ]`. Brackets are paired: nesting is bounded here, once
//! for all that follows, and braces that do not pair are mended, so that a block always ends. Every byte keeps its
//! offset; closing braces that are missing are appended.

use crate::diag::Diagnostic;
use crate::span::Span;

use super::Origin;

/// How deep brackets of all kinds may nest together.
pub(super) const MAX_NESTING: usize = 64;

/// The text as the grammar reads it.
#[derive(Debug)]
pub(super) struct Layout {
    /// Same offsets as the source; longer only by braces that were missing.
    pub(super) text: String,
    /// Brackets and strings that do not close.
    pub(super) diagnostics: Vec<Diagnostic>,
    /// False when the nesting is too deep: then the text must not be parsed.
    pub(super) parseable: bool,
}

/// Blanks, pairs and mends.
pub(super) fn lay_out(text: &str, origin: Origin) -> Layout {
    let mut scanner = Scanner::new(text, origin, false);
    let mut parseable = scanner.run();
    if scanner.braces_astray {
        scanner = Scanner::new(text, origin, true);
        parseable = scanner.run();
    }
    let text = String::from_utf8(scanner.output).expect("only whole characters are replaced, by ASCII");
    Layout { text, diagnostics: scanner.diagnostics, parseable }
}

struct Scanner<'a> {
    text: &'a str,
    origin: Origin,
    output: Vec<u8>,
    position: usize,
    /// Opening brackets that wait for their partner: byte and offset.
    open: Vec<(u8, usize)>,
    /// Newlines that became blanks as they stood inside `( )` or `[ ]`.
    blanked_newlines: Vec<usize>,
    /// Braces that were paired, in the order of their ends.
    pairs: Vec<(usize, usize)>,
    /// Some brace has no partner.
    braces_astray: bool,
    /// On the second try, after some brace had no partner: braces with a neighbour, as in `{a,b}` and unlike those of
    /// blocks, must find their partner on their line.
    tight_braces: bool,
    diagnostics: Vec<Diagnostic>,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str, origin: Origin, tight_braces: bool) -> Self {
        Scanner {
            text,
            origin,
            output: text.as_bytes().to_vec(),
            position: 0,
            open: Vec::new(),
            blanked_newlines: Vec::new(),
            pairs: Vec::new(),
            braces_astray: false,
            tight_braces,
            diagnostics: Vec::new(),
        }
    }

    /// False when brackets nest too deep.
    fn run(&mut self) -> bool {
        let bytes = self.text.as_bytes();
        if self.text.starts_with('\u{feff}') {
            self.blank(0, 3);
            self.position = 3;
        }
        while let Some(&byte) = bytes.get(self.position) {
            let start = self.position;
            self.position += 1;
            match byte {
                b'\r' => self.blank(start, start + 1),
                b'\n' => {
                    if self.tight_braces {
                        self.drop_tight_braces();
                    }
                    if self.in_round_or_square() {
                        self.blank(start, start + 1);
                        self.blanked_newlines.push(start);
                    }
                }
                b'/' if bytes.get(self.position) == Some(&b'/') => {
                    self.position = self.line_end(start);
                    self.blank(start, self.position);
                }
                b'"' => self.string(start),
                b'(' | b'[' | b'{' => {
                    if self.open.len() == MAX_NESTING {
                        self.report(start, format!("brackets nest deeper than {MAX_NESTING} levels"));
                        return false;
                    }
                    self.open.push((byte, start));
                }
                b'}' if self.tight_braces && self.is_stray_tight_brace(start) => self.drop_closing(start),
                b')' | b']' | b'}' => self.close(byte, start),
                _ => {}
            }
        }
        self.close_at_end();
        true
    }

    fn in_round_or_square(&self) -> bool {
        self.open.iter().any(|(bracket, _)| *bracket != b'{')
    }

    fn line_end(&self, from: usize) -> usize {
        self.text.as_bytes()[from..].iter().position(|&byte| byte == b'\n').map_or(self.text.len(), |at| from + at)
    }

    fn blank(&mut self, start: usize, end: usize) {
        self.output[start..end].fill(b' ');
    }

    fn report(&mut self, at: usize, message: String) {
        self.diagnostics.push(Diagnostic::error("P0001", message).label(self.span(at, at + 1), ""));
    }

    fn span(&self, start: usize, end: usize) -> Span {
        self.origin.place(start..end)
    }

    /// Skips a string that begins at `start`. One that does not end on its line is blanked.
    fn string(&mut self, start: usize) {
        let bytes = self.text.as_bytes();
        let end = self.line_end(start);
        let mut at = start + 1;
        while at < end {
            match bytes[at] {
                b'"' => {
                    self.position = at + 1;
                    return;
                }
                b'\\' => at += 2,
                _ => at += 1,
            }
        }
        let trimmed = start + self.text[start..end].trim_end().len();
        self.diagnostics.push(
            Diagnostic::error("P0001", "this string has no closing `\"`")
                .label(self.span(start, trimmed), "")
                .help("a string ends on the line on which it begins; write `\\n` for a newline in it"),
        );
        self.blank(start, end);
        self.position = end;
    }

    /// Pairs a closing bracket with the one that it closes.
    fn close(&mut self, closing: u8, at: usize) {
        let opening = match closing {
            b')' => b'(',
            b']' => b'[',
            _ => b'{',
        };
        // A round or square bracket never closes one that stands outside the block around it.
        let reach = match opening {
            b'{' => 0,
            _ => self.open.iter().rposition(|(bracket, _)| *bracket == b'{').map_or(0, |brace| brace + 1),
        };
        let Some(partner) = self.open[reach..].iter().rposition(|(bracket, _)| *bracket == opening) else {
            return self.drop_closing(at);
        };
        let partner = reach + partner;
        self.give_up_on(partner + 1);
        let (_, start) = self.open[partner];
        self.open.truncate(partner);
        if opening == b'{' {
            self.pairs.push((start, at));
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
        while let Some((b'{', start)) = self
            .open
            .pop_if(|(_, start)| self.text.as_bytes().get(*start + 1).is_some_and(|next| !next.is_ascii_whitespace()))
        {
            self.report(start, "this `{` is never closed".to_owned());
            self.blank(start, start + 1);
        }
    }

    /// Whether this is the `}` of `a,b}` with no `{` before it on its line.
    fn is_stray_tight_brace(&self, at: usize) -> bool {
        let line = self.text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let is_tight = self.text[..at].ends_with(|before: char| before.is_ascii_alphanumeric() || before == '*');
        is_tight && self.open.last().is_none_or(|(_, start)| *start < line)
    }

    /// Reports round and square brackets from `first` on as never closed, and lets the lines after them be lines again.
    fn give_up_on(&mut self, first: usize) {
        let Some(&(bracket, start)) = self.open.get(first) else { return };
        self.report(start, format!("this `{}` is never closed", char::from(bracket)));
        self.open.truncate(first);
        while let Some(newline) = self.blanked_newlines.pop_if(|newline| *newline > start) {
            self.output[newline] = b'\n';
        }
    }

    fn close_at_end(&mut self) {
        if let Some(first) = self.open.iter().position(|(bracket, _)| *bracket != b'{') {
            self.give_up_on(first);
        }
        let Some(&(_, innermost)) = self.open.last() else { return };
        self.braces_astray = true;
        let mut diagnostic =
            Diagnostic::error("P0001", "this `{` is never closed").label(self.span(innermost, innermost + 1), "");
        let astray = self.pairs.iter().find(|(start, end)| {
            self.indentation(*end).is_some_and(|indentation| Some(indentation) != self.line_indentation(*start))
        });
        if let Some(&(start, end)) = astray {
            diagnostic = diagnostic
                .label(self.span(start, start + 1), "a `}` may be missing for this one")
                .label(self.span(end, end + 1), "which is closed here, at another indentation");
        }
        self.diagnostics.push(diagnostic);
        self.output.push(b'\n');
        self.output.extend(self.open.iter().map(|_| b'}'));
    }

    /// White space before `at` when nothing else stands before it on its line.
    fn indentation(&self, at: usize) -> Option<usize> {
        let line = self.text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        self.text[line..at].trim().is_empty().then_some(at - line)
    }

    /// White space at the begin of the line of `at`.
    fn line_indentation(&self, at: usize) -> Option<usize> {
        let line = self.text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        Some(self.text[line..].len() - self.text[line..].trim_start_matches([' ', '\t']).len())
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
