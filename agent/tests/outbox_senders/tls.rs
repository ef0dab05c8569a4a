//! Whom the outbox trusts: the system, a CA file, a fingerprint; nobody else.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use agent::outbox::{Delivery, ElasticAccess, ElasticDocument, ElasticTarget};
use agent::tls::Trust;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};

use super::Bench;

/// A server with a certificate by a CA of its own, which it sends along as Elasticsearch does.
struct Server {
    url: String,
    ca_pem: String,
    ca: String,
    leaf: String,
}

fn start(name: &str) -> Server {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(params, ca_key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let fingerprint = |der: &CertificateDer<'_>| {
        Sha256::digest(der).iter().map(|b| format!("{b:02X}")).collect::<Vec<_>>().join(":")
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone(), ca.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let config = Arc::new(config);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(stream), config) = (stream, Arc::clone(&config)) else { return };
            std::thread::spawn(move || {
                let connection = rustls::ServerConnection::new(config).unwrap();
                let mut stream = rustls::StreamOwned::new(connection, stream);
                let mut asked = Vec::new();
                let mut buffer = [0; 4096];
                // The body ends in a line end, and so do heads; an action and its document make four lines and more.
                while let Ok(n @ 1..) = stream.read(&mut buffer) {
                    asked.extend_from_slice(&buffer[..n]);
                    let text = String::from_utf8_lossy(&asked).into_owned();
                    let Some((_, body)) = text.split_once("\r\n\r\n") else { continue };
                    let Some(action) = body.lines().next().filter(|_| body.matches('\n').count() >= 2) else {
                        continue;
                    };
                    let id = action.split("\"_id\":\"").nth(1).unwrap().split('"').next().unwrap();
                    let answer = format!(
                        "{{\"errors\":false,\"items\":[{{\"create\":{{\"_id\":\"{id}\",\"status\":201}}}}]}}"
                    );
                    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", answer.len());
                    let _ = stream.write_all(format!("{head}{answer}").as_bytes());
                    asked.clear();
                }
            });
        }
    });
    Server { url, ca_pem: ca.pem(), ca: fingerprint(ca.der()), leaf: fingerprint(leaf.der()) }
}

/// Whether a document arrives; if not, why.
fn deliver(server: &Server, trust: Trust, fingerprint: &str) -> Result<(), String> {
    let bench = Bench::with(|config| {
        config.trust = trust;
        config.retry.deadline = Duration::from_millis(300);
    });
    let (url, fingerprint) = (server.url.clone(), fingerprint.to_owned());
    let target = ElasticTarget::new(&ElasticAccess { url, fingerprint, ..ElasticAccess::default() }).unwrap();
    bench.send(Delivery::Elastic { target, document: ElasticDocument::new("remora", "{}").unwrap() });
    let stats = bench.drained();
    bench.dead().pop().map_or(Ok(()), Err).inspect(|()| assert_eq!(stats.sent, 1))
}

#[test]
fn a_private_authority_is_trusted_by_its_file_only() {
    let server = start("127.0.0.1");
    let error = deliver(&server, Trust::default(), "").unwrap_err();
    assert!(error.contains("invalid peer certificate") && error.contains("--ca-file"), "{error}");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &server.ca_pem).unwrap();
    let trust = Trust::with_file(file.path()).unwrap();
    deliver(&server, trust.clone(), "").unwrap();
    let other = start("127.0.0.1");
    assert!(deliver(&other, trust, "").is_err(), "another authority");
    let misnamed = start("elsewhere.example");
    std::fs::write(file.path(), &misnamed.ca_pem).unwrap();
    assert!(deliver(&misnamed, Trust::with_file(file.path()).unwrap(), "").is_err(), "another name");
}

#[test]
fn a_fingerprint_is_trusted_instead_of_the_system() {
    let server = start("127.0.0.1");
    deliver(&server, Trust::default(), &server.ca).unwrap();
    deliver(&server, Trust::default(), &server.leaf.replace(':', "").to_lowercase()).unwrap();
    let other = start("127.0.0.1");
    assert!(deliver(&server, Trust::default(), &other.ca).is_err());
    let misnamed = start("elsewhere.example");
    deliver(&misnamed, Trust::default(), &misnamed.leaf).unwrap();
    assert!(
        deliver(&misnamed, Trust::default(), &misnamed.ca).is_err(),
        "its authority vouches for another name"
    );
}
