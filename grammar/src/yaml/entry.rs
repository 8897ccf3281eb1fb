//! Lines of YAML that no YAML reader takes: which value should have stood in quotes.

use std::ops::Range;

use crate::pattern::{Kind, Pattern};
use crate::print::yaml::{quoted, single_quoted};

use super::KEYS;
use super::spec::{ROTATION, RULE};

/// `KEY: VALUE` on one line. Ranges are bytes of the text.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: Range<usize>,
    pub(super) value: Range<usize>,
}

/// Why a value is not read as it was meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slip {
    /// Its first character means something in YAML.
    FirstCharacter(char),
    /// It holds a `:` that ends a key in YAML.
    Colon,
    /// Its quotes do not close on its line.
    OpenQuote,
    /// No blank stands between it and the colon of its key.
    NoBlank,
    /// Behind `\` in double quotes stands a character that means nothing there.
    Escape(char),
    /// It begins with a tag.
    Tag,
}

/// The entries of the line that holds `at`: one in block style, any number in flow style.
pub(super) fn entries(text: &str, at: usize) -> Vec<Entry> {
    let line = line_of(text, at);
    let mut entries = Vec::new();
    let mut position = line.start;
    let mut in_flow = false;
    while position < line.end {
        let rest = &text[position..line.end];
        if let Some(step) = opening(rest, &mut in_flow) {
            position += step;
            continue;
        }
        let Some(key_length) = key_length(rest) else { break };
        let key = position..position + key_length;
        let behind = text[key.end..line.end].find(':').map_or(line.end, |colon| key.end + colon + 1);
        let start = line.end - text[behind..line.end].trim_start().len();
        let end = start + value_length(&text[start..line.end], in_flow);
        // A line of a mapping in flow style that began on another line ends with a comma.
        let value = start..start + text[start..end].trim_end().trim_end_matches(',').len();
        position = end + usize::from(text[end..line.end].starts_with(','));
        if position == end {
            position = line.end;
        }
        entries.push(Entry { key, value });
    }
    entries
}

/// Length of what stands before a key.
fn opening(rest: &str, in_flow: &mut bool) -> Option<usize> {
    match rest.chars().next()? {
        ' ' | '\t' => Some(1),
        '-' if rest[1..].starts_with([' ', '\t']) => Some(1),
        '{' | '[' => {
            *in_flow = true;
            Some(1)
        }
        _ => None,
    }
}

fn key_length(rest: &str) -> Option<usize> {
    let length = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-').unwrap_or(rest.len());
    let behind = rest[length..].trim_start_matches(' ').strip_prefix(':')?;
    let is_key = behind.is_empty()
        || behind.starts_with([' ', '\t', '"', '\''])
        || behind.starts_with(|c: char| c != ':') && is_known_key(&rest[..length]);
    (length > 0 && is_key).then_some(length)
}

/// Whether a file, a rule or a request has this key.
pub(super) fn is_known_key(name: &str) -> bool {
    [KEYS, RULE, ROTATION].iter().any(|keys| keys.contains(&name))
}

