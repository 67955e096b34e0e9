//! Traces of what followers ask their leader for reads: how far a state must be to answer them (thesis §6.4).
//!
//! A question is asked for many reads at once. Each sampled one of them is told of it, and the leader's part is told to
//! the first.

use std::time::{Duration, Instant};

use raft::{Body, Index, Message, NodeId, Question};

use crate::telemetry::{Stage, TraceContext, record, reserve};
use crate::transport;

/// How many reads, or questions of others, are followed at once; of more it is not told whom they waited for.
const FOLLOWED_MAX: usize = 256;

/// A question is forgotten after so long: whoever asked it has asked again, or gone.
const FORGET_AFTER: Duration = Duration::from_secs(5);

/// Questions under way.
#[derive(Debug)]
pub(super) struct Inquiries {
    node: String,
    /// Sampled reads that the next question is for.
    waiting: Vec<TraceContext>,
    /// The last question, which may be asked again.
    last: Option<Question>,
    /// Which reads it is for, until it is answered; none if none of them is sampled.
    asked: Option<Asked>,
    /// What others ask.
    answering: Vec<Answering>,
}

#[derive(Debug)]
struct Asked {
    reads: Vec<TraceContext>,
    /// The context that went along.
    context: TraceContext,
    at: Instant,
}

#[derive(Debug)]
struct Answering {
    from: NodeId,
    question: Question,
    trace: TraceContext,
    at: Instant,
}

impl Inquiries {
    pub(super) fn new(node: &str) -> Self {
        Self { node: node.to_owned(), waiting: Vec::new(), last: None, asked: None, answering: Vec::new() }
    }

    /// A sampled read waits for the leader's word.
    pub(super) fn waits(&mut self, read: &TraceContext) {
        if self.waiting.len() < FOLLOWED_MAX {
            self.waiting.push(read.clone());
        }
    }

