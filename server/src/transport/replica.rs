//! The messages of reads that need no leader as Protobuf and back.
//!
//! What comes from a peer is checked for its bounds. Whether an answer was asked for is for the engine to say.

use engine::leaderless::{Ask, Known, ReplicaBody, ReplicaMessage, Revision, Tell, Told};
use proto::raft::v1 as wire;
use raft::{ConfigurationId, Index, NodeId, Term};

use super::convert::Malformed;
use super::link::Lane;

/// Such a message in the form of the stream that carries it.
#[derive(Clone, PartialEq, Debug)]
pub enum ReplicaFrame {
    /// Questions.
    Request(wire::ReadReplicaRequest),
    /// Answers.
    Response(wire::ReadReplicaResponse),
}

impl ReplicaFrame {
    /// Which stream carries the frame.
    #[must_use]
    pub fn lane(&self) -> Lane {
        match self {
            Self::Request(_) => Lane::ReplicaRequests,
            Self::Response(_) => Lane::ReplicaResponses,
        }
    }
}

/// A message as a frame.
#[must_use]
pub fn to_replica_frame(body: ReplicaBody) -> ReplicaFrame {
    match body {
        ReplicaBody::Ask(Ask { process, revision, questions }) => {
            let question = |(number, key)| wire::ReplicaQuestion { number, key };
            ReplicaFrame::Request(wire::ReadReplicaRequest {
                process,
                revision: revision.get(),
                questions: questions.into_iter().map(question).collect(),
            })
        }
        ReplicaBody::Tell(Tell { process, configuration, applied, revision, time_ms, answers }) => {
            ReplicaFrame::Response(wire::ReadReplicaResponse {
                process,
                configuration_term: configuration.term.get(),
                configuration_index: configuration.index.get(),
                applied: applied.get(),
                revision: revision.get(),
                time_ms,
                answers: answers.into_iter().map(answer_to_wire).collect(),
            })
        }
    }
}

fn answer_to_wire((number, Known { pending, value }): (u64, Known)) -> wire::ReplicaAnswer {
    use wire::replica_answer::Value;
    let value = match value {
        Told::Absent => Value::Absent(wire::ReplicaAbsent {}),
        Told::Unchanged => Value::Unchanged(wire::ReplicaUnchanged {}),
        Told::Present { value, create_revision, mod_revision, version } => Value::Present(wire::ReplicaValue {
            value,
            create_revision: create_revision.get(),
            mod_revision: mod_revision.get(),
            version,
        }),
    };
    wire::ReplicaAnswer { number, pending: pending.get(), value: Some(value) }
}

/// A peer's questions.
///
/// # Errors
///
/// Fails if there are none or too many, or if one is for no key that can be.
pub fn replica_request(
    from: NodeId,
    to: NodeId,
    request: wire::ReadReplicaRequest,
) -> Result<ReplicaMessage, Malformed> {
    let wire::ReadReplicaRequest { process, revision, questions } = request;
    let questions = questions.into_iter().map(|wire::ReplicaQuestion { number, key }| (number, key)).collect();
    let ask = Ask { process, revision: Revision::new(revision), questions };
    if ask.is_sound() {
        Ok(ReplicaMessage { from, to, body: ReplicaBody::Ask(ask) })
    } else {
        Err(Malformed::OutOfBounds)
    }
}

/// A peer's answers.
///
/// # Errors
///
/// Fails if there are too many, or if one says nothing or what cannot be.
pub fn replica_response(
    from: NodeId,
    to: NodeId,
    response: wire::ReadReplicaResponse,
) -> Result<ReplicaMessage, Malformed> {
    let wire::ReadReplicaResponse {
        process,
        configuration_term,
        configuration_index,
        applied,
        revision,
        time_ms,
        answers,
    } = response;
    let answers = answers.into_iter().map(answer_from_wire).collect::<Result<_, _>>()?;
    let configuration = ConfigurationId { term: Term::new(configuration_term), index: Index::new(configuration_index) };
    let (applied, revision) = (Index::new(applied), Revision::new(revision));
    let tell = Tell { process, configuration, applied, revision, time_ms, answers };
    if tell.is_sound() {
        Ok(ReplicaMessage { from, to, body: ReplicaBody::Tell(tell) })
    } else {
        Err(Malformed::OutOfBounds)
    }
}

