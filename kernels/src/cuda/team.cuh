// Threads that work on a row together: a warp, or a whole block.
#pragma once

#include "device.cuh"

/// A warp of a block of several, or with `one_warp` false all threads of a block. What they exchange goes through shared memory
/// that is theirs alone.
template <bool one_warp>
struct Team {
    unsigned thread;
    unsigned threads;
    /// 32 floats, not used by warps.
    float* scratch;

    DEVICE explicit Team(float* scratch)
        : thread(one_warp ? lane_index() : threadIdx.x), threads(one_warp ? WARP : blockDim.x), scratch(scratch) {}

    /// What was written to shared memory before is there for all.
    DEVICE void sync() const {
        if constexpr (one_warp) {
            __syncwarp();
        } else {
            __syncthreads();
        }
    }
    DEVICE float sum(float value) const {
        if constexpr (one_warp) {
            return warp_sum(value);
        } else {
            return block_sum(value, scratch);
        }
    }
    DEVICE unsigned max(unsigned value) const {
        if constexpr (one_warp) {
            return warp_max(value);
        } else {
            return block_max(value, reinterpret_cast<unsigned*>(scratch));
        }
    }
};

/// Where element i of a row lies in shared memory: four floats are left out behind each 32, so that threads that each read a
/// chunk of 4, 8, 16 or 32 elements, or eight elements at a distance of a power of two, read from all banks. Four elements side
/// by side from a multiple of four on stay so.
DEVICE unsigned padded(unsigned i) { return i + (i >> 5 << 2); }
