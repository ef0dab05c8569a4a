//! What tests and the demo share.

pub mod load;
pub mod nginx;
pub mod shop;
pub mod slack;
pub mod synth;
