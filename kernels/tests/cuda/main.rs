//! Kernels of NVIDIA devices against the scalar references: on the host driver, or with `LATHE_TEST_CUDA=1` on the device of
//! the machine.

mod attention;
mod heads;
mod limits;
mod product_many;
mod products;
mod routing;
mod rows;
mod sample;
mod suite;

use std::path::Path;

use lathe_kernels::check::host_driver;
use lathe_kernels::cuda::Gpu;

/// The device of a test; `None`, with the reason on stderr, where there is no compiler to build the host driver.
fn gpu() -> Option<Gpu> {
    let is_there =
        std::env::var_os("LATHE_TEST_CUDA").is_some() || host_driver::is_loaded(Path::new(env!("CARGO_TARGET_TMPDIR")));
    is_there.then(|| Gpu::open(0, None).unwrap_or_else(|error| panic!("{error}")))
}
