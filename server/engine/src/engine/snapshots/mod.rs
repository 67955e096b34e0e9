//! The engine's snapshots: when one is taken, which are kept, how one gets to a follower, and the disk work of it all.
//!
//! A machine without I/O, as the log is: what is to be done comes out as [`SnapshotWork`] and comes back as
//! [`SnapshotCompletion`]. Nothing here is urgent, and nothing that is waits for it.
//!
//! - **Taken** when the log since the last one is larger than that was, and than a bound: so all snapshots together
//!   cost no more writing than the log does. The first one comes earlier on some nodes than on others, so that the
//!   nodes of a cluster do not all take theirs at once; what follows keeps that distance.
//! - **Kept** are the two newest, and the log behind the older of them. If the newest is damaged, nothing is lost; and
//!   a follower that needs a snapshot has as long to fetch it as it takes to write two. One that needs longer holds on
//!   to what it fetches, within a bound.
//! - **Fetched** by a follower whose log ends before its leader's begins, see `fetching`; from whom, see `sources`.
//! - **Given up** when they cannot be used, see `unusable`.

mod checking;
mod fetching;
mod loading;
mod sources;
mod taking;
mod unusable;
mod work;

use std::collections::{BTreeMap, BTreeSet};

use raft::{Index, NodeId, SnapshotOffer};

use crate::kv::Store;
use crate::replica::Replica;
use crate::side::{SideBody, SideMessage};
use crate::snapshot::{Meta, SnapshotError, Stored};

use fetching::{Fetching, Pace, WINDOW_PIECES};
use sources::Sources;
use taking::{Step, Taking};
use work::{CompletionKind, WorkKind};

pub(super) use loading::{Loaded, load};
pub(super) use taking::take_whole;

pub use loading::LoadError;
pub use unusable::UnusableSnapshot;
pub use work::{SnapshotCompletion, SnapshotExecutor, SnapshotWork, TakeError};

/// How many snapshots are kept.
const KEPT: usize = 2;

/// While the log is larger than so many times what triggers a snapshot, no follower can hold on to an old one: it
/// would be too slow ever to catch up, and the disk is not its own.
const HELD_LOG_FACTOR: u64 = 4;

/// So many snapshots at most are kept because the oldest of them is held on to, beside those that are kept anyway: each
/// stands for as much log as makes one due.
const HELD_MAX: usize = 3;

/// A follower that fetches holds on to its snapshot for so many timeouts after its last request.
const HOLD_TIMEOUTS: u64 = 30;

/// While the disk is almost full, a snapshot is taken so many times as often.
const SHORT_OF_ROOM_PARTS: u64 = 16;

/// After a snapshot that found the disk full, or did not come whole, the next is tried so many timeouts later.
const RETRY_TIMEOUTS: u64 = 10;

/// How an engine's snapshots are set up.
pub(super) struct SnapshotsOptions {
    pub(super) id: NodeId,
    /// See [`EngineOptions::snapshot_log_bytes_min`](super::EngineOptions).
    pub(super) log_bytes_min: u64,
    /// The node's place among the members, from 0, and how many there are.
    pub(super) place: (u64, u64),
    /// See [`EngineOptions::snapshot_chunk_bytes`](super::EngineOptions).
    pub(super) piece_bytes: usize,
    /// The longest election timeout, in ticks: what is silent for so long is asked again.
    pub(super) timeout_ticks: u32,
}

/// What a peer fetches.
struct Held {
    index: Index,
    /// When it last asked for a piece.
    asked_at: u64,
    /// Where the last of the pieces begins that it asked for.
    furthest: u64,
}

/// What a completion led to, for the engine to act on.
pub(super) enum Outcome {
    /// This node has a new snapshot of its own.
    Taken { index: Index },
    /// A peer's snapshot is in its place on the disk.
    Loaded(Box<Loaded>),
}

