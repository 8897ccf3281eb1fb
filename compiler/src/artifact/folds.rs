//! What `lathe.lock` says of rotations: enough to make every packed weight, and the results of the original model, again.
//!
//! It is written from what packing used, and read back to the same recipes: nobody needs the spec to check an artifact
//! against its checkpoint. What is said of each weight and of each buffer is a line of text, see `text.rs`.

mod text;

use std::collections::BTreeSet;
use std::sync::Arc;

use lathe_kernels::formats::{Fit, Format};
use lathe_kernels::rotations::{Construction, Kind, Rotation, RotationError};
use lathe_runtime::program::{RotationSizes, RotationSizesError, Weight, WeightId, signs_from_text, signs_to_text};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ir::View;
use crate::lower::{Lowered, Map, Recipe};
use crate::model::Checkpoint;
use crate::pack::{Digest, find_stored};
use crate::plan::Encoding;
use text::{Tables, Writer};

/// What became of weights before they were packed. Texts refer to rotations, scales and the sources of the lock.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Folds {
    /// The rotations that the others refer to, by their place.
    pub rotations: Vec<LockedRotation>,
    /// Scales, by their place.
    pub scales: Vec<Numbers>,
    /// How each weight of the program was made, in their order: `s5 rows s2 Q0 columns Q1'`.
    pub weights: Vec<String>,
    /// For each buffer of the program the maps that turn its values back to those of the original model, equal neighbours
    /// together: `Q0' x3`.
    pub frames: Vec<String>,
}

/// An orthogonal matrix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum LockedRotation {
    /// diag(signs) H / √width.
    Hadamard {
        /// As the spec writes it.
        name: String,
        /// How H is built: `paley1(11) * sylvester(64)`.
        construction: String,
        /// BLAKE3 of what is not Sylvester's in it.
        base_blake3: String,
        /// Which signs are −, as in the program.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signs: Option<String>,
    },
    /// The random orthogonal matrix of a seed.
    Orthogonal {
        /// As the spec writes it.
        name: String,
        /// Elements of a block.
        width: usize,
        /// Of the generator.
        seed: u64,
    },
    /// A matrix of the user. Which file it was in does not matter.
    Matrix {
        /// Elements of a block.
        width: usize,
        /// BLAKE3 of its values, f32, row-major, lowest byte first.
        blake3: String,
    },
}

/// Numbers in one text, divided by spaces, each the shortest that reads back to the same f64.
#[derive(Debug, Clone, PartialEq)]
pub struct Numbers(pub Arc<[f64]>);

impl Serialize for Numbers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let numbers: Vec<String> = self.0.iter().map(f64::to_string).collect();
        numbers.join(" ").serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Numbers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let number = |word: &str| word.parse().ok().filter(|number: &f64| number.is_finite());
        let number = |word| number(word).ok_or_else(|| D::Error::custom(format!("expected a number, found `{word}`")));
        Ok(Numbers(text.split_ascii_whitespace().map(number).collect::<Result<_, _>>()?))
    }
}

