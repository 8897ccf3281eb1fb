//! Lines of a formatted file: what stands in columns, what is too long, how comments follow.

use crate::print::line::Line;

/// No line is longer where a call or a list in it can be broken.
pub(super) const MAX_WIDTH: usize = 120;

/// How much deeper stands what is inside.
pub(super) const STEP: usize = 4;

/// What is written one below the other.
#[derive(Debug)]
pub(super) enum Entry {
    Blank,
    /// On a line of its own.
    Comment {
        indent: usize,
        text: String,
    },
    Code(Code),
}

/// A line, or a few when it is too long, and the comment behind it.
#[derive(Debug)]
pub(super) struct Code {
    pub(super) indent: usize,
    pub(super) line: Line,
    pub(super) breaks: Break,
    pub(super) comment: Option<String>,
}

/// Where a line that is too long may be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Break {
    /// Between the elements of the last call or list behind the mark, of which then each has its own line.
    Elements,
    /// Behind each comma: it ends in a list of names.
    Names,
    Never,
}

/// Text of the entries.
pub(super) fn render(entries: &[Entry]) -> String {
    let mut text = String::new();
    let mut rest = entries;
    while let Some((entry, behind)) = rest.split_first() {
        rest = behind;
        match entry {
            Entry::Blank => text.push('\n'),
            Entry::Comment { indent, text: comment } => push_line(&mut text, *indent, comment),
            Entry::Code(first) => {
                let others = behind.iter().map_while(|entry| match entry {
                    Entry::Code(code) if code.is_aligned_with(first) => Some(code),
                    _ => None,
                });
                let run: Vec<&Code> = std::iter::once(first).chain(others).collect();
                render_run(&run, &mut text);
                rest = &behind[run.len() - 1..];
            }
        }
    }
    text
}

fn push_line(text: &mut String, indent: usize, line: &str) {
    text.extend(std::iter::repeat_n(' ', indent));
    text.push_str(line);
    text.push('\n');
}

impl Code {
    /// Both have the same mark, and the same one of these keywords or none.
    fn is_aligned_with(&self, other: &Code) -> bool {
        let keyword = |code: &Code| ["let ", "alias "].iter().position(|keyword| code.line.left.starts_with(keyword));
        let run = |code: &Code| code.line.right.as_ref().map(|(mark, _)| (*mark, keyword(code)));
        self.indent == other.indent && run(self).is_some() && run(self) == run(other)
    }

    fn text(&self, left_width: usize) -> String {
        match &self.line.right {
            Some((mark, right)) => format!("{:left_width$} {mark} {right}", self.line.left),
            None => self.line.left.clone(),
        }
    }

    fn fits(&self, left_width: usize) -> bool {
        self.indent + width(&self.text(left_width)) <= MAX_WIDTH
    }

    /// Its lines, with their levels.
    fn broken(&self, left_width: usize) -> Vec<(usize, String)> {
        let text = self.text(left_width);
        match self.breaks {
            Break::Elements => {
                let from = self.line.right.as_ref().map_or(0, |(_, right)| text.len() - right.len());
                broken(text, from, self.indent)
            }
            Break::Names => wrapped(&text, self.indent),
            Break::Never => vec![(self.indent, text)],
        }
    }
}

