//! Every bound, overflowed: the ring, clients and their queues, connections, heads, and who does not read.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use agent::api::{FeedConfig, ServeLimits, Services};
use agent::captured::Captured;

use crate::rig::{PATIENCE, Rig, TOKEN, again, ask, items, open, read_until};

fn follow(rig: &Rig) -> TcpStream {
    let head =
        format!("GET /api/items/stream HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n");
    open(rig.api, &head)
}

#[test]
fn the_ring_is_bounded_in_number_and_in_bytes() {
    let item = Arc::clone(&items()[0]);
    let bytes = item.memory();
    let many: Vec<_> = (0..1000).map(|index| again(&item, index)).collect();
    for (recent_items, recent_bytes, kept) in
        [(10, 1 << 30, 10), (1000, 5 * bytes, 5), (0, 1 << 30, 0), (10, 0, 0)]
    {
        let rig = Rig::with(
            None,
            FeedConfig { recent_items, recent_bytes, ..FeedConfig::default() },
            Services::default(),
        );
        for batch in many.chunks(7) {
            rig.feed.deliver(batch);
        }
        let told = rig.get("/api/items?limit=1000").is(200).json();
        assert_eq!(told["items"].as_array().unwrap().len(), kept);
        assert_eq!((&told["kept"]["items"], &told["kept"]["evicted"]), (&kept.into(), &(1000 - kept).into()));
        assert!(told["kept"]["bytes"].as_u64().unwrap() as usize <= recent_bytes, "{told}");
        let newest = told["items"].as_array().unwrap().first().map(|item| item["index"].as_u64().unwrap());
        assert_eq!(newest, (kept > 0).then_some(999));
        assert_eq!(rig.metric("remora_api_recent_evicted_total"), (1000 - kept) as f64);
    }
}

#[test]
fn a_client_that_does_not_read_holds_nobody_back_and_is_told_what_it_missed() {
    let rig = Rig::new(None);
    let item = Arc::clone(&items()[0]);
    let (mut slow, mut quick) = (follow(&rig), follow(&rig));
    let (mut slow_text, mut quick_text) = (String::new(), String::new());
    read_until(&mut slow, &mut slow_text, |text| text.contains(": following"));
    read_until(&mut quick, &mut quick_text, |text| text.contains(": following"));
    let reader = std::thread::spawn(move || {
        let mut piece = vec![0; 1 << 20];
        let mut seen = 0_u64;
        while let Ok(read @ 1..) = quick.read(&mut piece) {
            seen += read as u64;
        }
        seen
    });
    // So many that neither its queue nor the sockets' buffers hold them.
    let mut index = 0;
    let until = Instant::now() + PATIENCE;
    let mut longest = Duration::ZERO;
    while rig.metric("remora_api_items_dropped_total") < 1000.0 {
        assert!(Instant::now() < until, "nothing is ever dropped");
        for _ in 0..50 {
            let batch: Vec<Arc<Captured>> = (0..100).map(|n| again(&item, index + n)).collect();
            index += 100;
            let began = Instant::now();
            rig.feed.deliver(&batch);
            longest = longest.max(began.elapsed());
        }
    }
    println!("{index} items, the longest delivery took {longest:?}");
    // It reads again: what it gets and what it is told of are all there were.
    let counted = |text: &str| {
        let dropped = text.lines().filter_map(|line| line.strip_prefix("data: {\"dropped\":"));
        let dropped: u64 = dropped.map(|rest| rest.trim_end_matches('}').parse::<u64>().unwrap()).sum();
        (text.matches("event: item").count() as u64, dropped)
    };
    read_until(&mut slow, &mut slow_text, |text| {
        let (seen, dropped) = counted(text);
        text.ends_with("\r\n") && seen + dropped == index
    });
    let (seen, dropped) = counted(&slow_text);
    assert!(seen > 0 && dropped >= 1000, "{seen} {dropped}");
    drop(slow);
    drop(rig);
    assert!(reader.join().unwrap() > 1 << 20);
}

#[test]
fn clients_that_follow_are_bounded() {
    let rig = Rig::with(None, FeedConfig { clients: 2, ..FeedConfig::default() }, Services::default());
    let mut two = [follow(&rig), follow(&rig)];
    for stream in &mut two {
        read_until(stream, &mut String::new(), |text| text.contains(": following"));
    }
    rig.get("/api/items/stream").says(503, "api.maxClients");
    assert_eq!(rig.metric("remora_api_refused_total{reason=\"clients\"}"), 1.0);
    let [one, _] = two;
    drop(one);
    rig.wait_for("remora_api_clients{kind=\"sse\"}", 1.0);
    let mut text = String::new();
    read_until(&mut follow(&rig), &mut text, |text| text.contains(": following"));
}

