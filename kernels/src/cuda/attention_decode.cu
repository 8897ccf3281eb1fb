// Attention of few tokens over a long cache: the positions of a query are split among blocks, in one launch.
//
// A unit is up to 8 query heads of one key/value head and one token. Its positions are divided among blocks in shares of whole
// 64, found from the position when the kernel runs: a recorded launch holds for any position, and blocks without a share end at
// once. Warps of a block take positions in turn and do not wait for each other: each keeps the maximum, the total and the weighted
// values of its own (online softmax: Milakov and Gimelshein 2018, arXiv:1805.02867, algorithm 3). The block adds up its warps;
// the last block of a unit adds up the blocks, in their order, so that results do not depend on which came last.
// (Dao et al. 2023, "Flash-Decoding for long-context inference".)
//
// The limit is reading the cache. It goes from global memory to registers without a barrier in between; a multiprocessor has 8
// warps with 4 KB or more of loads under way each, 32 KB, where 4.3 TB/s over 132 of them at about 1 µs need 33 KB.
// Two blocks of 128 threads on each: up to 255 registers, and 9 to 67 KB of shared memory.
#include "attention.cuh"

constexpr unsigned ROWS = 8;
constexpr unsigned WARPS = 4;
constexpr unsigned SHARE = 64;
constexpr unsigned MAX_SPLITS = 256;

struct Unit {
    unsigned index, token, kv_head, first_head, heads;
};

/// The unit of a block of the grid [splits, key/value heads × units of a group, tokens].
DEVICE Unit unit_of_block(const AttentionArgs& args) {
    const unsigned chunks = (args.group + ROWS - 1) / ROWS, chunk = blockIdx.y % chunks;
    Unit unit;
    unit.index = blockIdx.z * gridDim.y + blockIdx.y;
    unit.token = blockIdx.z;
    unit.kv_head = blockIdx.y / chunks;
    unit.first_head = unit.kv_head * args.group + chunk * ROWS;
    unit.heads = min(ROWS, args.group - chunk * ROWS);
    return unit;
}

/// The positions of this block, and how many blocks have any.
struct Share {
    Positions positions;
    unsigned blocks;
};
DEVICE Share share_of_block(const AttentionArgs& args, unsigned position) {
    const Positions all = visible_positions(args, position);
    const unsigned count = all.end - all.begin;
    const unsigned size = max(1u, (count + args.splits * SHARE - 1) / (args.splits * SHARE)) * SHARE;
    Share share;
    share.blocks = max(1u, (count + size - 1) / size);
    share.positions.begin = min(all.begin + blockIdx.x * size, all.end);
    share.positions.end = min(share.positions.begin + size, all.end);
    return share;
}

/// Floats of what a block leaves to the last one: [ROWS, stride] weighted values, [ROWS] maxima, [ROWS] totals.
DEVICE unsigned partial_size(unsigned stride) { return ROWS * (stride + 2); }

DEVICE void store_quad(const AttentionArgs& args, const Unit& unit, unsigned row, unsigned quad, float4 value, float factor) {
    const unsigned dim = 4 * quad;
    const size_t index = (size_t(unit.token) * args.heads + unit.first_head + row) * args.head_dim + dim;
    store_attention(args, index, value.x * factor);
    if (dim + 1 < args.head_dim) store_attention(args, index + 1, value.y * factor);
    if (dim + 2 < args.head_dim) store_attention(args, index + 2, value.z * factor);
    if (dim + 3 < args.head_dim) store_attention(args, index + 3, value.w * factor);
}

