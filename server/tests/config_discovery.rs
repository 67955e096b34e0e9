//! The discovery contract: PORT, PEER_<NAME>_HOST and PEER_<NAME>_PORT.

use std::collections::BTreeMap;
use std::io;

use quorate_server::cli::RunArgs;
use quorate_server::config::{Config, ConfigError};

fn load(flags: RunArgs, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::load(&flags, environment, |path| match path.to_str() {
        Some("/proc/sys/kernel/hostname") => Ok("box\n".to_owned()),
        Some("q.toml") => Ok("listen = \"127.0.0.1:9001\"\n[peers]\npeer0 = \"f:1\"\n".to_owned()),
        _ => Err(io::ErrorKind::NotFound.into()),
    })
}

fn named(name: &str) -> RunArgs {
    RunArgs { name: Some(name.to_owned()), ..RunArgs::default() }
}

fn peers(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(name, address)| ((*name).to_owned(), (*address).to_owned())).collect()
}

fn refusal(environment: &[(&str, &str)]) -> String {
    load(named("a"), environment).expect_err("the configuration is refused").to_string()
}

/// All three peers, each on a machine of its own.
const THREE: [(&str, &str); 7] = [
    ("PORT", "7001"),
    ("PEER_PEER0_HOST", "peer0.local"),
    ("PEER_PEER0_PORT", "7001"),
    ("PEER_PEER1_HOST", "peer1.local"),
    ("PEER_PEER1_PORT", "7001"),
    ("PEER_PEER2_HOST", "peer2.local"),
    ("PEER_PEER2_PORT", "7001"),
];

/// All three peers on this machine.
const LOCAL: [(&str, &str); 6] = [
    ("PEER_PEER0_HOST", "127.0.0.1"),
    ("PEER_PEER0_PORT", "7000"),
    ("PEER_PEER1_HOST", "127.0.0.1"),
    ("PEER_PEER1_PORT", "7001"),
    ("PEER_PEER2_HOST", "localhost"),
    ("PEER_PEER2_PORT", "7002"),
];

fn with<'a>(base: &[(&'a str, &'a str)], more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    base.iter().chain(more).copied().collect()
}

#[test]
fn all_three_peers_are_members() {
    let config = load(named("peer1"), &THREE).expect("valid");
    assert_eq!(config.name, "peer1");
    assert_eq!(config.listen.to_string(), "0.0.0.0:7001");
    let expected =
        peers(&[("peer0", "peer0.local:7001"), ("peer1", "peer1.local:7001"), ("peer2", "peer2.local:7001")]);
    assert_eq!(config.peers, expected);
    assert_eq!(config.client_address(config.listen), "peer1.local:7001");
}

#[test]
fn the_host_name_says_which_peer_this_is() {
    let config = load(RunArgs::default(), &with(&THREE, &[("HOSTNAME", "peer2")])).expect("valid");
    assert_eq!((config.name.as_str(), config.peers.len()), ("peer2", 3));
    let config = load(RunArgs::default(), &with(&THREE, &[("HOSTNAME", "PEER0.cluster.local")])).expect("valid");
    assert_eq!((config.name.as_str(), config.peers.len()), ("peer0", 3));
}

#[test]
fn underscores_of_the_variable_are_hyphens_of_the_name() {
    let environment = [
        ("HOSTNAME", "peer-0"),
        ("PEER_PEER_0_HOST", "peer-0.svc"),
        ("PEER_PEER_0_PORT", "7001"),
        ("PEER_KV_HOST_B_HOST", "b.svc"),
        ("PEER_KV_HOST_B_PORT", "7001"),
    ];
    let config = load(RunArgs::default(), &environment).expect("valid");
    assert_eq!(config.name, "peer-0");
    assert_eq!(config.peers, peers(&[("kv-host-b", "b.svc:7001"), ("peer-0", "peer-0.svc:7001")]));
}

#[test]
fn on_one_machine_the_own_port_says_which_peer_this_is() {
    let config = load(RunArgs::default(), &with(&LOCAL, &[("PORT", "7002")])).expect("valid");
    assert_eq!((config.name.as_str(), config.peers.len()), ("peer2", 3));
    // Another machine's entry with our port is not us.
    let remote = [("PORT", "7001"), ("PEER_PEER1_HOST", "peer1.local"), ("PEER_PEER1_PORT", "7001")];
    let config = load(RunArgs::default(), &remote).expect("valid");
    assert_eq!((config.name.as_str(), config.peers.len()), ("box", 2));
    // A name that was given, or a host name that is an entry, is stronger.
    let config = load(named("peer0"), &with(&LOCAL, &[("PORT", "7002")])).expect("valid");
    assert_eq!(config.name, "peer0");
    let environment = with(&LOCAL, &[("PORT", "7002"), ("HOSTNAME", "peer1")]);
    assert_eq!(load(RunArgs::default(), &environment).expect("valid").name, "peer1");
}

#[test]
fn an_own_entry_is_optional() {
    let others = [
        ("PORT", "7005"),
        ("PEER_PEER1_HOST", "peer1.local"),
        ("PEER_PEER1_PORT", "7001"),
        ("PEER_PEER2_HOST", "peer2.local"),
        ("PEER_PEER2_PORT", "7001"),
    ];
    let config = load(named("peer0"), &others).expect("valid");
    let expected = peers(&[("peer0", "box:7005"), ("peer1", "peer1.local:7001"), ("peer2", "peer2.local:7001")]);
    assert_eq!(config.peers, expected, "listening everywhere, the host name is what others can connect to");
    let config = load(named("peer0"), &with(&LOCAL[2..], &[("PORT", "7000")])).expect("valid");
    assert_eq!(config.peer_address(), "127.0.0.1:7000", "where all others are on this machine, so are we");
    let mut flags = named("peer0");
    flags.listen = Some("10.0.0.5:7005".to_owned());
    assert_eq!(load(flags, &others).expect("valid").peer_address(), "10.0.0.5:7005");
}

