//! Patterns over the paths of modules, and globs over the names of stored tensors.
//!
//! A path is a list of segments separated by dots: `model.layers.0.mlp.down_proj`. A pattern matches whole segments:
//!
//! | written | matches |
//! |---|---|
//! | `mlp.down_proj` | these segments at the end of a path |
//! | `/model.norm` | the whole path |
//! | `*`, `*_proj` | any one segment; any that ends in `_proj` |
//! | `**` | any number of segments; at the end of a pattern at least one, and only modules that can take a format |
//! | `layers[3]`, `layers.3` | the same two segments |
//! | `layers[0, -1]` | the first and the last |
//! | `layers[0..4]`, `layers[-4..]` | a range, its end excluded, clipped to what there is |
//! | `layers[*]` | any index |
//! | `{a,b}` | either; each alternative must match something |
//! | `:linear`, `mlp.**:linear` | modules of one [`Kind`] |
//! | `re:"layers\.\d+\.mlp\..*"` | a regular expression over the whole path |

mod covers;
mod read;

pub use covers::{Alternative, Effort, Outline};

use std::fmt;

use regex::Regex;

use crate::diag::nearest;

/// How many alternatives a pattern may stand for once its braces are written out.
pub const MAX_ALTERNATIVES: usize = 1024;

/// As how many alternatives a regular expression counts.
pub(crate) const REGEX_WEIGHT: usize = 256;

/// How long a pattern may be, in bytes.
pub const MAX_PATTERN_LENGTH: usize = 4096;

/// What a module is. Each module has one kind: a head is not also a linear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A projection that is neither head nor router.
    Linear,
    /// The projection to the vocabulary.
    Head,
    /// A table looked up by token.
    Embedding,
    /// The projection that scores experts.
    Router,
    /// A normalization.
    Norm,
    /// A convolution.
    Conv,
    /// A vector that the graph uses as it is: attention sinks, the bias of a router's scores.
    Vector,
}

impl Kind {
    /// All kinds, in the order in which they are documented.
    pub const ALL: [Kind; 7] =
        [Kind::Linear, Kind::Head, Kind::Embedding, Kind::Router, Kind::Norm, Kind::Conv, Kind::Vector];

    /// As written after the colon.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Linear => "linear",
            Kind::Head => "head",
            Kind::Embedding => "embedding",
            Kind::Router => "router",
            Kind::Norm => "norm",
            Kind::Conv => "conv",
            Kind::Vector => "vector",
        }
    }

    /// Whether weights of this kind can take a format.
    pub fn takes_format(self) -> bool {
        !matches!(self, Kind::Norm | Kind::Vector)
    }

    /// The kind of this name.
    pub fn from_name(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Why a pattern is malformed, and where in its text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PatternError {
    /// First byte of the fault, counted from the start of the pattern.
    pub offset: usize,
    /// Bytes at fault; 0 where something is missing.
    pub length: usize,
    /// What is wrong.
    pub message: String,
    /// What to write instead, where that is known.
    pub help: Option<String>,
}

/// A module that a pattern is asked about.
#[derive(Clone, Copy)]
pub struct Candidate<'a> {
    /// Its logical path: `model.layers.0.self_attn.q_proj`.
    pub path: &'a str,
    /// What it is.
    pub kind: Kind,
    /// Whether its weight can be stored in a format other than its own.
    pub takes_format: bool,
    /// How many indexed children the container at a path has: 32 for `model.layers`, 0 for what is not one.
    pub children: &'a dyn Fn(&str) -> usize,
}

/// Which modules a rule speaks of. Prints in one canonical form, by which patterns are also compared.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    matcher: Matcher,
}

#[derive(Debug, Clone)]
enum Matcher {
    /// Without braces; a path need match only one.
    Paths(Vec<PathPattern>),
    /// Anchored at both ends.
    Regex(Regex),
    /// Malformed: it matches nothing.
    Unreadable,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// When it is malformed, longer than [`MAX_PATTERN_LENGTH`] or stands for more than [`MAX_ALTERNATIVES`].
    pub fn parse(text: &str) -> Result<Pattern, PatternError> {
        read::pattern(text)
    }

    /// Stands for a pattern that is malformed, which was reported, so that the rest of its rule is looked at. It matches
    /// nothing, covers nothing and is covered by nothing.
    pub fn unreadable(text: &str) -> Pattern {
        Pattern { text: text.to_owned(), matcher: Matcher::Unreadable }
    }

    /// Whether it was well-formed.
    pub fn is_readable(&self) -> bool {
        !matches!(self.matcher, Matcher::Unreadable)
    }

    /// Whether it matches this module.
    pub fn matches(&self, candidate: &Candidate) -> bool {
        match &self.matcher {
            Matcher::Paths(alternatives) => {
                let segments = split(candidate.path);
                alternatives.iter().any(|alternative| {
                    alternative.admits(candidate) && alternative.matches(candidate.path, &segments, candidate.children)
                })
            }
            Matcher::Regex(regex) => regex.is_match(candidate.path),
            Matcher::Unreadable => false,
        }
    }

