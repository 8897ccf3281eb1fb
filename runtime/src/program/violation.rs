//! How a program can be invalid: one variant for each way, with what was found and what was expected.

use super::rotation::HadamardError;
use super::types::{Elements, PROGRAM_VERSION, Rows};

/// A step, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepRef {
    /// Its index in [`Program::steps`](super::Program::steps).
    pub index: usize,
    /// Its label.
    pub label: String,
}

/// The first violation found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyError {
    /// Where, if it lies in a step.
    pub step: Option<StepRef>,
    /// What.
    pub violation: Violation,
}

impl std::error::Error for VerifyError {}

impl std::fmt::Display for VerifyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(step) = &self.step {
            write!(f, "step {} ({}): ", step.index, step.label.escape_debug())?;
        }
        write!(f, "{} (invariant {})", self.violation, self.violation.invariant())
    }
}

/// A broken invariant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// 1: another version.
    #[error("version {found}, expected {PROGRAM_VERSION}")]
    Version {
        /// As stated.
        found: u32,
    },
    /// 2: a size is zero or too large.
    #[error("{what} is {found}, expected {min} to {max}")]
    Size {
        /// Which size.
        what: String,
        /// Its value; `u64::MAX` where it overflows.
        found: u64,
        /// Smallest allowed.
        min: u64,
        /// Largest allowed.
        max: u64,
    },
    /// 3: an empty name, or one with control characters, or a reserved one.
    #[error("{what} `{}` {reason}", name.escape_debug())]
    Name {
        /// What is named.
        what: &'static str,
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// 3: two weights with a tensor of one name.
    #[error("two weights have a tensor `{name}`")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// 4: rank of a weight.
    #[error("weight `{name}` has rank {found}, expected 1 or 2")]
    Rank {
        /// The weight.
        name: String,
        /// Its rank.
        found: usize,
    },
    /// 4: an unknown format.
    #[error("weight `{name}` has the unknown format `{}`", format.escape_debug())]
    Format {
        /// The weight.
        name: String,
        /// As stated.
        format: String,
    },
    /// 4: a format that does not take the shape.
    #[error("weight `{name}`: {reason}")]
    Constraint {
        /// The weight.
        name: String,
        /// What the format says.
        reason: String,
    },
    /// 5: an id past the end of its table.
    #[error("{table} {found}, but there are {count}")]
    Id {
        /// Which table.
        table: &'static str,
        /// The id.
        found: u32,
        /// Entries in the table.
        count: usize,
    },
    /// 6: a buffer read before it is written.
    #[error("reads buffer {buffer} before it is written")]
    ReadBeforeWrite {
        /// The buffer.
        buffer: u32,
    },
    /// 6: a buffer written by two steps.
    #[error("writes buffer {buffer}, which step {first} has written")]
    WrittenTwice {
        /// The buffer.
        buffer: u32,
        /// The step that wrote it first.
        first: usize,
    },
    /// 6: a buffer that no step writes.
    #[error("no step writes buffer {buffer}")]
    NeverWritten {
        /// The buffer.
        buffer: u32,
    },
    /// 7: a cache with two attentions or none.
    #[error("cache {cache} is used by {found} attentions, expected 1")]
    CacheUse {
        /// The cache.
        cache: u32,
        /// How many use it.
        found: usize,
    },
    /// 7: a rotation that no step rotates by.
    #[error("no step uses rotation {rotation}")]
    RotationUse {
        /// The rotation.
        rotation: u32,
    },
    /// 8: a weight of the wrong shape.
    #[error("{operand} `{name}` has shape {found:?}, expected {expected:?}")]
    WeightShape {
        /// Which operand.
        operand: &'static str,
        /// The weight.
        name: String,
        /// Its shape.
        found: Vec<u64>,
        /// What the step needs.
        expected: Vec<u64>,
    },
    /// 8: a vector where the step needs a matrix, or the other way round.
    #[error("{operand} `{name}` has shape {found:?}, expected {expected}")]
    WeightRank {
        /// Which operand.
        operand: &'static str,
        /// The weight.
        name: String,
        /// Its shape.
        found: Vec<u64>,
        /// What the step needs.
        expected: &'static str,
    },
    /// 8: experts of which some have a bias.
    #[error("{found} biases for {experts} experts, expected as many or none")]
    Biases {
        /// How many biases there are.
        found: usize,
        /// How many weights there are.
        experts: usize,
    },
    /// 8: a weight that cannot be multiplied by what x is rounded to.
    #[error(
        "{operand} `{name}` is {found}, expected int8, symmetric, per channel, of at most {most} columns for x as {input}"
    )]
    Input {
        /// Which operand.
        operand: &'static str,
        /// The weight.
        name: String,
        /// Its format and shape.
        found: String,
        /// What x is rounded to.
        input: &'static str,
        /// Most columns.
        most: u64,
    },
    /// 8: a buffer of the wrong width.
    #[error("{operand} has width {found}, expected {expected}")]
    Width {
        /// Which operand.
        operand: &'static str,
        /// Its width.
        found: u64,
        /// What the step needs.
        expected: u64,
    },
    /// 8: a buffer with the wrong number of rows.
    #[error("{operand} has {found:?} rows, expected {expected:?}")]
    RowCount {
        /// Which operand.
        operand: &'static str,
        /// Its rows.
        found: Rows,
        /// What the step needs.
        expected: Rows,
    },
    /// 8: a vector to centre along where nothing is centred.
    #[error("a vector to centre along, but x is not centred")]
    AlongWithoutCentre,
    /// 8: something that does not divide something else.
    #[error("{part} {divisor} does not divide {whole} {dividend}")]
    Division {
        /// What should divide.
        part: &'static str,
        /// Its value.
        divisor: u64,
        /// What should be divided.
        whole: &'static str,
        /// Its value.
        dividend: u64,
    },
    /// 8: a rotary width past the head.
    #[error("rotary width {rotary} is larger than the head of {head_dim}")]
    RotaryWidth {
        /// Twice the pairs of the table.
        rotary: u64,
        /// Elements in a head.
        head_dim: u64,
    },
    /// 9: a number that is not finite or out of bounds.
    #[error("{what} is {found}, expected a finite number{}{bound}", if bound.is_empty() { "" } else { ", " })]
    Number {
        /// Which number.
        what: &'static str,
        /// Its value, as text.
        found: String,
        /// The bound in words; empty where there is none.
        bound: &'static str,
    },
    /// 9: a clamp without bounds.
    #[error("neither low nor high is given")]
    NoBounds,
    /// 9: a clamp that leaves no value.
    #[error("low is {low}, above high {high}")]
    Bounds {
        /// Least value, as text.
        low: String,
        /// Largest value, as text.
        high: String,
    },
    /// 9: an attention window of 0.
    #[error("window is 0, expected at least 1")]
    Window,
    /// 9: a rope table without pairs.
    #[error("rope table {table} has no frequencies")]
    NoPairs {
        /// The table.
        table: u32,
    },
    /// 9: a rope table that switches to another number of frequencies.
    #[error("rope table {table} switches to {found} frequencies, expected {expected}")]
    Frequencies {
        /// The table.
        table: u32,
        /// Frequencies for longer texts.
        found: usize,
        /// Frequencies of the table itself.
        expected: usize,
    },
    /// 10: no row for any token.
    #[error("first row {first} of a table of {rows}")]
    FirstRow {
        /// The row of token 0.
        first: u32,
        /// Rows of the table.
        rows: u64,
    },
    /// 10: a table with fewer rows than there are positions, or an unknown number of positions.
    #[error("table with rows for {found} positions, expected {}", positions_text(*.max_positions))]
    PositionTable {
        /// Rows from that of position 0 on.
        found: u64,
        /// The program's.
        max_positions: Option<u32>,
    },
    /// 10: no embedding of tokens.
    #[error("no step looks tokens up in a table")]
    NoVocabulary,
    /// 10: embedding tables with different numbers of rows.
    #[error("table of {found} rows, but another embedding has {expected}")]
    Vocabulary {
        /// Rows of this one.
        found: u64,
        /// Rows of the first one.
        expected: u64,
    },
    /// 10: an output that is not the logits of the vocabulary.
    #[error("output is [{found_rows:?}, {found_width}], expected [Selected, {expected_width}]")]
    Output {
        /// Its rows.
        found_rows: Rows,
        /// Its width.
        found_width: u64,
        /// The vocabulary.
        expected_width: u64,
    },
    /// 11: indices where there should be none, or others than these.
    #[error("buffer {buffer} holds {}, expected {}", elements_text(*.found), elements_text(*.expected))]
    Elements {
        /// The buffer.
        buffer: u32,
        /// What it holds.
        found: Elements,
        /// What the step needs.
        expected: Elements,
    },
    /// 12: a Hadamard matrix that is not what it says.
    #[error("rotation {rotation}: {reason}")]
    Hadamard {
        /// The rotation.
        rotation: u32,
        /// What is wrong.
        reason: HadamardError,
    },
    /// 12: a matrix in another format than f32.
    #[error("matrix of a rotation `{name}` is stored as {format}, expected f32")]
    RotationFormat {
        /// The weight.
        name: String,
        /// Its format.
        format: String,
    },
}

