// Kernels that test the host driver: what it must compute as a GPU does, and mistakes that it must notice. Not shipped.
#include "device.cuh"

// ---- what must come out

struct CopyArgs {
    const uint32_t* input;
    uint32_t* output;
    uint32_t count;
};

KERNEL(selftest_copy, CopyArgs, 1024) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < args.count) args.output[i] = args.input[i];
}

struct MatrixArgs {
    /// Row-major [16, inner], and [8, inner].
    const void* a;
    const void* b;
    /// Row-major [16, 8].
    void* product;
};

/// Words of a and b, `step` words for each row, as a lane holds them.
DEVICE void load_fragments(const MatrixArgs& args, unsigned step, uint32_t (&a)[4], uint32_t (&b)[2]) {
    const unsigned g = lane_index() / 4, c = lane_index() % 4;
    const uint32_t* rows = static_cast<const uint32_t*>(args.a);
    const uint32_t* columns = static_cast<const uint32_t*>(args.b);
    for (unsigned half = 0; half < 2; half++) {
        a[2 * half] = rows[g * step + c + 4 * half];
        a[2 * half + 1] = rows[(g + 8) * step + c + 4 * half];
        b[half] = columns[g * step + c + 4 * half];
    }
}
template <typename T>
DEVICE void store_sums(const MatrixArgs& args, const T (&sum)[4]) {
    const unsigned g = lane_index() / 4, c = lane_index() % 4;
    T* product = static_cast<T*>(args.product);
    for (unsigned i = 0; i < 4; i++) product[(g + i / 2 * 8) * 8 + 2 * c + i % 2] = sum[i];
}

KERNEL(selftest_mma_bf16, MatrixArgs, 32) {
    uint32_t a[4], b[2];
    float sum[4] = {1.0f, 1.0f, 1.0f, 1.0f};
    load_fragments(args, 8, a, b);
    mma_bf16(sum, a, b);
    store_sums(args, sum);
}
KERNEL(selftest_mma_f16, MatrixArgs, 32) {
    uint32_t a[4], b[2];
    float sum[4] = {1.0f, 1.0f, 1.0f, 1.0f};
    load_fragments(args, 8, a, b);
    mma_f16(sum, a, b);
    store_sums(args, sum);
}
KERNEL(selftest_mma_s8, MatrixArgs, 32) {
    uint32_t a[4], b[2];
    int sum[4] = {1, 1, 1, 1};
    load_fragments(args, 8, a, b);
    mma_s8(sum, a, b);
    store_sums(args, sum);
}
/// mma_bf16 with operands from shared memory: a by load_matrix_x4, b, which lies as [16, 8] there, by the transposed one.
KERNEL(selftest_load_matrix, MatrixArgs, 32) {
    SHARED(uint16_t, rows, 16 * 16);
    SHARED(uint16_t, columns, 16 * 8 * 2);
    for (unsigned i = threadIdx.x; i < 16 * 16; i += 32) rows[i] = static_cast<const uint16_t*>(args.a)[i];
    for (unsigned i = threadIdx.x; i < 16 * 8; i += 32) {
        columns[i % 16 * 8 + i / 16] = static_cast<const uint16_t*>(args.b)[i];
        columns[i + 16 * 8] = 0;
    }
    __syncthreads();
    const unsigned row = lane_index() % 8, matrix = lane_index() / 8;
    uint32_t a[4], b[4];
    float sum[4] = {1.0f, 1.0f, 1.0f, 1.0f};
    load_matrix_x4(a, &rows[(row + matrix % 2 * 8) * 16 + matrix / 2 * 8]);
    load_matrix_x4_transposed(b, &columns[(row + matrix * 8) * 8]);
    const uint32_t pair[2] = {b[0], b[1]};
    mma_bf16(sum, a, pair);
    store_sums(args, sum);
}

