//! The sessions of clients: what makes a write that is sent twice run once.
//!
//! A write that carries a [`RequestId`] is looked up before it is run. If it was run before, its first result is the
//! answer; the result is part of the state, so it is there after a failover, a restart, and on a node that has the
//! state from a snapshot. (Raft dissertation, section 6.3; here many writes of a session may be under way at once, and
//! opening a session costs no write.)
//!
//! | the session | the sequence | what happens |
//! |---|---|---|
//! | known | has a result, and the same body | the result is the answer |
//! | known | has a result, and another body | [`Refusal::RequestIdReused`] |
//! | known | was fenced | [`Refusal::Fenced`] |
//! | known | below what the client acknowledged | [`Refusal::ResultForgotten`] |
//! | known | none of these | it is run, and its result kept; [`Refusal::SessionFull`] if too much is kept |
//! | unknown, opened after the mark | any | the session is opened, and it is run |
//! | unknown, opened before the mark | any | [`Refusal::SessionExpired`] |
//!
//! **The mark.** Sessions are dropped: when they were idle for long, by replicated time, and the least recently used
//! first when there are too many or they keep too much. The state remembers the latest last use of all that it dropped.
//! A session cannot have been used before it was opened, so one that was opened after that mark was never dropped: if
//! it is unknown, it is new. Any other may have run what it asks for now, and nobody knows any more.
//!
//! **Settling** asks what became of a sequence. If nothing did, the sequence is *fenced*: a copy of the write that is
//! still under way somewhere will not be run when it comes, so that the answer "never" stays true.
//!
//! Everything here depends on the commands and on replicated time alone. The last use of a session is kept in whole
//! seconds, rounded up: the order by last use then changes once a second and not with every write.

mod hash;
pub(super) mod image;
mod request_id;

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use super::record::{Applied, Refusal};
use hash::{kept_hash, mark_hash, session_hash};

pub use request_id::{InvalidRequestId, RequestId, SessionId};

/// How much is kept of sessions. Part of the rules by which the state changes: it must be the same on all replicas, and
/// only tests set it otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionLimits {
    /// A session is dropped when nothing was asked in it for so long, in milliseconds of replicated time.
    pub idle_ms: u64,
    /// How many sessions are kept.
    pub sessions_max: usize,
    /// How many results of one session are kept. A client that has so many writes under way waits for answers.
    pub results_max: u64,
    /// When the results of a session take so much, in bytes, it runs nothing more until the client acknowledges some.
    pub session_bytes_max: u64,
    /// When all sessions together take more than this, in bytes, the least recently used are dropped.
    pub bytes_max: u64,
}

impl Default for SessionLimits {
    /// An hour of retries is more than any client waits; some ten thousand clients, each with some results, take a few
    /// mebibytes of the 64.
    fn default() -> SessionLimits {
        SessionLimits {
            idle_ms: 3_600_000,
            sessions_max: 1 << 16,
            results_max: 4096,
            session_bytes_max: 1 << 20,
            bytes_max: 64 << 20,
        }
    }
}

/// So many sessions at most are dropped for their age with one command: else the first command after a quiet hour would
/// take as long as there are sessions.
const EXPIRED_PER_COMMAND_MAX: usize = 64;

/// What a session takes beside its results, and a result beside the previous value that it may hold, in bytes: about.
const SESSION_BYTES: u64 = 192;
const RESULT_BYTES: u64 = 192;

/// The unit of a session's last use.
const SECOND_MS: u64 = 1000;

/// What is kept of a session.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Session {
    opened_at_ms: u64,
    /// The second of replicated time in which it was used last.
    used_at_s: u64,
    acknowledged_below: u64,
    /// By sequence.
    kept: BTreeMap<u64, Kept>,
    /// What that takes, in bytes.
    bytes: u64,
}

impl Session {
    /// What is part of the hash over the state, beside what is kept.
    fn hashed(&self) -> [u64; 3] {
        let Session { opened_at_ms, used_at_s, acknowledged_below, kept: _, bytes: _ } = self;
        [*opened_at_ms, *used_at_s, *acknowledged_below]
    }

    fn is_full(&self, limits: &SessionLimits) -> bool {
        self.kept.len() as u64 >= limits.results_max || self.bytes >= limits.session_bytes_max
    }
}

/// What is kept of a sequence.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Kept {
    /// The write was run.
    Result {
        /// The hash of what was asked for.
        body: u128,
        /// Its result: one of those that a write has.
        applied: Applied,
    },
    /// It will never be.
    Fenced,
}

impl Kept {
    fn bytes(&self) -> u64 {
        let previous = match self {
            Kept::Result { applied: Applied::Deleted { previous: Some(previous), .. }, .. } => {
                previous.key.len() + previous.value.len()
            }
            Kept::Result { .. } | Kept::Fenced => 0,
        };
        RESULT_BYTES + previous as u64
    }
}

