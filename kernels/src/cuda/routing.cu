// Softmax of groups, choices of experts, and what is added up over them.
#include "team.cuh"
#include "vectors.cuh"

struct GroupArgs {
    /// [groups, width]
    const float* x;
    /// The same.
    float* out;
    uint32_t width;
};

/// One block for each group. The group is read twice, the second time from a cache where it is not longer than one.
KERNEL(softmax_groups, GroupArgs, 1024) {
    SHARED(float, scratch, 32);
    grid_dependency_launch();
    grid_dependency_wait();
    const uint64_t first = uint64_t(blockIdx.x) * args.width;
    // Of the elements that a thread sees: the largest, and the sum of exponentials relative to it. fmaxf passes over NaN,
    // whose exponential makes the sum NaN.
    float largest = -infinity(), sum = 0.0f;
    for (unsigned i = threadIdx.x; i < args.width; i += blockDim.x) {
        const float x = args.x[first + i];
        const float larger = fmaxf(largest, x);
        if (larger > largest) sum = sum * expf(largest - larger);
        largest = larger;
        // Minus infinity adds nothing, unless there is nothing else in the group, which the end sees to.
        sum += x == -infinity() ? 0.0f : expf(x - largest);
    }
    const float maximum = block_max(largest, scratch);
    // A thread with nothing but minus infinity has no sum to bring along.
    const float total = block_sum(largest == -infinity() && sum == 0.0f ? 0.0f : sum * expf(largest - maximum), scratch);
    for (unsigned i = threadIdx.x; i < args.width; i += blockDim.x) {
        args.out[first + i] = expf(args.x[first + i] - maximum) / total;
    }
}

/// In f64, as the reference; one block for each group.
KERNEL(normalize_sums, GroupArgs, 1024) {
    SHARED(double, scratch, 32);
    grid_dependency_launch();
    grid_dependency_wait();
    const uint64_t first = uint64_t(blockIdx.x) * args.width;
    double sum = 0.0;
    for (unsigned i = threadIdx.x; i < args.width; i += blockDim.x) sum += double(args.x[first + i]);
    sum = block_sum(sum, scratch);
    for (unsigned i = threadIdx.x; i < args.width; i += blockDim.x) {
        args.out[first + i] = float(double(args.x[first + i]) / sum);
    }
}

struct TopArgs {
    /// [groups, width]
    const float* x;
    /// [groups, k]
    uint32_t* out;
    uint32_t width;
    uint32_t k;
};

constexpr unsigned TOP_TILE = 1024;

/// A number that is larger for elements that come first: NaN is the smallest, both zeros are equal.
DEVICE uint32_t rank_key(float x) {
    if (x != x) return 0;
    const uint32_t bits = __float_as_uint(x == 0.0f ? 0.0f : x);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

/// Each thread counts how many elements come before its own: that is its place. One block for each group; width²/threads
/// steps, of one broadcast from shared memory and three instructions each.
KERNEL(top_numbers, TopArgs, 1024) {
    SHARED(uint32_t, tile, TOP_TILE);
    grid_dependency_launch();
    grid_dependency_wait();
    const float* x = args.x + uint64_t(blockIdx.x) * args.width;
    for (unsigned base = 0; base < args.width; base += blockDim.x) {
        const unsigned own = base + threadIdx.x;
        const uint32_t key = own < args.width ? rank_key(x[own]) : 0;
        unsigned place = 0;
        for (unsigned first = 0; first < args.width; first += TOP_TILE) {
            const unsigned count = min(TOP_TILE, args.width - first);
            for (unsigned i = threadIdx.x; i < count; i += blockDim.x) tile[i] = rank_key(x[first + i]);
            __syncthreads();
            for (unsigned i = 0; i < count; i++) {
                const uint32_t other = tile[i];
                place += other > key || (other == key && first + i < own);
            }
            __syncthreads();
        }
        if (own < args.width && place < args.k) args.out[uint64_t(blockIdx.x) * args.k + place] = own;
    }
}

struct GatherArgs {
    /// [groups, width]
    const float* x;
    /// [groups, k]
    const uint32_t* choice;
    float* out;
    uint64_t count;
    uint32_t width;
    uint32_t k;
};

/// A thread for each choice; one that is not below the width gives NaN.
KERNEL(gather_chosen, GatherArgs, 256) {
    grid_dependency_launch();
    grid_dependency_wait();
    const uint64_t i = uint64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= args.count) return;
    const uint32_t number = args.choice[i];
    args.out[i] = number < args.width ? args.x[i / args.k * args.width + number] : __uint_as_float(0x7fffffffu);
}

struct CombineArgs {
    /// [rows, k, width]
    const float* x;
    /// [rows, k]
    const float* weights;
    /// [rows, width]
    float* out;
    uint32_t k;
    uint32_t width;
    /// Whether addresses and width are multiples of four elements.
    uint32_t vectors;
};

template <int N>
DEVICE void combine_row(const CombineArgs& args, uint64_t row) {
    const unsigned column = (blockIdx.y * blockDim.x + threadIdx.x) * N;
    if (column >= args.width) return;
    const float* x = args.x + row * args.k * args.width + column;
    Chunk<N> sums = {};
#pragma unroll 4
    for (unsigned part = 0; part < args.k; part++) {
        const float weight = args.weights[row * args.k + part];
        const Chunk<N> chunk = load_chunk<N>(x + uint64_t(part) * args.width);
#pragma unroll
        for (int j = 0; j < N; j++) sums.at[j] += weight * chunk.at[j];
    }
    store_chunk(args.out + row * args.width + column, sums);
}

/// Blocks along x for the rows, along y for columns.
KERNEL(combine_parts, CombineArgs, 256) {
    grid_dependency_launch();
    grid_dependency_wait();
    if (args.vectors) {
        combine_row<4>(args, blockIdx.x);
    } else {
        combine_row<1>(args, blockIdx.x);
    }
}
