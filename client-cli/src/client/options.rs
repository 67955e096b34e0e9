//! How a client finds its cluster, and how long it tries.

use crate::{Endpoint, EndpointError, names::Resolver};
use std::{io, net::SocketAddr, str::FromStr, sync::Arc, time::Duration};

/// The deadline of a request: an election takes up to a second, so there is time for a failover and its retries.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The longest deadline, so that no sum of times overflows.
pub(super) const TIMEOUT_MAX: Duration = Duration::from_secs(3600);

/// How long a request waits for one endpoint before it asks another; longer than a linearizable read or a write takes
/// unless the cluster is electing.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a connection may take to open: three times the round trip of the farthest network, and a lost SYN is not
/// waited for when there is another endpoint.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How a [`Client`](crate::Client) finds its cluster, and how long it tries.
#[derive(Clone, Debug)]
pub struct Options {
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) timeout: Duration,
    pub(super) attempt_timeout: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) hedging: bool,
    pub(super) pipelining: bool,
    pub(super) resolver: Resolver,
}

impl Options {
    /// Options for the nodes at `endpoints`, written `host:port` or `http://host:port`. One that answers is enough;
    /// with more, the client survives their failures. A name may have several addresses, as that of a headless
    /// Kubernetes service does: each is then an endpoint of its own.
    ///
    /// # Errors
    ///
    /// If there is none, or one is malformed.
    pub fn new<I>(endpoints: I) -> Result<Options, EndpointError>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let mut parsed: Vec<Endpoint> = Vec::new();
        for text in endpoints {
            let endpoint = Endpoint::from_str(text.as_ref())?;
            if !parsed.contains(&endpoint) {
                parsed.push(endpoint);
            }
        }
        if parsed.is_empty() {
            return Err(EndpointError::None);
        }
        Ok(Options {
            endpoints: parsed,
            timeout: TIMEOUT,
            attempt_timeout: ATTEMPT_TIMEOUT,
            connect_timeout: CONNECT_TIMEOUT,
            hedging: true,
            pipelining: true,
            resolver: Resolver::System,
        })
    }

    /// The deadline of each request over all its attempts; 5 s unless set, and at most an hour.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Options {
        self.timeout = timeout.min(TIMEOUT_MAX);
        self
    }

    /// How long a request waits for one endpoint, at first, before it asks another; 1 s unless set. Where there is no
    /// other, it waits for half of the time that is left, if that is longer, and then tries a new connection.
    #[must_use]
    pub fn attempt_timeout(mut self, timeout: Duration) -> Options {
        self.attempt_timeout = timeout;
        self
    }

    /// How long a connection may take to open; 1 s unless set.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Options {
        self.connect_timeout = timeout;
        self
    }

    /// Whether a get that is slow is sent to a second endpoint as well, so that the first answer counts; it is, unless
    /// this is set to false. A client sends at most a tenth more gets for it, beyond the first ten.
    #[must_use]
    pub fn hedged_reads(mut self, hedged: bool) -> Options {
        self.hedging = hedged;
        self
    }

    /// Whether puts, gets, deletes and questions for outcomes travel many at a time, on one stream to each endpoint.
    /// They do, unless this is set to false, which makes a call of each: a stream has to be opened, so a client that
    /// lives for one request is faster without. An endpoint that knows no streams gets calls anyway.
    #[must_use]
    pub fn pipelining(mut self, pipelining: bool) -> Options {
        self.pipelining = pipelining;
        self
    }

    /// Looks names up by a function of the caller's, given the host and the port, instead of the system's resolver. It
    /// may block.
    #[must_use]
    pub fn resolver<F>(mut self, resolver: F) -> Options
    where
        F: Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    {
        self.resolver = Resolver::Own(Arc::new(resolver));
        self
    }
}
