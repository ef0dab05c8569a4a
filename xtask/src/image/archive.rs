//! The image as an OCI archive: written by buildah, and read back without it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::root::USER;
use crate::setup::Arch;
use crate::sys::{project, run};

/// What an image is called, and for which processor it is.
pub(super) struct Named<'a> {
    pub(super) name: &'a str,
    pub(super) arch: Arch,
}

/// Makes an image of the folder, writes it to `output`, and returns its digest.
pub(super) fn write(
    work: &Path,
    folder: &Path,
    output: &Path,
    named: &Named<'_>,
    epoch: u64,
) -> Result<String> {
    let Named { name, arch } = *named;
    // A store of its own, gone at the end: nothing of the machine's images is touched.
    let store = tempfile::tempdir_in(work)?;
    let buildah = |args: &[&str]| {
        let mut command = run::command("buildah");
        command.arg("--root").arg(store.path().join("root")).arg("--runroot").arg(store.path().join("run"));
        command.args(["--storage-driver", "vfs"]).args(args);
        command
    };
    let container = run::output(&mut buildah(&["from", "scratch"]))?;
    let container = container.trim();
    let from = format!("{}/.", folder.display());
    run::output(&mut buildah(&["copy", "--quiet", "--chown", "0:0", container, &from, "/"]))?;
    let mut config = buildah(&[
        "config",
        "--arch",
        arch.oci(),
        "--entrypoint",
        "[\"/remora\"]",
        "--user",
        USER,
        "--workingdir",
        "/",
    ]);
    for (key, value) in [
        ("title", "Remora"),
        ("description", "An eBPF traffic-capture agent with scriptable hooks"),
        ("version", env!("CARGO_PKG_VERSION")),
        ("licenses", "Apache-2.0 OR MIT"),
    ] {
        config.args(["--label", &format!("org.opencontainers.image.{key}={value}")]);
    }
    run::output(config.arg(container))?;
    let epoch = epoch.to_string();
    run::output(&mut buildah(&[
        "commit",
        "--quiet",
        "--format",
        "oci",
        "--timestamp",
        &epoch,
        "--rm",
        container,
        name,
    ]))?;
    let digest = store.path().join("digest");
    // It would add to an archive that is there.
    if output.exists() {
        fs::remove_file(output)?;
    }
    let mut push = buildah(&["push", "--quiet", "--digestfile"]);
    push.arg(&digest).arg(name).arg(format!("oci-archive:{}:{name}", output.display()));
    run::output(&mut push)?;
    Ok(fs::read_to_string(digest)?.trim().to_owned())
}

/// Unpacks the archive as a container runtime would and runs what is in it in a chroot, as the image's own user, for another
/// processor by QEMU. Returns what `remora --version` says.
pub(super) fn try_out(archive: &Path, arch: Arch) -> Result<String> {
    let made = tempfile::tempdir()?;
    let (layout, root) = (made.path().join("layout"), made.path().join("root"));
    unpack(archive, &layout)?;
    let index = json(&layout.join("index.json"))?;
    let manifest = json(&blob(&layout, &index["manifests"][0]["digest"])?)?;
    let config = json(&blob(&layout, &manifest["config"]["digest"])?)?;
    ensure!(config["config"]["User"] == USER, "the image's user is {}", config["config"]["User"]);
    ensure!(config["architecture"] == arch.oci(), "the image is for {}", config["architecture"]);
    for layer in manifest["layers"].as_array().context("an image without layers")? {
        unpack(&blob(&layout, &layer["digest"])?, &root)?;
    }
    // What a script needs: QuickJS, threads and files, all without a system.
    fs::write(root.join("tmp/a.js"), "function onItemCaptured(data) { console.log(data.id); }\n")?;
    let agent = "capture: {interfaces: [lo]}\nscripts: {paths: [/tmp/a.js]}\n";
    fs::write(root.join("tmp/agent.yaml"), agent)?;
    let program = config["config"]["Entrypoint"][0].as_str().context("an image without entrypoint")?;
    let chroot = project::program("chroot").context("no chroot here (Debian: coreutils)")?;
    if let Some(qemu) = (arch != Arch::HERE).then(|| project::program(arch.qemu())).flatten() {
        fs::copy(qemu, root.join(arch.qemu()))?;
    }
    let inside = |args: &[&str]| {
        let mut chroot = Command::new(&chroot);
        chroot.arg(format!("--userspec={USER}")).arg(&root);
        if arch != Arch::HERE {
            chroot.arg(format!("/{}", arch.qemu()));
        }
        chroot.arg(program).args(args).env_clear();
        run::output(&mut chroot)
    };
    let checked = inside(&["agent", "--config", "/tmp/agent.yaml", "--check"])?;
    ensure!(checked.contains("/tmp/agent.yaml: ok"), "remora agent --check said: {checked}");
    let version = inside(&["--version"])?;
    let expected = concat!("remora ", env!("CARGO_PKG_VERSION"));
    ensure!(version.trim() == expected, "remora --version said: {version}");
    Ok(version.trim().to_owned())
}

fn unpack(archive: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    let mut tar = run::command("tar");
    run::output(
        tar.arg("--extract").arg("--preserve-permissions").arg("--file").arg(archive).arg("-C").arg(to),
    )
    .map(drop)
}

fn json(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Ok(serde_json::from_str(&text)?)
}

fn blob(layout: &Path, digest: &Value) -> Result<PathBuf> {
    let (kind, sum) = digest.as_str().and_then(|d| d.split_once(':')).context("no digest")?;
    Ok(layout.join("blobs").join(kind).join(sum))
}
