//! As much of EDN as histories use: a reader of values, one after the other, that knows its line.

use std::fmt;

use super::Malformed;

/// How deep values may be in each other: histories need three, and a file must not overflow the stack.
const DEPTH_MAX: usize = 64;

/// An EDN value. Tags are left out.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// `nil`.
    Nil,
    /// A whole number.
    Integer(i128),
    /// `"text"`.
    Text(String),
    /// `:keyword`, without the colon.
    Keyword(String),
    /// `true`, a symbol, a character, a number that is not whole: as it is written.
    Symbol(String),
    /// `(a b)` or `[a b]`.
    Sequence(Vec<Value>),
    /// `{a b}`, in the order in which it is written.
    Map(Vec<(Value, Value)>),
    /// `#{a b}`, in the order in which it is written.
    Set(Vec<Value>),
}

impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |formatter: &mut fmt::Formatter<'_>, items: &[Value]| {
            for (number, item) in items.iter().enumerate() {
                let space = if number == 0 { "" } else { " " };
                write!(formatter, "{space}{item}")?;
            }
            Ok(())
        };
        match self {
            Value::Nil => formatter.write_str("nil"),
            Value::Integer(number) => write!(formatter, "{number}"),
            Value::Text(text) => write!(formatter, "{text:?}"),
            Value::Keyword(name) => write!(formatter, ":{name}"),
            Value::Symbol(text) => formatter.write_str(text),
            Value::Sequence(items) => {
                formatter.write_str("[")?;
                list(formatter, items)?;
                formatter.write_str("]")
            }
            Value::Set(items) => {
                formatter.write_str("#{")?;
                list(formatter, items)?;
                formatter.write_str("}")
            }
            Value::Map(entries) => {
                formatter.write_str("{")?;
                for (number, (key, value)) in entries.iter().enumerate() {
                    let comma = if number == 0 { "" } else { ", " };
                    write!(formatter, "{comma}{key} {value}")?;
                }
                formatter.write_str("}")
            }
        }
    }
}

/// As it is written: explanations show values so.
impl fmt::Debug for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

impl Value {
    /// What a map has under a keyword.
    pub(crate) fn get(&self, keyword: &str) -> Option<&Value> {
        let Value::Map(entries) = self else { return None };
        entries.iter().find(|(key, _)| matches!(key, Value::Keyword(name) if name == keyword)).map(|(_, value)| value)
    }
}

