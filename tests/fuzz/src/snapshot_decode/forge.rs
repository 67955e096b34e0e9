//! Snapshots made up, with right checksums: what the rules behind the checksums have to judge.

use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::input::Input;

/// Of the file's flags: its version follows.
pub const VERSION: u8 = 1 << 0;
/// Its index follows.
pub const INDEX: u8 = 1 << 1;
/// The number of term starts follows.
pub const STARTS: u8 = 1 << 2;
/// What is added to the three numbers of the end follows.
pub const END: u8 = 1 << 3;
/// The number of keys in the header follows.
pub const KEYS: u8 = 1 << 4;
/// The store's revision follows.
pub const REVISION: u8 = 1 << 5;
/// What is added to the state hash follows.
pub const HASH: u8 = 1 << 6;
/// The index of the last command follows.
pub const LAST_INDEX: u8 = 1 << 7;

/// Of a record's flags: its key does not rise.
pub const BACK: u8 = 1 << 0;
/// Its create revision follows.
pub const CREATED: u8 = 1 << 1;
/// Its mod revision follows.
pub const MODIFIED: u8 = 1 << 2;
/// Its version follows.
pub const WRITES: u8 = 1 << 3;
/// The lengths of key and value follow.
pub const LENGTHS: u8 = 1 << 4;
/// A new section begins with it.
pub const SECTION: u8 = 1 << 5;
/// Before it comes a section whose tag follows.
pub const TAG: u8 = 1 << 6;

/// Of the number of records: settings come before them, and are the byte that follows.
pub const SETTINGS: u8 = 1 << 6;

/// A table of term starts that is as the next numbers say, if the byte before it is at least this; else a right one.
pub const ANY_STARTS: u8 = 0xf0;

const HEADER_BYTES: usize = 32;
const TAG_HEADER: u32 = 16;
const TAG_RECORDS: u32 = 17;
const TAG_SETTINGS: u32 = 21;
const INDEX_OF_FILE: u64 = 100;
const RECORDS_MAX: usize = 64;

/// A snapshot that was made up.
pub(crate) struct Forged {
    pub(crate) bytes: Vec<u8>,
    /// Whether it is what the engine itself could have written: then it must be accepted.
    pub(crate) is_sound: bool,
    /// Keys and values, in order.
    pub(crate) records: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Makes a file up. Numbers that are left out are the right ones.
pub(crate) fn forge(input: &mut Input<'_>) -> Forged {
    let flags = input.u8();
    let time_ms = input.u64();
    let mut is_sound = true;
    let mut field = |flag: u8, right: u64, input: &mut Input<'_>| {
        let number = if flags & flag == 0 { right } else { input.number([right, INDEX_OF_FILE, 1 << 20, 1 << 23]) };
        is_sound &= number == right;
        number
    };
    let version = field(VERSION, 1, input);
    let index = field(INDEX, INDEX_OF_FILE, input);
    let (starts, starts_right) = term_starts(input);
    let starts_named = field(STARTS, starts.len() as u64, input);
    let state = State::forge(input);
    let keys = field(KEYS, state.records.len() as u64, input);
    let revision = field(REVISION, state.revision, input);
    let hash_off = field(HASH, 0, input);
    let last_index = field(LAST_INDEX, state.revision, input);
    let end_off = [(); 3].map(|()| field(END, 0, input));

    let numbers = |numbers: &[u64]| numbers.iter().copied().flat_map(u64::to_le_bytes).collect::<Vec<u8>>();
    let table: Vec<u8> = starts.iter().flat_map(|&(index, term)| numbers(&[index, term])).collect();
    let file_id = xxh3_64(&[numbers(&[index]), table.clone()].concat());
    let mut file = File { bytes: Vec::new(), number: 0, previous: 0, file_id };
    let version = version.to_le_bytes();
    file.add(1, &[b"QUORSNAP", &version[..4], &[0; 4], &numbers(&[index, starts_named])].concat());
    if !table.is_empty() {
        file.add(2, &table);
    }
    let state_hash = state.hash.wrapping_add(xxh3_128(&numbers(&[revision, time_ms])));
    let hash = state_hash.wrapping_add(u128::from(hash_off)).to_le_bytes();
    file.add(TAG_HEADER, &[&numbers(&[revision, time_ms, last_index, keys])[..], &hash].concat());
    state.sections.iter().for_each(|(tag, section)| file.add(*tag, section));
    let (chunks, bytes) = (file.number.wrapping_add(end_off[0]), (file.bytes.len() as u64).wrapping_add(end_off[1]));
    let hash = xxh3_128(&file.bytes).wrapping_add(u128::from(end_off[2])).to_le_bytes();
    file.add(3, &[&numbers(&[chunks, bytes])[..], &hash].concat());
    let is_sound = is_sound && starts_right && state.is_sound;
    Forged { bytes: file.bytes, is_sound, records: state.records }
}

/// A table of term starts, and whether it is right for certain.
fn term_starts(input: &mut Input<'_>) -> (Vec<(u64, u64)>, bool) {
    let kind = input.u8();
    let count = usize::from(kind % 4);
    if kind >= ANY_STARTS {
        let starts = (0..count).map(|_| (input.number([1, 2, 100, 101]), input.number([1, 2, 3, 4])));
        return (starts.collect(), false);
    }
    let starts = (0..=count as u64).map(|number| (1 + number * 5, 2 + number * 3));
    (starts.collect(), true)
}

