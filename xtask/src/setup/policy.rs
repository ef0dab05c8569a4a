//! Keeps package installation from starting services (nginx would take port 80).
//!
//! Debian asks `/usr/sbin/policy-rc.d` (101: do not). If the machine has one, that one decides. If not, ours stands
//! there while packages are installed; it carries a mark, so that one left by a killed set-up is known and removed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

const PATH: &str = "/usr/sbin/policy-rc.d";
const SCRIPT: &str = "#!/bin/sh\n# Put here by `cargo xtask setup` of remora while it installs packages; safe to delete.\nexit 101\n";

/// Holds service starts back until it is dropped.
#[derive(Debug)]
pub(super) struct NoServiceStarts {
    /// What is to be removed, if it is ours.
    ours: Option<PathBuf>,
}

/// Holds service starts back.
pub(super) fn no_service_starts() -> Result<NoServiceStarts> {
    hold(Path::new(PATH))
}

fn hold(path: &Path) -> Result<NoServiceStarts> {
    if fs::read_to_string(path).is_ok_and(|text| text != SCRIPT) || (path.exists() && !path.is_file()) {
        return Ok(NoServiceStarts { ours: None });
    }
    let guard = NoServiceStarts { ours: Some(path.to_owned()) };
    fs::write(path, SCRIPT).with_context(|| format!("writing {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(guard)
}

impl Drop for NoServiceStarts {
    fn drop(&mut self) {
        if let Some(path) = &self.ours
            && let Err(error) = fs::remove_file(path)
        {
            eprintln!("{} is still there, and keeps services from starting: {error}", path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_comes_and_goes_and_the_machines_own_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy-rc.d");
        let guard = hold(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755);
        std::mem::forget(guard);
        drop(hold(&path).unwrap());
        assert!(!path.exists(), "one left by a killed run is taken over and removed");
        fs::write(&path, "#!/bin/sh\nexit 0\n").unwrap();
        drop(hold(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "#!/bin/sh\nexit 0\n");
    }
}
