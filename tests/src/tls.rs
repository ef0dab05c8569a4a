//! A certificate authority of a test's own, a server by TLS, and a proxy that tunnels to it (`CONNECT`).

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;

/// Longest head that is read, in bytes.
const MOST: u64 = 64 << 10;

/// What was asked, head and body, each as it came.
type Asked = Arc<Mutex<Vec<String>>>;

fn all(asked: &Asked) -> Vec<String> {
    asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// A server that answers every request by 200 and a body. It serves until the process ends.
#[derive(Debug)]
pub struct TlsServer {
    address: SocketAddr,
    ca: String,
    asked: Asked,
}

impl TlsServer {
    /// On the loopback, with a certificate for `names` by an authority of its own.
    ///
    /// # Errors
    /// When a certificate or port cannot be had.
    pub fn start(names: &[&str], answer: &'static str) -> Result<Self> {
        let (config, ca) = config(names)?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (address, asked) = (listener.local_addr()?, Asked::default());
        let notes = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, notes) = (Arc::clone(&config), Arc::clone(&notes));
                // One that fails is the client's to complain about.
                std::thread::spawn(move || serve(config, stream, &notes, answer));
            }
        });
        Ok(Self { address, ca, asked })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its authority's certificate, as PEM.
    #[must_use]
    pub fn ca(&self) -> &str {
        &self.ca
    }

    /// Every request so far.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        all(&self.asked)
    }
}

fn config(names: &[&str]) -> Result<(Arc<ServerConfig>, String)> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate()?;
    let ca = params.self_signed(&ca_key)?;
    let issuer = Issuer::new(params, ca_key);
    let key = KeyPair::generate()?;
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let leaf = CertificateParams::new(names)?.signed_by(&key, &issuer)?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)?;
    Ok((Arc::new(config), ca.pem()))
}

fn serve(config: Arc<ServerConfig>, stream: TcpStream, asked: &Asked, answer: &str) -> Result<()> {
    let mut stream = BufReader::new(rustls::StreamOwned::new(rustls::ServerConnection::new(config)?, stream));
    while let Some((head, length)) = head(&mut stream)? {
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        let whole = head + &String::from_utf8_lossy(&body);
        asked.lock().unwrap_or_else(PoisonError::into_inner).push(whole);
        let length = answer.len();
        write!(stream.get_mut(), "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{answer}")?;
    }
    Ok(())
}

/// A request's head, and how long its body is; `None` at the end.
fn head(stream: &mut impl io::BufRead) -> io::Result<Option<(String, usize)>> {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let before = head.len();
        if stream.take(MOST).read_line(&mut head)? == 0 {
            return Ok(None);
        }
        let line = head[before..].trim_end();
        if line.is_empty() {
            return Ok(Some((head, length)));
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
    }
}

/// A proxy that takes `CONNECT` only, and leads every tunnel to one server, whatever its name. It serves until the process ends.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    asked: Asked,
}

impl Proxy {
    /// On the loopback. Without a place to lead to it refuses every tunnel, as one that wants a password.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn start(to: Option<SocketAddr>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("a port")?;
        let (address, asked) = (listener.local_addr()?, Asked::default());
        let notes = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let notes = Arc::clone(&notes);
                std::thread::spawn(move || tunnel(stream, to, &notes));
            }
        });
        Ok(Self { address, asked })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every request so far.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        all(&self.asked)
    }
}

fn tunnel(mut client: TcpStream, to: Option<SocketAddr>, asked: &Asked) -> io::Result<()> {
    // Nothing follows a CONNECT before it is answered.
    let Some((head, _)) = head(&mut BufReader::new(client.try_clone()?))? else { return Ok(()) };
    let is_connect = head.starts_with("CONNECT ");
    asked.lock().unwrap_or_else(PoisonError::into_inner).push(head);
    let Some(to) = to.filter(|_| is_connect) else {
        let refusal = "HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic\r\ncontent-length: 0\r\n\r\n";
        return client.write_all(refusal.as_bytes());
    };
    let mut server = TcpStream::connect(to)?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    let (mut from_server, mut to_client) = (server.try_clone()?, client.try_clone()?);
    let back = std::thread::spawn(move || {
        let _ = io::copy(&mut from_server, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Both);
    });
    let _ = io::copy(&mut client, &mut server);
    let _ = server.shutdown(Shutdown::Both);
    let _ = back.join();
    Ok(())
}
