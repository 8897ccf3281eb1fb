// What every kernel is written with. Under nvcc and NVRTC it is inline PTX and needs no header of the toolkit; under a C++
// compiler it is `host/cuda_host.h`, which runs kernels on the CPU for tests.
//
//     struct AddArgs { const float* x; float* y; unsigned count; };
//     KERNEL(add, AddArgs, 256) {
//         SHARED(float, tile, 256);                 // float tile[256], 16-byte aligned, the block's
//         DYNAMIC_SHARED(bytes);                    // char* bytes, 16-byte aligned, as many as the launch asks for
//         ...args.x[i]...
//     }
//
// The only parameter of a kernel is one struct by value, whose twin in Rust is `#[repr(C)]`. Names of kernels are unique among
// all files. The numbers after Args are those of __launch_bounds__: threads at most, and blocks for each multiprocessor at least.
// Collectives are of whole warps. A block may not wait for another block of its grid.
#pragma once

#if defined(__CUDACC__)

#if defined(__CUDACC_RTC__)
typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;
#else
#include <stdint.h>
#endif

#define DEVICE __device__ __forceinline__
#define KERNEL(name, Args, ...) \
    extern "C" __global__ void __launch_bounds__(__VA_ARGS__) name(const __grid_constant__ Args args)
#define SHARED(type, name, count) __shared__ __align__(16) type name[count]
#define DYNAMIC_SHARED(name)                                    \
    extern __shared__ __align__(16) char dynamic_shared_bytes[]; \
    char* const name = dynamic_shared_bytes

// ---- 16-bit floats: bits; arithmetic is on floats, or on pairs in one word (low half first)

struct bf16 { uint16_t bits; };
struct f16 { uint16_t bits; };

DEVICE float to_float(bf16 value) { return __uint_as_float(uint32_t(value.bits) << 16); }
DEVICE float to_float(f16 value) {
    float result;
    asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value.bits));
    return result;
}
/// To the nearest, ties to even; NaN is 0x7fff.
DEVICE bf16 to_bf16(float value) {
    bf16 result;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
    return result;
}
/// To the nearest, ties to even; NaN is 0x7fff.
DEVICE f16 to_f16(float value) {
    f16 result;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
    return result;
}
DEVICE uint32_t pack_bf16(float low, float high) {
    uint32_t result;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(high), "f"(low));
    return result;
}
DEVICE uint32_t pack_f16(float low, float high) {
    uint32_t result;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(high), "f"(low));
    return result;
}
/// a · b + c of two bf16 in a word, rounded once.
DEVICE uint32_t fma_bf16x2(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t result;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(c));
    return result;
}
/// a · b + c of two f16 in a word, rounded once.
DEVICE uint32_t fma_f16x2(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t result;
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(c));
    return result;
}

// ---- bits

/// Each bit of the result is bit 4·a + 2·b + c of `table`.
template <int table>
DEVICE uint32_t lop3(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t result;
    asm("lop3.b32 %0, %1, %2, %3, %4;" : "=r"(result) : "r"(a), "r"(b), "r"(c), "n"(table));
    return result;
}

// ---- global memory, 16, 8 and 4 bytes aligned to their size

/// What is read once and by no other block, as weights are: leaves L1 alone. The memory may not change while the kernel runs.
DEVICE uint4 load_streaming(const uint4* address) {
    uint4 value;
    asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
                 : "l"(address));
    return value;
}
DEVICE uint2 load_streaming(const uint2* address) {
    uint2 value;
    asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v2.u32 {%0, %1}, [%2];"
                 : "=r"(value.x), "=r"(value.y)
                 : "l"(address));
    return value;
}
DEVICE uint32_t load_streaming(const uint32_t* address) {
    uint32_t value;
    asm volatile("ld.global.nc.L1::no_allocate.u32 %0, [%1];" : "=r"(value) : "l"(address));
    return value;
}

// ---- copies from global to shared memory that do not wait: visible to the thread that made them after copy_async_wait,
// to others of the block after a barrier that follows it

/// `source` of the `bytes` bytes are read, the rest is zero. Both addresses are multiples of `bytes`: 4, 8 or 16.
template <int bytes>
DEVICE void copy_async(void* shared, const void* global, int source = bytes) {
    static_assert(bytes == 4 || bytes == 8 || bytes == 16, "cp.async copies 4, 8 or 16 bytes");
    const uint32_t target = uint32_t(__cvta_generic_to_shared(shared));
    if constexpr (bytes == 16) {
        asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(target), "l"(global), "r"(source)
                     : "memory");
    } else {
        asm volatile("cp.async.ca.shared.global [%0], [%1], %3, %2;" ::"r"(target), "l"(global), "r"(source), "n"(bytes)
                     : "memory");
    }
}
/// Ends a group of copies, which may be empty.
DEVICE void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Waits until all but the `pending` newest groups are there.
template <int pending>
DEVICE void copy_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

