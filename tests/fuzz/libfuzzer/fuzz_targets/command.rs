//! libFuzzer runs [`fuzz::command::run`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| drop(fuzz::command::run(input)));
