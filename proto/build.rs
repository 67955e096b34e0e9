//! Compiles the .proto files with protox, a Protobuf compiler in Rust, so that no protoc has to be installed.

use prost::Message as _;
use std::{env, fs, path::PathBuf};

const FILES: [&str; 3] = ["kv/v1/kv_service.proto", "raft/v1/raft_service.proto", "admin/v1/admin_service.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let descriptors = protox::compile(FILES, [&root])?;
    // tonic-prost-build ignores file_descriptor_set_path when it is given compiled descriptors.
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".")
        // Half a kilobyte, beside another answer of a few bytes.
        .boxed(".raft.v1.InspectResponse.answer.report")
        .compile_fds(descriptors)?;
    for package in ["kv", "raft", "admin"] {
        println!("cargo:rerun-if-changed={}", root.join(package).display());
    }
    Ok(())
}
