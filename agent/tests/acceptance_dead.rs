//! Every destination is dead while traffic goes on, then all come alive: capture loses nothing, memory and disk stay within
//! bounds, what was kept arrives in order, and what was refused is told.
//!
//! `REMORA_DEAD_SECS=600 cargo test -p agent --test acceptance_dead -- --nocapture` is the whole run.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::live::{Background, is_root};
use common::taken::Taken;
use common::{Ran, script};
use serde_json::Value;
use testkit::fakes::Fake;
use testkit::fakes::dead::{Dead, Death};
use testkit::fakes::elastic::Elastic;
use testkit::fakes::influx::Influx;
use testkit::fakes::objects::{Account, Objects};
use testkit::fakes::splunk::Splunk;
use testkit::load::{self, LoadConfig};
use testkit::netns::VethPair;
use testkit::nginx::Nginx;
use testkit::slack::{FakeConfig, SlackFake};

const MIB: u64 = 1 << 20;
/// What may wait in the outbox.
const OUTBOX: u64 = 12 * MIB;
/// What the store of packets may hold.
const STORE: u64 = 16 * MIB;
/// How much the resident memory may grow once the first third of the time is over.
const GROWTH: u64 = 24 * MIB;
/// Until everything that waited has been delivered: the longest pause of a destination's, and then some.
const PATIENCE: Duration = Duration::from_secs(180);

/// Keeps books, in a file, of what each destination was given and of what was refused.
const BOOKS: &str = "
var books = {};
function attempt(name, send) {
  var book = books[name] = books[name] || {tried: 0, kept: 0, caught: 0, words: ''};
  book.tried++;
  try { send(book.tried); book.kept++; }
  catch (error) { book.caught++; book.words = error.message; }
  file.write('books.tmp', JSON.stringify(books));
  file.move('books.tmp', 'books.json');
}
";

const ALERTS: &str = "
hooks.on('itemCaptured', {filter: 'http && response.status >= 500'}, function (data) {
  var stream = pcap.path(data.stream);
  file.write('item.json', JSON.stringify(data));
  attempt('bot', n => vendor.slackBot(TOKEN, CHANNEL, 'Failed', 'number ' + n, '#d00000', {Path: data.request.path},
    {'stream.pcap': stream, 'item.json': 'item.json'}));
  attempt('hook', n => vendor.slack(HOOK, 'Failed', 'number ' + n, '#d00000'));
});";

const DATA: &str = "
hooks.on('itemCaptured', {filter: 'http && response.status >= 500'}, function (data) {
  attempt('elastic', n => vendor.elastic(ELASTIC, 'failed', {n: n, item: data, long: 'x'.repeat(30000)}));
  attempt('splunk', n => vendor.splunk(SPLUNK, TOKEN, {n: n}));
  attempt('influx', n => vendor.influxdb(INFLUX, TOKEN, 'org', 'bucket', 'failed', {n: n}));
  file.write('object', JSON.stringify(data));
  attempt('s3', n => vendor.s3.put('captures/' + n, 'object', 'us-east-1', 'AKIA', TOKEN));
});";

/// Catches nothing.
const THROWS: &str = "
hooks.on('itemCaptured', {filter: 'http && response.status >= 500'}, function (data) {
  vendor.slack(HOOK, 'Not caught', data.id, 'danger');
});";

/// Waits for a server that does not answer.
const WAITS: &str = "
hooks.on('itemCaptured', {filter: 'http && response.status >= 500'}, function (data) {
  attempt('waits', n => vendor.webhook('POST', WAITS, data.id));
});";

fn server() -> SocketAddr {
    "10.77.0.2:80".parse().unwrap()
}

fn dead_for() -> Duration {
    let given = std::env::var("REMORA_DEAD_SECS").ok().and_then(|n| n.parse().ok());
    Duration::from_secs(given.unwrap_or(9))
}

/// Where everything is to go, each dead in its own way.
struct Graves {
    slack: Dead,
    hook: Dead,
    elastic: Dead,
    splunk: Dead,
    influx: Dead,
    s3: Dead,
    waits: Dead,
    sink_elastic: Dead,
    sink_splunk: Dead,
    sink_web: Dead,
}

