//! What the nodes say of themselves, and whether they hold the same state.

use std::time::{Duration, Instant};

use client_cli::{Client, Error, Options, StatusResponse};

use super::DemoError;
use super::operations::KEYS;

/// How long the nodes may take to agree on a leader, or to apply the same: many times what they need, because a machine
/// may be busy with other things.
const AGREE_MAX: Duration = Duration::from_secs(60);

/// How often they are asked.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// For how long the nodes must say the same before it is believed: longer than a status is old, which a node renews
/// several times a second.
const SETTLED_FOR: Duration = Duration::from_millis(400);

/// How long a node may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// How many hexadecimal digits of a state's hash are shown: two states that differ in none of them differ in nothing.
const HASH_DIGITS_SHOWN: usize = 16;

/// A node's state, as far as it must be equal everywhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct NodeState {
    /// The node's name.
    pub(super) name: String,
    /// The index of the last entry it applied.
    pub(super) applied_index: u64,
    /// The state's revision.
    pub(super) revision: u64,
    /// How many keys there are.
    pub(super) key_count: u64,
    /// The hash over all keys and values.
    pub(super) state_hash: Vec<u8>,
}

impl NodeState {
    fn of(status: &StatusResponse) -> Self {
        Self {
            name: status.name.clone(),
            applied_index: status.applied_index,
            revision: status.revision,
            key_count: status.key_count,
            state_hash: status.state_hash.clone().into(),
        }
    }

    /// The beginning of the hash, in hexadecimal.
    pub(super) fn hash_shown(&self) -> String {
        let digits: String = self.state_hash.iter().map(|byte| format!("{byte:02x}")).collect();
        digits.chars().take(HASH_DIGITS_SHOWN).collect()
    }

    /// Whether `other` is the same state, whatever the node's name.
    pub(super) fn equals(&self, other: &Self) -> bool {
        let Self { name: _, applied_index, revision, key_count, state_hash } = self;
        (*applied_index, *revision, *key_count) == (other.applied_index, other.revision, other.key_count)
            && *state_hash == other.state_hash
    }
}

/// A key as the whole cluster sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct KeyState {
    /// The key.
    pub(super) key: &'static str,
    /// Its value and the revision that wrote it; none if it does not exist.
    pub(super) value: Option<(String, u64)>,
}

/// Who leads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct LeaderSeen {
    /// The leader's name.
    pub(super) name: String,
    /// Its term.
    pub(super) term: u64,
    /// The last index of its log.
    pub(super) last_index: u64,
}

/// Asks the nodes of one cluster.
#[derive(Clone)]
pub(super) struct Asker {
    client: Client,
}

impl Asker {
    /// One for the nodes at `addresses`.
    pub(super) fn new(addresses: &[(String, String)]) -> Result<Self, DemoError> {
        let options = Options::new(addresses.iter().map(|(_, address)| address));
        let options = options.map_err(|error| DemoError::Client(error.to_string()))?;
        Ok(Self { client: Client::connect(options.timeout(AGREE_MAX)) })
    }

    async fn statuses(&self) -> Vec<Result<StatusResponse, Error>> {
        let answers = self.client.with_timeout(ANSWER_MAX).statuses().await;
        answers.into_iter().map(|(_, status)| status).collect()
    }

