// Whole rows in one kernel: addition, norm, rotation by Hadamard matrices, rounding to operands of products.
//
// A row is read once, with 16-byte loads, and stays in shared memory until it is written. So many rows are in flight on a
// multiprocessor (fourteen of 4096 elements, three of 14336) that their loads, arithmetic and stores overlap: what bounds the
// kernel is memory as long as an element takes less than 0.43 clocks of a multiprocessor, which are 55 instructions and 14
// accesses to shared memory. A norm takes about 15 and 2, rounding to int8 another 15 and 1; hadamard.cuh says what rotations
// take. Few rows leave most of the device idle; then a row gets a thread for each four elements, and time is latency.
#include "hadamard.cuh"
#include "norm.cuh"
#include "rounding.cuh"

struct RowArgs {
    /// [rows, width]; with `add`, which may be absent, y = x + add.
    const float* x;
    const float* add;
    /// y, may be absent, x or add.
    float* sum;
    /// Outputs, [rows, width]; each may be absent.
    float* real;
    bf16* half;
    int8_t* codes;
    /// Of the codes, [rows].
    float* scales;
    HadamardFactors rotation;
    /// Of groups whose width divides that of the row.
    Norm norm;
    uint32_t rows;
    uint32_t width;
    /// Floats of shared memory of a warp's row, where warps have rows of their own.
    uint32_t stride;
};

/// x + add, from element `i` of all rows on.
template <int N>
DEVICE Chunk<N> added(const RowArgs& args, uint64_t i) {
    Chunk<N> chunk = load_chunk<N>(args.x + i);
    if (args.add != nullptr) {
        const Chunk<N> other = load_chunk<N>(args.add + i);
#pragma unroll
        for (int j = 0; j < N; j++) chunk.at[j] = __fadd_rn(chunk.at[j], other.at[j]);
    }
    return chunk;
}

template <int N>
DEVICE unsigned largest_bits(const Chunk<N>& chunk, unsigned largest) {
#pragma unroll
    for (int j = 0; j < N; j++) largest = max(largest, magnitude_bits(chunk.at[j]));
    return largest;
}

template <int N>
DEVICE void store_codes(int8_t* address, const Chunk<N>& chunk, const Rounding& rounding) {
    if constexpr (N == 4) {
        *reinterpret_cast<uint32_t*>(address) = rounding.word(chunk.at);
    } else {
        *address = int8_t(rounding.code(chunk.at[0]));
    }
}

/// Loads of a thread that are in flight together.
constexpr unsigned LOADS = 4;

/// A row that fits into shared memory. Only with `bases` the rotation has factors besides the Sylvester matrix.
template <bool one_warp, int N, bool bases>
DEVICE void row_in_shared_memory(const RowArgs& args) {
    DYNAMIC_SHARED(bytes);
    SHARED(float, scratch, 32);
    const Team<one_warp> team(scratch);
    const unsigned number = one_warp ? blockIdx.x * (blockDim.x / WARP) + warp_index() : blockIdx.x;
    float* const row = reinterpret_cast<float*>(bytes) + (one_warp ? warp_index() * args.stride : 0);
    if (number >= args.rows) return;
    const uint64_t start = uint64_t(number) * args.width;
    const unsigned groups = args.width / args.norm.width;
    const bool is_normalized = args.norm.centre || args.norm.divide;
    grid_dependency_wait();

    float part = 0.0f, squares = 0.0f;
    const unsigned step = N * team.threads;
    for (unsigned first = N * team.thread; first < args.width; first += LOADS * step) {
        Chunk<N> loaded[LOADS] = {};
#pragma unroll
        for (unsigned l = 0; l < LOADS; l++) {
            const unsigned i = first + l * step;
            if (i < args.width) loaded[l] = load_chunk<N>(args.x + start + i);
        }
        if (args.add != nullptr) {
            // Two at a time: more do not fit into the registers that bases leave.
#pragma unroll
            for (unsigned l = 0; l < LOADS; l += 2) {
                Chunk<N> others[2] = {};
#pragma unroll
                for (unsigned k = 0; k < 2; k++) {
                    const unsigned i = first + (l + k) * step;
                    if (i < args.width) others[k] = load_chunk<N>(args.add + start + i);
                }
#pragma unroll
                for (unsigned k = 0; k < 2; k++) {
#pragma unroll
                    for (int j = 0; j < N; j++) loaded[l + k].at[j] = __fadd_rn(loaded[l + k].at[j], others[k].at[j]);
                }
            }
        }
#pragma unroll
        for (unsigned l = 0; l < LOADS; l++) {
            const unsigned i = first + l * step;
            if (i >= args.width) break;
            if (args.sum != nullptr) store_chunk(args.sum + start + i, loaded[l]);
            store_chunk(row + padded(i), loaded[l]);
#pragma unroll
            for (int j = 0; j < N; j++) {
                const float y = loaded[l].at[j];
                if (args.norm.centre && groups == 1) part += y * direction(args.norm, i + j);
                squares += y * y;
            }
        }
    }
    grid_dependency_launch();

    GroupStatistics all = {0.0f, 1.0f};
    if (is_normalized && groups > 1) {
        team.sync();
        normalize_groups(args.norm, team, row, args.width);
        team.sync();
    } else if (is_normalized) {
        if (args.norm.centre) {
            all.part = part_of(args.norm, team.sum(part));
            squares = 0.0f;
            for (unsigned i = N * team.thread; i < args.width; i += step) {
                const Chunk<N> y = load_chunk<N>(row + padded(i));
#pragma unroll
                for (int j = 0; j < N; j++) {
                    const float rest = y.at[j] - all.part * direction(args.norm, i + j);
                    squares += rest * rest;
                }
            }
        }
        if (args.norm.divide) all.factor = factor_of(args.norm, team.sum(squares));
    }
    // An element after the norm.
    const auto prepared = [&](unsigned i) {
        const Chunk<N> y = load_chunk<N>(row + padded(i));
        return is_normalized && groups == 1 ? normalized(args.norm, y, i, all) : y;
    };

    const HadamardFactors& rotation = args.rotation;
    if (rotation.width != 0) {
        for (unsigned i = N * team.thread; i < args.width; i += step) {
            Chunk<N> y = prepared(i);
            if (!rotation.inverse) {
#pragma unroll
                for (int j = 0; j < N; j++) y.at[j] *= signed_scale(rotation, (i + j) % rotation.width);
            }
            store_chunk(row + padded(i), y);
        }
        multiply_factors<bases>(team, row, args.width, rotation, 1);
    }
    // An element after the rotation.
    const auto finished = [&](unsigned i) {
        if (rotation.width == 0) return prepared(i);
        Chunk<N> y = load_chunk<N>(row + padded(i));
        if (rotation.inverse) {
#pragma unroll
            for (int j = 0; j < N; j++) y.at[j] *= signed_scale(rotation, (i + j) % rotation.width);
        }
        return y;
    };

    unsigned largest = 0;
    if (args.codes != nullptr) {
        for (unsigned i = N * team.thread; i < args.width; i += step) largest = largest_bits(finished(i), largest);
        largest = team.max(largest);
    }
    const Rounding rounding(largest);
    if (args.codes != nullptr && team.thread == 0) args.scales[number] = rounding.scale;
    for (unsigned i = N * team.thread; i < args.width; i += step) {
        const Chunk<N> y = finished(i);
        if (args.real != nullptr) store_chunk(args.real + start + i, y);
        if (args.half != nullptr) store_chunk(args.half + start + i, y);
        if (args.codes != nullptr) store_codes(args.codes + start + i, y, rounding);
    }
}

