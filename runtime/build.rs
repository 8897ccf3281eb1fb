//! Tells the commit that is being built, for `--version`. In release builds only: others would be built anew after every
//! commit, or tell an old one.

use std::path::Path;
use std::process::Command;

fn main() {
    let version = env!("CARGO_PKG_VERSION");
    let log = Path::new("../.git/logs/HEAD");
    let release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    println!("cargo::rerun-if-changed=build.rs");
    // Without a repository (a source archive) there is no commit to tell.
    let commit = if release && log.exists() {
        println!("cargo::rerun-if-changed={}", log.display());
        let output = Command::new("git").args(["rev-parse", "--short=10", "HEAD"]).output();
        output.ok().filter(|output| output.status.success())
    } else {
        None
    };
    match commit {
        Some(output) => {
            println!("cargo::rustc-env=LATHE_VERSION={version} ({})", String::from_utf8_lossy(&output.stdout).trim());
        }
        None => println!("cargo::rustc-env=LATHE_VERSION={version}"),
    }
}
