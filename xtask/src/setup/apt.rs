//! Debian packages, by apt: only what is missing, without starting the services that come along.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{Missing, State, policy, sources};
use crate::sys::{interrupt, is_root, project, run, term};

/// A package, and how one sees that it is not needed because what it brings is there already.
struct Need {
    package: &'static str,
    /// A program that comes with it; "": only the package itself will do.
    program: &'static str,
}

/// Packages with one purpose.
struct Group {
    what: &'static str,
    without: &'static str,
    optional: bool,
    needs: &'static [Need],
}

const fn need(package: &'static str, program: &'static str) -> Need {
    Need { package, program }
}

/// For building, testing and the demo.
const USUAL: &[Group] = &[
    Group {
        what: "C compiler, for the scripting engine and TLS",
        without: "nothing builds",
        optional: false,
        needs: &[need("gcc", "cc"), need("libc6-dev", ""), need("make", "make")],
    },
    Group {
        what: "LLVM 22, which bpf-linker is built against",
        without: "no eBPF programs; `cargo build -p agent --no-default-features` captures by AF_PACKET and reads capture files",
        optional: false,
        needs: &[
            need("g++", "c++"),
            need("llvm-22-dev", ""),
            need("libpolly-22-dev", ""),
            need("zlib1g-dev", ""),
            need("libzstd-dev", ""),
            need("libxml2-dev", ""),
        ],
    },
    Group {
        what: "network namespaces and process tools, for live tests and the demo",
        without: "no live tests; the demo reads a capture file",
        optional: false,
        needs: &[
            need("iproute2", "ip"),
            need("util-linux", "nsenter"),
            need("mount", "mount"),
            need("procps", "ps"),
            need("nftables", "nft"),
        ],
    },
    Group {
        what: "servers, load and judges for the tests",
        without: "the tests that need them fail, saying so; the demo prints packets less prettily",
        optional: false,
        needs: &[
            need("nginx-light", "nginx"),
            need("wrk", "wrk"),
            need("curl", "curl"),
            need("tcpdump", "tcpdump"),
            need("tshark", "tshark"),
            need("python3", "python3"),
        ],
    },
    Group {
        what: "Apache, to record its fixture anew",
        without: "`cargo xtask record apache` fails, saying so",
        optional: true,
        // The server without the package that makes a service of it.
        needs: &[need("apache2-bin", "apache2")],
    },
    Group {
        what: "containers, for `cargo xtask e2e`",
        without: "the chart's agents are not tried on a cluster",
        optional: true,
        // The latter for its seccomp profile.
        needs: &[need("crun", "crun"), need("golang-github-containers-common", "")],
    },
    Group {
        what: "valgrind, which counts instructions",
        without: "no instruction counts are held against those written down",
        optional: true,
        needs: &[need("valgrind", "valgrind")],
    },
    Group {
        what: "npm, by which Helm comes",
        without: "the chart is not tested",
        optional: true,
        needs: &[need("npm", "npm")],
    },
    Group {
        what: "Python environments, for the official Slack client",
        without: "the Slack fake is not judged by it",
        optional: true,
        needs: &[need("python3-venv", "")],
    },
];

/// For `cargo xtask image`, where that is asked for.
const IMAGE: &[Group] = &[Group {
    what: "a C compiler for musl, and what makes images",
    without: "`cargo xtask image` makes none",
    optional: true,
    needs: &[need("musl-tools", "musl-gcc"), need("buildah", "buildah"), need("ca-certificates", "")],
}];

/// How often a lock that another apt holds is tried again, ten seconds apart.
const LOCK_TRIES: u32 = 30;

/// Looks and, unless `check`, installs.
pub(super) fn packages(check: bool) -> Result<Vec<State>> {
    of(USUAL, check)
}

/// The same for images.
pub(super) fn image(check: bool) -> Result<Vec<State>> {
    of(IMAGE, check)
}

