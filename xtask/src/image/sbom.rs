//! What the binary is made of, as CycloneDX 1.5: each crate that is compiled into it, with its licence and checksum.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::sys::{project, run};

/// The crate whose binary it is.
const PROGRAM: &str = "agent";
/// Crates that only its build script depends on, and whose code is in the binary all the same: the eBPF programs.
const EMBEDDED: [&str; 1] = ["agent-ebpf"];

/// The bill for `target`, with this time in it.
pub(super) fn text(target: &str, epoch: u64) -> Result<String> {
    let mut cargo = project::cargo(None);
    cargo.args(["metadata", "--locked", "--format-version", "1", "--filter-platform", target]);
    let metadata = serde_json::from_str(&run::output(&mut cargo)?)?;
    let lock = std::fs::read_to_string(project::root().join("Cargo.lock"))?;
    let rustc = run::output(run::command("rustc").arg("--version"))?;
    let rustc = rustc.split_whitespace().nth(1).unwrap_or_default().to_owned();
    let bill = bill(&metadata, &checksums(&lock), &rustc, &time(epoch))?;
    Ok(serde_json::to_string_pretty(&bill)? + "\n")
}

fn bill(
    metadata: &Value,
    sums: &BTreeMap<(String, String), String>,
    rustc: &str,
    time: &str,
) -> Result<Value> {
    let packages: BTreeMap<&str, &Value> = entries(&metadata["packages"]);
    let nodes: BTreeMap<&str, &Value> = entries(&metadata["resolve"]["nodes"]);
    let program = packages.values().find(|p| p["name"] == PROGRAM).context("no such package")?;
    let first = program["id"].as_str().context("a package without id")?;
    let (mut open, mut reached) = (vec![first], BTreeMap::new());
    while let Some(id) = open.pop() {
        if reached.contains_key(id) {
            continue;
        }
        let below = dependencies(nodes.get(id).copied().unwrap_or(&Value::Null), &packages);
        open.extend(below.iter().copied());
        reached.insert(id, below);
    }
    let reference = |id: &str| packages.get(id).map(|package| purl(package)).unwrap_or_default();
    let mut components: Vec<Value> =
        reached.keys().filter(|id| **id != first).map(|id| component(packages[id], sums)).collect();
    // Its library, and musl with it, are linked in.
    components.push(json!({
        "type": "library", "bom-ref": format!("rust@{rustc}"), "name": "rust", "version": rustc,
        "licenses": [{ "expression": "MIT OR Apache-2.0" }],
    }));
    components.sort_by_key(|c| c["bom-ref"].as_str().unwrap_or_default().to_owned());
    let mut edges: Vec<Value> = reached
        .iter()
        .map(|(id, below)| {
            let on: BTreeSet<_> = below.iter().map(|id| reference(id)).collect();
            json!({ "ref": reference(id), "dependsOn": on })
        })
        .collect();
    edges.sort_by_key(|e| e["ref"].as_str().unwrap_or_default().to_owned());
    let mut whole = component(program, sums);
    whole["type"] = json!("application");
    whole["name"] = json!("remora");
    Ok(json!({
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "metadata": { "timestamp": time, "component": whole },
        "components": components, "dependencies": edges,
    }))
}

fn entries(list: &Value) -> BTreeMap<&str, &Value> {
    list.as_array().into_iter().flatten().filter_map(|entry| Some((entry["id"].as_str()?, entry))).collect()
}

/// The crates that are compiled into this one's code.
fn dependencies<'m>(node: &'m Value, packages: &BTreeMap<&str, &Value>) -> Vec<&'m str> {
    let is_in = |dependency: &&Value| {
        let kinds = dependency["dep_kinds"].as_array().into_iter().flatten();
        let embedded = || {
            let package = packages.get(dependency["pkg"].as_str().unwrap_or_default());
            package.is_some_and(|p| EMBEDDED.iter().any(|name| p["name"] == *name))
        };
        kinds.into_iter().any(|kind| kind["kind"].is_null() || (kind["kind"] == "build" && embedded()))
    };
    let all = node["deps"].as_array().into_iter().flatten();
    all.filter(is_in).filter_map(|dependency| dependency["pkg"].as_str()).collect()
}

