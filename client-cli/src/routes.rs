//! What a client remembers of its endpoints between requests: connections, the leader, and who answered lately.

use crate::{Endpoint, client::Leader};
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tonic::transport::Channel;

/// How long an answer proves that a connection carries requests: longer than the pauses of a busy client, so that it
/// never asks, and shorter than the time in which a person writes two commands.
const PROVEN_FOR: Duration = Duration::from_secs(5);

/// How long an endpoint that gave no answer, or reaches no leader, is tried after the others.
const SHUNNED_FOR: Duration = Duration::from_secs(5);

/// How many endpoints outside of the configuration are remembered for having failed: more than any cluster has nodes.
const STRANGERS_MAX: usize = 16;

/// Pings on a connection with calls in flight, so that one whose peer vanished is closed. gRPC's servers of other makes
/// refuse more frequent ones.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// The endpoints of one client, shared by its clones.
#[derive(Debug)]
pub(crate) struct Routes {
    configured: Vec<Endpoint>,
    connect_timeout: Duration,
    state: Mutex<State>,
}

/// Bounded: the configured endpoints, the leader's, and [`STRANGERS_MAX`] more.
#[derive(Debug, Default)]
struct State {
    leader: Option<Leader>,
    nodes: HashMap<Endpoint, Node>,
}

#[derive(Debug, Default)]
struct Node {
    channel: Option<Channel>,
    answered: Option<Instant>,
    failed: Option<Instant>,
}

impl Routes {
    pub(crate) fn new(configured: Vec<Endpoint>, connect_timeout: Duration) -> Routes {
        Routes { configured, connect_timeout, state: Mutex::default() }
    }

    pub(crate) fn configured(&self) -> &[Endpoint] {
        &self.configured
    }

    /// The connection to `endpoint`, which is opened by its first call. To be called within a tokio runtime.
    pub(crate) fn channel(&self, endpoint: &Endpoint) -> Channel {
        let mut state = self.state();
        let node = state.nodes.entry(endpoint.clone()).or_default();
        let channel = node.channel.get_or_insert_with(|| {
            tonic::transport::Endpoint::from_shared(format!("http://{endpoint}"))
                .expect("an Endpoint is checked when it is made")
                .connect_timeout(self.connect_timeout)
                .tcp_nodelay(true)
                .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
                .keep_alive_timeout(KEEPALIVE_TIMEOUT)
                .connect_lazy()
        });
        channel.clone()
    }

    /// `endpoint` answered something, be it an error.
    pub(crate) fn answered(&self, endpoint: &Endpoint) {
        if let Some(node) = self.state().nodes.get_mut(endpoint) {
            node.answered = Some(Instant::now());
            node.failed = None;
        }
    }

    /// `endpoint` gave no answer: its connection is dropped, and if it was thought to lead, that is forgotten.
    pub(crate) fn failed(&self, endpoint: &Endpoint) {
        let mut state = self.state();
        state.nodes.insert(endpoint.clone(), Node { failed: Some(Instant::now()), ..Node::default() });
        forget_leader(&mut state, endpoint);
        self.forget_strangers(&mut state);
    }

    /// `endpoint` answered, but reaches no leader: for a while it is tried after the others.
    pub(crate) fn cut_off(&self, endpoint: &Endpoint) {
        let mut state = self.state();
        if let Some(node) = state.nodes.get_mut(endpoint) {
            node.failed = Some(Instant::now());
        }
        forget_leader(&mut state, endpoint);
    }

    /// Whether `endpoint` answered within the last [`PROVEN_FOR`], on the connection that would be used now.
    pub(crate) fn is_proven(&self, endpoint: &Endpoint) -> bool {
        self.state().nodes.get(endpoint).and_then(|node| node.answered).is_some_and(|at| at.elapsed() < PROVEN_FOR)
    }

    /// Whether `endpoint` gave no answer, or reached no leader, within the last [`SHUNNED_FOR`].
    pub(crate) fn is_shunned(&self, endpoint: &Endpoint) -> bool {
        self.state().nodes.get(endpoint).is_some_and(Node::is_shunned)
    }

