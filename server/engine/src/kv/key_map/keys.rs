//! The keys of one node, laid out to be searched.
//!
//! A [`Bytes`] is a pointer to memory that is hardly ever in a cache. So beside their keys nodes hold what all of them
//! begin with, once, and of each the eight bytes behind that, its *head*, as a number. Neighbours in an ordered map
//! begin alike, and differ soon behind: a search compares numbers that lie side by side, and looks at keys only where
//! heads are equal, one key as a rule (a B-tree's "prefix truncation" and "poor man's normalized keys": G. Graefe and
//! P.-Å. Larson, "B-tree indexes and CPU caches", ICDE 2001).
//!
//! The keys themselves lie in *slots*, in the order in which they came, and an array of small numbers says which slot
//! is at which place of the ascending order: a new key moves numbers aside, and not its neighbours.

use bytes::Bytes;

/// How many keys a node holds at most. A write to a node that a snapshot shares copies all of them; fewer make the tree
/// deeper.
pub(super) const KEYS_MAX: usize = 32;

/// How much of what all keys of a node begin with is left out of their heads, at most, in bytes.
const PREFIX_BYTES_MAX: usize = 40;

const HEAD_BYTES: usize = 8;

/// Ascending keys, at most [`KEYS_MAX`].
#[derive(Clone, Debug)]
pub(super) struct Keys {
    /// The first `prefix_bytes` of this are what all keys begin with. They may have more in common.
    prefix: [u8; PREFIX_BYTES_MAX],
    prefix_bytes: usize,
    /// The head of each key, in their order; zeros behind them.
    heads: [u64; KEYS_MAX],
    /// The slot of the key at each place.
    slots: [u8; KEYS_MAX],
    /// By slot.
    keys: Vec<Bytes>,
}

impl Keys {
    /// Of these keys, which have to ascend.
    pub(super) fn new(keys: Vec<Bytes>) -> Keys {
        assert!(keys.len() <= KEYS_MAX, "{} keys are more than a node holds", keys.len());
        let (prefix, heads, slots) = ([0; PREFIX_BYTES_MAX], [0; KEYS_MAX], std::array::from_fn(as_slot));
        let mut keys = Keys { prefix, prefix_bytes: 0, heads, slots, keys };
        keys.measure();
        keys
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn get(&self, place: usize) -> &Bytes {
        &self.keys[self.slot(place)]
    }

    /// The slot of the key at `place`.
    pub(super) fn slot(&self, place: usize) -> usize {
        usize::from(self.slots[place])
    }

    /// The keys, which leave the node, in the order of their slots.
    pub(super) fn into_vec(self) -> Vec<Bytes> {
        self.keys
    }

    /// The place of `key`, or the one where it belongs.
    pub(super) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let prefix = self.prefix();
        let Some(rest) = key.strip_prefix(prefix) else {
            // A key that ends within the prefix is below it too.
            return Err(if key < prefix { 0 } else { self.len() });
        };
        let (head, heads) = (head_of(rest), &self.heads[..self.len()]);
        let first = heads.partition_point(|other| *other < head);
        let equal = heads[first..].iter().take_while(|other| **other == head).count();
        let slots = &self.slots[first..first + equal];
        let found = slots.binary_search_by(|slot| self.keys[usize::from(*slot)][prefix.len()..].cmp(rest));
        found.map(|place| first + place).map_err(|place| first + place)
    }

    /// Puts `key` at `place`, where it belongs, and into the slot behind the last. There has to be room.
    pub(super) fn insert(&mut self, place: usize, key: Bytes) {
        assert!(self.len() < KEYS_MAX, "a full node is split first");
        let fits = self.len() > 0 && key.starts_with(self.prefix());
        self.slots.copy_within(place..KEYS_MAX - 1, place + 1);
        self.slots[place] = as_slot(self.len());
        self.keys.push(key);
        if fits {
            self.heads.copy_within(place..KEYS_MAX - 1, place + 1);
            self.heads[place] = self.head_at(place);
        } else {
            self.measure();
        }
    }

