//! What the rest of the server holds of a node: a cheap handle with requests, and a status that is always at hand.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::kv;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout_at;

use super::batch::Batch;
use super::chronicle::{Chronicle, NodeEvent};
use super::request::{Claim, Get, Read, Request, Write};
use super::status::{Leader, NodeStatus, Role};
use crate::telemetry::TraceContext;

/// How long the loop may take to say how it is. A turn takes milliseconds; who asks because something is wrong wants an
/// answer all the same.
const FRESH_STATUS_MAX: Duration = Duration::from_millis(500);

/// What comes with a request besides its content.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// When the caller stops waiting.
    pub deadline: Instant,
    /// The trace that the request belongs to, if it is sampled.
    pub trace: Option<TraceContext>,
}

/// A request was certainly not run, and why.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unavailable {
    /// Another node leads.
    #[error("this node does not lead")]
    NotLeader {
        /// Who does, if known.
        leader: Option<Leader>,
        /// The term of that knowledge.
        term: u64,
    },
    /// The node is not part of a cluster, or not recovered.
    #[error("this node is not ready: {0}")]
    NotReady(String),
    /// A queue or the uncommitted part of the log is full.
    #[error("too many requests are under way")]
    Overloaded,
    /// The disk is almost full, and the request needs room on it.
    #[error("the leader's disk is almost full: nothing is written that needs room")]
    StorageFull,
    /// Leadership is being handed over.
    #[error("leadership is being handed over")]
    Transferring,
    /// The node is shutting down.
    #[error("the node is shutting down")]
    Draining,
}

/// Why a write has no result.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WriteError {
    /// It was not proposed: certainly not applied.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// It is outside the limits of keys and values: certainly not applied.
    #[error(transparent)]
    Invalid(#[from] kv::InvalidCommand),
    /// Another leader's entry took its place: certainly not applied, now or later.
    #[error("the proposal was overwritten by the leader of term {term}")]
    Dropped {
        /// The term of the entry that proves it.
        term: u64,
    },
    /// The deadline passed after it was proposed: it may be applied, now or later.
    #[error("the deadline passed before the write's outcome was known")]
    DeadlineExceeded {
        /// The entry's term.
        term: u64,
        /// The entry's index.
        index: u64,
    },
    /// The deadline passed before it was proposed: certainly not applied.
    #[error("the deadline passed before the write was proposed")]
    Expired,
    /// The node stopped after it was proposed: it may be applied, now or later.
    #[error("the node stopped before the write's outcome was known")]
    Stopped,
}

/// Why a read has no result.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReadError {
    /// It was not run.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The deadline passed.
    #[error("the deadline passed before the read was confirmed")]
    DeadlineExceeded,
    /// This node's own state is older than the read allows, or may be, or has not come to the least revision.
    #[error("this node's own state, of revision {revision}, is not good enough")]
    TooStale {
        /// How old it was at most when the read arrived, in milliseconds; none if nothing is proven.
        age_ms: Option<NonZeroU64>,
        /// Its revision.
        revision: u64,
    },
    /// The read was to see everything that was acknowledged, and the revision that it asks for is not among that.
    #[error("the store has revision {revision}, and a read asks for {min_revision}")]
    RevisionAhead {
        /// The store's revision.
        revision: u64,
        /// The revision that was asked for.
        min_revision: u64,
    },
}

/// Why leadership was not handed over.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TransferError {
    /// The node does not lead, or is not ready.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The cluster has no other voter.
    #[error("there is no other voting member")]
    NobodyElse,
    /// There is no such voter.
    #[error("{0} is not a voting member")]
    NotAVoter(String),
    /// The target leads already.
    #[error("{0} leads already")]
    AlreadyLeader(String),
    /// The handover did not end in time; the old leader goes on.
    #[error("the handover did not end in time")]
    DeadlineExceeded,
}

/// What became of a write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WriteResult {
    /// What it did, or an earlier copy of it.
    pub applied: kv::Applied,
    /// The store's revision when it was answered.
    pub revision: u64,
    /// The replicated time when it was answered, in milliseconds.
    pub time_ms: u64,
}

/// What a read found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReadResult {
    /// The key and its value, if it exists.
    pub kv: Option<kv::KeyValue>,
    /// The store's revision when it was read.
    pub revision: u64,
    /// The name of the node whose state was read.
    pub served_by: String,
    /// The replicated time of that state, in milliseconds.
    pub time_ms: u64,
    /// How old that state was at most when the read arrived, in milliseconds, if that was asked and is proven.
    pub age_ms: Option<NonZeroU64>,
}

impl ReadResult {
    /// The result, if it is of a state that has come to `min_revision`.
    ///
    /// Reads of the other levels wait for such a state. One that is linearizable sees everything that was acknowledged
    /// before it began; a revision beyond that was never given out, or was lost when the cluster was set back. It is
    /// not waited for: it may be reached again some day, by other writes.
    ///
    /// # Errors
    ///
    /// [`ReadError::RevisionAhead`]: the state has not come to it.
    pub fn at_least(self, min_revision: kv::Revision) -> Result<Self, ReadError> {
        let (revision, min_revision) = (self.revision, min_revision.get());
        if revision < min_revision { Err(ReadError::RevisionAhead { revision, min_revision }) } else { Ok(self) }
    }
}

/// A cheap, cloneable way to a node's loop. The loop goes on when no handle is left: it serves its peers.
#[derive(Clone, Debug)]
pub struct NodeHandle {
    requests: mpsc::Sender<Request>,
    status: watch::Receiver<NodeStatus>,
    chronicle: Chronicle,
}

