//! Raft's messages as Protobuf and back: the one place that knows both.
//!
//! What comes from a peer is checked only for its shape here (fields present, numbers in their types); whether it makes
//! sense is for the core to say.

use proto::raft::v1 as wire;
use raft::{AppendResult, Body, Entry, Index, Message, NodeId, Payload, Question, Term};

use super::link::Lane;
use crate::telemetry::TraceContext;

/// A `traceparent` of the known version has 55 bytes; a later one may have a few fields more.
const TRACEPARENT_BYTES_MAX: usize = 128;

/// What a frame that is no message is counted as.
pub(super) const MALFORMED: &str = "malformed";

/// Why a frame is no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Malformed {
    /// A `oneof` is empty, or of a kind that this version does not know.
    #[error("a part of the message is missing or unknown")]
    PartMissing,
    /// A number or a length cannot be what it says.
    #[error("a number or a length in the message is out of bounds")]
    OutOfBounds,
}

/// The trace contexts of sampled entries, by the entry's index; with index zero, that of the message itself.
pub type Traces = Vec<(Index, TraceContext)>;

/// A message in the form of the stream that carries it.
#[derive(Clone, PartialEq, Debug)]
pub enum Frame {
    /// From a leader, in bulk.
    AppendRequest(wire::AppendEntriesRequest),
    /// A follower's answer to it.
    AppendResponse(wire::AppendEntriesResponse),
    /// Ahead of bulk.
    ControlRequest(wire::ControlRequest),
    /// The answer to it.
    ControlResponse(wire::ControlResponse),
}

impl Frame {
    /// Which stream carries the frame.
    #[must_use]
    pub fn lane(&self) -> Lane {
        match self {
            Self::AppendRequest(_) => Lane::AppendRequests,
            Self::AppendResponse(_) => Lane::AppendResponses,
            Self::ControlRequest(_) => Lane::ControlRequests,
            Self::ControlResponse(_) => Lane::ControlResponses,
        }
    }
}

/// A message as a frame.
#[must_use]
pub fn to_frame(message: Message, traces: Traces) -> Frame {
    use wire::control_request::Body as Request;
    use wire::control_response::Body as Response;
    let term = message.term.get();
    let mut frame = match message.body {
        Body::AppendEntries { prev_log_index, prev_log_term, entries, leader_commit } => {
            Frame::AppendRequest(wire::AppendEntriesRequest {
                term,
                prev_log_index: prev_log_index.get(),
                prev_log_term: prev_log_term.get(),
                entries: entries.into_iter().map(entry_to_wire).collect(),
                leader_commit: leader_commit.get(),
                traces: Vec::new(),
            })
        }
        Body::AppendEntriesResponse(result) => {
            Frame::AppendResponse(wire::AppendEntriesResponse { term, result: Some(result_to_wire(result)) })
        }
        Body::RequestVote { pre_vote, last_log_index, last_log_term, leadership_transfer } => control_request(
            term,
            Request::RequestVote(wire::RequestVote {
                pre_vote,
                last_log_index: last_log_index.get(),
                last_log_term: last_log_term.get(),
                leadership_transfer,
            }),
        ),
        Body::Heartbeat { commit_index, round } => {
            control_request(term, Request::Heartbeat(wire::Heartbeat { commit_index: commit_index.get(), round }))
        }
        Body::TimeoutNow => control_request(term, Request::TimeoutNow(wire::TimeoutNow {})),
        Body::ReadIndex { question: Question { process, number } } => {
            control_request(term, Request::ReadIndex(wire::ReadIndex { process, number }))
        }
        Body::ReadIndexResponse { question: Question { process, number }, index } => {
            control_response(term, Response::ReadIndex(wire::ReadIndexResponse { process, number, index: index.get() }))
        }
        Body::InstallSnapshot { last_included_index, last_included_term } => control_request(
            term,
            Request::InstallSnapshot(wire::InstallSnapshot {
                last_included_index: last_included_index.get(),
                last_included_term: last_included_term.get(),
            }),
        ),
        Body::RequestVoteResponse { pre_vote, granted } => {
            control_response(term, Response::RequestVote(wire::RequestVoteResponse { pre_vote, granted }))
        }
        Body::HeartbeatResponse { round, promised } => {
            control_response(term, Response::Heartbeat(wire::HeartbeatResponse { round, promised }))
        }
    };
    match &mut frame {
        Frame::AppendRequest(request) => request.traces = traces.into_iter().map(trace_to_wire).collect(),
        Frame::ControlRequest(request) => {
            request.traceparent = traces.first().map(|(_, context)| context.traceparent()).unwrap_or_default();
        }
        Frame::AppendResponse(_) | Frame::ControlResponse(_) => {}
    }
    frame
}

