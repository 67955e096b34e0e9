//! The commands of a script, one small function each. README.md shows all of them by example.

mod inspect;
mod network;
mod raw;
mod setup;

use bytes::Bytes;
use raft::{NodeId, ReadId};

use crate::args::{Args, number};
use crate::cluster::{Cluster, Outcome, Trace};
use crate::node::index;
use crate::render;

/// `campaign` gives up after so many ticks; it is above every election timeout that a script sets.
const CAMPAIGN_TICKS_MAX: usize = 1_000;

/// One run of one script.
#[derive(Default)]
pub(crate) struct Session {
    cluster: Option<Cluster>,
}

impl Session {
    /// Executes one command line.
    pub(crate) fn execute(&mut self, line: &str) -> Outcome {
        let (quiet, line) = line.strip_prefix("quiet ").map_or((false, line), |rest| (true, rest));
        let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
        if name == "cluster" {
            self.cluster = Some(setup::cluster(Args::parse(rest))?);
            return Ok(());
        }
        let cluster = self.cluster.as_mut().ok_or("the first command is `cluster`")?;
        cluster.trace.quiet = quiet;
        if name == "partition" {
            return network::partition(cluster, rest);
        }
        let mut args = Args::parse(rest);
        let outcome = dispatch(cluster, name, &mut args);
        cluster.trace.quiet = false;
        outcome?;
        args.end()
    }

    /// The cluster under test, once a script has made it.
    pub(crate) fn cluster(&mut self) -> Option<&mut Cluster> {
        self.cluster.as_mut()
    }

    /// All nodes, up or down.
    pub(crate) fn nodes(&self) -> Vec<NodeId> {
        self.cluster.iter().flat_map(|cluster| cluster.nodes.keys().copied()).collect()
    }

    /// Whether the node runs.
    pub(crate) fn is_up(&self, id: NodeId) -> bool {
        self.cluster.as_ref().and_then(|cluster| cluster.nodes.get(&id)).is_some_and(|node| node.raft.is_some())
    }

    /// All nodes that believe that they lead, in the order of their terms.
    pub(crate) fn leaders(&self) -> Vec<NodeId> {
        let running =
            self.cluster.iter().flat_map(|cluster| cluster.nodes.values()).filter_map(|node| node.raft.as_ref());
        let mut leaders: Vec<&raft::Raft> = running.filter(|raft| raft.is_leader()).collect();
        leaders.sort_by_key(|raft| raft.current_term());
        leaders.into_iter().map(raft::Raft::id).collect()
    }

    /// Whether all nodes have applied one and the same log to its end.
    pub(crate) fn agrees(&self) -> bool {
        let mut nodes = self.cluster.iter().flat_map(|cluster| cluster.nodes.values());
        let Some(first) = nodes.next() else { return false };
        first.applied == first.written.entries && nodes.all(|node| node.applied == first.applied)
    }

    /// Takes what was printed since the last call.
    pub(crate) fn take_output(&mut self) -> Vec<String> {
        self.cluster.as_mut().map(|cluster| std::mem::take(&mut cluster.trace.lines)).unwrap_or_default()
    }
}

fn dispatch(cluster: &mut Cluster, name: &str, args: &mut Args<'_>) -> Outcome {
    match name {
        "tick" => tick(cluster, args),
        "campaign" => campaign(cluster, args),
        "elect" => elect(cluster, args),
        "propose" => propose(cluster, args),
        "read" => read(cluster, args),
        "transfer" => transfer(cluster, args),
        "unreachable" => unreachable(cluster, args),
        "hold" => hold(cluster, args, true),
        "release" => hold(cluster, args, false),
        "persistence" => persistence(cluster, args),
        "persist" => persist(cluster, args),
        "fetch" => fetch(cluster, args),
        "crash" => crash(cluster, args),
        "restart" => setup::restart(cluster, args),
        "snapshot" => snapshot(cluster, args),
        "install" => install(cluster, args),
        "disk" => setup::disk(cluster, args),
        "stabilize" => network::stabilize(cluster, args),
        "deliver" => network::deliver(cluster, args),
        "drop" => network::drop(cluster, args),
        "duplicate" => network::duplicate(cluster, args),
        "reorder" => network::reorder(cluster, args),
        "cut" => network::cut(cluster, args),
        "heal" => network::heal(cluster),
        "queue" => network::queue(cluster),
        "step" => raw::step(cluster, args),
        "status" => inspect::status(cluster, args),
        "log" => inspect::log(cluster, args),
        "expect" => inspect::expect(cluster, args),
        _ => Err(format!("there is no command `{name}`")),
    }
}