struct ConvertArgs {
    const float* input;
    /// Eight words for each value, as below.
    uint32_t* output;
    uint32_t count;
};
KERNEL(selftest_convert, ConvertArgs, 256) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= args.count) return;
    const float value = args.input[i], next = args.input[(i + 1) % args.count], third = args.input[(i + 2) % args.count];
    uint32_t* output = args.output + 8 * i;
    output[0] = to_bf16(value).bits;
    output[1] = to_f16(value).bits;
    output[2] = pack_bf16(value, next);
    output[3] = pack_f16(value, next);
    output[4] = fma_bf16x2(output[2], pack_bf16(next, value), pack_bf16(third, value));
    output[5] = fma_f16x2(output[3], pack_f16(next, value), pack_f16(third, value));
    output[6] = __float_as_uint(to_float(to_f16(value)));
    output[7] = __float_as_uint(unpack_bf16(output[2]).y);
}

/// Warp and block collectives: one number for each thread and kind.
KERNEL(selftest_collectives, CopyArgs, 256) {
    SHARED(uint32_t, scratch, 32);
    const unsigned i = threadIdx.x, lane = lane_index();
    const uint32_t value = args.input[i];
    uint32_t* output = args.output + i;
    const unsigned step = args.count;
    output[0 * step] = warp_sum(value);
    output[1 * step] = warp_max(value);
    output[2 * step] = __shfl_sync(ALL_LANES, value, int(lane + 5), 8);
    output[3 * step] = __shfl_up_sync(ALL_LANES, value, 3);
    output[4 * step] = __shfl_down_sync(ALL_LANES, value, 3, 16);
    output[5 * step] = __ballot_sync(ALL_LANES, value % 3 == 0);
    output[6 * step] = uint32_t(__all_sync(ALL_LANES, value > 0)) * 2 + uint32_t(__any_sync(ALL_LANES, value == 7));
    output[7 * step] = __reduce_add_sync(ALL_LANES, value);
    output[8 * step] = block_sum(value, scratch);
    output[9 * step] = block_max(value, scratch);
    output[10 * step] = uint32_t(__syncthreads_count(value % 2 == 0));
    output[11 * step] = lop3<(0xf0 & 0xcc) | 0xaa>(value, 0x0f0f0f0fu, 0x43004300u);
    output[12 * step] = __byte_perm(value, 0x87654321u, 0x5710u);
}

KERNEL(selftest_atomics, CopyArgs, 1024) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= args.count) return;
    const uint32_t value = args.input[i];
    atomicAdd(&args.output[0], value);
    atomicMax(&args.output[1], value);
    atomicMin(&args.output[2], value);
    atomicAdd(reinterpret_cast<float*>(&args.output[3]), float(value));
    atomicInc(&args.output[4], 9);
    atomicCAS(&args.output[5], 0u, value);
    atomicOr(&args.output[6], value);
}

struct StagesArgs {
    const uint32_t* input;
    uint32_t* output;
    /// 0: right. Else the mistake that the kernel makes.
    uint32_t variant;
};
/// 448 words by way of shared memory, to another thread than copies them: 256 in copies of 16 bytes, of which zeros stand for what
/// follows the first 250; then, as another group, 128 and 64 in copies of 8 and 4 bytes. `variant` 1: no wait before they are
/// read. 2: no barrier after the wait. 3: waits for the first group only. 4: the second is no group.
KERNEL(selftest_copy_async, StagesArgs, 64) {
    SHARED(uint4, fours, 64);
    SHARED(uint2, pairs, 64);
    SHARED(uint32_t, words, 64);
    const unsigned i = threadIdx.x, left = 250 - min(250u, 4 * i);
    copy_async<16>(&fours[i], args.input + min(4 * i, 248u), int(min(left, 4u) * 4));
    copy_async_commit();
    copy_async<8>(&pairs[i], args.input + 256 + 2 * i);
    copy_async<4>(&words[i], args.input + 384 + i);
    if (args.variant != 4) copy_async_commit();
    if (args.variant == 3) copy_async_wait<1>();
    if (args.variant != 1 && args.variant != 3) copy_async_wait<0>();
    if (args.variant != 2) __syncthreads();
    const unsigned other = 63 - i;
    reinterpret_cast<uint4*>(args.output)[other] = fours[other];
    reinterpret_cast<uint2*>(args.output + 256)[other] = pairs[other];
    args.output[384 + other] = words[other];
}

