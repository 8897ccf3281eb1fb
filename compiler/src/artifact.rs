//! Writing an artifact: into a folder aside, renamed when it is whole.

mod folds;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use lathe_runtime::files::open_regular;
use lathe_runtime::program::PROGRAM_FILE;
use lathe_runtime::weights::is_weight_file;
use serde::de::{Error as _, Unexpected};
use serde::{Deserialize, Deserializer, Serialize};

use crate::pack::Digest;
use crate::plan::ReportedFrames;
use crate::proof::Proof;

pub use folds::{Folds, FoldsError, LockedRotation, Numbers};

/// Files of a checkpoint that the runtime needs beside program and weights, copied as they are.
const COPIED: &[&str] = &[
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
];

/// Name of the [`Lock`] in an artifact.
pub const LOCK_FILE: &str = "lathe.lock";

/// Version of [`Lock`].
pub const LOCK_VERSION: u32 = 2;

/// Name of the [`Report`] in an artifact.
pub const REPORT_FILE: &str = "report.json";

/// The artifact could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// A file or folder could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A file of the checkpoint could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The output exists and is something else.
    #[error("{} exists and is no compiled model ({what}); it is left as it is", path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
        /// What tells it from a compiled model.
        what: String,
    },
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> ArtifactError + '_ {
    move |source| ArtifactError::Io { path: path.to_path_buf(), source }
}

/// What identifies a compilation: hashes of the plan, of what went in, of what came out.
#[derive(Debug, Serialize, Deserialize)]
pub struct Lock {
    /// [`LOCK_VERSION`]; one of another version is not read.
    #[serde(deserialize_with = "lock_version")]
    pub version: u32,
    /// Version of the compiler.
    pub compiler: String,
    /// Of the plan's canonical text.
    pub plan_blake3: String,
    /// Of program.json.
    pub program_blake3: String,
    /// What was read of the checkpoint, once each, as weights first need it: the stored values of a weight, then what was
    /// folded into it.
    pub sources: Vec<Digest>,
    /// Packed tensors.
    pub outputs: Vec<Digest>,
    /// What was folded into weights, and in which frames the results of steps are; absent where nothing changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folds: Option<Folds>,
    /// Of the tokens that scales were measured on, 4 bytes each with the lowest first; absent where none were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration_blake3: Option<String>,
}

fn lock_version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        LOCK_VERSION => Ok(LOCK_VERSION),
        other => {
            let expected = format!("version {LOCK_VERSION}");
            Err(D::Error::invalid_value(Unexpected::Unsigned(other.into()), &expected.as_str()))
        }
    }
}

/// What happened, outside of the identity.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    /// Name of the spec.
    pub spec: String,
    /// Name of the model definition.
    pub model: String,
    /// Modules and what was decided about them, in the order of the plan.
    pub modules: Vec<PackedModule>,
    /// `head = table` for each table that is shared.
    pub tied: Vec<String>,
    /// Bytes of weights that were read, probes included.
    pub bytes_read: u64,
    /// Bytes of packed weights.
    pub bytes_written: u64,
    /// In which frames values are held, and what that leaves for run time; absent where all are as the model states them.
    #[serde(default, skip_serializing_if = "ReportedFrames::is_identity")]
    pub frames: ReportedFrames,
    /// Whether it was proven that the model still computes what its checkpoint computes; absent where nothing but formats
    /// has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
    /// Warnings, one line each.
    pub warnings: Vec<String>,
}

/// A module of the report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PackedModule {
    /// Logical path.
    pub path: String,
    /// `linear`, `head`, …
    pub kind: String,
    /// Of its weight: `[out, in]`, `[vocab, n]` or `[n]`.
    pub shape: Vec<u64>,
    /// What the spec made of its weight, in canonical form.
    pub format: String,
    /// What its weight is stored in, in canonical form; absent when it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packed: Option<String>,
    /// What its input is rounded to, in canonical form; absent where it is taken as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// Values of its parameters that the checkpoint stores for it.
    pub stored_parameters: u64,
    /// Values of its parameters as packed, without a table that it reads from another module.
    pub parameters: u64,
    /// Bytes of its parameters in the checkpoint.
    pub stored_bytes: u64,
    /// Bytes of its parameters as packed.
    pub bytes: u64,
    /// The module whose table it reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shares: Option<String>,
    /// How far its packed weight is from the stored one: 10 log₁₀(Σ w² / Σ (w − ŵ)²) in dB, two decimals. Absent where no
    /// value changed; null, NaN here, where that is no number.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "number_or_null")]
    pub sqnr_db: Option<f64>,
}

/// A number that is there; null is how JSON has one that is not finite.
fn number_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    Ok(Some(Option::deserialize(deserializer)?.unwrap_or(f64::NAN)))
}

