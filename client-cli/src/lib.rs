//! The client library of Quorate, a replicated, linearizable key-value store.
//!
//! A [`Client`] knows some of a cluster's nodes. Any node answers any request; the client learns from the answers which
//! node leads and goes there directly next time. It connects when it is first used, tries another node when one does
//! not answer, and bounds each request by one deadline over all its attempts.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use client_cli::{Client, Error, Options, PutOptions};
//!
//! let client = Client::connect(Options::new(["127.0.0.1:7001", "127.0.0.1:7002", "127.0.0.1:7003"])?);
//! match client.put("greeting", "hello", PutOptions::default()).await {
//!     Ok(written) => println!("revision {}", written.revision),
//!     Err(Error::KeyExists { key, .. }) => println!("{key} is there already"),
//!     Err(error) if error.outcome() == client_cli::Outcome::Unknown => println!("it may have been written: {error}"),
//!     Err(error) => println!("certainly not written: {error}"),
//! }
//! let found = client.get("greeting").await?;
//! assert_eq!(found.key_value.value.as_ref(), b"hello");
//! # Ok(())
//! # }
//! ```
//!
//! # What is retried
//!
//! An attempt that was *certainly not applied* is repeated elsewhere, with back-off and jitter, until the deadline:
//! nothing was handed to a connection, or a node said so (`outcome = NOT_APPLIED`, or `UNAVAILABLE` with Quorate's
//! `ErrorInfo`). Reads are always repeatable, and an endpoint that is slow to answer one is left for another.
//!
//! A *write* whose outcome is not known is never repeated: the first attempt may have been applied, and the second
//! would then be told that the key exists. It is reported as [`Error::OutcomeUnknown`]. So that this stays rare, a
//! write is entrusted only to a connection that has answered lately; any other is asked for the node's status first,
//! which shows a node that accepts connections but hangs while nothing is at stake yet.

mod backoff;
mod client;
mod endpoint;
mod error;
mod names;
mod request_id;
mod routes;
mod trace;

pub use client::{
    Client, Deleted, Found, KeyValue, Leader, Options, PutMode, PutOptions, Settled, VALUE_BYTES_MAX, Written,
};
pub use endpoint::{Endpoint, EndpointError};
pub use error::{Attempt, Error, Failure, Outcome};
pub use proto::admin::v1::{Member, Role, StatusResponse};
pub use request_id::{RequestId, RequestIdError};
