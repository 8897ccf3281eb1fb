//! The compiler: a spec, a model definition and a checkpoint become a program and packed weights.
//!
//! ```text
//! spec text ─ grammar ─▶ AST ─ resolve ─▶ Plan ──────────────┐
//! definition + config.json + headers ─ elaborate ─▶ Graph ─ passes ─▶ Graph ─ lower ─▶ Program + recipes ─ pack ─▶ artifact
//! ```
//!
//! Everything up to packing reads headers only, but for the probe, which compares tables that may be tied. Each stage
//! takes the earlier value by reference and returns a new one; only the passes edit in place, through one driver.

#![forbid(unsafe_code)]
#![warn(clippy::disallowed_methods)]

pub mod artifact;
pub mod calibrate;
#[cfg(feature = "cli")]
pub mod cli;
pub mod compile;
pub mod definition;
pub mod elaborate;
pub mod frames;
pub mod ir;
pub mod lower;
pub mod model;
pub mod pack;
pub mod page;
pub mod passes;
pub mod picture;
pub mod plan;
pub mod probe;
pub mod proof;
pub mod reference;
pub mod resolve;
pub mod schema;
pub mod sites;
pub mod source;
pub mod spec;
mod texts;
mod units;
pub mod verify;