/// Up to a comment; in flow style, or where a line of it was cut off, up to the comma or bracket behind it.
fn value_length(rest: &str, in_flow: bool) -> usize {
    let mut depth = 0_usize;
    let mut quote = None;
    let mut before = ' ';
    for (at, character) in rest.char_indices() {
        match (quote, character) {
            (Some(open), _) if open == character => quote = None,
            (None, '"' | '\'') if at == 0 || rest[at + 1..].contains(character) => quote = Some(character),
            (None, '#') if before == ' ' || before == '\t' => return at,
            (None, ',' | ']' | '}') if depth == 0 && in_flow => return at,
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        before = character;
    }
    rest.len()
}

/// The last place at or before `at` that cuts no character.
pub(super) fn boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// The line that holds `at`, without its end.
pub(super) fn line_of(text: &str, at: usize) -> Range<usize> {
    let at = boundary(text, at);
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[at..].find('\n').map_or(text.len(), |newline| at + newline);
    start..start + text[start..end].trim_end_matches('\r').len()
}

impl Entry {
    /// Whether its value is a pattern.
    pub(super) fn is_pattern(&self, text: &str) -> bool {
        matches!(&text[self.key.clone()], "match" | "of")
    }

    /// What is wrong with the value, if it is not quoted and should be. Aliases and anchors look as if they should.
    pub(super) fn slip(&self, text: &str) -> Option<Slip> {
        let value = &text[self.value.clone()];
        let is_apart = text[..self.value.start].ends_with([' ', '\t']);
        if is_apart || value.is_empty() { self.slip_of_value(text) } else { Some(Slip::NoBlank) }
    }

    fn slip_of_value(&self, text: &str) -> Option<Slip> {
        let value = &text[self.value.clone()];
        let first = value.chars().next()?;
        let is_special = match first {
            '"' | '\'' if !closes(value, first) => return Some(Slip::OpenQuote),
            '"' => return unknown_escape(value).map(Slip::Escape),
            '\'' => return None,
            '{' | '[' | '|' | '>' => self.is_pattern(text),
            '!' => return Some(Slip::Tag),
            '*' | '&' | '%' | '@' | '`' => true,
            _ => false,
        };
        if is_special {
            return Some(Slip::FirstCharacter(first));
        }
        (!value.starts_with(['{', '[', '|', '>']) && (value.contains(": ") || value.ends_with(':')))
            .then_some(Slip::Colon)
    }

    /// Whether YAML may read the value, but not as a text.
    pub(super) fn is_readable(&self, text: &str) -> bool {
        let value = &text[self.value.clone()];
        value.starts_with(['*', '&']) || value.starts_with(['{', '[']) && is_balanced(value)
    }

    /// The tag that the value begins with.
    pub(super) fn tag(&self, text: &str) -> Range<usize> {
        let value = &text[self.value.clone()];
        self.value.start..self.value.start + value.find(char::is_whitespace).unwrap_or(value.len())
    }

    /// What to write instead.
    pub(super) fn help(&self, text: &str, slip: Slip) -> String {
        let (key, value) = (&text[self.key.clone()], &text[self.value.clone()]);
        let what = if self.is_pattern(text) { "pattern" } else { "value" };
        match slip {
            Slip::OpenQuote => format!("close the quotes: {key}: {}", quoted(&value[1..])),
            Slip::Colon if self.is_pattern(text) && value.contains(' ') && !value.starts_with("re:") => {
                "write each entry on a line of its own, or a comma between two".to_owned()
            }
            Slip::FirstCharacter(_) | Slip::Colon => format!("quote this {what}: {key}: {}", quoted(value)),
            Slip::NoBlank => {
                let value = match self.slip_of_value(text) {
                    None => value.to_owned(),
                    Some(Slip::OpenQuote) => quoted(&value[1..]),
                    Some(Slip::Escape(_)) => in_single_quotes(value),
                    Some(_) => quoted(value),
                };
                format!("write a blank behind the colon: {key}: {value}")
            }
            Slip::Escape(_) => format!("use single quotes: {key}: {}", in_single_quotes(value)),
            Slip::Tag => {
                let tag = self.tag(text);
                let rest = text[tag.end..self.value.end].trim_start();
                let name = text[tag].trim_start_matches('!');
                match Kind::from_name(name) {
                    Some(kind) if self.is_pattern(text) => {
                        format!("modules of a kind are written {key}: \":{}\"", kind.name())
                    }
                    _ if self.is_pattern(text) && rest.is_empty() && Pattern::parse(name).is_ok() => {
                        format!("drop the `!`: {key}: {}", quoted(name))
                    }
                    _ => format!("drop the tag: {}", format!("{key}: {rest}").trim_end()),
                }
            }
        }
    }
}

impl Slip {
    /// What is said about it.
    pub(super) fn message(self) -> String {
        match self {
            Slip::FirstCharacter('`') => {
                "this is not YAML: a value that begins with a backquote must stand in quotes".into()
            }
            Slip::FirstCharacter(first) => {
                format!("this is not YAML: a value that begins with `{first}` must stand in quotes")
            }
            Slip::Colon => "this is not YAML: a value that holds `: ` must stand in quotes".to_owned(),
            Slip::OpenQuote => "this is not YAML: these quotes are not closed on their line".to_owned(),
            Slip::NoBlank => "this is not YAML: a blank is missing behind the colon".to_owned(),
            Slip::Escape(character) => {
                let character = character.escape_debug();
                format!("this is not YAML: `\\{character}` means nothing in a text in double quotes")
            }
            Slip::Tag => "tags (`!` before a value) are not taken".to_owned(),
        }
    }
}

/// Whether the quotes of a value close.
fn closes(value: &str, quote: char) -> bool {
    let mut characters = value[1..].chars().peekable();
    while let Some(character) = characters.next() {
        if quote == '"' && character == '\\' {
            characters.next();
        } else if character == quote && (quote == '"' || characters.next_if_eq(&quote).is_none()) {
            return true;
        }
    }
    false
}

/// The first character behind a `\` that means nothing there, in a text in double quotes.
fn unknown_escape(value: &str) -> Option<char> {
    let mut characters = value[1..].chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => return None,
            '\\' => {
                let escaped = characters.next()?;
                if !"0abt\tnvfre \"/\\N_LPxuU".contains(escaped) {
                    return Some(escaped);
                }
            }
            _ => {}
        }
    }
    None
}

