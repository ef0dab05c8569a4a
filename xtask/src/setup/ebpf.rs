//! The eBPF toolchain: a nightly with LLVM 22 and rust-src, and a bpf-linker on the same LLVM.
//!
//! The linker reads the compiler's bitcode, so its LLVM must not be older than the compiler's; later nightlies have
//! LLVM 23, hence the pin. Ways to a compiler, best first: the pinned nightly; an installed `nightly` that fits;
//! Debian's rustc-web (1.96 with `RUSTC_BOOTSTRAP`).

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::Result;

use super::{Missing, State};
use crate::sys::{is_root, project, run, term};

/// The toolchain that agent's build script takes when it is told nothing else: what `agent-ebpf/toolchain.txt` says.
pub(super) fn pinned() -> String {
    let file = project::root().join("agent-ebpf/toolchain.txt");
    fs::read_to_string(file).map_or_else(|_| PINNED.to_owned(), |text| text.trim().to_owned())
}

/// Where that file is missing.
const PINNED: &str = "nightly-2026-05-20";
/// What rustup and `REMORA_EBPF_TOOLCHAIN` call Debian's own compiler.
const DEBIAN: &str = "remora-debian";
const DEBIAN_PACKAGES: [&str; 2] = ["rustc-web", "libstd-rust-web-dev-bpf"];
const LLVM: &str = "22";
const LINKER: &str =
    "install bpf-linker --version 0.13.0 --locked --force --no-default-features --features llvm-22";
/// Where Debian puts that LLVM. bpf-linker's build would take the `llvm-config` on `PATH`, which may be another one's.
const PREFIX: &str = "/usr/lib/llvm-22";

/// What is there, and the toolchain's name if eBPF programs can be built.
pub(super) fn toolchain(check: bool) -> Result<(Vec<State>, Option<String>)> {
    let (compiler, name) = compiler(check);
    let linker = linker(check);
    let can = !matches!(linker, State::Missing(_));
    Ok((vec![compiler, linker], name.filter(|_| can)))
}

fn compiler(check: bool) -> (State, Option<String>) {
    let name = pinned();
    if has_source(&name) {
        return (State::Present(format!("{name} with rust-src")), Some(name));
    }
    let mut pinned = run::command("rustup");
    pinned.args(["toolchain", "install", &name, "--profile", "minimal", "--component", "rust-src"]);
    if !check {
        term::say(&format!(
            "  ebpf   installing {name}: the eBPF programs need a nightly compiler with LLVM {LLVM}"
        ));
        match run::output(&mut pinned) {
            Ok(_) => return (State::Installed(format!("{name} with rust-src")), Some(name)),
            Err(error) => term::say(&format!("  ebpf   {error:#}")),
        }
    }
    if let Some(state) = other_nightly(check) {
        return (state, Some("nightly".to_owned()));
    }
    if let Some(state) = debian(check) {
        return (state, Some(DEBIAN.to_owned()));
    }
    let missing = Missing {
        what: format!("a nightly compiler with LLVM {LLVM} and rust-src"),
        commands: vec![run::shown(&pinned)],
        without: "no eBPF programs, so no live capture".to_owned(),
        optional: false,
    };
    (State::Missing(missing), None)
}

/// The `nightly` that happens to be installed, if its LLVM is the right one.
fn other_nightly(check: bool) -> Option<State> {
    let version = run::try_output(run::command("rustup").args(["run", "nightly", "rustc", "-vV"]))?;
    if llvm_major(&version) != Some(LLVM) {
        return None;
    }
    if has_source("nightly") {
        return Some(State::Present("nightly with rust-src (instead of the pinned one)".to_owned()));
    }
    if check {
        return None;
    }
    run::output(run::command("rustup").args(["component", "add", "rust-src", "--toolchain", "nightly"]))
        .ok()?;
    Some(State::Installed("rust-src for the installed nightly (instead of the pinned one)".to_owned()))
}

