// Products with the weights of chosen experts. Which experts is known on the device only.
//
// A *pair* is a row and one of its choices. Few pairs are multiplied one by one, each with the weight of its expert. More of them
// are sorted by expert first, and cut into blocks of rows of one expert; then a weight is read once for each block, the later
// times from L2.
#include "few.cuh"
#include "tiles.cuh"

/// Where an expert lies.
struct Expert {
    const uint8_t* codes;
    const uint8_t* scales;
    const uint8_t* zero_points;
    const float* bias;
};

/// Pairs of one expert: elements `first` .. `first + count` of the order.
struct RowBlock {
    uint32_t expert;
    uint32_t first;
    uint32_t count;
};

/// Pairs `first` .. `first + count` of an order, or without one those of these numbers. `sharing` pairs have one row of x.
struct PairRows {
    uint32_t count;
    uint32_t first;
    const uint32_t* order;
    uint32_t sharing;
    DEVICE size_t out_row(unsigned i) const { return order == nullptr ? first + i : order[first + i]; }
    DEVICE size_t x_row(unsigned i) const { return out_row(i) / sharing; }
};

// ---- sorting

struct SortArgs {
    /// `[pairs]`
    const uint32_t* choice;
    /// Pairs of each expert, and where the next one goes: `[experts]` each.
    uint32_t* counts;
    uint32_t* next;
    /// `[pairs]`
    uint32_t* order;
    /// As many as there can be; those that are not needed have no pairs.
    RowBlock* blocks;
    /// `[pairs, outputs]`: NaN goes to pairs whose choice is no expert.
    float* out;
    uint32_t pairs;
    uint32_t experts;
    uint32_t outputs;
    uint32_t block_count;
    /// Pairs of a block at most.
    uint32_t block_rows;
};

/// The sum of `value` over the threads before this one. `scratch`: 32 values.
DEVICE uint32_t sum_before(uint32_t value, uint32_t* scratch) {
    uint32_t sum = value;
#pragma unroll
    for (unsigned distance = 1; distance < WARP; distance *= 2) {
        const uint32_t other = __shfl_up_sync(ALL_LANES, sum, distance);
        if (lane_index() >= distance) sum += other;
    }
    if (lane_index() == WARP - 1) scratch[warp_index()] = sum;
    __syncthreads();
    uint32_t before = sum - value;
    for (unsigned warp = 0; warp < warp_index(); warp++) before += scratch[warp];
    __syncthreads();
    return before;
}

/// One block. The order of the pairs of an expert may differ from run to run: no result depends on it.
KERNEL(sort_pairs, SortArgs, 1024) {
    SHARED(uint32_t, scratch, 32);
    grid_dependency_launch();
    grid_dependency_wait();
    for (unsigned i = threadIdx.x; i < args.experts; i += blockDim.x) args.counts[i] = 0;
    for (unsigned i = threadIdx.x; i < args.block_count; i += blockDim.x) args.blocks[i] = {0, 0, 0};
    __syncthreads();
    for (unsigned pair = threadIdx.x; pair < args.pairs; pair += blockDim.x) {
        const uint32_t expert = args.choice[pair];
        if (expert < args.experts) {
            atomicAdd(&args.counts[expert], 1u);
        } else {
            float* out = args.out + size_t(pair) * args.outputs;
            for (unsigned i = 0; i < args.outputs; i++) out[i] = __uint_as_float(0x7fffffffu);
        }
    }
    __syncthreads();
    const unsigned each = (args.experts + blockDim.x - 1) / blockDim.x;
    const unsigned begin = min(threadIdx.x * each, args.experts), end = min(begin + each, args.experts);
    uint32_t pairs = 0, blocks = 0;
    for (unsigned i = begin; i < end; i++) {
        pairs += args.counts[i];
        blocks += (args.counts[i] + args.block_rows - 1) / args.block_rows;
    }
    uint32_t pair = sum_before(pairs, scratch), block = sum_before(blocks, scratch);
    for (unsigned i = begin; i < end; i++) {
        args.next[i] = pair;
        for (uint32_t first = 0; first < args.counts[i]; first += args.block_rows) {
            args.blocks[block++] = {i, pair + first, min(args.counts[i] - first, args.block_rows)};
        }
        pair += args.counts[i];
    }
    __syncthreads();
    for (unsigned i = threadIdx.x; i < args.pairs; i += blockDim.x) {
        const uint32_t expert = args.choice[i];
        if (expert < args.experts) args.order[atomicAdd(&args.next[expert], 1u)] = i;
    }
}

// ---- products

/// Which pairs a block has, and of which expert.
struct PairArgs {
    const Expert* experts;
    /// `[pairs]`, of products of single pairs; else null.
    const uint32_t* choice;
    const uint32_t* order;
    const RowBlock* blocks;
    uint32_t expert_count;
    uint32_t sharing;
};

