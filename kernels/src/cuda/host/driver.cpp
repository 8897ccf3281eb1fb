// Devices, contexts, errors.
#include "driver.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace lathe_host {
namespace {

bool initialized = false;
thread_local std::string last_reason;

long number_from_environment(const char* name, long otherwise) {
    const char* text = std::getenv(name);
    if (text == nullptr) return otherwise;
    char* end = nullptr;
    const long value = std::strtol(text, &end, 10);
    if (end == text || *end != 0 || value < 0) {
        std::fprintf(stderr, "%s: `%s` is no number\n", name, text);
        std::abort();
    }
    return value;
}

Machine machine_from_environment() {
    Machine machine = {};
    machine.devices = int(number_from_environment("LATHE_HOST_CUDA_DEVICES", 1));
    machine.driver_version = int(number_from_environment("LATHE_HOST_CUDA_DRIVER_VERSION", 13000));
    machine.memory_bytes = size_t(number_from_environment("LATHE_HOST_CUDA_MEMORY", 256l << 20));
    machine.multiprocessors = int(number_from_environment("LATHE_HOST_CUDA_MULTIPROCESSORS", 132));
    const char* capability = std::getenv("LATHE_HOST_CUDA_COMPUTE_CAPABILITY");
    if (std::sscanf(capability == nullptr ? "9.0" : capability, "%d.%d", &machine.major, &machine.minor) != 2) {
        std::fprintf(stderr, "LATHE_HOST_CUDA_COMPUTE_CAPABILITY: `%s` is not major.minor\n", capability);
        std::abort();
    }
    // CUDA C++ Programming Guide, Technical Specifications per Compute Capability.
    const bool large = machine.major >= 9 && machine.major < 12, medium = machine.major == 8 && (machine.minor == 0 || machine.minor == 7);
    machine.shared_limit = size_t(large ? 227 : medium ? 163 : 99) << 10;
    return machine;
}

struct Context {
    int device;
};
thread_local Context* current_context = nullptr;

Context& context_of(int device) {
    static std::vector<Context> contexts = [] {
        std::vector<Context> all;
        for (int device = 0; device < machine().devices; device++) all.push_back({device});
        return all;
    }();
    return contexts[size_t(device)];
}

Status needs_device(int device) {
    if (!initialized) return refuse(NOT_INITIALIZED, "cuInit has not been called");
    if (device < 0 || device >= machine().devices) return refuse(INVALID_DEVICE, "no such device");
    return SUCCESS;
}

}  // namespace

const Machine& machine() {
    static const Machine instance = machine_from_environment();
    return instance;
}

Status refuse(Status status, const std::string& reason) {
    last_reason = reason;
    return status;
}

Status needs_context() {
    if (current_context == nullptr) return refuse(INVALID_CONTEXT, "no context is current on this thread");
    return SUCCESS;
}

}  // namespace lathe_host

using namespace lathe_host;

API Status cuInit(unsigned flags) {
    if (flags != 0) return refuse(INVALID_VALUE, "flags of cuInit");
    if (machine().devices == 0) return refuse(NO_DEVICE, "no CUDA-capable device is detected");
    initialized = true;
    return SUCCESS;
}

API Status cuDriverGetVersion(int* version) {
    *version = machine().driver_version;
    return SUCCESS;
}

API Status cuGetErrorName(Status status, const char** name) {
    switch (status) {
        case SUCCESS: *name = "CUDA_SUCCESS"; break;
        case INVALID_VALUE: *name = "CUDA_ERROR_INVALID_VALUE"; break;
        case OUT_OF_MEMORY: *name = "CUDA_ERROR_OUT_OF_MEMORY"; break;
        case NOT_INITIALIZED: *name = "CUDA_ERROR_NOT_INITIALIZED"; break;
        case NO_DEVICE: *name = "CUDA_ERROR_NO_DEVICE"; break;
        case INVALID_DEVICE: *name = "CUDA_ERROR_INVALID_DEVICE"; break;
        case INVALID_IMAGE: *name = "CUDA_ERROR_INVALID_IMAGE"; break;
        case INVALID_CONTEXT: *name = "CUDA_ERROR_INVALID_CONTEXT"; break;
        case UNSUPPORTED_PTX_VERSION: *name = "CUDA_ERROR_UNSUPPORTED_PTX_VERSION"; break;
        case INVALID_HANDLE: *name = "CUDA_ERROR_INVALID_HANDLE"; break;
        case NOT_FOUND: *name = "CUDA_ERROR_NOT_FOUND"; break;
        case NOT_READY: *name = "CUDA_ERROR_NOT_READY"; break;
        case LAUNCH_OUT_OF_RESOURCES: *name = "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES"; break;
        case LAUNCH_FAILED: *name = "CUDA_ERROR_LAUNCH_FAILED"; break;
        case NOT_SUPPORTED: *name = "CUDA_ERROR_NOT_SUPPORTED"; break;
        case STREAM_CAPTURE_UNSUPPORTED: *name = "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"; break;
        case STREAM_CAPTURE_UNMATCHED: *name = "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED"; break;
        default: *name = nullptr; return INVALID_VALUE;
    }
    return SUCCESS;
}

