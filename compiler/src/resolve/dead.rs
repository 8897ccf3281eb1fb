//! What is said of a pattern that matches nothing.

use std::collections::BTreeSet;

use lathe_grammar::diag::{Diagnostic, nearest};
use lathe_grammar::pattern::{Candidate, Kind, Pattern, parse_index};
use lathe_grammar::span::Span;

use super::modules_in_words;
use crate::elaborate::Elaborated;

/// How many alternatives of one pattern are reported.
const MAX_REPORTED: usize = 16;

/// How many names of modules a message lists.
const MAX_LISTED: usize = 12;

/// Why a pattern matches nothing, when that is known.
#[derive(Debug)]
pub(super) struct Explanation {
    code: &'static str,
    message: String,
    note: Option<String>,
    help: Option<String>,
}

impl Explanation {
    pub(super) fn diagnostic(self, span: Span) -> Diagnostic {
        let Explanation { code, message, note, help } = self;
        Diagnostic { notes: note.into_iter().collect(), help, ..Diagnostic::error(code, message).label(span, "") }
    }
}

/// What a pattern is meant to match: paths of modules, or of containers.
struct Meant<'m> {
    model: &'m Elaborated,
    /// `None` for modules.
    containers: Option<&'m BTreeSet<&'m str>>,
}

impl<'m> Meant<'m> {
    fn modules(model: &'m Elaborated) -> Self {
        Meant { model, containers: None }
    }

    fn paths(&self) -> Vec<&'m str> {
        match self.containers {
            Some(containers) => containers.iter().copied().collect(),
            None => self.model.modules.iter().map(|module| module.path.as_str()).collect(),
        }
    }

    fn has(&self, text: &str) -> bool {
        let Ok(pattern) = Pattern::parse(text) else { return false };
        match self.containers {
            Some(containers) => {
                let children = |path: &str| self.model.indexed_children(path);
                containers.iter().any(|path| pattern.matches_container(path, &children))
            }
            None => self.model.modules.iter().any(|module| self.model.is_match(&pattern, module)),
        }
    }
}

/// What `fault` says of each alternative that matches nothing, the last time with how many more there are.
pub(super) fn of_each(alternatives: &[&Pattern], fault: impl Fn(&Pattern) -> Diagnostic) -> Vec<Diagnostic> {
    let mut found: Vec<Diagnostic> = alternatives.iter().take(MAX_REPORTED).map(|dead| fault(dead)).collect();
    let hidden = alternatives.len() - found.len();
    if let Some(last) = found.last_mut().filter(|_| hidden > 0) {
        last.notes.push(format!("{hidden} more alternatives of this pattern match nothing"));
    }
    found
}

