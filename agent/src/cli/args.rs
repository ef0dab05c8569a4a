//! The command line as typed: raw flags, checked only one by one. [`super::settings`] makes one validated whole of them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agent_core::Timestamp;
use agent_core::packet::Direction;
use clap::{Args, FromArgMatches as _, Parser, Subcommand};

use super::outbox::{self, DeliveryArgs, OutboxCommand};
use super::scripts::ScriptsCommand;
use super::units;
use crate::kfl::Filter;

/// Traffic capture that you script.
#[derive(Debug, Parser)]
#[command(
    name = "remora",
    version,
    about = "Captures TCP streams, reads the HTTP in them, and runs your JavaScript on every request.",
    after_help = EXAMPLES,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(super) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(super) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  remora replay capture.pcap                       what was asked and answered in a capture file
  remora replay capture.pcap --json | jq .response.status
  sudo remora tap --interface eth0 --port 8080     the same, live
  sudo remora tap --cgroup /sys/fs/cgroup/system.slice/shop.service --script alert.js --env-file slack.env
  remora streams list --pcap-dir pcaps             what a PCAP store holds
  remora scripts check alert.js                    does the script compile, and is anything in it wrong
  remora scripts test alert.js --pcap shop.pcap    what it would do on a capture; nothing is sent
  remora doctor                                    what this kernel and these permissions allow

Exit codes: 0 done, 1 failed, 2 bad usage, 3 not permitted.
Logs go to standard error; REMORA_LOG=debug shows more. REMORA_TRACE_DIR=DIR writes a second log to DIR that has everything.";

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Read capture files (pcap, pcapng) through the same engine, scripts and outbox as live traffic.
    #[command(after_help = REPLAY_EXAMPLES)]
    Replay(Replay),
    /// Capture live, on interfaces or on cgroups: by eBPF, or by AF_PACKET where that is not permitted.
    #[command(after_help = TAP_EXAMPLES)]
    Tap(Tap),
    /// Capture as a daemon, as a configuration file says: what the Helm chart runs.
    #[command(after_help = AGENT_EXAMPLES)]
    Agent(Agent),
    /// The streams of a PCAP store, also of one that a running remora is writing.
    Streams {
        /// What to do.
        #[command(subcommand)]
        command: StreamsCommand,
    },
    /// Write what a PCAP store holds of a span of time to one capture file, with names, comments and interfaces.
    #[command(after_help = EXPORT_EXAMPLES)]
    Export(Export),
    /// Check scripts, and try them out on a capture without sending anything.
    Scripts {
        /// What to do with them.
        #[command(subcommand)]
        command: ScriptsCommand,
    },
    /// What waits to be sent and what was given up, also while an agent runs.
    #[command(after_help = outbox::EXAMPLES)]
    Outbox {
        /// What to do.
        #[command(subcommand)]
        command: OutboxCommand,
    },
    /// Say what this kernel, these permissions and this machine allow, a line each, with the mend.
    Doctor(Doctor),
}

const EXPORT_EXAMPLES: &str = "\
Examples:
  remora export --pcap-dir /var/lib/remora/pcap --from -10m -o last-ten-minutes.pcapng
  remora export --pcap-dir pcaps --from -1h --filter 'response.status >= 500' -o errors.pcapng
  remora export --pcap-dir pcaps --from 2026-11-21T14:00:00Z --to 2026-11-21T14:05:00Z -o incident.pcapng";

const REPLAY_EXAMPLES: &str = "\
Examples:
  remora replay shop.pcap
  remora replay shop.pcap --json > items.jsonl
  remora replay day.pcap.gz --json --workers 4 > items.jsonl
  remora replay shop.pcap --filter 'http && (status_code >= 500 || elapsed_time > 2000000)'
  remora replay shop.pcap --script alert.js --env SLACK_AUTH_TOKEN=xoxb-… --env SLACK_CHANNEL_ID=C0123456789
  tcpdump -w - -i lo port 8080 | remora replay -";

