// Barriers and what the lanes of a warp do together. The arguments of a collective lie on the stacks of its lanes; the last lane
// to come computes the results of all.
#pragma once

inline void __syncthreads() { lathe_host::block_barrier(false); }
inline int __syncthreads_count(int predicate) { return int(lathe_host::block_barrier(predicate != 0)); }
inline int __syncthreads_or(int predicate) { return lathe_host::block_barrier(predicate != 0) > 0; }
inline int __syncthreads_and(int predicate) { return lathe_host::block_barrier(predicate == 0) == 0; }

inline void __syncwarp(uint32_t mask = 0xffffffffu) {
    lathe_host::warp_collective("__syncwarp", mask, nullptr, [](const lathe_host::Lanes&) {});
}
inline uint32_t __activemask() { return 0xffffffffu; }

namespace lathe_host {

template <typename T>
struct Shuffle {
    T value;
    /// Lane that the value is taken from.
    unsigned source;
    T result;
};

/// What a lane gets from one that has ended.
template <typename T>
inline T poisoned() {
    T value;
    std::memset(&value, POISON, sizeof value);
    return value;
}

template <typename T>
inline T shuffle(const char* name, uint32_t mask, T value, unsigned source) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 4 or 8 bytes");
    Shuffle<T> arguments = {value, source, value};
    warp_collective(name, mask, &arguments, [](const Lanes& lanes) {
        for (unsigned lane = 0; lane < WARP_LANES; lane++) {
            Shuffle<T>* self = lanes.get<Shuffle<T>>(lane);
            if (self == nullptr) continue;
            const Shuffle<T>* other = lanes.get<Shuffle<T>>(self->source);
            self->result = other == nullptr ? poisoned<T>() : other->value;
        }
    });
    return arguments.result;
}

/// The lane `target`, where it is in the same part of `width` lanes; else the own one.
inline unsigned within(int target, int width) {
    const int own = int(lane()), first = own / width * width;
    return unsigned(target >= first && target < first + width ? target : own);
}

template <typename T, typename Result>
struct Reduction {
    T value;
    Result result;
};

/// All lanes get `combine` of the values of all, in the order of lanes, from `start`.
template <typename T, typename Result, typename Combine>
inline Result reduce(const char* name, uint32_t mask, T value, Result start, Combine) {
    Reduction<T, Result> arguments = {value, start};
    warp_collective(name, mask, &arguments, [](const Lanes& lanes) {
        using Arguments = Reduction<T, Result>;
        bool first = true;
        Result total = {};
        for (unsigned lane = 0; lane < WARP_LANES; lane++) {
            Arguments* self = lanes.get<Arguments>(lane);
            if (self == nullptr) continue;
            total = Combine::apply(first ? self->result : total, self->value, lane);
            first = false;
        }
        for (unsigned lane = 0; lane < WARP_LANES; lane++) {
            if (Arguments* self = lanes.get<Arguments>(lane)) self->result = total;
        }
    });
    return arguments.result;
}

struct Ballot {
    static uint32_t apply(uint32_t total, int value, unsigned lane) { return total | uint32_t(value != 0) << lane; }
};
struct All {
    static int apply(int total, int value, unsigned) { return total && value != 0; }
};
struct Sum {
    static uint32_t apply(uint32_t total, uint32_t value, unsigned) { return total + value; }
};
struct Least {
    template <typename T>
    static T apply(T total, T value, unsigned) { return value < total ? value : total; }
};
struct Greatest {
    template <typename T>
    static T apply(T total, T value, unsigned) { return value > total ? value : total; }
};
struct And {
    static uint32_t apply(uint32_t total, uint32_t value, unsigned) { return total & value; }
};
struct Or {
    static uint32_t apply(uint32_t total, uint32_t value, unsigned) { return total | value; }
};
struct Xor {
    static uint32_t apply(uint32_t total, uint32_t value, unsigned) { return total ^ value; }
};

}  // namespace lathe_host

