//! Logs made up record by record, with right checksums: what the rules behind the checksums have to judge.

use raft::Term;

use super::specimen::SALT;
use crate::input::Input;

/// Payloads begin behind so many bytes.
const HEADER_BYTES: usize = 32;

/// No segment is forged larger than this.
const GIANT_BYTES: usize = 9 << 20;

/// A file's size, chosen by a byte modulo 8.
const SIZES: [usize; 8] = [4096, 4096, 8192, 4096 + 8, 16_384, 4095, 100, 4096];

/// A size byte that makes the first file larger than the largest record: lengths in it can be so as well.
pub const GIANT: u8 = 0xfe;

/// A record's kind is its byte modulo this.
pub const KINDS: u8 = 8;
/// The first record of a segment.
pub const START: u8 = 1;
/// Term, vote and commit index.
pub const HARD_STATE: u8 = 2;
/// Entries are taken back.
pub const TRUNCATE: u8 = 3;
/// Nothing.
pub const MARK: u8 = 4;
/// An entry without a command.
pub const NOOP: u8 = 5;
/// An entry with a command, whose length follows the other fields.
pub const COMMAND: u8 = 6;
/// All entries are obsolete: the index to go on behind follows, and a byte whose lowest bit says whether for a repair.
pub const RESET: u8 = 7;

/// Of a start's choices: it is of version 2.
pub const VERSION_2: u8 = 1 << 3;

/// Of the byte that says how many segments there are: the number of the first is one more than what is above these
/// bits.
const FIRST_SHIFT: u8 = 6;

/// Of a record's flags: its position follows.
pub const POSITION: u8 = 1 << 0;
/// How far it claims that the log was durable follows.
pub const DURABLE: u8 = 1 << 1;
/// The checksum before it follows.
pub const PREVIOUS: u8 = 1 << 2;
/// Its salt is wrong.
pub const SALTED: u8 = 1 << 3;
/// The length of its payload follows, whatever that is.
pub const LENGTH: u8 = 1 << 4;
/// Its checksum is wrong.
pub const UNSEALED: u8 = 1 << 5;
/// So are eight zeros before it.
pub const GAP: u8 = 1 << 6;
/// It is the last of its segment.
pub const LAST: u8 = 1 << 7;

/// A log that was made up.
pub(crate) struct Forged {
    /// The contents of its files, in order.
    pub(crate) files: Vec<Vec<u8>>,
    /// The number of the first.
    pub(crate) first: u64,
    /// Whether it is what the engine itself could have written, as far as the forger knows: then it must be accepted.
    pub(crate) sound: bool,
    /// How many entries there are in it.
    pub(crate) entries: u64,
}

/// What the records amount to so far.
struct Forger {
    term: u64,
    vote: u64,
    commit: u64,
    last: u64,
    version: u64,
    previous: u32,
    forged: Forged,
}

/// Makes a log up. Numbers that are left out are the right ones.
pub(crate) fn forge(input: &mut Input<'_>) -> Forged {
    let choice = input.u8();
    let first = 1 + u64::from(choice >> FIRST_SHIFT);
    let forged = Forged { files: Vec::new(), first, sound: true, entries: 0 };
    let mut forger = Forger { term: 0, vote: 0, commit: 0, last: 0, version: 0, previous: 0, forged };
    for segment in first..=first + u64::from(choice % 3) {
        forger.segment(segment, input);
        if input.is_empty() {
            break;
        }
    }
    forger.forged
}

impl Forger {
    fn segment(&mut self, segment: u64, input: &mut Input<'_>) {
        let size = match input.u8() {
            GIANT if segment == self.forged.first => GIANT_BYTES,
            byte => SIZES[usize::from(byte % 8)],
        };
        self.forged.sound &= size >= 4096;
        let mut file = Vec::new();
        let mut last = false;
        while !last && !input.is_empty() {
            let flags = input.u8();
            last = flags & LAST != 0;
            if flags & GAP != 0 {
                file.extend_from_slice(&[0; 8]);
                self.forged.sound = false;
            }
            let is_first = file.is_empty();
            let record = self.record(flags, segment << 32 | file.len() as u64, (is_first, size), input);
            if file.len() + record.len() > size {
                self.forged.sound = false; // it is taken for written
                break;
            }
            file.extend_from_slice(&record);
        }
        // A segment without records is only right behind all others.
        self.forged.sound &= !file.is_empty();
        file.resize(size, 0);
        self.forged.files.push(file);
    }

