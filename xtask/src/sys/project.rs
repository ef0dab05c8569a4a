//! Where things are: the workspace, what cargo built, and cargo itself.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::run::command;

/// The workspace's folder.
pub(crate) fn root() -> &'static Path {
    // xtask lies in a folder of the workspace, so its manifest has a parent.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// A path as short as it can be said: from the workspace's folder, if it is in there.
pub(crate) fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// A program that `cargo build` made.
pub(crate) fn built(program: &str) -> PathBuf {
    target().join("debug").join(program)
}

/// A program that `cargo build --release` made.
pub(crate) fn optimised(program: &str) -> PathBuf {
    target().join("release").join(program)
}

/// `cargo` in the workspace's folder. With `ebpf`, agent's build script uses that toolchain for the eBPF programs.
pub(crate) fn cargo(ebpf: Option<&str>) -> Command {
    let mut cargo = command(program("cargo").map_or_else(|| "cargo".into(), PathBuf::into_os_string));
    // What cargo told us about xtask is not about what is built now, and some build scripts run again when it changes.
    for (key, _) in env::vars_os() {
        let name = key.to_string_lossy();
        let about_us = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"]
            .iter()
            .any(|p| name.starts_with(p));
        if about_us || matches!(&*name, "CARGO" | "CARGO_PRIMARY_PACKAGE" | "LD_LIBRARY_PATH" | "OUT_DIR") {
            cargo.env_remove(&key);
        }
    }
    if let Some(toolchain) = ebpf {
        cargo.env("REMORA_EBPF_TOOLCHAIN", toolchain);
    }
    cargo
}

/// A program by name, from `PATH` or where administrators' programs are.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    let cargo_bin = home.map(|h| h.join("bin"));
    env::split_paths(&path).chain(usual).chain(cargo_bin).map(|dir| dir.join(name)).find(|p| p.is_file())
}
