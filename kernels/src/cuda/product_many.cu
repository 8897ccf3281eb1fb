// Products of many rows in bf16: weights of int4, int8 and bf16, decoded in registers, times rows of x; sums in f32.
//
// A warp computes 2 row tiles of weights times 32 or 64 rows of x. A step is 32 columns of them: two mma for each 16 × 8 sums.
// For 64 rows of x and a step of a warp, of the multiprocessor's four schedulers each at one warp:
//
//   mma               32, of about 6.5 cycles each where mma.sync has about 60 % of what the tensor cores of a Hopper GPU can
//   decoding           4 words of int4 a lane: 7 instructions to pairs, 4 to take off zero points: 44; of int8 about twice
//   shared memory      8 loads of 16 bytes a lane for x (32 wavefronts), 4 (int4), 8 (int8) or 16 (bf16) wavefronts of weights:
//                      up to 48 × 4 schedulers of the 208 cycles of the mma
//   device memory      a block of 128 × 128 takes 64 (int4) + 256 bytes for each column, 2 · 128 · 128 operations: about 100 for
//                      each byte, more than L2 asks for up to 500 TFLOP/s
//
// So blocks of 128 rows of x are bound by the tensor cores, those of 32 by the memory that weights lie in: then 3 blocks a
// multiprocessor have 3 × 48 KiB under way. Where weights have fewer blocks than there are multiprocessors, columns are split and
// `product_finish` adds the parts, in their order.
//
// Scales of groups are applied to f32 sums of the group: codes less zero points are exact in bf16.
#include "product_many.cuh"

/// Weights of a step as bf16: of row g and of row g + 8, columns c·8 .. c·8 + 7 as four pairs.
struct Pairs {
    uint32_t low[4], high[4];
};

constexpr uint32_t ONES = 0x3f803f80u;

DEVICE void subtract(uint32_t (&pairs)[4], uint32_t negative) {
#pragma unroll
    for (int i = 0; i < 4; i++) pairs[i] = fma_bf16x2(pairs[i], ONES, negative);
}

/// Twice -value in bf16, of an integer up to 256.
DEVICE uint32_t negative_pair(int value) {
    const float negative = float(-value);
    return pack_bf16(negative, negative);
}

template <int row_tiles>
struct Int4Weights {
    static constexpr unsigned SLOT_BYTES = TILE_ROWS * STAGE / 2;
    static constexpr bool IN_ROWS = false, HAS_SCALES = true;
    /// Of two steps: a lane's 16 bytes are 64 columns.
    uint4 words[row_tiles];

    DEVICE void load(const char* slots, unsigned step) {
        if (step % 2 != 0) return;
#pragma unroll
        for (int i = 0; i < row_tiles; i++) {
            const char* const tile = slots + i * SLOT_BYTES + step / 2 * (WARP * CHUNK);
            words[i] = *reinterpret_cast<const uint4*>(tile + lane_index() * CHUNK);
        }
    }
    static DEVICE uint32_t negative(int zero_point) { return negative_pair(128 + zero_point); }
    DEVICE Pairs pairs(int i, unsigned step, uint32_t low, uint32_t high) const {
        Pairs pairs;
        int4_pairs(pairs.low, step % 2 == 0 ? words[i].x : words[i].z);
        int4_pairs(pairs.high, step % 2 == 0 ? words[i].y : words[i].w);
        subtract(pairs.low, low);
        subtract(pairs.high, high);
        return pairs;
    }
};

template <int row_tiles>
struct Int8Weights {
    static constexpr unsigned SLOT_BYTES = TILE_ROWS * STAGE;
    static constexpr bool IN_ROWS = false, HAS_SCALES = true;
    uint4 words[row_tiles];

