//! From events (a call, an answer) to operations, for the formats that write them one by one.

use std::collections::HashMap;

use super::{
    Histories, Malformed,
    edn::{Reader, Value},
};
use crate::{Completion, OperationId, register, text};

/// What the same event means.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// A failed cas is a failed comparison.
    Jepsen,
    /// What failed did not happen.
    Edn,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Invoke,
    Ok,
    Fail,
    Info,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Function {
    Read,
    Write,
    Cas,
    Get,
    Put,
    Append,
}

impl Function {
    fn is_of_text(self) -> bool {
        matches!(self, Function::Get | Function::Put | Function::Append)
    }
}

pub(crate) struct Event {
    pub(crate) line: usize,
    pub(crate) process: u64,
    pub(crate) kind: Kind,
    pub(crate) function: Function,
    pub(crate) key: Value,
    pub(crate) value: Value,
}

/// Reads a stream of EDN maps.
pub(crate) fn read_edn(text: &str) -> Result<Histories, Malformed> {
    let mut recorder = Recorder::new(Dialect::Edn);
    let mut reader = Reader::new(text, 1);
    while let Some((line, map)) = reader.next()? {
        let Value::Map(_) = map else { return malformed(line, format!("an event is a map, not {map}")) };
        let member = |name: &str| {
            map.get(name).ok_or_else(|| Malformed { line, reason: format!("an event without :{name}: {map}") })
        };
        let Some(process) = process(line, member("process")?)? else { continue };
        let kind = kind(line, member("type")?)?;
        let function = function(line, member("f")?)?;
        let optional = |name: &str| map.get(name).cloned().unwrap_or(Value::Nil);
        recorder.record(Event { line, process, kind, function, key: optional("key"), value: optional("value") })?;
    }
    Ok(recorder.finish())
}

/// A process's number; nothing if it is no client but a keyword (`:nemesis`).
pub(crate) fn process(line: usize, value: &Value) -> Result<Option<u64>, Malformed> {
    match value {
        Value::Keyword(_) => Ok(None),
        Value::Integer(number) => u64::try_from(*number)
            .map(Some)
            .or_else(|_| malformed(line, format!("the process {number} is not between 0 and {}", u64::MAX))),
        other => malformed(line, format!("a process is a number, not {other}")),
    }
}

pub(crate) fn kind(line: usize, value: &Value) -> Result<Kind, Malformed> {
    let Value::Keyword(name) = value else { return malformed(line, format!("a type is a keyword, not {value}")) };
    match name.as_str() {
        "invoke" => Ok(Kind::Invoke),
        "ok" => Ok(Kind::Ok),
        "fail" => Ok(Kind::Fail),
        "info" => Ok(Kind::Info),
        _ => malformed(line, format!("a type is :invoke, :ok, :fail or :info, not {value}")),
    }
}

pub(crate) fn function(line: usize, value: &Value) -> Result<Function, Malformed> {
    let Value::Keyword(name) = value else { return malformed(line, format!("an operation is a keyword, not {value}")) };
    match name.as_str() {
        "read" => Ok(Function::Read),
        "write" => Ok(Function::Write),
        "cas" => Ok(Function::Cas),
        "get" => Ok(Function::Get),
        "put" => Ok(Function::Put),
        "append" => Ok(Function::Append),
        _ => malformed(line, format!("unknown operation {value}")),
    }
}

/// An operation without an answer yet.
struct Open {
    line: usize,
    function: Function,
    key: Value,
    value: Value,
    id: OperationId,
}

/// Puts events together.
pub(crate) struct Recorder {
    dialect: Dialect,
    histories: Histories,
    open: HashMap<u64, Open>,
    /// Whether each key is a text, and the line that says so.
    keys: HashMap<Value, (bool, usize)>,
}

impl Recorder {
    pub(crate) fn new(dialect: Dialect) -> Recorder {
        Recorder { dialect, histories: Histories::default(), open: HashMap::new(), keys: HashMap::new() }
    }

    /// What is still open may or may not have happened.
    pub(crate) fn finish(self) -> Histories {
        self.histories
    }

