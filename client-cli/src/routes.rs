//! What a client remembers of its endpoints between requests: connections, the leader, and who answered lately.

use crate::{
    Endpoint,
    client::{Leader, Pipe, Standing},
    names::Names,
};
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tonic::transport::Channel;

/// How long an answer proves that a connection carries requests: longer than the pauses of a busy client, so that it
/// never asks, and shorter than the time in which a person writes two commands.
const PROVEN_FOR: Duration = Duration::from_secs(5);

/// How long an endpoint that gave no answer, or reaches no leader, is tried after the others. Doubled with each failure
/// in a row, so that a node that is gone for long is seldom waited for, up to a time in which nobody misses it.
const SHUNNED_FOR: Duration = Duration::from_secs(5);
const SHUNNED_FOR_MAX: Duration = Duration::from_secs(40);

/// Failures that are closer together count once: they are the requests that one event met.
const FAILURES_APART: Duration = Duration::from_secs(1);

/// So many reads in a row that another endpoint answered first make one suspect: it may hang.
const OUTRUN_MAX: u32 = 3;

/// How many times the usual time of an endpoint's answers a read waits before it is sent to another as well, and the
/// bounds of that: less than the shortest is noise, and more than the longest helps nobody.
const HEDGE_FACTOR: u32 = 3;
const HEDGE_DELAY_MIN: Duration = Duration::from_millis(20);
const HEDGE_DELAY_MAX: Duration = Duration::from_millis(500);

/// The same for an endpoint that has not answered a read yet: it has to be connected to first.
const HEDGE_DELAY_AT_FIRST: Duration = Duration::from_millis(100);

/// The weight of a new answer in the usual time, one in so many: as TCP smooths its round trips (RFC 6298).
const SMOOTHING: u32 = 8;

/// How many endpoints outside of the configuration are remembered for having failed: more than any cluster has nodes.
const STRANGERS_MAX: usize = 16;

/// Pings on a connection with calls in flight, so that one whose peer vanished is closed. gRPC's servers of other makes
/// refuse more frequent ones.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a node that knows no streams is not asked for one again. It is asked on a new connection, too, but nobody
/// is told when a channel connects again by itself.
const STREAMLESS_FOR: Duration = Duration::from_secs(60);

/// The kernel's probes on an idle connection, on which gRPC sends no pings: as often, and three in vain are enough.
const TCP_PROBES_MAX: u32 = 3;

/// The endpoints of one client, shared by its clones.
#[derive(Debug)]
pub(crate) struct Routes {
    names: Names,
    connect_timeout: Duration,
    state: Mutex<State>,
}

/// Bounded: the configured endpoints and their addresses, the leader's, and [`STRANGERS_MAX`] more.
#[derive(Debug, Default)]
struct State {
    leader: Option<Leader>,
    nodes: HashMap<Endpoint, Node>,
    /// How many connections were made.
    connections: u64,
}

/// A connection to an endpoint.
pub(crate) struct Connection {
    pub(crate) channel: Channel,
    /// Which one it is. What is learnt on it says nothing of a later one to the same endpoint.
    pub(crate) number: u64,
    /// The stream on it, if one was wanted and the node may know streams.
    pub(crate) pipe: Option<Pipe>,
}

#[derive(Debug, Default)]
struct Node {
    channel: Option<Channel>,
    pipe: Option<Pipe>,
    /// Until when it is taken to know no streams.
    streamless_until: Option<Instant>,
    /// Which connection that is.
    number: u64,
    answered: Option<Instant>,
    shunned_until: Option<Instant>,
    /// How often in a row it gave no answer, and when it was counted last.
    failures: u32,
    failed: Option<Instant>,
    /// How often in a row another endpoint answered a read first.
    outrun: u32,
    /// How long it usually takes to answer a read.
    latency: Option<Duration>,
}

impl Routes {
    pub(crate) fn new(names: Names, connect_timeout: Duration) -> Routes {
        Routes { names, connect_timeout, state: Mutex::default() }
    }

    pub(crate) fn configured(&self) -> &[Endpoint] {
        self.names.configured()
    }

    /// All places to try: the configured endpoints, each address of a name that has several. To be called within a
    /// tokio runtime.
    pub(crate) async fn places(&self) -> Vec<Endpoint> {
        self.names.places().await
    }