    /// The node that led when it was last heard of.
    pub(crate) fn leader(&self) -> Option<Leader> {
        self.state().leader.clone()
    }

    /// A node said who leads. A leader that gave no answer lately is not believed in: the node that named it may not
    /// have noticed yet.
    pub(crate) fn learn(&self, leader: Leader) {
        let mut state = self.state();
        if state.nodes.get(&leader.endpoint).is_some_and(|node| node.is_shunned() && node.answered.is_none()) {
            return;
        }
        if state.leader.as_ref() != Some(&leader) {
            tracing::debug!("{} at {} leads", leader.name, leader.endpoint);
            state.leader = Some(leader);
            self.forget_strangers(&mut state);
        }
    }

    /// Keeps [`State`] bounded, whatever addresses a server names.
    fn forget_strangers(&self, state: &mut State) {
        let leader = state.leader.as_ref().map(|leader| leader.endpoint.clone());
        let mut strangers = 0;
        state.nodes.retain(|endpoint, node| {
            if self.configured.contains(endpoint) || leader.as_ref() == Some(endpoint) {
                return true;
            }
            strangers += 1;
            node.is_shunned() && strangers <= STRANGERS_MAX
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock, and every single change leaves a usable state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn forget_leader(state: &mut State, endpoint: &Endpoint) {
    if state.leader.as_ref().is_some_and(|leader| leader.endpoint == *endpoint) {
        state.leader = None;
    }
}

impl Node {
    fn is_shunned(&self) -> bool {
        self.failed.is_some_and(|at| at.elapsed() < SHUNNED_FOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(port: u16) -> Endpoint {
        format!("127.0.0.1:{port}").parse().expect("it is well formed")
    }

    fn leader(port: u16) -> Leader {
        Leader { name: format!("n{port}"), endpoint: endpoint(port) }
    }

    fn routes() -> Routes {
        Routes::new(vec![endpoint(1), endpoint(2)], Duration::from_secs(1))
    }

    #[tokio::test]
    async fn a_leader_is_remembered_until_it_gives_no_answer() {
        let routes = routes();
        routes.learn(leader(2));
        assert_eq!(routes.leader(), Some(leader(2)));
        routes.failed(&endpoint(1));
        assert_eq!(routes.leader(), Some(leader(2)));
        routes.failed(&endpoint(2));
        assert_eq!(routes.leader(), None);
        routes.learn(leader(2));
        assert_eq!(routes.leader(), None, "a stale hint to a dead node is not believed");
    }

    #[tokio::test]
    async fn only_an_answer_on_the_present_connection_proves_it() {
        let routes = routes();
        drop(routes.channel(&endpoint(1)));
        assert!(!routes.is_proven(&endpoint(1)));
        routes.answered(&endpoint(1));
        assert!(routes.is_proven(&endpoint(1)));
        routes.failed(&endpoint(1));
        assert!(!routes.is_proven(&endpoint(1)));
    }

    #[tokio::test]
    async fn a_node_that_reached_no_leader_may_become_one() {
        let routes = routes();
        drop(routes.channel(&endpoint(2)));
        routes.answered(&endpoint(2));
        routes.learn(leader(2));
        routes.cut_off(&endpoint(2));
        assert_eq!((routes.leader(), routes.is_shunned(&endpoint(2))), (None, true));
        routes.learn(leader(2));
        assert_eq!(routes.leader(), Some(leader(2)));
    }

    #[tokio::test]
    async fn leaders_outside_of_the_configuration_do_not_pile_up() {
        let routes = routes();
        for port in 100..200 {
            routes.learn(leader(port));
            drop(routes.channel(&endpoint(port)));
        }
        assert!(routes.state().nodes.len() <= 2, "{}", routes.state().nodes.len());
        for port in 100..200 {
            routes.failed(&endpoint(port));
        }
        assert!(routes.state().nodes.len() <= 2 + STRANGERS_MAX, "{}", routes.state().nodes.len());
    }
}
