//! `cargo xtask bench …`: measures, as ratios within one run where there is something to compare with.

mod store;

use anyhow::Result;
use clap::{Args, Subcommand};

/// What is measured.
#[derive(Args, Debug)]
pub(crate) struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// The PCAP store: writing against `tcpdump -w`, a stream's file out of a large store, memory of the index.
    Store(store::Store),
}

/// The command.
pub(crate) fn run(options: &Bench) -> Result<()> {
    match &options.what {
        What::Store(options) => store::run(options),
    }
}