impl Graves {
    fn new() -> Self {
        let dead = |death| Dead::new(death).unwrap();
        Self {
            slack: dead(Death::Status(500)),
            hook: dead(Death::Refused),
            elastic: dead(Death::Silent),
            splunk: dead(Death::Status(500)),
            influx: dead(Death::Silent),
            s3: dead(Death::Refused),
            waits: dead(Death::Silent),
            sink_elastic: dead(Death::Refused),
            sink_splunk: dead(Death::Silent),
            sink_web: dead(Death::Status(503)),
        }
    }
}

/// The same, alive.
struct Alive {
    slack: SlackFake,
    hook: SlackFake,
    elastic: Fake<Elastic>,
    splunk: Fake<Splunk>,
    influx: Fake<Influx>,
    s3: Fake<Objects>,
    sink_elastic: Fake<Elastic>,
    sink_splunk: Fake<Splunk>,
    _answering: [Dead; 2],
}

impl Alive {
    fn new(graves: Graves) -> Self {
        let slack = |dead: Dead| SlackFake::start(dead.bury(), FakeConfig::default()).unwrap();
        let tokens = || BTreeMap::from([(FakeConfig::TOKEN.to_owned(), true)]);
        let splunk = |dead: Dead| {
            Fake::start_at(dead.bury(), Splunk { tokens: tokens(), ..Splunk::default() }).unwrap()
        };
        let elastic = |dead: Dead| Fake::start_at(dead.bury(), Elastic::default()).unwrap();
        let place = ("org".to_owned(), "bucket".to_owned());
        let influx = Influx { token: FakeConfig::TOKEN.to_owned(), place, ..Influx::default() };
        let s3 = Objects::new(Account::Signed("AKIA".into(), "us-east-1".into()), "captures");
        Self {
            slack: slack(graves.slack),
            hook: slack(graves.hook),
            elastic: elastic(graves.elastic),
            splunk: splunk(graves.splunk),
            influx: Fake::start_at(graves.influx.bury(), influx).unwrap(),
            s3: Fake::start_at(graves.s3.bury(), s3).unwrap(),
            sink_elastic: elastic(graves.sink_elastic),
            sink_splunk: splunk(graves.sink_splunk),
            _answering: [graves.waits, graves.sink_web]
                .map(|dead| Dead::at(dead.bury(), Death::Status(204)).unwrap()),
        }
    }

    /// Numbers of what arrived, in the order in which it did.
    fn arrived(&self, name: &str) -> Vec<u64> {
        let of_slack = |fake: &SlackFake| {
            let alerts = texts(fake).into_iter().filter(|text| !text.contains(REFUSED));
            // A line for each file that there was no room for may follow.
            let number = |text: String| text.strip_prefix("number ")?.lines().next()?.parse().ok();
            alerts.filter_map(number).collect()
        };
        match name {
            "bot" => of_slack(&self.slack),
            "hook" => of_slack(&self.hook),
            "elastic" => self.elastic.with(|fake| {
                let documents = fake.documents.values().flat_map(BTreeMap::values);
                let mut numbers: Vec<u64> = documents.map(|d| d["n"].as_u64().unwrap()).collect();
                // They have ids, not an order.
                numbers.sort_unstable();
                numbers
            }),
            "splunk" => self
                .splunk
                .with(|fake| fake.events.iter().map(|event| event["event"]["n"].as_u64().unwrap()).collect()),
            "influx" => self.influx.with(|fake| {
                let number = |point: &testkit::fakes::influx::Point| match &point.fields["n"] {
                    testkit::fakes::influx::Field::Float(n) => *n as u64,
                    testkit::fakes::influx::Field::Integer(n) => n.unsigned_abs(),
                    other => panic!("{other:?}"),
                };
                fake.points.iter().map(number).collect()
            }),
            "s3" => self.s3.with(|fake| {
                let number = |key: &String| key.split('/').next().unwrap().parse().unwrap();
                let mut numbers: Vec<u64> = fake.objects.keys().map(number).collect();
                numbers.sort_unstable();
                numbers
            }),
            other => panic!("{other}"),
        }
    }
}

/// What a message says that tells of others which were refused.
const REFUSED: &str = " alerts of this script that were refused since ";

