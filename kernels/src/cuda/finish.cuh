// What becomes of a product, as launchers say it.
#pragma once

#include "activation.cuh"

/// The function of number `function` in the order of `ops::Unary`.
DEVICE float activation(uint32_t function, float x) {
    switch (function) {
        case 0: return Silu::of(x);
        case 1: return Gelu::of(x);
        case 2: return GeluTanh::of(x);
        case 3: return GeluQuick::of(x);
        case 4: return Relu::of(x);
        case 5: return ReluSquared::of(x);
        case 6: return Sigmoid::of(x);
        default: return Tanh::of(x);
    }
}

/// What is done with each element of a product.
struct Finish {
    /// Added, `[rows, out]`, or null.
    const float* add;
    /// Outputs of gated products, `[rows, out]` each, or null.
    float* real;
    bf16* half;
    /// Whether parts are gate and value, and the function of the gate.
    uint32_t gated;
    uint32_t function;
};

DEVICE void finish_gated(const Finish& finish, size_t index, float gate, float value) {
    const float result = activation(finish.function, gate) * value;
    if (finish.real != nullptr) finish.real[index] = result;
    if (finish.half != nullptr) finish.half[index] = to_bf16(result);
}

DEVICE void finish_one(const Finish& finish, float* out, size_t index, float value) {
    out[index] = finish.add != nullptr ? __fadd_rn(value, finish.add[index]) : value;
}
