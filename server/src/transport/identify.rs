//! Who is who: what a node says of itself, and what it hears of the others.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use engine::identity::{Cluster, Identity, Member, NAME_BYTES_MAX};
use proto::raft::v1 as wire;
use proto::raft::v1::raft_service_client::RaftServiceClient;
use raft::NodeId;
use tonic::transport::Channel;

use super::connect::connect;
use crate::causes::chain;

/// Longer than any host name with a port; what is longer is not remembered.
const ADDRESS_BYTES_MAX: usize = 300;

/// A cluster of more members is nonsense, and its names would fill the log.
const MEMBERS_PLAUSIBLE: usize = 64;

/// A peer that does not answer for so long is asked again.
const IDENTIFY_TIMEOUT: Duration = Duration::from_millis(1_000);

/// What a node says of itself when it meets another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Introduction {
    /// Its name, incarnation and cluster.
    pub identity: Identity,
    /// Where clients reach it.
    pub client_address: String,
}

/// What this node says of itself, and what others told it: shared between the bootstrap, the service and the peers.
#[derive(Clone, Debug)]
pub struct Board {
    inner: Arc<RwLock<Notes>>,
}

#[derive(Debug)]
struct Notes {
    own: Introduction,
    client_addresses: BTreeMap<String, String>,
}

impl Board {
    /// A board that says this of us.
    #[must_use]
    pub fn new(own: Introduction) -> Self {
        Self { inner: Arc::new(RwLock::new(Notes { own, client_addresses: BTreeMap::new() })) }
    }

    /// What we say of ourselves.
    #[must_use]
    pub fn own(&self) -> Introduction {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).own.clone()
    }

    /// Says something new of ourselves.
    pub fn set_identity(&self, identity: Identity) {
        self.inner.write().unwrap_or_else(PoisonError::into_inner).own.identity = identity;
    }

    /// Where clients reach the node of this name, as it told; our own address included.
    #[must_use]
    pub fn client_address(&self, name: &str) -> Option<String> {
        let notes = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        if notes.own.identity.member.name == name {
            return Some(notes.own.client_address.clone());
        }
        notes.client_addresses.get(name).cloned()
    }

    /// Remembers where clients reach a peer. Only the names that the caller knows as members come here, so that
    /// strangers cannot fill the board.
    pub(super) fn remember(&self, introduction: &Introduction) {
        let name = introduction.identity.member.name.clone();
        let address = introduction.client_address.clone();
        self.inner.write().unwrap_or_else(PoisonError::into_inner).client_addresses.insert(name, address);
    }
}

/// Asks the node at `address` who it is.
///
/// # Errors
///
/// Says in words what failed: no connection, no answer, or one that makes no sense.
pub async fn ask_who(address: &str, own: &Introduction) -> Result<Introduction, String> {
    let channel = connect(address).await.map_err(|error| chain(&error))?;
    ask_who_on(channel, own).await
}

/// The same, on a connection that is there already.
pub(super) async fn ask_who_on(channel: Channel, own: &Introduction) -> Result<Introduction, String> {
    let mut request = tonic::Request::new(wire::IdentifyRequest {
        member: Some(member_to_wire(&own.identity.member)),
        cluster: own.identity.cluster.as_ref().map(cluster_to_wire),
        client_address: own.client_address.clone(),
    });
    request.set_timeout(IDENTIFY_TIMEOUT);
    let answer = tokio::time::timeout(IDENTIFY_TIMEOUT, RaftServiceClient::new(channel).identify(request))
        .await
        .map_err(|_| "no answer in time".to_owned())?
        .map_err(|status| format!("{:?}: {}", status.code(), status.message()))?
        .into_inner();
    introduction(answer.member, answer.cluster, answer.client_address)
        .ok_or_else(|| "the answer makes no sense".to_owned())
}

/// What a peer said of itself; none if it makes no sense.
pub(super) fn introduction(
    member: Option<wire::Member>,
    cluster: Option<wire::Cluster>,
    client_address: String,
) -> Option<Introduction> {
    if client_address.len() > ADDRESS_BYTES_MAX || !client_address.is_ascii() {
        return None;
    }
    let member = member_from_wire(member?)?;
    let cluster = match cluster {
        None => None,
        Some(cluster) => Some(cluster_from_wire(cluster)?),
    };
    Some(Introduction { identity: Identity { member, cluster }, client_address })
}

/// What we answer to a peer that asks.
pub(super) fn answer(own: &Introduction) -> wire::IdentifyResponse {
    wire::IdentifyResponse {
        member: Some(member_to_wire(&own.identity.member)),
        cluster: own.identity.cluster.as_ref().map(cluster_to_wire),
        client_address: own.client_address.clone(),
    }
}

fn member_to_wire(member: &Member) -> wire::Member {
    wire::Member { name: member.name.clone(), incarnation: member.incarnation.get() }
}

fn member_from_wire(member: wire::Member) -> Option<Member> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let named = !member.name.is_empty() && member.name.len() <= NAME_BYTES_MAX && member.name.chars().all(plain);
    named.then_some(())?;
    Some(Member { incarnation: NodeId::new(member.incarnation)?, name: member.name })
}

fn cluster_to_wire(cluster: &Cluster) -> wire::Cluster {
    wire::Cluster {
        cluster_id: cluster.id().to_vec().into(),
        members: cluster.members().iter().map(member_to_wire).collect(),
    }
}

fn cluster_from_wire(cluster: wire::Cluster) -> Option<Cluster> {
    if cluster.members.len() > MEMBERS_PLAUSIBLE {
        return None;
    }
    let members = cluster.members.into_iter().map(member_from_wire).collect::<Option<Vec<_>>>()?;
    // The id follows from the members: one that does not was damaged, or made by a version that is not ours.
    let known = Cluster::new(members);
    (known.is_sound() && known.id().as_slice() == cluster.cluster_id.as_ref()).then_some(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, incarnation: u64) -> wire::Member {
        wire::Member { name: name.to_owned(), incarnation }
    }

    #[test]
    fn an_introduction_that_makes_no_sense_is_none() {
        let address = || "127.0.0.1:7001".to_owned();
        assert!(introduction(Some(member("n1", 1)), None, address()).is_some());
        assert_eq!(introduction(None, None, address()), None);
        assert_eq!(introduction(Some(member("n1", 0)), None, address()), None);
        for name in ["", "n 1", "n\n1", &"n".repeat(NAME_BYTES_MAX + 1)] {
            assert_eq!(introduction(Some(member(name, 1)), None, address()), None, "{name:?}");
        }
        assert_eq!(introduction(Some(member("n1", 1)), None, "a".repeat(ADDRESS_BYTES_MAX + 1)), None);
        let foreign = wire::Cluster { cluster_id: vec![0; 16].into(), members: vec![member("n1", 1)] };
        assert_eq!(introduction(Some(member("n1", 1)), Some(foreign), address()), None);
    }

    #[test]
    fn a_cluster_survives_the_wire() {
        let members = [("n1", 1), ("n2", 2)].map(|(name, id)| member_from_wire(member(name, id)).expect("well-formed"));
        let cluster = Cluster::new(members.to_vec());
        assert_eq!(cluster_from_wire(cluster_to_wire(&cluster)), Some(cluster));
    }
}
