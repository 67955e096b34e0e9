//! Where a node is reached: a host and a port.

use std::{
    fmt,
    net::{Ipv6Addr, SocketAddr},
    str::FromStr,
    sync::Arc,
};

/// The address of a node's client port. Written `host:port` or `http://host:port`; the host is a DNS name, an IPv4
/// address, or an IPv6 address in brackets. Names are looked up again and again, and never kept as addresses.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    // Shared, because every request carries the list of endpoints.
    host: Arc<str>,
    port: u16,
}

/// Why a text is not an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// There is no endpoint at all.
    #[error("no endpoint given; one looks like 127.0.0.1:7001")]
    None,
    /// TLS is not built.
    #[error("endpoint {0:?}: https is not supported; write host:port or http://host:port")]
    Https(String),
    /// The port is missing or no number from 1 to 65535.
    #[error("endpoint {0:?}: a port is missing; write host:port, for example 127.0.0.1:7001")]
    Port(String),
    /// The host is neither a name nor an address.
    #[error("endpoint {0:?}: not a host name or address; write host:port, for example 127.0.0.1:7001")]
    Host(String),
}

impl Endpoint {
    /// The host, without the brackets of an IPv6 address.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The endpoint at an address. The scope of a link-local address is lost: nobody serves clients there.
    pub(crate) fn at(address: SocketAddr) -> Endpoint {
        Endpoint { host: address.ip().to_string().into(), port: address.port() }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Endpoint, EndpointError> {
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Err(EndpointError::None);
        }
        if trimmed.starts_with("https://") {
            return Err(EndpointError::Https(trimmed.to_owned()));
        }
        let address = trimmed.strip_prefix("http://").unwrap_or(trimmed);
        let address = address.strip_suffix('/').unwrap_or(address);
        let (host, port) = address.rsplit_once(':').ok_or_else(|| EndpointError::Port(trimmed.to_owned()))?;
        let port = match port.parse() {
            Ok(0) | Err(_) => return Err(EndpointError::Port(trimmed.to_owned())),
            Ok(port) => port,
        };
        let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(inner) if inner.parse::<Ipv6Addr>().is_ok() => inner,
            None if is_name(host) => host,
            _ => return Err(EndpointError::Host(trimmed.to_owned())),
        };
        // Names are compared without regard to case, so that a hint and the configuration meet.
        Ok(Endpoint { host: host.to_ascii_lowercase().into(), port })
    }
}

fn is_name(host: &str) -> bool {
    !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<String, EndpointError> {
        text.parse::<Endpoint>().map(|endpoint| endpoint.to_string())
    }

    #[test]
    fn both_forms_name_the_same_endpoint() {
        assert_eq!(parse("127.0.0.1:7001"), Ok("127.0.0.1:7001".to_owned()));
        assert_eq!(parse("http://127.0.0.1:7001"), parse("127.0.0.1:7001"));
        assert_eq!(parse(" http://Node-1.cluster.local:7001/ "), Ok("node-1.cluster.local:7001".to_owned()));
        assert_eq!(parse("[::1]:7001"), Ok("[::1]:7001".to_owned()));
    }

    #[test]
    fn what_is_not_an_endpoint_is_refused_with_the_reason() {
        assert_eq!(parse(""), Err(EndpointError::None));
        for text in ["localhost", "localhost:", "localhost:0", "localhost:65536", "localhost:x"] {
            assert_eq!(parse(text), Err(EndpointError::Port(text.to_owned())), "{text}");
        }
        for text in [":7001", "user@host:7001", "host/path:7001", "::1:7001", "[::g]:7001", "[]:1", "h st:7001"] {
            assert_eq!(parse(text), Err(EndpointError::Host(text.to_owned())), "{text}");
        }
        assert_eq!(parse("https://a:1"), Err(EndpointError::Https("https://a:1".to_owned())));
    }

    #[test]
    fn every_endpoint_is_a_valid_target() {
        for text in ["127.0.0.1:7001", "[::1]:7001", "a_b.c-d:1", "n1:65535"] {
            let endpoint: Endpoint = text.parse().expect("it is well formed");
            tonic::transport::Endpoint::from_shared(format!("http://{endpoint}")).expect("tonic takes it");
        }
    }
}
