//! Why it happens: one explanation for each kind of thing, told the first time that it happens.

/// What can be explained: the text, in which `{nodes}` stands for the number of nodes, `{majority}` for how many are a
/// majority, and `{left}` for how many are left when one is killed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Topic(&'static str);

impl Topic {
    /// The explanation in a cluster of `nodes`.
    pub(super) fn explain(self, nodes: usize) -> String {
        self.0
            .replace("{nodes}", &nodes.to_string())
            .replace("{majority}", &(nodes / 2 + 1).to_string())
            .replace("{left}", &(nodes - 1).to_string())
    }
}

pub(super) const PRE_VOTE: Topic = Topic(
    "A node that has not heard from a leader for its election timeout (random, so that two seldom wake at once) first \
     asks whether it would be elected. Its term does not rise yet, so that a node that was only cut off disturbs nobody.",
);

pub(super) const ELECTION: Topic = Topic(
    "An election: the candidate raises the term, votes for itself and asks the others. It needs {majority} of {nodes} \
     votes; any two majorities share a node, so a term has one leader at most.",
);

pub(super) const VOTE: Topic = Topic(
    "A node gives one vote a term, and writes it to its disk before it tells anyone. It refuses a candidate whose log \
     lacks entries that it has itself: so no committed entry is ever lost.",
);

pub(super) const LEADER: Topic = Topic(
    "The leader alone decides the order of the writes. It shows that it is there by heartbeats, and first of all appends \
     an empty entry of its term, which commits everything before it too.",
);

pub(super) const FOLLOWER: Topic =
    Topic("A follower accepts the leader's entries, and passes on to it what its own clients write.");

pub(super) const QUORUM_LOST: Topic =
    Topic("A leader that hears of no majority steps down: the others may have elected another one.");

pub(super) const DISK_STALLED: Topic =
    Topic("A leader whose disk stands still gives way to one that can keep what it is told.");

pub(super) const TRUNCATED: Topic = Topic(
    "Entries that were never committed give way to those of the new leader. Nobody was told that they succeeded.",
);

pub(super) const INSTALLED: Topic = Topic(
    "The leader no longer has the entries that this node lacks: it keeps the state that they made instead, a snapshot. \
     The node fetches that, piece by piece, and goes on with the entries behind it.",
);

pub(super) const APPEND: Topic = Topic(
    "Every write is an entry in the leader's log, which is sent to all nodes at once. Each appends it and waits for its \
     disk (fsync) before it acknowledges: what a majority has acknowledged survives a power cut.",
);

pub(super) const COMMIT: Topic = Topic(
    "An entry on the disks of {majority} of {nodes} nodes is committed: whatever leader comes next has it. The leader \
     sees that first and tells the others.",
);

pub(super) const NOOP: Topic = Topic("The empty entry of a new leader changes no key.");

pub(super) const APPLY: Topic = Topic(
    "Each node applies the committed entries in the order of the log, so all states go through the same steps. Each \
     change makes a new revision of the state.",
);

pub(super) const REJECTED: Topic = Topic(
    "Whether a key exists is decided when the entry is applied, by each node alike: this one changes nothing, and its \
     client is told so.",
);

pub(super) const SETTLED: Topic = Topic(
    "What became of a write whose answer was lost is asked through the log. If nothing did, nothing ever will: a late \
     copy of the write is refused from here on.",
);

pub(super) const CONFIGURED: Topic = Topic(
    "The settings of the cluster are part of the state: each node follows a change at the same place of the log.",
);

pub(super) const PUT: Topic = Topic(
    "Any node may be asked; one that does not lead forwards to the leader. A put creates: it fails if the key exists.",
);

pub(super) const GET: Topic = Topic(
    "A get writes nothing to the log. Before it is answered, a majority confirms that the leader still leads, so that the \
     answer is never stale (linearizable).",
);

pub(super) const DELETE: Topic = Topic("A delete is an entry in the log like a put; it fails if the key is missing.");

pub(super) const ELSEWHERE: Topic = Topic("The request was certainly not applied, so it is safe to ask another node.");

pub(super) const EXISTS: Topic = Topic("An answer like any other: the key was there, and nothing was written.");

pub(super) const NOT_FOUND: Topic = Topic("An answer like any other: the key was not there.");

pub(super) const UNKNOWN: Topic = Topic(
    "The answer was lost after the write had left: it may have been applied or not, and saying either would be a guess. \
     It is not repeated blindly.",
);

pub(super) const KILLED: Topic = Topic(
    "kill -9: the process is gone without a last word. {left} of {nodes} nodes are left, still a majority: they elect a \
     new leader once the silence exceeds an election timeout.",
);

pub(super) const RESTARTED: Topic =
    Topic("It reads its log from its disk, learns who leads, and gets the entries that it missed.");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explanations_are_in_the_numbers_of_the_cluster() {
        assert!(ELECTION.explain(5).contains("It needs 3 of 5 votes; "));
        assert!(COMMIT.explain(1).contains("the disks of 1 of 1 nodes"));
        assert!(KILLED.explain(3).contains(" 2 of 3 nodes are left"));
        let all = [
            PRE_VOTE,
            ELECTION,
            VOTE,
            LEADER,
            FOLLOWER,
            QUORUM_LOST,
            DISK_STALLED,
            TRUNCATED,
            INSTALLED,
            APPEND,
            COMMIT,
            NOOP,
            APPLY,
        ];
        assert!(all.iter().all(|topic| !topic.explain(3).contains(['{', '}'])));
    }
}
