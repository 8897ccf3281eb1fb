//! Products in bf16 with cuBLASLt, where the machine has it.
//!
//! The library counts columns first: a row-major `[rows, n]` matrix is its `[n, rows]`, with the length of a row as the leading
//! dimension. So `out = x Wᵀ` is D = op(A) B with A = W, `[inner, outputs]` to be transposed, B = x, `[inner, rows]`, and D = out,
//! `[outputs, rows]`: the form ("TN") that its bf16 kernels are made for. Sums are f32 (`CUBLAS_COMPUTE_32F`), and so is D.

use std::collections::BTreeMap;
use std::ffi::{CStr, c_void};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use cudarc::cublaslt::sys;
use sys::cublasLtMatmulPreferenceAttributes_t as Preferred;

use super::device::Gpu;
use super::error::CudaError;
use super::memory::Memory;

/// Bytes of workspace: what NVIDIA recommends for Hopper GPUs.
const WORKSPACE_BYTES: u64 = 32 << 20;

/// What the library is told of addresses, at most.
const ALIGNMENT: u64 = 256;

/// `CUBLAS_OP_T`, which cudarc does not name here.
const TRANSPOSED: i32 = 1;

/// The library of a device, once somebody has asked for it.
#[derive(Default)]
pub(super) struct Libraries {
    opened: OnceLock<Option<Library>>,
    is_unwanted: AtomicBool,
}

/// An open library.
pub(super) struct Library {
    handle: sys::cublasLtHandle_t,
    workspace: Memory,
    plans: Mutex<BTreeMap<Shape, Plan>>,
    version: usize,
}

// SAFETY: a handle may be used from any thread, and plans are behind a lock.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

/// `out = x Wᵀ`, or that and an addend, of device addresses that are aligned to 16 bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct MatrixProduct {
    /// bf16 `[outputs, weight_stride]`, of which the first `inner` columns count.
    pub(super) weight: u64,
    pub(super) weight_stride: usize,
    pub(super) outputs: usize,
    pub(super) inner: usize,
    /// bf16 `[rows, inner]`
    pub(super) x: u64,
    pub(super) rows: usize,
    /// f32, laid out as `out`, which it may be.
    pub(super) addend: Option<u64>,
    /// f32 `[rows, out_stride]`, of which the first `outputs` columns are written.
    pub(super) out: u64,
    pub(super) out_stride: usize,
}

/// What the choice of an algorithm depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Shape {
    outputs: u64,
    inner: u64,
    rows: u64,
    weight_stride: i64,
    out_stride: i64,
    /// Of A, B, C and D, in bytes.
    alignments: [u32; 4],
}

/// How a shape is multiplied. The descriptors live as long as the library.
#[derive(Clone, Copy)]
struct Plan {
    operation: sys::cublasLtMatmulDesc_t,
    a: sys::cublasLtMatrixLayout_t,
    b: sys::cublasLtMatrixLayout_t,
    d: sys::cublasLtMatrixLayout_t,
    algorithm: sys::cublasLtMatmulAlgo_t,
}

impl Gpu {
    /// Whether products in bf16 may go to cuBLASLt, as they do at first: for measurements of both ways. Scratch depends on it.
    pub fn use_library(&self, wanted: bool) {
        self.libraries().is_unwanted.store(!wanted, Ordering::Relaxed);
    }

    /// The library that products of many rows in bf16 go to, `cuBLASLt 13.1.0`; `None` where the machine has none that can be
    /// opened, or [`Gpu::use_library`] has said so.
    pub fn cublaslt_name(&self) -> Option<String> {
        self.cublaslt().map(Library::to_string)
    }

    /// Loads it when it is first asked for.
    pub(super) fn cublaslt(&self) -> Option<&Library> {
        let libraries = self.libraries();
        if libraries.is_unwanted.load(Ordering::Relaxed) {
            return None;
        }
        // One that is there and cannot be opened is none: the device's own kernels do the same.
        libraries.opened.get_or_init(|| Library::open(self).ok().flatten()).as_ref()
    }
}

