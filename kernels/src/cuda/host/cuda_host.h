// CUDA for a C++ compiler: what device.cuh has, and the built-in names that kernels may use, for kernels that run on the CPU
// (engine.h). Kernels are compiled without strict aliasing, which nvcc does not have either.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "engine.h"

#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __align__(bytes) alignas(bytes)
#define DEVICE inline

#define KERNEL(name, Args, ...)                                                                                \
    static_assert(std::is_trivially_copyable<Args>::value, "arguments of kernels are plain data");             \
    static void name(const Args& args);                                                                        \
    static const lathe_host::Kernel name##_kernel(#name, sizeof(Args), lathe_host::first_of(__VA_ARGS__),      \
                                                  [](const void* args) { name(*static_cast<const Args*>(args)); }); \
    static void name([[maybe_unused]] const Args& args)
#define SHARED(type, name, count)            \
    static const char name##_tag = 0;        \
    type(&name)[count] = *static_cast<type(*)[count]>(lathe_host::shared_object(&name##_tag, sizeof(type[count])))
#define DYNAMIC_SHARED(name) char* const name = lathe_host::dynamic_shared()

#define threadIdx (lathe_host::current->index)
#define blockIdx (lathe_host::current->block->index)
#define blockDim (lathe_host::current->block->size)
#define gridDim (lathe_host::current->block->grid)
constexpr int warpSize = 32;

namespace lathe_host {
constexpr unsigned first_of(unsigned max_threads, unsigned = 1) { return max_threads; }

template <typename To, typename From>
inline To bits_as(From from) {
    static_assert(sizeof(To) == sizeof(From), "the same number of bits");
    To to;
    std::memcpy(&to, &from, sizeof(To));
    return to;
}
}  // namespace lathe_host

// ---- vector types

#define LATHE_HOST_VECTORS(name, type)                                                            \
    struct alignas(2 * sizeof(type)) name##2 { type x, y; };                                      \
    struct alignas(4 * sizeof(type) < 16 ? 4 * sizeof(type) : 16) name##4 { type x, y, z, w; };   \
    inline name##2 make_##name##2(type x, type y) { return {x, y}; }                              \
    inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
LATHE_HOST_VECTORS(char, signed char)
LATHE_HOST_VECTORS(uchar, unsigned char)
LATHE_HOST_VECTORS(short, short)
LATHE_HOST_VECTORS(ushort, unsigned short)
LATHE_HOST_VECTORS(int, int)
LATHE_HOST_VECTORS(uint, unsigned)
LATHE_HOST_VECTORS(float, float)
LATHE_HOST_VECTORS(double, double)
#undef LATHE_HOST_VECTORS

// ---- bits

inline float __uint_as_float(unsigned bits) { return lathe_host::bits_as<float>(bits); }
inline float __int_as_float(int bits) { return lathe_host::bits_as<float>(bits); }
inline unsigned __float_as_uint(float value) { return lathe_host::bits_as<unsigned>(value); }
inline int __float_as_int(float value) { return lathe_host::bits_as<int>(value); }
inline double __longlong_as_double(long long bits) { return lathe_host::bits_as<double>(bits); }
inline long long __double_as_longlong(double value) { return lathe_host::bits_as<long long>(value); }

inline int __popc(unsigned value) { return __builtin_popcount(value); }
inline int __popcll(unsigned long long value) { return __builtin_popcountll(value); }
inline int __clz(int value) { return value == 0 ? 32 : __builtin_clz(unsigned(value)); }
inline int __clzll(long long value) { return value == 0 ? 64 : __builtin_clzll((unsigned long long)value); }
inline int __ffs(int value) { return __builtin_ffs(value); }
inline unsigned __brev(unsigned value) {
    unsigned result = 0;
    for (int bit = 0; bit < 32; bit++) result |= (value >> bit & 1u) << (31 - bit);
    return result;
}
/// Byte i of the result is the byte of b:a that nibble i of the selector names.
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
    const uint64_t bytes = uint64_t(b) << 32 | a;
    unsigned result = 0;
    for (int i = 0; i < 4; i++) {
        const unsigned choice = selector >> (4 * i) & 15u;
        if (choice > 7) lathe_host::fault("__byte_perm with the selector %#x", selector);
        result |= (unsigned(bytes >> (8 * choice)) & 0xffu) << (8 * i);
    }
    return result;
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
    return unsigned((uint64_t(high) << 32 | low) << (shift & 31u) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
    return unsigned((uint64_t(high) << 32 | low) >> (shift & 31u));
}
template <int table>
inline uint32_t lop3(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t result = 0;
    for (int row = 0; row < 8; row++) {
        if (table >> row & 1) result |= (row & 4 ? a : ~a) & (row & 2 ? b : ~b) & (row & 1 ? c : ~c);
    }
    return result;
}
/// sum + the product of two vectors of four signed bytes.
inline int __dp4a(int a, int b, int sum) {
    unsigned total = unsigned(sum);
    for (int i = 0; i < 4; i++) total += unsigned(int8_t(unsigned(a) >> (8 * i)) * int8_t(unsigned(b) >> (8 * i)));
    return int(total);
}
inline unsigned __dp4a(unsigned a, unsigned b, unsigned sum) {
    for (int i = 0; i < 4; i++) sum += (a >> (8 * i) & 0xffu) * (b >> (8 * i) & 0xffu);
    return sum;
}
inline int __mulhi(int a, int b) { return int((int64_t(a) * b) >> 32); }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((uint64_t(a) * b) >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)((unsigned __int128)(a) * b >> 64);
}

// ---- floats: the compiler fuses nothing here, so each is rounded by itself

inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __fma_rn(double a, double b, double c) { return std::fma(a, b, c); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __saturatef(float a) { return a > 0 ? (a < 1 ? a : 1.0f) : 0.0f; }
inline float __expf(float a) { return std::exp(a); }
inline float __exp10f(float a) { return std::pow(10.0f, a); }
inline float __logf(float a) { return std::log(a); }
inline float __log2f(float a) { return std::log2(a); }
inline float __powf(float a, float b) { return std::pow(a, b); }
inline float __sinf(float a) { return std::sin(a); }
inline float __cosf(float a) { return std::cos(a); }
inline float __tanhf(float a) { return std::tanh(a); }
inline float rsqrtf(float a) { return 1.0f / std::sqrt(a); }
inline double rsqrt(double a) { return 1.0 / std::sqrt(a); }
inline float __frsqrt_rn(float a) { return float(1.0 / std::sqrt(double(a))); }

namespace lathe_host {
/// As PTX cvt does: out of range is the nearest number, NaN is 0.
template <typename Integer>
inline Integer saturating(double rounded) {
    if (rounded != rounded) return 0;
    if (rounded <= double(std::numeric_limits<Integer>::min())) return std::numeric_limits<Integer>::min();
    if (rounded >= double(std::numeric_limits<Integer>::max())) return std::numeric_limits<Integer>::max();
    return Integer(rounded);
}
}  // namespace lathe_host
inline int __float2int_rn(float a) { return lathe_host::saturating<int>(std::nearbyint(a)); }
inline int __float2int_rz(float a) { return lathe_host::saturating<int>(std::trunc(a)); }
inline int __float2int_rd(float a) { return lathe_host::saturating<int>(std::floor(a)); }
inline int __float2int_ru(float a) { return lathe_host::saturating<int>(std::ceil(a)); }
inline unsigned __float2uint_rn(float a) { return lathe_host::saturating<unsigned>(std::nearbyint(a)); }
inline unsigned __float2uint_rz(float a) { return lathe_host::saturating<unsigned>(std::trunc(a)); }
inline float __int2float_rn(int a) { return float(a); }
inline float __uint2float_rn(unsigned a) { return float(a); }
inline float __double2float_rn(double a) { return float(a); }

template <typename T>
inline T min(T a, T b) { return b < a ? b : a; }
template <typename T>
inline T max(T a, T b) { return a < b ? b : a; }
inline float min(float a, float b) { return std::fmin(a, b); }
inline float max(float a, float b) { return std::fmax(a, b); }
inline double min(double a, double b) { return std::fmin(a, b); }
inline double max(double a, double b) { return std::fmax(a, b); }
inline unsigned min(unsigned a, int b) { return min(a, unsigned(b)); }
inline unsigned min(int a, unsigned b) { return min(unsigned(a), b); }
inline unsigned max(unsigned a, int b) { return max(a, unsigned(b)); }
inline unsigned max(int a, unsigned b) { return max(unsigned(a), b); }

// ---- memory

template <typename T>
inline T __ldg(const T* address) { return *address; }
template <typename T>
inline T __ldcs(const T* address) { return *address; }
template <typename T>
inline T __ldcg(const T* address) { return *address; }
template <typename T>
inline void __stcs(T* address, T value) { *address = value; }
template <typename T>
inline void __stcg(T* address, T value) { *address = value; }
template <typename T>
inline T load_streaming(const T* address) {
    if (reinterpret_cast<uintptr_t>(address) % sizeof(T) != 0) lathe_host::fault("load_streaming from %p", (const void*)address);
    return *address;
}
template <int bytes>
inline void copy_async(void* shared, const void* global, int source = bytes) {
    static_assert(bytes == 4 || bytes == 8 || bytes == 16, "cp.async copies 4, 8 or 16 bytes");
    lathe_host::copy_async(shared, global, bytes, unsigned(source));
}
inline void copy_async_commit() { lathe_host::copy_async_commit(); }
template <int pending>
inline void copy_async_wait() { lathe_host::copy_async_wait(pending); }

inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence_block() {}
inline void grid_dependency_wait() { lathe_host::dependency_wait(); }
inline void grid_dependency_launch() {}

// ---- atomics

namespace lathe_host {
/// Replaces *address by `change` of it and gives what it was.
template <typename T, typename Change>
inline T atomic_change(T* address, Change change) {
    T before, after;
    __atomic_load(address, &before, __ATOMIC_SEQ_CST);
    do after = change(before);
    while (!__atomic_compare_exchange(address, &before, &after, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    return before;
}
}  // namespace lathe_host
#define LATHE_HOST_ATOMICS(type)                                                                                          \
    inline type atomicMin(type* address, type value) { return lathe_host::atomic_change(address, [=](type old) { return value < old ? value : old; }); } \
    inline type atomicMax(type* address, type value) { return lathe_host::atomic_change(address, [=](type old) { return value > old ? value : old; }); } \
    inline type atomicExch(type* address, type value) { return lathe_host::atomic_change(address, [=](type) { return value; }); } \
    inline type atomicCAS(type* address, type expected, type value) { return lathe_host::atomic_change(address, [=](type old) { return old == expected ? value : old; }); } \
    inline type atomicAnd(type* address, type value) { return lathe_host::atomic_change(address, [=](type old) { return old & value; }); } \
    inline type atomicOr(type* address, type value) { return lathe_host::atomic_change(address, [=](type old) { return old | value; }); } \
    inline type atomicXor(type* address, type value) { return lathe_host::atomic_change(address, [=](type old) { return old ^ value; }); }
LATHE_HOST_ATOMICS(int)
LATHE_HOST_ATOMICS(unsigned)
LATHE_HOST_ATOMICS(unsigned long long)
#undef LATHE_HOST_ATOMICS
inline int atomicAdd(int* address, int value) {
    return lathe_host::atomic_change(address, [=](int old) { return int(unsigned(old) + unsigned(value)); });
}
inline unsigned atomicAdd(unsigned* address, unsigned value) {
    return lathe_host::atomic_change(address, [=](unsigned old) { return old + value; });
}
inline unsigned long long atomicAdd(unsigned long long* address, unsigned long long value) {
    return lathe_host::atomic_change(address, [=](unsigned long long old) { return old + value; });
}
inline float atomicAdd(float* address, float value) {
    return lathe_host::atomic_change(address, [=](float old) { return old + value; });
}
inline double atomicAdd(double* address, double value) {
    return lathe_host::atomic_change(address, [=](double old) { return old + value; });
}
inline float atomicExch(float* address, float value) {
    return lathe_host::atomic_change(address, [=](float) { return value; });
}
inline int atomicSub(int* address, int value) { return atomicAdd(address, int(0u - unsigned(value))); }
inline unsigned atomicSub(unsigned* address, unsigned value) { return atomicAdd(address, 0u - value); }
/// Counts up to `limit`, then starts at 0.
inline unsigned atomicInc(unsigned* address, unsigned limit) {
    return lathe_host::atomic_change(address, [=](unsigned old) { return old >= limit ? 0 : old + 1; });
}
inline unsigned atomicDec(unsigned* address, unsigned limit) {
    return lathe_host::atomic_change(address, [=](unsigned old) { return old == 0 || old > limit ? limit : old - 1; });
}

#include "half.h"
#include "warp.h"
