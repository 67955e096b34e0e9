//! A node's log as it lies on its disk: where its records are, and which of them are proven to have been durable. Read
//! by a reader of its own, from the format as the log documents it, so that an error in the log's recovery is not
//! repeated in what judges it.

use engine::disk::{Disk, MemoryDisk, SECTOR_BYTES};

/// The size of a record's header in bytes.
const HEADER_BYTES: usize = 32;

/// Records begin at multiples of this many bytes.
const ALIGNMENT: usize = 8;

/// A file of the log.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) name: String,
    /// The size of the file in bytes.
    pub(crate) bytes: usize,
    /// Where each of its records begins.
    pub(crate) records: Vec<usize>,
    /// Where the last of them ends; 0 if there is none.
    pub(crate) end: usize,
}

/// A log.
#[derive(Debug, Default)]
pub(crate) struct LogImage {
    pub(crate) segments: Vec<Segment>,
    /// The last commit of which anything is there: its segment's place in `segments`, and the offset at which it
    /// begins. Nothing follows that proves that it was durable. Everything before it is proven by its records.
    last_commit: (usize, usize),
}

/// The number of a segment, by the name of its file.
fn segment_number(name: &str) -> Option<u64> {
    name.strip_prefix("wal-")?.strip_suffix(".log")?.parse().ok()
}

/// What is wanted of a record's header.
struct Header {
    bytes: usize,
    durable: u64,
    previous: u32,
    checksum: u32,
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn number32(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// The valid record at an offset, which lies at `position` of its log.
fn record(contents: &[u8], offset: usize, position: u64) -> Option<Header> {
    let header = contents.get(offset..offset + HEADER_BYTES)?;
    let payload = usize::try_from(number(&header[4..7])).ok()?;
    let bytes = (HEADER_BYTES + payload).next_multiple_of(ALIGNMENT);
    let checksum = number32(&header[..4]);
    let whole = contents.get(offset..offset + bytes)?;
    if number(&header[8..16]) != position || crc32c::crc32c(&whole[4..]) != checksum {
        return None;
    }
    Some(Header { bytes, durable: number(&header[16..24]), previous: number32(&header[24..28]), checksum })
}

impl LogImage {
    /// Reads the log on a disk that is intact, but for what was never synced.
    pub(crate) fn read(disk: &MemoryDisk) -> LogImage {
        let mut image = LogImage::default();
        let (mut previous, mut proven) = (0, 0);
        let mut names = disk.list().unwrap_or_default();
        names.retain(|name| segment_number(name).is_some());
        names.sort_unstable();
        for (segment, name) in names.into_iter().enumerate() {
            let (Some(number), Some(contents)) = (segment_number(&name), disk.contents(&name)) else { break };
            let (mut records, mut end) = (Vec::new(), 0);
            while let Some(header) = record(&contents, end, number << 32 | end as u64) {
                // What the first record of a log that was cut followed on is gone.
                if header.previous != previous && (segment, end) != (0, 0) {
                    break;
                }
                if header.durable > proven {
                    proven = header.durable;
                    image.last_commit = (segment, end);
                }
                previous = header.checksum;
                records.push(end);
                end += header.bytes;
            }
            image.segments.push(Segment { name, bytes: contents.len(), records, end });
        }
        image
    }

    /// The last segment that holds a record.
    pub(crate) fn current(&self) -> Option<usize> {
        self.segments.iter().rposition(|segment| segment.end > 0)
    }

    /// How many bytes at the beginning of a segment are proven to have been durable, and stay proven whichever of them
    /// is damaged.
    ///
    /// What proves them are the records of the last commit: they say how far the log was durable when they were
    /// written, and that is up to their own commit. The commit itself is not proven by anything: damaged, it looks like
    /// one that was never synced. So its sectors must stay. The first of them may hold the end of the commit before
    /// too: if that sector is lost as a whole, the proof may be lost with what it proves, and the log ends cleanly
    /// before both. A bit of what is before the commit may flip even there, for then the proof is still whole.
    pub(crate) fn proven_bytes(&self, segment: usize, whole_sectors: bool) -> usize {
        let (last, begins) = self.last_commit;
        match segment.cmp(&last) {
            std::cmp::Ordering::Less => self.segments[segment].end,
            std::cmp::Ordering::Equal if whole_sectors => begins - begins % SECTOR_BYTES,
            std::cmp::Ordering::Equal => begins,
            std::cmp::Ordering::Greater => 0,
        }
    }

    /// Where the record begins that holds this byte of a segment, if one does.
    pub(crate) fn record_at(&self, segment: usize, offset: usize) -> Option<usize> {
        let Segment { records, end, .. } = &self.segments[segment];
        let behind = records.partition_point(|begin| *begin <= offset);
        records.get(behind.checked_sub(1)?).copied().filter(|_| offset < *end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::wal::{self, Opened, WalOptions};
    use raft::{Batch, BatchNumber, Entry, HardState, Index, Payload, Term};
    use std::sync::Arc;

    /// A log of twelve commits of one entry each, with the places at which they ended.
    fn log() -> (MemoryDisk, Vec<(usize, usize)>) {
        let memory = MemoryDisk::new();
        let disk: Arc<dyn Disk> = Arc::new(memory.clone());
        let options = WalOptions { segment_bytes: 4096, salt: 7, ..WalOptions::default() };
        let Opened { mut wal, mut executor, .. } = wal::open(&disk, options, &mut |_| {}).expect("an empty disk");
        let mut ends = Vec::new();
        for number in 1..=12 {
            let payload = Payload::Command(bytes::Bytes::from(vec![1; 600]));
            let entry = Entry { index: Index::new(number), term: Term::new(1), payload };
            let hard_state = HardState { current_term: Term::new(1), voted_for: None, commit_index: Index::ZERO };
            let batch = Batch {
                reset_to: None,
                number: BatchNumber::new(number),
                truncate_after: None,
                entries: vec![entry],
                hard_state: (number == 1).then_some(hard_state),
            };
            wal.append(&batch).expect("a small entry");
            while let Some(work) = wal.next_work() {
                wal.completed(executor.run(work)).expect("no fault is planned");
            }
            let image = LogImage::read(&memory);
            let current = image.current().expect("there is a record");
            ends.push((current, image.segments[current].end));
        }
        (memory, ends)
    }

    #[test]
    fn the_last_commit_is_what_nothing_follows() {
        let (disk, ends) = log();
        let image = LogImage::read(&disk);
        let [.., (segment_before, before), (segment, end)] = ends[..] else { panic!("twelve commits") };
        assert_eq!((segment_before, segment), (1, 1));
        assert_eq!(image.last_commit, (1, before));
        assert_eq!(image.proven_bytes(1, false), before);
        assert_eq!(image.proven_bytes(1, true), before / SECTOR_BYTES * SECTOR_BYTES);
        assert_eq!(image.proven_bytes(0, true), image.segments[0].end);
        assert_eq!(image.record_at(1, end - 1), Some(before));
        assert_eq!(image.record_at(1, end), None);
        assert_eq!(image.record_at(0, 40), Some(0));
    }

    #[test]
    fn an_empty_disk_has_nothing_that_is_proven() {
        let image = LogImage::read(&MemoryDisk::new());
        assert_eq!((image.current(), image.segments.len()), (None, 0));
    }
}
