//! Opening a checkpoint folder.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use lathe_grammar::diag::{Diagnostic, nearest};
use lathe_kernels::formats::Format;
use lathe_runtime::files::read_regular;
use safetensors::tensor::Dtype;
use serde_json::Value;

use super::config::Config;
use super::header;
use crate::ir::TensorId;

/// Largest JSON file of a checkpoint that is read, in bytes.
const MAX_JSON: u64 = 100_000_000;

/// A dtype that weights can be read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoredDtype {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    Bf16,
}

impl StoredDtype {
    /// Bytes of an element.
    pub fn bytes(self) -> u64 {
        match self {
            StoredDtype::F32 => 4,
            StoredDtype::F16 | StoredDtype::Bf16 => 2,
        }
    }

    /// The weight format that keeps it.
    pub fn format(self) -> Format {
        match self {
            StoredDtype::F32 => Format::F32,
            StoredDtype::F16 => Format::F16,
            StoredDtype::Bf16 => Format::BF16,
        }
    }
}

/// A stored tensor.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Its dtype in the file.
    pub dtype: Dtype,
    /// Its shape, outermost dimension first.
    pub shape: Vec<u64>,
    /// Index into [`Checkpoint::files`].
    pub file: usize,
    /// First byte in the file.
    pub offset: u64,
    /// Length in bytes.
    pub bytes: u64,
}

impl Tensor {
    /// Its dtype, if weights can be read from it.
    pub fn stored_dtype(&self) -> Option<StoredDtype> {
        match self.dtype {
            Dtype::F32 => Some(StoredDtype::F32),
            Dtype::F16 => Some(StoredDtype::F16),
            Dtype::BF16 => Some(StoredDtype::Bf16),
            _ => None,
        }
    }

    /// Rows and elements in a row; a tensor of one dimension is one row.
    pub fn rows(&self) -> (u64, u64) {
        match self.shape[..] {
            [] => (1, 1),
            [n] => (1, n),
            [rows, ref rest @ ..] => (rows, rest.iter().product()),
        }
    }
}

/// Everything that a checkpoint folder says without its weights.
#[derive(Debug)]
pub struct Checkpoint {
    /// The folder.
    pub folder: PathBuf,
    /// config.json.
    pub config: Config,
    /// The weight files, sorted by name.
    pub files: Vec<PathBuf>,
    /// All tensors, sorted by name.
    pub tensors: Vec<Tensor>,
    /// Bytes of all headers together.
    pub header_bytes: u64,
}

impl Checkpoint {
    /// Reads config.json and all headers.
    ///
    /// # Errors
    /// A diagnostic for each file that is missing, malformed or lies.
    pub fn open(folder: &Path) -> Result<Checkpoint, Vec<Diagnostic>> {
        if !folder.is_dir() {
            let message = format!("expected a checkpoint folder, found no folder {}", folder.display());
            return Err(vec![Diagnostic::error("C0001", message)]);
        }
        let mut diagnostics = Vec::new();
        let config = read_object(&folder.join("config.json")).map_err(|error| diagnostics.push(*error)).ok();
        let single = folder.join("model.safetensors");
        let index = folder.join("model.safetensors.index.json");
        let promised = if single.exists() {
            BTreeMap::from([(single, BTreeSet::new())])
        } else if index.exists() {
            shards(folder, &index).unwrap_or_else(|error| {
                diagnostics.push(*error);
                BTreeMap::new()
            })
        } else {
            let message = format!(
                "expected model.safetensors or model.safetensors.index.json, found neither in {}",
                folder.display()
            );
            diagnostics.push(Diagnostic::error("C0001", message));
            BTreeMap::new()
        };

        let mut tensors: BTreeMap<String, Tensor> = BTreeMap::new();
        let mut header_bytes = 0;
        for (file, (path, names)) in promised.iter().enumerate() {
            let header = match header::read(path) {
                Ok(header) => header,
                Err(errors) => {
                    diagnostics.extend(errors);
                    continue;
                }
            };
            header_bytes += header.length;
            let found: BTreeSet<&str> = header.entries.iter().map(|entry| entry.name.as_str()).collect();
            for name in names.iter().filter(|name| !found.contains(name.as_str())) {
                let shard = path.display().to_string();
                let message = format!("expected tensor `{name}` in {shard}, as the index says; it is not there");
                diagnostics.push(Diagnostic::error("C0004", message).file(shard));
            }
            for entry in header.entries {
                let header::Entry { name, dtype, shape, offset, bytes } = entry;
                let tensor = Tensor { name: name.clone(), dtype, shape, file, offset, bytes };
                if tensors.insert(name.clone(), tensor).is_some() {
                    let shard = path.display().to_string();
                    let message =
                        format!("expected tensor `{name}` in one shard, found it in two: the second is {shard}");
                    diagnostics.push(Diagnostic::error("C0003", message).file(shard));
                }
            }
        }
        match config {
            Some(config) if diagnostics.is_empty() => Ok(Checkpoint {
                folder: folder.to_path_buf(),
                config,
                files: promised.into_keys().collect(),
                tensors: tensors.into_values().collect(),
                header_bytes,
            }),
            _ => Err(diagnostics),
        }
    }

