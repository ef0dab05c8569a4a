//! Mangles a capture: `testkit::mangle` as a program.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Parser;
use testkit::mangle::{Capture, Mangle};

/// Makes another capture of one, as a bad network would have had it. Same options, same result.
#[derive(Parser)]
#[command(after_help = "Example:\n  mangle in.pcap out.pcap --drop 0.05 --seed 7")]
struct Cli {
    /// Classic pcap.
    input: PathBuf,
    /// Written as pcap with nanoseconds.
    output: PathBuf,
    /// Same seed, same damage.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Split TCP payloads into segments of at most so many bytes.
    #[arg(long)]
    split: Option<usize>,
    /// With --split: probability that a segment repeats up to 8 bytes of the one before it.
    #[arg(long, default_value_t = 0.0)]
    overlap: f64,
    /// Probability that a data segment comes twice.
    #[arg(long, default_value_t = 0.0)]
    duplicate: f64,
    /// Probability that a packet comes later.
    #[arg(long, default_value_t = 0.0)]
    reorder: f64,
    /// Farthest that a packet or copy is moved, in packets.
    #[arg(long, default_value_t = 3)]
    window: u32,
    /// Probability that a packet is not there.
    #[arg(long, default_value_t = 0.0)]
    drop: f64,
    /// Cut packets to so many bytes.
    #[arg(long)]
    snap: Option<usize>,
}

fn main() -> Result<()> {
    let Cli { input, output, seed, split, overlap, duplicate, reorder, window, drop, snap } = Cli::parse();
    let chances = [overlap, duplicate, reorder, drop];
    ensure!(chances.iter().all(|p| (0.0..=1.0).contains(p)), "a probability is from 0 to 1");
    let mangle = Mangle { seed, split, overlap, duplicate, reorder, window, drop, snap };
    mangle.apply(&Capture::read(&input)?).save(&output)
}
