//! Text in boxes: how wide it is at most, and how it is made to fit. There is no font here to measure with.

use std::fmt::{self, Write as _};

/// Most columns of a line in a box.
const MOST_COLUMNS: usize = 32;

/// Columns of a character in a font of fixed width.
fn columns(c: char) -> usize {
    match c {
        ' '..='~' | '\u{a0}'..='\u{24f}' | '\u{2010}'..='\u{2027}' | '\u{2190}'..='\u{2193}' => 1,
        _ => 2,
    }
}

/// Width of a line in pixels, of the widest of the fonts that it may be set in.
pub(super) fn width(line: &str, font_size: i64) -> i64 {
    let columns: usize = line.chars().map(columns).sum();
    // 0.62 em: no font in common use for code is wider.
    (columns as i64 * font_size * 62 + 99) / 100
}

/// The line, cut with an ellipsis when it is too long for a box.
pub(super) fn shorten(line: &str) -> String {
    cut(line, MOST_COLUMNS)
}

/// The line, cut with an ellipsis when it has more columns.
pub(crate) fn cut(line: &str, most: usize) -> String {
    if line.chars().map(columns).sum::<usize>() <= most {
        return line.to_owned();
    }
    let mut used = 1;
    let kept = line.chars().take_while(|&c| {
        used += columns(c);
        used <= most
    });
    kept.chain(['…']).collect()
}

/// The text in lines that fit a box, broken at spaces.
pub(super) fn wrap(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().chain([' ']).chain(word.chars()).map(columns).sum::<usize>() <= MOST_COLUMNS => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.iter().map(|line| shorten(line)).collect()
}

/// What XML and DOT can hold: other control characters are replaced.
pub(super) fn printable(c: char) -> char {
    if (c.is_control() && c != '\n') || matches!(c, '\u{fffe}' | '\u{ffff}') { '\u{fffd}' } else { c }
}

/// Text of an element of XML or HTML, or of an attribute in double quotes.
pub(crate) struct Escaped<'a>(pub(crate) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().map(printable).try_for_each(|c| match c {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            c => f.write_char(c),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit() {
        assert_eq!(shorten("self_attn.q_proj"), "self_attn.q_proj");
        let long = "x".repeat(1000);
        for line in [shorten(&long), shorten(&"語".repeat(1000)), wrap(&long).concat()] {
            assert!(line.ends_with('…') && line.chars().map(columns).sum::<usize>() <= MOST_COLUMNS, "{line}");
        }
        let lines = wrap("int4(group: 128, symmetric: false, fit: mse)");
        assert_eq!(lines, ["int4(group: 128, symmetric:", "false, fit: mse)"]);
        assert!(width("語", 12) > width("x", 12));
    }
}
