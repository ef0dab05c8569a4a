//! Nothing: the programs are the binary target, which agent's build script compiles for the BPF target.
//!
//! This library is there for cargo to depend on, so that a change here rebuilds the agent.
#![no_std]
