//! The tools that are run, Remora among them: their commands, what they tell, how to install them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use super::super::web::Shape;
use crate::setup;
use crate::sys::{interrupt, project, run};

/// Another tool.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum Peer {
    /// Reads and writes packets, nothing else: as fast as it gets.
    Tcpdump,
    /// One thread, HTTP transactions as JSON.
    Suricata,
    /// Streams into files; no HTTP.
    Tcpflow,
    /// HTTP fields as text.
    Tshark,
}

/// What one run took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) wall: f64,
    pub(super) cpu: f64,
    pub(super) found: Option<u64>,
}

impl Run {
    /// Runs a command to its end, its output thrown away or put into a file.
    pub(super) fn of(mut command: Command, output: Option<fs::File>) -> Result<Self> {
        interrupt::check()?;
        let stdout = output.map_or_else(Stdio::null, Stdio::from);
        let said = tempfile::NamedTempFile::new()?;
        command.stdin(Stdio::null()).stdout(stdout).stderr(said.reopen()?);
        let (before, began) = (cpu_of_children()?, Instant::now());
        let status = command.status().with_context(|| format!("cannot start {}", run::shown(&command)))?;
        let wall = began.elapsed().as_secs_f64();
        let cpu = cpu_of_children()? - before;
        interrupt::check()?;
        let shown = || run::shown(&command);
        ensure!(status.success(), "{} ended with {status}: {}", shown(), fs::read_to_string(said.path())?);
        Ok(Self { wall, cpu, found: None })
    }
}

/// Processor time of the children that have ended, in seconds.
fn cpu_of_children() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat").context("/proc/self/stat")?;
    children_of(&stat).context("/proc/self/stat has no times of children")
}

/// proc(5): `cutime` and `cstime` are the fields 16 and 17, in hundredths of a second on every Linux. The second field, in
/// brackets, may hold anything.
fn children_of(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(13);
    let mut next = || fields.next()?.parse::<f64>().ok();
    Some((next()? + next()?) / 100.0)
}

/// Remora on a capture, with so many workers: JSON, no store.
pub(super) fn remora(pcap: &Path, workers: u16) -> Command {
    let mut command = run::command(super::remora());
    command.args(["replay", "--json", "--workers", &workers.to_string()]).arg(pcap);
    command
}

impl Peer {
    /// Its name, which is also its program's.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tcpdump => "tcpdump",
            Self::Suricata => "suricata",
            Self::Tcpflow => "tcpflow",
            Self::Tshark => "tshark",
        }
    }

    pub(super) fn is_installed(self) -> bool {
        project::program(self.name()).is_some()
    }

    /// Commands that install it.
    pub(super) fn install(self) -> Vec<String> {
        let plain = format!("apt-get install --no-install-recommends {}", self.name());
        if self != Self::Suricata {
            return vec![plain];
        }
        match setup::backports_line() {
            Ok((line, suite)) => vec![
                format!("echo '{line}' > /etc/apt/sources.list.d/backports.list && apt-get update"),
                format!("apt-get install --no-install-recommends -t {suite} suricata"),
            ],
            Err(why) => vec![format!("# version 7 is in Debian's backports; {why}"), plain],
        }
    }

    /// What its time has to be at least, as a multiple of Remora's.
    pub(super) fn bar(self, shape: Shape) -> Option<f64> {
        match (self, shape) {
            (Self::Tcpdump, _) => None,
            (Self::Suricata, Shape::Small) => Some(10.0),
            (Self::Tshark, Shape::Small) => Some(60.0),
            (Self::Tcpflow, Shape::Small) => Some(6.0),
            _ => Some(1.0),
        }
    }

    /// Runs it on a capture; what it writes goes below `scratch`.
    pub(super) fn run(self, pcap: &Path, scratch: &Path) -> Result<Run> {
        let folder = scratch.join(self.name());
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir(&folder)?;
        let mut command = run::command(project::program(self.name()).unwrap_or_else(|| self.name().into()));
        let mut output = None;
        match self {
            Self::Tcpdump => drop(command.arg("-r").arg(pcap).args(["-w", "/dev/null"])),
            Self::Tcpflow => drop(command.arg("-r").arg(pcap).arg("-o").arg(&folder)),
            Self::Suricata => {
                let config = folder.join("suricata.yaml");
                fs::write(&config, SURICATA)?;
                command.arg("-c").arg(config).arg("-r").arg(pcap).arg("-l").arg(&folder);
                command.args(["-S", "/dev/null", "--runmode", "single", "-k", "none"]);
            }
            Self::Tshark => {
                command.args(["-n", "-r"]).arg(pcap).args(["-Y", "http", "-T", "fields"]);
                for field in FIELDS {
                    command.args(["-e", field]);
                }
                output = Some(folder.join("fields.txt"));
            }
        }
        let file = output.as_ref().map(fs::File::create).transpose()?;
        let mut result = Run::of(command, file)?;
        result.found = match self {
            Self::Suricata => Some(lines(&folder.join("eve.json"), "\"event_type\":\"http\"")?),
            // Requests and responses have a line each; only responses have a status, which is the last field.
            Self::Tshark => output.map(|path| lines_with_last_field(&path)).transpose()?,
            Self::Tcpdump | Self::Tcpflow => None,
        };
        fs::remove_dir_all(&folder)?;
        Ok(result)
    }
}

const FIELDS: [&str; 7] = [
    "frame.time_epoch",
    "ip.src",
    "ip.dst",
    "tcp.stream",
    "http.request.method",
    "http.request.uri",
    "http.response.code",
];

fn lines(path: &PathBuf, with: &str) -> Result<u64> {
    count(path, |line| line.contains(with))
}

fn lines_with_last_field(path: &PathBuf) -> Result<u64> {
    count(path, |line| !line.ends_with('\t'))
}

fn count(path: &PathBuf, wanted: impl Fn(&str) -> bool) -> Result<u64> {
    use std::io::{BufRead, BufReader};
    let file = fs::File::open(path).with_context(|| path.display().to_string())?;
    let mut count = 0;
    for line in BufReader::with_capacity(1 << 20, file).lines() {
        count += u64::from(wanted(&line?));
    }
    Ok(count)
}

/// All that it needs to find HTTP and to log it, and room enough for any of the loads.
const SURICATA: &str = "%YAML 1.1
---
vars:
  address-groups: {HOME_NET: any, EXTERNAL_NET: any}
  port-groups: {HTTP_PORTS: any}
stats: {enabled: no}
outputs:
  - eve-log:
      enabled: yes
      filetype: regular
      filename: eve.json
      types: [{http: {extended: yes}}]
app-layer:
  protocols:
    http: {enabled: yes}
stream:
  memcap: 2gb
  checksum-validation: no
  reassembly: {memcap: 4gb, depth: 0}
flow: {memcap: 1gb, hash-size: 65536, prealloc: 10000}
logging:
  default-log-level: error
  outputs:
    - console: {enabled: yes}
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_children_are_found_behind_any_name() {
        let stat = "17 (a ) b) S 1 2 3 4 5 6 7 8 9 10 11 12 250 50 20 0";
        assert_eq!(children_of(stat), Some(3.0));
        assert_eq!(children_of("17 (x) S 1"), None);
        assert!(cpu_of_children().is_ok());
    }

    #[test]
    fn a_command_that_fails_is_an_error_with_its_own_words() {
        let mut command = run::command("sh");
        command.args(["-c", "echo because >&2; exit 3"]);
        let error = format!("{:#}", Run::of(command, None).unwrap_err());
        assert!(error.contains("because"), "{error}");
    }
}
