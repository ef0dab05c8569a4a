//! The `repr(C)` records that cross from the eBPF programs to user space.
#![no_std]
