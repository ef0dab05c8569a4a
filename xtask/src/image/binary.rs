//! The static binary: built for musl, without paths of this machine; for another processor by cargo-zigbuild, whose compiler of C
//! brings musl along.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::setup::{self, Arch};
use crate::sys::{calm, project, run};

/// Builds it, and says where it is.
pub(super) fn build(arch: Arch, debug: bool) -> Result<PathBuf> {
    let root = project::root().display().to_string();
    let home = cargo_home()?.display().to_string();
    let target = arch.musl();
    let mut cargo = project::cargo(None);
    let underscored = target.replace('-', "_");
    if arch == Arch::HERE {
        cargo.arg("build");
        // The C in it (QuickJS, ring) has to be compiled against musl's headers.
        cargo.env(format!("CC_{underscored}"), "musl-gcc");
    } else {
        let tools = setup::cross().context("`cargo xtask setup --only cross` has what compiles for it")?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(std::iter::once(tools).chain(std::env::split_paths(&path)))?;
        cargo.env("PATH", path).arg("zigbuild");
    }
    cargo.args(["--locked", "-p", "agent", "--bin", "remora", "--target", target]);
    if !debug {
        cargo.arg("--release");
    }
    let map = format!("-ffile-prefix-map={root}=/remora -ffile-prefix-map={home}=/cargo");
    cargo.env(format!("CFLAGS_{underscored}"), map);
    let flags = [
        format!("--remap-path-prefix={root}=/remora"),
        format!("--remap-path-prefix={home}=/cargo"),
        // Names of functions stay, for backtraces.
        "-Cstrip=debuginfo".to_owned(),
    ];
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    calm::cargo(&mut cargo)?;
    let profile = if debug { "debug" } else { "release" };
    let binary = project::target().join(target).join(profile).join("remora");
    check(&binary, &[&root, &home])?;
    Ok(binary)
}

fn cargo_home() -> Result<PathBuf> {
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo"));
    std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(home)
        .context("neither CARGO_HOME nor HOME is set")
}

/// It needs no library and no interpreter of the system, and tells nothing of this machine.
fn check(binary: &PathBuf, paths: &[&str]) -> Result<()> {
    let headers =
        run::output(run::command("readelf").args(["--wide", "--program-headers", "--dynamic"]).arg(binary))?;
    for word in ["INTERP", "(NEEDED)"] {
        ensure!(!headers.contains(word), "{} is not static: readelf tells of {word}", binary.display());
    }
    let bytes = std::fs::read(binary)?;
    for path in paths {
        let found = bytes.windows(path.len()).any(|window| window == path.as_bytes());
        ensure!(!found, "{}: the path {path} of this machine is in it", binary.display());
    }
    Ok(())
}
