//! HTTP/1.x cut anywhere gives the same items.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: remora_fuzz::caught_panics_are_no_findings(),
    |data: &[u8]| remora_fuzz::dissecting::run(data)
);
