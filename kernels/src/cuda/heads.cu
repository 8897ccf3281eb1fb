// What happens to the heads of queries, keys and values before attention: norm, rotary embedding, rotation, the place where
// attention reads them. Only kernels with bases take rotations with factors besides the Sylvester matrix.
#include "hadamard.cuh"
#include "norm.cuh"

struct AnglesArgs {
    /// Radians per position, [pairs].
    const float* frequencies;
    /// [1]: that of the first token.
    const uint32_t* position;
    /// [tokens, 2, pairs]: cosines, then sines.
    float* out;
    uint32_t tokens;
    uint32_t pairs;
    float amplitude;
};

/// Of the series of sine or cosine of r, without its first power of r: 1 − r²/(a (a + 1)) (1 − r²/((a + 2) (a + 3)) (1 − …)).
/// Eight terms leave out less than 2⁻⁵³ for |r| up to π/4.
template <int first>
DEVICE double series(double square) {
    double value = 1.0;
#pragma unroll
    for (int a = first + 14; a >= first; a -= 2) value = __fma_rn(square * value, -1.0 / (a * (a + 1)), 1.0);
    return value;
}

/// A thread for each pair of each token. The angle is rounded to f32; its functions are taken in f64, of what is left of it by
/// multiples of π/2 in two parts, whose error is below 2⁻⁵² for every f32 up to 2³². The functions of the toolkit keep a stack.
KERNEL(rope_angles, AnglesArgs, 128) {
    grid_dependency_launch();
    const uint64_t i = uint64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= uint64_t(args.tokens) * args.pairs) return;
    const uint64_t token = i / args.pairs;
    const unsigned pair = unsigned(i % args.pairs);
    grid_dependency_wait();
    const float angle = __fmul_rn(float(args.position[0] + uint32_t(token)), args.frequencies[pair]);
    const double quarters = rint(double(angle) * 0.63661977236758134308);
    double rest = __fma_rn(-quarters, 1.5707963267948965580, double(angle));
    rest = __fma_rn(-quarters, 6.1232339957367660359e-17, rest);
    const double square = rest * rest;
    const double sine = rest * series<2>(square), cosine = series<1>(square);
    const unsigned quarter = unsigned(int64_t(quarters)) & 3u;
    const double x = quarter & 1u ? sine : cosine, y = quarter & 1u ? cosine : sine;
    float* const out = args.out + token * 2 * args.pairs + pair;
    out[0] = __fmul_rn(float(quarter == 1 || quarter == 2 ? -x : x), args.amplitude);
    out[args.pairs] = __fmul_rn(float(quarter >= 2 ? -y : y), args.amplitude);
}

enum HeadTarget : uint32_t { TO_BUFFER = 0, TO_F32_CACHE = 1, TO_BF16_CACHE = 2 };

struct HeadPart {
    /// [tokens, heads, head_dim]
    const float* x;
    /// The same, or [heads, capacity, head_dim] of a cache, f32 or bf16.
    void* out;
    /// Of the rotary embedding, from `rope_angles`; or null.
    const float* angles;
    HadamardFactors rotation;
    /// Of whole heads; `divide` is 0 where there is none.
    Norm norm;
    uint32_t heads;
    uint32_t pairs;
    /// Whether pairs are neighbours; otherwise half of the rotary width apart.
    uint32_t interleaved;
    uint32_t target;
    uint32_t capacity;
};

constexpr unsigned MOST_PARTS = 3;

struct HeadsArgs {
    HeadPart parts[MOST_PARTS];
    /// [1]: that of the first token.
    const uint32_t* position;
    uint32_t tokens;
    uint32_t head_dim;
    /// Floats of shared memory of a warp.
    uint32_t stride;
};

/// Turns each pair of a head; products and sums are rounded one by one, as by the reference.
DEVICE void turn_pairs(const HeadPart& part, float* row, uint64_t token) {
    const float* const cosines = part.angles + token * 2 * part.pairs;
    for (unsigned pair = lane_index(); pair < part.pairs; pair += WARP) {
        const float cosine = cosines[pair], sine = cosines[part.pairs + pair];
        float& first = row[padded(part.interleaved ? 2 * pair : pair)];
        float& second = row[padded(part.interleaved ? 2 * pair + 1 : pair + part.pairs)];
        const float a = first, b = second;
        first = __fsub_rn(__fmul_rn(a, cosine), __fmul_rn(b, sine));
        second = __fadd_rn(__fmul_rn(b, cosine), __fmul_rn(a, sine));
    }
}

/// A part along y, a warp for each of its heads along x. The head lies in shared memory meanwhile. All parts of a token are worked
/// on side by side: what bounds a step of one token is the latency of a few passes of a warp over 128 elements.
template <int N, bool bases>
DEVICE void prepare_head(const HeadsArgs& args) {
    DYNAMIC_SHARED(bytes);
    const Team<true> team(nullptr);
    float* const row = reinterpret_cast<float*>(bytes) + warp_index() * args.stride;
    const HeadPart& part = args.parts[blockIdx.y];
    const uint64_t item = uint64_t(blockIdx.x) * (blockDim.x / WARP) + warp_index();
    if (item >= uint64_t(args.tokens) * part.heads) return;
    const uint64_t token = item / part.heads;
    const unsigned head = unsigned(item % part.heads);
    grid_dependency_wait();
    for (unsigned i = N * team.thread; i < args.head_dim; i += N * WARP) {
        store_chunk(row + padded(i), load_chunk<N>(part.x + item * args.head_dim + i));
    }
    const uint64_t position = args.position[0] + token;
    grid_dependency_launch();
    team.sync();
    if (part.norm.divide) {
        normalize_groups(part.norm, team, row, args.head_dim);
        team.sync();
    }
    if (part.angles != nullptr) {
        turn_pairs(part, row, token);
        team.sync();
    }
    const HadamardFactors& rotation = part.rotation;
    if (rotation.width != 0) {
        if (!rotation.inverse) {
            for (unsigned i = team.thread; i < args.head_dim; i += WARP) {
                row[padded(i)] *= signed_scale(rotation, i % rotation.width);
            }
        }
        multiply_factors<bases>(team, row, args.head_dim, rotation, 1);
    }
    if (part.target != TO_BUFFER && position >= part.capacity) return;
    const uint64_t start =
        (part.target == TO_BUFFER ? item : uint64_t(head) * part.capacity + position) * args.head_dim;
    for (unsigned i = N * team.thread; i < args.head_dim; i += N * WARP) {
        Chunk<N> chunk = load_chunk<N>(row + padded(i));
        if (rotation.width != 0 && rotation.inverse) {
#pragma unroll
            for (int j = 0; j < N; j++) chunk.at[j] *= signed_scale(rotation, (i + j) % rotation.width);
        }
        if (part.target == TO_BF16_CACHE) {
            store_chunk(static_cast<bf16*>(part.out) + start + i, chunk);
        } else {
            store_chunk(static_cast<float*>(part.out) + start + i, chunk);
        }
    }
}

KERNEL(prepare_heads, HeadsArgs, 128) { prepare_head<1, false>(args); }
KERNEL(prepare_heads_by_four, HeadsArgs, 128) { prepare_head<4, false>(args); }
KERNEL(prepare_heads_with_bases, HeadsArgs, 128, 6) { prepare_head<1, true>(args); }
KERNEL(prepare_heads_by_four_with_bases, HeadsArgs, 128, 6) { prepare_head<4, true>(args); }
