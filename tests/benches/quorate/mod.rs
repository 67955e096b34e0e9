//! Quorate: a cluster of processes of the release build with default settings, and the roads to it.

pub(crate) mod pipeline;

use crate::{
    generator::calls::Calls,
    workload::{Operation, put_with},
};
use client_cli::{Client, Error};
use proto::kv::v1::{GetRequest, PutMode, kv_service_client::KvServiceClient};
use std::{path::PathBuf, time::Duration};
use tests::cluster::{self, Cluster};
use tonic::{Status, transport::Channel};

/// How to start a cluster.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// How many members.
    pub(crate) size: usize,
    /// Where they keep their data.
    pub(crate) parent: PathBuf,
    /// The size of the log's segments, instead of the server's default.
    pub(crate) segment_bytes: Option<u64>,
    /// The heartbeat interval and the shortest election timeout, instead of the defaults.
    pub(crate) timeouts: Option<(Duration, Duration)>,
    /// How much longer each sync of a disk takes than it does.
    pub(crate) sync_delay: Duration,
}

/// Starts a cluster and waits until all members are ready.
pub(crate) async fn start(settings: &Settings) -> Cluster {
    let mut flags = Vec::new();
    if let Some((heartbeat, election)) = settings.timeouts {
        flags.push(format!("--heartbeat-ms={}", heartbeat.as_millis()));
        flags.push(format!("--election-timeout-ms={}", election.as_millis()));
    }
    // Other versions of the server, which may be measured too, do not know the flag.
    if !settings.sync_delay.is_zero() {
        flags.push(format!("--sync-delay-ms={}", settings.sync_delay.as_millis()));
    }
    Cluster::start(cluster::Options {
        size: settings.size,
        segment_bytes: settings.segment_bytes,
        parent: Some(settings.parent.clone()),
        flags,
        ..cluster::Options::default()
    })
    .await
}

/// Unary calls.
#[derive(Clone)]
pub(crate) struct QuorateCalls(KvServiceClient<Channel>);

impl QuorateCalls {
    pub(crate) fn new(channel: Channel) -> QuorateCalls {
        QuorateCalls(KvServiceClient::new(channel))
    }
}

impl Calls for QuorateCalls {
    async fn call(&mut self, operation: Operation) -> Result<(), Status> {
        let (key, value, mode) = match operation {
            Operation::Put { key, value } | Operation::Create { key, value } => (key, value, PutMode::Unspecified),
            Operation::Overwrite { key, value } => (key, value, PutMode::Upsert),
            Operation::Get { key } => {
                return self.0.get(GetRequest { key, ..GetRequest::default() }).await.map(drop);
            }
        };
        self.0.put(put_with(key, value, mode)).await.map(drop)
    }
}

/// The client library, which names every write, so that it runs once.
#[derive(Clone)]
pub(crate) struct Library(Client);

impl Library {
    pub(crate) fn new(client: Client) -> Library {
        Library(client)
    }
}

impl Calls for Library {
    async fn call(&mut self, operation: Operation) -> Result<(), Status> {
        let (key, value, mode) = match operation {
            Operation::Put { key, value } | Operation::Create { key, value } => {
                (key, value, client_cli::PutMode::Create)
            }
            Operation::Overwrite { key, value } => (key, value, client_cli::PutMode::Upsert),
            Operation::Get { key } => return self.0.get(&key).await.map(drop).map_err(|error| status(&error)),
        };
        self.0.put(&key, value, mode).await.map(drop).map_err(|error| status(&error))
    }
}

/// Errors are only counted.
fn status(error: &Error) -> Status {
    Status::unknown(error.to_string())
}