const TAP_EXAMPLES: &str = "\
Examples:
  sudo remora tap --interface eth0
  sudo remora tap --interface lo --port 8080 --port 9090
  sudo remora tap --interface eth0 --filter 'http && path.contains(\"/api/\")'
  sudo remora tap --interface 'veth*' --interface eth0      each packet counts once, whatever it passes
  sudo remora tap --cgroup /sys/fs/cgroup/kubepods.slice --net 10.0.0.0/8 --script alert.js --env-file slack.env
  sudo remora tap --interface eth0 --mode af-packet
Needs CAP_BPF and CAP_NET_ADMIN (or root); with CAP_NET_RAW alone, interfaces are captured by AF_PACKET.
`remora doctor` tells what is missing. Ctrl-C ends it.";

const AGENT_EXAMPLES: &str = "\
Examples:
  remora agent --config agent.yaml --check        is the configuration right, and do its scripts compile
  sudo remora agent --config agent.yaml

The file is YAML. Its keys, all of which may be left out but for one of capture.interfaces and capture.cgroups:
  capture       mode auto|ebpf|af-packet, interfaces, cgroups, identityCgroups, tcHook, ports, nets, exclude,
                direction both|in|out, workers, ringMib, pinWorkers, trim, promiscuous
  store         mode all|matched|off, maxBytes, maxAge, reserve
  scripts       paths, env {NAME: \"value\"}, envFiles (files of K=V lines, or folders with a file for each variable),
                limits {memory, stack, callTime, queue, queueBytes, fileQuota, webhookTimeout, waitTotal}
  outbox        maxWaiting, maxBytes, maxDeliveryBytes, maxAge, giveUpAfter, slackRate, slackBurst, floodLimit,
                scriptAlerts, totalAlerts, drainTimeout
  redaction     enabled, headers
  api           listen (default 127.0.0.1:8899, or \"off\"), token (or ${NAME}), tokenFile, recentItems, recentBytes, maxClients:
                items, streams, scripts and the outbox by HTTP; elsewhere than on the loopback it needs a token
  metrics       listen (default 127.0.0.1:9899, or \"off\"): /healthz, /readyz and /metrics, without a token
  targets       which pods are captured: namespaces, excludedNamespaces (names), podRegex (found in the pod's name), labels
                {name: value}; all of it must hold. Needs the Kubernetes API
  kubernetes    enabled auto|true|false (auto: where there is a service account), kubeconfig (a file instead of it),
                lookupsPerMinute (pods behind no service that are asked for by address; 0: none)
  filter (a KFL filter: only items that match are given to scripts), slackApiUrl, s3Endpoint, caFile, dataDir,
  drainTimeout (the end takes no longer)
They mean what the options of `remora tap` mean. Sizes are as 512M or 4G, times as 90s, 30m, 6h or 7d. Without ringMib, rings
take a sixteenth of the machine's memory, or of REMORA_MEMORY_LIMIT (bytes), and 32 MiB each at most.

SIGTERM ends it: what was captured is read to the end, scripts and deliveries finish. SIGHUP, or an edit of the file, has it
read again: capture.ports, nets, exclude, direction, redaction and targets change at once, the log says what needs a restart, and a
file with an error changes nothing.";

/// `remora agent`.
#[derive(Debug, Args)]
pub(super) struct Agent {
    /// The configuration file.
    #[arg(long, value_name = "FILE", env = "REMORA_CONFIG", default_value = "/etc/remora/agent.yaml")]
    pub(super) config: PathBuf,
    /// Only check the configuration, and compile its scripts.
    #[arg(long)]
    pub(super) check: bool,
}

/// `remora replay`.
#[derive(Debug, Args)]
pub(super) struct Replay {
    /// Capture files, read one after the other as one capture; `-` is standard input.
    #[arg(required = true, value_name = "FILE.pcap")]
    pub(super) files: Vec<PathBuf>,
    /// Workers, each with an engine for a part of the flows. More are faster where there are cores and many connections; what comes
    /// out, and its order, is the same. Limits on memory are shared out among them, and with a PCAP store (--pcap-dir, --script)
    /// streams bear other numbers.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(super) workers: u16,
    /// Shared options.
    #[command(flatten)]
    pub(super) common: Common,
}

/// `remora doctor`.
#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Print one JSON object on standard output.
    #[arg(long)]
    pub(super) json: bool,
    /// Remove what killed runs left on the interfaces of this network namespace: filters on clsact with remora's tag.
    #[arg(long)]
    pub(super) clean: bool,
}

/// How `remora tap` attaches to interfaces.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TcHookArg {
    /// tcx where the kernel has it (Linux 6.6), else clsact.
    Auto,
    /// tcx.
    Tcx,
    /// Filters on a clsact qdisc.
    Clsact,
}

/// Which way `remora tap` captures.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DirectionArg {
    /// Both ways.
    Both,
    /// What comes in.
    In,
    /// What goes out.
    Out,
}

impl From<DirectionArg> for Option<Direction> {
    fn from(direction: DirectionArg) -> Self {
        match direction {
            DirectionArg::Both => None,
            DirectionArg::In => Some(Direction::Ingress),
            DirectionArg::Out => Some(Direction::Egress),
        }
    }
}

/// How `remora tap` takes packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    /// eBPF where it is permitted, else AF_PACKET for interfaces.
    Auto,
    /// eBPF: Linux 5.8, CAP_BPF and CAP_NET_ADMIN; interfaces and cgroups.
    Ebpf,
    /// AF_PACKET: CAP_NET_RAW; interfaces.
    AfPacket,
}

