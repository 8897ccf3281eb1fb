// Choosing the next token from logits: the largest, or by weights exp((logit - largest) / temperature), in f64.
//
// A token that is drawn is the first at which the sum of the weights so far exceeds a random share of all: over all tokens in
// their order, or with top-k or top-p over the likeliest, in descending order of weights, of equal ones the lowest token first.
// There, nothing is sorted. What is looked for is three times the place in that order where a measure reaches a target: the count
// of tokens reaches k, the sum of weights reaches its share p, it exceeds the random share. Each search descends through
// the bits of the logits, of which the order of weights is a coarsening, with a histogram for 11, 11 and 10 bits; what
// has the weight that is found, perhaps of several logits, is then counted, and the place among it calculated.
//
// A launch is a step of that, spread over the device; each block finds for itself what the step before has come to. The vocabulary
// is cut into slices, one for each block. Sums of histograms are whole numbers, so that results do not depend on the order of
// atomics: 18 bits of a weight at a time, four times.
// What limits it is the number of launches, of a few µs each: none reads more than the logits, half a megabyte, and a histogram.
#include "device.cuh"

using Wide = unsigned long long;

constexpr unsigned MAX_BLOCKS = 128;
constexpr unsigned THREADS = 256;
constexpr unsigned BINS = 2048;
/// A slice has up to 2^13 tokens, so that sums of a block fit in 32 bits.
constexpr unsigned LIMB_BITS = 18;
constexpr unsigned LIMBS = 4;
constexpr Wide INVALID = ~0ull;

/// Searches: for the top-k, for the top-p of these, for the token.
constexpr unsigned TOP_K = 0, TOP_P = 1, DRAW = 2, NONE = 3;

/// Tokens of a part of the order, and their weights in units of 2^-36 and of 2^-72.
struct Measure {
    Wide high, low, count;
};

/// Where a search is: bits of a logit, and what lies before all logits that begin with them.
struct Path {
    double target;
    Measure before;
    uint32_t prefix;
};

/// An end in the order: all tokens of more than a weight, and some of exactly that.
struct Cut {
    double weight, above;
    uint32_t count;
    /// The search whose `classes` are about that weight.
    uint32_t search;
};

struct Histogram {
    Wide high[BINS], low[BINS];
    uint32_t count[BINS];
};

/// Of the slices: weights above the one that was found, tokens that have more, tokens that have it.
struct Classes {
    double above[MAX_BLOCKS];
    uint32_t more[MAX_BLOCKS], equal[MAX_BLOCKS];
};

struct Scratch {
    /// Of each slice: the order of its largest logit and the complement of its token; 0 for none, INVALID for NaN or +inf.
    Wide best[MAX_BLOCKS];
    double sums[MAX_BLOCKS];
    Classes classes[3];
    Path paths[3][3];
    Cut cuts[3];
    /// One that all searches begin with, then two for each.
    Histogram histograms[7];
};
static_assert(sizeof(Scratch) <= (1u << 20), "as SAMPLE_SCRATCH_BYTES says");

struct SampleArgs {
    const float* logits;
    /// Bits of a double.
    const Wide* uniform;
    uint32_t* token;
    Scratch* scratch;
    double temperature, top_p;
    uint32_t count, top_k;
    /// Slices.
    uint32_t blocks;
    /// What a launch is about: a search, which level of it, and the search that limits it, or NONE.
    uint32_t search, level, limit;
};

/// Bits that are ordered as numbers are, both zeros the same.
DEVICE uint32_t order_of(float logit) {
    const uint32_t bits = logit == 0 ? 0 : __float_as_uint(logit);
    return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}
DEVICE float of_order(uint32_t order) { return __uint_as_float((order & 0x80000000u) != 0 ? order & 0x7fffffffu : ~order); }

struct Slice {
    unsigned begin, end;
};
DEVICE Slice slice_of(const SampleArgs& args, unsigned block) {
    const unsigned length = (args.count + args.blocks - 1) / args.blocks;
    return {min(block * length, args.count), min((block + 1) * length, args.count)};
}

/// The best of all slices.
DEVICE Wide best_of_all(const SampleArgs& args) {
    SHARED(Wide, scratch, WARP);
    return block_max(threadIdx.x < args.blocks ? __ldcg(args.scratch->best + threadIdx.x) : 0ull, scratch);
}
DEVICE bool is_valid(Wide best) { return best != 0 && best != INVALID; }

