//! Lines of a spec in YAML: its entries in their order, two blanks for each level, and its comments in between.

use std::ops::Range;

use super::lines::{Break, Entry, MAX_WIDTH};
use super::writer::{Gap, Trivia, Writer, whole};
use crate::dsl::{Origin, parse_expression};
use crate::pattern::Pattern;
use crate::print::yaml::{quoted, scalar};
use crate::span::{SourceId, Span};
use crate::yaml::value::{Key, Node, Value};

/// How much deeper stands what is inside.
const STEP: usize = 2;

/// Finds comments; or where something stands that is neither comment, nor list or mapping, nor a number or a text on one
/// line: anchors, aliases, tags, directives, blocks of text.
pub(super) fn scan(text: &str, root: &Node) -> Result<Trivia, Range<usize>> {
    let mut scalars = Vec::new();
    collect_scalars(text, root, &mut scalars)?;
    scalars.sort_by_key(|scalar| scalar.start);
    let mut scalars = scalars.into_iter().peekable();
    let mut trivia = Trivia::default();
    let mut at = 0;
    while let Some(character) = text[at..].chars().next() {
        if let Some(scalar) = scalars.next_if(|scalar| scalar.start <= at) {
            at = at.max(scalar.end);
        } else if character == '#' && text[..at].chars().next_back().is_none_or(char::is_whitespace) {
            let end = text[at..].find('\n').map_or(text.len(), |length| at + length);
            trivia.comments.push(at..at + text[at..end].trim_end().len());
            at = end;
        } else if character.is_whitespace() || "-:,[]{}\u{feff}".contains(character) {
            at += character.len_utf8();
        } else {
            return Err(at..at + character.len_utf8());
        }
    }
    Ok(trivia)
}

/// Where keys, numbers and texts stand; or one that is not written as a word or in quotes.
fn collect_scalars(text: &str, node: &Node, scalars: &mut Vec<Range<usize>>) -> Result<(), Range<usize>> {
    let mut add = |at: &Range<usize>, is_whole: bool| {
        scalars.push(at.clone());
        if is_whole && !text[at.clone()].starts_with(['&', '*', '!', '|', '>']) { Ok(()) } else { Err(at.clone()) }
    };
    let is_text = |at: &Range<usize>, value: &str| {
        let written = &text[at.clone()];
        let is_quoted = |quote| written.len() > 1 && written.starts_with(quote) && written.ends_with(quote);
        written == value || is_quoted('"') || is_quoted('\'')
    };
    match &node.value {
        Value::Null if node.at.is_empty() => Ok(()),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
            add(&node.at, !text[node.at.clone()].contains(char::is_whitespace))
        }
        Value::Text(value) => add(&node.at, is_text(&node.at, value)),
        Value::List(items) => items.iter().try_for_each(|item| collect_scalars(text, item, scalars)),
        Value::Map(entries) => {
            for (key, _) in entries {
                add(&key.at, is_text(&key.at, &key.name))?;
            }
            entries.iter().try_for_each(|(_, value)| collect_scalars(text, value, scalars))
        }
    }
}

/// What is written for a text, of which `root` is the tree.
pub(super) fn entries(text: &str, trivia: Trivia, root: &Node) -> Vec<Entry> {
    let mut writer = Writer::new(text, trivia);
    match &root.value {
        Value::Map(entries) if !entries.is_empty() => writer.mapping("", entries, false),
        _ => {
            writer.lead(root.at.clone());
            writer.push(whole(flow(text, "", root)), Break::Never);
        }
    }
    writer.comments_before(text.len());
    writer.entries
}

