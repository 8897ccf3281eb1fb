//! `program.json`: reading with every check, and the one way to write it.

use serde::Deserialize;

use super::types::{PROGRAM_VERSION, Program};
use super::verify::verify;
use super::violation::VerifyError;

/// Name of the program in the folder of a compiled model; its presence tells such a folder from another.
pub const PROGRAM_FILE: &str = "program.json";
/// Largest `program.json` that is read, in bytes.
pub const MAX_PROGRAM_BYTES: usize = 256 << 20;

/// Why a text is not a program.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// Longer than [`MAX_PROGRAM_BYTES`].
    #[error("program of {found} bytes, at most {MAX_PROGRAM_BYTES} are read")]
    TooLarge {
        /// Its size in bytes.
        found: u64,
    },
    /// Written for another version of the program format.
    #[error("program format version {found}, this build reads version {PROGRAM_VERSION}; compile the model again")]
    Version {
        /// The version it states.
        found: u32,
    },
    /// Not JSON, or not of the form of a program.
    #[error("not a program: {0}")]
    Json(#[from] serde_json::Error),
    /// Of the right form, but not valid.
    #[error("invalid program: {0}")]
    Invalid(#[from] VerifyError),
}

/// The part of a program that is read whatever its version.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl Program {
    /// Reads a program: its size, its version (before anything else is looked at), its form, its validity.
    pub fn from_json(text: &str) -> Result<Program, ProgramError> {
        if text.len() > MAX_PROGRAM_BYTES {
            return Err(ProgramError::TooLarge { found: text.len() as u64 });
        }
        let Versioned { version } = serde_json::from_str(text)?;
        if version != PROGRAM_VERSION {
            return Err(ProgramError::Version { found: version });
        }
        let program: Program = serde_json::from_str(text)?;
        verify(&program)?;
        Ok(program)
    }

    /// The text of `program.json`: equal programs give equal bytes, and [`Program::from_json`] gives the program back.
    /// Refuses an invalid program, so that what is written can be read.
    pub fn to_json(&self) -> Result<String, ProgramError> {
        verify(self)?;
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::program::{Binary, Compute, InputFormat, Unary};
    use crate::testing::{SMALL, expert_program, rotated_program, small_program, with_int8_inputs};

    fn programs() -> [Program; 4] {
        let mut quantized = with_int8_inputs(expert_program(SMALL));
        quantized.compute = Compute::Bf16;
        [small_program(), expert_program(SMALL), rotated_program(SMALL), quantized]
    }

    #[test]
    fn text_gives_the_program_back() {
        for program in programs() {
            let text = program.to_json().unwrap();
            assert!(text.ends_with("}\n"));
            assert_eq!(Program::from_json(&text).unwrap(), program);
            assert_eq!(Program::from_json(&text).unwrap().to_json().unwrap(), text);
        }
    }

    #[test]
    fn kernels_and_functions_are_spelt_as_in_the_text() {
        let spelling = |value: serde_json::Value| value.as_str().unwrap().to_owned();
        for step in programs().into_iter().flat_map(|program| program.steps) {
            assert_eq!(spelling(serde_json::to_value(&step.op).unwrap()["kernel"].take()), step.op.kernel());
        }
        for (name, function) in Unary::ALL {
            assert_eq!(spelling(serde_json::to_value(function).unwrap()), name);
        }
        for compute in [Compute::F32, Compute::Bf16] {
            assert_eq!(spelling(serde_json::to_value(compute).unwrap()), compute.name());
        }
        for input in InputFormat::ALL {
            assert_eq!(spelling(serde_json::to_value(input).unwrap()), input.name());
        }
        for (name, function) in Binary::ALL {
            assert_eq!(spelling(serde_json::to_value(function).unwrap()), name);
        }
    }

    /// What the fuzzer starts from is worth mutating.
    #[test]
    fn seeds_of_the_fuzzer_are_programs() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/program_json");
        let mut kernels = std::collections::BTreeSet::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let program = Program::from_json(&std::fs::read_to_string(&path).unwrap());
            let program = program.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            kernels.extend(program.steps.iter().map(|step| step.op.kernel()));
        }
        assert!(kernels.contains("rotate") && kernels.contains("top_k"), "{kernels:?}");
    }

    #[test]
    fn awkward_floats_survive() {
        let mut program = small_program();
        let floats = [0.1, 1.0 / 3.0, f32::MIN_POSITIVE, 1e-45, 16_777_217.0, 0.999_999_94];
        program.rope_tables[0].inverse_frequencies = floats[..2].to_vec();
        for float in floats {
            program.rope_tables[0].amplitude = float;
            assert_eq!(Program::from_json(&program.to_json().unwrap()).unwrap(), program);
        }
    }

    #[test]
    fn version_is_checked_before_the_other_fields() {
        let error = Program::from_json(r#"{"version": 7, "instructions": []}"#).unwrap_err();
        assert_eq!(error.to_string(), "program format version 7, this build reads version 4; compile the model again");
    }

    #[test]
    fn unknown_and_missing_fields_are_errors() {
        let text = small_program().to_json().unwrap();
        let unknown = text.replacen("\"model\"", "\"colour\": 1, \"model\"", 1);
        assert!(Program::from_json(&unknown).unwrap_err().to_string().contains("colour"));
        let in_op = text.replacen("\"kernel\"", "\"colour\": 1, \"kernel\"", 1);
        assert!(Program::from_json(&in_op).unwrap_err().to_string().contains("colour"));
        for text in ["", "{}", "[]", "null", "{\"version\": 4}", "{\"version\": -1}"] {
            assert!(matches!(Program::from_json(text), Err(ProgramError::Json(_))), "{text}");
        }
    }

    #[test]
    fn numbers_past_f32_are_refused() {
        let text = small_program().to_json().unwrap().replacen("\"amplitude\": 1.0", "\"amplitude\": 1e300", 1);
        assert!(Program::from_json(&text).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        /// Any edit of a valid text is read or refused, never a panic, and what is read is valid.
        #[test]
        fn edited_text_is_read_or_refused(
            program in 0..4usize,
            edits in prop::collection::vec((any::<prop::sample::Index>(), 0..EDITS.len()), 1..4),
        ) {
            let mut text = programs()[program].to_json().unwrap();
            for (at, edit) in edits {
                text = edit_number(&text, at, EDITS[edit]);
            }
            if let Ok(program) = Program::from_json(&text) {
                prop_assert!(verify(&program).is_ok());
                let _ = program.listing(super::super::Layers::Folded);
            }
        }

        #[test]
        fn flipped_bytes_are_read_or_refused(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = small_program().to_json().unwrap().into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(text) = String::from_utf8(bytes) {
                let _ = Program::from_json(&text);
            }
        }
    }

    const EDITS: &[&str] =
        &["0", "1", "2", "3", "4", "7", "-1", "0.5", "4294967295", "18446744073709551615", "1e39", "null"];

    /// Replaces one run of digits.
    fn edit_number(text: &str, at: prop::sample::Index, with: &str) -> String {
        let digit = |index: usize| text.as_bytes()[index].is_ascii_digit();
        let starts: Vec<usize> = (1..text.len()).filter(|&i| digit(i) && !digit(i - 1)).collect();
        if starts.is_empty() {
            return text.to_owned();
        }
        let start = starts[at.index(starts.len())];
        let length = text[start..].bytes().take_while(u8::is_ascii_digit).count();
        format!("{}{with}{}", &text[..start], &text[start + length..])
    }
}
