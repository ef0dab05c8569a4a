//! The HTTP API over real connections, in this process: every route, who is let in, and every bound, overflowed.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod access;
mod follow;
mod limits;
mod rig;
mod routes;
