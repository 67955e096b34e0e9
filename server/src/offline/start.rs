//! What a start of the node would do with a directory, in particular about damage: see the table at the head of
//! `engine`'s opening. A test starts nodes on directories of every kind of damage and compares.

use std::fmt;

use engine::wal::{Place, Salvage};
use engine::{ReplayError, SnapshotFile};
use raft::{Index, Term};
use serde::Serialize;

use super::verify::Examination;

/// What a start would do.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub(super) enum Start {
    /// The node takes part with what it has.
    TakesPart,
    /// An older snapshot and the log behind it hold the same as a damaged one.
    OlderSnapshot,
    /// What is lost is fetched from the other members.
    Fetches {
        /// The last entry that is left.
        last_index: u64,
        /// Where the log is cut; none if it is sound, but begins behind the newest sound snapshot.
        cut: Option<Cut>,
    },
    /// The process stays up, is not ready, says why, and takes no part.
    StaysOutside,
    /// The process ends with an error.
    Refuses,
}

/// A place at which a log is cut.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
pub(super) struct Cut {
    file: String,
    offset: u64,
    /// The last term in which this node can have promised anything.
    proven_term: u64,
}

impl Cut {
    fn at(place: Place, proven_term: Term) -> Cut {
        // Nothing sound before the damage is the beginning of the first segment.
        let place = if place.segment == 0 { super::verify::FIRST_SEGMENT } else { place };
        Cut { file: place.file(), offset: place.offset, proven_term: proven_term.get() }
    }
}

impl Start {
    /// What a start would do about what was found.
    pub(super) fn of(found: &Examination) -> Start {
        let newest_sound = found.snapshots.iter().rposition(|file| file.problem.is_none());
        let newer = newest_sound.map_or(found.snapshots.as_slice(), |position| &found.snapshots[position + 1..]);
        if found.identity_damaged || found.repair_damaged || newer.iter().any(is_foreign) {
            return Start::Refuses;
        }
        if found.inspection.is_none() && found.salvage.is_none() {
            return Start::Refuses; // another version's log
        }
        if found.log_is_gone() {
            return Start::StaysOutside;
        }
        let cut = match Start::cut(found) {
            Ok(cut) => cut,
            Err(refuses) => return refuses,
        };
        let base =
            found.snapshots.iter().rfind(|file| file.problem.is_none()).map_or(Index::ZERO, |file| file.stored.index);
        let gap = match found.state.gap() {
            _ if found.state.contradiction().is_some() => return Start::Refuses,
            // What cannot be read may well be sound: nothing is given up for it.
            Some(ReplayError::SnapshotMissing { .. }) if newer.iter().any(is_unreadable) => return Start::Refuses,
            Some(ReplayError::SnapshotMissing { .. }) if found.others_can_lead() => true,
            Some(_) => return Start::Refuses,
            None => false,
        };
        if found.is_foreign_log() {
            Start::StaysOutside
        } else if gap || cut.is_some() {
            let is_reset = gap || found.state.is_obsolete();
            let last = if is_reset { base } else { found.state.last_index() };
            Start::Fetches { last_index: last.get(), cut }
        } else if !newer.is_empty() {
            Start::OlderSnapshot
        } else {
            Start::TakesPart
        }
    }

    /// Where the log would be cut, if anywhere; an error if it is damaged and would not be.
    fn cut(found: &Examination) -> Result<Option<Cut>, Start> {
        // A cut that was begun goes on, whatever the log looks like by now, and at damage that lies before it.
        if let Some(repair) = &found.repair
            && let Some(place) = repair.cut
        {
            let end = found.salvage.as_ref().map_or(place, |salvage| salvage.end.min(place));
            return Ok(Some(Cut::at(end, repair.forgotten_term)));
        }
        let Some(Salvage { end, proven_term, .. }) = found.salvage else { return Ok(None) };
        match proven_term {
            Some(proven) if found.others_can_lead() => {
                let before = found.repair.map_or(Term::ZERO, |repair| repair.forgotten_term);
                Ok(Some(Cut::at(end, proven.max(before))))
            }
            _ => Err(Start::Refuses),
        }
    }
}

/// Whether a snapshot is not damaged, but of another version of the program.
fn is_foreign(file: &SnapshotFile) -> bool {
    file.problem.as_ref().is_some_and(|problem| !problem.is_damage() && !problem.is_unreadable())
}

/// Whether the disk did not give a snapshot's bytes.
fn is_unreadable(file: &SnapshotFile) -> bool {
    file.problem.as_ref().is_some_and(engine::LoadError::is_unreadable)
}

/// What is told below the damage.
impl fmt::Display for Start {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNTIL_THEN: &str = "and fetches the rest from the other members. Until it has that, it is not ready, and \
                                  takes no part in elections. There is nothing to do but to start it.";
        let text = match self {
            Start::TakesPart => "This does not keep the node from starting and taking part.".to_owned(),
            Start::OlderSnapshot => {
                "A start of the node uses the snapshot before it, or none, and the log behind that, \
                                     which hold the same, and replaces the one that is of no use. There is nothing to \
                                     do but to start it."
                    .to_owned()
            }
            Start::Fetches { last_index, cut: Some(Cut { file, offset, proven_term }) } => format!(
                "A start of the node cuts the log at byte {offset} of {file}: what is behind the damage proves that it \
                 promised nothing in a term beyond {proven_term}. It goes on behind entry {last_index}, {UNTIL_THEN}"
            ),
            Start::Fetches { last_index, cut: None } => format!(
                "A start of the node gives up the log, which does not lead on from entry {last_index}, {UNTIL_THEN}"
            ),
            Start::StaysOutside => {
                "The node stays up, but will not take part with it. Put back what is missing; the other \
                                    members go on as long as they are a majority. What is intact:"
                    .to_owned()
            }
            Start::Refuses => {
                "The node refuses to start with it. Change nothing in there; the other members go on as long \
                               as they are a majority. What is intact before the damage:"
                    .to_owned()
            }
        };
        write_paragraph(out, &text)
    }
}

/// Writes a text in lines, a little indented.
fn write_paragraph(out: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    const COLUMNS: usize = 100;
    let mut column = 0;
    for word in text.split(' ') {
        if column > 0 && column + 1 + word.len() > COLUMNS {
            writeln!(out)?;
            column = 0;
        }
        let space = if column == 0 { "  " } else { " " };
        write!(out, "{space}{word}")?;
        column += space.len() + word.len();
    }
    writeln!(out)
}
