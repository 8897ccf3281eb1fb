//! A compiled model on disk: a folder with `program.json`, `weights-*.safetensors` and, where the model has them,
//! `tokenizer.json` and `generation_config.json`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::files::{open_regular, read_bounded};
use crate::program::{MAX_PROGRAM_BYTES, PROGRAM_FILE, Program, ProgramError};
use crate::weights::{Weights, WeightsError};

/// Name of the tokenizer.
pub const TOKENIZER_FILE: &str = "tokenizer.json";
/// Name of the settings for generation.
pub const GENERATION_FILE: &str = "generation_config.json";
/// Largest `generation_config.json` that is read, in bytes.
const MAX_GENERATION_BYTES: u64 = 1 << 20;

/// Why a folder cannot be used as a compiled model.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// A file or folder that cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file where a folder should be.
    #[error("{} is not a compiled model: expected a folder", path.display())]
    NotAFolder {
        /// The file.
        path: PathBuf,
    },
    /// A folder without a program.
    #[error("{} is not a compiled model: it has no {PROGRAM_FILE}", folder.display())]
    NoProgram {
        /// The folder.
        folder: PathBuf,
    },
    /// A program that is not valid.
    #[error("{}: {source}", path.display())]
    Program {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Box<ProgramError>,
    },
    /// Weights that are not those of the program.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Settings for generation that cannot be understood.
    #[error("{}: {source}", path.display())]
    Generation {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A file that should be text.
    #[error("{}: not UTF-8: {source}", path.display())]
    Text {
        /// The file.
        path: PathBuf,
        /// Where it is not.
        source: std::string::FromUtf8Error,
    },
    /// A file that is too large to be what its name says.
    #[error("{} has {found} bytes, at most {max} are read", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        found: u64,
        /// The limit.
        max: u64,
    },
}

impl ArtifactError {
    /// Whether the folder is at fault, rather than the system that should read it.
    pub fn is_input_fault(&self) -> bool {
        match self {
            ArtifactError::Io { .. } => false,
            ArtifactError::Weights(error) => error.is_input_fault(),
            ArtifactError::NotAFolder { .. }
            | ArtifactError::NoProgram { .. }
            | ArtifactError::Program { .. }
            | ArtifactError::Generation { .. }
            | ArtifactError::Text { .. }
            | ArtifactError::TooLarge { .. } => true,
        }
    }
}

/// A compiled model, its weights mapped but not read.
#[derive(Debug)]
pub struct Artifact {
    /// Where it lies.
    pub folder: PathBuf,
    /// What to run; valid.
    pub program: Program,
    /// What to run it on; those of the program.
    pub weights: Weights,
    /// When to stop.
    pub generation: GenerationConfig,
}

impl Artifact {
    /// Opens a folder and checks all of it but the tokenizer.
    pub fn open(folder: &Path) -> Result<Artifact, ArtifactError> {
        let failed = |source| ArtifactError::Io { path: folder.to_owned(), source };
        if !fs::metadata(folder).map_err(failed)?.is_dir() {
            return Err(ArtifactError::NotAFolder { path: folder.to_owned() });
        }
        let path = folder.join(PROGRAM_FILE);
        let Some(text) = read_text(&path, MAX_PROGRAM_BYTES as u64)? else {
            return Err(ArtifactError::NoProgram { folder: folder.to_owned() });
        };
        let program =
            Program::from_json(&text).map_err(|source| ArtifactError::Program { path, source: Box::new(source) })?;
        drop(text);
        let weights = Weights::open(folder, &program)?;
        let generation = GenerationConfig::read(folder)?;
        Ok(Artifact { folder: folder.to_owned(), program, weights, generation })
    }

    /// Where the tokenizer lies, if there is one.
    pub fn tokenizer_path(&self) -> Option<PathBuf> {
        let path = self.folder.join(TOKENIZER_FILE);
        path.is_file().then_some(path)
    }
}

/// What `generation_config.json` says about where a text ends. Its other settings belong to whoever samples.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GenerationConfig {
    /// Tokens that end a text.
    pub end_of_text: Vec<u32>,
}

/// One token or several.
#[derive(Deserialize)]
#[serde(untagged, expecting = "eos_token_id: expected a token or a list of tokens")]
enum OneOrMany {
    One(u32),
    Many(Vec<u32>),
}

#[derive(Deserialize)]
struct GenerationFile {
    eos_token_id: Option<OneOrMany>,
}

impl GenerationConfig {
    /// Reads the file of a folder; without one, no token ends a text.
    fn read(folder: &Path) -> Result<GenerationConfig, ArtifactError> {
        let path = folder.join(GENERATION_FILE);
        let Some(text) = read_text(&path, MAX_GENERATION_BYTES)? else {
            return Ok(GenerationConfig::default());
        };
        GenerationConfig::parse(&text).map_err(|source| ArtifactError::Generation { path, source })
    }

    fn parse(text: &str) -> Result<GenerationConfig, serde_json::Error> {
        let file: GenerationFile = serde_json::from_str(text)?;
        let end_of_text = match file.eos_token_id {
            None => Vec::new(),
            Some(OneOrMany::One(token)) => vec![token],
            Some(OneOrMany::Many(tokens)) => tokens,
        };
        Ok(GenerationConfig { end_of_text })
    }
}

/// The text of a file of at most `max` bytes; `None` if there is no such file.
fn read_text(path: &Path, max: u64) -> Result<Option<String>, ArtifactError> {
    let failed = |source| ArtifactError::Io { path: path.to_owned(), source };
    let (file, found) = match open_regular(path) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if found > max {
        return Err(ArtifactError::TooLarge { path: path.to_owned(), found, max });
    }
    let bytes = read_bounded(file, max).map_err(failed)?;
    let text = String::from_utf8(bytes).map_err(|source| ArtifactError::Text { path: path.to_owned(), source })?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_text_is_one_token_or_several() {
        let parse = |text| GenerationConfig::parse(text).map(|config| config.end_of_text);
        assert!(parse("{}").unwrap().is_empty());
        assert!(parse(r#"{"eos_token_id": null, "bos_token_id": 1}"#).unwrap().is_empty());
        assert_eq!(parse(r#"{"eos_token_id": 2, "temperature": 0.6}"#).unwrap(), [2]);
        assert_eq!(parse(r#"{"eos_token_id": [128001, 128009]}"#).unwrap(), [128_001, 128_009]);
        for text in ["", "[]", r#"{"eos_token_id": -1}"#, r#"{"eos_token_id": "</s>"}"#] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_model_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let message = |path: &Path| Artifact::open(path).unwrap_err().to_string();
        assert!(message(folder.path()).ends_with("is not a compiled model: it has no program.json"));
        let file = folder.path().join(PROGRAM_FILE);
        fs::write(&file, "{}").unwrap();
        assert!(message(&file).ends_with("is not a compiled model: expected a folder"));
        assert!(message(folder.path()).contains("program.json: not a program: missing field `version`"));
        let missing = Artifact::open(&folder.path().join("none")).unwrap_err();
        assert!(missing.to_string().starts_with("cannot read ") && !missing.is_input_fault());
    }

    #[test]
    fn large_files_are_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(GENERATION_FILE);
        fs::File::create(&path).unwrap().set_len(MAX_GENERATION_BYTES + 1).unwrap();
        let error = GenerationConfig::read(folder.path()).unwrap_err();
        assert!(error.to_string().ends_with("has 1048577 bytes, at most 1048576 are read"));
    }
}
