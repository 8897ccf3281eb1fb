// Norms of groups of a row: what comes off them, what they are multiplied with, and what is added.
#pragma once

#include "team.cuh"
#include "vectors.cuh"

/// `NormParameters` of ops/rows.rs. Vectors are [width]; each may be absent.
struct Norm {
    const float* along;
    const float* gain;
    const float* shift;
    /// Elements of a group.
    uint32_t width;
    /// Whether groups lose their mean or their part along a vector, and whether they are divided by the root of the mean of
    /// their squares.
    uint32_t centre;
    uint32_t divide;
    float eps;
    float gain_offset;
};

/// What the norm takes off a group, and what it multiplies the rest with.
struct GroupStatistics {
    float part;
    float factor;
};

DEVICE float direction(const Norm& norm, unsigned column) { return norm.along == nullptr ? 1.0f : norm.along[column]; }

/// What is taken off, from a sum of `x`, or of x · u along a vector u.
DEVICE float part_of(const Norm& norm, float sum) { return norm.along == nullptr ? sum / float(norm.width) : sum; }

DEVICE float factor_of(const Norm& norm, float squares) {
    return norm.divide ? 1.0f / sqrtf(squares / float(norm.width) + norm.eps) : 1.0f;
}

/// Normalizes elements from `column` of their group on.
template <int N>
DEVICE Chunk<N> normalized(const Norm& norm, Chunk<N> chunk, unsigned column, const GroupStatistics& group) {
    if (norm.centre) {
        if (norm.along != nullptr) {
            const Chunk<N> along = load_chunk<N>(norm.along + column);
#pragma unroll
            for (int j = 0; j < N; j++) chunk.at[j] -= group.part * along.at[j];
        } else {
#pragma unroll
            for (int j = 0; j < N; j++) chunk.at[j] -= group.part;
        }
    }
    if (!norm.divide) return chunk;
#pragma unroll
    for (int j = 0; j < N; j++) chunk.at[j] *= group.factor;
    if (norm.gain != nullptr) {
        const Chunk<N> gain = load_chunk<N>(norm.gain + column);
#pragma unroll
        for (int j = 0; j < N; j++) chunk.at[j] *= norm.gain_offset + gain.at[j];
    }
    if (norm.shift != nullptr) {
        const Chunk<N> shift = load_chunk<N>(norm.shift + column);
#pragma unroll
        for (int j = 0; j < N; j++) chunk.at[j] += shift.at[j];
    }
    return chunk;
}

/// Normalizes each group of a row of `width` elements in shared memory, a warp for each.
template <bool one_warp>
DEVICE void normalize_groups(const Norm& norm, const Team<one_warp>& team, float* row, unsigned width) {
    for (unsigned first = team.thread / WARP * norm.width; first < width; first += team.threads / WARP * norm.width) {
        GroupStatistics group = {0.0f, 1.0f};
        if (norm.centre) {
            for (unsigned i = lane_index(); i < norm.width; i += WARP) group.part += row[padded(first + i)] * direction(norm, i);
            group.part = part_of(norm, warp_sum(group.part));
        }
        float squares = 0.0f;
        for (unsigned i = lane_index(); i < norm.width; i += WARP) {
            const float rest = row[padded(first + i)] - (norm.centre ? group.part * direction(norm, i) : 0.0f);
            squares += rest * rest;
        }
        group.factor = factor_of(norm, warp_sum(squares));
        for (unsigned i = lane_index(); i < norm.width; i += WARP) {
            float* const element = row + padded(first + i);
            *element = normalized<1>(norm, {{*element}}, i, group).at[0];
        }
    }
}
