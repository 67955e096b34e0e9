//! File systems of a test's own, each in a file: what can befall a node's disk on a real kernel.
//!
//! Everything lies in the directories that the caller names, and is undone when it is dropped. It takes a Linux kernel
//! with loop devices and ext4, the right to mount, and the programs in `PROGRAMS`: [`obstacle`] says what is missing.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

/// What is called; all of it belongs to the base of every common distribution.
const PROGRAMS: [&str; 5] = ["mkfs.ext4", "mount", "umount", "fsfreeze", "perl"];

/// Shuts file systems down, all that are named, one right after the other. The ioctl is `EXT4_IOC_SHUTDOWN`, the flag
/// `EXT4_GOING_FLAGS_NOLOGFLUSH` (`fs/ext4/ext4.h` in Linux): what is in the page cache only, and what the journal has
/// not committed, is lost, as when the power goes. Perl, because a system call of one's own is unsafe code in Rust.
const SHUTDOWN: &str = r#"
use Fcntl;
my @directories;
for (@ARGV) {
    sysopen(my $directory, $_, O_RDONLY | O_DIRECTORY) or die "open $_: $!";
    push @directories, $directory;
}
for my $directory (@directories) {
    my $flags = pack("L", 2);
    ioctl($directory, 0x8004587d, $flags) or die "EXT4_IOC_SHUTDOWN: $!";
}
"#;

/// How long a file system may stay busy after the last process that used it was waited for.
const BUSY_BOUND: Duration = Duration::from_secs(10);

/// How often unmounting is tried meanwhile.
const BUSY_INTERVAL: Duration = Duration::from_millis(20);

/// Large enough for ext4 with a journal.
const TRIAL_BYTES: u64 = 16 << 20;

/// Why no such file system can be had here; `None` if one can. Found by making one, once.
pub fn obstacle() -> Option<&'static str> {
    static OBSTACLE: OnceLock<Option<String>> = OnceLock::new();
    OBSTACLE.get_or_init(|| trial().err()).as_deref()
}

fn trial() -> Result<(), String> {
    for program in PROGRAMS {
        // Not one of them changes anything when it is asked for its version.
        Command::new(program).arg("-V").output().map_err(|error| format!("{program}: {error}"))?;
    }
    let directory = tempfile::tempdir().map_err(|error| format!("no temporary directory: {error}"))?;
    let mut disk = Disk::make(&directory.path().join("image"), &directory.path().join("mounted"), TRIAL_BYTES)?;
    disk.try_mount()?;
    shut_down(&[&disk])
}

/// An ext4 file system in a file, mounted through a loop device. Dropped, it is unmounted and its file is removed; no
/// process may use it any more.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    mount_point: PathBuf,
    is_mounted: bool,
    is_frozen: bool,
}

impl Disk {
    /// Makes one of `bytes` in a new, sparse file, and mounts it; neither `image` nor `mount_point` is there yet.
    pub fn create(image: &Path, mount_point: &Path, bytes: u64) -> Disk {
        let made = Disk::make(image, mount_point, bytes);
        let mut disk = made.unwrap_or_else(|error| panic!("{} cannot be made: {error}", image.display()));
        disk.mount();
        disk
    }

