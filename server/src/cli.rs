//! The command line of `quorate-server`: what can be asked, not what it means.
//!
//! The values of `run` stay text here, because [`config`](crate::config) merges them with the environment and the
//! configuration file and must be able to say of each wrong value where it came from.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{Key, MEMBERS_MAX, member_name};
use crate::slow_disk::SYNC_DELAY_MS_MAX;

/// The exit code of a wrong command line or configuration: `EX_USAGE` of sysexits.h.
pub const EXIT_USAGE: u8 = 64;

/// How many clients a demo may have: each prints a line or more per operation, which nobody reads beyond this.
pub const DEMO_CLIENTS_MAX: u64 = 64;

/// How many operations a client of a demo may send: the whole history of a run is kept in memory.
pub const DEMO_OPERATIONS_MAX: u64 = 10_000;

/// A whole command line.
#[derive(Parser, Clone, PartialEq, Eq, Debug)]
#[command(
    name = "quorate-server",
    version,
    about = "Quorate: a replicated, linearizable key-value store",
    long_about = "Quorate: a replicated, linearizable key-value store. A cluster of nodes agrees on every write through \
                  the Raft consensus algorithm; any node answers any request.",
    after_help = "Examples:\n  \
        quorate-server demo                 a whole cluster with clients, told line by line\n  \
        quorate-server run                  one node, a cluster of its own, on 127.0.0.1:7001\n  \
        quorate-server run --help           how to start the nodes of a real cluster\n  \
        quorate-server verify DIR           whether a stopped node's data directory is sound",
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand, Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Start one node and serve until SIGTERM or Ctrl-C
    Run(Box<RunArgs>),
    /// Start a cluster of real nodes with clients, tell what happens and check the result
    Demo(DemoArgs),
    /// Check the data directory of a stopped node, and say what a start would find
    Verify(VerifyArgs),
    /// Print the log of a stopped node, record by record, the keys that it makes, or a snapshot
    Dump(DumpArgs),
    /// Make the data directories of a new cluster out of a snapshot
    Restore(RestoreArgs),
}

/// The flags of `run`. What is not given comes from the environment, the configuration file or the defaults.
#[derive(Args, Clone, PartialEq, Eq, Debug, Default)]
#[command(
    after_help = "Every flag can also be given as an environment variable (--data-dir: QUORATE_DATA_DIR) or in the \
    TOML file of --config (data_dir). Flags win over the environment, which wins over the file. PORT, and PEER_<NAME>_HOST \
    with PEER_<NAME>_PORT for each peer, are understood too.\n\n\
    Examples:\n  \
        quorate-server run --name n1 --listen 127.0.0.1:7001 \\\n      \
            --peers n1=127.0.0.1:7001,n2=127.0.0.1:7002,n3=127.0.0.1:7003\n  \
        quorate-server run --config /etc/quorate/quorate.toml --name n2\n  \
        PORT=7001 PEER_N2_HOST=n2.local PEER_N2_PORT=7001 quorate-server run --name n1\n\n\
    Exit codes: 0 stopped as asked, 64 wrong configuration (nothing was started), others: failed while running."
)]
pub struct RunArgs {
    /// Read settings from this TOML file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// This node's name: lower-case letters, digits, hyphens [default: the host name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Where this node keeps its data [default: ./quorate-data/NAME]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Serve clients, and peers unless --peer-listen is given, on this address [default: 127.0.0.1:7001]
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Option<String>,
    /// Serve peers on an address of their own
    #[arg(long, value_name = "IP:PORT")]
    pub peer_listen: Option<String>,
    /// Serve health checks, metrics and a status page over HTTP on this address [default: not served]
    #[arg(long, value_name = "IP:PORT")]
    pub http_listen: Option<String>,
    /// The address at which clients reach this node, if it is another than peers use
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise_client: Option<String>,
    /// All first members of the cluster, this node included [default: this node alone]
    #[arg(long, value_name = "NAME=HOST:PORT,...")]
    pub peers: Vec<String>,
    /// The size of a log segment in bytes [default: 67108864]
    #[arg(long, value_name = "N")]
    pub segment_bytes: Option<String>,
    /// Take a snapshot when there is more log than this since the last one, in bytes [default: 67108864]
    #[arg(long, value_name = "N")]
    pub snapshot_log_bytes: Option<String>,
    /// Refuse writes that need room while the disk has less left, in bytes [default: 134217728, or two segments]
    #[arg(long, value_name = "N")]
    pub space_reserve_bytes: Option<String>,
    /// How often a leader shows that it is there, in milliseconds [default: 100]
    #[arg(long, value_name = "MS")]
    pub heartbeat_ms: Option<String>,
    /// After how long without a leader a node stands for election: between once and twice this [default: 500]
    #[arg(long, value_name = "MS")]
    pub election_timeout_ms: Option<String>,
    /// How long a request may take if its client set no deadline, in milliseconds [default: 5000]
    #[arg(long, value_name = "MS")]
    pub request_timeout_ms: Option<String>,
    /// How long to go on serving, not ready any more, after SIGTERM, in milliseconds [default: 0]
    #[arg(long, value_name = "MS")]
    pub shutdown_delay_ms: Option<String>,
    /// What is logged: a level, or a filter as in `info,quorate_server::node=debug` [default: info]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
    /// How it is logged: human or json [default: human]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// Print what happens as JSON lines on standard output, for the demo
    #[arg(long, hide = true)]
    pub narrate: bool,
    /// Shut down when standard input ends, so that the node does not outlive the program that started it
    #[arg(long, hide = true)]
    pub exit_with_stdin: bool,
    /// For measurements only: let each sync of the disk take so much longer, in milliseconds, as on a slower one
    #[arg(long, hide = true, value_name = "MS", value_parser = clap::value_parser!(u64).range(0..=SYNC_DELAY_MS_MAX))]
    pub sync_delay_ms: Option<u64>,
}

