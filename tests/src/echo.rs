//! Connections whose every byte is known: a server that answers with what it was sent, and a client that sends numbered
//! messages, each after the answer to the one before.

#![expect(clippy::expect_used, reason = "a test that cannot go on fails")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;

use crate::netns::NetNs;

/// Answers every connection with what it sent, until `connections` have been served. Gives where it listens.
///
/// # Panics
/// Where `address` cannot be listened on; its thread, where a connection breaks.
#[must_use]
pub fn echo(namespace: &NetNs, address: &str, connections: usize) -> (SocketAddr, JoinHandle<()>) {
    let listener = namespace.run(|| TcpListener::bind(address)).expect("the address is free");
    let address = listener.local_addr().expect("a listener has an address");
    let server = std::thread::spawn(move || {
        let serving: Vec<_> = (0..connections)
            .map(|_| {
                let (mut stream, _) = listener.accept().expect("a connection comes");
                std::thread::spawn(move || {
                    let mut reader = stream.try_clone().expect("one more descriptor");
                    std::io::copy(&mut reader, &mut stream).expect("the peer reads what it sent");
                })
            })
            .collect();
        for thread in serving {
            thread.join().expect("the connection was served");
        }
    });
    (address, server)
}

/// Sends the messages over one connection, each after the answer to the one before. Gives the local address and all that
/// was sent, which is also all that was received.
///
/// # Panics
/// Where the connection breaks or something else comes back.
pub fn exchange(
    namespace: &NetNs,
    server: SocketAddr,
    messages: impl Iterator<Item = Vec<u8>> + Send,
) -> (SocketAddr, Vec<u8>) {
    namespace.run(|| {
        let mut stream = TcpStream::connect(server).expect("the server listens");
        stream.set_nodelay(true).expect("a TCP socket");
        let mut sent = Vec::new();
        for message in messages {
            stream.write_all(&message).expect("the server reads");
            let mut answer = vec![0; message.len()];
            stream.read_exact(&mut answer).expect("the server answers");
            assert!(answer == message, "another answer than what was sent");
            sent.extend(message);
        }
        (stream.local_addr().expect("a connected socket has an address"), sent)
    })
}
