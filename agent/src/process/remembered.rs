//! A worker's memory of who is at the ends of its streams: asked once for each.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use agent_core::item::StreamId;
use agent_core::{Item, item::Endpoint};

use super::{Ends, Processes, Question};

/// Streams that a worker remembers the processes of.
const STREAMS: usize = 16_384;

/// The processes of one worker's streams.
///
/// Of bounded memory: past [`STREAMS`] streams the older half is forgotten, and asked for again.
#[derive(Debug)]
pub struct Remembered {
    known: Arc<dyn Processes>,
    recent: HashMap<StreamId, Ends>,
    older: HashMap<StreamId, Ends>,
    most: usize,
}

impl Remembered {
    /// Remembers nothing yet.
    #[must_use]
    pub fn new(known: Arc<dyn Processes>) -> Self {
        Self::with_room(known, STREAMS)
    }

    fn with_room(known: Arc<dyn Processes>, most: usize) -> Self {
        Self { known, recent: HashMap::new(), older: HashMap::new(), most }
    }

    /// The processes at the ends of the item's stream.
    pub fn ends(&mut self, item: &Item) -> Ends {
        if let Some(ends) = self.recent.get(&item.stream) {
            return ends.clone();
        }
        let ends = self.older.remove(&item.stream).unwrap_or_else(|| self.known.ends(&question(item)));
        if self.recent.len() >= self.most / 2 {
            self.older = std::mem::take(&mut self.recent);
        }
        self.recent.insert(item.stream, ends.clone());
        ends
    }

    /// The stream is over: no item of it comes any more.
    pub fn forget(&mut self, stream: StreamId) {
        self.recent.remove(&stream);
        self.older.remove(&stream);
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
    use agent_core::time::Timestamp;

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
            };
            Ends { client: Some(Arc::new(client)), server: None }
        }
    }

    fn item(stream: u64) -> Item {
        let end = |port| Endpoint { addr: "192.0.2.1".parse().unwrap(), port, cgroup: stream };
        Item {
            stream: StreamId(stream),
            index: 0,
            client: end(stream as u16),
            server: end(80),
            tls: false,
            record: Record::Http(Box::new(HttpExchange {
                request: None,
                response: None,
                interim: Vec::new(),
            })),
            started: Timestamp(0),
            finished: Timestamp(0),
            anomalies: Vec::new(),
            error: None,
            gaps: 0,
            truncated: false,
        }
    }

    #[test]
    fn a_stream_is_asked_for_once_and_memory_is_bounded() {
        let known = Arc::new(Counting::default());
        let asked = || known.0.load(Ordering::Relaxed);
        let mut remembered = Remembered::with_room(Arc::clone(&known) as Arc<dyn Processes>, 8);
        for _ in 0..3 {
            assert_eq!(remembered.ends(&item(7)).client.unwrap().pid, 7);
        }
        assert_eq!(asked(), 1);
        remembered.forget(StreamId(7));
        remembered.ends(&item(7));
        assert_eq!(asked(), 2, "its number may be another's some day");
        // One that is used stays; the others come and go.
        for stream in 100..1000 {
            remembered.ends(&item(stream));
            remembered.ends(&item(7));
            assert!(remembered.recent.len() + remembered.older.len() <= 8);
        }
        assert_eq!(asked(), 2 + 900);
    }
}
