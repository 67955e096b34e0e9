//! The image: the programs that exist, built as the workspace is, and containers of it that are updated one by one.

mod containers;
mod network;
mod rolling;

use tests::metrics::deploy;

use crate::manifest::Manifest;

#[test]
fn the_image_holds_the_binaries_that_exist() {
    let dockerfile = deploy("Dockerfile");
    for binary in ["quorate-server", "client-cli"] {
        assert!(dockerfile.contains(&format!("--bin {binary}")), "{binary}");
    }
    assert!(dockerfile.contains("ENTRYPOINT [\"/usr/local/bin/quorate-server\"]"));
    let rust = format!("rust:{}-", env!("CARGO_PKG_RUST_VERSION"));
    assert!(dockerfile.contains(&rust), "the image is built with the workspace's Rust: {rust}");
    let version = format!("org.opencontainers.image.version=\"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(dockerfile.contains(&version), "{version}");
}

#[test]
fn pods_run_the_image_of_this_version() {
    for (name, manifest) in Manifest::all() {
        let image = format!("quorate:{}", env!("CARGO_PKG_VERSION"));
        assert_eq!(manifest.container().image.as_deref(), Some(image.as_str()), "{name}");
    }
}