// ---- mistakes

/// Words of each of four rounds in reverse order, from one warp to another. `variant` 1: without the barrier between writing and
/// reading. 2: without the one at the end of the loop.
KERNEL(selftest_reverse, StagesArgs, 128) {
    SHARED(uint32_t, tile, 128);
    const unsigned i = threadIdx.x, count = blockDim.x;
    for (unsigned round = 0; round < 4; round++) {
        tile[i] = args.input[round * count + i];
        if (args.variant != 1) __syncthreads();
        // The collective keeps warps in step where all of them run in turn.
        args.output[round * count + i] = __shfl_sync(ALL_LANES, tile[count - 1 - i], int(lane_index()));
        if (args.variant != 2) __syncthreads();
    }
}

/// The output of the launch before it, doubled. `variant` 0: right. 1: reads before it waits. 2: does not wait.
KERNEL(selftest_dependent, StagesArgs, 64) {
    const unsigned i = threadIdx.x;
    uint32_t value = 0;
    grid_dependency_launch();
    if (args.variant == 1) value = args.input[i];
    if (args.variant != 2) grid_dependency_wait();
    if (args.variant != 1) value = args.input[i];
    args.output[i] = 2 * value;
}

struct MistakeArgs {
    uint32_t* memory;
    uint32_t index;
};
/// Within bounds when `index` is below the number of words of `memory`.
KERNEL(selftest_write, MistakeArgs, 32) {
    if (threadIdx.x == 0) args.memory[args.index] = 1;
}
/// Within bounds when `index` is below 32.
KERNEL(selftest_write_shared, MistakeArgs, 32) {
    SHARED(uint32_t, tile, 32);
    SHARED(uint32_t, neighbour, 32);
    tile[args.index] = threadIdx.x;
    neighbour[threadIdx.x] = threadIdx.x;
    __syncthreads();
    args.memory[threadIdx.x] = neighbour[threadIdx.x];
}
/// Nobody writes what is read: `index` 0 from a SHARED object, 1 from dynamic shared memory. In the block before it, it was.
KERNEL(selftest_uninitialized, MistakeArgs, 32) {
    SHARED(float, tile, 32);
    DYNAMIC_SHARED(bytes);
    float* const other = reinterpret_cast<float*>(bytes);
    args.memory[blockIdx.x * 32 + threadIdx.x] = __float_as_uint(args.index == 0 ? tile[threadIdx.x] : other[threadIdx.x]);
    tile[threadIdx.x] = 1.0f;
    other[threadIdx.x] = 1.0f;
}
/// Threads below `index` take part in a barrier that the others take no part in; the others wait for their warp.
KERNEL(selftest_divergent_barrier, MistakeArgs, 64) {
    if (threadIdx.x < args.index) {
        __syncthreads();
    } else {
        args.memory[threadIdx.x] = __shfl_xor_sync(ALL_LANES, threadIdx.x, 1);
    }
}
/// Lanes of one warp in two collectives.
KERNEL(selftest_divergent_warp, MistakeArgs, 32) {
    if (threadIdx.x < 16) {
        args.memory[threadIdx.x] = __shfl_xor_sync(ALL_LANES, threadIdx.x, 1);
    } else {
        args.memory[threadIdx.x] = __ballot_sync(ALL_LANES, 1);
    }
}
/// A collective of a part of the warp.
KERNEL(selftest_part_of_warp, MistakeArgs, 32) {
    if (threadIdx.x < 16) args.memory[threadIdx.x] = __shfl_xor_sync(0xffffu, threadIdx.x, 1);
}
