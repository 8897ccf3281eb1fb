//! What is said of a pattern that matches no module.

use std::collections::BTreeSet;

use lathe_grammar::diag::{Diagnostic, nearest};
use lathe_grammar::pattern::{Candidate, Kind, Pattern};
use lathe_grammar::span::Span;

use super::modules_in_words;
use crate::elaborate::Elaborated;

/// How many names of modules a message lists.
const MAX_LISTED: usize = 12;

/// Why a pattern matches no module, when that is known.
#[derive(Debug)]
pub(super) struct Explanation {
    code: &'static str,
    message: String,
    note: Option<String>,
    help: Option<String>,
}

/// The diagnostic for a pattern that matches no module; with `code`, when there is none that says more.
pub(super) fn diagnostic(code: &'static str, pattern: &Pattern, span: Span, model: &Elaborated) -> Diagnostic {
    if let Some(Explanation { code, message, note, help }) = explanation(pattern, model) {
        let diagnostic = Diagnostic::error(code, message).label(span, "");
        return Diagnostic { notes: note.into_iter().collect(), help, ..diagnostic };
    }
    let message = format!("`{pattern}` matches no module of {}", model.name);
    let diagnostic = Diagnostic::error(code, message).label(span, "");
    match empty_range(pattern, model) {
        Some(note) => diagnostic.note(note).help("a rule that is meant for several models can be `optional`"),
        None => diagnostic.help(help(pattern, model)),
    }
}

/// Whether it matches containers only, or has an index that does not exist.
pub(super) fn explanation(pattern: &Pattern, model: &Elaborated) -> Option<Explanation> {
    let children = |path: &str| model.indexed_children(path);
    if let Some(container) = model.children.keys().find(|path| pattern.matches_container(path, &children)) {
        let below = match regular_expression(&pattern.to_string()) {
            Some(expression) => format!("re:\"(?:{expression})\\..*\""),
            None => format!("{pattern}.**"),
        };
        return Some(Explanation {
            code: "S0104",
            message: format!("`{pattern}` matches containers only, and no module of {}", model.name),
            note: Some(format!("`{container}` holds modules but is none itself")),
            help: Some(format!("write `{below}` for every module below it")),
        });
    }
    let reason = index_out_of_range(pattern, model)?;
    let message = format!("`{pattern}` is out of range: {reason}");
    Some(Explanation { code: "S0105", message, note: None, help: None })
}

/// What to do about it.
pub(super) fn help(pattern: &Pattern, model: &Elaborated) -> String {
    suggestion(&pattern.to_string(), model).unwrap_or_else(|| {
        let ends: BTreeSet<&str> = model
            .modules
            .iter()
            .filter_map(|module| module.path.rsplit('.').next())
            .filter(|end| !is_number(end))
            .collect();
        let listed: Vec<&str> = ends.iter().copied().take(MAX_LISTED).collect();
        let more = if ends.len() > MAX_LISTED { ", …" } else { "" };
        let modules = format!("its modules are called {}{more}", listed.join(", "));
        format!("{modules}; a rule that is meant for several models can be `optional`")
    })
}

fn suggestion(text: &str, model: &Elaborated) -> Option<String> {
    if let Some(expression) = regular_expression(text) {
        let whole = [format!("re:\".*(?:{expression})\""), format!("re:\".*(?:{expression}).*\"")];
        let whole = whole.into_iter().find(|text| matches_any(text, model))?;
        return Some(format!("a regular expression matches the whole path: write `{whole}`"));
    }
    if let Some((path, kind)) = text.split_once(':') {
        return other_kind(path, kind, model);
    }
    if let Some(kind) = Kind::from_name(&text.to_lowercase()) {
        return Some(format!("did you mean the kind `:{}`?", kind.name()));
    }
    for tensor in [".weight", ".bias"] {
        if let Some(module) = text.strip_suffix(tensor).filter(|module| matches_any(module, model)) {
            return Some(format!("patterns name modules, not their tensors: write `{module}`"));
        }
    }
    if let Some(end) = text.strip_prefix('/').filter(|end| matches_any(end, model)) {
        return Some(format!("a leading `/` asks for the whole path: write `{end}`"));
    }
    let meant = with_indices(text, model)
        .or_else(|| with_known_names(text, model))
        .or_else(|| near_path(text, model))
        .or_else(|| same_end(text, model))?;
    Some(format!("did you mean `{meant}`?"))
}

