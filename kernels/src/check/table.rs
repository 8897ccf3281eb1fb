//! The table of checks.

use super::Check;
use super::attention::attention;
use super::elementwise::{RELUS, SMOOTH, affine, binary, gated, softcap, unary};
use super::groups::{centre, combine, gain, norm, shift, softmax};
use super::int8::{expert_matmul_int8, matmul_int8, quantize_rows};
use super::products::{embed, expert_matmul, matmul};
use super::rotations::{hadamard, matrix, orthogonal};
use crate::ops::accuracy;

/// Every op that has more than one version.
pub static CHECKS: &[Check] = &[
    Check { name: "embed", accuracy: accuracy::EMBED, body: embed },
    Check { name: "matmul", accuracy: accuracy::MATMUL, body: matmul },
    Check { name: "expert_matmul", accuracy: accuracy::EXPERT_MATMUL, body: expert_matmul },
    Check { name: "quantize_rows", accuracy: accuracy::QUANTIZE_ROWS, body: quantize_rows },
    Check { name: "matmul_int8", accuracy: accuracy::MATMUL_INT8, body: matmul_int8 },
    Check { name: "expert_matmul_int8", accuracy: accuracy::MATMUL_INT8, body: expert_matmul_int8 },
    Check { name: "norm", accuracy: accuracy::NORM, body: norm },
    Check { name: "centre", accuracy: accuracy::CENTRE, body: centre },
    Check { name: "gain", accuracy: accuracy::GAIN, body: gain },
    Check { name: "shift", accuracy: accuracy::SHIFT, body: shift },
    Check { name: "unary", accuracy: accuracy::UNARY, body: |c| unary(c, &SMOOTH) },
    Check { name: "unary_relu", accuracy: accuracy::UNARY_RELU, body: |c| unary(c, &RELUS) },
    Check { name: "gated", accuracy: accuracy::GATED, body: gated },
    Check { name: "binary", accuracy: accuracy::BINARY, body: binary },
    Check { name: "affine", accuracy: accuracy::AFFINE, body: affine },
    Check { name: "softcap", accuracy: accuracy::SOFTCAP, body: softcap },
    Check { name: "softmax", accuracy: accuracy::SOFTMAX, body: softmax },
    Check { name: "combine", accuracy: accuracy::COMBINE, body: combine },
    Check { name: "rotate_hadamard", accuracy: accuracy::ROTATE_HADAMARD, body: hadamard },
    Check { name: "rotate_orthogonal", accuracy: accuracy::ROTATE_ORTHOGONAL, body: orthogonal },
    Check { name: "rotate_matrix", accuracy: accuracy::ROTATE_MATRIX, body: matrix },
    Check { name: "attention", accuracy: accuracy::ATTENTION, body: attention },
];
