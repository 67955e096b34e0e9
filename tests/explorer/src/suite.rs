//! Bounds that are worth searching, gathered by how long they take.
//!
//! One search with everything in it cannot be exhausted: each kind of event multiplies the states of all others by
//! ten or more. So a suite has several, each with a few kinds of events and all their interleavings.

use crate::bounds::Bounds;

/// How much time there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Suite {
    /// A few seconds: for plain tests.
    Small,
    /// About a minute on two cores.
    Ci,
    /// Half an hour and some gigabytes.
    Release,
}

/// Bounds with a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Search {
    /// What it is about.
    pub name: &'static str,
    /// How far it goes.
    pub bounds: Bounds,
}

impl Suite {
    /// The suite of this name: `small`, `ci` or `release`.
    pub fn from_name(name: &str) -> Option<Suite> {
        match name {
            "small" => Some(Suite::Small),
            "ci" => Some(Suite::Ci),
            "release" => Some(Suite::Release),
            _ => None,
        }
    }

    /// Its searches, each of which is exhausted.
    pub fn searches(self) -> Vec<Search> {
        match self {
            Suite::Small => small(),
            Suite::Ci => ci(),
            Suite::Release => release(),
        }
    }
}

/// Nothing happens but so many election timeouts, and disks are fast.
fn elections(timeouts: u8) -> Bounds {
    Bounds { timeouts, proposals: 0, crashes: 0, single_entries: false, lossy_timeouts: false, ..Bounds::default() }
}

impl Bounds {
    /// Figure 8 (§5.4.2): three leaders in four terms, whose entries travel one by one. A core that commits an entry
    /// of an earlier term by counting replicas loses it here, which leader completeness shows even if nothing else is
    /// looked at.
    pub fn figure_8() -> Bounds {
        Bounds { terms: 4, single_entries: true, lossy_timeouts: true, ..elections(5) }
    }
}

/// The part of Figure 8 in which a leader has an entry of an earlier term on a majority and must not commit it.
fn first_of_figure_8() -> Bounds {
    Bounds { terms: 2, single_entries: true, lossy_timeouts: true, ..elections(2) }
}

fn small() -> Vec<Search> {
    vec![
        Search { name: "two elections, slow disks", bounds: Bounds { slow_disks: true, ..elections(2) } },
        Search {
            name: "one leader, a crash, losses",
            bounds: Bounds { proposals: 2, crashes: 1, drops: 2, ..elections(1) },
        },
        Search { name: "an entry of an earlier term", bounds: first_of_figure_8() },
        Search { name: "two elections, a read", bounds: Bounds { reads: 1, ..elections(2) } },
        Search {
            name: "two elections, a command, a read without a leader",
            bounds: Bounds { proposals: 1, ..quorum_reads(2) },
        },
        Search {
            name: "one leader, a command, two snapshots, two installs",
            bounds: Bounds { proposals: 1, compactions: 2, installs: 2, ..snapshots(1) },
        },
    ]
}

/// Snapshots are taken and installed at any time; what they cover is in no log and no memory any more.
fn snapshots(timeouts: u8) -> Bounds {
    Bounds { compactions: 1, installs: 1, ..elections(timeouts) }
}

/// What was committed before any moment has to be seen by a read that asks nodes from then on.
fn quorum_reads(timeouts: u8) -> Bounds {
    Bounds { quorum_reads: true, lossy_timeouts: true, ..elections(timeouts) }
}

