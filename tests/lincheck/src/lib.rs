//! Decides whether what concurrent clients were told is linearizable: whether one order of their operations, each
//! between its call and its answer, explains every answer.
//!
//! ```
//! use lincheck::{Budget, Completion, History, Verdict, kv::{Call, Kv, Mode, Output}};
//!
//! let mut history = History::new();
//! let put = history.invoke(1, "key", Call::Put { value: "x", mode: Mode::Create });
//! let get = history.invoke(2, "key", Call::Get);
//! history.complete(get, Completion::Definite(Output::Found { value: "x", version: Some(1), revision: None }));
//! history.complete(put, Completion::Unknown);
//! assert_eq!(history.check(&Kv::new(), Budget::default()).verdict, Verdict::Ok);
//! ```
//!
//! - [`Model`]: what a single client that is alone would be told. [`register`], [`text`] and [`kv`] are here; another
//!   one is a few lines.
//! - [`History`]: who asked what, in the order of calls and answers. An operation is [`Completion::Definite`],
//!   [`Completion::Failed`] (it certainly did not happen) or [`Completion::Unknown`] (it may take effect at any time
//!   after its call, or never; so may one that was never completed).
//! - [`check`]: the search of Wing and Gong ("Testing and verifying concurrent objects", 1993) with Lowe's memory of
//!   the points that were met before ("Testing for linearizability", 2017). A history of many keys is linearizable if
//!   each key's is (Herlihy and Wing's locality), so [`History::check`] searches each key alone.
//! - [`formats`]: histories as text, for the command `lincheck`.
//!
//! The search has a [`Budget`] instead of a clock, so that a verdict depends on the history alone. If it runs out, the
//! verdict is [`Verdict::Unknown`]; `Ok` and `Illegal` are never guesses.

mod budget;
mod explanation;
pub mod formats;
mod history;
mod memory;
mod model;
mod models;
mod search;
mod timeline;

pub use budget::Budget;
pub use explanation::{Explanation, Placed};
pub use history::{Completion, History, Operation, OperationId, Report};
pub use model::Model;
pub use models::{kv, register, text};
pub use search::{Check, Verdict, check};
