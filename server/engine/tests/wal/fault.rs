//! The faults: everything that is done to the bytes of a log, one place after the other.

use std::ops::Range;

use engine::disk::SECTOR_BYTES;

use super::specimen::Specimen;
use super::workbench::Workbench;

/// A page: what many disks write at once.
const PAGE_BYTES: usize = 4096;

/// How many of the sectors that were written last are lost in every combination.
const LAST_SECTORS: usize = 8;

/// A sector, or a page, of one of the files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Sector {
    file: usize,
    unit: usize,
    number: usize,
}

impl Sector {
    fn range(&self) -> Range<usize> {
        self.number * self.unit..(self.number + 1) * self.unit
    }
}

/// What is done to a log. Files are given by their numbers, the oldest first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    Bit {
        file: usize,
        bit: usize,
    },
    Byte {
        file: usize,
        at: usize,
        value: u8,
    },
    Length {
        file: usize,
        bytes: usize,
    },
    Filled {
        sector: Sector,
        value: u8,
    },
    Copied {
        from: Sector,
        to: Sector,
    },
    Swapped {
        one: Sector,
        other: Sector,
    },
    RolledBack {
        sector: Sector,
        image: usize,
    },
    /// All behind it moves forward.
    Dropped(Sector),
    /// All behind it moves back.
    Doubled(Sector),
    /// Of the sectors that were written last, those in `lost` (the first of them is bit 0) are what they were before
    /// the last commit, or zeros.
    LastLost {
        lost: u32,
        zeros: bool,
    },
}

/// The kinds of faults, as they are counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Group {
    Bits,
    Bytes,
    Lengths,
    Sectors,
    LastSectors,
}

impl Group {
    pub(crate) const ALL: [Group; 5] = [Group::Bits, Group::Bytes, Group::Lengths, Group::Sectors, Group::LastSectors];

    /// All faults of this kind.
    pub(crate) fn faults(self, specimen: &Specimen) -> Box<dyn Iterator<Item = Fault> + '_> {
        let files = specimen.files.iter().map(|(_, bytes)| bytes.len()).enumerate();
        match self {
            Group::Bits => {
                Box::new(files.flat_map(|(file, length)| (0..length * 8).map(move |bit| Fault::Bit { file, bit })))
            }
            Group::Bytes => Box::new(files.flat_map(|(file, length)| {
                (0..length * 2).map(move |n| Fault::Byte { file, at: n / 2, value: if n % 2 == 0 { 0 } else { 0xff } })
            })),
            Group::Lengths => {
                Box::new(files.flat_map(|(file, length)| (0..length).map(move |bytes| Fault::Length { file, bytes })))
            }
            Group::Sectors => {
                Box::new([SECTOR_BYTES, PAGE_BYTES].into_iter().flat_map(|unit| sector_faults(specimen, unit)))
            }
            Group::LastSectors => Box::new(last_sector_faults()),
        }
    }
}

fn sectors(specimen: &Specimen, unit: usize) -> impl Iterator<Item = Sector> + Clone + '_ {
    let files = specimen.files.iter().enumerate();
    files.flat_map(move |(file, (_, bytes))| (0..bytes.len() / unit).map(move |number| Sector { file, unit, number }))
}

fn sector_faults(specimen: &Specimen, unit: usize) -> impl Iterator<Item = Fault> + '_ {
    let all = sectors(specimen, unit);
    all.clone().flat_map(move |sector| {
        let alone = [
            Fault::Filled { sector, value: 0 },
            Fault::Filled { sector, value: 0xff },
            Fault::Dropped(sector),
            Fault::Doubled(sector),
        ];
        let images = (0..specimen.earlier.len()).map(move |image| Fault::RolledBack { sector, image });
        let copies = all.clone().map(move |from| Fault::Copied { from, to: sector });
        let later = all.clone().skip_while(move |&other| other != sector);
        let swaps = later.skip(1).map(move |other| Fault::Swapped { one: sector, other });
        alone.into_iter().chain(images).chain(copies).chain(swaps)
    })
}