    pub(crate) fn record(&mut self, event: Event) -> Result<(), Malformed> {
        if event.kind == Kind::Invoke {
            return self.invoke(event);
        }
        let (line, process) = (event.line, event.process);
        let Some(open) = self.open.remove(&process) else {
            return malformed(line, format!("process {process} has nothing open that could end"));
        };
        if open.function != event.function || (event.key != Value::Nil && event.key != open.key) {
            let begun =
                format!("process {process} has {:?} of key {} open, from line {}", open.function, open.key, open.line);
            return malformed(line, format!("{begun}: not {:?} of key {}", event.function, event.key));
        }
        if open.function.is_of_text() {
            let completion = self.text_completion(&open, event)?;
            self.histories.texts.complete(open.id, completion);
        } else {
            let completion = self.register_completion(&open, event)?;
            self.histories.registers.complete(open.id, completion);
        }
        Ok(())
    }

    fn invoke(&mut self, event: Event) -> Result<(), Malformed> {
        let Event { line, process, function, key, value, .. } = event;
        if let Some(open) = self.open.get(&process) {
            return malformed(line, format!("process {process} has an operation open, from line {}", open.line));
        }
        let (is_text, since) = *self.keys.entry(key.clone()).or_insert((function.is_of_text(), line));
        if is_text != function.is_of_text() {
            let other = if is_text { ":get, :put and :append" } else { ":read, :write and :cas" };
            return malformed(line, format!("key {key} is used with {other} since line {since}"));
        }
        let name = key.to_string();
        let id = if is_text {
            let call = match function {
                Function::Put => text::Call::Put(text_of(line, &value)?),
                Function::Append => text::Call::Append(text_of(line, &value)?),
                _ => text::Call::Get,
            };
            self.histories.texts.invoke(process, name, call)
        } else {
            let call = match function {
                Function::Write => register::Call::Write(value.clone()),
                Function::Cas => cas(line, &value)?,
                _ => register::Call::Read,
            };
            self.histories.registers.invoke(process, name, call)
        };
        self.open.insert(process, Open { line, function, key, value, id });
        Ok(())
    }

    fn register_completion(&self, open: &Open, event: Event) -> Result<Completion<register::Output<Value>>, Malformed> {
        let is_failed_cas = open.function == Function::Cas && self.dialect == Dialect::Jepsen;
        match event.kind {
            Kind::Ok => {
                expect_same_value(open, &event)?;
                Ok(Completion::Definite(match open.function {
                    Function::Cas => register::Output::Swapped,
                    Function::Write => register::Output::Written,
                    _ => register::Output::Value(event.value),
                }))
            }
            // Whether it was compared at all is not known then.
            Kind::Fail if is_failed_cas && event.value == Value::Keyword("timed-out".to_owned()) => {
                Ok(Completion::Unknown)
            }
            Kind::Fail if is_failed_cas => Ok(Completion::Definite(register::Output::NotSwapped)),
            Kind::Fail => Ok(Completion::Failed),
            Kind::Info | Kind::Invoke => Ok(Completion::Unknown),
        }
    }

    fn text_completion(&self, open: &Open, event: Event) -> Result<Completion<text::Output>, Malformed> {
        match event.kind {
            Kind::Ok => {
                expect_same_value(open, &event)?;
                Ok(Completion::Definite(match (open.function, &event.value) {
                    (Function::Put | Function::Append, _) => text::Output::Done,
                    // Some clients have no other word for a text that is empty.
                    (_, Value::Nil) => text::Output::Text(String::new()),
                    (_, value) => text::Output::Text(text_of(event.line, value)?),
                }))
            }
            Kind::Fail => Ok(Completion::Failed),
            Kind::Info | Kind::Invoke => Ok(Completion::Unknown),
        }
    }
}

/// An acknowledged write acknowledges what was asked for.
fn expect_same_value(open: &Open, event: &Event) -> Result<(), Malformed> {
    let reads = matches!(open.function, Function::Read | Function::Get);
    if reads || event.value == Value::Nil || event.value == open.value {
        return Ok(());
    }
    malformed(event.line, format!("{} is acknowledged, but line {} asked for {}", event.value, open.line, open.value))
}

fn cas(line: usize, value: &Value) -> Result<register::Call<Value>, Malformed> {
    match value {
        Value::Sequence(items) if items.len() == 2 => {
            Ok(register::Call::Cas { from: items[0].clone(), to: items[1].clone() })
        }
        other => malformed(line, format!("the value of a cas is [from to], not {other}")),
    }
}

fn text_of(line: usize, value: &Value) -> Result<String, Malformed> {
    match value {
        Value::Text(text) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        other => malformed(line, format!("the value of a text is a string, not {other}")),
    }
}

fn malformed<T>(line: usize, reason: String) -> Result<T, Malformed> {
    Err(Malformed { line, reason })
}
