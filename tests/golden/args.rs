//! The words of a command: `deliver to=n2 kind=Heartbeat` has the named words `to` and `kind`.

use raft::{NodeId, Term};

/// The words behind a command's name.
pub(crate) struct Args<'a> {
    plain: std::collections::VecDeque<&'a str>,
    named: Vec<(&'a str, &'a str)>,
}

impl<'a> Args<'a> {
    /// Splits the text at spaces.
    pub(crate) fn parse(text: &'a str) -> Args<'a> {
        let mut args = Args { plain: std::collections::VecDeque::new(), named: Vec::new() };
        for word in text.split_whitespace() {
            match word.split_once('=') {
                Some(pair) => args.named.push(pair),
                None => args.plain.push_back(word),
            }
        }
        args
    }

    /// Takes the next plain word.
    pub(crate) fn next(&mut self) -> Option<&'a str> {
        self.plain.pop_front()
    }

    /// Takes the next plain word as a node.
    pub(crate) fn node(&mut self) -> Result<NodeId, String> {
        node_id(self.next().ok_or("a node is missing")?)
    }

    /// Takes all plain words that are left.
    pub(crate) fn rest(&mut self) -> Vec<&'a str> {
        std::mem::take(&mut self.plain).into()
    }

    /// Takes a word if it stands among the plain ones.
    pub(crate) fn flag(&mut self, word: &str) -> bool {
        let before = self.plain.len();
        self.plain.retain(|plain| *plain != word);
        self.plain.len() < before
    }

    /// Takes a named word.
    pub(crate) fn named(&mut self, name: &str) -> Option<&'a str> {
        let at = self.named.iter().position(|(known, _)| *known == name)?;
        Some(self.named.remove(at).1)
    }

    /// Takes a named word as a number; `max` is the greatest there is.
    pub(crate) fn number(&mut self, name: &str) -> Result<Option<u64>, String> {
        self.named(name).map(number).transpose()
    }

    /// Takes a named word as a count.
    pub(crate) fn count(&mut self, name: &str) -> Result<Option<usize>, String> {
        self.number(name)?.map(|count| usize::try_from(count).map_err(|error| error.to_string())).transpose()
    }

    /// Takes a named word as a node.
    pub(crate) fn named_node(&mut self, name: &str) -> Result<Option<NodeId>, String> {
        self.named(name).map(node_id).transpose()
    }

    /// Takes all named words that are left.
    pub(crate) fn rest_named(&mut self) -> Vec<(&'a str, &'a str)> {
        std::mem::take(&mut self.named)
    }

    /// An error if a word was not taken: a mistyped option must not be silent.
    pub(crate) fn end(&self) -> Result<(), String> {
        match (self.plain.front(), self.named.first()) {
            (Some(word), _) => Err(format!("`{word}` means nothing here")),
            (None, Some((name, _))) => Err(format!("`{name}=` means nothing here")),
            (None, None) => Ok(()),
        }
    }
}

/// `n1`, or `n1` without its letter.
pub(crate) fn node_id(word: &str) -> Result<NodeId, String> {
    let number = word.strip_prefix('n').unwrap_or(word);
    number.parse().ok().and_then(NodeId::new).ok_or_else(|| format!("`{word}` is no node"))
}

/// A number, or `max`.
pub(crate) fn number(word: &str) -> Result<u64, String> {
    if word == "max" {
        return Ok(u64::MAX);
    }
    word.parse().map_err(|_| format!("`{word}` is no number"))
}

/// `4@2`: an index and a term.
pub(crate) fn position(word: &str) -> Result<(raft::Index, Term), String> {
    let (index, term) = word.split_once('@').ok_or_else(|| format!("`{word}` is no index@term"))?;
    Ok((raft::Index::new(number(index)?), Term::new(number(term)?)))
}
