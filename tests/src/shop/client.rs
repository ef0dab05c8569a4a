//! The shop's customers: visits of a few requests, each on a connection of its own.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use super::PRODUCTS;
use crate::load::Connection;

/// Which requests to send.
#[derive(Clone, Copy, Debug)]
pub struct VisitConfig {
    /// The shop.
    pub addr: SocketAddr,
    /// Requests in all; the last visit may be cut short.
    pub requests: u32,
    /// Same seed, same requests.
    pub seed: u64,
    /// Pause between two requests.
    pub interval: Duration,
}

/// One request as the customer saw it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Visit {
    /// The customer's end of the connection.
    pub client: SocketAddr,
    /// Method and target.
    pub request: String,
    /// Status of the answer.
    pub status: u16,
}

/// Visits the shop until `requests` are sent; `each` is told of every answer as it comes.
///
/// # Errors
/// When the shop cannot be reached or answers with what is no HTTP. A 500 is no error.
pub fn visit(config: &VisitConfig, mut each: impl FnMut(&Visit)) -> Result<()> {
    let mut random = config.seed;
    let mut left = config.requests;
    let mut number = 0;
    while left > 0 {
        number += 1;
        let mut connection = Connection::open(config.addr, Duration::from_secs(10))?;
        let client = connection.local_addr()?;
        for (request, body) in plan(&mut random, number).into_iter().take(left as usize) {
            connection.send(&bytes(&request, &body, config.addr, number))?;
            let response = connection.receive(false).with_context(|| format!("answer to {request}"))?;
            each(&Visit { client, request, status: response.status });
            left -= 1;
            std::thread::sleep(config.interval);
        }
    }
    Ok(())
}

/// The requests of one visit: start line and body.
fn plan(random: &mut u64, number: u32) -> Vec<(String, String)> {
    let product = pick(random, PRODUCTS.len() as u64) + 1;
    let quantity = pick(random, 3) + 1;
    let mut steps = vec![
        ("GET /products".to_owned(), String::new()),
        (format!("GET /products/{product}"), String::new()),
        ("POST /cart".to_owned(), json!({"product": product, "quantity": quantity}).to_string()),
    ];
    if pick(random, 2) == 0 {
        steps.push(("GET /recommendations".to_owned(), String::new()));
    } else {
        steps.push((format!("GET /cart?visit={number}"), String::new()));
    }
    let order =
        json!({"order": format!("o-{number:04}"), "payment": {"method": "card", "token": "tok_4242"}});
    steps.push(("POST /checkout".to_owned(), order.to_string()));
    steps
}

fn bytes(request: &str, body: &str, host: SocketAddr, number: u32) -> Vec<u8> {
    let mut text = format!(
        "{request} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: shop-customer/1.0\r\nAccept: application/json\r\n\
         Accept-Encoding: gzip\r\nAuthorization: Bearer customer-{number:04}\r\nCookie: visitor=v{number}\r\n"
    );
    if !body.is_empty() {
        text.push_str(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    text.push_str(body);
    text.into_bytes()
}

/// A number below `bound` by splitmix64.
fn pick(state: &mut u64, bound: u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) % bound
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shop::{Options, Server};

    fn walk(seed: u64, requests: u32) -> Vec<Visit> {
        let server = Server::spawn("127.0.0.1:0".parse().unwrap(), Options::default()).unwrap();
        let mut seen = Vec::new();
        let config = VisitConfig { addr: server.addr(), requests, seed, interval: Duration::ZERO };
        visit(&config, |v| seen.push(v.clone())).unwrap();
        seen
    }

    #[test]
    fn same_seed_same_requests_and_some_fail() {
        let without_ports =
            |visits: Vec<Visit>| visits.into_iter().map(|v| (v.request, v.status)).collect::<Vec<_>>();
        let one = without_ports(walk(7, 43));
        assert_eq!(one, without_ports(walk(7, 43)));
        assert_ne!(one, without_ports(walk(8, 43)));
        assert_eq!(one.len(), 43);
        let failed: Vec<_> = one.iter().filter(|(_, status)| *status >= 400).collect();
        assert_eq!(failed.len(), 2);
        assert!(failed.iter().all(|(request, status)| request == "POST /checkout" && *status == 500));
    }

    #[test]
    fn a_visit_is_one_connection() {
        let seen = walk(1, 10);
        assert!(seen[..5].iter().all(|v| v.client == seen[0].client));
        assert!(seen[5..].iter().all(|v| v.client == seen[5].client && v.client != seen[0].client));
    }
}