/// Weights relative to that of the largest logit.
struct Weights {
    const float* logits;
    double largest, temperature;
    DEVICE double of(float logit) const { return exp((double(logit) - largest) / temperature); }
    DEVICE double at(unsigned token) const { return of(__ldcg(logits + token)); }
};
DEVICE Weights weights_of(const SampleArgs& args, Wide best) {
    return {args.logits, double(of_order(uint32_t(best >> 32))), args.temperature};
}

/// The sum over the threads before this one. `scratch`: 32 values, free again afterwards.
template <typename T>
DEVICE T sum_before(T value, T* scratch) {
    T sum = value;
    for (unsigned distance = 1; distance < WARP; distance *= 2) {
        const T other = __shfl_up_sync(ALL_LANES, sum, distance);
        if (lane_index() >= distance) sum += other;
    }
    if (lane_index() == WARP - 1) scratch[warp_index()] = sum;
    T before = __shfl_up_sync(ALL_LANES, sum, 1);
    if (lane_index() == 0) before = 0;
    __syncthreads();
    for (unsigned warp = 0; warp < warp_index(); warp++) before += scratch[warp];
    __syncthreads();
    return before;
}

/// Tokens of a slice that a thread has, in order: as many for each thread.
DEVICE Slice share_of_thread(Slice slice) {
    const unsigned length = (slice.end - slice.begin + THREADS - 1) / THREADS;
    return {min(slice.begin + threadIdx.x * length, slice.end), min(slice.begin + (threadIdx.x + 1) * length, slice.end)};
}

/// The largest logit of each slice; clears the histograms.
KERNEL(sample_best, SampleArgs, 256) {
    SHARED(Wide, scratch, WARP);
    grid_dependency_launch();
    grid_dependency_wait();
    Wide best = 0;
    const Slice slice = slice_of(args, blockIdx.x);
    for (unsigned token = slice.begin + threadIdx.x; token < slice.end; token += THREADS) {
        const float logit = __ldcg(args.logits + token);
        if (logit > -infinity()) best = max(best, logit == infinity() ? INVALID : Wide(order_of(logit)) << 32 | ~token);
        else if (logit != logit) best = INVALID;
    }
    best = block_max(best, scratch);
    if (threadIdx.x == 0) args.scratch->best[blockIdx.x] = best;
    if (args.temperature == 0) return;
    constexpr unsigned WORDS = sizeof(args.scratch->histograms) / sizeof(uint4);
    uint4* const words = reinterpret_cast<uint4*>(args.scratch->histograms);
    for (unsigned i = blockIdx.x * THREADS + threadIdx.x; i < WORDS; i += args.blocks * THREADS) words[i] = make_uint4(0, 0, 0, 0);
}

KERNEL(sample_greedy, SampleArgs, 256) {
    grid_dependency_launch();
    grid_dependency_wait();
    const Wide best = best_of_all(args);
    if (threadIdx.x == 0) args.token[0] = is_valid(best) ? ~uint32_t(best) : ~0u;
}

// ---- all tokens

KERNEL(sample_sums, SampleArgs, 256) {
    SHARED(double, scratch, WARP);
    grid_dependency_launch();
    grid_dependency_wait();
    const Wide best = best_of_all(args);
    if (!is_valid(best)) return;
    const Weights weights = weights_of(args, best);
    const Slice slice = slice_of(args, blockIdx.x);
    double sum = 0;
    for (unsigned token = slice.begin + threadIdx.x; token < slice.end; token += THREADS) sum += weights.at(token);
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) args.scratch->sums[blockIdx.x] = sum;
}