template <typename T>
inline T __shfl_sync(uint32_t mask, T value, int source, int width = 32) {
    const int first = int(lathe_host::lane()) / width * width;
    return lathe_host::shuffle("__shfl_sync", mask, value, unsigned(first + (source & (width - 1))));
}
template <typename T>
inline T __shfl_xor_sync(uint32_t mask, T value, int distance, int width = 32) {
    return lathe_host::shuffle("__shfl_xor_sync", mask, value, lathe_host::within(int(lathe_host::lane()) ^ distance, width));
}
template <typename T>
inline T __shfl_up_sync(uint32_t mask, T value, unsigned distance, int width = 32) {
    return lathe_host::shuffle("__shfl_up_sync", mask, value, lathe_host::within(int(lathe_host::lane()) - int(distance), width));
}
template <typename T>
inline T __shfl_down_sync(uint32_t mask, T value, unsigned distance, int width = 32) {
    return lathe_host::shuffle("__shfl_down_sync", mask, value, lathe_host::within(int(lathe_host::lane() + distance), width));
}

inline uint32_t __ballot_sync(uint32_t mask, int predicate) {
    return lathe_host::reduce("__ballot_sync", mask, predicate, uint32_t(0), lathe_host::Ballot());
}
inline int __all_sync(uint32_t mask, int predicate) {
    return lathe_host::reduce("__all_sync", mask, predicate, 1, lathe_host::All());
}
inline int __any_sync(uint32_t mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline uint32_t __reduce_add_sync(uint32_t mask, uint32_t value) {
    return lathe_host::reduce("__reduce_add_sync", mask, value, 0u, lathe_host::Sum());
}
inline int __reduce_add_sync(uint32_t mask, int value) { return int(__reduce_add_sync(mask, uint32_t(value))); }
inline uint32_t __reduce_min_sync(uint32_t mask, uint32_t value) {
    return lathe_host::reduce("__reduce_min_sync", mask, value, value, lathe_host::Least());
}
inline int __reduce_min_sync(uint32_t mask, int value) {
    return lathe_host::reduce("__reduce_min_sync", mask, value, value, lathe_host::Least());
}
inline uint32_t __reduce_max_sync(uint32_t mask, uint32_t value) {
    return lathe_host::reduce("__reduce_max_sync", mask, value, value, lathe_host::Greatest());
}
inline int __reduce_max_sync(uint32_t mask, int value) {
    return lathe_host::reduce("__reduce_max_sync", mask, value, value, lathe_host::Greatest());
}
inline uint32_t __reduce_and_sync(uint32_t mask, uint32_t value) {
    return lathe_host::reduce("__reduce_and_sync", mask, value, ~0u, lathe_host::And());
}
inline uint32_t __reduce_or_sync(uint32_t mask, uint32_t value) {
    return lathe_host::reduce("__reduce_or_sync", mask, value, 0u, lathe_host::Or());
}
inline uint32_t __reduce_xor_sync(uint32_t mask, uint32_t value) {
    return lathe_host::reduce("__reduce_xor_sync", mask, value, 0u, lathe_host::Xor());
}

// ---- matrices; lane l = 4g + c, fragments as the PTX ISA has them (Matrix Fragments for mma.m16n8k16 and m16n8k32)

namespace lathe_host {

template <typename Sum>
struct MatrixProduct {
    Sum sum[4];
    uint32_t a[4], b[2];
};

/// `value` takes element `i` of a word of `word_values` values. A lane that has ended makes the sums of its rows and columns poison.
template <typename Sum, typename Value, int inner, Value value(uint32_t, int), Sum add(Sum, Value, Value)>
inline void matrix_product(const Lanes& lanes) {
    using Arguments = MatrixProduct<Sum>;
    constexpr int word_values = inner / 8;
    Value a[16][inner], b[8][inner];
    for (int lane = 0; lane < int(WARP_LANES); lane++) {
        const Arguments* fragment = lanes.get<Arguments>(unsigned(lane));
        const int row = lane / 4, first = lane % 4 * word_values;
        for (int i = 0; i < word_values; i++) {
            for (int half = 0; half < 2; half++) {
                const int column = first + half * inner / 2 + i;
                a[row][column] = fragment ? value(fragment->a[2 * half], i) : poisoned<Value>();
                a[row + 8][column] = fragment ? value(fragment->a[2 * half + 1], i) : poisoned<Value>();
                b[row][column] = fragment ? value(fragment->b[half], i) : poisoned<Value>();
            }
        }
    }
    for (int lane = 0; lane < int(WARP_LANES); lane++) {
        Arguments* fragment = lanes.get<Arguments>(unsigned(lane));
        if (fragment == nullptr) continue;
        for (int i = 0; i < 4; i++) {
            const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
            for (int k = 0; k < inner; k++) fragment->sum[i] = add(fragment->sum[i], a[row][k], b[column][k]);
        }
    }
}

inline float bf16_of_word(uint32_t word, int i) { return bf16_value(uint16_t(word >> (16 * i))); }
inline float f16_of_word(uint32_t word, int i) { return f16_value(uint16_t(word >> (16 * i))); }
inline int int8_of_word(uint32_t word, int i) { return int8_t(word >> (8 * i)); }
inline float add_product(float sum, float a, float b) { return sum + a * b; }
inline int add_product(int sum, int a, int b) { return int(unsigned(sum) + unsigned(a * b)); }

template <typename Sum>
inline void multiply(const char* name, Sum (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], void (*action)(const Lanes&)) {
    MatrixProduct<Sum> arguments;
    std::memcpy(arguments.sum, sum, sizeof sum);
    std::memcpy(arguments.a, a, sizeof a);
    std::memcpy(arguments.b, b, sizeof b);
    warp_collective(name, 0xffffffffu, &arguments, action);
    std::memcpy(sum, arguments.sum, sizeof sum);
}

struct MatrixLoad {
    const void* row;
    uint32_t words[4];
};

template <bool transposed>
inline void load_matrices(const Lanes& lanes) {
    for (int matrix = 0; matrix < 4; matrix++) {
        uint16_t values[8][8];
        for (int row = 0; row < 8; row++) {
            const MatrixLoad* lane = lanes.get<MatrixLoad>(unsigned(8 * matrix + row));
            if (lane != nullptr) std::memcpy(values[row], lane->row, sizeof values[row]);
            else std::memset(values[row], POISON, sizeof values[row]);
        }
        for (int lane = 0; lane < int(WARP_LANES); lane++) {
            MatrixLoad* self = lanes.get<MatrixLoad>(unsigned(lane));
            if (self == nullptr) continue;
            const int g = lane / 4, c = lane % 4;
            const uint32_t low = transposed ? values[2 * c][g] : values[g][2 * c];
            const uint32_t high = transposed ? values[2 * c + 1][g] : values[g][2 * c + 1];
            self->words[matrix] = low | high << 16;
        }
    }
}

inline void load_matrix(const char* name, uint32_t (&words)[4], const void* row, void (*action)(const Lanes&)) {
    if (reinterpret_cast<uintptr_t>(row) % 16 != 0) fault("%s of a row that is not aligned to 16 bytes", name);
    MatrixLoad arguments = {row, {}};
    warp_collective(name, 0xffffffffu, &arguments, action);
    std::memcpy(words, arguments.words, sizeof words);
}

}  // namespace lathe_host

inline void mma_bf16(float (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    using namespace lathe_host;
    multiply("mma_bf16", sum, a, b, matrix_product<float, float, 16, bf16_of_word, add_product>);
}
inline void mma_f16(float (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    using namespace lathe_host;
    multiply("mma_f16", sum, a, b, matrix_product<float, float, 16, f16_of_word, add_product>);
}
inline void mma_s8(int (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    using namespace lathe_host;
    multiply("mma_s8", sum, a, b, matrix_product<int, int, 32, int8_of_word, add_product>);
}
inline void load_matrix_x4(uint32_t (&words)[4], const void* row) {
    lathe_host::load_matrix("load_matrix_x4", words, row, lathe_host::load_matrices<false>);
}
inline void load_matrix_x4_transposed(uint32_t (&words)[4], const void* row) {
    lathe_host::load_matrix("load_matrix_x4_transposed", words, row, lathe_host::load_matrices<true>);
}
