//! The client: its options, its typed operations, and what they return.

mod classify;
mod request;
mod rpc;
mod tour;

use crate::{Endpoint, EndpointError, Error, Failure, Member, StatusResponse, routes::Routes, trace};
use bytes::Bytes;
use proto::{
    admin::v1::{ListMembersRequest, StatusRequest, TransferLeadershipRequest},
    kv::v1 as kv,
};
use std::{str::FromStr, sync::Arc, time::Duration};
use tokio::task::JoinSet;
use tracing::Instrument as _;

/// The largest value in bytes that a put takes. A larger one is refused before it is sent.
pub const VALUE_BYTES_MAX: usize = 1 << 20;

/// The deadline of a request: an election takes up to a second, so there is time for a failover and its retries.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The longest deadline, so that no sum of times overflows.
const TIMEOUT_MAX: Duration = Duration::from_secs(3600);

/// How long a read waits for one endpoint before it asks another; longer than a linearizable read takes unless the
/// cluster is electing.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a connection may take to open: three times the round trip of the farthest network, and a lost SYN is not
/// waited for when there is another endpoint.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How a [`Client`] finds its cluster, and how long it tries.
#[derive(Clone, Debug)]
pub struct Options {
    endpoints: Vec<Endpoint>,
    timeout: Duration,
    attempt_timeout: Duration,
    connect_timeout: Duration,
}

impl Options {
    /// Options for the nodes at `endpoints`, written `host:port` or `http://host:port`. One that answers is enough;
    /// with more, the client survives their failures.
    ///
    /// # Errors
    ///
    /// If there is none, or one is malformed.
    pub fn new<I>(endpoints: I) -> Result<Options, EndpointError>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let mut parsed: Vec<Endpoint> = Vec::new();
        for text in endpoints {
            let endpoint = Endpoint::from_str(text.as_ref())?;
            if !parsed.contains(&endpoint) {
                parsed.push(endpoint);
            }
        }
        if parsed.is_empty() {
            return Err(EndpointError::None);
        }
        Ok(Options {
            endpoints: parsed,
            timeout: TIMEOUT,
            attempt_timeout: ATTEMPT_TIMEOUT,
            connect_timeout: CONNECT_TIMEOUT,
        })
    }

    /// The deadline of each request over all its attempts; 5 s unless set, and at most an hour.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Options {
        self.timeout = timeout.min(TIMEOUT_MAX);
        self
    }

    /// How long a read waits for one endpoint, at first, before it asks another; 1 s unless set.
    #[must_use]
    pub fn attempt_timeout(mut self, timeout: Duration) -> Options {
        self.attempt_timeout = timeout;
        self
    }

    /// How long a connection may take to open; 1 s unless set.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Options {
        self.connect_timeout = timeout;
        self
    }
}

/// When a put is accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PutMode {
    /// The key must not exist.
    #[default]
    Create,
    /// The key may or may not exist.
    Upsert,
    /// The key must exist.
    Update,
    /// The key must exist, last written at this revision, which is at least 1.
    Compare(u64),
}

/// The options of a put.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PutOptions {
    /// When it is accepted; by default it only creates.
    pub mode: PutMode,
}

impl From<PutMode> for PutOptions {
    fn from(mode: PutMode) -> PutOptions {
        PutOptions { mode }
    }
}

/// An acknowledged put: it is durable on a majority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The store's revision of this write, which is the key's new mod revision.
    pub revision: u64,
    /// How often the key was written since its creation, which counts.
    pub version: u64,
}

/// A key with its value and its history's figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Bytes,
    /// The revision at which the key was created.
    pub create_revision: u64,
    /// The revision at which the key was last written.
    pub mod_revision: u64,
    /// How often the key was written since its creation, which counts.
    pub version: u64,
}

/// The answer to a get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The key and its value.
    pub key_value: KeyValue,
    /// The store's revision when it was read.
    pub revision: u64,
    /// The node whose state was read.
    pub served_by: String,
}

/// An acknowledged delete: it is durable on a majority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// The store's revision of this removal.
    pub revision: u64,
}

/// The node that leads, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// Its name.
    pub name: String,
    /// Where clients reach it.
    pub endpoint: Endpoint,
}

/// A client of one cluster. Its clones share connections and what was learnt; all methods may be called concurrently,
/// within a tokio runtime. Dropping a method's future abandons the request: a write may then have been applied.
#[derive(Clone, Debug)]
pub struct Client {
    routes: Arc<Routes>,
    timeout: Duration,
    attempt_timeout: Duration,
}

impl Client {
    /// A client of the cluster that `options` describes. Nothing is connected before the first request.
    #[must_use]
    pub fn connect(options: Options) -> Client {
        let Options { endpoints, timeout, attempt_timeout, connect_timeout } = options;
        Client { routes: Arc::new(Routes::new(endpoints, connect_timeout)), timeout, attempt_timeout }
    }

