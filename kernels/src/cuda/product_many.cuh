// Products of many rows: what `product_many.cu` and `product_int8.cu` share. Weights are the rows of an mma, rows of x its columns.
//
// A block computes SLOTS row tiles of the weights times `tokens` rows of x. It takes 128 columns at a time, a stage, from a ring in
// shared memory that copies without registers keep full: so the bytes in flight are those of the ring, and do not depend on
// how many warps there are. Tiles of codes lie there as in device memory, a lane's 16 bytes side by side. Rows of x, and of
// bf16 weights, lie in panels of 128 bytes a row, whose 16-byte chunks are permuted so that the lanes of a load meet no bank twice:
// lane c of a row owns the columns c·8 .. c·8 + 7 of a block of 32, in both operands, which permutes the sum over columns only.
//
// Sums leave through shared memory, which the ring has done with, so that a warp writes 32 neighbours and each thread knows its
// weight row, bias and scale once.
#pragma once

#include "finish.cuh"
#include "matrix.cuh"

/// Row tiles of weights of a block.
constexpr unsigned SLOTS = 8;
constexpr unsigned SLOT_ROWS = SLOTS * TILE_ROWS;
/// Columns of a stage, and of a step of it.
constexpr unsigned STAGE = 128;
constexpr unsigned STEP = 32;
constexpr unsigned STEPS = STAGE / STEP;
/// Bytes of a row in a panel, and of a chunk of it.
constexpr unsigned PANEL = 128;
constexpr unsigned CHUNK = 16;
/// Floats of a row of x when sums leave: four banks on from the row before.
constexpr unsigned SUMS_STRIDE = SLOT_ROWS + 4;

struct ManyPart {
    Matrix weight;
    const float* bias;
    /// [rows, weight.rows]
    float* out;
};

struct ManyArgs {
    ManyPart parts[4];
    Finish finish;
    /// Rows of bf16 or int8, `x_bytes` each, a multiple of 16; what is past the columns of the weights is zero.
    const uint8_t* x;
    /// [rows], of int8.
    const float* row_scales;
    /// [splits][rows][width]: where sums go of which each block has a part only; f32 with their scales, or int32.
    void* partial;
    uint32_t x_bytes, rows;
    uint32_t part_count;
    /// Blocks of SLOTS along weights, and along rows of x; one after another in `x` of the grid. Splits are `y`.
    uint32_t slot_blocks, token_blocks;
    /// Of the columns, of a split, and of the ring: 2 to 4.
    uint32_t stages, split_stages, ring_stages;
    /// Weight rows of all parts.
    uint32_t width;
    /// For `finish_sums`: splits, and the weight row of column 0 of `partial` in each part.
    uint32_t splits, first;
};

/// Blocks along rows of x that share their weights in L2.
constexpr unsigned RASTER = 16;

/// A row tile of one of the parts.
struct Slot {
    unsigned part, tile;
};

/// Parts one after another; of gates and values the tiles take turns, so that the rows of a pair are in one warp's.
DEVICE Slot slot_at(const ManyArgs& args, unsigned slot) {
    if (args.finish.gated != 0) return {slot % 2, slot / 2};
    unsigned part = 0;
    for (; part + 1 < args.part_count; part++) {
        const unsigned tiles = (args.parts[part].weight.rows + TILE_ROWS - 1) / TILE_ROWS;
        if (slot < tiles) break;
        slot -= tiles;
    }
    return {part, slot};
}

/// As slot_at; past the last tile it is the last, whose sums are not written then.
DEVICE Slot existing_slot_at(const ManyArgs& args, unsigned slot) {
    const Slot found = slot_at(args, slot);
    return {found.part, min(found.tile, (args.parts[found.part].weight.rows - 1) / TILE_ROWS)};
}

/// Which part of the product a block computes.
struct Place {
    unsigned first_slot, first_token, first_stage, end_stage;
};

/// Blocks that run at a time share what they read: RASTER blocks along x for each block of weights.
DEVICE Place place_of_block(const ManyArgs& args, unsigned tokens) {
    const unsigned group = blockIdx.x / (RASTER * args.slot_blocks), first = group * RASTER;
    const unsigned across = min(RASTER, args.token_blocks - first), rest = blockIdx.x - first * args.slot_blocks;
    const unsigned first_stage = blockIdx.y * args.split_stages;
    return {rest / across * SLOTS, (first + rest % across) * tokens, min(first_stage, args.stages),
            min(first_stage + args.split_stages, args.stages)};
}

