//! What the stable toolchain needs beside the compiler.

use anyhow::Result;
use clap::ValueEnum;

use super::{Missing, State};
use crate::sys::{project, run};

pub(crate) const WASM: &str = "wasm32-unknown-unknown";

/// A processor that images are made for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Arch {
    /// x86-64.
    Amd64,
    /// AArch64.
    Arm64,
}

impl Arch {
    /// This machine's.
    pub(crate) const HERE: Self = match std::env::consts::ARCH.as_bytes() {
        b"aarch64" => Self::Arm64,
        _ => Self::Amd64,
    };

    /// As images name it.
    pub(crate) const fn oci(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// As QEMU names it.
    pub(crate) const fn qemu(self) -> &'static str {
        match self {
            Self::Amd64 => "qemu-x86_64-static",
            Self::Arm64 => "qemu-aarch64-static",
        }
    }

    /// A target whose programs need no library of the system.
    pub(crate) const fn musl(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-musl",
            Self::Arm64 => "aarch64-unknown-linux-musl",
        }
    }
}

/// Rust's library for static programs.
pub(super) fn musl(arch: Arch, check: bool) -> State {
    let (target, without) = (arch.musl(), "`cargo xtask image` makes none");
    ensure(target, || has_target(target), &["target", "add", target], without, true, check)
}

/// rustfmt, clippy, and the target that proves the core to be free of IO.
pub(super) fn components(check: bool) -> Result<Vec<State>> {
    let mut states = Vec::new();
    for component in ["rustfmt", "clippy"] {
        let there = || {
            let program = if component == "clippy" { "clippy" } else { "fmt" };
            run::try_output(project::cargo(None).args([program, "--version"])).is_some()
        };
        let without = format!("`cargo xtask test` cannot run {component}");
        states.push(ensure(component, there, &["component", "add", component], &without, false, check));
    }
    let there = || has_target(WASM);
    let without = "`cargo xtask test` does not check that agent-core builds without a system";
    states.push(ensure(WASM, there, &["target", "add", WASM], without, true, check));
    Ok(states)
}

/// Whether the standard library of `target` is installed for the stable toolchain.
pub(crate) fn has_target(target: &str) -> bool {
    let mut rustc = run::command("rustc");
    let libdir = run::try_output(rustc.args(["--print", "target-libdir", "--target", target]));
    libdir.is_some_and(|dir| std::fs::read_dir(dir.trim()).is_ok_and(|mut files| files.next().is_some()))
}

fn ensure(
    what: &str,
    there: impl Fn() -> bool,
    rustup: &[&str],
    without: &str,
    optional: bool,
    check: bool,
) -> State {
    if there() {
        return State::Present(what.to_owned());
    }
    let mut command = run::command("rustup");
    command.args(rustup);
    let failure = if check { None } else { run::output(&mut command).err() };
    if there() {
        return State::Installed(what.to_owned());
    }
    let why = failure.map(|e| format!(": {e:#}")).unwrap_or_default();
    State::Missing(Missing {
        what: format!("{what}{why}"),
        commands: vec![run::shown(&command)],
        without: without.to_owned(),
        optional,
    })
}
