// Runs kernels on the CPU: a fiber for each thread of a block, blocks one after another. What holds on a GPU only because of
// timing does not hold here: a thread runs until it waits for others, and in which order threads run is a schedule, so that a
// missing barrier gives wrong values under one of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

struct uint3 { unsigned x, y, z; };
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

namespace lathe_host {

constexpr unsigned WARP_LANES = 32;
constexpr unsigned MAX_THREADS = 1024;
/// Static shared memory, and dynamic without the attribute that asks for more.
constexpr size_t SHARED_BYTES = 48 * 1024;
/// What memory holds that nobody has written: NaN as f32, bf16 and f16, -1 as an integer.
constexpr int POISON = 0xff;

/// A kernel, as KERNEL registers it.
struct Kernel {
    const char* name;
    size_t argument_bytes;
    unsigned max_threads;
    void (*run)(const void* arguments);

    Kernel(const char* name, size_t argument_bytes, unsigned max_threads, void (*run)(const void*));
    static const Kernel* find(const char* name);
};

struct Block {
    dim3 grid, size;
    uint3 index;
};

/// A thread of a kernel.
struct Thread {
    const Block* block;
    uint3 index;
};
/// The one that runs.
extern __thread Thread* current __attribute__((tls_model("initial-exec")));

/// In which order threads run. Greedy ones let a warp run until all of it waits for other warps: they find barriers that
/// are missing at the end of a loop, where the others keep warps in step.
enum class Schedule { forward, reverse, random, greedy_forward, greedy_reverse };

/// Sets the schedule of launches from this OS thread: "forward", "reverse", "random:SEED", "greedy-forward", "greedy-reverse". At
/// first it is that of LATHE_HOST_SCHEDULE, greedy-forward without it. False when the text is none of them.
bool set_schedule(const char* text);

struct Launch {
    const Kernel* kernel;
    dim3 grid, block;
    size_t dynamic_shared_bytes;
    /// Static and dynamic together, at most.
    size_t shared_limit;
    /// It may start before the launch before it has ended.
    bool overlaps;
    std::vector<char> arguments;
};

class Engine;

/// Runs one launch after another, a launch in up to two steps: what its first block does before it waits for the launch
/// before it, and the rest.
class Runner {
public:
    Runner();
    ~Runner();
    /// The launch before it, if there is one, is finished first, unless `overlaps`: then after the first step of this one.
    void begin(const Launch& launch);
    /// Runs to its end what has begun. On a fault of a kernel its other blocks are left out.
    void finish();
    /// The faults so far, which are forgotten then: kernel, block, thread, reason of each; empty without one.
    std::string take_faults();

private:
    std::unique_ptr<Engine> running, next;
    std::string faults;
};

// ---- for the kernel that runs

/// Ends the launch.
[[noreturn]] void fault(const char* format, ...) __attribute__((format(printf, 1, 2)));

/// Shared memory of this block that `tag` stands for, poisoned when the block starts.
void* shared_object(const void* tag, size_t bytes);
char* dynamic_shared();

/// Waits for all living threads of the block. Gives how many of them said `true`.
unsigned block_barrier(bool predicate);

/// The arguments of the lanes of a warp in one collective; null for lanes that have ended or never were.
struct Lanes {
    void* arguments[WARP_LANES];
    template <typename T>
    T* get(unsigned lane) const { return static_cast<T*>(arguments[lane]); }
};
/// Waits for all living lanes of the warp; the last to come applies `action` to the arguments of all.
void warp_collective(const char* name, uint32_t mask, void* arguments, void (*action)(const Lanes&));
unsigned lane();

/// cp.async: the copy is made when it is waited for, and until then the target is poisoned.
void copy_async(void* shared, const void* global, unsigned bytes, unsigned source_bytes);
void copy_async_commit();
void copy_async_wait(unsigned pending_groups);

/// griddepcontrol.wait: the first block of a launch that overlaps does not get past it before the launch before has ended.
void dependency_wait();

}  // namespace lathe_host
