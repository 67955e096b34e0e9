//! What is measured: processes, and the road on which the generator reaches them.

use crate::{
    echo::{EchoCalls, EchoStream},
    etcd::EtcdCalls,
    generator::{Measured, Schedule, calls, flood, frames},
    quorate::{
        Library, QuorateCalls,
        pipeline::{Flood, Pipeline},
    },
    servers::Servers,
    workload::{self, Operation, Traffic, Workload},
};
use bytes::Bytes;
use clap::ValueEnum;
use client_cli::Client;
use serde::Serialize;
use std::{net::SocketAddr, path::PathBuf, time::Duration};
use tonic::transport::Channel;

/// How many puts are in flight while the first keys are made.
const FILL_IN_FLIGHT: usize = 256;

/// Connections over which they are made.
const FILL_CONNECTIONS: usize = 4;

/// A system under measurement: some processes and a road to them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum System {
    /// The bare tonic echo, by unary calls.
    Echo,
    /// The bare tonic echo, by streams with one message in each frame.
    EchoStream,
    /// Quorate, by unary calls.
    Quorate,
    /// Quorate, by its pipeline as it is on the wire.
    Pipeline,
    /// Quorate, through its client library.
    Library,
    /// etcd, by unary calls.
    Etcd,
}

/// Which processes a system consists of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// The echo server.
    Echo,
    /// A cluster of Quorate.
    Quorate,
    /// A cluster of etcd.
    Etcd,
}

impl System {
    /// All of them, in the order of the report.
    pub(crate) const ALL: [System; 6] =
        [System::Echo, System::EchoStream, System::Etcd, System::Quorate, System::Pipeline, System::Library];

    /// Its name in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            System::Echo => "tonic echo",
            System::EchoStream => "tonic echo, stream",
            System::Quorate => "Quorate, unary",
            System::Pipeline => "Quorate, pipeline",
            System::Library => "Quorate, client library",
            System::Etcd => "etcd",
        }
    }

    /// Its name in a plot, where there is little room.
    pub(crate) fn short_name(self) -> &'static str {
        match self {
            System::Echo => "echo, unary",
            System::EchoStream => "echo, stream",
            System::Quorate => "Quorate unary",
            System::Pipeline => "Quorate pipeline",
            System::Library => "Quorate library",
            System::Etcd => "etcd",
        }
    }

    /// Its processes.
    pub(crate) fn kind(self) -> Kind {
        match self {
            System::Echo | System::EchoStream => Kind::Echo,
            System::Quorate | System::Pipeline | System::Library => Kind::Quorate,
            System::Etcd => Kind::Etcd,
        }
    }

    /// The bare road that it takes, which bounds it.
    pub(crate) fn echo(self) -> System {
        match self {
            System::Echo | System::Quorate | System::Etcd => System::Echo,
            System::EchoStream | System::Pipeline | System::Library => System::EchoStream,
        }
    }

    /// The loads of closed loops.
    pub(crate) fn workloads(self) -> &'static [Workload] {
        const MIXED: [Workload; 2] = [Workload::Mixed { gets_percent: 90 }, Workload::Mixed { gets_percent: 50 }];
        match self.kind() {
            Kind::Echo => &[Workload::Echo],
            Kind::Quorate => &[Workload::Put, Workload::Get, MIXED[0], MIXED[1]],
            Kind::Etcd => &[Workload::Put, Workload::Create, Workload::Get, MIXED[0], MIXED[1]],
        }
    }
}

/// How the processes of a system are started.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    /// How many members a cluster has.
    pub(crate) size: usize,
    /// Where they keep their data.
    pub(crate) data: PathBuf,
    /// The size of the segments of Quorate's log, instead of the default.
    pub(crate) segment_bytes: Option<u64>,
    /// The program of etcd.
    pub(crate) etcd: Option<PathBuf>,
    /// The heartbeat interval and the shortest election timeout, instead of each system's defaults.
    pub(crate) timeouts: Option<(Duration, Duration)>,
    /// How much longer each sync of Quorate's disks takes than it does; nothing else can be slowed down so.
    pub(crate) sync_delay: Duration,
}

/// A system that was started.
pub(crate) struct Running {
    system: System,
    /// Its processes.
    pub(crate) servers: Servers,
    /// The leader's address: where all calls go.
    leader: SocketAddr,
}

impl Running {
    /// Starts a system from nothing and waits until it serves.
    ///
    /// # Errors
    /// A program cannot be started.
    pub(crate) async fn start(system: System, launch: &Launch) -> anyhow::Result<Running> {
        let servers = Servers::start(system.kind(), launch).await?;
        let leader = servers.addresses()[servers.leader().await];
        Ok(Running { system, servers, leader })
    }

    /// Whether the node that is called leads still. Waits until all follow one leader.
    pub(crate) async fn is_still_led(&self) -> bool {
        self.servers.addresses()[self.servers.leader().await] == self.leader
    }

    /// Which system it is.
    pub(crate) fn system(&self) -> System {
        self.system
    }

