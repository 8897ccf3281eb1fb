// Rows of x as products read them.
#pragma once

#include "device.cuh"

/// What x is; rows that a product of int8 rounds itself are of f32, and so are normalized ones.
enum XKind : uint32_t { X_F32 = 0, X_BF16 = 1, X_NORMALIZED = 2, X_INT8 = 3 };

/// `NormParameters` of ops/rows.rs, of whole rows.
struct RowNorm {
    const float* along;
    const float* gain;
    const float* shift;
    float eps;
    float gain_offset;
    uint32_t centre;
};

/// Eight neighbours of a row of `cols` from `column` on, zero past the row. `vectors`: rows are aligned to 16 bytes.
DEVICE void load_x(float (&values)[8], const float* x, size_t row, unsigned column, unsigned cols, bool vectors) {
    const float* source = x + row * cols + column;
    if (vectors && column + 8 <= cols) {
        const float4 low = reinterpret_cast<const float4*>(source)[0], high = reinterpret_cast<const float4*>(source)[1];
        values[0] = low.x, values[1] = low.y, values[2] = low.z, values[3] = low.w;
        values[4] = high.x, values[5] = high.y, values[6] = high.z, values[7] = high.w;
    } else {
#pragma unroll
        for (unsigned i = 0; i < 8; i++) values[i] = column + i < cols ? source[i] : 0.0f;
    }
}
DEVICE void load_x(float (&values)[8], const bf16* x, size_t row, unsigned column, unsigned cols, bool vectors) {
    const bf16* source = x + row * cols + column;
    if (vectors && column + 8 <= cols) {
        const uint4 words = *reinterpret_cast<const uint4*>(source);
        const float2 pairs[4] = {unpack_bf16(words.x), unpack_bf16(words.y), unpack_bf16(words.z), unpack_bf16(words.w)};
#pragma unroll
        for (int i = 0; i < 4; i++) values[2 * i] = pairs[i].x, values[2 * i + 1] = pairs[i].y;
    } else {
#pragma unroll
        for (unsigned i = 0; i < 8; i++) values[i] = column + i < cols ? to_float(source[i]) : 0.0f;
    }
}
DEVICE uint2 load_x(const int8_t* x, size_t row, unsigned column, unsigned cols, bool vectors) {
    const int8_t* source = x + row * cols + column;
    if (vectors && column + 8 <= cols) return *reinterpret_cast<const uint2*>(source);
    uint32_t words[2] = {};
#pragma unroll
    for (unsigned i = 0; i < 8; i++) {
        if (column + i < cols) words[i / 4] |= uint32_t(uint8_t(source[i])) << (i % 4 * 8);
    }
    return make_uint2(words[0], words[1]);
}

/// What a row is normalized by: c is x less `part`, times `along` where there is one; the result c · factor · gain + shift.
struct RowStatistics {
    float part;
    float factor;
};

/// Takes the part off eight neighbours.
DEVICE void centre(float (&values)[8], const RowNorm& norm, float part, unsigned column, unsigned cols, bool vectors) {
    if (norm.along != nullptr) {
        float along[8];
        load_x(along, norm.along, 0, column, cols, vectors);
#pragma unroll
        for (int i = 0; i < 8; i++) values[i] -= part * along[i];
    } else {
#pragma unroll
        for (int i = 0; i < 8; i++) values[i] -= part;
    }
}

/// By a block, in two passes over the row, of which the second finds it in L1. `vectors`: x and the vectors of the norm are
/// aligned to 16 bytes. `scratch`: 32 floats in shared memory.
DEVICE RowStatistics row_statistics(const RowNorm& norm, const float* x, size_t row, unsigned cols, bool vectors, float* scratch) {
    float part = 0.0f, squares = 0.0f;
    if (norm.centre) {
        for (unsigned column = threadIdx.x * 8; column < cols; column += blockDim.x * 8) {
            float values[8], along[8] = {1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f};
            load_x(values, x, row, column, cols, vectors);
            if (norm.along != nullptr) load_x(along, norm.along, 0, column, cols, vectors);
#pragma unroll
            for (int i = 0; i < 8; i++) part += values[i] * along[i];
        }
        part = block_sum(part, scratch);
        if (norm.along == nullptr) part /= float(cols);
    }
    for (unsigned column = threadIdx.x * 8; column < cols; column += blockDim.x * 8) {
        float values[8];
        load_x(values, x, row, column, cols, vectors);
        if (norm.centre) centre(values, norm, part, column, cols, vectors);
#pragma unroll
        for (unsigned i = 0; i < 8; i++) squares += column + i < cols ? values[i] * values[i] : 0.0f;
    }
    squares = block_sum(squares, scratch);
    return {part, 1.0f / sqrtf(squares / float(cols) + norm.eps)};
}

/// Normalizes eight neighbours; zero past the row.
DEVICE void normalize(float (&values)[8], const RowNorm& norm, const RowStatistics& row, unsigned column, unsigned cols,
                      bool vectors) {
    if (norm.centre) centre(values, norm, row.part, column, cols, vectors);
#pragma unroll
    for (int i = 0; i < 8; i++) values[i] *= row.factor;
    if (norm.gain != nullptr) {
        float gain[8];
        load_x(gain, norm.gain, 0, column, cols, vectors);
#pragma unroll
        for (int i = 0; i < 8; i++) values[i] *= norm.gain_offset + gain[i];
    }
    if (norm.shift != nullptr) {
        float shift[8];
        load_x(shift, norm.shift, 0, column, cols, vectors);
#pragma unroll
        for (int i = 0; i < 8; i++) values[i] += shift[i];
    }
#pragma unroll
    for (unsigned i = 0; i < 8; i++) values[i] = column + i < cols ? values[i] : 0.0f;
}
