//! Ports for the nodes of a demo.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

/// Where ports are looked for: below the range from which systems take the local ports of outgoing connections, so that
/// no connection can take a node's port before the node has it, or while it is down.
const PORTS: Range<u16> = 20_000..32_000;

/// How many ports are tried for each one that is wanted: even on a machine where half of them are taken, a node goes
/// without one once in 10^30 runs.
const TRIES: usize = 100;

/// As many different ports as `count` on which nobody listens now.
///
/// # Errors
///
/// If none can be found.
pub(super) fn free(count: usize) -> io::Result<Vec<u16>> {
    let mut found = BTreeSet::new();
    for _ in 0..count * TRIES {
        if found.len() == count {
            break;
        }
        let port = rand::random_range(PORTS);
        if !found.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            found.insert(port);
        }
    }
    if found.len() < count {
        let message = format!("no {count} free ports between {} and {}", PORTS.start, PORTS.end);
        return Err(io::Error::new(io::ErrorKind::AddrInUse, message));
    }
    Ok(found.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_different_and_outside_of_the_range_of_connections() {
        let ports = free(9).expect("there are free ports");
        assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), 9);
        assert!(ports.iter().all(|port| PORTS.contains(port)));
    }
}