/// The machine.
pub(super) struct Snapshots {
    options: SnapshotsOptions,
    /// Ascending by index.
    stored: Vec<Stored>,
    /// The size of the entries between the newest snapshot of the start and what was applied then, in bytes.
    log_bytes_at_start: u64,
    /// The size of all entries that the newest snapshot covers, in bytes counted from that first one.
    covered_bytes: u64,
    /// The last index of the snapshot that is being taken, if one is, and the same of it.
    taking: Option<(Index, u64)>,
    /// The next snapshot is the first, or follows on a peer's: it keeps this node's distance from the others.
    in_step: bool,
    fetching: Option<Fetching>,
    installing: bool,
    /// Who gave what is being installed.
    source: Option<NodeId>,
    sources: Sources,
    /// Those of `stored` that are not what was written, or cannot be read.
    unsound: BTreeSet<Index>,
    /// One of `stored` is being read, to see whether it is sound.
    checking: bool,
    /// None is before this.
    check_at_ticks: u64,
    /// What people are to be told.
    unusable: Vec<UnusableSnapshot>,
    /// Which snapshot each peer fetches.
    held: BTreeMap<NodeId, Held>,
    /// How many pieces are being read for each peer, or wait for it.
    serving: BTreeMap<NodeId, u64>,
    now_ticks: u64,
    retry_at_ticks: u64,
    /// No snapshot is fetched before this.
    fetch_at_ticks: u64,
    /// Writes are refused because the disk is almost full.
    is_short_of_room: bool,
    /// How many snapshots are kept: fewer than usual while the disk had no room for the next one.
    kept: usize,
    work: Vec<WorkKind>,
    messages: Vec<SideMessage>,
}

impl Snapshots {
    /// With what is on the disk. `log_bytes` is the size of the entries behind the newest of `sound`; what is
    /// `unreadable` is newer.
    pub(super) fn new(
        options: SnapshotsOptions,
        sound: Vec<Stored>,
        unreadable: Vec<Stored>,
        log_bytes: u64,
    ) -> Snapshots {
        let unsound = unreadable.iter().map(|stored| stored.index).collect();
        let mut stored = [sound, unreadable].concat();
        stored.sort_unstable_by_key(|stored| stored.index);
        Snapshots {
            in_step: !stored.is_empty(),
            options,
            stored,
            unsound,
            log_bytes_at_start: log_bytes,
            covered_bytes: 0,
            taking: None,
            fetching: None,
            installing: false,
            source: None,
            sources: Sources::default(),
            checking: false,
            check_at_ticks: 0,
            unusable: Vec::new(),
            held: BTreeMap::new(),
            serving: BTreeMap::new(),
            now_ticks: 0,
            retry_at_ticks: 0,
            fetch_at_ticks: 0,
            is_short_of_room: false,
            kept: KEPT,
            work: Vec::new(),
            messages: Vec::new(),
        }
    }

    /// The last index of the newest sound snapshot, and its size in bytes; zeros without one.
    pub(super) fn newest(&self) -> (Index, u64) {
        let newest = self.stored.iter().rfind(|stored| self.is_sound(stored));
        newest.map_or((Index::ZERO, 0), |stored| (stored.index, stored.bytes))
    }

    /// How much log there is since the newest snapshot, in bytes of entries, those that were dropped included: they
    /// take their room on the disk until the segments that hold them go.
    pub(super) fn log_bytes(&self, replica: &Replica) -> u64 {
        self.all_bytes(replica).saturating_sub(self.covered_bytes)
    }

    fn all_bytes(&self, replica: &Replica) -> u64 {
        self.log_bytes_at_start + replica.settled_bytes()
    }

    /// How much log there has to be for the next one.
    fn due_bytes(&self) -> u64 {
        if self.is_short_of_room {
            // Deletions make room only when what they left is written and the log that led there is cut.
            return self.options.log_bytes_min / SHORT_OF_ROOM_PARTS;
        }
        let due = self.cycle_bytes();
        let (place, count) = self.options.place;
        if self.in_step { due } else { due / count.max(1) * (place + 1) }
    }

