//! The processes at the ends of a connection, as items name them. Whoever captures knows them; workers ask, and remember.

mod container;
mod pod;
pub mod proc;
mod remembered;

use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::Arc;

use agent_core::time::Timestamp;

pub use self::container::{container_id, container_of_process};
pub use self::pod::{PodUid, in_folder as pod_in_folder, pod_of_process, pod_uid};
pub use self::remembered::Remembered;

/// A process that holds a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProcessInfo {
    /// Its id in the machine's own pid namespace.
    pub pid: u32,
    /// Its name, as `/proc/PID/comm` has it, where it is known.
    pub name: Option<String>,
    /// Id of the container that it runs in.
    pub container_id: Option<Arc<str>>,
    /// cgroup v2 id; 0: not known.
    pub cgroup_id: u64,
    /// cgroup v2 path below the mount, where it is known: `/system.slice/nginx.service`.
    pub cgroup_path: Option<Arc<str>>,
    /// The pod that it runs in.
    pub pod: Option<PodUid>,
}

impl ProcessInfo {
    /// Memory held, in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        let shared = [&self.container_id, &self.cgroup_path];
        size_of::<Self>()
            + self.name.as_ref().map_or(0, String::len)
            + shared.map(|s| s.as_ref().map_or(0, |s| s.len())).iter().sum::<usize>()
    }
}

/// A stream whose ends' processes are wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Question {
    /// Who opened the connection.
    pub client: SocketAddr,
    /// cgroup v2 id of the client's socket, as packets told it; 0: not known.
    pub client_cgroup: u64,
    /// The other end, as the client sees it.
    pub server: SocketAddr,
    /// cgroup v2 id of the server's socket, as packets told it; 0: not known.
    pub server_cgroup: u64,
    /// When something was said on it.
    pub at: Timestamp,
}

/// The processes at a stream's ends, where known.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Ends {
    /// The client's.
    pub client: Option<Arc<ProcessInfo>>,
    /// The server's.
    pub server: Option<Arc<ProcessInfo>>,
}

/// What a cgroup belongs to.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Workload {
    /// The innermost container.
    pub container_id: Option<Arc<str>>,
    /// The pod.
    pub pod: Option<PodUid>,
}

/// Who knows processes. Asked by workers, once for each stream: answers from memory, or with a few short system calls.
pub trait Processes: Send + Sync + Debug {
    /// Who is at both ends. Never a process that is not: what is not known for sure is left out.
    fn ends(&self, question: &Question) -> Ends;

    /// What the cgroup of this v2 id belongs to, if that is known.
    fn workload(&self, _cgroup: u64) -> Option<Workload> {
        None
    }
}