/// `remora tap`.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("where").required(true).multiple(true).args(["interface", "cgroup"])))]
pub(super) struct Tap {
    /// Interface to capture on, or a pattern such as 'veth*' (repeatable); those that come later are taken in.
    #[arg(long, short, value_name = "IF")]
    pub(super) interface: Vec<String>,
    /// cgroup v2 directory whose sockets to capture, children included, or a pattern (repeatable).
    #[arg(long, value_name = "PATH")]
    pub(super) cgroup: Vec<PathBuf>,
    /// How to attach to interfaces.
    #[arg(long, value_name = "HOOK", value_enum, default_value_t = TcHookArg::Auto)]
    pub(super) tc_hook: TcHookArg,
    /// Name the processes of this cgroup v2 directory too, children included, or of a pattern's (repeatable); those of
    /// --cgroup always are.
    #[arg(long, value_name = "PATH")]
    pub(super) identity_cgroup: Vec<PathBuf>,
    /// Capture only streams with this TCP port at either end (repeatable); filtered in the kernel.
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) port: Vec<u16>,
    /// Capture only streams with an end in this network (repeatable); filtered in the kernel.
    #[arg(long, value_name = "CIDR")]
    pub(super) net: Vec<String>,
    /// Leave out what this endpoint sends and gets, such as 10.0.0.7:9200 or [fd00::7]:443 (repeatable); filtered in the
    /// kernel.
    #[arg(long, value_name = "ADDR:PORT")]
    pub(super) exclude: Vec<SocketAddr>,
    /// Capture one way only, as the interface or the cgroup sees it: streams then have one side.
    #[arg(long, value_enum, default_value_t = DirectionArg::Both)]
    pub(super) direction: DirectionArg,
    /// How packets are taken: `auto` is eBPF where it is permitted, else AF_PACKET for `--interface`.
    #[arg(long, value_enum, default_value_t = Mode::Auto)]
    pub(super) mode: Mode,
    /// By AF_PACKET: have the interfaces give packets for other machines, too.
    #[arg(long)]
    pub(super) promiscuous: bool,
    /// Workers, each with a ring and an engine of its own [default: one a core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(super) workers: Option<u16>,
    /// Size of each worker's ring buffer in MiB, a power of two [default: by memory and workers].
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(super) ring_mib: Option<u32>,
    /// Keep each worker on a core of its own, as far as there are any.
    #[arg(long)]
    pub(super) pin_workers: bool,
    /// Copy only the headers of packets whose payload no item shows: bodies beyond their cap, TLS, tunnels. Cheaper; their
    /// PCAPs then have headers with the true length.
    #[arg(long, conflicts_with = "hash")]
    pub(super) trim: bool,
    /// Shared options.
    #[command(flatten)]
    pub(super) common: Common,
}

