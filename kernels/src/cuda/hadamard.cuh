// Products of rows in shared memory with Hadamard matrices, factor by factor, in f32.
//
// A row is a tensor with an axis for each factor of a Kronecker product, the last one the Sylvester matrix; see
// rotations/hadamard.rs. What an element costs a multiprocessor, which has 0.43 clocks for it while an H200 copies:
//
//     Sylvester, of order 2^k   1/16 clock of shared memory and 8 to 16 instructions (1/8 clock) in each of about k/4 passes
//     base of order m ≤ 256     on tensor cores, as m/64 parts: 0.2 clocks of instructions and shared memory for each part,
//                               and m/280 clocks of the tensor cores
//     larger base               1.3 m instructions (m/100 clocks)
//
// By this count powers of two up to 8192 and products of them with bases up to 60 hide behind the copy, or nearly. Bases beyond
// do not: one of order 108 takes about one and a half times as long as the copy, one of 172 two and a half times, one of 508
// twelve times.
#pragma once

#include "team.cuh"
#include "vectors.cuh"

constexpr unsigned MOST_BASES = 5;

/// A Hadamard matrix times a scale, and the signs of its rows.
struct HadamardFactors {
    /// Of each base of an order above MOST_TILED [order, order rounded up to 8]: the factor of input k for output j in row k;
    /// zeros behind. Of the others tiles of 16 outputs and 16 inputs as tensor cores take them, [output tile, input tile, lane,
    /// 4 words of bf16]; zeros behind.
    const void* bases[MOST_BASES];
    /// A bit for each element of a block, in words of 32: whether its sign is −. Null where none is.
    const uint32_t* signs;
    uint32_t orders[MOST_BASES];
    uint32_t base_count;
    /// Order of the Sylvester matrix.
    uint32_t sylvester;
    /// Elements of a block: the product of all orders; 0 where nothing is rotated.
    uint32_t width;
    float scale;
    /// Whether signs come after the sums.
    uint32_t inverse;
};

/// The scale of element i of a block, with its sign.
DEVICE float signed_scale(const HadamardFactors& factors, unsigned i) {
    if (factors.signs == nullptr) return factors.scale;
    return factors.signs[i / 32] >> (i % 32) & 1u ? -factors.scale : factors.scale;
}

/// The largest order of a base that is multiplied on tensor cores; and that a warp on its own multiplies at all.
constexpr unsigned MOST_TILED = 256;
constexpr unsigned MOST_TILED_BY_WARP = 64;

/// Tiles of 16 outputs whose sums a warp holds.
constexpr unsigned OUTPUT_TILES = MOST_TILED_BY_WARP / 16;

/// Two floats as three words of bf16 whose sum they are, exactly: the upper bits of each, the upper bits of the rest, the rest.
DEVICE void split_pair(float a, float b, uint32_t& high, uint32_t& middle, uint32_t& low) {
    const auto upper = [](float x) { return __uint_as_float(__float_as_uint(x) & 0xffff0000u); };
    const auto words = [](float x, float y) { return __byte_perm(__float_as_uint(x), __float_as_uint(y), 0x7632); };
    // What is infinite has no rest.
    const float a_rest = a == upper(a) ? 0.0f : a - upper(a), b_rest = b == upper(b) ? 0.0f : b - upper(b);
    high = words(a, b);
    middle = words(a_rest, b_rest);
    low = words(a_rest - upper(a_rest), b_rest - upper(b_rest));
}

/// Where a column starts: the elements of a row that differ only in the index of an axis, `after` elements apart.
DEVICE unsigned column_start(unsigned column, unsigned order, unsigned after) {
    return column / after * after * order + column % after;
}

