//! DNS names among the endpoints. A name may stand for several nodes, as that of a headless Kubernetes service does.
//! Each of its addresses is then a place of its own to try: one that hangs or is gone says nothing of the others.
//!
//! Names are looked up beside the requests, which go on with the addresses known so far. Only the first request of a
//! client that knows nothing else waits, as it would for a connection.

use crate::Endpoint;
use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// How long the addresses of a name are used before it is looked up again, so that new nodes are found.
const FRESH_FOR: Duration = Duration::from_secs(30);

/// The same when one of them gave no answer: a pod that was restarted has another address. Not shorter, so that a dead
/// cluster does not become a load for its DNS server.
const SUSPECT_FOR: Duration = Duration::from_secs(1);

/// How many addresses of a name are tried: more than any cluster has nodes.
const ADDRESSES_MAX: usize = 16;

type Lookup = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// What looks names up.
#[derive(Clone, Default)]
pub(crate) enum Resolver {
    /// The operating system.
    #[default]
    System,
    /// The caller's own function, which may block.
    Own(Arc<Lookup>),
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Resolver::System => "System",
            Resolver::Own(_) => "Own",
        })
    }
}

impl Resolver {
    /// The addresses of a name. One that is looked up by the system and has a single address is left as it is: it is
    /// then looked up at each connect, and people see the name that they know.
    async fn places(&self, name: &Endpoint) -> io::Result<Vec<Endpoint>> {
        let (addresses, several) = match self {
            Resolver::System => (tokio::net::lookup_host((name.host(), name.port())).await?.collect(), 2),
            Resolver::Own(lookup) => {
                let (lookup, name) = (Arc::clone(lookup), name.clone());
                let found = tokio::task::spawn_blocking(move || lookup(name.host(), name.port()));
                (found.await.map_err(io::Error::other)??, 1)
            }
        };
        let places = endpoints(addresses);
        Ok(if places.len() < several { vec![name.clone()] } else { places })
    }
}

/// Each address once, in the order in which they were found.
fn endpoints(addresses: Vec<SocketAddr>) -> Vec<Endpoint> {
    let mut places = Vec::new();
    for address in addresses {
        let place = Endpoint::at(address);
        if !places.contains(&place) && places.len() < ADDRESSES_MAX {
            places.push(place);
        }
    }
    places
}

/// The configured endpoints, and what is known of those that are names.
#[derive(Debug)]
pub(crate) struct Names {
    configured: Vec<Endpoint>,
    names: Vec<Arc<Name>>,
    resolver: Resolver,
    /// How long a request waits if no place is known at all.
    patience: Duration,
    /// A lookup ended.
    ended: Arc<Notify>,
}

#[derive(Debug)]
struct Name {
    endpoint: Endpoint,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// None until it was looked up.
    places: Vec<Endpoint>,
    looked_up: Option<Instant>,
    /// Whether it is being looked up.
    under_way: bool,
    /// Whether one of the places gave no answer since.
    suspect: bool,
}

impl Names {
    pub(crate) fn new(configured: Vec<Endpoint>, resolver: Resolver, patience: Duration) -> Names {
        let is_name = |endpoint: &&Endpoint| endpoint.host().parse::<IpAddr>().is_err();
        let name = |endpoint: &Endpoint| Arc::new(Name { endpoint: endpoint.clone(), known: Mutex::default() });
        let names = configured.iter().filter(is_name).map(name).collect();
        Names { configured, names, resolver, patience, ended: Arc::default() }
    }

    pub(crate) fn configured(&self) -> &[Endpoint] {
        &self.configured
    }

    /// All places to try. To be called within a tokio runtime.
    pub(crate) async fn places(&self) -> Vec<Endpoint> {
        if self.names.is_empty() {
            return self.configured.clone();
        }
        // Made before the lookups begin, so that it misses none of their ends.
        let ended = self.ended.notified();
        for name in &self.names {
            name.refresh(&self.resolver, &self.ended);
        }
        let in_the_dark =
            self.names.len() == self.configured.len() && self.names.iter().all(|name| name.known().looked_up.is_none());
        if in_the_dark {
            // If it takes longer, the names themselves are tried, and tell what is wrong.
            let _ = tokio::time::timeout(self.patience, ended).await;
        }
        let mut places = Vec::new();
        for endpoint in &self.configured {
            let known = self.name(endpoint).map(|name| name.known().places.clone()).filter(|known| !known.is_empty());
            for place in known.unwrap_or_else(|| vec![endpoint.clone()]) {
                if !places.contains(&place) {
                    places.push(place);
                }
            }
        }
        places
    }

    /// Whether `place` is configured, or an address of a name that is.
    pub(crate) fn contains(&self, place: &Endpoint) -> bool {
        self.configured.contains(place) || self.names.iter().any(|name| name.known().places.contains(place))
    }

    /// `place` gave no answer: if it belongs to a name, that is looked up again soon.
    pub(crate) fn suspect(&self, place: &Endpoint) {
        for name in &self.names {
            let mut known = name.known();
            if name.endpoint == *place || known.places.contains(place) {
                known.suspect = true;
            }
        }
    }

    fn name(&self, endpoint: &Endpoint) -> Option<&Arc<Name>> {
        self.names.iter().find(|name| name.endpoint == *endpoint)
    }
}