KERNEL(sample_draw, SampleArgs, 256) {
    SHARED(double, scratch, WARP);
    SHARED(double, sums, MAX_BLOCKS);
    SHARED(uint32_t, chosen, 2);
    grid_dependency_launch();
    grid_dependency_wait();
    const Wide best = best_of_all(args);
    if (!is_valid(best)) {
        if (threadIdx.x == 0) args.token[0] = ~0u;
        return;
    }
    if (threadIdx.x < args.blocks) sums[threadIdx.x] = __ldcg(args.scratch->sums + threadIdx.x);
    if (threadIdx.x < 2) chosen[threadIdx.x] = threadIdx.x == 0 ? args.count : 0;
    __syncthreads();
    double total = 0;
#pragma unroll 4
    for (unsigned block = 0; block < args.blocks; block++) total += sums[block];
    const double target = __longlong_as_double((long long)(__ldcg(args.uniform))) * total;
    // The slice that passes the target, or where rounding leaves none, the last with a weight.
    unsigned block = 0;
    double sum = 0, before = 0;
#pragma unroll 1
    for (unsigned i = 0; i < args.blocks && !(sum > target); i++) {
        if (sums[i] > 0) {
            block = i;
            before = sum;
        }
        sum += sums[i];
    }
    const Weights weights = weights_of(args, best);
    const Slice share = share_of_thread(slice_of(args, block));
    double own = 0;
    for (unsigned token = share.begin; token < share.end; token++) own += weights.at(token);
    sum = before + sum_before(own, scratch);
    for (unsigned token = share.begin; token < share.end; token++) {
        const double weight = weights.at(token);
        sum += weight;
        if (sum > target) atomicMin(&chosen[0], token);
        if (weight > 0) atomicMax(&chosen[1], token);
    }
    __syncthreads();
    if (threadIdx.x == 0) args.token[0] = chosen[0] < args.count ? chosen[0] : chosen[1];
}

// ---- the likeliest

DEVICE double measured(const SampleArgs& args, const Measure& measure) {
    if (args.search == TOP_K) return double(measure.count);
    return double(measure.high) * (1.0 / (1ull << 36)) + double(measure.low) * (1.0 / (1ull << 36)) * (1.0 / (1ull << 36));
}
DEVICE bool reaches(const SampleArgs& args, const Measure& measure, double target) {
    return args.search == DRAW ? measured(args, measure) > target : measured(args, measure) >= target;
}

DEVICE Measure operator+(const Measure& a, const Measure& b) { return {a.high + b.high, a.low + b.low, a.count + b.count}; }

/// All of a histogram.
DEVICE Measure total_of(const Histogram& histogram) {
    SHARED(Wide, scratch, WARP);
    Measure total = {0, 0, 0};
    for (unsigned bin = threadIdx.x; bin < BINS; bin += THREADS) {
        total = total + Measure{__ldcg(histogram.high + bin), __ldcg(histogram.low + bin), __ldcg(histogram.count + bin)};
    }
    return {block_sum(total.high, scratch), block_sum(total.low, scratch), block_sum(total.count, scratch)};
}

/// The bin, from the highest on, in which the target is reached; where rounding leaves none, the last that adds to the weights.
/// `bits`: how many bits the histogram is about.
DEVICE Path descend(const SampleArgs& args, const Histogram& histogram, const Path& path, unsigned bits) {
    SHARED(Wide, scratch, WARP);
    SHARED(Measure, found_before, 1);
    SHARED(uint32_t, found, 1);
    constexpr unsigned EACH = BINS / THREADS;
    const Measure total = path.before + total_of(histogram);
    const bool reached = reaches(args, total, path.target);
    Measure bins[EACH], own = {0, 0, 0};
    const unsigned first = BINS - 1 - threadIdx.x * EACH;
#pragma unroll
    for (unsigned i = 0; i < EACH; i++) {
        bins[i] = {__ldcg(histogram.high + first - i), __ldcg(histogram.low + first - i), __ldcg(histogram.count + first - i)};
        own = own + bins[i];
    }
    const Measure others = {sum_before(own.high, scratch), sum_before(own.low, scratch), sum_before(own.count, scratch)};
    const auto is_there = [&](const Measure& measure) {
        return reached ? reaches(args, measure, path.target) : measure.high == total.high && measure.low == total.low;
    };
    Measure before = path.before + others;
    bool was_there = is_there(before);
#pragma unroll
    for (unsigned i = 0; i < EACH; i++) {
        const Measure after = before + bins[i];
        const bool there = is_there(after);
        if (there && !was_there) {
            found[0] = first - i;
            found_before[0] = before;
        }
        was_there = there;
        before = after;
    }
    __syncthreads();
    const Path next = {path.target, found_before[0], path.prefix << bits | found[0]};
    __syncthreads();
    return next;
}