impl Library {
    fn open(gpu: &Gpu) -> Result<Option<Library>, CudaError> {
        // SAFETY: loads a library whose initializers are those of cuBLASLt.
        if !unsafe { sys::is_culib_present() } {
            return Ok(None);
        }
        gpu.enter()?;
        let workspace = gpu.allocate("workspace of cuBLASLt", WORKSPACE_BYTES)?;
        let mut handle = std::ptr::null_mut();
        // SAFETY: the library is present and a context is current; it writes a handle.
        check("opening it", unsafe { sys::cublasLtCreate(&raw mut handle) })?;
        // SAFETY: the library is present.
        let version = unsafe { sys::cublasLtGetVersion() };
        Ok(Some(Library { handle, workspace, plans: Mutex::default(), version }))
    }

    /// Launches a product.
    pub(super) fn multiply(&self, gpu: &Gpu, product: &MatrixProduct) -> Result<(), CudaError> {
        let shape = Shape::of(product);
        let plan = self.plan(shape)?;
        let factors = [1.0_f32, if product.addend.is_some() { 1.0 } else { 0.0 }];
        let [alpha, beta] = factors.each_ref().map(|factor| std::ptr::from_ref(factor).cast::<c_void>());
        let pointer = |address: u64| address as *const c_void;
        // SAFETY: descriptors and algorithm are those of the shape, whose matrices lie at these addresses; both factors are f32
        // in host memory, read before the call returns; the workspace is used by the launches of one stream only.
        check("multiplying", unsafe {
            sys::cublasLtMatmul(
                self.handle,
                plan.operation,
                alpha,
                pointer(product.weight),
                plan.a,
                pointer(product.x),
                plan.b,
                beta,
                pointer(product.addend.unwrap_or(product.out)),
                plan.d,
                pointer(product.out).cast_mut(),
                plan.d,
                &raw const plan.algorithm,
                pointer(self.workspace.slice::<u8>().address()).cast_mut(),
                self.workspace.bytes(),
                gpu.stream().handle().cast(),
            )
        })
    }

    /// The plan of a shape, made when it is first asked for.
    fn plan(&self, shape: Shape) -> Result<Plan, CudaError> {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&plan) = plans.get(&shape) {
            return Ok(plan);
        }
        let [bf16, f32] = [sys::cudaDataType_t::CUDA_R_16BF, sys::cudaDataType_t::CUDA_R_32F];
        let operation = Operation::new()?;
        let a = MatrixLayout::new(bf16, shape.inner, shape.outputs, shape.weight_stride)?;
        let b = MatrixLayout::new(bf16, shape.inner, shape.rows, shape.inner as i64)?;
        let d = MatrixLayout::new(f32, shape.outputs, shape.rows, shape.out_stride)?;
        let preference = Preference::new()?;
        preference.set(Preferred::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &self.workspace.bytes())?;
        for (attribute, alignment) in [
            Preferred::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
            Preferred::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
            Preferred::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
            Preferred::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
        ]
        .into_iter()
        .zip(&shape.alignments)
        {
            preference.set(attribute, alignment)?;
        }
        let mut found = std::mem::MaybeUninit::<sys::cublasLtMatmulHeuristicResult_t>::uninit();
        let mut count = 0;
        // SAFETY: all descriptors live; the library writes one result at most, and how many.
        check("choosing an algorithm", unsafe {
            sys::cublasLtMatmulAlgoGetHeuristic(
                self.handle,
                operation.0,
                a.0,
                b.0,
                d.0,
                d.0,
                preference.0,
                1,
                found.as_mut_ptr(),
                &raw mut count,
            )
        })?;
        if count < 1 {
            return Err(failed("choosing an algorithm", sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED));
        }
        // SAFETY: written, as the count says.
        let found = unsafe { found.assume_init() };
        check("choosing an algorithm", found.state)?;
        let plan = Plan { operation: operation.keep(), a: a.keep(), b: b.keep(), d: d.keep(), algorithm: found.algo };
        plans.insert(shape, plan);
        Ok(plan)
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        let plans = self.plans.get_mut().unwrap_or_else(PoisonError::into_inner);
        for plan in plans.values() {
            drop(Operation(plan.operation));
            for layout in [plan.a, plan.b, plan.d] {
                drop(MatrixLayout(layout));
            }
        }
        // SAFETY: made by `open` and not used again. A failure leaks it.
        let _ = unsafe { sys::cublasLtDestroy(self.handle) };
    }
}

impl fmt::Display for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // 10000 · major + 100 · minor + patch; before 13, 1000 · major.
        let major = if self.version >= 130_000 { 10_000 } else { 1000 };
        let (minor, patch) = (self.version % major / 100, self.version % 100);
        write!(f, "cuBLASLt {}.{minor}.{patch}", self.version / major)
    }
}

