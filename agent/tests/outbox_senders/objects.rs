//! Object stores: files become objects, whole or in parts, and what is refused is told.
//!
//! `REMORA_MOTO_SERVER` names a program that serves S3 (`moto_server` of PyPI's `moto[server]`); where it is set, our sender
//! puts objects into that as well.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use agent::outbox::{Delivery, GcsTarget, S3Target};
use agent::secret::Secret;
use serde_json::json;
use testkit::fakes::Fake;
use testkit::fakes::dead::{Dead, Death};
use testkit::fakes::objects::{Account, Objects};
use testkit::slack::{Fault, Injection};

use super::Bench;

const EMAIL: &str = "remora@example.iam.gserviceaccount.com";
/// Made for this test; it opens nothing.
const KEY: &str = include_str!("unused-rsa-key.pem");

fn s3() -> Fake<Objects> {
    Fake::start(Objects::new(Account::Signed("AKIAFAKE".into(), "eu-central-1".into()), "captures")).unwrap()
}

fn at(endpoint: &str, key_id: &str, bucket: &str) -> S3Target {
    let keys = Some((key_id.to_owned(), Secret::new("hushhush+hushhush/key")));
    S3Target::new(Some(endpoint), bucket, "eu-central-1", keys).unwrap()
}

fn put(target: &S3Target, key: &str, path: PathBuf) -> Delivery {
    Delivery::S3 { target: target.clone(), key: key.to_owned(), path }
}

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at * 31 % 251) as u8).collect()
}

#[test]
fn files_become_objects_whole_and_in_parts() {
    let fake = s3();
    let (bench, target) = (Bench::new(), at(&fake.url(), "AKIAFAKE", "captures"));
    let large = pattern(20 * 1024 * 1024 + 7);
    let path = bench.file("large.pcap", &large);
    bench.send(put(&target, "node-7/large.pcap", path.clone()));
    std::fs::remove_file(path).unwrap();
    for (name, bytes) in [("small.pcap", &b"pcap"[..]), ("empty", b"")] {
        bench.send(put(&target, &format!("node-7/{name}"), bench.file(name, bytes)));
    }
    assert_eq!(bench.drained().sent, 3);
    fake.with(|fake| {
        assert!(fake.objects["node-7/large.pcap"] == large, "in three parts");
        assert_eq!(fake.objects["node-7/small.pcap"], b"pcap");
        assert_eq!(fake.objects["node-7/empty"], b"");
        assert!(fake.uploads.is_empty());
    });
    assert_eq!(target.url("node-7/small.pcap"), format!("{}/captures/node-7/small.pcap", fake.url()));
}

#[test]
fn passing_errors_are_waited_out() {
    let fake = s3();
    let (bench, target) = (Bench::new(), at(&fake.url(), "AKIAFAKE", "captures"));
    let slow = "<Error><Code>SlowDown</Code></Error>".to_owned();
    fake.fail(Injection::new(
        "put",
        1,
        Fault::Status { code: 503, retry_after: Some(0), body: slow.clone() },
    ));
    fake.fail(Injection::new("put", 1, Fault::Silent));
    fake.fail(Injection::new("put", 1, Fault::Half).applied());
    // A part is lost: the upload is taken back and begun anew.
    fake.fail(Injection::new("part", 1, Fault::Status { code: 500, retry_after: None, body: slow }));
    bench.send(put(&target, "a", bench.file("a", b"1")));
    let large = pattern(9 * 1024 * 1024);
    bench.send(put(&target, "b", bench.file("b", &large)));
    let stats = bench.drained();
    assert_eq!((stats.sent, stats.failed), (2, 0));
    fake.with(|fake| assert!(fake.objects["b"] == large && fake.uploads.is_empty()));
    assert!(fake.calls().iter().any(|call| call.name == "abort"));
}

