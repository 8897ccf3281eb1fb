// Rotations that rows.cu has no place for: Hadamard matrices wider than shared memory, and products of reflections.
#include "hadamard.cuh"

struct ColumnArgs {
    /// [blocks, factors.width, inner]
    const float* x;
    /// The same; may be x.
    float* out;
    HadamardFactors factors;
    /// Elements behind each index of the factors.
    uint32_t inner;
    /// Columns of a block of threads, a power of two.
    uint32_t columns;
    /// Blocks of threads for each block of the rotation.
    uint32_t tiles;
};

/// Multiplies the leading factors of a Hadamard matrix: a tile of whole columns goes through shared memory. The others are those
/// of rows of `inner` elements, which rows.cu multiplies; x is so read and written twice.
KERNEL(rotate_columns, ColumnArgs, 448) {
    DYNAMIC_SHARED(bytes);
    SHARED(float, scratch, 32);
    const Team<false> team(scratch);
    float* const tile = reinterpret_cast<float*>(bytes);
    const HadamardFactors& factors = args.factors;
    const uint64_t start = uint64_t(blockIdx.x / args.tiles) * factors.width * args.inner;
    const unsigned first = blockIdx.x % args.tiles * args.columns;
    const unsigned count = factors.width * args.columns;
    grid_dependency_launch();
    grid_dependency_wait();
    for (unsigned i = team.thread; i < count; i += team.threads) {
        const unsigned column = first + i % args.columns, index = i / args.columns * args.inner + column;
        float x = column < args.inner ? args.x[start + index] : 0.0f;
        if (!factors.inverse) x *= signed_scale(factors, index);
        tile[padded(i)] = x;
    }
    multiply_factors<true>(team, tile, count, factors, args.columns);
    for (unsigned i = team.thread; i < count; i += team.threads) {
        const unsigned column = first + i % args.columns, index = i / args.columns * args.inner + column;
        if (column >= args.inner) continue;
        float x = tile[padded(i)];
        if (factors.inverse) x *= signed_scale(factors, index);
        args.out[start + index] = x;
    }
}

struct ReflectArgs {
    /// [rows, width]
    const float* x;
    float* out;
    /// Of reflection k the width − k elements that it reflects along, one after the other.
    const float* vectors;
    /// Of each reflection, 2 / |vector|².
    const float* factors;
    /// 1 or −1 for each element of a row.
    const float* signs;
    uint32_t rows;
    uint32_t width;
    uint32_t reflections;
    uint32_t inverse;
};

/// A warp for each row, which lies in shared memory: lane l has the elements l, l + 32, … of it, so that lanes wait for each other
/// in sums only. The vectors are read from L1 by all warps of a block but the first. Bound by latency: the reflections of a
/// row come one after the other.
KERNEL(reflect_rows, ReflectArgs, 256) {
    DYNAMIC_SHARED(bytes);
    const unsigned number = blockIdx.x * (blockDim.x / WARP) + warp_index(), lane = lane_index();
    float* const row = reinterpret_cast<float*>(bytes) + warp_index() * args.width;
    if (number >= args.rows) return;
    const uint64_t start = uint64_t(number) * args.width;
    grid_dependency_launch();
    grid_dependency_wait();
    for (unsigned i = lane; i < args.width; i += WARP) {
        row[i] = args.x[start + i] * (args.inverse ? 1.0f : args.signs[i]);
    }
    for (unsigned step = 0; step < args.reflections; step++) {
        const unsigned k = args.inverse ? args.reflections - 1 - step : step;
        const float* const vector = args.vectors + (2 * uint64_t(args.width) + 1 - k) * k / 2;
        // The first element of this lane that is not before k.
        const unsigned first = k + (lane - k) % WARP;
        float product = 0.0f;
#pragma unroll 8
        for (unsigned i = first; i < args.width; i += WARP) product += row[i] * vector[i - k];
        const float along = args.factors[k] * warp_sum(product);
#pragma unroll 8
        for (unsigned i = first; i < args.width; i += WARP) row[i] -= along * vector[i - k];
    }
    for (unsigned i = lane; i < args.width; i += WARP) {
        args.out[start + i] = row[i] * (args.inverse ? args.signs[i] : 1.0f);
    }
}
