//! Gives every value its type, fills in what was left out, and checks what must hold between the values.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::discovery::is_loopback;
use super::error::ConfigError;
use super::key::{Key, Origin};
use super::parse::{self, Problem};
use super::sources::{Given, Raw, Sources, refused};
use super::{
    Config, ELECTION_TIMEOUT_MS_DEFAULT, HEARTBEAT_MS_DEFAULT, HEARTBEATS_PER_ELECTION_TIMEOUT_MIN, LISTEN_DEFAULT,
    LOG_DEFAULT, LogFormat, MEMBERS_MAX, REQUEST_TIMEOUT_MS_DEFAULT, SEGMENT_BYTES_DEFAULT, SHUTDOWN_DELAY_MS_DEFAULT,
    SNAPSHOT_LOG_BYTES_DEFAULT, SPACE_RESERVE_BYTES_DEFAULT,
};
use crate::cli::RunArgs;

/// A segment's bounds. Below, most segments would hold one large record; above, recovery reads too much at once.
const SEGMENT_BYTES: RangeInclusive<u64> = 64 << 10..=1 << 30;

/// The bounds of the log that makes a snapshot. Below, a snapshot would follow every few writes; above, a start would
/// replay for minutes.
const SNAPSHOT_LOG_BYTES: RangeInclusive<u64> = 64 << 10..=64 << 30;

/// The reserve's bounds: from none to a disk's worth.
const SPACE_RESERVE_BYTES: RangeInclusive<u64> = 0..=1 << 40;

/// How many segments are kept free by default: the one that is being prepared, and the next.
const RESERVE_SEGMENTS: u64 = 2;

/// The heartbeat's bounds: faster costs more than it finds, slower leaves a dead leader unnoticed for a minute.
const HEARTBEAT_MS: RangeInclusive<u64> = 10..=10_000;

/// The election timeout's bounds, by the heartbeat's.
const ELECTION_TIMEOUT_MS: RangeInclusive<u64> = 50..=60_000;

/// The request timeout's bounds: nobody waits longer for a key.
const REQUEST_TIMEOUT_MS: RangeInclusive<u64> = 100..=600_000;

/// The bounds of the delay at the end: no load balancer takes a minute to notice.
const SHUTDOWN_DELAY_MS: RangeInclusive<u64> = 0..=60_000;

/// The whole configuration.
pub(super) fn typed(flags: &RunArgs, sources: &Sources) -> Result<Config, ConfigError> {
    let listen = parsed(sources, Key::Listen, parse::listen)?
        .unwrap_or_else(|| LISTEN_DEFAULT.parse().expect("the default is an address"));
    let peer_listen = parsed(sources, Key::PeerListen, parse::listen)?;
    let http_listen = parsed(sources, Key::HttpListen, parse::listen)?;
    let (name, name_origin) = own_name(sources, listen)?;
    let members = members(sources, &name, name_origin, peer_listen.unwrap_or(listen))?;
    let data_dir = parsed(sources, Key::DataDir, parse::directory)?;
    let disk = disk_settings(sources)?;
    let config = Config {
        data_dir: data_dir.unwrap_or_else(|| PathBuf::from("./quorate-data").join(&name)),
        name,
        listen,
        peer_listen,
        http_listen,
        advertise_client: parsed(sources, Key::AdvertiseClient, advertised)?,
        peers: members.addresses,
        segment_bytes: disk.segment_bytes,
        snapshot_log_bytes: disk.snapshot_log_bytes,
        space_reserve_bytes: disk.space_reserve_bytes,
        heartbeat_ms: number(sources, Key::HeartbeatMs, &HEARTBEAT_MS, "milliseconds", HEARTBEAT_MS_DEFAULT)?,
        election_timeout_ms: number(
            sources,
            Key::ElectionTimeoutMs,
            &ELECTION_TIMEOUT_MS,
            "milliseconds",
            ELECTION_TIMEOUT_MS_DEFAULT,
        )?,
        request_timeout_ms: number(
            sources,
            Key::RequestTimeoutMs,
            &REQUEST_TIMEOUT_MS,
            "milliseconds",
            REQUEST_TIMEOUT_MS_DEFAULT,
        )?,
        shutdown_delay_ms: number(
            sources,
            Key::ShutdownDelayMs,
            &SHUTDOWN_DELAY_MS,
            "milliseconds",
            SHUTDOWN_DELAY_MS_DEFAULT,
        )?,
        log: parsed(sources, Key::Log, parse::log)?.unwrap_or_else(|| LOG_DEFAULT.to_owned()),
        log_format: parsed(sources, Key::LogFormat, parse::log_format)?.unwrap_or(LogFormat::Human),
        narrate: flags.narrate,
        exit_with_stdin: flags.exit_with_stdin,
        sync_delay_ms: flags.sync_delay_ms.unwrap_or_default(),
    };
    check_ports(&config, sources, &members.origins)?;
    check_timeouts(&config, sources)?;
    Ok(config)
}

