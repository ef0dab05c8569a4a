//! What the agent learns of Kubernetes, from the fake API server.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod churn;
mod events;
mod names;
mod rig;
mod trouble;
