//! The functions of programs as kernels call them.

use lathe_kernels::ops::{self, Pairing};

use crate::program::{Binary, RopePairing, Unary};

pub(super) fn unary(function: Unary) -> ops::Unary {
    match function {
        Unary::Silu => ops::Unary::Silu,
        Unary::Gelu => ops::Unary::Gelu,
        Unary::GeluTanh => ops::Unary::GeluTanh,
        Unary::GeluQuick => ops::Unary::GeluQuick,
        Unary::Relu => ops::Unary::Relu,
        Unary::ReluSquared => ops::Unary::ReluSquared,
        Unary::Sigmoid => ops::Unary::Sigmoid,
        Unary::Tanh => ops::Unary::Tanh,
    }
}

pub(super) fn binary(function: Binary) -> ops::Binary {
    match function {
        Binary::Add => ops::Binary::Add,
        Binary::Sub => ops::Binary::Sub,
        Binary::Mul => ops::Binary::Mul,
    }
}

pub(super) fn pairing(pairing: RopePairing) -> Pairing {
    match pairing {
        RopePairing::Half => Pairing::Half,
        RopePairing::Interleaved => Pairing::Interleaved,
    }
}
