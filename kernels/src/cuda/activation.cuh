// Activation functions, in forms that lose no digits for negative x: see ops/activation.rs.
#pragma once

#include "device.cuh"

struct Silu {
    static DEVICE float of(float x) { return x / (1.0f + expf(-x)); }
};
struct Gelu {
    static DEVICE float of(float x) { return x * 0.5f * erfcf(-x * 0.70710678f); }
};
struct GeluTanh {
    static DEVICE float of(float x) {
        const float argument = 0.79788456f * (x + 0.044715f * x * x * x);
        return x / (1.0f + expf(-2.0f * argument));
    }
};
struct GeluQuick {
    static DEVICE float of(float x) { return x / (1.0f + expf(-1.702f * x)); }
};
struct Relu {
    static DEVICE float of(float x) { return x < 0.0f ? 0.0f : x; }
};
struct ReluSquared {
    static DEVICE float of(float x) { return __fmul_rn(Relu::of(x), Relu::of(x)); }
};
struct Sigmoid {
    static DEVICE float of(float x) { return 1.0f / (1.0f + expf(-x)); }
};
struct Tanh {
    static DEVICE float of(float x) { return tanhf(x); }
};