    /// How much log is let go of with each snapshot, and used up again until the next: so much of its files is worth
    /// keeping, and takes no more room than the log needs anyway. Nothing is while the disk is almost full.
    pub(super) fn cycle_bytes(&self) -> u64 {
        if self.is_short_of_room { 0 } else { self.options.log_bytes_min.max(self.newest().1) }
    }

    /// Whether the disk is almost full.
    pub(super) fn observe_room(&mut self, is_short_of_room: bool) {
        self.is_short_of_room = is_short_of_room;
    }

    /// Whether a snapshot of this node's own is being written.
    pub(super) fn is_taking(&self) -> bool {
        self.taking.is_some()
    }

    /// Begins a snapshot if one is due.
    pub(super) fn maybe_take(&mut self, replica: &Replica) {
        let busy = self.taking.is_some() || self.installing || self.now_ticks < self.retry_at_ticks;
        let is_due = replica.applied() > self.newest().0 && self.log_bytes(replica) >= self.due_bytes();
        if busy || !(is_due || self.must_replace(replica)) {
            return;
        }
        let meta = Meta { index: replica.applied(), term_starts: replica.raft().term_starts(replica.applied()) };
        self.taking = Some((meta.index, self.all_bytes(replica)));
        self.work.push(WorkKind::Take(Box::new(Taking::Begin(meta, replica.store().image()))));
    }

    /// Whether one of those that are there is of no use, and can be replaced.
    fn must_replace(&self, replica: &Replica) -> bool {
        !self.unsound.is_empty() && replica.applied() > Index::ZERO
    }

    /// A leader says that this node needs a snapshot.
    pub(super) fn offered(&mut self, offer: SnapshotOffer, replica: &Replica) {
        let is_asking = self.fetching.as_ref().is_some_and(Fetching::is_asking);
        if is_asking || self.installing || self.now_ticks < self.fetch_at_ticks {
            return;
        }
        if self.fetching.is_some() && self.sources.is_other() {
            self.asked_in_vain(); // and without an answer
        }
        let own = self.options.id;
        let others = replica.raft().configuration().members().into_iter().filter(|member| *member != own);
        let Some(source) = self.sources.choose(offer, others, self.now_ticks) else { return };
        let SnapshotsOptions { piece_bytes, timeout_ticks, .. } = self.options;
        let pace = Pace { piece_bytes: piece_bytes as u64, timeout_ticks, above: replica.applied() };
        match (&mut self.fetching, source.index) {
            (Some(fetching), Some(index)) => fetching.offered(source.peer, index),
            (fetching, index) => *fetching = Some(Fetching::new(source.peer, index, pace)),
        }
    }

    /// A message from a peer.
    pub(super) fn message(&mut self, from: NodeId, body: SideBody) {
        match body {
            SideBody::FetchSnapshot { index, offset } => self.serve(from, index, offset),
            SideBody::SnapshotChunk { index, total_bytes, offset, bytes } => {
                let fetching = self.fetching.as_mut();
                let work = fetching.and_then(|fetching| fetching.chunk(from, index, total_bytes, offset, bytes));
                self.work.extend(work);
            }
            SideBody::NoSnapshot => {
                if self.fetching.as_mut().is_some_and(|fetching| !fetching.none_there(from)) {
                    self.fetching = None;
                    if self.sources.is_other() {
                        self.asked_in_vain();
                    }
                }
            }
            SideBody::StateHash { .. } => {}
        }
    }