impl RunArgs {
    /// The text given for `key`, if it was given.
    #[must_use]
    pub fn get(&self, key: Key) -> Option<String> {
        match key {
            Key::Name => self.name.clone(),
            Key::DataDir => self.data_dir.clone(),
            Key::Listen => self.listen.clone(),
            Key::PeerListen => self.peer_listen.clone(),
            Key::HttpListen => self.http_listen.clone(),
            Key::AdvertiseClient => self.advertise_client.clone(),
            Key::Peers => (!self.peers.is_empty()).then(|| self.peers.join(",")),
            Key::SegmentBytes => self.segment_bytes.clone(),
            Key::SnapshotLogBytes => self.snapshot_log_bytes.clone(),
            Key::SpaceReserveBytes => self.space_reserve_bytes.clone(),
            Key::HeartbeatMs => self.heartbeat_ms.clone(),
            Key::ElectionTimeoutMs => self.election_timeout_ms.clone(),
            Key::RequestTimeoutMs => self.request_timeout_ms.clone(),
            Key::ShutdownDelayMs => self.shutdown_delay_ms.clone(),
            Key::Log => self.log.clone(),
            Key::LogFormat => self.log_format.clone(),
        }
    }
}

/// When the demo colours its lines.
#[derive(ValueEnum, serde::Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
#[serde(rename_all = "lowercase")]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set or `TERM` is `dumb`.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The flags of `demo`. What is not given comes from the TOML file of `--config` or the defaults.
#[derive(Args, Clone, PartialEq, Eq, Debug, Default)]
#[command(after_help = "The TOML file may set num_nodes, num_clients, num_operations, seed, data_dir, keep_running, \
    kill_leader and color; flags win.\n\n\
    Examples:\n  \
        quorate-server demo\n  \
        quorate-server demo --nodes 5 --clients 3 --kill-leader\n  \
        quorate-server demo --keep-running      then try client-cli and grpcurl against it\n\n\
    Exit codes: 0 all nodes hold the same state, 1 they do not or the demo failed, 64 wrong flags, 130 interrupted.")]
pub struct DemoArgs {
    /// Read settings from this TOML file (num_nodes = 5, num_clients = 3, ...)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How many nodes to start [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MEMBERS_MAX as u64))]
    pub nodes: Option<u64>,
    /// How many clients to run at once [default: 3]
    #[arg(long, value_name = "M", value_parser = clap::value_parser!(u64).range(0..=DEMO_CLIENTS_MAX))]
    pub clients: Option<u64>,
    /// How many operations each client sends [default: 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=DEMO_OPERATIONS_MAX))]
    pub operations: Option<u64>,
    /// Choose the operations from this number, to send the same ones again [default: random, and printed]
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// Keep the nodes' data and logs here [default: a temporary folder, removed at the end]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Leave the cluster running at the end, until Ctrl-C
    #[arg(long)]
    pub keep_running: bool,
    /// Kill the leader halfway, go on with a new one, then bring the old one back
    #[arg(long)]
    pub kill_leader: bool,
    /// When to colour the lines [default: auto]
    #[arg(long, value_name = "WHEN", value_enum)]
    pub color: Option<Color>,
}

