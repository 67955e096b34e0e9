//! `quorate-server verify`: whether a node could start from a data directory, and with what.

use std::io::{self, BufWriter, Write as _};
use std::process::ExitCode;
use std::time::Instant;

use engine::disk::{Disk, RealDisk};
use engine::identity::{self, Identity, IdentityError};
use engine::wal::{self, Inspected, Inspection, Place, Replayed, Salvage, WalError};
use engine::{OfflineState, Repair, RepairError, SnapshotFile};
use raft::{HardState, Index, Term};

use super::report::{Report, Segment};
use super::{Damage, EXIT_DAMAGED, OfflineError, damage_in, damage_in_snapshot, open};
use crate::cli::VerifyArgs;

/// The first segment, which a log that is gone lacks.
pub(super) const FIRST_SEGMENT: Place = Place { segment: 1, offset: 0 };

/// Runs `verify` and returns the process's exit code.
#[must_use]
pub fn main(arguments: &VerifyArgs) -> ExitCode {
    match verify(arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_DAMAGED),
        Err(error) => error.tell(),
    }
}

/// Returns whether the directory is sound.
fn verify(arguments: &VerifyArgs) -> Result<bool, OfflineError> {
    let begun = Instant::now();
    let disk = open(&arguments.directory)?;
    let examination = Examination::of(&disk)?;
    let report = Report::new(&arguments.directory, &examination, begun.elapsed());
    let mut output = BufWriter::new(io::stdout().lock());
    if arguments.json {
        serde_json::to_writer(&mut output, &report).map_err(io::Error::from)?;
        writeln!(output)?;
    } else {
        write!(output, "{report}")?;
    }
    output.flush()?;
    Ok(report.sound())
}

/// What was found in a directory.
pub(super) struct Examination {
    pub(super) identity: Option<Identity>,
    pub(super) identity_damaged: bool,
    /// The note that part of the log was lost, if a start has not made up for that yet.
    pub(super) repair: Option<Repair>,
    pub(super) repair_damaged: bool,
    /// All snapshots, oldest first.
    pub(super) snapshots: Vec<SnapshotFile>,
    /// Files whose writing did not end; the next start removes them or writes them anew.
    pub(super) leftovers: Vec<String>,
    /// The segments that hold records, as far as the log was read.
    pub(super) segments: Vec<Segment>,
    pub(super) state: OfflineState,
    /// The hard state, as far as the log was read.
    pub(super) hard_state: HardState,
    /// What recovery would do; not known if the log is damaged.
    pub(super) inspection: Option<Inspection>,
    /// What is known of a damaged log.
    pub(super) salvage: Option<Salvage>,
    pub(super) damage: Vec<Damage>,
}

impl Examination {
    fn of(disk: &RealDisk) -> Result<Examination, OfflineError> {
        let (state, snapshots) = OfflineState::of_newest_snapshot(disk)?;
        let mut examination = Examination {
            identity: None,
            identity_damaged: false,
            repair: None,
            repair_damaged: false,
            snapshots,
            leftovers: leftovers(disk)?,
            segments: Vec::new(),
            state,
            hard_state: HardState::default(),
            inspection: None,
            salvage: None,
            damage: Vec::new(),
        };
        examination.read_identity(disk)?;
        examination.read_repair(disk)?;
        for file in &examination.snapshots {
            examination.damage.extend(damage_in_snapshot(file)?);
        }
        let inspected = wal::inspect(disk, &mut |record| {
            examination.take(record);
            Ok::<(), WalError>(())
        });
        match inspected {
            Ok(inspection) => {
                examination.hard_state = inspection.hard_state;
                examination.inspection = Some(inspection);
            }
            Err(error) => {
                examination.damage.push(damage_in(error)?);
                // Another version's log is not damaged, so there is nothing to be saved from it.
                examination.salvage = wal::salvage(disk).or_else(|error| damage_in(error).map(|_| None))?;
            }
        }
        examination.judge_state();
        examination.judge_whole();
        Ok(examination)
    }

    fn read_identity(&mut self, disk: &RealDisk) -> Result<(), OfflineError> {
        match Identity::read(disk) {
            Ok(identity) => self.identity = identity,
            Err(IdentityError::Damaged { line, reason }) => {
                let reason = format!("line {line}: {reason}");
                let file = identity::FILE_NAME.to_owned();
                self.identity_damaged = true;
                self.damage.push(Damage { file, offset: line_offset(disk, line), reason });
            }
            Err(other) => return Err(other.into()),
        }
        Ok(())
    }

    fn read_repair(&mut self, disk: &RealDisk) -> Result<(), OfflineError> {
        match Repair::read(disk) {
            Ok(repair) => self.repair = repair,
            Err(RepairError::Damaged) => {
                let reason = "without it nobody knows what this node has forgotten".to_owned();
                self.repair_damaged = true;
                self.damage.push(Damage { file: Repair::FILE_NAME.to_owned(), offset: 0, reason });
            }
            Err(other) => return Err(other.into()),
        }
        Ok(())
    }