/// The last sectors that hold records, in the order in which they were written.
fn last_sectors(specimen: &Specimen) -> Vec<Sector> {
    let mut sectors = Vec::new();
    for record in &specimen.records {
        let file = specimen.files.iter().position(|(name, _)| *name == record.file).expect("a file of the log");
        let numbers = record.offset / SECTOR_BYTES..(record.offset + record.bytes.len()).div_ceil(SECTOR_BYTES);
        sectors.extend(numbers.map(|number| Sector { file, unit: SECTOR_BYTES, number }));
    }
    sectors.dedup();
    sectors.split_off(sectors.len() - LAST_SECTORS)
}

fn last_sector_faults() -> impl Iterator<Item = Fault> {
    (0..1 << LAST_SECTORS).flat_map(|lost| [true, false].map(|zeros| Fault::LastLost { lost, zeros }))
}

impl Fault {
    /// Does it to the files on a bench. Returns in which parts of which files bytes can differ now.
    pub(crate) fn apply(&self, specimen: &Specimen, bench: &Workbench) -> Vec<(usize, Range<usize>)> {
        let intact = |sector: Sector| &specimen.files[sector.file].1[sector.range()];
        let write = |to: Sector, content: &[u8]| {
            bench.damage(to.file, |bytes| bytes[to.range()].copy_from_slice(content));
            (to.file, to.range())
        };
        match *self {
            Fault::Bit { file, bit } => {
                bench.damage(file, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
                vec![(file, bit / 8..bit / 8 + 1)]
            }
            Fault::Byte { file, at, value } => {
                bench.damage(file, |bytes| bytes[at] = value);
                vec![(file, at..at + 1)]
            }
            Fault::Length { file, bytes: length } => {
                bench.damage(file, |bytes| bytes.truncate(length));
                vec![(file, length..specimen.files[file].1.len())]
            }
            Fault::Filled { sector, value } => vec![write(sector, &vec![value; sector.unit])],
            Fault::Copied { from, to } => vec![write(to, intact(from))],
            Fault::Swapped { one, other } => vec![write(one, intact(other)), write(other, intact(one))],
            Fault::RolledBack { sector, image } => match specimen.earlier[image].get(&specimen.files[sector.file].0) {
                Some(contents) => vec![write(sector, &contents[sector.range()])],
                None => vec![],
            },
            Fault::Dropped(sector) => {
                let length = specimen.files[sector.file].1.len();
                bench.damage(sector.file, |bytes| {
                    bytes.drain(sector.range());
                    bytes.resize(length, 0);
                });
                vec![(sector.file, sector.range().start..length)]
            }
            Fault::Doubled(sector) => {
                let length = specimen.files[sector.file].1.len();
                bench.damage(sector.file, |bytes| {
                    bytes.copy_within(sector.range().start..length - sector.unit, sector.range().end)
                });
                vec![(sector.file, sector.range().start..length)]
            }
            Fault::LastLost { lost, zeros } => {
                let before = specimen.earlier.last().expect("the state before the last commit");
                let of = |sector: Sector| match before.get(&specimen.files[sector.file].0).filter(|_| !zeros) {
                    Some(before) => write(sector, &before[sector.range()]),
                    None => write(sector, &[0; SECTOR_BYTES]),
                };
                let sectors = last_sectors(specimen).into_iter().enumerate();
                sectors.filter(|(nth, _)| lost >> nth & 1 == 1).map(|(_, sector)| of(sector)).collect()
            }
        }
    }

    /// What it is, with the names of the files.
    pub(crate) fn describe(&self, specimen: &Specimen) -> String {
        let names: Vec<&str> = specimen.files.iter().map(|(name, _)| name.as_str()).collect();
        format!("{self:?} of {names:?}")
    }
}
