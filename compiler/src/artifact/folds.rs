//! What `lathe.lock` says of rotations: enough to make every packed weight, and the results of the original model, again.
//!
//! It is written from what packing used, and read back to the same recipes: nobody needs the spec to check an artifact
//! against its checkpoint.

use std::collections::BTreeSet;
use std::sync::Arc;

use lathe_kernels::formats::Fit;
use lathe_kernels::rotations::{Construction, Kind, Rotation, RotationError};
use lathe_runtime::program::{Weight, WeightId, signs_from_text, signs_to_text};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ir::{Axis, TensorId, View};
use crate::lower::{Folded, FoldedProduct, Lowered, Map, Recipe, Source};
use crate::model::Checkpoint;
use crate::plan::Encoding;

/// What became of weights before they were packed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Folds {
    /// The rotations that the others refer to, by their place.
    pub rotations: Vec<LockedRotation>,
    /// Scales, by their place.
    pub scales: Vec<Numbers>,
    /// Weights that are not elements of a tensor as they are stored.
    pub weights: Vec<LockedWeight>,
    /// For each buffer of the program the maps that turn its values back to those of the original model.
    pub frames: Vec<Vec<LockedMap>>,
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
    /// A matrix of the user.
    Matrix {
        /// As the spec writes it.
        name: String,
        /// Elements of a block.
        width: usize,
        /// BLAKE3 of its values, f32, row-major, lowest byte first.
        blake3: String,
    },
}

/// Elements of a stored tensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedView {
    /// Its name.
    pub tensor: String,
    /// The first element.
    pub offset: u64,
    /// Size and stride in elements of each loop, outermost first.
    pub axes: Vec<(u64, u64)>,
}

/// Where the values of a weight come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LockedSource {
    /// Elements of a stored tensor.
    Stored(LockedView),
    /// 1/√n each.
    Uniform,
    /// Given.
    Values(Numbers),
}

/// A linear map of rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum LockedMap {
    /// x ↦ x Q, or x Qᵀ.
    Rotate {
        /// Which of the rotations.
        rotation: usize,
        /// Whether it is Qᵀ.
        inverse: bool,
    },
    /// x ↦ x ⊙ (offset + g).
    Gain {
        /// g.
        gain: LockedView,
        /// Added to it.
        offset: f64,
    },
    /// x ↦ x ⊙ s, or x ⊘ s.
    Scale {
        /// Which of the scales.
        scale: usize,
        /// Whether it divides.
        inverse: bool,
    },
}

/// `factor · v Wᵀ`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedProduct {
    /// W.
    pub weight: LockedView,
    /// v.
    pub vector: LockedView,
    /// Multiplies all of it.
    pub factor: f64,
}

/// How a weight was made, in the order of the fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedWeight {
    /// Its name in the program.
    pub name: String,
    /// Where its values come from.
    pub source: LockedSource,
    /// Added to each value.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub offset: f64,
    /// Added to a bias.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product: Option<LockedProduct>,
    /// Map every row, one after the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<LockedMap>,
    /// Map every column, one after the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<LockedMap>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls")]
fn is_zero(number: &f64) -> bool {
    *number == 0.0
}

/// Numbers in one text, divided by spaces, each the shortest that reads back to the same f64.
#[derive(Debug, Clone, PartialEq)]
pub struct Numbers(pub Arc<[f64]>);