/// Where a search has ended, not behind the cut that limits it.
DEVICE Cut cut_of(const SampleArgs& args, const Weights& weights, unsigned search, unsigned limit) {
    SHARED(double, sums, WARP);
    SHARED(uint32_t, counts, WARP);
    const Path& path = args.scratch->paths[search][2];
    const Classes& classes = args.scratch->classes[search];
    const bool has_slice = threadIdx.x < args.blocks;
    const unsigned slice = min(threadIdx.x, args.blocks - 1);
    const double above = block_sum(has_slice ? __ldcg(classes.above + slice) : 0.0, sums);
    const uint32_t more = block_sum(has_slice ? __ldcg(classes.more + slice) : 0u, counts);
    const uint32_t equal = block_sum(has_slice ? __ldcg(classes.equal + slice) : 0u, counts);
    const double weight = weights.of(of_order(__ldcg(&path.prefix))), target = __ldcg(&path.target);
    double place = 1;
    if (search == TOP_K) place = target - more;
    else if (weight > 0) place = search == TOP_P ? ceil((target - above) / weight) : floor((target - above) / weight) + 1;
    // At least the first: also where rounding has put the sum above the target.
    const Cut cut = {weight, above, uint32_t(fmin(fmax(place, 1.0), double(equal))), search};
    if (limit == NONE) return cut;
    const Cut& last = args.scratch->cuts[limit];
    const double last_weight = __ldcg(&last.weight);
    const uint32_t last_count = __ldcg(&last.count);
    if (weight > last_weight || (weight == last_weight && cut.count <= last_count)) return cut;
    return {last_weight, __ldcg(&last.above), last_count, __ldcg(&last.search)};
}

/// What a search looks for. The cut of the search that limits it is found here, and kept.
DEVICE double target_of(const SampleArgs& args, const Weights& weights) {
    if (args.search == TOP_K) return double(args.top_k);
    double total;
    if (args.limit == NONE) {
        total = measured(args, total_of(args.scratch->histograms[0]));
    } else {
        const Cut cut = cut_of(args, weights, args.limit, args.limit == TOP_P && args.top_k != 0 ? TOP_K : NONE);
        if (blockIdx.x == 0 && threadIdx.x == 0) args.scratch->cuts[args.limit] = cut;
        total = cut.above + cut.count * cut.weight;
    }
    return (args.search == TOP_P ? args.top_p : __longlong_as_double((long long)(__ldcg(args.uniform)))) * total;
}

/// The path that the level before this one has come to, kept by one block.
DEVICE Path path_of(const SampleArgs& args, const Weights& weights) {
    if (args.level == 0) return {0, {0, 0, 0}, 0};
    Path path = {0, {0, 0, 0}, 0};
    if (args.level == 1) {
        path.target = target_of(args, weights);
    } else {
        const Path& last = args.scratch->paths[args.search][args.level - 2];
        path = {__ldcg(&last.target), {__ldcg(&last.before.high), __ldcg(&last.before.low), __ldcg(&last.before.count)},
            __ldcg(&last.prefix)};
    }
    const unsigned histogram = args.level == 1 ? 0 : 2 * args.search + args.level - 1;
    path = descend(args, args.scratch->histograms[histogram], path, args.level == 3 ? 10 : 11);
    if (blockIdx.x == 0 && threadIdx.x == 0) args.scratch->paths[args.search][args.level - 1] = path;
    return path;
}

