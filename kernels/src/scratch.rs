//! Buffers that a thread keeps from call to call, so that a decode step allocates nothing.

use std::cell::Cell;
use std::thread::LocalKey;

/// A thread's reusable buffer; empty while somebody uses it.
pub(crate) type Scratch<T> = Cell<Vec<T>>;

/// Alignment in bytes: a cache line, so that no vector of a buffer crosses two.
const ALIGNMENT: usize = 64;

/// Calls `body` with `len` elements of the thread's buffer, aligned to a cache line. Their values are left over from
/// earlier calls.
///
/// Grows the buffer where it is too short. A nested call with the same key is correct, but allocates.
pub(crate) fn with<T: Copy + Default, R>(
    key: &'static LocalKey<Scratch<T>>,
    len: usize,
    body: impl FnOnce(&mut [T]) -> R,
) -> R {
    let mut buffer = key.take();
    let spare = ALIGNMENT / size_of::<T>();
    if buffer.len() < len + spare {
        buffer.resize(len + spare, T::default());
    }
    let start = buffer.as_ptr().align_offset(ALIGNMENT).min(spare);
    let result = body(&mut buffer[start..start + len]);
    key.set(buffer);
    result
}