    fn serve(&mut self, to: NodeId, index: Option<Index>, offset: u64) {
        let index = index.unwrap_or(self.newest().0);
        let wanted = self.stored.iter().find(|stored| stored.index == index && self.is_sound(stored));
        let Some(bytes) = wanted.map(|stored| stored.bytes) else {
            self.send(to, SideBody::NoSnapshot);
            return;
        };
        let before = self.held.get(&to).filter(|held| held.index == index).map(|held| held.furthest);
        if offset == 0 && before.is_some_and(|furthest| furthest + self.options.piece_bytes as u64 >= bytes) {
            self.doubt(index);
        }
        let furthest = if offset == 0 { 0 } else { before.map_or(offset, |furthest| furthest.max(offset)) };
        self.held.insert(to, Held { index, asked_at: self.now_ticks, furthest });
        // As many as a peer asks for ahead; whoever asks for more does not keep to that.
        let serving = self.serving.entry(to).or_default();
        if *serving < WINDOW_PIECES {
            *serving += 1;
            self.work.push(WorkKind::Serve { to, index, offset });
        }
    }

    fn send(&mut self, to: NodeId, body: SideBody) {
        self.messages.push(SideMessage { from: self.options.id, to, body });
    }

    /// A tick passed.
    pub(super) fn tick(&mut self) {
        self.now_ticks += 1;
        if let Some(fetching) = &mut self.fetching {
            fetching.tick();
        }
    }

    /// A piece of work has ended.
    ///
    /// # Errors
    ///
    /// The disk failed, or the state in memory is damaged. The node must stop.
    pub(super) fn completed(&mut self, completion: SnapshotCompletion) -> Result<Option<Outcome>, TakeError> {
        match completion.0 {
            CompletionKind::Took(result) => self.took(result),
            CompletionKind::Served { to, index, result } => {
                self.serving.entry(to).and_modify(|serving| *serving -= 1);
                if let Err(error) = &result {
                    self.found_unsound(index, error);
                }
                // Whoever asks can ask another; this node does not need the file while it runs.
                self.send(to, result.unwrap_or(SideBody::NoSnapshot));
                Ok(None)
            }
            CompletionKind::Checked { index, result } => {
                self.checked(index, result);
                Ok(None)
            }
            CompletionKind::Received { index, result } => {
                self.received(index, result)?;
                Ok(None)
            }
            CompletionKind::Installed { index, result } => {
                self.installing = false;
                match result {
                    Ok(loaded) => return Ok(loaded.map(Outcome::Loaded)),
                    Err(LoadError::File(error)) if error.is_storage_full() => self.pause_fetching(),
                    Err(LoadError::File(error @ SnapshotError::Io { .. })) => return Err(error.into()),
                    // A damaged file is the peer's, or the network's.
                    Err(error) => self.reject(index, error.to_string()),
                }
                Ok(None)
            }
            CompletionKind::Removed(result) => {
                self.work.extend(result?.map(WorkKind::RemoveRest));
                Ok(None)
            }
            CompletionKind::ForgotRepair(result) => {
                result?;
                Ok(None)
            }
            CompletionKind::Discarded => Ok(None),
        }
    }

