// Products of few rows with packed weights: a stream of weights through tensor cores, or through FFMA in f32.
//
// A block takes tiles of 16 rows of the weights, one after another. Its warps share the columns: in each pass, each of them takes
// one *stage*, 2 KiB of codes and their scales, which lies in one piece for integers. Stages come through a ring of
// copies in shared memory, a ring for each warp, all of its stages but one under way; a copy is read by the warp that asked for it,
// so the ring needs no barrier of the block. It runs on across tiles, and the first copies are asked for before the kernel waits
// for the one before it. The rows of x lie in shared memory, in the precision of the product. At the end of a tile the sums of the
// warps are added in order, so results do not depend on timing.
#pragma once

#include "finish.cuh"
#include "matrix.cuh"
#include "rounding.cuh"
#include "rows_of_x.cuh"

/// Vectors of 16 bytes that a lane has of a stage.
constexpr unsigned VECTORS = 4;
constexpr unsigned STAGE_CODES = VECTORS * WARP * 16;
constexpr unsigned FEW_PARTS = 4;
/// Elements from one row of x to the next in the sums of a warp: the rows 2c and 2c + 1 of four lanes are 8 banks apart.
constexpr unsigned SUM_STRIDE = 20;

struct ProductPart {
    Matrix weight;
    const float* bias;
    float* out;
    /// Row tiles of the parts before it.
    uint32_t first_tile;
};

struct FewArgs {
    /// Alike in format and columns.
    ProductPart parts[FEW_PARTS];
    const void* x;
    /// Of x that is int8, `[rows]`.
    const float* x_scales;
    RowNorm norm;
    Finish finish;
    uint32_t x_kind;
    /// Whether rows of x, and the vectors of the norm, are aligned to 16 bytes.
    uint32_t x_vectors;
    uint32_t part_count;
    /// Row tiles of all parts; of gated products those of one.
    uint32_t units;
    /// Stages of a row tile, and the vectors of the last one.
    uint32_t steps;
    uint32_t tail_vectors;
    /// Flushes of sums for each group of columns that share a scale.
    uint32_t flushes_per_group;
    /// Stages of a ring, 3, 4 or 6, and bytes of one.
    uint32_t ring_stages;
    uint32_t stage_bytes;
    /// Bytes from a row of x to the next, in shared memory.
    uint32_t x_stride;
    /// Where other parts of shared memory begin: sums of x, or the scales of its rows in int8; rings, sums of warps, gates.
    uint32_t sums_at, ring_at, partials_at, gates_at;
};

// ---- formats: what a stage is. A stage has BLOCKS blocks of 32 columns; the sums of FLUSH of them are scaled at once.

template <unsigned blocks, unsigned flush, unsigned column_bytes>
struct StageShape {
    static constexpr unsigned BLOCKS = blocks, FLUSH = flush, FLUSHES = blocks / flush;
    /// Bytes of a column of a row tile.
    static constexpr unsigned COLUMN_BYTES = column_bytes;
};

/// Tiles of 512 bytes: a lane's vectors are that far apart.
template <unsigned blocks, unsigned flush, unsigned column_bytes>
struct Tiled : StageShape<blocks, flush, column_bytes> {
    static constexpr bool SCALED = true;
    static constexpr unsigned STEP_BYTES = STAGE_CODES;
    static DEVICE size_t place(unsigned lane, unsigned) { return lane * 16; }
    static DEVICE size_t vector_place(unsigned vector, unsigned) { return vector * 512; }
};

template <unsigned flush>
struct Int4Weights : Tiled<8, flush, 8> {
    static constexpr float OFFSET = 128.0f;
    static DEVICE void pairs(uint32_t (&pairs)[4], const uint4* vectors, unsigned block, unsigned half) {
        const uint4 vector = vectors[block / 2];
        int4_pairs(pairs, block % 2 == 0 ? (half == 0 ? vector.x : vector.y) : (half == 0 ? vector.z : vector.w));
    }
};