    DEVICE void load(const char* slots, unsigned step) {
#pragma unroll
        for (int i = 0; i < row_tiles; i++) {
            const char* const tile = slots + i * SLOT_BYTES + step * (WARP * CHUNK);
            words[i] = *reinterpret_cast<const uint4*>(tile + lane_index() * CHUNK);
        }
    }
    static DEVICE uint32_t negative(int zero_point) { return negative_pair(int8_t(zero_point)); }
    DEVICE Pairs pairs(int i, unsigned, uint32_t low, uint32_t high) const {
        Pairs pairs;
        decode(pairs.low, words[i].x, words[i].y, low);
        decode(pairs.high, words[i].z, words[i].w, high);
        return pairs;
    }
    static DEVICE void decode(uint32_t (&pairs)[4], uint32_t first, uint32_t second, uint32_t negative) {
        uint32_t halves[2][2];
        int8_pairs(halves[0], first);
        int8_pairs(halves[1], second);
#pragma unroll
        for (int k = 0; k < 4; k++) pairs[k] = halves[k / 2][k % 2];
        subtract(pairs, negative);
    }
};

template <int row_tiles>
struct Bf16Weights {
    static constexpr unsigned SLOT_BYTES = TILE_ROWS * STAGE * 2;
    static constexpr bool IN_ROWS = true, HAS_SCALES = false;
    uint4 words[row_tiles][2];

    DEVICE void load(const char* slots, unsigned step) {
        const unsigned g = lane_index() / 4, chunk = swizzled<2>(g, step % 2 * 4 + lane_index() % 4);
#pragma unroll
        for (int i = 0; i < row_tiles; i++) {
            const char* const panel = slots + i * SLOT_BYTES + step / 2 * (TILE_ROWS * PANEL) + chunk * CHUNK;
            words[i][0] = *reinterpret_cast<const uint4*>(panel + g * PANEL);
            words[i][1] = *reinterpret_cast<const uint4*>(panel + (g + 8) * PANEL);
        }
    }
    DEVICE Pairs pairs(int i, unsigned, uint32_t, uint32_t) const {
        const uint4 low = words[i][0], high = words[i][1];
        return {{low.x, low.y, low.z, low.w}, {high.x, high.y, high.z, high.w}};
    }
};

/// Scales and zero points of a group, of row g and row g + 8, as they lie in memory: nothing waits for them until the group begins.
struct Scaling {
    uint32_t scale_words[2];
    int zero_points[2];
};

/// `row_tiles` × 16 weight rows times `row_octets` × 8 rows of x. A part is a step of half of these rows: so what is loaded ahead
/// takes half of the registers.
template <typename Weights, int row_tiles, int row_octets>
struct Bf16Math {
    static constexpr unsigned PARTS = 2 * STEPS;
    static constexpr int HALF = row_octets / 2;
    const ManyArgs& args;
    Slot slots[row_tiles];
    /// Of the warp: its first slot in the ring, its first row of x in the block's `tokens`.
    unsigned first_slot, first_row, tokens;
    Weights weights;
    Pairs pairs[row_tiles];
    uint4 rows[2][HALF];
    float sums[row_tiles][row_octets][4];
    float totals[row_tiles][row_octets][4];
    Scaling next[row_tiles];
    float scales[row_tiles][2];
    /// Less zero points, and less what codes are above themselves as pairs.
    uint32_t negatives[row_tiles][2];
    /// Of the group of `next`; steps left of the one before; steps of a group.
    unsigned group, left, group_steps;

    DEVICE Bf16Math(const ManyArgs& args, const Place& place, unsigned first_slot, unsigned first_row, unsigned tokens)
        : args(args), first_slot(first_slot), first_row(first_row), tokens(tokens) {
#pragma unroll
        for (int i = 0; i < row_tiles; i++) {
            slots[i] = existing_slot_at(args, place.first_slot + first_slot + i);
#pragma unroll
            for (int j = 0; j < row_octets; j++) {
#pragma unroll
                for (int k = 0; k < 4; k++) sums[i][j][k] = totals[i][j][k] = 0;
            }
        }
        if constexpr (Weights::HAS_SCALES) {
            const Matrix& matrix = args.parts[0].weight;
            const unsigned first = place.first_stage * STEPS;
            group_steps = matrix.groups == 1 ? 0xffffffffu : matrix.group / STEP;
            group = first / group_steps;
            left = group_steps - first % group_steps;
        }
    }

