//! Lines of YAML that stand in the wrong place or lack a character, which a YAML reader notices later and calls by names
//! of its own.

use std::ops::Range;

use super::entry::{entries, is_known_key, line_of};
use super::mend::{indentation, is_blank, lines};
use super::value::{Fault, FaultKind};

/// How many lines are looked at for one that another should stand below.
const MAX_LINES_BACK: usize = 1000;

/// What is wrong with a line.
pub(super) struct Misplaced {
    /// Bytes of the text.
    pub(super) at: Range<usize>,
    pub(super) message: String,
    pub(super) help: String,
}

/// The line of a piece, up to where the reader stopped, that made it stop.
pub(super) fn misplaced(text: &str, piece: &Range<usize>, fault: &Fault) -> Option<Misplaced> {
    let last = line_of(text, fault.at.min(piece.end.saturating_sub(1)).max(piece.start));
    let before = lines(&text[piece.start..last.end]).map(|line| piece.start + line.start);
    let found = before.into_iter().find_map(|start| no_blank(text, start).or_else(|| no_colon(text, start)));
    found.or_else(|| out_of_line(text, &last, fault))
}

/// `-match: …`
fn no_blank(text: &str, at: usize) -> Option<Misplaced> {
    let line = &text[line_of(text, at)];
    let content = line.trim_start();
    let entry = content.strip_prefix('-')?;
    let key = entry.split(':').next().filter(|key| is_known_key(key) && key.len() < entry.len())?;
    let start = line_of(text, at).start + indentation(line);
    Some(Misplaced {
        at: start..start + 1 + key.len(),
        message: "this is not YAML: a blank is missing behind `-`".to_owned(),
        help: format!("write `- {}`", entry.trim_end()),
    })
}

/// `rules`, or `spec a`.
pub(super) fn no_colon(text: &str, at: usize) -> Option<Misplaced> {
    let line = &text[line_of(text, at)];
    let content = line.split(" #").next().unwrap_or_default().trim();
    let content = content.strip_prefix("- ").map_or(content, str::trim_start);
    let (key, value) = content.split_once(' ').unwrap_or((content, ""));
    let value = value.trim_start();
    if !is_known_key(key) || value.starts_with(':') || value.contains(": ") {
        return None;
    }
    let start = content.as_ptr() as usize - text.as_ptr() as usize;
    Some(Misplaced {
        at: start..start + key.len(),
        message: format!("this is not YAML: a colon is missing behind `{key}`"),
        help: format!("write `{}`", format!("{key}: {value}").trim_end()),
    })
}

/// A line that is neither below nor beside the one that it belongs to.
fn out_of_line(text: &str, line: &Range<usize>, fault: &Fault) -> Option<Misplaced> {
    let FaultKind::Syntax(reason) = &fault.kind else { return None };
    if !reason.starts_with("mapping values are not allowed") && !reason.contains("did not find expected") {
        return None;
    }
    let this = Begin::of(text, line.clone())?;
    let before = text[..line.start].split_inclusive('\n').rev().take(MAX_LINES_BACK).scan(line.start, |end, line| {
        let range = *end - line.len()..*end;
        *end = range.start;
        Some(range)
    });
    let mut before = before.filter_map(|line| Begin::of(text, line));
    let other =
        if this.is_item { before.find(|begin| begin.is_item)? } else { before.next().filter(|begin| !begin.opens)? };
    let (column, expected) = if this.is_item { (this.dash, other.dash) } else { (this.key, other.key) };
    if column == expected {
        return None;
    }
    let name = if this.is_item { "-" } else { this.name };
    let above = if this.is_item { "the `-` before it".to_owned() } else { format!("`{}` above it", other.name) };
    Some(Misplaced {
        at: line.start + column..line.start + column + name.len(),
        message: format!(
            "this is not YAML: `{name}` begins in column {}, {above} in column {}",
            column + 1,
            expected + 1
        ),
        help: match expected {
            0 => format!("begin the line with `{name}`"),
            1 => format!("indent `{name}` with 1 blank"),
            _ => format!("indent `{name}` with {expected} blanks"),
        },
    })
}

/// How a line begins that holds a key. Columns are counted from 0.
struct Begin<'a> {
    is_item: bool,
    dash: usize,
    key: usize,
    name: &'a str,
    /// Nothing stands behind the key: what it holds is below.
    opens: bool,
}

impl<'a> Begin<'a> {
    fn of(text: &'a str, line: Range<usize>) -> Option<Self> {
        let written = &text[line.clone()];
        if is_blank(written) {
            return None;
        }
        let entry = entries(text, line.start).into_iter().next()?;
        let dash = indentation(written);
        Some(Begin {
            is_item: written[dash..].starts_with("- "),
            dash,
            key: entry.key.start - line.start,
            name: &text[entry.key.clone()],
            opens: entry.value.is_empty(),
        })
    }
}
