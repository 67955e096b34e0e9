//! What the state machine keeps and answers: revisions, keys with their values, and the results of commands.

use core::fmt;

use bytes::Bytes;

use super::sessions::Settled;
use super::settings::Settings;

/// A position in the history of the store: how many commands had changed a key, counted from [`Revision::FIRST`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Revision(u64);

impl Revision {
    /// The revision of an empty store.
    pub const FIRST: Revision = Revision(1);

    /// A revision from its number. 0 is accepted, since it comes from clients, but is never the revision of anything.
    pub const fn new(revision: u64) -> Revision {
        Revision(revision)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The revision after this one.
    pub(super) fn next(self) -> Revision {
        Revision(self.0.checked_add(1).expect("2^64 writes take longer than any cluster lives"))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// What the store keeps for a key.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// The value: a slice of the command's own allocation, which the log shares.
    pub(super) value: Bytes,
    /// The revision of the write that created the key.
    pub(super) create_revision: Revision,
    /// The revision of the last write.
    pub(super) mod_revision: Revision,
    /// The number of writes since the key was created, this one included.
    pub(super) version: u64,
}

impl Record {
    /// The record as clients see it.
    pub(super) fn to_key_value(&self, key: &Bytes) -> KeyValue {
        let Record { value, create_revision, mod_revision, version } = self;
        KeyValue {
            key: key.clone(),
            value: value.clone(),
            create_revision: *create_revision,
            mod_revision: *mod_revision,
            version: *version,
        }
    }
}

/// A key with its value and history, as it stands in the store. Cheap to clone: key and value are shared.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// The revision of the write that created the key.
    pub create_revision: Revision,
    /// The revision of the last write to the key.
    pub mod_revision: Revision,
    /// The number of writes since the key was created; 1 for a key that was written once.
    pub version: u64,
}

/// The result of a command that was applied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Applied {
    /// The value was written.
    Put {
        /// The store's revision after the write, which is the key's `mod_revision`.
        revision: Revision,
        /// The key's version after the write.
        version: u64,
    },
    /// The key was removed.
    Deleted {
        /// The store's revision after the removal.
        revision: Revision,
        /// What was removed, if the command asked for it.
        previous: Option<KeyValue>,
    },
    /// The command's condition did not hold: nothing was changed.
    Rejected(Rejection),
    /// The request id does not let the command run: this time nothing was done.
    Refused(Refusal),
    /// What became of the write that was asked for.
    Settled(Settled),
    /// A setting of the cluster was changed, or was so before.
    Configured {
        /// All settings, as they were then.
        settings: Settings,
    },
}

/// Why a command changed nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rejection {
    /// A create met a key that exists.
    KeyExists {
        /// The revision of the last write to that key.
        mod_revision: Revision,
    },
    /// An update, a compare or a delete met no such key.
    KeyNotFound,
    /// The key's last write has another revision than the command expected.
    RevisionMismatch {
        /// The revision that the command expected.
        expected: Revision,
        /// The revision of the last write to the key.
        actual: Revision,
    },
}

/// Why a command with a request id was not run. What an earlier copy of it did stays as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The session was dropped, or may have been: whether the write was run before is not known.
    SessionExpired {
        /// The replicated time, in milliseconds: a session that is opened now is new.
        time_ms: u64,
    },
    /// The session claims to have been opened at a time that is still to come.
    OpenedAhead {
        /// The replicated time, in milliseconds.
        time_ms: u64,
    },
    /// The id belongs to another request, or its session to another client.
    RequestIdReused,
    /// The request was settled as one that is never applied.
    Fenced,
    /// The client had said that it needs the result no more: whether the write was run before is not known.
    ResultForgotten,
    /// The client left too many results unacknowledged.
    SessionFull,
}
