//! The seam between [`api`](crate::api), which decides what is forwarded, and [`transport`](crate::transport), which
//! carries it: neither knows the other.

use std::time::Instant;

use proto::raft::v1::{ForwardRequest, ForwardResponse};
use tonic::Status;

use crate::telemetry::TraceContext;

/// Carries a client's request to the leader.
#[tonic::async_trait]
pub trait Forwarder: Send + Sync + 'static {
    /// Sends `request` to the member named `leader` and waits for its answer, no longer than until `deadline`.
    async fn forward(
        &self,
        leader: &str,
        request: ForwardRequest,
        deadline: Instant,
        trace: Option<&TraceContext>,
    ) -> Result<ForwardResponse, ForwardError>;
}

/// Runs a request that another node forwarded.
#[tonic::async_trait]
pub trait ForwardTarget: Send + Sync + 'static {
    /// Runs `request` on this node: a write only if it leads, a linearizable read also if it follows. It is not
    /// forwarded again.
    async fn run_forwarded(
        &self,
        request: ForwardRequest,
        deadline: Instant,
        trace: Option<TraceContext>,
    ) -> Result<ForwardResponse, Status>;
}

/// Why a forwarded request has no response.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// Nothing was sent: the request was certainly not run.
    #[error("{leader} could not be reached: {cause}")]
    NotSent {
        /// The leader's name.
        leader: String,
        /// What failed.
        cause: String,
    },
    /// The leader answered with an error of its own, to be passed on as it is.
    #[error("the leader answered {0}")]
    Answered(Box<Status>),
    /// The connection or the deadline ended before the answer: the request may have been run.
    #[error("the answer of {leader} was lost: {cause}")]
    Lost {
        /// The leader's name.
        leader: String,
        /// What failed.
        cause: String,
        /// Whether it was the deadline.
        deadline_exceeded: bool,
    },
}
