//! A directory of the real file system, held by one process at a time.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock, fstatvfs};
use rustix::process::{Pid, test_kill_process};

use super::{Disk, File, LOCK_NAME, check_name};

/// How many bytes of the lock file are read to find the holder's process id: any `u32` in decimal fits.
const HOLDER_BYTES_MAX: u64 = 16;

/// Why a directory could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process (or another [`RealDisk`] of this one) holds the directory.
    #[error("data directory {} is in use by {}", directory.display(), describe_holder(*holder))]
    Held {
        /// The directory that was asked for.
        directory: PathBuf,
        /// The process id that the holder wrote down, if it could be read.
        holder: Option<u32>,
    },
    /// The directory or its lock file could not be created or opened.
    #[error("{action} data directory {}", directory.display())]
    Io {
        /// The directory that was asked for.
        directory: PathBuf,
        /// What was being done.
        action: &'static str,
        /// What the file system reported.
        source: io::Error,
    },
}

fn describe_holder(holder: Option<u32>) -> String {
    holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

/// One directory of the real file system.
///
/// While this value lives it holds a lock on the file `LOCK` in the directory, exclusive unless it only reads, so that
/// two processes never write one log. The kernel drops the lock when the process ends, however it ends.
#[derive(Debug)]
pub struct RealDisk {
    directory: PathBuf,
    /// Open on the directory itself, for syncing it.
    directory_file: fs::File,
    /// Held, never read: the lock lasts as long as this is open. There is none in a directory that was only ever read.
    _lock: Option<fs::File>,
    read_only: bool,
}

impl RealDisk {
    /// Creates the directory if it is missing (parents too, each made durable in its own parent) and locks it.
    ///
    /// # Errors
    /// [`LockError::Held`] if somebody else holds the directory, [`LockError::Io`] if the file system refuses.
    pub fn open(directory: &Path) -> Result<RealDisk, LockError> {
        let io_error = |action| move |source| LockError::Io { directory: directory.to_owned(), action, source };
        create_directory(directory).map_err(io_error("create"))?;
        let directory_file = fs::File::open(directory).map_err(io_error("open"))?;
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false) // the holder's process id must stay readable for the one that is refused
            .open(directory.join(LOCK_NAME))
            .map_err(io_error("open the lock file of"))?;
        take_lock(directory, &lock, FlockOperation::NonBlockingLockExclusive)?;
        lock.set_len(0).map_err(io_error("write the lock file of"))?;
        lock.write_all(format!("{}\n", std::process::id()).as_bytes()).map_err(io_error("write the lock file of"))?;
        Ok(RealDisk { directory: directory.to_owned(), directory_file, _lock: Some(lock), read_only: false })
    }

    /// Opens a directory that exists, to look at it: nothing in it is changed, whatever is called afterwards, and it
    /// may lie in a file system that is mounted read-only. Others may look at the same time, but nobody writes: the
    /// lock that a writer needs is shared by those who look. (A copy of a directory may lack the lock file.)
    ///
    /// # Errors
    /// [`LockError::Held`] if a process that may write holds the directory, [`LockError::Io`] if it is not there or
    /// the file system refuses.
    pub fn open_read_only(directory: &Path) -> Result<RealDisk, LockError> {
        let io_error = |action| move |source| LockError::Io { directory: directory.to_owned(), action, source };
        let directory_file = fs::File::open(directory).map_err(io_error("open"))?;
        if !directory_file.metadata().map_err(io_error("open"))?.is_dir() {
            return Err(io_error("open")(io::ErrorKind::NotADirectory.into()));
        }
        let lock = match fs::File::open(directory.join(LOCK_NAME)) {
            Ok(lock) => {
                take_lock(directory, &lock, FlockOperation::NonBlockingLockShared)?;
                Some(lock)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(io_error("open the lock file of")(error)),
        };
        Ok(RealDisk { directory: directory.to_owned(), directory_file, _lock: lock, read_only: true })
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn path(&self, name: &str) -> io::Result<PathBuf> {
        check_name(name)?;
        Ok(self.directory.join(name))
    }

    /// The path of a file that is to be changed.
    fn writable_path(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.path(name)?;
        if self.read_only { Err(io::ErrorKind::ReadOnlyFilesystem.into()) } else { Ok(path) }
    }
}

/// Takes the lock on the open lock file of a directory, or says who has it.
fn take_lock(directory: &Path, lock: &fs::File, operation: FlockOperation) -> Result<(), LockError> {
    match flock(lock, operation) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = String::new();
            // Only for the message: a holder that has not written its id yet is "another process".
            let holder = match lock.take(HOLDER_BYTES_MAX).read_to_string(&mut text) {
                Ok(_) => text.trim().parse().ok().filter(|pid| is_running(*pid)),
                Err(_) => None,
            };
            Err(LockError::Held { directory: directory.to_owned(), holder })
        }
        Err(errno) => {
            let (directory, source) = (directory.to_owned(), errno.into());
            Err(LockError::Io { directory, action: "lock", source })
        }
    }
}

/// Whether there is such a process. Whoever only looks holds the lock without writing its id down: what stands there
/// then is that of the last writer, who is gone.
fn is_running(process: u32) -> bool {
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

/// Creates a directory and its missing parents, and syncs the parent of each that was created: a directory whose own
/// name is lost in a power cut takes everything in it along.
fn create_directory(directory: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = directory.ancestors().take_while(|path| !path.exists()).collect();
    fs::create_dir_all(directory)?;
    for created in missing {
        // The parent of a relative path of one part is "", which means the current directory.
        let parent = created.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::File::open(parent)?.sync_all()?;
    }
    Ok(())
}

impl Disk for RealDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            // A name that is not UTF-8 was not made by this program and cannot be one that it looks for.
            if let Ok(name) = entry.file_name().into_string()
                && name != LOCK_NAME
                && entry.file_type()?.is_file()
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        let file = OpenOptions::new().read(true).write(!self.read_only).open(self.path(name)?)?;
        Ok(Box::new(RealFile { file }))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(self.writable_path(name)?)?;
        Ok(Box::new(RealFile { file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.writable_path(from)?, self.writable_path(to)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.writable_path(name)?)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let space = fstatvfs(&self.directory_file)?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.directory_file.sync_all()
    }
}

struct RealFile {
    file: fs::File,
}

impl File for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.file.read_at(buffer, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset) // goes on after short writes and interruptions
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }
}
