//! The instruction set that kernels run on, detected once.

use std::sync::OnceLock;

/// Name of the environment variable that lowers the instruction set.
const VARIABLE: &str = "LATHE_ISA";

/// Instruction sets that kernels are written for, each including the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Isa {
    /// The scalar references, on any processor.
    Scalar,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// x86-64 with AVX-512 F, BW, VL and DQ besides.
    Avx512,
}

impl Isa {
    /// All of them, lowest first.
    pub const ALL: [Isa; 3] = [Isa::Scalar, Isa::Avx2, Isa::Avx512];

    /// Name as in `LATHE_ISA`.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        }
    }

    /// Whether this processor and its operating system run it.
    pub fn is_supported(self) -> bool {
        match self {
            Isa::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => {
                is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                Isa::Avx2.is_supported()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Isa::Avx2 | Isa::Avx512 => false,
        }
    }

    /// The highest that this processor runs.
    pub fn detect() -> Isa {
        Isa::ALL.into_iter().rev().find(|isa| isa.is_supported()).unwrap_or(Isa::Scalar)
    }
}

impl std::fmt::Display for Isa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Why `LATHE_ISA` cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IsaError {
    /// Not the name of an instruction set.
    #[error("{VARIABLE}={value} names no instruction set: expected scalar, avx2 or avx512")]
    Unknown {
        /// What the variable holds, with anything that is not UTF-8 replaced.
        value: String,
    },
    /// The processor lacks it.
    #[error("{VARIABLE}={asked}, but the best that this processor has is {best}")]
    Unsupported {
        /// What the variable asks for.
        asked: Isa,
        /// The highest that the processor runs.
        best: Isa,
    },
}

/// The instruction set of this process: the one that `LATHE_ISA` asks for, or the best where it is not set.
///
/// Looked up once; binaries call this at start, so that a wrong value is an error of the command line.
///
/// # Errors
/// `LATHE_ISA` is set to something unknown or something that the processor lacks.
pub fn isa_from_env() -> Result<Isa, IsaError> {
    static ISA: OnceLock<Result<Isa, IsaError>> = OnceLock::new();
    ISA.get_or_init(|| match std::env::var_os(VARIABLE) {
        None => Ok(Isa::detect()),
        Some(value) => parse(&value.to_string_lossy()),
    })
    .clone()
}

/// The instruction set that ops run on: [`isa_from_env`].
///
/// # Panics
/// When `LATHE_ISA` cannot be followed and nobody asked [`isa_from_env`] first.
pub fn isa() -> Isa {
    static ISA: OnceLock<Isa> = OnceLock::new();
    *ISA.get_or_init(|| isa_from_env().unwrap_or_else(|error| panic!("{error}")))
}

fn parse(value: &str) -> Result<Isa, IsaError> {
    let asked = Isa::ALL
        .into_iter()
        .find(|isa| isa.name() == value)
        .ok_or_else(|| IsaError::Unknown { value: value.to_owned() })?;
    if asked.is_supported() { Ok(asked) } else { Err(IsaError::Unsupported { asked, best: Isa::detect() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_followed_or_refused() {
        assert_eq!(parse("scalar"), Ok(Isa::Scalar));
        assert_eq!(
            parse("AVX").unwrap_err().to_string(),
            "LATHE_ISA=AVX names no instruction set: expected scalar, avx2 or avx512"
        );
        for isa in Isa::ALL {
            let expected = if isa.is_supported() {
                Ok(isa)
            } else {
                Err(IsaError::Unsupported { asked: isa, best: Isa::detect() })
            };
            assert_eq!(parse(isa.name()), expected);
        }
    }
}
