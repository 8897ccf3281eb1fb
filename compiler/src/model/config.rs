//! config.json, and which of its keys somebody read.

use std::collections::BTreeSet;

use serde_json::Value;

/// Words that the names of keys hold which change what a model computes.
const FEATURES: [&str; 30] = [
    "act",
    "alibi",
    "alpha",
    "attention",
    "bias",
    "bidirectional",
    "cap",
    "clamp",
    "clip",
    "dim",
    "expert",
    "head",
    "interval",
    "layer",
    "limit",
    "mlp",
    "moe",
    "mult",
    "norm",
    "parallel",
    "pattern",
    "qk",
    "query",
    "rope",
    "rotary",
    "scal",
    "sparse",
    "theta",
    "tie",
    "window",
];

/// Most characters of a value in a message.
const MOST_CHARACTERS: usize = 60;

/// The configuration of a checkpoint.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file, as shown to the user.
    pub file: String,
    root: Value,
}

impl Config {
    /// Wraps the parsed content of `file`. The root must be an object.
    pub fn new(file: String, root: Value) -> Self {
        Config { file, root }
    }

    /// The value at a path of keys; `None` when it is missing. An index is a key in decimal.
    pub fn get(&self, path: &[String]) -> Option<&Value> {
        path.iter().try_fold(&self.root, |value, key| match value {
            Value::Object(map) => map.get(key),
            Value::Array(list) => list.get(key.parse::<usize>().ok()?),
            _ => None,
        })
    }

    /// The string at a key of the root.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.root.get(key)?.as_str()
    }

    /// The strings under `architectures`.
    pub fn architectures(&self) -> Vec<&str> {
        let list = self.root.get("architectures").and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// Every value that is no object, by its path: `rope_parameters.rope_theta`.
    pub fn leaves(&self) -> Vec<(String, &Value)> {
        let mut leaves = Vec::new();
        collect(&self.root, "", &|_| false, &mut leaves);
        leaves
    }
}

/// A key that nobody read.
#[derive(Debug, Clone, PartialEq)]
pub struct UnreadKey {
    /// Its path: `rope_parameters.rope_theta`.
    pub path: String,
    /// Its value, cut short where it is long.
    pub value: String,
    /// Whether its name has a word that names of features have.
    pub looks_like_a_feature: bool,
}

/// The keys that nobody read: neither they nor a list or object that holds them is in `read`. Keys whose value says
/// nothing (null, false, empty) need no reader. Those that look like features of the model come first.
pub fn unread_keys(config: &Config, read: &BTreeSet<String>) -> Vec<UnreadKey> {
    let mut unread = Vec::new();
    collect(&config.root, "", &|path| read.contains(path), &mut unread);
    let says_nothing = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Bool(true) | Value::Number(_) | Value::Object(_) => false,
    };
    unread.retain(|(_, value)| !says_nothing(value));
    let key = |(path, value): (String, &Value)| {
        let looks_like_a_feature = FEATURES.iter().any(|word| path.contains(word));
        UnreadKey { path, value: shortened(value), looks_like_a_feature }
    };
    let mut keys: Vec<UnreadKey> = unread.into_iter().map(key).collect();
    keys.sort_by_key(|key| !key.looks_like_a_feature);
    keys
}

/// All values but objects with their paths, below `value` and where `skip` does not hold.
fn collect<'c>(value: &'c Value, path: &str, skip: &dyn Fn(&str) -> bool, found: &mut Vec<(String, &'c Value)>) {
    if skip(path) {
        return;
    }
    let Value::Object(map) = value else {
        found.push((path.to_owned(), value));
        return;
    };
    for (key, value) in map {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        collect(value, &path, skip, found);
    }
}

fn shortened(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(MOST_CHARACTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_values_need_no_reader_and_nested_keys_are_named() {
        let root = serde_json::json!({
            "a": 1, "b": null, "c": false, "d": {"e": 2, "f": 0}, "g": [], "h": {"i": true}
        });
        let config = Config::new("config.json".into(), root);
        let read = BTreeSet::from(["a".to_string(), "d.e".to_string()]);
        let paths = |keys: Vec<UnreadKey>| keys.into_iter().map(|key| key.path).collect::<Vec<_>>();
        assert_eq!(paths(unread_keys(&config, &read)), ["d.f", "h.i"]);
    }

    #[test]
    fn what_looks_like_a_feature_comes_first_and_long_values_are_cut() {
        let root = serde_json::json!({"a": 1, "logit_scale": 0.5, "z": (0..99).collect::<Vec<_>>()});
        let keys = unread_keys(&Config::new("config.json".into(), root), &BTreeSet::new());
        let shown: Vec<(&str, bool)> = keys.iter().map(|key| (key.path.as_str(), key.looks_like_a_feature)).collect();
        assert_eq!(shown, [("logit_scale", true), ("a", false), ("z", false)]);
        assert!(keys[2].value.starts_with("[0,1,2,") && keys[2].value.ends_with('…'));
    }
}