fn texts(fake: &SlackFake) -> Vec<String> {
    let text =
        |message: &testkit::slack::Message| message.attachments[0]["text"].as_str().unwrap().to_owned();
    fake.messages().iter().map(text).collect()
}

/// How many refused alerts its messages tell of.
fn told(fake: &SlackFake) -> u64 {
    let count = |text: &String| {
        let before = text.split_once(REFUSED)?.0;
        before.rsplit(' ').next()?.replace(',', "").parse::<u64>().ok()
    };
    texts(fake).iter().filter_map(count).sum()
}

const ORDERED: [&str; 6] = ["bot", "hook", "elastic", "splunk", "influx", "s3"];

/// What a script noted of one destination.
#[derive(Clone, PartialEq, Debug, Default)]
struct Book {
    tried: u64,
    kept: u64,
    caught: u64,
    words: String,
}

fn books(data: &Path) -> BTreeMap<String, Book> {
    let mut all = BTreeMap::new();
    for folder in fs::read_dir(data.join("scripts")).into_iter().flatten().flatten() {
        let text = fs::read_to_string(folder.path().join("books.json")).unwrap_or_default();
        let Ok(Value::Object(found)) = serde_json::from_str(&text) else { continue };
        for (name, book) in found {
            let number = |field: &str| book[field].as_u64().unwrap();
            let words = book["words"].as_str().unwrap().to_owned();
            let (tried, kept, caught) = (number("tried"), number("kept"), number("caught"));
            all.insert(name, Book { tried, kept, caught, words });
        }
    }
    all
}

fn kept(books: &BTreeMap<String, Book>, name: &str) -> u64 {
    books.get(name).map_or(0, |book| book.kept)
}

/// The books once the scripts are through with what they had: nothing was noted for a while.
fn settled(data: &Path) -> BTreeMap<String, Book> {
    let (deadline, mut last, mut since) = (Instant::now() + PATIENCE, books(data), Instant::now());
    while since.elapsed() < Duration::from_secs(2) {
        assert!(Instant::now() < deadline, "scripts go on and on: {last:?}");
        std::thread::sleep(Duration::from_millis(100));
        let now = books(data);
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    last
}

/// Some 1,000 requests a second, a tenth of which fail, until told to stop.
fn traffic(stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        round(30);
        std::thread::sleep(Duration::from_millis(300).saturating_sub(began.elapsed()));
    }
}

fn round(failing: u64) {
    load::run(&LoadConfig { target: "/b/{id}".into(), ..LoadConfig::new(server(), 6, failing * 9) }).unwrap();
    load::run(&LoadConfig { target: "/fail/{id}".into(), ..LoadConfig::new(server(), 2, failing) }).unwrap();
}

