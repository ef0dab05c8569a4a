//! Capture files.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: remora_fuzz::caught_panics_are_no_findings(),
    |data: &[u8]| remora_fuzz::files::run(data)
);
