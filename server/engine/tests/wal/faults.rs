//! Every fault at every place: of each bit, byte, sector and length, in logs of every kind.

use engine::disk::SECTOR_BYTES;

use super::harness::segment_files;
use super::specimen::Specimen;

impl Specimen {
    /// Flips every bit of every record whose number in its byte `chosen` takes, and one bit of each byte behind them.
    fn every_bit(&self, chosen: &dyn Fn(usize) -> bool) -> usize {
        let mut refused = 0;
        for file in segment_files(&self.disk) {
            let intact = self.disk.contents(&file).unwrap();
            let ends = self.records.iter().filter(|record| record.file == file);
            let used = ends.map(|record| record.offset + record.bytes.len()).max().unwrap_or(0);
            for bit in (0..intact.len() * 8).filter(|bit| chosen(bit % 8)) {
                if bit / 8 >= used && bit % 8 != bit / 8 % 8 {
                    continue;
                }
                let mut bytes = intact.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                refused += usize::from(!self.check_file(&file, bytes, &|| format!("{file} bit {bit}")));
            }
        }
        refused
    }

    fn every_byte(&self, step: usize) {
        for file in segment_files(&self.disk) {
            let intact = self.disk.contents(&file).unwrap();
            for at in (0..intact.len()).step_by(step) {
                for value in [0x00, 0xff] {
                    let mut bytes = intact.clone();
                    bytes[at] = value;
                    self.check_file(&file, bytes, &|| format!("{file} byte {at} = {value}"));
                }
            }
        }
    }

    fn every_sector(&self, sector_bytes: usize) {
        let sector = |bytes: &[u8], number: usize| bytes[number * sector_bytes..][..sector_bytes].to_vec();
        for file in segment_files(&self.disk) {
            let intact = self.disk.contents(&file).unwrap();
            let count = intact.len() / sector_bytes;
            let put = |number: usize, content: &[u8], what: &str| {
                let mut bytes = intact.clone();
                bytes[number * sector_bytes..][..sector_bytes].copy_from_slice(content);
                self.check_file(&file, bytes, &|| format!("{file} sector {number} {what}"));
            };
            for number in 0..count {
                put(number, &vec![0; sector_bytes], "zeroed");
                put(number, &vec![0xff; sector_bytes], "set");
                for other in 0..count {
                    put(number, &sector(&intact, other), "overwritten by another");
                    let mut bytes = intact.clone();
                    bytes[number * sector_bytes..][..sector_bytes].copy_from_slice(&sector(&intact, other));
                    bytes[other * sector_bytes..][..sector_bytes].copy_from_slice(&sector(&intact, number));
                    self.check_file(&file, bytes, &|| format!("{file} sectors {number} and {other} swapped"));
                }
                for (when, earlier) in self.earlier.iter().enumerate() {
                    if let Some(contents) = earlier.contents(&file) {
                        put(number, &sector(&contents, number), &format!("rolled back to {when}"));
                    }
                }
                // Dropped: all behind it moved forward.
                let mut bytes = intact.clone();
                bytes.drain(number * sector_bytes..(number + 1) * sector_bytes);
                bytes.resize(intact.len(), 0);
                self.check_file(&file, bytes, &|| format!("{file} sector {number} dropped"));
            }
        }
    }

    /// Cuts every file at every length.
    fn every_length(&self, step: usize) {
        for file in segment_files(&self.disk) {
            let intact = self.disk.contents(&file).unwrap();
            for length in (0..intact.len()).step_by(step) {
                self.check_cut_file(&file, intact[..length].to_vec());
            }
        }
    }

    /// Of the last eight sectors that were written, every subset is zeros.
    fn every_subset_of_the_last_sectors(&self) {
        let last = self.records.last().unwrap();
        let intact = self.disk.contents(&last.file).unwrap();
        let end = (last.offset + last.bytes.len()).div_ceil(SECTOR_BYTES);
        let first = end.saturating_sub(8);
        for subset in 0u32..1 << (end - first) {
            let mut bytes = intact.clone();
            for sector in (first..end).filter(|sector| subset >> (sector - first) & 1 == 1) {
                bytes[sector * SECTOR_BYTES..][..SECTOR_BYTES].fill(0);
            }
            self.check_file(&last.file, bytes, &|| format!("sectors {subset:#b} from {first} on"));
        }
    }

    /// All of it, except bits and bytes.
    fn every_shape(&self, length_step: usize) {
        self.every_sector(SECTOR_BYTES);
        self.every_sector(4096);
        self.every_length(length_step);
        self.every_subset_of_the_last_sectors();
    }
}

/// How many detected damages are not salvaged for one that is, where there is no time for all.
const SALVAGED_ONE_IN: u64 = 13;

// In two tests, which run beside each other.
#[test]
fn every_flipped_even_bit_is_found_or_harmless() {
    let refused = Specimen::new(3, 4096, 0).salvaging_one_in(SALVAGED_ONE_IN).every_bit(&|bit| bit % 2 == 0);
    assert!(refused > 2 * 4000 * 4, "most bits are of durable records: {refused}");
}

#[test]
fn every_flipped_odd_bit_is_found_or_harmless() {
    let refused = Specimen::new(3, 4096, 0).salvaging_one_in(SALVAGED_ONE_IN).every_bit(&|bit| bit % 2 == 1);
    assert!(refused > 2 * 4000 * 4, "most bits are of durable records: {refused}");
}

#[test]
fn every_overwritten_byte_is_found_or_harmless() {
    Specimen::new(4, 4096, 0).salvaging_one_in(SALVAGED_ONE_IN).every_byte(1);
}

#[test]
fn every_sector_fault_is_found_or_harmless() {
    Specimen::new(5, 8192, 200).salvaging_one_in(3).every_shape(31);
}

/// One bit of each byte: the others differ in nothing that depends on where a log begins.
#[test]
fn a_log_with_resets_that_was_cut_is_refused_or_a_prefix() {
    let specimen = Specimen::cut(6, 4096, 200).salvaging_one_in(SALVAGED_ONE_IN);
    assert!(segment_files(&specimen.disk)[0].as_str() > "wal-0000000001.log");
    specimen.every_bit(&|bit| bit == 3);
    specimen.every_shape(97);
}

#[test]
fn a_log_of_two_versions_is_refused_or_a_prefix() {
    let specimen = Specimen::of_two_versions(7, 4096, 200).salvaging_one_in(SALVAGED_ONE_IN);
    specimen.every_bit(&|bit| bit == 5);
    specimen.every_shape(101);
}

/// Everything over logs of 64 KiB: `cargo test -p engine --test wal at_length -- --ignored`. `QUORATE_FAULT_LOGS` is
/// how many different ones of each kind, 1 if it is not set.
#[test]
#[ignore = "all faults over larger logs: minutes"]
fn all_faults_at_length() {
    let logs = std::env::var("QUORATE_FAULT_LOGS").map_or(1, |count| count.parse().unwrap());
    for seed in 1..=logs {
        let specimens = [
            Specimen::new(seed * 31, 16384, 200),
            Specimen::cut(seed * 31, 16384, 200),
            Specimen::of_two_versions(seed * 31, 16384, 200),
        ];
        for specimen in specimens.map(|specimen| specimen.salvaging_one_in(7)) {
            specimen.every_bit(&|_| true);
            specimen.every_byte(1);
            specimen.every_shape(1);
        }
    }
}