template <unsigned flush>
struct Int8Weights : Tiled<4, flush, 16> {
    static constexpr float OFFSET = 0.0f;
    static DEVICE void pairs(uint32_t (&pairs)[4], const uint4* vectors, unsigned block, unsigned half) {
        const uint4 vector = vectors[block];
        uint32_t low[2], high[2];
        int8_pairs(low, half == 0 ? vector.x : vector.z);
        int8_pairs(high, half == 0 ? vector.y : vector.w);
        pairs[0] = low[0], pairs[1] = low[1], pairs[2] = high[0], pairs[3] = high[1];
    }
};

/// Rows of elements of 2 bytes, two blocks: a lane has eight neighbours of row g, of row g + 8, and both 32 columns on. A row has
/// whole lines of 128 bytes.
struct HalfRows : StageShape<2, 1, 32> {
    static constexpr bool SCALED = false;
    static constexpr float OFFSET = 0.0f;
    static constexpr unsigned STEP_BYTES = 128;
    static DEVICE size_t place(unsigned lane, unsigned padded_cols) {
        return (size_t(lane / 4) * padded_cols + lane % 4 * 8) * 2;
    }
    static DEVICE size_t vector_place(unsigned vector, unsigned padded_cols) {
        return size_t(vector % 2) * padded_cols * 16 + vector / 2 * 64;
    }
};

struct Bf16Weights : HalfRows {
    static DEVICE void pairs(uint32_t (&pairs)[4], const uint4* vectors, unsigned block, unsigned half) {
        const uint4 vector = vectors[2 * block + half];
        pairs[0] = vector.x, pairs[1] = vector.y, pairs[2] = vector.z, pairs[3] = vector.w;
    }
};

/// As floats, less `offset`: what FFMA takes.
template <typename Weights>
DEVICE void octet(float (&values)[8], const uint4* vectors, unsigned block, unsigned half, float offset) {
    uint32_t pairs[4];
    Weights::pairs(pairs, vectors, block, half);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float2 pair = unpack_bf16(pairs[i]);
        values[2 * i] = Weights::SCALED ? pair.x - offset : pair.x;
        values[2 * i + 1] = Weights::SCALED ? pair.y - offset : pair.y;
    }
}

/// f16 has more digits than bf16: only products in f32 read it.
struct F16Weights : HalfRows {};

template <>
DEVICE void octet<F16Weights>(float (&values)[8], const uint4* vectors, unsigned block, unsigned half, float) {
    const uint4 vector = vectors[2 * block + half];
    const uint32_t words[4] = {vector.x, vector.y, vector.z, vector.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float2 pair = unpack_f16(words[i]);
        values[2 * i] = pair.x;
        values[2 * i + 1] = pair.y;
    }
}

/// Rows of floats, a block: a lane has eight neighbours of row g in two vectors, then of row g + 8.
struct F32Weights : StageShape<1, 1, 64> {
    static constexpr bool SCALED = false;
    static constexpr float OFFSET = 0.0f;
    static constexpr unsigned STEP_BYTES = 128;
    static DEVICE size_t place(unsigned lane, unsigned padded_cols) {
        return (size_t(lane / 4) * padded_cols + lane % 4 * 8) * 4;
    }
    static DEVICE size_t vector_place(unsigned vector, unsigned padded_cols) {
        return size_t(vector / 2) * padded_cols * 32 + vector % 2 * 16;
    }
};