fn ci() -> Vec<Search> {
    vec![
        Search { name: "an entry of an earlier term", bounds: first_of_figure_8() },
        Search { name: "three elections, a command, a crash", bounds: Bounds::default() },
        Search {
            name: "two elections, a command, a crash, two losses",
            bounds: Bounds { proposals: 1, crashes: 1, drops: 2, lossy_timeouts: true, ..elections(2) },
        },
        Search { name: "three elections", bounds: elections(3) },
        Search {
            name: "two elections, slow disks, a crash",
            bounds: Bounds { slow_disks: true, crashes: 1, ..elections(2) },
        },
        Search {
            name: "two elections, slow disks, a message overtakes",
            bounds: Bounds { slow_disks: true, overtakings: Some(1), ..elections(2) },
        },
        Search { name: "two elections, any order, any loss", bounds: Bounds { overtakings: None, ..elections(2) } },
        Search { name: "two elections, a transfer", bounds: Bounds { transfers: 1, ..elections(2) } },
        Search { name: "two elections, two reads", bounds: Bounds { reads: 2, ..elections(2) } },
        Search {
            name: "one leader, a command, two reads, a crash",
            bounds: Bounds { proposals: 1, reads: 2, crashes: 1, ..elections(1) },
        },
        Search {
            name: "two elections, a command, a crash, a read without a leader",
            bounds: Bounds { proposals: 1, crashes: 1, ..quorum_reads(2) },
        },
        Search {
            name: "three elections, a command, a read without a leader",
            bounds: Bounds { proposals: 1, single_entries: true, ..quorum_reads(3) },
        },
        Search {
            name: "two elections, a command, a heartbeat, a loss",
            bounds: Bounds { proposals: 1, heartbeats: 1, drops: 1, lossy_timeouts: true, ..elections(2) },
        },
        Search {
            name: "one leader, two commands, slow disks, a message comes twice, another overtakes",
            bounds: Bounds { proposals: 2, duplicates: 1, overtakings: Some(1), slow_disks: true, ..elections(1) },
        },
        Search {
            name: "three elections, a snapshot, an install",
            bounds: Bounds { single_entries: true, lossy_timeouts: true, ..snapshots(3) },
        },
        Search {
            name: "two elections, a snapshot, an install, slow disks",
            bounds: Bounds { slow_disks: true, lossy_timeouts: true, ..snapshots(2) },
        },
        Search {
            name: "two elections, a command, a snapshot, an install, a crash",
            bounds: Bounds { proposals: 1, crashes: 1, lossy_timeouts: true, ..snapshots(2) },
        },
    ]
}

fn release() -> Vec<Search> {
    let mut searches = ci();
    searches.extend([
        Search { name: "figure 8", bounds: Bounds::figure_8() },
        Search { name: "two elections, a command, a read", bounds: Bounds { proposals: 1, reads: 1, ..elections(2) } },
        Search {
            name: "two elections, a heartbeat, a message comes twice",
            bounds: Bounds { heartbeats: 1, duplicates: 1, ..elections(2) },
        },
        Search {
            name: "two elections, slow disks, a crash, a loss",
            bounds: Bounds { slow_disks: true, crashes: 1, drops: 1, ..elections(2) },
        },
        Search {
            name: "three elections, slow disks",
            bounds: Bounds { slow_disks: true, lossy_timeouts: true, ..elections(3) },
        },
        Search {
            name: "two elections, a command, slow disks, a read without a leader",
            bounds: Bounds { proposals: 1, slow_disks: true, ..quorum_reads(2) },
        },
        Search {
            name: "two elections, slow disks, a command",
            bounds: Bounds { slow_disks: true, proposals: 1, ..elections(2) },
        },
        Search {
            name: "two elections, a command, slow disks, a crash",
            bounds: Bounds { slow_disks: true, proposals: 1, crashes: 1, lossy_timeouts: true, ..elections(2) },
        },
        Search {
            name: "two elections, two commands, a crash, two losses",
            bounds: Bounds { proposals: 2, crashes: 1, drops: 2, lossy_timeouts: true, ..elections(2) },
        },
        Search {
            name: "two elections, a snapshot, an install, slow disks, a crash",
            bounds: Bounds { slow_disks: true, crashes: 1, lossy_timeouts: true, ..snapshots(2) },
        },
        Search {
            name: "one leader, a command, two snapshots, two installs, a heartbeat, a crash, a loss",
            bounds: Bounds {
                proposals: 1,
                compactions: 2,
                installs: 2,
                heartbeats: 1,
                crashes: 1,
                drops: 1,
                ..snapshots(1)
            },
        },
    ]);
    for search in &mut searches {
        search.bounds.states_max = 100_000_000;
    }
    searches
}
