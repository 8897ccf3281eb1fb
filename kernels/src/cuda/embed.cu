// Rows of a packed table. A thread decodes eight neighbours, from at most 32 bytes; nothing is read but rows that are asked for.
#include "matrix.cuh"

struct EmbedArgs {
    Matrix table;
    const uint32_t* index;
    float* out;
    uint32_t tokens;
    uint32_t first;
    /// Whether rows of `out` are aligned to 16 bytes.
    uint32_t vectors;
};

KERNEL(embed_rows, EmbedArgs, 256) {
    grid_dependency_launch();
    grid_dependency_wait();
    const uint32_t cols = args.table.cols;
    const uint32_t column = (blockIdx.y * blockDim.x + threadIdx.x) * 8;
    if (column >= cols) return;
    for (uint32_t token = blockIdx.x; token < args.tokens; token += gridDim.x) {
        const uint64_t row = uint64_t(args.first) + args.index[token];
        float values[8];
        if (row < args.table.rows) {
            decode_octet(values, args.table, unsigned(row), column);
        } else {
#pragma unroll
            for (int i = 0; i < 8; i++) values[i] = __uint_as_float(0x7fffffffu);
        }
        float* out = args.out + size_t(token) * cols + column;
        if (args.vectors && column + 8 <= cols) {
            reinterpret_cast<float4*>(out)[0] = make_float4(values[0], values[1], values[2], values[3]);
            reinterpret_cast<float4*>(out)[1] = make_float4(values[4], values[5], values[6], values[7]);
        } else {
#pragma unroll
            for (unsigned i = 0; i < 8; i++) {
                if (column + i < cols) out[i] = values[i];
            }
        }
    }
}