template <>
DEVICE void octet<F32Weights>(float (&values)[8], const uint4* vectors, unsigned, unsigned half, float) {
    const uint4 low = vectors[2 * half], high = vectors[2 * half + 1];
    const uint32_t words[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
    for (int i = 0; i < 8; i++) values[i] = __uint_as_float(words[i]);
}

/// A stage that has come.
template <typename Weights>
struct Stage {
    uint4 vectors[VECTORS];
    const char* scalings;

    DEVICE explicit Stage(const char* slot) : scalings(slot + STAGE_CODES) {
#pragma unroll
        for (unsigned i = 0; i < VECTORS; i++) {
            vectors[i] = reinterpret_cast<const uint4*>(slot)[i * WARP + lane_index()];
        }
    }
    /// Scales and zero points of rows g and g + 8.
    DEVICE void scaling(const Matrix& matrix, unsigned flush, float (&scales)[2], float (&zero_points)[2]) const {
        const unsigned g = lane_index() / 4;
        const char* stored;
        if (matrix.scale_dtype == 0) {
            const float* of_flush = reinterpret_cast<const float*>(scalings) + flush * TILE_ROWS + g;
            scales[0] = of_flush[0], scales[1] = of_flush[8];
            stored = scalings + Weights::FLUSHES * 64;
        } else {
            const uint16_t* of_flush = reinterpret_cast<const uint16_t*>(scalings) + flush * TILE_ROWS + g;
            const uint16_t low = of_flush[0], high = of_flush[8];
            if (matrix.scale_dtype == 1) {
                scales[0] = to_float(f16{low}), scales[1] = to_float(f16{high});
            } else {
                scales[0] = to_float(bf16{low}), scales[1] = to_float(bf16{high});
            }
            stored = scalings + Weights::FLUSHES * 32;
        }
        zero_points[0] = zero_points[1] = float(matrix.zero_point);
        if (matrix.zero_points != nullptr) {
            const uint8_t low = uint8_t(stored[flush * TILE_ROWS + g]), high = uint8_t(stored[flush * TILE_ROWS + g + 8]);
            const bool is_signed = matrix.layout == INT8;
            zero_points[0] = is_signed ? float(int8_t(low)) : float(low);
            zero_points[1] = is_signed ? float(int8_t(high)) : float(high);
        }
    }
};

// ---- products: how a stage is multiplied. Sums are of rows g and g + 8 of the tile

/// bf16, up to 8 · TILES rows. Codes enter as OFFSET + code; Σ x, which is known, makes up for that and for zero points. So x
/// above 2¹¹⁰ may overflow where its product with a weight does not.
template <unsigned TILES>
struct Bf16Product {
    using Sum = float;
    static constexpr unsigned ROWS = 8 * TILES;
    static constexpr bool CODES = false;
    float sums[TILES][4];

    /// Puts eight neighbours of a row of x into shared memory, and the sums over the columns of each flush. By all lanes of a
    /// warp; those past the row have zeros.
    template <typename Weights>
    static DEVICE void stage(const FewArgs& args, char* shared, const float (&values)[8], unsigned row, unsigned number,
                             bool exists) {
        const uint4 words = make_uint4(pack_bf16(values[0], values[1]), pack_bf16(values[2], values[3]),
                                       pack_bf16(values[4], values[5]), pack_bf16(values[6], values[7]));
        if (exists) reinterpret_cast<uint4*>(shared + size_t(row) * args.x_stride)[number] = words;
        if constexpr (Weights::SCALED) {
            constexpr unsigned LANES = Weights::FLUSH * 4;
            const float2 a = unpack_bf16(words.x), b = unpack_bf16(words.y), c = unpack_bf16(words.z), d = unpack_bf16(words.w);
            float sum = ((a.x + a.y) + (b.x + b.y)) + ((c.x + c.y) + (d.x + d.y));
#pragma unroll
            for (unsigned distance = LANES / 2; distance > 0; distance /= 2) {
                sum += __shfl_xor_sync(ALL_LANES, sum, int(distance));
            }
            if (exists && number % LANES == 0) {
                reinterpret_cast<float*>(shared + args.sums_at)[size_t(number / LANES) * ROWS + row] = sum;
            }
        }
    }

    DEVICE void clear() {
#pragma unroll
        for (unsigned tile = 0; tile < TILES; tile++) {
#pragma unroll
            for (int i = 0; i < 4; i++) sums[tile][i] = 0.0f;
        }
    }

    template <typename Weights>
    static DEVICE void multiply(float (&sums)[TILES][4], const FewArgs& args, unsigned rows, const Stage<Weights>& stage,
                                const char* x, unsigned step, unsigned block) {
        uint32_t low[4], high[4];
        Weights::pairs(low, stage.vectors, block, 0);
        Weights::pairs(high, stage.vectors, block, 1);
        const uint32_t first[4] = {low[0], high[0], low[1], high[1]}, second[4] = {low[2], high[2], low[3], high[3]};
        const unsigned lane = lane_index();
#pragma unroll
        for (unsigned tile = 0; tile < TILES; tile++) {
            // Columns of the result that are no row of x may hold anything.
            const unsigned row = min(tile * 8 + lane / 4, rows - 1);
            const uint4 words = *reinterpret_cast<const uint4*>(x + size_t(row) * args.x_stride +
                                                                (step * Weights::BLOCKS + block) * 64 + lane % 4 * 16);
            const uint32_t x_first[2] = {words.x, words.y}, x_second[2] = {words.z, words.w};
            mma_bf16(sums[tile], first, x_first);
            mma_bf16(sums[tile], second, x_second);
        }
    }

    template <typename Weights>
    DEVICE void step(const FewArgs& args, unsigned rows, const Stage<Weights>& stage, const char* shared, unsigned step) {
        if constexpr (!Weights::SCALED) {
#pragma unroll
            for (unsigned block = 0; block < Weights::BLOCKS; block++) multiply(sums, args, rows, stage, shared, step, block);
        } else {
#pragma unroll
            for (unsigned flush = 0; flush < Weights::FLUSHES; flush++) {
                float parts[TILES][4] = {};
#pragma unroll
                for (unsigned block = 0; block < Weights::FLUSH; block++) {
                    multiply(parts, args, rows, stage, shared, step, flush * Weights::FLUSH + block);
                }
                float scales[2], zero_points[2];
                stage.scaling(args.parts[0].weight, flush, scales, zero_points);
                const float* x_sums = reinterpret_cast<const float*>(shared + args.sums_at) +
                                      size_t(step * Weights::FLUSHES + flush) * ROWS + lane_index() % 4 * 2;
#pragma unroll
                for (unsigned tile = 0; tile < TILES; tile++) {
                    const float2 x_sum = *reinterpret_cast<const float2*>(x_sums + tile * 8);
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        const float exact = __fmaf_rn(-(Weights::OFFSET + zero_points[i / 2]), i % 2 == 0 ? x_sum.x : x_sum.y,
                                                      parts[tile][i]);
                        sums[tile][i] = __fmaf_rn(scales[i / 2], exact, sums[tile][i]);
                    }
                }
            }
        }
    }

    /// To `[ROWS][SUM_STRIDE]`.
    DEVICE void store(float* to) const {
        const unsigned g = lane_index() / 4, c = lane_index() % 4;
#pragma unroll
        for (unsigned tile = 0; tile < TILES; tile++) {
#pragma unroll
            for (unsigned i = 0; i < 4; i++) to[(tile * 8 + 2 * c + i % 2) * SUM_STRIDE + g + i / 2 * 8] = sums[tile][i];
        }
    }
};