    /// Whether it matches the path of a container such as `model.layers.0`, which holds modules and is none: then
    /// what was meant is probably the pattern followed by `.**`.
    pub fn matches_container(&self, path: &str, children: &dyn Fn(&str) -> usize) -> bool {
        match &self.matcher {
            Matcher::Paths(alternatives) => {
                let segments = split(path);
                alternatives
                    .iter()
                    .any(|alternative| alternative.kind.is_none() && alternative.matches(path, &segments, children))
            }
            Matcher::Regex(regex) => regex.is_match(path),
            Matcher::Unreadable => false,
        }
    }

    /// What must match something, each on its own: braces written out, lists of indices taken apart, ranges left whole.
    /// At most [`MAX_ALTERNATIVES`].
    pub fn alternatives(&self) -> Vec<Pattern> {
        match &self.matcher {
            Matcher::Paths(alternatives) => {
                alternatives.iter().flat_map(PathPattern::one_index_each).map(Pattern::from).collect()
            }
            Matcher::Regex(_) | Matcher::Unreadable => vec![self.clone()],
        }
    }

    /// How much it adds to the size of a text: how many [`Self::alternatives`] there are, or, of a regular expression,
    /// which takes more memory than any of them, [`REGEX_WEIGHT`].
    pub(crate) fn weight(&self) -> usize {
        match &self.matcher {
            Matcher::Paths(alternatives) => alternatives.iter().map(PathPattern::index_choices).sum(),
            Matcher::Regex(_) => REGEX_WEIGHT,
            Matcher::Unreadable => 1,
        }
    }
}

impl From<PathPattern> for Pattern {
    fn from(path: PathPattern) -> Self {
        Pattern { text: path.to_string(), matcher: Matcher::Paths(vec![path]) }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

/// A glob over dotted names, such as those of stored tensors: segments, `*`, `**` and braces as in a [`Pattern`], but
/// always over the whole name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameGlob {
    alternatives: Vec<PathPattern>,
}

impl NameGlob {
    /// Reads a glob.
    ///
    /// # Errors
    /// When it is malformed, or uses what only patterns over modules have: `/`, `:kind`, `re:`, negative indices.
    pub fn parse(text: &str) -> Result<NameGlob, PatternError> {
        read::name_glob(text).map(|alternatives| NameGlob { alternatives })
    }

    /// Whether it matches all of `name`.
    pub fn matches(&self, name: &str) -> bool {
        let segments = split(name);
        self.alternatives.iter().any(|alternative| alternative.matches(name, &segments, &|_| 0))
    }
}

/// A pattern without braces.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PathPattern {
    /// Matches the whole path, not just its end.
    anchored: bool,
    /// Empty only when there is a kind.
    segments: Vec<Segment>,
    kind: Option<Kind>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    /// `**`
    Any,
    /// One segment; `*` stands for any run of characters.
    Name(String),
    /// `[0, -1]`: one segment that is a number, any of these.
    Index(Vec<IndexItem>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IndexItem {
    /// Negative ones count from the end.
    One(i64),
    /// `start..end`; negative ones count from the end, absent ones are the ends.
    Range { start: Option<i64>, end: Option<i64> },
}

/// A segment of a path and where it begins in it.
type PathSegment<'a> = (usize, &'a str);

fn split(path: &str) -> Vec<PathSegment<'_>> {
    let mut start = 0;
    path.split('.')
        .map(|segment| {
            let entry = (start, segment);
            start += segment.len() + 1;
            entry
        })
        .collect()
}

impl PathPattern {
    /// Whether the module is of the kind asked for, or, where only a final `**` speaks for it, can take a format.
    fn admits(&self, candidate: &Candidate) -> bool {
        match self.kind {
            Some(kind) => kind == candidate.kind,
            None => self.segments.last() != Some(&Segment::Any) || candidate.takes_format,
        }
    }

    fn matches(&self, path: &str, segments: &[PathSegment], children: &dyn Fn(&str) -> usize) -> bool {
        let is_any = |segment: &Segment| matches!(segment, Segment::Any);
        let matches_one = |segment: &Segment, &(start, text): &PathSegment| {
            let container = path[..start].trim_end_matches('.');
            segment.matches(text, || children(container))
        };
        let segments = match (self.segments.last(), segments) {
            // A final `**` takes at least this one.
            (Some(Segment::Any), [rest @ .., _]) => rest,
            _ => segments,
        };
        wildcard_matches(&self.segments, segments, !self.anchored, is_any, matches_one)
    }

    /// The same pattern once for each index in its lists; ranges stay.
    fn one_index_each(&self) -> Vec<PathPattern> {
        let mut done = vec![PathPattern { segments: Vec::new(), ..self.clone() }];
        for segment in &self.segments {
            let choices: Vec<Segment> = match segment {
                Segment::Index(items) => items.iter().map(|item| Segment::Index(vec![*item])).collect(),
                other => vec![other.clone()],
            };
            done = done
                .iter()
                .flat_map(|begun| {
                    choices.iter().map(|choice| {
                        let mut longer = begun.clone();
                        longer.segments.push(choice.clone());
                        longer
                    })
                })
                .collect();
        }
        done
    }

