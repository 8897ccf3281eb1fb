// Products of any shape with weights of any format: tiles of 64 rows of x by 64 of the weight through shared memory, in f32, or in
// integers for int8 by int8. A thread has 4 × 4 elements. Bound by FFMA, and by decoding where there are few rows.
#pragma once

#include "finish.cuh"
#include "matrix.cuh"
#include "rows_of_x.cuh"

constexpr unsigned TILE = 64;
/// Columns at a time.
constexpr unsigned TILE_COLUMNS = 32;
/// Elements from one column to the next in shared memory.
constexpr unsigned TILE_STRIDE = TILE + 4;
/// Chunks of columns that are summed in a row, so that chains of additions stay short: 512 columns.
constexpr unsigned CHAIN = 16;

/// Rows of x as tiles read them.
struct TileRows {
    const void* x;
    uint32_t kind;
    /// Whether rows are aligned to 16 bytes.
    uint32_t vectors;
};

/// Eight neighbours of a row of the weight.
DEVICE void load_weight(float (&values)[8], const Matrix& weight, unsigned row, unsigned column) {
    decode_octet(values, weight, row, column);
}
DEVICE void load_weight(int (&values)[8], const Matrix& weight, unsigned row, unsigned column) {
    const uint2 words = *int8_words(weight, row, column);
#pragma unroll
    for (unsigned i = 0; i < 8; i++) values[i] = int8_code(words, i);
}

DEVICE void load_row(float (&values)[8], const TileRows& rows, size_t row, unsigned column, unsigned cols) {
    if (rows.kind == X_BF16) {
        load_x(values, static_cast<const bf16*>(rows.x), row, column, cols, rows.vectors);
    } else {
        load_x(values, static_cast<const float*>(rows.x), row, column, cols, rows.vectors);
    }
}
DEVICE void load_row(int (&values)[8], const TileRows& rows, size_t row, unsigned column, unsigned cols) {
    const uint2 words = load_x(static_cast<const int8_t*>(rows.x), row, column, cols, rows.vectors);
#pragma unroll
    for (unsigned i = 0; i < 8; i++) values[i] = int8_code(words, i);
}

DEVICE float multiply_add(float a, float b, float sum) { return __fmaf_rn(a, b, sum); }
DEVICE int multiply_add(int a, int b, int sum) { return a * b + sum; }

/// `sums[i][j]` = row 4 (thread / 16) + i of the tile of x by row 4 (thread mod 16) + j of that of the weight, over columns
/// `first` .. `end`, `first` a multiple of 32. `x_row`: number in x of the row `thread mod 64` of the tile; `has_row`: whether
/// there is one. By a block of 256 threads.
template <typename Sum>
DEVICE void multiply_tile(Sum (&sums)[4][4], const Matrix& weight, unsigned first_output, const TileRows& rows, size_t x_row,
                          bool has_row, unsigned first, unsigned end) {
    SHARED(Sum, weights, TILE_COLUMNS * TILE_STRIDE);
    SHARED(Sum, x, TILE_COLUMNS * TILE_STRIDE);
    const unsigned own = threadIdx.x % TILE, octet = threadIdx.x / TILE * 8;
    const unsigned output = first_output + own;
    const unsigned left = threadIdx.x % 16 * 4, top = threadIdx.x / 16 * 4;
    Sum chain[4][4] = {};
#pragma unroll
    for (int i = 0; i < 4; i++) {
#pragma unroll
        for (int j = 0; j < 4; j++) sums[i][j] = 0;
    }
    unsigned chunks = 0;
    for (unsigned column = first; column < end; column += TILE_COLUMNS) {
        Sum weight_values[8] = {}, x_values[8] = {};
        if (output < weight.rows && column + octet < end) load_weight(weight_values, weight, output, column + octet);
        if (has_row && column + octet < end) load_row(x_values, rows, x_row, column + octet, weight.cols);
#pragma unroll
        for (unsigned i = 0; i < 8; i++) {
            weights[(octet + i) * TILE_STRIDE + own] = weight_values[i];
            x[(octet + i) * TILE_STRIDE + own] = x_values[i];
        }
        __syncthreads();
#pragma unroll 8
        for (unsigned k = 0; k < TILE_COLUMNS; k++) {
            Sum a[4], b[4];
#pragma unroll
            for (unsigned i = 0; i < 4; i++) {
                a[i] = x[k * TILE_STRIDE + top + i];
                b[i] = weights[k * TILE_STRIDE + left + i];
            }
#pragma unroll
            for (int i = 0; i < 4; i++) {
#pragma unroll
                for (int j = 0; j < 4; j++) chain[i][j] = multiply_add(a[i], b[j], chain[i][j]);
            }
        }
        __syncthreads();
        chunks++;
        if (chunks % CHAIN == 0 || column + TILE_COLUMNS >= end) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    sums[i][j] += chain[i][j];
                    chain[i][j] = 0;
                }
            }
        }
    }
}

/// An element of a product as it is before it is finished: a sum of f32 itself, one of integers with its scales.
DEVICE float scaled(float sum, const Matrix&, unsigned, const float*, size_t) { return sum; }
DEVICE float scaled(int sum, const Matrix& weight, unsigned output, const float* x_scales, size_t row) {
    const float channel = read_scale(weight.scales, weight.scale_dtype, scaling_index(weight, output, 0));
    return __fmul_rn(__fmul_rn(float(sum), x_scales[row]), channel);
}
