// What the memory of a device can do at most, for benchmarks: the fastest way to read it, and to copy within it.
#include "device.cuh"

// Loads under way in each thread: 512 threads of at most 4 blocks on a multiprocessor times 16 bytes times these are 128 KiB, several
// times what bandwidth times latency asks for.
constexpr int LOADS = 4;

struct StreamArgs {
    const uint4* from;
    /// [count] of a copy, [threads of the grid] words of a read.
    void* to;
    uint64_t count;
};

/// Reads `count` vectors, and writes a word for each thread that depends on all that it has read.
KERNEL(read_stream, StreamArgs, 512, 4) {
    const uint64_t threads = uint64_t(gridDim.x) * blockDim.x;
    const uint64_t thread = uint64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    grid_dependency_launch();
    uint32_t all = 0;
    uint64_t i = thread;
    for (; i + (LOADS - 1) * threads < args.count; i += LOADS * threads) {
        uint4 values[LOADS];
#pragma unroll
        for (int load = 0; load < LOADS; ++load) values[load] = load_streaming(args.from + i + load * threads);
#pragma unroll
        for (int load = 0; load < LOADS; ++load) {
            all ^= values[load].x ^ values[load].y ^ values[load].z ^ values[load].w;
        }
    }
    for (; i < args.count; i += threads) {
        const uint4 value = load_streaming(args.from + i);
        all ^= value.x ^ value.y ^ value.z ^ value.w;
    }
    grid_dependency_wait();
    static_cast<uint32_t*>(args.to)[thread] = all;
}

/// Copies `count` vectors.
KERNEL(copy_stream, StreamArgs, 512, 4) {
    const uint64_t threads = uint64_t(gridDim.x) * blockDim.x;
    uint4* const to = static_cast<uint4*>(args.to);
    uint64_t i = uint64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    grid_dependency_launch();
    grid_dependency_wait();
    for (; i + (LOADS - 1) * threads < args.count; i += LOADS * threads) {
        uint4 values[LOADS];
#pragma unroll
        for (int load = 0; load < LOADS; ++load) values[load] = load_streaming(args.from + i + load * threads);
#pragma unroll
        for (int load = 0; load < LOADS; ++load) to[i + load * threads] = values[load];
    }
    for (; i < args.count; i += threads) to[i] = load_streaming(args.from + i);
}