template <unsigned x_bytes>
DEVICE unsigned swizzled(unsigned row, unsigned chunk) {
    // A load takes 8 · x_bytes bytes a lane: 4 lanes a row, so 4 or 2 rows a wavefront of 128 bytes.
    return x_bytes == 1 ? chunk ^ row % 4 * 2 : chunk ^ row % 2 * 4;
}

/// The ring: copies from device memory.
template <unsigned warps, unsigned tokens, unsigned x_bytes, unsigned slot_bytes, bool weights_in_rows>
struct Ring {
    static constexpr unsigned THREADS = warps * WARP;
    static constexpr unsigned WEIGHT_BYTES = SLOTS * slot_bytes;
    static constexpr unsigned STAGE_BYTES = WEIGHT_BYTES + tokens * x_bytes * PANEL;
    /// Slots that a warp copies, and copies of a thread for weights and for x.
    static constexpr unsigned WARP_SLOTS = SLOTS / warps;
    static constexpr unsigned SLOT_COPIES = slot_bytes / (WARP * CHUNK);
    static constexpr unsigned WEIGHT_COPIES = WARP_SLOTS * SLOT_COPIES;
    static constexpr unsigned ROW_CHUNKS = x_bytes * PANEL / CHUNK;
    static constexpr unsigned ROWS_AT_ONCE = THREADS / ROW_CHUNKS;
    static constexpr unsigned ROW_COPIES = tokens / ROWS_AT_ONCE;
    static_assert(SLOTS % warps == 0 && tokens % ROWS_AT_ONCE == 0 && THREADS % ROW_CHUNKS == 0, "copies are shared out evenly");

    const ManyArgs& args;
    char* shared;
    Place place;
    const uint8_t* slots[WARP_SLOTS];
    /// Bytes of a row tile of codes, or of a row of bf16; and up to where the stages of the block go, there and in rows of x.
    unsigned weight_bytes, weight_end, row_end;

    DEVICE Ring(const ManyArgs& args, char* shared, const Place& place) : args(args), shared(shared), place(place) {
        constexpr unsigned stage_bytes = weights_in_rows ? slot_bytes / TILE_ROWS : slot_bytes;
        weight_bytes = args.parts[0].weight.padded_cols / STEP * (stage_bytes / STEPS);
        weight_end = min(weight_bytes, place.end_stage * stage_bytes);
        row_end = min(args.x_bytes, place.end_stage * (x_bytes * PANEL));
        const size_t tile_bytes = size_t(weight_bytes) * (weights_in_rows ? TILE_ROWS : 1);
#pragma unroll
        for (unsigned i = 0; i < WARP_SLOTS; i++) {
            const Slot slot = existing_slot_at(args, place.first_slot + warp_index() * WARP_SLOTS + i);
            slots[i] = args.parts[slot.part].weight.codes + slot.tile * tile_bytes;
        }
    }

    DEVICE char* stage_at(unsigned position) const { return shared + position * STAGE_BYTES; }

    /// Copies first to end of the WEIGHT_COPIES of a stage; past the last column or stage they are zeros.
    DEVICE void copy_weights(char* to, unsigned stage, unsigned first, unsigned end) const {
#pragma unroll
        for (unsigned i = first; i < end; i++) {
            const unsigned own = i / SLOT_COPIES, chunk = i % SLOT_COPIES * WARP + lane_index();
            char* const slot = to + (warp_index() * WARP_SLOTS + own) * slot_bytes;
            if constexpr (weights_in_rows) {
                constexpr unsigned chunks = slot_bytes / TILE_ROWS / CHUNK;
                const unsigned row = chunk / chunks, panel = chunk % chunks / 8, column = chunk % 8;
                const unsigned from = stage * (chunks * CHUNK) + chunk % chunks * CHUNK;
                char* const target = slot + panel * (TILE_ROWS * PANEL) + row * PANEL + swizzled<2>(row, column) * CHUNK;
                copy_async<CHUNK>(target, slots[own] + size_t(row) * weight_bytes + from, from < weight_end ? CHUNK : 0);
            } else {
                const unsigned from = stage * slot_bytes + chunk * CHUNK;
                copy_async<CHUNK>(slot + chunk * CHUNK, slots[own] + from, from < weight_end ? CHUNK : 0);
            }
        }
    }

    /// Copies first to end of the ROW_COPIES of a stage. Rows past the last are the last again, columns zero.
    DEVICE void copy_rows(char* to, unsigned stage, unsigned first, unsigned end) const {
        const unsigned rest = threadIdx.x % ROW_CHUNKS, from = stage * (x_bytes * PANEL) + rest * CHUNK;
#pragma unroll
        for (unsigned i = first; i < end; i++) {
            const unsigned token = threadIdx.x / ROW_CHUNKS + i * ROWS_AT_ONCE;
            const size_t row = min(place.first_token + token, args.rows - 1);
            char* const target = to + WEIGHT_BYTES + rest / 8 * (tokens * PANEL) + token * PANEL +
                                 swizzled<x_bytes>(token, rest % 8) * CHUNK;
            copy_async<CHUNK>(target, args.x + row * args.x_bytes + from, from < row_end ? CHUNK : 0);
        }
    }