impl Serialize for Numbers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::new();
        for number in &*self.0 {
            text += &format!("{}{number}", if text.is_empty() { "" } else { " " });
        }
        text.serialize(serializer)
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
    /// A tensor that the checkpoint does not have.
    #[error("the lock reads a tensor `{tensor}` that the checkpoint does not have")]
    NoTensor {
        /// Its name.
        tensor: String,
    },
    /// A scale that the lock does not have.
    #[error("the lock refers to a scale {scale} that it does not have")]
    NoScale {
        /// Its place.
        scale: usize,
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
    #[error("rotation `{name}` of the lock: no weight of the artifact has the values of this matrix")]
    NoMatrix {
        /// The rotation.
        name: String,
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
    /// Of a lowered model. `names` are how the spec writes its rotations.
    pub fn new(lowered: &Lowered, names: &[&str], checkpoint: &Checkpoint) -> Folds {
        let mut writer = Writer { checkpoint, scales: Vec::new() };
        let matrices: BTreeSet<WeightId> =
            lowered.program.rotations.iter().filter_map(lathe_runtime::program::Rotation::weight).collect();
        let weights = (0..).map(WeightId).zip(&lowered.recipes).filter(|(id, recipe)| {
            let stored = matches!(recipe.source, Source::Stored(_)) && recipe.folded.is_identity();
            !stored && !matrices.contains(id)
        });
        let weights = weights.map(|(_, recipe)| writer.weight(recipe)).collect();
        let frames = lowered.frames.iter().map(|maps| writer.maps(maps)).collect();
        let rotations = lowered.rotations.iter().zip(names).map(|(rotation, name)| locked(rotation, name)).collect();
        Folds { rotations, scales: writer.scales.into_iter().map(Numbers).collect(), weights, frames }
    }

    /// Whether every weight is as it is stored, and every result that of the original model.
    pub fn is_empty(&self) -> bool {
        self.weights.is_empty() && self.frames.iter().all(Vec::is_empty)
    }

    /// The rotations. `matrix` finds the values of a matrix of the user by their hash.
    ///
    /// # Errors
    /// When one cannot be built, or would be another.
    pub fn rotations(&self, matrix: impl Fn(&str) -> Option<Arc<[f32]>>) -> Result<Vec<Rotation>, FoldsError> {
        self.rotations.iter().map(|rotation| rotation.build(&matrix)).collect()
    }

    /// How a weight of the program was made, with its values in f32. `None` where it is elements of a tensor as stored.
    ///
    /// # Errors
    /// When it refers to what is not there.
    pub fn recipe(&self, weight: &Weight, checkpoint: &Checkpoint) -> Result<Option<Recipe>, FoldsError> {
        let Some(locked) = self.weights.iter().find(|locked| locked.name == weight.name) else { return Ok(None) };
        let source = match &locked.source {
            LockedSource::Stored(view) => Source::Stored(view.find(checkpoint)?),
            LockedSource::Uniform => Source::Uniform,
            LockedSource::Values(values) => Source::Values(Arc::clone(&values.0)),
        };
        let product = |product: &LockedProduct| -> Result<FoldedProduct, FoldsError> {
            Ok(FoldedProduct {
                weight: product.weight.find(checkpoint)?,
                vector: product.vector.find(checkpoint)?,
                factor: product.factor,
            })
        };
        let folded = Folded {
            offset: locked.offset,
            product: locked.product.as_ref().map(product).transpose()?,
            rows: self.maps(&locked.rows, checkpoint)?,
            columns: self.maps(&locked.columns, checkpoint)?,
        };
        let encoding = Encoding { format: lathe_kernels::formats::Format::F32, fit: Fit::default() };
        Ok(Some(Recipe { name: weight.name.clone(), shape: weight.shape.clone(), encoding, source, folded }))
    }

    /// What turns the values of a buffer back to those of the original model, by [`crate::lower::Lowered::frames`].
    ///
    /// # Errors
    /// When it refers to what is not there.
    pub fn frames(&self, checkpoint: &Checkpoint) -> Result<Vec<Vec<Map>>, FoldsError> {
        self.frames.iter().map(|maps| self.maps(maps, checkpoint)).collect()
    }

    fn maps(&self, maps: &[LockedMap], checkpoint: &Checkpoint) -> Result<Vec<Map>, FoldsError> {
        let map = |map: &LockedMap| match *map {
            LockedMap::Rotate { rotation, inverse } => Ok(Map::Rotate { rotation, inverse }),
            LockedMap::Gain { ref gain, offset } => Ok(Map::Gain { gain: gain.find(checkpoint)?, offset }),
            LockedMap::Scale { scale, inverse } => {
                let Numbers(values) = self.scales.get(scale).ok_or(FoldsError::NoScale { scale })?;
                Ok(Map::Scale { values: Arc::clone(values), inverse })
            }
        };
        maps.iter().map(map).collect()
    }
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
            LockedRotation::Matrix { name, width, blake3: hash.finalize().to_string() }
        }
    }
}