    /// The tensor of this name.
    pub fn find(&self, name: &str) -> Option<TensorId> {
        let found = self.tensors.binary_search_by(|tensor| tensor.name.as_str().cmp(name));
        found.ok().map(|index| TensorId(index as u32))
    }

    /// A tensor by id.
    pub fn tensor(&self, id: TensorId) -> &Tensor {
        &self.tensors[id.0 as usize]
    }

    /// The file of a tensor, as shown to the user.
    pub fn file_of(&self, tensor: &Tensor) -> String {
        self.files[tensor.file].display().to_string()
    }

    /// The stored name that is closest to one that is missing.
    pub fn nearest(&self, name: &str) -> Option<&str> {
        nearest(name, self.tensors.iter().map(|tensor| tensor.name.as_str()))
    }
}

fn read_object(path: &Path) -> Result<Config, Box<Diagnostic>> {
    let file = path.display().to_string();
    match read_json(path)? {
        root @ Value::Object(_) => Ok(Config::new(file, root)),
        _ => Err(Box::new(Diagnostic::error("C0002", format!("{file}: expected an object")).file(file))),
    }
}

/// Reads a JSON file of bounded size.
fn read_json(path: &Path) -> Result<Value, Box<Diagnostic>> {
    let file = path.display().to_string();
    let fault = |code, message: String| Box::new(Diagnostic::error(code, message).file(file.as_str()));
    let unreadable = |error: std::io::Error| fault("C0001", format!("cannot read {file}: {error}"));
    let bytes = read_regular(path, MAX_JSON).map_err(unreadable)?;
    serde_json::from_slice(&bytes).map_err(|error| fault("C0002", format!("{file} is not valid JSON: {error}")))
}

/// The shards that an index names, with the tensors that it promises in each.
fn shards(folder: &Path, index: &Path) -> Result<BTreeMap<PathBuf, BTreeSet<String>>, Box<Diagnostic>> {
    let file = index.display().to_string();
    let malformed = |message: String| Box::new(Diagnostic::error("C0002", format!("{file}: {message}")).file(&file));
    let root = read_json(index)?;
    let Some(map) = root.get("weight_map").and_then(Value::as_object) else {
        return Err(malformed("expected an object `weight_map`".into()));
    };
    let mut shards: BTreeMap<PathBuf, BTreeSet<String>> = BTreeMap::new();
    for (tensor, shard) in map {
        let Some(shard) = shard.as_str() else {
            return Err(malformed(format!("expected a file name for tensor `{tensor}`, found {shard}")));
        };
        let mut components = Path::new(shard).components();
        if !matches!((components.next(), components.next()), (Some(Component::Normal(_)), None)) {
            return Err(malformed(format!("expected a plain file name for tensor `{tensor}`, found `{shard}`")));
        }
        shards.entry(folder.join(shard)).or_default().insert(tensor.clone());
    }
    if shards.is_empty() {
        return Err(malformed("expected a shard, found an empty `weight_map`".into()));
    }
    Ok(shards)
}