/// How the disk is used.
struct DiskSettings {
    segment_bytes: u64,
    snapshot_log_bytes: u64,
    space_reserve_bytes: u64,
}

fn disk_settings(sources: &Sources) -> Result<DiskSettings, ConfigError> {
    let bytes = |key, range, default| number(sources, key, range, "bytes", default);
    let segment_bytes = bytes(Key::SegmentBytes, &SEGMENT_BYTES, SEGMENT_BYTES_DEFAULT)?;
    let reserve_default = SPACE_RESERVE_BYTES_DEFAULT.max(RESERVE_SEGMENTS * segment_bytes);
    Ok(DiskSettings {
        segment_bytes,
        snapshot_log_bytes: bytes(Key::SnapshotLogBytes, &SNAPSHOT_LOG_BYTES, SNAPSHOT_LOG_BYTES_DEFAULT)?,
        space_reserve_bytes: bytes(Key::SpaceReserveBytes, &SPACE_RESERVE_BYTES, reserve_default)?,
    })
}

/// The value of `key`, if it was given.
fn parsed<T>(
    sources: &Sources,
    key: Key,
    parser: impl Fn(&str) -> Result<T, Problem>,
) -> Result<Option<T>, ConfigError> {
    let Some(given) = sources.get(key) else { return Ok(None) };
    let value = parser(&given.text(false)?).map_err(|problem| given.refused(problem))?;
    Ok(Some(value))
}

/// The number of `key`, or its default.
fn number(
    sources: &Sources,
    key: Key,
    range: &RangeInclusive<u64>,
    unit: &str,
    default: u64,
) -> Result<u64, ConfigError> {
    let Some(given) = sources.get(key) else { return Ok(default) };
    parse::number(&given.text(true)?, range, unit).map_err(|problem| given.refused(problem))
}

/// An address to tell clients: one that they can connect to.
fn advertised(text: &str) -> Result<String, Problem> {
    let address = parse::host_port(text)?;
    if has_port_zero(&address) {
        return Err(Problem::new("has port 0", "HOST:PORT with the port that clients connect to"));
    }
    Ok(address)
}

fn has_port_zero(address: &str) -> bool {
    address.rsplit_once(':').is_some_and(|(_, port)| port.parse() == Ok(0_u16))
}

/// The node's name and where it came from.
fn own_name(sources: &Sources, listen: SocketAddr) -> Result<(String, Origin), ConfigError> {
    if let Some(given) = sources.get(Key::Name) {
        let name = parse::name(&given.text(false)?).map_err(|problem| given.refused(problem))?;
        return Ok((name, given.origin.clone()));
    }
    // A host name may be qualified, and may have letters and underscores that names do not.
    let label = sources.host_name.as_deref().map(|host| {
        let label = host.split('.').next().unwrap_or_default();
        label.to_ascii_lowercase().replace('_', "-")
    });
    if sources.explicit_peers().is_none() {
        let known = label.as_deref().is_some_and(|label| sources.discovery.peers.contains_key(label));
        if let (false, Some(name)) = (known, sources.discovery.at_own_port(listen.port())) {
            let origin = sources.discovery.peers[name].origin.clone();
            return Ok((name.to_owned(), origin));
        }
    }
    let label = label.ok_or(ConfigError::NoName)?;
    let name = parse::name(&label).map_err(|problem| refused(Origin::HostName, &label, problem))?;
    Ok((name, Origin::HostName))
}