/// Debian's compiler under a name that rustup knows. It brings core for BPF compiled, so it needs no sources.
fn debian(check: bool) -> Option<State> {
    let installed = || {
        let mut query = run::command("dpkg-query");
        let listed = run::try_output(query.args(["-W", "-f=${db:Status-Abbrev}\n"]).args(DEBIAN_PACKAGES));
        listed.is_some_and(|text| text.lines().all(|line| line.starts_with("ii")))
    };
    let linked = || {
        let version = run::try_output(run::command("rustup").args(["run", DEBIAN, "rustc", "-vV"]));
        version.is_some_and(|text| llvm_major(&text) == Some(LLVM))
    };
    if installed() && linked() {
        return Some(State::Present(format!("Debian's rustc-web, known to rustup as {DEBIAN}")));
    }
    if check || !is_root() {
        return None;
    }
    let mut apt = run::command("apt-get");
    apt.args(["-q", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300", "install"])
        .args(DEBIAN_PACKAGES);
    let ready = run::output(apt.env("DEBIAN_FRONTEND", "noninteractive")).and_then(|_| link_debian());
    if let Err(error) = ready {
        term::say(&format!("  ebpf   {error:#}"));
    }
    linked().then(|| {
        State::Installed(format!("Debian's rustc-web, as {DEBIAN} (rustup could not fetch a nightly)"))
    })
}

/// Makes a toolchain of Debian's compiler and rustup's cargo. Unstable features are on in it, and only in it.
fn link_debian() -> Result<()> {
    let folder = project::target().join("debian-toolchain");
    let bin = folder.join("bin");
    fs::create_dir_all(&bin)?;
    let lib = folder.join("lib");
    if !lib.exists() {
        std::os::unix::fs::symlink("/usr/lib", &lib)?;
    }
    let cargo = run::output(run::command("rustup").args(["which", "cargo"]))?;
    let programs = [("rustc", "/usr/bin/rustc"), ("cargo", cargo.trim())];
    for (name, program) in programs {
        let script = format!("#!/bin/sh\nRUSTC_BOOTSTRAP=1 RUSTC=/usr/bin/rustc exec '{program}' \"$@\"\n");
        fs::write(bin.join(name), script)?;
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755))?;
    }
    run::output(run::command("rustup").args(["toolchain", "link", DEBIAN]).arg(&folder)).map(drop)
}

fn has_source(toolchain: &str) -> bool {
    let sysroot =
        run::try_output(run::command("rustup").args(["run", toolchain, "rustc", "--print", "sysroot"]));
    sysroot.is_some_and(|s| std::path::Path::new(s.trim()).join("lib/rustlib/src/rust/library/core").is_dir())
}

/// LLVM's major version from `rustc -vV`.
fn llvm_major(version: &str) -> Option<&str> {
    version.lines().find_map(|l| l.strip_prefix("LLVM version: "))?.split('.').next()
}

fn linker(check: bool) -> State {
    if let Some(version) = linker_version() {
        return State::Present(version);
    }
    let mut install = project::cargo(None);
    install.args(LINKER.split(' '));
    if std::path::Path::new(PREFIX).is_dir() {
        install.env("LLVM_PREFIX", PREFIX);
    }
    let mut why = String::new();
    if !check {
        term::say("  ebpf   building bpf-linker 0.13.0 (half a minute to a few): it links the eBPF programs");
        // Its own folder: a target directory of ours is no business of a tool's.
        if let Err(error) = run::output(install.env_remove("CARGO_TARGET_DIR")) {
            why = format!(": {error:#}");
        }
        if let Some(version) = linker_version() {
            return State::Installed(version);
        }
    }
    State::Missing(Missing {
        what: format!("bpf-linker 0.13.0 on LLVM {LLVM}{why}"),
        commands: vec![format!("LLVM_PREFIX={PREFIX} cargo {LINKER}")],
        without: "no eBPF programs, so no live capture".to_owned(),
        optional: false,
    })
}

/// The linker's version, if it starts and its LLVM is not older than the compiler's.
fn linker_version() -> Option<String> {
    let program = project::program("bpf-linker")?;
    let version = run::try_output(run::command(&program).arg("--version"))?;
    let version = version.trim();
    let number = version.strip_prefix("bpf-linker ")?;
    // One that has LLVM inside (as those which the project itself hands out) names none here.
    let libraries = run::try_output(run::command("ldd").arg(&program)).unwrap_or_default();
    let old = linked_llvm(&libraries).is_some_and(|major| major < LLVM.parse().unwrap_or(0));
    (number.starts_with("0.13.") && !old).then(|| version.to_owned())
}

/// The major version of the LLVM that `ldd` names: `libLLVM.so.22.1 => …`, or `libLLVM-14.so.1 => …`.
fn linked_llvm(ldd: &str) -> Option<u32> {
    let name = ldd.split_whitespace().find_map(|word| word.strip_prefix("libLLVM"))?;
    name.split(|c: char| !c.is_ascii_digit()).find(|part| !part.is_empty())?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llvm_is_read_from_the_compilers_version() {
        assert_eq!(
            llvm_major("rustc 1.97.0-nightly\nrelease: 1.97.0-nightly\nLLVM version: 22.1.4\n"),
            Some("22")
        );
        assert_eq!(llvm_major("rustc 1.97.0\n"), None);
    }

    #[test]
    fn the_linkers_llvm_is_read_from_ldd() {
        assert_eq!(
            linked_llvm("\tlibc.so.6 => /lib/libc.so.6 (0x1)\n\tlibLLVM.so.22.1 => /usr/lib/x (0x2)\n"),
            Some(22)
        );
        assert_eq!(linked_llvm("\tlibLLVM-14.so.1 => /usr/lib/x (0x2)\n"), Some(14));
        assert_eq!(linked_llvm("\tstatically linked\n"), None);
    }
}
