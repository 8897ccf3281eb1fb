// Attention of many tokens, in one pass over their keys and values (Dao 2023, "FlashAttention-2", arXiv:2307.08691).
//
// Rows of a block are pairs of a token and a query head that share a key/value head, token first: what is read of the cache
// serves all of them. Grid: [tiles of rows, key/value heads]; the last rows, which see most, start first. The position of the
// first token is read when the kernel runs. Positions that no row of the block sees are not read; those that some row does not
// see are masked in the tiles at the edges, where also their values count as absent, NaN or not.
#include "attention.cuh"

constexpr unsigned KEYS = 64;
constexpr unsigned THREADS = 128;

/// Where a block is in the positions.
struct Tiles {
    unsigned rows, first_row, kv_head, past;
    /// That some row sees, and that all rows see.
    Positions some, all;
};

DEVICE unsigned token_of(const AttentionArgs& args, const Tiles& tiles, unsigned row) {
    return min(row, tiles.rows - 1) / args.group;
}

DEVICE Tiles tiles_of_block(const AttentionArgs& args, unsigned block_rows) {
    Tiles tiles;
    tiles.rows = args.tokens * args.group;
    tiles.first_row = (gridDim.x - 1 - blockIdx.x) * block_rows;
    tiles.kv_head = blockIdx.y;
    tiles.past = __ldcg(args.position);
    const Positions first = visible_positions(args, tiles.past + token_of(args, tiles, tiles.first_row));
    const Positions last = visible_positions(args, tiles.past + token_of(args, tiles, tiles.first_row + block_rows - 1));
    tiles.some = {first.begin, last.end};
    tiles.all = {last.begin, first.end};
    return tiles;
}
DEVICE Positions visible_to_row(const AttentionArgs& args, const Tiles& tiles, unsigned row) {
    return visible_positions(args, tiles.past + token_of(args, tiles, row));
}
DEVICE bool is_edge(const Tiles& tiles, unsigned tile) { return tile < tiles.all.begin || tile + KEYS > tiles.all.end; }
DEVICE bool contains(Positions positions, unsigned position) { return position >= positions.begin && position < positions.end; }
/// Query head of a row.
DEVICE unsigned head_of(const AttentionArgs& args, const Tiles& tiles, unsigned row) {
    return tiles.kv_head * args.group + row % args.group;
}
/// First element of a row in q and out.
DEVICE size_t row_start(const AttentionArgs& args, const Tiles& tiles, unsigned row) {
    return (size_t(row / args.group) * args.heads + head_of(args, tiles, row)) * args.head_dim;
}
/// What scores are taken relative to: anything where there is none yet.
DEVICE float finite_or_zero(float maximum) { return maximum == -infinity() ? 0.0f : maximum; }

// ---- bf16 on tensor cores
//
// q and the weights of values are rounded to bf16, a relative error of 2^-9 each; sums, the softmax and its total are f32, with
// scores in units of log 2. Four
// warps with 16 rows each; 64 positions at a time, keys and values in a buffer each, one of which is filled while the other is
// used. Rows of buffers are 16 bytes longer than they have to be: ldmatrix then meets all banks. Two blocks on a multiprocessor:
// at most 255 registers.

constexpr unsigned QUERIES = 64;

template <unsigned WIDTH>
DEVICE void copy_tile(uint16_t* shared, const uint16_t* rows, unsigned tile, unsigned end, unsigned head_dim) {
    constexpr unsigned CHUNKS = WIDTH / 8;
#pragma unroll
    for (unsigned i = 0; i < KEYS * CHUNKS / THREADS; i++) {
        const unsigned index = threadIdx.x + i * THREADS, row = index / CHUNKS, dim = index % CHUNKS * 8;
        const bool inside = tile + row < end && dim < head_dim;
        const uint16_t* const from = inside ? rows + size_t(tile + row) * head_dim + dim : rows;
        copy_async<16>(shared + row * (WIDTH + 8) + dim, from, inside ? 16 : 0);
    }
}

DEVICE bool has_not_finite(uint32_t word) { return (word & 0x7f80u) == 0x7f80u || (word & 0x7f800000u) == 0x7f800000u; }
DEVICE bool is_not_finite(uint16_t value) { return (value & 0x7f80u) == 0x7f80u; }