    fn record(&mut self, flags: u8, own: u64, (is_first, size): (bool, usize), input: &mut Input<'_>) -> Vec<u8> {
        let kind = input.u8() % KINDS;
        let payload = self.payload(kind, size, input);
        self.forged.sound &= is_first == (kind == START);
        let anchors = [own, own & !0xffff_ffff, own.wrapping_sub(1 << 32), 1 << 32];
        let mut field = |flag: u8, right: u64| if flags & flag == 0 { right } else { input.number(anchors) };
        let position = field(POSITION, own);
        let durable = field(DURABLE, own);
        let previous = field(PREVIOUS, u64::from(self.previous));
        let length = field(LENGTH, payload.len() as u64) & 0x00ff_ffff;
        // A smaller claim of what is durable is right as well, but forging that well is not worth it.
        self.forged.sound &= flags & !LAST == 0;
        let mut record = vec![0; 4];
        record.extend_from_slice(&(length << 32 | u64::from(kind) << 56).to_le_bytes()[4..]);
        record.extend_from_slice(&position.to_le_bytes());
        record.extend_from_slice(&durable.to_le_bytes());
        record.extend_from_slice(&previous.to_le_bytes()[..4]);
        record.extend_from_slice(&SALT.wrapping_add(u32::from(flags & SALTED)).to_le_bytes());
        record.extend_from_slice(&payload);
        // With a length that lies, what is sealed is what the length says, if that is not more than there is.
        record.resize(record.len().next_multiple_of(8), 0);
        let claimed = HEADER_BYTES + usize::try_from(length).expect("24 bits fit");
        let sealed = claimed.next_multiple_of(8).min(size);
        let mut sealed_bytes = record.clone();
        sealed_bytes.resize(sealed, 0);
        let checksum = crc32c::crc32c(&sealed_bytes[4..]) ^ u32::from(flags & UNSEALED);
        record[..4].copy_from_slice(&checksum.to_le_bytes());
        self.previous = checksum;
        record
    }

    /// The payload of a record, which is taken into account as if it were right.
    fn payload(&mut self, kind: u8, size: usize, input: &mut Input<'_>) -> Vec<u8> {
        let Forger { term, vote, commit, last, .. } = *self;
        let anchors = [last, commit, term, last.wrapping_add(1)];
        match kind {
            START => {
                let choice = input.u8();
                let mut payload = b"QUORWAL\n".to_vec();
                let version = match choice {
                    0xff => input.u64(),
                    _ => 1 + u64::from(choice & VERSION_2 != 0),
                };
                self.version = version;
                let bytes =
                    if choice & 1 == 0 { size as u64 } else { input.number([size as u64, 4096, 8192, 1 << 30]) };
                let next = if choice & 2 == 0 { last.wrapping_add(1) } else { input.number(anchors) };
                let first_term = if choice & 4 == 0 { term } else { input.number(anchors) };
                self.forged.sound &= [1, 2].contains(&version) && bytes == size as u64;
                if self.forged.first > 1 && self.forged.files.is_empty() {
                    // What was before it is gone: it says itself with what the log begins.
                    self.forged.sound &= next > commit;
                    (self.last, self.term) = (next.wrapping_sub(1), first_term);
                } else {
                    self.forged.sound &= next == last.wrapping_add(1) && first_term == term;
                }
                payload.extend_from_slice(&version.to_le_bytes()[..4]);
                payload.extend_from_slice(&bytes.to_le_bytes()[..4]);
                for number in [next, 0, first_term, vote, commit] {
                    payload.extend_from_slice(&number.to_le_bytes());
                }
                payload
            }
            HARD_STATE => {
                let [new_term, new_vote, new_commit] = [(); 3].map(|()| input.number(anchors));
                let same_vote = new_term > term || vote == 0 || new_vote == vote;
                self.forged.sound &= new_term >= term && same_vote && new_commit <= last;
                (self.term, self.vote, self.commit) = (new_term, new_vote, new_commit);
                [new_term, new_vote, new_commit].map(u64::to_le_bytes).concat()
            }
            TRUNCATE => {
                let after = input.number(anchors);
                self.forged.sound &= (commit..=last).contains(&after);
                self.last = after;
                after.to_le_bytes().to_vec()
            }
            RESET => {
                let (to, repair) = (input.number(anchors), input.u8() & 1);
                self.forged.sound &= self.version == 2 && to < u64::MAX && (repair == 1 || to >= commit);
                (self.last, self.commit) = (to, to);
                [to, u64::from(repair)].map(u64::to_le_bytes).concat()
            }
            NOOP | COMMAND => self.entry(kind, anchors, input),
            MARK => Vec::new(),
            _ => {
                self.forged.sound = false;
                let count = input.below(64);
                input.bytes(count).to_vec()
            }
        }
    }

    fn entry(&mut self, kind: u8, anchors: [u64; 4], input: &mut Input<'_>) -> Vec<u8> {
        let choice = input.u8();
        let term = if choice & 1 == 0 { self.term.max(1) } else { input.number(anchors) };
        let index = if choice & 2 == 0 { self.last.wrapping_add(1) } else { input.number(anchors) };
        self.forged.sound &= index == self.last.wrapping_add(1) && index < u64::MAX && Term::new(term) > Term::ZERO;
        self.forged.entries += 1;
        if term > self.term {
            (self.term, self.vote) = (term, 0);
        }
        self.last = index;
        let mut payload = [term, index].map(u64::to_le_bytes).concat();
        if kind == COMMAND {
            payload.resize(payload.len() + input.below(200), b'c');
        }
        payload
    }
}
