//! Remora's eBPF programs.
#![no_std]