/// Reads values from a text.
pub(crate) struct Reader<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Reader<'a> {
    /// Reads a text that begins at this line.
    pub(crate) fn new(text: &'a str, line: usize) -> Reader<'a> {
        Reader { rest: text, line }
    }

    /// The next value, and the line on which it begins.
    pub(crate) fn next(&mut self) -> Result<Option<(usize, Value)>, Malformed> {
        self.skip_blanks(0)?;
        if self.rest.is_empty() {
            return Ok(None);
        }
        let line = self.line;
        Ok(Some((line, self.value(0)?)))
    }

    fn malformed<T>(&self, reason: impl Into<String>) -> Result<T, Malformed> {
        Err(Malformed { line: self.line, reason: reason.into() })
    }

    fn take(&mut self) -> Option<char> {
        let next = self.rest.chars().next()?;
        self.rest = &self.rest[next.len_utf8()..];
        self.line += usize::from(next == '\n');
        Some(next)
    }

    /// Blanks, commas, comments, and values that are marked as discarded.
    fn skip_blanks(&mut self, depth: usize) -> Result<(), Malformed> {
        loop {
            if self.rest.starts_with(|c: char| c.is_whitespace() || c == ',') {
                self.take();
            } else if self.rest.starts_with(';') {
                while !matches!(self.take(), None | Some('\n')) {}
            } else if let Some(rest) = self.rest.strip_prefix("#_") {
                self.rest = rest;
                self.value(depth + 1)?;
            } else {
                return Ok(());
            }
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value, Malformed> {
        if depth > DEPTH_MAX {
            return self.malformed(format!("values are more than {DEPTH_MAX} deep in each other"));
        }
        self.skip_blanks(depth)?;
        let rest = self.rest;
        if let Some(rest) = rest.strip_prefix("#{") {
            self.rest = rest;
            return Ok(Value::Set(self.items('}', depth)?));
        }
        let Some(first) = self.rest.chars().next() else { return self.malformed("the text ends within a value") };
        match first {
            '(' | '[' => {
                self.take();
                let close = if first == '(' { ')' } else { ']' };
                Ok(Value::Sequence(self.items(close, depth)?))
            }
            '{' => {
                self.take();
                let mut items = self.items('}', depth)?.into_iter();
                let mut entries = Vec::new();
                while let Some(key) = items.next() {
                    let Some(value) = items.next() else { return self.malformed("a map has a key without a value") };
                    entries.push((key, value));
                }
                Ok(Value::Map(entries))
            }
            '"' => self.text(),
            '#' => {
                self.take();
                // The tag's name; what it means does not matter here.
                let name = self.token();
                if name.is_empty() { self.malformed("`#` without a tag") } else { self.value(depth + 1) }
            }
            ')' | ']' | '}' => self.malformed(format!("`{first}` closes nothing")),
            '\\' => self.character(),
            _ => self.atom(),
        }
    }

    fn items(&mut self, close: char, depth: usize) -> Result<Vec<Value>, Malformed> {
        let opened = self.line;
        let mut items = Vec::new();
        loop {
            self.skip_blanks(depth)?;
            if self.rest.is_empty() {
                return Err(Malformed { line: opened, reason: format!("`{close}` is missing") });
            }
            if self.rest.starts_with(close) {
                self.take();
                return Ok(items);
            }
            items.push(self.value(depth + 1)?);
        }
    }

    fn text(&mut self) -> Result<Value, Malformed> {
        let opened = self.line;
        self.take();
        let mut text = String::new();
        loop {
            match self.take() {
                None => return Err(Malformed { line: opened, reason: "a string has no end".to_owned() }),
                Some('"') => return Ok(Value::Text(text)),
                Some('\\') => text.push(self.escaped()?),
                Some(c) => text.push(c),
            }
        }
    }

    fn escaped(&mut self) -> Result<char, Malformed> {
        match self.take() {
            Some('n') => Ok('\n'),
            Some('t') => Ok('\t'),
            Some('r') => Ok('\r'),
            Some('b') => Ok('\u{8}'),
            Some('f') => Ok('\u{c}'),
            Some(c @ ('"' | '\\')) => Ok(c),
            Some('u') => {
                let digits = self.rest.get(..4);
                let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).and_then(char::from_u32);
                let Some(c) = code else { return self.malformed("`\\u` without four digits of a character") };
                self.rest = &self.rest[4..];
                Ok(c)
            }
            _ => self.malformed("a string has an escape that EDN does not know"),
        }
    }

    fn character(&mut self) -> Result<Value, Malformed> {
        self.take();
        let Some(first) = self.take() else { return self.malformed("`\\` without a character") };
        Ok(Value::Symbol(format!("\\{first}{}", self.token())))
    }

    fn token(&mut self) -> &'a str {
        let ends = |c: char| c.is_whitespace() || matches!(c, ',' | ';' | '"' | '(' | ')' | '[' | ']' | '{' | '}');
        let end = self.rest.find(ends).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        token
    }

    fn atom(&mut self) -> Result<Value, Malformed> {
        let token = self.token();
        if token == "nil" {
            return Ok(Value::Nil);
        }
        if let Some(name) = token.strip_prefix(':') {
            let name = name.to_owned();
            return if name.is_empty() { self.malformed("`:` without a name") } else { Ok(Value::Keyword(name)) };
        }
        // Clojure marks numbers of any size with an N.
        let digits = token.strip_suffix('N').unwrap_or(token);
        Ok(digits.parse().map_or_else(|_| Value::Symbol(token.to_owned()), Value::Integer))
    }
}
