//! Traces, logs and metrics: what a node tells about itself.
//!
//! Logs are [`tracing`] events on standard error; which ones can be changed while the node runs. Traces are
//! OpenTelemetry spans, exported over OTLP when the standard `OTEL_*` environment asks for it; they are built directly
//! and not from `tracing` spans, because a span object costs several microseconds even when nobody records it, a tenth
//! of a whole request. So whether a request is traced is decided before anything is built for it: a [`RequestSpan`] of
//! an unsampled request is an empty value.
//!
//! A sampled request is followed by its [`TraceContext`]: it travels in request metadata from client to node
//! ([`server_span`]), from node to node ([`inject`]), and beside log entries to the followers ([`child_span`]).
//!
//! What leaves the node can never slow it down: spans go through a bounded queue to a thread of their own, and are
//! dropped when it is full.

mod context;
mod environment;
mod init;
mod journal;
mod log_filter;
mod metrics;
mod pulse;
mod push;
mod reporting;
mod span;
mod stage;
mod tracer;

#[cfg(test)]
mod tests;

pub use context::{TraceContext, extract, inject};
pub use environment::{ExportSettings, Sampler, TraceSettings};
pub use init::{TelemetryError, TelemetryGuard, TelemetryOptions, init};
pub use journal::{KeptTrace, SlowTrace};
pub use log_filter::{LogFilters, log_filters, update_log_filter};
pub use metrics::{AnsweredSoFar, Distribution, Measured, Metrics, Page, RequestKind, Split, TextFormat};
pub use opentelemetry::trace::SpanKind;
pub use pulse::Pulse;
pub use push::{MetricsPush, push_metrics};
pub use span::{RequestSpan, child_span, own_span, pipelined_span, server_span};
pub use stage::{Stage, forget_old, is_slow, record, record_root, record_slow, reserve};
pub use tracer::{kept_trace, slowest, unix_millis, unix_nanos};
