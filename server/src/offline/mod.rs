//! `quorate-server verify`, `dump` and `restore`: look into the data directory of a node that is not running, and make
//! those of a new cluster.
//!
//! The first two change nothing: the directory is opened read-only, under a lock that keeps a node out meanwhile. What
//! they call damaged is what a start of the node would call so, because both read snapshots and log with the same code.

pub mod dump;
mod report;
pub mod restore;
mod start;
mod text;
pub mod verify;

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use engine::disk::{Disk as _, LockError, RealDisk};
use engine::identity::{self, IdentityError};
use engine::snapshot::SnapshotError;
use engine::wal::WalError;
use engine::{LoadError, RepairError, RestoreError, SnapshotFile};
use serde::Serialize;

use crate::cli::EXIT_USAGE;

/// The directory, or what was found in it, is damaged.
const EXIT_DAMAGED: u8 = 1;

/// There is no such directory, or it is no data directory: `EX_NOINPUT` of sysexits.h.
const EXIT_NO_INPUT: u8 = 66;

/// What is to be made is there already, or cannot be: `EX_CANTCREAT` of sysexits.h.
const EXIT_CANNOT_CREATE: u8 = 73;

/// The file system failed: `EX_IOERR` of sysexits.h.
const EXIT_IO: u8 = 74;

/// A running process has the directory; it works when that has ended: `EX_TEMPFAIL` of sysexits.h.
const EXIT_LOCKED: u8 = 75;

/// Something that is not as it was written.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
struct Damage {
    file: String,
    offset: u64,
    reason: String,
}

/// Why a look into a directory ended early.
#[derive(Debug, thiserror::Error)]
enum OfflineError {
    #[error("there is no directory {0}")]
    NoDirectory(String),
    #[error("{0} is not a data directory: it has neither an identity nor a log")]
    NoDataDirectory(String),
    #[error("there is no snapshot{0}")]
    NoSnapshot(String),
    #[error("{0}; stop that process first, or copy the directory and look into the copy")]
    Locked(LockError),
    #[error(transparent)]
    Lock(LockError),
    #[error("cannot list {directory}: {source}")]
    List { directory: String, source: io::Error },
    #[error(transparent)]
    Log(#[from] WalError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Repair(#[from] RepairError),
    #[error("there is no file {0}")]
    NoFile(String),
    #[error("{0}")]
    Members(String),
    #[error("{0} is there already: choose another place, or remove it")]
    Exists(String),
    #[error("cannot create {directory}: {source}")]
    Create { directory: String, source: io::Error },
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Restore(#[from] RestoreError),
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl OfflineError {
    /// Says what is wrong, and returns the exit code of it.
    fn tell(&self) -> ExitCode {
        let code = match self {
            // Whoever read the output has seen enough, as `head` does.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
            Self::NoDirectory(_) | Self::NoDataDirectory(_) => EXIT_NO_INPUT,
            Self::Locked(_) => EXIT_LOCKED,
            Self::NoSnapshot(_) | Self::NoFile(_) => EXIT_NO_INPUT,
            Self::Members(_) => EXIT_USAGE,
            Self::Exists(_) | Self::Create { .. } => EXIT_CANNOT_CREATE,
            Self::Load(error) if error.is_unreadable() => EXIT_IO,
            Self::Load(_) => EXIT_DAMAGED,
            Self::Lock(_)
            | Self::List { .. }
            | Self::Log(_)
            | Self::Snapshot(_)
            | Self::Identity(_)
            | Self::Repair(_)
            | Self::Restore(_)
            | Self::Output(_) => EXIT_IO,
        };
        let text = match self {
            Self::Lock(LockError::Io { source, .. }) => format!("{self}: {source}"),
            _ => self.to_string(),
        };
        eprintln!("quorate-server: {text}");
        ExitCode::from(code)
    }
}

/// Opens a directory that exists, to be read.
fn open_directory(directory: &Path) -> Result<RealDisk, OfflineError> {
    RealDisk::open_read_only(directory).map_err(|error| match &error {
        LockError::Held { .. } => OfflineError::Locked(error),
        LockError::Io { source, .. } if is_no_directory(source) => {
            OfflineError::NoDirectory(directory.display().to_string())
        }
        LockError::Io { .. } => OfflineError::Lock(error),
    })
}

/// Opens a data directory that exists, to be read.
fn open(directory: &Path) -> Result<RealDisk, OfflineError> {
    let named = || directory.display().to_string();
    let disk = open_directory(directory)?;
    let names = disk.list().map_err(|source| OfflineError::List { directory: named(), source })?;
    if !names
        .iter()
        .any(|name| name.starts_with(identity::FILE_NAME) || name.starts_with("wal-") || name.starts_with("snapshot-"))
    {
        return Err(OfflineError::NoDataDirectory(named()));
    }
    Ok(disk)
}

fn is_no_directory(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The damage that an error of the log tells of; any other error comes back.
fn damage_in(error: WalError) -> Result<Damage, OfflineError> {
    match error {
        WalError::Corrupt { file, offset, reason, .. } => Ok(Damage { file, offset, reason }),
        WalError::Version { file, found, known } => Ok(Damage { file, offset: 0, reason: other_version(found, known) }),
        other => Err(OfflineError::Log(other)),
    }
}

/// A snapshot that cannot be loaded; any error of the disk comes back.
fn damage_in_snapshot(file: &SnapshotFile) -> Result<Option<Damage>, OfflineError> {
    let named = |offset, reason| Damage { file: file.stored.name.clone(), offset, reason };
    Ok(Some(match &file.problem {
        None => return Ok(None),
        Some(LoadError::File(SnapshotError::Damaged { offset, reason, .. })) => named(*offset, reason.clone()),
        Some(LoadError::File(error @ SnapshotError::Io { .. })) => return Err(OfflineError::Snapshot(error.clone())),
        Some(LoadError::File(SnapshotError::Version { found, known, .. })) => named(0, other_version(*found, *known)),
        Some(LoadError::Image { source, .. }) => named(0, format!("it holds no state: {source}")),
        Some(LoadError::Index { found, .. }) => named(0, format!("it is the snapshot of index {found}")),
        Some(LoadError::File(error)) => named(0, error.to_string()),
    }))
}

fn other_version(found: u32, known: u32) -> String {
    format!("format version {found}, and this program knows only {known}")
}

/// The command that looks into a directory, ready to be typed.
pub(crate) fn command(name: &str, directory: &Path) -> String {
    format!("quorate-server {name} {}", shell_word(directory.as_os_str()))
}

/// A word as a shell understands it.
fn shell_word(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:=@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_can_be_typed_as_it_stands() {
        let command = |directory: &str| command("verify", Path::new(directory));
        assert_eq!(command("./quorate-data/n1"), "quorate-server verify ./quorate-data/n1");
        assert_eq!(command("my data"), "quorate-server verify 'my data'");
        assert_eq!(command("it's"), r"quorate-server verify 'it'\''s'");
    }
}