impl Name {
    /// Looks the name up beside the request, if that is due.
    fn refresh(self: &Arc<Name>, resolver: &Resolver, ended: &Arc<Notify>) {
        {
            let mut known = self.known();
            let patience = if known.suspect { SUSPECT_FOR } else { FRESH_FOR };
            if known.under_way || known.looked_up.is_some_and(|at| at.elapsed() < patience) {
                return;
            }
            known.under_way = true;
        }
        let lookup = UnderWay { name: Arc::clone(self), ended: Arc::clone(ended) };
        let resolver = resolver.clone();
        tokio::spawn(async move {
            let found = resolver.places(&lookup.name.endpoint).await;
            lookup.name.learn(found);
        });
    }

    /// What a lookup found. One that failed takes nothing away.
    fn learn(&self, found: io::Result<Vec<Endpoint>>) {
        let mut known = self.known();
        known.looked_up = Some(Instant::now());
        match found {
            Ok(places) => {
                if known.places != places {
                    tracing::debug!("{} is {} places", self.endpoint, places.len());
                    known.places = places;
                }
                known.suspect = false;
            }
            Err(error) => {
                tracing::debug!("{}: {error}", self.endpoint);
                known.suspect = true;
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // No code that can panic runs under the lock, and every single change leaves a usable state.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lookup that is under way, also if the runtime that it was begun on ends first.
struct UnderWay {
    name: Arc<Name>,
    ended: Arc<Notify>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.name.known().under_way = false;
        self.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn endpoint(text: &str) -> Endpoint {
        text.parse().expect("it is well formed")
    }

    fn own(lookup: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Resolver {
        Resolver::Own(Arc::new(lookup))
    }

    fn names(configured: &[&str], resolver: Resolver) -> Names {
        let configured = configured.iter().map(|text| endpoint(text)).collect();
        Names::new(configured, resolver, Duration::from_secs(60))
    }

    fn texts(places: &[Endpoint]) -> Vec<String> {
        places.iter().map(ToString::to_string).collect()
    }

    #[tokio::test]
    async fn each_address_of_a_name_is_a_place() {
        let resolver = own(|host, port| {
            assert_eq!(host, "headless");
            Ok(["10.0.0.1", "10.0.0.2", "10.0.0.1", "fe80::1"]
                .map(|text| SocketAddr::new(text.parse().expect("it is an address"), port))
                .to_vec())
        });
        let names = names(&["headless:7001"], resolver);
        let expected = ["10.0.0.1:7001", "10.0.0.2:7001", "[fe80::1]:7001"];
        assert_eq!(texts(&names.places().await), expected);
        for place in expected {
            assert!(names.contains(&endpoint(place)), "{place}");
        }
    }

    #[tokio::test]
    async fn addresses_need_no_lookup() {
        let resolver = own(|host, _| panic!("{host} is no name"));
        let names = names(&["127.0.0.1:1", "[::1]:2"], resolver);
        assert_eq!(texts(&names.places().await), ["127.0.0.1:1", "[::1]:2"]);
    }

    #[tokio::test]
    async fn a_name_that_cannot_be_looked_up_is_tried_as_it_is_and_holds_nothing_up() {
        let resolver = own(|host, port| match host {
            "gone" => Err(io::Error::other("no such name")),
            _ => Ok(vec![SocketAddr::from(([10, 0, 0, 1], port))]),
        });
        let alone = names(&["gone:1"], resolver.clone());
        assert_eq!(texts(&alone.places().await), ["gone:1"]);
        let beside = names(&["gone:1", "127.0.0.1:2"], resolver);
        assert_eq!(texts(&beside.places().await), ["gone:1", "127.0.0.1:2"]);
    }

    #[tokio::test]
    async fn a_name_is_looked_up_again_only_when_that_is_due() {
        let lookups = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&lookups);
        let resolver = own(move |_, port| {
            let at = u8::try_from(counted.fetch_add(1, Ordering::SeqCst)).expect("there are few");
            if at == 1 { Err(io::Error::other("down")) } else { Ok(vec![SocketAddr::from(([10, 0, 0, at], port))]) }
        });
        let names = names(&["n:1"], resolver);
        assert_eq!(texts(&names.places().await), ["10.0.0.0:1"]);
        names.suspect(&endpoint("10.0.0.0:1"));
        let renewed = || async {
            let known = names.names[0].known().looked_up;
            // Only the clock of the test is turned: what was looked up, was so long ago.
            names.names[0].known().looked_up = known.and_then(|at| at.checked_sub(SUSPECT_FOR));
            let ended = names.ended.notified();
            let before = texts(&names.places().await);
            tokio::time::timeout(names.patience, ended).await.expect("it is looked up again");
            (before, texts(&names.places().await))
        };
        let first = vec!["10.0.0.0:1".to_owned()];
        assert_eq!(renewed().await, (first.clone(), first.clone()), "a failed lookup takes nothing away");
        assert_eq!(renewed().await, (first, vec!["10.0.0.2:1".to_owned()]));
        names.places().await;
        assert_eq!(lookups.load(Ordering::SeqCst), 3, "it is fresh");
    }
}
