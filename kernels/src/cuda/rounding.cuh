// Rounding of rows to int8, as ops::quantize_rows.
#pragma once

#include "device.cuh"

/// The magnitude of a number by its bits, which are larger for what is not finite than for any number.
DEVICE unsigned magnitude_bits(float value) { return __float_as_uint(value) & 0x7fffffffu; }

/// How a row is rounded whose largest magnitude has these bits.
struct Rounding {
    float scale;
    bool is_zero;

    DEVICE explicit Rounding(unsigned largest_bits)
        : scale(largest_bits < 0x7f800000u ? __fdiv_rn(__uint_as_float(largest_bits), 127.0f) : __uint_as_float(0x7fffffffu)),
          is_zero(!(scale > 0.0f)) {}

    DEVICE int code(float value) const {
        return is_zero ? 0 : max(-127, min(127, __float2int_rn(__fdiv_rn(value, scale))));
    }
    /// Codes of four neighbours.
    DEVICE uint32_t word(const float* values) const {
        uint32_t word = 0;
#pragma unroll
        for (int i = 0; i < 4; i++) word |= uint32_t(code(values[i]) & 0xff) << (8 * i);
        return word;
    }
};