fn control_request(term: u64, body: wire::control_request::Body) -> Frame {
    Frame::ControlRequest(wire::ControlRequest { term, body: Some(body), ..Default::default() })
}

fn control_response(term: u64, body: wire::control_response::Body) -> Frame {
    Frame::ControlResponse(wire::ControlResponse { term, body: Some(body) })
}

/// A leader's AppendEntries, and the traces that came with it.
///
/// # Errors
///
/// Fails on an entry without a payload that is known here.
pub fn append_request(
    from: NodeId,
    to: NodeId,
    request: wire::AppendEntriesRequest,
) -> Result<(Message, Traces), Malformed> {
    let entries = request.entries.into_iter().map(entry_from_wire).collect::<Result<Vec<_>, _>>()?;
    let traces = request.traces.into_iter().filter_map(trace_from_wire).collect();
    let body = Body::AppendEntries {
        prev_log_index: Index::new(request.prev_log_index),
        prev_log_term: Term::new(request.prev_log_term),
        entries,
        leader_commit: Index::new(request.leader_commit),
    };
    Ok((Message { from, to, term: Term::new(request.term), body }, traces))
}

/// A follower's answer to AppendEntries.
///
/// # Errors
///
/// Fails if it says neither yes nor no.
pub fn append_response(from: NodeId, to: NodeId, response: wire::AppendEntriesResponse) -> Result<Message, Malformed> {
    use wire::append_entries_response::Result as Outcome;
    let result = match response.result.ok_or(Malformed::PartMissing)? {
        Outcome::Accepted(accepted) => AppendResult::Accepted { match_index: Index::new(accepted.match_index) },
        Outcome::Rejected(rejected) => AppendResult::Rejected {
            prev_log_index: Index::new(rejected.prev_log_index),
            hint_index: Index::new(rejected.hint_index),
            hint_term: Term::new(rejected.hint_term),
        },
    };
    Ok(Message { from, to, term: Term::new(response.term), body: Body::AppendEntriesResponse(result) })
}

/// A vote request, a heartbeat, a handover, a snapshot's offer or a follower's question, and the trace that it belongs
/// to.
///
/// # Errors
///
/// Fails if it is none of those.
pub fn control_request_message(
    from: NodeId,
    to: NodeId,
    request: wire::ControlRequest,
) -> Result<(Message, Traces), Malformed> {
    use wire::control_request::Body as Request;
    let body = match request.body.ok_or(Malformed::PartMissing)? {
        Request::RequestVote(vote) => Body::RequestVote {
            pre_vote: vote.pre_vote,
            last_log_index: Index::new(vote.last_log_index),
            last_log_term: Term::new(vote.last_log_term),
            leadership_transfer: vote.leadership_transfer,
        },
        Request::Heartbeat(heartbeat) => {
            Body::Heartbeat { commit_index: Index::new(heartbeat.commit_index), round: heartbeat.round }
        }
        Request::TimeoutNow(wire::TimeoutNow {}) => Body::TimeoutNow,
        Request::ReadIndex(wire::ReadIndex { process, number }) => {
            Body::ReadIndex { question: Question { process, number } }
        }
        Request::InstallSnapshot(offer) => Body::InstallSnapshot {
            last_included_index: Index::new(offer.last_included_index),
            last_included_term: Term::new(offer.last_included_term),
        },
    };
    let trace = wire::TraceContext { index: Index::ZERO.get(), traceparent: request.traceparent };
    let traces = trace_from_wire(trace).into_iter().collect();
    Ok((Message { from, to, term: Term::new(request.term), body }, traces))
}

