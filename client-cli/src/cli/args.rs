//! What can be typed: the arguments exactly as given, with their help. Nothing is resolved here.

use super::{bench::Bench, duration, exit, trace_id::TraceId};
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use client_cli::{RequestId, Setting};
use std::{ffi::OsString, path::PathBuf, process::ExitCode, time::Duration};

/// The endpoints of `quorate-server demo` and of the README's first cluster.
pub(crate) const DEFAULT_ENDPOINTS: &str = "127.0.0.1:7001,127.0.0.1:7002,127.0.0.1:7003";

/// The heading of the options that every command takes.
const COMMON: &str = "Common options";

const EXAMPLES: &str = "\
Examples:
  client-cli put greeting hello          create a key; fails if it exists
  client-cli put --upsert greeting hi    create or overwrite it
  client-cli get greeting                print its value
  client-cli delete greeting             remove it
  client-cli status                      ask each node how it is
  client-cli doctor                      find what is wrong, and what to do

Exit codes:
  0  done
  1  wrong usage, or a failure on this machine
  2  the key exists
  3  the key is missing
  4  the cluster is unavailable; certainly nothing was written
  5  the outcome of a write is unknown; the command outcome settles it
  6  refused for another reason (revision, size, ...); nothing was written
  7  outcome: the write was never applied, and never will be
  8  outcome: nobody knows any more what became of the write
  9  doctor: there is a problem

Formats: table is for people, json is one line, raw is for scripts: get writes
exactly the bytes of the value, lists are separated by tabs. A value that is no
UTF-8 is value_base64 in json.

Any node answers any request, so one endpoint that answers is enough. Without
--endpoints and QUORATE_ENDPOINTS these are asked:
127.0.0.1:7001,127.0.0.1:7002,127.0.0.1:7003

Colours are for terminals; NO_COLOR=1 switches them off, CLICOLOR_FORCE=1 on.";

const PUT_EXAMPLES: &str = "\
Examples:
  client-cli put a 1                     create a
  client-cli put --update a 2            overwrite a, which must exist
  client-cli put --if-revision 7 a 3     overwrite a if it was last written
                                         at revision 7
  client-cli put page @index.html        the contents of a file
  date | client-cli put now -            standard input
  client-cli put at @@home               the text @home
  client-cli put -- n -1                 after --, a hyphen is no option";

const GET_CONSISTENCIES: &str = "\
Consistency:
  linearizable  the default: sees every write acknowledged before; waits for
                a leader
  quorum        the same for this key from a majority, also without a
                leader; waits only while a write to the key is undecided
  stale         the state of one node as it is, at once, also if it is cut
                off: an earlier one, unless --max-staleness or
                --min-revision forbid it; json shows how old at most";

const OUTCOME_CODES: &str = "\
A write that was not applied yet never will be, once this has answered: a copy
that is still under way is refused. So it may be sent again as a new one.

Exit codes:
  0  the write was applied
  2  it was refused: the key existed
  3  it was refused: the key was missing
  5  nobody could tell now; ask again
  6  it was refused: the key had another revision
  7  it was never applied, and never will be
  8  nobody knows any more: its session was idle for an hour, or its client said
     that it needs the result no more; it will not be applied from now on";

/// What lease reads rest on, for whoever has switched them on.
pub(crate) const LEASE_READS_ASSUMPTION: &str = "\
    Assumes that the monotonic clocks of all nodes run at rates that differ by less than 10 percent, and that none \
    stands still while its machine is suspended. If that is ever wrong, a read may be answered with an old value.";

const SETTINGS: &str = "\
Settings:
  lease-reads  off by default: whether the leader may answer linearizable reads
               under a lease, without asking a majority for each.
               Assumes that the monotonic clocks of all nodes run at rates that
               differ by less than 10 percent, and that none stands still while
               its machine is suspended. If that is ever wrong, a read may be
               answered with an old value.
               In return, such reads cost no round trip. When a leader's process
               ends, the next one is elected an election timeout later, and not
               at once: until then the others keep what they promised it.

A setting is one of the whole cluster and part of its replicated state: it stays
until it is changed again, through restarts and in snapshots. A node of a
version that does not know it ends when it comes to the change in its log.";

const SLOW: &str = "\
Each node remembers the requests of the last ten minutes that took it longest,
whether they were traced or not. Where: what took at least a tenth of the time;
client-cli trace ID shows all of it.

  raft.queue       waited for the node's loop
  wal.queue        waited for the log to be free
  wal.append       was written to the log
  wal.fsync        was synced to the disk
  raft.replicate   was on its way to a follower and into its log
  raft.quorum_wait waited for a majority
  sm.apply         was applied
  kv.forward       waited for the leader
  read.LEVEL       waited for what makes the answer as fresh as was asked";

