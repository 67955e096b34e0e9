//! libFuzzer runs [`fuzz::client_rpc::run`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| drop(fuzz::client_rpc::run(input)));