/// A lock that says something that is not there, or not so.
#[derive(Debug, thiserror::Error)]
pub enum FoldsError {
    /// A source that the checkpoint does not have.
    #[error("the lock reads `{name}`, which the checkpoint does not have")]
    NoTensor {
        /// Its name.
        name: String,
    },
    /// Stored elements that a recipe or a frame refers to and that were not read.
    #[error("`{name}` is no source of the lock")]
    NoSource {
        /// Their name.
        name: String,
    },
    /// A source or a scale that the lock does not have.
    #[error("the lock refers to a {what} {place} that it does not have")]
    NoPlace {
        /// `source` or `scale`.
        what: &'static str,
        /// Its place.
        place: usize,
    },
    /// A text that says nothing.
    #[error("`{text}` in the lock: expected {expected}, found `{found}`")]
    Text {
        /// The text.
        text: String,
        /// What would have been right.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// Texts of another program.
    #[error("the lock speaks of {found} {what}, the program has {expected}")]
    Count {
        /// `weights` or `buffers`.
        what: &'static str,
        /// Those of the program.
        expected: usize,
        /// Those of the lock.
        found: usize,
    },
    /// A Hadamard matrix that cannot be built, or is another one here.
    #[error("rotation `{name}` of the lock: {reason}")]
    Hadamard {
        /// The rotation.
        name: String,
        /// Why.
        reason: String,
    },
    /// A matrix that is not in the artifact.
    #[error("no weight of the artifact has the values of the matrix with BLAKE3 {} of the lock", blake3.escape_debug())]
    NoMatrix {
        /// Of its values.
        blake3: String,
    },
    /// Rotations that would take too much memory.
    #[error("the lock holds too many rotations: {0}")]
    Sizes(#[source] RotationSizesError),
    /// A weight of a scale that has more factors, or fewer.
    #[error("`{text}` in the lock: a weight of {expected} elements, the scale has {found}")]
    Elements {
        /// The text.
        text: String,
        /// Of the weight.
        expected: usize,
        /// Of the scale.
        found: usize,
    },
    /// No rotation is made of this.
    #[error("rotation `{name}` of the lock: {source}")]
    Rotation {
        /// The rotation.
        name: String,
        /// Why.
        source: RotationError,
    },
}

impl Folds {
    /// Of a lowered model. `names` are how the spec writes its rotations, `sources` what packing has read.
    ///
    /// # Errors
    /// When a recipe or a frame refers to what was not read.
    pub fn new(
        lowered: &Lowered,
        names: &[&str],
        sources: &[Digest],
        checkpoint: &Checkpoint,
    ) -> Result<Folds, FoldsError> {
        let mut writer = Writer::new(views(sources, checkpoint)?, checkpoint);
        let matrices: BTreeSet<WeightId> =
            lowered.program.rotations.iter().filter_map(lathe_runtime::program::Rotation::weight).collect();
        // Frames first: whatever is scaled at run time has its scale there.
        let frames = writer.frames(&lowered.frames)?;
        let weights = (0..).map(WeightId).zip(&lowered.recipes).map(|(id, recipe)| {
            if matrices.contains(&id) {
                Ok("matrix".to_string())
            } else {
                writer.weight(&recipe.source, &recipe.folded)
            }
        });
        let weights = weights.collect::<Result<_, _>>()?;
        let rotations = lowered.rotations.iter().zip(names).map(|(rotation, name)| locked(rotation, name)).collect();
        Ok(Folds { rotations, scales: writer.scales.into_iter().map(Numbers).collect(), weights, frames })
    }

    /// The rotations. `matrix` finds the values of a matrix of the user by their hash.
    ///
    /// # Errors
    /// When one cannot be built, or would be another, or all of them would take too much memory.
    pub fn rotations(&self, matrix: impl Fn(&str) -> Option<Arc<[f32]>>) -> Result<Vec<Rotation>, FoldsError> {
        let mut sizes = RotationSizes::default();
        self.rotations.iter().map(|rotation| rotation.build(&matrix, &mut sizes)).collect()
    }

    /// How each weight of a program was made, with its values in f32. `None` for a matrix of the user. `weights` are those of
    /// an artifact that was opened, `sources` those of the lock.
    ///
    /// # Errors
    /// When a text says nothing, refers to what is not there, or the program has more weights or fewer.
    pub fn recipes(
        &self,
        weights: &[Weight],
        sources: &[Digest],
        checkpoint: &Checkpoint,
    ) -> Result<Vec<Option<Recipe>>, FoldsError> {
        if weights.len() != self.weights.len() {
            let (expected, found) = (weights.len(), self.weights.len());
            return Err(FoldsError::Count { what: "weights", expected, found });
        }
        let tables = self.tables(sources, checkpoint)?;
        let recipe = |(weight, text): (&Weight, &String)| {
            let elements = weight.shape.iter().fold(1_u64, |product, size| product.saturating_mul(*size));
            let made = tables.weight(text, usize::try_from(elements).unwrap_or(usize::MAX))?;
            let encoding = Encoding { format: Format::F32, fit: Fit::default() };
            let (name, shape) = (weight.name.clone(), weight.shape.clone());
            Ok(made.map(|(source, folded)| Recipe { name, shape, encoding, source, folded }))
        };
        weights.iter().zip(&self.weights).map(recipe).collect()
    }

    /// What turns the values of each of so many buffers back to those of the original model, by
    /// [`crate::lower::Lowered::frames`]. `sources` are those of the lock.
    ///
    /// # Errors
    /// When a text says nothing, refers to what is not there, or the program has more buffers or fewer.
    pub fn frames(
        &self,
        buffers: usize,
        sources: &[Digest],
        checkpoint: &Checkpoint,
    ) -> Result<Vec<Vec<Map>>, FoldsError> {
        let tables = self.tables(sources, checkpoint)?;
        let runs = self.frames.iter().map(|text| tables.frame(text)).collect::<Result<Vec<_>, _>>()?;
        let found = runs.iter().fold(0_usize, |sum, (_, count)| sum.saturating_add(*count));
        if found != buffers {
            return Err(FoldsError::Count { what: "buffers", expected: buffers, found });
        }
        Ok(runs.into_iter().flat_map(|(maps, count)| vec![maps; count]).collect())
    }

    fn tables(&self, sources: &[Digest], checkpoint: &Checkpoint) -> Result<Tables, FoldsError> {
        let scales = self.scales.iter().map(|Numbers(values)| Arc::clone(values)).collect();
        Ok(Tables { sources: views(sources, checkpoint)?, scales })
    }
}

/// The stored elements that are called so.
fn views(sources: &[Digest], checkpoint: &Checkpoint) -> Result<Vec<View>, FoldsError> {
    let missing = |name: &str| FoldsError::NoTensor { name: name.to_string() };
    let view = |Digest { name, .. }: &Digest| find_stored(name, checkpoint).ok_or_else(|| missing(name));
    sources.iter().map(view).collect()
}

fn locked(rotation: &Rotation, name: &str) -> LockedRotation {
    let (name, width) = (name.to_string(), rotation.width());
    match rotation.kind() {
        Kind::Hadamard { construction, signs } => LockedRotation::Hadamard {
            name,
            construction: construction.to_string(),
            base_blake3: blake3::hash(&construction.base_bytes()).to_string(),
            signs: signs.as_deref().map(signs_to_text),
        },
        Kind::Orthogonal { seed } => LockedRotation::Orthogonal { name, width, seed: *seed },
        Kind::Matrix { values } => {
            let mut hash = blake3::Hasher::new();
            values.iter().for_each(|value| _ = hash.update(&value.to_le_bytes()));
            LockedRotation::Matrix { width, blake3: hash.finalize().to_string() }
        }
    }
}

impl LockedRotation {
    /// Builds it once it is counted.
    fn build(
        &self,
        matrix: &impl Fn(&str) -> Option<Arc<[f32]>>,
        sizes: &mut RotationSizes,
    ) -> Result<Rotation, FoldsError> {
        let built = match self {
            LockedRotation::Hadamard { name, construction, base_blake3, signs } => {
                let wrong = |reason: String| FoldsError::Hadamard { name: name.clone(), reason };
                let construction: Construction =
                    construction.parse().map_err(|error| wrong(format!("`{construction}`: {error}")))?;
                sizes.add_hadamard(&construction).map_err(FoldsError::Sizes)?;
                let base = blake3::hash(&construction.base_bytes()).to_string();
                if base != *base_blake3 {
                    return Err(wrong(format!("`{construction}` is another matrix here")));
                }
                let signs = match signs {
                    Some(text) => Some(
                        signs_from_text(text, construction.order())
                            .ok_or_else(|| wrong(format!("expected {} signs", construction.order())))?
                            .into(),
                    ),
                    None => None,
                };
                Rotation::with_construction(construction, signs)
            }
            LockedRotation::Orthogonal { width, seed, .. } => {
                sizes.add_dense(*width as u64).map_err(FoldsError::Sizes)?;
                Rotation::orthogonal(*width, *seed)
            }
            LockedRotation::Matrix { width, blake3 } => {
                sizes.add_dense(*width as u64).map_err(FoldsError::Sizes)?;
                let values = matrix(blake3).ok_or_else(|| FoldsError::NoMatrix { blake3: blake3.clone() })?;
                Rotation::matrix(*width, values)
            }
        };
        built.map_err(|source| FoldsError::Rotation { name: self.name().to_string(), source })
    }

    /// As the spec writes it; of a matrix without its file.
    pub fn name(&self) -> &str {
        match self {
            LockedRotation::Hadamard { name, .. } | LockedRotation::Orthogonal { name, .. } => name,
            LockedRotation::Matrix { .. } => "matrix",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A lock of a few words does not stand for matrices of gigabytes.
    #[test]
    fn what_rotations_hold_together_is_bounded() {
        let paley = "paley1(2039)";
        let blake3 = blake3::hash(&paley.parse::<Construction>().unwrap().base_bytes()).to_string();
        let hadamard = LockedRotation::Hadamard {
            name: "hadamard".to_string(),
            construction: paley.to_string(),
            base_blake3: "of another one".to_string(),
            signs: None,
        };
        let valid = match hadamard.clone() {
            LockedRotation::Hadamard { name, construction, signs, .. } => {
                LockedRotation::Hadamard { name, construction, base_blake3: blake3, signs }
            }
            other => other,
        };
        let refused = |rotations| {
            let folds = Folds { rotations, ..Folds::default() };
            folds.rotations(|_| None).map(|rotations| rotations.len()).unwrap_err().to_string()
        };
        let mut rotations = vec![valid; 8];
        // Counted before it is made: whether it is another one is not looked at.
        rotations.push(hadamard);
        assert_eq!(
            refused(rotations),
            "the lock holds too many rotations: elements of Hadamard matrices is 37472760, expected at most 33554432"
        );
        let wide = LockedRotation::Orthogonal { name: "orthogonal".to_string(), width: usize::MAX, seed: 1 };
        assert!(refused(vec![wide]).starts_with("the lock holds too many rotations: elements of rotations is "));
        let matrix = LockedRotation::Matrix { width: 1 << 15, blake3: "m".to_string() };
        assert_eq!(
            refused(vec![matrix; 2]),
            "no weight of the artifact has the values of the matrix with BLAKE3 m of the lock"
        );
    }
}
