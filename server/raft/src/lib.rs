//! The Raft consensus algorithm as a pure state machine.
//!
//! This crate follows the paper, D. Ongaro and J. Ousterhout, "In Search of an Understandable Consensus Algorithm
//! (Extended Version)", 2014, cited as §, and D. Ongaro's thesis "Consensus: Bridging Theory and Practice", 2014,
//! cited as thesis §. It keeps their words.
//!
//! It has no I/O, no clock, no threads and no randomness but a seed. Equal inputs give equal outputs, so a bug that a
//! simulator finds in one run of a million is found again in every later run of that seed. It knows no byte format
//! and no transport either: those belong to the *driver*, which feeds one [`Raft`] with inputs and carries out what
//! comes back as [`Ready`].
//!
//! # The contract with the driver
//!
//! ```text
//!        tick  step  propose  read  transfer_leadership  unreachable, peer_gone
//!          │     │      │      │            │                │   snapshot_taken, compacted
//!          ▼     ▼      ▼      ▼            ▼                ▼         │
//!   ┌─────────────────────────────────────────────────────────────┐◀───┘
//!   │                                                             │  persisted
//!   │                            Raft                             │◀───────────┐
//!   └─────────────────────────────────────────────────────────────┘  applied   │
//!          │ ready()                                             ▲  fetched    │
//!          ▼                                                     │  install    │
//!   Ready { persist ──────────▶ write in order ──▶ durable ──────┼─────────────┤
//!           messages ─────────▶ send now                         │             │
//!           messages_after_persist ──▶ send when `wait_for` is durable         │
//!           committed ────────▶ apply in order ──────────────────┼─────────────┤
//!           fetches ──────────▶ read back from the log ──────────┼─────────────┤
//!           snapshot_offers ──▶ get a snapshot from a peer ──────┘─────────────┘
//!           reads, aborted_reads, events }
//! ```
//!
//! The driver promises:
//!
//! 1. It calls [`Raft::ready`] after each input, or after a bounded number of them, until [`Raft::has_ready`] is
//!    false. Proposals made between two calls travel in one message per follower.
//! 2. It writes batches in the order of their numbers and reports them durable in that order, when they really are
//!    (after fsync). It may go on meanwhile, with any number of batches under way. What is found on the disk after a
//!    crash is what some prefix of the batches leaves there.
//! 3. It sends `messages_after_persist` only when `wait_for` is durable. They are promises; `messages` promise
//!    nothing that a crash could break. A leader's AppendEntries are among the latter: they leave while its own disk
//!    is still writing (thesis §10.2.1), because the leader counts itself only for what is durable.
//! 4. It applies `committed` in order and reports it with [`Raft::applied`]. A read is served when its index is
//!    applied.
//! 5. It answers each fetch exactly once, if need be with nothing.
//! 6. It says that it has a snapshot ([`Raft::snapshot_taken`], [`Raft::install`]) when that survives a crash. It cuts
//!    its log off up to [`Raft::cuttable_index`] at most, and says so ([`Raft::compacted`]). When [`Raft::install`]
//!    returns true, it replaces its state before it applies anything else. A restart that finds a snapshot whose last
//!    entry is not in the log takes that for the log, as if the batch with [`Batch::reset_to`] had been written.
//! 7. It has leases only while a restart would say that it [may have promised](Restored::may_have_promised) something,
//!    and relies on [`Raft::promised_round`] for less than the shortest election timeout from when that round began.
//! 8. It treats any failure to write as the end of this process: a write that failed has an unknown effect.
//!
//! In return nothing that a peer sends makes the core panic or grow: a message is handled, or refused with a reason
//! ([`Refused`]) and without effect. A panic is a broken invariant, of this crate or of the driver.
//!
//! # The indexes of a log
//!
//! ```text
//!   1               first      first in memory   applied   handed out    committed         last
//!   ├─ snapshot only ─┼─ on disk only ─┼── tail ──────┼──────────┼─────────────┼───────────────┤
//!                         ▲ snapshot: anywhere from first - 1 to applied
//!                                                      durable and staged: anywhere up to last
//! ```
//!
//! - applied ≤ handed out ≤ committed ≤ last: what is applied was handed out, what is handed out is committed.
//! - durable ≤ staged ≤ last: what is on disk was in a batch, what was in a batch is in the log.
//! - first - 1 ≤ snapshot ≤ applied: what was cut off is in the snapshot. The tail may reach back before first.
//! - The term is known of every index up to last, from 1 on, whatever was cut off.
//! - first in memory ≤ applied + 1: whatever this node may still need of its own accord is in memory.
//! - A snapshot that is installed ends behind committed and becomes applied, committed, durable and last at once.
//! - For each follower, match < next ≤ last + 1. For this term, match never falls.
//! - committed ≤ durable does **not** hold. A majority of others may have an entry before this node's own disk has,
//!   and then it may be applied here. A restart loses nothing by it: the entry is on a majority.
//! - A hard state's `commit_index` is at most the last entry written before it. It is a hint.
//!
//! # Why it is safe
//!
//! Lines on which the paper's proofs rest carry a comment that begins with `SAFETY`, the section, and what it is for;
//! searching for that word gives the outline of the argument. `invariants` holds what must be true of every state and
//! of every step, and debug builds check it after each input.
//!
//! # Deviations from the paper
//!
//! - **Pre-vote** (thesis §9.6) before every election that no leader asked for; a candidate whose election timeout
//!   passes goes back to it. §5.2 lets it campaign at once in a higher term.
//! - **Two reasons to campaign before the election timeout** (§5.2 has none), always with a pre-vote: the end of the
//!   leader's process, and a pre-vote that was refused for the asker's log alone. See `election`.
//! - **Stickiness** (§6, thesis §4.2.3): who heard of a leader within the shortest election timeout, and every leader,
//!   ignores requests for votes in later terms, but for those of a leadership transfer, and later terms in answers to
//!   votes that it asked for itself before. §5.1 adopts any later term.
//! - **An election is left alone** (§5.2 has no such rule): who has voted grants no pre-vote for half of the shortest
//!   election timeout, or until it hears of a leader.
//! - **Leases rest on promises of their own** (thesis §6.4.1 has them rest on stickiness), and are measured by the
//!   driver. They are off unless it switches them on. See `lease`.
//! - **Check-quorum** (thesis §6.2): a leader that heard of no quorum for the longest election timeout steps down. The
//!   paper's leader leads on until it sees a later term.
//! - **A leader whose disk stands still** for the longest election timeout steps down and asks its best follower to
//!   take over, and does not campaign until the disk goes on: see `stall`. The paper's servers wait for their disks.
//! - **A vote for oneself is a vote like any other** (§5.2): a candidate asks others only when its own is durable, and
//!   counts it only then.
//! - **The leader's own log counts when it is durable** (§5.3; thesis §10.2.1 allows sending before that), and may be
//!   missing from the majority that commits.
//! - **Heartbeats are messages of their own** (§5.2 uses empty AppendEntries). They are small, overtake bulk, carry
//!   rounds of ReadIndex, and commit no more than the follower is known to have.
//! - **Rejections carry a hint of index and term** (end of §5.3, there called unnecessary in practice): each exchange
//!   skips at least a whole term of conflicts.
//! - **Flow control** (not in the paper): see `progress`. §5.3 retries for ever; here a silent follower gets only
//!   heartbeats.
//! - **A follower that already heard from the leader of a term does not vote in it** (§5.2 would let it, if it has not
//!   voted; no candidate could win any more).
//! - **Messages that contradict what a correct peer can say are refused whole** (the paper assumes crash faults only),
//!   among them terms more than 2^32 ahead and a second leader in a term.
//! - **The commit index is written along, as a hint** (Figure 2 has it volatile), so that a restarted node can apply
//!   without a leader. A term found in the log counts as seen, whatever the hard state says.
//! - **Snapshots are pulled** (§7 and Figure 13 have the leader push them in chunks). The core's InstallSnapshot only
//!   offers one; the driver fetches the file beside the protocol, at its own pace, and goes on where it was after a
//!   broken link or an election. Because a snapshot is committed state, it may come from anyone, and be of another
//!   index than the one that was offered. The answer to an offer is that of an AppendEntries.
//! - **The terms of the whole log are kept** when its entries are cut off (§7 keeps those of the last one only), and
//!   travel in the snapshot: a few bytes for each leader that wrote something. So no comparison of logs ever ends at
//!   "compacted, unknown".
//! - **A node may have forgotten what it promised**, when its disk lost part of its log (the paper's servers have
//!   stable storage). It follows in a later term and does not vote until that cannot matter any more: see `snapshot`.
//! - **A follower's reads** (thesis §6.4 has it ask the leader, which asks a majority): the question itself vouches for
//!   its sender, so a leader that makes a majority with the sender answers at once. See `read_index`.
//! - **Reads without a leader** (not in the paper): a majority says how far a state must be. See `quorum_read`.
//! - **Members are given, not logged** (§6): the configuration can be joint and can have learners, but does not yet
//!   change while running.
//!
//! # Words that are not in the paper
//!
//! *Ready*: what the driver has to do. *Batch*: one unit of writing. *Staged*: handed out in a batch. *Run*: a stretch
//! of the log of one term. *Tail*: the entries in memory. *Progress*: a leader's account of a member. *Nudge*: an
//! AppendEntries without entries that finds out what got lost. *Offer*: an InstallSnapshot. *Recovering*: having
//! forgotten promises. *Promise*, of leases: to elect nobody for a while. *Round*: one question to the majority whether
//! the term still is the latest. *Question*: what a follower asks its leader for its reads. *Witness*: what a voter
//! says of its log and state to a read that asks no leader. *Learner*: a member that receives the log and is never
//! counted.

#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod configuration;
mod digest;
mod election;
mod error;
mod follower;
mod invariants;
mod lease;
mod log;
mod message;
mod options;
mod progress;
mod quorum_read;
mod raft;
mod random;
mod read_index;
mod reads;
mod ready;
mod replication;
mod snapshot;
mod staging;
mod stall;
mod status;
mod terms;
mod transfer;
mod types;

pub use configuration::{Ballot, Configuration, ConfigurationError};
pub use error::{ProposeError, ReadError, Refused, SetupError, TransferError};
pub use message::{AppendResult, Body, Message, Question};
pub use options::{Options, Restored};
pub use quorum_read::{ConfigurationId, Poll, Witness};
pub use raft::Raft;
pub use reads::READS_MAX;
pub use ready::{Batch, Event, Fetch, Ready, SnapshotOffer};
pub use status::{ProgressView, Role, Status};
pub use types::{BatchNumber, ENTRY_OVERHEAD_BYTES, Entry, HardState, Index, NodeId, Payload, ReadId, Term};