    fn take(&mut self, record: &Inspected) {
        if let Some(start) = record.start {
            self.segments.push(Segment::begin(record.place.file(), start.file_bytes));
        }
        if let Some(segment) = self.segments.last_mut() {
            segment.take(record);
        }
        self.hard_state = record.hard_state;
        self.state.take(record);
    }

    /// Whether the records make sense together, and the state is what its hash says.
    fn judge_state(&mut self) {
        if let Some((place, contradiction)) = self.state.contradiction() {
            let reason = contradiction.to_string();
            self.damage.push(Damage { file: place.file(), offset: place.offset, reason });
        }
        let store = self.state.store();
        if let Some(inspection) = &self.inspection
            && store.recompute_hash() != store.state_hash()
        {
            let reason = "the hash of the replayed state differs from the one kept on the way: the memory of this \
                          machine may be faulty";
            let (file, offset) = (inspection.end.file(), inspection.end.offset);
            self.damage.push(Damage { file, offset, reason: reason.to_owned() });
        }
    }

    /// Whether identity, snapshots and log belong together, as a start of the node asks.
    fn judge_whole(&mut self) {
        if let Some(gap) = self.state.gap() {
            let file = self.segments.first().map_or(FIRST_SEGMENT.file(), |segment| segment.file.clone());
            self.damage.push(Damage { file, offset: 0, reason: gap.to_string() });
        }
        if self.log_is_gone() {
            let reason = "the log of this member is gone, and with it its votes and acknowledgements";
            self.damage.push(Damage { file: FIRST_SEGMENT.file(), offset: 0, reason: reason.to_owned() });
        } else if self.is_foreign_log() {
            let reason = "there is a log, but no identity of a member that it belongs to";
            self.damage.push(Damage { file: identity::FILE_NAME.to_owned(), offset: 0, reason: reason.to_owned() });
        }
    }

    fn is_member(&self) -> bool {
        self.identity.as_ref().is_some_and(|identity| identity.cluster.is_some())
    }

    /// Whether a member's log is gone, and no note says that it was given up.
    pub(super) fn log_is_gone(&self) -> bool {
        let fresh = self.inspection.as_ref().is_some_and(|inspection| inspection.fresh);
        self.is_member() && fresh && self.repair.is_none()
    }

    /// Whether there is a log in which something was promised, but no identity of whoever did.
    pub(super) fn is_foreign_log(&self) -> bool {
        let promised = self.inspection.as_ref().is_some_and(|inspection| {
            inspection.last_index > Index::ZERO || inspection.hard_state.current_term > Term::ZERO
        });
        promised && !self.is_member() && !self.identity_damaged
    }

    /// Whether the others can elect a leader without this node: only from one can it fetch anything.
    pub(super) fn others_can_lead(&self) -> bool {
        let cluster = self.identity.as_ref().and_then(|identity| identity.cluster.as_ref());
        let count = cluster.map_or(1, |cluster| cluster.members().len());
        count - 1 > count / 2
    }
}

impl Segment {
    fn begin(file: String, bytes: u64) -> Segment {
        Segment { file, bytes, in_use: true, ..Segment::default() }
    }

    fn take(&mut self, record: &Inspected) {
        self.used_bytes = record.place.offset + record.bytes;
        self.records += 1;
        if let Some(Replayed::Entry(entry)) = &record.replayed {
            self.entries += 1;
            // An index that was taken back is written again, so the last entry need not have the greatest.
            let widen = |range: &mut Option<[u64; 2]>, number: u64| {
                let [first, last] = range.unwrap_or([number; 2]);
                *range = Some([first.min(number), last.max(number)]);
            };
            widen(&mut self.indexes, entry.index.get());
            widen(&mut self.terms, entry.term.get());
        }
    }
}

/// The names of files that were being written, filled, received or removed when the process ended.
fn leftovers(disk: &RealDisk) -> Result<Vec<String>, OfflineError> {
    let names = disk.list().map_err(|source| OfflineError::List { directory: "the directory".to_owned(), source })?;
    let is_unfinished = |name: &String| {
        let is_removed = name.starts_with("snapshot-") && name.ends_with(".old");
        is_removed || [".tmp", ".part", ".new"].iter().any(|ending| name.ends_with(ending))
    };
    Ok(names.into_iter().filter(is_unfinished).collect())
}

/// Where a line of the identity begins; 0 if that cannot be told.
fn line_offset(disk: &dyn Disk, line: usize) -> u64 {
    let bytes = engine::disk::read_file(disk, identity::FILE_NAME, identity::FILE_BYTES_MAX);
    let Ok(Some(bytes)) = bytes else { return 0 };
    let before = bytes.split_inclusive(|byte| *byte == b'\n').take(line.saturating_sub(1));
    before.map(|line| line.len() as u64).sum()
}
