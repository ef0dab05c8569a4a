//! The eBPF toolchain: a nightly with LLVM 22 and rust-src, and a bpf-linker on the same LLVM.
//!
//! The linker reads the compiler's bitcode, so its LLVM must not be older than the compiler's; later nightlies have
//! LLVM 23, hence the pin. Ways to a compiler, best first: the pinned nightly; an installed `nightly` that fits;
//! Debian's rustc-web (1.96 with `RUSTC_BOOTSTRAP`).

use anyhow::Result;

use super::{Missing, State};
use crate::sys::{is_root, project, run, term};

/// The toolchain that agent's build script takes when it is told nothing else: what `agent-ebpf/toolchain.txt` says.
pub(super) fn pinned() -> String {
    let file = project::root().join("agent-ebpf/toolchain.txt");
    std::fs::read_to_string(file).map_or_else(|_| PINNED.to_owned(), |text| text.trim().to_owned())
}

/// Where that file is missing.
const PINNED: &str = "nightly-2026-05-20";
/// What `REMORA_EBPF_TOOLCHAIN` says for Debian's own compiler.
const DEBIAN: &str = "debian";
const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "libstd-rust-web-dev-bpf", "rust-web-src"];
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

fn debian(check: bool) -> Option<State> {
    let there = || {
        run::try_output(
            run::command("dpkg-query").args(["-W", "-f=${db:Status-Abbrev}\n"]).args(DEBIAN_PACKAGES),
        )
        .is_some_and(|s| s.lines().all(|l| l.starts_with("ii")))
    };
    if there() {
        return Some(State::Present("Debian's rustc-web".to_owned()));
    }
    if check || !is_root() {
        return None;
    }
    let mut apt = run::command("apt-get");
    apt.args(["-q", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300", "install"])
        .args(DEBIAN_PACKAGES);
    run::output(apt.env("DEBIAN_FRONTEND", "noninteractive")).ok()?;
    there().then(|| State::Installed("Debian's rustc-web (rustup could not fetch a nightly)".to_owned()))
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
