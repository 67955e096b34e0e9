//! The map against the standard library's, with clones that have to stay as they were, and its shape.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::keys::KEYS_MAX;
use super::node::Node;
use super::*;

impl<V: Clone> Extend<(Bytes, V)> for KeyMap<V> {
    fn extend<I: IntoIterator<Item = (Bytes, V)>>(&mut self, entries: I) {
        for (key, value) in entries {
            self.insert(key, value);
        }
    }
}

/// Asserts what the tree relies on. Returns its height, and how many keys it holds.
fn check<V>(node: &Node<V>, above: Option<&[u8]>, below: Option<&[u8]>) -> (usize, usize) {
    let (keys, is_leaf) = match node {
        Node::Leaf(leaf) => (&leaf.keys, true),
        Node::Branch(branch) => (&branch.keys, false),
    };
    keys.check();
    for place in 0..keys.len() {
        let key = &keys.get(place)[..];
        let is_above = above.is_none_or(|above| if is_leaf { key >= above } else { key > above });
        assert!(is_above && below.is_none_or(|below| key < below), "{key:?} is not between {above:?} and {below:?}");
    }
    match node {
        Node::Leaf(leaf) => {
            assert_eq!(leaf.values.len(), leaf.keys.len());
            (0, leaf.values.len())
        }
        Node::Branch(branch) => {
            assert_eq!(branch.children.len(), branch.keys.len() + 1);
            let bound = |place: usize| (place < branch.keys.len()).then(|| &branch.keys.get(place)[..]);
            let shapes = branch.children.iter().enumerate().map(|(place, child)| {
                check(child, place.checked_sub(1).and_then(bound).or(above), bound(place).or(below))
            });
            let shapes: Vec<(usize, usize)> = shapes.collect();
            assert!(shapes.iter().all(|(height, count)| *height == shapes[0].0 && *count > 0), "{shapes:?}");
            (shapes[0].0 + 1, shapes.iter().map(|(_, count)| count).sum())
        }
    }
}

fn assert_equal(map: &KeyMap<u64>, model: &BTreeMap<Bytes, u64>) {
    assert_eq!(check(&map.root, None, None).1, model.len());
    assert_eq!(map.len(), model.len());
    assert!(map.iter().eq(model.iter()), "{map:?} is not {model:?}");
    for (key, value) in model {
        assert_eq!(map.get_key_value(key), Some((key, value)));
    }
}

fn number_key(number: u64) -> Bytes {
    Bytes::from(format!("a prefix that is longer than what a node keeps of it/{number:012}"))
}

/// Keys that begin alike, end with zeros, contain one another, or have nothing in common; few enough to come again.
fn any_key() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        (0..400_u64).prop_map(number_key),
        (0..400_u64).prop_map(|number| Bytes::from(format!("key{number}"))),
        vec(0..3_u8, 0..12).prop_map(Bytes::from),
        vec(prop_oneof![Just(0_u8), Just(255)], 0..10).prop_map(Bytes::from),
        (0..60_usize).prop_map(|length| Bytes::from(vec![b'x'; length])),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Insert(Bytes),
    Remove(Bytes),
    /// Removes all keys between two.
    Clear(Bytes, Bytes),
    Clone,
    IterAfter(Bytes),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        40 => any_key().prop_map(Step::Insert),
        20 => any_key().prop_map(Step::Remove),
        1 => (any_key(), any_key()).prop_map(|(one, other)| Step::Clear(one.clone().min(other.clone()), one.max(other))),
        2 => Just(Step::Clone),
        4 => any_key().prop_map(Step::IterAfter),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_is_the_map_of_the_standard_library(steps in vec(any_step(), 0..1_500)) {
        let (mut map, mut model) = (KeyMap::new(), BTreeMap::new());
        let mut clones = Vec::new();
        for (number, step) in (0..).zip(steps) {
            match step {
                Step::Insert(key) => assert_eq!(map.insert(key.clone(), number), model.insert(key, number)),
                Step::Remove(key) => assert_eq!(map.remove(&key), model.remove(&key)),
                Step::Clear(from, to) => {
                    let keys: Vec<Bytes> = model.range(from..to).map(|(key, _)| key.clone()).collect();
                    for key in keys {
                        assert_eq!(map.remove(&key), model.remove(&key));
                    }
                    check(&map.root, None, None);
                }
                Step::Clone => clones.push((map.clone(), model.clone())),
                Step::IterAfter(key) => {
                    let above = (std::ops::Bound::Excluded(key.clone()), std::ops::Bound::Unbounded);
                    assert!(map.iter_after(&key).eq(model.range(above)));
                    assert_eq!(map.get(&key), model.get(&key));
                }
            }
        }
        assert_equal(&map, &model);
        for (map, model) in &clones {
            assert_equal(map, model);
        }
    }
}

