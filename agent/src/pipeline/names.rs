//! What the ends of a worker's streams are called: looked up when a stream is new and when names have changed since.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use agent_core::item::{Endpoint, StreamId};
use agent_core::{Item, StreamSummary, Timestamp};

use crate::captured::{Known, Name};
use crate::process::Remembered;
use crate::recent::Recent;
use crate::resolve::Resolver;

/// Streams whose names a worker remembers.
const STREAMS: usize = 16_384;
/// Addresses that a worker remembers to have told of.
const TOLD: usize = 4_096;

/// Hears of names as they are used.
pub type Told = dyn Fn(IpAddr, &Arc<Known>) + Send + Sync;

/// The ends of a stream.
#[derive(Clone, Default)]
struct Ends {
    src: Name,
    dst: Name,
    /// Whether the client's address is this node's own.
    local: bool,
    /// [`crate::resolve::Names::version`] when they were looked up.
    version: u64,
}

/// One worker's names.
pub(super) struct StreamNames {
    resolver: Resolver,
    processes: Option<Remembered>,
    told: Option<Arc<Told>>,
    streams: Recent<StreamId, Ends>,
    /// What was last told of an address. Held, so that no other name can come to lie where it lay.
    last: Recent<IpAddr, Option<Arc<Known>>>,
}

impl StreamNames {
    pub(super) fn new(resolver: Resolver, processes: Option<Remembered>, told: Option<Arc<Told>>) -> Self {
        let (streams, last) = (Recent::new(STREAMS), Recent::new(TOLD));
        Self { resolver, processes, told, streams, last }
    }

    /// What the ends of an item's stream are called, and whether the client's address is this node's own.
    pub(super) fn of_item(&mut self, item: &Item) -> (Name, Name, bool) {
        let version = self.resolver.names().version();
        let mut is_new = false;
        let ends = self.streams.entry(item.stream, || {
            is_new = true;
            Ends::default()
        });
        if !is_new && ends.version == version {
            return (ends.src.clone(), ends.dst.clone(), ends.local);
        }
        let mut ends = std::mem::take(ends);
        if is_new {
            self.look_at_cgroups(item, &mut ends);
            ends.local = self.resolver.is_local(item.client.addr);
        }
        ends.version = version;
        self.look_up(&mut ends.src, &item.client, item.started);
        self.look_up(&mut ends.dst, &item.server, item.started);
        let names = (ends.src.clone(), ends.dst.clone(), ends.local);
        *self.streams.entry(item.stream, Ends::default) = ends;
        names
    }

    /// Who is at the ends does not change while the stream lasts.
    fn look_at_cgroups(&mut self, item: &Item, ends: &mut Ends) {
        let Some(processes) = &mut self.processes else { return };
        let of = processes.ends(item);
        (ends.src.process, ends.dst.process) = (of.client, of.server);
        for (name, end) in [(&mut ends.src, &item.client), (&mut ends.dst, &item.server)] {
            if end.cgroup != 0 {
                name.workload = processes.workload(end.cgroup);
            }
        }
    }

    fn look_up(&mut self, name: &mut Name, end: &Endpoint, at: Timestamp) {
        let (known, by_address) = self.resolver.known(name, end, at);
        if let Some(known) = by_address {
            self.tell(end.addr, &known);
        }
        // A name that has been forgotten meanwhile is this stream's all the same.
        if known.is_some() {
            name.known = known;
        }
    }

    /// Of each address and name once.
    fn tell(&mut self, ip: IpAddr, known: &Arc<Known>) {
        let last = self.last.entry(ip, || None);
        if last.as_ref().is_some_and(|last| Arc::ptr_eq(last, known)) {
            return;
        }
        *last = Some(Arc::clone(known));
        if let Some(name) = known.name() {
            self.resolver.history().record(SystemTime::now(), ip, name);
        }
        if let Some(told) = &self.told {
            told(ip, known);
        }
    }

    /// What the ends of a stream were called that is over, and is forgotten with this.
    pub(super) fn closed(&mut self, summary: &StreamSummary) -> (Name, Name) {
        if let Some(processes) = &mut self.processes {
            processes.forget(summary.stream);
        }
        if let Some(ends) = self.streams.remove(&summary.stream) {
            return (ends.src, ends.dst);
        }
        let (mut src, mut dst) = (Name::default(), Name::default());
        self.look_up(&mut src, &summary.client, summary.first);
        self.look_up(&mut dst, &summary.server, summary.first);
        (src, dst)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::resolve::Called;

    #[test]
    fn each_name_is_told_however_often_it_changes() {
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let told = Arc::clone(&heard);
        let told: Arc<Told> =
            Arc::new(move |_, known| told.lock().unwrap().extend(known.name().map(str::to_owned)));
        let mut names = StreamNames::new(Resolver::of_this_node(), None, Some(told));
        let end = Endpoint { addr: "10.1.2.3".parse().unwrap(), port: 80, cgroup: 0 };
        let mut wanted = Vec::new();
        // What nobody looked at comes and goes between, and its memory is used again.
        for n in 0..2_000_u64 {
            let name = format!("pod-{n:05}");
            let known = Some(Arc::new(Known::pod(&name, "prod")));
            let called = Called { known, ports: Vec::new() };
            names.resolver.names().change(Timestamp(n), [(end.addr, called)]);
            if n % (1 + n / 250) == 0 {
                names.look_up(&mut Name::default(), &end, Timestamp(n));
                names.look_up(&mut Name::default(), &end, Timestamp(n));
                wanted.push(name);
            }
        }
        let heard = heard.lock().unwrap();
        assert_eq!(wanted.iter().find(|name| !heard.contains(name)), None, "never told");
        assert_eq!(heard.len(), wanted.len(), "told twice");
    }
}