#[test]
fn what_is_refused_is_told_in_the_stores_words() {
    let fake = s3();
    let bench = Bench::with(|config| config.max_object_bytes = 100);
    for target in [at(&fake.url(), "AKIAOTHER", "captures"), at(&fake.url(), "AKIAFAKE", "none")] {
        bench.send(put(&target, "a", bench.file("a", b"1")));
        bench.drained();
    }
    let known = at(&fake.url(), "AKIAFAKE", "captures");
    let error = bench.refused(put(&known, "n/b", bench.file("b", &[0; 101]))).to_string();
    assert_eq!(error, "path: the files of one delivery may have 100 bytes in all");
    let error = bench.refused(put(&known, "c", bench.folder.path().join("gone"))).to_string();
    assert!(error.contains("No such file"), "{error}");
    let dead = bench.dead();
    assert_eq!(dead.len(), 2);
    assert!(dead[0].starts_with("InvalidAccessKeyId: there is no such key: check keyID"), "{dead:?}");
    assert!(dead[1].starts_with("NoSuchBucket: "), "{dead:?}");
}

#[test]
fn googles_storage_takes_objects_by_a_service_account() {
    let fake = Fake::start(Objects::new(Account::Token(EMAIL.into()), "captures")).unwrap();
    let bench = Bench::new();
    let account = |email: &str| {
        let key = json!({"type": "service_account", "client_email": email, "private_key": KEY, "private_key_id": "1",
            "gcs_base_url": fake.url()});
        GcsTarget::new("captures", Secret::new(&key.to_string())).unwrap()
    };
    let large = pattern(9 * 1024 * 1024);
    for (key, path) in [("n/a", bench.file("a", b"1")), ("n/b", bench.file("b", &large))] {
        bench.send(Delivery::Gcs { target: account(EMAIL), key: key.to_owned(), path });
    }
    assert_eq!(bench.drained().sent, 2);
    fake.with(|fake| assert!(fake.objects["n/a"] == b"1" && fake.objects["n/b"] == large));
    bench.send(Delivery::Gcs {
        target: account("other@example"),
        key: "c".to_owned(),
        path: bench.file("c", b"1"),
    });
    bench.drained();
    let dead = bench.dead();
    assert!(dead.len() == 1 && dead[0].starts_with("AuthenticationRequired"), "{dead:?}");
}

/// A real implementation of S3, killed at the end.
struct Moto(Child, String);

impl Moto {
    fn start(program: &std::ffi::OsStr) -> Self {
        // A port that is free now; somebody might take it first, which the wait below would show.
        let port = Dead::new(Death::Refused).unwrap().address().port();
        let child = Command::new(program)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let moto = Self(child, format!("http://127.0.0.1:{port}"));
        let start = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(60), "moto does not come up");
            std::thread::sleep(Duration::from_millis(50));
        }
        moto
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_real_server_has_what_was_put() {
    let Some(program) = std::env::var_os("REMORA_MOTO_SERVER") else {
        return eprintln!(
            "NOT JUDGED: REMORA_MOTO_SERVER names no S3 server (moto_server of PyPI's moto[server])"
        );
    };
    let moto = Moto::start(&program);
    let bench = Bench::with(|config| config.request_timeout = Duration::from_secs(20));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    // Nothing anonymous; moto does not check the signature.
    let signed = "AWS4-HMAC-SHA256 Credential=A/20261121/eu-central-1/s3/aws4_request, SignedHeaders=host, Signature=0";
    let say = |request: reqwest::RequestBuilder| {
        let request = request.header("authorization", signed);
        bench.runtime.block_on(async { request.send().await.unwrap().bytes().await.unwrap() })
    };
    let place = "<CreateBucketConfiguration><LocationConstraint>eu-central-1</LocationConstraint></CreateBucketConfiguration>";
    say(client.put(format!("{}/captures", moto.1)).body(place));
    let target = at(&moto.1, "AKIAFAKE", "captures");
    let large = pattern(17 * 1024 * 1024);
    bench.send(put(&target, "node-7/small", bench.file("small", b"pcap")));
    bench.send(put(&target, "node-7/large", bench.file("large", &large)));
    assert_eq!(bench.drained().sent, 2);
    assert_eq!(say(client.get(target.url("node-7/small"))), "pcap");
    assert!(say(client.get(target.url("node-7/large"))) == large);
    bench.send(put(&at(&moto.1, "AKIAFAKE", "no-such-bucket"), "a", bench.file("a", b"1")));
    bench.drained();
    let dead = bench.dead();
    assert!(dead.len() == 1 && dead[0].starts_with("NoSuchBucket"), "{dead:?}");
}