    fn make(image: &Path, mount_point: &Path, bytes: u64) -> Result<Disk, String> {
        let in_words = |error: io::Error| error.to_string();
        File::create_new(image).and_then(|file| file.set_len(bytes)).map_err(in_words)?;
        let disk =
            Disk { image: image.to_owned(), mount_point: mount_point.to_owned(), is_mounted: false, is_frozen: false };
        fs::create_dir(mount_point).map_err(in_words)?;
        // All of the journal and of the tables is written now: the kernel does not come back to it later, and the file
        // holds it even where there is no room left for it to grow.
        let options = "nodiscard,lazy_itable_init=0,lazy_journal_init=0";
        let arguments = ["-q", "-F", "-m", "0", "-E", options].map(OsStr::new);
        run("mkfs.ext4", arguments.into_iter().chain([image.as_os_str()]))?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn mount_point(&self) -> &Path {
        &self.mount_point
    }

    /// Mounts it, which replays its journal.
    pub fn mount(&mut self) {
        self.try_mount().unwrap_or_else(|error| panic!("{} cannot be mounted: {error}", self.image.display()));
    }

    fn try_mount(&mut self) -> Result<(), String> {
        // After an error it goes on, so that an error is met more than once if the node lets it.
        let options = ["-t", "ext4", "-o", "loop,errors=continue"].map(OsStr::new);
        run("mount", options.into_iter().chain([self.image.as_os_str(), self.mount_point.as_os_str()]))?;
        self.is_mounted = true;
        Ok(())
    }

    /// Unmounts it, which also gives its loop device back.
    pub fn unmount(&mut self) {
        self.try_unmount().unwrap_or_else(|error| panic!("{} stays mounted: {error}", self.mount_point.display()));
    }

    fn try_unmount(&mut self) -> Result<(), String> {
        if self.is_mounted {
            unmount(&self.mount_point)?;
            self.is_mounted = false;
        }
        Ok(())
    }

    /// From now on whatever writes to it waits, until [`Disk::thaw`].
    pub fn freeze(&mut self) {
        self.set_frozen(true).unwrap_or_else(|error| panic!("{}: {error}", self.mount_point.display()));
    }

    /// Lets writes go on.
    pub fn thaw(&mut self) {
        self.set_frozen(false).unwrap_or_else(|error| panic!("{}: {error}", self.mount_point.display()));
    }

    fn set_frozen(&mut self, frozen: bool) -> Result<(), String> {
        if self.is_frozen != frozen {
            let flag = if frozen { "-f" } else { "-u" };
            run("fsfreeze", [OsStr::new(flag), self.mount_point.as_os_str()])?;
            self.is_frozen = frozen;
        }
        Ok(())
    }

    /// How much room an unprivileged writer finds on it, in bytes.
    pub fn free_bytes(&self) -> u64 {
        free_bytes(&self.mount_point)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A test that fails has to end all the same, and leave nothing behind that can be helped.
        let undone = self.set_frozen(false).and_then(|()| self.try_unmount());
        let removed = undone.and_then(|()| fs::remove_file(&self.image).map_err(|error| error.to_string()));
        if let Err(error) = removed {
            eprintln!("{} could not be undone: {error}", self.image.display());
        }
    }
}

/// Cuts the power of these file systems: every later write and sync fails, and after [`Disk::unmount`] and
/// [`Disk::mount`] there is only what had been synced.
pub fn cut_power(disks: &[&Disk]) {
    shut_down(disks).unwrap_or_else(|error| panic!("the power cannot be cut: {error}"));
}

fn shut_down(disks: &[&Disk]) -> Result<(), String> {
    let mount_points = disks.iter().map(|disk| disk.mount_point.as_os_str());
    run("perl", ["-e", SHUTDOWN].map(OsStr::new).into_iter().chain(mount_points))
}

/// Memory of limited size as a file system, on which the file of a [`Disk`] can lie: when it is full, that disk's own
/// device fails. Unmounted when dropped.
#[derive(Debug)]
pub struct Memory {
    mount_point: PathBuf,
}

impl Memory {
    /// Mounts one; `mount_point` is not there yet.
    pub fn mount(mount_point: &Path, bytes: u64) -> Memory {
        fs::create_dir(mount_point).expect("a directory can be made in a directory of the test's own");
        let size = format!("size={bytes}");
        let arguments = ["-t", "tmpfs", "-o", &size, "tmpfs"].map(OsStr::new);
        let mounted = run("mount", arguments.into_iter().chain([mount_point.as_os_str()]));
        mounted.unwrap_or_else(|error| panic!("{} cannot be mounted: {error}", mount_point.display()));
        Memory { mount_point: mount_point.to_owned() }
    }

    /// Where it is mounted.
    pub fn mount_point(&self) -> &Path {
        &self.mount_point
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.mount_point) {
            eprintln!("{} stays mounted: {error}", self.mount_point.display());
        }
    }
}

/// A file that takes up room until it is dropped.
#[derive(Debug)]
pub struct Filler(PathBuf);

impl Filler {
    /// Writes a new file until no more than about `left_bytes` are left in its file system.
    pub fn leave(path: &Path, left_bytes: u64) -> Filler {
        const PIECE: [u8; 4096] = [0xf1; 4096];
        let filler = Filler(path.to_owned());
        let mut file = File::create_new(path).expect("an empty file finds room");
        let directory = path.parent().expect("a file lies in a directory");
        while free_bytes(directory) > left_bytes {
            match file.write_all(&PIECE).and_then(|()| file.sync_data()) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                Err(error) => panic!("{}: {error}", path.display()),
            }
        }
        filler
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            eprintln!("{} could not be removed: {error}", self.0.display());
        }
    }
}

fn free_bytes(path: &Path) -> u64 {
    let space = rustix::fs::statvfs(path).expect("a mounted file system can be asked");
    space.f_bavail * space.f_frsize
}

fn unmount(mount_point: &Path) -> Result<(), String> {
    let started = Instant::now();
    loop {
        match run("umount", [mount_point]) {
            Err(error) if error.contains("busy") && started.elapsed() < BUSY_BOUND => thread::sleep(BUSY_INTERVAL),
            result => return result,
        }
    }
}

fn run(program: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<(), String> {
    // Messages are looked at, so they are asked for in one language.
    let output = Command::new(program).args(arguments).env("LC_ALL", "C").output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim_end()))
}