/// int8 by int8, up to 8 · TILES rows, exact.
template <unsigned TILES>
struct Int8Product {
    using Sum = int;
    static constexpr unsigned ROWS = 8 * TILES;
    static constexpr bool CODES = true;
    int sums[TILES][4];

    DEVICE void clear() {
#pragma unroll
        for (unsigned tile = 0; tile < TILES; tile++) {
#pragma unroll
            for (int i = 0; i < 4; i++) sums[tile][i] = 0;
        }
    }

    template <typename Weights>
    DEVICE void step(const FewArgs& args, unsigned rows, const Stage<Weights>& stage, const char* x, unsigned step) {
        const unsigned lane = lane_index();
#pragma unroll
        for (unsigned block = 0; block < Weights::BLOCKS; block++) {
            const uint4 codes = stage.vectors[block];
            const uint32_t weights[4] = {codes.x, codes.z, codes.y, codes.w};
#pragma unroll
            for (unsigned tile = 0; tile < TILES; tile++) {
                const unsigned row = min(tile * 8 + lane / 4, rows - 1);
                const uint2 words = *reinterpret_cast<const uint2*>(x + size_t(row) * args.x_stride +
                                                                    (step * Weights::BLOCKS + block) * 32 + lane % 4 * 8);
                const uint32_t x_words[2] = {words.x, words.y};
                mma_s8(sums[tile], weights, x_words);
            }
        }
    }

    DEVICE void store(int* to) const {
        const unsigned g = lane_index() / 4, c = lane_index() % 4;
#pragma unroll
        for (unsigned tile = 0; tile < TILES; tile++) {
#pragma unroll
            for (unsigned i = 0; i < 4; i++) to[(tile * 8 + 2 * c + i % 2) * SUM_STRIDE + g + i / 2 * 8] = sums[tile][i];
        }
    }
};

