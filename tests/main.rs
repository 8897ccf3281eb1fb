//! Tests that cross crates: from spec and checkpoint to logits, through the real binaries.

mod checkpoint_faults;
mod definitions;
mod end_to_end;
mod filetests;
mod lowering;
mod messages;
mod outputs;
mod random_models;
mod reproducible;
mod snapshots;
mod support;
mod verbs;
