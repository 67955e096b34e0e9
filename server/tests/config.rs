//! The configuration's sources, their precedence, and what each refusal says.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use quorate_server::cli::RunArgs;
use quorate_server::config::{Config, ConfigError, Key, LogFormat};

/// A machine to load a configuration on: flags, variables, files.
#[derive(Default)]
struct Machine {
    flags: RunArgs,
    environment: Vec<(String, String)>,
    files: BTreeMap<PathBuf, String>,
}

impl Machine {
    /// One whose host name is `box`, so that nothing depends on the machine that runs the tests.
    fn new() -> Self {
        Self::default().file("/proc/sys/kernel/hostname", "box\n")
    }

    fn flag(mut self, key: Key, value: &str) -> Self {
        let value = value.to_owned();
        let flags = &mut self.flags;
        match key {
            Key::Name => flags.name = Some(value),
            Key::DataDir => flags.data_dir = Some(value),
            Key::Listen => flags.listen = Some(value),
            Key::PeerListen => flags.peer_listen = Some(value),
            Key::HttpListen => flags.http_listen = Some(value),
            Key::AdvertiseClient => flags.advertise_client = Some(value),
            Key::Peers => flags.peers.push(value),
            Key::SegmentBytes => flags.segment_bytes = Some(value),
            Key::SnapshotLogBytes => flags.snapshot_log_bytes = Some(value),
            Key::SpaceReserveBytes => flags.space_reserve_bytes = Some(value),
            Key::HeartbeatMs => flags.heartbeat_ms = Some(value),
            Key::ElectionTimeoutMs => flags.election_timeout_ms = Some(value),
            Key::RequestTimeoutMs => flags.request_timeout_ms = Some(value),
            Key::ShutdownDelayMs => flags.shutdown_delay_ms = Some(value),
            Key::Log => flags.log = Some(value),
            Key::LogFormat => flags.log_format = Some(value),
        }
        self
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    fn file(mut self, path: &str, text: &str) -> Self {
        self.files.insert(PathBuf::from(path), text.to_owned());
        self
    }

    /// A configuration file, named by `--config`.
    fn config(mut self, text: &str) -> Self {
        self.flags.config = Some(PathBuf::from("q.toml"));
        self.file("q.toml", text)
    }

    fn load(self) -> Result<Config, ConfigError> {
        Config::load(&self.flags, self.environment, |path| {
            self.files.get(path).cloned().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such file"))
        })
    }

    fn config_of(self) -> Config {
        self.load().expect("the configuration is valid")
    }

    fn refusal(self) -> String {
        self.load().expect_err("the configuration is refused").to_string()
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn peers(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(name, address)| ((*name).to_owned(), (*address).to_owned())).collect()
}

const THREE: &str = "n1=127.0.0.1:7001,n2=127.0.0.1:7002,n3=127.0.0.1:7003";

#[test]
fn without_any_source_the_defaults_are_a_cluster_of_one() {
    let expected = Config {
        name: "box".to_owned(),
        data_dir: PathBuf::from("./quorate-data/box"),
        listen: address("127.0.0.1:7001"),
        peer_listen: None,
        http_listen: None,
        advertise_client: None,
        peers: peers(&[("box", "127.0.0.1:7001")]),
        segment_bytes: 67_108_864,
        snapshot_log_bytes: 67_108_864,
        space_reserve_bytes: 134_217_728,
        heartbeat_ms: 100,
        election_timeout_ms: 500,
        request_timeout_ms: 5000,
        shutdown_delay_ms: 0,
        log: "info".to_owned(),
        log_format: LogFormat::Human,
        narrate: false,
        exit_with_stdin: false,
        sync_delay_ms: 0,
    };
    assert_eq!(Machine::new().config_of(), expected);
}

/// For each key three values, as text and as TOML.
fn samples(key: Key) -> [(&'static str, &'static str); 3] {
    match key {
        Key::Name => [("n1", "\"n1\""), ("n2", "\"n2\""), ("n3", "\"n3\"")],
        Key::DataDir => [("/a", "\"/a\""), ("/b", "\"/b\""), ("/c", "\"/c\"")],
        Key::Listen | Key::PeerListen | Key::HttpListen => [
            ("127.0.0.1:8001", "\"127.0.0.1:8001\""),
            ("127.0.0.1:8002", "\"127.0.0.1:8002\""),
            ("127.0.0.1:8003", "\"127.0.0.1:8003\""),
        ],
        Key::AdvertiseClient => [("a:1", "\"a:1\""), ("b:1", "\"b:1\""), ("c:1", "\"c:1\"")],
        Key::Peers => [
            ("box=a:1,n2=b:1", "{ box = \"a:1\", n2 = \"b:1\" }"),
            ("box=a:2,n2=b:2", "{ box = \"a:2\", n2 = \"b:2\" }"),
            ("box=a:3,n2=b:3", "\"box=a:3,n2=b:3\""),
        ],
        Key::SegmentBytes => [("65536", "65536"), ("1048576", "1048576"), ("1073741824", "1073741824")],
        Key::SnapshotLogBytes => [("65536", "65536"), ("1048576", "1048576"), ("68719476736", "68719476736")],
        Key::SpaceReserveBytes => [("0", "0"), ("1048576", "1048576"), ("1099511627776", "1099511627776")],
        Key::HeartbeatMs => [("10", "10"), ("50", "50"), ("99", "99")],
        Key::ElectionTimeoutMs => [("600", "600"), ("700", "700"), ("2500", "2500")],
        Key::ShutdownDelayMs => [("0", "0"), ("5000", "5000"), ("60000", "60000")],
        Key::RequestTimeoutMs => [("1000", "1000"), ("2000", "2000"), ("600000", "600000")],
        Key::Log => [("debug", "\"debug\""), ("info,engine=trace", "\"info,engine=trace\""), ("off", "\"off\"")],
        Key::LogFormat => [("human", "\"human\""), ("json", "\"json\""), ("human", "\"human\"")],
    }
}

/// The value of `key`, as the text that gives it.
fn shown(config: &Config, key: Key) -> String {
    let address = |address: Option<SocketAddr>| address.map(|address| address.to_string()).unwrap_or_default();
    match key {
        Key::Name => config.name.clone(),
        Key::DataDir => config.data_dir.display().to_string(),
        Key::Listen => config.listen.to_string(),
        Key::PeerListen => address(config.peer_listen),
        Key::HttpListen => address(config.http_listen),
        Key::AdvertiseClient => config.advertise_client.clone().unwrap_or_default(),
        Key::Peers => {
            config.peers.iter().map(|(name, address)| format!("{name}={address}")).collect::<Vec<_>>().join(",")
        }
        Key::SegmentBytes => config.segment_bytes.to_string(),
        Key::SnapshotLogBytes => config.snapshot_log_bytes.to_string(),
        Key::SpaceReserveBytes => config.space_reserve_bytes.to_string(),
        Key::HeartbeatMs => config.heartbeat_ms.to_string(),
        Key::ElectionTimeoutMs => config.election_timeout_ms.to_string(),
        Key::RequestTimeoutMs => config.request_timeout_ms.to_string(),
        Key::ShutdownDelayMs => config.shutdown_delay_ms.to_string(),
        Key::Log => config.log.clone(),
        Key::LogFormat => if config.log_format == LogFormat::Json { "json" } else { "human" }.to_owned(),
    }
}

#[test]
fn each_key_is_read_from_each_source_and_flags_win_over_variables_over_the_file() {
    for key in Key::ALL {
        let [first, second, third] = samples(key);
        let file = format!("{} = {}", key.as_str(), first.1);
        let third_file = format!("{} = {}", key.as_str(), third.1);
        let variable = key.variable();
        assert_eq!(shown(&Machine::new().config(&file).config_of(), key), first.0);
        assert_eq!(shown(&Machine::new().config(&third_file).config_of(), key), third.0);
        assert_eq!(shown(&Machine::new().variable(&variable, second.0).config_of(), key), second.0);
        assert_eq!(shown(&Machine::new().flag(key, third.0).config_of(), key), third.0);
        let machine = Machine::new().config(&file).variable(&variable, second.0);
        assert_eq!(shown(&machine.config_of(), key), second.0, "the variable wins over the file");
        let machine = Machine::new().config(&file).variable(&variable, second.0).flag(key, third.0);
        assert_eq!(shown(&machine.config_of(), key), third.0, "the flag wins over both");
        let machine = Machine::new().config(&file).variable(&variable, "");
        assert_eq!(shown(&machine.config_of(), key), first.0, "an empty variable is not set");
    }
}

#[test]
fn names_of_flags_and_variables_follow_the_key() {
    assert_eq!(Key::DataDir.flag(), "data-dir");
    assert_eq!(Key::DataDir.variable(), "QUORATE_DATA_DIR");
    assert_eq!(Key::ElectionTimeoutMs.variable(), "QUORATE_ELECTION_TIMEOUT_MS");
}

#[test]
fn the_configuration_file_is_named_by_the_flag_or_by_the_variable() {
    let machine = Machine::new().variable("QUORATE_CONFIG", "/etc/q.toml").file("/etc/q.toml", "heartbeat_ms = 20");
    assert_eq!(machine.config_of().heartbeat_ms, 20);
    let machine = Machine::new().variable("QUORATE_CONFIG", "/etc/q.toml").config("heartbeat_ms = 30");
    assert_eq!(machine.config_of().heartbeat_ms, 30, "the flag wins");
}

#[test]
fn a_file_that_cannot_be_read_or_parsed_is_named() {
    let refusal = Machine::new().variable("QUORATE_CONFIG", "/etc/none.toml").refusal();
    assert_eq!(refusal, "QUORATE_CONFIG: the configuration file /etc/none.toml cannot be read: no such file");
    let mut machine = Machine::new();
    machine.flags.config = Some(PathBuf::from("none.toml"));
    assert_eq!(machine.refusal(), "--config: the configuration file none.toml cannot be read: no such file");
    let refusal = Machine::new().config("name = n1\n").refusal();
    assert!(refusal.starts_with("q.toml: not valid TOML: TOML parse error at line 1"), "{refusal}");
    let refusal = Machine::new().config("log = \"info\"\nlog = \"debug\"\n").refusal();
    assert!(refusal.contains("duplicate key"), "{refusal}");
}

#[test]
fn unknown_keys_and_variables_are_errors_that_list_what_exists() {
    let keys = "name, data_dir, listen, peer_listen, http_listen, advertise_client, peers, segment_bytes, \
                snapshot_log_bytes, space_reserve_bytes, heartbeat_ms, election_timeout_ms, request_timeout_ms, \
                shutdown_delay_ms, log, log_format";
    let refusal = Machine::new().config("hartbeat_ms = 20").refusal();
    assert_eq!(refusal, format!("q.toml: unknown key `hartbeat_ms`; allowed: {keys}"));
    let refusal = Machine::new().config("[server]\nlisten = \"127.0.0.1:1\"").refusal();
    assert_eq!(refusal, format!("q.toml: unknown key `server`; allowed: {keys}"));
    let refusal = Machine::new().variable("QUORATE_DATADIR", "/a").refusal();
    assert!(refusal.starts_with("unknown environment variable QUORATE_DATADIR; allowed: QUORATE_NAME, "), "{refusal}");
    assert!(refusal.ends_with(", QUORATE_LOG_FORMAT, QUORATE_CONFIG"), "{refusal}");
}

#[test]
fn variables_of_other_programs_are_let_be() {
    let machine = Machine::new()
        .variable("QUORATE_ENDPOINTS", "127.0.0.1:7001")
        .variable("QUORATE_TIMEOUT", "5s")
        .variable("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317")
        .variable("PATH", "/bin");
    assert_eq!(machine.config_of(), Machine::new().config_of());
}

#[test]
fn variables_that_kubernetes_makes_of_a_service_are_let_be() {
    let machine = Machine::new()
        .variable("QUORATE_SERVICE_HOST", "10.0.0.7")
        .variable("QUORATE_SERVICE_PORT", "7001")
        .variable("QUORATE_SERVICE_PORT_GRPC", "7001")
        .variable("QUORATE_PORT", "tcp://10.0.0.7:7001")
        .variable("QUORATE_PORT_7001_TCP", "tcp://10.0.0.7:7001")
        .variable("QUORATE_PORT_7001_TCP_PROTO", "tcp")
        .variable("QUORATE_PORT_7001_TCP_PORT", "7001")
        .variable("QUORATE_PORT_7001_TCP_ADDR", "10.0.0.7")
        .variable("PEER_0_SERVICE_HOST", "10.0.0.8")
        .variable("PEER_0_SERVICE_PORT", "7001")
        .variable("PEER_0_PORT", "tcp://10.0.0.8:7001")
        .variable("PEER_0_PORT_7001_TCP", "tcp://10.0.0.8:7001")
        .variable("PEER_0_PORT_7001_TCP_PORT", "7001");
    assert_eq!(machine.config_of(), Machine::new().config_of());
    // The same names without the signs of a service are slips of the keyboard, and half a peer.
    let refusal = Machine::new().variable("QUORATE_PORT", "7001").refusal();
    assert!(refusal.starts_with("unknown environment variable QUORATE_PORT; "), "{refusal}");
    let refusal = Machine::new().variable("PEER_0_PORT", "7001").refusal();
    assert!(refusal.starts_with("PEER_0_PORT is set without PEER_0_HOST; "), "{refusal}");
}

/// Texts that are refused, with the problem and what is allowed instead.
fn refused_values() -> Vec<(Key, &'static str, &'static str, &'static str)> {
    let name = "1 to 63 lower-case letters, digits and hyphens, with a letter or digit at both ends";
    let listen = "IP:PORT, as in 127.0.0.1:7001, 0.0.0.0:7001 or [::]:7001";
    let host = "HOST:PORT, as in n1.example:7001, 10.0.0.1:7001 or [::1]:7001";
    let log = "error, warn, info, debug, trace, off, or directives as in info,quorate_server::node=debug";
    let beat = "10 to 10000 (milliseconds)";
    vec![
        (Key::Name, "N1", "is not a name", name),
        (Key::Name, "n_1", "is not a name", name),
        (Key::Name, "-n", "is not a name", name),
        (Key::Name, "n.1", "is not a name", name),
        (Key::Listen, "7001", "is not an address to listen on", listen),
        (Key::Listen, "example.org:7001", "is not an address to listen on", listen),
        (Key::PeerListen, "127.0.0.1:70000", "is not an address to listen on", listen),
        (Key::HttpListen, "::1:7001:x", "is not an address to listen on", listen),
        (Key::AdvertiseClient, "http://a:1", "has a scheme", host),
        (Key::AdvertiseClient, "a", "has no port", host),
        (Key::AdvertiseClient, "a:x", "has no port between 0 and 65535", host),
        (Key::AdvertiseClient, "a:65536", "has no port between 0 and 65535", host),
        (Key::AdvertiseClient, "a b:1", "has no valid host", host),
        (Key::AdvertiseClient, "1.2.3:1", "has no valid host", host),
        (Key::AdvertiseClient, "::1:1", "has no valid host", host),
        (Key::AdvertiseClient, ":1", "has no valid host", host),
        (Key::AdvertiseClient, "[::]:1", "means every address of a machine, and others cannot connect to that", host),
        (Key::AdvertiseClient, "a:0", "has port 0", "HOST:PORT with the port that clients connect to"),
        (Key::SegmentBytes, "64MiB", "is not a whole number", "65536 to 1073741824 (bytes)"),
        (Key::SegmentBytes, "1", "is out of range", "65536 to 1073741824 (bytes)"),
        (Key::SnapshotLogBytes, "65535", "is out of range", "65536 to 68719476736 (bytes)"),
        (Key::SpaceReserveBytes, "a lot", "is not a whole number", "0 to 1099511627776 (bytes)"),
        (Key::SpaceReserveBytes, "1099511627777", "is out of range", "0 to 1099511627776 (bytes)"),
        (Key::HeartbeatMs, "-5", "is not a whole number", beat),
        (Key::HeartbeatMs, "9", "is out of range", beat),
        (Key::ElectionTimeoutMs, "1e3", "is not a whole number", "50 to 60000 (milliseconds)"),
        (Key::RequestTimeoutMs, "99999999999999999999999", "is out of range", "100 to 600000 (milliseconds)"),
        (Key::Log, "loud", "is not a log filter", log),
        (Key::Log, "info,x=loud", "is not a log filter", log),
        (Key::LogFormat, "xml", "is not a log format", "human, json"),
    ]
}

#[test]
fn a_refused_value_tells_source_key_value_problem_and_what_is_allowed() {
    for (key, value, problem, allowed) in refused_values() {
        let message = format!("`{value}` {problem}; allowed: {allowed}");
        let refusal = Machine::new().flag(key, value).refusal();
        assert_eq!(refusal, format!("--{}: {message}", key.flag()));
        let refusal = Machine::new().variable(&key.variable(), value).refusal();
        assert_eq!(refusal, format!("{}: {message}", key.variable()));
        if !["is not a whole number", "is out of range"].contains(&problem) {
            let refusal = Machine::new().config(&format!("{} = \"{value}\"", key.as_str())).refusal();
            assert_eq!(refusal, format!("{} in q.toml: {message}", key.as_str()));
        }
    }
    let refusal = Machine::new().flag(Key::DataDir, "").refusal();
    let allowed = "the path of a directory, which is created if it is missing";
    assert_eq!(refusal, format!("--data-dir: `` is not a path; allowed: {allowed}"));
}

#[test]
fn the_reserve_is_two_segments_at_least_unless_it_is_given() {
    let reserve = |machine: Machine| machine.config_of().space_reserve_bytes;
    assert_eq!(reserve(Machine::new().flag(Key::SegmentBytes, "1048576")), 128 << 20);
    assert_eq!(reserve(Machine::new().flag(Key::SegmentBytes, "1073741824")), 2 << 30);
    let given = Machine::new().flag(Key::SegmentBytes, "1073741824").flag(Key::SpaceReserveBytes, "0");
    assert_eq!(reserve(given), 0);
}

#[test]
fn a_value_of_the_wrong_type_in_the_file_is_told() {
    let refusal = Machine::new().config("heartbeat_ms = \"100\"").refusal();
    assert_eq!(refusal, "heartbeat_ms in q.toml: `100` is a string; allowed: a whole number without quotes");
    let refusal = Machine::new().config("heartbeat_ms = -100").refusal();
    assert_eq!(refusal, "heartbeat_ms in q.toml: `-100` is not a whole number; allowed: 10 to 10000 (milliseconds)");
    let refusal = Machine::new().config("heartbeat_ms = 9").refusal();
    assert_eq!(refusal, "heartbeat_ms in q.toml: `9` is out of range; allowed: 10 to 10000 (milliseconds)");
    let refusal = Machine::new().config("name = 1").refusal();
    assert_eq!(refusal, "name in q.toml: `1` is an integer; allowed: a string in quotes");
    let refusal = Machine::new().config("listen = [\"127.0.0.1:1\"]").refusal();
    assert_eq!(refusal, "listen in q.toml: `[\"127.0.0.1:1\"]` is an array; allowed: a string in quotes");
    let refusal = Machine::new().config("[peers]\nbox = 7001").refusal();
    assert_eq!(refusal, "peers.box in q.toml: `7001` is an integer; allowed: a string in quotes");
}

#[test]
fn members_are_checked() {
    let refused = |peers: &str| Machine::new().flag(Key::Name, "n1").flag(Key::Peers, peers).refusal();
    let host = "allowed: HOST:PORT, as in n1.example:7001, 10.0.0.1:7001 or [::1]:7001";
    let each = "NAME=HOST:PORT for each member, separated by commas";
    assert_eq!(refused("n1"), format!("--peers: `n1` has no `=` between name and address; allowed: {each}"));
    assert_eq!(refused("n1=a"), format!("--peers: `n1=a` has no port; {host}"));
    assert_eq!(refused("n1=http://a:1"), format!("--peers: `n1=http://a:1` has a scheme; {host}"));
    assert!(refused("n1=0.0.0.0:1").starts_with("--peers: `n1=0.0.0.0:1` means every address of a machine, "));
    assert!(refused("N1=a:1").starts_with("--peers: `N1` is not a name; "));
    assert_eq!(refused("n1=a:1,n1=b:1"), "--peers: `n1` is given twice; allowed: one address for each member");
    assert_eq!(
        refused("n1=a:1,n2=A:1"),
        "--peers: `a:1` is the address of both n1 and n2; allowed: an address of its own for each member"
    );
    assert_eq!(
        refused("n1=a:0,n2=b:1"),
        "--peers: `a:0` has port 0; allowed: a port between 1 and 65535, because the other members must know it"
    );
    let at_least = "this node at least; leave it out for a cluster of one";
    assert_eq!(refused(","), format!("--peers: `,` names no member; allowed: {at_least}"));
    let ten = (1..=10).map(|n| format!("n{n}=h{n}:1")).collect::<Vec<_>>().join(",");
    assert_eq!(refused(&ten), "--peers: `10` are too many members; allowed: at most 9 members");
    let refusal = Machine::new().config("[peers]").refusal();
    assert_eq!(refusal, format!("peers in q.toml: `{{}}` names no member; allowed: {at_least}"));
    let config = Machine::new().flag(Key::Name, "n1").flag(Key::Peers, " n1=a:1, n2=B.example.:2,n3=[::1]:3, ");
    assert_eq!(config.config_of().peers, peers(&[("n1", "a:1"), ("n2", "b.example.:2"), ("n3", "[::1]:3")]));
}

#[test]
fn the_node_must_be_one_of_its_members() {
    let refusal = Machine::new().flag(Key::Name, "n4").flag(Key::Peers, THREE).refusal();
    assert_eq!(
        refusal,
        "the node's name `n4` (from --name) is not among the members n1, n2, n3 (from --peers); name this node with \
         --name, or add it to them"
    );
    let refusal = Machine::new().variable("QUORATE_PEERS", THREE).refusal();
    assert!(refusal.starts_with("the node's name `box` (from the host name) is not among"), "{refusal}");
    assert!(refusal.contains("(from QUORATE_PEERS)"), "{refusal}");
}

#[test]
fn port_zero_is_for_a_cluster_of_one() {
    let config = Machine::new().flag(Key::Listen, "127.0.0.1:0").config_of();
    assert_eq!(config.peers, peers(&[("box", "127.0.0.1:0")]));
    assert_eq!(config.client_address(address("127.0.0.1:4321")), "127.0.0.1:4321");
    let three = || Machine::new().flag(Key::Name, "n1").flag(Key::Peers, THREE);
    let allowed = "allowed: a port between 1 and 65535, because the other members must know it";
    let refusal = three().flag(Key::Listen, "127.0.0.1:0").refusal();
    assert_eq!(refusal, format!("--listen: `127.0.0.1:0` has port 0; {allowed}"));
    let refusal = three().flag(Key::PeerListen, "127.0.0.1:0").refusal();
    assert_eq!(refusal, format!("--peer-listen: `127.0.0.1:0` has port 0; {allowed}"));
    assert_eq!(three().flag(Key::HttpListen, "127.0.0.1:0").config_of().http_listen, Some(address("127.0.0.1:0")));
}

#[test]
fn listeners_do_not_share_an_address() {
    let rule = "two listeners need two addresses; leave one out to serve both on one";
    let refusal = Machine::new().flag(Key::PeerListen, "0.0.0.0:7001").refusal();
    assert_eq!(
        refusal,
        format!("--peer-listen: `0.0.0.0:7001` does not fit the default of --listen: `127.0.0.1:7001`; {rule}")
    );
    let machine = Machine::new().flag(Key::PeerListen, "127.0.0.1:7002").flag(Key::HttpListen, "127.0.0.1:7002");
    assert!(machine.refusal().starts_with("--http-listen: `127.0.0.1:7002` does not fit --peer-listen: "));
    let machine = Machine::new().flag(Key::PeerListen, "127.0.0.2:7001").flag(Key::HttpListen, "127.0.0.3:7001");
    assert_eq!(machine.config_of().peer_listen, Some(address("127.0.0.2:7001")));
}

#[test]
fn times_must_fit_each_other() {
    let refusal = Machine::new().variable("QUORATE_HEARTBEAT_MS", "101").refusal();
    assert_eq!(
        refusal,
        "the default of --election-timeout-ms: `500` does not fit QUORATE_HEARTBEAT_MS: `101`; an election timeout must \
         be at least 5 heartbeats, here 505 milliseconds, or a few lost heartbeats depose a good leader"
    );
    let refusal = Machine::new().config("election_timeout_ms = 2501").refusal();
    assert_eq!(
        refusal,
        "the default of --request-timeout-ms: `5000` does not fit election_timeout_ms in q.toml: `2501`; a request \
         timeout must be at least 2 election timeouts, here 5002 milliseconds, or no request outlives the choice of a \
         new leader"
    );
    let machine = Machine::new()
        .flag(Key::HeartbeatMs, "10")
        .flag(Key::ElectionTimeoutMs, "50")
        .flag(Key::RequestTimeoutMs, "100");
    assert_eq!(machine.config_of().election_timeout_ms, 50);
}

#[test]
fn clients_are_told_the_host_that_peers_use_and_the_port_of_clients() {
    let bound = address("0.0.0.0:7001");
    let three = || Machine::new().flag(Key::Name, "n1").flag(Key::Peers, "n1=one.local:7101,n2=two.local:7101");
    assert_eq!(three().config_of().client_address(bound), "one.local:7101", "one port for both");
    let own_port = three().flag(Key::PeerListen, "0.0.0.0:7101").flag(Key::Listen, "0.0.0.0:7001");
    assert_eq!(own_port.config_of().client_address(bound), "one.local:7001");
    let given = three().flag(Key::AdvertiseClient, "lb.example:443");
    assert_eq!(given.config_of().client_address(bound), "lb.example:443");
}

#[test]
fn localhost_can_be_listened_on_by_name() {
    assert_eq!(Machine::new().flag(Key::Listen, "localhost:7009").config_of().listen, address("127.0.0.1:7009"));
}

#[test]
fn the_host_name_is_looked_up_where_it_is_told_first() {
    let name = |machine: Machine| machine.config_of().name;
    assert_eq!(name(Machine::new().variable("HOSTNAME", "Peer_0.example.org")), "peer-0");
    assert_eq!(name(Machine::new()), "box");
    assert_eq!(name(Machine::default().file("/etc/hostname", "other\n")), "other");
    assert_eq!(
        Machine::default().refusal(),
        "the node has no name: give it one with --name, QUORATE_NAME or `name` in the configuration file"
    );
    let refusal = Machine::new().variable("HOSTNAME", "k\u{e4}se").refusal();
    assert!(refusal.starts_with("the host name: `k\u{e4}se` is not a name; "), "{refusal}");
}

#[test]
fn hidden_flags_are_passed_on() {
    let mut machine = Machine::new();
    machine.flags.narrate = true;
    machine.flags.exit_with_stdin = true;
    machine.flags.sync_delay_ms = Some(5);
    let config = machine.config_of();
    assert!(config.narrate && config.exit_with_stdin);
    assert_eq!(config.sync_delay_ms, 5);
}

#[test]
fn files_are_read_only_when_they_are_named() {
    let flags = RunArgs { name: Some("n1".to_owned()), ..RunArgs::default() };
    let read = |path: &Path| -> io::Result<String> {
        assert!(path.ends_with("hostname"), "no file was named, {} was read", path.display());
        Err(io::ErrorKind::NotFound.into())
    };
    Config::load(&flags, [], read).expect("the configuration is valid");
}
