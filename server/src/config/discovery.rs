//! The discovery contract: `PORT`, and `PEER_<NAME>_HOST` with `PEER_<NAME>_PORT` for each peer.

use std::collections::{BTreeMap, BTreeSet};

use super::error::ConfigError;
use super::key::Origin;
use super::parse::{self, Problem};
use super::sources::{Given, Raw, refused};

const PORT: &str = "PORT";
const PEER_PREFIX: &str = "PEER_";
const HOST_SUFFIX: &str = "_HOST";
const PORT_SUFFIX: &str = "_PORT";

/// What the contract's variables say.
#[derive(Default)]
pub(super) struct Discovery {
    /// The peers by name, each with its address and the variable of its host.
    pub(super) peers: BTreeMap<String, Peer>,
}

/// A peer as the contract describes it.
pub(super) struct Peer {
    /// The address, host:port.
    pub(super) address: String,
    /// The variable that gave the host.
    pub(super) origin: Origin,
}

impl Discovery {
    /// Reads the contract's variables for peers, unless a stronger source names the members: then they may belong to
    /// anybody.
    pub(super) fn collect(variables: &BTreeMap<String, String>, wants_peers: bool) -> Result<Self, ConfigError> {
        if !wants_peers {
            return Ok(Self::default());
        }
        let mut peers = BTreeMap::new();
        for spelled in variables.keys().filter_map(|name| spelled_name(name)).collect::<BTreeSet<_>>() {
            let (host_variable, port_variable) = (variable(spelled, HOST_SUFFIX), variable(spelled, PORT_SUFFIX));
            let half = |present: &String, missing: &String| ConfigError::HalfPeer {
                present: present.clone(),
                missing: missing.clone(),
            };
            let host = variables.get(&host_variable).ok_or_else(|| half(&port_variable, &host_variable))?;
            let port = variables.get(&port_variable).ok_or_else(|| half(&host_variable, &port_variable))?;
            let origin = Origin::Variable(host_variable);
            let name = parse::name(&spelled.to_ascii_lowercase().replace('_', "-"))
                .map_err(|problem| refused(origin.clone(), spelled, problem))?;
            let port = port_number(&port_variable, port)?;
            let address = parse::host_port(&with_port(host, port)).map_err(|_| {
                let allowed = "a DNS name or an IP address, without a port";
                refused(origin.clone(), host, Problem::new("is not a host", allowed))
            })?;
            if peers.insert(name.clone(), Peer { address, origin: origin.clone() }).is_some() {
                let problem = Problem::new(format!("names the peer {name} again"), "one entry for each peer");
                return Err(refused(origin, spelled, problem));
            }
        }
        Ok(Self { peers })
    }

    /// The name of the one entry that is this machine's loopback with `port`, which can be nobody but this node.
    pub(super) fn at_own_port(&self, port: u16) -> Option<&str> {
        let mut found = self.peers.iter().filter(|(_, peer)| {
            is_loopback(&peer.address) && peer.address.rsplit_once(':').is_some_and(|(_, own)| own == port.to_string())
        });
        match (found.next(), found.next()) {
            (Some((name, _)), None) => Some(name),
            _ => None,
        }
    }
}

/// The address to listen on, if the contract gives one.
pub(super) fn listen(variables: &BTreeMap<String, String>) -> Result<Option<Given>, ConfigError> {
    let Some(port) = variables.get(PORT) else { return Ok(None) };
    let number = port_number(PORT, port)?;
    let raw = Raw::Text(format!("0.0.0.0:{number}"));
    Ok(Some(Given { origin: Origin::Variable(PORT.to_owned()), raw }))
}

/// Whether an address (host:port) is this machine by its very text.
pub(super) fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host == "localhost" || host == "[::1]" || host.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
}

/// `<NAME>` of one of a peer's two variables.
fn spelled_name(variable: &str) -> Option<&str> {
    let rest = variable.strip_prefix(PEER_PREFIX)?;
    let name = rest.strip_suffix(HOST_SUFFIX).or_else(|| rest.strip_suffix(PORT_SUFFIX))?;
    (!name.is_empty()).then_some(name)
}

fn variable(name: &str, suffix: &str) -> String {
    format!("{PEER_PREFIX}{name}{suffix}")
}

fn with_port(host: &str, port: u16) -> String {
    // An IPv6 address comes without brackets where the port has a variable of its own.
    if host.parse::<std::net::Ipv6Addr>().is_ok() { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn port_number(variable: &str, text: &str) -> Result<u16, ConfigError> {
    let number = parse::number(text, &(1..=u64::from(u16::MAX)), "a TCP port")
        .map_err(|problem| refused(Origin::Variable(variable.to_owned()), text, problem))?;
    Ok(u16::try_from(number).expect("the range was checked"))
}

/// Leaves out the variables that Kubernetes makes of each service, which may begin like ours: a service `quorate` gives
/// every pod beside it QUORATE_PORT=tcp://10.0.0.7:7001, QUORATE_SERVICE_HOST and more of the kind.
pub(super) fn without_service_links(mut variables: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let services: Vec<String> = variables
        .iter()
        .filter(|(_, value)| value.contains("://"))
        .filter_map(|(name, _)| name.strip_suffix(PORT_SUFFIX))
        .filter(|service| variables.contains_key(&format!("{service}_SERVICE_HOST")))
        .map(str::to_owned)
        .collect();
    variables.retain(|name, _| {
        !services.iter().filter_map(|service| name.strip_prefix(service.as_str())).any(|rest| {
            ["_SERVICE_HOST", "_SERVICE_PORT", PORT_SUFFIX].contains(&rest)
                || rest.starts_with("_SERVICE_PORT_")
                || rest.starts_with("_PORT_")
        })
    });
    variables
}
