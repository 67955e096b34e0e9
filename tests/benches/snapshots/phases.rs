//! The parts of the measurement, one after the other on one cluster.

use super::{
    Common, Keys, Load,
    load::{COMMAND_BYTES, Loaded},
    puts::Put,
    table::{Table, each, mebibytes, seconds},
    watch::{Seen, Watch},
};
use crate::{process::Usage, system};
use hdrhistogram::Histogram;
use proto::admin::v1::StatusResponse;
use std::time::Duration;
use tests::{
    binaries,
    cluster::{self, Cluster},
    node::Node,
    rpc,
};
use tokio::time::{Instant, sleep};
use tonic::transport::Channel;

/// How often the nodes' statuses are looked at.
const INTERVAL: Duration = Duration::from_millis(20);

/// How long anything may take before the measurement gives up.
const BOUND: Duration = Duration::from_secs(1_800);

/// Latencies up to this are told apart, in nanoseconds; a longer one counts as this.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// Before latencies are measured a log grows to so much of what makes a snapshot: the rest comes at the measured pace.
const READY_PERCENT: u64 = 70;

/// In how many parts an overwriting load is told of.
const PARTS: u64 = 5;

/// A cluster under measurement.
pub(super) struct Run {
    cluster: Cluster,
    leader: usize,
    /// The connections that the load takes, to the leader.
    load_channels: Vec<Channel>,
    /// One to each node, for its status.
    channels: Vec<Channel>,
    watch: Watch,
    in_flight: usize,
    /// The log that makes a snapshot at least.
    snapshot_log_bytes: u64,
    /// What was accepted since the processes were started.
    accepted_bytes: u64,
    /// What had been written to the device before.
    device_bytes_before: u64,
}

impl Run {
    /// Starts a cluster.
    pub(super) async fn start(common: &Common) -> anyhow::Result<Run> {
        let flags = common.snapshot_log_bytes.map(|bytes| format!("--snapshot-log-bytes={bytes}"));
        let cluster = Cluster::start(cluster::Options {
            segment_bytes: common.segment_bytes,
            // A temporary directory may be in memory, where a sync costs nothing.
            parent: Some(common.data.clone().unwrap_or_else(binaries::target_directory)),
            flags: flags.into_iter().collect(),
            ..cluster::Options::default()
        })
        .await;
        let leader = cluster.leader().await;
        let watch = Watch::start(cluster.nodes.iter().map(|node| node.directory().to_owned()).collect());
        let mut run = Run {
            leader,
            load_channels: system::connect(cluster.nodes[leader].address(), common.connections).await?,
            channels: cluster.nodes.iter().map(Node::channel).collect(),
            watch,
            in_flight: common.in_flight,
            snapshot_log_bytes: common.snapshot_log_bytes.unwrap_or(64 << 20),
            accepted_bytes: 0,
            device_bytes_before: 0,
            cluster,
        };
        run.device_bytes_before = run.usage()?.written_bytes;
        Ok(run)
    }

    /// Puts every key once.
    pub(super) async fn fill(&mut self, keys: u64, table: &mut Table) -> anyhow::Result<()> {
        let load = Load::as_many_as_go(&self.load_channels, Keys::EachOnce(keys), self.in_flight);
        let loaded = load.finish().await?;
        self.accepted_bytes += loaded.bytes();
        anyhow::ensure!(loaded.errors == 0, "{} puts failed", loaded.errors);
        table.row(
            format!("{keys} new keys, {} in flight", self.in_flight),
            format!("{:.0} puts/s, {}", loaded.per_second(), seconds(loaded.elapsed)),
        );
        let seen = self.watch.take();
        table.row("snapshots of each node meanwhile", each(&seen, |node| node.snapshots.len().to_string()));
        Ok(())
    }

