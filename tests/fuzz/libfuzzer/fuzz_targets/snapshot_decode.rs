//! libFuzzer runs [`fuzz::snapshot_decode::run`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| drop(fuzz::snapshot_decode::run(input)));