/// The members with their addresses, and where each came from.
struct Members {
    addresses: BTreeMap<String, String>,
    origins: BTreeMap<String, Origin>,
}

/// The members of the cluster, this node included.
fn members(sources: &Sources, name: &str, name_origin: Origin, own_listen: SocketAddr) -> Result<Members, ConfigError> {
    let mut members = Members { addresses: BTreeMap::new(), origins: BTreeMap::new() };
    if let Some(given) = sources.explicit_peers() {
        for (peer, address, origin) in explicit(given)? {
            members.add(peer, address, origin)?;
        }
        if !members.addresses.contains_key(name) {
            return Err(ConfigError::NotAMember {
                name: name.to_owned(),
                name_origin: Box::new(name_origin),
                members: members.addresses.keys().cloned().collect::<Vec<_>>().join(", "),
                peers_origin: Box::new(given.origin.clone()),
            });
        }
    } else {
        for (peer, found) in &sources.discovery.peers {
            members.add(peer.clone(), found.address.clone(), found.origin.clone())?;
        }
        if !members.addresses.contains_key(name) {
            let address = own_address(sources, name, own_listen, &members.addresses);
            members.add(name.to_owned(), address, sources.origin(Key::Listen))?;
        }
    }
    if members.addresses.len() > MEMBERS_MAX {
        let origin = sources.explicit_peers().map_or(Origin::Variable("PEER_*".to_owned()), |it| it.origin.clone());
        let problem = Problem::new("are too many members", format!("at most {MEMBERS_MAX} members"));
        return Err(refused(origin, &members.addresses.len().to_string(), problem));
    }
    Ok(members)
}

impl Members {
    /// Adds a member with a name and an address that no other has.
    fn add(&mut self, name: String, address: String, origin: Origin) -> Result<(), ConfigError> {
        if self.addresses.contains_key(&name) {
            return Err(refused(origin, &name, Problem::new("is given twice", "one address for each member")));
        }
        if let Some((other, _)) = self.addresses.iter().find(|(_, known)| **known == address && !has_port_zero(known)) {
            let problem = format!("is the address of both {other} and {name}");
            return Err(refused(origin, &address, Problem::new(problem, "an address of its own for each member")));
        }
        self.origins.insert(name.clone(), origin);
        self.addresses.insert(name, address);
        Ok(())
    }
}

/// The members of a list `n1=host:port,n2=host:port` or of a TOML table.
fn explicit(given: &Given) -> Result<Vec<(String, String, Origin)>, ConfigError> {
    let allowed = "NAME=HOST:PORT for each member, separated by commas";
    let mut members = Vec::new();
    if let Raw::Toml(toml::Value::Table(table)) = &given.raw {
        for (name, value) in table {
            let origin = match &given.origin {
                Origin::File { path, key } => Origin::File { path: path.clone(), key: format!("{key}.{name}") },
                other => other.clone(),
            };
            let entry = Given { origin: origin.clone(), raw: Raw::Toml(value.clone()) };
            let name = parse::name(name).map_err(|problem| refused(origin.clone(), name, problem))?;
            let address = parse::host_port(&entry.text(false)?).map_err(|problem| entry.refused(problem))?;
            members.push((name, address, origin));
        }
    } else {
        // A trailing comma is nobody's member.
        let text = given.text(false)?;
        for entry in text.trim().trim_end_matches(',').split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let at_entry = |problem| refused(given.origin.clone(), entry, problem);
            let (name, address) = entry
                .split_once('=')
                .ok_or_else(|| at_entry(Problem::new("has no `=` between name and address", allowed)))?;
            let name = parse::name(name).map_err(|problem| refused(given.origin.clone(), name, problem))?;
            let address = parse::host_port(address).map_err(at_entry)?;
            members.push((name, address, given.origin.clone()));
        }
    }
    if members.is_empty() {
        let allowed = "this node at least; leave it out for a cluster of one";
        return Err(given.refused(Problem::new("names no member", allowed)));
    }
    Ok(members)
}

