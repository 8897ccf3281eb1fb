// Modules, launches, streams, graphs, events.
#include <chrono>
#include <cstring>
#include <map>
#include <mutex>
#include <set>

#include "driver.h"

namespace lathe_host {
namespace {

std::mutex streams_mutex;
std::set<Stream*> streams;
thread_local Stream* recording_stream = nullptr;

/// A function of a module: each module has all kernels, whatever its image.
struct Function {
    const Kernel* kernel;
    size_t dynamic_shared_limit = SHARED_BYTES;
    /// Of all shared memory of a block, what the kernel declares included: that of the device once the attribute is set.
    size_t shared_limit = SHARED_BYTES;
};
struct Module {
    std::map<std::string, Function> functions;
};

struct Graph {
    std::vector<Operation> operations;
};

struct Event {
    std::chrono::steady_clock::time_point time;
    bool recorded = false;
};

/// CUlaunchConfig and CUlaunchAttribute.
struct LaunchAttribute {
    unsigned id;
    char padding[4];
    char value[64];
};
struct LaunchConfig {
    unsigned grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes;
    void* stream;
    const LaunchAttribute* attributes;
    unsigned attribute_count;
};
constexpr unsigned PROGRAMMATIC_STREAM_SERIALIZATION = 6;

Status check_launch(const Function& function, const LaunchConfig& config) {
    const std::string name = std::string("`") + function.kernel->name + "`: ";
    const uint64_t threads = uint64_t(config.block_x) * config.block_y * config.block_z;
    if (config.grid_x == 0 || config.grid_y == 0 || config.grid_z == 0 || threads == 0) {
        return refuse(INVALID_VALUE, name + "a launch of no blocks or no threads");
    }
    if (config.grid_x > 2147483647u || config.grid_y > 65535 || config.grid_z > 65535) {
        return refuse(INVALID_VALUE, name + "more blocks than a grid can have");
    }
    if (config.block_x > 1024 || config.block_y > 1024 || config.block_z > 64 || threads > MAX_THREADS) {
        return refuse(INVALID_VALUE, name + std::to_string(threads) + " threads in a block");
    }
    if (threads > function.kernel->max_threads) {
        return refuse(LAUNCH_OUT_OF_RESOURCES, name + std::to_string(threads) + " threads in a block, of at most " +
                                                   std::to_string(function.kernel->max_threads));
    }
    if (config.shared_bytes > function.dynamic_shared_limit) {
        return refuse(INVALID_VALUE, name + std::to_string(config.shared_bytes) + " bytes of dynamic shared memory, of at most " +
                                         std::to_string(function.dynamic_shared_limit));
    }
    return SUCCESS;
}

}  // namespace

Stream::Stream() {
    std::lock_guard<std::mutex> lock(streams_mutex);
    streams.insert(this);
}

Stream::~Stream() {
    std::lock_guard<std::mutex> lock(streams_mutex);
    streams.erase(this);
    settle();
}

Status Stream::faults() {
    const std::string faults = runner.take_faults();
    return faults.empty() ? SUCCESS : refuse(LAUNCH_FAILED, faults);
}

Status Stream::synchronize() {
    std::lock_guard<std::mutex> lock(mutex);
    runner.finish();
    return faults();
}

void Stream::settle() {
    std::lock_guard<std::mutex> lock(mutex);
    runner.finish();
}

Status Stream::enqueue(Operation operation) {
    if (recording) {
        recorded.push_back([operation = std::move(operation)](Stream& stream) { return stream.enqueue(operation); });
        return SUCCESS;
    }
    if (const Status status = synchronize()) return status;
    return operation(*this);
}

Status Stream::launch(Launch launch) {
    if (recording) {
        recorded.push_back([launch = std::move(launch)](Stream& stream) { return stream.launch(launch); });
        return SUCCESS;
    }
    std::lock_guard<std::mutex> lock(mutex);
    runner.begin(launch);
    return faults();
}

Status Stream::begin_recording() {
    if (recording) return refuse(STREAM_CAPTURE_UNSUPPORTED, "the stream is recorded already");
    if (const Status status = synchronize()) return status;
    recording = true;
    return SUCCESS;
}

Status Stream::end_recording(std::vector<Operation>& operations) {
    if (!recording) return refuse(STREAM_CAPTURE_UNMATCHED, "the stream is not recorded");
    recording = false;
    operations = std::move(recorded);
    recorded.clear();
    return SUCCESS;
}

Stream& stream_of(void* handle) {
    static Stream of_null;
    return handle == nullptr ? of_null : *static_cast<Stream*>(handle);
}

void settle_all() {
    std::lock_guard<std::mutex> lock(streams_mutex);
    for (Stream* stream : streams) stream->settle();
}

Status not_while_recording(const char* what) {
    if (recording_stream == nullptr) return SUCCESS;
    return refuse(STREAM_CAPTURE_UNSUPPORTED, std::string(what) + " while a stream is recorded");
}

}  // namespace lathe_host