    /// The same client with another deadline for its requests, at most an hour.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Client {
        Client { timeout: timeout.min(TIMEOUT_MAX), ..self.clone() }
    }

    /// The configured endpoints.
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        self.routes.configured()
    }

    /// The leader that was heard of last, without asking anyone.
    #[must_use]
    pub fn known_leader(&self) -> Option<Leader> {
        self.routes.leader()
    }

    /// Writes `value` under `key`; creates only, unless `options` say otherwise.
    ///
    /// # Errors
    ///
    /// [`Error::KeyExists`] (creating), [`Error::KeyNotFound`] (updating, comparing), [`Error::RevisionMismatch`]
    /// (comparing), and those of any request.
    pub async fn put(
        &self,
        key: impl Into<String>,
        value: impl Into<Bytes>,
        options: impl Into<PutOptions>,
    ) -> Result<Written, Error> {
        let value = value.into();
        if value.len() > VALUE_BYTES_MAX {
            let message = format!("the value has more than {VALUE_BYTES_MAX} bytes");
            return Err(Error::InvalidArgument(Box::new(Failure { message, attempts: Vec::new() })));
        }
        let (mode, expected_revision) = match options.into().mode {
            PutMode::Create => (kv::PutMode::Create, None),
            PutMode::Upsert => (kv::PutMode::Upsert, None),
            PutMode::Update => (kv::PutMode::Update, None),
            PutMode::Compare(revision) => (kv::PutMode::Compare, Some(revision)),
        };
        let mode = mode.into();
        let request = kv::PutRequest { key: key.into(), value, mode, expected_revision, request_id: None };
        let response = request::run(self, "put", request).await?;
        Ok(Written { revision: response.revision, version: response.version })
    }

    /// Reads `key`, linearizably.
    ///
    /// # Errors
    ///
    /// [`Error::KeyNotFound`], and those of any request.
    pub async fn get(&self, key: impl Into<String>) -> Result<Found, Error> {
        let request = kv::GetRequest { key: key.into(), consistency: kv::Consistency::Linearizable.into() };
        let response = request::run(self, "get", request).await?;
        match response.kv {
            Some(found) => Ok(Found {
                key_value: KeyValue::from(found),
                revision: response.revision,
                served_by: response.served_by,
            }),
            None => {
                let message = format!("{} answered a get without a value", response.served_by);
                Err(Error::Refused(Box::new(Failure { message, attempts: Vec::new() })))
            }
        }
    }

    /// Removes `key`; with `expected_revision`, only if it was last written at that revision.
    ///
    /// # Errors
    ///
    /// [`Error::KeyNotFound`], [`Error::RevisionMismatch`], and those of any request.
    pub async fn delete(&self, key: impl Into<String>, expected_revision: Option<u64>) -> Result<Deleted, Error> {
        let (key, return_previous, request_id) = (key.into(), false, None);
        let request = kv::DeleteRequest { key, expected_revision, return_previous, request_id };
        let response = request::run(self, "delete", request).await?;
        Ok(Deleted { revision: response.revision })
    }

    /// The status of the node at `endpoint`, asked once and nowhere else. It needs no leader and no quorum.
    ///
    /// # Errors
    ///
    /// Those of any request.
    pub async fn status(&self, endpoint: &Endpoint) -> Result<StatusResponse, Error> {
        request::ask(self, endpoint, StatusRequest {}).await
    }

    /// The status of each configured endpoint, all asked at once, in the order in which they are configured.
    pub async fn statuses(&self) -> Vec<(Endpoint, Result<StatusResponse, Error>)> {
        let span = trace::request_span("status");
        let mut questions = JoinSet::new();
        for (at, endpoint) in self.endpoints().iter().cloned().enumerate() {
            let client = self.clone();
            let question = async move {
                let status = client.status(&endpoint).await;
                (at, endpoint, status)
            };
            questions.spawn(question.instrument(span.clone()));
        }
        let mut answers = questions.join_all().await;
        answers.sort_by_key(|(at, ..)| *at);
        answers.into_iter().map(|(_, endpoint, status)| (endpoint, status)).collect()
    }

    /// The members of the cluster, as the node that answers knows them.
    ///
    /// # Errors
    ///
    /// Those of any request.
    pub async fn list_members(&self) -> Result<Vec<Member>, Error> {
        Ok(request::run(self, "list_members", ListMembersRequest {}).await?.members)
    }

    /// Hands leadership to `target`, or to the member that is furthest. Returns the name of the new leader and its
    /// term.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if the target is not a voter, and those of any request.
    pub async fn transfer_leadership(&self, target: Option<&str>) -> Result<(String, u64), Error> {
        let request = TransferLeadershipRequest { target: target.unwrap_or_default().to_owned() };
        let response = request::run(self, "transfer_leadership", request).await?;
        Ok((response.leader_name, response.term))
    }
}

impl From<kv::KeyValue> for KeyValue {
    fn from(found: kv::KeyValue) -> KeyValue {
        // Every field is named, so that one that is added to the interface is not forgotten here.
        let kv::KeyValue { key, value, create_revision, mod_revision, version } = found;
        KeyValue { key, value, create_revision, mod_revision, version }
    }
}
