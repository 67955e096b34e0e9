//! The sessions of one client: which writes have which names, and which of them it is done with.
//!
//! A session costs the cluster nothing until it is used, so the client leaves one and opens the next whenever that is
//! simpler than going on with it: when a write of it was given up with an unknown outcome (its result must stay, so
//! that it can be asked for), and when the cluster has dropped it. The writes that are under way in a session that was
//! left finish in it. And for a while it uses another when too many results would be kept in one, because one write is
//! slow or very many are under way.

use crate::RequestId;
use proto::kv::v1 as kv;
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// How far the next write of a session may be ahead of the oldest that is still under way. A node keeps the results of
/// all from there on, and refuses more than 4,096; half of that leaves room, and a session is seldom left for it.
const WINDOW: u64 = 2048;

/// How many sessions the next write may have its place in. Together they have places for all the writes that a stream
/// takes; with one, a client with more than [`WINDOW`] at once would leave it, and the results in it, again and again.
const CURRENT_MAX: usize = 4;

/// The sessions of one client, shared by its clones.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The latest replicated time that a node told.
    heard_ms: Option<u64>,
    /// The sessions of the writes to come, of which the first with a place is taken; at most [`CURRENT_MAX`].
    current: Vec<Arc<Session>>,
}

#[derive(Debug)]
struct Session {
    number: u128,
    opened_at_ms: u64,
    book: Mutex<Book>,
}

/// The sequences of a session.
#[derive(Debug)]
struct Book {
    /// The one that is given out next.
    next: u64,
    /// Those that may still be sent or asked about.
    open: BTreeSet<u64>,
}

/// A write's place in its session. Dropping it says that the write will neither be sent nor be asked about again.
#[derive(Debug)]
pub(crate) struct Ticket {
    session: Arc<Session>,
    sequence: u64,
    /// Whether the write may be asked about after this is gone.
    kept: bool,
}

impl Sessions {
    /// A node told the replicated time.
    pub(crate) fn hear(&self, time_ms: u64) {
        let mut state = lock(&self.state);
        state.heard_ms = state.heard_ms.max(Some(time_ms));
    }

    /// Whether a node told the replicated time. Without it a session would seem older than it is, and be refused by a
    /// cluster that has ever dropped one.
    pub(crate) fn has_heard(&self) -> bool {
        lock(&self.state).heard_ms.is_some()
    }

    /// A place for a new write.
    pub(crate) fn take(&self) -> Ticket {
        let mut state = lock(&self.state);
        let opened_at_ms = state.heard_ms.unwrap_or(0);
        let place = |session: &Arc<Session>| {
            let sequence = lock(&session.book).take()?;
            Some(Ticket { session: Arc::clone(session), sequence, kept: false })
        };
        if let Some(ticket) = state.current.iter().find_map(place) {
            return ticket;
        }
        let book = Mutex::new(Book { next: 2, open: BTreeSet::from([1]) });
        let session = Arc::new(Session { number: rand::random(), opened_at_ms, book });
        tracing::debug!("session {:032x} is opened at {opened_at_ms} ms", session.number);
        if state.current.len() == CURRENT_MAX {
            state.current.remove(0);
        }
        state.current.push(Arc::clone(&session));
        Ticket { session, sequence: 1, kept: false }
    }

    /// The cluster does not know the session of `ticket`: later writes have another.
    pub(crate) fn leave(&self, ticket: &Ticket) {
        leave_current(&mut lock(&self.state), &ticket.session);
    }

    /// It is `now_ms` in a cluster that has not come to a time that was heard: it is not the cluster of before.
    pub(crate) fn begin_time_anew(&self, now_ms: u64) {
        lock(&self.state).heard_ms = Some(now_ms);
    }

    /// The outcome of a write is unknown, and its name is handed out: it stays open for good, and later writes have
    /// another session.
    pub(crate) fn hand_out(&self, mut ticket: Ticket) -> RequestId {
        ticket.kept = true;
        leave_current(&mut lock(&self.state), &ticket.session);
        ticket.name()
    }
}

fn leave_current(state: &mut State, session: &Arc<Session>) {
    state.current.retain(|current| !Arc::ptr_eq(current, session));
}

impl Book {
    /// The next sequence, unless too many results would be kept for it.
    fn take(&mut self) -> Option<u64> {
        if self.next - self.acknowledged_below() >= WINDOW {
            return None;
        }
        let sequence = self.next;
        self.next += 1;
        self.open.insert(sequence);
        Some(sequence)
    }

    fn acknowledged_below(&self) -> u64 {
        self.open.first().copied().unwrap_or(self.next)
    }
}

impl Ticket {
    /// The write's name.
    pub(crate) fn name(&self) -> RequestId {
        let Session { number, opened_at_ms, .. } = *self.session;
        RequestId { session: number, opened_at_ms, sequence: self.sequence }
    }

    /// The name as it is sent now, with what is acknowledged by now.
    pub(crate) fn to_wire(&self) -> kv::RequestId {
        self.name().to_wire(lock(&self.session.book).acknowledged_below())
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.kept {
            lock(&self.session.book).open.remove(&self.sequence);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code that can panic runs under the locks, and every single change leaves a usable state.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
