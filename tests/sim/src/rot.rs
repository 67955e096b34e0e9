//! Durable bytes go bad while a node is down, and what the node has to make of it at its next start.
//!
//! Damage to the log's records and to the newest snapshot has to be found. The node then says so and goes on with what
//! is left: with an older snapshot, or, if a part of its log is lost, as one that has forgotten what it promised, until
//! the others have given it everything again. Or it refuses to start, names the place and changes nothing; it is down
//! for the rest of the run then. Damage to anything else (zeros behind the end of a segment, what is left of a commit
//! that was never synced, an older snapshot that is not needed) must not matter. In no case may a node start with less
//! than it had without saying so.
//!
//! What cannot be demanded is spared, see [`LogImage::proven_bytes`]: the sectors of the last commit. And at most `f`
//! voters of `2 f + 1` are damaged at a time, so that a majority can always go on without them; unless the run is one
//! in which all are, and then nothing is demanded of it but that nobody is wrong.

use engine::disk::{Damage, Disk, MemoryDisk, SECTOR_BYTES};
use engine::wal::WalError;
use engine::{Damage as Found, EngineError, Remedy, snapshot};

use crate::log_image::LogImage;
use crate::node::node_id;
use crate::random::Random;
use crate::settings::Kind;
use crate::violation::Violation;
use crate::world::World;

/// How often it is a snapshot that goes bad, in thousandths, if there is one.
const HITS_SNAPSHOT: u64 = 350;

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

    /// In how many of a thousand runs it occurs.
    pub(crate) const fn runs(self) -> u64 {
        match self {
            RotKind::FlippedBit | RotKind::Misdirected => 90,
            RotKind::ZeroedSector | RotKind::LostWrite => 150,
        }
    }

    /// How often it hits what counts, in thousandths, as long as a majority of nodes can go on without this one. Where
    /// no record is, there are mostly zeros, which were never anything else.
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

/// What a damage hit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Hit {
    /// Nothing that counts.
    Nothing,
    /// The log's record that begins at this offset, and perhaps others behind it.
    Record(u64),
    /// A snapshot.
    Snapshot,
}

/// A damage that a node's disk has suffered.
#[derive(Clone, Debug)]
pub(crate) struct Rot {
    file: String,
    hit: Hit,
    /// Whether a later segment had records.
    older_segment: bool,
    /// Whether the node has started with it.
    outlived: bool,
}

impl Rot {
    /// Whether the node may be lost by it.
    pub(crate) fn counts(&self) -> bool {
        self.hit != Hit::Nothing
    }
}

/// The files of a disk that a node which refuses to start has to leave alone.
#[derive(Default)]
pub(crate) struct Untouched(Vec<(String, Vec<u8>)>);

impl Untouched {
    pub(crate) fn of(disk: &MemoryDisk) -> Untouched {
        let names = disk.list().unwrap_or_default().into_iter();
        let kept = names.filter(|name| name.ends_with(".log") || name.ends_with(".snap") || name == "repair");
        Untouched(kept.filter_map(|name| Some((name.clone(), disk.contents(&name)?))).collect())
    }
}

impl World {
    /// Whether a node cannot be relied on now: something on its disk is damaged, or it has forgotten what it promised.
    pub(crate) fn is_impaired(&self, number: usize) -> bool {
        let node = &self.nodes[number];
        node.is_rotten() || node.is_forged || self.may_be_recovering(number)
    }

    /// Whether a node has forgotten what it promised, or would take itself for one if it started now: the note about it
    /// may outlive the moment in which it has all of it again.
    pub(crate) fn may_be_recovering(&self, number: usize) -> bool {
        self.observer.views[number].recovering || self.nodes[number].disk.contents("repair").is_some()
    }

    /// The power of a node fails, and bytes on its disk go bad before it starts again.
    pub(crate) fn rot(&mut self, kind: RotKind, any: usize, restart_us: u64, random: &mut Random) {
        let size = self.nodes.len();
        let all_rot = self.settings.kind == Kind::AllRot;
        let mut candidates = (0..size).map(|step| (any + step) % size);
        let Some(number) = candidates.find(|node| all_rot || !self.is_impaired(*node)) else { return };
        if self.nodes[number].held_down {
            return;
        }
        self.power_off(number, restart_us);
        // Whoever does not vote is never needed.
        let voters = self.settings.voters;
        let impaired = (0..voters).filter(|node| self.is_impaired(*node)).count();
        let is_spared = !all_rot && number < voters && impaired >= (voters - 1) / 2;
        let counts = !is_spared && random.chance(kind.hits_records());
        if counts && random.chance(HITS_SNAPSHOT) && self.rot_snapshot(kind, number, random) {
            return;
        }
        let disk = &self.nodes[number].disk;
        let image = LogImage::read(disk);
        // The log is read up to what is damaged already: nobody sees what counts behind that.
        if !counts && self.nodes[number].rot.iter().any(|rot| matches!(rot.hit, Hit::Record(_))) {
            return;
        }
        // What the log had written before a part of it was cut off, and comes back, is damage for all that it can tell.
        if !counts && kind == RotKind::LostWrite && self.nodes[number].was_cut {
            return;
        }
        let Some((segment, damage)) = draw_damage(kind, &image, counts, random) else { return };
        let file = image.segments[segment].name.clone();
        let Some(changed) = disk.damage(&file, &damage) else { return };
        let offset = usize::try_from(changed.start).expect("a file in memory");
        let hit = image.record_at(segment, offset).map_or(Hit::Nothing, |begin| Hit::Record(begin as u64));
        let older_segment = image.current().is_some_and(|current| segment < current);
        self.rotted(number, kind, &damage, Rot { file, hit, older_segment, outlived: false });
    }

