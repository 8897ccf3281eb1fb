// The functions of cuBLASLt that Lathe calls, on the CPU: `libcublasLt.so` of the host driver, so that what is asked of
// the library is tested where there is none. It computes what the descriptors say, and refuses what it does not know. Names,
// numbers and the meaning of descriptors are those of cuBLASLt (NVIDIA's documentation of cublasLtMatmul).

#include <dlfcn.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <initializer_list>
#include <mutex>

#define API extern "C" __attribute__((visibility("default")))

namespace {

enum Status : int { SUCCESS = 0, NOT_INITIALIZED = 1, INVALID_VALUE = 7, EXECUTION_FAILED = 13, NOT_SUPPORTED = 15 };
enum DataType : int { R_32F = 0, R_16BF = 14 };
enum Compute : int { COMPUTE_32F = 68 };
enum Operation : int32_t { OP_N = 0, OP_T = 1 };
enum DescriptionAttribute : int { TRANSA = 3, TRANSB = 4 };
enum PreferenceAttribute : int {
    MAX_WORKSPACE_BYTES = 1,
    MIN_ALIGNMENT_A_BYTES = 5,
    MIN_ALIGNMENT_D_BYTES = 8,
};

constexpr uint64_t ALGORITHM = 0x6c617468;

struct Handle { int opened; };

struct Description { int32_t transposed[2]; };

/// Columns first: element (row, column) is at row + column · stride.
struct Layout {
    DataType type;
    uint64_t rows, columns;
    int64_t stride;
    size_t element() const { return type == R_16BF ? 2 : 4; }
    bool is_like(const Layout& other) const {
        return type == other.type && rows == other.rows && columns == other.columns && stride == other.stride;
    }
};

struct Preference {
    uint64_t workspace;
    uint32_t alignments[4];
};

/// What an algorithm was chosen for.
struct Algorithm {
    uint64_t mark, workspace;
    uint32_t alignments[4];
    uint64_t rest[4];
};

struct Found {
    Algorithm algorithm;
    size_t workspace;
    int state;
    float waves;
    int reserved[4];
};

float element(const void* matrix, const Layout& layout, uint64_t row, uint64_t column) {
    const size_t index = row + column * size_t(layout.stride);
    if (layout.type == R_32F) return static_cast<const float*>(matrix)[index];
    const uint32_t bits = uint32_t(static_cast<const uint16_t*>(matrix)[index]) << 16;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

/// Whether the shapes are those of a product that the kernels of a GPU take: A transposed, B not, bf16 to f32, whole vectors of 16
/// bytes.
Status supported(const Description* description, const Layout* a, const Layout* b, const Layout* c, const Layout* d) {
    if (!description || !a || !b || !c || !d) return INVALID_VALUE;
    if (description->transposed[0] != OP_T || description->transposed[1] != OP_N) return NOT_SUPPORTED;
    if (a->type != R_16BF || b->type != R_16BF || c->type != R_32F || !c->is_like(*d)) return NOT_SUPPORTED;
    if (a->rows != b->rows || a->columns != d->rows || b->columns != d->columns) return INVALID_VALUE;
    for (const Layout* layout : {a, b, d}) {
        if (layout->stride < int64_t(layout->rows)) return INVALID_VALUE;
        if (size_t(layout->stride) * layout->element() % 16 != 0) return NOT_SUPPORTED;
    }
    return SUCCESS;
}

/// D = alpha · Aᵀ B + beta · C.
struct Product {
    float alpha, beta;
    const void *a, *b, *c;
    void *d, *workspace;
    size_t workspace_bytes;
    Layout a_layout, b_layout, d_layout;

    static void compute(void* self) { static_cast<const Product*>(self)->compute(); }

    void compute() const {
        // The workspace is the library's to write.
        std::memset(workspace, 0xff, workspace_bytes < 4096 ? workspace_bytes : 4096);
        for (uint64_t column = 0; column < d_layout.columns; column++) {
            for (uint64_t row = 0; row < d_layout.rows; row++) {
                float sum = 0;
                for (uint64_t k = 0; k < a_layout.rows; k++) {
                    sum = std::fma(element(a, a_layout, k, row), element(b, b_layout, k, column), sum);
                }
                float& out = static_cast<float*>(d)[row + column * size_t(d_layout.stride)];
                out = alpha * sum + (beta == 0 ? 0 : beta * element(c, d_layout, row, column));
            }
        }
    }
};

/// Products that were launched: those that are recorded run again.
std::mutex products_mutex;
std::deque<Product> products;

/// That of the driver of the process.
Status launch(void* stream, Product& product) {
    using LaunchHostFunction = int (*)(void*, void (*)(void*), void*);
    static void* const driver = dlopen("libcuda.so", RTLD_NOW | RTLD_NOLOAD);
    static const auto function = driver ? reinterpret_cast<LaunchHostFunction>(dlsym(driver, "cuLaunchHostFunc")) : nullptr;
    return function && function(stream, Product::compute, &product) == 0 ? SUCCESS : EXECUTION_FAILED;
}

template <typename T>
Status destroy(T* object) {
    delete object;
    return SUCCESS;
}

}  // namespace

API Status cublasLtCreate(Handle** handle) {
    if (handle == nullptr) return INVALID_VALUE;
    *handle = new Handle{1};
    return SUCCESS;
}
API Status cublasLtDestroy(Handle* handle) { return destroy(handle); }
API size_t cublasLtGetVersion() { return 130000; }
API const char* cublasLtGetStatusString(Status status) {
    switch (status) {
        case SUCCESS: return "success";
        case NOT_INITIALIZED: return "the library was not initialized";
        case EXECUTION_FAILED: return "the GPU program failed to execute";
        case INVALID_VALUE: return "an unsupported value or parameter was passed to the function";
        default: return "the functionality requested is not supported";
    }
}

API Status cublasLtMatmulDescCreate(Description** description, Compute compute, DataType scale) {
    if (description == nullptr) return INVALID_VALUE;
    if (compute != COMPUTE_32F || scale != R_32F) return NOT_SUPPORTED;
    *description = new Description{{OP_N, OP_N}};
    return SUCCESS;
}
API Status cublasLtMatmulDescDestroy(Description* description) { return destroy(description); }
API Status cublasLtMatmulDescSetAttribute(Description* description, DescriptionAttribute attribute, const void* value, size_t bytes) {
    if (description == nullptr || value == nullptr || bytes != sizeof(int32_t)) return INVALID_VALUE;
    if (attribute != TRANSA && attribute != TRANSB) return NOT_SUPPORTED;
    std::memcpy(&description->transposed[attribute - TRANSA], value, bytes);
    return SUCCESS;
}

API Status cublasLtMatrixLayoutCreate(Layout** layout, DataType type, uint64_t rows, uint64_t columns, int64_t stride) {
    if (layout == nullptr || rows == 0 || columns == 0) return INVALID_VALUE;
    if (type != R_16BF && type != R_32F) return NOT_SUPPORTED;
    *layout = new Layout{type, rows, columns, stride};
    return SUCCESS;
}
API Status cublasLtMatrixLayoutDestroy(Layout* layout) { return destroy(layout); }

API Status cublasLtMatmulPreferenceCreate(Preference** preference) {
    if (preference == nullptr) return INVALID_VALUE;
    *preference = new Preference{0, {256, 256, 256, 256}};
    return SUCCESS;
}
API Status cublasLtMatmulPreferenceDestroy(Preference* preference) { return destroy(preference); }
API Status cublasLtMatmulPreferenceSetAttribute(Preference* preference, PreferenceAttribute attribute, const void* value, size_t bytes) {
    if (preference == nullptr || value == nullptr) return INVALID_VALUE;
    if (attribute == MAX_WORKSPACE_BYTES) {
        if (bytes != sizeof preference->workspace) return INVALID_VALUE;
        std::memcpy(&preference->workspace, value, bytes);
        return SUCCESS;
    }
    if (attribute < MIN_ALIGNMENT_A_BYTES || attribute > MIN_ALIGNMENT_D_BYTES) return NOT_SUPPORTED;
    if (bytes != sizeof(uint32_t)) return INVALID_VALUE;
    std::memcpy(&preference->alignments[attribute - MIN_ALIGNMENT_A_BYTES], value, bytes);
    return SUCCESS;
}

API Status cublasLtMatmulAlgoGetHeuristic(Handle* handle, Description* description, Layout* a, Layout* b, Layout* c, Layout* d,
                                          Preference* preference, int asked, Found* found, int* count) {
    if (handle == nullptr || handle->opened != 1) return NOT_INITIALIZED;
    if (preference == nullptr || asked < 1 || found == nullptr || count == nullptr) return INVALID_VALUE;
    const Status status = supported(description, a, b, c, d);
    *count = status == SUCCESS;
    if (status != SUCCESS) return status;
    *found = {};
    found->algorithm.mark = ALGORITHM;
    found->algorithm.workspace = found->workspace = preference->workspace;
    std::memcpy(found->algorithm.alignments, preference->alignments, sizeof preference->alignments);
    return SUCCESS;
}

API Status cublasLtMatmul(Handle* handle, Description* description, const float* alpha, const void* a, Layout* a_layout, const void* b,
                          Layout* b_layout, const float* beta, const void* c, Layout* c_layout, void* d, Layout* d_layout,
                          const Algorithm* algorithm, void* workspace, size_t workspace_bytes, void* stream) {
    if (handle == nullptr || handle->opened != 1) return NOT_INITIALIZED;
    const Status status = supported(description, a_layout, b_layout, c_layout, d_layout);
    if (status != SUCCESS) return status;
    if (algorithm == nullptr || algorithm->mark != ALGORITHM || workspace_bytes < algorithm->workspace) return INVALID_VALUE;
    const void* pointers[] = {a, b, c, d};
    for (int i = 0; i < 4; i++) {
        if (pointers[i] == nullptr || reinterpret_cast<uintptr_t>(pointers[i]) % algorithm->alignments[i] != 0) return INVALID_VALUE;
    }
    std::lock_guard<std::mutex> lock(products_mutex);
    products.push_back({*alpha, *beta, a, b, c, d, workspace, workspace_bytes, *a_layout, *b_layout, *d_layout});
    return launch(stream, products.back());
}
