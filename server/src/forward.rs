//! The seam between [`api`](crate::api), which decides what is forwarded and what other nodes are asked, and
//! [`transport`](crate::transport), which carries it: neither knows the other.

use std::time::Instant;

use proto::raft::v1::{ForwardRequest, ForwardResponse, InspectRequest, InspectResponse};
use tonic::Status;

use crate::telemetry::TraceContext;

/// Carries a client's request to another node (to the leader, or to a member that passes it on), and questions about
/// that node.
#[tonic::async_trait]
pub trait Forwarder: Send + Sync + 'static {
    /// Sends `request` to the member of this name and waits for its answer, no longer than until `deadline`.
    async fn forward(
        &self,
        member: &str,
        request: ForwardRequest,
        deadline: Instant,
        trace: Option<&TraceContext>,
    ) -> Result<ForwardResponse, ForwardError>;

    /// Asks the member of this name about itself and waits for its answer, no longer than until `deadline`.
    async fn inspect(
        &self,
        member: &str,
        request: InspectRequest,
        deadline: Instant,
    ) -> Result<InspectResponse, ForwardError>;
}

/// Runs a request that another node forwarded, and answers its questions.
#[tonic::async_trait]
pub trait ForwardTarget: Send + Sync + 'static {
    /// Runs `request` on this node: a write only if it leads, a linearizable read also if it follows. Only if the
    /// request bears the mark `relay` and another node leads is it passed on, to that one and without the mark. A
    /// question is answered and nothing is run.
    async fn run_forwarded(
        &self,
        request: ForwardRequest,
        deadline: Instant,
        trace: Option<TraceContext>,
    ) -> Result<ForwardResponse, Status>;

    /// Answers a question about this node.
    async fn inspect(&self, request: InspectRequest) -> Result<InspectResponse, Status>;
}

/// Why a forwarded request has no response.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// Nothing was sent: the request was certainly not run.
    #[error("{member} could not be reached: {cause}")]
    NotSent {
        /// The name of whom it was for.
        member: String,
        /// What failed.
        cause: String,
    },
    /// An error was answered, to be passed on as it is.
    #[error("it was answered with {0}")]
    Answered(Box<Status>),
    /// The connection or the deadline ended before the answer: the request may have been run.
    #[error("the answer of {member} was lost: {cause}")]
    Lost {
        /// The name of whom it was sent to.
        member: String,
        /// What failed.
        cause: String,
        /// Whether it was the deadline.
        deadline_exceeded: bool,
    },
}
