//! The client: its typed operations, and what they return.

mod attempt;
mod classify;
mod each;
mod hedge;
mod options;
mod pipe;
mod request;
mod rpc;
mod seen;
mod session;
mod tour;

use crate::{Endpoint, Error, Failure, Member, RequestId, Settings, names::Names, routes::Routes};
use bytes::Bytes;
use hedge::HedgeBudget;
use proto::{
    admin::v1::{ListMembersRequest, TransferLeadershipRequest, UpdateSettingsRequest},
    kv::v1 as kv,
};
use seen::Seen;
use session::Sessions;
use std::{sync::Arc, time::Duration};

pub use options::Options;
pub(crate) use pipe::{Pipe, Standing};

/// The largest value in bytes that a put takes. A larger one is refused before it is sent.
pub const VALUE_BYTES_MAX: usize = 1 << 20;

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

/// How fresh a read has to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// It sees every write that was acknowledged before it began. The leader confirms that it is one, so it waits while
    /// there is none.
    #[default]
    Linearizable,
    /// The same for its key, from a majority of the members: it needs no leader. A key that is being written while
    /// there is none has to wait for one.
    Quorum,
    /// It sees the state of one node as it is: perhaps an earlier one, but none that is behind what this client has
    /// seen. Any node is asked, and it asks no other, so that it answers at once and also while it is cut off.
    Stale {
        /// How old that state may be at most, counted back from when the request arrives at the node: whole
        /// milliseconds, and one at least. None: as old as it is. A node that cannot prove that its state is as young
        /// refuses, and another is asked.
        max_staleness: Option<Duration>,
    },
}

/// The options of a get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GetOptions {
    /// How fresh the answer has to be.
    pub consistency: Consistency,
    /// The state that is read has at least this revision; 0: any. It is for what somebody else has seen, who told the
    /// revision: what this client has seen is asked for anyway, but with [`Consistency::Quorum`].
    pub min_revision: u64,
}

impl From<Consistency> for GetOptions {
    fn from(consistency: Consistency) -> GetOptions {
        GetOptions { consistency, min_revision: 0 }
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
    /// With [`Consistency::Stale`], how old that state was at most when the request arrived, if that can be proven.
    pub staleness: Option<Duration>,
}

/// An acknowledged delete: it is durable on a majority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// The store's revision of this removal.
    pub revision: u64,
}

/// What became of a write, for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It was a put, and was applied.
    Put(Written),
    /// It was a delete, and was applied.
    Deleted(Deleted),
    /// It was a change of the cluster's settings, and was applied. Somebody may have changed them again since.
    Configured,
    /// It was run, and changed nothing.
    Rejected {
        /// `KEY_EXISTS`, `KEY_NOT_FOUND` or `REVISION_MISMATCH`.
        reason: String,
        /// The key's mod revision then; none if the key was missing.
        revision: Option<u64>,
    },
    /// It was not applied and never will be: a copy of it that is still under way will be refused.
    NeverApplied,
    /// Its client had said that it needs the result no more, so nobody knows. It will not be applied any more.
    Forgotten,
}

/// A setting of the cluster, and what it is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Setting {
    /// Whether a leader may answer linearizable reads under a lease, without asking a majority for each.
    ///
    /// Assumes that the monotonic clocks of all nodes run at rates that differ by less than 10 percent, and that none
    /// stands still while its machine is suspended. If that is ever wrong, a read may be answered with an old value.
    LeaseReads(bool),
}

/// The node that leads, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// Its name.
    pub name: String,
    /// Where clients reach it.
    pub endpoint: Endpoint,
}

