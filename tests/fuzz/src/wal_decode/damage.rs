//! Damages of a real log: what disks and people do to files.

use engine::disk::{MemoryDisk, SECTOR_BYTES};

use super::specimen::{RawRecord, SEGMENT_BYTES, Specimen, segment_files};
use crate::input::Input;

const SECTORS_PER_FILE: usize = SEGMENT_BYTES / SECTOR_BYTES;

/// No input has more damages than this.
const DAMAGES_MAX: usize = 12;

/// A damage's kind is its byte modulo this.
pub const KINDS: u8 = 14;
/// A bit is flipped: a place and which bit follow.
pub const FLIP: u8 = 0;
/// A byte is replaced: a place and the byte follow.
pub const SET: u8 = 1;
/// A stretch becomes zeros: a place and how many bytes follow.
pub const ZERO: u8 = 2;
/// Two sectors are swapped: two bytes follow.
pub const SWAP: u8 = 3;
/// A sector is written over another: two bytes follow.
pub const COPY: u8 = 4;
/// A sector is as it was earlier: the sector and when follow.
pub const ROLL_BACK: u8 = 5;
/// A record is written over another: two bytes follow.
pub const REPLACE: u8 = 6;
/// A record's length is one at an edge: the record and the length follow.
pub const LENGTH: u8 = 7;
/// Everything from a sector on is as it was earlier: the sector and when follow.
pub const ROLL_ALL_BACK: u8 = 8;
/// A sector becomes zeros, as if it had never been written.
pub const DROP: u8 = 9;
/// A file is cut: a place follows.
pub const TRUNCATE: u8 = 10;
/// A file is gone: a byte says which.
pub const LOSE: u8 = 11;
/// A file is there that was not: a name and a file to copy follow.
pub const PLANT: u8 = 12;
/// A record gets the checksum of what it holds now: which follows.
pub const RESEAL: u8 = 13;

/// A place byte from here on is a file and an offset; below it is a record and an offset in it.
pub const IN_FILE: u8 = 0xc0;

/// A log with its damages.
pub(crate) struct Damaged {
    pub(crate) disk: MemoryDisk,
    /// Files are missing, shorter, or more.
    pub(crate) reshaped: bool,
    /// The oldest file was lost.
    pub(crate) first_lost: bool,
    /// A checksum was made right for what was changed.
    pub(crate) resealed: bool,
}

/// Damages a copy of a specimen.
pub(crate) fn damage(specimen: &Specimen, input: &mut Input<'_>) -> Damaged {
    let mut damager = Damager {
        specimen,
        files: segment_files(&specimen.disk),
        damaged: Damaged { disk: specimen.disk.fork(), reshaped: false, first_lost: false, resealed: false },
    };
    for _ in 0..DAMAGES_MAX {
        if input.is_empty() {
            break;
        }
        damager.one(input);
    }
    damager.damaged
}

struct Damager<'a> {
    specimen: &'a Specimen,
    /// The names of the segments' files.
    files: Vec<String>,
    damaged: Damaged,
}

impl<'a> Damager<'a> {
    fn one(&mut self, input: &mut Input<'_>) {
        match input.u8() % KINDS {
            FLIP => {
                let (place, bit) = (self.place(input), input.u8() % 8);
                self.edit(&place, |bytes| bytes.iter_mut().take(1).for_each(|byte| *byte ^= 1 << bit));
            }
            SET => {
                let (place, value) = (self.place(input), input.u8());
                self.edit(&place, |bytes| bytes.iter_mut().take(1).for_each(|byte| *byte = value));
            }
            ZERO => {
                let (place, count) = (self.place(input), usize::from(input.u8()) + 1);
                self.edit(&place, |bytes| bytes.iter_mut().take(count).for_each(|byte| *byte = 0));
            }
            SWAP => {
                let (one, other) = (self.next_sector(input), self.next_sector(input));
                let (ours, theirs) = (self.read(&one, SECTOR_BYTES), self.read(&other, SECTOR_BYTES));
                self.overwrite(&one, &theirs);
                self.overwrite(&other, &ours);
            }
            COPY => {
                let (from, to) = (self.next_sector(input), self.next_sector(input));
                let bytes = self.read(&from, SECTOR_BYTES);
                self.overwrite(&to, &bytes);
            }
            ROLL_BACK => {
                let sector = self.next_sector(input);
                self.roll_back(&sector, input.u8());
            }
            REPLACE => {
                let (from, to) = (self.record(input.u8()), self.record(input.u8()));
                self.overwrite(&Place::of(to), &from.bytes);
            }
            LENGTH => {
                let record = self.record(input.u8());
                let length = input.number([record.bytes.len() as u64 - 32, 8 << 20, 1 << 24, 4096]);
                let place = Place { offset: record.offset + 4, ..Place::of(record) };
                self.overwrite(&place, &length.to_le_bytes()[..3]);
            }
            ROLL_ALL_BACK => {
                let (from, when) = (usize::from(input.u8()) % self.sectors(), input.u8());
                for number in from..self.sectors() {
                    self.roll_back(&self.sector(number), when);
                }
            }
            DROP => {
                let sector = self.next_sector(input);
                self.overwrite(&sector, &[0; SECTOR_BYTES]);
            }
            RESEAL => {
                let record = self.record(input.u8());
                let place = Place::of(record);
                let bytes = self.read(&place, record.bytes.len());
                if bytes.len() > 4 {
                    self.damaged.resealed = true;
                    self.overwrite(&place, &crc32c::crc32c(&bytes[4..]).to_le_bytes());
                }
            }
            kind => self.reshape(kind, input),
        }
    }

