//! The ordered map from keys to what is kept for them: a B+ tree that is copied where it is written.
//!
//! A clone shares all of the tree, and costs nothing that depends on its size; a write to either copies the nodes on
//! its way that are shared, one a level. So a snapshot is a clone, and the state goes on meanwhile.
//!
//! What a search costs is the memory that it waits for, so a node is made to be searched without looking at its keys,
//! which lie elsewhere: see [`keys`]. Nodes are filled from left to right when keys come in ascending order, as those
//! of a snapshot do that is being loaded.

mod iter;
mod keys;
mod node;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;

pub(super) use iter::Iter;
use keys::Keys;
use node::{Branch, Node, Split};

/// The map. Two of equal content may differ in the shape of their trees.
#[derive(Clone, Debug)]
pub(super) struct KeyMap<V> {
    root: Arc<Node<V>>,
    len: usize,
}

impl<V> KeyMap<V> {
    /// The empty map.
    pub(super) fn new() -> KeyMap<V> {
        KeyMap { root: Arc::new(Node::empty()), len: 0 }
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// What is kept for `key`.
    pub(super) fn get(&self, key: &[u8]) -> Option<&V> {
        self.get_key_value(key).map(|(_, value)| value)
    }

    /// The same, with the key as it was put.
    pub(super) fn get_key_value(&self, key: &[u8]) -> Option<(&Bytes, &V)> {
        let leaf = self.root.leaf_of(key);
        leaf.keys.search(key).ok().map(|place| leaf.get(place))
    }

    /// All keys in ascending order, with what is kept for them.
    pub(super) fn iter(&self) -> Iter<'_, V> {
        Iter::from_first(&self.root)
    }

    /// The same, from the first key above `after` on.
    pub(super) fn iter_after(&self, after: &[u8]) -> Iter<'_, V> {
        Iter::after(&self.root, after)
    }
}

impl<V: Clone> KeyMap<V> {
    /// Keeps `value` for `key`, and this `key` in place of an equal one. Returns what was kept before.
    pub(super) fn insert(&mut self, key: Bytes, value: V) -> Option<V> {
        let (before, split) = Arc::make_mut(&mut self.root).insert(key, value);
        if let Some(Split { separator, right }) = split {
            let left = std::mem::replace(&mut self.root, Arc::new(Node::empty()));
            let root = Branch { keys: Keys::new(vec![separator]), children: vec![left, right] };
            self.root = Arc::new(Node::Branch(root));
        }
        self.len += usize::from(before.is_none());
        before
    }

    /// Keeps nothing for `key` any more. Returns what was kept.
    pub(super) fn remove(&mut self, key: &[u8]) -> Option<V> {
        self.root.leaf_of(key).keys.search(key).ok()?;
        let removed = Arc::make_mut(&mut self.root).remove(key)?;
        self.len -= 1;
        if let Node::Branch(Branch { children, .. }) = &*self.root
            && let [only] = &children[..]
        {
            self.root = Arc::clone(only);
        }
        Some(removed)
    }
}