impl NodeHandle {
    pub(super) fn new(
        requests: mpsc::Sender<Request>,
        status: watch::Receiver<NodeStatus>,
        chronicle: Chronicle,
    ) -> Self {
        Self { requests, status, chronicle }
    }

    /// Replicates a request and returns what its command did, once it is durable on a majority and applied here.
    ///
    /// # Errors
    ///
    /// Each error says whether the command was certainly not applied.
    pub async fn write(&self, request: kv::Request, context: RequestContext) -> Result<WriteResult, WriteError> {
        let (answer, receiver) = oneshot::channel();
        let claim = Arc::new(Claim::default());
        let write = Write { request, claim: Arc::clone(&claim), trace: context.trace, asked: Instant::now(), answer };
        self.submit(Request::Write(write))?;
        match timeout_at(context.deadline.into(), receiver).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) if claim.abandon() => Err(Unavailable::Draining.into()),
            Ok(Err(_)) => Err(WriteError::Stopped),
            Err(_) if claim.abandon() => Err(WriteError::Expired),
            Err(_) => {
                let (term, index) = claim.position();
                Err(WriteError::DeadlineExceeded { term, index })
            }
        }
    }

    /// Reads a key. Unless `get` says otherwise the answer reflects every write that was acknowledged before the call.
    ///
    /// # Errors
    ///
    /// A read changes nothing, so every error may be answered by trying again.
    pub async fn read(&self, get: Get, context: RequestContext) -> Result<ReadResult, ReadError> {
        let (answer, receiver) = oneshot::channel();
        self.submit(Request::Read(Read { get, trace: context.trace, asked: Instant::now(), answer }))?;
        match timeout_at(context.deadline.into(), receiver).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Unavailable::Draining.into()),
            Err(_) => Err(ReadError::DeadlineExceeded),
        }
    }

    /// Hands over many operations at once. Their answers come as the batch says: each as that of [`write`](Self::write)
    /// or [`read`](Self::read), but that deadlines are the caller's own to watch.
    ///
    /// # Errors
    ///
    /// None of them was run, or ever will be: why, and the batch.
    pub fn submit_batch(&self, batch: Batch) -> Result<(), (Unavailable, Batch)> {
        if let Err(unavailable) = self.is_open() {
            return Err((unavailable, batch));
        }
        self.requests.try_send(Request::Batch(batch)).map_err(|error| match error {
            TrySendError::Full(Request::Batch(batch)) => (Unavailable::Overloaded, batch),
            TrySendError::Closed(Request::Batch(batch)) => (Unavailable::Draining, batch),
            TrySendError::Full(_) | TrySendError::Closed(_) => unreachable!("what comes back is what was sent"),
        })
    }

    /// Hands leadership to the member `target`, or to the one that is furthest, and returns who leads then and in which
    /// term.
    ///
    /// # Errors
    ///
    /// Fails on a node that does not lead, for a target that cannot, and if no other node leads by `until`.
    pub async fn transfer_leadership(
        &self,
        target: Option<String>,
        until: Instant,
    ) -> Result<(Leader, u64), TransferError> {
        let mut status = self.status.clone();
        let term = status.borrow().term;
        let (answer, receiver) = oneshot::channel();
        self.submit(Request::Transfer { target, answer })?;
        let another_leads = async {
            receiver.await.unwrap_or(Err(Unavailable::Draining.into()))?;
            let found = |status: &NodeStatus| status.term > term && status.leader.is_some();
            let Ok(status) = status.wait_for(found).await else { return Err(Unavailable::Draining.into()) };
            match status.leader.clone() {
                Some(leader) if !leader.is_self => Ok((leader, status.term)),
                _ => Err(TransferError::DeadlineExceeded),
            }
        };
        timeout_at(until.into(), another_leads).await.unwrap_or(Err(TransferError::DeadlineExceeded))
    }

    /// The node's state as it is when the loop hears of the question; if the loop is not there or is busy for too long,
    /// as it was last published.
    pub async fn fresh_status(&self) -> NodeStatus {
        let (answer, receiver) = oneshot::channel();
        if self.submit(Request::Status(answer)).is_ok()
            && let Ok(Ok(status)) = tokio::time::timeout(FRESH_STATUS_MAX, receiver).await
        {
            return status;
        }
        self.status()
    }

    /// The node's state, not older than a fraction of a second.
    #[must_use]
    pub fn status(&self) -> NodeStatus {
        self.status.borrow().clone()
    }

    /// The node's state, to wait for changes on.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<NodeStatus> {
        self.status.clone()
    }

    /// What happened to the node lately, the oldest first.
    #[must_use]
    pub fn events(&self) -> Vec<NodeEvent> {
        self.chronicle.events()
    }

    /// Waits until a leader is known; none if that is not so by `until`.
    pub async fn wait_for_leader(&self, until: Instant) -> Option<Leader> {
        let mut status = self.status.clone();
        let known = timeout_at(until.into(), status.wait_for(|status| status.leader.is_some())).await;
        known.ok()?.ok()?.leader.clone()
    }

    /// How many requests wait for the loop.
    pub(super) fn waiting_requests(&self) -> usize {
        self.requests.max_capacity() - self.requests.capacity()
    }

    /// Whether requests are taken.
    fn is_open(&self) -> Result<(), Unavailable> {
        let status = self.status.borrow();
        if status.role == Role::Outside {
            return Err(Unavailable::NotReady(status.not_ready.clone().unwrap_or_default()));
        }
        Ok(())
    }

    fn submit(&self, request: Request) -> Result<(), Unavailable> {
        self.is_open()?;
        self.requests.try_send(request).map_err(|error| match error {
            TrySendError::Full(_) => Unavailable::Overloaded,
            TrySendError::Closed(_) => Unavailable::Draining,
        })
    }
}