/// The diagnostic for a pattern that matches no module; with `code`, when there is none that says more.
pub(super) fn diagnostic(code: &'static str, pattern: &Pattern, span: Span, model: &Elaborated) -> Diagnostic {
    if let Some(explanation) = explanation(pattern, model) {
        return explanation.diagnostic(span);
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
    index_out_of_range(pattern, model)
}

/// Whether a single index of it does not exist.
pub(super) fn index_out_of_range(pattern: &Pattern, model: &Elaborated) -> Option<Explanation> {
    let reason = indices(pattern, model, |index, count| {
        let index: i64 = index.parse().ok()?;
        (!(-count..count).contains(&index)).then(|| index.to_string())
    })?;
    let message = format!("`{pattern}` is out of range: {reason}");
    Some(Explanation { code: "S0105", message, note: None, help: None })
}

/// The pattern that was probably meant for one of these containers.
pub(super) fn container(pattern: &Pattern, model: &Elaborated, containers: &BTreeSet<&str>) -> Option<String> {
    let meant = Meant { model, containers: Some(containers) };
    let text = pattern.to_string();
    if regular_expression(&text).is_some() {
        return None;
    }
    let without_kind = text.split_once(':').map(|(path, _)| path.to_owned()).filter(|path| meant.has(path));
    let meant = without_kind.or_else(|| near(&text, &meant))?;
    Some(format!("did you mean `{meant}`?"))
}

/// What to do about a pattern that matches no module.
pub(super) fn help(pattern: &Pattern, model: &Elaborated) -> String {
    suggestion(&pattern.to_string(), model).unwrap_or_else(|| {
        let ends: BTreeSet<&str> = model
            .modules
            .iter()
            .filter_map(|module| module.path.rsplit('.').next())
            .filter(|end| parse_index(end).is_none())
            .collect();
        let listed: Vec<&str> = ends.iter().copied().take(MAX_LISTED).collect();
        let more = if ends.len() > MAX_LISTED { ", …" } else { "" };
        let modules = format!("its modules are called {}{more}", listed.join(", "));
        format!("{modules}; a rule that is meant for several models can be `optional`")
    })
}

fn suggestion(text: &str, model: &Elaborated) -> Option<String> {
    let modules = Meant::modules(model);
    if let Some(expression) = regular_expression(text) {
        let whole = [format!("re:\".*(?:{expression})\""), format!("re:\".*(?:{expression}).*\"")];
        let whole = whole.into_iter().find(|text| modules.has(text))?;
        return Some(format!("a regular expression matches the whole path: write `{whole}`"));
    }
    if let Some((path, kind)) = text.split_once(':') {
        return other_kind(path, kind, model);
    }
    if let Some(kind) = Kind::from_name(&text.to_lowercase()) {
        return Some(format!("did you mean the kind `:{}`?", kind.name()));
    }
    for tensor in [".weight", ".bias"] {
        if let Some(module) = text.strip_suffix(tensor).filter(|module| modules.has(module)) {
            return Some(format!("patterns name modules, not their tensors: write `{module}`"));
        }
    }
    if let Some(end) = text.strip_prefix('/').filter(|end| modules.has(end)) {
        return Some(format!("a leading `/` asks for the whole path: write `{end}`"));
    }
    let meant = near(text, &modules).or_else(|| same_end(text, model))?;
    Some(format!("did you mean `{meant}`?"))
}

/// The nearest pattern that matches something.
fn near(text: &str, meant: &Meant<'_>) -> Option<String> {
    with_indices(text, meant).or_else(|| with_known_names(text, meant)).or_else(|| near_path(text, meant))
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
fn with_indices(text: &str, meant: &Meant<'_>) -> Option<String> {
    let lists: BTreeSet<&str> = meant
        .model
        .children
        .iter()
        .filter(|(_, count)| **count > 0)
        .filter_map(|(path, _)| path.rsplit('.').next())
        .collect();
    let segments = text.split('.').map(|segment| {
        let name = segment.trim_start_matches('/');
        if lists.contains(name) { format!("{segment}[*]") } else { segment.to_owned() }
    });
    let found = segments.collect::<Vec<_>>().join(".");
    (found != text && meant.has(&found)).then_some(found)
}

/// The pattern with the nearest name for each that no module and no container has.
fn with_known_names(text: &str, meant: &Meant<'_>) -> Option<String> {
    let known: BTreeSet<&str> =
        meant.paths().into_iter().flat_map(|path| path.split('.')).filter(|name| parse_index(name).is_none()).collect();
    let mut found = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(is_name_character) {
        let (before, from) = rest.split_at(start);
        let (name, behind) = from.split_at(from.find(|c| !is_name_character(c)).unwrap_or(from.len()));
        found.push_str(before);
        let is_index = before.ends_with('[') || before.ends_with("..") || before.ends_with(", ");
        if is_index || parse_index(name).is_some() || known.iter().any(|known| matches_name(name, known)) {
            found.push_str(name);
        } else {
            let (ends, starts) = (format!("_{name}"), format!("{name}_"));
            let begun: Vec<&str> = known.iter().copied().filter(|known| known.starts_with(&starts)).collect();
            if known.iter().filter(|known| known.ends_with(&ends)).count() > 1 {
                found.push('*');
                found.push_str(&ends);
            } else if let [only] = begun[..] {
                found.push_str(only);
            } else {
                found.push_str(nearest(name, known.iter().copied())?);
            }
        }
        rest = behind;
    }
    found.push_str(rest);
    (found != text && meant.has(&found)).then_some(found)
}

/// The nearest end of a path of as many segments, with the indices of the pattern.
fn near_path(text: &str, meant: &Meant<'_>) -> Option<String> {
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
    let ends: BTreeSet<String> = meant
        .paths()
        .into_iter()
        .filter_map(|path| {
            let path: Vec<&str> =
                path.split('.').map(|name| if parse_index(name).is_some() { "#" } else { name }).collect();
            Some(path[path.len().checked_sub(segments.len())?..].join("."))
        })
        .collect();
    let near = nearest(&segments.join("."), ends.iter().map(String::as_str))?;
    let mut indices = indices.into_iter();
    let parts = near.split(".#").collect::<Vec<_>>();
    let (last, parts) = parts.split_last()?;
    let mut text = String::new();
    for part in parts {
        text.push_str(part);
        text.push_str(&indices.next().unwrap_or_else(|| "[*]".to_owned()));
    }
    text.push_str(last);
    meant.has(&text).then_some(text)
}

/// What a module that is called like the last name of the pattern lies in.
fn same_end(text: &str, model: &Elaborated) -> Option<String> {
    let last = text.rsplit(['.', '/', ']']).next()?;
    let module = model.modules.iter().find(|module| module.path.rsplit('.').next() == Some(last))?;
    let start = module.path.rmatch_indices('.').nth(1).map_or(0, |(dot, _)| dot + 1);
    Some(module.path[start..].to_owned())
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

/// The first index for which `wrong` says something of every container that what stands before it matches: what it says,
/// with what there is in the largest of them.
fn indices(pattern: &Pattern, model: &Elaborated, wrong: impl Fn(&str, i64) -> Option<String>) -> Option<String> {
    let text = pattern.to_string();
    if regular_expression(&text).is_some() {
        return None;
    }
    let children = |path: &str| model.indexed_children(path);
    for (open, _) in text.match_indices('[') {
        let close = open + text[open..].find(']')?;
        let index = &text[open + 1..close];
        // A `**` before an index can stand for nothing, which it cannot at the end of a pattern.
        let Ok(before) = Pattern::parse(&text[..open]) else { continue };
        if text[..open].ends_with("**") {
            continue;
        }
        let lists: Vec<(&String, i64)> = model
            .children
            .iter()
            .filter(|(path, count)| **count > 0 && before.matches_container(path, &children))
            .map(|(path, count)| (path, *count as i64))
            .collect();
        let Some(&(path, count)) = lists.iter().rev().max_by_key(|(_, count)| count) else { continue };
        if lists.iter().all(|(_, count)| wrong(index, *count).is_some())
            && let Some(found) = wrong(index, count)
        {
            return Some(format!("the indices of `{path}` run from 0 to {}, found {found}", count - 1));
        }
    }
    None
}

/// What stands in the quotes of `re:"…"`.
fn regular_expression(text: &str) -> Option<&str> {
    text.strip_prefix("re:\"")?.strip_suffix('"')
}

/// Whether one segment of a pattern matches a name.
fn matches_name(segment: &str, name: &str) -> bool {
    let candidate = Candidate { path: name, kind: Kind::Linear, takes_format: true, children: &|_| 0 };
    segment == name || segment.contains('*') && Pattern::parse(segment).is_ok_and(|pattern| pattern.matches(&candidate))
}

fn is_name_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '*')
}
