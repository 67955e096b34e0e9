//! The search: breadth first, so that the first violation has no shorter story.

use crate::bounds::{Bounds, BoundsError};
use crate::cluster::{Cluster, World};
use crate::hash::{Digest, Folded};
use crate::invariant::{Broken, Invariant};
use crate::story;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// How many parts the table of visited states has, so that threads rarely wait for each other.
const SHARDS: usize = 256;
/// How many states a thread takes at a time.
const PORTION: usize = 64;
/// How many new states there are between two words of progress.
const PROGRESS_EVERY: u64 = 1 << 18;

/// What a search found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Distinct states of the cluster.
    pub states: u64,
    /// Steps from one to another, those to known ones included.
    pub transitions: u64,
    /// The number of actions in the longest of the shortest paths to a state.
    pub depth: u32,
    /// Whether everything within the bounds was seen. Otherwise the search ended at a violation, or at
    /// [`Bounds::states_max`].
    pub exhausted: bool,
    /// Distinct states of single nodes.
    pub node_states: u64,
    /// Steps of single nodes: how often the real core was run. Threads may take the same one at the same time, so two
    /// searches may differ a little here.
    pub node_steps: u64,
    /// The first violation.
    pub violation: Option<Found>,
}

/// An invariant that does not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// Which.
    pub invariant: Invariant,
    /// What shows it.
    pub text: String,
    /// What happened from the start, one action a line; no shorter run shows a violation.
    pub path: Vec<String>,
}

/// Visits every state within the bounds on so many threads, until an invariant is broken. `progress` is told the
/// number of states now and then.
///
/// # Errors
/// If the bounds make no sense.
pub fn explore(bounds: &Bounds, threads: usize, progress: &(dyn Fn(u64) + Sync)) -> Result<Report, BoundsError> {
    bounds.validate()?;
    let search = Search::new(bounds, progress);
    let mut frontier = search.begin();
    let mut depth = 0;
    while !frontier.is_empty() && !search.stops.load(Ordering::Relaxed) {
        let next = search.level(&frontier, threads.max(1));
        depth += u32::from(!next.is_empty());
        frontier = next;
    }
    Ok(search.report(depth, frontier.is_empty()))
}

/// A violation before its story is told.
struct Violation {
    before: Digest,
    broken: Broken,
}

struct Search<'a> {
    world: World,
    visited: Visited,
    states: AtomicU64,
    transitions: AtomicU64,
    stops: AtomicBool,
    violation: Mutex<Option<Violation>>,
    progress: &'a (dyn Fn(u64) + Sync),
}

impl Search<'_> {
    fn new<'a>(bounds: &Bounds, progress: &'a (dyn Fn(u64) + Sync)) -> Search<'a> {
        Search {
            world: World::new(bounds.clone()),
            visited: Visited::new(),
            states: AtomicU64::new(0),
            transitions: AtomicU64::new(0),
            stops: AtomicBool::new(false),
            violation: Mutex::new(None),
            progress,
        }
    }

    fn begin(&self) -> Vec<Cluster> {
        let start = self.world.start();
        let digest = self.world.digest(&start, &mut Vec::new());
        self.visited.insert(digest, digest);
        self.states.store(1, Ordering::Relaxed);
        vec![start]
    }

    /// All states that are one action behind those of `frontier` and were not seen before.
    fn level(&self, frontier: &[Cluster], threads: usize) -> Vec<Cluster> {
        let taken = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| self.work(frontier, &taken))).collect();
            let results = workers.into_iter().map(|worker| worker.join().expect("steps catch their own panics"));
            results.reduce(|mut all, mut more| {
                all.append(&mut more);
                all
            })
        })
        .unwrap_or_default()
    }

    /// One thread's part of a level.
    fn work(&self, frontier: &[Cluster], taken: &AtomicUsize) -> Vec<Cluster> {
        let mut next = Vec::new();
        let mut bytes = Vec::new();
        loop {
            let begin = taken.fetch_add(PORTION, Ordering::Relaxed);
            if begin >= frontier.len() || self.stops.load(Ordering::Relaxed) {
                return next;
            }
            let (known, mut transitions) = (next.len(), 0);
            for cluster in &frontier[begin..frontier.len().min(begin + PORTION)] {
                let before = self.world.digest(cluster, &mut bytes);
                self.world.successors(cluster, &mut |_, after| {
                    transitions += 1;
                    match after {
                        Ok(after) => {
                            if self.visited.insert(self.world.digest(&after, &mut bytes), before) {
                                next.push(after);
                            }
                        }
                        Err(broken) => self.found(Violation { before, broken }),
                    }
                });
            }
            self.transitions.fetch_add(transitions, Ordering::Relaxed);
            self.count((next.len() - known) as u64);
        }
    }

    fn count(&self, new_states: u64) {
        let before = self.states.fetch_add(new_states, Ordering::Relaxed);
        let now = before + new_states;
        if now / PROGRESS_EVERY > before / PROGRESS_EVERY {
            (self.progress)(now);
        }
        if now >= self.world.bounds.states_max {
            self.stops.store(true, Ordering::Relaxed);
        }
    }

    fn found(&self, violation: Violation) {
        self.stops.store(true, Ordering::Relaxed);
        self.violation.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(violation);
    }

    fn report(self, depth: u32, frontier_is_empty: bool) -> Report {
        let violation = self.violation.into_inner().unwrap_or_else(PoisonError::into_inner);
        let stopped = self.stops.load(Ordering::Relaxed);
        Report {
            states: self.states.load(Ordering::Relaxed),
            transitions: self.transitions.load(Ordering::Relaxed),
            depth,
            exhausted: frontier_is_empty && !stopped,
            node_states: u64::from(self.world.node_count()),
            node_steps: u64::from(self.world.step_count()),
            violation: violation.map(|Violation { before, broken }| {
                let path = story::tell(&self.world, &self.visited.path_to(before), &broken);
                Found { invariant: broken.invariant, text: broken.text, path }
            }),
        }
    }
}

/// The digests of all states seen, each with half the digest of a state one action before it.
struct Visited {
    shards: Vec<Mutex<HashMap<Digest, u64, Folded>>>,
}

impl Visited {
    fn new() -> Visited {
        Visited { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    fn shard(&self, half: u64) -> std::sync::MutexGuard<'_, HashMap<Digest, u64, Folded>> {
        // The table inside spends other bits.
        let shard = usize::try_from(half >> 56).expect("eight bits");
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a state; whether it is new.
    fn insert(&self, digest: Digest, before: Digest) -> bool {
        match self.shard(digest.0).entry(digest) {
            Entry::Vacant(vacant) => {
                vacant.insert(before.0);
                true
            }
            Entry::Occupied(_) => false,
        }
    }

    /// The states on the way from the start to this one, both included.
    fn path_to(&self, last: Digest) -> Vec<Digest> {
        let mut path = vec![last];
        let mut state = last;
        loop {
            let half = *self.shard(state.0).get(&state).expect("a state on a path was visited");
            if half == state.0 {
                path.reverse();
                return path; // The start is its own predecessor.
            }
            let shard = self.shard(half);
            state = *shard.keys().find(|digest| digest.0 == half).expect("so was the one before it");
            drop(shard);
            path.push(state);
        }
    }
}
