//! Buffers that a thread keeps from call to call, so that a decode step allocates nothing.

use std::cell::Cell;
use std::thread::LocalKey;

/// A thread's reusable buffer; empty while somebody uses it.
pub(crate) type Scratch<T> = Cell<Vec<T>>;

/// Calls `body` with the first `len` elements of the thread's buffer. Their values are left over from earlier calls.
///
/// Grows the buffer where it is too short. A nested call with the same key is correct, but allocates.
pub(crate) fn with<T: Copy + Default, R>(
    key: &'static LocalKey<Scratch<T>>,
    len: usize,
    body: impl FnOnce(&mut [T]) -> R,
) -> R {
    let mut buffer = key.take();
    if buffer.len() < len {
        buffer.resize(len, T::default());
    }
    let result = body(&mut buffer[..len]);
    key.set(buffer);
    result
}
