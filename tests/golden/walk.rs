//! Random walks: scripts that nobody wrote. Each seed makes a cluster and a few hundred commands, faults included;
//! the invariants are checked after every step as in any script, and at the end the cluster, whole again, must elect a
//! leader and bring every member to the same log. What a walk did is a script: a failure prints it, to be kept.

use std::panic::{self, AssertUnwindSafe};

use raft::NodeId;

use crate::commands::Session;

/// Walks of every test run. `QUORATE_WALKS=10000` takes more.
const WALKS: u64 = 60;
const WALKS_VARIABLE: &str = "QUORATE_WALKS";
/// Commands of one walk. Long enough for several leaders and restarts, short enough to be read.
const STEPS: u64 = 300;
/// Rounds of ten ticks for all in which a healthy cluster must settle: some eighty election timeouts, more than
/// enough for the longest backlog that a walk leaves, at one entry a message and one read of the disk a round.
const SETTLE_ROUNDS_MAX: u64 = 200;

/// SplitMix64, so that a seed means the same walk everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, count: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % count
    }

    fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        let at = self.below(choices.len() as u64);
        &choices[usize::try_from(at).expect("it is below a length")]
    }
}

/// One walk: the session, and the commands that it was given.
struct Walk {
    random: Random,
    session: Session,
    script: Vec<String>,
    next_number: u64,
}

