//! The nodes of the tree: where a key is, and how nodes are split and joined.

use std::sync::Arc;

use bytes::Bytes;

use super::keys::{KEYS_MAX, Keys, common_bytes};

/// A node with fewer keys than this is joined with a neighbour, or takes some of its keys.
const KEYS_FEW: usize = KEYS_MAX / 4;

#[derive(Clone, Debug)]
pub(super) enum Node<V> {
    Leaf(Leaf<V>),
    Branch(Branch<V>),
}

/// Keys with what is kept for them.
#[derive(Clone, Debug)]
pub(super) struct Leaf<V> {
    pub(super) keys: Keys,
    /// By slot, as the keys.
    pub(super) values: Vec<V>,
}

/// Nodes of one height, one more than there are keys, in their order. A key here is a *separator*: above all keys of
/// the child before it, and not above any of the child behind. It need not be a key of the map.
#[derive(Clone, Debug)]
pub(super) struct Branch<V> {
    pub(super) keys: Keys,
    pub(super) children: Vec<Arc<Node<V>>>,
}

/// The right half of a node that was too full, and the separator in front of it.
pub(super) struct Split<V> {
    pub(super) separator: Bytes,
    pub(super) right: Arc<Node<V>>,
}

impl<V> Node<V> {
    /// A leaf with nothing in it.
    pub(super) fn empty() -> Node<V> {
        Node::Leaf(Leaf { keys: Keys::new(Vec::new()), values: Vec::new() })
    }

    /// The leaf that holds `key`, if any does.
    pub(super) fn leaf_of(&self, key: &[u8]) -> &Leaf<V> {
        let mut node = self;
        loop {
            match node {
                Node::Leaf(leaf) => return leaf,
                Node::Branch(branch) => node = &branch.children[branch.child_of(key)],
            }
        }
    }

    fn key_count(&self) -> usize {
        match self {
            Node::Leaf(leaf) => leaf.keys.len(),
            Node::Branch(branch) => branch.keys.len(),
        }
    }
}

impl<V: Clone> Node<V> {
    /// Keeps `value` for `key`. Returns what was kept before, and the right half of this node if it became too full.
    pub(super) fn insert(&mut self, key: Bytes, value: V) -> (Option<V>, Option<Split<V>>) {
        match self {
            Node::Leaf(leaf) => match leaf.keys.search(&key) {
                Ok(place) => {
                    leaf.keys.replace(place, key);
                    let slot = leaf.keys.slot(place);
                    (Some(std::mem::replace(&mut leaf.values[slot], value)), None)
                }
                Err(place) => (None, leaf.insert_at(place, key, value)),
            },
            Node::Branch(branch) => {
                let place = branch.child_of(&key);
                let (before, split) = Arc::make_mut(&mut branch.children[place]).insert(key, value);
                (before, split.and_then(|split| branch.insert_behind(place, split)))
            }
        }
    }

    /// Keeps nothing for `key`. Returns what was kept.
    pub(super) fn remove(&mut self, key: &[u8]) -> Option<V> {
        match self {
            Node::Leaf(leaf) => {
                let place = leaf.keys.search(key).ok()?;
                Some(leaf.values.swap_remove(leaf.keys.remove(place)))
            }
            Node::Branch(branch) => {
                let place = branch.child_of(key);
                let child = Arc::make_mut(&mut branch.children[place]);
                let removed = child.remove(key)?;
                if child.key_count() < KEYS_FEW && branch.keys.len() > 0 {
                    branch.join(place.min(branch.keys.len() - 1));
                }
                Some(removed)
            }
        }
    }
}

impl<V> Leaf<V> {
    /// The key at `place`, with what is kept for it.
    pub(super) fn get(&self, place: usize) -> (&Bytes, &V) {
        (self.keys.get(place), &self.values[self.keys.slot(place)])
    }

    fn insert_at(&mut self, place: usize, key: Bytes, value: V) -> Option<Split<V>> {
        if self.keys.len() < KEYS_MAX {
            self.keys.insert(place, key);
            self.values.push(value);
            return None;
        }
        self.arrange();
        // Keys that ascend leave full leaves behind them.
        let middle = if place == KEYS_MAX { KEYS_MAX } else { KEYS_MAX / 2 };
        let mut right = Leaf { keys: self.keys.split_off(middle), values: self.values.split_off(middle) };
        let (half, place) = if place < middle { (&mut *self, place) } else { (&mut right, place - middle) };
        half.keys.insert(place, key);
        half.values.push(value);
        let separator = separator(self.keys.get(self.keys.len() - 1), right.keys.get(0));
        Some(Split { separator, right: Arc::new(Node::Leaf(right)) })
    }

