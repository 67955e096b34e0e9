//! From text to values. Each parser says what is wrong and what would be right.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::LogFormat;

/// Why a text is not the value that it should be.
pub(super) struct Problem {
    /// What is wrong with it, as the rest of a sentence that begins with the text.
    pub(super) problem: String,
    /// What would be right.
    pub(super) allowed: String,
}

impl Problem {
    pub(super) fn new(problem: impl Into<String>, allowed: impl Into<String>) -> Self {
        Self { problem: problem.into(), allowed: allowed.into() }
    }
}

/// The longest name: that of a DNS label, so that every name can be a host name.
const NAME_BYTES_MAX: usize = 63;

/// The longest host: that of a DNS name.
const HOST_BYTES_MAX: usize = 253;

/// A member's name. Lower case only: an environment variable spells it in upper case and must lead back to it.
pub(super) fn name(text: &str) -> Result<String, Problem> {
    let characters = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    let inner_hyphens = !text.starts_with('-') && !text.ends_with('-');
    if text.is_empty() || text.len() > NAME_BYTES_MAX || !characters || !inner_hyphens {
        let allowed = "1 to 63 lower-case letters, digits and hyphens, with a letter or digit at both ends";
        return Err(Problem::new("is not a name", allowed));
    }
    Ok(text.to_owned())
}

/// A directory.
pub(super) fn directory(text: &str) -> Result<PathBuf, Problem> {
    if text.is_empty() || text.contains('\0') {
        return Err(Problem::new("is not a path", "the path of a directory, which is created if it is missing"));
    }
    Ok(PathBuf::from(text))
}

/// An address to listen on.
pub(super) fn listen(text: &str) -> Result<SocketAddr, Problem> {
    let local = text.strip_prefix("localhost:").map(|port| format!("{}:{port}", Ipv4Addr::LOCALHOST));
    local.as_deref().unwrap_or(text).parse().map_err(|_| {
        let allowed = "IP:PORT, as in 127.0.0.1:7001, 0.0.0.0:7001 or [::]:7001";
        Problem::new("is not an address to listen on", allowed)
    })
}

/// An address to connect to, with the host's letters in lower case.
pub(super) fn host_port(text: &str) -> Result<String, Problem> {
    let allowed = "HOST:PORT, as in n1.example:7001, 10.0.0.1:7001 or [::1]:7001";
    if text.contains("://") {
        return Err(Problem::new("has a scheme", allowed));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(Problem::new("has no port", allowed));
    };
    if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) || port.parse::<u16>().is_err() {
        return Err(Problem::new("has no port between 0 and 65535", allowed));
    }
    if !is_host(host) {
        return Err(Problem::new("has no valid host", allowed));
    }
    if host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_unspecified()) {
        return Err(Problem::new("means every address of a machine, and others cannot connect to that", allowed));
    }
    Ok(format!("{}:{port}", host.to_ascii_lowercase()))
}

/// Whether `host` is a DNS name, an IPv4 address, or an IPv6 address in brackets.
fn is_host(host: &str) -> bool {
    if let Some(inner) = host.strip_prefix('[') {
        return inner.strip_suffix(']').is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
    }
    // Only digits and dots: meant as an IPv4 address, and no DNS name is one.
    if host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return host.parse::<Ipv4Addr>().is_ok();
    }
    // A name may end with the root's dot. Underscores are no host names by the book, but Docker makes them.
    let name = host.strip_suffix('.').unwrap_or(host);
    let label = |label: &str| {
        let characters = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        !label.is_empty() && label.len() <= NAME_BYTES_MAX && characters && !label.starts_with('-')
    };
    name.len() <= HOST_BYTES_MAX && name.split('.').all(label)
}

/// A whole number within `range`, in `unit`.
pub(super) fn number(text: &str, range: &RangeInclusive<u64>, unit: &str) -> Result<u64, Problem> {
    let allowed = format!("{} to {} ({unit})", range.start(), range.end());
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Problem::new("is not a whole number", allowed));
    }
    match text.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(Problem::new("is out of range", allowed)),
    }
}

/// A filter of log lines.
pub(super) fn log(text: &str) -> Result<String, Problem> {
    let allowed = "error, warn, info, debug, trace, off, or directives as in info,quorate_server::node=debug";
    let words = text.split(',').all(|directive| {
        // A single word that is no level would be taken for the name of a module and silence everything else.
        let is_level = ["error", "warn", "info", "debug", "trace", "off"];
        directive.contains(['=', '[', ']']) || is_level.contains(&directive.trim().to_ascii_lowercase().as_str())
    });
    if text.is_empty() || !words || tracing_subscriber::EnvFilter::try_new(text).is_err() {
        return Err(Problem::new("is not a log filter", allowed));
    }
    Ok(text.to_owned())
}

/// A format of log lines.
pub(super) fn log_format(text: &str) -> Result<LogFormat, Problem> {
    match text {
        "human" => Ok(LogFormat::Human),
        "json" => Ok(LogFormat::Json),
        _ => Err(Problem::new("is not a log format", "human, json")),
    }
}
