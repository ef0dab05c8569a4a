//! `cargo xtask image`: an image that holds the static binary, certificates and licences, and nothing else.
//!
//! ```text
//! cargo build for musl ─► binary ┐
//! cargo metadata ──────► SBOM    ├─► root folder ─► buildah, from scratch ─► OCI archive ─► unpacked again and tried
//! certificates, licences ────────┘
//! ```
//! Invariant: the same sources, tools and certificates give the same image, byte for byte: every time in it is
//! `SOURCE_DATE_EPOCH` (by default that of the last commit), lists are sorted, and no path of this machine is in it.

mod archive;
mod binary;
mod root;
mod sbom;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::setup::{self, Arch, Setup};
use crate::sys::{NotPermitted, is_root, project, run, term};

/// What kind of image.
#[derive(Args, Debug, Default)]
#[command(
    after_help = "Examples:\n  cargo xtask image\n  cargo xtask image --arch arm64 --output remora-arm64.tar\n  cargo xtask image --name registry.example.com/remora:0.1.0 --output remora.tar\n  \
                  podman load -i target/image/remora.tar      (docker load from version 25 on, ctr images import, skopeo copy)"
)]
pub(crate) struct Image {
    /// Name and tag [default: remora and the version].
    #[arg(long)]
    name: Option<String>,
    /// Where the OCI archive goes [default: target/image/remora.tar].
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The processor that it is for [default: this machine's].
    #[arg(long, value_enum)]
    arch: Option<Arch>,
    /// A debug build: quick to make, large and slow.
    #[arg(long)]
    debug: bool,
    /// Only write what is to be in the image to this new folder; needs no buildah.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["name", "output"])]
    root_only: Option<PathBuf>,
}

/// The command.
pub(crate) fn run(options: &Image) -> Result<()> {
    if let Some(folder) = &options.root_only {
        ensure!(!folder.exists(), "{} is there already", folder.display());
        return fill(folder, options.arch(), options.debug);
    }
    let arch = options.arch();
    if setup::prepare(&Setup::for_image(arch))?.incomplete || !is_ready() || !has_compiler(arch) {
        return Err(NotPermitted("what makes images is missing: see above".to_owned()).into());
    }
    let work = project::target().join("image");
    std::fs::create_dir_all(&work)?;
    let output = options.output.clone().unwrap_or_else(|| work.join("remora.tar"));
    let name = options.name.clone().unwrap_or_else(|| format!("remora:{}", env!("CARGO_PKG_VERSION")));
    make(&work, &output, &name, arch, options.debug)
}

impl Image {
    fn arch(&self) -> Arch {
        self.arch.unwrap_or(Arch::HERE)
    }
}

fn has_compiler(arch: Arch) -> bool {
    arch == Arch::HERE || (setup::cross().is_some() && setup::has_target(arch.musl()))
}

/// Whether all is there that it takes, without a look at packages.
pub(crate) fn is_ready() -> bool {
    ["musl-gcc", "buildah"].iter().all(|program| project::program(program).is_some())
        && setup::has_target(Arch::HERE.musl())
}

/// A debug image, made in a folder that vanishes, and tried: for `cargo xtask test`.
pub(crate) fn check() -> Result<()> {
    let work = tempfile::tempdir_in(project::target())?;
    make(work.path(), &work.path().join("remora.tar"), "remora:test", Arch::HERE, true)
}

fn make(work: &Path, output: &Path, name: &str, arch: Arch, debug: bool) -> Result<()> {
    let folder = work.join("root");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    fill(&folder, arch, debug)?;
    term::section("Image");
    let digest = archive::write(work, &folder, output, &archive::Named { name, arch }, epoch()?)?;
    let size = std::fs::metadata(output)?.len();
    term::say(&format!("  {}  {name}, {} MiB, {digest}", project::shown(output), size >> 20));
    if !is_root() {
        term::say("  not tried: chroot(2) takes root");
    } else if arch != Arch::HERE && project::program(arch.qemu()).is_none() {
        term::say(&format!("  not tried: {} is not installed (Debian: qemu-user-static)", arch.qemu()));
    } else {
        let said = archive::try_out(output, arch)?;
        let by = if arch == Arch::HERE { "" } else { " by QEMU" };
        term::say(&format!("  unpacked and tried in a chroot{by}: {said}"));
    }
    Ok(())
}

/// Only what is to be in the image, in a new folder.
pub(crate) fn root(folder: &Path, debug: bool) -> Result<()> {
    fill(folder, Arch::HERE, debug)
}

/// Builds, and lays out the image's root.
fn fill(folder: &Path, arch: Arch, debug: bool) -> Result<()> {
    term::section("Static binary");
    let binary = binary::build(arch, debug)?;
    let sbom = sbom::text(arch.musl(), epoch()?)?;
    root::fill(folder, &binary, &sbom)
}

/// Seconds since 1970 that stand for the time of everything in the image.
fn epoch() -> Result<u64> {
    if let Some(given) = std::env::var("SOURCE_DATE_EPOCH").ok().filter(|given| !given.is_empty()) {
        return given.parse().with_context(|| format!("SOURCE_DATE_EPOCH={given:?}: seconds since 1970"));
    }
    let mut git: Command = run::command("git");
    let last =
        run::output(git.args(["log", "-1", "--format=%ct"])).context("without git, set SOURCE_DATE_EPOCH")?;
    last.trim().parse().context("git log told no time")
}
