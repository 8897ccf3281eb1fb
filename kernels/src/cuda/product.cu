// Products with packed weights: few rows (few.cuh), and any shape and format (tiles.cuh).
//
// Budget of few_bf16_int4_128_8, on sm_90a. A stage of a warp is 2 KiB of codes, 16 rows by 256 columns, and 64 bytes of scales:
//
//     copies      5 cp.async of 16 bytes a lane, about 60 instructions with addresses; the next tile about 60 more
//     decoding    16 words of codes, for each 3 shifts and 4 LOP3                             112
//     products    16 mma, 12 loads of 16 bytes from shared memory                              28
//     scales      2 groups: 2 loads of scales, 1 of sums of x, 8 FFMA                          45
//     the loop    waits, slots, branches                                                       15
//
// That is about 300 instructions for 2 KiB. A multiprocessor of 132 that read 4.3 TB/s takes 18.6 bytes a cycle at 1.75 GHz: 110 cycles
// for 2 KiB, in which its four schedulers issue 440. So the kernel needs about 70 % of them where memory is the limit; shifts and
// LOP3, which issue every other cycle, take 65 % of theirs, mma 15 % and shared memory 45 % (2 KiB in, 2 KiB out, x). Memory is
// the limit as long as there are enough bytes under way: 2 stages of 8 warps are 32 KiB a block of 70 KiB of shared memory, with
// three blocks 96 KiB a multiprocessor, three times what 1 µs at 32 GB/s takes, so that the drain at the end of a tile does not
// show either. Longer or more rows of x leave two blocks, or one, whose rings have more stages then. The mma is for one row as
// large as for eight: rows are free up to 8.
//
// What it loses: the last tiles, when tiles are no multiple of the blocks (4 % at 1792 tiles, under 1 % at 8016), and the start, which
// overlaps the kernel before it.
#include "few.cuh"
#include "tiles.cuh"

struct ProductArgs {
    FewArgs few;
    uint32_t rows;
};

#define FEW(name, Weights, Product, blocks)                                                   \
    KERNEL(name, ProductArgs, 256, blocks) {                                                  \
        few_rows<Weights, Product>(args.few, PartTiles<Weights>{args.few}, FirstRows{args.rows}); \
    }

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