impl Writer<'_> {
    /// The entries of a mapping. That of an item of a list begins with a dash, two columns before its keys.
    fn mapping(&mut self, parent: &str, entries: &[(Key, Node)], is_item: bool) {
        for (i, (key, value)) in entries.iter().enumerate() {
            let has_dash = is_item && i == 0;
            if has_dash {
                self.indent -= STEP;
            }
            let head = format!("{}{}:", if has_dash { "- " } else { "" }, scalar(&key.name));
            let colon = key.at.end + self.text[key.at.end..].find(':').map_or(0, |at| at + 1);
            let inline = self.inline(meaning(parent, &key.name), value, head.len() + 1);
            let whole_line = inline.as_ref().map(|text| format!("{head} {text}").trim_end().to_owned());
            self.lead(key.at.start..if inline.is_some() { colon.max(value.at.end) } else { colon });
            self.push(whole(whole_line.unwrap_or(head)), Break::Never);
            if has_dash {
                self.indent += STEP;
            }
            if inline.is_none() {
                self.below(key, value);
            }
        }
    }

    /// A list or mapping below its key.
    fn below(&mut self, key: &Key, value: &Node) {
        self.gap = Gap::None;
        self.indent += STEP;
        match &value.value {
            Value::List(items) => items.iter().for_each(|item| self.list_item(item)),
            Value::Map(entries) => self.mapping(&key.name, entries, false),
            _ => {}
        }
        self.comments_deeper_than(self.column(key.at.start));
        self.indent -= STEP;
    }

    fn list_item(&mut self, item: &Node) {
        let inline = self.inline("", item, 2);
        match (&item.value, inline) {
            (Value::Map(entries), None) => {
                let column = self.column(item.at.start);
                self.indent += STEP;
                self.mapping("", entries, true);
                self.comments_deeper_than(column.saturating_sub(1));
                self.indent -= STEP;
            }
            (_, inline) => {
                self.lead(item.at.clone());
                let text = inline.unwrap_or_else(|| flow(self.text, "", item));
                self.push(whole(format!("- {text}")), Break::Never);
            }
        }
    }

    /// A value that can stand on the line of its key: no list or mapping that does not in the text, or is too long.
    fn inline(&self, key: &str, value: &Node, before: usize) -> Option<String> {
        let text = flow(self.text, key, value);
        let bracket = match &value.value {
            Value::List(items) if !items.is_empty() => '[',
            Value::Map(entries) if !entries.is_empty() => '{',
            _ => return Some(text),
        };
        let fits = self.indent + before + text.chars().count() <= MAX_WIDTH;
        (fits && self.text[value.at.clone()].starts_with(bracket)).then_some(text)
    }

    /// Writes the comments that follow, as long as they are indented more than `column`.
    fn comments_deeper_than(&mut self, column: usize) {
        while let Some(comment) = self.trivia.comments.get(self.next_comment) {
            let comment = comment.clone();
            let is_next = self.text[self.end..comment.start].chars().all(|c| c.is_whitespace() || "]},".contains(c));
            if !is_next || self.column(comment.start) <= column {
                return;
            }
            self.comments_before(comment.end);
        }
    }

    /// Bytes before `at` on its line.
    fn column(&self, at: usize) -> usize {
        at - self.text[..at].rfind('\n').map_or(0, |newline| newline + 1)
    }
}

/// A value on one line. `key` says what a text is.
fn flow(text: &str, key: &str, node: &Node) -> String {
    match &node.value {
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => text[node.at.clone()].to_owned(),
        Value::Text(value) => canonical(key, value),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(|item| flow(text, "", item)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Map(entries) => {
            let entry = |(name, value): &(Key, Node)| {
                format!("{}: {}", scalar(&name.name), flow(text, meaning(key, &name.name), value)).trim_end().to_owned()
            };
            let entries: Vec<String> = entries.iter().map(entry).collect();
            format!("{{{}}}", entries.join(", "))
        }
    }
}

/// The key that says what a text is: the values of `let` are formats, whatever their names.
fn meaning<'a>(parent: &str, key: &'a str) -> &'a str {
    if parent == "let" { "format" } else { key }
}

/// A text in YAML: patterns and formats as they are printed, quotes where they are needed.
fn canonical(key: &str, value: &str) -> String {
    match key {
        "match" | "of" => {
            quoted(&Pattern::parse(value).map_or_else(|_| value.to_owned(), |pattern| pattern.to_string()))
        }
        "format" | "input" | "by" | "kv_cache" => {
            let origin = Origin::whole(Span::new(SourceId(0), 0..value.len()));
            let (expression, diagnostics) = parse_expression(value, origin);
            match expression {
                Some(expression) if diagnostics.is_empty() => scalar(&expression.to_string()),
                _ => scalar(value),
            }
        }
        _ => scalar(value),
    }
}