const LOG_FILTER: &str = "\
Examples:
  client-cli log-filter                            show the filters
  client-cli log-filter info,quorate_server=debug  more of the server's own
  client-cli log-filter --reset                    as configured

Each endpoint is asked, and no other node. A node logs by the new filter until
it is changed again or the node stops.";

const TRACE: &str = "\
A node remembers the traces of some hundred requests of lately, and those of the
slowest of the last ten minutes. Exit code 3: no node knows the trace.";

const DOCTOR_CHECKS: &str = "\
Each endpoint: whether its name resolves, whether it takes connections, whether
a Quorate node answers, of which version; whether it is ready, repairs itself,
and has room on its disk. All of them together: whether they are of one cluster,
agree on a term and a leader, and hold the same state; whether a majority
answers a read. The last line is the command to type for what is most urgent.

Exit codes:
  0  no problem; there may be warnings
  9  a problem";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  source <(client-cli completions bash)
  client-cli completions zsh > ~/.zfunc/_client-cli
  client-cli completions fish > ~/.config/fish/completions/client-cli.fish";

const MAN_EXAMPLES: &str = "\
Examples:
  client-cli man | man -l -
  client-cli man --dir ~/.local/share/man/man1";

/// The command line of Quorate, a replicated, linearizable key-value store.
#[derive(Debug, Parser)]
#[command(name = "client-cli", version, after_help = EXAMPLES, max_term_width = 80)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How fresh an answer has to be.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Freshness {
    Linearizable,
    Quorum,
    Stale,
}

/// What every command takes.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Nodes to ask: host:port,... (or QUORATE_ENDPOINTS).
    #[arg(
        long,
        global = true,
        env = "QUORATE_ENDPOINTS",
        value_name = "LIST",
        value_delimiter = ',',
        default_value = DEFAULT_ENDPOINTS,
        hide_default_value = true,
        hide_env = true,
        help_heading = COMMON
    )]
    pub(crate) endpoints: Vec<String>,

    /// Write results as table, json or raw.
    #[arg(
        short,
        long,
        global = true,
        value_name = "FORMAT",
        default_value = "table",
        hide_possible_values = true,
        help_heading = COMMON
    )]
    pub(crate) output: Format,

    /// Deadline of a request: 500ms, 5s, 2m.
    #[arg(
        long,
        global = true,
        value_name = "TIME",
        default_value = "5s",
        value_parser = duration::parse,
        help_heading = COMMON
    )]
    pub(crate) timeout: Duration,

    /// Tell what is done: which endpoint, which retries.
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = COMMON)]
    pub(crate) verbose: u8,
}

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// One line of JSON.
    Json,
    /// Bare values: get writes exactly the bytes, lists are separated by tabs.
    Raw,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Cluster(Request),
    /// Print the completion script of a shell.
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions {
        /// Which shell.
        shell: Shell,
    },
    /// Print the manual page.
    #[command(after_help = MAN_EXAMPLES)]
    Man {
        /// Write a page for each command into this directory.
        #[arg(long, value_hint = ValueHint::DirPath)]
        dir: Option<PathBuf>,
    },
}

/// What is asked of a cluster.
#[derive(Debug, Subcommand)]
pub(crate) enum Request {
    /// Write a value under a key; without an option, create it.
    #[command(after_help = PUT_EXAMPLES)]
    Put(Put),
    /// Print the value of a key.
    #[command(after_help = GET_CONSISTENCIES)]
    Get(Get),
    /// Remove a key.
    Delete {
        /// The key: 1 to 1024 bytes.
        key: String,
        /// Only if it was last written at this revision.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        if_revision: Option<u64>,
        #[command(flatten)]
        tracing: Tracing,
    },
    /// Settle what became of a write whose outcome is unknown.
    #[command(after_help = OUTCOME_CODES)]
    Outcome {
        /// What the write's error named: 32 digits-milliseconds-number.
        request_id: RequestId,
    },
    /// Ask each endpoint how its node is.
    Status,
    /// Print who leads.
    Leader,
    /// Hand leadership to another node.
    TransferLeadership {
        /// The name of the node that shall lead; else the one that is furthest.
        node: Option<String>,
        /// Only if one of the endpoints leads.
        #[arg(long)]
        if_leader: bool,
    },
    /// List the members of the cluster.
    Members,
    /// Show the settings of the cluster, or change one.
    #[command(after_help = SETTINGS)]
    Settings {
        #[command(subcommand)]
        action: SettingsAction,
    },
    /// Check each endpoint and the cluster; say what to do.
    #[command(after_help = DOCTOR_CHECKS)]
    Doctor,
    /// List the slowest requests, and where their time went.
    #[command(after_help = SLOW)]
    Slow {
        /// How many.
        #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Show a trace that the nodes remember, as a waterfall.
    #[command(after_help = TRACE)]
    Trace {
        /// 32 hexadecimal digits.
        trace_id: TraceId,
    },
    /// Show what the nodes log, or change it while they run.
    #[command(after_help = LOG_FILTER)]
    LogFilter {
        /// What is logged from now on.
        filter: Option<String>,
        /// Log again what was configured.
        #[arg(long, conflicts_with = "filter")]
        reset: bool,
    },
    /// Measure throughput and latency.
    Bench(Bench),
}

/// Whether the way of a request is shown.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Tracing {
    /// Show where its time went, on standard error.
    #[arg(long)]
    pub(crate) trace: bool,
    /// The same, as part of this trace: 32 digits.
    #[arg(long, value_name = "ID")]
    pub(crate) trace_id: Option<TraceId>,
}