/// f32, up to N rows: each lane has all rows, for its columns.
template <unsigned N>
struct RealProduct {
    using Sum = float;
    static constexpr unsigned ROWS = N;
    static constexpr bool CODES = false;
    float sums[N][2];

    template <typename Weights>
    static DEVICE void stage(const FewArgs& args, char* shared, const float (&values)[8], unsigned row, unsigned number,
                             bool exists) {
        float4* target = reinterpret_cast<float4*>(shared + size_t(row) * args.x_stride) + 2 * number;
        if (exists) {
            target[0] = make_float4(values[0], values[1], values[2], values[3]);
            target[1] = make_float4(values[4], values[5], values[6], values[7]);
        }
    }

    DEVICE void clear() {
#pragma unroll
        for (unsigned row = 0; row < N; row++) sums[row][0] = sums[row][1] = 0.0f;
    }

    template <typename Weights>
    DEVICE void step(const FewArgs& args, unsigned rows, const Stage<Weights>& stage, const char* x, unsigned step) {
#pragma unroll
        for (unsigned block = 0; block < Weights::BLOCKS; block++) {
            float low[8], high[8];
            float scales[2] = {}, zero_points[2] = {};
            if constexpr (Weights::SCALED) stage.scaling(args.parts[0].weight, block / Weights::FLUSH, scales, zero_points);
            octet<Weights>(low, stage.vectors, block, 0, Weights::OFFSET + zero_points[0]);
            octet<Weights>(high, stage.vectors, block, 1, Weights::OFFSET + zero_points[1]);
            if constexpr (Weights::SCALED) {
                // Scaled before they are multiplied, as products with codes may overflow.
#pragma unroll
                for (int i = 0; i < 8; i++) low[i] *= scales[0], high[i] *= scales[1];
            }
#pragma unroll
            for (unsigned row = 0; row < N; row++) {
                const float4* source = reinterpret_cast<const float4*>(
                    x + size_t(min(row, rows - 1)) * args.x_stride +
                    ((step * Weights::BLOCKS + block) * 32 + lane_index() % 4 * 8) * sizeof(float));
                const float4 left = source[0], right = source[1];
                const float values[8] = {left.x, left.y, left.z, left.w, right.x, right.y, right.z, right.w};
#pragma unroll
                for (int i = 0; i < 8; i++) {
                    sums[row][0] = __fmaf_rn(low[i], values[i], sums[row][0]);
                    sums[row][1] = __fmaf_rn(high[i], values[i], sums[row][1]);
                }
            }
        }
    }

    DEVICE void store(float* to) const {
#pragma unroll
        for (unsigned row = 0; row < N; row++) {
#pragma unroll
            for (unsigned half = 0; half < 2; half++) {
                float sum = sums[row][half];
                sum += __shfl_xor_sync(ALL_LANES, sum, 1);
                sum += __shfl_xor_sync(ALL_LANES, sum, 2);
                if (lane_index() % 4 == 0) to[row * SUM_STRIDE + lane_index() / 4 + half * 8] = sum;
            }
        }
    }
};

// ---- which rows

/// The first rows of x and of the results.
struct FirstRows {
    uint32_t count;
    DEVICE size_t x_row(unsigned i) const { return i; }
    DEVICE size_t out_row(unsigned i) const { return i; }
};

// ---- x in shared memory

/// Eight neighbours of a row of f32, normalized where rows are; zero past the row.
DEVICE void load_real(float (&values)[8], const FewArgs& args, const RowStatistics& statistics, size_t x_row, unsigned column,
                      unsigned cols) {
    load_x(values, static_cast<const float*>(args.x), x_row, column, cols, args.x_vectors);
    if (args.x_kind == X_NORMALIZED) normalize(values, args.norm, statistics, column, cols, args.x_vectors);
}

