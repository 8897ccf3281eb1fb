// Products of many rows in integers: int8 weights with a scale for each row times rows of x with a scale each. Sums are exact, so
// that the result has the same bits however it is split.
//
// A warp of the largest block (128 × 256, 8 warps) computes 64 weight rows × 64 rows of x. For a step of 32 columns, with each of the
// four schedulers at one of its two warps:
//
//   mma               32, of about 6.5 cycles each: 208 cycles, where mma.sync has about 60 % of what the tensor cores of a
//                      Hopper GPU can; nothing is decoded, tiles of codes are fragments
//   shared memory      4 loads of 16 bytes a lane (16 wavefronts) and 8 of 8 bytes (16 wavefronts): 128 for the four schedulers of
//                      these 208 cycles, and 48 to fill the ring
//   registers         128 for sums, 48 for the fragments of a step and a half
//   L2                384 bytes for each column of 128 × 256, 170 operations a byte: 5.3 TB/s at 900 Tops/s. Blocks that run at a
//                      time are neighbours (`place_of_block`), so each weight comes from device memory once
//
// So a larger block would be better, which registers do not allow; smaller ones are for few rows, where weights are the limit.
#include "product_many.cuh"

/// `row_tiles` × 16 weight rows times `row_octets` × 8 rows of x. A part is a step of half of these rows.
template <int row_tiles, int row_octets>
struct Int8Math {
    static constexpr unsigned PARTS = 2 * STEPS, SLOT_BYTES = TILE_ROWS * STAGE;
    static constexpr int HALF = row_octets / 2;
    /// Of the warp: its first slot in the ring, its first row of x in the block's.
    unsigned first_slot, first_row;
    uint4 weights[2][row_tiles];
    uint2 rows[2][HALF];
    int sums[row_tiles][row_octets][4];

    DEVICE Int8Math(unsigned first_slot, unsigned first_row) : first_slot(first_slot), first_row(first_row), sums{} {}

    DEVICE void begin() {}
    DEVICE void end() {}

    DEVICE void load(const char* stage_weights, const char* stage_rows, unsigned part) {
        const unsigned step = part / 2, half = part % 2, g = lane_index() / 4, c = lane_index() % 4;
        if (half == 0) {
            const char* const tiles = stage_weights + first_slot * SLOT_BYTES + step * (WARP * CHUNK) + lane_index() * CHUNK;
#pragma unroll
            for (int i = 0; i < row_tiles; i++) weights[step % 2][i] = *reinterpret_cast<const uint4*>(tiles + i * SLOT_BYTES);
        }
        const char* const row = stage_rows + (first_row + g) * PANEL + swizzled<1>(g, step * 2 + c / 2) * CHUNK + c % 2 * 8;
#pragma unroll
        for (int j = 0; j < HALF; j++) {
            rows[half][j] = *reinterpret_cast<const uint2*>(row + (half * HALF + j) * (8 * PANEL));
        }
    }

    DEVICE void multiply(unsigned part) {
        const unsigned step = part / 2, half = part % 2;
#pragma unroll
        for (int i = 0; i < row_tiles; i++) {
            const uint4 words = weights[step % 2][i];
            const uint32_t a[4] = {words.x, words.z, words.y, words.w};
#pragma unroll
            for (int j = 0; j < HALF; j++) {
                const uint32_t b[2] = {rows[half][j].x, rows[half][j].y};
                mma_s8(sums[i][half * HALF + j], a, b);
            }
        }
    }
};

/// Warps along weights × along x, each of 8 · row_octets rows of x.
template <unsigned warps_down, unsigned warps_across, int row_octets>
DEVICE void product(const ManyArgs& args, char* shared) {
    constexpr int row_tiles = SLOTS / warps_down;
    constexpr unsigned warps = warps_down * warps_across, tokens = warps_across * row_octets * 8;
    using Math = Int8Math<row_tiles, row_octets>;
    const Place place = place_of_block(args, tokens);
    const unsigned down = warp_index() % warps_down, across = warp_index() / warps_down;
    const Ring<warps, tokens, 1, Math::SLOT_BYTES, false> ring(args, shared, place);
    Math math(down * row_tiles, across * row_octets * 8);
    run_stages(args, ring, math);
    __syncthreads();
    int* const sums = reinterpret_cast<int*>(shared);
    const unsigned g = lane_index() / 4, c = lane_index() % 4;
#pragma unroll
    for (int i = 0; i < row_tiles; i++) {
#pragma unroll
        for (int j = 0; j < row_octets; j++) {
#pragma unroll
            for (int k = 0; k < 4; k++) {
                const unsigned token = (across * row_octets + j) * 8 + 2 * c + k % 2;
                sums[token * SUMS_STRIDE + (down * row_tiles + i) * TILE_ROWS + g + k / 2 * 8] = math.sums[i][j][k];
            }
        }
    }
    __syncthreads();
    write_sums<warps * WARP>(args, place, tokens, sums);
}

#define PRODUCT(name, down, across, octets, blocks)        \
    KERNEL(name, ManyArgs, down * across * 32, blocks) {   \
        DYNAMIC_SHARED(shared);                            \
        product<down, across, octets>(args, shared);       \
    }

PRODUCT(product_int8_32, 4, 1, 4, 2)
PRODUCT(product_int8_64, 2, 2, 4, 2)
PRODUCT(product_int8_128, 2, 2, 8, 2)
PRODUCT(product_int8_256, 2, 4, 8, 1)

KERNEL(product_int8_finish, ManyArgs, 256) { finish_sums<int>(args); }
