//! Text that fits a terminal.

use std::io;

use terminal_size::{Width, terminal_size_of};

/// Widest lines of prose, in characters: longer ones are hard to read.
const MOST_COLUMNS: usize = 100;

/// Columns of the terminal that standard output goes to; `None` when it goes elsewhere.
pub(super) fn terminal_columns() -> Option<usize> {
    terminal_size_of(io::stdout()).map(|(Width(columns), _)| usize::from(columns))
}

/// Columns for prose.
pub(super) fn prose_columns() -> usize {
    terminal_columns().unwrap_or(MOST_COLUMNS).min(MOST_COLUMNS)
}

/// Lines of at most `columns` characters. A word that is longer has a line of its own.
pub(super) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_whole() {
        assert_eq!(wrap("one two  three\nfour", 9), ["one two", "three", "four"]);
        assert_eq!(wrap("größer größer", 13), ["größer größer"]);
        assert_eq!(wrap("a incomprehensibility b", 5), ["a", "incomprehensibility", "b"]);
        assert!(wrap(" ", 5).is_empty());
    }
}
