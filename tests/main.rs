//! Tests that cross crates: from spec and checkpoint to logits, through the real binaries.

mod checkpoint_faults;
mod codes;
mod definitions;
mod documents;
mod end_to_end;
mod extends;
mod filetests;
mod fmt;
mod hostile_specs;
mod lowering;
mod many_modules;
mod messages;
mod outputs;
mod plans;
mod random_models;
mod renaming;
mod reproducible;
mod rope;
mod schema;
mod sites;
mod snapshots;
mod suggestions;
mod support;
mod ties;
mod tutorial;
mod verbs;
