//! Answers as a stream carries them.

use prost::Message as _;
use proto::kv::v1::pipelined_response::Response;
use proto::kv::v1::{PipelinedError, PipelinedResponse};
use tonic::{Code, Status};

use crate::api::operation::Answer;

/// What a response holds besides keys and values, in bytes, or a little less: its numbers and their tags.
const RESPONSE_BYTES: usize = 64;

/// An answer that waits to be sent.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) response: PipelinedResponse,
    /// About how long it is.
    pub(super) bytes: usize,
}

impl Ready {
    pub(super) fn new(tag: u64, result: Result<Answer, Status>) -> Self {
        let response = match result {
            Ok(Answer::Put(response)) => Response::Put(response),
            Ok(Answer::Get(response)) => Response::Get(response),
            Ok(Answer::Delete(response)) => Response::Delete(response),
            Ok(Answer::GetOutcome(response)) => Response::GetOutcome(response),
            Err(status) => Response::Error(pipelined(&status)),
        };
        let kv_bytes = |kv: &Option<proto::kv::v1::KeyValue>| kv.as_ref().map_or(0, |kv| kv.key.len() + kv.value.len());
        let bytes = match &response {
            Response::Put(_) => 0,
            Response::Get(response) => kv_bytes(&response.kv) + response.served_by.len(),
            Response::Delete(response) => kv_bytes(&response.previous),
            // It may hold what was deleted.
            Response::GetOutcome(response) => response.encoded_len(),
            Response::Error(error) => error.encoded_len(),
        };
        Self { response: PipelinedResponse { tag, response: Some(response) }, bytes: RESPONSE_BYTES + bytes }
    }
}

/// A refusal for want of room that is the same for all that a frame asks for in the same way.
///
/// A client that sends far more than can be done gets far more refusals than answers, so what they cost decides how
/// much is left for the answers.
#[derive(Debug)]
pub(super) struct SameRefusal {
    method: &'static str,
    timeout_ms: u32,
    response: PipelinedResponse,
    bytes: usize,
}

impl SameRefusal {
    /// What was said to a request that asked for the least room there is, and so goes for all that ask for more.
    pub(super) fn of(method: &'static str, timeout_ms: u32, refused: &Ready) -> Self {
        Self { method, timeout_ms, response: refused.response.clone(), bytes: refused.bytes }
    }

    /// The same for a request of the same kind and patience.
    pub(super) fn repeat(&self, tag: u64, method: &str, timeout_ms: u32) -> Option<Ready> {
        if self.method != method || self.timeout_ms != timeout_ms {
            return None;
        }
        let response = PipelinedResponse { tag, ..self.response.clone() };
        Some(Ready { response, bytes: self.bytes })
    }
}

/// The code that an answer ends its request's span with.
pub(super) fn code(result: &Result<Answer, Status>) -> Code {
    result.as_ref().map_or_else(Status::code, |_| Code::Ok)
}

/// A status as one answer of many. What a call says in its trailers is in the details too.
fn pipelined(status: &Status) -> PipelinedError {
    // What is no list of details was made by nobody of ours, and has none.
    let details = tonic_types::Status::decode(status.details()).unwrap_or_default().details;
    PipelinedError { code: status.code().into(), message: status.message().to_owned(), details }
}
