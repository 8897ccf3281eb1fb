//! What to write instead of a YAML value that is a list, a mapping or of several lines where a text of the language is
//! taken.

use crate::dsl::{self, Origin};
use crate::pattern::Pattern;
use crate::print::yaml::{quoted, scalar};
use crate::span::Span;

use super::value::{Node, Value};

/// `match: [a, b]` → `match: "{a,b}"`; `format: {int4: {group: 64}}` → `format: "int4(group: 64)"`. None when nothing of
/// the kind can be read.
pub(super) fn instead(key: &str, value: &Node, span: Span) -> Option<String> {
    let text = match key {
        "match" | "of" => pattern(&value.value)?,
        "format" | "input" | "kv_cache" => {
            let call = call(&value.value)?;
            let (read, faults) = dsl::parse_format(&call, Origin::whole(span));
            read.filter(|_| faults.is_empty())?;
            return Some(format!("write it as a text: {key}: {}", scalar(&call)));
        }
        _ => return None,
    };
    Pattern::parse(&text).is_ok().then(|| format!("write it as a text: {key}: {}", quoted(&text)))
}

/// A list of patterns as one.
fn pattern(value: &Value) -> Option<String> {
    let Value::List(items) = value else { return None };
    let texts: Option<Vec<&str>> = items.iter().map(text).collect();
    match texts?.as_slice() {
        [one] => Some((*one).to_owned()),
        texts => Some(format!("{{{}}}", texts.join(","))),
    }
}

/// A list of one format, a mapping from a name to arguments, or one with the name as its first entry, as a call.
fn call(value: &Value) -> Option<String> {
    let (name, arguments) = match value {
        Value::List(items) => match items.as_slice() {
            [one] => return text(one).map(str::to_owned),
            _ => return None,
        },
        Value::Map(entries) => match entries.as_slice() {
            [(name, Node { value: Value::Null, .. })] => return Some(name.name.clone()),
            [(name, Node { value: Value::Map(arguments), .. })] => (name.name.as_str(), arguments.as_slice()),
            [(key, name), arguments @ ..] if matches!(key.name.as_str(), "type" | "format" | "name") => {
                (text(name)?, arguments)
            }
            [(name, argument)] => return Some(format!("{}({})", name.name, atom(argument)?)),
            _ => return None,
        },
        _ => return None,
    };
    let arguments = arguments.iter().map(|(key, value)| Some(format!("{}: {}", key.name, atom(value)?)));
    let arguments = arguments.collect::<Option<Vec<String>>>()?.join(", ");
    Some(if arguments.is_empty() { name.to_owned() } else { format!("{name}({arguments})") })
}

fn text(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

/// An argument.
fn atom(node: &Node) -> Option<String> {
    match &node.value {
        Value::Bool(value) => Some(value.to_string()),
        Value::Int(value) => Some(value.to_string()),
        Value::Float(value) => Some(value.to_string()),
        Value::Text(text) => Some(text.clone()),
        _ => None,
    }
}
