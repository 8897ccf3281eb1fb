//! config.json, and which of its keys somebody read.

use std::collections::BTreeSet;

use serde_json::Value;

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
}

/// The keys that nobody read: neither they nor a list or object that holds them is in `read`. Keys whose value says
/// nothing (null, false, empty) need no reader.
pub fn unread_keys(config: &Config, read: &BTreeSet<String>) -> Vec<String> {
    let mut unread = Vec::new();
    collect(&config.root, "", read, &mut unread);
    unread
}

fn collect(value: &Value, path: &str, read: &BTreeSet<String>, unread: &mut Vec<String>) {
    if read.contains(path) {
        return;
    }
    match value {
        Value::Null | Value::Bool(false) => {}
        Value::String(text) if text.is_empty() => {}
        Value::Array(list) if list.is_empty() => {}
        Value::Object(map) => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                collect(value, &path, read, unread);
            }
        }
        Value::Bool(true) | Value::Number(_) | Value::String(_) | Value::Array(_) => unread.push(path.to_string()),
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
        assert_eq!(unread_keys(&config, &read), ["d.f", "h.i"]);
    }
}