/// The flags of `verify`.
#[derive(Args, Clone, PartialEq, Eq, Debug)]
#[command(after_help = "Reads the directory as a start of the node would, and changes nothing in it: it may lie in a \
    file system that is mounted read-only. What was never synced, and would be cut by the next start, is no damage. Of \
    damage it says what a start would do about it: use an older snapshot, cut the log and fetch the rest from the other \
    members, or refuse. The node must not be running; a node does not start meanwhile.\n\n\
    Examples:\n  \
        quorate-server verify ./quorate-data/n1\n  \
        quorate-server verify --json ./quorate-data/n1 | jq .state_hash\n\n\
    Exit codes: 0 sound, 1 damaged, 64 wrong flags, 66 no data directory, 74 it cannot be read, 75 a running process \
    has it.")]
pub struct VerifyArgs {
    /// The data directory, as given to run --data-dir
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// The flags of `restore`.
#[derive(Args, Clone, PartialEq, Eq, Debug)]
#[command(
    after_help = "The file is a snapshot of any node: snapshot-*.snap of a stopped node's data directory, or a copy \
    of it. It is checked as a whole before anything is written. The new cluster has its keys, revisions and settings, \
    and an id and incarnations of its own, so that no node of the old one can be taken for a member. Clients' sessions \
    are forgotten: a write that one of them sends once more is told that its session has expired, and is not run. What \
    was written after the snapshot is not in it.\n\n\
    Examples:\n  \
        quorate-server restore snapshot-00000000000000004711.snap --into new --members n1,n2,n3\n\n\
    Exit codes: 0 done, 1 the snapshot is damaged or of another version, 64 wrong flags, 66 no such file, 73 a directory is there already, 74 \
    the file system failed, 75 a running process has the file's directory."
)]
pub struct RestoreArgs {
    /// The snapshot
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Make a data directory for each member in this directory
    #[arg(long, value_name = "DIR")]
    pub into: PathBuf,
    /// The members of the new cluster
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', required = true, value_parser = member_name)]
    pub members: Vec<String>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// The flags of `dump`.
#[derive(Args, Clone, PartialEq, Eq, Debug)]
#[command(after_help = "Changes nothing in the directory. A damaged log is printed up to the damage, which standard \
    error then tells. Keys and values that are not UTF-8 are escaped, and in JSON an object with their hexadecimal digits \
    (hex). The state is that of the last entry which the log records as committed, made of the newest sound snapshot and \
    the log behind it.\n\n\
    Examples:\n  \
        quorate-server dump ./quorate-data/n1\n  \
        quorate-server dump --from 100 --to 120 ./quorate-data/n1\n  \
        quorate-server dump --state --json ./quorate-data/n1 | jq -r .key\n  \
        quorate-server dump --snapshot ./quorate-data/n1 | head -1\n\n\
    Exit codes: 0 printed, 1 damaged, 64 wrong flags, 66 no data directory or snapshot, 74 it cannot be read, 75 a running process \
    has it.")]
pub struct DumpArgs {
    /// The data directory, as given to run --data-dir
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Print JSON, one object a line
    #[arg(long)]
    pub json: bool,
    /// Print only entries from this index on, and truncations and resets that may have taken one of them back
    #[arg(long, value_name = "INDEX")]
    pub from: Option<u64>,
    /// Print only entries up to this index, and truncations and resets that may have taken one of them back
    #[arg(long, value_name = "INDEX")]
    pub to: Option<u64>,
    /// Print the keys that snapshot and log make instead of the log's records
    #[arg(long, conflicts_with_all = ["from", "to"])]
    pub state: bool,
    /// Print the newest snapshot, or that of an index: what it covers, then its keys
    #[arg(long, value_name = "INDEX", num_args = 0..=1, require_equals = true)]
    #[arg(conflicts_with_all = ["from", "to", "state"])]
    pub snapshot: Option<Option<u64>>,
}

/// Parses a command line, the program's name first.
///
/// # Errors
///
/// What is to be shown instead of running: help, the version, or what is wrong. `print` it and exit with
/// [`exit_code`] of it.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(arguments)
}

