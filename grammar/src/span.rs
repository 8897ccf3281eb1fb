//! Where a piece of text stands: sources, byte ranges and values that remember theirs.

use std::ops::Range;

/// Index of a text in a [`Sources`] table. Spans carry it, so a diagnostic can point into any file of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(pub u32);

/// A half-open range of bytes in one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// The text that the range lies in.
    pub source: SourceId,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// A range of bytes of `source`.
    pub fn new(source: SourceId, range: Range<usize>) -> Self {
        Span { source, start: range.start as u32, end: range.end as u32 }
    }

    /// The smallest range that covers both. Both must lie in the same source.
    #[must_use]
    pub fn to(self, other: Span) -> Span {
        debug_assert_eq!(self.source, other.source);
        Span { source: self.source, start: self.start.min(other.start), end: self.end.max(other.end) }
    }

    /// The bytes as a `usize` range, for slicing.
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// A value and where it was written. Equality looks at the value only: the same spec written with other white space,
/// or in the other syntax, is equal.
#[derive(Debug, Clone)]
pub struct Spanned<T> {
    /// What was written.
    pub value: T,
    /// Where.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// Pairs a value with its place.
    pub fn new(value: T, span: Span) -> Self {
        Spanned { value, span }
    }
}

impl<T: PartialEq> PartialEq for Spanned<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

/// One text of a run: its name as shown to the user and its content.
#[derive(Debug, Clone)]
pub struct Source {
    /// Path, or `library:llama` for a text that ships inside the binary.
    pub name: String,
    /// The whole text, without a byte order mark before it.
    pub text: String,
}

/// Every text that a run has read, so that spans can be turned into lines.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    entries: Vec<Source>,
}

impl Sources {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a text and returns its id. A byte order mark before it is dropped: no span counts it.
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<String>) -> SourceId {
        const BYTE_ORDER_MARK: char = '\u{feff}';
        let mut text = text.into();
        if text.starts_with(BYTE_ORDER_MARK) {
            text.drain(..BYTE_ORDER_MARK.len_utf8());
        }
        self.entries.push(Source { name: name.into(), text });
        SourceId(self.entries.len() as u32 - 1)
    }

    /// The source with this id.
    ///
    /// # Panics
    /// When the id comes from another table: our bug.
    pub fn get(&self, id: SourceId) -> &Source {
        &self.entries[id.0 as usize]
    }

    /// One-based line and column (in characters) of the first byte of `span`.
    pub fn line_column(&self, span: Span) -> (usize, usize) {
        let text = &self.get(span.source).text;
        let before = &text.as_bytes()[..(span.start as usize).min(text.len())];
        let line = before.iter().filter(|&&b| b == b'\n').count() + 1;
        let line_start = before.iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1);
        let column = String::from_utf8_lossy(&before[line_start..]).chars().count() + 1;
        (line, column)
    }
}