fn of(groups: &'static [Group], check: bool) -> Result<Vec<State>> {
    let mut missing = absent(groups)?;
    if missing.iter().all(Vec::is_empty) {
        return Ok(vec![State::Present("all packages".to_owned())]);
    }
    let all: Vec<&str> = missing.iter().flatten().copied().collect();
    let may = is_root() && project::program("apt-get").is_some() && Path::new("/etc/debian_version").exists();
    let mut hint = None;
    if may && !check {
        hint = install(&all)?;
        missing = absent(groups)?;
    }
    let mut states = Vec::new();
    let now_missing: Vec<&str> = missing.iter().flatten().copied().collect();
    let installed: Vec<&str> = all.iter().copied().filter(|p| !now_missing.contains(p)).collect();
    if !installed.is_empty() {
        states.push(State::Installed(installed.join(" ")));
    }
    for (group, packages) in groups.iter().zip(missing).filter(|(_, packages)| !packages.is_empty()) {
        states.push(State::Missing(Missing {
            what: format!("{} ({})", packages.join(" "), group.what),
            commands: commands(&packages, hint.as_deref()),
            without: group.without.to_owned(),
            optional: group.optional,
        }));
    }
    Ok(states)
}

fn commands(packages: &[&str], hint: Option<&str>) -> Vec<String> {
    let sudo = if is_root() { "" } else { "sudo " };
    if project::program("apt-get").is_none() {
        return vec![format!(
            "# no apt here; with your system's package manager, what Debian calls: {}",
            packages.join(" ")
        )];
    }
    let update = hint.map_or_else(|| format!("{sudo}apt-get update"), |h| format!("# {h}"));
    vec![update, format!("{sudo}apt-get install --no-install-recommends {}", packages.join(" "))]
}

/// For each group the packages that are not there.
fn absent(groups: &'static [Group]) -> Result<Vec<Vec<&'static str>>> {
    let names = groups.iter().flat_map(|g| g.needs).map(|n| n.package);
    let listed = if project::program("dpkg-query").is_some() {
        let mut query = Command::new("dpkg-query");
        query.args(["-W", "-f=${Package} ${db:Status-Abbrev}\n"]).args(names);
        // It fails when one of the names is unknown, and still lists the others.
        let output = query.output().context("cannot start dpkg-query")?;
        String::from_utf8_lossy(&output.stdout).into_owned()
    } else {
        String::new()
    };
    let installed = |package: &str| {
        listed.lines().any(|l| {
            l.split_once(' ').is_some_and(|(name, status)| name == package && status.starts_with("ii"))
        })
    };
    let there = |need: &Need| {
        installed(need.package) || (!need.program.is_empty() && project::program(need.program).is_some())
    };
    let venv_works =
        || run::try_output(Command::new("python3").args(["-c", "import ensurepip, venv"])).is_some();
    Ok(groups
        .iter()
        .map(|group| {
            let needs =
                group.needs.iter().filter(|n| !(there(n) || (n.package == "python3-venv" && venv_works())));
            needs.map(|n| n.package).collect()
        })
        .collect())
}

/// Installs what apt has of them. Returns what to do about those that it does not have.
fn install(packages: &[&str]) -> Result<Option<String>> {
    term::say(&format!("  apt    installing: {}", packages.join(" ")));
    // A machine whose lists are fresh enough to know every package needs no update for that.
    apt_get(&["update"])?;
    let mut hint = None;
    if !unknown(packages)?.is_empty() {
        hint = add_suite(packages)?;
    }
    let unknown = unknown(packages)?;
    let known: Vec<&str> = packages.iter().copied().filter(|p| !unknown.contains(p)).collect();
    if known.is_empty() {
        return Ok(hint);
    }
    answer_debconf()?;
    let _no_services = policy::no_service_starts()?;
    let mut arguments =
        vec!["install", "-y", "--no-install-recommends", "-o", "Dpkg::Options::=--force-confold"];
    arguments.extend(known);
    apt_get(&arguments)?;
    Ok(hint)
}

/// Packages without a candidate version.
fn unknown<'p>(packages: &[&'p str]) -> Result<Vec<&'p str>> {
    let policy = run::output(run::command("apt-cache").arg("policy").args(packages).env("LC_ALL", "C"))?;
    Ok(packages.iter().copied().filter(|p| !has_candidate(&policy, p)).collect())
}

