//! What is in the image: a folder that becomes its root.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context, Result};

use crate::sys::project;

/// Certificates of the authorities that the system trusts: HTTPS to Slack is checked against them.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Who runs in the image, unless another user is named: nobody in particular.
pub(super) const USER: &str = "65532:65532";

/// Lays it out in a new folder.
pub(super) fn fill(folder: &Path, binary: &Path, sbom: &str) -> Result<()> {
    let put = |path: &str, mode: u32, bytes: &[u8]| -> Result<()> {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().context("a file has a folder")?)?;
        fs::write(&path, bytes).with_context(|| path.display().to_string())?;
        Ok(fs::set_permissions(&path, fs::Permissions::from_mode(mode))?)
    };
    put("remora", 0o755, &fs::read(binary)?)?;
    let certificates = fs::read(CERTIFICATES)
        .with_context(|| format!("{CERTIFICATES} (Debian: ca-certificates): without it no HTTPS"))?;
    put("etc/ssl/certs/ca-certificates.crt", 0o644, &certificates)?;
    put("etc/passwd", 0o644, b"root:x:0:0:root:/:/remora\nremora:x:65532:65532:remora:/:/remora\n")?;
    put("etc/group", 0o644, b"root:x:0:\nremora:x:65532:\n")?;
    for licence in ["LICENSE-APACHE", "LICENSE-MIT", "LICENSE-GPL2"] {
        put(&format!("usr/share/doc/remora/{licence}"), 0o644, &fs::read(project::root().join(licence))?)?;
    }
    put("usr/share/doc/remora/sbom.cdx.json", 0o644, sbom.as_bytes())?;
    for (dir, mode) in
        [("tmp", 0o1777), ("var/lib/remora", 0o755), ("run/remora", 0o755), ("etc/remora", 0o755)]
    {
        fs::create_dir_all(folder.join(dir))?;
        fs::set_permissions(folder.join(dir), fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}