/// Lines that are aligned unless one would be too long only for that.
fn render_run(run: &[&Code], text: &mut String) {
    let widest = run.iter().map(|code| width(&code.line.left)).max().unwrap_or(0);
    let left_width = if run.iter().all(|code| code.fits(widest) || !code.fits(0)) { widest } else { 0 };
    let texts: Vec<Vec<(usize, String)>> = run.iter().map(|code| code.broken(left_width)).collect();
    let last_width = |i: usize| texts[i].last().map_or(0, |(indent, line)| indent + width(line));
    let mut comment_column = 0;
    for (i, code) in run.iter().enumerate() {
        let Some((last, before)) = texts[i].split_last() else { continue };
        for (indent, line) in before {
            push_line(text, *indent, line);
        }
        let Some(comment) = &code.comment else {
            push_line(text, last.0, &last.1);
            continue;
        };
        if i == 0 || run[i - 1].comment.is_none() {
            let commented = (i..run.len()).take_while(|i| run[*i].comment.is_some());
            comment_column = commented.map(last_width).max().unwrap_or(0) + 2;
        }
        let gap = comment_column - last_width(i);
        push_line(text, last.0, &format!("{}{:gap$}{comment}", last.1, ""));
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// Fills names into lines.
fn wrapped(names: &str, indent: usize) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut rest = names;
    while !rest.is_empty() {
        let comma = marks(rest, 0).find(|(_, mark)| *mark == b',').map_or(rest.len(), |(at, _)| at + 1);
        let (name, behind) = rest.split_at(comma);
        rest = behind.trim_start();
        match lines.last_mut() {
            Some((indent, line)) if *indent + width(line) + 1 + width(name) <= MAX_WIDTH => {
                line.push(' ');
                line.push_str(name);
            }
            last => {
                let indent = indent + if last.is_some() { STEP } else { 0 };
                lines.push((indent, name.to_owned()));
            }
        }
    }
    lines
}

/// Breaks a line behind `from` that is too long: the elements of its last call or list, one per line. A line without
/// any stays whole.
fn broken(line: String, from: usize, indent: usize) -> Vec<(usize, String)> {
    if indent + width(&line) <= MAX_WIDTH {
        return vec![(indent, line)];
    }
    let Some(group) = last_group(&line, from) else { return vec![(indent, line)] };
    let mut lines = vec![(indent, line[..=group.open].to_owned())];
    for element in group.elements(&line) {
        lines.extend(broken(format!("{element},"), 0, indent + STEP));
    }
    lines.push((indent, line[group.close..].to_owned()));
    lines
}

/// Brackets around a list of elements.
struct Group {
    open: usize,
    /// The commas between its elements.
    commas: Vec<usize>,
    close: usize,
}

impl Group {
    fn elements<'a>(&self, line: &'a str) -> impl Iterator<Item = &'a str> {
        let starts = std::iter::once(self.open).chain(self.commas.iter().copied());
        let ends = self.commas.iter().copied().chain([self.close]);
        starts.zip(ends).map(|(start, end)| line[start + 1..end].trim())
    }
}

/// The last arguments of a call or elements of a list behind `from` that stand in no other brackets.
fn last_group(line: &str, from: usize) -> Option<Group> {
    let mut last = None;
    let mut open: Vec<Group> = Vec::new();
    for (at, mark) in marks(line, from) {
        match mark {
            b'(' | b'[' | b'{' => open.push(Group { open: at, commas: Vec::new(), close: at }),
            b',' => {
                if let Some(group) = open.last_mut() {
                    group.commas.push(at);
                }
            }
            _ => {
                let group = open.pop()?;
                let is_behind_value =
                    line[..group.open].ends_with(|before: char| before.is_alphanumeric() || "_)]".contains(before));
                let has_elements = match line.as_bytes()[group.open] {
                    b'(' => is_behind_value,
                    b'[' => !is_behind_value,
                    _ => false,
                };
                if open.is_empty() && has_elements && group.open + 1 < at {
                    last = Some(Group { close: at, ..group });
                }
            }
        }
    }
    last
}

/// Brackets and commas behind `from`, outside strings.
fn marks(line: &str, from: usize) -> impl Iterator<Item = (usize, u8)> {
    let bytes = line.as_bytes();
    let mut at = from;
    std::iter::from_fn(move || {
        loop {
            let byte = *bytes.get(at)?;
            let found = at;
            at = if byte == b'"' { string_end(line, at) } else { at + 1 };
            if b"()[]{},".contains(&byte) {
                return Some((found, byte));
            }
        }
    })
}

/// One past the closing quote of the string that begins at `start`, or the end of the text.
pub(super) fn string_end(text: &str, start: usize) -> usize {
    let bytes = text.as_bytes();
    let mut at = start + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}