fn has_candidate(policy: &str, package: &str) -> bool {
    let mut lines = policy.lines().skip_while(|l| l.strip_suffix(':') != Some(package)).skip(1);
    lines.find_map(|l| l.trim().strip_prefix("Candidate:")).is_some_and(|c| c.trim() != "(none)")
}

/// Derives the suite that has them from the machine's own sources and adds it; takes it away again if it does not help.
fn add_suite(packages: &[&str]) -> Result<Option<String>> {
    let missing = unknown(packages)?.join(" ");
    let machine = sources::Machine::read()?;
    let line = match machine.security_line() {
        Ok(line) => line,
        Err(why) => return Ok(Some(format!("apt knows no {missing}: {why}"))),
    };
    let file = Path::new("/etc/apt/sources.list.d/remora-security.list");
    term::say(&format!(
        "  apt    no candidate for {missing}: adding {}, derived from this machine's own sources:",
        file.display()
    ));
    term::say(&format!("         {line}"));
    std::fs::write(file, format!("# Added by `cargo xtask setup`, for {missing}.\n{line}\n"))
        .with_context(|| format!("writing {}", file.display()))?;
    let updated = apt_get(&["update"]);
    let still = unknown(packages)?.join(" ");
    if updated.is_ok() && still.len() < missing.len() {
        return Ok(None);
    }
    std::fs::remove_file(file).with_context(|| format!("removing {}", file.display()))?;
    apt_get(&["update"])?;
    Ok(Some(format!(
        "apt knows no {still}; the suite {} did not have it: add one that does",
        machine.security_suite()
    )))
}

/// tshark's package asks whether everyone may capture: no.
fn answer_debconf() -> Result<()> {
    let Some(program) = project::program("debconf-set-selections") else { return Ok(()) };
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), "wireshark-common wireshark-common/install-setuid boolean false\n")?;
    run::output(run::command(program).arg(file.path())).map(drop)
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    for attempt in 1..=LOCK_TRIES {
        let mut command = run::command("apt-get");
        command.args([
            "-q",
            "-o",
            "DPkg::Lock::Timeout=300",
            "-o",
            "Acquire::Retries=3",
            "-o",
            "Dpkg::Use-Pty=0",
        ]);
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
        let Err(error) = run::output(&mut command) else { return Ok(()) };
        let text = format!("{error:#}");
        if attempt == LOCK_TRIES || !text.contains("Could not get lock") {
            bail!(error);
        }
        term::say("  apt    another apt is at work: waiting for it");
        interrupt::wait_for(Duration::from_secs(10), || Ok(false))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "llvm-22-dev:\n  Installed: (none)\n  Candidate: (none)\n  Version table:\n\
        wrk:\n  Installed: (none)\n  Candidate: 4.1.0-3+b2\n  Version table:\n     4.1.0-3+b2 500\n";

    #[test]
    fn a_package_without_a_candidate_is_told_from_one_with() {
        assert!(has_candidate(POLICY, "wrk"));
        assert!(!has_candidate(POLICY, "llvm-22-dev"));
        assert!(!has_candidate(POLICY, "never-heard-of"));
    }

    #[test]
    fn commands_can_be_typed() {
        let lines = commands(&["wrk", "tshark"], None);
        assert!(lines.iter().all(|l| l.contains("apt-get") || l.starts_with('#')), "{lines:?}");
        assert!(lines.last().unwrap().ends_with("wrk tshark"), "{lines:?}");
    }
}