/// The records, in their sections.
struct State {
    sections: Vec<(u32, Vec<u8>)>,
    records: Vec<(Vec<u8>, Vec<u8>)>,
    revision: u64,
    hash: u128,
    is_sound: bool,
}

impl State {
    fn forge(input: &mut Input<'_>) -> State {
        let kind = input.u8();
        let count = usize::from(kind) % RECORDS_MAX;
        let revision = 1 + 2 * count as u64;
        let mut state = State { sections: Vec::new(), records: Vec::new(), revision, hash: 0, is_sound: true };
        if kind & SETTINGS != 0 {
            let settings = input.u8();
            state.sections.push((TAG_SETTINGS, vec![settings]));
            state.hash = xxh3_128(&[4, settings]);
            state.is_sound = settings == 1;
        }
        state.sections.push((TAG_RECORDS, Vec::new()));
        for number in 0..count as u64 {
            state.record(number, input);
        }
        state
    }

    /// The record of a key that was written twice, at two revisions of its own.
    fn record(&mut self, number: u64, input: &mut Input<'_>) {
        let flags = input.u8();
        let key_number = if flags & BACK == 0 { number + 1 } else { number };
        let key = [&(key_number << 8).to_be_bytes()[..], input.bytes(usize::from(flags >> 7))].concat();
        let length = usize::from(input.u8());
        let value = input.bytes(length).to_vec();
        let mut field = |flag: u8, right: u64| if flags & flag == 0 { right } else { input.number([right; 4]) };
        let (created, modified) = (field(CREATED, 2 + 2 * number), field(MODIFIED, 3 + 2 * number));
        let writes = field(WRITES, 2);
        let key_bytes = field(LENGTHS, key.len() as u64);
        let value_bytes = field(LENGTHS, value.len() as u64);
        if flags & TAG != 0 {
            let tag = u32::try_from(field(TAG, 0) & 0xffff_ffff).unwrap_or(0);
            self.sections.push((tag, key.clone()));
        }
        if flags & (SECTION | TAG) != 0 {
            self.sections.push((TAG_RECORDS, Vec::new()));
        }
        self.is_sound &= flags & !(SECTION | 1 << 7) == 0;

        let revisions: Vec<u8> = [created, modified, writes].into_iter().flat_map(u64::to_le_bytes).collect();
        let hashed = [
            &(key.len() as u64).to_le_bytes()[..],
            &xxh3_128(&key).to_le_bytes(),
            &(value.len() as u64).to_le_bytes(),
            &xxh3_128(&value).to_le_bytes(),
            &revisions,
        ];
        self.hash = self.hash.wrapping_add(xxh3_128(&hashed.concat()));
        let lengths = [&key_bytes.to_le_bytes()[..2], &value_bytes.to_le_bytes()[..4]].concat();
        let record = [&lengths[..], &revisions, &key, &value].concat();
        if let Some((_, section)) = self.sections.last_mut() {
            section.extend_from_slice(&record);
        }
        self.records.push((key, value));
    }
}

struct File {
    bytes: Vec<u8>,
    number: u64,
    previous: u32,
    file_id: u64,
}

impl File {
    fn add(&mut self, tag: u32, payload: &[u8]) {
        let begin = self.bytes.len();
        let length = u32::try_from(payload.len()).expect("forged payloads are small");
        self.bytes.extend_from_slice(&[0; 4]);
        for field in [length, tag, self.previous] {
            self.bytes.extend_from_slice(&field.to_le_bytes());
        }
        for field in [self.number, self.file_id] {
            self.bytes.extend_from_slice(&field.to_le_bytes());
        }
        self.bytes.extend_from_slice(payload);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        self.previous = crc32c::crc32c(&self.bytes[begin + 4..]);
        self.bytes[begin..begin + 4].copy_from_slice(&self.previous.to_le_bytes());
        self.number += 1;
    }
}

/// Makes the checksums, the numbers and the end of what may be a chain of chunks right again, as far as it goes.
pub(crate) fn reseal(bytes: &mut [u8]) {
    let (mut at, mut previous, mut number) = (0, 0_u32, 0_u64);
    while let Some(head) = bytes.get(at..).and_then(|rest| rest.first_chunk::<HEADER_BYTES>()) {
        let field = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let length = usize::try_from(field(4)).unwrap_or(usize::MAX);
        let end = at.saturating_add(HEADER_BYTES).saturating_add(length).checked_next_multiple_of(8);
        let Some(end) = end.filter(|&end| end <= bytes.len()) else { return };
        if field(8) == 3 && length == 32 {
            let hash = xxh3_128(&bytes[..at]).to_le_bytes();
            bytes[at + 32..at + 40].copy_from_slice(&number.to_le_bytes());
            bytes[at + 40..at + 48].copy_from_slice(&(at as u64).to_le_bytes());
            bytes[at + 48..at + 64].copy_from_slice(&hash);
        }
        bytes[at + 12..at + 16].copy_from_slice(&previous.to_le_bytes());
        bytes[at + 16..at + 24].copy_from_slice(&number.to_le_bytes());
        previous = crc32c::crc32c(&bytes[at + 4..end]);
        bytes[at..at + 4].copy_from_slice(&previous.to_le_bytes());
        (at, number) = (end, number + 1);
    }
}