/// Values of an edge tile that are not finite make NaN what sees them, here, and are 0 for the product, which would bring them
/// to rows that do not.
template <unsigned WIDTH>
DEVICE void settle_not_finite(uint16_t* values, unsigned tile, const Positions (&visible)[2], float (&acc)[WIDTH / 8][4]) {
    constexpr unsigned STRIDE = WIDTH + 8;
    uint32_t* const words = reinterpret_cast<uint32_t*>(values);
    bool found = false;
    for (unsigned i = threadIdx.x; i < KEYS * WIDTH / 2; i += THREADS) {
        found |= has_not_finite(words[i / (WIDTH / 2) * (STRIDE / 2) + i % (WIDTH / 2)]);
    }
    if (!__syncthreads_or(found)) return;
    const unsigned c = lane_index() % 4;
#pragma unroll 1
    for (unsigned key = 0; key < KEYS; key++) {
#pragma unroll
        for (unsigned n = 0; n < WIDTH / 8; n++) {
#pragma unroll
            for (unsigned i = 0; i < 4; i++) {
                const bool seen = contains(visible[i / 2], tile + key);
                if (seen && is_not_finite(values[key * STRIDE + 8 * n + 2 * c + i % 2])) acc[n][i] = __uint_as_float(0x7fffffffu);
            }
        }
    }
    __syncthreads();
    for (unsigned i = threadIdx.x; i < KEYS * WIDTH; i += THREADS) {
        uint16_t& value = values[i / WIDTH * STRIDE + i % WIDTH];
        if (is_not_finite(value)) value = 0;
    }
    __syncthreads();
}

