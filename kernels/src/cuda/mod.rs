//! NVIDIA devices: kernels of the ops, and what loads and launches them.
//!
//! The driver is loaded when a [`Gpu`] is opened; without one, opening fails with the reason. The kernels in the `.cu`
//! files of this folder are claims about the scalar references in [`crate::ops`], as the vector code of [`crate::cpu`]
//! is. [`ops`] has a launcher for each: a safe function that states shapes and checks them against the lengths of its
//! [`Slice`]s, so that a launch touches the device memory of its arguments only.
//!
//! Launches go to the one stream of a [`Gpu`], in order. A sequence of them can be recorded as a [`Graph`] and replayed;
//! what differs from one replay to the next (tokens, positions) lies in device memory.

mod cublaslt;
mod device;
mod error;
mod images;
mod layout;
mod memory;
mod module;
mod nvrtc;
pub mod ops;
mod stream;

pub use device::{Gpu, GpuInfo, devices};
pub use error::CudaError;
pub use layout::{DeviceMatrix, Layout};
pub use memory::{Element, Memory, Slice};
pub use module::Kernel;
pub use stream::{Event, Graph, Grid};