    /// Measures puts at a pace, until each node has taken so many snapshots more and there were puts enough without.
    pub(super) async fn latencies(
        &mut self,
        keys: u64,
        per_second: u64,
        snapshots: usize,
        table: &mut Table,
    ) -> anyhow::Result<()> {
        let load = Load::as_many_as_go(&self.load_channels, Keys::Any(keys), self.in_flight);
        let is_ready = |status: &StatusResponse| {
            let enough = self.snapshot_log_bytes.max(status.snapshot_bytes);
            status.log_bytes_since_snapshot >= enough / 100 * READY_PERCENT
        };
        self.until("a log has grown", |statuses| statuses.iter().any(is_ready)).await?;
        self.accepted_bytes += load.finish().await?.bytes();
        // Whatever was under way ends before the measurement begins.
        sleep(Duration::from_secs(2)).await;

        self.watch.take();
        let load = Load::paced(&self.load_channels, Keys::Any(keys), per_second);
        let mut statuses = Vec::new();
        let started = Instant::now();
        while self.watch.finished().iter().any(|&finished| finished < snapshots) {
            anyhow::ensure!(started.elapsed() < BOUND, "no snapshot in {BOUND:?}");
            sleep(INTERVAL).await;
            statuses = self.statuses().await?;
        }
        let loaded = load.finish().await?;
        self.accepted_bytes += loaded.bytes();
        let seen = self.watch.take();
        table.row(
            format!("puts at {per_second}/s"),
            format!("{} in {}, {} failed", loaded.puts.len(), seconds(loaded.elapsed), loaded.errors),
        );
        table.row("size of a snapshot", each(&statuses, |status| mebibytes(status.snapshot_bytes)));
        tell_snapshots(&seen, table);
        tell_latencies(&loaded, &seen, table);
        table.row("resident memory", each(&self.resident_bytes()?, |&bytes| mebibytes(bytes)));
        Ok(())
    }

    /// What was written for all that was accepted so far. No node may have been restarted.
    pub(super) fn written(&mut self, table: &mut Table) -> anyhow::Result<()> {
        let device_bytes = self.usage()?.written_bytes.saturating_sub(self.device_bytes_before);
        let times = |bytes: u64, of: u64| bytes as f64 / of as f64;
        let nodes = self.cluster.nodes.len() as u64;
        table.row("accepted keys and values", mebibytes(self.accepted_bytes));
        table.row(
            "write amplification: what the device wrote, by that, a node",
            format!("{:.2}", times(device_bytes, nodes * self.accepted_bytes)),
        );
        Ok(())
    }

    /// Stops a follower and starts it again.
    pub(super) async fn restart(&mut self, table: &mut Table) -> anyhow::Result<()> {
        let follower = self.cluster.others(self.leader)[0];
        let before = self.statuses().await?.swap_remove(follower);
        let node = &mut self.cluster.nodes[follower];
        node.terminate();
        let status = node.exit_status().await;
        anyhow::ensure!(status.success(), "{} ended with {status}", node.name());
        let started = Instant::now();
        node.start();
        self.until("the follower is ready", |statuses| statuses.iter().all(|status| status.ready)).await?;
        table.row(
            "restart until ready",
            format!(
                "{}, with a snapshot of {} and {} of log behind it",
                seconds(started.elapsed()),
                mebibytes(before.snapshot_bytes),
                mebibytes(before.log_bytes_since_snapshot)
            ),
        );
        Ok(())
    }