/// Heads of up to WIDTH elements, a multiple of 8.
template <unsigned WIDTH>
DEVICE void prefill_on_tensor_cores(const AttentionArgs& args) {
    constexpr unsigned STRIDE = WIDTH + 8, STEPS = WIDTH / 16;
    // Operands of queries stay in registers where there are enough.
    constexpr bool KEEP = WIDTH <= 128;
    // Dynamic shared memory, rows of STRIDE: QUERIES queries, KEYS keys, KEYS values.
    DYNAMIC_SHARED(bytes);
    uint16_t* const queries = reinterpret_cast<uint16_t*>(bytes);
    uint16_t* const keys = queries + QUERIES * STRIDE;
    uint16_t* const values = keys + KEYS * STRIDE;
    grid_dependency_launch();
    grid_dependency_wait();
    const Tiles tiles = tiles_of_block(args, QUERIES);
    const unsigned lane = lane_index(), warp = warp_index(), g = lane / 4, c = lane % 4, head_dim = args.head_dim;
    const size_t first = size_t(tiles.kv_head) * args.capacity * head_dim;
    const uint16_t* const all_keys = static_cast<const uint16_t*>(args.keys) + first;
    const uint16_t* const all_values = static_cast<const uint16_t*>(args.values) + first;
    copy_tile<WIDTH>(keys, all_keys, tiles.some.begin, tiles.some.end, head_dim);
    copy_async_commit();
    for (unsigned i = threadIdx.x; i < QUERIES * WIDTH / 4; i += THREADS) {
        const unsigned row = i / (WIDTH / 4), dim = i % (WIDTH / 4) * 4;
        float4 q = make_float4(0, 0, 0, 0);
        if (tiles.first_row + row < tiles.rows) {
            q = load_quad(args.q + row_start(args, tiles, tiles.first_row + row), dim, head_dim, args.aligned != 0);
        }
        *reinterpret_cast<uint2*>(queries + row * STRIDE + dim) = make_uint2(pack_bf16(q.x, q.y), pack_bf16(q.z, q.w));
    }
    __syncthreads();
    const uint16_t* const query = queries + (16 * warp + lane % 16) * STRIDE + lane / 16 * 8;
    const uint16_t* const key = keys + (lane / 16 * 8 + lane % 8) * STRIDE + lane / 8 % 2 * 8;
    const uint16_t* const value = values + lane % 16 * STRIDE + lane / 16 * 8;
    uint32_t q[KEEP ? STEPS : 1][4];
    if constexpr (KEEP) {
#pragma unroll
        for (unsigned step = 0; step < STEPS; step++) load_matrix_x4(q[step], query + 16 * step);
    }

    // Rows g and g + 8 of the warp.
    Positions visible[2];
    float maximum[2], total[2];
#pragma unroll
    for (unsigned half = 0; half < 2; half++) {
        visible[half] = visible_to_row(args, tiles, tiles.first_row + 16 * warp + g + 8 * half);
        maximum[half] = -infinity();
        total[half] = 0;
    }
    float acc[WIDTH / 8][4] = {};
    for (unsigned tile = tiles.some.begin; tile < tiles.some.end; tile += KEYS) {
        copy_async_wait<0>();
        __syncthreads();
        copy_tile<WIDTH>(values, all_values, tile, tiles.some.end, head_dim);
        copy_async_commit();
        float score[KEYS / 8][4] = {};
#pragma unroll
        for (unsigned step = 0; step < STEPS; step++) {
            uint32_t operand[4];
            if constexpr (!KEEP) load_matrix_x4(operand, query + 16 * step);
#pragma unroll
            for (unsigned n = 0; n < KEYS / 8; n += 2) {
                uint32_t k[4];
                load_matrix_x4(k, key + 8 * n * STRIDE + 16 * step);
                const uint32_t even[2] = {k[0], k[1]}, odd[2] = {k[2], k[3]};
                if constexpr (KEEP) {
                    mma_bf16(score[n], q[step], even);
                    mma_bf16(score[n + 1], q[step], odd);
                } else {
                    mma_bf16(score[n], operand, even);
                    mma_bf16(score[n + 1], operand, odd);
                }
            }
        }
        __syncthreads();
        if (tile + KEYS < tiles.some.end) copy_tile<WIDTH>(keys, all_keys, tile + KEYS, tiles.some.end, head_dim);
        copy_async_commit();

        const bool edge = is_edge(tiles, tile);
        if (args.softcap == 0) {
#pragma unroll
            for (unsigned i = 0; i < KEYS / 2; i++) score[i / 4][i % 4] *= args.scale * LOG2_E;
        } else {
#pragma unroll
            for (unsigned i = 0; i < KEYS / 2; i++) score[i / 4][i % 4] = attention_score(args, score[i / 4][i % 4]) * LOG2_E;
        }
        if (edge) {
#pragma unroll
            for (unsigned i = 0; i < KEYS / 2; i++) {
                if (!contains(visible[i % 4 / 2], tile + i / 4 * 8 + 2 * c + i % 2)) score[i / 4][i % 4] = -infinity();
            }
        }
        float greatest[2] = {maximum[0], maximum[1]}, correction[2];
#pragma unroll
        for (unsigned i = 0; i < KEYS / 2; i++) greatest[i % 4 / 2] = fmaxf(greatest[i % 4 / 2], score[i / 4][i % 4]);
#pragma unroll
        for (unsigned half = 0; half < 2; half++) {
            greatest[half] = fmaxf(greatest[half], __shfl_xor_sync(ALL_LANES, greatest[half], 1));
            greatest[half] = fmaxf(greatest[half], __shfl_xor_sync(ALL_LANES, greatest[half], 2));
            correction[half] = maximum[half] == -infinity() ? 0.0f : exp2f(maximum[half] - greatest[half]);
            maximum[half] = greatest[half];
            total[half] *= correction[half];
            greatest[half] = finite_or_zero(greatest[half]);
        }
#pragma unroll
        for (unsigned i = 0; i < KEYS / 2; i++) {
            float& weight = score[i / 4][i % 4];
            weight = exp2f(weight - greatest[i % 4 / 2]);
            total[i % 4 / 2] += weight;
        }
#pragma unroll
        for (unsigned n = 0; n < WIDTH / 8; n++) {
#pragma unroll
            for (unsigned i = 0; i < 4; i++) acc[n][i] *= correction[i / 2];
        }
        copy_async_wait<1>();
        __syncthreads();
        if (edge) settle_not_finite<WIDTH>(values, tile, visible, acc);
#pragma unroll
        for (unsigned step = 0; step < KEYS / 16; step++) {
            const float(&low)[4] = score[2 * step], (&high)[4] = score[2 * step + 1];
            const uint32_t weights[4] = {pack_bf16(low[0], low[1]), pack_bf16(low[2], low[3]), pack_bf16(high[0], high[1]),
                pack_bf16(high[2], high[3])};
#pragma unroll
            for (unsigned n = 0; n < WIDTH / 8; n += 2) {
                uint32_t v[4];
                load_matrix_x4_transposed(v, value + 16 * step * STRIDE + 8 * n);
                const uint32_t even[2] = {v[0], v[1]}, odd[2] = {v[2], v[3]};
                mma_bf16(acc[n], weights, even);
                mma_bf16(acc[n + 1], weights, odd);
            }
        }
    }
#pragma unroll
    for (unsigned half = 0; half < 2; half++) {
        total[half] += __shfl_xor_sync(ALL_LANES, total[half], 1);
        total[half] += __shfl_xor_sync(ALL_LANES, total[half], 2);
    }
#pragma unroll
    for (unsigned half = 0; half < 2; half++) {
        const unsigned row = tiles.first_row + 16 * warp + g + 8 * half;
        if (row >= tiles.rows) continue;
        const float factor = attention_factor(args, head_of(args, tiles, row), maximum[half] / LOG2_E, total[half]);
        const size_t start = row_start(args, tiles, row);
#pragma unroll
        for (unsigned n = 0; n < WIDTH / 8; n++) {
            const unsigned dim = 8 * n + 2 * c;
            if (dim >= head_dim) continue;
            store_attention(args, start + dim, acc[n][2 * half] * factor);
            store_attention(args, start + dim + 1, acc[n][2 * half + 1] * factor);
        }
    }
    copy_async_wait<0>();
}

