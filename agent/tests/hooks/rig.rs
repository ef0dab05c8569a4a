//! What the tests share: services that remember, and items made by hand.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent::captured::{Captured, Known, Name, Node, Source};
use agent::hooks::{
    Backpressure, HostServices, Level, ScriptFailure, ScriptLimits, ScriptLog, ScriptStats, Scripts,
};
use agent::outbox::{Delivery, DeliveryId, Outbox, OutboxError};
use agent::pcap::{CaptureFile, PcapStore, StoreError};
use agent::resolve::NameHistory;
use agent_core::item::{Endpoint, HeaderBlock, Message, Request, Response, StreamId};
use agent_core::{HttpExchange, Item, Record, Timestamp};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A log that remembers.
#[derive(Default)]
pub(crate) struct Lines(Mutex<Vec<(String, Level, bool, String)>>);

impl ScriptLog for Lines {
    fn line(&self, script: &str, level: Level, console: bool, text: &str) {
        testkit::canary::record("script", text.as_bytes());
        self.0.lock().unwrap().push((script.to_owned(), level, console, text.to_owned()));
    }
}

impl Lines {
    /// What scripts wrote themselves.
    pub(crate) fn console(&self) -> Vec<String> {
        self.0.lock().unwrap().iter().filter(|line| line.2).map(|line| line.3.clone()).collect()
    }

    /// What the runtime said about them.
    pub(crate) fn about(&self) -> Vec<String> {
        self.0.lock().unwrap().iter().filter(|line| !line.2).map(|line| line.3.clone()).collect()
    }

    pub(crate) fn levels(&self) -> Vec<Level> {
        self.0.lock().unwrap().iter().filter(|line| line.2).map(|line| line.1).collect()
    }
}

/// A delivery with the bytes of its files as they were when it was queued.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) script: String,
    pub(crate) delivery: Delivery,
    pub(crate) files: Vec<Vec<u8>>,
}

/// An outbox that remembers, and refuses the channel `refused`.
#[derive(Default)]
pub(crate) struct Box(pub(crate) Mutex<Vec<Queued>>);

impl Outbox for Box {
    fn enqueue(&self, script: &str, delivery: Delivery) -> Result<DeliveryId, OutboxError> {
        let mut files = Vec::new();
        if let Delivery::SlackBot { channel, files: attached, .. } = &delivery {
            if channel == "refused" {
                return Err(OutboxError::Invalid {
                    argument: "channelId",
                    cause: "no such channel".to_owned(),
                });
            }
            files = attached.iter().map(|(_, path)| std::fs::read(path).unwrap()).collect();
        }
        if let Delivery::S3 { path, .. } | Delivery::Gcs { path, .. } = &delivery {
            files.push(std::fs::read(path).unwrap());
        }
        let mut queued = self.0.lock().unwrap();
        queued.push(Queued { script: script.to_owned(), delivery, files });
        Ok(DeliveryId(queued.len() as u64))
    }
}

/// A store that knows stream 1 and any stream above 100, with a file each.
pub(crate) struct Store(pub(crate) PathBuf);

impl PcapStore for Store {
    fn file(&self, stream: StreamId) -> Result<CaptureFile, StoreError> {
        match stream.0 {
            2 => Err(StoreError::Expired { stream, since: None }),
            1 | 101.. => {
                let path = self.0.join(format!("{stream}.pcap"));
                std::fs::write(&path, b"\xd4\xc3\xb2\xa1 packets").unwrap();
                Ok(CaptureFile { path, size: 12, packets: 3 })
            }
            _ => Err(StoreError::Unknown(stream)),
        }
    }

    fn redacted(&self, stream: StreamId, hides: &dyn Fn(&[u8]) -> bool) -> Result<CaptureFile, StoreError> {
        let path = self.0.join(format!("{stream}-redacted.pcap"));
        let hidden = ["cookie", "x-secret", "host"].map(|name| hides(name.as_bytes()));
        std::fs::write(&path, format!("{hidden:?}")).unwrap();
        Ok(CaptureFile { path, size: 12, packets: 3 })
    }

    fn snapshot(&self, streams: Option<&[StreamId]>) -> Result<PathBuf, StoreError> {
        streams.unwrap_or_default().iter().try_for_each(|&stream| self.file(stream).map(drop))?;
        Ok(self
            .0
            .join(format!("snapshot-of-{}.pcap", streams.map_or("all".to_owned(), |s| s.len().to_string()))))
    }

    fn keep(&self, stream: StreamId) -> bool {
        stream.0 != 0
    }

    fn note(&self, stream: StreamId, text: &str) {
        std::fs::write(self.0.join(format!("{stream}.note")), text).unwrap();
    }

    fn is_kept(&self, _stream: StreamId) -> bool {
        true
    }

    fn folder(&self) -> PathBuf {
        self.0.clone()
    }
}