impl Tap {
    /// What the command line says where it says nothing; without interface and cgroup, of which it always says one.
    ///
    /// # Errors
    /// When a variable of the environment that stands for an option is wrong.
    pub(super) fn usual() -> Result<Self, clap::Error> {
        let command = Self::augment_args(clap::Command::new("tap"));
        let matches = command.try_get_matches_from(["tap", "--interface", "-"])?;
        Ok(Self { interface: Vec::new(), ..Self::from_arg_matches(&matches)? })
    }
}

/// `K=V`. V may be a token: `Debug` shows K.
#[derive(Clone)]
pub(super) struct Assignment(pub(super) String);

impl From<String> for Assignment {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl std::fmt::Debug for Assignment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.split_once('=').map_or("[REDACTED]", |(name, _)| name))
    }
}

/// What scripts are given.
#[derive(Debug, Args)]
pub(super) struct Given {
    /// Variable for the scripts: a bare global and a member of `env` (repeatable).
    #[arg(long, value_name = "K=V")]
    pub(super) env: Vec<Assignment>,
    /// File of K=V lines for the scripts, or folder with a file for each variable, as Kubernetes mounts a Secret (repeatable);
    /// `--env` wins. Keep tokens here rather than in `--env`.
    #[arg(long, value_name = "F")]
    pub(super) env_file: Vec<PathBuf>,
    /// Only items that match this KFL filter are printed and given to scripts: CEL, with the names of docs/kfl.md.
    #[arg(long, value_name = "KFL", value_parser = units::filter)]
    pub(super) filter: Option<Arc<Filter>>,
}

/// What replay and tap share.
#[derive(Debug, Args)]
pub(super) struct Common {
    /// Script to run on every item, or folder whose *.js are (repeatable); each has a thread and a runtime of its own. Live,
    /// edits take effect within 2 s.
    #[arg(long, short, value_name = "F.js|DIR")]
    pub(super) script: Vec<PathBuf>,
    /// What they are given.
    #[command(flatten)]
    pub(super) given: Given,
    /// Print one JSON item a line on standard output, nothing else there.
    #[arg(long)]
    pub(super) json: bool,
    /// Print no items.
    #[arg(long, short, conflicts_with = "json")]
    pub(super) quiet: bool,
    /// Write one JSON line for each TCP stream at its end.
    #[arg(long, value_name = "FILE")]
    pub(super) streams: Option<PathBuf>,
    /// Compute SHA-256 of bodies (items) and of each direction (--streams).
    #[arg(long)]
    pub(super) hash: bool,
    /// Keep the PCAP store in this folder [default: a temporary one; in replay only with --script].
    #[arg(long, value_name = "DIR")]
    pub(super) pcap_dir: Option<PathBuf>,
    /// Which packets the PCAP store keeps: all, or only those of streams that a script asks for (with what of them came
    /// in the last 30 s), or none.
    #[arg(long, value_name = "MODE", default_value = "all")]
    pub(super) pcap_store: PcapMode,
    /// Bytes of packets that the PCAP store keeps; past it the oldest go. K, M, G and T are powers of 1024. The files that
    /// scripts ask for take a quarter of that in addition, 16M at least and 1G at most.
    #[arg(long, value_name = "SIZE", default_value = "4G", value_parser = units::size)]
    pub(super) pcap_max_bytes: u64,
    /// How long it keeps them, such as 90s, 30m, 6h or 7d [default: as long as there is room].
    #[arg(long, value_name = "TIME", value_parser = units::time)]
    pub(super) pcap_max_age: Option<Duration>,
    /// So much of its disk stays free [default: 5 % of the file system, 1G at most].
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    pub(super) pcap_reserve: Option<u64>,
    /// Folder for the scripts' own files and the outbox: what waits there is sent by the next run [default: a temporary one].
    #[arg(long, value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,
    /// File that says where items go without a script: a list of sinks (elasticsearch, splunk, webhook, jsonFile) in YAML or
    /// JSON, see docs/sinks.md. Secrets are named there by variable or file.
    #[arg(long, value_name = "FILE.yaml")]
    pub(super) sinks: Option<PathBuf>,
    /// Print one JSON object with all counters on standard error at the end.
    #[arg(long)]
    pub(super) stats: bool,
    /// Show values of sensitive headers and cookies in items instead of `[REDACTED]`.
    #[arg(long)]
    pub(super) no_redact: bool,
    /// Redact this header as well (repeatable).
    #[arg(long, value_name = "HEADER")]
    pub(super) redact: Vec<String>,
    /// Base of Slack's API.
    #[arg(long, value_name = "URL", env = "REMORA_SLACK_API_URL", default_value = "https://slack.com/api/")]
    pub(super) slack_api_url: String,
    /// Where `vendor.s3.put` puts objects, such as http://minio:9000; buckets are then a part of the path [default: Amazon's S3].
    #[arg(long, value_name = "URL", env = "REMORA_S3_ENDPOINT")]
    pub(super) s3_endpoint: Option<String>,
    /// Trust the certificates in this PEM file, too, besides the system's, wherever scripts and the outbox send to by TLS.
    #[arg(long, value_name = "FILE.pem", env = "REMORA_CA_FILE")]
    pub(super) ca_file: Option<PathBuf>,
    /// At the end, give up waiting for deliveries this many seconds after the last one that succeeded.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(super) drain_timeout: u64,
    /// How alerts are sent.
    #[command(flatten)]
    pub(super) delivery: DeliveryArgs,
}