    /// Puts the keys of the numbers below `keys`, over unary calls on every road, so that all have the same.
    ///
    /// # Errors
    /// A put failed.
    pub(crate) async fn fill(&self, keys: u64, value: &Bytes) -> anyhow::Result<()> {
        let value = value.clone();
        self.puts(keys, move |number| Operation::Put { key: workload::key(number), value: value.clone() }).await
    }

    /// Puts so often over unary calls, on the keys of the numbers below `keys`.
    ///
    /// # Errors
    /// A put failed.
    pub(crate) async fn overwrite(&self, puts: u64, keys: u64, value: &Bytes) -> anyhow::Result<()> {
        let value = value.clone();
        let put = move |number| Operation::Overwrite { key: workload::key(number % keys), value: value.clone() };
        self.puts(puts, put).await
    }

    async fn puts(&self, count: u64, put: impl Fn(u64) -> Operation + Clone + Send + 'static) -> anyhow::Result<()> {
        let channels = connect(self.leader, FILL_CONNECTIONS).await?;
        match self.system.kind() {
            Kind::Echo => Ok(()),
            Kind::Quorate => calls::each_once(&each(channels, QuorateCalls::new), count, FILL_IN_FLIGHT, put).await,
            Kind::Etcd => calls::each_once(&each(channels, EtcdCalls::new), count, FILL_IN_FLIGHT, put).await,
        }
    }

    /// Measures one load.
    ///
    /// # Errors
    /// A process has ended, or does not accept connections.
    pub(crate) async fn measure(
        &self,
        traffic: &Traffic,
        schedule: &Schedule,
        connections: usize,
    ) -> anyhow::Result<Measured> {
        self.measure_by(self.system, traffic, schedule, connections).await
    }

    /// Measures one load on the road of another system that consists of the same processes.
    ///
    /// # Errors
    /// A process has ended, or does not accept connections.
    pub(crate) async fn measure_by(
        &self,
        road: System,
        traffic: &Traffic,
        schedule: &Schedule,
        connections: usize,
    ) -> anyhow::Result<Measured> {
        let usage = || self.servers.usage();
        match road {
            System::Echo => {
                let roads = each(connect(self.leader, connections).await?, EchoCalls::new);
                calls::run(roads, traffic, schedule, usage).await
            }
            System::Quorate => {
                let roads = each(connect(self.leader, connections).await?, QuorateCalls::new);
                calls::run(roads, traffic, schedule, usage).await
            }
            System::Etcd => {
                let roads = each(connect(self.leader, connections).await?, EtcdCalls::new);
                calls::run(roads, traffic, schedule, usage).await
            }
            System::Library => {
                let endpoints = [self.leader.to_string()];
                let mut roads = Vec::new();
                for _ in 0..connections {
                    roads.push(Library::new(Client::connect(client_cli::Options::new(&endpoints)?)));
                }
                calls::run(roads, traffic, schedule, usage).await
            }
            System::EchoStream => {
                let mut roads = Vec::new();
                for (number, channel) in connect(self.leader, connections).await?.into_iter().enumerate() {
                    let room = frames::room(schedule.mode, connections, number);
                    roads.push(EchoStream::open(channel, room).await?);
                }
                frames::run(roads, traffic, schedule, usage).await
            }
            System::Pipeline => {
                let mut roads = Vec::new();
                for (number, channel) in connect(self.leader, connections).await?.into_iter().enumerate() {
                    let room = frames::room(schedule.mode, connections, number);
                    roads.push(Pipeline::open(channel, room).await?);
                }
                frames::run(roads, traffic, schedule, usage).await
            }
        }
    }
}

impl Running {
    /// Asks for more than the system can do, over so many connections.
    ///
    /// # Errors
    /// The system has no such road, a process has ended, or one does not accept connections.
    pub(crate) async fn flood(
        &self,
        traffic: &Traffic,
        ask: Ask,
        connections: usize,
        times: flood::Times,
    ) -> anyhow::Result<flood::Flooded> {
        let usage = || self.servers.usage();
        let channels = connect(self.leader, connections).await?;
        match (self.system, ask) {
            (System::Quorate, Ask::Callers(count)) => {
                flood::callers(each(channels, QuorateCalls::new), count, traffic, times, usage).await
            }
            (System::Pipeline, Ask::PerSecond(per_second)) => {
                flood::streams(channels, Flood::open, per_second, traffic, times, usage).await
            }
            _ => anyhow::bail!("{} is not flooded so", self.system.name()),
        }
    }
}

/// How a system is asked for more than it can do.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ask {
    /// By so many callers, each of whom waits for its answers.
    Callers(usize),
    /// By so many requests a second, whether or not they are answered.
    PerSecond(f64),
}

fn each<C>(channels: Vec<Channel>, road: impl Fn(Channel) -> C) -> Vec<C> {
    channels.into_iter().map(road).collect()
}

/// Connects some times to one node.
pub(crate) async fn connect(address: SocketAddr, connections: usize) -> anyhow::Result<Vec<Channel>> {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
    let mut channels = Vec::new();
    for _ in 0..connections {
        channels.push(endpoint.connect().await?);
    }
    Ok(channels)
}
