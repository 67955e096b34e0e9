//! Durable bytes go bad while a node is down, and what the node has to make of it at its next start.
//!
//! Damage to the log's records has to be found: the node refuses to start, and names the place. It is down for the rest
//! of the run then, for nothing repairs it. Damage to anything else (zeros behind the end of a segment, what is left of
//! a commit that was never synced) must not matter. In no case may a node start with less than it had.
//!
//! What cannot be demanded is spared, see [`LogImage::proven_bytes`]: the sectors of the last commit. And the records
//! of at most `f` voters of `2 f + 1` are hit in a run, so that a majority can always go on without them.

use engine::EngineError;
use engine::disk::{Damage, SECTOR_BYTES};
use engine::wal::WalError;

use crate::log_image::LogImage;
use crate::node::node_id;
use crate::random::Random;
use crate::violation::Violation;
use crate::world::World;

/// A way in which bytes go bad.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum RotKind {
    /// A bit flips.
    FlippedBit,
    /// A sector reads as zeros.
    ZeroedSector,
    /// A sector is what it was before it was last written.
    LostWrite,
    /// A sector holds what belongs into another one of the log.
    Misdirected,
}

impl RotKind {
    /// All of them.
    pub(crate) const ALL: [RotKind; 4] =
        [RotKind::FlippedBit, RotKind::ZeroedSector, RotKind::LostWrite, RotKind::Misdirected];

    /// In how many of a thousand runs it occurs. Rarely: a node whose log has gone bad is down for the rest of the run.
    pub(crate) const fn runs(self) -> u64 {
        match self {
            RotKind::FlippedBit | RotKind::Misdirected => 60,
            RotKind::ZeroedSector | RotKind::LostWrite => 150,
        }
    }

    /// How often it hits records, in thousandths, as long as a majority of nodes can start without this one. Where no
    /// record is, there are mostly zeros, which were never anything else.
    const fn hits_records(self) -> u64 {
        match self {
            RotKind::FlippedBit | RotKind::Misdirected => 750,
            RotKind::ZeroedSector | RotKind::LostWrite => 950,
        }
    }

    /// The name in coverage tables.
    const fn as_str(self) -> &'static str {
        match self {
            RotKind::FlippedBit => "bit rot: a bit flipped",
            RotKind::ZeroedSector => "bit rot: a sector zeroed",
            RotKind::LostWrite => "bit rot: a sector rolled back",
            RotKind::Misdirected => "bit rot: a sector misdirected",
        }
    }
}

/// A damage that a node's disk has suffered.
#[derive(Clone, Debug)]
pub(crate) struct Rot {
    file: String,
    /// Where the first record begins that it hit, if it hit one: there the log's recovery has to stop.
    pub(crate) record: Option<u64>,
    /// Whether a later segment had records.
    older_segment: bool,
    /// Whether the node has started with it.
    outlived: bool,
}

impl World {
    /// The power of a node fails, and bytes on its disk go bad before it starts again.
    pub(crate) fn rot(&mut self, kind: RotKind, any: usize, restart_us: u64, random: &mut Random) {
        let size = self.nodes.len();
        let mut candidates = (0..size).map(|step| (any + step) % size);
        let Some(number) = candidates.find(|node| !self.nodes[*node].is_rotten()) else { return };
        self.power_off(number, restart_us);
        // Whoever does not vote is never needed.
        let voters = self.settings.voters;
        let rotten = self.nodes[..voters].iter().filter(|node| node.is_rotten()).count();
        let is_spared = number < voters && rotten >= (voters - 1) / 2;
        let hits_records = !is_spared && random.chance(kind.hits_records());
        let disk = &self.nodes[number].disk;
        let image = LogImage::read(disk);
        let Some((segment, damage)) = draw_damage(kind, &image, hits_records, random) else { return };
        let file = image.segments[segment].name.clone();
        let Some(changed) = disk.damage(&file, &damage) else { return };
        let offset = usize::try_from(changed.start).expect("a file in memory");
        let record = image.record_at(segment, offset).map(|begin| begin as u64);
        let older_segment = image.current().is_some_and(|current| segment < current);
        self.coverage.hit(kind.as_str());
        let hit = if record.is_some() { "a record" } else { "no record" };
        self.trace.tell(self.now_us, Some(number), "rot", format_args!("{damage:?} in {file}, which hits {hit}"));
        self.nodes[number].rot.push(Rot { file, record, older_segment, outlived: false });
    }