// ---- matrices of a warp; lane l = 4g + c

/// Four matrices of 8 × 8 values of 16 bits from shared memory: lane l gives the address of row l % 8 of matrix l / 8, 16-byte
/// aligned. Word m of the result is row g, columns 2c and 2c + 1 of matrix m.
DEVICE void load_matrix_x4(uint32_t (&words)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                 : "r"(uint32_t(__cvta_generic_to_shared(row)))
                 : "memory");
}
/// As load_matrix_x4, of transposed matrices: word m is rows 2c and 2c + 1, column g of matrix m.
DEVICE void load_matrix_x4_transposed(uint32_t (&words)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                 : "r"(uint32_t(__cvta_generic_to_shared(row)))
                 : "memory");
}
/// sum[16 × 8] += a[16 × 16] · b[16 × 8], bf16 and f32. Words of a: (g, 2c), (g + 8, 2c), (g, 2c + 8), (g + 8, 2c + 8), each with
/// the next column; of b: rows 2c and 2c + 1 of column g, then 2c + 8 and 2c + 9. Sums: (g, 2c), (g, 2c + 1), (g + 8, 2c), (g + 8, 2c + 1).
DEVICE void mma_bf16(float (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
/// As mma_bf16, of f16.
DEVICE void mma_f16(float (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
/// sum[16 × 8] += a[16 × 32] · b[32 × 8], exact. Words of a: (g, 4c), (g + 8, 4c), (g, 4c + 16), (g + 8, 4c + 16), each with the next
/// three columns; of b: rows 4c .. 4c + 3 of column g, then 4c + 16 .. 4c + 19. Sums lie as in mma_bf16.
DEVICE void mma_s8(int (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+r"(sum[0]), "+r"(sum[1]), "+r"(sum[2]), "+r"(sum[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// ---- programmatic dependent launch: without the launch attribute, and before sm_90, both do nothing

/// Waits until the kernel before this one in the stream has ended. Before it, nothing that another kernel writes may be read,
/// and nothing be written that another kernel reads.
DEVICE void grid_dependency_wait() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
/// Lets the next kernel start its blocks, once every block of this one is here.
DEVICE void grid_dependency_launch() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

#else
#include "host/cuda_host.h"
#endif

// ---- what follows is the same everywhere

constexpr uint32_t ALL_LANES = 0xffffffffu;
constexpr unsigned WARP = 32;

DEVICE unsigned lane_index() { return threadIdx.x % WARP; }
DEVICE unsigned warp_index() { return threadIdx.x / WARP; }

DEVICE float infinity() { return __uint_as_float(0x7f800000u); }

/// The two floats of a word of bf16.
DEVICE float2 unpack_bf16(uint32_t word) {
    return make_float2(__uint_as_float(word << 16), __uint_as_float(word & 0xffff0000u));
}
/// The two floats of a word of f16.
DEVICE float2 unpack_f16(uint32_t word) {
    return make_float2(to_float(f16{uint16_t(word & 0xffffu)}), to_float(f16{uint16_t(word >> 16)}));
}
DEVICE float to_float(float value) { return value; }

/// The sum over the lanes of a warp, the same bits in all: a tree by distances 16, 8, 4, 2, 1.
template <typename T>
DEVICE T warp_sum(T value) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(ALL_LANES, value, distance);
    return value;
}
template <typename T>
DEVICE T warp_max(T value) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
        const T other = __shfl_xor_sync(ALL_LANES, value, distance);
        value = other > value ? other : value;
    }
    return value;
}
/// The sum over the threads of a block (one-dimensional, whole warps), the same bits in all. `scratch`: 32 values in shared
/// memory, which all threads may use again afterwards.
template <typename T>
DEVICE T block_sum(T value, T* scratch) {
    value = warp_sum(value);
    if (lane_index() == 0) scratch[warp_index()] = value;
    __syncthreads();
    value = warp_sum(lane_index() < blockDim.x / WARP ? scratch[lane_index()] : T(0));
    __syncthreads();
    return value;
}
/// As block_sum, the greatest.
template <typename T>
DEVICE T block_max(T value, T* scratch) {
    value = warp_max(value);
    if (lane_index() == 0) scratch[warp_index()] = value;
    __syncthreads();
    value = warp_max(scratch[lane_index() < blockDim.x / WARP ? lane_index() : 0]);
    __syncthreads();
    return value;
}
