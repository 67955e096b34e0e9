//! Histories as text: what the command `lincheck` reads, and [`to_jsonl`] writes for it.
//!
//! - [`Format::Jepsen`]: the log of a register test, one event a line (`INFO jepsen.util - 3 :invoke :write 5`, with
//!   tabs). The register starts at `nil`. A `:fail` of a cas is a failed comparison, unless it says `:timed-out`; one
//!   of anything else did not happen. `:info` may have happened, and so may what has no completion.
//! - [`Format::Edn`]: one map an event, `{:process 0, :type :invoke, :f :read, :key "k", :value nil}`. `:fail` did not
//!   happen, `:info` may have. A key is used either with `:read`, `:write` and `:cas` (it starts at `nil`) or with
//!   `:get`, `:put` and `:append` (it starts as the empty string; whole numbers are taken as their digits).
//! - [`Format::Jsonl`]: Quorate's own, one object an operation; see [`Histories`] for what it says.

mod edn;
mod events;
mod jepsen;
mod jsonl;

use std::str::FromStr;

use crate::{Budget, History, Report, Verdict, kv, register, text};

pub use edn::Value;

/// A way to write a history down.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Format {
    /// Jepsen's log of a register.
    Jepsen,
    /// A map in EDN for each event.
    Edn,
    /// A JSON object for each operation.
    Jsonl,
}

/// Not one of the formats.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a format is jepsen, edn or jsonl")]
pub struct UnknownFormat;

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Format, UnknownFormat> {
        match name {
            "jepsen" => Ok(Format::Jepsen),
            "edn" => Ok(Format::Edn),
            "jsonl" => Ok(Format::Jsonl),
            _ => Err(UnknownFormat),
        }
    }
}

/// A text that is not a history of its format.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct Malformed {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

/// A history of Quorate's keys, each missing in the beginning.
pub type Keys = History<String, kv::Call<String>, kv::Output<String>>;

/// Writes a history of Quorate's keys in [`Format::Jsonl`], one line for each operation in the order of their record.
///
/// Read again it has the same operations, but that the end of one of unknown outcome, which says nothing, is left out.
pub fn to_jsonl(keys: &Keys) -> String {
    jsonl::write(keys)
}

/// What a text says was done, each key with the model that its operations belong to.
///
/// The lines of [`Format::Jsonl`] are objects with these members:
///
/// | member | |
/// |---|---|
/// | `process` | a whole number |
/// | `key` | a string |
/// | `operation` | `put`, `get`, `delete` (a key of Quorate), or `read`, `write`, `cas` (a register that starts at `null`) |
/// | `argument` | put: `{"value", "mode", "expected_revision"}`, mode being `create` (also if left out), `upsert`, `update` or `compare`; delete: `{"expected_revision"}` or nothing; write: a value; cas: `[from, to]` |
/// | `result` | put: `{"version", "revision"}`; get: `{"value", "version", "revision"}`; delete: `{"previous"}`; read: a value; cas: `true` or `false`; instead of any: `{"error"}`, being `key-exists`, `key-missing`, `mismatch` (these two with `revision`) or `not-applied` (it did not happen). What is left out fits everything, but the value of a get or a read. |
/// | `outcome` | `definite` or `unknown` |
/// | `begin`, `end` | nanoseconds; `end` may be left out if the outcome is unknown |
#[derive(Clone, Debug, Default)]
pub struct Histories {
    /// Registers that start at [`Value::Nil`].
    pub registers: History<String, register::Call<Value>, register::Output<Value>>,
    /// Texts that start empty.
    pub texts: History<String, text::Call, text::Output>,
    /// Keys of Quorate, missing in the beginning.
    pub keys: Keys,
}

impl Histories {
    /// Reads a history.
    ///
    /// # Errors
    /// The first line that the format does not allow, or that contradicts one before.
    pub fn read(format: Format, text: &str) -> Result<Histories, Malformed> {
        match format {
            Format::Jepsen => jepsen::read(text),
            Format::Edn => events::read_edn(text),
            Format::Jsonl => jsonl::read(text),
        }
    }

    /// How many operations there are.
    pub fn len(&self) -> usize {
        self.registers.len() + self.texts.len() + self.keys.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Checks every key.
    pub fn check(&self, budget: Budget) -> Report<String> {
        let mut all = Report { verdict: Verdict::Ok, findings: Vec::new(), steps: 0 };
        let registers = self.registers.check(&register::Register::new(Value::Nil), budget);
        let texts = self.texts.check(&text::Text::new(), budget);
        let keys = self.keys.check(&kv::Kv::new(), budget);
        for report in [registers, texts, keys] {
            all.verdict = all.verdict.max(report.verdict);
            all.steps += report.steps;
            all.findings.extend(report.findings);
        }
        all
    }
}
