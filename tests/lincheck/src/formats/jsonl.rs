//! Quorate's own format: a JSON object for each operation.

use std::collections::HashMap;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Histories, Keys, Malformed, Value};
use crate::{Completion, Operation, kv, register};

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Line {
    process: u64,
    key: String,
    operation: Name,
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    argument: serde_json::Value,
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    result: serde_json::Value,
    outcome: Outcome,
    begin: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<u64>,
}

#[derive(Deserialize, Serialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
enum Name {
    Put,
    Get,
    Delete,
    Read,
    Write,
    Cas,
}

#[derive(Deserialize, Serialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Definite,
    Unknown,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct PutArgument {
    value: String,
    #[serde(default)]
    mode: Mode,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected_revision: Option<u64>,
}

#[derive(Deserialize, Serialize, Default)]
#[serde(rename_all = "lowercase")]
enum Mode {
    #[default]
    Create,
    Upsert,
    Update,
    Compare,
}

#[derive(Deserialize, Serialize, Default)]
#[serde(deny_unknown_fields)]
struct DeleteArgument {
    #[serde(skip_serializing_if = "Option::is_none")]
    expected_revision: Option<u64>,
}

#[derive(Deserialize, Serialize, Default)]
#[serde(deny_unknown_fields)]
struct PutResult {
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct GetResult {
    value: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
}

#[derive(Deserialize, Serialize, Default)]
#[serde(deny_unknown_fields)]
struct DeleteResult {
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<String>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct ErrorResult {
    error: ErrorName,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
}

#[derive(Deserialize, Serialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum ErrorName {
    KeyExists,
    KeyMissing,
    Mismatch,
    NotApplied,
}

pub(crate) fn read(text: &str) -> Result<Histories, Malformed> {
    let mut histories = Histories::default();
    // Whether each key is a register, and the line that says so.
    let mut keys: HashMap<String, (bool, usize)> = HashMap::new();
    for (number, content) in (1..).zip(text.lines()) {
        if content.trim().is_empty() {
            continue;
        }
        let malformed = |reason: String| Malformed { line: number, reason };
        let line: Line = serde_json::from_str(content).map_err(|error| malformed(reason(&error)))?;
        let is_register = matches!(line.operation, Name::Read | Name::Write | Name::Cas);
        let (was_register, since) = *keys.entry(line.key.clone()).or_insert((is_register, number));
        if is_register != was_register {
            let other = if was_register { "read, write and cas" } else { "put, get and delete" };
            return Err(malformed(format!("key {:?} is used with {other} since line {since}", line.key)));
        }
        record(&mut histories, line, is_register).map_err(malformed)?;
    }
    Ok(histories)
}

/// What serde says, without its line: it only knows of one.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line 1 column ") {
        Some((reason, column)) => format!("{reason} at column {column}"),
        None => text,
    }
}

fn record(histories: &mut Histories, line: Line, is_register: bool) -> Result<(), String> {
    let Line { process, key, operation, argument, result, outcome, begin, end } = line;
    let end = match (outcome, end) {
        (Outcome::Definite, Some(end)) if end < begin => {
            return Err(format!("it ends at {end}, but begins at {begin}"));
        }
        (Outcome::Definite, Some(end)) => end,
        (Outcome::Definite, None) => return Err("a definite outcome without an end".to_owned()),
        (Outcome::Unknown, end) => end.unwrap_or(u64::MAX),
    };
    let error = error_in(&result)?;
    let is_definite = outcome == Outcome::Definite;
    let has_failed = matches!(error, Some(ErrorResult { error: ErrorName::NotApplied, .. }));
    if is_register {
        let call = register_call(operation, argument)?;
        let completion = match is_definite {
            false => Completion::Unknown,
            true if has_failed => Completion::Failed,
            true => Completion::Definite(register_output(operation, result)?),
        };
        histories.registers.push(key, Operation { process, call, completion, begin, end });
    } else {
        let call = kv_call(operation, argument)?;
        let completion = match (is_definite, error) {
            (false, _) => Completion::Unknown,
            (true, Some(_)) if has_failed => Completion::Failed,
            (true, Some(error)) => Completion::Definite(kv_error(&call, &error)?),
            (true, None) => Completion::Definite(kv_output(operation, result)?),
        };
        histories.keys.push(key, Operation { process, call, completion, begin, end });
    }
    Ok(())
}

