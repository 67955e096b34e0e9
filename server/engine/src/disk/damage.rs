//! How durable bytes go bad although nobody wrote them: bits that flip, sectors that are lost, and sectors that were
//! written elsewhere than they belong.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::SECTOR_BYTES;
use super::unsynced::{Change, Inode, apply_change, overwrite, to_usize};

/// One way in which a file goes bad.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Damage {
    /// A bit changes.
    FlippedBit {
        /// The offset of its byte.
        offset: u64,
        /// Which of the byte's eight bits it is.
        bit: u8,
    },
    /// A sector reads as zeros.
    ZeroedSector {
        /// Its number in the file.
        sector: u64,
    },
    /// A sector is again what it was before it was last changed: that write was reported done and never made.
    LostWrite {
        /// Its number in the file.
        sector: u64,
    },
    /// A sector holds what belongs into another one.
    Misdirected {
        /// Its number in the file.
        sector: u64,
        /// The file whose bytes it holds.
        from_file: String,
        /// The number in that file of the sector whose bytes it holds.
        from_sector: u64,
    },
}

impl Inode {
    /// Makes one part of a change durable (the n-th of its views), or all of it, and remembers what it replaces.
    pub(super) fn make_durable(&mut self, change: &Change, part: Option<usize>) {
        if let Change::Sectors { first, bytes } = change {
            let parts = part.map_or(0..bytes.len().div_ceil(SECTOR_BYTES), |part| part..part + 1);
            for part in parts {
                let after = &bytes[part * SECTOR_BYTES..((part + 1) * SECTOR_BYTES).min(bytes.len())];
                let sector = first + part as u64;
                let begin = to_usize(sector) * SECTOR_BYTES;
                if let Some(before) = self.durable.get(begin..begin + after.len()).filter(|before| *before != after) {
                    Arc::make_mut(&mut self.replaced).insert(sector, before.to_vec());
                }
            }
        }
        apply_change(Arc::make_mut(&mut self.durable), change, part);
    }

    /// The durable bytes of a sector; fewer where the file ends.
    fn sector(&self, sector: u64) -> Option<&[u8]> {
        let begin = to_usize(sector).checked_mul(SECTOR_BYTES)?;
        let end = (begin + SECTOR_BYTES).min(self.durable.len());
        self.durable.get(begin..end).filter(|bytes| !bytes.is_empty())
    }
}

/// What a damage puts where, as offset and bytes; `None` if there is no such place.
fn effect(
    inodes: &BTreeMap<u64, Inode>,
    names: &BTreeMap<String, u64>,
    name: &str,
    damage: &Damage,
) -> Option<(usize, Vec<u8>)> {
    let file = |name: &str| inodes.get(names.get(name)?);
    let inode = file(name)?;
    let (sector, mut bytes) = match damage {
        Damage::FlippedBit { offset, bit } => {
            let offset = to_usize(*offset);
            return Some((offset, vec![inode.durable.get(offset)? ^ (1 << (bit % 8))]));
        }
        Damage::ZeroedSector { sector } => (*sector, Vec::new()),
        Damage::LostWrite { sector } => (*sector, inode.replaced.get(sector)?.clone()),
        Damage::Misdirected { sector, from_file, from_sector } => {
            (*sector, file(from_file)?.sector(*from_sector)?.to_vec())
        }
    };
    bytes.resize(inode.sector(sector)?.len(), 0);
    Some((to_usize(sector) * SECTOR_BYTES, bytes))
}

/// Damages the file of a name, and says which bytes are different now.
pub(super) fn damage(
    inodes: &mut BTreeMap<u64, Inode>,
    names: &BTreeMap<String, u64>,
    name: &str,
    damage: &Damage,
) -> Option<Range<u64>> {
    let (offset, bytes) = effect(inodes, names, name, damage)?;
    let inode = inodes.get_mut(names.get(name)?)?;
    let differs = |at: &usize| inode.durable.get(offset + at) != bytes.get(*at);
    let first = (0..bytes.len()).find(differs)?;
    let last = (0..bytes.len()).rev().find(differs)?;
    for contents in [&mut inode.durable, &mut inode.visible] {
        overwrite(Arc::make_mut(contents), offset, &bytes);
    }
    Some((offset + first) as u64..(offset + last + 1) as u64)
}