    /// The leader, once at least `needed` nodes are ready and agree on it; `alive` is asked in between.
    pub(super) async fn leader(
        &self,
        needed: usize,
        mut alive: impl FnMut() -> Result<(), DemoError>,
    ) -> Result<LeaderSeen, DemoError> {
        let until = Instant::now() + AGREE_MAX;
        loop {
            alive()?;
            let statuses = self.statuses().await;
            if let Some(leader) = agreed_leader(&statuses, needed) {
                return Ok(leader);
            }
            if Instant::now() >= until {
                return Err(DemoError::NoAgreement { what: "agree on a leader", reasons: reasons(&statuses) });
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// The states of all nodes, once they have applied the same index, no less than is committed anywhere, and have
    /// stayed there. Clients were told of `least_revision`, so what is older than that is not the last word.
    pub(super) async fn states(
        &self,
        least_revision: u64,
        mut alive: impl FnMut() -> Result<(), DemoError>,
    ) -> Result<Vec<NodeState>, DemoError> {
        let until = Instant::now() + AGREE_MAX;
        let mut before: Option<(Instant, Vec<NodeState>)> = None;
        loop {
            alive()?;
            let statuses = self.statuses().await;
            let settled =
                settled(&statuses).filter(|states| states.iter().all(|state| state.revision >= least_revision));
            before = match (before, settled) {
                (Some((since, states)), Some(now)) if states == now => {
                    if since.elapsed() >= SETTLED_FOR {
                        return Ok(now);
                    }
                    Some((since, states))
                }
                (_, Some(now)) => Some((Instant::now(), now)),
                (_, None) => None,
            };
            if Instant::now() >= until {
                return Err(DemoError::NoAgreement { what: "apply the same entries", reasons: reasons(&statuses) });
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// The demo's keys, each read linearizably.
    pub(super) async fn keys(&self) -> Result<Vec<KeyState>, DemoError> {
        let mut states = Vec::new();
        for key in KEYS {
            let value = match self.client.get(key).await {
                Ok(found) => {
                    let value = String::from_utf8_lossy(&found.key_value.value).into_owned();
                    Some((value, found.key_value.mod_revision))
                }
                Err(Error::KeyNotFound { .. }) => None,
                Err(error) => return Err(DemoError::Client(format!("get {key}: {error}"))),
            };
            states.push(KeyState { key, value });
        }
        Ok(states)
    }
}

/// The node that leads, if it and so many others that they are `needed` say so in one term, ready.
fn agreed_leader(statuses: &[Result<StatusResponse, Error>], needed: usize) -> Option<LeaderSeen> {
    let ready: Vec<&StatusResponse> = statuses.iter().flatten().filter(|status| status.ready).collect();
    let leader = ready.iter().filter(|status| status.leader_name == status.name).max_by_key(|status| status.term)?;
    let agreeing =
        ready.iter().filter(|status| (status.term, &status.leader_name) == (leader.term, &leader.name)).count();
    (agreeing >= needed).then(|| LeaderSeen {
        name: leader.name.clone(),
        term: leader.term,
        last_index: leader.last_index,
    })
}

/// The states, if every node answered and applied everything that any of them knows to be committed.
fn settled(statuses: &[Result<StatusResponse, Error>]) -> Option<Vec<NodeState>> {
    let answered: Vec<&StatusResponse> = statuses.iter().flatten().collect();
    let committed = answered.iter().map(|status| status.commit_index).max()?;
    let all = answered.len() == statuses.len() && answered.iter().all(|status| status.applied_index == committed);
    all.then(|| answered.into_iter().map(NodeState::of).collect())
}

/// Why each node is not where it should be.
fn reasons(statuses: &[Result<StatusResponse, Error>]) -> String {
    let reason = |status: &Result<StatusResponse, Error>| match status {
        Ok(status) => {
            let why = if status.ready { "ready" } else { &status.not_ready_reason };
            let StatusResponse { name, term, applied_index, commit_index, .. } = status;
            format!("  {name}: term {term}, applied {applied_index} of {commit_index}, {why}")
        }
        Err(error) => format!("  no answer: {error}"),
    };
    statuses.iter().map(reason).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(name: &str, leader: &str, term: u64, applied: u64) -> Result<StatusResponse, Error> {
        Ok(StatusResponse {
            name: name.to_owned(),
            leader_name: leader.to_owned(),
            term,
            ready: true,
            applied_index: applied,
            commit_index: applied,
            last_index: 9,
            state_hash: vec![0xab; 16].into(),
            ..StatusResponse::default()
        })
    }

    fn silent() -> Result<StatusResponse, Error> {
        let failure = client_cli::Failure { message: "nobody is there".to_owned(), attempts: Vec::new() };
        Err(Error::NotApplied(Box::new(failure)))
    }

    #[test]
    fn a_leader_is_agreed_on_when_enough_nodes_name_it_in_one_term() {
        let all = [status("n1", "n2", 1, 4), status("n2", "n2", 1, 4), status("n3", "n2", 1, 4)];
        assert_eq!(agreed_leader(&all, 3).map(|leader| leader.name).as_deref(), Some("n2"));
        let one_behind = [status("n1", "n2", 1, 4), status("n2", "n2", 2, 4), status("n3", "n2", 2, 4)];
        assert_eq!(agreed_leader(&one_behind, 3), None);
        assert_eq!(agreed_leader(&one_behind, 2).map(|leader| leader.term), Some(2));
        let one_gone = [silent(), status("n2", "n2", 2, 4), status("n3", "n2", 2, 4)];
        assert_eq!(agreed_leader(&one_gone, 3), None);
        assert!(agreed_leader(&one_gone, 2).is_some());
        let nobody_leads = [status("n1", "", 1, 4), status("n2", "n3", 1, 4), status("n3", "", 2, 4)];
        assert_eq!(agreed_leader(&nobody_leads, 1), None);
    }

    #[test]
    fn states_are_compared_when_all_nodes_have_applied_what_is_committed() {
        assert!(settled(&[status("n1", "n1", 1, 4), status("n2", "n1", 1, 4)]).is_some());
        assert!(settled(&[status("n1", "n1", 1, 4), status("n2", "n1", 1, 3)]).is_none());
        assert!(settled(&[status("n1", "n1", 1, 4), silent()]).is_none());
    }

    #[test]
    fn states_differ_in_anything_but_the_name() {
        let state = |name: &str| NodeState::of(&status(name, "n1", 1, 4).expect("it answered"));
        assert!(state("n1").equals(&state("n2")));
        assert_eq!(state("n1").hash_shown(), "abababababababab");
        let others = [
            NodeState { applied_index: 5, ..state("n2") },
            NodeState { revision: 5, ..state("n2") },
            NodeState { key_count: 5, ..state("n2") },
            NodeState { state_hash: vec![1], ..state("n2") },
        ];
        assert!(others.iter().all(|other| !state("n1").equals(other)));
    }

    #[test]
    fn every_node_says_why_it_is_not_there() {
        let waiting = StatusResponse {
            name: "n1".to_owned(),
            not_ready_reason: "it waits for n2".to_owned(),
            ..StatusResponse::default()
        };
        let text = reasons(&[Ok(waiting), status("n3", "", 1, 4), silent()]);
        assert_eq!(
            text,
            "  n1: term 0, applied 0 of 0, it waits for n2\n  n3: term 1, applied 4 of 4, ready\n  no answer: nobody is there"
        );
    }
}