/// Rows of int8: codes and scales, or those of f32, which are rounded by what is largest in a first pass over the row.
DEVICE void stage_codes(const FewArgs& args, const RowStatistics& statistics, unsigned row, size_t x_row, unsigned octets,
                        char* shared, float* scratch) {
    const unsigned cols = args.parts[0].weight.cols;
    uint2* target = reinterpret_cast<uint2*>(shared + size_t(row) * args.x_stride);
    float* scales = reinterpret_cast<float*>(shared + args.sums_at);
    if (args.x_kind == X_INT8) {
        for (unsigned number = threadIdx.x; number < octets; number += blockDim.x) {
            target[number] = load_x(static_cast<const int8_t*>(args.x), x_row, number * 8, cols, args.x_vectors);
        }
        if (threadIdx.x == 0) scales[row] = args.x_scales[x_row];
        return;
    }
    unsigned largest = 0;
    for (unsigned number = threadIdx.x; number < octets; number += blockDim.x) {
        float values[8];
        load_real(values, args, statistics, x_row, number * 8, cols);
#pragma unroll
        for (int i = 0; i < 8; i++) largest = max(largest, magnitude_bits(values[i]));
    }
    const Rounding rounding(block_max(largest, reinterpret_cast<unsigned*>(scratch)));
    for (unsigned number = threadIdx.x; number < octets; number += blockDim.x) {
        float values[8];
        load_real(values, args, statistics, x_row, number * 8, cols);
        target[number] = make_uint2(rounding.word(values), rounding.word(values + 4));
    }
    if (threadIdx.x == 0) scales[row] = rounding.scale;
}

/// Rows as `Product` reads them, zero past their columns.
template <typename Weights, typename Product, typename Rows>
DEVICE void stage_x(const FewArgs& args, const Rows& rows, char* shared) {
    const void* const x = args.x;
    const unsigned cols = args.parts[0].weight.cols, octets = args.steps * Weights::BLOCKS * 4;
    SHARED(float, scratch, 32);
    for (unsigned row = 0; row < rows.count; row++) {
        const size_t x_row = rows.x_row(row);
        RowStatistics statistics = {};
        if (args.x_kind == X_NORMALIZED) {
            statistics = row_statistics(args.norm, static_cast<const float*>(x), x_row, cols, args.x_vectors, scratch);
        }
        if constexpr (Product::CODES) {
            stage_codes(args, statistics, row, x_row, octets, shared, scratch);
        } else {
            // The lanes of a warp go round equally often, for shuffles.
            for (unsigned first = warp_index() * WARP; first < octets; first += blockDim.x) {
                const unsigned number = first + lane_index(), column = number * 8;
                const bool exists = number < octets;
                float values[8] = {};
                if (exists && args.x_kind == X_BF16) {
                    load_x(values, static_cast<const bf16*>(x), x_row, column, cols, args.x_vectors);
                } else if (exists) {
                    load_real(values, args, statistics, x_row, column, cols);
                }
                Product::template stage<Weights>(args, shared, values, row, number, exists);
            }
        }
    }
}

// ---- the frame

/// A row tile of a weight, and where its results go.
struct FewTile {
    const uint8_t* codes;
    const uint8_t* scales;
    const uint8_t* zero_points;
    const float* bias;
    float* out;
    uint32_t first_row;
    /// Rows of the weight.
    uint32_t outputs;
};

/// Where a weight lies, and what belongs to it.
struct FewWeight {
    const uint8_t* codes;
    const uint8_t* scales;
    const uint8_t* zero_points;
    const float* bias;
    float* out;
};

/// Tile `row_tile` of a weight of the shape and format of `like`.
template <typename Weights>
DEVICE FewTile few_tile(const FewWeight& weight, const Matrix& like, unsigned row_tile) {
    const size_t scalings = size_t(row_tile) * like.groups * TILE_ROWS;
    const unsigned scale_bytes = like.scale_dtype == 0 ? 4 : 2;
    return {weight.codes + size_t(row_tile) * like.padded_cols * Weights::COLUMN_BYTES,
            weight.scales + scalings * scale_bytes,
            weight.zero_points == nullptr ? nullptr : weight.zero_points + scalings,
            weight.bias,
            weight.out,
            row_tile * TILE_ROWS,
            like.rows};
}

