//! YAML text → a tree of values with their places, whatever the keys. The only file that names a YAML crate.

use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy};
use serde_saphyr::{Error, Location, Spanned as Located, UserMessageFormatter};

use super::entry::boundary;

/// Deepest nesting: a spec needs three levels.
const MAX_DEPTH: usize = 16;

/// Most values of a text.
const MAX_NODES: usize = 20_000;

/// Most anchors, and most aliases.
const MAX_ALIASES: usize = 256;

/// From how many aliases on each anchor may have ten of them at most.
const MIN_ALIASES_OF_RATIO: usize = 100;

/// Most values, beginnings and ends of lists and mappings that aliases repeat.
const MAX_REPEATED: usize = 10_000;

/// A value and its bytes in the text.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) at: Range<usize>,
}

/// A YAML value; what it means is decided by who asks for it.
#[derive(Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A key and its bytes in the text.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) at: Range<usize>,
}

impl Value {
    /// In a message: what was found.
    pub(super) fn describe(&self) -> String {
        match self {
            Value::Null => "nothing".to_owned(),
            Value::Bool(value) => format!("`{value}`"),
            Value::Int(value) => format!("the number {value}"),
            Value::Float(value) => format!("the number {value}"),
            Value::Text(text) if text.len() <= 40 && !text.contains(char::is_control) => format!("`{text}`"),
            Value::Text(_) => "a long text".to_owned(),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
        }
    }
}

/// Why a text was not read.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    /// Byte in the text.
    pub(crate) at: usize,
}

/// The ways in which a text is no YAML that is taken.
#[derive(Debug)]
pub(crate) enum FaultKind {
    /// A second document begins.
    Documents,
    /// A bound on size, depth or repetition, and which.
    Limit(String),
    /// An alias whose anchor does not stand before it.
    UnknownAlias,
    /// A tag that is not taken.
    Tag,
    /// A merge key.
    Merge,
    /// A key that is null.
    NullKey,
    /// Anything else, in the words of the YAML reader.
    Syntax(String),
}

/// Reads a text of one document.
pub(crate) fn read(text: &str) -> Result<Node, Fault> {
    match serde_saphyr::from_str_with_options::<Located<Tree>>(text, options()) {
        Ok(root) => Ok(node(root, text)),
        Err(error) => Err(fault(&error, text)),
    }
}

/// YAML 1.2 booleans only, and bounds on everything that a short text could make long.
fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_aliases: MAX_ALIASES,
            max_anchors: MAX_ALIASES,
            alias_anchor_min_aliases: MIN_ALIASES_OF_RATIO,
            alias_anchor_ratio_multiplier: 10,
            max_documents: 1,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_REPEATED },
        // Seen by the reader, which can point at both.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::Error,
        reject_unsupported_tags: true,
        strict_booleans: true,
    }
}

