//! Which keys the entries touch that are in the log and not applied.
//!
//! Nothing is noted while nobody asks: each question reads what the log has gained since the last one, so each entry is
//! read once at most, and a node that is asked nothing pays nothing.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use raft::{Entry, Index, Payload, Raft, Term};

use crate::kv::command::decode;

/// The keys of a stretch of the log, from behind what was applied up to what was read.
#[derive(Debug, Default)]
pub(super) struct PendingKeys {
    /// What each entry touches, oldest first.
    entries: VecDeque<(Index, Touches)>,
    /// The last entry that touches each key among them.
    latest: BTreeMap<Bytes, Index>,
    /// The last entry that may touch any key; zero if there is none.
    latest_of_any: Index,
    /// Up to here the log was read, an entry of this term.
    read_up_to: (Index, Term),
}

/// What an entry does to keys.
#[derive(Debug)]
enum Touches {
    Nothing,
    Key(Bytes),
    /// It cannot be told.
    Any,
}

impl PendingKeys {
    /// The last entry of the log behind the applied ones that may touch `key`; zero if none does.
    pub(super) fn last(&mut self, key: &[u8], raft: &Raft) -> Index {
        self.catch_up(raft);
        self.latest.get(key).copied().unwrap_or(Index::ZERO).max(self.latest_of_any)
    }

    fn catch_up(&mut self, raft: &Raft) {
        let applied = raft.applied_index();
        let (read_up_to, term) = self.read_up_to;
        // Logs that agree on an entry agree on all before it (Log Matching, §5.3), so this finds any truncation. What
        // was read before and is applied now is of no interest, whatever there was.
        if read_up_to < applied || raft.term_at(read_up_to) != Some(term) {
            *self = PendingKeys { read_up_to: (applied, Term::ZERO), ..PendingKeys::default() };
        }
        self.forget_applied(applied);
        for entry in raft.entries_behind(self.read_up_to.0) {
            self.read(entry);
        }
        let last = raft.last_index();
        self.read_up_to = (last, raft.term_at(last).expect("a log knows the term of its last entry"));
    }

    /// Lets go of what is applied.
    pub(super) fn forget_applied(&mut self, applied: Index) {
        while let Some((index, touches)) = self.entries.pop_front_if(|(index, _)| *index <= applied) {
            if let Touches::Key(key) = touches
                && self.latest.get(&key) == Some(&index)
            {
                self.latest.remove(&key);
            }
        }
        if self.latest_of_any <= applied {
            self.latest_of_any = Index::ZERO;
        }
    }

    fn read(&mut self, entry: &Entry) {
        let touches = touches(&entry.payload);
        match &touches {
            Touches::Nothing => {}
            Touches::Key(key) => drop(self.latest.insert(key.clone(), entry.index)),
            Touches::Any => self.latest_of_any = entry.index,
        }
        self.entries.push_back((entry.index, touches));
    }
}

fn touches(payload: &Payload) -> Touches {
    let Payload::Command(encoded) = payload else { return Touches::Nothing };
    match decode(encoded) {
        Ok((_, request)) => request.command.key().map_or(Touches::Nothing, |key| Touches::Key(key.clone())),
        // A later version wrote it. This node will stop at it, and must not speak for what it does until then.
        Err(_) => Touches::Any,
    }
}