/// A folder that is being filled. Dropped before [`Staging::publish`], it leaves nothing behind.
#[derive(Debug)]
pub struct Staging {
    folder: PathBuf,
    target: PathBuf,
    published: bool,
}

impl Staging {
    /// Makes a folder beside `target`.
    ///
    /// # Errors
    /// When `target` is something else than a compiled model or an empty folder, or the folder cannot be made.
    pub fn new(target: &Path) -> Result<Self, ArtifactError> {
        // A link keeps pointing to what is written.
        let target = &fs::canonicalize(target).unwrap_or_else(|_| target.to_path_buf());
        check_target(target)?;
        let (parent, name) = match (target.parent(), target.file_name()) {
            (Some(parent), Some(name)) => (parent, name.to_string_lossy()),
            _ => {
                let what = "it has no name of its own".to_string();
                return Err(ArtifactError::Occupied { path: target.clone(), what });
            }
        };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        fs::create_dir_all(parent).map_err(failed(parent))?;
        let folder = parent.join(format!(".{name}.partial-{}", std::process::id()));
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(failed(&folder))?;
        }
        fs::create_dir(&folder).map_err(failed(&folder))?;
        Ok(Staging { folder, target: target.clone(), published: false })
    }

    /// Where files go.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes a text file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> Result<(), ArtifactError> {
        let path = self.folder.join(name);
        fs::write(&path, text).map_err(failed(&path))
    }

    /// Copies tokenizer and generation files from a checkpoint. Where it has no generation_config.json, one is made of
    /// the ids in config.json that end a text.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn copy_companions(&self, checkpoint: &crate::model::Checkpoint) -> Result<(), ArtifactError> {
        for name in COPIED {
            let from = checkpoint.folder.join(name);
            if from.is_file() {
                // The content only: a read-only checkpoint must not make the artifact read-only.
                let unreadable = |source| ArtifactError::Read { path: from.clone(), source };
                let (mut input, _) = open_regular(&from).map_err(unreadable)?;
                let to = self.folder.join(name);
                let mut output = fs::File::create(&to).map_err(failed(&to))?;
                io::copy(&mut input, &mut output).map_err(failed(&to))?;
            }
        }
        if !self.folder.join("generation_config.json").exists() {
            let keys = ["bos_token_id", "eos_token_id", "pad_token_id"];
            let entry = |key: &str| {
                let value = checkpoint.config.get(&[key.to_string()]).filter(|value| !value.is_null())?;
                Some((key.to_string(), value.clone()))
            };
            let map: serde_json::Map<_, _> = keys.into_iter().filter_map(entry).collect();
            self.write("generation_config.json", &format!("{:#}\n", serde_json::Value::Object(map)))?;
        }
        Ok(())
    }

    /// Gives the folder its final name, in place of an older artifact.
    ///
    /// # Errors
    /// When it cannot be renamed; an older artifact is then still there.
    pub fn publish(mut self) -> Result<(), ArtifactError> {
        check_target(&self.target)?;
        if self.target.exists() {
            let old = self.folder.with_extension(format!("old-{}", std::process::id()));
            fs::rename(&self.target, &old).map_err(failed(&self.target))?;
            if let Err(source) = fs::rename(&self.folder, &self.target) {
                fs::rename(&old, &self.target).map_err(failed(&self.target))?;
                return Err(ArtifactError::Io { path: self.target.clone(), source });
            }
            self.published = true;
            // The new one is in place; what is left of the old one has a name that says what it is.
            let _ = fs::remove_dir_all(&old);
        } else {
            fs::rename(&self.folder, &self.target).map_err(failed(&self.target))?;
            self.published = true;
        }
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.published {
            // Nothing more can be done about a folder that cannot be removed; its name says what it is.
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// A target may be missing, an empty folder, or an older artifact and nothing else.
fn check_target(target: &Path) -> Result<(), ArtifactError> {
    let occupied = |what: String| ArtifactError::Occupied { path: target.to_path_buf(), what };
    let entries = match fs::read_dir(target) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(occupied(error.to_string())),
    };
    let mut empty = true;
    for entry in entries {
        let name = entry.map_err(failed(target))?.file_name();
        if !name.to_str().is_some_and(is_ours) {
            return Err(occupied(format!("it holds `{}`", name.display())));
        }
        empty = false;
    }
    match [PROGRAM_FILE, LOCK_FILE].into_iter().find(|name| !target.join(name).is_file()) {
        Some(missing) if !empty => Err(occupied(format!("it has no {missing}"))),
        _ => Ok(()),
    }
}

/// Whether a file of this name is one that an artifact has.
fn is_ours(name: &str) -> bool {
    [PROGRAM_FILE, LOCK_FILE, REPORT_FILE].contains(&name) || COPIED.contains(&name) || is_weight_file(name)
}