fn answer_from_wire(answer: wire::ReplicaAnswer) -> Result<(u64, Known), Malformed> {
    use wire::replica_answer::Value;
    let wire::ReplicaAnswer { number, pending, value } = answer;
    let value = match value.ok_or(Malformed::PartMissing)? {
        Value::Absent(wire::ReplicaAbsent {}) => Told::Absent,
        Value::Unchanged(wire::ReplicaUnchanged {}) => Told::Unchanged,
        Value::Present(wire::ReplicaValue { value, create_revision, mod_revision, version }) => {
            let (create_revision, mod_revision) = (Revision::new(create_revision), Revision::new(mod_revision));
            // A decoded value is a part of its frame, and would keep the whole of it in memory.
            let value = bytes::Bytes::copy_from_slice(&value);
            Told::Present { value, create_revision, mod_revision, version }
        }
    };
    Ok((number, Known { pending: Index::new(pending), value }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use engine::leaderless::QUESTIONS_MAX;

    const KEY_BYTES_MAX: usize = 1024;
    const VALUE_BYTES_MAX: usize = 1 << 20;

    fn nodes() -> (NodeId, NodeId) {
        let node = |id| NodeId::new(id).expect("not zero");
        (node(1), node(2))
    }

    fn there_and_back(body: ReplicaBody) -> (Lane, Result<ReplicaMessage, Malformed>) {
        let (from, to) = nodes();
        let frame = to_replica_frame(body);
        let lane = frame.lane();
        let message = match frame {
            ReplicaFrame::Request(request) => replica_request(from, to, request),
            ReplicaFrame::Response(response) => replica_response(from, to, response),
        };
        (lane, message)
    }

    fn ask(revision: u64, keys: &[usize]) -> ReplicaBody {
        let questions = (7..).zip(keys).map(|(number, length)| (number, Bytes::from(vec![b'k'; *length])));
        ReplicaBody::Ask(Ask { process: u64::MAX, revision: Revision::new(revision), questions: questions.collect() })
    }

    fn tell(revision: u64, values: Vec<Told>) -> ReplicaBody {
        let known = |value| Known { pending: Index::new(9), value };
        let configuration = ConfigurationId { term: Term::new(2), index: Index::new(3) };
        let (applied, revision) = (Index::new(5), Revision::new(revision));
        let answers = (7..).zip(values.into_iter().map(known)).collect();
        ReplicaBody::Tell(Tell { process: 1, configuration, applied, revision, time_ms: 11, answers })
    }

    fn present(bytes: usize, create_revision: u64, mod_revision: u64, version: u64) -> Told {
        let (create_revision, mod_revision) = (Revision::new(create_revision), Revision::new(mod_revision));
        Told::Present { value: Bytes::from(vec![1; bytes]), create_revision, mod_revision, version }
    }

    #[test]
    fn every_message_survives_the_wire() {
        let (from, to) = nodes();
        for (body, lane) in [
            (ask(1, &[1]), Lane::ReplicaRequests),
            (ask(9, &[KEY_BYTES_MAX; QUESTIONS_MAX]), Lane::ReplicaRequests),
            (tell(1, vec![]), Lane::ReplicaResponses),
            (tell(4, vec![Told::Absent, Told::Unchanged, present(3, 2, 4, 3)]), Lane::ReplicaResponses),
            (tell(4, vec![present(0, 2, 2, 1), present(VALUE_BYTES_MAX, 2, 2, 1)]), Lane::ReplicaResponses),
        ] {
            let expected = ReplicaMessage { from, to, body: body.clone() };
            assert_eq!(there_and_back(body), (lane, Ok(expected)));
        }
    }

    #[test]
    fn what_cannot_be_meant_is_malformed() {
        for body in [
            ask(1, &[]),
            ask(0, &[1]),
            ask(1, &[1, 0]),
            ask(1, &[KEY_BYTES_MAX + 1]),
            ask(1, &[1; QUESTIONS_MAX + 1]),
            tell(0, vec![Told::Absent]),
            tell(1, vec![Told::Absent; QUESTIONS_MAX + 1]),
            tell(9, vec![present(VALUE_BYTES_MAX + 1, 2, 2, 1)]),
            tell(9, vec![present(1, 0, 2, 1)]),
            tell(9, vec![present(1, 3, 2, 1)]),
            tell(9, vec![present(1, 2, 2, 0)]),
        ] {
            assert_eq!(there_and_back(body.clone()).1, Err(Malformed::OutOfBounds), "{body:?}");
        }
        let (from, to) = nodes();
        let answers = vec![wire::ReplicaAnswer { number: 1, pending: 0, value: None }];
        let response = wire::ReadReplicaResponse { revision: 1, answers, ..Default::default() };
        assert_eq!(replica_response(from, to, response), Err(Malformed::PartMissing));
    }
}
