//! TypeScript's own compiler over `scripts/*.js` and `remora.d.ts`: what editors show their users.

use anyhow::Result;

use super::Outcome;
use crate::sys::{project, run};

/// npm's package, pinned.
const PIN: &str = "typescript@5.9.3";

/// Checks them; installs the compiler below `target/` where npm can.
pub(super) fn check() -> Result<Outcome> {
    let folder = project::target().join("tsc");
    let compiler = folder.join("node_modules/typescript/bin/tsc");
    let stamp = folder.join("remora-pin");
    if !compiler.exists() || std::fs::read_to_string(&stamp).is_ok_and(|pin| pin != PIN) {
        if project::program("npm").is_none() || project::program("node").is_none() {
            return Ok(Outcome::Skipped("there is no npm to get TypeScript with".to_owned()));
        }
        std::fs::create_dir_all(&folder)?;
        let mut npm = run::command("npm");
        npm.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"]).arg(&folder).arg(PIN);
        if let Err(error) = run::output(&mut npm) {
            return Ok(Outcome::Skipped(format!("npm does not give {PIN}: {error:#}")));
        }
        std::fs::write(&stamp, PIN)?;
    }
    let mut tsc = run::command("node");
    tsc.arg(compiler).arg("--project").arg(project::root().join("scripts/tsconfig.json"));
    run::ok(&mut tsc)?;
    Ok(Outcome::Passed)
}