fn error_in(result: &serde_json::Value) -> Result<Option<ErrorResult>, String> {
    if result.get("error").is_none() {
        return Ok(None);
    }
    parse("the result", result.clone()).map(Some)
}

fn parse<T: DeserializeOwned>(what: &str, value: serde_json::Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| format!("{what}: {error}"))
}

fn parse_or_default<T: DeserializeOwned + Default>(what: &str, value: serde_json::Value) -> Result<T, String> {
    if value.is_null() { Ok(T::default()) } else { parse(what, value) }
}

fn kv_call(operation: Name, argument: serde_json::Value) -> Result<kv::Call<String>, String> {
    const WHAT: &str = "the argument";
    match operation {
        Name::Put => {
            let PutArgument { value, mode, expected_revision } = parse(WHAT, argument)?;
            let mode = match (mode, expected_revision) {
                (Mode::Create, None) => kv::Mode::Create,
                (Mode::Upsert, None) => kv::Mode::Upsert,
                (Mode::Update, None) => kv::Mode::Update,
                (Mode::Compare, Some(expected)) => kv::Mode::Compare { expected },
                (Mode::Compare, None) => return Err("the mode compare without an expected_revision".to_owned()),
                (_, Some(_)) => return Err("an expected_revision without the mode compare".to_owned()),
            };
            Ok(kv::Call::Put { value, mode })
        }
        Name::Delete => {
            let DeleteArgument { expected_revision } = parse_or_default(WHAT, argument)?;
            Ok(kv::Call::Delete { expected: expected_revision })
        }
        _ if argument.is_null() => Ok(kv::Call::Get),
        _ => Err("a get has no argument".to_owned()),
    }
}

fn kv_output(operation: Name, result: serde_json::Value) -> Result<kv::Output<String>, String> {
    const WHAT: &str = "the result";
    match operation {
        Name::Put => {
            let PutResult { version, revision } = parse_or_default(WHAT, result)?;
            Ok(kv::Output::Put { version, revision })
        }
        Name::Delete => {
            let DeleteResult { previous } = parse_or_default(WHAT, result)?;
            Ok(kv::Output::Deleted { previous })
        }
        _ => {
            let GetResult { value, version, revision } = parse(WHAT, result)?;
            Ok(kv::Output::Found { value, version, revision })
        }
    }
}

fn kv_error(call: &kv::Call<String>, error: &ErrorResult) -> Result<kv::Output<String>, String> {
    let creates = matches!(call, kv::Call::Put { mode: kv::Mode::Create, .. });
    let upserts = matches!(call, kv::Call::Put { mode: kv::Mode::Upsert, .. });
    let compares =
        matches!(call, kv::Call::Put { mode: kv::Mode::Compare { .. }, .. } | kv::Call::Delete { expected: Some(_) });
    match error.error {
        ErrorName::KeyExists if creates => Ok(kv::Output::Exists { revision: error.revision }),
        ErrorName::KeyMissing if !creates && !upserts => Ok(kv::Output::Missing),
        ErrorName::Mismatch if compares => Ok(kv::Output::Mismatch { actual: error.revision }),
        _ => Err("the error is not one of this operation".to_owned()),
    }
}

fn register_call(operation: Name, argument: serde_json::Value) -> Result<register::Call<Value>, String> {
    match (operation, argument) {
        (Name::Write, value) => Ok(register::Call::Write(plain(value)?)),
        (Name::Cas, serde_json::Value::Array(values)) => {
            let [from, to] =
                <[_; 2]>::try_from(values).map_err(|_| "the argument of a cas is [from, to]".to_owned())?;
            Ok(register::Call::Cas { from: plain(from)?, to: plain(to)? })
        }
        (Name::Cas, _) => Err("the argument of a cas is [from, to]".to_owned()),
        (_, serde_json::Value::Null) => Ok(register::Call::Read),
        _ => Err("a read has no argument".to_owned()),
    }
}

