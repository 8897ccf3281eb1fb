//! The host driver computes as a GPU does, and notices the mistakes that tests of kernels must find.

mod computes;
mod driver;
mod notices;

use std::path::Path;

use driver::Device;
use lathe_kernels::check::{Random, host_driver};

/// Schedules that every test of kernels runs under.
const SCHEDULES: [&std::ffi::CStr; 6] =
    [c"forward", c"reverse", c"random:1", c"random:2", c"greedy-forward", c"greedy-reverse"];

fn folder() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// The device of a test; `None` where there is no compiler to build one.
fn device() -> Option<Device> {
    host_driver::is_loaded(folder()).then(Device::open)
}

#[derive(Clone, Copy)]
#[repr(C)]
struct CopyArgs {
    input: u64,
    output: u64,
    count: u32,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct StagesArgs {
    input: u64,
    output: u64,
    variant: u32,
}

/// Pseudo-random words.
fn random_words(count: usize) -> Vec<u32> {
    let mut random = Random::new(5);
    (0..count).map(|_| (random.bits() >> 32) as u32).collect()
}
