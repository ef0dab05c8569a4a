//! HTTP conversations whose packets are dropped, doubled, moved and split.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: remora_fuzz::caught_panics_are_no_findings(),
    |data: &[u8]| remora_fuzz::conversation::run(data)
);