pub(crate) struct Rig {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) runtime: tokio::runtime::Runtime,
    pub(crate) log: Arc<Lines>,
    pub(crate) outbox: Arc<Box>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) limits: ScriptLimits,
    pub(crate) backpressure: Backpressure,
    pub(crate) store: bool,
    pub(crate) s3_endpoint: Option<String>,
    pub(crate) names: Arc<NameHistory>,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["scripts", "data", "pcaps"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        Self {
            dir,
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap(),
            log: Arc::default(),
            outbox: Arc::default(),
            env: BTreeMap::new(),
            limits: ScriptLimits::default(),
            backpressure: Backpressure::Wait,
            store: true,
            s3_endpoint: None,
            names: Arc::default(),
        }
    }

    pub(crate) fn env(mut self, key: &str, value: &str) -> Self {
        self.env.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Writes a script.
    pub(crate) fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join("scripts").join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The folder of the script `a.js`.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data/a.js")
    }

    pub(crate) fn services(&self) -> HostServices {
        let store: Arc<dyn PcapStore> = Arc::new(Store(self.dir.path().join("pcaps")));
        HostServices {
            store: self.store.then_some(store),
            outbox: self.outbox.clone(),
            env: Arc::new(self.env.clone()),
            data_dir: self.dir.path().join("data"),
            runtime: self.runtime.handle().clone(),
            trust: agent::tls::Trust::default(),
            s3_endpoint: self.s3_endpoint.clone(),
            node_name: "node-7".to_owned(),
            names: {
                let names = Arc::clone(&self.names);
                Arc::new(move || names.by_second())
            },
            view: Arc::default(),
            log: self.log.clone(),
            rehearsal: None,
        }
    }

    pub(crate) fn load(&self, paths: &[PathBuf]) -> (Scripts, Vec<ScriptFailure>) {
        Scripts::load(paths, &self.limits, self.backpressure, self.services())
    }

    /// Runs one script, called a.js, over so many items.
    pub(crate) fn run(&self, text: &str, items: u64) -> ScriptStats {
        let (scripts, failures) = self.load(&[self.script("a.js", text)]);
        assert_eq!(failures, [], "the script must start");
        for n in 0..items {
            scripts.deliver(&item(n));
        }
        assert!(scripts.drain(PATIENCE), "the script must get through its items");
        scripts.shutdown(PATIENCE).remove(0)
    }

    /// Runs the body of a hook once and returns what it logged by `console`.
    pub(crate) fn body(&self, body: &str) -> Vec<String> {
        let before = self.log.console().len();
        self.run(&format!("function onItemCaptured(data) {{\n{body}\n}}"), 1);
        self.log.console().split_off(before)
    }

    /// What an expression throws, as text.
    pub(crate) fn thrown(&self, expression: &str) -> String {
        let lines = self.body(&format!(
            "try {{ {expression}; console.log('nothing thrown') }} catch (e) {{ console.log(String(e)) }}"
        ));
        assert_eq!(lines.len(), 1, "{lines:?}");
        lines.into_iter().next().unwrap()
    }
}

/// An item of stream 1, or 100 + `index` from index 1 on. Every third has no response; the others are 500 and 200 in turn.
pub(crate) fn item(index: u64) -> Arc<Captured> {
    let status = if index.is_multiple_of(2) { "500" } else { "200" };
    let request = request("GET", "/pay?x=1", &[("Host", "shop")]);
    let response = (index % 3 != 2).then(|| response(status.parse().unwrap(), &[]));
    captured(index, HttpExchange { request: Some(request), response, interim: Vec::new() })
}

pub(crate) fn request(method: &str, target: &str, fields: &[(&str, &str)]) -> Request {
    let ([method, target], head) = HeaderBlock::with_words([method.as_bytes(), target.as_bytes()], fields);
    Request { method, target, message: Message { minor_version: 1, head, ..Message::default() } }
}

pub(crate) fn response(status: u16, fields: &[(&str, &str)]) -> Response {
    let ([reason], head) = HeaderBlock::with_words([b"x"], fields);
    Response { status, reason, message: Message { minor_version: 1, head, ..Message::default() } }
}

/// What was said, as an item.
pub(crate) fn captured(index: u64, exchange: HttpExchange) -> Arc<Captured> {
    let end = |last: u8, port| Endpoint { addr: IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)), port, cgroup: 0 };
    let stream = StreamId(if index == 0 { 1 } else { 100 + index });
    let record = Record::Http(std::boxed::Box::new(exchange));
    let item = Item {
        finished: Timestamp(12_500_000),
        ..Item::new(stream, index, end(1, 40000), end(2, 80), record)
    };
    let node = Arc::new(Node { name: "node-7".to_owned(), ip: IpAddr::V4(Ipv4Addr::LOCALHOST) });
    Arc::new(Captured {
        dst: Name::from(Known::pod("shop", "prod")),
        ..Captured::nameless(item, node, Source::Pcap)
    })
}

/// Name, path and content of a folder's files, sorted.
pub(crate) fn files_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
