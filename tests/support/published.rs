//! Checkpoints of published sizes without weights: config, index and headers; the data is a sparse file.
//!
//! Each tensor begins with a number of its own, so that no two of them are equal, and is a hole behind it.

use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::files;
use super::forge::{Entry, Forge, assemble};

/// Bytes of the tensors in one weight file, unless one tensor alone has more.
const BYTES_PER_FILE: u64 = 5_000_000_000;

/// A published checkpoint, from its description in `published/`; `list.py` there says what that holds.
#[derive(Debug)]
pub(crate) struct Published {
    /// The name of its description.
    pub(crate) name: String,
    /// How many values the model has.
    pub(crate) parameters: u64,
    /// Its config.json.
    pub(crate) config: Value,
    /// Names and shapes of its tensors.
    tensors: Vec<(String, Vec<u64>)>,
}

impl Published {
    /// Those that are described, sorted by name.
    pub(crate) fn all() -> Vec<Published> {
        let paths = files::list(&super::root().join("published"));
        let descriptions = paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "json"));
        descriptions.map(|path| Published::read(path)).collect()
    }

    /// The one of this name.
    pub(crate) fn named(name: &str) -> Published {
        Published::read(&super::root().join("published").join(format!("{name}.json")))
    }

    /// The one in a file.
    pub(crate) fn read(path: &Path) -> Published {
        let description = files::read_json(path);
        let mut tensors = Vec::new();
        for (pattern, shape) in description["tensors"].as_object().expect("names and shapes") {
            let shape: Vec<u64> = serde_json::from_value(shape.clone()).expect("shapes are lists of sizes");
            unfold(pattern, &mut |name| tensors.push((name, shape.clone())));
        }
        Published {
            name: super::name(path).trim_end_matches(".json").to_owned(),
            parameters: description["parameters"].as_u64().expect("a count"),
            config: description["config"].clone(),
            tensors,
        }
    }

    /// Its architecture, as the config names it.
    pub(crate) fn architecture(&self) -> &str {
        self.config["architectures"][0].as_str().expect("published configs name their architecture")
    }

    /// Writes the checkpoint, all of it in bf16, into `folder`, which is made. Returns its weight files with the size of
    /// the header of each.
    pub(crate) fn write(&self, folder: &Path) -> Vec<(PathBuf, u64)> {
        fs::create_dir_all(folder).expect("temporary folders can be made");
        let mut shards = vec![Vec::new()];
        let mut size = 0;
        for (name, shape) in &self.tensors {
            let bytes = 2 * shape.iter().product::<u64>();
            if size > 0 && size + bytes > BYTES_PER_FILE {
                shards.push(Vec::new());
                size = 0;
            }
            let offsets = (size, size + bytes);
            size += bytes;
            let shard = shards.last_mut().expect("there is a first shard");
            shard.push(Entry { name: name.clone(), dtype: "BF16", shape: shape.clone(), offsets });
        }

        let count = shards.len();
        let mut index = Map::new();
        let mut written = Vec::new();
        let mut tensors = 0;
        for (number, entries) in shards.into_iter().enumerate() {
            let file = match count {
                1 => "model.safetensors".to_owned(),
                _ => format!("model-{:05}-of-{count:05}.safetensors", number + 1),
            };
            index.extend(entries.iter().map(|entry| (entry.name.clone(), json!(file))));
            let path = folder.join(file);
            let first = tensors;
            tensors += entries.len() as u32;
            let header = sparse(&path, entries, first);
            written.push((path, header));
        }
        let write = |name: &str, value: &Value| {
            fs::write(folder.join(name), value.to_string()).expect("temporary files can be written");
        };
        write("config.json", &self.config);
        if count > 1 {
            write("model.safetensors.index.json", &json!({"weight_map": index}));
        }
        written
    }
}

/// Calls `name` with each name that a pattern with ranges stands for.
fn unfold(pattern: &str, name: &mut impl FnMut(String)) {
    let Some((before, rest)) = pattern.split_once('{') else { return name(pattern.to_owned()) };
    let (range, after) = rest.split_once('}').expect("ranges are closed");
    let (begin, end) = range.split_once("..").expect("ranges have two ends");
    let number = |text: &str| text.parse::<u64>().expect("ranges are of numbers");
    for index in number(begin)..number(end) {
        unfold(&format!("{before}{index}{after}"), name);
    }
}

/// Writes a header, and of the data only the numbers of the tensors, from `first` on, where they begin. Returns the bytes
/// up to the data.
fn sparse(path: &Path, entries: Vec<Entry>, first: u32) -> u64 {
    let end = entries.last().map_or(0, |entry| entry.offsets.1);
    let begins: Vec<u64> = entries.iter().map(|entry| entry.offsets.0).collect();
    let header = assemble(&Forge { entries, data: Vec::new() }.header(), &[]);
    let length = header.len() as u64;
    let mut file = File::create(path).expect("temporary files can be made");
    let mut write = |at: u64, bytes: &[u8]| {
        file.seek(SeekFrom::Start(at)).and_then(|_| file.write_all(bytes)).expect("sparse files can be written");
    };
    write(0, &header);
    for (number, begin) in (first..).zip(begins) {
        write(length + begin, &number.to_le_bytes());
    }
    file.set_len(length + end).expect("sparse files can be written");
    length
}
