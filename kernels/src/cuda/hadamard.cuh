// Products of rows in shared memory with Hadamard matrices, factor by factor, in f32.
//
// A row is a tensor with an axis for each factor of a Kronecker product, the last one the Sylvester matrix; see
// rotations/hadamard.rs. What an element costs a multiprocessor, which has 0.43 clocks for it while an H200 copies:
//
//     Sylvester, of order 2^k   1/16 clock of shared memory and 8 to 16 instructions (1/8 clock) in each of about k/4 passes
//     base of order m           1.1 m instructions (m/116 clocks), and m/170 clocks of shared memory and L1
//
// So powers of two up to 8192 and products of them with bases up to 28 hide behind the copy, or nearly; bases from 60 on do
// not: one of order 172 takes about four times as long as the copy.
#pragma once

#include "team.cuh"
#include "vectors.cuh"

constexpr unsigned MOST_BASES = 5;

/// A Hadamard matrix times a scale, and the signs of its rows.
struct HadamardFactors {
    /// Of each base [order, order rounded up to 8]: the factor of input k for output j in row k; zeros behind.
    const float* bases[MOST_BASES];
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

/// Outputs of a base, and columns, whose sums a thread holds.
constexpr unsigned BASE_OUTPUTS = 8;
constexpr unsigned BASE_COLUMNS = 4;

/// The sums of a base for BASE_COLUMNS columns that start at `start`, each element `after` behind the one before; with
/// `adjacent` the columns lie side by side.
template <bool adjacent>
DEVICE void base_sums(const float* row, const float* factors, unsigned order, unsigned after,
                      const unsigned (&start)[BASE_COLUMNS], float (&sums)[BASE_OUTPUTS][BASE_COLUMNS]) {
    const unsigned factor_step = (order + BASE_OUTPUTS - 1) / BASE_OUTPUTS * BASE_OUTPUTS;
#pragma unroll 1
    for (unsigned k = 0; k < order; k++) {
        Chunk<4> x;
        if constexpr (adjacent) {
            x = load_chunk<4>(row + padded(start[0] + k * after));
        } else {
#pragma unroll
            for (unsigned j = 0; j < BASE_COLUMNS; j++) x.at[j] = row[padded(start[j] + k * after)];
        }
        const Chunk<4> low = load_chunk<4>(factors + k * factor_step);
        const Chunk<4> high = load_chunk<4>(factors + k * factor_step + 4);
#pragma unroll
        for (unsigned i = 0; i < BASE_OUTPUTS; i++) {
            const float factor = i < 4 ? low.at[i % 4] : high.at[i % 4];
#pragma unroll
            for (unsigned j = 0; j < BASE_COLUMNS; j++) sums[i][j] += factor * x.at[j];
        }
    }
}

/// Multiplies an axis with a base. A column is the elements of the row that differ in this index only. Each round takes as many
/// columns as the team can hold the sums of: at least one for each BASE_COLUMNS, so teams have order/8 threads or more.
template <bool one_warp, bool adjacent>
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
                const unsigned column = min(chunk * BASE_COLUMNS + j, columns - 1);
                start[j] = column / after * after * order + column % after;
            }
            base_sums<adjacent>(row, factors + part * BASE_OUTPUTS, order, after, start, sums);
        }
        team.sync();
        if (works) {
#pragma unroll
            for (unsigned i = 0; i < BASE_OUTPUTS; i++) {
                const unsigned output = part * BASE_OUTPUTS + i;
                if (output >= order) break;
                if constexpr (adjacent) {
                    store_chunk<4>(row + padded(start[0] + output * after), {{sums[i][0], sums[i][1], sums[i][2], sums[i][3]}});
                } else {
#pragma unroll
                    for (unsigned j = 0; j < BASE_COLUMNS; j++) row[padded(start[j] + output * after)] = sums[i][j];
                }
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
/// registers.
template <bool bases, bool one_warp>
DEVICE void multiply_factors(const Team<one_warp>& team, float* row, unsigned count, const HadamardFactors& factors,
                             unsigned first) {
    team.sync();
    unsigned after = factors.width * first;
    for (unsigned i = 0; bases && i < factors.base_count; i++) {
        const unsigned order = factors.orders[i];
        after /= order;
        if (after % BASE_COLUMNS == 0) {
            multiply_axis<one_warp, true>(team, row, count, factors.bases[i], order, after);
        } else {
            multiply_axis<one_warp, false>(team, row, count, factors.bases[i], order, after);
        }
    }
    add_all_pairs(team, row, count, factors.sylvester, first);
}