    /// Asks for the scales of `group`; past the last one, where sums are zero, for those of the last.
    DEVICE void take_next() {
        const bool is_half = args.parts[0].weight.scale_dtype != 0;
#pragma unroll
        for (int i = 0; i < row_tiles; i++) {
            const Matrix& matrix = args.parts[slots[i].part].weight;
            const size_t index = scaling_index(matrix, slots[i].tile * TILE_ROWS + lane_index() / 4, min(group, matrix.groups - 1));
#pragma unroll
            for (int k = 0; k < 2; k++) {
                const size_t at = index + k * 8, word = is_half ? at / 2 : at;
                next[i].scale_words[k] = reinterpret_cast<const uint32_t*>(matrix.scales)[word];
                next[i].zero_points[k] = matrix.zero_point;
                if (matrix.zero_points != nullptr) next[i].zero_points[k] = matrix.zero_points[at];
            }
        }
        group++;
    }

    /// The group of `next` begins; that after it is under way meanwhile.
    DEVICE void begin_group() {
        const uint32_t dtype = args.parts[0].weight.scale_dtype;
        const bool is_odd = lane_index() / 4 % 2 != 0;
#pragma unroll
        for (int i = 0; i < row_tiles; i++) {
#pragma unroll
            for (int k = 0; k < 2; k++) {
                const uint32_t word = next[i].scale_words[k], half = is_odd ? word >> 16 : word & 0xffffu;
                const float of_half = dtype == 1 ? to_float(f16{uint16_t(half)}) : to_float(bf16{uint16_t(half)});
                scales[i][k] = dtype == 0 ? __uint_as_float(word) : of_half;
                negatives[i][k] = Weights::negative(next[i].zero_points[k]);
            }
        }
        take_next();
    }

    DEVICE void end_group() {
#pragma unroll
        for (int i = 0; i < row_tiles; i++) {
#pragma unroll
            for (int j = 0; j < row_octets; j++) {
#pragma unroll
                for (int k = 0; k < 4; k++) {
                    totals[i][j][k] = __fmaf_rn(sums[i][j][k], scales[i][k / 2], totals[i][j][k]);
                    sums[i][j][k] = 0;
                }
            }
        }
    }

    DEVICE void begin() {
        if constexpr (Weights::HAS_SCALES) {
            take_next();
            begin_group();
        }
    }

    DEVICE void load(const char* stage_weights, const char* stage_rows, unsigned part) {
        const unsigned step = part / 2, half = part % 2;
        if (half == 0) weights.load(stage_weights + first_slot * Weights::SLOT_BYTES, step);
        const unsigned g = lane_index() / 4, chunk = swizzled<2>(g, step % 2 * 4 + lane_index() % 4);
        const char* const panel = stage_rows + step / 2 * (tokens * PANEL) + (first_row + g) * PANEL + chunk * CHUNK;
#pragma unroll
        for (int j = 0; j < HALF; j++) {
            rows[half][j] = *reinterpret_cast<const uint4*>(panel + (half * HALF + j) * (8 * PANEL));
        }
    }

    DEVICE void multiply(unsigned part) {
        const unsigned step = part / 2, half = part % 2;
#pragma unroll
        for (int i = 0; i < row_tiles; i++) {
            if (half == 0) pairs[i] = weights.pairs(i, step, negatives[i][0], negatives[i][1]);
#pragma unroll
            for (int k = 0; k < 4; k += 2) {
                const uint32_t a[4] = {pairs[i].low[k], pairs[i].high[k], pairs[i].low[k + 1], pairs[i].high[k + 1]};
#pragma unroll
                for (int j = 0; j < HALF; j++) {
                    const uint4 row = rows[half][j];
                    const uint32_t b[2] = {k == 0 ? row.x : row.z, k == 0 ? row.y : row.w};
                    mma_bf16(sums[i][half * HALF + j], a, b);
                }
            }
        }
        if constexpr (Weights::HAS_SCALES) {
            if (half == 1 && --left == 0) {
                end_group();
                begin_group();
                left = group_steps;
            }
        }
    }