/// The nodes named by the plain words; `all` means every node that is up.
fn nodes(cluster: &Cluster, words: Vec<&str>) -> Result<Vec<NodeId>, String> {
    if words.is_empty() || words == ["all"] {
        return Ok(cluster.nodes.values().filter(|node| node.raft.is_some()).map(|node| node.id).collect());
    }
    words.into_iter().map(crate::args::node_id).collect()
}

/// `tick n1 n2 10`: ten ticks on each, turn by turn.
fn tick(cluster: &mut Cluster, args: &mut Args<'_>) -> Outcome {
    let mut words = args.rest();
    let ticks = number(words.pop().ok_or("how many ticks?")?)?;
    let nodes = nodes(cluster, words)?;
    for _ in 0..ticks {
        for id in &nodes {
            cluster.tick(*id)?;
        }
    }
    Ok(())
}

/// `campaign n1`: ticks until the node starts a campaign.
fn campaign(cluster: &mut Cluster, args: &mut Args<'_>) -> Outcome {
    let id = args.node()?;
    cluster.node(id)?.campaigned = false;
    for _ in 0..CAMPAIGN_TICKS_MAX {
        cluster.tick(id)?;
        if cluster.node(id)?.campaigned {
            return Ok(());
        }
    }
    cluster.trace.tell(format!("{id} does not campaign"));
    Ok(())
}

/// `elect n1`: a campaign that must be won.
fn elect(cluster: &mut Cluster, args: &mut Args<'_>) -> Outcome {
    let id = args.node()?;
    cluster.node(id)?.campaigned = false;
    for _ in 0..CAMPAIGN_TICKS_MAX {
        cluster.tick(id)?;
        if cluster.node(id)?.campaigned {
            break;
        }
    }
    cluster.stabilize()?;
    if cluster.raft(id)?.is_leader() { Ok(()) } else { Err(format!("{id} was not elected")) }
}

/// `propose n1 a b c*100`: three commands at once, the last of a hundred bytes.
fn propose(cluster: &mut Cluster, args: &mut Args<'_>) -> Outcome {
    let id = args.node()?;
    let commands: Result<Vec<Bytes>, String> = args.rest().into_iter().map(command).collect();
    cluster.propose(id, commands?)
}

fn command(word: &str) -> Result<Bytes, String> {
    match word.split_once('*') {
        None => Ok(Bytes::copy_from_slice(word.as_bytes())),
        Some((letter, count)) => {
            let count = usize::try_from(number(count)?).map_err(|error| error.to_string())?;
            Ok(Bytes::from(letter.repeat(count)))
        }
    }
}

/// `read n1 r1 r2`: two reads that share a round.
fn read(cluster: &mut Cluster, args: &mut Args<'_>) -> Outcome {
    let id = args.node()?;
    let mut reads = Vec::new();
    for word in args.rest() {
        reads.push(ReadId::new(number(word.strip_prefix('r').ok_or("reads are named r1, r2, …")?)?));
    }
    cluster.read(id, &reads)
}

/// `transfer n1 n2`: n1 is asked to hand its leadership to n2.
fn transfer(cluster: &mut Cluster, args: &mut Args<'_>) -> Outcome {
    let (id, target) = (args.node()?, args.node()?);
    if let Err(error) = cluster.raft(id)?.transfer_leadership(target) {
        cluster.trace.tell(format!("{id} refuses the transfer: {error}"));
    }
    cluster.pump(id)
}

