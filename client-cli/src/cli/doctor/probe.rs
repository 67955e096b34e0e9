//! What an endpoint answers, step by step: its name, a connection, its status. Each step is made only after the one
//! before it succeeded, so that the first that fails is the cause.

use client_cli::{Client, Endpoint, Error, StatusResponse};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpStream, lookup_host},
    task::JoinSet,
};

/// How long a name may take to resolve, and a connection to open. A name server that is away is given up by others
/// after five seconds; one that takes two is a finding.
const STEP_TIME_MAX: Duration = Duration::from_secs(2);

/// An endpoint and how far it was got.
#[derive(Debug)]
pub(super) struct Probe {
    pub(super) endpoint: Endpoint,
    pub(super) reached: Reached,
}

/// How far a probe got.
#[derive(Debug)]
pub(super) enum Reached {
    /// The name does not resolve.
    Nothing(io::Error),
    /// It resolves, and no address takes a connection; the error of the last.
    Name { addresses: Vec<IpAddr>, error: io::Error },
    /// It takes connections.
    Port { addresses: Vec<IpAddr>, connected: Duration, answer: Box<Result<Answer, Error>> },
}

/// A node's status.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusResponse,
    pub(super) after: Duration,
}

impl Probe {
    /// The status, if the node answered it.
    pub(super) fn status(&self) -> Option<&StatusResponse> {
        match &self.reached {
            Reached::Port { answer, .. } => answer.as_ref().as_ref().ok().map(|answer| &answer.status),
            Reached::Nothing(_) | Reached::Name { .. } => None,
        }
    }
}

/// Probes all endpoints of a client at once, in the order in which they are configured.
pub(super) async fn all(client: &Client) -> Vec<Probe> {
    let mut probes = JoinSet::new();
    for (at, endpoint) in client.endpoints().iter().cloned().enumerate() {
        let client = client.clone();
        probes.spawn(async move {
            let reached = reach(&client, &endpoint).await;
            (at, Probe { endpoint, reached })
        });
    }
    let mut probes = probes.join_all().await;
    probes.sort_by_key(|(at, _)| *at);
    probes.into_iter().map(|(_, probe)| probe).collect()
}

/// Asks those that answered for their status again, and keeps what they said before if they do not answer now.
pub(super) async fn again(client: &Client, probes: &mut [Probe]) {
    let mut questions = JoinSet::new();
    for (at, probe) in probes.iter().enumerate().filter(|(_, probe)| probe.status().is_some()) {
        let (client, endpoint) = (client.clone(), probe.endpoint.clone());
        questions.spawn(async move { (at, Box::pin(client.status(&endpoint)).await) });
    }
    for (at, answer) in questions.join_all().await {
        if let (Reached::Port { answer: known, .. }, Ok(status)) = (&mut probes[at].reached, answer)
            && let Ok(known) = known.as_mut()
        {
            known.status = status;
        }
    }
}

async fn reach(client: &Client, endpoint: &Endpoint) -> Reached {
    let resolved = bounded(lookup_host((endpoint.host(), endpoint.port()))).await;
    let mut targets: Vec<SocketAddr> = match resolved {
        Ok(addresses) => addresses.collect(),
        Err(error) => return Reached::Nothing(error),
    };
    targets.dedup();
    let addresses = targets.iter().map(SocketAddr::ip).collect();
    let connected = match connect(&targets).await {
        Ok(connected) => connected,
        Err(error) => return Reached::Name { addresses, error },
    };
    let began = Instant::now();
    let answer = Box::pin(client.status(endpoint)).await.map(|status| Answer { status, after: began.elapsed() });
    Reached::Port { addresses, connected, answer: Box::new(answer) }
}

/// How long the first address takes that takes a connection.
async fn connect(targets: &[SocketAddr]) -> io::Result<Duration> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for target in targets {
        let began = Instant::now();
        match bounded(TcpStream::connect(target)).await {
            Ok(_) => return Ok(began.elapsed()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn bounded<T>(step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(STEP_TIME_MAX, step).await {
        Ok(result) => result,
        Err(_) => {
            let message = format!("nothing within {} s", STEP_TIME_MAX.as_secs());
            Err(io::Error::new(io::ErrorKind::TimedOut, message))
        }
    }
}