impl Walk {
    fn execute(&mut self, command: String) -> Result<(), String> {
        self.script.push(command);
        let command = self.script.last().expect("a command was just pushed");
        let session = &mut self.session;
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| session.execute(command)));
        outcome.unwrap_or_else(|_| Err("the core panicked; its message stands above".to_owned()))
    }

    fn run(&mut self) -> Result<(), String> {
        let cluster = self.cluster();
        self.execute(cluster)?;
        self.execute("stabilize ticks=20".to_owned())?;
        for _ in 0..STEPS {
            let command = self.command();
            self.execute(command)?;
            self.session.take_output();
        }
        self.settle()
    }

    fn cluster(&mut self) -> String {
        let members = *self.random.pick(&[
            "nodes=3",
            "nodes=3",
            "nodes=5",
            "nodes=5",
            "nodes=1",
            "nodes=2",
            "nodes=4",
            "nodes=3 learners=1",
            "joint old=1,2,3 new=3,4,5",
            "joint old=1,2,3 new=2,3,4 learners=5",
        ]);
        let append_bytes = *self.random.pick(&[1, 100, 1000]);
        let tail_bytes = *self.random.pick(&[1, 100, 10_000]);
        let apply_bytes = *self.random.pick(&[1, 10_000]);
        let inflight = *self.random.pick(&[1, 2, 8]);
        let bytes = format!("append_bytes={append_bytes} tail_bytes={tail_bytes} apply_bytes={apply_bytes}");
        format!("cluster {members} election=8..16 heartbeat=2 inflight={inflight} uncommitted_bytes=500 {bytes}")
    }

    /// The next command; it fits the state that the cluster is in.
    fn command(&mut self) -> String {
        let (up, down) = self.nodes();
        self.next_number += 1;
        let number = self.next_number;
        let (Some(_), count) = (up.first(), up.len() + down.len()) else {
            return format!("restart {}", self.random.pick(&down));
        };
        let one = *self.random.pick(&up);
        let other = NodeId::new(self.random.below(count as u64) + 1).expect("above zero");
        let speaker = self.speaker(one);
        match self.random.below(100) {
            0..16 => format!("deliver n={}", self.random.below(6) + 1),
            16..26 => format!("deliver to={one}"),
            26..44 => "deliver".to_owned(),
            44..51 => format!("tick {one} {}", self.random.below(4) + 1),
            51 => format!("release {one}"),
            52..56 => format!("tick all {}", self.random.below(4) + 1),
            56..60 => format!("stabilize ticks={}", self.random.below(20) + 1),
            60..72 => format!("propose {speaker} a{number} b{number}*50"),
            72..76 => format!("read {speaker} r{number}"),
            76 => format!("drop n={}", self.random.below(4) + 1),
            77 => format!("drop to={one}"),
            78 => format!("duplicate n={}", self.random.below(4) + 1),
            79 => format!("reorder to={one}"),
            80 | 83 => format!("partition {}", self.groups(count)),
            81..83 => "heal".to_owned(),
            84 => format!("cut from={one} to={other}"),
            85 => format!("persistence {one} manual"),
            86..88 => format!("persist {one} batches=1"),
            88 => format!("persistence {one} auto"),
            89 => format!("hold {one}"),
            90 => format!("release {one}"),
            91 => format!("crash {one}{}", self.random.pick(&["", " lose-unpersisted"])),
            92..96 => match down.first() {
                Some(down) => format!("restart {down}{}", self.random.pick(&["", " applied=0"])),
                None => format!("persist {one}"),
            },
            96 => format!("transfer {speaker} {other}"),
            97 => format!("unreachable {speaker} {other}"),
            98 => format!("fetch {speaker}"),
            _ => format!("fetch {speaker} {}", self.random.pick(&["empty", "bytes=1"])),
        }
    }

    /// Mostly one of those that believe that they lead, so that there is something to lose.
    fn speaker(&mut self, anyone: NodeId) -> NodeId {
        let leaders = self.session.leaders();
        if leaders.is_empty() || self.random.below(4) == 0 { anyone } else { *self.random.pick(&leaders) }
    }

    /// Two groups that may overlap: a bridge, if they do.
    fn groups(&mut self, count: usize) -> String {
        let mut groups = [Vec::new(), Vec::new()];
        for id in 1..=count {
            let place = self.random.below(5);
            if place != 0 {
                groups[usize::from(place > 2)].push(format!("n{id}"));
            } else {
                groups.iter_mut().for_each(|group| group.push(format!("n{id}")));
            }
        }
        groups.map(|group| group.join(" ")).join(" | ")
    }

    fn nodes(&self) -> (Vec<NodeId>, Vec<NodeId>) {
        self.session.nodes().into_iter().partition(|id| self.session.is_up(*id))
    }

    /// Everything works again: a leader must emerge, and a new command must reach everyone.
    fn settle(&mut self) -> Result<(), String> {
        self.execute("heal".to_owned())?;
        for down in self.nodes().1 {
            self.execute(format!("restart {down}"))?;
        }
        let everyone = self.nodes().0;
        for id in &everyone {
            self.execute(format!("release {id}"))?;
            self.execute(format!("persistence {id} auto"))?;
        }
        let mut proposed = false;
        for _ in 0..SETTLE_ROUNDS_MAX {
            self.execute("stabilize ticks=10".to_owned())?;
            for id in &everyone {
                self.execute(format!("fetch {id}"))?;
            }
            self.execute("stabilize".to_owned())?;
            self.session.take_output();
            if let (false, Some(leader)) = (proposed, self.session.leaders().pop()) {
                self.execute(format!("propose {leader} last"))?;
                proposed = self.session.take_output().iter().any(|line| line.contains("takes \"last\""));
            } else if proposed && self.session.agrees() {
                return Ok(());
            }
        }
        self.execute("status".to_owned())?;
        Err(format!("the cluster is whole and does not settle:\n{}", self.session.take_output().join("\n")))
    }
}

#[test]
fn random_walks_keep_the_invariants() {
    let walks = std::env::var(WALKS_VARIABLE).ok().and_then(|count| count.parse().ok()).unwrap_or(WALKS);
    for seed in 0..walks {
        let random = Random(seed << 32);
        let mut walk = Walk { random, session: Session::default(), script: Vec::new(), next_number: 0 };
        if let Err(problem) = walk.run() {
            panic!("walk {seed}: {problem}\nits script:\n{}", walk.script.join("\n"));
        }
    }
}