/// The exit code that goes with what [`parse`] returned: 0 for asked help, [`EXIT_USAGE`] for a wrong command line.
#[must_use]
pub fn exit_code(error: &clap::Error) -> u8 {
    if error.use_stderr() { EXIT_USAGE } else { 0 }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse_words(words: &[&str]) -> Result<Cli, clap::Error> {
        parse(std::iter::once("quorate-server").chain(words.iter().copied()).map(OsString::from))
    }

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_key_has_a_flag_of_its_name() {
        for key in Key::ALL {
            let flag = format!("--{}", key.flag());
            let cli = parse_words(&["run", &flag, "some-value"]).expect("the flag exists");
            let Command::Run(run) = cli.command else { panic!("run was asked") };
            for other in Key::ALL {
                let expected = (other == key).then(|| "some-value".to_owned());
                assert_eq!(run.get(other), expected, "{flag} sets exactly {key:?}, looking at {other:?}");
            }
        }
    }

    #[test]
    fn every_flag_of_run_is_a_key_or_one_of_the_few_that_are_not() {
        let command = Cli::command();
        let run = command.find_subcommand("run").expect("run exists");
        for argument in run.get_arguments() {
            let Some(flag) = argument.get_long() else { continue };
            let known = Key::ALL.iter().any(|key| key.flag() == flag);
            let needs_none = ["config", "narrate", "exit-with-stdin", "sync-delay-ms"].contains(&flag);
            assert!(known || needs_none, "--{flag} has no key");
        }
    }

    #[test]
    fn peers_may_be_repeated() {
        let cli = parse_words(&["run", "--peers", "a=h:1", "--peers", "b=h:2,c=h:3"]).expect("parses");
        let Command::Run(run) = cli.command else { panic!("run was asked") };
        assert_eq!(run.get(Key::Peers).as_deref(), Some("a=h:1,b=h:2,c=h:3"));
    }

    #[test]
    fn a_wrong_command_line_exits_64_and_asked_help_exits_0() {
        let code = |words: &[&str]| exit_code(&parse_words(words).expect_err("nothing to run"));
        assert_eq!(code(&["run", "--no-such-flag"]), EXIT_USAGE);
        assert_eq!(code(&["run", "--sync-delay-ms", "1001"]), EXIT_USAGE);
        assert_eq!(code(&["walk"]), EXIT_USAGE);
        assert_eq!(code(&["demo", "--nodes", "0"]), EXIT_USAGE);
        assert_eq!(code(&["demo", "--nodes", "many"]), EXIT_USAGE);
        assert_eq!(code(&["verify"]), EXIT_USAGE);
        assert_eq!(code(&["restore", "file", "--into", "dir"]), EXIT_USAGE);
        assert_eq!(code(&["dump", "--from", "first", "dir"]), EXIT_USAGE);
        assert_eq!(code(&["dump", "--state", "--to", "3", "dir"]), EXIT_USAGE);
        assert_eq!(code(&["dump", "--snapshot=first", "dir"]), EXIT_USAGE);
        assert_eq!(code(&["dump", "--snapshot", "--state", "dir"]), EXIT_USAGE);
        assert_eq!(code(&[]), EXIT_USAGE);
        assert_eq!(code(&["--help"]), 0);
        assert_eq!(code(&["run", "--help"]), 0);
        assert_eq!(code(&["--version"]), 0);
    }

    #[test]
    fn the_help_shows_examples_and_hides_what_is_not_for_people() {
        let help = parse_words(&["run", "--help"]).expect_err("help is shown").to_string();
        assert!(help.contains("quorate-server run --name n1 --listen 127.0.0.1:7001"), "{help}");
        assert!(help.contains("[default: ./quorate-data/NAME]"), "{help}");
        for hidden in ["--narrate", "--exit-with-stdin", "--sync-delay-ms"] {
            assert!(!help.contains(hidden), "{hidden}: {help}");
        }
        let help = parse_words(&["demo", "--help"]).expect_err("help is shown").to_string();
        assert!(help.contains("quorate-server demo --nodes 5 --clients 3 --kill-leader"), "{help}");
    }
}
