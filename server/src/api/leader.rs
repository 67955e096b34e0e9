//! Who leads, as responses say it: a client that reads it can go to the leader directly the next time.

use std::sync::{PoisonError, RwLock};

use tokio::sync::watch;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};

use crate::node::{Leader, NodeStatus};

/// The metadata entry with the leader's name.
pub(super) const LEADER_NAME: &str = "quorate-leader-name";

/// The metadata entry with the address at which clients reach the leader.
pub(super) const LEADER_ADDRESS: &str = "quorate-leader-address";

/// Writes the leader into response metadata. The entries are kept ready: each response carries them, and the leader
/// seldom changes.
#[derive(Debug)]
pub(super) struct LeaderHint {
    status: watch::Receiver<NodeStatus>,
    ready: RwLock<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    leader: Option<Leader>,
    name: Option<MetadataValue<Ascii>>,
    address: Option<MetadataValue<Ascii>>,
}

impl LeaderHint {
    pub(super) fn new(status: watch::Receiver<NodeStatus>) -> Self {
        Self { status, ready: RwLock::default() }
    }

    /// The leader, if it is another node than this.
    pub(super) fn elsewhere(&self) -> Option<Leader> {
        self.status.borrow().leader.as_ref().filter(|leader| !leader.is_self).cloned()
    }

    /// Adds the entries to `metadata`, unless whoever answered named the leader already.
    pub(super) fn add_to(&self, metadata: &mut MetadataMap) {
        if metadata.contains_key(LEADER_NAME) {
            return;
        }
        let status = self.status.borrow();
        {
            let ready = self.ready.read().unwrap_or_else(PoisonError::into_inner);
            if ready.leader == status.leader {
                return ready.add_to(metadata);
            }
        }
        let entries = Entries::of(status.leader.as_ref());
        drop(status);
        entries.add_to(metadata);
        *self.ready.write().unwrap_or_else(PoisonError::into_inner) = entries;
    }
}

impl Entries {
    fn of(leader: Option<&Leader>) -> Self {
        // A name or address that metadata cannot carry is left out: it is only a hint.
        let value = |text: &str| MetadataValue::try_from(text).ok();
        Self {
            leader: leader.cloned(),
            name: leader.and_then(|leader| value(&leader.name)),
            address: leader.and_then(|leader| leader.client_address.as_deref()).and_then(value),
        }
    }

    fn add_to(&self, metadata: &mut MetadataMap) {
        if let Some(name) = &self.name {
            metadata.insert(LEADER_NAME, name.clone());
        }
        if let Some(address) = &self.address {
            metadata.insert(LEADER_ADDRESS, address.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(leader: Option<(&str, Option<&str>)>) -> NodeStatus {
        let leader = leader.map(|(name, address)| Leader {
            name: name.to_owned(),
            client_address: address.map(str::to_owned),
            is_self: false,
        });
        NodeStatus { leader, ..NodeStatus::default() }
    }

    fn hint(leader: &LeaderHint) -> (Option<String>, Option<String>) {
        let mut metadata = MetadataMap::new();
        leader.add_to(&mut metadata);
        let text = |key| metadata.get(key).map(|value| value.to_str().expect("ASCII").to_owned());
        (text(LEADER_NAME), text(LEADER_ADDRESS))
    }

    #[test]
    fn the_hint_follows_the_leader() {
        let (sender, receiver) = watch::channel(status(None));
        let leader = LeaderHint::new(receiver);
        assert_eq!(hint(&leader), (None, None));
        for _ in 0..2 {
            sender.send_replace(status(Some(("n1", None))));
            assert_eq!(hint(&leader), (Some("n1".to_owned()), None));
            sender.send_replace(status(Some(("n2", Some("h:1")))));
            assert_eq!(hint(&leader), (Some("n2".to_owned()), Some("h:1".to_owned())));
        }
        sender.send_replace(status(None));
        assert_eq!(hint(&leader), (None, None));
    }

    #[test]
    fn a_hint_that_metadata_cannot_carry_is_left_out() {
        let (_sender, receiver) = watch::channel(status(Some(("n\u{1}", Some("h\n")))));
        assert_eq!(hint(&LeaderHint::new(receiver)), (None, None));
    }

    #[test]
    fn what_the_leader_said_itself_stays() {
        let (_sender, receiver) = watch::channel(status(Some(("n1", Some("h:1")))));
        let mut metadata = MetadataMap::new();
        metadata.insert(LEADER_NAME, MetadataValue::from_static("n2"));
        LeaderHint::new(receiver).add_to(&mut metadata);
        assert_eq!(metadata.get(LEADER_NAME).map(|name| name.as_bytes()), Some(&b"n2"[..]));
        assert!(!metadata.contains_key(LEADER_ADDRESS));
    }
}
