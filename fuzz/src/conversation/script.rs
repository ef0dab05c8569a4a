//! What is said: requests and their responses, as turns of bytes.

use arbitrary::Unstructured;

/// One request and its response.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    /// From 1 000, 2 000, … for the connections.
    pub(super) number: u64,
    method: Method,
    request: Framing,
    request_size: usize,
    response: Framing,
    response_size: usize,
    /// A 1xx comes before the response.
    interim: bool,
    /// The next request does not wait for this response.
    pipelined: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Method {
    Get,
    Head,
    Post,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Framing {
    Length,
    Chunked,
    /// A 204 or 304, which has no body.
    None,
}

/// How a connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Close {
    /// FIN, by the client first.
    Client,
    /// FIN, by the server first.
    Server,
    /// RST.
    Reset,
    /// The capture ends before.
    Open,
}

/// One connection's conversation.
#[derive(Clone, Debug)]
pub(super) struct Script {
    pub(super) connection: u8,
    pub(super) isn: [u32; 2],
    pub(super) exchanges: Vec<Exchange>,
    pub(super) close: Close,
    /// The last body ends with the connection.
    until_close: bool,
}

impl Script {
    pub(super) fn read(u: &mut Unstructured<'_>, connection: u8) -> Self {
        let flags: u8 = u.arbitrary().unwrap_or(0);
        let isn = u.arbitrary().unwrap_or_default();
        let close = match flags & 3 {
            0 => Close::Client,
            1 => Close::Server,
            2 => Close::Reset,
            _ => Close::Open,
        };
        let count = 1 + u64::from(flags >> 2 & 7);
        let first = 1_000 * (u64::from(connection) + 1);
        let exchanges: Vec<_> = (first..first + count).map(|number| Exchange::read(u, number)).collect();
        let fin = matches!(close, Close::Client | Close::Server);
        Self { connection, isn, exchanges, close, until_close: flags & 0x80 != 0 && fin }
    }

    pub(super) fn exchange(&self, number: u64) -> Option<&Exchange> {
        self.exchanges.iter().find(|e| e.number == number)
    }

    /// Who speaks (0: the client), and what.
    pub(super) fn turns(&self) -> Vec<(usize, Vec<u8>)> {
        let mut turns = Vec::new();
        let (mut asked, mut answers) = (Vec::new(), Vec::new());
        for (i, exchange) in self.exchanges.iter().enumerate() {
            let last = i + 1 == self.exchanges.len();
            asked.extend(exchange.request());
            answers.extend(exchange.response(last && self.until_close));
            if last || !exchange.pipelined {
                turns.push((0, std::mem::take(&mut asked)));
                turns.push((1, std::mem::take(&mut answers)));
            }
        }
        turns
    }
}

impl Exchange {
    fn read(u: &mut Unstructured<'_>, number: u64) -> Self {
        let kind: u8 = u.arbitrary().unwrap_or(0);
        let more: u8 = u.arbitrary().unwrap_or(0);
        let sizes: [u16; 2] = u.arbitrary().unwrap_or_default();
        let framing = |bits: u8| if bits & 1 == 0 { Framing::Length } else { Framing::Chunked };
        Self {
            number,
            method: match kind & 3 {
                0 | 1 => Method::Get,
                2 => Method::Post,
                _ => Method::Head,
            },
            request: framing(kind >> 2),
            request_size: usize::from(sizes[0] % 800),
            response: if kind >> 3 & 3 == 3 { Framing::None } else { framing(kind >> 3) },
            response_size: usize::from(sizes[1] % 1_600),
            interim: kind & 0x20 != 0,
            pipelined: more & 3 == 1,
        }
    }

    pub(super) fn connection(&self) -> u8 {
        (self.number / 1_000 - 1) as u8
    }

    pub(super) fn is_head(&self) -> bool {
        self.method == Method::Head
    }

    pub(super) fn request_body(&self) -> Vec<u8> {
        if self.method == Method::Post { self.body(self.request_size, 'q') } else { Vec::new() }
    }

    pub(super) fn response_body(&self) -> Vec<u8> {
        let none = self.response == Framing::None || self.method == Method::Head;
        if none { Vec::new() } else { self.body(self.response_size, 'a') }
    }

    /// Lines that tell whose they are, and that could not begin a message.
    fn body(&self, size: usize, side: char) -> Vec<u8> {
        let line = format!("{side}{} ", self.number);
        line.into_bytes().into_iter().cycle().take(size).collect()
    }

    fn request(&self) -> Vec<u8> {
        let number = self.number;
        let (method, framing) = match self.method {
            Method::Get => ("GET", Framing::None),
            Method::Head => ("HEAD", Framing::None),
            Method::Post => ("POST", self.request),
        };
        let mut bytes =
            format!("{method} /{number} HTTP/1.1\r\nHost: shop\r\nX-Id: {number}\r\n").into_bytes();
        framed(&mut bytes, framing, &self.request_body());
        bytes
    }

    fn response(&self, until_close: bool) -> Vec<u8> {
        let number = self.number;
        let mut bytes = Vec::new();
        if self.interim {
            bytes.extend(format!("HTTP/1.1 103 Early Hints\r\nX-Id: {number}\r\n\r\n").into_bytes());
        }
        let status = if self.response == Framing::None { "204 No Content" } else { "200 OK" };
        bytes.extend(format!("HTTP/1.1 {status}\r\nX-Id: {number}\r\n").into_bytes());
        let body = self.response_body();
        if self.method == Method::Head {
            let length = format!("Content-Length: {}\r\n\r\n", self.response_size);
            bytes.extend(if self.response == Framing::None { "\r\n" } else { &length }.bytes());
        } else if until_close && self.response != Framing::None {
            bytes.extend(b"Connection: close\r\n\r\n");
            bytes.extend(body);
        } else {
            framed(&mut bytes, self.response, &body);
        }
        bytes
    }
}

fn framed(bytes: &mut Vec<u8>, framing: Framing, body: &[u8]) {
    match framing {
        Framing::None => bytes.extend(b"\r\n"),
        Framing::Length => {
            bytes.extend(format!("Content-Length: {}\r\n\r\n", body.len()).into_bytes());
            bytes.extend(body);
        }
        Framing::Chunked => {
            bytes.extend(b"Transfer-Encoding: chunked\r\n\r\n");
            for piece in body.chunks(700) {
                bytes.extend(format!("{:x}\r\n", piece.len()).into_bytes());
                bytes.extend(piece);
                bytes.extend(b"\r\n");
            }
            bytes.extend(b"0\r\n\r\n");
        }
    }
}
