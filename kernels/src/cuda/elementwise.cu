// What computes each element on its own. Bound by memory: a thread has 16 bytes of each operand in flight, 2048 threads of a
// multiprocessor 32 KiB, more than what a round trip to memory takes.
#include "activation.cuh"
#include "vectors.cuh"

struct ElementwiseArgs {
    const float* a;
    /// A second operand of as many elements, or `width` elements for each group of a.
    const float* b;
    /// Outputs; each may be absent.
    float* real;
    bf16* half;
    uint64_t count;
    uint32_t width;
    /// Whether all addresses, the count and the width are multiples of four elements.
    uint32_t vectors;
    /// What the function takes besides elements.
    float first;
    float second;
};

// ---- functions of an element of a and one of b

template <typename Function>
struct Alone {
    static DEVICE float of(const ElementwiseArgs&, float x, float) { return Function::of(x); }
};
template <typename Function>
struct Gated {
    static DEVICE float of(const ElementwiseArgs&, float gate, float value) { return Function::of(gate) * value; }
};
struct Add {
    static DEVICE float of(const ElementwiseArgs&, float a, float b) { return __fadd_rn(a, b); }
};
struct Subtract {
    static DEVICE float of(const ElementwiseArgs&, float a, float b) { return __fsub_rn(a, b); }
};
struct Multiply {
    static DEVICE float of(const ElementwiseArgs&, float a, float b) { return __fmul_rn(a, b); }
};
struct Affine {
    static DEVICE float of(const ElementwiseArgs& args, float x, float) { return __fmaf_rn(x, args.first, args.second); }
};
struct Clamp {
    static DEVICE float of(const ElementwiseArgs& args, float x, float) {
        x = x < args.first ? args.first : x;
        return x > args.second ? args.second : x;
    }
};
struct Softcap {
    static DEVICE float of(const ElementwiseArgs& args, float x, float) { return args.first * tanhf(x / args.first); }
};
struct ScaleBy {
    static DEVICE float of(const ElementwiseArgs& args, float x, float gain) {
        return __fmul_rn(x, __fadd_rn(args.first, gain));
    }
};

enum class Second { none, element, column };

template <typename Function, Second second, int N>
DEVICE void map_chunks(const ElementwiseArgs& args) {
    const uint64_t step = uint64_t(gridDim.x) * blockDim.x * N;
    uint64_t i = (uint64_t(blockIdx.x) * blockDim.x + threadIdx.x) * N;
    uint32_t column = 0, column_step = 0;
    if constexpr (second == Second::column) {
        column = uint32_t(i % args.width);
        column_step = uint32_t(step % args.width);
    }
    for (; i < args.count; i += step) {
        Chunk<N> chunk = load_chunk<N>(args.a + i);
        Chunk<N> other = {};
        if constexpr (second == Second::element) other = load_chunk<N>(args.b + i);
        if constexpr (second == Second::column) {
            other = load_chunk<N>(args.b + column);
            column += column_step;
            if (column >= args.width) column -= args.width;
        }
#pragma unroll
        for (int j = 0; j < N; j++) chunk.at[j] = Function::of(args, chunk.at[j], other.at[j]);
        if (args.real != nullptr) store_chunk(args.real + i, chunk);
        if (args.half != nullptr) store_chunk(args.half + i, chunk);
    }
}

template <typename Function, Second second>
DEVICE void map(const ElementwiseArgs& args) {
    grid_dependency_launch();
    grid_dependency_wait();
    if (args.vectors) {
        map_chunks<Function, second, 4>(args);
    } else {
        map_chunks<Function, second, 1>(args);
    }
}

KERNEL(unary_silu, ElementwiseArgs, 256) { map<Alone<Silu>, Second::none>(args); }
KERNEL(unary_gelu, ElementwiseArgs, 256) { map<Alone<Gelu>, Second::none>(args); }
KERNEL(unary_gelu_tanh, ElementwiseArgs, 256) { map<Alone<GeluTanh>, Second::none>(args); }
KERNEL(unary_gelu_quick, ElementwiseArgs, 256) { map<Alone<GeluQuick>, Second::none>(args); }
KERNEL(unary_relu, ElementwiseArgs, 256) { map<Alone<Relu>, Second::none>(args); }
KERNEL(unary_relu_squared, ElementwiseArgs, 256) { map<Alone<ReluSquared>, Second::none>(args); }
KERNEL(unary_sigmoid, ElementwiseArgs, 256) { map<Alone<Sigmoid>, Second::none>(args); }
KERNEL(unary_tanh, ElementwiseArgs, 256) { map<Alone<Tanh>, Second::none>(args); }
KERNEL(gated_silu, ElementwiseArgs, 256) { map<Gated<Silu>, Second::element>(args); }
KERNEL(gated_gelu, ElementwiseArgs, 256) { map<Gated<Gelu>, Second::element>(args); }
KERNEL(gated_gelu_tanh, ElementwiseArgs, 256) { map<Gated<GeluTanh>, Second::element>(args); }
KERNEL(gated_gelu_quick, ElementwiseArgs, 256) { map<Gated<GeluQuick>, Second::element>(args); }
KERNEL(gated_relu, ElementwiseArgs, 256) { map<Gated<Relu>, Second::element>(args); }
KERNEL(gated_relu_squared, ElementwiseArgs, 256) { map<Gated<ReluSquared>, Second::element>(args); }
KERNEL(gated_sigmoid, ElementwiseArgs, 256) { map<Gated<Sigmoid>, Second::element>(args); }
KERNEL(gated_tanh, ElementwiseArgs, 256) { map<Gated<Tanh>, Second::element>(args); }
KERNEL(binary_add, ElementwiseArgs, 256) { map<Add, Second::element>(args); }
KERNEL(binary_sub, ElementwiseArgs, 256) { map<Subtract, Second::element>(args); }
KERNEL(binary_mul, ElementwiseArgs, 256) { map<Multiply, Second::element>(args); }
KERNEL(affine, ElementwiseArgs, 256) { map<Affine, Second::none>(args); }
KERNEL(clamp_elements, ElementwiseArgs, 256) { map<Clamp, Second::none>(args); }
KERNEL(softcap, ElementwiseArgs, 256) { map<Softcap, Second::none>(args); }
KERNEL(gain_columns, ElementwiseArgs, 256) { map<ScaleBy, Second::column>(args); }
KERNEL(shift_columns, ElementwiseArgs, 256) { map<Add, Second::column>(args); }