    /// A message leaves: the trace that goes along with a question; an answer ends this node's part of one.
    pub(super) fn sending(&mut self, message: &Message, now: Instant) -> transport::Traces {
        match message.body {
            Body::ReadIndex { question } => {
                if self.last != Some(question) {
                    let reads = std::mem::take(&mut self.waiting);
                    (self.last, self.asked) = (Some(question), Asked::new(reads, now));
                }
                self.asked.iter().map(|asked| (Index::ZERO, asked.context.clone())).collect()
            }
            Body::ReadIndexResponse { question, index } => {
                self.answer(message, question, index, now);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn answer(&mut self, message: &Message, question: Question, index: Index, now: Instant) {
        let is_it = |answering: &Answering| answering.from == message.to && answering.question == question;
        if let Some(place) = self.answering.iter().position(is_it) {
            let Answering { trace, at, .. } = self.answering.swap_remove(place);
            let confirmed = Stage::new("raft.confirm_leadership", at, now)
                .serving()
                .with_number("raft.term", message.term.get())
                .with_number("raft.index", index.get())
                .with_text("raft.node.id", &self.node);
            record(&trace, vec![confirmed]);
        }
    }

    /// The core has taken a message, which came with these traces.
    pub(super) fn received(&mut self, message: &Message, traces: &[(Index, TraceContext)], now: Instant) {
        let from = message.from;
        match message.body {
            Body::ReadIndex { question } => {
                let is_known = self.answering.iter().any(|known| known.from == from && known.question == question);
                if let Some((_, trace)) = traces.first()
                    && !is_known
                    && self.answering.len() < FOLLOWED_MAX
                {
                    self.answering.push(Answering { from, question, trace: trace.clone(), at: now });
                }
            }
            Body::ReadIndexResponse { question, index } if self.last == Some(question) => {
                if let Some(Asked { reads, context, at }) = self.asked.take() {
                    let asked = || Stage::new("raft.read_index", at, now).call().with_number("raft.index", index.get());
                    let mut context = Some(context);
                    for read in reads {
                        let stage = asked();
                        // The leader's part is within that of the first.
                        let stage = match context.take() {
                            Some(context) => stage.reserved(context),
                            None => stage,
                        };
                        record(&read, vec![stage]);
                    }
                }
            }
            _ => {}
        }
    }

    /// Who leads is another, or nobody: what was asked is not answered any more.
    pub(super) fn forget(&mut self) {
        self.waiting.clear();
        self.asked = None;
    }

    /// Forgets what nothing became of.
    pub(super) fn forget_old(&mut self, now: Instant) {
        self.answering.retain(|answering| now.saturating_duration_since(answering.at) < FORGET_AFTER);
    }
}

impl Asked {
    fn new(reads: Vec<TraceContext>, at: Instant) -> Option<Self> {
        let context = reserve(reads.first()?);
        Some(Self { reads, context, at })
    }
}

#[cfg(test)]
mod tests {
    use raft::Term;

    use super::*;

    fn trace(last: u8) -> TraceContext {
        let text = format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b71692033{last:02x}-01");
        TraceContext::parse(&text).expect("well-formed")
    }

    fn message(body: Body) -> Message {
        let node = |id| NodeId::new(id).expect("not zero");
        Message { from: node(1), to: node(2), term: Term::new(3), body }
    }

    fn question(number: u64) -> Question {
        Question { process: 7, number }
    }

    fn asks(number: u64) -> Message {
        message(Body::ReadIndex { question: question(number) })
    }

    fn answers(number: u64) -> Message {
        message(Body::ReadIndexResponse { question: question(number), index: Index::new(9) })
    }

    #[test]
    fn a_question_takes_the_trace_of_the_first_read_along_also_if_it_is_asked_again() {
        let (mut inquiries, now) = (Inquiries::new("n1"), Instant::now());
        assert_eq!(inquiries.sending(&asks(1), now), [], "no read of it is sampled");
        inquiries.waits(&trace(1));
        inquiries.waits(&trace(2));
        assert_eq!(inquiries.sending(&asks(1), now), [], "those that came later are not in it");
        for _ in 0..2 {
            // No process traces here, so the context is that of the read.
            assert_eq!(inquiries.sending(&asks(2), now), [(Index::ZERO, trace(1))]);
        }
        assert_eq!(inquiries.asked.as_ref().map(|asked| asked.reads.len()), Some(2));
        inquiries.received(&answers(1), &[], now);
        assert!(inquiries.asked.is_some(), "that was the answer to another");
        inquiries.received(&answers(2), &[], now);
        assert!(inquiries.asked.is_none() && inquiries.waiting.is_empty());
        inquiries.waits(&trace(3));
        inquiries.forget();
        assert_eq!(inquiries.sending(&asks(3), now), []);
    }

    #[test]
    fn a_leader_follows_a_question_until_it_is_answered_or_old() {
        let (mut inquiries, now) = (Inquiries::new("n2"), Instant::now());
        for _ in 0..2 {
            inquiries.received(&asks(1), &[(Index::ZERO, trace(1))], now);
        }
        inquiries.received(&asks(2), &[], now);
        assert_eq!(inquiries.answering.len(), 1, "asked again it is the same, and one without a trace is not followed");
        let answer = Message { from: answers(1).to, to: answers(1).from, ..answers(1) };
        inquiries.sending(&answer, now);
        assert!(inquiries.answering.is_empty());
        for number in 0..2 * FOLLOWED_MAX as u64 {
            inquiries.received(&asks(number), &[(Index::ZERO, trace(1))], now);
            inquiries.waits(&trace(1));
        }
        assert_eq!((inquiries.answering.len(), inquiries.waiting.len()), (FOLLOWED_MAX, FOLLOWED_MAX));
        inquiries.forget_old(now + FORGET_AFTER);
        assert!(inquiries.answering.is_empty());
    }
}