KERNEL(attention_prefill_bf16_64, AttentionArgs, 128, 2) { prefill_on_tensor_cores<64>(args); }
KERNEL(attention_prefill_bf16_96, AttentionArgs, 128, 2) { prefill_on_tensor_cores<96>(args); }
KERNEL(attention_prefill_bf16_128, AttentionArgs, 128, 2) { prefill_on_tensor_cores<128>(args); }
KERNEL(attention_prefill_bf16_256, AttentionArgs, 128, 2) { prefill_on_tensor_cores<256>(args); }

// ---- f32, and bf16 with heads of any width: multiply-adds of f32
//
// 8 × 16 threads; each has ROWS rows, in products with keys 4 positions, in products with weights 4 elements of each 64 of a head.
// Keys and values pass through two buffers of 64 positions × 64 elements, one of which is filled while the other is used. The limit
// is shared memory: 12 loads of 16 bytes for 128 multiply-adds where ROWS is 8.

/// In the place of a weight: the row does not see the position.
constexpr uint32_t UNSEEN = 0x80000000u;
constexpr unsigned CHUNK = 64;
constexpr unsigned PITCH = CHUNK + 4;

/// Elements dim .. dim + 63 of 64 positions, 0 behind the ends.
DEVICE void copy_chunk(float* shared, const float* rows, unsigned tile, unsigned end, unsigned dim, unsigned head_dim) {
    const bool aligned = head_dim % 4 == 0;
    for (unsigned i = threadIdx.x; i < KEYS * CHUNK / 4; i += THREADS) {
        const unsigned row = i / (CHUNK / 4), column = i % (CHUNK / 4) * 4;
        float* const to = shared + row * PITCH + column;
        const float* const from = rows + size_t(tile + row) * head_dim + dim + column;
        const unsigned left = tile + row < end && dim + column < head_dim ? min(4u, head_dim - dim - column) : 0;
        if (aligned) {
            copy_async<16>(to, left != 0 ? from : rows, int(4 * left));
        } else {
            for (unsigned j = 0; j < 4; j++) copy_async<4>(to + j, j < left ? from + j : rows, j < left ? 4 : 0);
        }
    }
}
DEVICE void copy_chunk(float* shared, const bf16* rows, unsigned tile, unsigned end, unsigned dim, unsigned head_dim) {
    for (unsigned i = threadIdx.x; i < KEYS * CHUNK / 4; i += THREADS) {
        const unsigned row = i / (CHUNK / 4), column = i % (CHUNK / 4) * 4;
        const bool inside = tile + row < end;
        *reinterpret_cast<float4*>(shared + row * PITCH + column) =
            inside ? load_quad(rows + size_t(tile + row) * head_dim, dim + column, head_dim, head_dim % 4 == 0)
                : make_float4(0, 0, 0, 0);
    }
}

DEVICE float part(float4 quad, unsigned i) { return i == 0 ? quad.x : i == 1 ? quad.y : i == 2 ? quad.z : quad.w; }