/// `unreachable n1 n2`: n1's transport says that it lost a message to n2.
fn unreachable(cluster: &mut Cluster, args: &mut Args<'_>) -> Outcome {
    let (id, peer) = (args.node()?, args.node()?);
    cluster.raft(id)?.unreachable(peer);
    cluster.pump(id)
}

/// `hold n1`: n1's driver is busy, so that inputs pile up in the machine; `release n1` lets it act on all of them.
fn hold(cluster: &mut Cluster, args: &mut Args<'_>, held: bool) -> Outcome {
    let id = args.node()?;
    cluster.raft(id)?;
    cluster.node(id)?.held = held;
    cluster.pump(id)
}

/// `persistence n1 manual`: batches of n1 become durable by `persist n1` only. `persistence n1 auto` ends it.
fn persistence(cluster: &mut Cluster, args: &mut Args<'_>) -> Outcome {
    let id = args.node()?;
    let manual = match args.next() {
        Some("manual") => true,
        Some("auto") => false,
        _ => return Err("persistence is `manual` or `auto`".to_owned()),
    };
    cluster.node(id)?.manual_persistence = manual;
    if manual { Ok(()) } else { cluster.persist(id, usize::MAX).and_then(|_| cluster.pump(id)) }
}

/// `persist n1 [batches=1]`: the oldest batches, or all, become durable.
fn persist(cluster: &mut Cluster, args: &mut Args<'_>) -> Outcome {
    let id = args.node()?;
    let batches_max = args.count("batches")?.unwrap_or(usize::MAX);
    if cluster.persist(id, batches_max)? == 0 {
        cluster.trace.tell(format!("{id} has nothing to persist"));
    }
    cluster.pump(id)
}

/// `fetch n1 [empty] [bytes=N]`: n1's disk answers the fetches; `empty`: it could not read.
fn fetch(cluster: &mut Cluster, args: &mut Args<'_>) -> Outcome {
    let id = args.node()?;
    let empty = args.flag("empty");
    let bytes = args.count("bytes")?;
    let fetches = std::mem::take(&mut cluster.node(id)?.fetches);
    if fetches.is_empty() {
        cluster.trace.tell(format!("{id} has asked its disk for nothing"));
    }
    for fetch in fetches {
        let bytes_max = bytes.unwrap_or(fetch.bytes_max);
        let entries =
            if empty { Vec::new() } else { cluster.node(id)?.written.read(fetch.from, bytes_max.min(fetch.bytes_max)) };
        cluster.trace.tell(format!("{}'s disk reads [{}]", id, render::entries(&entries)));
        cluster.raft(id)?.fetched(fetch, entries);
        cluster.pump(id)?;
    }
    Ok(())
}

/// `crash n1 [lose-unpersisted]`: batches on their way to the disk arrive there, or are lost.
fn crash(cluster: &mut Cluster, args: &mut Args<'_>) -> Outcome {
    let id = args.node()?;
    cluster.raft(id)?;
    let lose = args.flag("lose-unpersisted");
    cluster.stop(id, lose)?;
    let durable = &cluster.nodes[&id].durable;
    let told = format!(
        "{} crashes; its disk holds term {}, vote {}, log 1..{}",
        id,
        durable.hard_state.current_term,
        render::node_or_nobody(durable.hard_state.voted_for),
        index(durable.entries.len()).get()
    );
    cluster.trace.tell(told);
    Ok(())
}

/// `snapshot n1`: n1 takes a snapshot of what is applied, and cuts off its log behind it.
fn snapshot(cluster: &mut Cluster, args: &mut Args<'_>) -> Outcome {
    let id = args.node()?;
    cluster.snapshot(id)
}

/// `install n3 from=n1`: n3 has fetched n1's newest snapshot.
fn install(cluster: &mut Cluster, args: &mut Args<'_>) -> Outcome {
    let id = args.node()?;
    let from = args.named_node("from")?.ok_or("whose snapshot?")?;
    cluster.install(id, from)
}

/// Prints the reason why a part of a command does not fit.
fn tell_nothing(trace: &mut Trace, count: usize, what: &str) {
    if count == 0 {
        trace.tell(format!("no message to {what}"));
    }
}
