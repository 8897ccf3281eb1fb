#include "fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

// Saves the registers that a called function keeps on the stack, stores its address in *from, and continues where `to` was stored.
extern "C" void lathe_host_switch(void** from, void* to);

#if defined(__x86_64__)
asm(R"(
    .text
    .globl lathe_host_switch
    .hidden lathe_host_switch
    .type lathe_host_switch, @function
lathe_host_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size lathe_host_switch, .-lathe_host_switch
)");
#elif defined(__aarch64__)
asm(R"(
    .text
    .globl lathe_host_switch
    .hidden lathe_host_switch
    .type lathe_host_switch, %function
lathe_host_switch:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
    .size lathe_host_switch, .-lathe_host_switch
)");
#else
#error "fibers are written for x86-64 and aarch64"
#endif

namespace lathe_host {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr size_t STACK_BYTES = 256 * 1024;
#else
constexpr size_t STACK_BYTES = 64 * 1024;
#endif

/// The OS thread's own code, to which fibers return.
struct Resumer {
    Fiber* fiber;
    void* stack_pointer;
    void* sanitizer_state;
    const void* stack_bottom;
    size_t stack_bytes;
};
/// A fiber may be resumed by another OS thread than the one that it was left on, so this is looked up each time.
__attribute__((noinline)) Resumer& resumer() {
    thread_local Resumer instance;
    return instance;
}

char* allocate_stack() {
    const size_t guard = size_t(sysconf(_SC_PAGESIZE));
    void* memory = mmap(nullptr, guard + STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, guard, PROT_NONE) != 0) {
        std::perror("stack of a fiber");
        std::abort();
    }
    return static_cast<char*>(memory) + guard;
}

/// Told to the address sanitizer: on which stack the program goes on.
void before_switch([[maybe_unused]] void** state, [[maybe_unused]] const void* bottom, [[maybe_unused]] size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(state, bottom, bytes);
#endif
}
void after_switch([[maybe_unused]] void* state, [[maybe_unused]] const void** old_bottom, [[maybe_unused]] size_t* old_bytes) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(state, old_bottom, old_bytes);
#endif
}

}  // namespace

Fiber::~Fiber() {
    if (stack == nullptr) return;
    const size_t guard = size_t(sysconf(_SC_PAGESIZE));
    munmap(stack - guard, guard + STACK_BYTES);
}

void Fiber::start(void (*function)(void*), void* value) {
    if (stack == nullptr) stack = allocate_stack();
#if defined(__SANITIZE_ADDRESS__)
    if (abandoned) __asan_unpoison_memory_region(stack, STACK_BYTES);
#endif
    abandoned = false;
    body = function;
    argument = value;
    sanitizer_state = nullptr;
    // As lathe_host_switch would have left it in a function whose next step is `main`.
    uintptr_t* top = reinterpret_cast<uintptr_t*>(stack + STACK_BYTES);
#if defined(__x86_64__)
    *--top = 0;
    *--top = reinterpret_cast<uintptr_t>(&Fiber::main);
    for (int saved = 0; saved < 6; saved++) *--top = 0;
#else
    for (int saved = 0; saved < 20; saved++) *--top = 0;
    top[11] = reinterpret_cast<uintptr_t>(&Fiber::main);
#endif
    stack_pointer = top;
}

void Fiber::main() {
    after_switch(nullptr, &resumer().stack_bottom, &resumer().stack_bytes);
    Fiber* self = resumer().fiber;
    self->body(self->argument);
    self->leave(true);
    std::abort();
}

void Fiber::resume() {
    resumer().fiber = this;
    before_switch(&resumer().sanitizer_state, stack, STACK_BYTES);
    lathe_host_switch(&resumer().stack_pointer, stack_pointer);
    after_switch(resumer().sanitizer_state, nullptr, nullptr);
}

void Fiber::leave(bool for_good) {
    before_switch(for_good ? nullptr : &sanitizer_state, resumer().stack_bottom, resumer().stack_bytes);
    lathe_host_switch(&stack_pointer, resumer().stack_pointer);
    after_switch(sanitizer_state, &resumer().stack_bottom, &resumer().stack_bytes);
}

void Fiber::suspend() { resumer().fiber->leave(false); }

void Fiber::abandon() { abandoned = true; }

}  // namespace lathe_host
