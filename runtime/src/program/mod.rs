//! Programs: the instruction set, its text forms, and what makes one valid.

mod fold;
mod operands;
mod print;
mod read_write;
mod rotation;
mod section;
mod stored;
mod types;
pub mod verify;
mod violation;

pub use fold::LayerIndex;
pub use read_write::{MAX_PROGRAM_BYTES, PROGRAM_FILE, ProgramError};
pub use rotation::{HadamardError, RotationError, RotationSizes, RotationSizesError, signs_from_text, signs_to_text};
pub use section::{Layers, Names, Same, section};
pub use stored::{MatrixShape, StoredTensor};
pub use types::*;
pub use verify::verify;
pub use violation::{StepRef, VerifyError, Violation};
