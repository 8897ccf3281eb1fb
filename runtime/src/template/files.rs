//! The files of a model that say how to talk to it.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::TemplateError;
use crate::files::read_regular;

/// Largest file that is read, in bytes: `tokenizer_config.json` can list every added token.
const MAX_BYTES: u64 = 64 << 20;

const TEMPLATE_FILE: &str = "chat_template.jinja";
const LEGACY_FILE: &str = "chat_template.json";
const CONFIG_FILE: &str = "tokenizer_config.json";
const TOKENS_FILE: &str = "special_tokens_map.json";
/// The key of a template in JSON.
const KEY: &str = "chat_template";
/// The template of several that is meant unless another is named.
const DEFAULT: &str = "default";

/// The text of a template and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatFiles {
    /// The file.
    pub path: PathBuf,
    /// The template.
    pub text: String,
}

impl ChatFiles {
    /// Reads a template from a file of its own.
    ///
    /// # Errors
    /// When it cannot be read or is no text.
    pub fn open(path: &Path) -> Result<ChatFiles, TemplateError> {
        match read_text(path)? {
            Some(text) => Ok(ChatFiles { path: path.to_owned(), text }),
            None => Err(TemplateError::Io {
                path: path.to_owned(),
                source: io::Error::new(io::ErrorKind::NotFound, "no such file"),
            }),
        }
    }

    /// The template of a model: `chat_template.jinja`, else `chat_template.json`, else `chat_template` in
    /// `tokenizer_config.json`, which can be a list of templates with names. `name` is one of the list; without it,
    /// `default` is.
    ///
    /// # Errors
    /// When there is none, or none of that name, or a file cannot be understood.
    pub fn of_model(folder: &Path, name: Option<&str>) -> Result<ChatFiles, TemplateError> {
        let (path, templates) = templates(folder)?;
        let wanted = name.unwrap_or(DEFAULT);
        let known: Vec<&str> = templates.iter().map(|(name, _)| name.as_str()).collect();
        let known = known.join(", ");
        match templates.into_iter().find(|(name, _)| name == wanted) {
            Some((_, text)) => Ok(ChatFiles { path, text }),
            None => Err(TemplateError::Name { path, name: wanted.to_owned(), known }),
        }
    }
}

/// Every template of a model by its name, and the file that has them.
fn templates(folder: &Path) -> Result<(PathBuf, Vec<(String, String)>), TemplateError> {
    let single = |text| vec![(DEFAULT.to_owned(), text)];
    let path = folder.join(TEMPLATE_FILE);
    if let Some(text) = read_text(&path)? {
        return Ok((path, single(text)));
    }
    for name in [LEGACY_FILE, CONFIG_FILE] {
        let path = folder.join(name);
        let mut object = read_object(&path)?.unwrap_or_default();
        match object.remove(KEY) {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) => return Ok((path, single(text))),
            Some(Value::Array(entries)) => {
                let named = entries.iter().map(|entry| {
                    let part = |key: &str| Some(entry.get(key)?.as_str()?.to_owned());
                    Some((part("name")?, part("template")?))
                });
                let message = format!("`{KEY}` is a list, expected a name and a template in each entry");
                let named =
                    named.collect::<Option<Vec<_>>>().ok_or(TemplateError::Malformed { path: path.clone(), message });
                return Ok((path, named?));
            }
            Some(_) => {
                let message = format!("`{KEY}` is neither a text nor a list");
                return Err(TemplateError::Malformed { path, message });
            }
        }
    }
    Err(TemplateError::None { folder: folder.to_owned() })
}

/// The special tokens of a model by the names that templates use: `bos_token`, `eos_token` and whatever else
/// `tokenizer_config.json` calls `…_token` or lists by name in `extra_special_tokens`. Configs that list no added
/// tokens are older, and `special_tokens_map.json` has the last word there.
///
/// # Errors
/// When a file cannot be read or understood.
pub fn special_tokens(folder: &Path) -> Result<Map<String, Value>, TemplateError> {
    let config = read_object(&folder.join(CONFIG_FILE))?.unwrap_or_default();
    let mut tokens = named_tokens(&config);
    if !config.contains_key("added_tokens_decoder") {
        tokens.extend(named_tokens(&read_object(&folder.join(TOKENS_FILE))?.unwrap_or_default()));
    }
    Ok(tokens)
}

fn named_tokens(config: &Map<String, Value>) -> Map<String, Value> {
    let named = config.iter().filter(|(key, _)| key.ends_with("_token"));
    let extra = config.get("extra_special_tokens").and_then(Value::as_object).into_iter().flatten();
    // Others that are called so are switches, as `add_bos_token`.
    let text = |value: &Value| value.as_str().or_else(|| value.get("content")?.as_str()).map(Value::from);
    named.chain(extra).filter_map(|(key, value)| Some((key.clone(), text(value)?))).collect()
}

