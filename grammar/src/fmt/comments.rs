//! Comments and braces of a text in the Lathe language that has no mistakes.

use super::lines::string_end;
use super::writer::Trivia;

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
        let trivia = scan(text);
        let comments: Vec<&str> = trivia.comments.iter().map(|comment| &text[comment.clone()]).collect();
        assert_eq!(comments, ["// b } \"", "// c"]);
        assert_eq!(trivia.braces, [(14, 28), (25, 26)]);
    }
}