    /// A node found its disk good enough to start. Called when its state was compared with what it had promised.
    pub(crate) fn started_on_disk(&mut self, number: usize) -> Result<(), Violation> {
        for rot in &mut self.nodes[number].rot {
            if let Some(offset) = rot.record {
                return Err(Violation::RotMissed { node: node_id(number), file: rot.file.clone(), offset });
            }
            if !rot.outlived {
                self.coverage.hit("bit rot harmless");
            }
            rot.outlived = true;
        }
        Ok(())
    }

    /// A node whose log is damaged did not start: right if it says where the damage is, and left everything as it was.
    /// Before it tried there had been `changes` on its disk.
    pub(crate) fn refused_to_start(
        &mut self,
        number: usize,
        error: &EngineError,
        changes: u64,
    ) -> Result<(), Violation> {
        let node = &mut self.nodes[number];
        if node.disk.changes() != changes {
            return Err(Violation::RotTouched { node: node_id(number) });
        }
        // Damage outside of records may make recovery stop in the right file a little early.
        let is_told = |rot: &&Rot| match error {
            EngineError::Wal(WalError::Corrupt { file, offset, .. }) => {
                *file == rot.file && rot.record.is_none_or(|record| record == *offset)
            }
            _ => false,
        };
        let Some(told) = node.rot.iter().find(is_told) else {
            let said = crate::drive::chain(error);
            let damages = node.rot.iter().map(|rot| format!("{} at {:?}", rot.file, rot.record));
            let damaged = damages.collect::<Vec<_>>().join(", ");
            return Err(Violation::RotMisplaced { node: node_id(number), said, damaged });
        };
        self.coverage.hit("bit rot found at start");
        if told.older_segment {
            self.coverage.hit("bit rot in an older segment");
        }
        node.held_down = true;
        self.trace.tell(self.now_us, Some(number), "rot", format_args!("does not start: {error}"));
        Ok(())
    }
}

/// A damage of this kind to proven records, or to nothing that counts, and the place of its segment.
fn draw_damage(kind: RotKind, image: &LogImage, hits_records: bool, random: &mut Random) -> Option<(usize, Damage)> {
    let whole_sectors = kind != RotKind::FlippedBit;
    let sectors = |bytes: usize| if whole_sectors { bytes.div_ceil(SECTOR_BYTES) } else { bytes };
    // Sectors or bytes, from the first to before the last, that may be hit in each segment.
    let ranges = image.segments.iter().enumerate().map(|(number, segment)| {
        if hits_records {
            (number, 0, sectors(image.proven_bytes(number, whole_sectors)))
        } else {
            (number, sectors(segment.end), sectors(segment.bytes))
        }
    });
    let ranges: Vec<(usize, usize, usize)> = ranges.filter(|(_, from, to)| from < to).collect();
    if ranges.is_empty() {
        return None;
    }
    let (segment, from, to) = random.pick(&ranges);
    let place = (from + random.position(to - from)) as u64;
    let damage = match kind {
        RotKind::FlippedBit => Damage::FlippedBit { offset: place, bit: u8::try_from(random.below(8)).unwrap_or(0) },
        RotKind::ZeroedSector => Damage::ZeroedSector { sector: place },
        RotKind::LostWrite => Damage::LostWrite { sector: place },
        RotKind::Misdirected => {
            let from = &image.segments[random.position(image.segments.len())];
            let from_sector = random.below(from.end.div_ceil(SECTOR_BYTES).max(1) as u64);
            Damage::Misdirected { sector: place, from_file: from.name.clone(), from_sector }
        }
    };
    Some((segment, damage))
}
