#include "engine.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "fiber.h"

namespace lathe_host {

__thread Thread* current = nullptr;

namespace {

std::vector<const Kernel*>& kernels() {
    static std::vector<const Kernel*> all;
    return all;
}

struct Copy {
    void* target;
    const void* source;
    unsigned bytes, source_bytes;
    uint64_t group;
};

enum class State { ready, in_warp_collective, at_block_barrier, at_dependency, ended };

struct Worker : Thread {
    Engine* engine = nullptr;
    Fiber fiber;
    State state = State::ended;
    unsigned number = 0;
    void* arguments = nullptr;
    unsigned predicates = 0;
    std::vector<Copy> copies;
    uint64_t copy_group = 0;
};

struct Warp {
    unsigned alive = 0, arrived = 0;
    const char* name = nullptr;
    void (*action)(const Lanes&) = nullptr;
};

/// A SHARED object. Memory of its own, so that a sanitizer sees where it ends.
struct SharedObject {
    const void* tag;
    size_t bytes;
    std::unique_ptr<char[]> memory;
    uint64_t block_number;
};

struct Scheduling {
    Schedule schedule = Schedule::greedy_forward;
    uint32_t seed = 0;
};

bool parse_schedule(const char* text, Scheduling& scheduling) {
    const std::string name(text);
    const std::string random = "random:";
    if (name == "forward") scheduling.schedule = Schedule::forward;
    else if (name == "reverse") scheduling.schedule = Schedule::reverse;
    else if (name == "greedy-forward") scheduling.schedule = Schedule::greedy_forward;
    else if (name == "greedy-reverse") scheduling.schedule = Schedule::greedy_reverse;
    else if (name.compare(0, random.size(), random) == 0 && name.size() > random.size()) {
        char* end = nullptr;
        scheduling.seed = uint32_t(std::strtoul(text + random.size(), &end, 10));
        if (*end != 0) return false;
        scheduling.schedule = Schedule::random;
    } else return false;
    return true;
}

Scheduling scheduling_of_environment() {
    Scheduling scheduling;
    const char* text = std::getenv("LATHE_HOST_SCHEDULE");
    if (text != nullptr && !parse_schedule(text, scheduling)) {
        std::fprintf(stderr, "LATHE_HOST_SCHEDULE: `%s` is no schedule\n", text);
        std::abort();
    }
    return scheduling;
}

thread_local Scheduling scheduling_of_thread = scheduling_of_environment();

Worker& running() { return static_cast<Worker&>(*current); }

/// The running thread does not go on before its state is `ready` again.
void wait(State state) {
    running().state = state;
    Fiber::suspend();
}

}  // namespace

class Engine {
public:
    /// Any launch before it has been finished.
    void begin(const Launch& launch);
    void run_until_dependency();
    std::string finish();

    void fault(const std::string& reason);
    void* shared_object(const void* tag, size_t bytes);
    char* dynamic_shared() { return dynamic.get(); }
    unsigned block_barrier(bool predicate);
    void warp_collective(const char* name, void* arguments, void (*action)(const Lanes&));
    void dependency_wait();

private:
    Scheduling scheduling;
    Launch launch;
    bool begun = false, dependency_ended = false, dependency_asked = false;
    std::string faulted;

    Block block;
    uint64_t blocks = 0, block_turn = 0;
    std::vector<unsigned> block_order;
    bool in_block = false;

    std::vector<std::unique_ptr<Worker>> workers;
    std::vector<unsigned> order;
    unsigned count = 0, alive = 0;
    uint32_t random_state = 0;

    Warp warps[MAX_THREADS / WARP_LANES];
    unsigned at_barrier = 0, predicates = 0;

    std::vector<SharedObject> objects;
    std::unique_ptr<char[]> dynamic;
    size_t static_bytes = 0;
    uint64_t block_number = 0;