/// Finds the pairs of block y of the grid; where there are none to multiply, false.
DEVICE bool find_pairs(const PairArgs& args, float* out, uint32_t outputs, PairRows& rows, Expert& expert) {
    RowBlock block = {0, blockIdx.y, 1};
    if (args.choice == nullptr) {
        block = args.blocks[blockIdx.y];
        if (block.count == 0) return false;
    } else {
        block.expert = args.choice[blockIdx.y];
        if (block.expert >= args.expert_count) {
            for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < outputs; i += gridDim.x * blockDim.x) {
                out[size_t(blockIdx.y) * outputs + i] = __uint_as_float(0x7fffffffu);
            }
            return false;
        }
    }
    rows = {block.count, block.first, args.order, args.sharing};
    expert = args.experts[block.expert];
    return true;
}

struct FewExpertsArgs {
    /// The only part has the format and shape of all experts, and where results go, `[pairs, outputs]`.
    FewArgs few;
    PairArgs pairs;
};

template <typename Weights>
struct ExpertTiles {
    const Matrix& like;
    FewWeight weight;
    DEVICE FewTile find(unsigned unit, unsigned) const { return few_tile<Weights>(weight, like, unit); }
};

/// Along x row tiles, along y blocks of pairs. Nothing can be asked for before it is known which expert.
#define FEW_EXPERTS(name, Weights, Product, blocks)                                                                \
    KERNEL(name, FewExpertsArgs, 256, blocks) {                                                                    \
        grid_dependency_wait();                                                                                    \
        const Matrix& like = args.few.parts[0].weight;                                                             \
        float* const out = args.few.parts[0].out;                                                                  \
        PairRows rows;                                                                                             \
        Expert expert;                                                                                             \
        if (!find_pairs(args.pairs, out, like.rows, rows, expert)) return;                                         \
        const FewWeight weight = {expert.codes, expert.scales, expert.zero_points, expert.bias, out};              \
        few_rows<Weights, Product>(args.few, ExpertTiles<Weights>{like, weight}, rows);                            \
    }

FEW_EXPERTS(experts_bf16_int4_32, Int4Weights<1>, Bf16Product<1>, 3)
FEW_EXPERTS(experts_bf16_int4_64, Int4Weights<2>, Bf16Product<1>, 3)
FEW_EXPERTS(experts_bf16_int4_128, Int4Weights<4>, Bf16Product<1>, 3)
FEW_EXPERTS(experts_bf16_int8_32, Int8Weights<1>, Bf16Product<1>, 3)
FEW_EXPERTS(experts_bf16_int8_64, Int8Weights<2>, Bf16Product<1>, 3)
FEW_EXPERTS(experts_bf16_bf16, Bf16Weights, Bf16Product<1>, 3)
FEW_EXPERTS(experts_int8, Int8Weights<2>, Int8Product<1>, 3)
FEW_EXPERTS(experts_f32_int4, Int4Weights<1>, RealProduct<4>, 2)
FEW_EXPERTS(experts_f32_int8, Int8Weights<1>, RealProduct<4>, 2)
FEW_EXPERTS(experts_f32_bf16, Bf16Weights, RealProduct<4>, 2)
FEW_EXPERTS(experts_f32_f16, F16Weights, RealProduct<4>, 2)
FEW_EXPERTS(experts_f32_f32, F32Weights, RealProduct<4>, 2)

struct TileExpertsArgs {
    /// Format and shape of all experts.
    Matrix like;
    TileRows x;
    /// Of int8, for each row of x.
    const float* x_scales;
    float* out;
    PairArgs pairs;
};

/// Along x tiles of 64 rows of the weights, along y blocks of pairs, at most 64.
template <typename Sum>
DEVICE void tile_experts(const TileExpertsArgs& args) {
    grid_dependency_launch();
    grid_dependency_wait();
    PairRows rows;
    Expert expert;
    const uint32_t outputs = args.like.rows;
    if (!find_pairs(args.pairs, args.out, outputs, rows, expert)) return;
    Matrix weight = args.like;
    weight.codes = expert.codes;
    weight.scales = expert.scales;
    weight.zero_points = expert.zero_points;
    const unsigned own = threadIdx.x % TILE, first_output = blockIdx.x * TILE;
    const bool has_row = own < rows.count;
    Sum sums[4][4];
    multiply_tile(sums, weight, first_output, args.x, has_row ? rows.x_row(own) : 0, has_row, 0, weight.cols);
#pragma unroll
    for (unsigned i = 0; i < 4; i++) {
        const unsigned row = threadIdx.x / 16 * 4 + i;
        if (row >= rows.count) continue;
#pragma unroll
        for (unsigned j = 0; j < 4; j++) {
            const unsigned output = first_output + threadIdx.x % 16 * 4 + j;
            if (output >= outputs) continue;
            float value = scaled(sums[i][j], weight, output, args.x_scales, rows.x_row(row));
            if (expert.bias != nullptr) value = __fadd_rn(value, expert.bias[output]);
            args.out[rows.out_row(row) * outputs + output] = value;
        }
    }
}

KERNEL(tile_experts_f32, TileExpertsArgs, 256) { tile_experts<float>(args); }
KERNEL(tile_experts_int8, TileExpertsArgs, 256) { tile_experts<int>(args); }
