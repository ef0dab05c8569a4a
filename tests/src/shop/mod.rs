//! A small web shop to capture: a JSON API over HTTP/1.1 and a customer for it.
//!
//! ```text
//! customer: GET /products (gzip) → GET /products/ID → GET /recommendations (chunked) → POST /cart → POST /checkout
//! ```
//! One connection a visit, kept alive. Every n-th checkout fails with a 500, as when the payment gateway does not
//! answer. Same seed, same requests: what is on the wire is known beforehand, times and ports aside.

mod client;
mod server;

pub use client::{Visit, VisitConfig, visit};
pub use server::{MAX_CARTS, MAX_LINES, Options, Server};

/// What the shop sells: name and price in cents. A product's number is its place, counted from 1.
pub const PRODUCTS: &[(&str, u32)] = &[
    ("Enamel mug", 1290),
    ("Wool blanket", 5900),
    ("Oak cutting board", 3450),
    ("Brass desk lamp", 8900),
    ("Linen apron", 2800),
    ("Cast-iron pan", 4990),
    ("Beeswax candle", 950),
    ("Stoneware bowl", 1850),
    ("Canvas rucksack", 7400),
    ("Bicycle bell", 1590),
    ("Olive-wood spoon", 890),
    ("Recycled notebook", 690),
];