using namespace lathe_host;

// ---- modules

API Status cuModuleLoadData(void** module, const void* image) {
    if (const Status status = needs_context()) return status;
    if (const Status status = not_while_recording("cuModuleLoadData")) return status;
    if (image == nullptr) return refuse(INVALID_VALUE, "a module without an image");
    *module = new Module;
    return SUCCESS;
}

API Status cuModuleUnload(void* module) {
    settle_all();
    delete static_cast<Module*>(module);
    return SUCCESS;
}

API Status cuModuleGetFunction(void** function, void* module, const char* name) {
    const Kernel* kernel = Kernel::find(name);
    if (kernel == nullptr) return refuse(NOT_FOUND, std::string("no kernel is named `") + name + "`");
    *function = &static_cast<Module*>(module)->functions.try_emplace(name, Function{kernel}).first->second;
    return SUCCESS;
}

API Status cuFuncGetParamInfo(void* function, size_t index, size_t* offset, size_t* bytes) {
    if (index != 0) return refuse(INVALID_VALUE, "kernels have one parameter");
    *offset = 0;
    if (bytes != nullptr) *bytes = static_cast<Function*>(function)->kernel->argument_bytes;
    return SUCCESS;
}

API Status cuFuncGetAttribute(int* value, int attribute, void* function) {
    switch (attribute) {
        case 0: *value = int(static_cast<Function*>(function)->kernel->max_threads); return SUCCESS;      // MAX_THREADS_PER_BLOCK
        case 8: *value = int(static_cast<Function*>(function)->dynamic_shared_limit); return SUCCESS;     // MAX_DYNAMIC_SHARED_SIZE_BYTES
        default: return refuse(INVALID_VALUE, "the host driver does not know function attribute " + std::to_string(attribute));
    }
}

API Status cuFuncSetAttribute(void* function, int attribute, int value) {
    switch (attribute) {
        case 8:  // MAX_DYNAMIC_SHARED_SIZE_BYTES
            if (value < 0 || size_t(value) > machine().shared_limit) {
                return refuse(INVALID_VALUE, std::to_string(value) + " bytes of dynamic shared memory, of at most " +
                                                 std::to_string(machine().shared_limit));
            }
            static_cast<Function*>(function)->dynamic_shared_limit = size_t(value);
            static_cast<Function*>(function)->shared_limit = machine().shared_limit;
            return SUCCESS;
        case 9: return SUCCESS;  // PREFERRED_SHARED_MEMORY_CARVEOUT
        default: return refuse(INVALID_VALUE, "the host driver does not know function attribute " + std::to_string(attribute));
    }
}

// ---- launches

API Status cuLaunchKernelEx(const LaunchConfig* config, void* handle, void** parameters, void** extra) {
    if (const Status status = needs_context()) return status;
    if (handle == nullptr || parameters == nullptr || extra != nullptr) {
        return refuse(INVALID_VALUE, "the host driver takes parameters by their addresses only");
    }
    const Function& function = *static_cast<Function*>(handle);
    if (const Status status = check_launch(function, *config)) return status;
    bool overlaps = false;
    for (unsigned i = 0; i < config->attribute_count; i++) {
        const LaunchAttribute& attribute = config->attributes[i];
        if (attribute.id != PROGRAMMATIC_STREAM_SERIALIZATION || machine().major < 9) {
            return refuse(NOT_SUPPORTED, "launch attribute " + std::to_string(attribute.id));
        }
        int allowed;
        std::memcpy(&allowed, attribute.value, sizeof allowed);
        overlaps = allowed != 0;
    }
    const char* arguments = static_cast<const char*>(parameters[0]);
    return stream_of(config->stream)
        .launch({function.kernel, dim3(config->grid_x, config->grid_y, config->grid_z),
                 dim3(config->block_x, config->block_y, config->block_z), config->shared_bytes, function.shared_limit, overlaps,
                 std::vector<char>(arguments, arguments + function.kernel->argument_bytes)});
}

