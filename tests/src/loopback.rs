//! Addresses that no parallel test, in this process or another, has too.
//!
//! A port found free by binding port 0 and closing it again can be taken before the node binds it. So nothing is
//! probed: each cluster owns a /24 of 127.0.0.0/8 (Linux answers on all of it), and holds a UDP socket there as the
//! mark that it is taken; TCP and UDP ports are separate, so the mark is in nobody's way.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    sync::atomic::{AtomicU32, Ordering},
};

/// The TCP port of every node that has an address of its own, and of the marks. Outside of the ephemeral range.
const PORT: u16 = 7400;

/// Where ports of nodes that listen on all addresses are searched: below the ephemeral range, above the well-known
/// ones.
const WILDCARD_PORTS: std::ops::Range<u16> = 20_000..30_000;

/// How many candidates are tried before giving up; each is taken only if a parallel test has it.
const TRIES: u32 = 4096;

/// Counts the reservations of this process, so that each starts its search elsewhere.
static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A /24 of loopback addresses, this one's alone while it lives.
#[derive(Debug)]
pub struct Subnet {
    prefix: [u8; 3],
    _mark: UdpSocket,
}

impl Subnet {
    /// Takes a subnet that nobody has.
    pub fn reserve() -> Subnet {
        for candidate in candidates() {
            let [_, _, high, low] = candidate.to_be_bytes();
            // 127.0.x.x has the addresses that people and other programs use.
            let prefix = [127, high.max(1), low];
            if let Ok(mark) = UdpSocket::bind((Ipv4Addr::new(127, prefix[1], prefix[2], 254), PORT)) {
                return Subnet { prefix, _mark: mark };
            }
        }
        panic!("no loopback subnet is free after {TRIES} tries");
    }

    /// The address of the `number`th process in the subnet, counted from 0.
    pub fn address(&self, number: usize) -> SocketAddr {
        let host = u8::try_from(number + 1).expect("a cluster has fewer than 250 processes");
        let [a, b, c] = self.prefix;
        SocketAddr::from(([a, b, c, host], PORT))
    }
}

/// A TCP port that is free on every address, this one's alone while it lives.
#[derive(Debug)]
pub struct WildcardPort {
    port: u16,
    _mark: UdpSocket,
}

impl WildcardPort {
    /// Takes a port that nobody has.
    pub fn reserve() -> WildcardPort {
        let span = u32::from(WILDCARD_PORTS.end - WILDCARD_PORTS.start);
        for candidate in candidates() {
            let offset = u16::try_from(candidate % span).expect("smaller than the range of ports");
            if let Ok(reserved) = WildcardPort::take(WILDCARD_PORTS.start + offset) {
                return reserved;
            }
        }
        panic!("no port is free after {TRIES} tries");
    }

    /// The port's number.
    pub fn port(&self) -> u16 {
        self.port
    }

    fn take(port: u16) -> io::Result<WildcardPort> {
        let mark = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?;
        // With the mark held no other test takes it; this finds programs that are no tests.
        drop(TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?);
        Ok(WildcardPort { port, _mark: mark })
    }
}

/// Numbers to try, from a start that differs between processes and between calls.
fn candidates() -> impl Iterator<Item = u32> {
    // An odd factor spreads neighbouring process ids over the whole range.
    let start = std::process::id().wrapping_mul(0x9E37_79B1) >> 8;
    let call = COUNTER.fetch_add(1, Ordering::Relaxed);
    (0..TRIES).map(move |step| start.wrapping_add(call).wrapping_add(step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_and_ports_are_distinct_while_they_live() {
        let (first, second) = (Subnet::reserve(), Subnet::reserve());
        assert_ne!(first.address(0), second.address(0));
        assert_ne!(first.address(0), first.address(1));
        let (first, second) = (WildcardPort::reserve(), WildcardPort::reserve());
        assert_ne!(first.port(), second.port());
    }
}