/// The answer to a vote request, to a heartbeat or to a follower's question.
///
/// # Errors
///
/// Fails if it is none of those.
pub fn control_response_message(
    from: NodeId,
    to: NodeId,
    response: wire::ControlResponse,
) -> Result<Message, Malformed> {
    use wire::control_response::Body as Response;
    let body = match response.body.ok_or(Malformed::PartMissing)? {
        Response::RequestVote(vote) => Body::RequestVoteResponse { pre_vote: vote.pre_vote, granted: vote.granted },
        Response::Heartbeat(wire::HeartbeatResponse { round, promised }) => Body::HeartbeatResponse { round, promised },
        Response::ReadIndex(wire::ReadIndexResponse { process, number, index }) => {
            Body::ReadIndexResponse { question: Question { process, number }, index: Index::new(index) }
        }
    };
    Ok(Message { from, to, term: Term::new(response.term), body })
}

fn entry_to_wire(entry: Entry) -> wire::Entry {
    let payload = match entry.payload {
        Payload::Noop => wire::entry::Payload::Noop(wire::Noop {}),
        Payload::Command(command) => wire::entry::Payload::Command(command),
    };
    wire::Entry { term: entry.term.get(), index: entry.index.get(), payload: Some(payload) }
}

fn entry_from_wire(entry: wire::Entry) -> Result<Entry, Malformed> {
    let payload = match entry.payload.ok_or(Malformed::PartMissing)? {
        wire::entry::Payload::Noop(wire::Noop {}) => Payload::Noop,
        // Decoded bytes are a slice of the network frame. The log and the state keep the command for long, and would
        // keep the whole frame alive with it.
        wire::entry::Payload::Command(command) => Payload::Command(bytes::Bytes::copy_from_slice(&command)),
    };
    Ok(Entry { term: Term::new(entry.term), index: Index::new(entry.index), payload })
}

fn result_to_wire(result: AppendResult) -> wire::append_entries_response::Result {
    use wire::append_entries_response as response;
    match result {
        AppendResult::Accepted { match_index } => {
            response::Result::Accepted(response::Accepted { match_index: match_index.get() })
        }
        AppendResult::Rejected { prev_log_index, hint_index, hint_term } => {
            response::Result::Rejected(response::Rejected {
                prev_log_index: prev_log_index.get(),
                hint_index: hint_index.get(),
                hint_term: hint_term.get(),
            })
        }
    }
}

/// A context that is malformed, too long to be one, or not sampled is not kept.
fn trace_from_wire(trace: wire::TraceContext) -> Option<(Index, TraceContext)> {
    if trace.traceparent.len() > TRACEPARENT_BYTES_MAX {
        return None;
    }
    let context = TraceContext::parse(&trace.traceparent).filter(TraceContext::is_sampled)?;
    Some((Index::new(trace.index), context))
}