/// What is known of a request that was admitted.
pub(super) enum Known {
    /// Nothing: it may be run.
    New,
    /// It has this result.
    Result(Applied),
    /// It must not be run.
    Refused(Refusal),
}

/// All sessions. Cloning costs nothing that depends on their number. A session is shared with the clones until it is
/// used, and copied then, with its results: a lookup for each use is cheaper than one for each thing that is kept.
#[derive(Clone, Debug)]
pub(super) struct Sessions {
    limits: SessionLimits,
    by_id: OrdMap<SessionId, Arc<Session>>,
    /// The same, by the second of their last use.
    by_use: OrdSet<(u64, SessionId)>,
    /// How many results all of them keep.
    kept_count: u64,
    /// An unknown session that was opened before this replicated time may have been dropped.
    mark_ms: u64,
    /// The wrapping sum of [`session_hash`] and [`kept_hash`].
    hash: u128,
    bytes: u64,
}

impl Sessions {
    pub(super) fn new(limits: SessionLimits) -> Sessions {
        let (by_id, by_use) = (OrdMap::new(), OrdSet::new());
        Sessions { limits, by_id, by_use, kept_count: 0, mark_ms: 0, hash: 0, bytes: 0 }
    }

    /// Forgets all, and whatever was opened before `time_ms`.
    pub(super) fn forget(&mut self, time_ms: u64) {
        *self = Sessions { mark_ms: time_ms, ..Sessions::new(self.limits) };
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// The hash over all of them; 0 if there never were any.
    pub(super) fn hash(&self) -> u128 {
        self.hash.wrapping_add(self.mark_hash())
    }

    /// What the mark adds to that.
    pub(super) fn mark_hash(&self) -> u128 {
        mark_hash(self.mark_ms)
    }

    /// The hash over all of them, computed afresh.
    pub(super) fn recompute_hash(&self) -> u128 {
        let hashes = self.by_id.iter().flat_map(|(id, session)| {
            let kept = session.kept.iter().map(|(sequence, kept)| kept_hash(*id, *sequence, kept));
            kept.chain([session_hash(*id, session)])
        });
        hashes.fold(mark_hash(self.mark_ms), u128::wrapping_add)
    }

    /// A command is applied at `time_ms`: drops sessions that were idle for too long.
    pub(super) fn expire(&mut self, time_ms: u64) {
        for _ in 0..EXPIRED_PER_COMMAND_MAX {
            let Some(&(used_at_s, id)) = self.by_use.get_min() else { return };
            if end_of_second_ms(used_at_s).saturating_add(self.limits.idle_ms) > time_ms {
                return;
            }
            self.remove(id);
        }
    }

    /// A request of a session comes at `time_ms`: opens the session if it is new, notes its use, and lets go of what
    /// the client needs no more.
    pub(super) fn admit(&mut self, id: &RequestId, time_ms: u64) -> Result<(), Refusal> {
        match self.by_id.get(&id.session) {
            Some(session) if session.opened_at_ms != id.opened_at_ms => return Err(Refusal::RequestIdReused),
            Some(_) => {}
            // Nobody has told a client of a time that is still to come.
            None if id.opened_at_ms > time_ms => return Err(Refusal::OpenedAhead { time_ms }),
            None if id.opened_at_ms < self.mark_ms => return Err(Refusal::SessionExpired { time_ms }),
            None => self.open(id, time_ms),
        }
        self.note_use(id, time_ms / SECOND_MS);
        self.make_room(id.session);
        Ok(())
    }

    fn open(&mut self, id: &RequestId, time_ms: u64) {
        let (opened_at_ms, used_at_s) = (id.opened_at_ms, time_ms / SECOND_MS);
        let session = Session { opened_at_ms, used_at_s, acknowledged_below: 0, kept: BTreeMap::new(), bytes: 0 };
        self.add(id.session, session);
    }

    /// Adds a session that keeps nothing yet.
    fn add(&mut self, id: SessionId, session: Session) {
        self.by_use.insert((session.used_at_s, id));
        self.bytes += SESSION_BYTES;
        self.hash = self.hash.wrapping_add(session_hash(id, &session));
        self.by_id.insert(id, Arc::new(session));
    }

    /// The session is used in this second, and its client acknowledges what it acknowledges.
    fn note_use(&mut self, id: &RequestId, used_at_s: u64) {
        let session = self.by_id.get_mut(&id.session).expect("it was looked up or opened just now");
        let acknowledged_below = id.acknowledged_below.max(session.acknowledged_below);
        if (session.used_at_s, session.acknowledged_below) == (used_at_s, acknowledged_below) {
            return; // most uses within a second
        }
        let session = Arc::make_mut(session);
        self.hash = self.hash.wrapping_sub(session_hash(id.session, session));
        if session.used_at_s != used_at_s {
            self.by_use.remove(&(session.used_at_s, id.session));
            self.by_use.insert((used_at_s, id.session));
            session.used_at_s = used_at_s;
        }
        session.acknowledged_below = acknowledged_below;
        self.hash = self.hash.wrapping_add(session_hash(id.session, session));
        while let Some(first) = session.kept.first_entry()
            && *first.key() < acknowledged_below
        {
            let (sequence, kept) = first.remove_entry();
            let bytes = kept.bytes();
            session.bytes -= bytes;
            self.bytes -= bytes;
            self.kept_count -= 1;
            self.hash = self.hash.wrapping_sub(kept_hash(id.session, sequence, &kept));
        }
    }

    /// What is known of an admitted request with this body.
    pub(super) fn known(&self, id: &RequestId, body: u128) -> Known {
        let session = self.admitted(id.session);
        if id.sequence < session.acknowledged_below {
            return Known::Refused(Refusal::ResultForgotten);
        }
        match session.kept.get(&id.sequence) {
            Some(Kept::Fenced) => Known::Refused(Refusal::Fenced),
            Some(Kept::Result { body: first, .. }) if *first != body => Known::Refused(Refusal::RequestIdReused),
            Some(Kept::Result { applied, .. }) => Known::Result(applied.clone()),
            None if session.is_full(&self.limits) => Known::Refused(Refusal::SessionFull),
            None => Known::New,
        }
    }

    /// Keeps the result of an admitted request that is new.
    pub(super) fn keep(&mut self, id: &RequestId, body: u128, applied: Applied) {
        self.insert(id.session, id.sequence, Kept::Result { body, applied });
        self.make_room(id.session);
    }

    /// What became of an admitted request, for good.
    pub(super) fn settle(&mut self, id: &RequestId) -> Result<Settled, Refusal> {
        let session = self.admitted(id.session);
        if id.sequence < session.acknowledged_below {
            return Ok(Settled::Forgotten);
        }
        match session.kept.get(&id.sequence) {
            Some(Kept::Result { applied, .. }) => Ok(Settled::Result(Box::new(applied.clone()))),
            Some(Kept::Fenced) => Ok(Settled::NeverApplied),
            None if session.is_full(&self.limits) => Err(Refusal::SessionFull),
            None => {
                self.insert(id.session, id.sequence, Kept::Fenced);
                self.make_room(id.session);
                Ok(Settled::NeverApplied)
            }
        }
    }

    fn admitted(&self, id: SessionId) -> &Session {
        self.by_id.get(&id).expect("a session that was admitted is there until the next command")
    }

    /// Keeps something that is new of a session that is there.
    fn insert(&mut self, id: SessionId, sequence: u64, kept: Kept) {
        let session = self.by_id.get_mut(&id).expect("a session that was admitted is there until the next command");
        let session = Arc::make_mut(session);
        let bytes = kept.bytes();
        session.bytes += bytes;
        self.bytes += bytes;
        self.kept_count += 1;
        self.hash = self.hash.wrapping_add(kept_hash(id, sequence, &kept));
        session.kept.insert(sequence, kept);
    }

    /// Drops the least recently used sessions while there are too many or they take too much, but not `used`.
    fn make_room(&mut self, used: SessionId) {
        while self.by_id.len() > self.limits.sessions_max || self.bytes > self.limits.bytes_max {
            let oldest = self.by_use.iter().map(|(_, id)| *id).find(|id| *id != used);
            let Some(oldest) = oldest else { return };
            self.remove(oldest);
        }
    }

    /// Drops a session, and moves the mark behind its last use.
    fn remove(&mut self, id: SessionId) {
        let Some(session) = self.by_id.remove(&id) else { return };
        for (sequence, kept) in &session.kept {
            self.hash = self.hash.wrapping_sub(kept_hash(id, *sequence, kept));
        }
        self.by_use.remove(&(session.used_at_s, id));
        self.kept_count -= session.kept.len() as u64;
        self.hash = self.hash.wrapping_sub(session_hash(id, &session));
        self.bytes -= SESSION_BYTES + session.bytes;
        self.mark_ms = self.mark_ms.max(end_of_second_ms(session.used_at_s));
    }
}

/// What became of a write, for good.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Settled {
    /// It was run, with this result.
    Result(Box<Applied>),
    /// It was never run and never will be.
    NeverApplied,
    /// The client had acknowledged its result, which is not kept any more. It is not run from now on.
    Forgotten,
}

/// The first millisecond after a second.
fn end_of_second_ms(second: u64) -> u64 {
    second.saturating_add(1).saturating_mul(SECOND_MS)
}