/// Adds up the warps, and where this block is the last of its unit, the blocks. `sums` is [WARPS, ROWS, stride] in shared memory,
/// written like `maxima` and `totals` by the warps for themselves just before.
DEVICE void finish_unit(const AttentionArgs& args, const Unit& unit, unsigned blocks, float* sums, unsigned stride,
    const float (&maxima)[WARPS * ROWS],
                        const float (&totals)[WARPS * ROWS]) {
    SHARED(float, factors, WARPS * ROWS);
    SHARED(float, row_maxima, ROWS);
    SHARED(float, row_totals, ROWS);
    SHARED(unsigned, is_last, 1);
    const unsigned thread = threadIdx.x, quads = (args.head_dim + 3) / 4, partial_stride = 4 * quads;
    __syncthreads();
    if (thread < ROWS) {
        float maximum = -infinity(), total = 0;
        for (unsigned warp = 0; warp < WARPS; warp++) maximum = fmaxf(maximum, maxima[warp * ROWS + thread]);
        for (unsigned warp = 0; warp < WARPS; warp++) {
            const float factor = attention_rescale(maxima[warp * ROWS + thread], maximum);
            factors[warp * ROWS + thread] = factor;
            total += factor * totals[warp * ROWS + thread];
        }
        row_maxima[thread] = maximum;
        row_totals[thread] = total;
    }
    __syncthreads();
    const size_t size = partial_size(partial_stride), first_partial = size_t(unit.index) * args.splits * size;
    float* const partial = args.partials + first_partial + blockIdx.x * size;
    for (unsigned i = thread; i < unit.heads * quads; i += blockDim.x) {
        const unsigned row = i / quads, quad = i % quads;
        float4 sum = make_float4(0, 0, 0, 0);
        for (unsigned warp = 0; warp < WARPS; warp++) {
            add_weighted(sum, factors[warp * ROWS + row],
                *reinterpret_cast<const float4*>(sums + (warp * ROWS + row) * stride + 4 * quad));
        }
        if (blocks == 1) {
            store_quad(args, unit, row, quad, sum, attention_factor(args, unit.first_head + row, row_maxima[row], row_totals[row]));
        } else {
            *reinterpret_cast<float4*>(partial + row * partial_stride + 4 * quad) = sum;
        }
    }
    if (blocks == 1) return;
    if (thread < ROWS) {
        partial[ROWS * partial_stride + thread] = row_maxima[thread];
        partial[ROWS * (partial_stride + 1) + thread] = row_totals[thread];
    }
    __threadfence();
    __syncthreads();
    // The counter is 0 again after the last one.
    if (thread == 0) is_last[0] = atomicInc(args.counters + unit.index, blocks - 1) == blocks - 1;
    __syncthreads();
    if (is_last[0] == 0) return;
    __threadfence();

    // Factors of the blocks of each row, [ROWS, MAX_SPLITS]: 16 lanes for a row.
    float* const block_factors = sums;
    const float* const partials = args.partials + first_partial;
    {
        const unsigned row = thread / 16;
        const float* const block_maxima = partials + ROWS * partial_stride + row;
        float maximum = -infinity(), total = 0;
        for (unsigned block = thread % 16; block < blocks; block += 16) {
            maximum = fmaxf(maximum, __ldcg(block_maxima + block * size));
        }
        for (unsigned distance = 8; distance > 0; distance /= 2) {
            maximum = fmaxf(maximum, __shfl_xor_sync(ALL_LANES, maximum, int(distance)));
        }
        for (unsigned block = thread % 16; block < blocks; block += 16) {
            const float factor = attention_rescale(__ldcg(block_maxima + block * size), maximum);
            block_factors[row * MAX_SPLITS + block] = factor;
            total += factor * __ldcg(block_maxima + block * size + ROWS);
        }
        for (unsigned distance = 8; distance > 0; distance /= 2) total += __shfl_xor_sync(ALL_LANES, total, int(distance));
        if (thread % 16 == 0) {
            const unsigned head = unit.first_head + min(row, unit.heads - 1);
            row_totals[row] = attention_factor(args, head, maximum, total);
        }
    }
    __syncthreads();
    for (unsigned i = thread; i < unit.heads * quads; i += blockDim.x) {
        const unsigned row = i / quads, quad = i % quads;
        const float* const values = partials + row * partial_stride + 4 * quad;
        float4 sum = make_float4(0, 0, 0, 0);
#pragma unroll 8
        for (unsigned block = 0; block < blocks; block++) {
            add_weighted(sum, block_factors[row * MAX_SPLITS + block],
                __ldcg(reinterpret_cast<const float4*>(values + block * size)));
        }
        store_quad(args, unit, row, quad, sum, row_totals[row]);
    }
}

