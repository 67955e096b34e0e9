//! Where the programs under test are, built once per test process.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// Names a directory with binaries to test as they are, instead of those built from the source tree.
const DIRECTORY_VARIABLE: &str = "BINARIES_UNDER_TEST";

/// Variables of the caller that must not configure a program under test.
const FOREIGN_VARIABLES: [&str; 4] = ["OTEL_", "QUORATE_", "PEER_", "PORT"];

/// The directory with the binaries: `target/<profile>` unless the variable names another.
static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();

/// The path of `quorate-server`, built with the profile of the calling program.
pub fn server() -> PathBuf {
    directory().join("quorate-server")
}

/// The path of `client-cli`, built with the profile of the calling program.
pub fn client() -> PathBuf {
    directory().join("client-cli")
}

/// A command that inherits nothing that would configure it.
pub fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if FOREIGN_VARIABLES.iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
    command
}

/// Cargo's target directory, for what a test downloads once and keeps.
pub fn target_directory() -> PathBuf {
    profile_directory().parent().expect("target/<profile> has a parent").to_path_buf()
}

/// Builds the workspace's binaries at the first call, so that no test ever drives a stale one.
fn directory() -> &'static Path {
    DIRECTORY.get_or_init(|| {
        if let Some(directory) = std::env::var_os(DIRECTORY_VARIABLE) {
            return directory.into();
        }
        let directory = profile_directory();
        let profile = directory.file_name().and_then(|name| name.to_str()).expect("a profile's name is UTF-8");
        let mut cargo = Command::new(env!("CARGO"));
        // Only the programs under test: the one that runs may be a binary of the workspace itself.
        let programs = ["--bin", "quorate-server", "--bin", "client-cli"];
        cargo.args(["build", "--workspace", "--quiet"]).args(programs).current_dir(env!("CARGO_MANIFEST_DIR"));
        cargo.arg("--target-dir").arg(directory.parent().expect("target/<profile> has a parent"));
        match profile {
            "debug" => {}
            other => {
                cargo.args(["--profile", other]);
            }
        }
        let status = cargo.status().expect("cargo can be started");
        assert!(status.success(), "`cargo build --workspace --bins` failed: {status}");
        directory
    })
}

/// `target/<profile>`, told by where the calling program lies: `target/<profile>/deps/cluster-…` or
/// `target/<profile>/bench`.
fn profile_directory() -> PathBuf {
    let program = std::env::current_exe().expect("the running program has a path");
    let mut directory = program.parent().expect("a program lies in a directory");
    if directory.ends_with("deps") {
        directory = directory.parent().expect("deps lies in a profile's directory");
    }
    directory.to_path_buf()
}
