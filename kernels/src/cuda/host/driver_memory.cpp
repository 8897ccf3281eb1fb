// Memory of devices and copies.
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <map>
#include <mutex>

#include "driver.h"

namespace lathe_host {
namespace {

/// Bytes of each allocation, by its address.
std::map<uint64_t, size_t> allocations;
size_t allocated_bytes = 0;
std::mutex allocations_mutex;

/// As cuMemAlloc aligns.
constexpr size_t ALIGNMENT = 256;

void* pointer(uint64_t address) { return reinterpret_cast<void*>(address); }

Status copy_in_stream(void* stream, std::function<Status()> copy) {
    if (const Status status = needs_context()) return status;
    return stream_of(stream).enqueue([copy = std::move(copy)](Stream&) { return copy(); });
}

/// Fills `count` elements of `bytes` bytes each.
Status fill_in_stream(void* stream, uint64_t target, const void* element, size_t bytes, size_t count) {
    std::vector<char> pattern(static_cast<const char*>(element), static_cast<const char*>(element) + bytes);
    return copy_in_stream(stream, [=] {
        if (const Status status = find_device_memory(target, count * bytes, "filling")) return status;
        for (size_t i = 0; i < count; i++) std::memcpy(pointer(target + i * bytes), pattern.data(), bytes);
        return SUCCESS;
    });
}

}  // namespace

Status find_device_memory(uint64_t address, size_t bytes, const char* what) {
    std::lock_guard<std::mutex> lock(allocations_mutex);
    auto after = allocations.upper_bound(address);
    if (after != allocations.begin()) {
        const auto& [start, size] = *std::prev(after);
        if (bytes <= size && address - start <= size - bytes) return SUCCESS;
    }
    return refuse(INVALID_VALUE, std::string(what) + " " + std::to_string(bytes) + " bytes that lie in no allocation of a device");
}

}  // namespace lathe_host

using namespace lathe_host;

API Status cuMemAlloc_v2(uint64_t* address, size_t bytes) {
    if (const Status status = needs_context()) return status;
    if (const Status status = not_while_recording("cuMemAlloc")) return status;
    if (bytes == 0) return refuse(INVALID_VALUE, "an allocation of no bytes");
    std::lock_guard<std::mutex> lock(allocations_mutex);
    void* memory = nullptr;
    if (bytes > machine().memory_bytes - allocated_bytes || posix_memalign(&memory, ALIGNMENT, bytes) != 0) {
        return refuse(OUT_OF_MEMORY, "out of memory");
    }
    std::memset(memory, POISON, bytes);
    *address = reinterpret_cast<uint64_t>(memory);
    allocations[*address] = bytes;
    allocated_bytes += bytes;
    return SUCCESS;
}

API Status cuMemFree_v2(uint64_t address) {
    if (const Status status = needs_context()) return status;
    settle_all();
    std::lock_guard<std::mutex> lock(allocations_mutex);
    const auto found = allocations.find(address);
    if (found == allocations.end()) return refuse(INVALID_VALUE, "freeing what is not allocated");
    allocated_bytes -= found->second;
    std::memset(pointer(address), POISON, found->second);
    allocations.erase(found);
    std::free(pointer(address));
    return SUCCESS;
}

API Status cuMemGetInfo_v2(size_t* free_bytes, size_t* total_bytes) {
    if (const Status status = needs_context()) return status;
    std::lock_guard<std::mutex> lock(allocations_mutex);
    *free_bytes = machine().memory_bytes - allocated_bytes;
    *total_bytes = machine().memory_bytes;
    return SUCCESS;
}

API Status cuMemHostAlloc(void** memory, size_t bytes, unsigned) {
    if (const Status status = needs_context()) return status;
    if (const Status status = not_while_recording("cuMemHostAlloc")) return status;
    if (bytes == 0 || posix_memalign(memory, ALIGNMENT, bytes) != 0) return refuse(OUT_OF_MEMORY, "out of memory");
    std::memset(*memory, POISON, bytes);
    return SUCCESS;
}

API Status cuMemFreeHost(void* memory) {
    settle_all();
    std::free(memory);
    return SUCCESS;
}

API Status cuMemcpyHtoDAsync_v2(uint64_t target, const void* source, size_t bytes, void* stream) {
    if (const Status status = not_while_recording("copying from the host")) return status;
    return copy_in_stream(stream, [=] {
        if (const Status status = find_device_memory(target, bytes, "writing")) return status;
        std::memcpy(pointer(target), source, bytes);
        return SUCCESS;
    });
}

API Status cuMemcpyDtoHAsync_v2(void* target, uint64_t source, size_t bytes, void* stream) {
    if (const Status status = not_while_recording("copying to the host")) return status;
    return copy_in_stream(stream, [=] {
        if (const Status status = find_device_memory(source, bytes, "reading")) return status;
        std::memcpy(target, pointer(source), bytes);
        return SUCCESS;
    });
}

API Status cuMemcpyDtoDAsync_v2(uint64_t target, uint64_t source, size_t bytes, void* stream) {
    return copy_in_stream(stream, [=] {
        if (const Status status = find_device_memory(target, bytes, "writing")) return status;
        if (const Status status = find_device_memory(source, bytes, "reading")) return status;
        std::memcpy(pointer(target), pointer(source), bytes);
        return SUCCESS;
    });
}

API Status cuMemcpyHtoD_v2(uint64_t target, const void* source, size_t bytes) {
    return cuMemcpyHtoDAsync_v2(target, source, bytes, nullptr);
}
API Status cuMemcpyDtoH_v2(void* target, uint64_t source, size_t bytes) {
    return cuMemcpyDtoHAsync_v2(target, source, bytes, nullptr);
}
API Status cuMemcpyDtoD_v2(uint64_t target, uint64_t source, size_t bytes) {
    return cuMemcpyDtoDAsync_v2(target, source, bytes, nullptr);
}

API Status cuMemsetD8Async(uint64_t target, unsigned char value, size_t count, void* stream) {
    return fill_in_stream(stream, target, &value, 1, count);
}
API Status cuMemsetD32Async(uint64_t target, unsigned value, size_t count, void* stream) {
    return fill_in_stream(stream, target, &value, 4, count);
}
