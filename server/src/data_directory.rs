//! The data directory of a node that runs: taken, and measured from then on.
//!
//! What is told of it: how long its syncs take, how much is written, by what for, and how much room there is.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use engine::disk::{Disk, LockError, RealDisk};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::counter::Counter;
use tracing::warn;

use crate::config::Config;
use crate::slow_disk::SlowDisk;
use crate::telemetry::{Distribution, Metrics, Page, Split};
use crate::timed_disk::{DiskObserver, TimedDisk};

/// Bounds of buckets, in seconds: from a disk with a protected cache to one that stands still.
const SYNC_SECONDS: [f64; 15] =
    [0.000_05, 0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// What stands for a size that nobody has found out yet.
const UNKNOWN: u64 = u64::MAX;

/// Takes the data directory.
///
/// # Errors
///
/// It cannot be used, or another process has it.
pub(crate) fn open(config: &Config, metrics: &Metrics) -> Result<Arc<dyn Disk>, LockError> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(&config.data_dir)?);
    let disk = match config.sync_delay_ms {
        0 => disk,
        sync_delay_ms => {
            warn!(sync_delay_ms, "each sync of the disk is made slower, for a measurement");
            Arc::new(SlowDisk::new(disk, Duration::from_millis(sync_delay_ms)))
        }
    };
    let observer = DiskMetrics::registered(metrics, config.data_dir.clone());
    Ok(Arc::new(TimedDisk::new(disk, Arc::new(observer))))
}

/// What a file is for, by its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum FileKind {
    /// The log: an acknowledgement waits for its syncs.
    Log,
    /// A segment of the log that is being prepared, or that is not needed any more. Nobody waits for it.
    Segment,
    /// A snapshot.
    Snapshot,
    /// Small files that are written once in a while.
    Other,
}

impl FileKind {
    const NAMES: [&'static str; 4] = ["log", "segment", "snapshot", "other"];

    fn of(file: &str) -> Self {
        if file.starts_with("wal-") {
            return if file.ends_with(".log") { Self::Log } else { Self::Segment };
        }
        if file.starts_with("snapshot-") { Self::Snapshot } else { Self::Other }
    }
}

/// Counts what the disk of a node does.
struct DiskMetrics {
    directory: PathBuf,
    syncs: Split<Distribution, 4>,
    written_bytes: Split<Counter, 4>,
    space: Arc<Space>,
}

/// How much room there was when somebody asked last.
#[derive(Debug)]
struct Space {
    free_bytes: AtomicU64,
    data_bytes: AtomicU64,
}

impl DiskMetrics {
    /// Tells `metrics` of the disk that `directory` is on.
    fn registered(metrics: &Metrics, directory: PathBuf) -> Self {
        let syncs = Split::new("file", FileKind::NAMES, || Distribution::new(&SYNC_SECONDS));
        let written_bytes = Split::new("file", FileKind::NAMES, Counter::default);
        let space = Arc::new(Space { free_bytes: AtomicU64::new(UNKNOWN), data_bytes: AtomicU64::new(UNKNOWN) });
        metrics.register(|registry| {
            let help = "How long the disk took to sync a file, by what the file is for";
            registry.register("quorate_disk_sync_duration_seconds", help, syncs.clone());
            let help = "Bytes written to files, by what the file is for";
            registry.register("quorate_disk_written_bytes", help, written_bytes.clone());
        });
        metrics.collect(Arc::clone(&space));
        Self { directory, syncs, written_bytes, space }
    }

    /// How large the files of the directory are together.
    fn data_bytes(&self) -> std::io::Result<u64> {
        let sizes = fs::read_dir(&self.directory)?.map(|entry| entry?.metadata().map(|file| file.len()));
        // A file that went away meanwhile is none.
        Ok(sizes.filter_map(Result::ok).sum())
    }
}

impl DiskObserver for DiskMetrics {
    fn synced(&self, file: &str, took: Duration) {
        self.syncs.at(FileKind::of(file) as usize).observe(took.as_secs_f64());
    }

    fn wrote(&self, file: &str, bytes: usize) {
        self.written_bytes.at(FileKind::of(file) as usize).inc_by(bytes as u64);
    }

    fn has_room(&self, free_bytes: u64) {
        self.space.free_bytes.store(free_bytes, Ordering::Relaxed);
        self.space.data_bytes.store(self.data_bytes().unwrap_or(UNKNOWN), Ordering::Relaxed);
    }
}

impl Collector for Space {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page::new(encoder);
        let known = |bytes: &AtomicU64| Some(bytes.load(Ordering::Relaxed)).filter(|bytes| *bytes != UNKNOWN);
        if let Some(bytes) = known(&self.free_bytes) {
            page.gauge("quorate_disk_free_bytes", "What is free in the file system of the data directory", bytes)?;
        }
        if let Some(bytes) = known(&self.data_bytes) {
            page.gauge("quorate_data_bytes", "Size of the files in the data directory", bytes)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::TextFormat;

    #[test]
    fn what_the_disk_does_is_told_by_kind_of_file() {
        let directory = tempfile::tempdir().expect("there is room");
        fs::write(directory.path().join("a"), [0; 7]).expect("there is room");
        fs::write(directory.path().join("b"), [0; 5]).expect("there is room");
        let metrics = Metrics::default();
        let disk = DiskMetrics::registered(&metrics, directory.path().to_owned());
        assert!(!metrics.text(TextFormat::Classic).contains("_free_bytes"), "nobody has asked yet");
        disk.wrote("wal-0000000001.log", 100);
        disk.wrote("wal-0000000002.new", 30);
        disk.wrote("snapshot-0000000000000000007.tmp", 20);
        disk.wrote("identity", 3);
        disk.synced("wal-0000000001.log", Duration::from_millis(3));
        disk.has_room(1 << 30);
        let text = metrics.text(TextFormat::Classic);
        for line in [
            "quorate_disk_written_bytes_total{file=\"log\"} 100\n",
            "quorate_disk_written_bytes_total{file=\"segment\"} 30\n",
            "quorate_disk_written_bytes_total{file=\"snapshot\"} 20\n",
            "quorate_disk_written_bytes_total{file=\"other\"} 3\n",
            "quorate_disk_sync_duration_seconds_bucket{le=\"0.0025\",file=\"log\"} 0\n",
            "quorate_disk_sync_duration_seconds_bucket{le=\"0.005\",file=\"log\"} 1\n",
            "quorate_disk_free_bytes 1073741824\n",
            "quorate_data_bytes 12\n",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
