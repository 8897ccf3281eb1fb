//! Memory of a device.

use std::fmt;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::Arc;

use cudarc::driver::sys;

use super::device::{Context, Gpu};
use super::error::{CudaError, check};

/// What device memory can hold: plain numbers that are the same bytes on both sides.
///
/// # Safety
/// Any bytes are a value, and a value has no padding.
pub unsafe trait Element: Copy + 'static {}

// SAFETY: numbers.
unsafe impl Element for u8 {}
// SAFETY: numbers.
unsafe impl Element for i8 {}
// SAFETY: numbers.
unsafe impl Element for u16 {}
// SAFETY: numbers.
unsafe impl Element for u32 {}
// SAFETY: numbers.
unsafe impl Element for i32 {}
// SAFETY: numbers.
unsafe impl Element for u64 {}
// SAFETY: numbers.
unsafe impl Element for f32 {}

/// An allocation on a device, aligned to 256 bytes; freed when it is dropped.
pub struct Memory {
    context: Arc<Context>,
    address: u64,
    bytes: usize,
}

impl Memory {
    /// Bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// All of it, as elements of T; what does not fill one at the end is left out.
    pub fn slice<T: Element>(&self) -> Slice<T> {
        Slice { address: self.address, len: self.bytes / size_of::<T>(), elements: PhantomData }
    }

    /// The elements of T that begin at a byte.
    ///
    /// # Panics
    /// When they do not lie within, or begin at no multiple of 16 bytes.
    pub fn part<T: Element>(&self, first_byte: usize, len: usize) -> Slice<T> {
        let end = len.checked_mul(size_of::<T>()).and_then(|bytes| bytes.checked_add(first_byte));
        assert!(end.is_some_and(|end| end <= self.bytes), "{len} elements at byte {first_byte} of {}", self.bytes);
        assert!(first_byte.is_multiple_of(16), "parts are aligned to 16 bytes");
        Slice { address: self.address + first_byte as u64, len, elements: PhantomData }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.context.make_current().is_ok() {
            // SAFETY: an allocation of this context that is not used again. A failure leaks it, which is all that can be
            // done here.
            let _ = unsafe { sys::cuMemFree_v2(self.address) };
        }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of device memory", self.bytes)
    }
}

/// Elements in the memory of a device: an address and a length. A slice does not keep its memory alive: whoever launches
/// does. A kernel that is given a slice whose memory is gone faults on the device, which the next call reports.
pub struct Slice<T> {
    address: u64,
    len: usize,
    elements: PhantomData<fn() -> T>,
}

impl<T> Clone for Slice<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Slice<T> {}

impl<T> fmt::Debug for Slice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} elements at {:#x}", self.len, self.address)
    }
}

impl<T> Slice<T> {
    /// No elements, at address 0: what kernels take for an operand that is not there.
    pub const NONE: Slice<T> = Slice { address: 0, len: 0, elements: PhantomData };

    /// As kernels take it.
    pub fn address(self) -> u64 {
        self.address
    }

    /// Elements.
    pub fn len(self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Some of the elements.
    ///
    /// # Panics
    /// When the range does not lie within.
    #[must_use]
    pub fn range(self, range: Range<usize>) -> Slice<T> {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {} elements", self.len);
        let address = self.address + (range.start * size_of::<T>()) as u64;
        Slice { address, len: range.len(), elements: PhantomData }
    }

    /// The same memory as elements of another type.
    ///
    /// # Panics
    /// When it is no whole number of them.
    pub fn cast<U>(self) -> Slice<U> {
        let bytes = self.len * size_of::<T>();
        assert!(bytes.is_multiple_of(size_of::<U>()), "{bytes} bytes are no whole elements of {}", size_of::<U>());
        Slice { address: self.address, len: bytes / size_of::<U>(), elements: PhantomData }
    }
}

impl Gpu {
    /// Allocates; what it holds is undefined. At least one byte.
    pub fn allocate(&self, what: &'static str, bytes: u64) -> Result<Memory, CudaError> {
        self.context().make_current()?;
        let too_much = |gpu: &Gpu| {
            let free = gpu.free_memory().unwrap_or(0);
            CudaError::Memory { what, needed: bytes, free }
        };
        let length = usize::try_from(bytes.max(1)).map_err(|_| too_much(self))?;
        let mut address = 0;
        // SAFETY: the driver writes one address.
        match unsafe { sys::cuMemAlloc_v2(&raw mut address, length) } {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => Err(too_much(self)),
            status => {
                check("allocating device memory", status)?;
                Ok(Memory { context: Arc::clone(self.context()), address, bytes: length })
            }
        }
    }

