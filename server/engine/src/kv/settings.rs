//! The settings of the cluster: how all its nodes behave alike, changed while it runs.
//!
//! They are part of the replicated state. So a change is a command: it takes effect on every node at the same place of
//! the log, and a node that was away, was restarted or has its state from a snapshot has it like all others. What a
//! setting does is not the state machine's business; it keeps what was decided.

/// How the cluster behaves. By default everything is as it is in a cluster where nobody ever changed a setting.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Settings {
    /// Whether a leader may answer linearizable reads under a lease, without asking a majority for each. That assumes
    /// something of the clocks of all nodes, so it is off unless somebody who knows them switches it on.
    pub lease_reads: bool,
}

/// The length of what [`Settings::to_bytes`] makes.
pub(super) const SETTINGS_BYTES: usize = 1;

impl Settings {
    /// The settings as a snapshot keeps them, see `kv/image.rs`.
    pub(super) fn to_bytes(self) -> [u8; SETTINGS_BYTES] {
        // Naming every field makes a new one break the build here until somebody decides how it is kept.
        let Settings { lease_reads } = self;
        [u8::from(lease_reads)]
    }

    /// The settings of these bytes; none if they are those of no settings.
    pub(super) fn of_bytes(bytes: [u8; SETTINGS_BYTES]) -> Option<Settings> {
        let lease_reads = match bytes {
            [0] => false,
            [1] => true,
            _ => return None,
        };
        Some(Settings { lease_reads })
    }
}
