//! Mistakes that must be noticed.

use std::process::{Command, Output};

use cudarc::driver::sys;
use lathe_kernels::check::host_driver::{self, HostDriver, set_schedule};
use lathe_kernels::cuda::{Gpu, devices};

use crate::driver::{Device, Shape, check};
use crate::{CopyArgs, SCHEDULES, StagesArgs, device, folder, random_words};

#[derive(Clone, Copy)]
#[repr(C)]
struct MistakeArgs {
    memory: u64,
    index: u32,
}

/// Schedules under which a kernel does not give `expected`.
fn noticed(device: &Device, kernel: &str, threads: u32, variant: u32, input: &[u32], expected: &[u32]) -> Vec<String> {
    let buffer = device.upload(input);
    let wrong = SCHEDULES.into_iter().filter(|schedule| {
        set_schedule(schedule);
        let output = device.allocate(expected.len());
        let arguments = StagesArgs { input: buffer.address, output: output.address, variant };
        device.run(kernel, Shape::new(1, threads), &arguments).unwrap();
        output.words() != expected
    });
    wrong.map(|schedule| schedule.to_str().unwrap().to_owned()).collect()
}

#[test]
fn missing_barriers() {
    let Some(device) = device() else { return };
    let input = random_words(512);
    let expected: Vec<u32> = input.chunks_exact(128).flat_map(|round| round.iter().rev().copied()).collect();
    let noticed = |variant| noticed(&device, "selftest_reverse", 128, variant, &input, &expected);
    assert_eq!(noticed(0), Vec::<String>::new());
    assert_eq!(noticed(1).len(), SCHEDULES.len(), "between writing and reading");
    let end = noticed(2);
    assert!(end.contains(&"greedy-forward".to_owned()) && end.contains(&"greedy-reverse".to_owned()), "{end:?}");
}

#[test]
fn copies_that_are_not_waited_for() {
    let Some(device) = device() else { return };
    let input = random_words(448);
    let mut expected = input.clone();
    expected[250..256].fill(0);
    for (variant, mistake) in [(1, "no wait"), (2, "no barrier"), (3, "a wait for less"), (4, "no group")] {
        let noticed = noticed(&device, "selftest_copy_async", 64, variant, &input, &expected);
        assert_eq!(noticed.len(), SCHEDULES.len(), "{mistake}");
    }
}

#[test]
fn launches_that_overlap_without_waiting() {
    let Some(device) = device() else { return };
    let input = random_words(64);
    let expected: Vec<u32> = input.iter().map(|word| word.wrapping_mul(2)).collect();
    let buffer = device.upload(&input);
    let outcome = |variant| {
        let (middle, output) = (device.allocate(64), device.allocate(64));
        let copy = CopyArgs { input: buffer.address, output: middle.address, count: 64 };
        device.launch("selftest_copy", Shape::new(1, 64), &copy).unwrap();
        let dependent = StagesArgs { input: middle.address, output: output.address, variant };
        let shape = Shape { overlaps: true, ..Shape::new(1, 64) };
        device.launch("selftest_dependent", shape, &dependent).and_then(|()| device.synchronize())?;
        Ok::<_, String>(output.words() == expected)
    };
    for schedule in SCHEDULES {
        set_schedule(schedule);
        assert_eq!(outcome(0), Ok(true), "{schedule:?}");
        assert_eq!(outcome(1), Ok(false), "{schedule:?}");
        let error = outcome(2).unwrap_err();
        assert!(error.contains("for which it never waits"), "{error}");
    }
}

#[test]
fn shared_memory_that_nobody_has_written() {
    let Some(device) = device() else { return };
    for index in [0, 1] {
        let output = device.allocate(64);
        let shape = Shape { shared_bytes: 128, ..Shape::new(2, 32) };
        device.run("selftest_uninitialized", shape, &MistakeArgs { memory: output.address, index }).unwrap();
        assert!(output.floats().iter().all(|x| x.is_nan()));
    }
    assert!(device.allocate(10).floats().iter().all(|x| x.is_nan()), "nor device memory");
}

#[test]
fn collectives_that_diverge() {
    let Some(device) = device() else { return };
    let output = device.allocate(64);
    let failure = |kernel, index| {
        let arguments = MistakeArgs { memory: output.address, index };
        device.run(kernel, Shape::new(1, 64), &arguments).unwrap_err()
    };
    for schedule in SCHEDULES {
        set_schedule(schedule);
        assert_eq!(
            failure("selftest_divergent_barrier", 16),
            "kernel `selftest_divergent_barrier`, block (0, 0, 0): divergent barrier: of 64 threads 16 wait for their block, \
             16 for their warp in __shfl_xor_sync, 32 have ended"
        );
    }
    let failures = ["selftest_divergent_warp", "selftest_part_of_warp"].map(|kernel| {
        let arguments = MistakeArgs { memory: output.address, index: 0 };
        device.run(kernel, Shape::new(1, 32), &arguments).unwrap_err()
    });
    assert!(failures[0].contains("divergent warp"), "{}", failures[0]);
    assert!(failures[1].contains("with the mask 0xffff"), "{}", failures[1]);
    // The device goes on.
    device.run("selftest_write", Shape::new(1, 32), &MistakeArgs { memory: output.address, index: 0 }).unwrap();
}

