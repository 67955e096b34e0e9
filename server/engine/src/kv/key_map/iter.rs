//! The keys of a map in their order.

use bytes::Bytes;

use super::node::{Branch, Leaf, Node};

/// Ascending keys, with what is kept for them.
pub(in super::super) struct Iter<'a, V> {
    /// The branches above the leaf, and in each the place of the child that comes next.
    branches: Vec<(&'a Branch<V>, usize)>,
    leaf: &'a Leaf<V>,
    /// The place in the leaf that comes next.
    place: usize,
}

impl<'a, V> Iter<'a, V> {
    /// From the first key under `root` on.
    pub(super) fn from_first(root: &'a Node<V>) -> Iter<'a, V> {
        let mut branches = Vec::new();
        let leaf = descend(root, &mut branches, |_| 0);
        Iter { branches, leaf, place: 0 }
    }

    /// From the first key above `after` on.
    pub(super) fn after(root: &'a Node<V>, after: &[u8]) -> Iter<'a, V> {
        let mut branches = Vec::new();
        let leaf = descend(root, &mut branches, |branch| branch.child_of(after));
        let place = leaf.keys.search(after).map_or_else(|place| place, |place| place + 1);
        Iter { branches, leaf, place }
    }
}

/// The leaf under `node` to which `choose` leads. The branches on the way are put behind those in `branches`.
fn descend<'a, V>(
    mut node: &'a Node<V>,
    branches: &mut Vec<(&'a Branch<V>, usize)>,
    choose: impl Fn(&Branch<V>) -> usize,
) -> &'a Leaf<V> {
    loop {
        match node {
            Node::Leaf(leaf) => return leaf,
            Node::Branch(branch) => {
                let place = choose(branch);
                branches.push((branch, place + 1));
                node = &branch.children[place];
            }
        }
    }
}

impl<'a, V> Iterator for Iter<'a, V> {
    type Item = (&'a Bytes, &'a V);

    fn next(&mut self) -> Option<(&'a Bytes, &'a V)> {
        while self.place == self.leaf.values.len() {
            let (branch, next) = self.branches.last_mut()?;
            match branch.children.get(*next) {
                Some(child) => {
                    *next += 1;
                    self.leaf = descend(child, &mut self.branches, |_| 0);
                    self.place = 0;
                }
                None => drop(self.branches.pop()),
            }
        }
        let place = self.place;
        self.place += 1;
        Some(self.leaf.get(place))
    }
}
