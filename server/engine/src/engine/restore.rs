//! A new cluster out of a snapshot: what `quorate-server restore` writes before any node starts.
//!
//! Each member gets the same state, a log that goes on behind it in the snapshot's term, and an identity that makes it
//! a member of the new cluster from its first start on. What was promised under other identities binds nobody here: the
//! members are new incarnations, which no node of the old cluster talks to.

use std::sync::Arc;

use raft::{HardState, Index};

use crate::disk::Disk;
use crate::identity::{Identity, IdentityError};
use crate::kv::{SessionLimits, Store};
use crate::snapshot::{Meta, Reader, Stored};
use crate::wal::{self, WalError, WalOptions};

use super::snapshots::{LoadError, TakeError, load, take_whole};

/// Why a member cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Its snapshot cannot be.
    #[error(transparent)]
    Snapshot(#[from] TakeError),
    /// Its log cannot be.
    #[error(transparent)]
    Log(#[from] WalError),
    /// Its identity cannot be.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// What a new cluster begins with.
#[derive(Debug)]
pub struct RestoredState {
    meta: Meta,
    store: Store,
}

impl RestoredState {
    /// Reads all of the snapshot in the file `name`, and believes nothing in it before its checksums held and the state
    /// has the hash that was kept. Sessions are forgotten: no write of theirs, sent once more, may run again in a
    /// cluster that does not remember its result.
    ///
    /// # Errors
    /// Why it cannot be loaded.
    pub fn read(disk: &dyn Disk, name: &str) -> Result<RestoredState, LoadError> {
        let reader = Reader::open(disk, name)?;
        let stored = Stored { index: reader.meta().index, name: name.to_owned(), bytes: reader.file_bytes() };
        let loaded = load(disk, &stored, SessionLimits::default(), &mut |_| {})?;
        let mut store = loaded.store;
        store.forget_sessions();
        Ok(RestoredState { meta: loaded.meta, store })
    }

    /// The state.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The index of the last entry that it covers.
    #[must_use]
    pub fn index(&self) -> Index {
        self.meta.index
    }

    /// Writes what a member needs to an empty disk, the identity last: a directory without it belongs to nobody.
    ///
    /// # Errors
    /// What failed; the disk is of no use then.
    pub fn write(&self, disk: &Arc<dyn Disk>, options: WalOptions, identity: &Identity) -> Result<(), RestoreError> {
        take_whole(disk.as_ref(), self.meta.clone(), self.store.image())?;
        let hard_state =
            HardState { current_term: self.meta.last_term(), voted_for: None, commit_index: self.meta.index };
        wal::open(disk, options, &mut |_| {})?.begin_behind(self.meta.index, hard_state)?;
        Ok(identity.store(disk.as_ref())?)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use raft::{NodeId, Term};

    use super::*;
    use crate::disk::MemoryDisk;
    use crate::engine::OfflineState;
    use crate::identity::{Cluster, Member};
    use crate::kv::command::encode;
    use crate::kv::{Applied, Command, PutMode, Refusal, Request, RequestId, SessionId};

    fn put(key: &str, id: Option<RequestId>) -> Request {
        let key = Bytes::copy_from_slice(key.as_bytes());
        Request { id, command: Command::Put { key, value: Bytes::from_static(b"v"), mode: PutMode::Create } }
    }

    fn of_session(number: u128) -> RequestId {
        RequestId { session: SessionId::new(number), opened_at_ms: 0, sequence: 1, acknowledged_below: 1 }
    }

    /// The snapshot of a state with three keys, one of them put by a session.
    fn snapshot(disk: &MemoryDisk) -> (Store, Stored) {
        let mut store = Store::new();
        let requests = [put("a", None), put("b", Some(of_session(7))), put("c", None)];
        for (index, request) in (5..).zip(&requests) {
            store.apply(Index::new(index), &encode(request, 1000 * index).expect("it is valid")).expect("it is known");
        }
        let term_starts = vec![(Index::new(1), Term::new(2)), (Index::new(4), Term::new(9))];
        let stored = take_whole(disk, Meta { index: Index::new(8), term_starts }, store.image());
        (store, stored.expect("the disk is sound"))
    }

    fn identity() -> Identity {
        let member = Member { name: "n1".to_owned(), incarnation: NodeId::new(3).expect("not zero") };
        Identity { cluster: Some(Cluster::new(vec![member.clone()])), member }
    }

    #[test]
    fn a_member_has_the_state_a_log_behind_it_and_its_identity() {
        let source = MemoryDisk::new();
        let (store, stored) = snapshot(&source);
        let restored = RestoredState::read(&source, &stored.name).expect("the snapshot is sound");
        let disk = MemoryDisk::new();
        let target: Arc<dyn Disk> = Arc::new(disk.clone());
        restored.write(&target, WalOptions::default(), &identity()).expect("the disk is sound");
        // All of it was synced.
        disk.crash(&mut |_| false);

        let (mut state, _) = OfflineState::of_newest_snapshot(target.as_ref()).expect("the disk is sound");
        let inspection = wal::inspect::<WalError>(target.as_ref(), &mut |record| {
            state.take(record);
            Ok(())
        });
        let hard_state = inspection.expect("the log is sound").hard_state;
        assert_eq!((hard_state.current_term, hard_state.voted_for), (Term::new(9), None));
        assert_eq!((state.gap(), state.contradiction(), state.is_obsolete()), (None, None, false));
        assert_eq!((state.last_index(), state.first_index()), (Index::new(8), Index::new(9)));
        let found = state.store();
        assert!(found.iter().eq(store.iter()));
        assert_eq!((found.revision(), found.session_count()), (store.revision(), 0));
        assert_eq!(found.state_hash(), restored.store().state_hash());
        assert_eq!(found.state_hash(), found.recompute_hash());
        assert_eq!(Identity::read(target.as_ref()).expect("it is sound"), Some(identity()));
    }

    #[test]
    fn what_a_session_of_the_old_cluster_repeats_is_not_run_again() {
        let source = MemoryDisk::new();
        let (_, stored) = snapshot(&source);
        let mut store = RestoredState::read(&source, &stored.name).expect("the snapshot is sound").store;
        for number in [7, 8] {
            let encoded = encode(&put("d", Some(of_session(number))), 0).expect("it is valid");
            let applied = store.apply(Index::new(8 + u64::try_from(number).expect("small")), &encoded);
            let refused = applied.expect("it is known");
            assert!(matches!(refused, Applied::Refused(Refusal::SessionExpired { .. })), "{refused:?}");
        }
        let opened_now = RequestId { opened_at_ms: store.time_ms(), ..of_session(9) };
        let encoded = encode(&put("d", Some(opened_now)), 0).expect("it is valid");
        let applied = store.apply(Index::new(20), &encoded).expect("it is known");
        assert!(matches!(applied, Applied::Put { .. }), "{applied:?}");
    }

    #[test]
    fn a_damaged_snapshot_is_refused() {
        let source = MemoryDisk::new();
        let (_, stored) = snapshot(&source);
        let file = source.open(&stored.name).expect("it is there");
        file.write_all_at(200, &[0xff]).expect("the disk is sound");
        assert!(RestoredState::read(&source, &stored.name).expect_err("it is damaged").is_damage());
    }
}
