//! Jepsen's log: `INFO jepsen.util - PROCESS :invoke|:ok|:fail|:info :read|:write|:cas VALUE`.

use super::{
    Histories, Malformed, Value,
    edn::Reader,
    events::{Dialect, Event, Function, Recorder, function, kind, process},
};

pub(crate) fn read(text: &str) -> Result<Histories, Malformed> {
    let mut recorder = Recorder::new(Dialect::Jepsen);
    for (line, content) in (1..).zip(text.lines()) {
        if content.trim().is_empty() {
            continue;
        }
        if let Some(event) = event(line, content)? {
            recorder.record(event)?;
        }
    }
    Ok(recorder.finish())
}

/// A line's event; nothing if it is of the nemesis, which is no client.
fn event(line: usize, content: &str) -> Result<Option<Event>, Malformed> {
    let malformed = |reason: String| Malformed { line, reason };
    let values = after_prefix(content).ok_or_else(|| malformed("not an event: `INFO jepsen.util - ...`".to_owned()))?;
    let mut reader = Reader::new(values, line);
    let mut column = |name: &str| match reader.next()? {
        Some((_, value)) => Ok(value),
        None => Err(malformed(format!("the {name} is missing"))),
    };
    let Some(process) = process(line, &column("process")?)? else { return Ok(None) };
    let kind = kind(line, &column("type")?)?;
    let function = function(line, &column("operation")?)?;
    if !matches!(function, Function::Read | Function::Write | Function::Cas) {
        return Err(malformed(format!("{function:?} is not an operation of a register")));
    }
    let value = column("value")?;
    // Later logs add what went wrong.
    while reader.next()?.is_some() {}
    Ok(Some(Event { line, process, kind, function, key: Value::Nil, value }))
}

/// What follows `INFO jepsen.util -`, whatever blanks are between.
fn after_prefix(content: &str) -> Option<&str> {
    let rest = content.trim_start().strip_prefix("INFO")?;
    let rest = rest.strip_prefix(char::is_whitespace)?.trim_start().strip_prefix("jepsen.util")?;
    let rest = rest.strip_prefix(char::is_whitespace)?.trim_start().strip_prefix('-')?;
    rest.strip_prefix(char::is_whitespace)
}