    fn arrange(&mut self) {
        self.keys.arrange(|one, other| self.values.swap(one, other));
    }
}

impl<V> Branch<V> {
    /// The place of the child in which `key` belongs.
    pub(super) fn child_of(&self, key: &[u8]) -> usize {
        match self.keys.search(key) {
            Ok(place) => place + 1,
            Err(place) => place,
        }
    }

    /// Takes in the right half of the child at `place`.
    fn insert_behind(&mut self, place: usize, split: Split<V>) -> Option<Split<V>> {
        if self.keys.len() < KEYS_MAX {
            self.keys.insert(place, split.separator);
            self.children.insert(place + 1, split.right);
            return None;
        }
        self.keys.arrange(|_, _| {});
        // As above: the key in the middle goes up, and parts the two halves.
        let middle = if place == KEYS_MAX { KEYS_MAX - 1 } else { KEYS_MAX / 2 };
        let mut right = Branch { keys: self.keys.split_off(middle + 1), children: self.children.split_off(middle + 1) };
        let separator = self.keys.get(middle).clone();
        self.keys.remove(middle);
        let (half, place) = if place <= middle { (&mut *self, place) } else { (&mut right, place - middle - 1) };
        half.keys.insert(place, split.separator);
        half.children.insert(place + 1, split.right);
        Some(Split { separator, right: Arc::new(Node::Branch(right)) })
    }
}

impl<V: Clone> Branch<V> {
    /// Joins the child at `place` with the next one; if they are too many for one node, they share evenly.
    fn join(&mut self, place: usize) {
        let right = Arc::unwrap_or_clone(self.children.remove(place + 1));
        let parting = self.keys.get(place).clone();
        self.keys.remove(place);
        let left = Arc::make_mut(&mut self.children[place]);
        let split = match (left, right) {
            (Node::Leaf(left), Node::Leaf(right)) => left.take_in(right),
            (Node::Branch(left), Node::Branch(right)) => left.take_in(parting, right),
            _ => unreachable!("all children of a node are of one height"),
        };
        if let Some(Split { separator, right }) = split {
            self.keys.insert(place, separator);
            self.children.insert(place + 1, right);
        }
    }

    fn take_in(&mut self, parting: Bytes, mut right: Branch<V>) -> Option<Split<V>> {
        self.keys.arrange(|_, _| {});
        right.keys.arrange(|_, _| {});
        let mut keys = std::mem::replace(&mut self.keys, Keys::new(Vec::new())).into_vec();
        keys.push(parting);
        keys.extend(right.keys.into_vec());
        self.children.extend(right.children);
        let split = (keys.len() > KEYS_MAX).then(|| {
            let middle = keys.len() / 2;
            let right =
                Branch { keys: Keys::new(keys.split_off(middle + 1)), children: self.children.split_off(middle + 1) };
            let separator = keys.pop().expect("there are more than a node's keys, and half of them are left");
            Split { separator, right: Arc::new(Node::Branch(right)) }
        });
        self.keys = Keys::new(keys);
        split
    }
}

impl<V> Leaf<V> {
    fn take_in(&mut self, mut right: Leaf<V>) -> Option<Split<V>> {
        self.arrange();
        right.arrange();
        let mut keys = std::mem::replace(&mut self.keys, Keys::new(Vec::new())).into_vec();
        keys.extend(right.keys.into_vec());
        self.values.extend(right.values);
        let split = (keys.len() > KEYS_MAX).then(|| {
            let middle = keys.len() / 2;
            let separator = separator(&keys[middle - 1], &keys[middle]);
            let right = Leaf { keys: Keys::new(keys.split_off(middle)), values: self.values.split_off(middle) };
            Split { separator, right: Arc::new(Node::Leaf(right)) }
        });
        self.keys = Keys::new(keys);
        split
    }
}

/// The shortest key above `left` that is not above `right`, in memory of its own: it may outlive both, and must not
/// keep alive what they are slices of.
fn separator(left: &[u8], right: &[u8]) -> Bytes {
    Bytes::copy_from_slice(&right[..=common_bytes(left, right)])
}
