//! A blocking HTTP/1.1 client (RFC 9112) that reads exactly one response at a time.
//!
//! It is small on purpose: what it sends is the caller's bytes, so that a test knows what is on the wire.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// Longest response head, in bytes.
pub const MAX_HEAD: usize = 64 * 1024;
/// Longest response body, in bytes, after transfer decoding.
pub const MAX_BODY: usize = 64 * 1024 * 1024;
const MAX_HEADERS: usize = 100;

/// A response.
#[derive(Clone, Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Header names (as sent) and values.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Body after transfer decoding, before content decoding.
    pub body: Vec<u8>,
}

impl Response {
    /// Value of the first header of that name, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value).ok()
    }
}

/// A connection to a server.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    /// Bytes read but not used yet.
    buffer: Vec<u8>,
}

impl Connection {
    /// Opens a connection; `timeout` bounds connecting and every later read and write.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub fn open(addr: SocketAddr, timeout: Duration) -> Result<Self> {
        let stream =
            TcpStream::connect_timeout(&addr, timeout).with_context(|| format!("connecting to {addr}"))?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// This end's address.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> Result<SocketAddr> {
        Ok(self.stream.local_addr()?)
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the connection is gone or the time is over.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Reads the next final response; interim (1xx) ones are passed over. `head`: the request was a HEAD.
    ///
    /// # Errors
    /// When the connection ends first, the time is over, a limit is passed, or it is not HTTP/1.
    pub fn receive(&mut self, head: bool) -> Result<Response> {
        loop {
            let mut response = self.read_head()?;
            if (100..200).contains(&response.status) && response.status != 101 {
                continue;
            }
            if !head && !matches!(response.status, 101 | 204 | 304) {
                response.body = self.read_body(&response)?;
            }
            return Ok(response);
        }
    }

    fn fill(&mut self) -> Result<usize> {
        let mut chunk = [0; 16 * 1024];
        let n = self.stream.read(&mut chunk).context("reading")?;
        self.buffer.extend_from_slice(&chunk[..n]);
        Ok(n)
    }

    fn need(&mut self, bytes: usize) -> Result<()> {
        while self.buffer.len() < bytes {
            ensure!(self.fill()? > 0, "the connection ended {} bytes early", bytes - self.buffer.len());
        }
        Ok(())
    }

    fn take(&mut self, bytes: usize) -> Result<Vec<u8>> {
        self.need(bytes)?;
        let rest = self.buffer.split_off(bytes);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    fn read_head(&mut self) -> Result<Response> {
        loop {
            let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
            let mut parser = httparse::Response::new(&mut headers);
            if let httparse::Status::Complete(length) = parser.parse(&self.buffer).context("response head")? {
                let headers = parser.headers.iter().map(|h| (h.name.to_owned(), h.value.to_vec())).collect();
                let status = parser.code.context("no status")?;
                self.buffer.drain(..length);
                return Ok(Response { status, headers, body: Vec::new() });
            }
            ensure!(self.buffer.len() < MAX_HEAD, "response head longer than {MAX_HEAD} bytes");
            ensure!(self.fill()? > 0, "the connection ended before the response");
        }
    }

    fn read_body(&mut self, response: &Response) -> Result<Vec<u8>> {
        if response.header("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
            return self.read_chunks();
        }
        if let Some(length) = response.header("content-length") {
            let length: usize =
                length.trim().parse().with_context(|| format!("Content-Length {length:?}"))?;
            ensure!(length <= MAX_BODY, "body of {length} bytes, more than {MAX_BODY}");
            return self.take(length);
        }
        while self.fill()? > 0 {
            ensure!(self.buffer.len() <= MAX_BODY, "body longer than {MAX_BODY} bytes");
        }
        Ok(std::mem::take(&mut self.buffer))
    }

    fn read_chunks(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.read_line()?;
            let digits = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(digits, 16).with_context(|| format!("chunk size {digits:?}"))?;
            ensure!(size <= MAX_BODY - body.len(), "body longer than {MAX_BODY} bytes");
            if size == 0 {
                while !self.read_line()?.is_empty() {}
                return Ok(body);
            }
            body.extend_from_slice(&self.take(size)?);
            if self.take(2)? != b"\r\n" {
                bail!("a chunk of {size} bytes is not followed by CRLF");
            }
        }
    }

    fn read_line(&mut self) -> Result<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|w| w == b"\r\n") {
                let line = self.take(end + 2)?;
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            ensure!(self.buffer.len() < MAX_HEAD, "a line longer than {MAX_HEAD} bytes");
            ensure!(self.fill()? > 0, "the connection ended inside a chunked body");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A connection to a server that answers anything with `bytes`, cut into pieces of `step`.
    fn answering(bytes: &'static [u8], step: usize) -> Connection {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_nodelay(true).unwrap();
            for piece in bytes.chunks(step) {
                if stream.write_all(piece).is_err() {
                    return;
                }
            }
        });
        Connection::open(addr, Duration::from_secs(5)).unwrap()
    }

    #[test]
    fn responses_follow_each_other_whatever_their_framing() {
        let bytes = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc\
            HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nde\r\n1\r\nf\r\n0\r\nTrailer: 1\r\n\r\n\
            HTTP/1.1 204 No Content\r\n\r\nHTTP/1.0 500 Oops\r\n\r\nto the end";
        for step in [1, 7, 10_000] {
            let mut connection = answering(bytes, step);
            let got: Vec<_> = (0..4).map(|_| connection.receive(false).unwrap()).collect();
            let got: Vec<_> = got.iter().map(|r| (r.status, r.body.as_slice())).collect();
            let expected: [(u16, &[u8]); 4] =
                [(200, b"abc"), (200, b"def"), (204, b""), (500, b"to the end")];
            assert_eq!(got, expected);
        }
    }

    #[test]
    fn what_is_not_whole_or_too_long_is_an_error() {
        let cases: [(&[u8], &str); 5] = [
            (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", "6 bytes early"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", "more than"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "chunk size"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", "not followed by CRLF"),
            (b"", "ended before the response"),
        ];
        for (bytes, expected) in cases {
            let error = format!("{:#}", answering(bytes, 10_000).receive(false).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
        let long: &'static [u8] = format!("HTTP/1.1 200 OK\r\nX: {}", "y".repeat(MAX_HEAD)).leak().as_bytes();
        let error = format!("{:#}", answering(long, 10_000).receive(false).unwrap_err());
        assert!(error.contains("head longer than"), "{error}");
    }
}
