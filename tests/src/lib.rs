//! What tests and the demo share: strict fakes of Slack and of stores of data, network namespaces, a shop and a load to capture, synthetic
//! captures. Depends on nothing of Remora's own.

use std::io::Write as _;

pub mod canary;
pub mod cluster;
pub mod disk;
pub mod echo;
pub mod fakes;
pub mod helm;
pub mod judge;
pub mod load;
pub mod loss;
pub mod mangle;
pub mod netns;
pub mod nginx;
pub mod served;
pub mod shop;
pub mod slack;
pub mod synth;
pub mod tls;

/// `bytes` as one gzip member (RFC 1952).
///
/// # Errors
/// None that memory gives.
pub fn gzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes)?;
    encoder.finish()
}