#[test]
fn many_keys_in_any_order_and_none_in_the_end() {
    const COUNT: u64 = 20_000;
    // A number that shares no factor with the count brings each key once.
    for stride in [1, COUNT - 1, 7_919] {
        let (mut map, mut model) = (KeyMap::new(), BTreeMap::new());
        for number in (0..COUNT).map(|step| step * stride % COUNT) {
            map.insert(number_key(number), number);
            model.insert(number_key(number), number);
        }
        assert_equal(&map, &model);
        for number in (0..COUNT).map(|step| step * 7_919 % COUNT) {
            assert_eq!(map.remove(&number_key(number)), model.remove(&number_key(number)));
        }
        assert_equal(&map, &model);
        assert!(matches!(&*map.root, Node::Leaf(_)), "branches are left of an empty map");
    }
}

#[test]
fn ascending_keys_fill_their_leaves() {
    let mut map = KeyMap::new();
    map.extend((0..10_000).map(|number| (number_key(number), number)));
    fn leaves(node: &Node<u64>) -> usize {
        match node {
            Node::Leaf(_) => 1,
            Node::Branch(branch) => branch.children.iter().map(|child| leaves(child)).sum(),
        }
    }
    assert_eq!(leaves(&map.root), 10_000_usize.div_ceil(KEYS_MAX));
}

#[test]
fn a_write_copies_the_nodes_on_its_way_and_no_others() {
    let mut map = KeyMap::new();
    map.extend((0..10_000).map(|number| (number_key(number), number)));
    let clone = map.clone();
    map.insert(number_key(5_000), 0);
    let (Node::Branch(one), Node::Branch(other)) = (&*map.root, &*clone.root) else { panic!("it has branches") };
    let copied = one.children.iter().zip(&other.children).filter(|(one, other)| !Arc::ptr_eq(one, other)).count();
    assert_eq!(copied, 1);
}

#[test]
fn a_key_that_is_put_again_takes_the_place_of_the_first() {
    let mut map = KeyMap::new();
    let (first, second) = (Bytes::from(b"key".to_vec()), Bytes::from(b"key".to_vec()));
    map.insert(first, 1);
    map.insert(second.clone(), 2);
    let (kept, _) = map.get_key_value(b"key").expect("it was put");
    assert_eq!(kept.as_ptr(), second.as_ptr(), "the first one keeps the memory of its command alive");
}

#[test]
fn what_was_removed_or_put_anew_is_let_go_of() {
    let command = |number: u64| Bytes::from([&number_key(number)[..], &[7; 1_000]].concat());
    let key_bytes = number_key(0).len();
    let commands: Vec<Bytes> = (0..2_000).map(command).collect();
    let mut map = KeyMap::new();
    map.extend(commands.iter().map(|command| (command.slice(..key_bytes), command.clone())));
    assert!(commands.iter().all(|command| !command.is_unique()));
    for number in 0..2_000 {
        if number % 2 == 0 {
            map.remove(&number_key(number));
        } else {
            map.insert(number_key(number), Bytes::new());
        }
    }
    let kept = commands.iter().filter(|command| !command.is_unique()).count();
    assert_eq!(kept, 0, "a small key keeps the memory of a large value alive");
}
