//! Links between nodes that can be cut: a relay in the middle of each pair's connections.
//!
//! Each node is told an address of its own for each of its peers. Behind it a relay passes on what comes, to the peer
//! and back. A cut link passes on nothing and closes nothing, as a network that loses every packet: neither end is
//! told, new connections hang, and when the link is mended what was on its way arrives.

use std::{collections::BTreeMap, io, net::SocketAddr};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
};

/// How much is passed on at a time.
const PIECE_BYTES: usize = 64 << 10;

/// All links between the nodes of a cluster, by number.
#[derive(Debug)]
pub struct Links {
    /// For each direction, whether it is whole.
    open: BTreeMap<(usize, usize), watch::Sender<bool>>,
    /// Where a node finds another one.
    addresses: BTreeMap<(usize, usize), SocketAddr>,
    _relays: JoinSet<()>,
}

impl Links {
    /// Whole links between all nodes, which serve their peers at `addresses`.
    pub fn new(addresses: &[SocketAddr]) -> Links {
        let (mut open, mut relayed, mut relays) = (BTreeMap::new(), BTreeMap::new(), JoinSet::new());
        let pairs = || (0..addresses.len()).flat_map(|from| (0..addresses.len()).map(move |to| (from, to)));
        for pair in pairs().filter(|(from, to)| from != to) {
            open.insert(pair, watch::channel(true).0);
        }
        for (from, to) in open.keys().copied() {
            let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
            listener.set_nonblocking(true).expect("a socket can be");
            relayed.insert((from, to), listener.local_addr().expect("a bound socket has an address"));
            let listener = TcpListener::from_std(listener).expect("it is not blocking");
            let (there, back) = (open[&(from, to)].subscribe(), open[&(to, from)].subscribe());
            relays.spawn(relay(listener, addresses[to], there, back));
        }
        Links { open, addresses: relayed, _relays: relays }
    }

    /// Where `from` finds `to`.
    pub fn address(&self, from: usize, to: usize) -> SocketAddr {
        self.addresses[&(from, to)]
    }

    /// Cuts the link between two nodes, both ways.
    pub fn cut(&self, one: usize, other: usize) {
        self.set(one, other, false);
    }

    /// Mends it.
    pub fn mend(&self, one: usize, other: usize) {
        self.set(one, other, true);
    }

    fn set(&self, one: usize, other: usize, whole: bool) {
        for pair in [(one, other), (other, one)] {
            self.open[&pair].send_replace(whole);
        }
    }
}

/// Takes connections and passes on what comes on them. A target that refuses refuses through the relay: the connection
/// is closed.
async fn relay(listener: TcpListener, target: SocketAddr, there: watch::Receiver<bool>, back: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        let (there, back) = (there.clone(), back.clone());
        connections.spawn(async move {
            let Ok(far) = TcpStream::connect(target).await else { return };
            near.set_nodelay(true).and_then(|()| far.set_nodelay(true)).ok();
            let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
            // Whichever direction ends first ends the connection, both ways.
            tokio::select! {
                _ = pass_on(near_read, far_write, there) => {}
                _ = pass_on(far_read, near_write, back) => {}
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn pass_on(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut open: watch::Receiver<bool>) -> io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let bytes = from.read(&mut piece).await?;
        // An end is not heard of through a cut link either.
        if open.wait_for(|open| *open).await.is_err() || bytes == 0 {
            return Ok(());
        }
        to.write_all(&piece[..bytes]).await?;
    }
}