/// Multiplies an axis with a base of ±1 on tensor cores: sums are of exact products, in f32. A warp takes eight columns and up to
/// OUTPUT_TILES tiles of outputs; a round takes as many columns as there are warps for all of their outputs.
template <bool one_warp>
DEVICE void multiply_axis_in_tiles(const Team<one_warp>& team, float* row, unsigned count, const uint4* factors,
                                   unsigned order, unsigned after) {
    const unsigned columns = count / order, column_tiles = (columns + 7) / 8;
    const unsigned tiles = (order + 15) / 16, parts = (tiles + OUTPUT_TILES - 1) / OUTPUT_TILES;
    const unsigned at_once = min(team.threads / WARP / parts, column_tiles);
    const unsigned part = team.thread / WARP / at_once, g = lane_index() / 4, c = lane_index() % 4;
    for (unsigned first = 0; first < column_tiles; first += at_once) {
        const unsigned column_tile = first + team.thread / WARP % at_once;
        const bool works = part < parts && column_tile < column_tiles;
        float sums[OUTPUT_TILES][4] = {};
        if (works) {
            const unsigned start = column_start(min(column_tile * 8 + g, columns - 1), order, after);
            for (unsigned tile = 0; tile < tiles; tile++) {
                float x[4];
#pragma unroll
                for (unsigned i = 0; i < 4; i++) {
                    const unsigned k = tile * 16 + 2 * c + i % 2 + i / 2 * 8;
                    x[i] = k < order ? row[padded(start + k * after)] : 0.0f;
                }
                uint32_t high[2], middle[2], low[2];
                split_pair(x[0], x[1], high[0], middle[0], low[0]);
                split_pair(x[2], x[3], high[1], middle[1], low[1]);
#pragma unroll
                for (unsigned i = 0; i < OUTPUT_TILES; i++) {
                    const unsigned output = part * OUTPUT_TILES + i;
                    if (output >= tiles) break;
                    const uint4 words = factors[(output * tiles + tile) * WARP + lane_index()];
                    const uint32_t a[4] = {words.x, words.y, words.z, words.w};
                    mma_bf16(sums[i], a, low);
                    mma_bf16(sums[i], a, middle);
                    mma_bf16(sums[i], a, high);
                }
            }
        }
        team.sync();
        if (works) {
#pragma unroll
            for (unsigned j = 0; j < 2; j++) {
                const unsigned column = column_tile * 8 + 2 * c + j;
                if (column >= columns) break;
                const unsigned start = column_start(column, order, after);
#pragma unroll
                for (unsigned i = 0; i < 2 * OUTPUT_TILES; i++) {
                    const unsigned output = (part * OUTPUT_TILES * 2 + i) * 8 + g;
                    if (output < order) row[padded(start + output * after)] = sums[i / 2][i % 2 * 2 + j];
                }
            }
        }
    }
    team.sync();
}

/// Outputs of a base, and columns, whose sums a thread holds.
constexpr unsigned BASE_OUTPUTS = 8;
constexpr unsigned BASE_COLUMNS = 4;

/// Multiplies an axis with a base of any order. Each round takes as many columns as the team can hold the sums of: at least
/// BASE_COLUMNS, so teams have order/8 threads or more.
template <bool one_warp>
DEVICE void multiply_axis(const Team<one_warp>& team, float* row, unsigned count, const float* factors, unsigned order,
                          unsigned after) {
    const unsigned columns = count / order;
    const unsigned chunks = (columns + BASE_COLUMNS - 1) / BASE_COLUMNS;
    const unsigned parts = (order + BASE_OUTPUTS - 1) / BASE_OUTPUTS;
    const unsigned at_once = min(team.threads / parts, chunks);
    // Lanes side by side differ in their columns, and share factors.
    const unsigned part = team.thread / at_once;
    for (unsigned first = 0; first < chunks; first += at_once) {
        const unsigned chunk = first + team.thread % at_once;
        const bool works = part < parts && chunk < chunks;
        unsigned start[BASE_COLUMNS];
        float sums[BASE_OUTPUTS][BASE_COLUMNS] = {};
        if (works) {
#pragma unroll
            for (unsigned j = 0; j < BASE_COLUMNS; j++) {
                start[j] = column_start(min(chunk * BASE_COLUMNS + j, columns - 1), order, after);
            }
            const float* factor = factors + part * BASE_OUTPUTS;
#pragma unroll 1
            for (unsigned k = 0; k < order; k++, factor += parts * BASE_OUTPUTS) {
                const Chunk<4> low = load_chunk<4>(factor), high = load_chunk<4>(factor + 4);
#pragma unroll
                for (unsigned j = 0; j < BASE_COLUMNS; j++) {
                    const float x = row[padded(start[j] + k * after)];
#pragma unroll
                    for (unsigned i = 0; i < BASE_OUTPUTS; i++) sums[i][j] += (i < 4 ? low.at[i % 4] : high.at[i % 4]) * x;
                }
            }
        }
        team.sync();
        if (works) {
#pragma unroll
            for (unsigned i = 0; i < BASE_OUTPUTS; i++) {
                const unsigned output = part * BASE_OUTPUTS + i;
                if (output >= order) break;
#pragma unroll
                for (unsigned j = 0; j < BASE_COLUMNS; j++) row[padded(start[j] + output * after)] = sums[i][j];
            }
        }
    }
    team.sync();
}

/// Sums and differences of `values` at distances 1, 2, … below their number.
template <unsigned count>
DEVICE void add_pairs(float (&values)[count]) {
#pragma unroll
    for (unsigned distance = 1; distance < count; distance *= 2) {
#pragma unroll
        for (unsigned i = 0; i < count; i++) {
            if (i & distance) continue;
            const float a = values[i], b = values[i | distance];
            values[i] = a + b;
            values[i | distance] = a - b;
        }
    }
}

