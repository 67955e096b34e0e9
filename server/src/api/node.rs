//! What the services need of a node: the seam at which tests and fuzz targets put another.

use std::future::Future;
use std::time::Instant;

use engine::kv;
use tokio::sync::watch;

use crate::node::{
    Batch, Get, Leader, NodeEvent, NodeHandle, NodeStatus, ReadError, ReadResult, RequestContext, TransferError,
    Unavailable, WriteError, WriteResult,
};

/// A node, as [`NodeHandle`] describes it.
pub trait Node: Send + Sync + 'static {
    /// See [`NodeHandle::write`].
    fn write(
        &self,
        request: kv::Request,
        context: RequestContext,
    ) -> impl Future<Output = Result<WriteResult, WriteError>> + Send;

    /// See [`NodeHandle::read`].
    fn read(&self, get: Get, context: RequestContext) -> impl Future<Output = Result<ReadResult, ReadError>> + Send;

    /// See [`NodeHandle::submit_batch`].
    ///
    /// # Errors
    ///
    /// None of the operations was run, or ever will be: why, and the batch.
    fn submit_batch(&self, batch: Batch) -> Result<(), (Unavailable, Batch)>;

    /// See [`NodeHandle::transfer_leadership`].
    fn transfer_leadership(
        &self,
        target: Option<String>,
        until: Instant,
    ) -> impl Future<Output = Result<(Leader, u64), TransferError>> + Send;

    /// See [`NodeHandle::fresh_status`].
    fn fresh_status(&self) -> impl Future<Output = NodeStatus> + Send;

    /// See [`NodeHandle::subscribe`].
    fn subscribe(&self) -> watch::Receiver<NodeStatus>;

    /// See [`NodeHandle::events`].
    fn events(&self) -> Vec<NodeEvent>;
}

impl Node for NodeHandle {
    async fn write(&self, request: kv::Request, context: RequestContext) -> Result<WriteResult, WriteError> {
        NodeHandle::write(self, request, context).await
    }

    async fn read(&self, get: Get, context: RequestContext) -> Result<ReadResult, ReadError> {
        NodeHandle::read(self, get, context).await
    }

    fn submit_batch(&self, batch: Batch) -> Result<(), (Unavailable, Batch)> {
        NodeHandle::submit_batch(self, batch)
    }

    async fn transfer_leadership(
        &self,
        target: Option<String>,
        until: Instant,
    ) -> Result<(Leader, u64), TransferError> {
        NodeHandle::transfer_leadership(self, target, until).await
    }

    async fn fresh_status(&self) -> NodeStatus {
        NodeHandle::fresh_status(self).await
    }

    fn subscribe(&self) -> watch::Receiver<NodeStatus> {
        NodeHandle::subscribe(self)
    }

    fn events(&self) -> Vec<NodeEvent> {
        NodeHandle::events(self)
    }
}
