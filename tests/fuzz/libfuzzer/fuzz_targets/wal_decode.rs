//! libFuzzer runs [`fuzz::wal_decode::run`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| drop(fuzz::wal_decode::run(input)));
