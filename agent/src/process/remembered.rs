//! A worker's memory of who is at the ends of its streams: asked once for each.

use std::net::SocketAddr;
use std::sync::Arc;

use agent_core::item::StreamId;
use agent_core::{Item, item::Endpoint};

use super::{Ends, Processes, Question, Workload};
use crate::recent::Recent;

/// Streams that a worker remembers the processes of.
const STREAMS: usize = 16_384;

/// The processes of one worker's streams.
///
/// Of bounded memory: past [`STREAMS`] streams the older half is forgotten, and asked for again.
#[derive(Debug)]
pub struct Remembered {
    known: Arc<dyn Processes>,
    streams: Recent<StreamId, Ends>,
}

impl Remembered {
    /// Remembers nothing yet.
    #[must_use]
    pub fn new(known: Arc<dyn Processes>) -> Self {
        Self { known, streams: Recent::new(STREAMS) }
    }

    /// The processes at the ends of the item's stream.
    pub fn ends(&mut self, item: &Item) -> Ends {
        self.streams.entry(item.stream, || self.known.ends(&question(item))).clone()
    }

    /// What the cgroup of this v2 id belongs to.
    #[must_use]
    pub fn workload(&self, cgroup: u64) -> Option<Workload> {
        self.known.workload(cgroup)
    }

    /// The stream is over: no item of it comes any more.
    pub fn forget(&mut self, stream: StreamId) {
        self.streams.remove(&stream);
    }
}

fn question(item: &Item) -> Question {
    let address = |end: &Endpoint| SocketAddr::new(end.addr, end.port);
    Question {
        client: address(&item.client),
        client_cgroup: item.client.cgroup,
        server: address(&item.server),
        server_cgroup: item.server.cgroup,
        at: item.started,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use agent_core::item::{HttpExchange, Record};

    use super::*;
    use crate::process::ProcessInfo;

    #[derive(Debug, Default)]
    struct Counting(AtomicU64);

    impl Processes for Counting {
        fn ends(&self, question: &Question) -> Ends {
            self.0.fetch_add(1, Ordering::Relaxed);
            let client = ProcessInfo {
                pid: u32::from(question.client.port()),
                name: None,
                container_id: None,
                cgroup_id: question.client_cgroup,
                cgroup_path: None,
                pod: None,
            };
            Ends { client: Some(Arc::new(client)), server: None }
        }
    }

    fn item(stream: u64) -> Item {
        let end = |port| Endpoint { addr: "192.0.2.1".parse().unwrap(), port, cgroup: stream };
        let exchange = HttpExchange { request: None, response: None, interim: Vec::new() };
        let record = Record::Http(Box::new(exchange));
        Item::new(StreamId(stream), 0, end(stream as u16), end(80), record)
    }

    #[test]
    fn a_stream_is_asked_for_once() {
        let known = Arc::new(Counting::default());
        let asked = || known.0.load(Ordering::Relaxed);
        let mut remembered = Remembered::new(Arc::clone(&known) as Arc<dyn Processes>);
        for _ in 0..3 {
            assert_eq!(remembered.ends(&item(7)).client.unwrap().pid, 7);
        }
        assert_eq!(asked(), 1);
        remembered.forget(StreamId(7));
        remembered.ends(&item(7));
        assert_eq!(asked(), 2, "its number may be another's some day");
    }
}
