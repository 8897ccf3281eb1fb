// A function that can be left and entered again, on a stack of its own. All fibers of an OS thread are resumed by its own code,
// never by another fiber.
#pragma once

#include <cstddef>

namespace lathe_host {

class Fiber {
public:
    Fiber() = default;
    Fiber(const Fiber&) = delete;
    ~Fiber();

    /// The next resume calls `body`. The fiber is not running.
    void start(void (*body)(void*), void* argument);
    /// Runs it until it suspends or `body` returns.
    void resume();
    /// Goes back to who resumed the fiber that runs.
    static void suspend();
    /// What was running will not be resumed; only `start` may follow.
    void abandon();

private:
    static void main();
    void leave(bool for_good);

    char* stack = nullptr;
    void* stack_pointer = nullptr;
    void* sanitizer_state = nullptr;
    void (*body)(void*) = nullptr;
    void* argument = nullptr;
    bool abandoned = false;
};

}  // namespace lathe_host
