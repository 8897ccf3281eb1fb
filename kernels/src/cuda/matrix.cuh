// Packed matrices on a device; layout.rs says how they lie.
#pragma once

#include "device.cuh"

constexpr unsigned TILE_ROWS = 16;

enum Layout : uint32_t { F32 = 0, F16 = 1, BF16 = 2, INT4 = 3, INT8 = 4 };

/// `MatrixArgs` of layout.rs.
struct Matrix {
    const uint8_t* codes;
    const uint8_t* scales;
    const uint8_t* zero_points;
    uint32_t rows, cols, padded_cols;
    uint32_t group, groups;
    uint32_t layout;
    /// 0 f32, 1 f16, 2 bf16.
    uint32_t scale_dtype;
    int32_t zero_point;
};

/// Scale `index` of a plane, on the device or in shared memory.
DEVICE float read_scale(const void* scales, uint32_t dtype, size_t index) {
    if (dtype == 0) return static_cast<const float*>(scales)[index];
    const uint16_t bits = static_cast<const uint16_t*>(scales)[index];
    return dtype == 1 ? to_float(f16{bits}) : to_float(bf16{bits});
}

/// Number of a scale or zero point in its plane.
DEVICE size_t scaling_index(const Matrix& matrix, unsigned row, unsigned group) {
    return (size_t(row / TILE_ROWS) * matrix.groups + group) * TILE_ROWS + row % TILE_ROWS;
}

DEVICE int zero_point_at(const Matrix& matrix, size_t index) {
    if (matrix.zero_points == nullptr) return matrix.zero_point;
    const uint8_t stored = matrix.zero_points[index];
    return matrix.layout == INT8 ? int(int8_t(stored)) : int(stored);
}

/// Word of an int4 matrix with the eight columns from `column` on, a multiple of 8.
DEVICE const uint32_t* int4_word(const Matrix& matrix, unsigned row, unsigned column) {
    const unsigned lane = row % 8 * 4 + column / 8 % 4, word = column / 32 % 2 * 2 + row / 8 % 2;
    const size_t tile = size_t(row / TILE_ROWS) * (matrix.padded_cols / 64) + column / 64;
    return reinterpret_cast<const uint32_t*>(matrix.codes) + tile * 128 + lane * 4 + word;
}

/// Eight codes of an int8 matrix from `column` on, a multiple of 8.
DEVICE const uint2* int8_words(const Matrix& matrix, unsigned row, unsigned column) {
    const unsigned lane = row % 8 * 4 + column / 8 % 4;
    const size_t tile = size_t(row / TILE_ROWS) * (matrix.padded_cols / 32) + column / 32;
    return reinterpret_cast<const uint2*>(matrix.codes) + tile * 64 + lane * 2 + row / 8 % 2;
}

/// Code `i` of 0 to 7 of an int4_word.
DEVICE int int4_code(uint32_t word, unsigned i) { return word >> (i / 2 * 4 + i % 2 * 16) & 15u; }

/// Code `i` of 0 to 7 of int8_words.
DEVICE int int8_code(uint2 words, unsigned i) { return int8_t((i < 4 ? words.x : words.y) >> (i % 4 * 8) & 0xffu); }

/// The eight elements from `column` on, a multiple of 8, of a row that may be one that pads: the same bits as on the CPU.
/// Elements that pad rows to whole tiles are finite, and not specified.
DEVICE void decode_octet(float (&values)[8], const Matrix& matrix, unsigned row, unsigned column) {
    const size_t element = size_t(row) * matrix.padded_cols + column;
    if (matrix.layout == F32) {
        const float4* source = reinterpret_cast<const float4*>(reinterpret_cast<const float*>(matrix.codes) + element);
        const float4 low = source[0], high = source[1];
        values[0] = low.x, values[1] = low.y, values[2] = low.z, values[3] = low.w;
        values[4] = high.x, values[5] = high.y, values[6] = high.z, values[7] = high.w;
        return;
    }
    if (matrix.layout == F16 || matrix.layout == BF16) {
        const uint4 source = *reinterpret_cast<const uint4*>(reinterpret_cast<const uint16_t*>(matrix.codes) + element);
        const uint32_t words[4] = {source.x, source.y, source.z, source.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float2 pair = matrix.layout == F16 ? unpack_f16(words[i]) : unpack_bf16(words[i]);
            values[2 * i] = pair.x;
            values[2 * i + 1] = pair.y;
        }
        return;
    }
    int codes[8];
    if (matrix.layout == INT4) {
        const uint32_t word = *int4_word(matrix, row, column);
#pragma unroll
        for (unsigned i = 0; i < 8; i++) codes[i] = int4_code(word, i);
    } else {
        const uint2 words = *int8_words(matrix, row, column);
#pragma unroll
        for (unsigned i = 0; i < 8; i++) codes[i] = int8_code(words, i);
    }
    // A column that pads takes the last scale of its row.
    unsigned group = min(column / matrix.group, matrix.groups - 1);
    unsigned left = (group + 1) * matrix.group - column;
    size_t index = scaling_index(matrix, row, group);
    float scale = read_scale(matrix.scales, matrix.scale_dtype, index);
    int zero_point = zero_point_at(matrix, index);
#pragma unroll
    for (unsigned i = 0; i < 8; i++) {
        if (left == 0 && group + 1 < matrix.groups) {
            group++;
            left = matrix.group;
            index += TILE_ROWS;
            scale = read_scale(matrix.scales, matrix.scale_dtype, index);
            zero_point = zero_point_at(matrix, index);
        }
        left--;
        values[i] = __fmul_rn(float(codes[i] - zero_point), scale);
    }
}

/// Pairs of bf16, 128 + code, of the columns 2 i and 2 i + 1 of an int4_word.
DEVICE void int4_pairs(uint32_t (&pairs)[4], uint32_t word) {
#pragma unroll
    for (int i = 0; i < 4; i++) pairs[i] = lop3<0xea>(word >> (4 * i), 0x000f000fu, 0x43004300u);
}

/// Pairs of bf16, the codes of four columns of int8 themselves.
///
/// A byte with sign s and low bits m is m − 128 s. As the low half of a bf16, 0x4300 | m is 128 + m, and 0x4300 | 128 s is
/// 128 + 128 s; their difference is exact.
DEVICE void int8_pairs(uint32_t (&pairs)[2], uint32_t word) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const uint32_t bytes = __byte_perm(word, 0, i == 0 ? 0x4140 : 0x4342);
        const uint32_t magnitude = lop3<0xea>(bytes, 0x007f007fu, 0x43004300u);
        const uint32_t negative = lop3<0xea>(bytes, 0x00800080u, 0xc300c300u);
        pairs[i] = fma_bf16x2(magnitude, 0x3f803f80u, negative);
    }
}
