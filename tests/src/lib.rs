//! What tests and the demo share.

pub mod load;
pub mod shop;
pub mod slack;
