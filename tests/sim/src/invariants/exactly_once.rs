//! A write with a request id runs once (§6.3 of the dissertation), and every replica applies each command as the rules
//! of the store and its sessions have it.
//!
//! The rules are written down a second time in plain maps ([`Model`], which the fuzz targets use as well). The model
//! applies the committed log once; what each replica did at an index has to be what the model did there, to the last
//! field. That the rules themselves never run a request id twice is counted beside them, over the whole run.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use engine::kv::command::decode;
use engine::kv::{Applied, Refusal, RequestId, SessionLimits, Settled, Store};
use engine::wal::Reader;
use engine::{AppliedCommand, EngineStatus};
use fuzz::model::Model;
use raft::{Index, Payload, Term};

use super::view::{index, position};
use crate::coverage::Coverage;
use crate::node::node_id;
use crate::violation::Violation;

/// How much of a log is read at a time, in bytes.
const READ_BYTES: usize = 64 << 10;

/// The model, and what it did at each index.
pub(crate) struct ExactlyOnce {
    model: Model,
    /// By position, from entry 1 on.
    applied: Vec<Expected>,
    /// Where each request id was run: at which index, in which term.
    run: BTreeMap<(u128, u64), (usize, Term)>,
    /// The sessions that ran anything.
    sessions: BTreeSet<u128>,
    nodes: Vec<Origin>,
    pub(crate) coverage: Coverage,
}

/// What an entry does.
struct Expected {
    /// None without a command.
    applied: Option<Applied>,
    /// Of a repeat that has its first result: where that is from.
    first: Option<usize>,
}

/// Where a node has the beginning of its state from: everything up to these positions.
#[derive(Clone, Copy, Default)]
struct Origin {
    /// From its own snapshot, at its last start.
    started: usize,
    /// From a peer's.
    installed: usize,
}

impl ExactlyOnce {
    pub(crate) fn new(size: usize, limits: SessionLimits) -> ExactlyOnce {
        ExactlyOnce {
            model: Model::new(limits),
            applied: Vec::new(),
            run: BTreeMap::new(),
            sessions: BTreeSet::new(),
            nodes: vec![Origin::default(); size],
            coverage: Coverage::default(),
        }
    }

    /// How much of the log the model has applied.
    pub(crate) fn position(&self) -> usize {
        self.applied.len()
    }

    /// A node started from its disk.
    pub(crate) fn started(&mut self, node: usize, status: &EngineStatus) {
        self.nodes[node] = Origin { started: position(status.snapshot_index), installed: 0 };
    }

    /// A node has the state up to an index from a peer.
    pub(crate) fn installed(&mut self, node: usize, at: Index) {
        self.nodes[node] = Origin { started: 0, installed: position(at) };
    }

    /// A node applied an entry.
    pub(crate) fn applied(
        &mut self,
        node: usize,
        (at, term): (Index, Term),
        command: Option<&AppliedCommand>,
    ) -> Result<(), Violation> {
        let place = position(at);
        // What was applied by nobody who told of it comes from a log, see [`ExactlyOnce::catch_up`].
        if place > self.applied.len() + 1 {
            return Err(Violation::AppliedUntold { node: node_id(node), index: at });
        }
        if place == self.applied.len() + 1 {
            self.apply(at, term, command.map(|command| &command.encoded))?;
        }
        let found = command.map(|command| &command.applied);
        let Expected { applied: expected, first } = &self.applied[place - 1];
        if found != expected.as_ref() {
            let (expected, found) = (format!("{expected:?}"), format!("{found:?}"));
            return Err(Violation::AppliedWrongly { node: node_id(node), index: at, expected, found });
        }
        // A repeat whose first run a node has from a snapshot shows that results are in there.
        let Origin { started, installed } = self.nodes[node];
        if first.is_some_and(|first| first <= started) {
            self.coverage.hit("repeat answered after a restart from a snapshot");
        }
        if first.is_some_and(|first| first <= installed) {
            self.coverage.hit("repeat answered by a node with a peer's snapshot");
        }
        Ok(())
    }

    /// A node that starts has applied up to an index again. What nobody told of, because everyone who did it stopped in
    /// that step, is read from its log.
    pub(crate) fn catch_up(&mut self, applied: Index, log: &Reader) -> Result<(), Violation> {
        while self.applied.len() < position(applied) {
            let Ok(entries) = log.read(index(self.applied.len() + 1), READ_BYTES) else { return Ok(()) };
            if entries.is_empty() {
                return Ok(());
            }
            for entry in entries.into_iter().take_while(|entry| entry.index <= applied) {
                let encoded = match entry.payload {
                    Payload::Command(encoded) => Some(encoded),
                    Payload::Noop => None,
                };
                self.apply(entry.index, entry.term, encoded.as_ref())?;
            }
        }
        Ok(())
    }

    /// The model applies the next entry.
    fn apply(&mut self, at: Index, term: Term, encoded: Option<&Bytes>) -> Result<(), Violation> {
        let Some(encoded) = encoded else {
            self.applied.push(Expected { applied: None, first: None });
            return Ok(());
        };
        let unknown = |_| Violation::AppliedUntold { node: node_id(0), index: at };
        let (time_ms, request) = decode(encoded).map_err(unknown)?;
        let dropped_before = self.model.sessions.dropped;
        let applied = self.model.apply(time_ms, &request);
        let dropped = self.model.sessions.dropped;
        for (name, before, after) in [
            ("session dropped: idle", dropped_before.idle, dropped.idle),
            ("session dropped: too many", dropped_before.count, dropped.count),
            ("session dropped: too many bytes", dropped_before.bytes, dropped.bytes),
        ] {
            (before..after).for_each(|_| self.coverage.hit(name));
        }
        let id = request.id.as_ref();
        let first = id.map(|id| self.once(id, (position(at), term), &applied)).transpose()?.flatten();
        self.applied.push(Expected { applied: Some(applied), first });
        Ok(())
    }

