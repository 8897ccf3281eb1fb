//! What kernels do not take of programs that are valid.

use lathe_kernels::cuda::ops::{MAX_HEAD_DIM, MAX_HEAD_ELEMENTS};

use crate::exec::ExecError;
use crate::program::{Op, Program};

/// Elements of a row at most: grids have up to 2¹⁶ − 1 blocks across a row, of 256 elements.
const MAX_WIDTH: u64 = (1 << 24) - 256;

/// Elements of a value at most: grids have up to 2³¹ − 1 blocks along rows, and groups of a row are rows to them.
const MAX_ELEMENTS: u64 = (1 << 31) - 1;

/// Choices of all tokens of a pass at most, where experts are multiplied one by one.
const MAX_CHOICES: u64 = (1 << 16) - 1;

/// Fails at the first step of a valid program that kernels cannot compute in passes of so many tokens.
pub(super) fn check(program: &Program, max_step_tokens: usize) -> Result<(), ExecError> {
    let tokens = max_step_tokens as u64;
    for step in &program.steps {
        let within = |what, found: u64, most: u64| {
            if found <= most {
                return Ok(());
            }
            Err(ExecError::DeviceLimit { step: step.label.clone(), what, found, most })
        };
        match step.op {
            Op::Attention { cache, .. } => {
                let head_dim = program.caches[cache.index()].head_dim;
                within("elements of a head", head_dim.into(), MAX_HEAD_DIM as u64)?;
            }
            Op::Rope { head_dim, .. } => within("elements of a head", head_dim.into(), MAX_HEAD_ELEMENTS as u64)?,
            Op::ExpertMatMul { choice, .. } => {
                let choices = tokens.saturating_mul(program.buffers[choice.index()].width.into());
                within("choices of experts in a pass", choices, MAX_CHOICES)?;
            }
            _ => {}
        }
        let width = u64::from(program.buffers[step.op.out().index()].width);
        within("elements of a row", width, MAX_WIDTH)?;
        within("elements of a pass", tokens.saturating_mul(width), MAX_ELEMENTS)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{SMALL, expert_program};

    #[test]
    fn the_step_and_the_limit_are_named() {
        let program = expert_program(SMALL);
        assert!(check(&program, 2048).is_ok());
        let message = check(&program, 40_000).unwrap_err().to_string();
        let expected = "80000 choices of experts in a pass, but the device takes at most 65535";
        assert!(message.starts_with("step `layers.0.mlp.") && message.ends_with(expected), "{message}");
        assert!(check(&program, 1 << 30).unwrap_err().to_string().contains("elements of a pass"));
    }
}