/// The reason of the last failure on this OS thread; valid until the next.
API Status cuGetErrorString(Status status, const char** text) {
    if (status != SUCCESS && !last_reason.empty()) {
        *text = last_reason.c_str();
        return SUCCESS;
    }
    return cuGetErrorName(status, text);
}

API Status cuDeviceGetCount(int* count) {
    if (!initialized) return refuse(NOT_INITIALIZED, "cuInit has not been called");
    *count = machine().devices;
    return SUCCESS;
}

API Status cuDeviceGet(int* device, int ordinal) {
    *device = ordinal;
    return needs_device(ordinal);
}

API Status cuDeviceGetName(char* name, int bytes, int device) {
    if (const Status status = needs_device(device)) return status;
    std::snprintf(name, size_t(bytes), "Host device");
    return SUCCESS;
}

API Status cuDeviceTotalMem_v2(size_t* bytes, int device) {
    if (const Status status = needs_device(device)) return status;
    *bytes = machine().memory_bytes;
    return SUCCESS;
}

API Status cuDeviceGetAttribute(int* value, int attribute, int device) {
    if (const Status status = needs_device(device)) return status;
    switch (attribute) {
        case 1: *value = int(MAX_THREADS); return SUCCESS;                 // MAX_THREADS_PER_BLOCK
        case 2: case 3: *value = 1024; return SUCCESS;                     // MAX_BLOCK_DIM_X, Y
        case 4: *value = 64; return SUCCESS;                               // MAX_BLOCK_DIM_Z
        case 5: *value = 2147483647; return SUCCESS;                       // MAX_GRID_DIM_X
        case 6: case 7: *value = 65535; return SUCCESS;                    // MAX_GRID_DIM_Y, Z
        case 8: *value = int(SHARED_BYTES); return SUCCESS;                // MAX_SHARED_MEMORY_PER_BLOCK
        case 10: *value = int(WARP_LANES); return SUCCESS;                 // WARP_SIZE
        case 12: *value = 65536; return SUCCESS;                           // MAX_REGISTERS_PER_BLOCK
        case 16: *value = machine().multiprocessors; return SUCCESS;       // MULTIPROCESSOR_COUNT
        case 38: *value = 60 << 20; return SUCCESS;                        // L2_CACHE_SIZE
        case 39: *value = 2048; return SUCCESS;                            // MAX_THREADS_PER_MULTIPROCESSOR
        case 75: *value = machine().major; return SUCCESS;                 // COMPUTE_CAPABILITY_MAJOR
        case 76: *value = machine().minor; return SUCCESS;                 // COMPUTE_CAPABILITY_MINOR
        case 81: *value = int(machine().shared_limit + 1024); return SUCCESS;  // MAX_SHARED_MEMORY_PER_MULTIPROCESSOR
        case 97: *value = int(machine().shared_limit); return SUCCESS;     // MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
        case 115: *value = 0; return SUCCESS;                              // MEMORY_POOLS_SUPPORTED
        default: return refuse(INVALID_VALUE, "the host driver does not know device attribute " + std::to_string(attribute));
    }
}

API Status cuDevicePrimaryCtxRetain(void** context, int device) {
    if (const Status status = needs_device(device)) return status;
    *context = &context_of(device);
    return SUCCESS;
}

API Status cuDevicePrimaryCtxRelease_v2(int device) { return needs_device(device); }

API Status cuCtxSetCurrent(void* context) {
    current_context = static_cast<Context*>(context);
    return SUCCESS;
}

API Status cuCtxGetCurrent(void** context) {
    *context = current_context;
    return SUCCESS;
}

API Status cuCtxSynchronize() {
    if (const Status status = needs_context()) return status;
    if (const Status status = not_while_recording("cuCtxSynchronize")) return status;
    settle_all();
    return SUCCESS;
}

/// Not of CUDA: the schedule of launches from this OS thread, see engine.h. 0 when there is none of this name.
API int lathe_host_set_schedule(const char* text) { return set_schedule(text); }
