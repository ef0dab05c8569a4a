//! The runtime's default seccomp profile, for a set of capabilities.
//!
//! The rules are those of the file that Debian's containers-common brings (podman and CRI-O take it). Profiles that are older than
//! Linux 5.8's capabilities know bpf(2) for `CAP_SYS_ADMIN` only; containerd and Docker have had it for `CAP_BPF`, and
//! perf_event_open(2) for `CAP_PERFMON`, since 2020. [`Profile::Current`] is with that, [`Profile::Old`] without.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// Which default profile a runtime has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Profile {
    /// That of today's runtimes.
    Current,
    /// One that does not know `CAP_BPF`.
    Old,
}

const FILE: &str = "/usr/share/containers/seccomp.json";

/// Whether there are rules on this machine.
#[must_use]
pub fn is_there() -> bool {
    Path::new(FILE).is_file()
}

/// `linux.seccomp` of an OCI configuration.
///
/// # Errors
/// When the file is not there or not as it should be.
pub fn rules(profile: Profile, capabilities: &[String]) -> Result<Value> {
    let text = std::fs::read_to_string(FILE)
        .with_context(|| format!("{FILE} (Debian: golang-github-containers-common)"))?;
    let file: Value = serde_json::from_str(&text).context(FILE)?;
    Ok(translated(&file, profile, capabilities))
}

fn translated(file: &Value, profile: Profile, capabilities: &[String]) -> Value {
    let has = |cap: &str| capabilities.iter().any(|own| own == cap);
    let mut rules = Vec::new();
    let mut allowed = Vec::new();
    if profile == Profile::Current {
        for (cap, call) in [("CAP_BPF", "bpf"), ("CAP_PERFMON", "perf_event_open")] {
            if has(cap) {
                allowed.push(call);
            }
        }
    }
    for rule in file["syscalls"].as_array().into_iter().flatten() {
        let listed = |of: &Value, hit: &dyn Fn(&str) -> bool| {
            let list = of.as_array().filter(|list| !list.is_empty());
            list.map(|list| list.iter().filter_map(Value::as_str).any(hit))
        };
        let arch = |name: &str| name == "amd64";
        let included = listed(&rule["includes"]["caps"], &has).unwrap_or(true)
            && listed(&rule["includes"]["arches"], &arch).unwrap_or(true);
        let excluded = listed(&rule["excludes"]["caps"], &has).unwrap_or(false)
            || listed(&rule["excludes"]["arches"], &arch).unwrap_or(false);
        if !included || excluded {
            continue;
        }
        let mut names = rule["names"].as_array().cloned().unwrap_or_default();
        names.retain(|name| !allowed.iter().any(|call| name == call));
        let mut kept = json!({"names": names, "action": rule["action"]});
        for key in ["args", "errnoRet"] {
            if !rule[key].is_null() {
                kept[key] = rule[key].clone();
            }
        }
        rules.push(kept);
    }
    if !allowed.is_empty() {
        rules.push(json!({"names": allowed, "action": "SCMP_ACT_ALLOW"}));
    }
    let mut all = json!({
        "defaultAction": file["defaultAction"],
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": rules,
    });
    if !file["defaultErrnoRet"].is_null() {
        all["defaultErrnoRet"] = file["defaultErrnoRet"].clone();
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_goes_with_its_capability() {
        let file = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": []},
            {"names": ["bpf", "mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["bpf", "mount"], "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["x"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64"]}},
        ]});
        let action = |profile, caps: &[&str], call: &str| {
            let caps: Vec<_> = caps.iter().map(|&cap| cap.to_owned()).collect();
            let rules = translated(&file, profile, &caps)["syscalls"].clone();
            let mut of = rules.as_array().unwrap().iter();
            let of = of.find(|rule| rule["names"].as_array().unwrap().iter().any(|name| name == call));
            of.map(|rule| rule["action"].as_str().unwrap().to_owned())
        };
        let (allowed, refused) = (Some("SCMP_ACT_ALLOW".to_owned()), Some("SCMP_ACT_ERRNO".to_owned()));
        assert_eq!(action(Profile::Current, &[], "read"), allowed);
        assert_eq!(action(Profile::Current, &[], "bpf"), refused);
        assert_eq!(action(Profile::Current, &["CAP_BPF"], "bpf"), allowed);
        assert_eq!(action(Profile::Current, &["CAP_BPF"], "mount"), refused);
        assert_eq!(action(Profile::Old, &["CAP_BPF"], "bpf"), refused);
        assert_eq!(action(Profile::Old, &["CAP_SYS_ADMIN"], "bpf"), allowed);
        assert_eq!(action(Profile::Current, &[], "x"), None);
    }
}
