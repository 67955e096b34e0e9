//! The processes of a system, whichever it is: where they are called, which of them leads, what they use.

use crate::{
    echo::EchoProcess,
    etcd,
    process::Usage,
    quorate,
    system::{Kind, Launch},
};
use anyhow::Context as _;
use std::{net::SocketAddr, path::Path};
use tests::{cluster::Cluster, node::Node};

/// Processes that were started. Dropped, they are killed and their data is removed.
pub(crate) enum Servers {
    /// One echo server.
    Echo(EchoProcess),
    /// A cluster of Quorate.
    Quorate(Box<Cluster>),
    /// A cluster of etcd.
    Etcd(etcd::cluster::Cluster),
}

impl Servers {
    /// Starts the processes from nothing and waits until they serve.
    ///
    /// # Errors
    /// A program cannot be started.
    pub(crate) async fn start(kind: Kind, launch: &Launch) -> anyhow::Result<Servers> {
        let Launch { size, data, segment_bytes, etcd, timeouts, sync_delay } = launch.clone();
        Ok(match kind {
            Kind::Echo => Servers::Echo(EchoProcess::start().await?),
            Kind::Quorate => {
                let settings = quorate::Settings { size, parent: data, segment_bytes, timeouts, sync_delay };
                Servers::Quorate(Box::new(quorate::start(&settings).await))
            }
            Kind::Etcd => {
                let program = etcd.context("no program of etcd was given")?;
                let settings = etcd::cluster::Settings { program, size, parent: data, timeouts };
                Servers::Etcd(etcd::cluster::Cluster::start(settings).await?)
            }
        })
    }

    /// Where clients call each of them.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        match self {
            Servers::Echo(process) => vec![process.address()],
            Servers::Quorate(cluster) => cluster.nodes.iter().map(Node::address).collect(),
            Servers::Etcd(cluster) => cluster.addresses(),
        }
    }

    /// Waits until all that are up follow one leader; its number.
    pub(crate) async fn leader(&self) -> usize {
        match self {
            Servers::Echo(_) => 0,
            Servers::Quorate(cluster) => cluster.ready().await,
            Servers::Etcd(cluster) => cluster.leader().await,
        }
    }

    /// `kill -9` of one.
    ///
    /// # Errors
    /// It has no members.
    pub(crate) fn kill(&mut self, number: usize) -> anyhow::Result<()> {
        match self {
            Servers::Echo(_) => anyhow::bail!("the echo has no members"),
            Servers::Quorate(cluster) => cluster.nodes[number].kill(),
            Servers::Etcd(cluster) => cluster.kill(number),
        }
        Ok(())
    }

    /// Lets one stand still (SIGSTOP): it keeps its connections, and does nothing any more.
    ///
    /// # Errors
    /// It has no members, or is not up.
    pub(crate) fn pause(&mut self, number: usize) -> anyhow::Result<()> {
        match self {
            Servers::Echo(_) => anyhow::bail!("the echo has no members"),
            Servers::Quorate(cluster) => cluster.nodes[number].pause(),
            Servers::Etcd(cluster) => cluster.pause(number)?,
        }
        Ok(())
    }

    /// Starts one that was killed.
    ///
    /// # Errors
    /// It has no members, or its program cannot be started.
    pub(crate) fn restart(&mut self, number: usize) -> anyhow::Result<()> {
        match self {
            Servers::Echo(_) => anyhow::bail!("the echo has no members"),
            Servers::Quorate(cluster) => cluster.nodes[number].start(),
            Servers::Etcd(cluster) => cluster.start_member(number)?,
        }
        Ok(())
    }

    /// What those that are up have used so far.
    ///
    /// # Errors
    /// One of them has ended.
    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        Usage::of(&self.process_ids(), self.directory())
    }

    /// The processes that are up.
    pub(crate) fn process_ids(&self) -> Vec<u32> {
        match self {
            Servers::Echo(process) => vec![process.process_id()],
            Servers::Quorate(cluster) => {
                cluster.nodes.iter().filter(|node| node.is_reachable()).map(Node::process_id).collect()
            }
            Servers::Etcd(cluster) => cluster.process_ids(),
        }
    }

    /// Where they keep their data, if they do.
    fn directory(&self) -> Option<&Path> {
        match self {
            Servers::Echo(_) => None,
            Servers::Quorate(cluster) => Some(cluster.directory()),
            Servers::Etcd(cluster) => Some(cluster.directory()),
        }
    }
}
