//! The keys of one node, laid out to be searched.
//!
//! A [`Bytes`] is a pointer to memory that is hardly ever in a cache. So beside their keys nodes hold what all of them
//! begin with, once, and of each the eight bytes behind that, its *head*, as a number. Neighbours in an ordered map
//! begin alike, and differ soon behind: a search compares numbers that lie side by side, and looks at keys only where
//! heads are equal, one key as a rule (a B-tree's "prefix truncation" and "poor man's normalized keys": G. Graefe and
//! P.-Å. Larson, "B-tree indexes and CPU caches", ICDE 2001).

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
    /// The head of each key; zeros behind them.
    heads: [u64; KEYS_MAX],
    keys: Vec<Bytes>,
}

impl Keys {
    /// Of these keys, which have to ascend.
    pub(super) fn new(keys: Vec<Bytes>) -> Keys {
        assert!(keys.len() <= KEYS_MAX, "{} keys are more than a node holds", keys.len());
        let mut keys = Keys { prefix: [0; PREFIX_BYTES_MAX], prefix_bytes: 0, heads: [0; KEYS_MAX], keys };
        keys.measure();
        keys
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn get(&self, place: usize) -> &Bytes {
        &self.keys[place]
    }

    /// The keys, which leave the node.
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
        let found = self.keys[first..first + equal].binary_search_by(|other| other[prefix.len()..].cmp(rest));
        found.map(|place| first + place).map_err(|place| first + place)
    }

    /// Puts `key` at `place`, where it belongs. There has to be room.
    pub(super) fn insert(&mut self, place: usize, key: Bytes) {
        assert!(self.len() < KEYS_MAX, "a full node is split first");
        let fits = self.len() > 0 && key.starts_with(self.prefix());
        self.keys.insert(place, key);
        if fits {
            self.heads.copy_within(place..KEYS_MAX - 1, place + 1);
            self.heads[place] = self.head_at(place);
        } else {
            self.measure();
        }
    }

    /// Puts `key` in place of an equal one.
    pub(super) fn replace(&mut self, place: usize, key: Bytes) {
        self.keys[place] = key;
    }

    /// Takes the key at `place` away.
    pub(super) fn remove(&mut self, place: usize) {
        self.keys.remove(place);
        self.heads.copy_within(place + 1.., place);
        self.heads[KEYS_MAX - 1] = 0;
    }

    /// Keeps the keys before `place` and returns the others.
    pub(super) fn split_off(&mut self, place: usize) -> Keys {
        let right = self.keys.split_off(place);
        self.measure();
        Keys::new(right)
    }

    fn prefix(&self) -> &[u8] {
        &self.prefix[..self.prefix_bytes]
    }

    fn head_at(&self, place: usize) -> u64 {
        head_of(&self.keys[place][self.prefix_bytes..])
    }

    /// Finds out anew what all keys begin with, and their heads.
    fn measure(&mut self) {
        let common = match (self.keys.first(), self.keys.last()) {
            (Some(first), Some(last)) => common_bytes(first, last).min(PREFIX_BYTES_MAX),
            _ => 0,
        };
        self.prefix_bytes = common;
        if let Some(first) = self.keys.first() {
            self.prefix[..common].copy_from_slice(&first[..common]);
        }
        self.heads = std::array::from_fn(|place| if place < self.keys.len() { self.head_at(place) } else { 0 });
    }

    /// Asserts what the rest of this file relies on.
    #[cfg(test)]
    pub(super) fn check(&self) {
        assert!(self.keys.is_sorted_by(|one, next| one < next), "keys do not ascend: {:?}", self.keys);
        for (place, head) in self.heads.iter().enumerate() {
            let expected = if place < self.len() { self.head_at(place) } else { 0 };
            assert_eq!(*head, expected, "a head is another key's");
        }
        assert!(self.keys.iter().all(|key| key.starts_with(self.prefix())), "a key begins otherwise");
    }
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
