//! Fuzz targets over everything that decodes what others sent, also run as plain tests.
//!
//! A target is a function that takes arbitrary bytes and panics on a finding. It reads structure out of them with a
//! cursor that never fails ([`input`]), so that nearly all inputs reach the code behind the first checks, and judges
//! what comes out by rules that are written down here a second time, from the documents and not from the code.
//!
//! The same functions are run by libFuzzer (`libfuzzer/`), by the tests of this crate over a corpus in the tree and
//! mutations of it, and by whatever iterates over [`TARGETS`] with [`hunt`]. The README says how.

#[cfg(feature = "rpc")]
pub mod client_rpc;
pub mod command;
mod disk;
mod hunting;
pub mod input;
pub mod model;
pub mod mutation;
mod node;
pub mod peer_message;
#[cfg(feature = "rpc")]
pub mod peer_rpc;
mod rules;
pub mod snapshot_decode;
pub mod wal_decode;

pub use hunting::{Outcome, Target, attempt, corpus, corpus_folder, derive, hunt, named_corpus};
pub use mutation::mutate;

/// All targets. Those behind the shell are there only with the feature `rpc`.
pub const TARGETS: &[Target] = &[
    Target { name: "peer_message", run: peer_message::run },
    Target { name: "wal_decode", run: wal_decode::run },
    Target { name: "snapshot_decode", run: snapshot_decode::run },
    Target { name: "command", run: command::run },
    #[cfg(feature = "rpc")]
    Target { name: "client_rpc", run: client_rpc::run },
    #[cfg(feature = "rpc")]
    Target { name: "peer_rpc", run: peer_rpc::run },
];
