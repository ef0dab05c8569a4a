//! What fuzzing needs: cargo-fuzz, and a nightly compiler that comes with AddressSanitizer.

use super::{Missing, State, ebpf};
use crate::sys::{project, run, term};

const INSTALL: &str = "install cargo-fuzz --version 0.13.2 --locked";
const WITHOUT: &str = "`cargo xtask fuzz` does not run, and `cargo xtask test` leaves it out";

/// The toolchain for it, if all is there: the one that the eBPF programs are built with, else any nightly.
pub(crate) fn toolchain() -> Option<String> {
    project::program("cargo-fuzz")?;
    [ebpf::pinned(), "nightly".to_owned()].into_iter().find(|name| has_sanitizer(name))
}

/// Installing takes half a minute to a minute; the compiler is the business of the part `ebpf`.
pub(super) fn install(check: bool) -> State {
    if let Some(toolchain) = toolchain() {
        return State::Present(format!("cargo-fuzz, with {toolchain}"));
    }
    let mut why = String::new();
    if !check && project::program("cargo-fuzz").is_none() {
        term::say("  fuzz   building cargo-fuzz 0.13.2 (about a minute)");
        let mut install = project::cargo(None);
        if let Err(error) = run::output(install.args(INSTALL.split(' ')).env_remove("CARGO_TARGET_DIR")) {
            why = format!(": {error:#}");
        } else if let Some(toolchain) = toolchain() {
            return State::Installed(format!("cargo-fuzz, with {toolchain}"));
        }
    }
    let what = if project::program("cargo-fuzz").is_some() {
        "a nightly compiler with AddressSanitizer".to_owned()
    } else {
        format!("cargo-fuzz{why}")
    };
    let nightly = format!("rustup toolchain install {} --profile minimal", ebpf::pinned());
    let commands = vec![format!("cargo {INSTALL}"), nightly];
    State::Missing(Missing { what, commands, without: WITHOUT.to_owned(), optional: true })
}

fn has_sanitizer(toolchain: &str) -> bool {
    let mut rustc = run::command("rustup");
    rustc.args(["run", toolchain, "rustc", "--print", "target-libdir"]);
    let Some(folder) = run::try_output(&mut rustc) else { return false };
    let Ok(files) = std::fs::read_dir(folder.trim()) else { return false };
    files.flatten().any(|file| file.file_name().to_string_lossy().ends_with("_rt.asan.a"))
}