impl Shape {
    fn of(product: &MatrixProduct) -> Shape {
        let alignment = |address: u64| 1 << address.trailing_zeros().min(ALIGNMENT.trailing_zeros());
        let addend = product.addend.unwrap_or(product.out);
        Shape {
            outputs: product.outputs as u64,
            inner: product.inner as u64,
            rows: product.rows as u64,
            weight_stride: product.weight_stride as i64,
            out_stride: product.out_stride as i64,
            alignments: [product.weight, product.x, addend, product.out].map(alignment),
        }
    }
}

fn check(call: &'static str, status: sys::cublasStatus_t) -> Result<(), CudaError> {
    if status == sys::cublasStatus_t::CUBLAS_STATUS_SUCCESS { Ok(()) } else { Err(failed(call, status)) }
}

fn failed(call: &'static str, status: sys::cublasStatus_t) -> CudaError {
    // SAFETY: the library is present, as it gave the status; it gives a constant string.
    let text = unsafe { CStr::from_ptr(sys::cublasLtGetStatusString(status)) };
    CudaError::Library { call, text: text.to_string_lossy().into_owned() }
}

/// Descriptors that are destroyed when they are dropped and not kept.
macro_rules! descriptors {
    ($($name:ident($handle:ty), $destroy:path;)*) => {
        $(
            struct $name($handle);

            impl Drop for $name {
                fn drop(&mut self) {
                    // SAFETY: made by `new` and not used again.
                    let _ = unsafe { $destroy(self.0) };
                }
            }
        )*
    };
}

descriptors! {
    Operation(sys::cublasLtMatmulDesc_t), sys::cublasLtMatmulDescDestroy;
    MatrixLayout(sys::cublasLtMatrixLayout_t), sys::cublasLtMatrixLayoutDestroy;
    Preference(sys::cublasLtMatmulPreference_t), sys::cublasLtMatmulPreferenceDestroy;
}

impl Operation {
    /// f32 sums and factors; A is transposed.
    fn new() -> Result<Operation, CudaError> {
        let mut handle = std::ptr::null_mut();
        let compute = sys::cublasComputeType_t::CUBLAS_COMPUTE_32F;
        // SAFETY: the library writes a handle.
        check("describing a product", unsafe {
            sys::cublasLtMatmulDescCreate(&raw mut handle, compute, sys::cudaDataType_t::CUDA_R_32F)
        })?;
        let operation = Operation(handle);
        let attribute = sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_TRANSA;
        let transposed = TRANSPOSED;
        // SAFETY: the attribute is 32 bits, which the library copies.
        check("describing a product", unsafe {
            let value = (&raw const transposed).cast();
            sys::cublasLtMatmulDescSetAttribute(operation.0, attribute, value, size_of::<i32>())
        })?;
        Ok(operation)
    }

    fn keep(self) -> sys::cublasLtMatmulDesc_t {
        std::mem::ManuallyDrop::new(self).0
    }
}

impl MatrixLayout {
    fn new(dtype: sys::cudaDataType_t, rows: u64, cols: u64, stride: i64) -> Result<MatrixLayout, CudaError> {
        let mut handle = std::ptr::null_mut();
        // SAFETY: the library writes a handle.
        check("describing a matrix", unsafe {
            sys::cublasLtMatrixLayoutCreate(&raw mut handle, dtype, rows, cols, stride)
        })?;
        Ok(MatrixLayout(handle))
    }

    fn keep(self) -> sys::cublasLtMatrixLayout_t {
        std::mem::ManuallyDrop::new(self).0
    }
}

impl Preference {
    fn new() -> Result<Preference, CudaError> {
        let mut handle = std::ptr::null_mut();
        // SAFETY: the library writes a handle.
        check("describing what is preferred", unsafe { sys::cublasLtMatmulPreferenceCreate(&raw mut handle) })?;
        Ok(Preference(handle))
    }

    /// `value` is of the type of the attribute.
    fn set<T: Copy>(&self, attribute: Preferred, value: &T) -> Result<(), CudaError> {
        let pointer = std::ptr::from_ref(value).cast();
        // SAFETY: readable for its size, which the library checks against the attribute's, and copies.
        check("describing what is preferred", unsafe {
            sys::cublasLtMatmulPreferenceSetAttribute(self.0, attribute, pointer, size_of::<T>())
        })
    }
}