fn fault(error: &Error, text: &str) -> Fault {
    let error = error.without_snippet();
    let at = error.location().map_or(0, |location| place(location, text).start);
    let kind = match error {
        Error::Budget { breach: BudgetBreach::Documents { .. }, .. } | Error::MultipleDocuments { .. } => {
            FaultKind::Documents
        }
        Error::Budget { breach, .. } => FaultKind::Limit(limit(breach)),
        // Values of any type are taken, so what fails in an alias is a limit.
        Error::AliasError { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => FaultKind::Limit(repeated(error)),
        Error::UnknownAnchor { .. } => FaultKind::UnknownAlias,
        Error::UnsupportedTag { .. } => FaultKind::Tag,
        Error::MergeKeyNotAllowed { .. } => FaultKind::Merge,
        other => {
            let reason = other.render_with_formatter(&UserMessageFormatter);
            let reason = reason.lines().next().unwrap_or_default();
            match reason.split(" at line ").next().unwrap_or(reason) {
                // The scanner's own limit has no variant.
                "recursion limit exceeded" => FaultKind::Limit(too_deep()),
                // Values may be null.
                "null is not allowed here" => FaultKind::NullKey,
                reason => FaultKind::Syntax(reason.to_owned()),
            }
        }
    };
    Fault { kind, at }
}

fn too_deep() -> String {
    format!("this YAML nests deeper than {MAX_DEPTH} levels")
}

/// Which bound on size or depth is passed.
fn limit(breach: &BudgetBreach) -> String {
    match breach {
        BudgetBreach::Depth { .. } => too_deep(),
        BudgetBreach::Nodes { .. } => format!("this YAML has more than {MAX_NODES} values"),
        BudgetBreach::Aliases { .. } => format!("this YAML has more than {MAX_ALIASES} aliases"),
        BudgetBreach::Anchors { .. } => format!("this YAML has more than {MAX_ALIASES} anchors"),
        BudgetBreach::AliasAnchorRatio { .. } => {
            format!("this YAML has more than {MIN_ALIASES_OF_RATIO} aliases, and more than 10 for each anchor")
        }
        _ => "this YAML is too large".to_owned(),
    }
}

/// Which bound on repetition is passed.
fn repeated(error: &Error) -> String {
    match error {
        Error::AliasError { error, .. } => match error.without_snippet() {
            Error::Budget { breach, .. } => limit(breach),
            error => repeated(error),
        },
        Error::AliasReplayStackDepthExceeded { max_depth, .. } => {
            format!("the aliases of this YAML nest deeper than {max_depth} levels")
        }
        _ => format!("the aliases of this YAML repeat more than {MAX_REPEATED} values"),
    }
}

fn place(location: Location, text: &str) -> Range<usize> {
    let span = location.span();
    let start = match span.byte_offset() {
        Some(offset) => offset as usize,
        None => offset(text, location.line() as usize, location.column() as usize),
    };
    let start = boundary(text, start);
    let end = boundary(text, start + span.byte_len().unwrap_or(0) as usize);
    start..start + text[start..end].trim_end().len()
}

/// Byte offset of a line and column, both counted from 1, columns in characters.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let Some(found) = text.split_inclusive('\n').nth(line.saturating_sub(1)) else { return text.len() };
    let start = found.as_ptr() as usize - text.as_ptr() as usize;
    start + found.char_indices().nth(column.saturating_sub(1)).map_or(found.len(), |(at, _)| at)
}

/// As the YAML crate gives it: places are lines and columns there, and lists are as long as their first byte.
#[derive(Debug)]
enum Tree {
    Scalar(Value),
    List(Vec<Located<Tree>>),
    Map(Vec<(Located<String>, Located<Tree>)>),
}

fn node(tree: Located<Tree>, text: &str) -> Node {
    let mut at = place(tree.referenced, text);
    let is_alias = tree.referenced != tree.defined;
    let mut extend = |part: &Range<usize>| {
        if !is_alias && part.start >= at.start {
            at.end = at.end.max(part.end);
        }
    };
    let value = match tree.value {
        Tree::Scalar(value) => value,
        Tree::List(items) => {
            let items: Vec<Node> = items.into_iter().map(|item| node(item, text)).collect();
            for item in &items {
                extend(&item.at);
            }
            Value::List(items)
        }
        Tree::Map(entries) => {
            let entry = |(key, value): (Located<String>, _)| {
                let at = place(key.referenced, text);
                (Key { name: key.value, at }, node(value, text))
            };
            let entries: Vec<(Key, Node)> = entries.into_iter().map(entry).collect();
            for (key, value) in &entries {
                extend(&key.at);
                extend(&value.at);
            }
            Value::Map(entries)
        }
    };
    if !is_alias {
        at.end += closing_bracket(text, &at);
    }
    Node { value, at }
}

/// How far behind a list or mapping in flow style its closing bracket ends.
fn closing_bracket(text: &str, at: &Range<usize>) -> usize {
    let closing = match text.as_bytes().get(at.start) {
        Some(b'[') => ']',
        Some(b'{') => '}',
        _ => return 0,
    };
    let behind = text[at.end..].trim_start_matches(|c: char| c.is_whitespace() || c == ',');
    if behind.starts_with(closing) { text.len() - at.end - behind.len() + 1 } else { 0 }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        Tree::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::Int(value.into())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::Int(value.into())))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::Int(value)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::Float(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::Text(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Tree::Map(entries))
    }
}