API Status cuLaunchKernel(void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
                          unsigned block_z, unsigned shared_bytes, void* stream, void** parameters, void** extra) {
    const LaunchConfig config = {grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes, stream, nullptr, 0};
    return cuLaunchKernelEx(&config, function, parameters, extra);
}

// ---- streams

API Status cuStreamCreate(void** stream, unsigned) {
    if (const Status status = needs_context()) return status;
    *stream = new Stream;
    return SUCCESS;
}

API Status cuStreamDestroy_v2(void* stream) {
    if (stream == nullptr) return refuse(INVALID_HANDLE, "the default stream cannot be destroyed");
    delete static_cast<Stream*>(stream);
    return SUCCESS;
}

API Status cuStreamSynchronize(void* stream) {
    if (const Status status = not_while_recording("cuStreamSynchronize")) return status;
    return stream_of(stream).synchronize();
}

// ---- graphs

API Status cuStreamBeginCapture_v2(void* stream, int) {
    if (stream == nullptr) return refuse(STREAM_CAPTURE_UNSUPPORTED, "the default stream cannot be recorded");
    const Status status = stream_of(stream).begin_recording();
    if (status == SUCCESS) recording_stream = &stream_of(stream);
    return status;
}

API Status cuStreamEndCapture(void* stream, void** graph) {
    Graph* recorded = new Graph;
    const Status status = stream_of(stream).end_recording(recorded->operations);
    if (status != SUCCESS) {
        delete recorded;
        return status;
    }
    recording_stream = nullptr;
    *graph = recorded;
    return SUCCESS;
}

API Status cuGraphInstantiateWithFlags(void** executable, void* graph, unsigned long long) {
    *executable = new Graph(*static_cast<Graph*>(graph));
    return SUCCESS;
}

API Status cuGraphUpload(void*, void*) { return needs_context(); }

API Status cuGraphLaunch(void* executable, void* stream) {
    if (const Status status = needs_context()) return status;
    if (const Status status = not_while_recording("cuGraphLaunch")) return status;
    for (const Operation& operation : static_cast<Graph*>(executable)->operations) {
        if (const Status status = operation(stream_of(stream))) return status;
    }
    return SUCCESS;
}

API Status cuGraphDestroy(void* graph) {
    delete static_cast<Graph*>(graph);
    return SUCCESS;
}

API Status cuGraphExecDestroy(void* executable) {
    delete static_cast<Graph*>(executable);
    return SUCCESS;
}

// ---- events

API Status cuEventCreate(void** event, unsigned) {
    if (const Status status = needs_context()) return status;
    *event = new Event;
    return SUCCESS;
}

API Status cuEventDestroy_v2(void* event) {
    delete static_cast<Event*>(event);
    return SUCCESS;
}

API Status cuEventRecord(void* event, void* stream) {
    return stream_of(stream).enqueue([event](Stream&) {
        static_cast<Event*>(event)->time = std::chrono::steady_clock::now();
        static_cast<Event*>(event)->recorded = true;
        return SUCCESS;
    });
}

API Status cuEventSynchronize(void* event) {
    return static_cast<Event*>(event)->recorded ? SUCCESS : refuse(INVALID_HANDLE, "the event is not recorded");
}

API Status cuEventQuery(void* event) { return cuEventSynchronize(event); }

API Status cuEventElapsedTime_v2(float* milliseconds, void* start, void* end) {
    if (cuEventSynchronize(start) != SUCCESS || cuEventSynchronize(end) != SUCCESS) return INVALID_HANDLE;
    *milliseconds =
        std::chrono::duration<float, std::milli>(static_cast<Event*>(end)->time - static_cast<Event*>(start)->time).count();
    return SUCCESS;
}

/// In its turn among launches: libraries that run beside the driver use it.
API Status cuLaunchHostFunc(void* stream, void (*function)(void*), void* argument) {
    if (const Status status = needs_context()) return status;
    return stream_of(stream).enqueue([=](Stream&) {
        function(argument);
        return SUCCESS;
    });
}
