//! Recordings that are mangled ones of others: the same traffic as a bad network or a bad capture would have had it.
//!
//! Where nothing is lost the items must be those of the source; where packets are, a part of them. `variant` in the
//! folder says of what and which.

use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::sys::{project, run, term};

/// One of them.
struct Variant {
    name: &'static str,
    of: &'static str,
    lossless: bool,
    options: &'static [&'static str],
}

const VARIANTS: [Variant; 7] = [
    lossless("nginx-reordered", "nginx", &["--reorder", "0.3", "--window", "4", "--seed", "2"]),
    lossy("nginx-loss", "nginx", &["--drop", "0.08", "--seed", "3"]),
    lossless("shop-duplicated", "shop", &["--duplicate", "0.4", "--window", "3"]),
    lossless("python-tiny-mtu", "python", &["--split", "40", "--overlap", "0.2"]),
    lossless(
        "node-all-at-once",
        "node",
        &["--split", "100", "--overlap", "0.1", "--duplicate", "0.2", "--reorder", "0.2"],
    ),
    lossy("python-cut", "python", &["--snap", "200"]),
    lossy("wrk-loss", "wrk", &["--drop", "0.1", "--seed", "4"]),
];

const fn lossless(name: &'static str, of: &'static str, options: &'static [&'static str]) -> Variant {
    Variant { name, of, lossless: true, options }
}

const fn lossy(name: &'static str, of: &'static str, options: &'static [&'static str]) -> Variant {
    Variant { name, of, lossless: false, options }
}

/// Makes all variants of a recording.
pub(super) fn make(fixtures: &Path, of: &str) -> Result<()> {
    for variant in VARIANTS.iter().filter(|v| v.of == of) {
        let folder = fixtures.join(variant.name);
        fs::create_dir_all(&folder)?;
        let capture = folder.join("input.pcap");
        let mut mangle = run::command(project::built("mangle"));
        mangle.arg(fixtures.join(of).join("input.pcap")).arg(&capture).args(variant.options);
        run::output(&mut mangle)?;
        let kept = if variant.lossless { "lossless" } else { "lossy" };
        fs::write(folder.join("variant"), format!("{of} {kept}\n"))?;
        fs::write(folder.join("README.md"), readme(variant))?;
        term::say(&format!("{}: {} bytes", folder.display(), fs::metadata(&capture)?.len()));
    }
    Ok(())
}

fn readme(variant: &Variant) -> String {
    let must = if variant.lossless {
        "No byte of a stream is missing: the items are those of the source."
    } else {
        "Packets, or their ends, are missing: what is whole is as in the source, what is not says so."
    };
    format!(
        "# {}\n\n[{of}](../{of}/README.md), mangled by this project's own mangler: `mangle input.pcap output.pcap {}`. {must}\n\n\
         `cargo xtask record {of}` makes it anew with its source. Provenance and licence are the source's.\n",
        variant.name,
        variant.options.join(" "),
        of = variant.of,
    )
}
