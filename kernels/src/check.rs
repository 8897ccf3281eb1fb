//! Differential checks: every op on every instruction set against its scalar reference.
//!
//! ```
//! use lathe_kernels::check::{CHECKS, Outcome};
//! use lathe_kernels::cpu::Isa;
//!
//! for check in CHECKS {
//!     match check.run(Isa::Scalar) {
//!         Outcome::Passed { .. } => {}
//!         Outcome::Skipped => println!("{} skipped: the processor lacks it", check.name),
//!         Outcome::Failed(report) => panic!("{}: {report}", check.name),
//!     }
//! }
//! ```

mod attention;
mod cases;
mod elementwise;
mod forced;
mod groups;
#[cfg(feature = "cuda")]
pub mod host_driver;
mod implementation;
mod int8;
#[cfg(feature = "cuda")]
mod on_device;
mod products;
mod rotations;
mod table;

pub use attention::{AttentionCase, attention_cases};
pub use cases::Random;
pub use forced::Forced;
pub use implementation::{Experts, Implementation};
#[cfg(feature = "cuda")]
pub use on_device::OnDevice;
pub use table::CHECKS;

use crate::cpu::Isa;
use crate::formats::Format;
use crate::ops::Accuracy;
use cases::Unaligned;

/// Formats that checks run on, as in specs.
const CHECKED_FORMATS: &[&str] = &[
    "f32",
    "f16",
    "bf16",
    "int8(per: channel)",
    "int8(per: channel, symmetric: false, scales: f32)",
    "int8(group: 6, symmetric: false)",
    "int8(group: 32, scales: f16)",
    "int8(group: 128, symmetric: false, scales: f16)",
    "int4(per: channel, scales: f32)",
    "int4(per: channel, symmetric: false, scales: f16)",
    "int4(group: 9, symmetric: false)",
    "int4(group: 3, scales: f32)",
    "int4(group: 16, symmetric: false)",
    "int4(group: 32)",
    "int4(group: 32, symmetric: false, scales: f32)",
    "int4(group: 128, symmetric: false)",
    "int3(per: channel, symmetric: false, scales: f32)",
    "int3(group: 3, scales: f16)",
    "int3(group: 9, symmetric: false)",
    "int3(group: 32)",
    "int3(group: 128, symmetric: false)",
];

/// Formats that checks run on: of every kind, each parameter in each of its ways, groups that vectors divide and others.
pub fn formats() -> Vec<Format> {
    CHECKED_FORMATS.iter().map(|text| text.parse().expect("the text of a format")).collect()
}

/// The check of one op.
pub struct Check {
    /// Name of the op.
    pub name: &'static str,
    /// How close a fast version must be.
    pub accuracy: Accuracy,
    body: fn(&mut Comparison<'_>),
}

/// What a check found.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// All elements agree.
    Passed {
        /// Elements compared.
        elements: usize,
        /// Largest error as a share of what is allowed.
        worst: f64,
    },
    /// The processor lacks the instruction set.
    Skipped,
    /// The first case that disagrees, with the element, both values and what is allowed.
    Failed(String),
}

impl Check {
    /// Runs the op on `isa` and compares it with the scalar reference.
    pub fn run(&self, isa: Isa) -> Outcome {
        Forced::on(isa).map_or(Outcome::Skipped, |forced| self.run_on(&isa.to_string(), &forced))
    }

    /// Runs the op of an implementation that is called `name` and compares it with the scalar reference.
    pub fn run_on(&self, name: &str, implementation: &dyn Implementation) -> Outcome {
        let mut comparison =
            Comparison { implementation, accuracy: self.accuracy, elements: 0, worst: 0.0, failure: None };
        (self.body)(&mut comparison);
        match comparison.failure {
            Some(report) => Outcome::Failed(format!("{} on {name}: {report}", self.name)),
            None => Outcome::Passed { elements: comparison.elements, worst: comparison.worst },
        }
    }
}

/// A check under way.
struct Comparison<'a> {
    /// What is compared with the reference.
    implementation: &'a dyn Implementation,
    accuracy: Accuracy,
    elements: usize,
    worst: f64,
    failure: Option<String>,
}

