//! Random programs of every kernel compute what the reference says.

use lathe_runtime::exec::Logits;

use crate::common::random::{KERNELS, random_program};
use crate::common::{model, tokens};
use crate::executor::{assert_close, expected_logits, options, with_session};

const PROGRAMS: u64 = 150;

#[test]
fn random_programs_give_the_logits_of_the_reference() {
    let mut kernels = std::collections::BTreeSet::new();
    for seed in 0..PROGRAMS {
        let program = random_program(seed);
        kernels.extend(program.steps.iter().map(|step| step.op.kernel()));
        let (model, tokens) = (model(program), tokens(9));
        let expected = expected_logits(&model, &tokens);
        with_session(&model, &options(6), |session| {
            assert_close(session.forward(&tokens, Logits::All).unwrap(), &expected);
        });
    }
    assert_eq!(kernels.len(), KERNELS, "{kernels:?}");
}
