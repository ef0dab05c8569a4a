//! What is left of a capture when packets of it are missing, and whether it is still true.
//!
//! Every request asks for a target of its own, and its response repeats that target, so that a response which is shown
//! with another's request cannot hide. A capture of many such transactions is made ([`make`], or synthetic), packets are
//! removed at random, `remora replay` reads the rest, and [`Verdict`] says what became of each transaction. The program
//! is a process like any other here: this knows its command line and its JSON, nothing of its insides.

mod ids;
mod make;
mod trial;
mod verdict;

pub use ids::{Ids, Places};
pub use make::{Shape, make, synthetic};
pub use trial::{Baseline, Trial};
pub use verdict::{Streams, Verdict};
