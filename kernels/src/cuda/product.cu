// Products with packed weights.
//
// Kernels `few_*`: few rows, see few.cuh. Budget of a stage of int4 with groups of 128 and up to 8 rows in bf16, for one warp:
// BUDGET
#include "few.cuh"
#include "tiles.cuh"

#define FEW(name, Weights, Product, blocks) \
    KERNEL(name, FewArgs, 256, blocks) { few_rows<Weights, Product>(args, PartTiles<Weights>{args}, args.x, args.x_scales); }

FEW(few_bf16_int4_32_8, Int4Weights<1>, Bf16Product<1>, 3)
FEW(few_bf16_int4_64_8, Int4Weights<2>, Bf16Product<1>, 3)
FEW(few_bf16_int4_128_8, Int4Weights<4>, Bf16Product<1>, 3)
FEW(few_bf16_int8_32_8, Int8Weights<1>, Bf16Product<1>, 3)
FEW(few_bf16_int8_64_8, Int8Weights<2>, Bf16Product<1>, 3)
FEW(few_bf16_bf16_8, Bf16Weights, Bf16Product<1>, 3)
FEW(few_int8_8, Int8Weights<2>, Int8Product<1>, 3)
FEW(few_bf16_int4_32_16, Int4Weights<1>, Bf16Product<2>, 2)
FEW(few_bf16_int4_64_16, Int4Weights<2>, Bf16Product<2>, 2)
FEW(few_bf16_int4_128_16, Int4Weights<4>, Bf16Product<2>, 2)
FEW(few_bf16_int8_32_16, Int8Weights<1>, Bf16Product<2>, 2)
FEW(few_bf16_int8_64_16, Int8Weights<2>, Bf16Product<2>, 2)
FEW(few_bf16_bf16_16, Bf16Weights, Bf16Product<2>, 2)
FEW(few_int8_16, Int8Weights<2>, Int8Product<2>, 2)
FEW(few_f32_int4_1, Int4Weights<1>, RealProduct<1>, 2)
FEW(few_f32_int8_1, Int8Weights<1>, RealProduct<1>, 2)
FEW(few_f32_bf16_1, Bf16Weights, RealProduct<1>, 2)
FEW(few_f32_f16_1, F16Weights, RealProduct<1>, 2)
FEW(few_f32_f32_1, F32Weights, RealProduct<1>, 2)
FEW(few_f32_int4_4, Int4Weights<1>, RealProduct<4>, 2)
FEW(few_f32_int8_4, Int8Weights<1>, RealProduct<4>, 2)
FEW(few_f32_bf16_4, Bf16Weights, RealProduct<4>, 2)
FEW(few_f32_f16_4, F16Weights, RealProduct<4>, 2)
FEW(few_f32_f32_4, F32Weights, RealProduct<4>, 2)
FEW(few_f32_int4_8, Int4Weights<1>, RealProduct<8>, 2)
FEW(few_f32_int8_8, Int8Weights<1>, RealProduct<8>, 2)
FEW(few_f32_bf16_8, Bf16Weights, RealProduct<8>, 2)
FEW(few_f32_f16_8, F16Weights, RealProduct<8>, 2)
FEW(few_f32_f32_8, F32Weights, RealProduct<8>, 2)

struct TilesArgs {
    /// One, or gate and value.
    ProductPart parts[2];
    TileRows x;
    /// Of int8, `[rows]`.
    const float* x_scales;
    Finish finish;
    /// Where there is more than one split of the columns: `[splits][rows][out]`, which product_splits adds up.
    float* partials;
    uint32_t rows;
    /// Columns of a split, a multiple of 32.
    uint32_t split;
};

/// Along x tiles of the weight, along y tiles of rows, along z splits.
template <typename Sum>
DEVICE void product_tiles(const TilesArgs& args) {
    grid_dependency_launch();
    grid_dependency_wait();
    const unsigned outputs = args.parts[0].weight.rows, cols = args.parts[0].weight.cols;
    const unsigned first_output = blockIdx.x * TILE;
    const unsigned first = blockIdx.z * args.split, end = min(first + args.split, cols);
    for (unsigned first_row = blockIdx.y * TILE; first_row < args.rows; first_row += gridDim.y * TILE) {
        const unsigned own = first_row + threadIdx.x % TILE;
        const unsigned row = first_row + threadIdx.x / 16 * 4, output = first_output + threadIdx.x % 16 * 4;
        Sum sums[4][4];
        float gates[4][4] = {};
        for (unsigned part = 0; part <= args.finish.gated; part++) {
            const Matrix& weight = args.parts[part].weight;
            multiply_tile(sums, weight, first_output, args.x, own, own < args.rows, first, end);
#pragma unroll
            for (unsigned i = 0; i < 4; i++) {
#pragma unroll
                for (unsigned j = 0; j < 4; j++) {
                    if (row + i >= args.rows || output + j >= outputs) continue;
                    const size_t index = size_t(row + i) * outputs + output + j;
                    float value = scaled(sums[i][j], weight, output + j, args.x_scales, row + i);
                    if (args.partials != nullptr) {
                        args.partials[size_t(blockIdx.z) * args.rows * outputs + index] = value;
                        continue;
                    }
                    const float* bias = args.parts[part].bias;
                    if (bias != nullptr) value = __fadd_rn(value, bias[output + j]);
                    if (!args.finish.gated) {
                        finish_one(args.finish, args.parts[0].out, index, value);
                    } else if (part == 0) {
                        gates[i][j] = value;
                    } else {
                        finish_gated(args.finish, index, gates[i][j], value);
                    }
                }
            }
        }
    }
}

KERNEL(product_tiles_f32, TilesArgs, 256) { product_tiles<float>(args); }
KERNEL(product_tiles_int8, TilesArgs, 256) { product_tiles<int>(args); }

struct SplitsArgs {
    /// `[splits][count]`, where count is rows · outputs.
    const float* partials;
    const float* bias;
    float* out;
    Finish finish;
    uint64_t count;
    uint32_t outputs;
    uint32_t splits;
};

/// Adds up splits, in order.
KERNEL(product_splits, SplitsArgs, 256) {
    grid_dependency_launch();
    grid_dependency_wait();
    for (uint64_t i = uint64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < args.count; i += uint64_t(gridDim.x) * blockDim.x) {
        float value = 0.0f;
        for (unsigned split = 0; split < args.splits; split++) value += args.partials[split * args.count + i];
        if (args.bias != nullptr) value = __fadd_rn(value, args.bias[i % args.outputs]);
        finish_one(args.finish, args.out, i, value);
    }
}