/// A client of one cluster. Its clones share connections, sessions and what was learnt, and together never read a state
/// behind one that an answer to any of them told of; all methods may be called concurrently, within a tokio runtime.
///
/// Dropping a method's future abandons the request, and leaves the client as good as before. What becomes of a write
/// then: no attempt of it is sent any more; one that was sent before may have been applied, or may still be when it
/// arrives. It is run once at most, and with the next write of the same session the cluster is told that the dropped
/// one is over, and refuses a copy that comes later. Who has to know the outcome does not drop the future but sets a
/// shorter deadline ([`Client::with_timeout`]), and gets the name to ask [`Client::get_outcome`] with.
#[derive(Clone, Debug)]
pub struct Client {
    routes: Arc<Routes>,
    sessions: Arc<Sessions>,
    seen: Arc<Seen>,
    hedges: Arc<HedgeBudget>,
    hedging: bool,
    pipelining: bool,
    timeout: Duration,
    attempt_timeout: Duration,
}

impl Client {
    /// A client of the cluster that `options` describes. Nothing is connected before the first request.
    #[must_use]
    pub fn connect(options: Options) -> Client {
        let Options { endpoints, timeout, attempt_timeout, connect_timeout, hedging, pipelining, resolver } = options;
        let names = Names::new(endpoints, resolver, connect_timeout);
        let routes = Arc::new(Routes::new(names, connect_timeout));
        let (sessions, seen, hedges) = (Arc::default(), Arc::default(), Arc::default());
        Client { routes, sessions, seen, hedges, hedging, pipelining, timeout, attempt_timeout }
    }

    /// The same client with another deadline for its requests, at most an hour.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Client {
        Client { timeout: timeout.min(options::TIMEOUT_MAX), ..self.clone() }
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