    /// Waits until the next stage is there: later ones, ring_stages - 2 of them, may be under way.
    DEVICE void wait() const {
        if (args.ring_stages == 4) {
            copy_async_wait<2>();
        } else if (args.ring_stages == 3) {
            copy_async_wait<1>();
        } else {
            copy_async_wait<0>();
        }
        __syncthreads();
    }
};

/// Runs the stages of a block through the ring, each in Math::PARTS parts: `math.load(weights, rows, part)` takes the fragments of
/// a part to registers, `math.multiply(part)` uses them. Those of a part are loaded before the part before it is multiplied,
/// also those of the first part of a stage.
template <typename Ring, typename Math>
DEVICE void run_stages(const ManyArgs& args, const Ring& ring, Math& math) {
    constexpr unsigned parts = Math::PARTS;
    const unsigned ahead = args.ring_stages - 1;
    const unsigned first = ring.place.first_stage, end = ring.place.end_stage;
    if (first == end) {
        grid_dependency_wait();
        grid_dependency_launch();
        return;
    }
    // Weights do not depend on the launch before.
    for (unsigned i = 0; i < ahead; i++) {
        ring.copy_weights(ring.stage_at(i), first + i, 0, Ring::WEIGHT_COPIES);
    }
    grid_dependency_wait();
    grid_dependency_launch();
    for (unsigned i = 0; i < ahead; i++) {
        ring.copy_rows(ring.stage_at(i), first + i, 0, Ring::ROW_COPIES);
        copy_async_commit();
    }
    math.begin();
    ring.wait();
    unsigned position = 0, last = ahead;
    math.load(ring.stage_at(0), ring.stage_at(0) + Ring::WEIGHT_BYTES, 0);
    for (unsigned stage = first; stage < end; stage++) {
        const unsigned later = stage + ahead, next = position + 1 == args.ring_stages ? 0 : position + 1;
#pragma unroll
        for (unsigned part = 0; part < parts; part++) {
            ring.copy_weights(ring.stage_at(last), later, part * Ring::WEIGHT_COPIES / parts,
                              (part + 1) * Ring::WEIGHT_COPIES / parts);
            ring.copy_rows(ring.stage_at(last), later, part * Ring::ROW_COPIES / parts,
                           (part + 1) * Ring::ROW_COPIES / parts);
            const bool is_last = part == parts - 1;
            if (is_last) {
                // From here on no warp reads this stage, and the next one is there.
                copy_async_commit();
                ring.wait();
            }
            // After the last stage this is one that nobody asked for, and that nobody uses.
            const char* const weights = ring.stage_at(is_last ? next : position);
            math.load(weights, weights + Ring::WEIGHT_BYTES, (part + 1) % parts);
            math.multiply(part);
        }
        last = position;
        position = next;
    }
    math.end();
    copy_async_wait<0>();
}

// ---- what becomes of sums

/// Sums of integers have their scales still to come.
template <typename Sum>
constexpr bool IS_INTEGER = false;
template <>
constexpr bool IS_INTEGER<int> = true;

/// A weight row.
struct Channel {
    unsigned part, row;
    bool exists;
    float bias;
    /// Of int8.
    float scale;
};

DEVICE Channel channel_at(const ManyArgs& args, unsigned part, unsigned row, bool is_scaled) {
    const ManyPart& source = args.parts[part];
    Channel channel = {part, row, row < source.weight.rows, 0.0f, 0.0f};
    if (!channel.exists) return channel;
    if (source.bias != nullptr) channel.bias = source.bias[row];
    if (is_scaled) channel.scale = read_scale(source.weight.scales, source.weight.scale_dtype, scaling_index(source.weight, row, 0));
    return channel;
}

/// The sum with its scales and its bias.
DEVICE float product_of(const ManyArgs& args, const Channel& channel, unsigned, float sum) {
    return args.parts[channel.part].bias == nullptr ? sum : __fadd_rn(sum, channel.bias);
}
DEVICE float product_of(const ManyArgs& args, const Channel& channel, unsigned token, int sum) {
    const float product = __fmul_rn(__fmul_rn(__int2float_rn(sum), args.row_scales[token]), channel.scale);
    return product_of(args, channel, token, product);
}