/// What a text in double quotes, with `\` in it that were meant literally, is in single ones.
pub(super) fn in_single_quotes(value: &str) -> String {
    let inner = value.strip_prefix('"').unwrap_or(value);
    let inner = inner.strip_suffix('"').unwrap_or(inner);
    single_quoted(&inner.replace("\\\\", "\\").replace("\\\"", "\""))
}

/// Whether brackets close, the first one at the very end.
fn is_balanced(value: &str) -> bool {
    let mut depth = 0_usize;
    for (at, character) in value.char_indices() {
        match character {
            '{' | '[' => depth += 1,
            '}' | ']' if depth == 1 => return at + 1 == value.len(),
            '}' | ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(line: &str) -> Vec<(&str, &str, Option<Slip>)> {
        let text = |range: &Range<usize>| &line[range.clone()];
        entries(line, 0).iter().map(|entry| (text(&entry.key), text(&entry.value), entry.slip(line))).collect()
    }

    #[test]
    fn values_that_should_be_quoted() {
        use Slip::{Colon, FirstCharacter, OpenQuote};
        assert_eq!(found("  - match: **.mlp # all"), [("match", "**.mlp", Some(FirstCharacter('*')))]);
        assert_eq!(found("of: {a,b}.c"), [("of", "{a,b}.c", Some(FirstCharacter('{')))]);
        assert_eq!(found("format: int4(group: 128, per: x)"), [("format", "int4(group: 128, per: x)", Some(Colon))]);
        assert_eq!(found("match: \"a"), [("match", "\"a", Some(OpenQuote))]);
        assert_eq!(found("match: \"a # b\" # c"), [("match", "\"a # b\"", None)]);
        assert_eq!(found("models: [a, b]"), [("models", "[a, b]", None)]);
        assert_eq!(
            found("- {match: {a,b}, format: int4(group: 1), input: k}"),
            [
                ("match", "{a,b}", Some(FirstCharacter('{'))),
                ("format", "int4(group: 1)", Some(Colon)),
                ("input", "k", None)
            ]
        );
        assert_eq!(found("rules:"), [("rules", "", None)]);
        assert_eq!(found("  text"), []);
    }
}
