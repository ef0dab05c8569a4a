//! wrk, pipelining, to nginx; the account is nginx's access log.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::nginx::Nginx;
use super::{Story, recorded, version};
use crate::sys::{project, run};
use crate::world::{SERVER, World};

/// Eight requests at once, each for a target of its own; wrk ends after 32 responses.
const SCRIPT: &str = r#"
local sent, answered = 0, 0
request = function()
  local batch = {}
  for i = 1, 8 do
    sent = sent + 1
    batch[i] = wrk.format("GET", "/r/" .. sent)
  end
  return table.concat(batch)
end
response = function()
  answered = answered + 1
  if answered == 32 then wrk.thread:stop() end
end
"#;

pub(super) fn record(world: &World, capture: &Path) -> Result<Story> {
    let nginx = Nginx::start(world)?;
    let script = tempfile::NamedTempFile::with_suffix(".lua")?;
    fs::write(script.path(), SCRIPT)?;
    let program = project::program("wrk").context("wrk is not installed; `cargo xtask setup` does that")?;
    recorded(world, capture, || {
        let mut wrk = world.client.enter(&program);
        wrk.args(["-t", "1", "-c", "2", "-d", "2s", "-s"])
            .arg(script.path())
            .arg(format!("http://{SERVER}/"));
        run::output(&mut wrk).map(drop)
    })?;
    Ok(Story {
        account: nginx.stop(None)?,
        what: "wrk to nginx: two connections, eight requests written at once on each, then their eight responses; the last ones may be \
               cut off, as wrk does not wait for them. Every response names its request. `account.jsonl` is nginx's own \
               access log.",
        versions: vec![
            version("wrk", &["-v"]),
            version("nginx", &["-v"]),
            version("tcpdump", &["--version"]),
        ],
    })
}
