//! Comments and braces of a text in the Lathe language that has no mistakes.

use std::ops::Range;

use super::lines::string_end;

/// What the AST does not hold.
#[derive(Debug, Default)]
pub(super) struct Trivia {
    /// From `//` to the end of the line, in the order of the text.
    pub(super) comments: Vec<Range<usize>>,
    /// Braces and their partners, in the order of the opening ones.
    pub(super) braces: Vec<(usize, usize)>,
}

/// The comments themselves.
pub(super) fn texts(text: &str) -> Vec<&str> {
    scan(text).comments.into_iter().map(|comment| &text[comment]).collect()
}

/// Finds comments and braces outside strings.
pub(super) fn scan(text: &str) -> Trivia {
    let bytes = text.as_bytes();
    let mut trivia = Trivia::default();
    let mut open = Vec::new();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let mut next = at + 1;
        match byte {
            b'"' => next = string_end(text, at),
            b'/' if bytes.get(next) == Some(&b'/') => {
                next = text[at..].find('\n').map_or(text.len(), |length| at + length);
                trivia.comments.push(at..at + text[at..next].trim_end().len());
            }
            b'{' => {
                open.push(trivia.braces.len());
                trivia.braces.push((at, at));
            }
            b'}' => {
                if let Some(opening) = open.pop() {
                    trivia.braces[opening].1 = at;
                }
            }
            _ => {}
        }
        at = next;
    }
    trivia
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_hold_neither() {
        let text = "a \"// { \\\" {\" { // b } \"\n{} } // c\r\n";
        assert_eq!(texts(text), ["// b } \"", "// c"]);
        assert_eq!(scan(text).braces, [(13, 28), (25, 26)]);
    }
}
