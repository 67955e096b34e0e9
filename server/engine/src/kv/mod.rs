//! The state machine: an ordered map from keys to values, with revisions.
//!
//! One reference model, a plain map, defines what every command does (the differential test runs both side by side):
//!
//! | command | key exists | key is missing |
//! |---|---|---|
//! | put, [`PutMode::Create`] | [`Rejection::KeyExists`] | written, version 1 |
//! | put, [`PutMode::Upsert`] | written, version + 1 | written, version 1 |
//! | put, [`PutMode::Update`] | written, version + 1 | [`Rejection::KeyNotFound`] |
//! | put, [`PutMode::Compare`] | if its revision fits: written, version + 1 | [`Rejection::KeyNotFound`] |
//! | delete | removed | [`Rejection::KeyNotFound`] |
//! | delete with an expected revision | if its revision fits: removed | [`Rejection::KeyNotFound`] |
//!
//! A revision fits if the key's last write has it; else the command ends with [`Rejection::RevisionMismatch`].
//!
//! **Revisions** count the commands that changed a key. An empty store is at revision 1, so the first write makes
//! revision 2 (the numbering that users of etcd know) and 0 is never a revision: it is free to mean "none" on the wire.
//! A key's **version** counts its writes since it was created, from 1; a key that is deleted and created again starts
//! at 1 again.
//!
//! **Determinism.** [`Store::apply`] depends on the command's bytes and the state, on nothing else. It cannot fail, but
//! for bytes that this version does not know ([`UnknownCommand`]): whoever applies them must stop the node, because to
//! skip a committed command is to differ from the other replicas for ever after. A rejected command changes no key, no
//! revision and no version; like every command it moves [`Store::time_ms`] on.
//!
//! **Settings** of the cluster are part of the state, see [`Settings`]. A command that changes one is about no key and
//! makes no revision.
//!
//! **Exactly once.** A command may carry a [`RequestId`]; a repeat of it is answered with the first result and not run
//! again, see `kv/sessions`.
//!
//! **Time** is replicated: each command carries a stamp made by the leader, and the state's time is the greatest stamp
//! applied. No replica ever looks at a clock to apply a command.

pub mod command;
mod hash;
pub mod image;
mod key_map;
mod record;
mod sessions;
mod settings;
mod store;

pub use command::{
    COMMAND_BYTES_MAX, Command, InvalidCommand, KEY_BYTES_MAX, PutMode, Request, UnknownCommand, VALUE_BYTES_MAX,
};
pub use image::{Image, ImageError, ImageLoader};
pub use record::{Applied, KeyValue, Refusal, Rejection, Revision};
pub use sessions::{InvalidRequestId, RequestId, SessionId, SessionLimits, Settled};
pub use settings::Settings;
pub use store::Store;