/// A row that does not, and is not rotated: it is read again for each step.
template <int N>
DEVICE void row_in_memory(const RowArgs& args) {
    SHARED(float, scratch, 32);
    const Team<false> team(scratch);
    const uint64_t start = uint64_t(blockIdx.x) * args.width;
    grid_dependency_launch();
    grid_dependency_wait();
    const auto statistics_of = [&](unsigned first) {
        GroupStatistics group = {0.0f, 1.0f};
        if (args.norm.centre) {
            for (unsigned i = N * team.thread; i < args.norm.width; i += N * team.threads) {
                const Chunk<N> y = added<N>(args, start + first + i);
#pragma unroll
                for (int j = 0; j < N; j++) group.part += y.at[j] * direction(args.norm, i + j);
            }
            group.part = part_of(args.norm, team.sum(group.part));
        }
        if (args.norm.divide) {
            float squares = 0.0f;
            for (unsigned i = N * team.thread; i < args.norm.width; i += N * team.threads) {
                const Chunk<N> y = added<N>(args, start + first + i);
#pragma unroll
                for (int j = 0; j < N; j++) {
                    const float rest = y.at[j] - (args.norm.centre ? group.part * direction(args.norm, i + j) : 0.0f);
                    squares += rest * rest;
                }
            }
            group.factor = factor_of(args.norm, team.sum(squares));
        }
        return group;
    };
    unsigned largest = 0;
    if (args.codes != nullptr) {
        for (unsigned first = 0; first < args.width; first += args.norm.width) {
            const GroupStatistics group = statistics_of(first);
            for (unsigned i = N * team.thread; i < args.norm.width; i += N * team.threads) {
                largest = largest_bits(normalized(args.norm, added<N>(args, start + first + i), i, group), largest);
            }
        }
        largest = team.max(largest);
    }
    const Rounding rounding(largest);
    if (args.codes != nullptr && team.thread == 0) args.scales[blockIdx.x] = rounding.scale;
    for (unsigned first = 0; first < args.width; first += args.norm.width) {
        const GroupStatistics group = statistics_of(first);
        for (unsigned i = N * team.thread; i < args.norm.width; i += N * team.threads) {
            const uint64_t at = start + first + i;
            const Chunk<N> y = added<N>(args, at);
            const Chunk<N> out = normalized(args.norm, y, i, group);
            if (args.sum != nullptr) store_chunk(args.sum + at, y);
            if (args.real != nullptr) store_chunk(args.real + at, out);
            if (args.half != nullptr) store_chunk(args.half + at, out);
            if (args.codes != nullptr) store_codes(args.codes + at, out, rounding);
        }
    }
}

KERNEL(rows_of_warps, RowArgs, 128) { row_in_shared_memory<true, 1, false>(args); }
KERNEL(rows_of_warps_by_four, RowArgs, 128) { row_in_shared_memory<true, 4, false>(args); }
KERNEL(rows_of_warps_with_bases, RowArgs, 128, 6) { row_in_shared_memory<true, 1, true>(args); }
KERNEL(rows_of_warps_by_four_with_bases, RowArgs, 128, 6) { row_in_shared_memory<true, 4, true>(args); }
KERNEL(rows_of_blocks, RowArgs, 1024) { row_in_shared_memory<false, 1, false>(args); }
KERNEL(rows_of_blocks_by_four, RowArgs, 1024) { row_in_shared_memory<false, 4, false>(args); }
KERNEL(rows_of_blocks_with_bases, RowArgs, 448, 2) { row_in_shared_memory<false, 1, true>(args); }
KERNEL(rows_of_blocks_by_four_with_bases, RowArgs, 448, 2) { row_in_shared_memory<false, 4, true>(args); }
KERNEL(long_rows, RowArgs, 1024) { row_in_memory<1>(args); }
KERNEL(long_rows_by_four, RowArgs, 1024) { row_in_memory<4>(args); }