    /// Puts `key` in place of an equal one.
    pub(super) fn replace(&mut self, place: usize, key: Bytes) {
        let slot = self.slot(place);
        self.keys[slot] = key;
    }

    /// Takes the key at `place` away. Returns its slot, which the key of the last slot has now.
    pub(super) fn remove(&mut self, place: usize) -> usize {
        let (slot, last) = (self.slots[place], as_slot(self.len() - 1));
        self.slots.copy_within(place + 1.., place);
        self.heads.copy_within(place + 1.., place);
        self.heads[KEYS_MAX - 1] = 0;
        self.keys.swap_remove(usize::from(slot));
        let count = self.len();
        for other in &mut self.slots[..count] {
            if *other == last {
                *other = slot;
            }
        }
        usize::from(slot)
    }

    /// Gives each key the slot of its place. Whatever else lies by slots has to be swapped as `swap` is told.
    pub(super) fn arrange(&mut self, mut swap: impl FnMut(usize, usize)) {
        for place in 0..self.len() {
            let slot = self.slot(place);
            if slot == place {
                continue;
            }
            self.keys.swap(place, slot);
            swap(place, slot);
            let other = (place + 1..self.len()).find(|other| self.slot(*other) == place);
            self.slots[other.expect("each slot is at one place")] = self.slots[place];
            self.slots[place] = as_slot(place);
        }
    }

    /// Keeps the keys before `place` and returns the others. They have to be [arranged](Self::arrange).
    pub(super) fn split_off(&mut self, place: usize) -> Keys {
        let right = self.keys.split_off(place);
        self.measure();
        Keys::new(right)
    }

    fn prefix(&self) -> &[u8] {
        &self.prefix[..self.prefix_bytes]
    }

    fn head_at(&self, place: usize) -> u64 {
        head_of(&self.get(place)[self.prefix_bytes..])
    }

    /// Finds out anew what all keys begin with, and their heads.
    fn measure(&mut self) {
        self.prefix_bytes = 0;
        if self.len() > 0 {
            let (first, last) = (&self.keys[self.slot(0)], self.get(self.len() - 1));
            self.prefix_bytes = common_bytes(first, last).min(PREFIX_BYTES_MAX);
            self.prefix[..self.prefix_bytes].copy_from_slice(&first[..self.prefix_bytes]);
        }
        self.heads = std::array::from_fn(|place| if place < self.len() { self.head_at(place) } else { 0 });
    }

    /// Asserts what the rest of this file relies on.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let ascending: Vec<&Bytes> = (0..self.len()).map(|place| self.get(place)).collect();
        assert!(ascending.is_sorted_by(|one, next| one < next), "keys do not ascend: {ascending:?}");
        for (place, head) in self.heads.iter().enumerate() {
            let expected = if place < self.len() { self.head_at(place) } else { 0 };
            assert_eq!(*head, expected, "a head is another key's");
        }
        assert!(self.keys.iter().all(|key| key.starts_with(self.prefix())), "a key begins otherwise");
    }
}

fn as_slot(number: usize) -> u8 {
    u8::try_from(number).expect("a node has fewer slots than 256")
}

/// The first bytes of what is left of a key, as a number that is ordered as they are. A key that ends before is filled
/// up with zeros: its head may equal that of one which goes on, and is never above it.
fn head_of(rest: &[u8]) -> u64 {
    match rest.first_chunk::<HEAD_BYTES>() {
        Some(head) => u64::from_be_bytes(*head),
        None => {
            let mut head = [0; HEAD_BYTES];
            head[..rest.len()].copy_from_slice(rest);
            u64::from_be_bytes(head)
        }
    }
}

/// How many bytes two keys have in common at their beginning.
pub(super) fn common_bytes(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}
