//! Specs in YAML.

use std::fmt::Write as _;

use crate::ast::{ExprKind, File, ItemKind, Let, Rotation, Rule, Spec, UnaryOp};
use crate::span::Spanned;

/// Prints a file in YAML. None for what YAML cannot hold: it holds one spec, or the `let`s of a file, and the files that
/// either uses.
pub fn print_yaml(file: &File) -> Option<String> {
    let (mut uses, mut lets, mut specs) = (Vec::new(), Vec::new(), Vec::new());
    for item in &file.items {
        match &item.kind {
            ItemKind::Use(path) => uses.push(path),
            ItemKind::Let(binding) => lets.push(binding),
            ItemKind::Spec(spec) => specs.push(spec),
            ItemKind::Model(_) => return None,
        }
    }
    let mut text = format!("lathe: {}\n", file.version.value);
    if !uses.is_empty() {
        text.push_str("use:\n");
        for path in uses {
            let _ = writeln!(text, "  - {}", quoted(&path.value));
        }
    }
    match specs.as_slice() {
        [] => bindings(&mut text, &lets)?,
        [spec] if lets.is_empty() => print_spec(&mut text, spec)?,
        _ => return None,
    }
    Some(text)
}

fn print_spec(text: &mut String, spec: &Spec) -> Option<()> {
    let mut entry = |key: &str, value: &str| {
        let _ = writeln!(text, "{key}: {value}");
    };
    entry("spec", &scalar(&spec.name.value));
    if let Some(base) = &spec.extends {
        entry("extends", &scalar(&base.value));
    }
    if let Some(models) = &spec.models {
        let names: Vec<String> = models.value.iter().map(|name| scalar(&name.value)).collect();
        entry("models", &format!("[{}]", names.join(", ")));
    }
    bindings(text, &spec.lets.iter().collect::<Vec<_>>())?;
    list(text, "rules", spec.rules.as_ref(), rule);
    list(text, "rotate", spec.rotate.as_ref(), rotation);
    let kv_cache = spec.kv_cache.as_ref().map(|format| format.value.to_string());
    let words = spec.words().map(|(key, word)| (key, word.map(|word| word.value.clone())));
    for (key, value) in [("kv_cache", kv_cache)].into_iter().chain(words) {
        if let Some(value) = value {
            let _ = writeln!(text, "{key}: {}", scalar(&value));
        }
    }
    Some(())
}

/// None when a name is bound twice, which a mapping cannot say.
fn bindings(text: &mut String, lets: &[&Let]) -> Option<()> {
    if !lets.is_empty() {
        text.push_str("let:\n");
    }
    for (i, binding) in lets.iter().enumerate() {
        if lets[..i].iter().any(|earlier| earlier.name == binding.name) {
            return None;
        }
        let value = binding.value.to_string();
        let value = if is_yaml_value(&binding.value.kind) { value } else { scalar(&value) };
        let _ = writeln!(text, "  {}: {value}", scalar(&binding.name.value));
    }
    Some(())
}

/// Whether YAML writes the value as the language does, and takes it for a number, `true` or `false`.
fn is_yaml_value(value: &ExprKind) -> bool {
    match value {
        ExprKind::Int(_) | ExprKind::Float(_) | ExprKind::Bool(_) => true,
        // In YAML, -0 is 0.
        ExprKind::Unary(UnaryOp::Neg, size) => matches!(size.kind, ExprKind::Int(1..) | ExprKind::Float(_)),
        _ => false,
    }
}

/// A list of mappings.
fn list<T>(text: &mut String, key: &str, items: Option<&Spanned<Vec<T>>>, entries: impl Fn(&T) -> Vec<(&str, String)>) {
    let Some(items) = items else { return };
    let _ = writeln!(text, "{key}:{}", if items.value.is_empty() { " []" } else { "" });
    for item in &items.value {
        for (i, (key, value)) in entries(item).into_iter().enumerate() {
            let _ = writeln!(text, "  {} {key}: {value}", if i == 0 { "-" } else { " " });
        }
    }
}

/// Patterns are quoted even where they need not be: most hold what means something in YAML.
fn rule(rule: &Rule) -> Vec<(&str, String)> {
    let format = rule.format.as_ref().map(|format| ("format", scalar(&format.value.to_string())));
    let input = rule.input.as_ref().map(|input| ("input", scalar(&input.value.to_string())));
    let optional = rule.optional.then(|| ("optional", "true".to_owned()));
    let pattern = ("match", quoted(&rule.pattern.value.to_string()));
    [Some(pattern), format, input, optional].into_iter().flatten().collect()
}

fn rotation(rotation: &Rotation) -> Vec<(&str, String)> {
    let site = ("site", scalar(&rotation.site.value));
    let within = rotation.within.as_ref().map(|pattern| ("of", quoted(&pattern.value.to_string())));
    let by = ("by", scalar(&rotation.by.value.to_string()));
    let offline = rotation.offline.then(|| ("offline", "true".to_owned()));
    let optional = rotation.optional.then(|| ("optional", "true".to_owned()));
    [Some(site), within, Some(by), offline, optional].into_iter().flatten().collect()
}

/// Unquoted when no YAML reader could take it for anything but this text.
pub(crate) fn scalar(text: &str) -> String {
    let is_plain = text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '(' | ')'));
    let is_word = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"].contains(&&*text.to_ascii_lowercase());
    if is_plain && !is_word { text.to_owned() } else { quoted(text) }
}

/// In single quotes, where only they themselves are written otherwise.
pub(crate) fn single_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// In double quotes.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            // What YAML counts as a line break, or does not take for printable.
            _ if character.is_control() || matches!(character, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}'..) => {
                let _ = write!(quoted, "\\U{:08X}", u32::from(character));
            }
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}
