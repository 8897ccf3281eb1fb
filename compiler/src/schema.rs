//! A JSON Schema of specs in YAML, for editors: names are completed, keys explained, mistakes of form underlined while
//! one types. What depends on names and on a model, `lathe check` says.

use lathe_grammar::LANGUAGE_VERSION;
use lathe_grammar::pattern::MAX_PATTERN_LENGTH;
use serde_json::{Map, Value, json};

use crate::spec::{FORMATS, FormatKind, ROTATIONS, Role, SETTINGS, SITES};

/// Names of `let`s, formats and rotations.
const NAME: &str = "^[A-Za-z_][A-Za-z0-9_]*$";

/// Names of specs.
const ITEM_NAME: &str = "^[A-Za-z_][A-Za-z0-9_.-]*$";

/// A name, and arguments behind some.
const CALL: &str = r"^\s*[A-Za-z_][A-Za-z0-9_]*\s*(\([\s\S]*\))?\s*$";

/// The schema, of draft 2020-12.
pub fn schema() -> Value {
    let mut properties = json!({
        "lathe": {
            "description": "The version of the language that the file is written in.",
            "const": LANGUAGE_VERSION,
        },
        "use": {
            "description": "Files whose names are used here: paths relative to this one, or names of the library.",
            "type": "array",
            "items": { "type": "string", "minLength": 1 },
        },
        "spec": {
            "description": "The name of the spec. A file without one holds names that other files `use`.",
            "type": "string",
            "pattern": ITEM_NAME,
        },
        "extends": {
            "description": "The spec that this one builds on: its name, here or in the library, or the path of its file. Rules of this one come after those of its base.",
            "type": "string",
            "minLength": 1,
            "examples": ["./base.yaml"],
        },
        "models": {
            "description": "Model definitions that the spec is meant for; all when left out. `lathe list models` shows those that ship.",
            "type": "array",
            "items": { "type": "string", "minLength": 1 },
            "minItems": 1,
            "examples": [lathe_specs::MODELS.iter().map(|entry| entry.name).collect::<Vec<_>>()],
        },
        "let": {
            "description": "Names for formats, rotations, numbers and words, to be used below.",
            "type": "object",
            "propertyNames": { "pattern": NAME },
            "additionalProperties": { "type": ["string", "number", "boolean"] },
            "examples": [{ "body": "int4(group: 128)" }],
        },
        "rules": {
            "description": "Which modules become what. The last rule that matches a module decides.",
            "type": "array",
            "items": rule(),
        },
        "rotate": {
            "description": "Edges of the model's graph that are rotated.",
            "type": "array",
            "items": rotation(),
        },
        "kv_cache": format(Role::Cache, "What cached keys and values become."),
    });
    let keys = properties.as_object_mut().expect("written above as an object");
    for setting in SETTINGS {
        let values = setting.values.iter().map(|(word, summary, built)| (*word, described(summary, *built)));
        keys.insert(setting.name.into(), words(setting.summary, values));
    }
    let of_specs: Map<String, Value> = keys
        .keys()
        .filter(|key| !["lathe", "use", "spec", "let"].contains(&key.as_str()))
        .map(|key| (key.clone(), json!(["spec"])))
        .collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Lathe spec",
        "description": "Maps modules of a model to weight formats, and edges of its graph to rotations.",
        "type": "object",
        "properties": properties,
        "required": ["lathe"],
        "dependentRequired": of_specs,
        "additionalProperties": false,
    })
}

fn rule() -> Value {
    json!({
        "type": "object",
        "properties": {
            "match": pattern("Which modules. Quote it: most patterns hold what means something in YAML."),
            "format": format(Role::Weight, "What the weights become."),
            "input": format(Role::Input, "What the input activations become."),
            "optional": flag("The rule may match nothing, as it is meant for several models."),
        },
        "required": ["match"],
        "anyOf": [{ "required": ["format"] }, { "required": ["input"] }],
        "additionalProperties": false,
    })
}

fn rotation() -> Value {
    let sites = SITES.iter().map(|site| {
        let also = if site.also.is_empty() { String::new() } else { format!(" ({})", site.also) };
        (site.name, format!("{}{also}", site.summary))
    });
    let names = ROTATIONS.iter().map(|rotation| (rotation.name, described(rotation.summary, rotation.built)));
    let mut conditions = Vec::new();
    for site in SITES {
        let of = match site.pattern {
            Some(true) => json!({ "required": ["of"] }),
            Some(false) => continue,
            None => json!({ "not": { "required": ["of"] } }),
        };
        let is_site = json!({ "properties": { "site": { "const": site.name } }, "required": ["site"] });
        conditions.push(json!({ "if": is_site, "then": of }));
    }
    json!({
        "type": "object",
        "properties": {
            "site": words("Which edges.", sites),
            "of": pattern("Only those in, or into, the modules that this pattern matches."),
            "by": call("The rotation.", names, &["random_hadamard(seed: 7)"]),
            "offline": flag("Refuse it where an operation at run time would be needed."),
            "optional": flag("The model may have no such edge."),
        },
        "required": ["site", "by"],
        "allOf": conditions,
        "additionalProperties": false,
    })
}

fn pattern(description: &str) -> Value {
    json!({
        "description": description,
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_PATTERN_LENGTH,
        "examples": ["**", ":linear", "mlp.down_proj", "layers[0, -1].**", "{embed_tokens,lm_head}"],
    })
}

fn flag(description: &str) -> Value {
    json!({ "description": description, "type": "boolean", "default": false })
}

/// A format that may stand in this place.
fn format(role: Role, description: &str) -> Value {
    let fits = |kind: &&FormatKind| kind.roles.contains(&role);
    let names =
        FORMATS.iter().filter(fits).map(|kind| (kind.name, described(kind.summary, kind.built.contains(&role))));
    let example = match role {
        Role::Weight => "int4(group: 128)",
        Role::Input => "int8(per: token)",
        Role::Cache => "int4(per: head)",
    };
    call(description, names, &[example])
}

/// A name of a table or of a `let`, with or without arguments. Editors complete the names of the table.
fn call(description: &str, names: impl Iterator<Item = (&'static str, String)>, examples: &[&str]) -> Value {
    let known: Vec<Value> = names.map(|(name, summary)| json!({ "const": name, "description": summary })).collect();
    json!({
        "description": description,
        "type": "string",
        "anyOf": [{ "oneOf": known }, { "pattern": CALL }],
        "examples": examples,
    })
}

/// One of a few words.
fn words(description: &str, words: impl Iterator<Item = (&'static str, String)>) -> Value {
    let values: Vec<Value> = words.map(|(word, summary)| json!({ "const": word, "description": summary })).collect();
    json!({ "description": description, "oneOf": values })
}

fn described(summary: &str, built: bool) -> String {
    if built { summary.to_owned() } else { format!("{summary}; not built by this version") }
}
