//! Numbers and bytes: weight formats and ops, a scalar reference each, SIMD claims about it.
//!
//! Kernels know no spec, no graph and no file name. Every function states shapes, layout and dtypes; activations are
//! f32, row-major.