#[test]
fn port_alone_is_the_address_to_listen_on() {
    let config = load(RunArgs::default(), &[("PORT", "8080")]).expect("valid");
    assert_eq!(config.listen.to_string(), "0.0.0.0:8080");
    assert_eq!(config.peers, peers(&[("box", "box:8080")]));
}

#[test]
fn flags_and_quorate_variables_win_over_the_contract_which_wins_over_the_file() {
    let mut flags = named("peer0");
    flags.listen = Some("127.0.0.1:9".to_owned());
    flags.peers = vec!["peer0=a:1,b=b:1".to_owned()];
    let config = load(flags, &THREE).expect("valid");
    assert_eq!(config.listen.to_string(), "127.0.0.1:9");
    assert_eq!(config.peers, peers(&[("b", "b:1"), ("peer0", "a:1")]));

    let environment = with(&THREE, &[("QUORATE_LISTEN", "127.0.0.1:8"), ("QUORATE_PEERS", "peer0=c:1")]);
    let config = load(named("peer0"), &environment).expect("valid");
    assert_eq!(config.listen.to_string(), "127.0.0.1:8");
    assert_eq!(config.peers, peers(&[("peer0", "c:1")]));

    let mut flags = named("peer0");
    flags.config = Some("q.toml".into());
    let config = load(flags.clone(), &THREE).expect("valid");
    assert_eq!((config.listen.to_string().as_str(), config.peers.len()), ("0.0.0.0:7001", 3));
    let config = load(flags, &[]).expect("valid");
    assert_eq!((config.listen.to_string().as_str(), config.peers.len()), ("127.0.0.1:9001", 1));
}

#[test]
fn what_a_stronger_source_gives_is_not_looked_for_in_the_contract() {
    let mut flags = named("peer0");
    flags.peers = vec!["peer0=a:1".to_owned()];
    flags.listen = Some("127.0.0.1:9".to_owned());
    let others = [("PORT", "http"), ("PEER_DATABASE_PORT", "5432"), ("PEER_BROKEN__HOST", "h")];
    assert_eq!(load(flags, &others).expect("valid").peers, peers(&[("peer0", "a:1")]));
}

#[test]
fn half_a_pair_is_an_error_in_both_directions() {
    let needs_both = "the address of a peer needs both";
    assert_eq!(refusal(&[("PEER_N2_HOST", "h")]), format!("PEER_N2_HOST is set without PEER_N2_PORT; {needs_both}"));
    let no_host = format!("PEER_N2_PORT is set without PEER_N2_HOST; {needs_both}");
    assert_eq!(refusal(&[("PEER_N2_PORT", "1")]), no_host);
    assert_eq!(refusal(&[("PEER_N2_PORT", "1"), ("PEER_N2_HOST", "")]), no_host, "an empty variable is not set");
}

#[test]
fn malformed_values_name_the_variable() {
    assert_eq!(refusal(&[("PORT", "http")]), "PORT: `http` is not a whole number; allowed: 1 to 65535 (a TCP port)");
    assert_eq!(refusal(&[("PORT", "0")]), "PORT: `0` is out of range; allowed: 1 to 65535 (a TCP port)");
    assert_eq!(
        refusal(&[("PEER_B_HOST", "b"), ("PEER_B_PORT", "70000")]),
        "PEER_B_PORT: `70000` is out of range; allowed: 1 to 65535 (a TCP port)"
    );
    for host in ["b:1", "http://b", "b c", "-b"] {
        assert_eq!(
            refusal(&[("PEER_B_HOST", host), ("PEER_B_PORT", "1")]),
            format!("PEER_B_HOST: `{host}` is not a host; allowed: a DNS name or an IP address, without a port")
        );
    }
    let refused = refusal(&[("PEER_B__HOST", "b"), ("PEER_B__PORT", "1")]);
    assert!(refused.starts_with("PEER_B__HOST: `B_` is not a name; "), "{refused}");
    let twice = [("PEER_B_HOST", "b"), ("PEER_B_PORT", "1"), ("PEER_b_HOST", "c"), ("PEER_b_PORT", "1")];
    assert_eq!(refusal(&twice), "PEER_b_HOST: `b` names the peer b again; allowed: one entry for each peer");
    let same = [("PEER_B_HOST", "h"), ("PEER_B_PORT", "1"), ("PEER_C_HOST", "h"), ("PEER_C_PORT", "1")];
    assert_eq!(
        refusal(&same),
        "PEER_C_HOST: `h:1` is the address of both b and c; allowed: an address of its own for each member"
    );
}

#[test]
fn an_ipv6_host_needs_no_brackets() {
    for host in ["fd00::2", "[fd00::2]"] {
        let config = load(named("a"), &[("PEER_B_HOST", host), ("PEER_B_PORT", "7001")]).expect("valid");
        assert_eq!(config.peers["b"], "[fd00::2]:7001");
    }
}

#[test]
fn the_contract_has_the_limit_of_all_clusters() {
    let entries: Vec<(String, String)> = (0..10)
        .flat_map(|n| [(format!("PEER_N{n}_HOST"), format!("h{n}")), (format!("PEER_N{n}_PORT"), "1".to_owned())])
        .collect();
    let environment: Vec<(&str, &str)> = entries.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let refusal = load(named("n1"), &environment).expect_err("refused").to_string();
    assert_eq!(refusal, "PEER_*: `10` are too many members; allowed: at most 9 members");
}