impl LockedRotation {
    fn build(&self, matrix: &impl Fn(&str) -> Option<Arc<[f32]>>) -> Result<Rotation, FoldsError> {
        let built = match self {
            LockedRotation::Hadamard { name, construction, base_blake3, signs } => {
                let wrong = |reason: String| FoldsError::Hadamard { name: name.clone(), reason };
                let construction: Construction =
                    construction.parse().map_err(|error| wrong(format!("`{construction}`: {error}")))?;
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
            LockedRotation::Orthogonal { width, seed, .. } => Rotation::orthogonal(*width, *seed),
            LockedRotation::Matrix { name, width, blake3 } => {
                let values = matrix(blake3).ok_or_else(|| FoldsError::NoMatrix { name: name.clone() })?;
                Rotation::matrix(*width, values)
            }
        };
        built.map_err(|source| FoldsError::Rotation { name: self.name().to_string(), source })
    }

    /// As the spec writes it.
    pub fn name(&self) -> &str {
        let (LockedRotation::Hadamard { name, .. }
        | LockedRotation::Orthogonal { name, .. }
        | LockedRotation::Matrix { name, .. }) = self;
        name
    }
}

impl LockedView {
    fn new(view: &View, checkpoint: &Checkpoint) -> LockedView {
        LockedView {
            tensor: checkpoint.tensor(view.tensor).name.clone(),
            offset: view.offset,
            axes: view.axes.iter().map(|axis| (axis.size, axis.stride)).collect(),
        }
    }

    fn find(&self, checkpoint: &Checkpoint) -> Result<View, FoldsError> {
        let missing = || FoldsError::NoTensor { tensor: self.tensor.clone() };
        let tensor: TensorId = checkpoint.find(&self.tensor).ok_or_else(missing)?;
        let axes = self.axes.iter().map(|&(size, stride)| Axis { size, stride });
        Ok(View::new(tensor, self.offset, axes))
    }
}

/// Puts names in the place of tensors, and places in that of scales.
struct Writer<'a> {
    checkpoint: &'a Checkpoint,
    scales: Vec<Arc<[f64]>>,
}

impl Writer<'_> {
    fn weight(&mut self, recipe: &Recipe) -> LockedWeight {
        let view = |view: &View| LockedView::new(view, self.checkpoint);
        let Folded { offset, product, rows, columns } = &recipe.folded;
        LockedWeight {
            name: recipe.name.clone(),
            source: match &recipe.source {
                Source::Stored(stored) => LockedSource::Stored(view(stored)),
                Source::Uniform => LockedSource::Uniform,
                Source::Values(values) => LockedSource::Values(Numbers(Arc::clone(values))),
            },
            offset: *offset,
            product: product.as_ref().map(|product| LockedProduct {
                weight: view(&product.weight),
                vector: view(&product.vector),
                factor: product.factor,
            }),
            rows: self.maps(rows),
            columns: self.maps(columns),
        }
    }

    fn maps(&mut self, maps: &[Map]) -> Vec<LockedMap> {
        maps.iter().map(|map| self.map(map)).collect()
    }

    fn map(&mut self, map: &Map) -> LockedMap {
        match map {
            Map::Rotate { rotation, inverse } => LockedMap::Rotate { rotation: *rotation, inverse: *inverse },
            Map::Gain { gain, offset } => {
                LockedMap::Gain { gain: LockedView::new(gain, self.checkpoint), offset: *offset }
            }
            Map::Scale { values, inverse } => {
                let scale = self.scales.iter().position(|scale| Arc::ptr_eq(scale, values)).unwrap_or_else(|| {
                    self.scales.push(Arc::clone(values));
                    self.scales.len() - 1
                });
                LockedMap::Scale { scale, inverse: *inverse }
            }
        }
    }
}