    /// How many streams are open now, one for each node that requests travel to many at a time: see
    /// [`Options::pipelining`].
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.routes.open_streams()
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
        Ok(Written::from(request::run(self, "put", request).await?))
    }

    /// Reads `key`, linearizably.
    ///
    /// # Errors
    ///
    /// [`Error::KeyNotFound`], and those of any request.
    pub async fn get(&self, key: impl Into<String>) -> Result<Found, Error> {
        self.get_with(key, GetOptions::default()).await
    }

    /// Reads `key`, as `options` say.
    ///
    /// # Errors
    ///
    /// [`Error::KeyNotFound`], and those of any request. [`Error::NotApplied`] with the reason
    /// `STALENESS_BOUND_EXCEEDED` if no node's state was good enough in time. [`Error::Refused`] with the reason
    /// `REVISION_AHEAD` if the cluster has not come to a revision that this client has seen: it is another one, or was
    /// set back. That is told once; then the client goes on with the cluster as it is.
    pub async fn get_with(&self, key: impl Into<String>, options: impl Into<GetOptions>) -> Result<Found, Error> {
        let GetOptions { consistency, min_revision } = options.into();
        let seen = self.seen.revision();
        let (consistency, max_staleness_ms, seen) = match consistency {
            Consistency::Linearizable => (kv::Consistency::Linearizable, None, seen),
            // It sees all writes to its key that were acknowledged, whatever the state's revision is. To ask for that
            // of a write to another key would make it wait, right after the leader of that write has died, for another.
            Consistency::Quorum => (kv::Consistency::Quorum, None, 0),
            Consistency::Stale { max_staleness } => (kv::Consistency::Stale, max_staleness.map(whole_ms), seen),
        };
        let (key, consistency, min_revision) = (key.into(), consistency.into(), min_revision.max(seen));
        let request = kv::GetRequest { key, consistency, max_staleness_ms, min_revision };
        let response = request::run(self, "get", request).await?;
        match response.kv {
            Some(found) => Ok(Found {
                key_value: KeyValue::from(found),
                revision: response.revision,
                served_by: response.served_by,
                staleness: response.staleness_ms.map(Duration::from_millis),
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
        Ok(Deleted::from(request::run(self, "delete", request).await?))
    }

    /// Settles what became of a write, by the name that came with an [`Error::OutcomeUnknown`]. The name may be of
    /// another client and another process. A write that was not applied yet will not be applied after this.
    ///
    /// # Errors
    ///
    /// [`Error::SessionExpired`] if nobody can tell any more, [`Error::InvalidArgument`] if this cluster never gave out
    /// such a name, and [`Error::OutcomeUnknown`] with the same name if the cluster could not tell now.
    pub async fn get_outcome(&self, id: &RequestId) -> Result<Settled, Error> {
        use kv::get_outcome_response::Outcome;
        let request = kv::GetOutcomeRequest { request_id: Some(id.to_wire(0)) };
        // Whatever failed here, it does not say that the write was not applied; and a question whose answer was lost
        // may have seen to it that it never is.
        let unknown = |failure| Error::OutcomeUnknown { request_id: Some(*id), failure };
        let response = request::run(self, "get_outcome", request).await.map_err(|error| match error {
            Error::NotApplied(failure) | Error::DeadlineExceeded(failure) | Error::Refused(failure) => unknown(failure),
            error => error,
        })?;
        Ok(match response.outcome {
            Some(Outcome::Put(put)) => Settled::Put(Written::from(put)),
            Some(Outcome::Delete(delete)) => Settled::Deleted(Deleted::from(delete)),
            Some(Outcome::Configured(kv::Configured {})) => Settled::Configured,
            Some(Outcome::Rejected(kv::Rejected { reason, revision })) => {
                Settled::Rejected { reason, revision: Some(revision).filter(|revision| *revision > 0) }
            }
            Some(Outcome::NeverApplied(kv::NeverApplied {})) => Settled::NeverApplied,
            Some(Outcome::Forgotten(kv::Forgotten {})) => Settled::Forgotten,
            None => {
                let message = "the node told an outcome that this client does not know".to_owned();
                return Err(unknown(Box::new(Failure { message, attempts: Vec::new() })));
            }
        })
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

    /// As [`transfer_leadership`](Client::transfer_leadership), asked of the node at `endpoint` once and of no other.
    ///
    /// # Errors
    ///
    /// [`Error::NotApplied`] if that node does not lead, and those of any request.
    pub async fn transfer_leadership_from(
        &self,
        endpoint: &Endpoint,
        target: Option<&str>,
    ) -> Result<(String, u64), Error> {
        let request = TransferLeadershipRequest { target: target.unwrap_or_default().to_owned() };
        let response = request::ask(self, endpoint, request).await?;
        Ok((response.leader_name, response.term))
    }

    /// Changes a setting of the whole cluster. Returns all settings, as they were when that was applied; each node
    /// tells its own with its [`status`](Client::status).
    ///
    /// # Errors
    ///
    /// Those of any request.
    pub async fn update_settings(&self, setting: Setting) -> Result<Settings, Error> {
        let Setting::LeaseReads(lease_reads) = setting;
        let request = UpdateSettingsRequest { lease_reads: Some(lease_reads), request_id: None };
        let response = request::run(self, "update_settings", request).await?;
        // Every node that knows the request tells them.
        Ok(response.settings.unwrap_or_default())
    }
}

/// The milliseconds of a duration; of one that is longer than they can count, as many as they can.
fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl From<kv::PutResponse> for Written {
    fn from(response: kv::PutResponse) -> Written {
        let kv::PutResponse { revision, version, time_ms: _ } = response;
        Written { revision, version }
    }
}

impl From<kv::DeleteResponse> for Deleted {
    fn from(response: kv::DeleteResponse) -> Deleted {
        let kv::DeleteResponse { revision, previous: _, time_ms: _ } = response;
        Deleted { revision }
    }
}

impl From<kv::KeyValue> for KeyValue {
    fn from(found: kv::KeyValue) -> KeyValue {
        // Every field is named, so that one that is added to the interface is not forgotten here.
        let kv::KeyValue { key, value, create_revision, mod_revision, version } = found;
        KeyValue { key, value, create_revision, mod_revision, version }
    }
}
