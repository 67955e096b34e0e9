//! From a data directory to an engine: the newest sound snapshot, the log behind it, and what to do about damage.
//!
//! | what is damaged | what is done |
//! |---|---|
//! | a snapshot, and the one before it is sound | that one and the log behind it, which is kept for this |
//! | a snapshot cannot be read, and the one before it is sound | the same; the file stays until a new one takes its place |
//! | the same, and the log does not lead on from one before it | nothing is touched, and the node does not start |
//! | every snapshot, and the log does not begin at the first entry | the log is given up and fetched from the others |
//! | the log, and what is behind the damage proves this node's term | it is cut there, and the rest fetched from the others |
//! | the log, before the place of a cut that a crash interrupted | the same: the note on that cut says the term |
//! | the log otherwise | nothing is touched, and the node does not start |
//!
//! Nothing can be fetched where the others cannot elect a leader without this node, which has no vote meanwhile: then
//! nothing is touched either.
//!
//! Whatever is given up takes promises with it, so it is noted on the disk first: see [`super::repair`].
//!
//! On a full disk there is no room for the note, or for the record with which the log goes on elsewhere. Then what is
//! of no use to anybody is removed first: damaged snapshots, segments that were not finished, spares, and segments that
//! hold nothing but what is given up.

use std::sync::Arc;

use raft::{Entry, Index, Payload, Raft, Restored, Term};

use crate::disk::Disk;
use crate::kv::command::is_configure;
use crate::replica::Replica;
use crate::snapshot::{self, Stored};
use crate::wal::{self, WalError};

use super::agreement::Agreement;
use super::repair::Repair;
use super::replay::{Base, Done, Replay, ReplayError};
use super::snapshots::{LoadError, SnapshotExecutor, Snapshots, SnapshotsOptions, load};
use super::space::Space;
use super::{Engine, EngineError, EngineOptions, Opened};

/// Damage that a start found and dealt with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// What is damaged: the file, where in it, and how that is known.
    pub found: String,
    /// What was done about it.
    pub remedy: Remedy,
}

/// What was done about damage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Remedy {
    /// An older snapshot, and the log behind it, hold everything that the one did that is damaged or cannot be read.
    OlderSnapshot,
    /// The log ends at `last_index` now. What is missing is fetched from the others, and the node takes no part in
    /// elections until it is there.
    Fetched {
        /// The last entry that is left.
        last_index: Index,
    },
}

/// How far a start has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// So many bytes of a snapshot have been loaded.
    Snapshot {
        /// The bytes.
        bytes: u64,
    },
    /// So many entries of the log have been replayed.
    Log {
        /// The entries.
        entries: u64,
    },
}

/// After so many entries the progress is told.
const PROGRESS_ENTRIES: u64 = 1 << 14;

/// A log that was replayed on top of a snapshot.
struct Log {
    opened: wal::Opened,
    done: Done,
    forgotten_term: Option<Term>,
}

struct Opening<'a> {
    disk: &'a Arc<dyn Disk>,
    options: &'a EngineOptions,
    damage: Vec<Damage>,
    /// The snapshots that are damaged.
    unsound: Vec<(Stored, LoadError)>,
    /// Those that the disk did not give.
    unreadable: Vec<(Stored, LoadError)>,
    progress: &'a mut dyn FnMut(Progress),
}

