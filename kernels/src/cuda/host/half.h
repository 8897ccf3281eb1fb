// 16-bit floats of device.cuh on the CPU.
#pragma once

struct bf16 { uint16_t bits; };
struct f16 { uint16_t bits; };

namespace lathe_host {

/// A float that rounds to 16 bits as the double itself does: the part that is cut off leaves a 1 as its last bit.
inline float round_to_odd(double value) {
    const float nearest = float(value);
    if (double(nearest) == value || value != value || std::isinf(nearest)) return nearest;
    const bool too_large = std::fabs(double(nearest)) > std::fabs(value);
    const uint32_t truncated = bits_as<uint32_t>(nearest) - (too_large ? 1 : 0);
    return bits_as<float>(truncated | 1u);
}

inline uint16_t bf16_bits(float value) {
    const uint32_t bits = bits_as<uint32_t>(value);
    if (value != value) return 0x7fff;
    return uint16_t((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

inline uint16_t f16_bits(float value) {
    const uint32_t bits = bits_as<uint32_t>(value);
    const uint32_t sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (value != value) return 0x7fff;
    if (magnitude >= 0x477ff000u) return uint16_t(sign | 0x7c00u);
    if (magnitude < 0x38800000u) {
        // Subnormal: multiples of 2^-24, which nearbyint rounds to.
        return uint16_t(sign | uint32_t(std::nearbyint(bits_as<float>(magnitude) * 16777216.0f)));
    }
    const uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1u);
    return uint16_t(sign | ((rounded - 0x38000000u) >> 13));
}

inline float f16_value(uint16_t bits) {
    const uint32_t sign = uint32_t(bits & 0x8000u) << 16, exponent = bits >> 10 & 31u, fraction = bits & 0x3ffu;
    if (exponent == 31) return bits_as<float>(sign | 0x7f800000u | fraction << 13);
    if (exponent == 0) return bits_as<float>(sign | bits_as<uint32_t>(float(fraction) / 16777216.0f));
    return bits_as<float>(sign | (exponent + 112) << 23 | fraction << 13);
}

inline float bf16_value(uint16_t bits) { return bits_as<float>(uint32_t(bits) << 16); }

template <float value(uint16_t), uint16_t bits(float)>
inline uint32_t fma_pair(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t result = 0;
    for (int shift = 0; shift < 32; shift += 16) {
        const double product = double(value(uint16_t(a >> shift))) * double(value(uint16_t(b >> shift)));
        result |= uint32_t(bits(round_to_odd(product + double(value(uint16_t(c >> shift)))))) << shift;
    }
    return result;
}

}  // namespace lathe_host

inline float to_float(bf16 value) { return lathe_host::bf16_value(value.bits); }
inline float to_float(f16 value) { return lathe_host::f16_value(value.bits); }
inline bf16 to_bf16(float value) { return {lathe_host::bf16_bits(value)}; }
inline f16 to_f16(float value) { return {lathe_host::f16_bits(value)}; }
inline uint32_t pack_bf16(float low, float high) {
    return lathe_host::bf16_bits(low) | uint32_t(lathe_host::bf16_bits(high)) << 16;
}
inline uint32_t pack_f16(float low, float high) {
    return lathe_host::f16_bits(low) | uint32_t(lathe_host::f16_bits(high)) << 16;
}
inline uint32_t fma_bf16x2(uint32_t a, uint32_t b, uint32_t c) {
    return lathe_host::fma_pair<lathe_host::bf16_value, lathe_host::bf16_bits>(a, b, c);
}
inline uint32_t fma_f16x2(uint32_t a, uint32_t b, uint32_t c) {
    return lathe_host::fma_pair<lathe_host::f16_value, lathe_host::f16_bits>(a, b, c);
}