    DEVICE void end() {
        if constexpr (Weights::HAS_SCALES) end_group();
    }

    DEVICE float total(int i, int j, int k) const { return Weights::HAS_SCALES ? totals[i][j][k] : sums[i][j][k]; }
};

/// Warps along weights × along x, each of 2 row tiles × 8 · row_octets rows.
template <template <int> class WeightsOf, unsigned warps_down, unsigned warps_across, int row_octets>
DEVICE void product(const ManyArgs& args, char* shared) {
    constexpr int row_tiles = SLOTS / warps_down;
    constexpr unsigned warps = warps_down * warps_across, tokens = warps_across * row_octets * 8;
    using Weights = WeightsOf<row_tiles>;
    using Copies = Ring<warps, tokens, 2, Weights::SLOT_BYTES, Weights::IN_ROWS>;
    const Place place = place_of_block(args, tokens);
    const unsigned down = warp_index() % warps_down, across = warp_index() / warps_down;
    const Copies ring(args, shared, place);
    Bf16Math<Weights, row_tiles, row_octets> math(args, place, down * row_tiles, across * row_octets * 8, tokens);
    run_stages(args, ring, math);
    __syncthreads();
    float* const sums = reinterpret_cast<float*>(shared);
    const unsigned g = lane_index() / 4, c = lane_index() % 4;
#pragma unroll
    for (int i = 0; i < row_tiles; i++) {
#pragma unroll
        for (int j = 0; j < row_octets; j++) {
#pragma unroll
            for (int k = 0; k < 4; k++) {
                const unsigned token = (across * row_octets + j) * 8 + 2 * c + k % 2;
                sums[token * SUMS_STRIDE + (down * row_tiles + i) * TILE_ROWS + g + k / 2 * 8] = math.total(i, j, k);
            }
        }
    }
    __syncthreads();
    write_sums<warps * WARP>(args, place, tokens, sums);
}

#define PRODUCT(name, Weights, down, across, octets, blocks)            \
    KERNEL(name, ManyArgs, down * across * 32, blocks) {                \
        DYNAMIC_SHARED(shared);                                         \
        product<Weights, down, across, octets>(args, shared);           \
    }

PRODUCT(product_int4_32, Int4Weights, 4, 1, 4, 3)
PRODUCT(product_int4_64, Int4Weights, 4, 1, 8, 2)
PRODUCT(product_int4_128, Int4Weights, 4, 2, 8, 1)
PRODUCT(product_int8_weights_32, Int8Weights, 4, 1, 4, 2)
PRODUCT(product_int8_weights_64, Int8Weights, 4, 1, 8, 2)
PRODUCT(product_int8_weights_128, Int8Weights, 4, 2, 8, 1)
PRODUCT(product_bf16_32, Bf16Weights, 4, 1, 4, 2)
PRODUCT(product_bf16_64, Bf16Weights, 4, 1, 8, 2)
PRODUCT(product_bf16_128, Bf16Weights, 4, 2, 8, 1)

KERNEL(product_finish, ManyArgs, 256) { finish_sums<float>(args); }

struct DecodeArgs {
    Matrix weight;
    /// [count, padded_cols]
    uint16_t* out;
    /// A multiple of 16.
    uint32_t first;
    uint32_t count;
};

/// Eight elements, rounded to bf16.
DEVICE uint4 scaled(const uint32_t (&pairs)[4], float scale) {
    uint32_t words[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float2 pair = unpack_bf16(pairs[i]);
        words[i] = pack_bf16(pair.x * scale, pair.y * scale);
    }
    return make_uint4(words[0], words[1], words[2], words[3]);
}

