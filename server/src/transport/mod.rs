//! What nodes say to each other: one gRPC client per peer, and the raft.v1 service.
//!
//! Between two nodes there are five connections in each direction, so that one kind of traffic never waits behind
//! another: entries (`AppendEntries`), everything that must not wait for entries (`Control`: votes, heartbeats,
//! handover; and `Identify`), reads that need no leader (`ReadReplica`), what nothing may wait for (`Side`: pieces of
//! snapshots, hashes of states), and forwarded client requests (`Forward`).
//!
//! A stream belongs to the node that opened it: requests go from the opener to the other, answers come back on it. Each
//! direction of each stream is a [`Lane`], open while its stream is. A message for a closed or full lane is dropped
//! and said to be undelivered, as Raft allows: nothing here stores or retries messages, and nothing is unbounded.
//!
//! Names are resolved each time a connection is made; no address is ever stored.

mod connect;
pub mod convert;
mod forwarder;
mod identify;
mod inbox;
mod link;
mod peer;
pub mod replica;
mod service;
pub mod side;

pub use convert::Traces;
pub use forwarder::PeerForwarder;
pub use identify::{Board, Introduction, ask_who};
pub use inbox::{Inbound, Inbox, InboxReceivers};
pub use link::{Lane, Links, Undelivered};
pub use peer::{PeerAddress, spawn_peers};
pub use service::{PeerService, ServiceParts};

/// The largest message that a peer may send: an AppendEntries holds at most 1 MiB of entries, or a single larger one of
/// at most 1 MiB and a key; the rest is room for per-entry overhead and for other defaults in a later version.
pub const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The metadata key of the cluster's id: 32 hexadecimal digits.
pub const CLUSTER_ID_KEY: &str = "quorate-cluster-id";

/// The metadata key of the opener's incarnation: 16 hexadecimal digits.
pub const FROM_KEY: &str = "quorate-from";

/// The metadata key of the incarnation that the opener means to speak to: 16 hexadecimal digits.
pub const TO_KEY: &str = "quorate-to";

/// In the metadata of a refusal of ours: nothing of the request was run. It tells the refusal from a status that a
/// library made up on the way.
pub const REFUSED_KEY: &str = "quorate-refused";
