//! The settings' names, and where a setting's value came from.

use std::fmt;
use std::path::PathBuf;

/// One setting. Its name in the file is in snake case, its flag in kebab case, its variable in upper case behind
/// `QUORATE_`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Key {
    /// The node's name.
    Name,
    /// Where the node keeps its data.
    DataDir,
    /// The address to serve clients on, and peers too if they have none of their own.
    Listen,
    /// The address to serve peers on.
    PeerListen,
    /// The address to serve health checks over HTTP on.
    HttpListen,
    /// The address at which clients reach the node.
    AdvertiseClient,
    /// The first members of the cluster.
    Peers,
    /// The size of a log segment.
    SegmentBytes,
    /// How much log makes a snapshot worth taking.
    SnapshotLogBytes,
    /// How much of the disk is kept free.
    SpaceReserveBytes,
    /// The heartbeat interval.
    HeartbeatMs,
    /// The shortest election timeout.
    ElectionTimeoutMs,
    /// The longest time that a request may take.
    RequestTimeoutMs,
    /// How long a node that was told to end goes on serving.
    ShutdownDelayMs,
    /// What is logged.
    Log,
    /// How it is logged.
    LogFormat,
}

impl Key {
    /// Every key, in the order in which they are documented.
    pub const ALL: [Self; 16] = [
        Self::Name,
        Self::DataDir,
        Self::Listen,
        Self::PeerListen,
        Self::HttpListen,
        Self::AdvertiseClient,
        Self::Peers,
        Self::SegmentBytes,
        Self::SnapshotLogBytes,
        Self::SpaceReserveBytes,
        Self::HeartbeatMs,
        Self::ElectionTimeoutMs,
        Self::RequestTimeoutMs,
        Self::ShutdownDelayMs,
        Self::Log,
        Self::LogFormat,
    ];

    /// The key's name in the TOML file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::DataDir => "data_dir",
            Self::Listen => "listen",
            Self::PeerListen => "peer_listen",
            Self::HttpListen => "http_listen",
            Self::AdvertiseClient => "advertise_client",
            Self::Peers => "peers",
            Self::SegmentBytes => "segment_bytes",
            Self::SnapshotLogBytes => "snapshot_log_bytes",
            Self::SpaceReserveBytes => "space_reserve_bytes",
            Self::HeartbeatMs => "heartbeat_ms",
            Self::ElectionTimeoutMs => "election_timeout_ms",
            Self::RequestTimeoutMs => "request_timeout_ms",
            Self::ShutdownDelayMs => "shutdown_delay_ms",
            Self::Log => "log",
            Self::LogFormat => "log_format",
        }
    }

    /// The key's flag, without the two hyphens.
    #[must_use]
    pub fn flag(self) -> String {
        self.as_str().replace('_', "-")
    }

    /// The key's environment variable.
    #[must_use]
    pub fn variable(self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.as_str().to_uppercase())
    }

    /// The key of that name in the TOML file.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.as_str() == name)
    }

    /// The key of that environment variable.
    pub(super) fn from_variable(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.variable() == name)
    }
}

/// What the names of Quorate's environment variables begin with.
pub(super) const VARIABLE_PREFIX: &str = "QUORATE_";

/// Where a value came from, told in every error.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// A flag.
    Flag(Key),
    /// An environment variable.
    Variable(String),
    /// The configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The key in it, with dots where it is nested.
        key: String,
    },
    /// The machine's host name.
    HostName,
    /// The default.
    Default(Key),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(key) => write!(f, "--{}", key.flag()),
            Self::Variable(name) => f.write_str(name),
            Self::File { path, key } => write!(f, "{key} in {}", path.display()),
            Self::HostName => f.write_str("the host name"),
            Self::Default(key) => write!(f, "the default of --{}", key.flag()),
        }
    }
}
