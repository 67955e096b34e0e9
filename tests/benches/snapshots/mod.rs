//! What a big state costs: snapshots while puts go on, the room and the writes that they take, restarts, and a follower
//! that comes back after the log was cut behind it.
//!
//! ```text
//! cargo run --release -p tests --bin bench -- snapshots
//! cargo run --release -p tests --bin bench -- overwrites --puts 5000000
//! ```
//!
//! A cluster of three processes of the release build with default settings. When a node writes a snapshot is seen from
//! outside, by its temporary file, so that the measure needs nothing of the server.

mod load;
mod phases;
mod puts;
mod table;
mod watch;

use crate::machine::Machine;
use anyhow::Context as _;
use clap::Args;
use load::{Keys, Load};
use phases::Run;
use std::{fs, path::PathBuf};
use table::Table;

/// Names of the files that are written.
const SNAPSHOTS_FILE: &str = "snapshots.md";
const OVERWRITES_FILE: &str = "overwrites.md";

/// What both measurements ask.
#[derive(Args, Clone, Debug)]
pub(crate) struct Common {
    /// Connections to the leader.
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Puts in flight where as many go as can.
    #[arg(long, default_value_t = 256)]
    in_flight: usize,
    /// Take a snapshot after so much log, instead of the server's default.
    #[arg(long)]
    snapshot_log_bytes: Option<u64>,
    /// The size of the log's segments, instead of the server's default. The log is cut by whole segments.
    #[arg(long)]
    segment_bytes: Option<u64>,
    /// Where the nodes keep their data [default: the target directory].
    #[arg(long)]
    data: Option<PathBuf>,
    /// The directory for the table.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/results"))]
    out: PathBuf,
}

/// How to measure snapshots.
#[derive(Args, Clone, Debug)]
pub(crate) struct Snapshots {
    #[command(flatten)]
    common: Common,
    /// Keys of the state, with values of 256 bytes.
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Puts a second while latencies are measured and while the follower catches up.
    #[arg(long, default_value_t = 5_000)]
    per_second: u64,
    /// Snapshots of each node during which latencies are measured.
    #[arg(long, default_value_t = 1)]
    snapshots: usize,
}

/// How to measure overwriting.
#[derive(Args, Clone, Debug)]
pub(crate) struct Overwrites {
    #[command(flatten)]
    common: Common,
    /// How many puts.
    #[arg(long, default_value_t = 5_000_000)]
    puts: u64,
    /// On how many keys.
    #[arg(long, default_value_t = 100_000)]
    keys: u64,
}

/// Measures snapshots.
pub(crate) async fn measure_snapshots(options: &Snapshots) -> anyhow::Result<()> {
    let Snapshots { common, keys, per_second, snapshots } = options;
    let mut table = Table::default();
    let mut run = Run::start(common).await?;
    run.fill(*keys, &mut table).await.context("fill")?;
    run.latencies(*keys, *per_second, *snapshots, &mut table).await.context("measure latencies")?;
    run.written(&mut table)?;
    run.restart(&mut table).await.context("restart")?;
    run.catch_up(*keys, *per_second, &mut table).await.context("catch up")?;
    run.room(&mut table)?;
    finish(common, SNAPSHOTS_FILE, "A big state", &table)
}

/// Measures overwriting.
pub(crate) async fn measure_overwrites(options: &Overwrites) -> anyhow::Result<()> {
    let Overwrites { common, puts, keys } = options;
    let mut table = Table::default();
    let mut run = Run::start(common).await?;
    run.overwrite(*keys, *puts, &mut table).await?;
    run.written(&mut table)?;
    run.restart(&mut table).await.context("restart")?;
    finish(common, OVERWRITES_FILE, "Overwriting", &table)
}

fn finish(common: &Common, file: &str, title: &str, table: &Table) -> anyhow::Result<()> {
    let Machine { processor, cores, kernel, commit, unix_seconds: _ } = Machine::here();
    let text = format!(
        "{title}: three nodes, {} connections to the leader, {}-byte keys, {}-byte values; {processor} with {cores} \
         cores, Linux {kernel}, commit {commit}. Nodes and generator share the machine.\n\n{}",
        common.connections,
        crate::workload::KEY_BYTES,
        crate::workload::VALUE_BYTES,
        table.markdown(),
    );
    print!("{text}");
    fs::create_dir_all(&common.out).with_context(|| format!("create {}", common.out.display()))?;
    let path = common.out.join(file);
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))
}