fn trace_to_wire((index, trace): (Index, TraceContext)) -> wire::TraceContext {
    wire::TraceContext { index: index.get(), traceparent: trace.traceparent() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn node(id: u64) -> NodeId {
        NodeId::new(id).expect("not zero")
    }

    fn there_and_back(message: Message) -> Message {
        let (from, to) = (message.from, message.to);
        match to_frame(message, Vec::new()) {
            Frame::AppendRequest(request) => append_request(from, to, request).expect("whole").0,
            Frame::AppendResponse(response) => append_response(from, to, response).expect("whole"),
            Frame::ControlRequest(request) => control_request_message(from, to, request).expect("whole").0,
            Frame::ControlResponse(response) => control_response_message(from, to, response).expect("whole"),
        }
    }

    #[test]
    fn every_message_survives_the_wire() {
        let (one, two) = (Index::new(1), Index::new(2));
        let term = Term::new(7);
        let entries = vec![
            Entry { term, index: one, payload: Payload::Noop },
            Entry { term, index: two, payload: Payload::Command(Bytes::from_static(b"set")) },
        ];
        let bodies = [
            Body::AppendEntries { prev_log_index: one, prev_log_term: term, entries, leader_commit: two },
            Body::AppendEntriesResponse(AppendResult::Accepted { match_index: two }),
            Body::AppendEntriesResponse(AppendResult::Rejected {
                prev_log_index: two,
                hint_index: one,
                hint_term: term,
            }),
            Body::RequestVote { pre_vote: true, last_log_index: two, last_log_term: term, leadership_transfer: true },
            Body::RequestVoteResponse { pre_vote: true, granted: false },
            Body::Heartbeat { commit_index: two, round: 9 },
            Body::HeartbeatResponse { round: 9, promised: true },
            Body::TimeoutNow,
            Body::ReadIndex { question: Question { process: u64::MAX, number: 3 } },
            Body::ReadIndexResponse { question: Question { process: 8, number: 3 }, index: two },
            Body::InstallSnapshot { last_included_index: two, last_included_term: term },
        ];
        for body in bodies {
            let message = Message { from: node(1), to: node(2), term, body };
            assert_eq!(there_and_back(message.clone()), message);
        }
    }

    #[test]
    fn traces_travel_with_entries_and_with_urgent_requests() {
        let context = TraceContext::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").expect("whole");
        let vote = Body::RequestVote {
            pre_vote: true,
            last_log_index: Index::ZERO,
            last_log_term: Term::ZERO,
            leadership_transfer: false,
        };
        let vote = Message { from: node(1), to: node(2), term: Term::new(7), body: vote };
        for traces in [Vec::new(), vec![(Index::ZERO, context.clone())]] {
            let Frame::ControlRequest(frame) = to_frame(vote.clone(), traces.clone()) else { panic!("it is urgent") };
            assert_eq!(control_request_message(node(1), node(2), frame), Ok((vote.clone(), traces)));
        }
        let entry = Entry { term: Term::new(7), index: Index::new(1), payload: Payload::Noop };
        let (prev_log_index, prev_log_term) = (Index::ZERO, Term::ZERO);
        let entries =
            Body::AppendEntries { prev_log_index, prev_log_term, entries: vec![entry], leader_commit: Index::ZERO };
        let append = Message { body: entries, ..vote };
        let traces = vec![(Index::new(1), context)];
        let Frame::AppendRequest(mut frame) = to_frame(append.clone(), traces.clone()) else { panic!("it is bulk") };
        assert_eq!(append_request(node(1), node(2), frame.clone()), Ok((append.clone(), traces)));
        frame.traces[0].traceparent = "nonsense".to_owned();
        assert_eq!(append_request(node(1), node(2), frame), Ok((append, Vec::new())), "the entries count");
    }

    #[test]
    fn a_frame_without_its_part_is_malformed() {
        let entry = wire::Entry { term: 1, index: 1, payload: None };
        let append = wire::AppendEntriesRequest { entries: vec![entry], ..Default::default() };
        assert_eq!(append_request(node(1), node(2), append), Err(Malformed::PartMissing));
        let response = wire::AppendEntriesResponse::default();
        assert_eq!(append_response(node(1), node(2), response), Err(Malformed::PartMissing));
        let request = wire::ControlRequest::default();
        assert_eq!(control_request_message(node(1), node(2), request), Err(Malformed::PartMissing));
        let response = wire::ControlResponse::default();
        assert_eq!(control_response_message(node(1), node(2), response), Err(Malformed::PartMissing));
    }
}
