//! A server with items out of a recorded capture, and a client that says exactly what it is told to.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent::api::{Bound, Feed, FeedConfig, Listen, Registry, ServeLimits, Server, Services};
use agent::capture::file::FileSource;
use agent::capture::{PacketSource as _, Progress};
use agent::captured::{Captured, Node, Source};
use agent::secret::Secret;
use agent_core::{Engine, EngineConfig, Event, Item};
use serde_json::Value;

/// How long anything here may take: machines are slow and shared.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const TOKEN: &str = "a-token-of-sixteen-or-more";

/// The items of the shop's fixture, in order: 40 of HTTP.
pub(crate) fn items() -> Vec<Arc<Captured>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/shop/input.pcap");
    let mut source = FileSource::open(&path).unwrap();
    let mut engine = Engine::new(EngineConfig::default());
    let mut found = Vec::new();
    loop {
        let progress = source
            .poll(512, Duration::ZERO, &mut |packet| {
                engine.handle_packet(packet);
            })
            .unwrap();
        if progress == Progress::End {
            engine.finish();
        }
        while let Some(event) = engine.poll_event() {
            if let Event::Item(item) = event {
                found.push(Arc::new(captured(*item)));
            }
        }
        if progress == Progress::End {
            return found;
        }
    }
}

pub(crate) fn captured(item: Item) -> Captured {
    let node = Node { name: "node-7".to_owned(), ip: "10.0.0.7".parse().unwrap() };
    Captured::nameless(item, Arc::new(node), Source::Pcap)
}

/// The same item under another number.
pub(crate) fn again(item: &Captured, index: u64) -> Arc<Captured> {
    Arc::new(captured(Item { index, ..Item::clone(&item.item) }))
}

/// A running server.
pub(crate) struct Rig {
    pub(crate) feed: Arc<Feed>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) api: SocketAddr,
    pub(crate) metrics: SocketAddr,
    pub(crate) server: Option<Server>,
}

impl Rig {
    pub(crate) fn new(token: Option<&str>) -> Self {
        Self::with(token, FeedConfig::default(), Services::default())
    }

    pub(crate) fn with(token: Option<&str>, config: FeedConfig, services: Services) -> Self {
        Self::limited(token, config, services, ServeLimits::default())
    }

    pub(crate) fn limited(
        token: Option<&str>,
        config: FeedConfig,
        services: Services,
        limits: ServeLimits,
    ) -> Self {
        let bind = |key, token: Option<&str>, everything| -> Bound {
            let address = "127.0.0.1:0".parse().unwrap();
            Listen { key, address, token: token.map(Secret::new), everything }.bind().unwrap()
        };
        let bound = vec![bind("api.listen", token, true), bind("metrics.listen", None, false)];
        let (api, metrics) = (bound[0].address(), bound[1].address());
        let (feed, registry) = (Arc::new(Feed::start(config).unwrap()), Arc::new(Registry::default()));
        let server = Server::start(bound, &registry, Some(&feed), services, limits).unwrap();
        Self { feed, registry, api, metrics, server: Some(server) }
    }

    /// One request with the token.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Answer {
        ask(self.api, &format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n"))
    }

    /// The value of a sample.
    #[track_caller]
    pub(crate) fn metric(&self, sample: &str) -> f64 {
        let text = ask(self.metrics, "GET /metrics HTTP/1.1\r\nhost: localhost\r\n").text();
        let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{sample} is not in {text}")).parse().unwrap()
    }

    /// Waits until a sample has that value.
    #[track_caller]
    pub(crate) fn wait_for(&self, sample: &str, value: f64) {
        let until = Instant::now() + PATIENCE;
        while self.metric(sample) != value {
            assert!(Instant::now() < until, "{sample} is {}, not {value}", self.metric(sample));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// An answer that has come whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }

    /// What is wrong, in its words.
    #[track_caller]
    pub(crate) fn says(self, status: u16, words: &str) {
        let error = self.is(status).json()["error"].as_str().unwrap().to_owned();
        assert!(error.contains(words), "{words:?} is not in {error:?}");
    }
}

/// Sends a head, without its last line, and reads the answer to its end.
#[track_caller]
pub(crate) fn ask(to: SocketAddr, head: &str) -> Answer {
    let mut stream = open(to, &format!("{head}connection: close\r\n"));
    let mut all = Vec::new();
    // Err: who was refused before all was read is reset, behind the answer.
    let _ = stream.read_to_end(&mut all);
    let end = all.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or_else(|| panic!("{all:?}"));
    let head = String::from_utf8(all[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: all[end + 4..].to_vec() }
}

/// Sends a head, without its last line.
pub(crate) fn open(to: SocketAddr, head: &str) -> TcpStream {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
    stream
}

/// Reads until what came holds these words, or it ends.
#[track_caller]
pub(crate) fn read_until(stream: &mut TcpStream, text: &mut String, good: impl Fn(&str) -> bool) {
    let mut piece = [0; 64 << 10];
    while !good(text) {
        let read = stream.read(&mut piece).unwrap();
        assert!(read > 0, "it ends: {text}");
        text.push_str(&String::from_utf8_lossy(&piece[..read]));
    }
}
