//! What a demo tells: everything that happens, on the nodes, at the clients and around them.

use super::operations::Action;
use crate::story::StoryLine;

/// Something that happened, and when.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Told {
    /// When, in microseconds since 1970, by the same clock as a [`StoryLine`].
    pub(super) at_us: u64,
    /// What.
    pub(super) scene: Scene,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Scene {
    /// On a node, told by itself.
    Node(StoryLine),
    /// At a client.
    Client {
        /// The client's number, from 1.
        client: usize,
        /// What.
        what: ClientScene,
    },
    /// Around the nodes and clients.
    Demo(DemoScene),
}

/// What happened at a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum ClientScene {
    /// It asks a node.
    Asks {
        /// For what.
        action: Action,
        /// The node's name.
        node: String,
    },
    /// It got no result and asks another node.
    AsksElsewhere {
        /// The node that gave none.
        from: String,
        /// The node that is asked now.
        to: String,
        /// Why.
        cause: String,
    },
    /// It has its answer.
    Answered {
        /// What it had asked for.
        action: Action,
        /// The answer.
        answer: Answer,
    },
}

/// What became of an operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    /// The put is durable on a majority.
    Written {
        /// The revision it made.
        revision: u64,
    },
    /// The delete is durable on a majority.
    Removed {
        /// The revision it made.
        revision: u64,
    },
    /// The get found a value.
    Value {
        /// The value.
        value: String,
        /// The node whose state was read.
        served_by: String,
    },
    /// The key exists already, so nothing was written.
    KeyExists {
        /// The server's words.
        message: String,
    },
    /// The key does not exist.
    KeyNotFound {
        /// The server's words.
        message: String,
    },
    /// Nobody knows whether it was applied.
    Unknown {
        /// Why.
        message: String,
    },
    /// It was certainly not applied.
    Failed {
        /// Why.
        message: String,
    },
}

/// What happened around the nodes and clients.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum DemoScene {
    /// A node's process was started.
    Started {
        /// The node's name.
        node: String,
        /// The process.
        pid: u32,
        /// Where it listens.
        address: String,
    },
    /// A node's process was started again after it had been killed.
    Restarted {
        /// The node's name.
        node: String,
        /// The new process.
        pid: u32,
    },
    /// All nodes are up and agree on a leader.
    Ready {
        /// The leader's name.
        leader: String,
        /// Its term.
        term: u64,
    },
    /// The leader was killed.
    Killed {
        /// The node's name.
        node: String,
        /// The process.
        pid: u32,
    },
    /// All clients have all their answers.
    ClientsDone,
    /// All nodes have applied the same.
    CaughtUp {
        /// The index up to which they have.
        index: u64,
    },
}

impl Answer {
    /// The revision that the operation made, if it is known to have changed the state.
    pub(super) fn revision(&self) -> Option<u64> {
        match self {
            Self::Written { revision } | Self::Removed { revision } => Some(*revision),
            Self::Value { .. }
            | Self::KeyExists { .. }
            | Self::KeyNotFound { .. }
            | Self::Unknown { .. }
            | Self::Failed { .. } => None,
        }
    }
}