    /// The connection to `endpoint`, which is opened by its first call, and the stream on it if that is wanted. To be
    /// called within a tokio runtime.
    pub(crate) fn connection(&self, endpoint: &Endpoint, pipelined: bool) -> Connection {
        let mut state = self.state();
        let State { nodes, connections, .. } = &mut *state;
        let node = nodes.entry(endpoint.clone()).or_default();
        let channel = node.channel.get_or_insert_with(|| {
            *connections += 1;
            node.number = *connections;
            tonic::transport::Endpoint::from_shared(format!("http://{endpoint}"))
                .expect("an Endpoint is checked when it is made")
                .connect_timeout(self.connect_timeout)
                .tcp_nodelay(true)
                .tcp_keepalive(Some(KEEPALIVE_INTERVAL))
                .tcp_keepalive_interval(Some(KEEPALIVE_TIMEOUT))
                .tcp_keepalive_retries(Some(TCP_PROBES_MAX))
                .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
                .keep_alive_timeout(KEEPALIVE_TIMEOUT)
                .connect_lazy()
        });
        let channel = channel.clone();
        let pipe = if pipelined { node.stream(&channel) } else { None };
        Connection { channel, number: node.number, pipe }
    }

    /// How many streams are open.
    pub(crate) fn open_streams(&self) -> usize {
        self.state()
            .nodes
            .values()
            .filter(|node| node.pipe.as_ref().is_some_and(|pipe| pipe.standing() == Standing::Open))
            .count()
    }

    /// `endpoint` answered something, be it an error, on the connection with this number.
    pub(crate) fn answered(&self, endpoint: &Endpoint, connection: u64) {
        if let Some(node) = self.state().nodes.get_mut(endpoint).filter(|node| node.is_on(connection)) {
            node.answered = Some(Instant::now());
            (node.shunned_until, node.failed) = (None, None);
            (node.failures, node.outrun) = (0, 0);
        }
    }

    /// `endpoint` gave no answer on the connection with this number: it is dropped, and if the endpoint was thought to
    /// lead, that is forgotten. Many requests may have waited on that connection; the next one is not dropped for them.
    pub(crate) fn failed(&self, endpoint: &Endpoint, connection: u64) {
        self.names.suspect(endpoint);
        let mut state = self.state();
        let now = Instant::now();
        let (failures, failed) = match state.nodes.get(endpoint) {
            Some(node) if !node.is_on(connection) => return,
            Some(Node { failures, failed: Some(at), .. }) if now < *at + FAILURES_APART => (*failures, *at),
            Some(node) => (node.failures + 1, now),
            None => return,
        };
        let doublings = failures.saturating_sub(1).min(16);
        let shunned_until = Some(now + SHUNNED_FOR.saturating_mul(1 << doublings).min(SHUNNED_FOR_MAX));
        let node = Node { shunned_until, failures, failed: Some(failed), ..Node::default() };
        state.nodes.insert(endpoint.clone(), node);
        forget_leader(&mut state, endpoint);
        self.forget_strangers(&mut state);
    }

    /// `endpoint` answered, but reaches no leader: for a while it is tried after the others.
    pub(crate) fn cut_off(&self, endpoint: &Endpoint) {
        let mut state = self.state();
        if let Some(node) = state.nodes.get_mut(endpoint) {
            node.shunned_until = Some(Instant::now() + SHUNNED_FOR);
        }
        forget_leader(&mut state, endpoint);
    }

    /// `endpoint` answered a read after `took`.
    pub(crate) fn answered_read(&self, endpoint: &Endpoint, took: Duration) {
        if let Some(node) = self.state().nodes.get_mut(endpoint) {
            node.smooth(took);
        }
    }

    /// `endpoint` had not answered a read after `waited`, when another did. Once or twice that is chance; then it may
    /// hang, so it is tried after the others, and has to prove itself before it gets a write.
    pub(crate) fn outrun(&self, endpoint: &Endpoint, waited: Duration) {
        let mut state = self.state();
        let Some(node) = state.nodes.get_mut(endpoint) else { return };
        // It would have taken at least so long. Without that, an endpoint that became slow would never be known to be.
        if node.latency.is_none_or(|usual| waited > usual) {
            node.smooth(waited);
        }
        node.outrun += 1;
        if node.outrun >= OUTRUN_MAX {
            node.answered = None;
            node.shunned_until = Some(Instant::now() + SHUNNED_FOR);
            forget_leader(&mut state, endpoint);
        }
    }

    /// How long to wait for `endpoint` to answer a read before another is asked as well.
    pub(crate) fn hedge_delay(&self, endpoint: &Endpoint) -> Duration {
        let usual = self.state().nodes.get(endpoint).and_then(|node| node.latency);
        usual.map_or(HEDGE_DELAY_AT_FIRST, |usual| {
            usual.saturating_mul(HEDGE_FACTOR).clamp(HEDGE_DELAY_MIN, HEDGE_DELAY_MAX)
        })
    }