// ---- bf16, heads of a multiple of 8: tensor cores, so that the arithmetic hides behind the loads for any group
//
// Products are exact to about 2^-17: an operand a of f32 is two bf16, a = high + low, in rows r and r + 8 of the 16 that a matrix of
// mma has, so that both halves of a result are in one lane. Keys and values are operands as they lie in memory: the index that
// is summed over may be in any order, if it is the same in both operands, and so may columns of a result.

/// The words of high and low parts of two values.
DEVICE void split_bf16(float a, float b, uint32_t& high, uint32_t& low) {
    high = pack_bf16(a, b);
    const float2 rounded = unpack_bf16(high);
    low = pack_bf16(a - rounded.x, b - rounded.y);
}

DEVICE void multiply(float (&sum)[4], uint4 a, uint32_t b0, uint32_t b1) {
    const uint32_t words[4] = {a.x, a.y, a.z, a.w}, columns[2] = {b0, b1};
    mma_bf16(sum, words, columns);
}

DEVICE uint4 load_part(const bf16* part, bool inside) {
    return inside ? __ldcg(reinterpret_cast<const uint4*>(part)) : make_uint4(0, 0, 0, 0);
}

/// Heads of up to 64 · BLOCKS elements.
template <unsigned BLOCKS>
DEVICE void decode_on_tensor_cores(const AttentionArgs& args) {
    // Dynamic shared memory: queries as operands, [4 · BLOCKS products, lanes]; then sums of warps.
    DYNAMIC_SHARED(bytes);
    SHARED(float, maxima, WARPS * ROWS);
    SHARED(float, totals, WARPS * ROWS);
    constexpr unsigned STRIDE = 64 * BLOCKS + 4;
    uint4* const queries = reinterpret_cast<uint4*>(bytes);
    float* const sums = reinterpret_cast<float*>(bytes);
    grid_dependency_launch();
    grid_dependency_wait();
    const Unit unit = unit_of_block(args);
    const unsigned lane = lane_index(), warp = warp_index(), g = lane / 4, c = lane % 4, head_dim = args.head_dim;
    const unsigned position_of_token = __ldcg(args.position) + unit.token;

    // Lane c has the elements 8c .. 8c + 7 of each 32 of a head: words 0 and 1 of a key for the first product, 2 and 3 for the second.
    float4 q[BLOCKS];
#pragma unroll
    for (unsigned i = 0; i < BLOCKS; i++) {
        const unsigned product = warp + WARPS * i, dim = product / 2 * 32 + 8 * c + product % 2 * 4;
        const float* const row = args.q + (size_t(unit.token) * args.heads + unit.first_head + g) * head_dim;
        q[i] = g < unit.heads && dim < head_dim ? load_quad(row, dim, head_dim, args.aligned != 0) : make_float4(0, 0, 0, 0);
    }
    const Share share = share_of_block(args, position_of_token);
    if (blockIdx.x >= share.blocks) return;
#pragma unroll
    for (unsigned i = 0; i < BLOCKS; i++) {
        uint4 words;
        split_bf16(q[i].x, q[i].y, words.x, words.y);
        split_bf16(q[i].z, q[i].w, words.z, words.w);
        queries[(warp + WARPS * i) * WARP + lane] = words;
    }
    __syncthreads();

    const unsigned begin = share.positions.begin + 16 * warp, end = share.positions.end;
    const size_t first = (size_t(unit.kv_head) * args.capacity + begin) * head_dim, step = size_t(16 * WARPS) * head_dim;
    // Position g, elements 8c .. 8c + 7 of each 32.
    const bf16* next_keys = static_cast<const bf16*>(args.keys) + first + size_t(g) * head_dim + 8 * c;
    // Position 2c, elements 8g .. 8g + 7 of each 64.
    const bf16* next_values = static_cast<const bf16*>(args.values) + first + size_t(2 * c) * head_dim + 8 * g;
    // acc[b][j]: dimension 64b + 8n + j is column n.
    float acc[BLOCKS][8][4] = {};
    float maximum = -infinity(), total = 0;
    // Loads of keys for the next step, and of values for this one, are under way while scores are computed, as far as there
    // are registers for them.
    constexpr bool AHEAD = BLOCKS <= 2;
    uint4 key[2][2 * BLOCKS], value[4][BLOCKS];
    const auto load_keys = [&](unsigned position, unsigned b) {
#pragma unroll
        for (unsigned tile = 0; tile < 2; tile++) {
            const bool inside = position + 8 * tile + g < end && 32 * b + 8 * c < head_dim;
            key[tile][b] = load_part(next_keys + size_t(8 * tile) * head_dim + 32 * b, inside);
        }
    };
    // Positions 2c, 2c + 1, 2c + 8, 2c + 9.
    const auto load_values = [&](unsigned position, unsigned b) {
#pragma unroll
        for (unsigned i = 0; i < 4; i++) {
            const unsigned row = i % 2 + i / 2 * 8;
            const bool inside = position + 2 * c + row < end && 64 * b + 8 * g < head_dim;
            value[i][b] = load_part(next_values + size_t(row) * head_dim + 64 * b, inside);
        }
    };
    if constexpr (AHEAD) {
#pragma unroll
        for (unsigned b = 0; b < 2 * BLOCKS; b++) load_keys(begin, b);
    }
    for (unsigned position = begin; position < end; position += 16 * WARPS) {
        if constexpr (AHEAD) {
#pragma unroll
            for (unsigned b = 0; b < BLOCKS; b++) load_values(position, b);
        }
        float score[2][4] = {};
#pragma unroll
        for (unsigned b = 0; b < 2 * BLOCKS; b++) {
            if constexpr (!AHEAD) load_keys(position, b);
            const uint4 even = queries[2 * b * WARP + lane], odd = queries[(2 * b + 1) * WARP + lane];
#pragma unroll
            for (unsigned tile = 0; tile < 2; tile++) {
                multiply(score[tile], even, key[tile][b].x, key[tile][b].y);
                multiply(score[tile], odd, key[tile][b].z, key[tile][b].w);
            }
        }
        next_keys += step;
        if constexpr (AHEAD) {
#pragma unroll
            for (unsigned b = 0; b < 2 * BLOCKS; b++) load_keys(position + 16 * WARPS, b);
        }
        float scores[4], greatest = maximum;
#pragma unroll
        for (unsigned i = 0; i < 4; i++) {
            const unsigned tile = i / 2, column = i % 2;
            const bool inside = position + 8 * tile + 2 * c + column < end;
            scores[i] = inside ? attention_score(args, score[tile][column] + score[tile][column + 2]) : -infinity();
            greatest = fmaxf(greatest, scores[i]);
        }
        greatest = fmaxf(greatest, __shfl_xor_sync(ALL_LANES, greatest, 1));
        greatest = fmaxf(greatest, __shfl_xor_sync(ALL_LANES, greatest, 2));
        const float correction = attention_rescale(maximum, greatest);
        maximum = greatest;
#pragma unroll
        for (unsigned i = 0; i < 4; i++) scores[i] = attention_weight(scores[i], maximum);
        total = total * correction + ((scores[0] + scores[1]) + (scores[2] + scores[3]));
        uint4 weights;
        split_bf16(scores[0], scores[1], weights.x, weights.y);
        split_bf16(scores[2], scores[3], weights.z, weights.w);
#pragma unroll
        for (unsigned b = 0; b < BLOCKS; b++) {
            if constexpr (!AHEAD) load_values(position, b);
#pragma unroll
            for (unsigned j = 0; j < 8; j++) {
                uint32_t words[4];
#pragma unroll
                for (unsigned i = 0; i < 4; i++) {
                    const uint4 row = value[i][b];
                    words[i] = j / 2 == 0 ? row.x : j / 2 == 1 ? row.y : j / 2 == 2 ? row.z : row.w;
                    acc[b][j][i] *= correction;
                }
                const unsigned selector = j % 2 == 0 ? 0x5410 : 0x7632;
                multiply(acc[b][j], weights, __byte_perm(words[0], words[1], selector), __byte_perm(words[2], words[3], selector));
            }
        }
        next_values += step;
    }
    total += __shfl_xor_sync(ALL_LANES, total, 1);
    total += __shfl_xor_sync(ALL_LANES, total, 2);
    __syncthreads();
    if (c == 0) {
        maxima[warp * ROWS + g] = maximum;
        totals[warp * ROWS + g] = total;
    }
#pragma unroll
    for (unsigned b = 0; b < BLOCKS; b++) {
#pragma unroll
        for (unsigned column = 0; column < 2; column++) {
            float* const to = sums + (warp * ROWS + g) * STRIDE + 64 * b + 8 * (2 * c + column);
#pragma unroll
            for (unsigned j = 0; j < 8; j++) to[j] = acc[b][j][column] + acc[b][j][column + 2];
        }
    }
    finish_unit(args, unit, share.blocks, sums, STRIDE, maxima, totals);
}