    fn took(&mut self, result: Result<Step, TakeError>) -> Result<Option<Outcome>, TakeError> {
        match result {
            Ok(Step::Again(taking)) => {
                self.work.push(WorkKind::Take(taking));
                Ok(None)
            }
            Ok(Step::Done(stored)) => {
                let taken = self.taking.take();
                self.kept = KEPT;
                if stored.index < self.newest().0 {
                    // A peer's, further ahead, was put in place meanwhile, and the log does not lead on from this one.
                    self.work.push(WorkKind::Remove { index: stored.index });
                    return Ok(None);
                }
                self.covered_bytes = taken.map_or(self.covered_bytes, |(_, bytes)| bytes);
                self.in_step = true;
                self.replace_unsound(stored.index);
                Ok(Some(self.store(stored)))
            }
            Err(TakeError::Snapshot(error)) if error.is_storage_full() => {
                self.taking = None;
                // The newest is sound, so the one before it can make room for the next.
                self.kept = 1;
                self.retry_at_ticks = self.now_ticks + self.retry_ticks();
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn store(&mut self, stored: Stored) -> Outcome {
        let index = stored.index;
        self.stored.push(stored);
        Outcome::Taken { index }
    }

    fn received(&mut self, index: Index, result: Result<u64, SnapshotError>) -> Result<(), TakeError> {
        match result {
            Ok(written) => {
                let whole = self.fetching.as_mut().and_then(|fetching| fetching.written(index, written));
                if let Some(index) = whole {
                    self.source = self.fetching.take().and_then(|fetching| fetching.peer());
                    self.installing = true;
                    self.work.push(WorkKind::Install { index });
                }
                Ok(())
            }
            Err(error) if error.is_storage_full() => {
                self.pause_fetching();
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// There is no room for what is being fetched: gives it up, and waits a while before anything is fetched.
    fn pause_fetching(&mut self) {
        self.fetching = None;
        self.fetch_at_ticks = self.now_ticks + self.retry_ticks();
    }

    /// A peer's snapshot took the place of this node's log and state: those before it are of no use any more.
    pub(super) fn installed(&mut self, stored: Stored, replica: &Replica) {
        let older = std::mem::take(&mut self.stored);
        self.work.extend(older.into_iter().map(|stored| WorkKind::Remove { index: stored.index }));
        self.stored.push(stored);
        self.covered_bytes = self.all_bytes(replica);
        self.in_step = false;
        self.unsound.clear();
        self.sources.succeeded();
    }

    /// A state that nobody uses any more. Its memory is given back where nobody waits for it.
    pub(super) fn discard(&mut self, unused: Store) {
        self.work.push(WorkKind::Discard(Box::new(unused)));
    }

    /// A peer's snapshot is not needed: this node is as far already.
    pub(super) fn not_needed(&mut self, index: Index) {
        let is_own = self.taking.is_some_and(|(taking, _)| taking == index);
        if !is_own && !self.stored.iter().any(|stored| stored.index == index) {
            self.work.push(WorkKind::Remove { index });
        }
    }

    /// This node has everything again that it had forgotten: the note about it goes.
    pub(super) fn recovered(&mut self) {
        self.work.push(WorkKind::ForgetRepair);
    }

    /// Lets go of snapshots that are not needed. Returns the first entry of the log that still is.
    pub(super) fn release(&mut self, replica: &Replica) -> Option<Index> {
        let hold_ticks = HOLD_TIMEOUTS * u64::from(self.options.timeout_ticks);
        let now_ticks = self.now_ticks;
        self.held.retain(|_, held| now_ticks - held.asked_at <= hold_ticks);
        if self.stored.len() > self.kept + HELD_MAX
            || self.log_bytes(replica) > HELD_LOG_FACTOR.saturating_mul(self.due_bytes())
        {
            self.held.clear();
        }
        while self.stored.iter().filter(|stored| self.is_sound(stored)).count() > self.kept {
            let oldest = self.stored[0].index;
            if self.held.values().any(|held| held.index == oldest) {
                break;
            }
            self.stored.remove(0);
            self.unsound.remove(&oldest);
            self.work.push(WorkKind::Remove { index: oldest });
        }
        let is_cut = replica.raft().first_index() > Index::new(1);
        let oldest = self.stored.first().filter(|_| is_cut || self.stored.len() >= self.kept);
        oldest.map(|stored| stored.index.next())
    }

    /// What is to be done now.
    pub(super) fn take_work(&mut self) -> Vec<SnapshotWork> {
        self.work.drain(..).map(SnapshotWork).collect()
    }

    /// Which snapshots were found to be of no use since the last call.
    pub(super) fn take_unusable(&mut self) -> Vec<UnusableSnapshot> {
        std::mem::take(&mut self.unusable)
    }

    /// What is to be sent now.
    pub(super) fn take_messages(&mut self) -> Vec<SideMessage> {
        while let Some((to, body)) = self.fetching.as_mut().and_then(Fetching::next_request) {
            self.send(to, body);
        }
        std::mem::take(&mut self.messages)
    }
}

#[cfg(test)]
mod tests;
