//! The shop's API, on axum.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::PRODUCTS;

/// Most carts at once; a further customer gets a 503.
pub const MAX_CARTS: usize = 1024;
/// Most lines in a cart; a further one gets a 409.
pub const MAX_LINES: usize = 50;

/// How the shop behaves.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Every so many checkouts one fails with a 500; 0: none does.
    pub fail_every: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { fail_every: 3 }
    }
}

/// A shop that is open until it is dropped.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Opens a shop on `addr` (port 0: any) on a thread of its own, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub fn spawn(addr: SocketAddr, options: Options) -> Result<Self> {
        let listener = std::net::TcpListener::bind(addr).with_context(|| format!("listening on {addr}"))?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("shop".to_owned()).spawn(move || {
            runtime.block_on(async {
                let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
                tokio::select! {
                    _ = axum::serve(listener, router(options)) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { addr, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Waits until the shop ends, which it does not by itself.
    pub fn wait(mut self) {
        if let Some(thread) = self.thread.take() {
            // A panic in the server has been printed by the panic hook already.
            let _ = thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Shop {
    options: Options,
    state: Mutex<ShopState>,
}

#[derive(Default)]
struct ShopState {
    carts: HashMap<String, Vec<Value>>,
    checkouts: u64,
    orders: u64,
}

impl Shop {
    fn state(&self) -> std::sync::MutexGuard<'_, ShopState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type App = State<Arc<Shop>>;

fn router(options: Options) -> Router {
    let shop = Arc::new(Shop { options, state: Mutex::default() });
    Router::new()
        .route("/health", get(|| async { "ok\n" }))
        .route("/products", get(products))
        .route("/products/{id}", get(product))
        .route("/recommendations", get(recommendations))
        .route("/cart", get(cart).post(add_to_cart))
        .route("/checkout", axum::routing::post(checkout))
        .route("/echo/{id}", get(echo).post(echo))
        .fallback(|| async { answer(StatusCode::NOT_FOUND, &json!({"error": "no such page"})) })
        .layer(axum::middleware::map_response(|mut response: Response| async {
            response.headers_mut().insert(header::SERVER, HeaderValue::from_static("shop/1.0"));
            response
        }))
        .with_state(shop)
}

fn answer(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

fn price(cents: u32) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

fn describe(index: usize) -> Option<Value> {
    let (name, cents) = PRODUCTS.get(index)?;
    Some(
        json!({"id": index + 1, "name": name, "price": price(*cents), "currency": "EUR", "stock": 7 + index * 3}),
    )
}

async fn products(headers: HeaderMap) -> Response {
    let list: Vec<_> = (0..PRODUCTS.len()).filter_map(describe).collect();
    let body = json!({"products": list, "total": list.len()});
    let wants_gzip = headers
        .get(header::ACCEPT_ENCODING)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.contains("gzip"));
    if !wants_gzip {
        return answer(StatusCode::OK, &body);
    }
    let Ok(packed) = crate::gzip(body.to_string().as_bytes()) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CONTENT_ENCODING, "gzip")];
    (headers, packed).into_response()
}

async fn product(Path(id): Path<usize>) -> Response {
    match id.checked_sub(1).and_then(describe) {
        Some(product) => answer(StatusCode::OK, &product),
        None => answer(StatusCode::NOT_FOUND, &json!({"error": "no such product", "id": id})),
    }
}

async fn recommendations() -> Response {
    let lines: Vec<_> =
        [3, 7, 9].into_iter().filter_map(describe).map(|p| Ok::<_, Infallible>(format!("{p}\n"))).collect();
    // A body whose length is not told beforehand: hyper sends it as chunks, one for each line.
    let body = Body::from_stream(futures_util::stream::iter(lines));
    ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

fn customer(headers: &HeaderMap) -> String {
    let cookie = headers.get(header::COOKIE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    cookie.split(';').find_map(|c| c.trim().strip_prefix("visitor=")).unwrap_or("anonymous").to_owned()
}

async fn cart(State(shop): App, headers: HeaderMap) -> Response {
    let lines = shop.state().carts.get(&customer(&headers)).cloned().unwrap_or_default();
    answer(StatusCode::OK, &json!({"lines": lines}))
}

async fn add_to_cart(State(shop): App, headers: HeaderMap, body: Bytes) -> Response {
    let line: Option<Value> = serde_json::from_slice(&body).ok();
    let Some(line) = line.filter(|l| l["product"].is_u64() && l["quantity"].is_u64()) else {
        return answer(StatusCode::BAD_REQUEST, &json!({"error": "product and quantity are needed"}));
    };
    let mut state = shop.state();
    let customer = customer(&headers);
    if state.carts.len() >= MAX_CARTS && !state.carts.contains_key(&customer) {
        return answer(StatusCode::SERVICE_UNAVAILABLE, &json!({"error": "too many customers"}));
    }
    let lines = state.carts.entry(customer).or_default();
    if lines.len() >= MAX_LINES {
        return answer(StatusCode::CONFLICT, &json!({"error": "the cart is full"}));
    }
    lines.push(line);
    answer(StatusCode::CREATED, &json!({"lines": lines.len()}))
}

async fn checkout(State(shop): App, headers: HeaderMap, body: Bytes) -> Response {
    let order: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut state = shop.state();
    state.checkouts += 1;
    let number = state.checkouts;
    if shop.options.fail_every != 0 && number.is_multiple_of(shop.options.fail_every) {
        let message = "payment gateway timed out after 2 attempts: connect to payments:8443";
        let error = json!({"error": "payment_gateway_timeout", "message": message,
            "order": order["order"], "retryable": true});
        return answer(StatusCode::INTERNAL_SERVER_ERROR, &error);
    }
    let Some(lines) = state.carts.remove(&customer(&headers)) else {
        return answer(StatusCode::CONFLICT, &json!({"error": "the cart is empty"}));
    };
    state.orders += 1;
    answer(
        StatusCode::CREATED,
        &json!({"order": order["order"], "receipt": state.orders, "lines": lines.len()}),
    )
}

async fn echo(Path(id): Path<u64>, body: Bytes) -> String {
    format!("id={id} bytes={}\n", body.len())
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::time::Duration;

    use super::*;
    use crate::load::Connection;

    fn shop(fail_every: u64) -> (Server, Connection) {
        let server = Server::spawn("127.0.0.1:0".parse().unwrap(), Options { fail_every }).unwrap();
        let connection = Connection::open(server.addr(), Duration::from_secs(5)).unwrap();
        (server, connection)
    }

    fn ask(connection: &mut Connection, request: &str, cookie: &str, body: &str) -> crate::load::Response {
        let length = body.len();
        let head = format!(
            "{request} HTTP/1.1\r\nHost: shop\r\nAccept-Encoding: gzip\r\nCookie: visitor={cookie}\r\n"
        );
        connection.send(format!("{head}Content-Length: {length}\r\n\r\n{body}").as_bytes()).unwrap();
        connection.receive(false).unwrap()
    }

    #[test]
    fn products_are_compressed_and_recommendations_chunked() {
        let (_server, mut connection) = shop(0);
        let response = ask(&mut connection, "GET /products", "a", "");
        assert_eq!(response.header("content-encoding"), Some("gzip"));
        let mut text = String::new();
        flate2::read::GzDecoder::new(response.body.as_slice()).read_to_string(&mut text).unwrap();
        let list: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(list["total"], PRODUCTS.len());
        let response = ask(&mut connection, "GET /recommendations", "a", "");
        assert_eq!(response.header("transfer-encoding"), Some("chunked"));
        assert_eq!(response.body.iter().filter(|b| **b == b'\n').count(), 3);
        assert_eq!(ask(&mut connection, "GET /products/99", "a", "").status, 404);
        assert_eq!(ask(&mut connection, "GET /nowhere", "a", "").status, 404);
    }

    #[test]
    fn every_nth_checkout_fails() {
        let (_server, mut connection) = shop(3);
        let mut statuses = Vec::new();
        for n in 0..6 {
            let cookie = format!("v{n}");
            let line = r#"{"product":3,"quantity":1}"#;
            assert_eq!(ask(&mut connection, "POST /cart", &cookie, line).status, 201);
            let response = ask(&mut connection, "POST /checkout", &cookie, r#"{"order":"o-1"}"#);
            statuses.push(response.status);
            if response.status == 500 {
                let error: Value = serde_json::from_slice(&response.body).unwrap();
                assert_eq!(
                    (&error["error"], &error["order"]),
                    (&json!("payment_gateway_timeout"), &json!("o-1"))
                );
            }
        }
        assert_eq!(statuses, [201, 201, 500, 201, 201, 500]);
    }

    #[test]
    fn carts_are_bounded() {
        let (_server, mut connection) = shop(0);
        let line = r#"{"product":1,"quantity":2}"#;
        for _ in 0..MAX_LINES {
            assert_eq!(ask(&mut connection, "POST /cart", "v", line).status, 201);
        }
        assert_eq!(ask(&mut connection, "POST /cart", "v", line).status, 409);
        for n in 1..MAX_CARTS {
            assert_eq!(ask(&mut connection, "POST /cart", &format!("n{n}"), line).status, 201);
        }
        assert_eq!(ask(&mut connection, "POST /cart", "one-too-many", line).status, 503);
        assert_eq!(ask(&mut connection, "POST /cart", "n1", "{}").status, 400);
    }
}