    /// How many patterns [`Self::one_index_each`] gives.
    fn index_choices(&self) -> usize {
        self.segments.iter().fold(1, |product: usize, segment| match segment {
            Segment::Index(items) => product.saturating_mul(items.len()),
            Segment::Any | Segment::Name(_) => product,
        })
    }
}

impl Segment {
    /// `length` is how many indexed children the container around this segment has.
    fn matches(&self, text: &str, length: impl Fn() -> usize) -> bool {
        match self {
            Segment::Any => true,
            Segment::Name(glob) => glob == text || glob_matches(glob.as_bytes(), text.as_bytes()),
            Segment::Index(items) => {
                parse_index(text).is_some_and(|index| items.iter().any(|item| item.contains(index.into(), &length)))
            }
        }
    }
}

impl IndexItem {
    fn contains(self, index: i64, length: impl Fn() -> usize) -> bool {
        let from_start = |bound: i64| if bound < 0 { bound.saturating_add_unsigned(length() as u64) } else { bound };
        match self {
            IndexItem::One(one) => from_start(one) == index,
            IndexItem::Range { start, end } => {
                start.is_none_or(|start| from_start(start) <= index) && end.is_none_or(|end| index < from_start(end))
            }
        }
    }
}

/// The index that a segment of a path is, when it is a number that brackets take too, written without leading zeros.
pub fn parse_index(segment: &str) -> Option<u32> {
    let is_plain =
        segment.bytes().all(|byte| byte.is_ascii_digit()) && (segment.len() == 1 || !segment.starts_with('0'));
    if is_plain { segment.parse::<i32>().ok().and_then(|index| u32::try_from(index).ok()) } else { None }
}

/// `*` stands for any run of bytes.
fn glob_matches(glob: &[u8], text: &[u8]) -> bool {
    wildcard_matches(glob, text, false, |byte| *byte == b'*', |expected, found| expected == found)
}

/// Matches all of `text`, or, with `open_start`, an end of it. What `is_wildcard` takes any run. Goes back to the last
/// wildcard only, which suffices: each element of the pattern meets each of the text at most once.
fn wildcard_matches<P, T>(
    mut pattern: &[P],
    mut text: &[T],
    open_start: bool,
    is_wildcard: impl Fn(&P) -> bool,
    matches_one: impl Fn(&P, &T) -> bool,
) -> bool {
    // What is behind the last wildcard matches the end or nothing. Paths differ there sooner than at their start.
    while let [rest @ .., last] = pattern
        && !is_wildcard(last)
    {
        match text {
            [before @ .., found] if matches_one(last, found) => (pattern, text) = (rest, before),
            _ => return false,
        }
    }
    if pattern.is_empty() {
        return open_start || text.is_empty();
    }
    let (mut pattern_at, mut at) = (0, 0);
    // Where to go on after a mismatch: the pattern behind the last wildcard, and one element further than last time.
    let mut retry = open_start.then_some((0, 0));
    loop {
        match (pattern.get(pattern_at), text.get(at)) {
            // The last element is a wildcard: it takes the rest.
            (None, _) => return true,
            (Some(element), _) if is_wildcard(element) => {
                pattern_at += 1;
                retry = Some((pattern_at, at));
                continue;
            }
            (Some(element), Some(found)) if matches_one(element, found) => {
                pattern_at += 1;
                at += 1;
                continue;
            }
            _ => {}
        }
        match retry {
            Some((behind_wildcard, from)) if from < text.len() => {
                retry = Some((behind_wildcard, from + 1));
                (pattern_at, at) = (behind_wildcard, from + 1);
            }
            _ => return false,
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.anchored {
            formatter.write_str("/")?;
        }
        for (i, segment) in self.segments.iter().enumerate() {
            match segment {
                Segment::Index(items) => {
                    write_indices(items, formatter)?;
                    continue;
                }
                _ if i > 0 => formatter.write_str(".")?,
                _ => {}
            }
            match segment {
                Segment::Any => formatter.write_str("**")?,
                Segment::Name(name) => formatter.write_str(name)?,
                Segment::Index(_) => {}
            }
        }
        match self.kind {
            Some(kind) => write!(formatter, ":{}", kind.name()),
            None => Ok(()),
        }
    }
}

fn write_indices(items: &[IndexItem], target: &mut impl fmt::Write) -> fmt::Result {
    let bound = |bound: &Option<i64>| bound.map_or_else(String::new, |bound| bound.to_string());
    target.write_char('[')?;
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            target.write_str(", ")?;
        }
        match item {
            IndexItem::One(index) => write!(target, "{index}")?,
            IndexItem::Range { start: None, end: None } => target.write_char('*')?,
            IndexItem::Range { start, end } => write!(target, "{}..{}", bound(start), bound(end))?,
        }
    }
    target.write_char(']')
}

/// `did you mean` for the word after a colon.
fn nearest_kind(name: &str) -> Option<&'static str> {
    nearest(name, Kind::ALL.into_iter().map(Kind::name))
}

#[cfg(test)]
mod tests;