/// A JSON object; `None` if there is no such file.
fn read_object(path: &Path) -> Result<Option<Map<String, Value>>, TemplateError> {
    let Some(text) = read_text(path)? else { return Ok(None) };
    let object = serde_json::from_str(&text);
    object.map(Some).map_err(|error| TemplateError::Malformed { path: path.to_owned(), message: error.to_string() })
}

/// A text; `None` if there is no such file.
fn read_text(path: &Path) -> Result<Option<String>, TemplateError> {
    let bytes = match read_regular(path, MAX_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(TemplateError::Io { path: path.to_owned(), source }),
    };
    let text = String::from_utf8(bytes);
    text.map(Some)
        .map_err(|error| TemplateError::Malformed { path: path.to_owned(), message: format!("not UTF-8: {error}") })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    #[test]
    fn the_newest_kind_of_file_decides() {
        let folder = tempfile::tempdir().unwrap();
        let text =
            |name| ChatFiles::of_model(folder.path(), name).map(|files| files.text).map_err(|error| error.to_string());
        let none = text(None).unwrap_err();
        assert!(none.contains("has no chat template") && none.contains("--template FILE"), "{none}");
        fs::write(folder.path().join(CONFIG_FILE), r#"{"bos_token": "<s>", "chat_template": null}"#).unwrap();
        assert!(text(None).unwrap_err().contains("has no chat template"));
        let list = json!({ KEY: [{ "name": "default", "template": "a" }, { "name": "rag", "template": "b" }] });
        fs::write(folder.path().join(CONFIG_FILE), list.to_string()).unwrap();
        assert_eq!((text(None).unwrap().as_str(), text(Some("rag")).unwrap().as_str()), ("a", "b"));
        let unknown = text(Some("tool_use")).unwrap_err();
        assert!(unknown.ends_with("has no template `tool_use`; --template-name takes default, rag"), "{unknown}");
        fs::write(folder.path().join(LEGACY_FILE), r#"{"chat_template": "c"}"#).unwrap();
        assert_eq!(text(None).unwrap(), "c");
        fs::write(folder.path().join(TEMPLATE_FILE), "d").unwrap();
        assert_eq!(text(None).unwrap(), "d");
        assert!(text(Some("rag")).unwrap_err().contains(TEMPLATE_FILE));
    }

    #[test]
    fn broken_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(CONFIG_FILE);
        let error = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            ChatFiles::of_model(folder.path(), None).unwrap_err().to_string()
        };
        for (bytes, message) in [
            (&b"{"[..], "EOF while parsing"),
            (b"[]", "expected a map"),
            (b"\xff", "not UTF-8"),
            (br#"{"chat_template": 3}"#, "neither a text nor a list"),
            (br#"{"chat_template": ["a"]}"#, "expected a name and a template"),
            (br#"{"chat_template": [{"name": "a"}]}"#, "expected a name and a template"),
            (br#"{"chat_template": []}"#, "has no template `default`"),
            (format!("{{\"a\": {}", "[".repeat(100_000)).as_bytes(), "recursion limit"),
        ] {
            let error = error(bytes);
            assert!(error.contains(CONFIG_FILE) && error.contains(message), "{error}");
        }
        fs::create_dir(folder.path().join(TEMPLATE_FILE)).unwrap();
        assert!(ChatFiles::of_model(folder.path(), None).unwrap_err().to_string().contains("regular file"));
        assert!(ChatFiles::open(&folder.path().join("none")).unwrap_err().to_string().contains("cannot read"));
    }

    #[test]
    fn special_tokens_have_names() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = json!({
            "bos_token": "<s>",
            "eos_token": { "__type": "AddedToken", "content": "</s>" },
            "add_bos_token": true,
            "pad_token": null,
            "extra_special_tokens": { "image_token": "<image>" },
            "model_max_length": 3,
        });
        let write = |name: &str, value: &Value| fs::write(folder.path().join(name), value.to_string()).unwrap();
        let found = || Value::Object(special_tokens(folder.path()).unwrap());
        assert_eq!(found(), json!({}));
        write(CONFIG_FILE, &config);
        assert_eq!(found(), json!({ "bos_token": "<s>", "eos_token": "</s>", "image_token": "<image>" }));
        write(TOKENS_FILE, &json!({ "eos_token": { "content": "<end>" }, "additional_special_tokens": ["a"] }));
        assert_eq!(found()["eos_token"], "<end>");
        config["added_tokens_decoder"] = json!({});
        write(CONFIG_FILE, &config);
        assert_eq!(found()["eos_token"], "</s>");
    }
}