impl Violation {
    /// Which invariant of the list in [`mod@super::verify`] is broken.
    pub fn invariant(&self) -> u32 {
        match self {
            Violation::Version { .. } => 1,
            Violation::Size { .. } => 2,
            Violation::Name { .. } | Violation::DuplicateName { .. } => 3,
            Violation::Rank { .. } | Violation::Format { .. } | Violation::Constraint { .. } => 4,
            Violation::Id { .. } => 5,
            Violation::ReadBeforeWrite { .. } | Violation::WrittenTwice { .. } | Violation::NeverWritten { .. } => 6,
            Violation::CacheUse { .. } | Violation::RotationUse { .. } => 7,
            Violation::WeightShape { .. }
            | Violation::WeightRank { .. }
            | Violation::Biases { .. }
            | Violation::Input { .. }
            | Violation::Width { .. }
            | Violation::RowCount { .. }
            | Violation::AlongWithoutCentre
            | Violation::Division { .. }
            | Violation::RotaryWidth { .. } => 8,
            Violation::Number { .. }
            | Violation::NoBounds
            | Violation::Bounds { .. }
            | Violation::Window
            | Violation::NoPairs { .. }
            | Violation::Frequencies { .. } => 9,
            Violation::FirstRow { .. }
            | Violation::PositionTable { .. }
            | Violation::NoVocabulary
            | Violation::Vocabulary { .. }
            | Violation::Output { .. } => 10,
            Violation::Elements { .. } => 11,
            Violation::Hadamard { .. } | Violation::RotationFormat { .. } => 12,
        }
    }
}

fn positions_text(max_positions: Option<u32>) -> String {
    max_positions.map_or_else(|| "max_positions to be given".to_owned(), |positions| positions.to_string())
}

fn elements_text(elements: Elements) -> String {
    match elements {
        Elements::Real => "real numbers".to_owned(),
        Elements::Index { below } => format!("indices below {below}"),
    }
}
