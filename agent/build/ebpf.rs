//! The eBPF programs are compiled by a nightly compiler and linked by `bpf-linker`. The two must share LLVM's major
//! version (the linker reads the compiler's bitcode), so the nightly is pinned in `agent-ebpf/toolchain.txt`;
//! `REMORA_EBPF_TOOLCHAIN` names another one. `cargo xtask setup` installs both.

use std::env;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use aya_build::{Package, Toolchain};

/// LLVM of the `bpf-linker` that `cargo xtask setup` builds.
const LLVM_MAJOR: &str = "22";

const OVERRIDE: &str = "REMORA_EBPF_TOOLCHAIN";

const MEND: &str =
    "run `cargo xtask setup`, or build with `--no-default-features` for a binary that replays files only";

pub(crate) fn build() -> Result<()> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../agent-ebpf");
    println!("cargo:rerun-if-env-changed={OVERRIDE}");
    println!("cargo:rerun-if-changed=build/ebpf.rs");
    ensure!(on_path("bpf-linker"), "bpf-linker is not on PATH; {MEND}");
    let toolchain = toolchain(Path::new(root))?;
    let package = Package { name: "agent-ebpf", root_dir: root, ..Package::default() };
    aya_build::build_ebpf([package], Toolchain::Custom(&toolchain)).with_context(|| {
        format!("the eBPF programs did not compile with {toolchain}; is rust-src there? {MEND}")
    })
}

/// The first toolchain that is installed and fits: the override alone, or the pinned one, or plain `nightly`.
fn toolchain(root: &Path) -> Result<String> {
    if !on_path("rustup") {
        // aya-build then uses the compiler at hand.
        check(&mut Command::new("rustc")).with_context(|| format!("no rustup, and rustc: {MEND}"))?;
        return Ok(String::from("rustc"));
    }
    let file = root.join("toolchain.txt");
    let pinned = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let candidates = match env::var(OVERRIDE) {
        Ok(name) => vec![name],
        Err(_) => vec![pinned.trim().to_owned(), String::from("nightly")],
    };
    let mut problems = Vec::new();
    for name in candidates {
        match check(Command::new("rustup").args(["run", &name, "rustc"])) {
            Ok(()) => return Ok(name),
            Err(problem) => problems.push(format!("{name}: {problem}")),
        }
    }
    bail!("no toolchain for the eBPF programs ({}); {MEND}", problems.join("; "))
}

/// Fails unless that rustc runs and has the linker's LLVM.
fn check(rustc: &mut Command) -> Result<()> {
    // Cargo sets these for build scripts; they would lead rustup's proxy back to the outer compiler.
    let output = rustc.arg("-vV").env_remove("RUSTC").env_remove("RUSTUP_TOOLCHAIN").output()?;
    ensure!(output.status.success(), "not installed");
    let text = String::from_utf8_lossy(&output.stdout);
    let llvm = text.lines().find_map(|line| line.strip_prefix("LLVM version: ")).unwrap_or("unknown");
    ensure!(llvm.split('.').next() == Some(LLVM_MAJOR), "has LLVM {llvm}, bpf-linker reads {LLVM_MAJOR}");
    Ok(())
}

fn on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
