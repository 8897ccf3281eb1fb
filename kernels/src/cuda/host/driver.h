// A CUDA driver whose devices are engines (engine.h) and whose device memory is the heap: the functions of libcuda.so.1 that
// Lathe calls, with the checks that a real one makes and some that it does not. Names, numbers and structs are those of the CUDA
// driver API.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "engine.h"

#define API extern "C" __attribute__((visibility("default")))

namespace lathe_host {

enum Status : int {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201,
    UNSUPPORTED_PTX_VERSION = 222,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    NOT_READY = 600,
    LAUNCH_OUT_OF_RESOURCES = 701,
    LAUNCH_FAILED = 719,
    NOT_SUPPORTED = 801,
    STREAM_CAPTURE_UNSUPPORTED = 900,
    STREAM_CAPTURE_UNMATCHED = 903,
};

/// What the environment says of the devices. LATHE_HOST_CUDA_DEVICES (how many, 1), LATHE_HOST_CUDA_DRIVER_VERSION (13000),
/// LATHE_HOST_CUDA_MEMORY (bytes of each, 256 MiB), LATHE_HOST_CUDA_COMPUTE_CAPABILITY ("9.0"),
/// LATHE_HOST_CUDA_MULTIPROCESSORS (132).
struct Machine {
    int devices, driver_version;
    size_t memory_bytes;
    int major, minor, multiprocessors;
    /// Bytes of shared memory that a block can ask for.
    size_t shared_limit;
};
const Machine& machine();

/// Gives `status`, and keeps `reason` for cuGetErrorString on this OS thread.
Status refuse(Status status, const std::string& reason);

/// SUCCESS when this OS thread has a current context.
Status needs_context();

/// Memory of a device, as cuMemAlloc gives it out.
Status find_device_memory(uint64_t address, size_t bytes, const char* what);

class Stream;
/// Something that a stream does: when it is called, or when the graph is launched that it was recorded in.
using Operation = std::function<Status(Stream&)>;

class Stream {
public:
    Stream();
    ~Stream();
    /// Ends what has been launched, and gives its faults.
    Status synchronize();
    /// Ends what has been launched; its faults are for the next call.
    void settle();
    /// Does it, after what has been launched, or records it.
    Status enqueue(Operation operation);
    /// As enqueue, a launch, which goes on until something else is asked of the stream.
    Status launch(Launch launch);
    Status begin_recording();
    Status end_recording(std::vector<Operation>& operations);

private:
    std::mutex mutex;
    Runner runner;
    bool recording = false;
    std::vector<Operation> recorded;
    Status faults();
};
/// The stream of a handle; the default one of null.
Stream& stream_of(void* handle);
/// Ends what any stream has been given.
void settle_all();
/// Refuses what must not be called while this OS thread records.
Status not_while_recording(const char* what);

}  // namespace lathe_host