DEVICE void write_product(const ManyArgs& args, const Channel& channel, unsigned token, float product) {
    const ManyPart& part = args.parts[channel.part];
    const size_t at = size_t(token) * part.weight.rows + channel.row;
    finish_one(args.finish, part.out, at, product);
}

/// First column of a part in `partial`.
DEVICE unsigned first_column(const ManyArgs& args, unsigned part) {
    unsigned column = 0;
    for (unsigned i = 0; i < part; i++) column += args.parts[i].weight.rows;
    return column;
}

/// Writes the sums of a block, which lie in shared memory, SUMS_STRIDE for each of its `tokens` rows of x.
template <unsigned threads, typename Sum>
DEVICE void write_sums(const ManyArgs& args, const Place& place, unsigned tokens, const Sum* sums) {
    const unsigned count = min(tokens, args.rows - place.first_token);
    constexpr bool is_scaled = IS_INTEGER<Sum>;
    if (args.partial == nullptr && args.finish.gated != 0) {
        constexpr unsigned pairs = SLOT_ROWS / 2;
        const unsigned pair = threadIdx.x % pairs, at = pair / TILE_ROWS * (2 * TILE_ROWS) + pair % TILE_ROWS;
        const unsigned row = place.first_slot / 2 * TILE_ROWS + pair;
        const Channel gate = channel_at(args, 0, row, is_scaled), value = channel_at(args, 1, row, is_scaled);
        if (!gate.exists) return;
#pragma unroll 1
        for (unsigned i = threadIdx.x / pairs; i < count; i += threads / pairs) {
            const unsigned token = place.first_token + i;
            const Sum* const pair_sums = sums + i * SUMS_STRIDE + at;
            finish_gated(args.finish, size_t(token) * args.parts[0].weight.rows + row, product_of(args, gate, token, pair_sums[0]),
                         product_of(args, value, token, pair_sums[TILE_ROWS]));
        }
        return;
    }
    const unsigned at = threadIdx.x % SLOT_ROWS;
    const Slot slot = slot_at(args, place.first_slot + at / TILE_ROWS);
    const Channel channel = channel_at(args, slot.part, slot.tile * TILE_ROWS + at % TILE_ROWS, is_scaled);
    if (!channel.exists) return;
    Sum* const partial = static_cast<Sum*>(args.partial) + first_column(args, slot.part) + channel.row;
#pragma unroll 4
    for (unsigned i = threadIdx.x / SLOT_ROWS; i < count; i += threads / SLOT_ROWS) {
        const unsigned token = place.first_token + i;
        const Sum sum = sums[i * SUMS_STRIDE + at];
        if (args.partial != nullptr) {
            partial[(size_t(blockIdx.y) * args.rows + token) * args.width] = sum;
        } else {
            write_product(args, channel, token, product_of(args, channel, token, sum));
        }
    }
}

/// Adds the splits of `partial` in their order and finishes: a thread for a column, blocks of `y` take turns with rows of x.
/// Columns of a gate lie before those of its value.
template <typename Sum>
DEVICE void finish_sums(const ManyArgs& args) {
    grid_dependency_wait();
    grid_dependency_launch();
    constexpr bool is_scaled = IS_INTEGER<Sum>;
    const bool is_gated = args.finish.gated != 0;
    const unsigned second = args.width / 2, columns = is_gated ? second : args.width;
    const unsigned column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= columns) return;
    unsigned part = 0, row = column;
    if (!is_gated) {
        while (part + 1 < args.part_count && row >= args.parts[part].weight.rows) row -= args.parts[part++].weight.rows;
    }
    const Channel channel = channel_at(args, part, args.first + row, is_scaled);
    const Channel value = is_gated ? channel_at(args, 1, args.first + row, is_scaled) : channel;
    if (!channel.exists) return;
    const size_t split_stride = size_t(args.rows) * args.width;
    const auto sum_at = [&](unsigned token, unsigned at) {
        const Sum* const sums = static_cast<const Sum*>(args.partial) + size_t(token) * args.width + at;
        Sum sum = sums[0];
        for (unsigned split = 1; split < args.splits; split++) sum += sums[split * split_stride];
        return sum;
    };
    for (unsigned token = blockIdx.y; token < args.rows; token += gridDim.y) {
        const float product = product_of(args, channel, token, sum_at(token, column));
        if (is_gated) {
            const float other = product_of(args, value, token, sum_at(token, second + column));
            finish_gated(args.finish, size_t(token) * args.parts[0].weight.rows + channel.row, product, other);
        } else {
            write_product(args, channel, token, product);
        }
    }
}
