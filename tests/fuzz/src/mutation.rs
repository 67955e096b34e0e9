//! A small mutator of our own: the same seed makes the same inputs, on every machine and in every build.

/// SplitMix64: a sequence of numbers from a seed.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The sequence of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ self.state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `limit`; zero if that is zero.
    pub fn below(&mut self, limit: usize) -> usize {
        let scaled = (u128::from(self.next_u64()) * (limit as u128)) >> 64;
        usize::try_from(scaled).expect("below a usize")
    }

    fn byte(&mut self) -> u8 {
        self.next_u64().to_le_bytes()[0]
    }
}

/// No input grows beyond this many bytes: what is found in a long input is found in a short one, sooner.
pub const INPUT_BYTES_MAX: usize = 4096;

/// Bytes that mean something to decoders: the ends of ranges, signs, lengths, and varints that go on.
const BOUNDARY_BYTES: [u8; 12] = [0x00, 0x01, 0x02, 0x7f, 0x80, 0x83, 0xa3, 0xc0, 0xc1, 0xfe, 0xff, 0x20];

/// Numbers that mean something to decoders, written over eight bytes.
const BOUNDARY_NUMBERS: [u64; 8] =
    [0, 1, u64::MAX, u64::MAX - 1, 1 << 32, (8 << 20) + 1, 0xffff_ffff, 0x7fff_ffff_ffff_ffff];

/// One to four small changes of `input`.
#[must_use]
pub fn mutate(random: &mut Random, input: &[u8]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=random.below(4) {
        change(random, &mut bytes);
    }
    bytes.truncate(INPUT_BYTES_MAX.max(input.len()));
    bytes
}

/// The front of one input and the back of another.
#[must_use]
pub fn splice(random: &mut Random, front: &[u8], back: &[u8]) -> Vec<u8> {
    let mut bytes = front[..random.below(front.len() + 1)].to_vec();
    bytes.extend_from_slice(&back[random.below(back.len() + 1)..]);
    bytes.truncate(INPUT_BYTES_MAX.max(front.len()));
    bytes
}

fn change(random: &mut Random, bytes: &mut Vec<u8>) {
    let at = random.below(bytes.len());
    let count = 1 + random.below(8);
    let end = bytes.len().min(at + count);
    match random.below(9) {
        0 | 1 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
        2 | 3 if !bytes.is_empty() => bytes[at] = BOUNDARY_BYTES[random.below(BOUNDARY_BYTES.len())],
        4 if !bytes.is_empty() => bytes[at] = random.byte(),
        5 if end > at => drop(bytes.drain(at..end)),
        6 if end > at => {
            // A stretch once more, elsewhere: messages are repeated and overtake each other.
            let stretch = bytes[at..end].to_vec();
            let to = random.below(bytes.len() + 1);
            bytes.splice(to..to, stretch);
        }
        7 if end > at => {
            let number = BOUNDARY_NUMBERS[random.below(BOUNDARY_NUMBERS.len())].to_le_bytes();
            bytes[at..end].copy_from_slice(&number[..end - at]);
        }
        _ => {
            let inserted: Vec<u8> = (0..count).map(|_| random.byte()).collect();
            bytes.splice(at..at, inserted);
        }
    }
}
