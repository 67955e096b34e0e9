//! The sessions as plain maps, by their rules alone: no hashes, no sums that are kept, no order but that of the rules.

use std::collections::BTreeMap;

use engine::kv::{Applied, Command, Refusal, RequestId, SessionLimits, Settled};

/// What a session counts for beside its results, and each result beside what it removed, in bytes.
const SESSION_BYTES: u64 = 192;
const RESULT_BYTES: u64 = 192;

/// So many idle sessions at most go with one command.
const EXPIRED_MAX: usize = 64;

/// All sessions, and the mark.
#[derive(Clone, Debug)]
pub struct Sessions {
    limits: SessionLimits,
    by_id: BTreeMap<u128, Session>,
    mark_ms: u64,
    /// How many went, and why.
    pub dropped: Dropped,
}

/// How many sessions were dropped for which reason.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Dropped {
    /// Nothing was asked in them for long.
    pub idle: u64,
    /// There were too many.
    pub count: u64,
    /// They kept too much.
    pub bytes: u64,
}

#[derive(Clone, Debug)]
struct Session {
    opened_at_ms: u64,
    used_at_s: u64,
    acknowledged_below: u64,
    kept: BTreeMap<u64, Kept>,
}

#[derive(Clone, Debug)]
enum Kept {
    Result { asked: Command, applied: Applied },
    Fenced,
}

impl Kept {
    fn bytes(&self) -> u64 {
        match self {
            Kept::Result { applied: Applied::Deleted { previous: Some(previous), .. }, .. } => {
                RESULT_BYTES + (previous.key.len() + previous.value.len()) as u64
            }
            Kept::Result { .. } | Kept::Fenced => RESULT_BYTES,
        }
    }
}

impl Session {
    /// What its results count for.
    fn bytes(&self) -> u64 {
        self.kept.values().map(Kept::bytes).sum()
    }

    /// Until when it was used last: the end of that second.
    fn used_until_ms(&self) -> u64 {
        self.used_at_s.saturating_add(1).saturating_mul(1000)
    }
}

impl Sessions {
    pub(super) fn new(limits: SessionLimits) -> Sessions {
        Sessions { limits, by_id: BTreeMap::new(), mark_ms: 0, dropped: Dropped::default() }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.by_id.len()
    }

    /// Whether a session is known.
    #[must_use]
    pub fn has(&self, id: &RequestId) -> bool {
        self.by_id.contains_key(&id.session.get())
    }

    /// Drops what was idle for too long.
    pub(super) fn expire(&mut self, time_ms: u64) {
        for _ in 0..EXPIRED_MAX {
            let Some(oldest) = self.oldest(None) else { return };
            if self.by_id[&oldest].used_until_ms().saturating_add(self.limits.idle_ms) > time_ms {
                return;
            }
            self.drop_session(oldest);
            self.dropped.idle += 1;
        }
    }

    /// Either the request is to be run, or this is its answer.
    pub(super) fn look_up(&mut self, id: &RequestId, command: &Command, time_ms: u64) -> Result<(), Applied> {
        let refused = |refusal| Err(Applied::Refused(refusal));
        match self.by_id.get(&id.session.get()) {
            Some(session) if session.opened_at_ms != id.opened_at_ms => return refused(Refusal::RequestIdReused),
            None if id.opened_at_ms > time_ms => return refused(Refusal::OpenedAhead { time_ms }),
            None if id.opened_at_ms < self.mark_ms => return refused(Refusal::SessionExpired { time_ms }),
            Some(_) | None => {}
        }
        let new = Session { opened_at_ms: id.opened_at_ms, used_at_s: 0, acknowledged_below: 0, kept: BTreeMap::new() };
        let session = self.by_id.entry(id.session.get()).or_insert(new);
        session.used_at_s = time_ms / 1000;
        session.acknowledged_below = session.acknowledged_below.max(id.acknowledged_below);
        let needed_from = session.acknowledged_below;
        session.kept.retain(|sequence, _| *sequence >= needed_from);
        self.make_room(id);

        let SessionLimits { results_max, session_bytes_max, .. } = self.limits;
        let session = &self.by_id[&id.session.get()];
        let is_full = session.kept.len() as u64 >= results_max || session.bytes() >= session_bytes_max;
        let is_settled = matches!(command, Command::Settle);
        match session.kept.get(&id.sequence) {
            _ if id.sequence < session.acknowledged_below && is_settled => Err(Applied::Settled(Settled::Forgotten)),
            _ if id.sequence < session.acknowledged_below => refused(Refusal::ResultForgotten),
            Some(Kept::Result { applied, .. }) if is_settled => {
                Err(Applied::Settled(Settled::Result(Box::new(applied.clone()))))
            }
            Some(Kept::Result { asked, .. }) if asked != command => refused(Refusal::RequestIdReused),
            Some(Kept::Result { applied, .. }) => Err(applied.clone()),
            Some(Kept::Fenced) if is_settled => Err(Applied::Settled(Settled::NeverApplied)),
            Some(Kept::Fenced) => refused(Refusal::Fenced),
            None if is_full => refused(Refusal::SessionFull),
            None if is_settled => {
                self.insert(id, Kept::Fenced);
                Err(Applied::Settled(Settled::NeverApplied))
            }
            None => Ok(()),
        }
    }

    /// A request was run.
    pub(super) fn keep(&mut self, id: &RequestId, asked: &Command, applied: &Applied) {
        self.insert(id, Kept::Result { asked: asked.clone(), applied: applied.clone() });
    }

    fn insert(&mut self, id: &RequestId, kept: Kept) {
        if let Some(session) = self.by_id.get_mut(&id.session.get()) {
            session.kept.insert(id.sequence, kept);
        }
        self.make_room(id);
    }

    /// Drops the least recently used while there are too many or they keep too much, but not the one in use.
    fn make_room(&mut self, used: &RequestId) {
        loop {
            let is_many = self.by_id.len() > self.limits.sessions_max;
            let bytes: u64 = self.by_id.values().map(|session| SESSION_BYTES + session.bytes()).sum();
            if !is_many && bytes <= self.limits.bytes_max {
                return;
            }
            let Some(oldest) = self.oldest(Some(used.session.get())) else { return };
            self.drop_session(oldest);
            let reason = if is_many { &mut self.dropped.count } else { &mut self.dropped.bytes };
            *reason += 1;
        }
    }

    /// The least recently used session; of those of one second, the one with the least id.
    fn oldest(&self, but: Option<u128>) -> Option<u128> {
        let others = self.by_id.iter().filter(|(id, _)| Some(**id) != but);
        others.min_by_key(|(id, session)| (session.used_at_s, **id)).map(|(id, _)| *id)
    }

    fn drop_session(&mut self, id: u128) {
        if let Some(session) = self.by_id.remove(&id) {
            self.mark_ms = self.mark_ms.max(session.used_until_ms());
        }
    }
}
