//! What is meant: the arguments resolved, with values read and endpoints parsed.

use super::{
    args::{Common, DEFAULT_ENDPOINTS, Format, Freshness, Get, Mode, Put, Request, SettingsAction, Tracing},
    bench::Plan,
    trace_id::TraceId,
};
use anyhow::Context as _;
use client_cli::{Consistency, GetOptions, Options, PutMode, RequestId, Setting, VALUE_BYTES_MAX};
use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read},
    os::unix::ffi::OsStrExt as _,
    path::Path,
    time::Duration,
};

/// One use of the command line.
#[derive(Debug)]
pub(crate) struct Invocation {
    pub(crate) options: Options,
    pub(crate) format: Format,
    pub(crate) action: Action,
    /// What a suggested command has to begin with to reach the same cluster.
    pub(crate) prefix: String,
    /// Whether the way of the request is shown.
    pub(crate) tracing: Option<Tracing>,
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Action {
    Put { key: String, value: Vec<u8>, mode: PutMode },
    Get { key: String, options: GetOptions },
    Delete { key: String, expected_revision: Option<u64> },
    Outcome { id: RequestId },
    Status,
    Leader,
    TransferLeadership { target: Option<String>, if_leader: bool },
    Members,
    ShowSettings,
    UpdateSettings { setting: Setting },
    Doctor { timeout: Duration },
    Slow { limit: u32 },
    Trace { id: TraceId },
    ShowLogFilter,
    UpdateLogFilter { filter: String },
    Bench(Plan),
}

impl Invocation {
    /// Resolves the arguments. Reads the value of a put if it comes from outside.
    ///
    /// # Errors
    ///
    /// If an endpoint is malformed, a value cannot be read, or options do not go together.
    pub(crate) fn new(common: Common, request: Request) -> anyhow::Result<Invocation> {
        let Common { endpoints, output, timeout, verbose: _ } = common;
        // A stream has to be opened, which a single request does not repay.
        let pipelining = matches!(&request, Request::Bench(bench) if bench.is_pipelined());
        let options = Options::new(&endpoints)?.timeout(timeout).pipelining(pipelining);
        let listed = endpoints.join(",");
        let implied = std::env::var_os("QUORATE_ENDPOINTS").is_some_and(|value| value == *listed);
        let prefix = if implied || listed == DEFAULT_ENDPOINTS {
            "client-cli".to_owned()
        } else {
            format!("client-cli --endpoints {listed}")
        };
        let tracing = match &request {
            Request::Put(Put { tracing, .. }) | Request::Get(Get { tracing, .. }) | Request::Delete { tracing, .. } => {
                Some(*tracing)
            }
            _ => None,
        };
        let action = match request {
            Request::Put(Put { key, value, mode, tracing: _ }) => {
                Action::Put { key, value: read_value(&value)?, mode: put_mode(&mode) }
            }
            Request::Get(get) => Action::Get { options: get_options(&get)?, key: get.key },
            Request::Delete { key, if_revision, tracing: _ } => Action::Delete { key, expected_revision: if_revision },
            Request::Outcome { request_id: id } => Action::Outcome { id },
            Request::Status => Action::Status,
            Request::Leader => Action::Leader,
            Request::TransferLeadership { node, if_leader } => Action::TransferLeadership { target: node, if_leader },
            Request::Members => Action::Members,
            Request::Settings { action: SettingsAction::Show } => Action::ShowSettings,
            Request::Settings { action: SettingsAction::Set { setting } } => {
                Action::UpdateSettings { setting: setting.into() }
            }
            Request::Doctor => Action::Doctor { timeout },
            Request::Slow { limit } => Action::Slow { limit },
            Request::Trace { trace_id: id } => Action::Trace { id },
            Request::LogFilter { filter: None, reset: false } => Action::ShowLogFilter,
            Request::LogFilter { filter: Some(filter), .. } if filter.trim().is_empty() => {
                anyhow::bail!("an empty filter says nothing; `off` logs nothing, --reset what was configured")
            }
            // An empty one stands for what was configured.
            Request::LogFilter { filter, .. } => Action::UpdateLogFilter { filter: filter.unwrap_or_default() },
            Request::Bench(bench) => Action::Bench(Plan::new(bench)?),
        };
        let tracing = tracing.filter(|tracing| tracing.is_wanted());
        Ok(Invocation { options, format: output, action, prefix, tracing })
    }
}

fn get_options(get: &Get) -> anyhow::Result<GetOptions> {
    let Get { key: _, consistency, max_staleness, min_revision, tracing: _ } = *get;
    let consistency = match (consistency, max_staleness) {
        (Freshness::Stale, max_staleness) => Consistency::Stale { max_staleness },
        (_, Some(_)) => anyhow::bail!("--max-staleness goes with --consistency stale"),
        (Freshness::Linearizable, None) => Consistency::Linearizable,
        (Freshness::Quorum, None) => Consistency::Quorum,
    };
    Ok(GetOptions { consistency, min_revision: min_revision.unwrap_or(0) })
}

fn put_mode(mode: &Mode) -> PutMode {
    // The argument group lets at most one of them pass.
    match *mode {
        Mode { if_revision: Some(revision), .. } => PutMode::Compare(revision),
        Mode { upsert: true, .. } => PutMode::Upsert,
        Mode { update: true, .. } => PutMode::Update,
        Mode { .. } => PutMode::Create,
    }
}

fn read_value(typed: &OsStr) -> anyhow::Result<Vec<u8>> {
    match typed.as_bytes() {
        b"-" => read_bounded(io::stdin().lock()).context("read the value from standard input"),
        [b'@', literal @ ..] if literal.first() == Some(&b'@') => Ok(literal.to_vec()),
        [b'@', path @ ..] => {
            let path = Path::new(OsStr::from_bytes(path));
            let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
            read_bounded(file).with_context(|| format!("read {}", path.display()))
        }
        literal => Ok(literal.to_vec()),
    }
}

/// Reads one byte more than a value may have at most, which is enough for the client to refuse it.
fn read_bounded(reader: impl Read) -> io::Result<Vec<u8>> {
    let mut value = Vec::new();
    reader.take(VALUE_BYTES_MAX as u64 + 1).read_to_end(&mut value)?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_literal_unless_marked() {
        for (typed, value) in [("x", "x"), ("", ""), ("@@home", "@home"), ("@@", "@"), ("a@b", "a@b"), ("--", "--")] {
            assert_eq!(read_value(OsStr::new(typed)).expect("nothing is read"), value.as_bytes(), "{typed}");
        }
        let arbitrary = OsStr::from_bytes(b"\xff\x00\xfe");
        assert_eq!(read_value(arbitrary).expect("nothing is read"), b"\xff\x00\xfe");
    }

    #[test]
    fn only_a_stale_answer_has_a_bound_of_staleness() {
        let options = |consistency, max_staleness, min_revision| {
            let tracing = Tracing { trace: false, trace_id: None };
            get_options(&Get { key: "k".to_owned(), consistency, max_staleness, min_revision, tracing }).ok()
        };
        let expected = |consistency, min_revision| Some(GetOptions { consistency, min_revision });
        let bound = Some(Duration::from_millis(500));
        assert_eq!(options(Freshness::Linearizable, None, None), expected(Consistency::Linearizable, 0));
        assert_eq!(options(Freshness::Quorum, None, Some(7)), expected(Consistency::Quorum, 7));
        for max_staleness in [None, bound] {
            let stale = expected(Consistency::Stale { max_staleness }, 0);
            assert_eq!(options(Freshness::Stale, max_staleness, None), stale);
        }
        assert_eq!(options(Freshness::Linearizable, bound, None), None);
        assert_eq!(options(Freshness::Quorum, bound, None), None);
    }

    #[test]
    fn reading_is_bounded() {
        let value = read_bounded(io::repeat(b'x')).expect("it cannot fail");
        assert_eq!(value.len(), VALUE_BYTES_MAX + 1);
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read_value(OsStr::new("@/does/not/exist")).expect_err("it is missing");
        assert!(format!("{error:#}").starts_with("open /does/not/exist: "), "{error:#}");
    }
}
