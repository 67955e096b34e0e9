//! What `verify` reports: one set of facts, as text or as a JSON object.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use engine::SnapshotFile;
use engine::identity::{Cluster, Identity, Member};
use engine::wal::Behind;
use serde::Serialize;

use super::start::Start;
use super::text::{HardStateJson, SettingsJson, count, hard_state};
use super::verify::Examination;
use super::{Damage, command};

/// Everything that is known of a directory. Where there is damage, what stands here of log and state is as far as the
/// log could be read.
#[derive(Serialize)]
pub(super) struct Report {
    directory: String,
    verdict: &'static str,
    node: Option<NodeId>,
    cluster_id: Option<String>,
    members: Vec<NodeId>,
    snapshots: Vec<Snapshot>,
    segments: Vec<Segment>,
    /// The first entry that the log holds, or would hold next.
    first_index: u64,
    /// Whether the log goes on from what the newest sound snapshot covers, or from the first entry if there is none.
    log_leads_to_snapshot: bool,
    last_index: u64,
    last_term: u64,
    hard_state: HardStateJson,
    commit_index: u64,
    applied_index: u64,
    undecided_entries: u64,
    keys: u64,
    revision: u64,
    time_ms: u64,
    settings: SettingsJson,
    state_hash: String,
    unsynced_tail: Vec<Tail>,
    leftovers: Vec<String>,
    repair: Option<RepairNote>,
    damage: Vec<Damage>,
    /// What a start of the node would do.
    start: Start,
    next: Option<String>,
    elapsed_ms: u64,
    #[serde(skip)]
    hard_state_text: String,
}

#[derive(Serialize)]
struct NodeId {
    name: String,
    incarnation: String,
}

/// A snapshot of the state.
#[derive(Serialize)]
struct Snapshot {
    file: String,
    bytes: u64,
    index: u64,
    /// The term of the last entry that it covers.
    last_term: Option<u64>,
    sound: bool,
}

/// The note that part of the log was lost.
#[derive(Serialize)]
struct RepairNote {
    forgotten_term: u64,
    /// Whether the damage was found to be still in the log.
    cut_pending: bool,
}

/// A segment of the log.
#[derive(Serialize, Clone, Default)]
pub(super) struct Segment {
    pub(super) file: String,
    pub(super) bytes: u64,
    pub(super) used_bytes: u64,
    /// Whether it holds records; one that does not is prepared for when the one before is full.
    pub(super) in_use: bool,
    pub(super) records: u64,
    pub(super) entries: u64,
    /// The least and the greatest index of its entries.
    pub(super) indexes: Option<[u64; 2]>,
    /// The least and the greatest term of its entries.
    pub(super) terms: Option<[u64; 2]>,
}

/// Bytes that were never synced: the next start overwrites them with zeros.
#[derive(Serialize)]
struct Tail {
    file: String,
    offset: u64,
    bytes: u64,
}

impl NodeId {
    fn of(member: &Member) -> NodeId {
        NodeId { name: member.name.clone(), incarnation: format!("{:016x}", member.incarnation.get()) }
    }
}

impl Snapshot {
    fn of(file: &SnapshotFile) -> Snapshot {
        Snapshot {
            file: file.stored.name.clone(),
            bytes: file.stored.bytes,
            index: file.stored.index.get(),
            last_term: file.last_term.map(|term| term.get()),
            sound: file.problem.is_none(),
        }
    }
}

impl Report {
    pub(super) fn new(directory: &Path, found: &Examination, elapsed: Duration) -> Report {
        let identity = found.identity.as_ref();
        let cluster = identity.and_then(|identity: &Identity| identity.cluster.as_ref());
        let behind: &[Behind] = found.inspection.as_ref().map_or(&[], |inspection| &inspection.behind);
        let prepared = behind.iter().filter(|behind| !behind.in_use).map(|behind| Segment {
            file: behind.file.clone(),
            bytes: behind.bytes,
            ..Segment::default()
        });
        let tails = behind.iter().filter(|behind| !behind.tail.is_empty()).map(|behind| Tail {
            file: behind.file.clone(),
            offset: behind.tail.start,
            bytes: behind.tail.end - behind.tail.start,
        });
        let undecided = found.state.last_index().get().saturating_sub(found.state.applied().get());
        let (state, store) = (&found.state, found.state.store());
        let damaged = !found.damage.is_empty();
        let start = Start::of(found);
        let next = damaged && matches!(start, Start::StaysOutside | Start::Refuses);
        let is_broken = state.gap().is_some() || state.is_obsolete();
        Report {
            directory: directory.display().to_string(),
            verdict: if damaged { "damaged" } else { "sound" },
            node: identity.map(|identity| NodeId::of(&identity.member)),
            cluster_id: cluster.map(|cluster: &Cluster| format!("{:032x}", u128::from_be_bytes(cluster.id()))),
            members: cluster.map_or_else(Vec::new, |cluster| cluster.members().iter().map(NodeId::of).collect()),
            snapshots: found.snapshots.iter().map(Snapshot::of).collect(),
            segments: found.segments.iter().cloned().chain(prepared).collect(),
            first_index: state.first_index().get(),
            log_leads_to_snapshot: !is_broken,
            last_index: state.last_index().get(),
            last_term: state.last_term().get(),
            hard_state: HardStateJson::of(&found.hard_state),
            commit_index: found.hard_state.commit_index.get(),
            applied_index: state.applied().get(),
            undecided_entries: if is_broken { 0 } else { undecided },
            keys: store.len() as u64,
            revision: store.revision().get(),
            time_ms: store.time_ms(),
            settings: SettingsJson::of(store.settings()),
            state_hash: format!("{:032x}", store.state_hash()),
            unsynced_tail: tails.collect(),
            leftovers: found.leftovers.clone(),
            repair: found.repair.map(|repair| RepairNote {
                forgotten_term: repair.forgotten_term.get(),
                cut_pending: repair.cut.is_some(),
            }),
            damage: found.damage.clone(),
            start,
            next: next.then(|| command("dump", directory)),
            elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            hard_state_text: hard_state(&found.hard_state),
        }
    }

