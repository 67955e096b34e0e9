//! What can be wrong with a configuration. Each message names the source, the key, the value and what is allowed.

use std::path::PathBuf;

use super::key::Origin;

/// A configuration that is refused. The origins are boxed to keep the error, which every parser may return, small.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConfigError {
    /// The configuration file could not be read.
    #[error("{origin}: the configuration file {} cannot be read: {cause}", path.display())]
    Unreadable {
        /// What named the file: `--config` or `QUORATE_CONFIG`.
        origin: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// The configuration file is not TOML.
    #[error("{}: not valid TOML: {cause}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What the parser says, with line and column.
        cause: String,
    },
    /// The configuration file has a key that does not exist.
    #[error("{}: unknown key `{key}`; allowed: {allowed}", path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The keys that exist.
        allowed: String,
    },
    /// The environment has a `QUORATE_` variable that does not exist.
    #[error("unknown environment variable {name}; allowed: {allowed}")]
    UnknownVariable {
        /// The variable.
        name: String,
        /// The variables that exist.
        allowed: String,
    },
    /// A value is malformed or out of its range.
    #[error("{origin}: `{value}` {problem}; allowed: {allowed}")]
    Value {
        /// Where the value came from.
        origin: Box<Origin>,
        /// The value.
        value: String,
        /// What is wrong with it.
        problem: String,
        /// What would be right.
        allowed: String,
    },
    /// Two values do not fit each other.
    #[error("{origin}: `{value}` does not fit {other_origin}: `{other_value}`; {rule}")]
    Relation {
        /// Where the first value came from.
        origin: Box<Origin>,
        /// The first value.
        value: String,
        /// Where the other value came from.
        other_origin: Box<Origin>,
        /// The other value.
        other_value: String,
        /// What must hold between them.
        rule: String,
    },
    /// The node's name is not among the members.
    #[error(
        "the node's name `{name}` (from {name_origin}) is not among the members {members} (from {peers_origin}); \
             name this node with --name, or add it to them"
    )]
    NotAMember {
        /// The node's name.
        name: String,
        /// Where the name came from.
        name_origin: Box<Origin>,
        /// The members' names.
        members: String,
        /// Where the members came from.
        peers_origin: Box<Origin>,
    },
    /// No source gives a name and the machine has no host name.
    #[error("the node has no name: give it one with --name, QUORATE_NAME or `name` in the configuration file")]
    NoName,
    /// One of `PEER_<NAME>_HOST` and `PEER_<NAME>_PORT` is there without the other.
    #[error("{present} is set without {missing}; the address of a peer needs both")]
    HalfPeer {
        /// The variable that is set.
        present: String,
        /// The variable that is not.
        missing: String,
    },
}