    /// Whether `endpoint` answered within the last [`PROVEN_FOR`], on the connection that would be used now.
    pub(crate) fn is_proven(&self, endpoint: &Endpoint) -> bool {
        self.state().nodes.get(endpoint).and_then(|node| node.answered).is_some_and(|at| at.elapsed() < PROVEN_FOR)
    }

    /// Whether `endpoint` gave no answer, or reached no leader, a while ago: see [`SHUNNED_FOR`].
    pub(crate) fn is_shunned(&self, endpoint: &Endpoint) -> bool {
        self.state().nodes.get(endpoint).is_some_and(Node::is_shunned)
    }

    /// The node that led when it was last heard of.
    pub(crate) fn leader(&self) -> Option<Leader> {
        self.state().leader.clone()
    }

    /// A node said who leads. A leader that gave no answer lately is not believed in: the node that named it may not
    /// have noticed yet.
    pub(crate) fn learn(&self, leader: &Leader) {
        let mut state = self.state();
        if state.nodes.get(&leader.endpoint).is_some_and(|node| node.is_shunned() && node.answered.is_none()) {
            return;
        }
        if state.leader.as_ref() != Some(leader) {
            tracing::debug!("{} at {} leads", leader.name, leader.endpoint);
            state.leader = Some(leader.clone());
            self.forget_strangers(&mut state);
        }
    }