/// Which tiles there are: those of the parts, one part after the other; of gated products of gate and value in turn.
template <typename Weights>
struct PartTiles {
    const FewArgs& args;
    DEVICE FewTile find(unsigned unit, unsigned which) const {
        unsigned part = which;
        if (!args.finish.gated) {
            while (part + 1 < args.part_count && args.parts[part + 1].first_tile <= unit) part++;
            unit -= args.parts[part].first_tile;
        }
        const Matrix& weight = args.parts[part].weight;
        return few_tile<Weights>(
            {weight.codes, weight.scales, weight.zero_points, args.parts[part].bias, args.parts[part].out}, weight, unit);
    }
};

/// The stages of a warp in their order.
template <typename Weights, typename Product, typename Tiles>
struct StageReader {
    /// Sums of codes are scaled at the end of a tile, which reads the scales itself.
    static constexpr bool SCALES = Weights::SCALED && !Product::CODES;
    /// Scales of a flush are up to 4 pieces of 16 bytes, zero points one; lanes copy one each, in so many rounds.
    static constexpr unsigned ROUNDS = (Weights::FLUSHES * 5 + WARP - 1) / WARP;

    const FewArgs& args;
    const Tiles& tiles;
    char* ring;
    unsigned unit, which, step;
    /// Of this lane, at the start of the tile.
    const uint8_t* codes;
    const uint8_t* pieces[ROUNDS];

    DEVICE StageReader(const FewArgs& args, const Tiles& tiles, char* ring)
        : args(args), tiles(tiles), ring(ring), unit(blockIdx.x), which(0), step(warp_index()), codes(nullptr), pieces() {
        if (unit < args.units) begin_tile();
    }

    /// Pieces of the scales of a flush.
    DEVICE unsigned scale_pieces() const { return args.parts[0].weight.scale_dtype == 0 ? 4 : 2; }

    DEVICE void begin_tile() {
        const FewTile tile = tiles.find(unit, which);
        codes = tile.codes + Weights::place(lane_index(), args.parts[0].weight.padded_cols);
        if constexpr (SCALES) {
#pragma unroll
            for (unsigned round = 0; round < ROUNDS; round++) {
                const unsigned piece = round * WARP + lane_index();
                const bool is_scale = piece < Weights::FLUSHES * scale_pieces();
                pieces[round] = is_scale ? tile.scales + piece % scale_pieces() * 16 : tile.zero_points;
            }
        }
    }

    /// Asks for the stage of the next pass, if there is one.
    DEVICE void read(char* slot) {
        if (unit < args.units) {
            if (step < args.steps) copy(slot);
            step += blockDim.x / WARP;
            // Warps go on to the next tile after the same number of passes.
            if (step - warp_index() >= args.steps) {
                step = warp_index();
                if (args.finish.gated && which == 0) {
                    which = 1;
                } else {
                    which = 0;
                    unit += gridDim.x;
                }
                if (unit < args.units) begin_tile();
            }
        }
        copy_async_commit();
    }

    DEVICE void copy(char* slot) const {
        const Matrix& weight = args.parts[0].weight;
        const unsigned lane = lane_index();
        const unsigned vectors = step + 1 == args.steps ? args.tail_vectors : VECTORS;
        const uint8_t* source = codes + size_t(step) * Weights::STEP_BYTES;
#pragma unroll
        for (unsigned i = 0; i < VECTORS; i++) {
            // What does not exist is filled with zeros, and its address is not read.
            const uint8_t* vector = source + Weights::vector_place(i, weight.padded_cols);
            copy_async<16>(slot + (i * WARP + lane) * 16, vector, i < vectors ? 16 : 0);
        }
        if constexpr (SCALES) {
            const unsigned scales = Weights::FLUSHES * scale_pieces();
#pragma unroll
            for (unsigned round = 0; round < ROUNDS; round++) {
                const unsigned piece = round * WARP + lane;
                const bool is_scale = piece < scales;
                const unsigned flush = is_scale ? piece / scale_pieces() : piece - scales;
                if (is_scale || (pieces[round] != nullptr && flush < Weights::FLUSHES)) {
                    unsigned group = step * Weights::FLUSHES + flush;
                    if (args.flushes_per_group > 1) group = weight.groups == 1 ? 0 : group / args.flushes_per_group;
                    const uint8_t* stored = pieces[round] + size_t(group) * (is_scale ? scale_pieces() * 16 : 16);
                    copy_async<16>(slot + STAGE_CODES + piece * 16, stored, group < weight.groups ? 16 : 0);
                }
            }
        }
    }
};