/// Watches it for so long: the most that it took in the first third, and after that.
fn watch(tap: &Background, dir: &Path, time: Duration) -> (Taken, Taken) {
    let began = Instant::now();
    let (mut early, mut late, mut told) = (Taken::default(), Taken::default(), Duration::ZERO);
    while began.elapsed() < time {
        let now = Taken::now(tap.id(), dir);
        if began.elapsed() < time / 3 {
            early = early.most(now);
        } else {
            late = late.most(now);
        }
        if began.elapsed() >= told {
            told += Duration::from_secs(15);
            eprintln!("{:>4} s: {now:?}", began.elapsed().as_secs());
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    (early, late)
}

fn sinks(dir: &Path, graves: &Graves) -> String {
    let (token, file) = (dir.join("token"), dir.join("items/items.jsonl"));
    fs::create_dir(dir.join("items")).unwrap();
    fs::write(&token, FakeConfig::TOKEN).unwrap();
    let text = format!(
        "- {{kind: elasticsearch, url: '{}', index: items}}
- {{kind: splunk, url: '{}', token: {{file: '{}'}}}}
- {{kind: webhook, url: '{}/items'}}
- {{kind: jsonFile, path: '{}', maxBytes: 262144, keep: 3}}
",
        graves.sink_elastic.url(),
        graves.sink_splunk.url(),
        token.display(),
        graves.sink_web.url(),
        file.display()
    );
    let path = dir.join("sinks.yaml");
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn start(pair: &VethPair, dir: &Path, graves: &Graves) -> Background {
    let mut args: Vec<String> =
        ["--interface", VethPair::SERVER, "--port", "80", "--quiet", "--stats"].map(str::to_owned).into();
    let mut option = |name: &str, value: &str| args.extend([name.to_owned(), value.to_owned()]);
    for (name, text) in [("alerts", ALERTS), ("data", DATA), ("waits", WAITS)] {
        let path = script(dir, &format!("{name}.js"), &format!("// {name}\n{BOOKS}{text}"));
        option("--script", path.to_str().unwrap());
    }
    option("--script", script(dir, "throws.js", THROWS).to_str().unwrap());
    let hook = graves.hook.url() + FakeConfig::WEBHOOK;
    for (name, value) in [
        ("TOKEN", FakeConfig::TOKEN),
        ("CHANNEL", FakeConfig::CHANNEL),
        ("HOOK", &hook),
        ("ELASTIC", &graves.elastic.url()),
        ("SPLUNK", &graves.splunk.url()),
        ("INFLUX", &graves.influx.url()),
        ("WAITS", &graves.waits.url()),
    ] {
        option("--env", &format!("{name}={value}"));
    }
    option("--slack-api-url", &format!("{}/api/", graves.slack.url()));
    option("--s3-endpoint", &graves.s3.url());
    option("--sinks", &sinks(dir, graves));
    option("--data-dir", dir.join("data").to_str().unwrap());
    option("--pcap-dir", dir.join("pcap").to_str().unwrap());
    option("--pcap-max-bytes", &STORE.to_string());
    option("--outbox-max-bytes", &OUTBOX.to_string());
    for (name, value) in [
        ("--slack-rate", "1000"),
        ("--flood-limit", "0"),
        ("--script-alerts", "0"),
        ("--total-alerts", "0"),
        ("--workers", "2"),
        ("--ring-mib", "16"),
    ] {
        option(name, value);
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    Background::tap(&pair.server, dir, &args)
}

#[test]
fn dead_destinations_cost_no_packet_and_no_bound() {
    if !is_root("dead_destinations_cost_no_packet_and_no_bound") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let pair = VethPair::new().unwrap();
    let nginx = pair.server.run(|| Nginx::start(server(), |command| command)).unwrap();
    let graves = pair.server.run(Graves::new);
    let tap = start(&pair, dir.path(), &graves);
    let stop = AtomicBool::new(false);
    let (early, late) = std::thread::scope(|scope| {
        scope.spawn(|| pair.client.run(|| traffic(&stop)));
        let watched = watch(&tap, dir.path(), dead_for());
        stop.store(true, Ordering::Relaxed);
        watched
    });
    check_bounds(early, late);
    let data = dir.path().join("data");
    check_refusals(&books(&data), &tap.said());
    let (slack, web) = (graves.slack.calls(), graves.sink_web.calls());
    assert!(slack > 1 && web > 1, "tried again: {slack}, {web}");

    let alive = pair.server.run(|| Alive::new(graves));
    wait_for_all(&alive, &data, &tap);
    // There is room again.
    let before = settled(&data);
    pair.client.run(|| round(10));
    let (deadline, mut now) = (Instant::now() + PATIENCE, books(&data));
    // Scripts may still have had items from before.
    while !ORDERED.iter().all(|name| kept(&now, name) >= kept(&before, name) + 10) {
        assert!(Instant::now() < deadline, "ten more of each: {before:?}, then {now:?}: {}", tap.said());
        std::thread::sleep(Duration::from_millis(100));
        now = books(&data);
    }
    wait_for_all(&alive, &data, &tap);
    let books = books(&data);
    let ran = tap.end().exits(0);
    check_order(&alive, &books);
    check_counters(&ran, &books, &alive);
    let log = nginx.stop().unwrap();
    assert_eq!(ran.stats()["items"]["http"], log.len(), "an item for each request: {}", ran.stats());
    eprintln!("{} requests; {early:?}, then {late:?}; {books:#?}\n{}", log.len(), ran.stderr);
}

fn wait_for_all(alive: &Alive, data: &Path, tap: &Background) {
    for name in ORDERED {
        let mut state = String::new();
        let deadline = Instant::now() + PATIENCE;
        loop {
            // At least one of each was kept. None: the book is just being written.
            let (kept, arrived) = (kept(&books(data), name), alive.arrived(name).len() as u64);
            if kept == arrived && kept > 0 {
                break;
            }
            state.clear();
            state += &format!("{name}: {arrived} of {kept} arrived");
            assert!(Instant::now() < deadline, "{state}: {}", tap.said());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn check_bounds(early: Taken, late: Taken) {
    let grown = late.resident.saturating_sub(early.resident);
    assert!(grown <= GROWTH, "memory: {early:?}, then {late:?}");
    let most = early.most(late);
    // SQLite's pages and journal, and the names of what waits.
    assert!(most.outbox <= 2 * OUTBOX + 24 * MIB, "outbox: {most:?}");
    // Packets, with as much again for extracted files, and what is being put together.
    assert!(most.store <= 2 * STORE + 8 * MIB, "store: {most:?}");
    // Four files of a quarter each, and what four scripts keep.
    assert!(most.rest <= 3 * MIB / 2, "scripts' and sinks' files: {most:?}");
}

/// Each was given what it took, then refused, with words that say why; the log tells of it, and not once for each.
fn check_refusals(books: &BTreeMap<String, Book>, log: &str) {
    for name in ORDERED {
        let book = books.get(name).unwrap_or_else(|| panic!("no {name} in {books:?}: {log}"));
        assert!(book.kept > 0 && book.caught > 0, "{name}: {books:?}: {log}");
        assert!(
            book.words.contains("the outbox is full") || book.words.contains("too much is waiting"),
            "{book:?}"
        );
    }
    for words in ["outbox: it is full", "throws.js", "sink 1-elasticsearch: "] {
        assert!(log.contains(words), "{words:?} is not in {log}");
    }
    let refused: u64 = books.values().map(|book| book.caught).sum();
    let lines = log.lines().count() as u64;
    assert!(refused > 100 && lines < 40 + dead_for().as_secs() / 8, "{lines} lines for {refused}: {log}");
}

fn check_order(alive: &Alive, books: &BTreeMap<String, Book>) {
    for name in ORDERED {
        let numbers = alive.arrived(name);
        assert!(numbers.is_sorted_by(|a, b| a < b), "{name}: {numbers:?}");
        assert_eq!(numbers.len() as u64, books[name].kept, "{name}");
    }
    for fake in [&alive.slack, &alive.hook] {
        assert_eq!(fake.violations(), Vec::<String>::new());
    }
}

fn check_counters(ran: &Ran, books: &BTreeMap<String, Book>, alive: &Alive) {
    let stats = ran.stats();
    let number = |path: &str| {
        stats.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path} in {stats}"))
    };
    common::check_kernel_books(&stats);
    assert_eq!((number("/gaps"), number("/malformed"), number("/lost/queue")), (0, 0, 0), "{stats}");
    assert_eq!(number("/store/refused"), 0, "{stats}");
    let caught: u64 = ORDERED.iter().map(|name| books[*name].caught).sum();
    let thrown = number("/scripts/throws.js/errors");
    assert_eq!(number("/deliveries/refused"), caught + thrown, "{stats}");
    assert_eq!((number("/deliveries/failed"), number("/deliveries/waiting")), (0, 0), "{stats}");
    let (bot, hook) = (told(&alive.slack), told(&alive.hook));
    assert_eq!(
        (bot, hook),
        (books["bot"].caught, books["hook"].caught + thrown),
        "told where the others are read"
    );
    let told = format!("{} deliveries were refused", caught + thrown);
    assert!(ran.stderr.contains(&told), "{told:?} is not in {}", ran.stderr);
    let (documents, events) = (
        alive.sink_elastic.with(|fake| fake.documents["items"].len() as u64),
        alive.sink_splunk.with(|fake| fake.events.len() as u64),
    );
    for (name, arrived) in [("1-elasticsearch", documents), ("2-splunk", events)] {
        let taken = number(&format!("/sinks/{name}/items"));
        assert!(arrived == taken && taken > 0, "{name}: {arrived} of {taken}: {stats}");
        let all =
            taken + number(&format!("/sinks/{name}/refused")) + number(&format!("/sinks/{name}/dropped"));
        assert_eq!(all, number("/items/http"), "{name}: {stats}");
    }
    assert_eq!(number("/sinks/4-jsonFile/items"), number("/items/http"), "{stats}");
}
