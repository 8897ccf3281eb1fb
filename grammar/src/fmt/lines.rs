//! Lines of a formatted file: what stands in columns, what is too long, how comments follow.

use crate::print::line::Line;

/// No line is longer where a call or a list in it can be broken.
const MAX_WIDTH: usize = 120;

/// What is written one below the other.
#[derive(Debug)]
pub(super) enum Entry {
    Blank,
    /// On a line of its own.
    Comment {
        level: usize,
        text: String,
    },
    Code(Code),
}

/// A line, or a few when it is too long, and the comment behind it.
#[derive(Debug)]
pub(super) struct Code {
    pub(super) level: usize,
    pub(super) line: Line,
    /// It ends in a list of names, which may go on in the next line behind each comma.
    pub(super) wraps: bool,
    pub(super) comment: Option<String>,
}

/// Text of the entries, four blanks for each level.
pub(super) fn render(entries: &[Entry]) -> String {
    let mut text = String::new();
    let mut rest = entries;
    while let Some((entry, behind)) = rest.split_first() {
        rest = behind;
        match entry {
            Entry::Blank => text.push('\n'),
            Entry::Comment { level, text: comment } => push_line(&mut text, *level, comment),
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

fn push_line(text: &mut String, level: usize, line: &str) {
    text.extend(std::iter::repeat_n(' ', 4 * level));
    text.push_str(line);
    text.push('\n');
}

impl Code {
    /// Both have the same mark, and both are `let`s or neither is.
    fn is_aligned_with(&self, other: &Code) -> bool {
        let run = |code: &Code| code.line.right.as_ref().map(|(mark, _)| (*mark, code.line.left.starts_with("let ")));
        self.level == other.level && run(self).is_some() && run(self) == run(other)
    }

    fn text(&self, left_width: usize) -> String {
        match &self.line.right {
            Some((mark, right)) => format!("{:left_width$} {mark} {right}", self.line.left),
            None => self.line.left.clone(),
        }
    }

    fn fits(&self, left_width: usize) -> bool {
        4 * self.level + width(&self.text(left_width)) <= MAX_WIDTH
    }

    /// Its lines, with their levels. Only what stands behind the mark is ever broken.
    fn broken(&self, left_width: usize) -> Vec<(usize, String)> {
        let text = self.text(left_width);
        if self.wraps {
            return wrapped(&text, self.level);
        }
        let from = self.line.right.as_ref().map_or(0, |(_, right)| text.len() - right.len());
        broken(text, from, self.level)
    }
}

/// Lines that are aligned unless one would be too long only for that.
fn render_run(run: &[&Code], text: &mut String) {
    let widest = run.iter().map(|code| width(&code.line.left)).max().unwrap_or(0);
    let left_width = if run.iter().all(|code| code.fits(widest) || !code.fits(0)) { widest } else { 0 };
    let texts: Vec<Vec<(usize, String)>> = run.iter().map(|code| code.broken(left_width)).collect();
    let last_width = |i: usize| texts[i].last().map_or(0, |(level, line)| 4 * level + width(line));
    let mut comment_column = 0;
    for (i, code) in run.iter().enumerate() {
        let Some((last, before)) = texts[i].split_last() else { continue };
        for (level, line) in before {
            push_line(text, *level, line);
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
fn wrapped(names: &str, level: usize) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    for name in names.split_inclusive(", ") {
        match lines.last_mut() {
            Some((level, line)) if 4 * *level + width(line) + width(name.trim_end()) <= MAX_WIDTH => {
                line.push_str(name)
            }
            last => {
                let level = level + usize::from(last.is_some());
                lines.push((level, name.to_owned()));
            }
        }
    }
    lines.into_iter().map(|(level, line)| (level, line.trim_end().to_owned())).collect()
}

/// Breaks a line behind `from` that is too long: the elements of its last call or list, one per line. A line without
/// any stays whole.
fn broken(line: String, from: usize, level: usize) -> Vec<(usize, String)> {
    if 4 * level + width(&line) <= MAX_WIDTH {
        return vec![(level, line)];
    }
    let Some(group) = last_group(&line, from) else { return vec![(level, line)] };
    let mut lines = vec![(level, line[..=group.open].to_owned())];
    for element in group.elements(&line) {
        lines.extend(broken(format!("{element},"), 0, level + 1));
    }
    lines.push((level, line[group.close..].to_owned()));
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

/// The last arguments of a call or elements of a list that stand in no other brackets.
fn last_group(line: &str, from: usize) -> Option<Group> {
    let bytes = line.as_bytes();
    let mut last = None;
    let mut open: Vec<Group> = Vec::new();
    let mut at = from;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = string_end(line, at) - 1,
            b'(' | b'[' | b'{' => open.push(Group { open: at, commas: Vec::new(), close: at }),
            b',' => {
                if let Some(group) = open.last_mut() {
                    group.commas.push(at);
                }
            }
            b')' | b']' | b'}' => {
                let group = open.pop()?;
                let behind_value =
                    line[..group.open].ends_with(|before: char| before.is_alphanumeric() || "_)]".contains(before));
                let is_list = match bytes[group.open] {
                    b'(' => behind_value,
                    b'[' => !behind_value,
                    _ => false,
                };
                if open.is_empty() && is_list && group.open + 1 < at {
                    last = Some(Group { close: at, ..group });
                }
            }
            _ => {}
        }
        at += 1;
    }
    last
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