/// Adds up what the warps have, and finishes.
template <typename Product, typename Rows>
DEVICE void finish_tile(const FewArgs& args, const Rows& rows, const FewTile& tile, unsigned which,
                        const typename Product::Sum* partials, char* shared) {
    float* const gates = reinterpret_cast<float*>(shared + args.gates_at);
    for (unsigned i = threadIdx.x; i < TILE_ROWS * rows.count; i += blockDim.x) {
        const unsigned row = i / TILE_ROWS, output = tile.first_row + i % TILE_ROWS;
        typename Product::Sum sum = 0;
        for (unsigned warp = 0; warp < blockDim.x / WARP; warp++) {
            sum += partials[(warp * Product::ROWS + row) * SUM_STRIDE + i % TILE_ROWS];
        }
        if (output >= tile.outputs) continue;
        float value = float(sum);
        if constexpr (Product::CODES) {
            const float* x_scales = reinterpret_cast<const float*>(shared + args.sums_at);
            const float channel = read_scale(tile.scales, args.parts[0].weight.scale_dtype, i % TILE_ROWS);
            value = __fmul_rn(__fmul_rn(value, x_scales[row]), channel);
        }
        if (tile.bias != nullptr) value = __fadd_rn(value, tile.bias[output]);
        const size_t index = rows.out_row(row) * tile.outputs + output;
        if (!args.finish.gated) {
            finish_one(args.finish, tile.out, index, value);
        } else if (which == 0) {
            // Read by the same thread.
            gates[i] = value;
        } else {
            finish_gated(args.finish, index, gates[i], value);
        }
    }
}

/// Waits for the oldest stage of a ring whose others are under way.
DEVICE void wait_for_stage(unsigned ring_stages) {
    if (ring_stages == 3) {
        copy_async_wait<1>();
    } else if (ring_stages == 4) {
        copy_async_wait<2>();
    } else {
        copy_async_wait<4>();
    }
}

/// The kernel, of one row at least.
template <typename Weights, typename Product, typename Tiles, typename Rows>
DEVICE void few_rows(const FewArgs& args, const Tiles& tiles, const Rows& rows) {
    DYNAMIC_SHARED(shared);
    const unsigned warps = blockDim.x / WARP, warp = warp_index();
    char* const ring = shared + args.ring_at + warp * args.ring_stages * args.stage_bytes;
    char* const last = ring + (args.ring_stages - 1) * args.stage_bytes;
    StageReader<Weights, Product, Tiles> reader(args, tiles, ring);
#pragma unroll 1
    for (char* slot = ring; slot < last; slot += args.stage_bytes) reader.read(slot);
    grid_dependency_launch();
    grid_dependency_wait();
    stage_x<Weights, Product>(args, rows, shared);
    __syncthreads();

    using Sum = typename Product::Sum;
    // The stage that is multiplied, and the one that the next copies go to: that before it in the ring.
    char *slot = ring, *free = last;
    unsigned buffer = 0;
    for (unsigned unit = blockIdx.x; unit < args.units; unit += gridDim.x) {
        for (unsigned which = 0; which <= args.finish.gated; which++) {
            Product product;
            product.clear();
            for (unsigned first = 0; first < args.steps; first += warps) {
                wait_for_stage(args.ring_stages);
                // All lanes have their copies, and are done with the stage before, whose place the next one takes.
                __syncwarp();
                reader.read(free);
                if (first + warp < args.steps) {
                    product.step(args, rows.count, Stage<Weights>(slot), shared, first + warp);
                }
                free = slot;
                slot = slot == last ? ring : slot + args.stage_bytes;
            }
            // Two buffers in turn: one barrier for each tile is enough.
            Sum* partials = reinterpret_cast<Sum*>(shared + args.partials_at) + buffer * warps * Product::ROWS * SUM_STRIDE;
            product.store(partials + warp * Product::ROWS * SUM_STRIDE);
            buffer ^= 1;
            __syncthreads();
            finish_tile<Product>(args, rows, tiles.find(unit, which), which, partials, shared);
        }
    }
}
