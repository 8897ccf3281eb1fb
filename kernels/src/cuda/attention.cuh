// What the kernels of attention share: their arguments, which positions a query sees, scores and weights.
#pragma once
#include "device.cuh"

struct AttentionArgs {
    /// [tokens, heads, head_dim]
    const float* q;
    /// [kv_heads, capacity, head_dim] each, f32 or bf16.
    const void* keys;
    const void* values;
    /// [heads], or null.
    const float* sinks;
    /// [1]: the position of the first token.
    const uint32_t* position;
    /// As q; null where that form is not wanted.
    float* out;
    bf16* out_bf16;
    /// For attention_decode.cu: one for each unit, 0 between launches; sums of splits.
    uint32_t* counters;
    float* partials;
    uint32_t tokens, heads;
    /// Query heads that share a key/value head.
    uint32_t group;
    uint32_t head_dim, capacity;
    /// 0 for none.
    uint32_t window;
    /// Blocks that share the positions of a query at most.
    uint32_t splits;
    float scale;
    /// 0 for none.
    float softcap;
    /// Whether four elements of q from a multiple of four on are aligned to 16 bytes.
    uint32_t aligned;
};

struct Positions {
    unsigned begin, end;
};

/// What the query at `position` sees. Nothing beyond the cache, whatever the position is.
DEVICE Positions visible_positions(const AttentionArgs& args, unsigned position) {
    const unsigned end = min(position + 1, args.capacity);
    const unsigned begin = args.window != 0 && position >= args.window ? position + 1 - args.window : 0;
    return {min(begin, end), end};
}

DEVICE float attention_score(const AttentionArgs& args, float dot) {
    const float score = dot * args.scale;
    return args.softcap == 0 ? score : args.softcap * tanhf(score / args.softcap);
}

constexpr float LOG2_E = 1.4426950408889634f;

/// exp(score - maximum). The difference comes first, so that large scores lose nothing.
DEVICE float attention_weight(float score, float maximum) { return exp2f((score - maximum) * LOG2_E); }

/// As attention_weight of the greatest score so far; 0 where there was none, also before NaN.
DEVICE float attention_rescale(float before, float maximum) {
    return before == -infinity() ? 0.0f : attention_weight(before, maximum);
}

/// What a sum of weighted values is multiplied with at the end. `maximum` and `total` are those of the positions; the sink of the
/// head is one more score, without a value.
DEVICE float attention_factor(const AttentionArgs& args, unsigned head, float maximum, float total) {
    if (args.sinks == nullptr) return 1.0f / total;
    const float sink = __ldcg(args.sinks + head);
    const float greatest = fmaxf(maximum, sink);
    const float scale = attention_weight(maximum, greatest);
    return scale / (total * scale + attention_weight(sink, greatest));
}

DEVICE void store_attention(const AttentionArgs& args, size_t index, float value) {
    if (args.out != nullptr) args.out[index] = value;
    if (args.out_bf16 != nullptr) args.out_bf16[index] = to_bf16(value);
}

DEVICE void add_weighted(float4& sum, float weight, float4 value) {
    sum.x += weight * value.x;
    sum.y += weight * value.y;
    sum.z += weight * value.z;
    sum.w += weight * value.w;
}

/// Elements dim .. dim + 3 of a row, 0 behind its end; `aligned` to 4 elements, or not.
DEVICE float4 load_quad(const float* row, unsigned dim, unsigned head_dim, bool aligned) {
    if (aligned) return dim < head_dim ? __ldcg(reinterpret_cast<const float4*>(row + dim)) : make_float4(0, 0, 0, 0);
    const auto element = [&](unsigned i) { return dim + i < head_dim ? __ldcg(row + dim + i) : 0.0f; };
    return make_float4(element(0), element(1), element(2), element(3));
}
DEVICE float4 load_quad(const bf16* row, unsigned dim, unsigned head_dim, bool aligned) {
    if (aligned) {
        if (dim >= head_dim) return make_float4(0, 0, 0, 0);
        const uint2 words = __ldcg(reinterpret_cast<const uint2*>(row + dim));
        const float2 low = unpack_bf16(words.x), high = unpack_bf16(words.y);
        return make_float4(low.x, low.y, high.x, high.y);
    }
    const auto element = [&](unsigned i) {
        return dim + i < head_dim ? to_float(bf16{__ldcg(reinterpret_cast<const uint16_t*>(row + dim + i))}) : 0.0f;
    };
    return make_float4(element(0), element(1), element(2), element(3));
}
