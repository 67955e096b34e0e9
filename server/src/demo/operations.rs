//! What the clients of a demo send: random operations that a seed determines.

use std::fmt;

/// The keys that the clients quarrel over. Few, so that they meet.
pub(super) const KEYS: [&str; 5] = ["a", "b", "c", "d", "e"];

/// How many different values there are: `val_0` and up.
const VALUES: u64 = 100;

/// What a client asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Action {
    /// Create a key.
    Put {
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
    },
    /// Read a key.
    Get {
        /// The key.
        key: &'static str,
    },
    /// Remove a key.
    Delete {
        /// The key.
        key: &'static str,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put { key, value } => write!(f, "put {key} = {value}"),
            Self::Get { key } => write!(f, "get {key}"),
            Self::Delete { key } => write!(f, "delete {key}"),
        }
    }
}

/// One operation of a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Operation {
    /// What is asked for.
    pub(super) action: Action,
    /// The number of the node that is asked, from 0.
    pub(super) node: usize,
    /// How long the client thinks before it asks, as parts of 256 of the longest pause.
    pub(super) pause: u8,
}

/// The operations of one client. Each client has its own, whatever the others do, so that the same seed gives the same
/// operations in every run.
#[must_use]
pub(super) fn of_client(seed: u64, client: usize, operations: usize, nodes: usize) -> Vec<Operation> {
    let mut random = Random(seed ^ Random(client as u64).next());
    let mut operation = |_| {
        let key = KEYS[random.below(KEYS.len())];
        // Half of them puts: with fewer, most gets and deletes would find nothing.
        let action = match random.below(4) {
            0 | 1 => Action::Put { key, value: format!("val_{}", random.next() % VALUES) },
            2 => Action::Get { key },
            _ => Action::Delete { key },
        };
        Operation { action, node: random.below(nodes), pause: random.next().to_be_bytes()[0] }
    };
    (0..operations).map(&mut operation).collect()
}

/// SplitMix64. A generator of our own, because the seed that a run printed must mean the same after an update of a
/// library.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is small, so that the bias of the remainder does not matter.
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("below a usize")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn texts(seed: u64, client: usize, operations: usize) -> Vec<String> {
        of_client(seed, client, operations, 3).iter().map(|it| format!("{} at {}", it.action, it.node)).collect()
    }

    #[test]
    fn a_seed_means_the_same_operations_for_ever() {
        assert_eq!(texts(1, 0, 4), texts(1, 0, 4));
        assert_eq!(texts(1, 0, 4), ["put a = val_98 at 0", "delete e at 0", "put a = val_93 at 0", "get b at 0"]);
    }

    #[test]
    fn clients_and_seeds_differ_and_longer_runs_begin_alike() {
        assert_ne!(texts(1, 0, 5), texts(1, 1, 5));
        assert_ne!(texts(1, 0, 5), texts(2, 0, 5));
        assert_eq!(texts(1, 0, 9)[..5], texts(1, 0, 5));
    }

    #[test]
    fn everything_that_can_be_chosen_is_chosen() {
        let operations = of_client(7, 0, 20_000, 3);
        let of = |text: fn(&Operation) -> String| operations.iter().map(text).collect::<BTreeSet<_>>();
        assert_eq!(of(|it| it.node.to_string()).len(), 3);
        let actions = of(|it| it.action.to_string());
        assert_eq!(actions.len(), KEYS.len() * 2 + KEYS.len() * 100);
        assert!(actions.contains("get e") && actions.contains("delete a"));
        assert!(actions.contains("put a = val_0") && actions.contains("put e = val_99"));
    }
}
