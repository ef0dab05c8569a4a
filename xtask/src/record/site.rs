//! What the recorded web servers serve, and the curls that ask for it.

use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::sys::run;
use crate::world::{SERVER, World};

/// One curl: its requests go over one connection, in order. What begins with `/` is a path to ask for.
pub(super) type Visit = &'static [&'static str];

/// Writes the site's static files: text, JSON that is worth compressing, and bytes.
pub(super) fn write(www: &Path) -> Result<()> {
    fs::create_dir(www)?;
    let page = (0..40).map(|n| format!("<p>paragraph {n}</p>\n")).collect::<String>();
    fs::write(www.join("page.html"), format!("<!doctype html>\n<title>page</title>\n{page}"))?;
    let list = (0..200).map(|n| format!("{{\"id\":{n}}}")).collect::<Vec<_>>().join(",\n");
    fs::write(www.join("list.json"), format!("[{list}]\n"))?;
    fs::write(www.join("blob.bin"), (0..20_000_u32).map(|n| (n * 7 % 251) as u8).collect::<Vec<u8>>())?;
    Ok(())
}

/// Pays the visits, one after the other.
pub(super) fn visit(world: &World, visits: &[Visit]) -> Result<()> {
    for visit in visits {
        let mut curl = world.client.enter("curl");
        curl.args(["-s", "--no-progress-meter"]);
        for argument in *visit {
            if argument.starts_with('/') {
                curl.args(["-o", "/dev/null", &url(argument)]);
            } else {
                curl.arg(argument);
            }
        }
        run::output(&mut curl)?;
    }
    Ok(())
}

/// How many requests the visits make.
pub(super) fn requests(visits: &[Visit]) -> usize {
    visits.iter().flat_map(|visit| visit.iter()).filter(|argument| argument.starts_with('/')).count()
}

pub(super) fn url(path: &str) -> String {
    format!("http://{SERVER}{path}")
}