/// `remora streams …`.
#[derive(Debug, Subcommand)]
pub(super) enum StreamsCommand {
    /// Say which streams are stored.
    List {
        /// Folder of the PCAP store.
        #[arg(long = "pcap-dir", value_name = "DIR", env = "REMORA_PCAP_DIR")]
        dir: PathBuf,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Write one stream's packets to a capture file.
    Pcap {
        /// Its number, as items and `remora streams list` show it.
        #[arg(value_name = "ID")]
        stream: String,
        /// The file: pcap if its name ends in .pcap, else pcapng; `-` is standard output.
        #[arg(long, short, value_name = "F")]
        output: PathBuf,
        /// Folder of the PCAP store.
        #[arg(long = "pcap-dir", value_name = "DIR", env = "REMORA_PCAP_DIR")]
        dir: PathBuf,
    },
}

/// `remora export`.
#[derive(Debug, Args)]
pub(super) struct Export {
    /// Packets captured from then on: 2026-11-21T14:00:00Z, seconds since 1970, or -10m for ten minutes ago.
    #[arg(long, value_name = "T", value_parser = units::moment, allow_hyphen_values = true)]
    pub(super) from: Option<Timestamp>,
    /// Packets captured before then.
    #[arg(long, value_name = "T", value_parser = units::moment, allow_hyphen_values = true)]
    pub(super) to: Option<Timestamp>,
    /// Only streams with an item in that time that matches this KFL filter; what is stored is read twice.
    #[arg(long, value_name = "KFL", value_parser = units::filter)]
    pub(super) filter: Option<Arc<Filter>>,
    /// The file: pcap if its name ends in .pcap, else pcapng; `-` is standard output.
    #[arg(long, short, value_name = "F.pcapng")]
    pub(super) output: PathBuf,
    /// Folder of the PCAP store.
    #[arg(long = "pcap-dir", value_name = "DIR", env = "REMORA_PCAP_DIR")]
    pub(super) dir: PathBuf,
}

/// `--pcap-store`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PcapMode {
    /// Every packet.
    All,
    /// Streams that a script asks for.
    Matched,
    /// Nothing.
    Off,
}
