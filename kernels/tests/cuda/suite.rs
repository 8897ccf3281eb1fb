//! The shared suite: every op over the cases that vector code is checked on.

use lathe_kernels::check::{CHECKS, Implementation, OnDevice, Outcome};

/// Runs a check with operands that are aligned as buffers of programs are, and with others.
fn passes(name: &str) {
    let Some(gpu) = super::gpu() else { return };
    let check = CHECKS.iter().find(|check| check.name == name).expect("a check of the suite");
    let versions = [("a device", OnDevice::aligned(&gpu)), ("a device, unaligned", OnDevice::unaligned(&gpu))];
    for (version, ops) in versions {
        match check.run_on(version, &ops as &dyn Implementation) {
            Outcome::Passed { elements, .. } => assert!(elements > 0, "{name} compared nothing"),
            Outcome::Skipped => panic!("{name} was skipped"),
            Outcome::Failed(report) => panic!("{report}"),
        }
    }
}

macro_rules! checks {
    ($($name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                passes(stringify!($name));
            }
        )*

        #[test]
        fn every_check_is_here() {
            let mut names = [$(stringify!($name)),*];
            let mut checks: Vec<_> = CHECKS.iter().map(|check| check.name).collect();
            names.sort_unstable();
            checks.sort_unstable();
            assert_eq!(names.as_slice(), checks);
        }
    };
}

checks![
    affine,
    attention,
    binary,
    centre,
    combine,
    embed,
    expert_matmul,
    expert_matmul_int8,
    gain,
    gated,
    matmul,
    matmul_int8,
    norm,
    quantize_rows,
    rotate_hadamard,
    rotate_matrix,
    rotate_orthogonal,
    shift,
    softcap,
    softmax,
    unary,
    unary_relu,
];
