//! Compiles the part of etcd's interface that the benchmark speaks, with protox as the interfaces of Quorate.

use std::{env, path::PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("benches/etcd");
    let descriptors = protox::compile(["rpc.proto"], [&folder])?;
    tonic_prost_build::configure().bytes(".").build_server(false).compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed={}", folder.display());
    Ok(())
}