/// This node's address if nobody gave one: what it listens on, made into something that another can connect to. It is
/// shown in the list of members and told to clients as a hint, nothing else.
fn own_address(sources: &Sources, name: &str, listen: SocketAddr, others: &BTreeMap<String, String>) -> String {
    if !listen.ip().is_unspecified() {
        return listen.to_string();
    }
    let all_local = others.values().all(|address| is_loopback(address));
    let host_name = sources.host_name.as_deref().filter(|host| parse::host_port(&format!("{host}:1")).is_ok());
    let host = if all_local && !others.is_empty() { "127.0.0.1" } else { host_name.unwrap_or(name) };
    format!("{}:{}", host.to_ascii_lowercase(), listen.port())
}

/// Ports that the system chooses are known to nobody else, and two listeners need two addresses.
fn check_ports(config: &Config, sources: &Sources, origins: &BTreeMap<String, Origin>) -> Result<(), ConfigError> {
    if config.peers.len() > 1 {
        let zero = |origin: Origin, value: String| {
            let allowed = "a port between 1 and 65535, because the other members must know it";
            refused(origin, &value, Problem::new("has port 0", allowed))
        };
        for (key, address) in [(Key::Listen, Some(config.listen)), (Key::PeerListen, config.peer_listen)] {
            if let Some(address) = address.filter(|address| address.port() == 0) {
                return Err(zero(sources.origin(key), address.to_string()));
            }
        }
        if let Some((name, address)) = config.peers.iter().find(|(_, address)| has_port_zero(address)) {
            return Err(zero(origins[name].clone(), address.clone()));
        }
    }
    let listeners = [
        (Key::Listen, Some(config.listen)),
        (Key::PeerListen, config.peer_listen),
        (Key::HttpListen, config.http_listen),
    ];
    let listeners: Vec<_> = listeners.into_iter().filter_map(|(key, address)| Some((key, address?))).collect();
    for (at, (key, address)) in listeners.iter().enumerate() {
        for (other_key, other) in &listeners[..at] {
            let same_host = address.ip() == other.ip() || address.ip().is_unspecified() || other.ip().is_unspecified();
            if same_host && address.port() == other.port() && address.port() != 0 {
                let rule = "two listeners need two addresses; leave one out to serve both on one";
                return Err(relation(sources, (*key, address.to_string()), (*other_key, other.to_string()), rule));
            }
        }
    }
    Ok(())
}

/// What must hold between the times.
fn check_timeouts(config: &Config, sources: &Sources) -> Result<(), ConfigError> {
    let heartbeat = (Key::HeartbeatMs, config.heartbeat_ms.to_string());
    let election = (Key::ElectionTimeoutMs, config.election_timeout_ms.to_string());
    let request = (Key::RequestTimeoutMs, config.request_timeout_ms.to_string());
    let election_min = HEARTBEATS_PER_ELECTION_TIMEOUT_MIN * config.heartbeat_ms;
    if config.election_timeout_ms < election_min {
        let rule = format!(
            "an election timeout must be at least {HEARTBEATS_PER_ELECTION_TIMEOUT_MIN} heartbeats, here {election_min} \
             milliseconds, or a few lost heartbeats depose a good leader"
        );
        return Err(relation(sources, election, heartbeat, &rule));
    }
    let request_min = 2 * config.election_timeout_ms;
    if config.request_timeout_ms < request_min {
        let rule = format!(
            "a request timeout must be at least 2 election timeouts, here {request_min} milliseconds, or no request \
             outlives the choice of a new leader"
        );
        return Err(relation(sources, request, election, &rule));
    }
    Ok(())
}

fn relation(sources: &Sources, one: (Key, String), other: (Key, String), rule: &str) -> ConfigError {
    ConfigError::Relation {
        origin: Box::new(sources.origin(one.0)),
        value: one.1,
        other_origin: Box::new(sources.origin(other.0)),
        other_value: other.1,
        rule: rule.to_owned(),
    }
}
