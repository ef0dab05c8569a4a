//! What tests and the demo share.

pub mod netns;