/// See [`Engine::open_telling`].
pub(super) fn open(
    disk: &Arc<dyn Disk>,
    options: EngineOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Opened, EngineError> {
    let (damage, unsound, unreadable) = (Vec::new(), Vec::new(), Vec::new());
    let mut opening = Opening { disk, options: &options, damage, unsound, unreadable, progress };
    snapshot::remove_leftovers(disk.as_ref())?;
    let (base, stored) = opening.newest_sound()?;
    let Log { opened, done, forgotten_term } = opening.log(&base)?;
    opening.give_up_unsound()?;
    let Opening { damage, unreadable, .. } = opening;
    let snapshot_index = stored.last().map_or(Index::ZERO, |stored| stored.index);
    let EngineOptions { raft: raft_options, configuration, wal_pending_bytes_max, .. } = options.clone();
    let (id, timeout_ticks) = (raft_options.id, raft_options.election_timeout_ticks_max);
    let process = raft_options.seed;
    let may_have_promised = may_have_promised(&done) || forgotten_term.is_some();
    let raft = Raft::new(
        raft_options,
        Restored {
            configuration,
            hard_state: opened.hard_state,
            term_starts: done.term_starts,
            tail: done.tail,
            last_index: done.last_index,
            first_index: opened.first_index,
            snapshot_index,
            forgotten_term,
            may_have_promised,
            applied: done.applied,
        },
    )?;
    let members = raft.configuration().members();
    let place = members.iter().position(|member| *member == id).unwrap_or(0) as u64;
    let snapshots_options = SnapshotsOptions {
        id,
        log_bytes_min: options.snapshot_log_bytes_min,
        piece_bytes: options.snapshot_chunk_bytes,
        place: (place, members.len() as u64),
        timeout_ticks,
    };
    let unreadable = unreadable.into_iter().map(|(stored, _)| stored).collect();
    let snapshots = Snapshots::new(snapshots_options, stored, unreadable, done.bytes_since_base);
    let applied = (done.applied, done.applied_term);
    let replica = Replica::new(raft, done.store, applied, options.state_hash_every_entries, process, options.lease_ms);
    Ok(Opened {
        engine: Engine {
            replica,
            wal: opened.wal,
            snapshots,
            agreement: Agreement::new(id, 2 * u64::from(timeout_ticks)),
            space: Space::new(options.space_reserve_bytes),
            wal_pending_bytes_max,
            messages_dropped: 0,
            ticks: 0,
            stopped: false,
        },
        executor: opened.executor,
        reader: opened.reader,
        snapshot_executor: SnapshotExecutor::new(
            Arc::clone(disk),
            options.snapshot_chunk_bytes,
            options.session_limits,
        ),
        report: opened.report,
        snapshot_index,
        damage,
        fresh: opened.fresh,
    })
}

/// Whether an earlier process may have answered heartbeats with promises: it did only while its disk, too, said that
/// there are leases, in the state or in an entry that was not known to be committed any more.
fn may_have_promised(done: &Done) -> bool {
    let changes_settings = |entry: &Entry| matches!(&entry.payload, Payload::Command(encoded) if is_configure(encoded));
    let mut unapplied = done.tail.iter().filter(|entry| entry.index > done.applied);
    done.store.settings().lease_reads || unapplied.any(changes_settings)
}

impl Opening<'_> {
    /// The newest snapshot that is sound, and which there are besides.
    fn newest_sound(&mut self) -> Result<(Base, Vec<Stored>), EngineError> {
        let mut stored = snapshot::list(self.disk.as_ref())?;
        let limits = self.options.session_limits;
        while let Some(newest) = stored.last() {
            let progress = &mut *self.progress;
            match load(self.disk.as_ref(), newest, limits, &mut |bytes| progress(Progress::Snapshot { bytes })) {
                Ok(loaded) => return Ok((Base::of(loaded), stored)),
                Err(error) if error.is_damage() => {
                    self.damage.push(Damage { found: error.to_string(), remedy: Remedy::OlderSnapshot });
                    self.unsound.extend(stored.pop().map(|stored| (stored, error)));
                }
                Err(error) if error.is_unreadable() => {
                    self.damage.push(Damage { found: error.to_string(), remedy: Remedy::OlderSnapshot });
                    self.unreadable.extend(stored.pop().map(|stored| (stored, error)));
                }
                // Another version's: not damage, and nothing to be given up.
                Err(error) => return Err(error.into()),
            }
        }
        Ok((Base::empty(limits), stored))
    }

    /// Removes damaged snapshots: whatever stands in them is elsewhere by now, or lost.
    fn give_up_unsound(&self) -> Result<(), EngineError> {
        for (stored, _) in &self.unsound {
            snapshot::remove(self.disk.as_ref(), stored.index)?;
        }
        Ok(())
    }

    /// Whether the others can elect a leader without this node: only from one can it fetch what is lost, and while it
    /// does, it has no vote.
    fn others_can_lead(&self) -> bool {
        let own = self.options.raft.id;
        self.options.configuration.has_quorum(|voter| voter != own)
    }

    /// Replays the log on top of `base`, after what is damaged was cut off, if that can be done.
    fn log(&mut self, base: &Base) -> Result<Log, EngineError> {
        let repair = Repair::read(self.disk.as_ref())?;
        self.check_leads_on(base)?;
        let forgotten_term = repair.map(|repair| repair.forgotten_term);
        match self.replay(base, repair) {
            Err(EngineError::Wal(error @ WalError::Corrupt { .. })) => {
                let salvage = wal::salvage(self.disk.as_ref())?.filter(|_| self.others_can_lead());
                // A cut that went on just now took what lay behind it. The note on it says what that proved, and
                // nothing was promised since.
                let noted = repair.filter(|repair| repair.cut.is_some()).map(|repair| repair.forgotten_term);
                let proven = salvage.and_then(|salvage| Some((salvage.end, salvage.proven_term.or(noted)?)));
                let Some((end, proven)) = proven else { return Err(error.into()) };
                let term = forgotten_term.unwrap_or(Term::ZERO).max(proven);
                let (opened, done) = self.replay(base, Some(Repair { forgotten_term: term, cut: Some(end) }))?;
                let log = self.settled(base, opened, done, Some(term))?;
                let remedy = Remedy::Fetched { last_index: log.done.last_index };
                self.damage.push(Damage { found: error.to_string(), remedy });
                Ok(log)
            }
            Err(error) => Err(error),
            Ok((opened, done)) => self.settled(base, opened, done, forgotten_term),
        }
    }

    /// Refuses a sound log that does not lead on from `base` and must not be given up, before anything is written: once
    /// it is open, it has taken a record.
    ///
    /// Only where a snapshot is missing, damaged or unreadable can that be, so only there is the log read twice.
    fn check_leads_on(&mut self, base: &Base) -> Result<(), EngineError> {
        let may_be_missing = base.index == Index::ZERO || !self.unsound.is_empty() || !self.unreadable.is_empty();
        if self.may_give_up() || !may_be_missing {
            return Ok(());
        }
        let mut replay = Replay::new(base.clone(), 0);
        let read = wal::inspect::<WalError>(self.disk.as_ref(), &mut |record| {
            if let Some(replayed) = &record.replayed {
                replay.record(replayed.clone());
            }
            Ok(())
        });
        match (read, replay.gap()) {
            (Ok(_), Some(missing @ ReplayError::SnapshotMissing { .. })) => Err(self.cannot_lead_on(missing)),
            // Whatever else is wrong is found again, and told, when it is opened.
            _ => Ok(()),
        }
    }

    /// Whether promises may be given up for what is missing. What cannot be read now may be readable later.
    fn may_give_up(&self) -> bool {
        self.others_can_lead() && self.unreadable.is_empty()
    }

    /// The error of a log that does not lead on: what is wrong with the snapshot that it led on from, if that is known.
    fn cannot_lead_on(&mut self, missing: ReplayError) -> EngineError {
        let of_no_use = self.unreadable.pop().or_else(|| self.unsound.pop());
        of_no_use.map_or(missing.into(), |(_, error)| EngineError::Load(error))
    }

    /// Writes the note on a repair, if need be in place of what is of no use.
    fn note(&self, repair: Repair) -> Result<(), EngineError> {
        match repair.store(self.disk.as_ref()) {
            Err(error) if error.is_storage_full() => {
                self.give_up_unsound()?;
                wal::remove_idle_files(self.disk.as_ref())?;
                Ok(repair.store(self.disk.as_ref())?)
            }
            outcome => Ok(outcome?),
        }
    }

    /// Replays the log, after the cut of which the note on a repair says that it may not have ended.
    ///
    /// The note says so until the log has been opened again: a crash on the way leads to another cut at that place, and
    /// nothing was promised meanwhile. Only that long may there be no log at all.
    fn replay(
        &mut self,
        base: &Base,
        repair: Option<Repair>,
    ) -> Result<(wal::Opened, Result<Done, ReplayError>), EngineError> {
        let cut = repair.and_then(|repair| Some((repair, repair.cut?)));
        if let Some((repair, place)) = cut {
            self.note(repair)?;
            wal::cut_damaged(self.disk.as_ref(), place)?;
        }
        let mut options = self.options.wal.clone();
        options.must_exist &= cut.is_none();
        let mut replay = Replay::new(base.clone(), self.options.raft.tail_bytes_max);
        let mut entries = 0;
        let opened = wal::open(self.disk, options, &mut |record| {
            replay.record(record);
            entries += 1;
            if entries % PROGRESS_ENTRIES == 0 {
                (self.progress)(Progress::Log { entries });
            }
        })?;
        if let Some((repair, _)) = cut {
            Repair { cut: None, ..repair }.store(self.disk.as_ref())?;
        }
        Ok((opened, replay.finish()))
    }

    /// Makes the log go on behind the base if it does not lead up to it.
    fn settled(
        &mut self,
        base: &Base,
        mut opened: wal::Opened,
        done: Result<Done, ReplayError>,
        mut forgotten_term: Option<Term>,
    ) -> Result<Log, EngineError> {
        let done = match done {
            Ok(done) => {
                if done.is_obsolete {
                    // The log keeps the entry at the base, if it has one: by that it is known again to be obsolete.
                    opened.wal.cut(base.index);
                    opened.reset(base.index)?;
                }
                done
            }
            Err(missing @ ReplayError::SnapshotMissing { .. }) => {
                if !self.may_give_up() {
                    return Err(self.cannot_lead_on(missing));
                }
                // The log is sound, so what it says of this node's term is all that it can have promised.
                let term = forgotten_term.unwrap_or(Term::ZERO).max(opened.hard_state.current_term);
                self.note(Repair { forgotten_term: term, cut: None })?;
                forgotten_term = Some(term);
                // Of what it gives up, the note says all that has to be known.
                opened.wal.cut(opened.last_index);
                opened.reset(base.index)?;
                let remedy = Remedy::Fetched { last_index: base.index };
                self.damage.iter_mut().for_each(|damage| damage.remedy = remedy);
                self.damage.push(Damage { found: missing.to_string(), remedy });
                Replay::new(base.clone(), 0).finish()?
            }
            Err(error) => return Err(error.into()),
        };
        opened.hard_state.commit_index = opened.hard_state.commit_index.min(done.last_index).max(done.applied);
        Ok(Log { opened, done, forgotten_term })
    }
}
