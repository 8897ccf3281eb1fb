// Rows of floats in chunks of N elements, N = 1 or 4; four of them are aligned to 16 bytes.
#pragma once

#include "device.cuh"

template <int N>
struct Chunk {
    float at[N];
};

template <int N>
DEVICE Chunk<N> load_chunk(const float* address) {
    static_assert(N == 1 || N == 4, "chunks have 1 or 4 elements");
    if constexpr (N == 4) {
        const float4 value = *reinterpret_cast<const float4*>(address);
        return {{value.x, value.y, value.z, value.w}};
    } else {
        return {{*address}};
    }
}
template <int N>
DEVICE void store_chunk(float* address, const Chunk<N>& chunk) {
    if constexpr (N == 4) {
        *reinterpret_cast<float4*>(address) = make_float4(chunk.at[0], chunk.at[1], chunk.at[2], chunk.at[3]);
    } else {
        *address = chunk.at[0];
    }
}
/// Rounded to bf16.
template <int N>
DEVICE void store_chunk(bf16* address, const Chunk<N>& chunk) {
    if constexpr (N == 4) {
        *reinterpret_cast<uint2*>(address) =
            make_uint2(pack_bf16(chunk.at[0], chunk.at[1]), pack_bf16(chunk.at[2], chunk.at[3]));
    } else {
        *address = to_bf16(chunk.at[0]);
    }
}