    /// A request id is run once. Returns where, if this is a repeat that has its result.
    fn once(&mut self, id: &RequestId, place: (usize, Term), applied: &Applied) -> Result<Option<usize>, Violation> {
        let name = (id.session.get(), id.sequence);
        if self.model.has_run {
            self.sessions.insert(name.0);
            if let Some((first, _)) = self.run.insert(name, place) {
                let (session, sequence) = (id.session, id.sequence);
                let (first, second) = (index(first), index(place.0));
                return Err(Violation::RanTwice { session, sequence, first, second });
            }
            return Ok(None);
        }
        let first = self.run.get(&name).copied();
        let mut repeated = None;
        let what = match applied {
            Applied::Put { .. } | Applied::Deleted { .. } | Applied::Rejected(_) | Applied::Configured { .. } => {
                repeated = first.map(|(at, _)| at);
                if first.is_some_and(|(_, term)| term != place.1) {
                    self.coverage.hit("repeat answered after a leader change");
                }
                "repeat answered from the kept result"
            }
            Applied::Refused(Refusal::SessionExpired { .. }) if !self.sessions.contains(&name.0) => {
                "mark refused a new session"
            }
            Applied::Refused(Refusal::SessionExpired { .. }) if first.is_some() => {
                "repeat refused: its session had expired"
            }
            Applied::Refused(Refusal::SessionExpired { .. }) => "expired session refused",
            Applied::Refused(Refusal::Fenced) => "late copy refused: it was fenced",
            Applied::Refused(Refusal::ResultForgotten) => "late copy refused: it was acknowledged",
            Applied::Refused(Refusal::SessionFull) => "session full",
            Applied::Refused(Refusal::OpenedAhead { .. } | Refusal::RequestIdReused) => "request id refused",
            Applied::Settled(Settled::Result(_)) => "settled with a result",
            Applied::Settled(Settled::NeverApplied) => "settled as never applied",
            Applied::Settled(Settled::Forgotten) => "settled as forgotten",
        };
        self.coverage.hit(what);
        Ok(repeated)
    }

    /// A node's state is what the model is, if it has applied as much.
    pub(crate) fn check_state(&self, node: usize, applied: usize, store: &Store) -> Result<(), Violation> {
        let is_same = || {
            store.iter().eq(self.model.iter())
                && store.revision().get() == self.model.revision
                && store.time_ms() == self.model.time_ms
                && store.session_count() == self.model.sessions.count()
                && store.settings() == self.model.settings
        };
        if applied == self.position() && !is_same() {
            return Err(Violation::StateNotModel { node: node_id(node), index: index(applied) });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::kv::command::encode;
    use engine::kv::{Command, PutMode, Request, Revision, SessionId};

    const LIMITS: SessionLimits =
        SessionLimits { idle_ms: 1_000, sessions_max: 9, results_max: 9, session_bytes_max: 9_999, bytes_max: 99_999 };

    fn put(sequence: u64, time_ms: u64, applied: Applied) -> AppliedCommand {
        let id = RequestId { session: SessionId::new(7), opened_at_ms: 0, sequence, acknowledged_below: 0 };
        let (key, value) = (Bytes::from_static(b"k"), Bytes::new());
        let command = Command::Put { key, value, mode: PutMode::Upsert };
        let encoded = encode(&Request { id: Some(id), command }, time_ms).expect("it is valid");
        AppliedCommand { encoded, applied }
    }

    fn written(revision: u64) -> Applied {
        Applied::Put { revision: Revision::new(revision), version: revision - 1 }
    }

    fn at(number: u64) -> (Index, Term) {
        (Index::new(number), Term::new(1))
    }

    #[test]
    fn a_second_run_a_lost_result_and_a_lost_mark_are_found() {
        let mut invariant = ExactlyOnce::new(2, LIMITS);
        assert_eq!(invariant.applied(0, at(1), Some(&put(1, 0, written(2)))), Ok(()));
        let again = invariant.applied(0, at(2), Some(&put(1, 0, written(3))));
        assert!(matches!(again, Err(Violation::AppliedWrongly { .. })), "{again:?}");
        assert_eq!(invariant.applied(1, at(2), Some(&put(1, 0, written(2)))), Ok(()));
        assert_eq!(invariant.coverage.count("repeat answered from the kept result"), 1);
        let late = put(1, 9_000, written(3));
        assert!(matches!(invariant.applied(0, at(3), Some(&late)), Err(Violation::AppliedWrongly { .. })));
        let expired = Applied::Refused(Refusal::SessionExpired { time_ms: 9_000 });
        assert_eq!(invariant.applied(0, at(3), Some(&AppliedCommand { applied: expired, ..late })), Ok(()));
        let gap = invariant.applied(0, at(5), None);
        assert_eq!(gap, Err(Violation::AppliedUntold { node: node_id(0), index: Index::new(5) }));
    }

    #[test]
    fn rules_that_run_an_id_twice_are_found() {
        let mut invariant = ExactlyOnce::new(1, LIMITS);
        assert_eq!(invariant.applied(0, at(1), Some(&put(1, 0, written(2)))), Ok(()));
        invariant.model = Model::new(LIMITS);
        let again = invariant.applied(0, at(2), Some(&put(1, 0, written(2))));
        assert!(matches!(again, Err(Violation::RanTwice { sequence: 1, .. })), "{again:?}");
    }
}