impl Comparison<'_> {
    /// Compares outputs; `magnitude` gives that of element `i`. Keeps the first failure.
    fn compare(&mut self, case: &str, got: &[f32], expected: &[f32], magnitude: impl Fn(usize) -> f64) {
        if self.failure.is_some() {
            return;
        }
        if got.len() != expected.len() {
            self.failure = Some(format!("{case}: {} elements, expected {}", got.len(), expected.len()));
            return;
        }
        self.elements += got.len();
        for (i, (&got, &expected)) in got.iter().zip(expected).enumerate() {
            let share = match self.accuracy {
                _ if got.is_nan() && expected.is_nan() => 0.0,
                Accuracy::Bitwise => {
                    if got.to_bits() == expected.to_bits() {
                        0.0
                    } else {
                        f64::INFINITY
                    }
                }
                _ if got == expected => 0.0,
                _ if !got.is_finite() || !expected.is_finite() => f64::INFINITY,
                Accuracy::Ulp(ulps) => f64::from(ordinal(got).abs_diff(ordinal(expected))) / f64::from(ulps),
                Accuracy::Rel(relative) => {
                    let allowed = f64::from(relative) * magnitude(i).max(2f64.powi(-96));
                    (f64::from(got) - f64::from(expected)).abs() / allowed
                }
            };
            if share > 1.0 || share.is_nan() {
                self.failure = Some(format!(
                    "{case}, element {i}: {got:e} instead of {expected:e}, {share:.1} times what {:?} allows",
                    self.accuracy
                ));
                return;
            }
            self.worst = self.worst.max(share);
        }
    }
}

/// Runs `op` on the implementation in question and on the reference, into outputs of `len` elements.
fn both(comparison: &Comparison<'_>, len: usize, op: impl Fn(&dyn Implementation, &mut [f32])) -> (Vec<f32>, Vec<f32>) {
    let run = |implementation: &dyn Implementation| {
        let mut out = Unaligned::new(&vec![f32::NAN; len]);
        op(implementation, out.get_mut());
        out.get().to_vec()
    };
    (run(comparison.implementation), run(&Forced::REFERENCE))
}

/// Position among all f32 in order; neighbours differ by 1, both zeros are 0.
fn ordinal(value: f32) -> i32 {
    let bits = value.to_bits() as i32;
    if bits < 0 { i32::MIN.wrapping_sub(bits) } else { bits }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinals_count_representable_values() {
        assert_eq!(ordinal(-0.0), ordinal(0.0));
        assert_eq!(ordinal(1.0_f32.next_up()) - ordinal(1.0), 1);
        assert_eq!(ordinal(f32::from_bits(1)) - ordinal(-f32::from_bits(1)), 2);
    }

    #[test]
    #[expect(clippy::print_stderr, reason = "a check that does not run must not look like one that passes")]
    fn every_op_agrees_on_every_instruction_set() {
        for isa in Isa::ALL {
            for check in CHECKS {
                match check.run(isa) {
                    Outcome::Passed { elements, worst } => {
                        assert!(elements > 0, "{} on {isa} compared nothing", check.name);
                        assert!(worst <= 1.0);
                    }
                    Outcome::Skipped => eprintln!("{} on {isa}: skipped, the processor lacks it", check.name),
                    Outcome::Failed(report) => panic!("{report}"),
                }
            }
        }
    }

    #[test]
    fn differences_are_found() {
        let mut comparison = Comparison {
            implementation: &Forced::REFERENCE,
            accuracy: Accuracy::Ulp(2),
            elements: 0,
            worst: 0.0,
            failure: None,
        };
        comparison.compare("near", &[1.0_f32.next_up(), f32::NAN], &[1.0, f32::NAN], |_| 1.0);
        assert_eq!((comparison.failure.as_deref(), comparison.worst), (None, 0.5));
        comparison.compare("nan", &[f32::NAN], &[1.0], |_| 1.0);
        assert!(comparison.failure.take().unwrap().starts_with("nan, element 0: NaN instead of 1e0"));
        comparison.accuracy = Accuracy::Rel(0.01);
        comparison.compare("far", &[1.0, 1.03], &[1.0, 1.0], |_| 1.0);
        assert!(comparison.failure.take().unwrap().contains("element 1"));
        comparison.accuracy = Accuracy::Bitwise;
        comparison.compare("zeros", &[-0.0], &[0.0], |_| 1.0);
        assert!(comparison.failure.take().is_some());
        comparison.compare("short", &[], &[0.0], |_| 1.0);
        assert_eq!(comparison.failure.as_deref(), Some("short: 0 elements, expected 1"));
    }
}