/// Weights and counts by the bits of the logits that come after those of the path: level 0, which is for all searches, 1 and 2.
KERNEL(sample_histogram, SampleArgs, 256) {
    SHARED(uint32_t, bins, (LIMBS + 1) * BINS);
    grid_dependency_launch();
    grid_dependency_wait();
    const Wide best = best_of_all(args);
    if (!is_valid(best)) return;
    const Weights weights = weights_of(args, best);
    for (unsigned i = threadIdx.x; i < (LIMBS + 1) * BINS; i += THREADS) bins[i] = 0;
    const Path path = path_of(args, weights);
    __syncthreads();
    // Bits before, and bits of, the bins.
    const unsigned known = 11 * args.level, bits = args.level == 2 ? 10 : 11, shift = 32 - known - bits;
    const Slice slice = slice_of(args, blockIdx.x);
    for (unsigned token = slice.begin + threadIdx.x; token < slice.end; token += THREADS) {
        const float logit = __ldcg(args.logits + token);
        const uint32_t order = order_of(logit);
        if (known != 0 && order >> (32 - known) != path.prefix) continue;
        const unsigned bin = order >> shift & ((1u << bits) - 1);
        atomicAdd(&bins[bin], 1u);
        double weight = weights.of(logit);
#pragma unroll
        for (unsigned limb = 0; limb < LIMBS; limb++) {
            weight *= double(1u << LIMB_BITS);
            const uint32_t part = uint32_t(weight);
            weight -= part;
            if (part != 0) atomicAdd(&bins[(1 + limb) * BINS + bin], part);
        }
    }
    __syncthreads();
    Histogram& histogram = args.scratch->histograms[args.level == 0 ? 0 : 2 * args.search + args.level];
    for (unsigned bin = threadIdx.x; bin < BINS; bin += THREADS) {
        if (bins[bin] == 0) continue;
        const auto limb = [&](unsigned i) { return Wide(bins[(1 + i) * BINS + bin]); };
        atomicAdd(&histogram.count[bin], bins[bin]);
        atomicAdd(&histogram.high[bin], (limb(0) << LIMB_BITS) + limb(1));
        atomicAdd(&histogram.low[bin], (limb(2) << LIMB_BITS) + limb(3));
    }
}

/// Level 3: what has the weight that is found, and what has more.
KERNEL(sample_classes, SampleArgs, 256) {
    SHARED(double, sums, WARP);
    SHARED(uint32_t, counts, WARP);
    grid_dependency_launch();
    grid_dependency_wait();
    const Wide best = best_of_all(args);
    if (!is_valid(best)) return;
    const Weights weights = weights_of(args, best);
    const double found = weights.of(of_order(path_of(args, weights).prefix));
    double above = 0;
    uint32_t more = 0, equal = 0;
    const Slice slice = slice_of(args, blockIdx.x);
    for (unsigned token = slice.begin + threadIdx.x; token < slice.end; token += THREADS) {
        const double weight = weights.at(token);
        if (weight > found) {
            above += weight;
            more++;
        } else if (weight == found) {
            equal++;
        }
    }
    above = block_sum(above, sums);
    more = block_sum(more, counts);
    equal = block_sum(equal, counts);
    if (threadIdx.x != 0) return;
    Classes& classes = args.scratch->classes[args.search];
    classes.above[blockIdx.x] = above;
    classes.more[blockIdx.x] = more;
    classes.equal[blockIdx.x] = equal;
}

/// The token at the cut of the last search.
KERNEL(sample_find, SampleArgs, 256) {
    SHARED(uint32_t, equal, MAX_BLOCKS);
    SHARED(uint32_t, counts, WARP);
    grid_dependency_launch();
    grid_dependency_wait();
    const Wide best = best_of_all(args);
    if (!is_valid(best)) {
        if (threadIdx.x == 0) args.token[0] = ~0u;
        return;
    }
    const Weights weights = weights_of(args, best);
    const Cut cut = cut_of(args, weights, DRAW, args.limit);
    if (threadIdx.x < args.blocks) equal[threadIdx.x] = __ldcg(args.scratch->classes[cut.search].equal + threadIdx.x);
    __syncthreads();
    uint32_t place = cut.count;
    unsigned block = 0;
    while (block < args.blocks - 1 && place > equal[block]) place -= equal[block++];
    const Slice share = share_of_thread(slice_of(args, block));
    uint32_t own = 0;
    for (unsigned token = share.begin; token < share.end; token++) own += weights.at(token) == cut.weight ? 1 : 0;
    uint32_t before = sum_before(own, counts);
    for (unsigned token = share.begin; token < share.end; token++) {
        if (weights.at(token) == cut.weight && ++before == place) args.token[0] = token;
    }
}

struct AdvanceArgs {
    uint32_t* position;
};

KERNEL(sample_advance, AdvanceArgs, 32) {
    grid_dependency_launch();
    grid_dependency_wait();
    if (threadIdx.x == 0) args.position[0] += 1;
}