    /// Lets a snapshot go bad, the newest most often. Returns whether there was one.
    fn rot_snapshot(&mut self, kind: RotKind, number: usize, random: &mut Random) -> bool {
        let disk = &self.nodes[number].disk;
        let stored = snapshot::list(disk).unwrap_or_default();
        let place = if random.chance(700) { stored.len().saturating_sub(1) } else { 0 };
        let Some(stored) = stored.get(place) else { return false };
        let sector = random.below(stored.bytes.div_ceil(SECTOR_BYTES as u64).max(1));
        let damage = match kind {
            RotKind::FlippedBit => Damage::FlippedBit { offset: random.below(stored.bytes.max(1)), bit: 3 },
            RotKind::ZeroedSector => Damage::ZeroedSector { sector },
            RotKind::LostWrite => Damage::LostWrite { sector },
            RotKind::Misdirected => {
                let from_sector = random.below(stored.bytes.div_ceil(SECTOR_BYTES as u64).max(1));
                Damage::Misdirected { sector, from_file: stored.name.clone(), from_sector }
            }
        };
        let (file, hit) = (stored.name.clone(), Hit::Snapshot);
        if disk.damage(&file, &damage).is_none() {
            return false;
        }
        self.coverage.hit("bit rot in a snapshot");
        self.rotted(number, kind, &damage, Rot { file, hit, older_segment: false, outlived: false });
        true
    }

    fn rotted(&mut self, number: usize, kind: RotKind, damage: &Damage, rot: Rot) {
        self.coverage.hit(kind.as_str());
        let Rot { file, hit, .. } = &rot;
        self.trace.tell(self.now_us, Some(number), "rot", format_args!("{damage:?} in {file}, which hits {hit:?}"));
        self.nodes[number].rot.push(rot);
    }

    /// A node found its disk good enough to start, and told what it found damaged. Called when its state was compared
    /// with what it had promised. Before, `newest` was the name of its newest snapshot.
    pub(crate) fn started_on_disk(
        &mut self,
        number: usize,
        found: &[Found],
        newest: Option<&str>,
    ) -> Result<(), Violation> {
        for Found { found, remedy } in found {
            self.trace.tell(self.now_us, Some(number), "repair", format_args!("{found}: {remedy:?}"));
            self.coverage.hit(match remedy {
                Remedy::OlderSnapshot => "older snapshot used because the newest was damaged",
                Remedy::Fetched { .. } => "log cut at damage and fetched",
            });
        }
        // A start that was cut short may have dealt with the damage, and noted that.
        let is_noted = self.observer.views[number].recovering;
        let is_told = !found.is_empty() || is_noted;
        self.nodes[number].was_cut |=
            is_noted || found.iter().any(|found| matches!(found.remedy, Remedy::Fetched { .. }));
        let node = &mut self.nodes[number];
        for rot in std::mem::take(&mut node.rot) {
            let is_there = node.disk.contents(&rot.file).is_some();
            let has_to_be_told = match rot.hit {
                Hit::Nothing => false,
                Hit::Record(_) => true,
                Hit::Snapshot => is_there && newest == Some(rot.file.as_str()),
            };
            if has_to_be_told && !is_told {
                let offset = if let Hit::Record(offset) = rot.hit { offset } else { 0 };
                return Err(Violation::RotMissed { node: node_id(number), file: rot.file, offset });
            }
            if has_to_be_told {
                self.coverage.hit("bit rot found at start");
                if rot.older_segment {
                    self.coverage.hit("bit rot in an older segment");
                }
            } else if is_there && !rot.outlived {
                self.coverage.hit("bit rot harmless");
            }
            let stays = is_there && (rot.hit == Hit::Nothing || rot.hit == Hit::Snapshot && !has_to_be_told);
            if stays {
                node.rot.push(Rot { outlived: true, ..rot });
            }
        }
        Ok(())
    }

    /// A snapshot that has gone bad and was not needed may be gone by now, and the node as good as before.
    pub(crate) fn forget_rot(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        if node.rot.iter().any(|rot| rot.hit == Hit::Snapshot) {
            node.rot.retain(|rot| rot.hit != Hit::Snapshot || node.disk.contents(&rot.file).is_some());
        }
    }

    /// A node whose disk is damaged did not start: right if it says where the damage is, and left everything as it was.
    pub(crate) fn refused_to_start(
        &mut self,
        number: usize,
        error: &EngineError,
        before: &Untouched,
    ) -> Result<(), Violation> {
        let node = &mut self.nodes[number];
        if Untouched::of(&node.disk).0 != before.0 {
            return Err(Violation::RotTouched { node: node_id(number), said: crate::drive::chain(error) });
        }
        // Damage outside of records may make recovery stop in the right file a little early.
        let is_told = |rot: &&Rot| match (error, rot.hit) {
            (EngineError::Wal(WalError::Corrupt { file, .. }), Hit::Nothing) => *file == rot.file,
            (EngineError::Wal(WalError::Corrupt { file, offset, .. }), Hit::Record(record)) => {
                *file == rot.file && record == *offset
            }
            (EngineError::Load(_) | EngineError::Replay(_), Hit::Snapshot) => true,
            _ => false,
        };
        let Some(told) = node.rot.iter().find(is_told) else {
            let said = crate::drive::chain(error);
            let damages = node.rot.iter().map(|rot| format!("{} at {:?}", rot.file, rot.hit));
            let damaged = damages.collect::<Vec<_>>().join(", ");
            return Err(Violation::RotMisplaced { node: node_id(number), said, damaged });
        };
        self.coverage.hit("bit rot found at start");
        self.coverage.hit("damaged node refused to start");
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
