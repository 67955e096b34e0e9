//! Commands that make a cluster, a disk and a fresh start.

use std::collections::BTreeSet;

use bytes::Bytes;
use raft::{Configuration, Entry, HardState, Index, NodeId, Options, Payload, Term};

use crate::args::{Args, node_id, number};
use crate::cluster::{Cluster, Outcome};
use crate::node::{Disk, Node, index};
use crate::render;

/// Bounds that no script meets unless it sets its own.
const BYTES_AMPLE: usize = 1 << 20;
const INFLIGHT_MESSAGES_AMPLE: usize = 64;
/// The seed of node 1 is this plus 1, and so on: fixed, so that a script always runs the same way.
const SEED: u64 = 7_000;

/// The members of the first configuration.
struct Members {
    voters: BTreeSet<NodeId>,
    outgoing: BTreeSet<NodeId>,
    learners: BTreeSet<NodeId>,
}

/// `cluster nodes=3 learners=1`, or `cluster joint old=1,2,3 new=2,3,4`; options of all nodes: `election=10..100`,
/// `heartbeat=2`, `append_bytes=`, `inflight=`, `uncommitted_bytes=`, `tail_bytes=`, `apply_bytes=`.
pub(super) fn cluster(mut args: Args<'_>) -> Result<Cluster, String> {
    let members = members(&mut args)?;
    let configuration = configuration(&members);
    let options = options(&mut args)?;
    args.end()?;
    let everyone: BTreeSet<NodeId> =
        members.voters.iter().chain(&members.outgoing).chain(&members.learners).copied().collect();
    let nodes = everyone.iter().map(|id| {
        let options = Options { id: *id, seed: SEED + id.get(), ..options.clone() };
        Node::new(options, configuration.clone())
    });
    let mut cluster = Cluster::new(nodes.collect(), members.voters, members.outgoing);
    for id in everyone {
        cluster.start(id, Index::ZERO)?;
    }
    Ok(cluster)
}

fn members(args: &mut Args<'_>) -> Result<Members, String> {
    if args.flag("joint") {
        return Ok(Members {
            voters: node_set(args.named("new").ok_or("joint needs new=")?)?,
            outgoing: node_set(args.named("old").ok_or("joint needs old=")?)?,
            learners: args.named("learners").map(node_set).transpose()?.unwrap_or_default(),
        });
    }
    let count = args.number("nodes")?.ok_or("how many nodes?")?;
    let learners = args.number("learners")?.unwrap_or(0);
    let ids = |range: std::ops::RangeInclusive<u64>| range.filter_map(NodeId::new).collect();
    Ok(Members { voters: ids(1..=count), outgoing: BTreeSet::new(), learners: ids(count + 1..=count + learners) })
}

fn node_set(words: &str) -> Result<BTreeSet<NodeId>, String> {
    words.split(',').map(node_id).collect()
}

fn configuration(members: &Members) -> Configuration {
    let Members { voters, outgoing, learners } = members;
    let voting = if outgoing.is_empty() {
        Configuration::new(voters.iter().copied())
    } else {
        Configuration::joint(voters.iter().copied(), outgoing.iter().copied())
    };
    voting.with_learners(learners.iter().copied())
}

fn options(args: &mut Args<'_>) -> Result<Options, String> {
    let (min, max) = args.named("election").unwrap_or("10..100").split_once("..").ok_or("election=10..100")?;
    let ticks = |word: &str| number(word).and_then(|ticks| u32::try_from(ticks).map_err(|error| error.to_string()));
    Ok(Options {
        id: NodeId::new(1).expect("1 is not zero"),
        election_timeout_ticks_min: ticks(min)?,
        election_timeout_ticks_max: ticks(max)?,
        heartbeat_ticks: ticks(args.named("heartbeat").unwrap_or("2"))?,
        append_bytes_max: args.count("append_bytes")?.unwrap_or(BYTES_AMPLE),
        inflight_messages_max: args.count("inflight")?.unwrap_or(INFLIGHT_MESSAGES_AMPLE),
        uncommitted_bytes_max: args.count("uncommitted_bytes")?.unwrap_or(BYTES_AMPLE),
        tail_bytes_max: args.count("tail_bytes")?.unwrap_or(BYTES_AMPLE),
        apply_bytes_max: args.count("apply_bytes")?.unwrap_or(BYTES_AMPLE),
        seed: SEED,
    })
}

/// `disk n1 terms=1,1,2 term=3 vote=n2 commit=1`: n1 starts anew from a disk that holds this. An entry's command is
/// told by its place (`t1i2` at index 2 of term 1), so that equal places hold equal entries; the first entry of a
/// term is its leader's no-op.
pub(super) fn disk(cluster: &mut Cluster, args: &mut Args<'_>) -> Outcome {
    let id = args.node()?;
    let terms: Result<Vec<u64>, String> = args.named("terms").map_or(Ok(Vec::new()), terms);
    let terms = terms?;
    let entries: Vec<Entry> = (1..=terms.len()).map(|at| made_entry(&terms, at)).collect();
    let last_term = terms.last().copied().unwrap_or(0);
    let hard_state = HardState {
        current_term: Term::new(args.number("term")?.unwrap_or(last_term)),
        voted_for: args.named_node("vote")?,
        commit_index: Index::new(args.number("commit")?.unwrap_or(0)),
    };
    let node = cluster.node(id)?;
    node.stop(true)?;
    node.durable = Disk { entries, hard_state, ..Disk::default() };
    start_from_disk(cluster, id, None)
}

fn terms(words: &str) -> Result<Vec<u64>, String> {
    let mut terms = Vec::new();
    for word in words.split(',') {
        let (term, count) = word.split_once('*').unwrap_or((word, "1"));
        let term = number(term)?;
        terms.extend((0..number(count)?).map(|_| term));
    }
    Ok(terms)
}

fn made_entry(terms: &[u64], at: usize) -> Entry {
    let term = terms[at - 1];
    let first_of_term = at == 1 || terms[at - 2] != term;
    let payload = if first_of_term { Payload::Noop } else { Payload::Command(Bytes::from(format!("t{term}i{at}"))) };
    Entry { term: Term::new(term), index: index(at), payload }
}

/// `restart n1 [applied=0]`: n1 starts from its disk; its state machine has replayed to the commit hint or so far.
pub(super) fn restart(cluster: &mut Cluster, args: &mut Args<'_>) -> Outcome {
    let id = args.node()?;
    let applied = args.number("applied")?.map(Index::new);
    if cluster.node(id)?.raft.is_some() {
        return Err(format!("{id} is up"));
    }
    start_from_disk(cluster, id, applied)
}

fn start_from_disk(cluster: &mut Cluster, id: NodeId, applied: Option<Index>) -> Outcome {
    let durable = &cluster.node(id)?.durable;
    let hard_state = durable.hard_state;
    let applied = applied.unwrap_or(hard_state.commit_index).max(index(durable.snapshot.len()));
    let told = format!(
        "{} starts with term {}, vote {}, log 1..{}, applied {}",
        id,
        hard_state.current_term.get(),
        render::node_or_nobody(hard_state.voted_for),
        durable.last_index().get(),
        applied.get()
    );
    cluster.trace.tell(told);
    cluster.start(id, applied)
}