/// Nothing that the path matches is of this kind.
fn other_kind(path: &str, kind: &str, model: &Elaborated) -> Option<String> {
    if path.is_empty() {
        let kinds: Vec<&str> = Kind::ALL
            .into_iter()
            .filter(|kind| model.modules.iter().any(|module| module.kind == *kind))
            .map(Kind::name)
            .collect();
        let kinds = format!("its modules are of the kinds {}", kinds.join(", "));
        return Some(format!("{kinds}; a rule that is meant for several models can be `optional`"));
    }
    let found = model.matching(&Pattern::parse(path).ok()?);
    let first = &model.modules[*found.first()?];
    let matched = modules_in_words(found.len());
    Some(format!("without `:{kind}` it matches {matched}, of the kind {}", first.kind.name()))
}

/// The pattern with `[*]` behind each name that stands for a list of modules.
fn with_indices(text: &str, model: &Elaborated) -> Option<String> {
    let lists: BTreeSet<&str> = model
        .children
        .iter()
        .filter(|(_, count)| **count > 0)
        .filter_map(|(path, _)| path.rsplit('.').next())
        .collect();
    let segments = text.split('.').map(|segment| {
        let name = segment.trim_start_matches('/');
        if lists.contains(name) { format!("{segment}[*]") } else { segment.to_owned() }
    });
    let meant = segments.collect::<Vec<_>>().join(".");
    (meant != text && matches_any(&meant, model)).then_some(meant)
}

/// The pattern with the nearest name for each that no module and no container has.
fn with_known_names(text: &str, model: &Elaborated) -> Option<String> {
    let known: BTreeSet<&str> =
        model.modules.iter().flat_map(|module| module.path.split('.')).filter(|name| !is_number(name)).collect();
    let mut meant = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(is_name_character) {
        let (before, from) = rest.split_at(start);
        let (name, behind) = from.split_at(from.find(|c| !is_name_character(c)).unwrap_or(from.len()));
        meant.push_str(before);
        let is_index = before.ends_with('[') || before.ends_with("..") || before.ends_with(", ");
        if is_index || is_number(name) || known.iter().any(|known| matches_name(name, known)) {
            meant.push_str(name);
        } else {
            let (ends, starts) = (format!("_{name}"), format!("{name}_"));
            let begun: Vec<&str> = known.iter().copied().filter(|known| known.starts_with(&starts)).collect();
            if known.iter().filter(|known| known.ends_with(&ends)).count() > 1 {
                meant.push('*');
                meant.push_str(&ends);
            } else if let [only] = begun[..] {
                meant.push_str(only);
            } else {
                meant.push_str(nearest(name, known.iter().copied())?);
            }
        }
        rest = behind;
    }
    meant.push_str(rest);
    (meant != text && matches_any(&meant, model)).then_some(meant)
}