#[test]
fn launches_beyond_their_limits() {
    let Some(device) = device() else { return };
    let output = device.allocate(64);
    let failure = |shape| {
        let arguments = MistakeArgs { memory: output.address, index: 0 };
        device.run("selftest_write", shape, &arguments).unwrap_err()
    };
    assert_eq!(failure(Shape::new(1, 64)), "`selftest_write`: 64 threads in a block, of at most 32");
    assert_eq!(failure(Shape::new(0, 32)), "`selftest_write`: a launch of no blocks or no threads");
    let shape = Shape { shared_bytes: 49_153, ..Shape::new(1, 32) };
    assert_eq!(failure(shape), "`selftest_write`: 49153 bytes of dynamic shared memory, of at most 49152");
    assert_eq!(device.function("selftest").unwrap_err(), "no kernel is named `selftest`");
}

#[test]
fn allocations_while_a_stream_is_recorded() {
    let Some(device) = device() else { return };
    let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
    let (buffer, output) = (device.upload(&random_words(64)), device.allocate(64));
    let (mut address, mut graph, mut executable) = (0, std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: handles that live; the driver writes handles and an address.
    unsafe {
        check(sys::cuStreamBeginCapture_v2(device.stream, mode)).unwrap();
        let refused = check(sys::cuMemAlloc_v2(&raw mut address, 16));
        assert_eq!(refused.unwrap_err(), "cuMemAlloc while a stream is recorded");
        let copy = CopyArgs { input: buffer.address, output: output.address, count: 64 };
        device.launch("selftest_copy", Shape::new(1, 64), &copy).unwrap();
        check(sys::cuStreamEndCapture(device.stream, &raw mut graph)).unwrap();
        assert_ne!(output.words(), buffer.words(), "recorded, not run");
        check(sys::cuGraphInstantiateWithFlags(&raw mut executable, graph, 0)).unwrap();
        check(sys::cuGraphLaunch(executable, device.stream)).unwrap();
        assert_eq!(output.words(), buffer.words());
        check(sys::cuGraphDestroy(graph)).unwrap();
        check(sys::cuGraphExecDestroy(executable)).unwrap();
    }
}

// ---- in processes of their own

/// Runs one of the ignored tests below.
fn child(test: &str, environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("notices::{test}"), "--ignored", "--nocapture"]);
    command.envs(environment.iter().copied()).output().unwrap()
}

const SANITIZED: HostDriver = HostDriver { sanitized: true, only_selftest: true };

#[test]
#[ignore = "a child process of `accesses_out_of_bounds`"]
fn child_accesses() {
    host_driver::load(SANITIZED, folder()).unwrap();
    let device = Device::open();
    let output = device.allocate(32);
    let (kernel, index) = match std::env::var("LATHE_TEST_ACCESS").as_deref() {
        Ok("global") => ("selftest_write", 32),
        Ok("shared") => ("selftest_write_shared", 32),
        Ok("right") => ("selftest_write_shared", 31),
        other => panic!("{other:?}"),
    };
    device.run(kernel, Shape::new(1, 32), &MistakeArgs { memory: output.address, index }).unwrap();
}

#[test]
fn accesses_out_of_bounds() {
    if device().is_none() {
        return;
    }
    SANITIZED.build(folder()).unwrap();
    let preload = host_driver::sanitizer_library().unwrap();
    let cases = [("right", None), ("global", Some("heap-buffer-overflow")), ("shared", Some("index 32 out of bounds"))];
    for (access, noticed) in cases {
        let environment = [
            ("LD_PRELOAD", preload.to_str().unwrap()),
            ("ASAN_OPTIONS", "detect_leaks=0"),
            ("LATHE_TEST_ACCESS", access),
        ];
        let output = child("child_accesses", &environment);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.success(), noticed.is_none(), "{access}: {text}");
        if let Some(noticed) = noticed {
            assert!(text.contains(noticed) && text.contains("selftest.cu"), "{access}: {text}");
        }
    }
}

#[test]
#[ignore = "a child process of `reasons_why_there_is_no_device`"]
#[expect(clippy::print_stdout, reason = "its parent reads it")]
fn child_opens() {
    assert!(host_driver::is_loaded(folder()));
    let opened = Gpu::open(0, None).and_then(|gpu| gpu.allocate("a test", 1 << 20).map(|_| gpu));
    match opened {
        Ok(gpu) => println!("opened, kernels for {}, {} devices", gpu.target(), devices().unwrap()),
        Err(error) => println!("refused: {error}"),
    }
}

#[test]
fn reasons_why_there_is_no_device() {
    if device().is_none() {
        return;
    }
    let cases = [
        ("DEVICES", "2", "opened, kernels for sm_90a, 2 devices"),
        ("DEVICES", "0", "refused: the CUDA driver finds no device"),
        ("DRIVER_VERSION", "11080", "refused: the CUDA driver supports CUDA 11.8, expected at least 12.8"),
        ("MEMORY", "1000000", "refused: a test needs 1048576 bytes of device memory, of which 1000000 are free"),
        ("COMPUTE_CAPABILITY", "7.5", "refused: Host device has compute capability 7.5, expected at least 8.0"),
        ("COMPUTE_CAPABILITY", "8.6", "opened, kernels for sm_80, 1 devices"),
    ];
    for (name, value, expected) in cases {
        let output = child("child_opens", &[(&format!("LATHE_HOST_CUDA_{name}"), value)]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains(expected), "{name}={value}: {text}");
    }
}
