//! libFuzzer runs [`fuzz::peer_message::run`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| drop(fuzz::peer_message::run(input)));
