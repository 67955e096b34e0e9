//! The same inputs as requests of a stream: each is answered as the call is, as one answer of many.

use super::{Case, DELETE, GET, GET_OUTCOME, PUT};
use bytes::BufMut as _;
use prost::Message as _;
use proto::kv::v1::{PipelineResponse, PipelinedError, pipelined_response::Response};
use tests::raw::{self, Answer};
use tonic::{Code, Status};

pub(super) const PIPELINE: &str = "/kv.v1.KvService/Pipeline";

/// The number of a request's kind in `PipelinedRequest`.
const FIELDS: [(&str, u8); 4] = [(PUT, 4), (GET, 5), (DELETE, 6), (GET_OUTCOME, 7)];

/// The head of a frame.
const FRAME_HEAD_BYTES: usize = 5;

/// The cases among `cases` that are wrong in their message alone, with the message in a stream's first request.
pub(super) fn of(cases: &[Case]) -> Vec<Case> {
    cases.iter().filter_map(pipelined).collect()
}

fn pipelined(case: &Case) -> Option<Case> {
    let (_, field) = FIELDS.iter().find(|(path, _)| *path == case.path)?;
    let head = case.body.first_chunk::<FRAME_HEAD_BYTES>()?;
    let (message, length) = (&case.body[FRAME_HEAD_BYTES..], u32::from_be_bytes([head[1], head[2], head[3], head[4]]));
    let is_plain = head[0] == 0 && message.len() == usize::try_from(length).ok()?;
    let has_usual_headers = case.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).eq(raw::HEADERS);
    if !is_plain || !has_usual_headers {
        return None;
    }
    let mut request = vec![1 << 3, 1];
    put_bytes(&mut request, *field, message);
    let mut requests = Vec::new();
    put_bytes(&mut requests, 1, &request);
    let name = format!("{} {}", case.path, case.name);
    Some(Case::new(name, PIPELINE, &requests, case.expected.clone()))
}

/// Adds a field of bytes, as Protobuf writes it.
fn put_bytes(message: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    message.put_u8(field << 3 | 2);
    prost::encoding::encode_varint(bytes.len() as u64, message);
    message.put_slice(bytes);
}

/// The one answer of a stream as that of a call; what ended the stream before it came is that as it is.
pub(super) fn answer_of(answer: Answer) -> Answer {
    let Answer::Status(status, body) = answer else { return answer };
    if status.code() != Code::Ok {
        return Answer::Status(status, body);
    }
    let frame = body.get(FRAME_HEAD_BYTES..).and_then(|message| PipelineResponse::decode(message).ok());
    let response = frame.and_then(|frame| frame.responses.into_iter().next()).and_then(|answer| answer.response);
    match response {
        Some(Response::Error(PipelinedError { code, message, details })) => {
            let details = tonic_types::Status { code, message: message.clone(), details }.encode_to_vec();
            Answer::Status(Status::with_details(code.into(), message, details.into()), body)
        }
        Some(_) => Answer::Status(status, body),
        None => Answer::Status(Status::unknown("the stream ended without an answer"), body),
    }
}
