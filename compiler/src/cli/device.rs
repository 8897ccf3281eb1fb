//! What of a planned model fits on a device.

use std::fmt::Write as _;

use lathe_runtime::backend::{Backend, CudaBackend, CudaMemoryPlan, DeviceChoice};
use lathe_runtime::program::{Program, ProgramError, verify};
use serde_json::{Value, json};

use super::bytes;
use super::compile::parse_bytes;
use crate::compile::{CompileError, Planned};
use crate::lower::lower;
use crate::passes;

/// For which device to plan.
#[derive(Debug, clap::Args)]
pub(super) struct DeviceArgs {
    /// Show what fits on this device: cuda or cuda:N.
    #[arg(long, value_name = "DEVICE", value_parser = parse_cuda)]
    device: Option<u32>,
    /// With --device: for one with this much memory, as in 24GiB (powers of 1024), that need not be there.
    #[arg(long, value_name = "BYTES", requires = "device", value_parser = parse_bytes)]
    device_memory: Option<u64>,
}

fn parse_cuda(text: &str) -> Result<u32, String> {
    match text.parse().map_err(|error: lathe_runtime::backend::DeviceError| error.to_string())? {
        DeviceChoice::Cuda(ordinal) => Ok(ordinal),
        DeviceChoice::Auto | DeviceChoice::Cpu => Err("expected cuda or cuda:N".into()),
    }
}

/// A device as far as its memory goes.
pub(super) struct Device {
    /// As it is shown.
    name: String,
    /// Bytes that are free.
    free: u64,
}

impl DeviceArgs {
    /// The device, if one is asked for.
    ///
    /// # Errors
    /// The reason, when it is not there and nobody says how much memory it has.
    pub(super) fn open(&self) -> Result<Option<Device>, String> {
        let Some(ordinal) = self.device else { return Ok(None) };
        let name = format!("cuda:{ordinal}");
        if let Some(free) = self.device_memory {
            return Ok(Some(Device { name, free }));
        }
        let failed = |error| format!("there is no device {name}: {error}; --device-memory plans without one");
        let backend = CudaBackend::open(ordinal, None).map_err(failed)?;
        let free = backend.free_memory().map_err(failed)?;
        Ok(Some(Device { name: format!("{name}, {}", backend.info().isa), free }))
    }
}

/// What a model takes of a device.
pub(super) struct OnDevice {
    device: Device,
    plan: CudaMemoryPlan,
    max_positions: Option<u32>,
}

impl OnDevice {
    /// Of a plan without anything that cannot be built. Reads headers only: tables that may be equal are taken to be what
    /// the plan says.
    ///
    /// # Errors
    /// As of a compilation, up to its program.
    pub(super) fn new(planned: &Planned, device: Device) -> Result<OnDevice, CompileError> {
        let program = program(planned)?;
        Ok(OnDevice { device, plan: CudaMemoryPlan::new(&program), max_positions: program.max_positions })
    }

    fn context(&self) -> usize {
        self.plan.longest_context(self.device.free)
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let CudaMemoryPlan { weights, cache_per_position, activations, .. } = self.plan;
        let mut out = format!("\non {}, {} of memory:\n", self.device.name, bytes(self.device.free));
        // Writing to a string cannot fail.
        let _ = writeln!(out, "  weights      {}", bytes(weights));
        let _ = writeln!(out, "  activations  {}", bytes(activations));
        let _ = writeln!(out, "  keys and values  {} for each token", bytes(cache_per_position));
        let _ = match self.context() {
            0 => writeln!(out, "  does not fit"),
            context if Some(context) == self.max_positions.map(|most| most as usize) => {
                writeln!(out, "  fits, with all {context} positions that the model was made for")
            }
            context => writeln!(out, "  fits, with at most {context} positions"),
        };
        out
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        json!({
            "device": self.device.name,
            "free_bytes": self.device.free,
            "weights_bytes": self.plan.weights,
            "activations_bytes": self.plan.activations,
            "cache_bytes_per_token": self.plan.cache_per_position,
            "longest_context": self.context(),
        })
    }
}

fn program(planned: &Planned) -> Result<Program, CompileError> {
    let mut graph = planned.model.graph.clone();
    passes::run(&mut graph, &planned.plan, &passes::Options::default())?;
    let lowered = lower(&graph, &planned.plan, &planned.model.name, planned.model.max_positions)?;
    verify(&lowered.program).map_err(ProgramError::from)?;
    Ok(lowered.program)
}
