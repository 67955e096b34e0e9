//! libFuzzer runs [`fuzz::peer_rpc::run`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| drop(fuzz::peer_rpc::run(input)));
