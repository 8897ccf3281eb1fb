//! `lathe-run` on a device, and why it cannot.

use std::process::{Command, Output};

use lathe_kernels::check::host_driver::HostDriver;
use serde_json::Value;

use crate::common::{SmallModel, small_model};
use crate::{device, folder};

/// The binary with the host driver where `with_driver`, and what that says of itself.
fn lathe_run(model: &SmallModel, device: &str, driver: Option<&[(&str, &str)]>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lathe-run"));
    command.args([
        "generate",
        "--ids",
        "1,2,3",
        "--max-new-tokens",
        "6",
        "--json",
        "--threads",
        "2",
        "--device",
        device,
    ]);
    command.arg(model.path()).env_remove("LATHE_ISA").env_remove("LD_LIBRARY_PATH");
    if let Some(variables) = driver {
        command.env("LD_LIBRARY_PATH", HostDriver::from_environment().build(folder()).unwrap());
        command.envs(variables.iter().copied());
    }
    command.output().unwrap()
}

fn error(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn ids(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    result["ids"].clone()
}

#[test]
fn text_is_that_of_the_processor() {
    if device().is_none() {
        return;
    }
    let model = small_model();
    let expected = ids(&lathe_run(&model, "cpu", None));
    let cuda = lathe_run(&model, "cuda", Some(&[]));
    assert_eq!(ids(&cuda), expected);
    assert!(cuda.stderr.is_empty(), "{cuda:?}");
    let auto = lathe_run(&model, "auto", Some(&[]));
    assert_eq!(ids(&auto), expected);
    let note = String::from_utf8(auto.stderr).unwrap();
    assert!(note.starts_with("note: running on cuda:0: ") && note.lines().count() == 1, "{note}");
}

#[test]
fn what_is_missing_is_said() {
    if device().is_none() {
        return;
    }
    let model = small_model();
    for (device, variables, expected) in [
        ("cuda", &[("LATHE_HOST_CUDA_DEVICES", "0")][..], "there is no device cuda:0: the CUDA driver finds no device"),
        ("cuda:3", &[], "there is no device cuda:3: there is no CUDA device 3, the driver finds 1"),
        (
            "cuda",
            &[("LATHE_HOST_CUDA_DRIVER_VERSION", "11080")],
            "there is no device cuda:0: the CUDA driver supports CUDA 11.8, expected at least 12.8",
        ),
        (
            "cuda",
            &[("LATHE_HOST_CUDA_MEMORY", "10000")],
            "bytes of device memory for 3 positions, and 10000 are free; its weights alone do not fit",
        ),
    ] {
        let error = error(&lathe_run(&model, device, Some(variables)));
        assert!(error.contains(expected), "{error}");
    }
}

/// Where the device cannot be had or is too small, `auto` says so and takes the processor.
#[test]
fn auto_falls_back() {
    if device().is_none() {
        return;
    }
    let model = small_model();
    let expected = ids(&lathe_run(&model, "cpu", None));
    for (variables, reason) in [
        (("LATHE_HOST_CUDA_DEVICES", "0"), ""),
        (("LATHE_HOST_CUDA_DRIVER_VERSION", "11080"), "note: running on cpu: the CUDA driver supports CUDA 11.8"),
        (("LATHE_HOST_CUDA_MEMORY", "10000"), "note: running on cpu: the model does not fit into the free memory of"),
    ] {
        let output = lathe_run(&model, "auto", Some(&[variables]));
        assert_eq!(ids(&output), expected);
        let note = String::from_utf8(output.stderr).unwrap();
        assert!(note.starts_with(reason) && note.is_empty() == reason.is_empty(), "{note}");
    }
}