    /// Keeps [`State`] bounded, whatever addresses a server names.
    fn forget_strangers(&self, state: &mut State) {
        let leader = state.leader.as_ref().map(|leader| leader.endpoint.clone());
        let mut strangers = 0;
        state.nodes.retain(|endpoint, node| {
            if self.names.contains(endpoint) || leader.as_ref() == Some(endpoint) {
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
        self.shunned_until.is_some_and(|until| Instant::now() < until)
    }

    /// The stream to send requests on: the one there is, or a new one in the place of one that has ended.
    fn stream(&mut self, channel: &Channel) -> Option<Pipe> {
        if self.streamless_until.is_some_and(|until| Instant::now() < until) {
            return None;
        }
        match self.pipe.as_ref().map(Pipe::standing) {
            Some(Standing::Opening | Standing::Open) => {}
            Some(Standing::Unsupported) => {
                self.pipe = None;
                self.streamless_until = Some(Instant::now() + STREAMLESS_FOR);
            }
            Some(Standing::Ended) | None => self.pipe = Some(Pipe::open(channel.clone())),
        }
        self.pipe.clone()
    }

    fn is_on(&self, connection: u64) -> bool {
        self.channel.is_some() && self.number == connection
    }

    fn smooth(&mut self, took: Duration) {
        self.latency = Some(self.latency.map_or(took, |usual| (usual * (SMOOTHING - 1) + took) / SMOOTHING));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Resolver;

    fn endpoint(port: u16) -> Endpoint {
        format!("127.0.0.1:{port}").parse().expect("it is well formed")
    }

    fn leader(port: u16) -> Leader {
        Leader { name: format!("n{port}"), endpoint: endpoint(port) }
    }

    fn routes() -> Routes {
        let patience = Duration::from_secs(1);
        Routes::new(Names::new(vec![endpoint(1), endpoint(2)], Resolver::System, patience), patience)
    }

    fn fail(routes: &Routes, port: u16) {
        let at = endpoint(port);
        routes.failed(&at, routes.connection(&at, false).number);
    }

    fn answer(routes: &Routes, port: u16) {
        let at = endpoint(port);
        routes.answered(&at, routes.connection(&at, false).number);
    }

    #[tokio::test]
    async fn what_happens_on_a_connection_says_nothing_of_the_next() {
        let routes = routes();
        let at = endpoint(1);
        let old = routes.connection(&at, false).number;
        assert_eq!(routes.connection(&at, false).number, old);
        routes.failed(&at, old);
        let new = routes.connection(&at, false).number;
        assert_ne!(new, old);
        routes.answered(&at, old);
        assert!(!routes.is_proven(&at), "the answer came on the old one");
        routes.answered(&at, new);
        routes.failed(&at, old);
        assert!(routes.is_proven(&at) && !routes.is_shunned(&at), "the old one had failed before");
        assert_eq!(routes.connection(&at, false).number, new);
    }

    #[tokio::test]
    async fn a_leader_is_remembered_until_it_gives_no_answer() {
        let routes = routes();
        routes.learn(&leader(2));
        assert_eq!(routes.leader(), Some(leader(2)));
        fail(&routes, 1);
        assert_eq!(routes.leader(), Some(leader(2)));
        fail(&routes, 2);
        assert_eq!(routes.leader(), None);
        routes.learn(&leader(2));
        assert_eq!(routes.leader(), None, "a stale hint to a dead node is not believed");
    }

    #[tokio::test]
    async fn only_an_answer_on_the_present_connection_proves_it() {
        let routes = routes();
        drop(routes.connection(&endpoint(1), false));
        assert!(!routes.is_proven(&endpoint(1)));
        answer(&routes, 1);
        assert!(routes.is_proven(&endpoint(1)));
        fail(&routes, 1);
        assert!(!routes.is_proven(&endpoint(1)));
    }

    #[tokio::test]
    async fn a_node_that_reached_no_leader_may_become_one() {
        let routes = routes();
        drop(routes.connection(&endpoint(2), false));
        answer(&routes, 2);
        routes.learn(&leader(2));
        routes.cut_off(&endpoint(2));
        assert_eq!((routes.leader(), routes.is_shunned(&endpoint(2))), (None, true));
        routes.learn(&leader(2));
        assert_eq!(routes.leader(), Some(leader(2)));
    }

    #[tokio::test]
    async fn leaders_outside_of_the_configuration_do_not_pile_up() {
        let routes = routes();
        for port in 100..200 {
            routes.learn(&leader(port));
            drop(routes.connection(&endpoint(port), false));
        }
        assert!(routes.state().nodes.len() <= 2, "{}", routes.state().nodes.len());
        for port in 100..200 {
            fail(&routes, port);
        }
        assert!(routes.state().nodes.len() <= 2 + STRANGERS_MAX, "{}", routes.state().nodes.len());
    }

    #[tokio::test]
    async fn an_endpoint_that_fails_again_is_shunned_for_longer_until_it_answers() {
        let routes = routes();
        let shunned_for = || {
            let until = routes.state().nodes[&endpoint(1)].shunned_until.expect("it failed");
            until.saturating_duration_since(Instant::now())
        };
        let fail_later = || {
            // Only the clock of the test is turned: the last failure was so long ago.
            if let Some(node) = routes.state().nodes.get_mut(&endpoint(1)) {
                node.failed = node.failed.and_then(|at| at.checked_sub(FAILURES_APART));
            }
            fail(&routes, 1);
        };
        for _ in 0..10 {
            fail(&routes, 1);
            assert_eq!(routes.state().nodes[&endpoint(1)].failures, 1, "it is one event");
        }
        let first = shunned_for();
        assert!(first <= SHUNNED_FOR, "{first:?}");
        fail_later();
        let second = shunned_for();
        assert!(second > SHUNNED_FOR && second <= SHUNNED_FOR * 2, "{second:?}");
        for _ in 0..100 {
            fail_later();
        }
        assert!(shunned_for() <= SHUNNED_FOR_MAX);
        answer(&routes, 1);
        assert!(!routes.is_shunned(&endpoint(1)));
        fail(&routes, 1);
        assert!(shunned_for() <= SHUNNED_FOR, "it begins anew");
    }

    #[tokio::test]
    async fn an_endpoint_that_others_outrun_is_left_but_its_connection_is_kept() {
        let routes = routes();
        drop(routes.connection(&endpoint(2), false));
        answer(&routes, 2);
        routes.learn(&leader(2));
        for _ in 1..OUTRUN_MAX {
            routes.outrun(&endpoint(2), HEDGE_DELAY_MIN);
        }
        answer(&routes, 2);
        assert!(!routes.is_shunned(&endpoint(2)));
        for _ in 0..OUTRUN_MAX {
            assert_eq!(routes.leader(), Some(leader(2)));
            routes.outrun(&endpoint(2), HEDGE_DELAY_MIN);
        }
        assert!(routes.is_shunned(&endpoint(2)) && !routes.is_proven(&endpoint(2)));
        assert_eq!(routes.leader(), None);
        assert!(routes.state().nodes[&endpoint(2)].channel.is_some());
    }

    #[tokio::test]
    async fn the_delay_of_a_hedge_follows_the_usual_time_within_bounds() {
        let routes = routes();
        let at = endpoint(1);
        drop(routes.connection(&at, false));
        assert_eq!(routes.hedge_delay(&at), HEDGE_DELAY_AT_FIRST);
        routes.answered_read(&at, Duration::from_millis(1));
        assert_eq!(routes.hedge_delay(&at), HEDGE_DELAY_MIN);
        for _ in 0..100 {
            routes.answered_read(&at, Duration::from_millis(50));
        }
        let usual = routes.hedge_delay(&at);
        assert!(usual > Duration::from_millis(140) && usual <= Duration::from_millis(150), "{usual:?}");
        routes.outrun(&at, Duration::from_millis(1));
        assert_eq!(routes.hedge_delay(&at), usual, "that it was slower than this is no news");
        for _ in 0..100 {
            routes.outrun(&at, Duration::from_secs(1));
        }
        assert_eq!(routes.hedge_delay(&at), HEDGE_DELAY_MAX);
    }
}
