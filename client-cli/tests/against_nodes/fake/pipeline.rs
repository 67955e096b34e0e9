//! The fake node's streams: each request is met by the same script as a call of its own.

use super::{Comes, Service, Store};
use proto::kv::v1::{
    PipelineRequest, PipelineResponse, PipelinedError, PipelinedRequest, PipelinedResponse,
    pipelined_request::Request as Asked, pipelined_response::Response as Answered,
};
use std::pin::Pin;
use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Status, Streaming, metadata::MetadataMap};

pub(super) type Answers = Pin<Box<dyn Stream<Item = Result<PipelineResponse, Status>> + Send>>;

/// Answers each frame by one with all that comes of it, until the client or the script ends the stream.
pub(super) fn serve(service: Service, mut requests: Streaming<PipelineRequest>) -> Answers {
    let (answers, stream) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Ok(Some(frame)) = requests.message().await {
            service.state.lock().expect("no holder panics").frames.push(frame.requests.len());
            let mut end = None;
            let mut responses = Vec::new();
            for request in frame.requests {
                let tag = request.tag;
                match service.meet_pipelined(request) {
                    Comes::Answer(response) => {
                        let response = Some(response.unwrap_or_else(|status| Answered::Error(error(&status))));
                        responses.push(PipelinedResponse { tag, response });
                    }
                    Comes::Nothing => {}
                    Comes::TheEnd(status) => end = Some(status),
                }
            }
            let leader = service.state.lock().expect("no holder panics").leader.clone();
            let (leader_name, leader_address) = leader.unwrap_or_default();
            let frame = PipelineResponse { responses, leader_name, leader_address };
            if answers.send(Ok(frame)).await.is_err() {
                return;
            }
            if let Some(status) = end {
                let _ = answers.send(Err(status)).await;
                return;
            }
        }
    });
    Box::pin(ReceiverStream::new(stream))
}

impl Service {
    fn meet_pipelined(&self, request: PipelinedRequest) -> Comes<Answered> {
        let PipelinedRequest { tag: _, timeout_ms, traceparent, request } = request;
        // What a call would have told in its metadata.
        let mut metadata = MetadataMap::new();
        if !traceparent.is_empty() {
            metadata.insert("traceparent", traceparent.parse().expect("ASCII"));
        }
        let timeout_us = u64::from(timeout_ms) * 1000;
        metadata.insert("grpc-timeout", format!("{timeout_us}u").parse().expect("ASCII"));
        match request.expect("there is one") {
            Asked::Put(put) => {
                self.note(put.request_id.as_ref());
                self.meet("Put", metadata, |store| store.put(put).map(Answered::Put))
            }
            Asked::Get(get) => {
                self.note_get(&get);
                self.meet("Get", metadata, |store| store.get(&get).map(Answered::Get))
            }
            Asked::Delete(delete) => {
                self.note(delete.request_id.as_ref());
                self.meet("Delete", metadata, |store: &mut Store| store.delete(delete).map(Answered::Delete))
            }
            Asked::GetOutcome(question) => {
                self.meet("GetOutcome", metadata, |store| store.get_outcome(question).map(Answered::GetOutcome))
            }
        }
    }
}

/// The error as it is sent on a stream: its details are a google.rpc.Status already.
fn error(status: &Status) -> PipelinedError {
    let details = <PipelinedError as prost::Message>::decode(status.details()).expect("details are well formed");
    PipelinedError { code: status.code().into(), message: status.message().to_owned(), details: details.details }
}