/// Rows of a matrix in bf16, rounded, whose columns are a multiple of 8; what pads columns is 0. A warp takes a tile of 512 bytes of
/// codes, of `steps` · 32 columns, and writes 64 neighbouring bytes of a row at a time.
template <typename Weights, unsigned steps>
DEVICE void decode(const DecodeArgs& args) {
    const Matrix& matrix = args.weight;
    const unsigned column_tiles = matrix.padded_cols / (steps * STEP);
    const unsigned number = blockIdx.x * (blockDim.x / WARP) + warp_index();
    const unsigned first = number / column_tiles * TILE_ROWS, column = number % column_tiles * (steps * STEP);
    const unsigned g = lane_index() / 4, c = lane_index() % 4;
    const bool is_there = first < args.count;
    Weights weights;
    float scales[steps][2];
    uint32_t negatives[steps][2];
    if (is_there) {
        const size_t tile = size_t((args.first + first) / TILE_ROWS) * column_tiles + number % column_tiles;
        weights.words[0] = load_streaming(reinterpret_cast<const uint4*>(matrix.codes + tile * (WARP * CHUNK)) + lane_index());
#pragma unroll
        for (unsigned step = 0; step < steps; step++) {
            const unsigned group = matrix.groups == 1 ? 0 : min((column + step * STEP) / matrix.group, matrix.groups - 1);
            const size_t index = scaling_index(matrix, args.first + first + g, group);
#pragma unroll
            for (unsigned k = 0; k < 2; k++) {
                scales[step][k] = read_scale(matrix.scales, matrix.scale_dtype, index + 8 * k);
                negatives[step][k] = Weights::negative(zero_point_at(matrix, index + 8 * k));
            }
        }
    }
    // The launches before may read still what was written here last.
    grid_dependency_wait();
    grid_dependency_launch();
    if (!is_there) return;
#pragma unroll
    for (unsigned step = 0; step < steps; step++) {
        const unsigned at = column + step * STEP + c * 8;
        const Pairs pairs = weights.pairs(0, step, negatives[step][0], negatives[step][1]);
#pragma unroll
        for (unsigned k = 0; k < 2; k++) {
            const unsigned row = first + g + 8 * k;
            if (row >= args.count) continue;
            const uint4 octet = scaled(k == 0 ? pairs.low : pairs.high, scales[step][k]);
            uint4* const target = reinterpret_cast<uint4*>(args.out + size_t(row) * matrix.padded_cols + at);
            *target = at < matrix.cols ? octet : make_uint4(0, 0, 0, 0);
        }
    }
}

KERNEL(decode_int4, DecodeArgs, 256) { decode<Int4Weights<1>, 2>(args); }
KERNEL(decode_int8, DecodeArgs, 256) { decode<Int8Weights<1>, 1>(args); }

struct PadArgs {
    const uint8_t* x;
    uint32_t* out;
    uint32_t rows, row_bytes;
    /// A multiple of 16.
    uint32_t padded_bytes;
};

/// Rows of `row_bytes` bytes at any address, to rows that are aligned to 16 and end with zeros.
KERNEL(pad_rows, PadArgs, 256) {
    grid_dependency_wait();
    grid_dependency_launch();
    const unsigned row_words = args.padded_bytes / 4;
    const size_t words = size_t(args.rows) * row_words;
    for (size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x; i < words; i += size_t(gridDim.x) * blockDim.x) {
        const size_t row = i / row_words;
        const unsigned first = unsigned(i % row_words) * 4;
        uint32_t word = 0;
#pragma unroll
        for (unsigned byte = 0; byte < 4; byte++) {
            if (first + byte < args.row_bytes) word |= uint32_t(args.x[row * args.row_bytes + first + byte]) << (8 * byte);
        }
        args.out[i] = word;
    }
}