fn purl(package: &Value) -> String {
    let text = |key: &str| package[key].as_str().unwrap_or_default();
    format!("pkg:cargo/{}@{}", text("name"), text("version"))
}

fn component(package: &Value, sums: &BTreeMap<(String, String), String>) -> Value {
    let text = |key: &str| package[key].as_str().unwrap_or_default().to_owned();
    let (name, version) = (text("name"), text("version"));
    let mut component = json!({
        "type": "library", "bom-ref": purl(package), "name": name, "version": version, "purl": purl(package),
    });
    if let Some(licence) = package["license"].as_str() {
        // An older way to write OR.
        let licence = licence.split('/').map(str::trim).collect::<Vec<_>>().join(" OR ");
        component["licenses"] = json!([{ "expression": licence }]);
    }
    if let Some(sum) = sums.get(&(name, version)) {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": sum }]);
    }
    component
}

/// Of Cargo.lock: name and version to checksum.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let field = |block: &str, key: &str| {
        let line = block.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"'));
        line.map(str::to_owned)
    };
    let blocks = lock.split("[[package]]").skip(1);
    blocks.filter_map(|b| Some(((field(b, "name")?, field(b, "version")?), field(b, "checksum")?))).collect()
}

/// RFC 3339, by the civil calendar (proleptic Gregorian) from days since 1970.
fn time(epoch: u64) -> String {
    let (days, second) = (epoch / 86_400 + 719_468, epoch % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata() -> Value {
        let package = |id: &str, licence: &str| json!({"id": id, "name": id.split('#').next(), "version": "1.0.0", "license": licence});
        let on = |id: &str, kind: Value| json!({"pkg": id, "dep_kinds": [{"kind": kind, "target": null}]});
        json!({
            "packages": [
                package("agent#1", "MIT"), package("used#1", "MIT / Apache-2.0"), package("tool#1", "MIT"),
                package("agent-ebpf#1", "GPL-2.0-only"), package("in-ebpf#1", "MIT"), package("test#1", "MIT"),
            ],
            "resolve": {"nodes": [
                {"id": "agent#1", "deps": [
                    on("used#1", Value::Null), on("tool#1", json!("build")), on("agent-ebpf#1", json!("build")),
                    on("test#1", json!("dev")),
                ]},
                {"id": "agent-ebpf#1", "deps": [on("in-ebpf#1", Value::Null)]},
                {"id": "used#1", "deps": []}, {"id": "in-ebpf#1", "deps": []},
            ]},
        })
    }

    #[test]
    fn it_lists_what_is_in_the_binary_and_nothing_else() {
        let lock = "[[package]]\nname = \"used\"\nversion = \"1.0.0\"\nsource = \"r\"\nchecksum = \"abc\"\n\n[[package]]\n\
                    name = \"agent\"\nversion = \"1.0.0\"\n";
        let bill = bill(&metadata(), &checksums(lock), "1.95.0", "T").unwrap();
        let names: Vec<_> =
            bill["components"].as_array().unwrap().iter().map(|c| c["name"].clone()).collect();
        assert_eq!(names, ["agent-ebpf", "in-ebpf", "used", "rust"]);
        let used = &bill["components"][2];
        assert_eq!(used["hashes"], json!([{"alg": "SHA-256", "content": "abc"}]));
        assert_eq!(used["licenses"], json!([{"expression": "MIT OR Apache-2.0"}]));
        assert_eq!(bill["metadata"]["component"]["name"], "remora");
        assert_eq!(
            bill["dependencies"][0],
            json!({"ref": "pkg:cargo/agent-ebpf@1.0.0", "dependsOn": ["pkg:cargo/in-ebpf@1.0.0"]})
        );
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        for (epoch, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_269_600, "2026-11-21T14:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(time(epoch), text);
        }
    }
}