/// The first `steps` steps: of chunks of 2^steps elements, side by side.
template <unsigned steps, bool one_warp>
DEVICE void add_pairs_of_chunks(const Team<one_warp>& team, float* row, unsigned count) {
    constexpr unsigned size = 1u << steps;
    for (unsigned i = team.thread; i < count >> steps; i += team.threads) {
        // Chunks of up to 32 elements have no gap within.
        float* const chunk = row + padded(i << steps);
        float values[size];
#pragma unroll
        for (unsigned k = 0; k < size; k += 4) {
            const Chunk<4> four = load_chunk<4>(chunk + k);
#pragma unroll
            for (unsigned j = 0; j < 4; j++) values[k + j] = four.at[j];
        }
        add_pairs(values);
#pragma unroll
        for (unsigned k = 0; k < size; k += 4) {
            store_chunk<4>(chunk + k, {{values[k], values[k + 1], values[k + 2], values[k + 3]}});
        }
    }
    team.sync();
}

/// `steps` steps from `distance` on, a power of two. With `far` it is a multiple of 32.
template <unsigned steps, bool far, bool one_warp>
DEVICE void add_pairs_at(const Team<one_warp>& team, float* row, unsigned count, unsigned distance) {
    constexpr unsigned size = 1u << steps;
    for (unsigned i = team.thread; i < count >> steps; i += team.threads) {
        const unsigned low = i & (distance - 1);
        const unsigned first = ((i - low) << steps) + low;
        float* const start = row + padded(first);
        const unsigned step = padded(distance);
        float values[size];
#pragma unroll
        for (unsigned k = 0; k < size; k++) values[k] = far ? start[k * step] : row[padded(first + k * distance)];
        add_pairs(values);
#pragma unroll
        for (unsigned k = 0; k < size; k++) (far ? start[k * step] : row[padded(first + k * distance)]) = values[k];
    }
    team.sync();
}

/// Multiplies blocks of order · first elements with the Sylvester matrix, whose axis has `first` elements behind each index:
/// sums and differences of pairs at distances first, 2 · first, and so on. `first` is a power of two.
template <bool one_warp>
DEVICE void add_all_pairs(const Team<one_warp>& team, float* row, unsigned count, unsigned order, unsigned first) {
    unsigned left = 31 - __clz(int(order)), distance = first;
    if (first == 1 && left >= 2) {
        // As large as chunks can be without leaving threads idle.
        unsigned steps = min(left, 5);
        while (steps > 2 && count >> steps < team.threads) steps--;
        switch (steps) {
            case 2: add_pairs_of_chunks<2>(team, row, count); break;
            case 3: add_pairs_of_chunks<3>(team, row, count); break;
            case 4: add_pairs_of_chunks<4>(team, row, count); break;
            default: add_pairs_of_chunks<5>(team, row, count); break;
        }
        left -= steps;
        distance <<= steps;
    }
    while (left > 0) {
        const bool far = distance >= 32;
        const unsigned most = far ? 4 : 3;
        const unsigned passes = (left + most - 1) / most, steps = (left + passes - 1) / passes;
        if (far) {
            switch (steps) {
                case 1: add_pairs_at<1, true>(team, row, count, distance); break;
                case 2: add_pairs_at<2, true>(team, row, count, distance); break;
                case 3: add_pairs_at<3, true>(team, row, count, distance); break;
                default: add_pairs_at<4, true>(team, row, count, distance); break;
            }
        } else {
            switch (steps) {
                case 1: add_pairs_at<1, false>(team, row, count, distance); break;
                case 2: add_pairs_at<2, false>(team, row, count, distance); break;
                default: add_pairs_at<3, false>(team, row, count, distance); break;
            }
        }
        left -= steps;
        distance <<= steps;
    }
}

/// Replaces each block of a row of `count` elements by its product with the factors; scale and signs are the caller's. What the
/// team has written is not there for all yet, what comes out is. With `first` elements behind each index of the last axis, a power
/// of two, a block has factors.width · first elements. Without `bases` the Sylvester matrix is the only factor, which saves
/// registers. Warps on their own take bases of orders up to MOST_TILED_BY_WARP.
template <bool bases, bool one_warp>
DEVICE void multiply_factors(const Team<one_warp>& team, float* row, unsigned count, const HadamardFactors& factors,
                             unsigned first) {
    team.sync();
    unsigned after = factors.width * first;
    for (unsigned i = 0; bases && i < factors.base_count; i++) {
        const unsigned order = factors.orders[i];
        after /= order;
        if (order <= MOST_TILED) {
            multiply_axis_in_tiles(team, row, count, static_cast<const uint4*>(factors.bases[i]), order, after);
        } else if constexpr (!one_warp) {
            multiply_axis(team, row, count, static_cast<const float*>(factors.bases[i]), order, after);
        }
    }
    add_all_pairs(team, row, count, factors.sylvester, first);
}
