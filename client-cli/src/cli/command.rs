//! What is meant: the arguments resolved, with values read and endpoints parsed.

use super::args::{Arguments, Command, DEFAULT_ENDPOINTS, Format, Mode, Put};
use anyhow::Context as _;
use client_cli::{Options, PutMode, VALUE_BYTES_MAX};
use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read},
    os::unix::ffi::OsStrExt as _,
    path::Path,
};

/// One use of the command line.
#[derive(Debug)]
pub(crate) struct Invocation {
    pub(crate) options: Options,
    pub(crate) format: Format,
    pub(crate) action: Action,
    /// What a suggested command has to begin with to reach the same cluster.
    pub(crate) prefix: String,
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Action {
    Put { key: String, value: Vec<u8>, mode: PutMode },
    Get { key: String },
    Delete { key: String, expected_revision: Option<u64> },
    Status,
    Leader,
    TransferLeadership { target: Option<String> },
    Members,
}

impl Invocation {
    /// Resolves the arguments. Reads the value of a put if it comes from outside.
    ///
    /// # Errors
    ///
    /// If an endpoint is malformed or a value cannot be read.
    pub(crate) fn new(arguments: Arguments) -> anyhow::Result<Invocation> {
        let Arguments { endpoints, output, timeout, verbose: _, command } = arguments;
        let options = Options::new(&endpoints)?.timeout(timeout);
        let listed = endpoints.join(",");
        let implied = std::env::var_os("QUORATE_ENDPOINTS").is_some_and(|value| value == *listed);
        let prefix = if implied || listed == DEFAULT_ENDPOINTS {
            "client-cli".to_owned()
        } else {
            format!("client-cli --endpoints {listed}")
        };
        let action = match command {
            Command::Put(Put { key, value, mode }) => {
                Action::Put { key, value: read_value(&value)?, mode: put_mode(&mode) }
            }
            Command::Get { key } => Action::Get { key },
            Command::Delete { key, if_revision } => Action::Delete { key, expected_revision: if_revision },
            Command::Status => Action::Status,
            Command::Leader => Action::Leader,
            Command::TransferLeadership { node } => Action::TransferLeadership { target: node },
            Command::Members => Action::Members,
        };
        Ok(Invocation { options, format: output, action, prefix })
    }
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
