//! Processes at the ends of connections: named where they are known, and never wrongly.

mod actor;
mod cost;
mod degraded;
mod follow;
mod names;
mod wrong;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use agent::capture::ebpf::{Hook, IdentityConfig, Live, LiveConfig, RingSource};
use agent::process::{Ends, ProcessInfo, Question};
use agent_core::time::Timestamp;
use testkit::netns::{Cgroup, NetNs, VethPair};
use testkit::nginx::Nginx;

use self::actor::Actor;

/// A client's and a server's namespace, each with a cgroup of its own.
struct Stage {
    client: Cgroup,
    server: Cgroup,
    pair: VethPair,
}

impl Stage {
    fn new() -> Self {
        let pair = VethPair::new().unwrap();
        Self { client: Cgroup::new("client").unwrap(), server: Cgroup::new("server").unwrap(), pair }
    }

    fn paths(&self) -> Vec<PathBuf> {
        [&self.client, &self.server].map(|cgroup| cgroup.path().to_owned()).into()
    }

    /// Watches both cgroups.
    fn watch(&self, identity: IdentityConfig) -> Watch {
        let config = LiveConfig {
            cgroups: self.paths(),
            identity,
            ring_bytes: Some(1 << 20),
            ..LiveConfig::default()
        };
        Watch::start(&self.pair.client, &config)
    }

    fn nginx(&self, address: &str) -> Nginx {
        nginx_in(&self.pair.server, &self.server, address.parse().unwrap())
    }
}

fn nginx_in(namespace: &NetNs, cgroup: &Cgroup, address: SocketAddr) -> Nginx {
    let procs = cgroup.path().join("cgroup.procs");
    let inside = |command: std::process::Command| {
        let mut wrapped = std::process::Command::new("sh");
        wrapped.args(["-c", "echo $$ > \"$1\" && shift && exec \"$@\"", "sh"]).arg(&procs);
        wrapped.arg(command.get_program()).args(command.get_args());
        wrapped
    };
    namespace.run(|| Nginx::start(address, inside)).unwrap()
}

/// A capture whose packets nobody reads.
struct Watch {
    live: Live,
    _sources: Vec<RingSource>,
}

impl Watch {
    fn start(namespace: &NetNs, config: &LiveConfig) -> Self {
        let (live, sources) = namespace.run(|| Live::start(config)).expect("capture starts");
        Self { live, _sources: sources }
    }

    fn hooks(&self) -> Vec<Hook> {
        self.live.identity().map(|identity| identity.hooks().to_vec()).unwrap_or_default()
    }

    /// Who is at the ends of the connection, as of `at`; the sockets' cgroups are not known.
    fn ends(&self, client: SocketAddr, server: SocketAddr, at: Timestamp) -> Ends {
        self.ask(Question { client, client_cgroup: 0, server, server_cgroup: 0, at })
    }

    fn ask(&self, question: Question) -> Ends {
        self.live.identity().unwrap().processes().ends(&question)
    }
}

/// Answers every connection with what it sends, in this very process, for as long as that lasts.
fn echo(namespace: &NetNs, address: &str) -> SocketAddr {
    let listener = namespace.run(|| TcpListener::bind(address)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut reader = stream.try_clone().unwrap();
                // Until the other end resets it.
                let _ = std::io::copy(&mut reader, &mut stream);
            });
        }
    });
    address
}

fn now() -> Timestamp {
    Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64)
}

fn without(hooks: &[Hook]) -> IdentityConfig {
    IdentityConfig { without: hooks.to_vec(), ..IdentityConfig::default() }
}

fn pid(process: &Option<Arc<ProcessInfo>>) -> Option<u32> {
    process.as_ref().map(|process| process.pid)
}

/// The process that has the socket with these ends, as /proc says, of those given.
fn holder(candidates: &[u32], local: SocketAddr, remote: SocketAddr) -> Option<u32> {
    let hex = |end: SocketAddr| format!(":{:04X}", end.port());
    candidates.iter().copied().find(|pid| {
        ["tcp", "tcp6"].iter().any(|table| {
            let text = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
            let inode = text.lines().find_map(|line| {
                let fields: Vec<&str> = line.split_ascii_whitespace().collect();
                let ends = fields.get(1)?.ends_with(&hex(local)) && fields.get(2)?.ends_with(&hex(remote));
                ends.then(|| format!("socket:[{}]", fields[9]))
            });
            let links = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            let mut links = links.filter_map(|entry| std::fs::read_link(entry.path()).ok());
            inode.is_some_and(|inode| links.any(|link| link.to_str() == Some(&inode)))
        })
    })
}

/// nginx's workers.
fn workers(nginx: &Nginx) -> Vec<u32> {
    let pid = nginx.pid();
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let from_proc: Vec<u32> = text.split_ascii_whitespace().map(|child| child.parse().unwrap()).collect();
    if !from_proc.is_empty() {
        return from_proc;
    }
    // A kernel without CONFIG_PROC_CHILDREN.
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|child| agent::process::proc::stat(*child).is_some_and(|stat| stat.parent == pid)).collect()
}

fn assert_named(process: &Option<Arc<ProcessInfo>>, pid: u32, name: &str, cgroup: &Cgroup) {
    let process = process.as_ref().expect("named");
    assert_eq!((process.pid, process.name.as_deref()), (pid, Some(name)));
    assert_eq!(process.cgroup_id, cgroup.id().unwrap());
    let folder = cgroup.path().file_name().unwrap().to_str().unwrap();
    assert_eq!(process.cgroup_path.as_deref(), Some(&*format!("/{folder}")));
}

fn own_name() -> String {
    agent::process::proc::stat(std::process::id()).unwrap().name
}