    /// An allocation with a copy of `values`.
    pub fn upload<T: Element>(&self, what: &'static str, values: &[T]) -> Result<Memory, CudaError> {
        let memory = self.allocate(what, size_of_val(values) as u64)?;
        self.write(memory.slice::<u8>().range(0..size_of_val(values)).cast(), values)?;
        Ok(memory)
    }

    /// Copies `values` to the device, after what was launched before, and waits for it.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn write<T: Element>(&self, to: Slice<T>, values: &[T]) -> Result<(), CudaError> {
        assert_eq!(to.len(), values.len(), "as many elements as are written");
        if values.is_empty() {
            return Ok(());
        }
        self.context().make_current()?;
        // SAFETY: `values` are readable for their length until the stream is waited for below, and numbers.
        let status = unsafe {
            sys::cuMemcpyHtoDAsync_v2(to.address, values.as_ptr().cast(), size_of_val(values), self.stream().handle())
        };
        check("writing device memory", status)?;
        self.synchronize()
    }

    /// Copies from the device, after what was launched before, and waits for it.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn read<T: Element>(&self, from: Slice<T>, values: &mut [T]) -> Result<(), CudaError> {
        assert_eq!(from.len(), values.len(), "as many elements as are read");
        if values.is_empty() {
            return self.synchronize();
        }
        self.context().make_current()?;
        // SAFETY: `values` are writable for their length until the stream is waited for below; any bytes are a value.
        let status = unsafe {
            let to = values.as_mut_ptr().cast();
            sys::cuMemcpyDtoHAsync_v2(to, from.address, size_of_val(values), self.stream().handle())
        };
        check("reading device memory", status)?;
        self.synchronize()
    }

    /// The elements of a slice, for tests and small results.
    pub fn to_vec<T: Element>(&self, from: Slice<T>) -> Result<Vec<T>, CudaError> {
        // SAFETY: any bytes are a value of an `Element`, zeros too.
        let zero = unsafe { MaybeUninit::<T>::zeroed().assume_init() };
        let mut values = vec![zero; from.len()];
        self.read(from, &mut values)?;
        Ok(values)
    }

    /// Copies within the device, in order with launches.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn copy<T: Element>(&self, from: Slice<T>, to: Slice<T>) -> Result<(), CudaError> {
        assert_eq!(from.len(), to.len(), "as many elements as are copied");
        if from.is_empty() {
            return Ok(());
        }
        let bytes = from.len() * size_of::<T>();
        // SAFETY: device addresses; see `Slice`.
        let status = unsafe { sys::cuMemcpyDtoDAsync_v2(to.address, from.address, bytes, self.stream().handle()) };
        check("copying device memory", status)
    }

    /// Sets all bytes, in order with launches.
    pub fn fill<T: Element>(&self, slice: Slice<T>, byte: u8) -> Result<(), CudaError> {
        if slice.is_empty() {
            return Ok(());
        }
        let bytes = slice.len() * size_of::<T>();
        // SAFETY: a device address; see `Slice`.
        let status = unsafe { sys::cuMemsetD8Async(slice.address, byte, bytes, self.stream().handle()) };
        check("filling device memory", status)
    }
}