    static void thread_main(void* engine);
    void begin_block();
    void run_threads();
    bool run(unsigned number);
    bool run_warp(unsigned warp);
    bool run_greedily();
    bool run_round();
    void end_thread();
    void finish_warp_collective(unsigned warp);
    void finish_block_barrier();
    std::string who_waits() const;
    unsigned random_below(unsigned bound);
    void shuffle(std::vector<unsigned>& numbers);
    bool reversed() const {
        return scheduling.schedule == Schedule::reverse || scheduling.schedule == Schedule::greedy_reverse;
    }
    bool greedy() const {
        return scheduling.schedule == Schedule::greedy_forward || scheduling.schedule == Schedule::greedy_reverse;
    }
};

unsigned Engine::random_below(unsigned bound) {
    random_state = random_state * 1664525u + 1013904223u;
    return unsigned((uint64_t(random_state >> 8) * bound) >> 24);
}

void Engine::shuffle(std::vector<unsigned>& numbers) {
    for (unsigned i = unsigned(numbers.size()); i > 1; i--) std::swap(numbers[i - 1], numbers[random_below(i)]);
}

void Engine::begin(const Launch& begun_launch) {
    scheduling = scheduling_of_thread;
    launch = begun_launch;
    begun = true;
    dependency_ended = dependency_asked = false;
    faulted.clear();
    dynamic.reset(new char[launch.dynamic_shared_bytes]);
    random_state = scheduling.seed;
    const dim3 size = launch.block;
    block.grid = launch.grid;
    block.size = size;
    count = size.x * size.y * size.z;
    while (workers.size() < count) workers.push_back(std::make_unique<Worker>());
    order.resize(count);
    for (unsigned number = 0; number < count; number++) {
        Worker& worker = *workers[number];
        worker.engine = this;
        worker.number = number;
        worker.block = &block;
        worker.index = {number % size.x, number / size.x % size.y, number / size.x / size.y};
        order[number] = reversed() ? count - 1 - number : number;
    }
    blocks = uint64_t(launch.grid.x) * launch.grid.y * launch.grid.z;
    block_turn = 0;
    in_block = false;
    block_order.clear();
    if (scheduling.schedule == Schedule::random) {
        block_order.resize(blocks);
        for (uint64_t i = 0; i < blocks; i++) block_order[i] = unsigned(i);
        shuffle(block_order);
    }
}

void Engine::run_until_dependency() {
    begin_block();
    run_threads();
}

std::string Engine::finish() {
    if (!begun) return "";
    begun = false;
    dependency_ended = true;
    for (unsigned number = 0; number < count; number++) {
        if (workers[number]->state == State::at_dependency) workers[number]->state = State::ready;
    }
    while (faulted.empty() && block_turn < blocks) {
        if (!in_block) begin_block();
        run_threads();
        if (faulted.empty() && alive > 0) fault("divergent barrier: " + who_waits());
        in_block = false;
        block_turn++;
    }
    if (faulted.empty() && launch.overlaps && !dependency_asked) {
        fault("launched to overlap with the launch before it, for which it never waits");
    }
    return faulted;
}

void Engine::begin_block() {
    const uint64_t number = !block_order.empty() ? block_order[block_turn] : reversed() ? blocks - 1 - block_turn : block_turn;
    block.index = {unsigned(number % launch.grid.x), unsigned(number / launch.grid.x % launch.grid.y),
                   unsigned(number / launch.grid.x / launch.grid.y)};
    in_block = true;
    block_number++;
    static_bytes = 0;
    std::memset(dynamic.get(), POISON, launch.dynamic_shared_bytes);
    alive = count;
    at_barrier = predicates = 0;
    for (unsigned first = 0; first < count; first += WARP_LANES) {
        Warp& warp = warps[first / WARP_LANES];
        warp = Warp();
        warp.alive = std::min(WARP_LANES, count - first);
    }
    for (unsigned thread = 0; thread < count; thread++) {
        Worker& worker = *workers[thread];
        worker.state = State::ready;
        worker.copies.clear();
        worker.copy_group = 0;
        worker.fiber.start(thread_main, this);
    }
}

/// Until all threads have ended, or nobody can go on.
void Engine::run_threads() {
    bool progress = true;
    while (progress && faulted.empty()) progress = greedy() ? run_greedily() : run_round();
    current = nullptr;
}

std::string Engine::who_waits() const {
    unsigned in_collectives = 0;
    const char* name = "";
    for (unsigned number = 0; number < count; number++) {
        if (workers[number]->state == State::in_warp_collective) {
            in_collectives++;
            name = warps[number / WARP_LANES].name;
        }
    }
    return "of " + std::to_string(count) + " threads " + std::to_string(at_barrier) + " wait for their block, " +
           std::to_string(in_collectives) + " for their warp" + (in_collectives > 0 ? " in " : "") + name + ", " +
           std::to_string(count - alive) + " have ended";
}

bool Engine::run(unsigned number) {
    Worker& worker = *workers[number];
    if (worker.state != State::ready || !faulted.empty()) return false;
    current = &worker;
    worker.fiber.resume();
    return true;
}

bool Engine::run_round() {
    if (scheduling.schedule == Schedule::random) shuffle(order);
    bool progress = false;
    for (const unsigned number : order) progress |= run(number);
    return progress;
}

bool Engine::run_warp(unsigned warp) {
    const unsigned first = warp * WARP_LANES, lanes = std::min(WARP_LANES, count - first);
    bool progress = false;
    for (unsigned i = 0; i < lanes; i++) progress |= run(first + (reversed() ? lanes - 1 - i : i));
    return progress;
}

bool Engine::run_greedily() {
    const unsigned all = (count + WARP_LANES - 1) / WARP_LANES;
    bool progress = false;
    for (unsigned i = 0; i < all; i++) {
        while (run_warp(reversed() ? all - 1 - i : i)) progress = true;
    }
    return progress;
}

void Engine::thread_main(void* engine) {
    Engine& self = *static_cast<Engine*>(engine);
    self.launch.kernel->run(self.launch.arguments.data());
    self.end_thread();
}

void Engine::end_thread() {
    Worker& worker = running();
    worker.state = State::ended;
    alive--;
    Warp& warp = warps[worker.number / WARP_LANES];
    warp.alive--;
    if (warp.arrived > 0 && warp.arrived == warp.alive) finish_warp_collective(worker.number / WARP_LANES);
    if (at_barrier > 0 && at_barrier == alive) finish_block_barrier();
}

void Engine::fault(const std::string& reason) {
    const auto numbers = [](uint3 index) {
        return " (" + std::to_string(index.x) + ", " + std::to_string(index.y) + ", " + std::to_string(index.z) + ")";
    };
    faulted = "kernel `" + std::string(launch.kernel->name) + "`, block" + numbers(block.index);
    if (current != nullptr) faulted += ", thread" + numbers(current->index);
    faulted += ": " + reason;
    for (unsigned number = 0; number < count; number++) workers[number]->fiber.abandon();
}

void* Engine::shared_object(const void* tag, size_t bytes) {
    SharedObject* found = nullptr;
    for (SharedObject& object : objects) {
        if (object.tag == tag) {
            found = &object;
            break;
        }
    }
    if (found == nullptr) {
        objects.push_back({tag, bytes, std::unique_ptr<char[]>(new char[bytes]), 0});
        found = &objects.back();
    }
    if (found->block_number != block_number) {
        found->block_number = block_number;
        std::memset(found->memory.get(), POISON, bytes);
        static_bytes += (bytes + 15) / 16 * 16;
        const size_t all_bytes = static_bytes + launch.dynamic_shared_bytes;
        if (static_bytes > SHARED_BYTES) {
            lathe_host::fault("%zu bytes of static shared memory, at most %zu", static_bytes, SHARED_BYTES);
        }
        if (all_bytes > launch.shared_limit) {
            lathe_host::fault("%zu bytes of shared memory, at most %zu", all_bytes, launch.shared_limit);
        }
    }
    return found->memory.get();
}

unsigned Engine::block_barrier(bool predicate) {
    predicates += predicate;
    if (++at_barrier == alive) {
        running().state = State::at_block_barrier;
        finish_block_barrier();
    } else {
        wait(State::at_block_barrier);
    }
    return running().predicates;
}

void Engine::finish_block_barrier() {
    for (unsigned number = 0; number < count; number++) {
        Worker& worker = *workers[number];
        if (worker.state == State::at_block_barrier) {
            worker.predicates = predicates;
            worker.state = State::ready;
        }
    }
    at_barrier = predicates = 0;
}

void Engine::warp_collective(const char* name, void* collective_arguments, void (*action)(const Lanes&)) {
    Worker& worker = running();
    Warp& warp = warps[worker.number / WARP_LANES];
    if (warp.arrived > 0 && warp.action != action) {
        lathe_host::fault("divergent warp: %s here, %s in another lane", name, warp.name);
    }
    warp.name = name;
    warp.action = action;
    worker.arguments = collective_arguments;
    if (++warp.arrived == warp.alive) {
        worker.state = State::in_warp_collective;
        finish_warp_collective(worker.number / WARP_LANES);
    } else {
        wait(State::in_warp_collective);
    }
}

void Engine::finish_warp_collective(unsigned number) {
    Warp& warp = warps[number];
    Lanes lanes = {};
    const unsigned first = number * WARP_LANES, end = std::min(first + WARP_LANES, count);
    for (unsigned i = first; i < end; i++) {
        if (workers[i]->state == State::in_warp_collective) lanes.arguments[i - first] = workers[i]->arguments;
    }
    warp.action(lanes);
    for (unsigned i = first; i < end; i++) {
        if (workers[i]->state == State::in_warp_collective) workers[i]->state = State::ready;
    }
    warp.arrived = 0;
}

void Engine::dependency_wait() {
    dependency_asked = true;
    if (!dependency_ended) wait(State::at_dependency);
}

Runner::Runner() : running(new Engine), next(new Engine) {}
Runner::~Runner() = default;

void Runner::begin(const Launch& launch) {
    if (!launch.overlaps) finish();
    next->begin(launch);
    if (launch.overlaps) {
        next->run_until_dependency();
        finish();
    }
    running.swap(next);
}

void Runner::finish() { faults += running->finish(); }

std::string Runner::take_faults() {
    std::string all;
    all.swap(faults);
    return all;
}

Kernel::Kernel(const char* name, size_t argument_bytes, unsigned max_threads, void (*run)(const void*))
    : name(name), argument_bytes(argument_bytes), max_threads(max_threads), run(run) {
    if (find(name) != nullptr) {
        std::fprintf(stderr, "two kernels are named `%s`\n", name);
        std::abort();
    }
    kernels().push_back(this);
}

const Kernel* Kernel::find(const char* name) {
    for (const Kernel* kernel : kernels()) {
        if (std::strcmp(kernel->name, name) == 0) return kernel;
    }
    return nullptr;
}

bool set_schedule(const char* text) { return parse_schedule(text, scheduling_of_thread); }

void fault(const char* format, ...) {
    char reason[256];
    va_list values;
    va_start(values, format);
    std::vsnprintf(reason, sizeof reason, format, values);
    va_end(values);
    running().engine->fault(reason);
    Fiber::suspend();
    std::abort();
}

void* shared_object(const void* tag, size_t bytes) { return running().engine->shared_object(tag, bytes); }
char* dynamic_shared() { return running().engine->dynamic_shared(); }
unsigned block_barrier(bool predicate) { return running().engine->block_barrier(predicate); }

void warp_collective(const char* name, uint32_t mask, void* arguments, void (*action)(const Lanes&)) {
    if (mask != 0xffffffffu) fault("%s with the mask %#x: collectives are of whole warps", name, mask);
    running().engine->warp_collective(name, arguments, action);
}

unsigned lane() { return static_cast<Worker*>(current)->number % WARP_LANES; }

void copy_async(void* shared, const void* global, unsigned bytes, unsigned source_bytes) {
    if (reinterpret_cast<uintptr_t>(shared) % bytes != 0 || reinterpret_cast<uintptr_t>(global) % bytes != 0) {
        fault("copy_async of %u bytes between addresses that are no multiples of it", bytes);
    }
    if (source_bytes > bytes) fault("copy_async of %u bytes from %u", bytes, source_bytes);
    std::memset(shared, POISON, bytes);
    Worker& worker = running();
    worker.copies.push_back({shared, global, bytes, source_bytes, worker.copy_group});
}

void copy_async_commit() { running().copy_group++; }

void copy_async_wait(unsigned pending_groups) {
    Worker& worker = running();
    size_t made = 0;
    for (const Copy& copy : worker.copies) {
        if (copy.group + pending_groups >= worker.copy_group) break;
        std::memcpy(copy.target, copy.source, copy.source_bytes);
        std::memset(static_cast<char*>(copy.target) + copy.source_bytes, 0, copy.bytes - copy.source_bytes);
        made++;
    }
    worker.copies.erase(worker.copies.begin(), worker.copies.begin() + long(made));
}

void dependency_wait() { running().engine->dependency_wait(); }

}  // namespace lathe_host