    pub(super) fn sound(&self) -> bool {
        self.damage.is_empty()
    }

    fn write_identity(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.node {
            Some(node) => writeln!(out, "  node         {}, incarnation {}", node.name, node.incarnation)?,
            None => writeln!(out, "  node         not known")?,
        }
        match &self.cluster_id {
            Some(id) => writeln!(out, "  cluster      {id}")?,
            None => writeln!(out, "  cluster      none yet")?,
        }
        for (number, NodeId { name, incarnation }) in self.members.iter().enumerate() {
            let label = if number == 0 { "members" } else { "" };
            writeln!(out, "  {label:<12} {name}, incarnation {incarnation}")?;
        }
        Ok(())
    }

    fn write_snapshots(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.snapshots.is_empty() {
            return Ok(());
        }
        writeln!(out, "\n  {:<34}  {:>10}  {:>12}  last term", "snapshot", "bytes", "index")?;
        for Snapshot { file, bytes, index, last_term, .. } in &self.snapshots {
            write!(out, "  {file:<34}  {bytes:>10}  {index:>12}  ")?;
            match last_term {
                Some(term) => writeln!(out, "{term}")?,
                None => writeln!(out, "damaged")?,
            }
        }
        Ok(())
    }

    fn write_segments(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "\n  {:<18}  {:>10}  {:>10}  {:>9}  indexes", "segment", "bytes", "used", "records")?;
        for segment in &self.segments {
            let Segment { file, bytes, used_bytes, records, .. } = segment;
            write!(out, "  {file:<18}  {bytes:>10}  {used_bytes:>10}  {records:>9}  ")?;
            match (segment.indexes, segment.terms) {
                _ if !segment.in_use => writeln!(out, "prepared, not in use")?,
                (Some([first, last]), Some([low, high])) => {
                    let terms = if low == high { format!("term {low}") } else { format!("terms {low} to {high}") };
                    writeln!(out, "{first} to {last}, {terms}")?;
                }
                _ => writeln!(out, "no entries")?,
            }
        }
        Ok(())
    }

    fn write_state(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "\n  first entry  index {}", self.first_index)?;
        writeln!(out, "  last entry   index {}, term {}", self.last_index, self.last_term)?;
        if self.sound() && !self.log_leads_to_snapshot {
            writeln!(out, "  log          to be given up: the newest snapshot takes its place at the next start")?;
        }
        writeln!(out, "  hard state   {}", self.hard_state_text)?;
        let keys = count(self.keys, "key", "keys");
        writeln!(out, "  state        {keys}, revision {}, after entry {}", self.revision, self.applied_index)?;
        writeln!(out, "  settings     {}", self.settings)?;
        writeln!(out, "  state hash   {}", self.state_hash)?;
        match self.undecided_entries {
            0 => {}
            1 => writeln!(out, "  undecided    1 entry behind: the cluster knows whether it is committed")?,
            more => {
                writeln!(out, "  undecided    {more} entries behind: the cluster knows whether they are committed")?
            }
        }
        for Tail { file, offset, bytes } in &self.unsynced_tail {
            writeln!(out, "  tail         {bytes} bytes from byte {offset} of {file} on were never synced:")?;
            writeln!(out, "               nobody was told of them, and the next start cuts them")?;
        }
        if self.unsynced_tail.is_empty() && self.sound() {
            writeln!(out, "  tail         none: nothing was being written")?;
        }
        if !self.leftovers.is_empty() {
            writeln!(out, "  leftovers    {}: never finished, and harmless", self.leftovers.join(", "))?;
        }
        if let Some(RepairNote { forgotten_term, .. }) = &self.repair {
            writeln!(out, "  repair       part of the log was lost to damage, with what was promised up to term")?;
            writeln!(
                out,
                "               {forgotten_term}: a start fetches it from the other members before it votes again"
            )?;
        }
        writeln!(out, "  time taken   {} ms", self.elapsed_ms)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}: {}", self.directory, self.verdict)?;
        for Damage { file, offset, reason } in &self.damage {
            writeln!(out, "  {file} is damaged at byte {offset}: {reason}")?;
        }
        if !self.sound() {
            write!(out, "{}", self.start)?;
        }
        if let Some(next) = &self.next {
            writeln!(out, "next: {next}")?;
        }
        writeln!(out)?;
        self.write_identity(out)?;
        self.write_snapshots(out)?;
        self.write_segments(out)?;
        self.write_state(out)
    }
}
