//! A cluster of etcd processes on loopback addresses of its own, each member's data under one directory.

use super::rpc::{StatusRequest, maintenance_client::MaintenanceClient};
use anyhow::Context as _;
use std::{
    fs::{File, OpenOptions},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;
use tests::{cluster::beside, loopback::Subnet, rpc, wait::wait_for};

/// Where members serve each other, counted from their clients' port.
const PEER_PORT_OFFSET: u16 = 1;

/// The most that etcd's file may hold. Its default, 2 GiB, would end a long run.
const QUOTA_BYTES: u64 = 16 << 30;

/// How to start a cluster.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The program.
    pub(crate) program: PathBuf,
    /// How many members.
    pub(crate) size: usize,
    /// Where they keep their data.
    pub(crate) parent: PathBuf,
    /// The heartbeat interval and the election timeout, instead of the defaults.
    pub(crate) timeouts: Option<(Duration, Duration)>,
}

/// A cluster of processes. Dropped, it kills them and removes their data.
pub(crate) struct Cluster {
    settings: Settings,
    children: Vec<Option<Child>>,
    directory: TempDir,
    subnet: Subnet,
}

impl Cluster {
    /// Starts a cluster and waits until all members follow one leader.
    pub(crate) async fn start(settings: Settings) -> anyhow::Result<Cluster> {
        let directory = tempfile::tempdir_in(&settings.parent).context("make a directory for etcd")?;
        let children = (0..settings.size).map(|_| None).collect();
        let mut cluster = Cluster { settings, children, directory, subnet: Subnet::reserve() };
        for number in 0..cluster.children.len() {
            cluster.start_member(number)?;
        }
        cluster.leader().await;
        Ok(cluster)
    }

    /// Starts a member that is down.
    pub(crate) fn start_member(&mut self, number: usize) -> anyhow::Result<()> {
        let log = self.log(number)?;
        let program = &self.settings.program;
        let child = Command::new(program)
            .args(self.arguments(number))
            // Variables of the caller must not configure it.
            .env_clear()
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        self.children[number] = Some(child);
        Ok(())
    }

    /// `kill -9`. Does nothing to a member that is down.
    pub(crate) fn kill(&mut self, number: usize) {
        if let Some(mut child) = self.children[number].take() {
            // An error means that it has ended by itself.
            child.kill().ok();
            child.wait().ok();
        }
    }

    /// SIGSTOP.
    pub(crate) fn pause(&self, number: usize) -> anyhow::Result<()> {
        let child = self.children[number].as_ref().context("it is down")?;
        let process = rustix::process::Pid::from_child(child);
        rustix::process::kill_process(process, rustix::process::Signal::STOP).context("stop a member")
    }

    /// Waits until every member that is up follows one leader; its number.
    pub(crate) async fn leader(&self) -> usize {
        wait_for("one leader that every member of etcd knows", async || {
            let mut leaders = Vec::new();
            for number in self.running() {
                let mut client = MaintenanceClient::new(rpc::channel(self.address(number)));
                let status = client.status(StatusRequest {}).await.ok()?.into_inner();
                let member = status.header?.member_id;
                leaders.push((number, member, status.leader));
            }
            let &(number, leader, _) = leaders.iter().find(|(_, member, leader)| member == leader)?;
            leaders.iter().all(|&(_, _, follows)| follows == leader).then_some(number)
        })
        .await
    }

    /// The addresses of all members.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        (0..self.children.len()).map(|number| self.address(number)).collect()
    }

    /// The processes of the members that are up.
    pub(crate) fn process_ids(&self) -> Vec<u32> {
        self.children.iter().flatten().map(Child::id).collect()
    }

    /// Where all members keep their data.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn running(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.children.len()).filter(|&number| self.children[number].is_some())
    }

    fn address(&self, number: usize) -> SocketAddr {
        self.subnet.address(number)
    }

    fn arguments(&self, number: usize) -> Vec<String> {
        let client = format!("http://{}", self.address(number));
        let peer = |number| format!("http://{}", beside(self.address(number), PEER_PORT_OFFSET));
        let members: Vec<String> = (0..self.children.len()).map(|n| format!("e{}={}", n + 1, peer(n))).collect();
        let name = format!("e{}", number + 1);
        let data = self.directory.path().join(&name);
        let mut arguments = vec![
            format!("--data-dir={}", data.display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={}", peer(number)),
            format!("--initial-advertise-peer-urls={}", peer(number)),
            format!("--initial-cluster={}", members.join(",")),
            format!("--name={name}"),
            format!("--quota-backend-bytes={QUOTA_BYTES}"),
            "--log-level=error".to_owned(),
        ];
        if let Some((heartbeat, election)) = self.settings.timeouts {
            arguments.push(format!("--heartbeat-interval={}", heartbeat.as_millis()));
            arguments.push(format!("--election-timeout={}", election.as_millis()));
        }
        arguments
    }

    fn log(&self, number: usize) -> anyhow::Result<File> {
        let path = self.directory.path().join(format!("e{}.log", number + 1));
        let log = OpenOptions::new().create(true).append(true).open(&path);
        log.with_context(|| format!("open {}", path.display()))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for number in 0..self.children.len() {
            self.kill(number);
        }
    }
}