    /// Takes a follower down, writes until the log that it needs is cut, and lets it come back under load.
    pub(super) async fn catch_up(&mut self, keys: u64, per_second: u64, table: &mut Table) -> anyhow::Result<()> {
        let follower = self.cluster.others(self.leader)[1];
        let before = self.statuses().await?.swap_remove(follower);
        self.cluster.nodes[follower].kill();
        let load = Load::as_many_as_go(&self.load_channels, Keys::Any(keys), self.in_flight);
        let (leader, needed) = (self.leader, before.last_index + 1);
        self.until("the log is cut behind the follower", |statuses| {
            statuses.iter().any(|status| status.first_index > needed && is_leader(status))
        })
        .await?;
        let missed = load.finish().await?;
        let load = Load::paced(&self.load_channels, Keys::Any(keys), per_second);
        sleep(Duration::from_secs(2)).await;

        let started = Instant::now();
        self.cluster.nodes[follower].start();
        let leads = rpc::status(&self.channels[leader]).await?;
        self.until("the follower has caught up", |statuses| {
            let applied = |name: &str| statuses.iter().find(|status| status.name == name).map(|s| s.applied_index);
            let goal = applied(&leads.name);
            statuses.iter().all(|status| status.ready)
                && applied(&before.name).zip(goal).is_some_and(|(own, goal)| own + per_second / 10 >= goal)
        })
        .await?;
        let elapsed = started.elapsed();
        let loaded = load.finish().await?;
        let leads_now = rpc::status(&self.channels[leader]).await?;
        let same = leads_now.term == leads.term && is_leader(&leads_now);
        table.row(
            format!("a follower that missed {} puts and the log of them, under {per_second} puts/s", missed.puts.len()),
            format!("has caught up after {}", seconds(elapsed)),
        );
        table.row("the leader meanwhile", if same { "the same in the same term" } else { "ANOTHER" });
        table.row(
            "puts meanwhile",
            format!("{}, {} failed; {}", loaded.puts.len(), loaded.errors, quantiles(loaded.puts.iter())),
        );
        Ok(())
    }

    /// Puts on few keys, again and again.
    pub(super) async fn overwrite(&mut self, keys: u64, puts: u64, table: &mut Table) -> anyhow::Result<()> {
        self.watch.take();
        let load = Load::as_many_as_go(&self.load_channels, Keys::Any(keys), self.in_flight);
        for part in 1..=PARTS {
            let goal = puts * part / PARTS;
            let started = Instant::now();
            while load.acknowledged() < goal {
                anyhow::ensure!(started.elapsed() < BOUND, "{} puts in {BOUND:?}", load.acknowledged());
                sleep(INTERVAL).await;
            }
            let seen = self.watch.take();
            table.row(
                format!("most disk used by each node, up to {goal} puts on {keys} keys"),
                format!(
                    "{}; {} snapshots",
                    each(&seen, |node| mebibytes(node.disk_bytes_max)),
                    each(&seen, |node| node.snapshots.len().to_string())
                ),
            );
        }
        let loaded = load.finish().await?;
        self.accepted_bytes += loaded.bytes();
        table.row(
            format!("puts, {} in flight", self.in_flight),
            format!(
                "{} in {}, {:.0}/s, {} failed; {}",
                loaded.puts.len(),
                seconds(loaded.elapsed),
                loaded.per_second(),
                loaded.errors,
                quantiles(loaded.puts.iter())
            ),
        );
        table.row("bytes of a put", COMMAND_BYTES.to_string());
        table.row("resident memory", each(&self.resident_bytes()?, |&bytes| mebibytes(bytes)));
        Ok(())
    }

    /// The most room that was taken since the latencies were measured.
    pub(super) fn room(&mut self, table: &mut Table) -> anyhow::Result<()> {
        let seen = self.watch.take();
        table.row("most disk used by each node", each(&seen, |node| mebibytes(node.disk_bytes_max)));
        table.row("resident memory at the end", each(&self.resident_bytes()?, |&bytes| mebibytes(bytes)));
        Ok(())
    }

    /// Looks at the statuses of the nodes that are up until they are as wanted.
    async fn until(&self, what: &str, is_so: impl Fn(&[StatusResponse]) -> bool) -> anyhow::Result<()> {
        let started = Instant::now();
        // A node that is being started does not answer yet.
        while !self.statuses().await.is_ok_and(|statuses| is_so(&statuses)) {
            anyhow::ensure!(started.elapsed() < BOUND, "not in {BOUND:?}: {what}");
            sleep(INTERVAL).await;
        }
        Ok(())
    }

    async fn statuses(&self) -> anyhow::Result<Vec<StatusResponse>> {
        let mut statuses = Vec::new();
        for (node, channel) in self.cluster.nodes.iter().zip(&self.channels) {
            if node.is_reachable() {
                node.expect_running();
                statuses.push(rpc::status(channel).await?);
            }
        }
        Ok(statuses)
    }

