//! The client library of Quorate, a replicated, linearizable key-value store.
//!
//! A [`Client`] knows some of a cluster's nodes. Any node answers any request; the client learns from the answers which
//! node leads and goes there directly next time. It connects when it is first used, tries another node when one does
//! not answer, and bounds each request by one deadline over all its attempts.
//!
//! ```
//! # // The examples run against a node that is faked as in the tests.
//! # #[path = "../tests/against_nodes/fake/mod.rs"]
//! # mod fake;
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use client_cli::{Client, Error, Options, PutMode};
//!
//! let endpoints = ["127.0.0.1:7001", "127.0.0.1:7002", "127.0.0.1:7003"];
//! # let node = fake::Node::start();
//! # let endpoints = [node.endpoint()];
//! let client = Client::connect(Options::new(endpoints)?);
//! let written = client.put("greeting", "hello", PutMode::Create).await?;
//!
//! match client.put("greeting", "good day", PutMode::Create).await {
//!     Err(Error::KeyExists { key, .. }) => println!("{key} is there already"),
//!     other => panic!("it was just written: {other:?}"),
//! }
//! client.put("greeting", "good day", PutMode::Compare(written.revision)).await?;
//!
//! let found = client.get("greeting").await?;
//! assert_eq!(found.key_value.value.as_ref(), b"good day");
//! client.delete("greeting", None).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # A write runs once
//!
//! Each write has a name, a [`RequestId`], by which the cluster knows it again: however often it is sent, it is run
//! once, and each attempt is told what came of it then. So an answer that was lost is simply asked for again, until the
//! deadline, also at another node, after a failover or a restart. Only if all of that time brings no answer the caller
//! gets an [`Error::OutcomeUnknown`]; it has the name, and [`Client::get_outcome`] settles the write, then or later, in
//! this process or in another.
//!
//! ```
//! # #[path = "../tests/against_nodes/fake/mod.rs"]
//! # mod fake;
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use client_cli::{Client, Options, Outcome, PutMode, Settled};
//! use std::time::Duration;
//!
//! # let node = fake::Node::start();
//! # let endpoints = [node.endpoint()];
//! let client = Client::connect(Options::new(endpoints)?.timeout(Duration::from_millis(500)));
//! # node.instead(fake::Instead::DoAndHang);
//! if let Err(error) = client.put("greeting", "hello", PutMode::Create).await {
//!     match error.request_id() {
//!         Some(id) => match client.get_outcome(id).await? {
//!             Settled::Put(written) => println!("it was applied, at revision {}", written.revision),
//!             Settled::NeverApplied => println!("it never will be applied"),
//!             settled => println!("{settled:?}"),
//!         },
//!         None if error.outcome() == Outcome::NotApplied => println!("certainly not applied: {error}"),
//!         None => println!("nobody can tell any more: {error}"),
//!     }
//! }
//! # assert_eq!(client.get("greeting").await?.revision, 1);
//! # Ok(())
//! # }
//! ```
//!
//! The names of a client's writes are numbered within a session, which it opens by drawing a random number. The cluster
//! forgets a session in which nothing was asked for an hour (or earlier, if there are too many); the client then goes
//! on in another, and nobody notices, unless an attempt of the very write may have been applied before.
//!
//! # Which state a get reads
//!
//! [`Client::get`] is linearizable: it sees every write that was acknowledged before. [`Client::get_with`] takes other
//! levels of [`Consistency`]: from a majority, without a leader; or what one node has, at once, within a bound of its
//! age if that is wanted.
//!
//! ```
//! # #[path = "../tests/against_nodes/fake/mod.rs"]
//! # mod fake;
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use client_cli::{Client, Consistency, Options, PutMode};
//! use std::time::Duration;
//!
//! # let node = fake::Node::start();
//! # let endpoints = [node.endpoint()];
//! let client = Client::connect(Options::new(endpoints)?);
//! client.put("greeting", "hello", PutMode::Create).await?;
//! let stale = Consistency::Stale { max_staleness: Some(Duration::from_millis(500)) };
//! let found = client.get_with("greeting", stale).await?;
//! assert_eq!(found.key_value.value.as_ref(), b"hello");
//! # assert!(found.staleness.is_some());
//! # Ok(())
//! # }
//! ```
//!
//! Whichever nodes answer, a client sees its own writes, and never a state before one that an answer has told it of: it
//! keeps the highest revision, and its gets ask for a state that has come as far. (Those from a majority do not: they
//! see every acknowledged write to their key anyway.) What others have seen is none of its knowledge; who tells them
//! something tells them the revision too, for [`GetOptions::min_revision`].
//!
//! A stale get begins at any node, not at the leader: that is what it is for, and what it asks for keeps it from going
//! back. A node that refuses it is asked last for a while.
//!
//! # Many at once
//!
//! Requests that are under way at the same time travel together: puts, gets, deletes and questions for outcomes share
//! one stream to each node, and all that is queued when the connection can carry more is one frame. One that is alone
//! waits for nobody. So a program that wants to do much keeps many futures under way, on one client or its clones, and
//! does nothing else for it; up to 4,096 are sent at once, and the others wait within their own deadlines.
//!
//! ```
//! # #[path = "../tests/against_nodes/fake/mod.rs"]
//! # mod fake;
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use client_cli::{Client, Options, PutMode};
//! use tokio::task::JoinSet;
//!
//! # let node = fake::Node::start();
//! # let endpoints = [node.endpoint()];
//! let client = Client::connect(Options::new(endpoints)?);
//! let mut puts = JoinSet::new();
//! for at in 0..1000 {
//!     let client = client.clone();
//!     puts.spawn(async move { client.put(format!("key {at}"), "value", PutMode::Create).await });
//! }
//! while let Some(put) = puts.join_next().await {
//!     put??;
//! }
//! # assert_eq!(client.open_streams(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! Each keeps its own deadline, retries and outcome, as if it were a call of its own. That is what it becomes at a node
//! that knows no streams, and with [`Options::pipelining`] set to false, which is better for a single request.
//!
//! # Dropped futures
//!
//! Nothing is left behind by dropping the future of a request. See [`Client`] for what becomes of a write then.
//!
//! # What is certain
//!
//! An error of a write is certain, nothing was written ([`Outcome::NotApplied`]), if for **each** attempt
//!
//! - the request was not handed to a connection (it was still queued for a stream, for example), or
//! - a node said so: its error has Quorate's `ErrorInfo` with `outcome = NOT_APPLIED`, or names no outcome and has a
//!   code that only a refusal has (`UNAVAILABLE` among them; `UNKNOWN`, `DEADLINE_EXCEEDED`, `CANCELLED`, `ABORTED`,
//!   `INTERNAL` and `DATA_LOSS` are not), or
//! - the cluster did not know the write's session (`SESSION_EXPIRED`, `REQUEST_ID_AHEAD`),
//!
//! or if **any** attempt was told what came of the write when it was run (`KEY_EXISTS`, `KEY_NOT_FOUND`,
//! `REVISION_MISMATCH`), or that it never will be (`REQUEST_FENCED`): that settles all others.
//!
//! Anything else leaves an attempt unknown: a connection that was lost, a time that passed, and every status without
//! Quorate's `ErrorInfo`, whatever its code, because a library or a proxy on the way made it. The write is then
//! repeated under its name. It ends as [`Error::OutcomeUnknown`] when the deadline passes or a node refuses it at the
//! door (a full disk says nothing of an earlier attempt), and as [`Error::SessionExpired`] if its session was forgotten
//! meanwhile: it is **never** sent under a second name after an attempt that may have been applied.
//!
//! # What is retried, and where
//!
//! All requests but a handover of leadership are repeated until the deadline, with back-off and jitter, or after the
//! pause that a node asks for. An endpoint that does not answer within a second ([`Options::attempt_timeout`]) is left
//! for another; one that failed is asked last for a while, longer each time. So that few outcomes become unknown at
//! all, a write is entrusted only to a connection that has answered lately; any other is asked for the node's status
//! first, which shows a node that accepts connections but hangs while nothing is at stake yet.
//!
//! A get that is slower than is usual for its endpoint is sent to a second one as well, and the first answer counts
//! ([`Options::hedged_reads`]).
//!
//! A name with several addresses is as many endpoints: each is tried on its own, and the name is looked up again when
//! one of them gives no answer. Connections are probed: by HTTP/2 pings while a request is under way, by the kernel
//! else.

mod backoff;
mod client;
mod endpoint;
mod error;
mod names;
mod request_id;
mod routes;
mod trace;

pub use client::{
    Client, Consistency, Deleted, Found, GetOptions, KeyValue, Leader, Options, PutMode, PutOptions, Setting, Settled,
    VALUE_BYTES_MAX, Written,
};
pub use endpoint::{Endpoint, EndpointError};
pub use error::{Attempt, Error, Failure, Outcome};
pub use proto::admin::v1::{Member, Role, Settings, SlowRequest, Span, SpanKind, StatusResponse};
pub use request_id::{RequestId, RequestIdError};