#[test]
fn connections_are_bounded_at_each_address() {
    let rig = Rig::new(None);
    let held: Vec<_> = (0..64).map(|_| TcpStream::connect(rig.api).unwrap()).collect();
    rig.wait_for("remora_api_connections", 65.0);
    let mut said = String::new();
    let mut refused = TcpStream::connect(rig.api).unwrap();
    // A reset may be quicker than its words.
    let _ = refused.read_to_string(&mut said);
    assert!(said.is_empty() || said.contains("503"), "{said}");
    rig.wait_for("remora_api_refused_total{reason=\"connections\"}", 1.0);
    // Whoever asks for health has an address of its own.
    ask(rig.metrics, "GET /healthz HTTP/1.1\r\nhost: localhost\r\n").is(200);
    drop(held);
    rig.wait_for("remora_api_connections", 1.0);
    rig.get("/api").is(200);
}

#[test]
fn a_head_that_is_too_large_or_no_http_is_refused() {
    let rig = Rig::new(None);
    let large = format!("GET /api HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n", "x".repeat(64 << 10));
    assert_eq!(ask(rig.api, &large).status, 431);
    assert_eq!(ask(rig.api, "\u{1}nonsense\r\n").status, 400);
    let many: String = (0..500).map(|n| format!("x-{n}: 1\r\n")).collect();
    assert_eq!(ask(rig.api, &format!("GET /api HTTP/1.1\r\nhost: localhost\r\n{many}")).status, 431);
    rig.get("/api").is(200);
}

fn impatient(limits: ServeLimits) -> Rig {
    Rig::limited(None, FeedConfig::default(), Services::default(), limits)
}

#[test]
fn who_says_nothing_or_too_slowly_is_cut_off() {
    let head = Duration::from_millis(300);
    let rig = impatient(ServeLimits { head, ..ServeLimits::default() });
    let mut silent = TcpStream::connect(rig.api).unwrap();
    let mut slow = TcpStream::connect(rig.api).unwrap();
    let mut idle = open(rig.api, "GET /api HTTP/1.1\r\nhost: localhost\r\n");
    read_until(&mut idle, &mut String::new(), |text| text.contains("docs/api.md"));
    std::thread::spawn(move || {
        while slow.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    for stream in [&mut silent, &mut idle] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // Err: it was reset, which is an end, too.
        let _ = stream.read_to_end(&mut Vec::new());
    }
    rig.wait_for("remora_api_connections", 1.0);
    rig.get("/api").is(200);
}

#[test]
fn an_answer_that_takes_too_long_is_given_up() {
    let rig = impatient(ServeLimits { answer: Duration::from_millis(100), ..ServeLimits::default() });
    rig.registry.add_ready("slow", || {
        std::thread::sleep(Duration::from_millis(500));
        Vec::new()
    });
    rig.get("/readyz").says(504, "no answer within");
    rig.get("/healthz").is(200);
    assert_eq!(rig.metric("remora_api_refused_total{reason=\"timeout\"}"), 1.0);
}

#[test]
fn a_follower_that_never_reads_loses_its_place() {
    let rig = impatient(ServeLimits { write: Duration::from_millis(300), ..ServeLimits::default() });
    let item = Arc::clone(&items()[0]);
    let mut stuck = follow(&rig);
    read_until(&mut stuck, &mut String::new(), |text| text.contains(": following"));
    let until = Instant::now() + PATIENCE;
    while rig.metric("remora_api_clients{kind=\"sse\"}") > 0.0 {
        assert!(Instant::now() < until, "it still has its place");
        let batch: Vec<_> = (0..1000).map(|index| again(&item, index)).collect();
        rig.feed.deliver(&batch);
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn health_is_told_while_all_that_takes_its_time_does() {
    let held = Arc::new(AtomicBool::new(true));
    let asked = Arc::clone(&held);
    let services = Services {
        ask_scripts: Some(Arc::new(move |_, _| {
            while asked.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
            }
            None
        })),
        ..Services::default()
    };
    let rig = Rig::with(None, FeedConfig::default(), services);
    let item = Arc::clone(&items()[0]);
    let id = format!("{}-{}", item.item.stream, item.item.index);
    rig.feed.deliver(&[item]);
    let head = format!("GET /api/items/{id} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
    let mut waiting: Vec<_> = (0..20).map(|_| open(rig.api, &head)).collect();
    rig.wait_for("remora_api_connections", 21.0);
    rig.get("/healthz").is(200);
    held.store(false, Ordering::Relaxed);
    for stream in &mut waiting {
        read_until(stream, &mut String::new(), |text| text.contains(&id));
    }
}