    fn process_ids(&self) -> Vec<u32> {
        self.cluster.nodes.iter().map(Node::process_id).collect()
    }

    fn usage(&self) -> anyhow::Result<Usage> {
        Usage::of(&self.process_ids(), Some(self.cluster.directory()))
    }

    fn resident_bytes(&self) -> anyhow::Result<Vec<u64>> {
        self.process_ids().into_iter().map(|id| Ok(Usage::of(&[id], None)?.resident_bytes_max)).collect()
    }
}

fn is_leader(status: &StatusResponse) -> bool {
    status.name == status.leader_name
}

fn tell_snapshots(seen: &[Seen], table: &mut Table) {
    let of = |node: &Seen| each(&node.snapshots, |&(from, to)| seconds(to - from)).replace(", ", " and ");
    table.row("time of a snapshot", each(seen, of));
    let first = seen.iter().flat_map(|node| &node.snapshots).map(|&(from, _)| from).min();
    let when = |node: &Seen| {
        let begins = node.snapshots.iter().zip(first).map(|(&(from, _), first)| seconds(from - first));
        begins.collect::<Vec<_>>().join(" and ")
    };
    table.row("when each began, after the first", each(seen, when));
    let mut together = Duration::ZERO;
    for (number, node) in seen.iter().enumerate() {
        for other in &seen[number + 1..] {
            for &(from, to) in &node.snapshots {
                for &(other_from, other_to) in &other.snapshots {
                    together += to.min(other_to).saturating_duration_since(from.max(other_from));
                }
            }
        }
    }
    table.row("time in which two nodes wrote at once, over all pairs", seconds(together));
}

fn tell_latencies(loaded: &Loaded, seen: &[Seen], table: &mut Table) {
    let is_during = |put: &&Put| seen.iter().any(|node| node.wrote_between(put.begin, put.begin + put.latency));
    let (during, beside): (Vec<&Put>, Vec<&Put>) = loaded.puts.iter().partition(is_during);
    let (p99_during, p99_beside) = (p99_ms(during.iter().copied()), p99_ms(beside.iter().copied()));
    table.row("puts while a node wrote a snapshot or removed one", quantiles(during.into_iter()));
    table.row("puts while none did", quantiles(beside.into_iter()));
    table.row("p99 of the former, by that of the latter", format!("{:.1}", p99_during / p99_beside));
    let of_each = |node: &Seen| {
        let of = |&(from, to): &(Instant, Instant)| {
            p99_ms(loaded.puts.iter().filter(|put| put.begin <= to && from <= put.begin + put.latency))
        };
        node.snapshots.iter().map(|snapshot| format!("{:.1} ms", of(snapshot))).collect::<Vec<_>>().join(" and ")
    };
    table.row("p99 of puts during each of the snapshots", each(seen, of_each));
}

fn histogram<'a>(puts: impl Iterator<Item = &'a Put>) -> Histogram<u64> {
    let mut latencies = Histogram::<u64>::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("the bounds are valid");
    for put in puts {
        latencies.saturating_record(u64::try_from(put.latency.as_nanos()).unwrap_or(LATENCY_NS_MAX));
    }
    latencies
}

fn p99_ms<'a>(puts: impl Iterator<Item = &'a Put>) -> f64 {
    histogram(puts).value_at_quantile(0.99) as f64 / 1e6
}

fn quantiles<'a>(puts: impl Iterator<Item = &'a Put>) -> String {
    let latencies = histogram(puts);
    let ms = |quantile| latencies.value_at_quantile(quantile) as f64 / 1e6;
    let (p50, p99, p999, most) = (ms(0.5), ms(0.99), ms(0.999), latencies.max() as f64 / 1e6);
    format!("p50 {p50:.2} ms, p99 {p99:.2} ms, p99.9 {p999:.2} ms, longest {most:.0} ms, of {}", latencies.len())
}
