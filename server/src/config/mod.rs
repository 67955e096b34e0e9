//! How a node is configured: flags, then the environment, then a TOML file, then defaults.
//!
//! | source | example | wins over |
//! |---|---|---|
//! | flag | `--data-dir /data` | all below |
//! | variable | `QUORATE_DATA_DIR=/data` | all below |
//! | discovery variable | `PORT=7001`, `PEER_N2_HOST=n2.local`, `PEER_N2_PORT=7001` | all below |
//! | file of `--config` or `QUORATE_CONFIG` | `data_dir = "/data"` | the defaults |
//!
//! An empty variable counts as not set. Unknown keys in the file and unknown `QUORATE_` variables are errors, so that a
//! slip of the keyboard is not a silent default; the variables of Quorate's other programs, and those that Kubernetes
//! makes of a service's name, are let be.
//!
//! **The discovery contract**, for places where somebody else hands out addresses. `PORT` alone is the address
//! `0.0.0.0:PORT` to listen on. Each peer has `PEER_<NAME>_HOST` and `PEER_<NAME>_PORT`, where `<NAME>` is its name in
//! upper case with `-` as `_`; one without the other is an error. Where a flag or a `QUORATE_` variable gives the
//! address to listen on, or the members, the contract's variables for it are not looked at. An entry for the node
//! itself is optional. If no source gives the node's name, it is the entry of the host name; else the one entry that is
//! this machine's loopback with our own port; else the host name.
//!
//! Loading is a pure function of the flags, the environment and a way to read files, so that all of this is tested
//! without a process.

mod discovery;
mod error;
mod key;
mod parse;
mod sources;
mod validate;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub use self::error::ConfigError;
pub use self::key::{Key, Origin};
use self::sources::Sources;
use crate::cli::RunArgs;

/// How many members a cluster may have: each further voter slows down every write, and nine survive four failures.
pub const MEMBERS_MAX: usize = 9;

/// The default of `listen`.
pub const LISTEN_DEFAULT: &str = "127.0.0.1:7001";

/// The default of `segment_bytes`: 64 MiB.
pub const SEGMENT_BYTES_DEFAULT: u64 = 64 << 20;

/// The default of `snapshot_log_bytes`: 64 MiB.
pub const SNAPSHOT_LOG_BYTES_DEFAULT: u64 = engine::SNAPSHOT_LOG_BYTES_MIN;

/// The default of `space_reserve_bytes`, unless two segments are more: 128 MiB.
pub const SPACE_RESERVE_BYTES_DEFAULT: u64 = engine::SPACE_RESERVE_BYTES;

/// The default of `heartbeat_ms`.
pub const HEARTBEAT_MS_DEFAULT: u64 = 100;

/// The default of `election_timeout_ms`.
pub const ELECTION_TIMEOUT_MS_DEFAULT: u64 = 500;

/// The default of `request_timeout_ms`.
pub const REQUEST_TIMEOUT_MS_DEFAULT: u64 = 5_000;

/// The default of `shutdown_delay_ms`: nobody routes requests by readiness.
pub const SHUTDOWN_DELAY_MS_DEFAULT: u64 = 0;

/// The default of `log`.
pub const LOG_DEFAULT: &str = "info";

/// How many heartbeats an election timeout must hold at least: losing a few in a row must not depose a leader.
pub const HEARTBEATS_PER_ELECTION_TIMEOUT_MIN: u64 = 5;

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// A member's name, as every source may give it.
///
/// # Errors
///
/// Says what is wrong with it, and what would be right.
pub fn member_name(text: &str) -> Result<String, String> {
    parse::name(text).map_err(|wrong| format!("it {}; allowed: {}", wrong.problem, wrong.allowed))
}

/// A valid configuration of a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The node's name: 1 to 63 lower-case letters, digits and inner hyphens.
    pub name: String,
    /// Where the node keeps its data.
    pub data_dir: PathBuf,
    /// The address to serve clients on, and peers too if `peer_listen` is none. Port 0 only in a cluster of one.
    pub listen: SocketAddr,
    /// The address to serve peers on, if it is one of their own.
    pub peer_listen: Option<SocketAddr>,
    /// The address to serve health checks and metrics over HTTP on; none: not served.
    pub http_listen: Option<SocketAddr>,
    /// The address (host:port) at which clients reach this node, if it was given; see [`Config::client_address`].
    pub advertise_client: Option<String>,
    /// The first members of the cluster with the addresses (host:port) at which their peers reach them; this node is
    /// always one of them. The hosts are names to be resolved at each connection.
    pub peers: BTreeMap<String, String>,
    /// The size of a log segment in bytes.
    pub segment_bytes: u64,
    /// A snapshot is taken when there is more log than this since the last one, in bytes, and more than that one has.
    pub snapshot_log_bytes: u64,
    /// Writes that need room are refused while the disk has less left than this, in bytes.
    pub space_reserve_bytes: u64,
    /// How often a leader sends heartbeats, in milliseconds.
    pub heartbeat_ms: u64,
    /// The shortest time without a leader after which a node stands for election, in milliseconds; each time is drawn
    /// between once and twice this.
    pub election_timeout_ms: u64,
    /// How long a request may take if its client set no deadline, in milliseconds.
    pub request_timeout_ms: u64,
    /// How long the node goes on serving, not ready any more, after it was told to end, in milliseconds.
    pub shutdown_delay_ms: u64,
    /// What is logged: the directives of a `tracing_subscriber::EnvFilter`, known to parse.
    pub log: String,
    /// How it is logged.
    pub log_format: LogFormat,
    /// Whether to print what happens as lines of [`story`](crate::story) on standard output.
    pub narrate: bool,
    /// Whether to shut down when standard input ends.
    pub exit_with_stdin: bool,
    /// How much longer each sync of the disk is to take, in milliseconds; for measurements, and set by a flag alone.
    pub sync_delay_ms: u64,
}

impl Config {
    /// Merges the sources and checks the result.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong; nothing was started or bound then, and the process should exit with
    /// [`EXIT_USAGE`](crate::cli::EXIT_USAGE).
    pub fn load(
        flags: &RunArgs,
        environment: impl IntoIterator<Item = (String, String)>,
        read_file: impl Fn(&Path) -> io::Result<String>,
    ) -> Result<Self, ConfigError> {
        let sources = Sources::collect(flags, environment, &read_file)?;
        let config = validate::typed(flags, &sources)?;
        Ok(config)
    }

    /// Loads the configuration of this process: its environment, the real file system.
    ///
    /// # Errors
    ///
    /// As [`Config::load`].
    pub fn from_process(flags: &RunArgs) -> Result<Self, ConfigError> {
        // A variable that is not UTF-8 keeps its place with replacement characters, so that its parser refuses it.
        let environment = std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()));
        Self::load(flags, environment, |path| std::fs::read_to_string(path))
    }

    /// The address (host:port) at which peers reach this node, as configured.
    #[must_use]
    pub fn peer_address(&self) -> &str {
        &self.peers[&self.name]
    }

    /// The address (host:port) at which clients reach this node once it is bound to `bound`: the given one, else the
    /// host that peers use with the port of clients.
    #[must_use]
    pub fn client_address(&self, bound: SocketAddr) -> String {
        if let Some(address) = &self.advertise_client {
            return address.clone();
        }
        let own = self.peer_address();
        match own.rsplit_once(':') {
            Some((_, port)) if self.peer_listen.is_none() && port != "0" => own.to_owned(),
            Some((host, _)) => format!("{host}:{}", bound.port()),
            None => bound.to_string(),
        }
    }
}
