//! The eBPF programs are compiled by a nightly compiler and linked by `bpf-linker`. The two must share LLVM's major
//! version (the linker reads the compiler's bitcode), so the nightly is pinned in `agent-ebpf/toolchain.txt`;
//! `REMORA_EBPF_TOOLCHAIN` names another one, or `debian` for the distribution's own compiler. `cargo xtask setup`
//! installs what is needed.

use std::env;
use std::ffi::OsString;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use aya_build::{Package, Toolchain};

/// LLVM of the `bpf-linker` that `cargo xtask setup` builds.
const LLVM_MAJOR: &str = "22";

const OVERRIDE: &str = "REMORA_EBPF_TOOLCHAIN";

/// Where Debian's `rustc-web` puts the compiler.
const DEBIAN_BIN: &str = "/usr/bin";

const MEND: &str =
    "run `cargo xtask setup`, or build with `--no-default-features` for a binary that replays files only";

pub(crate) fn build() -> Result<()> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../agent-ebpf");
    println!("cargo:rerun-if-env-changed={OVERRIDE}");
    println!("cargo:rerun-if-changed=build/ebpf.rs");
    let Some(linker) = on_path("bpf-linker") else {
        bail!("bpf-linker is not on PATH; {MEND}");
    };
    let toolchain = toolchain(Path::new(root))?;
    if toolchain == "debian" {
        use_debian(&linker)?;
    }
    let inner = [
        // What it says of its progress would be shown as warnings.
        ("CARGO_TERM_QUIET", "true"),
        // The programs' line tables would hold this machine's paths: the same sources are to give the same bytes.
        ("CARGO_UNSTABLE_TRIM_PATHS", "true"),
        ("CARGO_PROFILE_RELEASE_TRIM_PATHS", "all"),
    ];
    for (key, value) in inner {
        // SAFETY: a build script has one thread.
        unsafe { env::set_var(key, value) };
    }
    let package = Package { name: "agent-ebpf", root_dir: root, ..Package::default() };
    aya_build::build_ebpf([package], Toolchain::Custom(&toolchain))
        .with_context(|| format!("the eBPF programs did not compile with {toolchain}; {MEND}"))
}

/// The first toolchain that is installed and fits: the override alone, or the pinned one, or plain `nightly`, or
/// Debian's.
fn toolchain(root: &Path) -> Result<String> {
    let file = root.join("toolchain.txt");
    let pinned = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let candidates = match env::var(OVERRIDE) {
        Ok(name) => vec![name],
        Err(_) => vec![pinned.trim().to_owned(), String::from("nightly"), String::from("debian")],
    };
    let mut problems = Vec::new();
    for name in candidates {
        let rustc = || match name.as_str() {
            "debian" => Command::new(Path::new(DEBIAN_BIN).join("rustc")),
            _ => {
                let mut rustup = Command::new("rustup");
                rustup.args(["run", &name, "rustc"]);
                rustup
            }
        };
        match check(rustc) {
            Ok(()) => return Ok(name),
            Err(problem) => problems.push(format!("{name}: {problem}")),
        }
    }
    bail!("no toolchain for the eBPF programs ({}); {MEND}", problems.join("; "))
}

/// Fails unless that rustc runs, has the linker's LLVM, and comes with the source of `core`.
fn check(rustc: impl Fn() -> Command) -> Result<()> {
    let ask = |arguments: &[&str]| -> Result<String> {
        // Cargo sets it for build scripts; it would lead rustup back to the outer compiler.
        let output = rustc().args(arguments).env_remove("RUSTUP_TOOLCHAIN").output();
        let output = output.ok().filter(|o| o.status.success()).context("not installed")?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let version = ask(&["-vV"])?;
    let llvm = version.lines().find_map(|line| line.strip_prefix("LLVM version: ")).unwrap_or("unknown");
    ensure!(llvm.split('.').next() == Some(LLVM_MAJOR), "has LLVM {llvm}, bpf-linker reads {LLVM_MAJOR}");
    let sysroot = ask(&["--print", "sysroot"])?;
    ensure!(Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core").is_dir(), "has no rust-src");
    Ok(())
}

/// Makes the build see Debian's compiler and the linker, and no rustup, which would take over.
fn use_debian(linker: &Path) -> Result<()> {
    let tools = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR")?).join("tools");
    std::fs::create_dir_all(&tools)?;
    let link = tools.join("bpf-linker");
    if link.symlink_metadata().is_err() {
        symlink(linker, &link).with_context(|| link.display().to_string())?;
    }
    let path: OsString = env::join_paths([tools.as_path(), Path::new(DEBIAN_BIN), Path::new("/bin")])?;
    // SAFETY: a build script has one thread.
    unsafe {
        env::set_var("PATH", path);
        // It is a stable compiler, and BPF wants what only nightly allows otherwise.
        env::set_var("RUSTC_BOOTSTRAP", "1");
    }
    Ok(())
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}