fn register_output(operation: Name, result: serde_json::Value) -> Result<register::Output<Value>, String> {
    match (operation, result) {
        (Name::Write, serde_json::Value::Null) => Ok(register::Output::Written),
        (Name::Write, _) => Err("a write has no result".to_owned()),
        (Name::Cas, serde_json::Value::Bool(true)) => Ok(register::Output::Swapped),
        (Name::Cas, serde_json::Value::Bool(false)) => Ok(register::Output::NotSwapped),
        (Name::Cas, _) => Err("the result of a cas is true or false".to_owned()),
        (_, value) => Ok(register::Output::Value(plain(value)?)),
    }
}

/// A register's value, which is `null`, a number or a string.
fn plain(value: serde_json::Value) -> Result<Value, String> {
    match value {
        serde_json::Value::Null => Ok(Value::Nil),
        serde_json::Value::String(text) => Ok(Value::Text(text)),
        serde_json::Value::Number(number) => {
            Ok(number.as_i128().map_or_else(|| Value::Symbol(number.to_string()), Value::Integer))
        }
        serde_json::Value::Bool(value) => Ok(Value::Symbol(value.to_string())),
        serde_json::Value::Array(_) | serde_json::Value::Object(_) => {
            Err("the value of a register is null, a number or a string".to_owned())
        }
    }
}

/// A history of Quorate's keys as [`read`] reads it.
pub(crate) fn write(keys: &Keys) -> String {
    let mut text = String::new();
    for (key, operation) in keys.operations() {
        text += &serde_json::to_string(&line(key, operation)).expect("structs of strings and numbers can be written");
        text.push('\n');
    }
    text
}

fn line(key: &str, operation: &Operation<kv::Call<String>, kv::Output<String>>) -> Line {
    let Operation { process, call, completion, begin, end } = operation;
    let (operation, argument) = written_call(call);
    let (outcome, result) = match completion {
        Completion::Unknown => (Outcome::Unknown, serde_json::Value::Null),
        Completion::Failed => (Outcome::Definite, written_error(ErrorName::NotApplied, None)),
        Completion::Definite(output) => (Outcome::Definite, written_output(output)),
    };
    // The search takes an end before the begin for the begin; a reader refuses it.
    let end = (outcome == Outcome::Definite).then_some(*end.max(begin));
    let key = key.to_owned();
    Line { process: *process, key, operation, argument, result, outcome, begin: *begin, end }
}

fn written(value: impl Serialize) -> serde_json::Value {
    serde_json::to_value(value).expect("structs of strings and numbers can be written")
}

fn written_call(call: &kv::Call<String>) -> (Name, serde_json::Value) {
    match call {
        kv::Call::Put { value, mode } => {
            let (mode, expected_revision) = match *mode {
                kv::Mode::Create => (Mode::Create, None),
                kv::Mode::Upsert => (Mode::Upsert, None),
                kv::Mode::Update => (Mode::Update, None),
                kv::Mode::Compare { expected } => (Mode::Compare, Some(expected)),
            };
            (Name::Put, written(PutArgument { value: value.clone(), mode, expected_revision }))
        }
        kv::Call::Get => (Name::Get, serde_json::Value::Null),
        &kv::Call::Delete { expected: expected_revision } => {
            (Name::Delete, written(DeleteArgument { expected_revision }))
        }
    }
}

fn written_output(output: &kv::Output<String>) -> serde_json::Value {
    match output {
        &kv::Output::Put { version, revision } => written(PutResult { version, revision }),
        kv::Output::Found { value, version, revision } => {
            written(GetResult { value: value.clone(), version: *version, revision: *revision })
        }
        kv::Output::Deleted { previous } => written(DeleteResult { previous: previous.clone() }),
        kv::Output::Exists { revision } => written_error(ErrorName::KeyExists, *revision),
        kv::Output::Missing => written_error(ErrorName::KeyMissing, None),
        kv::Output::Mismatch { actual } => written_error(ErrorName::Mismatch, *actual),
    }
}

fn written_error(error: ErrorName, revision: Option<u64>) -> serde_json::Value {
    written(ErrorResult { error, revision })
}