/// Heads of up to 64 · CHUNKS elements; 8 · ROWS rows.
template <typename T, unsigned CHUNKS, unsigned ROWS>
DEVICE void prefill(const AttentionArgs& args) {
    constexpr unsigned WIDTH = CHUNKS * CHUNK, STRIDE = WIDTH + 4, BLOCK_ROWS = 8 * ROWS;
    // Dynamic shared memory: queries [BLOCK_ROWS, STRIDE], two buffers [KEYS, PITCH], weights [BLOCK_ROWS, PITCH].
    DYNAMIC_SHARED(bytes);
    float* const queries = reinterpret_cast<float*>(bytes);
    float* const buffers = queries + BLOCK_ROWS * STRIDE;
    float* const weights = buffers + 2 * KEYS * PITCH;
    grid_dependency_launch();
    grid_dependency_wait();
    const Tiles tiles = tiles_of_block(args, BLOCK_ROWS);
    const unsigned head_dim = args.head_dim, end = tiles.some.end;
    const size_t first = size_t(tiles.kv_head) * args.capacity * head_dim;
    const T* const keys = static_cast<const T*>(args.keys) + first;
    const T* const values = static_cast<const T*>(args.values) + first;
    copy_chunk(buffers, keys, tiles.some.begin, end, 0, head_dim);
    copy_async_commit();
    for (unsigned i = threadIdx.x; i < BLOCK_ROWS * WIDTH / 4; i += THREADS) {
        const unsigned row = i / (WIDTH / 4), dim = i % (WIDTH / 4) * 4;
        float4 q = make_float4(0, 0, 0, 0);
        if (tiles.first_row + row < tiles.rows) {
            q = load_quad(args.q + row_start(args, tiles, tiles.first_row + row), dim, head_dim, args.aligned != 0);
        }
        *reinterpret_cast<float4*>(queries + row * STRIDE + dim) = q;
    }

    const unsigned column = threadIdx.x % 16, block_row = threadIdx.x / 16 * ROWS;
    Positions visible[ROWS];
    float maximum[ROWS], total[ROWS];
#pragma unroll
    for (unsigned row = 0; row < ROWS; row++) {
        visible[row] = visible_to_row(args, tiles, tiles.first_row + block_row + row);
        maximum[row] = -infinity();
        total[row] = 0;
    }
    float4 acc[CHUNKS][ROWS] = {};
    for (unsigned tile = tiles.some.begin; tile < end; tile += KEYS) {
        const bool edge = is_edge(tiles, tile);
        float score[ROWS][4] = {};
#pragma unroll
        for (unsigned chunk = 0; chunk < 2 * CHUNKS; chunk++) {
            copy_async_wait<0>();
            __syncthreads();
            const float* const buffer = buffers + chunk % 2 * KEYS * PITCH;
            float* const next = buffers + (chunk + 1) % 2 * KEYS * PITCH;
            if (chunk + 1 < CHUNKS) copy_chunk(next, keys, tile, end, (chunk + 1) * CHUNK, head_dim);
            else if (chunk + 1 < 2 * CHUNKS) copy_chunk(next, values, tile, end, (chunk + 1 - CHUNKS) * CHUNK, head_dim);
            else if (tile + KEYS < end) copy_chunk(next, keys, tile + KEYS, end, 0, head_dim);
            copy_async_commit();
            if (chunk < CHUNKS) {
#pragma unroll 4
                for (unsigned dim = 0; dim < CHUNK; dim += 4) {
                    float4 key[4];
#pragma unroll
                    for (unsigned j = 0; j < 4; j++) {
                        key[j] = *reinterpret_cast<const float4*>(buffer + (column + 16 * j) * PITCH + dim);
                    }
#pragma unroll
                    for (unsigned row = 0; row < ROWS; row++) {
                        const float4 q =
                            *reinterpret_cast<const float4*>(queries + (block_row + row) * STRIDE + chunk * CHUNK + dim);
#pragma unroll
                        for (unsigned j = 0; j < 4; j++) {
                            score[row][j] += q.x * key[j].x;
                            score[row][j] += q.y * key[j].y;
                            score[row][j] += q.z * key[j].z;
                            score[row][j] += q.w * key[j].w;
                        }
                    }
                }
            } else {
                float4(&sum)[ROWS] = acc[chunk - CHUNKS];
#pragma unroll 2
                for (unsigned key = 0; key < KEYS; key += 4) {
                    float4 value[4];
#pragma unroll
                    for (unsigned j = 0; j < 4; j++) {
                        value[j] = *reinterpret_cast<const float4*>(buffer + (key + j) * PITCH + 4 * column);
                    }
#pragma unroll
                    for (unsigned row = 0; row < ROWS; row++) {
                        const float4 weight = *reinterpret_cast<const float4*>(weights + (block_row + row) * PITCH + key);
#pragma unroll
                        for (unsigned j = 0; j < 4; j++) {
                            if (!edge || __float_as_uint(part(weight, j)) != UNSEEN) {
                                add_weighted(sum[row], part(weight, j), value[j]);
                            }
                        }
                    }
                }
            }
            if (chunk != CHUNKS - 1) continue;
#pragma unroll
            for (unsigned row = 0; row < ROWS; row++) {
                float greatest = maximum[row];
#pragma unroll
                for (unsigned j = 0; j < 4; j++) {
                    score[row][j] = attention_score(args, score[row][j]);
                    if (edge && !contains(visible[row], tile + column + 16 * j)) score[row][j] = -infinity();
                    greatest = fmaxf(greatest, score[row][j]);
                }
#pragma unroll
                for (unsigned distance = 8; distance > 0; distance /= 2) {
                    greatest = fmaxf(greatest, __shfl_xor_sync(ALL_LANES, greatest, int(distance)));
                }
                const float correction = attention_rescale(maximum[row], greatest);
                maximum[row] = greatest;
                total[row] *= correction;
#pragma unroll
                for (unsigned part = 0; part < CHUNKS; part++) {
                    float4& sum = acc[part][row];
                    sum = make_float4(sum.x * correction, sum.y * correction, sum.z * correction, sum.w * correction);
                }
#pragma unroll
                for (unsigned j = 0; j < 4; j++) {
                    const bool unseen = edge && !contains(visible[row], tile + column + 16 * j);
                    const float weight = attention_weight(score[row][j], finite_or_zero(greatest));
                    if (!unseen) total[row] += weight;
                    weights[(block_row + row) * PITCH + column + 16 * j] = unseen ? __uint_as_float(UNSEEN) : weight;
                }
            }
        }
    }
#pragma unroll
    for (unsigned row = 0; row < ROWS; row++) {
        for (unsigned distance = 8; distance > 0; distance /= 2) {
            total[row] += __shfl_xor_sync(ALL_LANES, total[row], int(distance));
        }
    }
#pragma unroll
    for (unsigned row = 0; row < ROWS; row++) {
        const unsigned index = tiles.first_row + block_row + row;
        if (index >= tiles.rows) continue;
        const float factor = attention_factor(args, head_of(args, tiles, index), maximum[row], total[row]);
        const size_t start = row_start(args, tiles, index);
#pragma unroll
        for (unsigned chunk = 0; chunk < CHUNKS; chunk++) {
#pragma unroll
            for (unsigned i = 0; i < 4; i++) {
                const unsigned dim = chunk * CHUNK + 4 * column + i;
                if (dim < head_dim) store_attention(args, start + dim, part(acc[chunk][row], i) * factor);
            }
        }
    }
    copy_async_wait<0>();
}

KERNEL(attention_prefill_f32_64, AttentionArgs, 128, 2) { prefill<float, 1, 8>(args); }
KERNEL(attention_prefill_f32_128, AttentionArgs, 128, 2) { prefill<float, 2, 8>(args); }
KERNEL(attention_prefill_f32_256, AttentionArgs, 128, 2) { prefill<float, 4, 4>(args); }
KERNEL(attention_prefill_f32_512, AttentionArgs, 128, 2) { prefill<float, 8, 2>(args); }
KERNEL(attention_prefill_any_bf16_64, AttentionArgs, 128, 2) { prefill<bf16, 1, 8>(args); }
KERNEL(attention_prefill_any_bf16_128, AttentionArgs, 128, 2) { prefill<bf16, 2, 8>(args); }
KERNEL(attention_prefill_any_bf16_256, AttentionArgs, 128, 2) { prefill<bf16, 4, 4>(args); }
KERNEL(attention_prefill_any_bf16_512, AttentionArgs, 128, 2) { prefill<bf16, 8, 2>(args); }