    /// The damages that change which files there are, or their lengths.
    fn reshape(&mut self, kind: u8, input: &mut Input<'_>) {
        self.damaged.reshaped = true;
        match kind {
            TRUNCATE => {
                let place = self.place(input);
                if let Some(mut bytes) = self.damaged.disk.contents(&place.file) {
                    bytes.truncate(place.offset);
                    self.damaged.disk.plant(&place.file, bytes);
                }
            }
            LOSE => {
                let file = input.below(self.files.len());
                self.damaged.disk.lose(&self.files[file]);
                self.damaged.first_lost |= file == 0;
            }
            _ => {
                let next = self.files.len() + 1;
                let names = [
                    format!("wal-{next:010}.log"),
                    format!("wal-{next:010}.new"),
                    format!("wal-{:010}.log", next + 1),
                    "wal-0000000000.log".to_owned(),
                    "wal-1.log".to_owned(),
                ];
                let name = &names[input.below(names.len())];
                let file = &self.files[input.below(self.files.len())];
                if let Some(bytes) = self.damaged.disk.contents(file) {
                    self.damaged.disk.plant(name, bytes);
                }
            }
        }
    }

    fn place(&self, input: &mut Input<'_>) -> Place {
        match input.u8() {
            number @ 0..IN_FILE => {
                let record = self.record(number);
                let within = input.below(record.bytes.len());
                Place { offset: record.offset + within, ..Place::of(record) }
            }
            number => {
                let file = self.files[usize::from(number - IN_FILE) % self.files.len()].clone();
                Place { file, offset: usize::from(input.u16()) % SEGMENT_BYTES }
            }
        }
    }

    fn record(&self, number: u8) -> &'a RawRecord {
        &self.specimen.records[usize::from(number) % self.specimen.records.len()]
    }

    /// How many sectors there are, all files together.
    fn sectors(&self) -> usize {
        self.files.len() * SECTORS_PER_FILE
    }

    fn next_sector(&self, input: &mut Input<'_>) -> Place {
        self.sector(usize::from(input.u8()))
    }

    fn sector(&self, number: usize) -> Place {
        let number = number % self.sectors();
        let file = self.files[number / SECTORS_PER_FILE].clone();
        Place { file, offset: number % SECTORS_PER_FILE * SECTOR_BYTES }
    }

    /// What is at a place, fewer bytes at the end of its file.
    fn read(&self, place: &Place, count: usize) -> Vec<u8> {
        let bytes = self.damaged.disk.contents(&place.file).unwrap_or_default();
        bytes.iter().skip(place.offset).take(count).copied().collect()
    }

    fn overwrite(&mut self, place: &Place, bytes: &[u8]) {
        self.edit(place, |old| old.iter_mut().zip(bytes).for_each(|(old, new)| *old = *new));
    }

    fn roll_back(&mut self, sector: &Place, when: u8) {
        let earlier = &self.specimen.earlier[usize::from(when) % self.specimen.earlier.len()];
        let bytes = earlier.contents(&sector.file).unwrap_or_default();
        let bytes: Vec<u8> = bytes.into_iter().skip(sector.offset).take(SECTOR_BYTES).collect();
        self.overwrite(sector, &bytes);
    }

    /// Changes what lies from a place on to the end of its file.
    fn edit(&mut self, place: &Place, edit: impl FnOnce(&mut [u8])) {
        let Some(mut bytes) = self.damaged.disk.contents(&place.file) else { return };
        edit(bytes.get_mut(place.offset..).unwrap_or_default());
        self.damaged.disk.plant(&place.file, bytes);
    }
}

/// Where in which file, in bytes.
struct Place {
    file: String,
    offset: usize,
}

impl Place {
    fn of(record: &RawRecord) -> Place {
        Place { file: record.file.clone(), offset: record.offset }
    }
}