/// The nearest end of a path of as many segments, with the indices of the pattern.
fn near_path(text: &str, model: &Elaborated) -> Option<String> {
    // Layers differ in their number only: each index is a `#`.
    let mut indices: Vec<String> = Vec::new();
    let mut segments: Vec<String> = Vec::new();
    for (place, part) in text.trim_start_matches('/').split('[').enumerate() {
        let names = match part.split_once(']') {
            Some((index, names)) if place > 0 => {
                indices.push(format!("[{index}]"));
                segments.push("#".to_owned());
                names.trim_start_matches('.')
            }
            _ => part,
        };
        segments.extend(names.split('.').filter(|name| !name.is_empty()).map(|name| {
            if name != "*" {
                return name.to_owned();
            }
            indices.push(".*".to_owned());
            "#".to_owned()
        }));
    }
    let ends: BTreeSet<String> = model
        .modules
        .iter()
        .filter_map(|module| {
            let path: Vec<&str> = module.path.split('.').map(|name| if is_number(name) { "#" } else { name }).collect();
            Some(path[path.len().checked_sub(segments.len())?..].join("."))
        })
        .collect();
    let near = nearest(&segments.join("."), ends.iter().map(String::as_str))?;
    let mut indices = indices.into_iter();
    let meant = near.split(".#").collect::<Vec<_>>();
    let (last, parts) = meant.split_last()?;
    let mut text = String::new();
    for part in parts {
        text.push_str(part);
        text.push_str(&indices.next().unwrap_or_else(|| "[*]".to_owned()));
    }
    text.push_str(last);
    matches_any(&text, model).then_some(text)
}

/// What a module that is called like the last name of the pattern lies in.
fn same_end(text: &str, model: &Elaborated) -> Option<String> {
    let last = text.rsplit(['.', '/', ']']).next()?;
    let module = model.modules.iter().find(|module| module.path.rsplit('.').next() == Some(last))?;
    let start = module.path.rmatch_indices('.').nth(1).map_or(0, |(dot, _)| dot + 1);
    Some(module.path[start..].to_owned())
}

/// What is said of the first single index of a pattern that its container does not have.
pub(super) fn index_out_of_range(pattern: &Pattern, model: &Elaborated) -> Option<String> {
    indices(pattern, model, |index, count| {
        let index: i64 = index.parse().ok()?;
        (!(-count..count).contains(&index)).then(|| index.to_string())
    })
}

/// What is said of the first range of a pattern that clips to nothing.
fn empty_range(pattern: &Pattern, model: &Elaborated) -> Option<String> {
    indices(pattern, model, |range, count| {
        let (start, end) = range.split_once("..")?;
        let bound = |text: &str, open: i64| match text.parse::<i64>() {
            Ok(bound) if bound < 0 => bound + count,
            Ok(bound) => bound,
            Err(_) => open,
        };
        (bound(start, 0).max(0) >= bound(end, count).min(count)).then(|| format!("the range {range}"))
    })
}

/// The first index for which `wrong` says something, which is what was found, with what there is in its container.
fn indices(pattern: &Pattern, model: &Elaborated, wrong: impl Fn(&str, i64) -> Option<String>) -> Option<String> {
    let text = pattern.to_string();
    let mut rest = text.as_str();
    while let Some(open) = rest.find('[') {
        let name = rest[..open].rsplit(['.', '/']).next().unwrap_or_default();
        let close = open + rest[open..].find(']')?;
        let indexed = |(path, count): &(&String, &u64)| **count > 0 && path.rsplit('.').next() == Some(name);
        if let Some((path, &count)) = model.children.iter().find(indexed)
            && let Some(found) = wrong(&rest[open + 1..close], count as i64)
        {
            return Some(format!("the indices of `{path}` run from 0 to {}, found {found}", count - 1));
        }
        rest = &rest[close + 1..];
    }
    None
}

/// What stands in the quotes of `re:"…"`.
fn regular_expression(text: &str) -> Option<&str> {
    text.strip_prefix("re:\"")?.strip_suffix('"')
}

fn matches_any(text: &str, model: &Elaborated) -> bool {
    Pattern::parse(text).is_ok_and(|pattern| model.modules.iter().any(|module| model.is_match(&pattern, module)))
}

/// Whether one segment of a pattern matches a name.
fn matches_name(segment: &str, name: &str) -> bool {
    let candidate = Candidate { path: name, kind: Kind::Linear, takes_format: true, children: &|_| 0 };
    segment == name || segment.contains('*') && Pattern::parse(segment).is_ok_and(|pattern| pattern.matches(&candidate))
}

fn is_number(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_name_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '*')
}