impl Tracing {
    /// Whether it is shown.
    pub(crate) fn is_wanted(self) -> bool {
        self.trace || self.trace_id.is_some()
    }
}

/// What is done with settings.
#[derive(Debug, Subcommand)]
pub(crate) enum SettingsAction {
    /// Ask each endpoint for the settings, as its node has them.
    #[command(after_help = SETTINGS)]
    Show,
    /// Change a setting of the whole cluster.
    #[command(after_help = SETTINGS)]
    Set {
        /// What is to be: lease-reads=on or lease-reads=off.
        #[arg(value_name = "NAME=VALUE", hide_possible_values = true)]
        setting: SettingValue,
    },
}

/// A setting with its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SettingValue {
    #[value(name = "lease-reads=on")]
    LeaseReadsOn,
    #[value(name = "lease-reads=off")]
    LeaseReadsOff,
}

impl From<SettingValue> for Setting {
    fn from(value: SettingValue) -> Setting {
        match value {
            SettingValue::LeaseReadsOn => Setting::LeaseReads(true),
            SettingValue::LeaseReadsOff => Setting::LeaseReads(false),
        }
    }
}

/// A shell that completes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// The arguments of `put`.
#[derive(Debug, Args)]
pub(crate) struct Put {
    /// The key: 1 to 1024 bytes.
    pub(crate) key: String,
    /// The value; - reads standard input, @FILE a file, @@TEXT is @TEXT.
    pub(crate) value: OsString,
    #[command(flatten)]
    pub(crate) mode: Mode,
    #[command(flatten)]
    pub(crate) tracing: Tracing,
}

/// The arguments of `get`.
#[derive(Debug, Args)]
pub(crate) struct Get {
    /// The key: 1 to 1024 bytes.
    pub(crate) key: String,
    /// How fresh the answer has to be.
    #[arg(
        long,
        value_name = "LEVEL",
        default_value = "linearizable",
        hide_default_value = true,
        hide_possible_values = true
    )]
    pub(crate) consistency: Freshness,
    /// How old a stale answer may be: 500ms, 5s, 2m.
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub(crate) max_staleness: Option<Duration>,
    /// Only from a state that has come to this revision.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) min_revision: Option<u64>,
    #[command(flatten)]
    pub(crate) tracing: Tracing,
}

/// When a put is accepted.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct Mode {
    /// Create the key or overwrite it.
    #[arg(long)]
    pub(crate) upsert: bool,
    /// Overwrite the key; it must exist.
    #[arg(long)]
    pub(crate) update: bool,
    /// Overwrite the key if last written at this revision.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) if_revision: Option<u64>,
}

/// Reads the command line.
///
/// # Errors
///
/// The exit code, after the help, the version or what is wrong was printed.
pub(crate) fn parse() -> Result<Arguments, ExitCode> {
    Arguments::try_parse().map_err(|error| {
        // Whoever closed the stream does not want to read it.
        let _ = error.print();
        ExitCode::from(if error.use_stderr() { exit::USAGE } else { exit::OK })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definition_holds_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_help_of_settings_says_what_lease_reads_assume() {
        let help = SETTINGS.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(help.contains(LEASE_READS_ASSUMPTION), "{help}");
    }

    #[test]
    fn every_help_fits_eighty_columns() {
        let mut command = Arguments::command();
        command.build();
        let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
        let mut helps = vec![command.render_help().to_string(), command.render_long_help().to_string()];
        for name in names {
            let subcommand = command.find_subcommand_mut(&name).expect("it was listed");
            helps.push(subcommand.render_help().to_string());
            helps.push(subcommand.render_long_help().to_string());
        }
        for line in helps.iter().flat_map(|help| help.lines()) {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
}