KERNEL(attention_decode_bf16_64, AttentionArgs, 128, 2) { decode_on_tensor_cores<1>(args); }
KERNEL(attention_decode_bf16_128, AttentionArgs, 128, 2) { decode_on_tensor_cores<2>(args); }
KERNEL(attention_decode_bf16_256, AttentionArgs, 128, 2) { decode_on_tensor_cores<4>(args); }

// ---- f32, and bf16 with heads of any width: multiply-adds of f32; a lane has 4 elements of each 128

/// Adds up values, as many as lanes, over the lanes of a warp: lane l gets the sum of value l.
template <unsigned COUNT>
DEVICE float sum_transposed(const float (&values)[COUNT]) {
    if constexpr (COUNT == 1) {
        return values[0];
    } else {
        constexpr unsigned HALF = COUNT / 2;
        const bool upper = (lane_index() & HALF) != 0;
        float sums[HALF];
#pragma unroll
        for (unsigned i = 0; i < HALF; i++) {
            const float kept = upper ? values[i + HALF] : values[i], sent = upper ? values[i] : values[i + HALF];
            sums[i] = kept + __shfl_xor_sync(ALL_LANES, sent, int(HALF));
        }
        return sum_transposed(sums);
    }
}

/// Heads of up to 128 · QUADS elements; a multiple of 4, or not.
template <typename T, unsigned QUADS, bool ALIGNED>
DEVICE void decode_heads(const AttentionArgs& args) {
    // Dynamic shared memory: queries, [ROWS, 128 · QUADS]; then sums of warps.
    DYNAMIC_SHARED(bytes);
    SHARED(float, maxima, WARPS * ROWS);
    SHARED(float, totals, WARPS * ROWS);
    constexpr unsigned WIDTH = 128 * QUADS, STRIDE = WIDTH + 4, STEP = WARP / ROWS;
    float* const sums = reinterpret_cast<float*>(bytes);
    float4* const queries = reinterpret_cast<float4*>(bytes);
    grid_dependency_launch();
    grid_dependency_wait();
    const Unit unit = unit_of_block(args);
    const Share share = share_of_block(args, __ldcg(args.position) + unit.token);
    if (blockIdx.x >= share.blocks) return;
    const unsigned lane = lane_index(), warp = warp_index(), head_dim = args.head_dim;
    for (unsigned i = threadIdx.x; i < ROWS * WIDTH / 4; i += blockDim.x) {
        const unsigned row = i / (WIDTH / 4), quad = i % (WIDTH / 4);
        const float* const q = args.q + (size_t(unit.token) * args.heads + unit.first_head + row) * head_dim;
        queries[i] = row < unit.heads ? load_quad(q, 4 * quad, head_dim, args.aligned != 0) : make_float4(0, 0, 0, 0);
    }
    __syncthreads();

    const size_t first = size_t(unit.kv_head) * args.capacity * head_dim;
    const T* const keys = static_cast<const T*>(args.keys) + first;
    const T* const values = static_cast<const T*>(args.values) + first;
    const unsigned end = share.positions.end;
    float4 acc[ROWS][QUADS] = {};
    // Of row lane % ROWS; the total is of this lane's positions.
    float maximum = -infinity(), total = 0;
    const auto load = [&](const T* rows, unsigned position, unsigned quad) {
        if (position >= end) return make_float4(0, 0, 0, 0);
        return load_quad(rows + size_t(position) * head_dim, 128 * quad + 4 * lane, head_dim, ALIGNED);
    };
    for (unsigned position = share.positions.begin + STEP * warp; position < end; position += STEP * WARPS) {
        float4 value[STEP][QUADS];
        if constexpr (QUADS == 1) {
#pragma unroll
            for (unsigned i = 0; i < STEP; i++) value[i][0] = load(values, position + i, 0);
        }
        float dots[WARP] = {};
#pragma unroll
        for (unsigned quad = 0; quad < QUADS; quad++) {
            float4 key[STEP];
#pragma unroll
            for (unsigned i = 0; i < STEP; i++) key[i] = load(keys, position + i, quad);
#pragma unroll
            for (unsigned row = 0; row < ROWS; row++) {
                const float4 q = queries[row * (WIDTH / 4) + 32 * quad + lane];
#pragma unroll
                for (unsigned i = 0; i < STEP; i++) {
                    float& dot = dots[i * ROWS + row];
                    dot += q.x * key[i].x;
                    dot += q.y * key[i].y;
                    dot += q.z * key[i].z;
                    dot += q.w * key[i].w;
                }
            }
        }
        const float dot = sum_transposed(dots);
        if constexpr (QUADS > 1) {
#pragma unroll
            for (unsigned i = 0; i < STEP; i++) {
#pragma unroll
                for (unsigned quad = 0; quad < QUADS; quad++) value[i][quad] = load(values, position + i, quad);
            }
        }
        const float score = position + lane / ROWS < end ? attention_score(args, dot) : -infinity();
        float greatest = fmaxf(maximum, score);
        greatest = fmaxf(greatest, __shfl_xor_sync(ALL_LANES, greatest, 8));
        greatest = fmaxf(greatest, __shfl_xor_sync(ALL_LANES, greatest, 16));
        const float correction = attention_rescale(maximum, greatest);
        maximum = greatest;
        const float weight = attention_weight(score, maximum);
        total = total * correction + weight;
#pragma unroll
        for (unsigned row = 0; row < ROWS; row++) {
            const float factor = __shfl_sync(ALL_LANES, correction, int(row));
#pragma unroll
            for (unsigned quad = 0; quad < QUADS; quad++) {
                float4& sum = acc[row][quad];
                sum = make_float4(sum.x * factor, sum.y * factor, sum.z * factor, sum.w * factor);
            }
#pragma unroll
            for (unsigned i = 0; i < STEP; i++) {
                const float factor = __shfl_sync(ALL_LANES, weight, int(i * ROWS + row));
#pragma unroll
                for (unsigned quad = 0; quad < QUADS; quad++) add_weighted(acc[row][quad], factor, value[i][quad]);
            }
        }
    }
    total += __shfl_xor_sync(ALL_LANES, total, 8);
    total += __shfl_xor_sync(ALL_LANES, total, 16);
    __syncthreads();
    if (lane < ROWS) {
        maxima[warp * ROWS + lane] = maximum;
        totals[warp * ROWS + lane] = total;
    }
#pragma unroll
    for (unsigned row = 0; row < ROWS; row++) {
#pragma unroll
        for (unsigned quad = 0; quad < QUADS; quad++) {
            *reinterpret_cast<float4*>(sums + (warp * ROWS + row) * STRIDE + 128 * quad + 4 * lane) = acc[row][quad];
        }
    }
    finish_unit(args, unit, share.blocks, sums, STRIDE, maxima, totals);
}

template <typename T, unsigned QUADS>
DEVICE void decode(const AttentionArgs& args) {
    if (args.head_dim % 4 == 0) decode_heads<T, QUADS, true>(args);
    else decode_heads<T, QUADS, false>(args);
}

KERNEL(attention_decode_f32_128, AttentionArgs, 128, 2) { decode<float, 1>(args); }
KERNEL(attention_decode_f32_256, AttentionArgs, 128, 2) { decode<float, 2>(args); }
KERNEL(attention_decode_f32_512, AttentionArgs, 128, 2) { decode<float, 4>(args); }
KERNEL(attention_decode_any_bf16_128, AttentionArgs, 128, 2) { decode<bf16, 1>(args); }
KERNEL(attention_decode_any_bf16_256, AttentionArgs, 128, 2) { decode<bf16, 2>(args); }
KERNEL(attention_decode_any_bf16_512, AttentionArgs, 128, 2) { decode<bf16, 4>(args); }
