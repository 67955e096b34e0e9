//! The pipeline as it is on the wire: one stream, each frame of requests as large as what is at hand.

use crate::{
    generator::frames::{Answer, Frames},
    workload::{Operation, put_with},
};
use proto::kv::v1::{
    GetRequest, PipelineRequest, PipelineResponse, PipelinedRequest, PutMode, kv_service_client::KvServiceClient,
    pipelined_request::Request, pipelined_response::Response,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};

/// One stream.
pub(crate) struct Pipeline {
    inlet: mpsc::Sender<PipelineRequest>,
    outlet: Streaming<PipelineResponse>,
}

impl Pipeline {
    /// Opens a stream for so many requests under way.
    pub(crate) async fn open(channel: Channel, room: usize) -> anyhow::Result<Pipeline> {
        // A frame has one request at least.
        let (inlet, frames) = mpsc::channel(room);
        let answers = KvServiceClient::new(channel).pipeline(ReceiverStream::new(frames)).await?;
        Ok(Pipeline { inlet, outlet: answers.into_inner() })
    }
}

impl Frames for Pipeline {
    fn send(&mut self, requests: Vec<(u64, Operation)>) -> Result<(), Status> {
        let requests = requests.into_iter().map(|(tag, operation)| PipelinedRequest {
            tag,
            request: Some(request(operation)),
            ..PipelinedRequest::default()
        });
        let frame = PipelineRequest { requests: requests.collect() };
        self.inlet.try_send(frame).map_err(|error| Status::unavailable(error.to_string()))
    }

    async fn receive(&mut self) -> Result<Vec<Answer>, Status> {
        let frame = self.outlet.message().await?.ok_or_else(|| Status::unavailable("the stream ended"))?;
        let answers = frame.responses.into_iter().map(|answer| {
            let is_ok = matches!(answer.response, Some(Response::Put(_) | Response::Get(_)));
            Answer { tag: answer.tag, is_ok }
        });
        Ok(answers.collect())
    }
}

fn request(operation: Operation) -> Request {
    match operation {
        Operation::Put { key, value } | Operation::Create { key, value } => {
            Request::Put(put_with(key, value, PutMode::Unspecified))
        }
        Operation::Overwrite { key, value } => Request::Put(put_with(key, value, PutMode::Upsert)),
        Operation::Get { key } => Request::Get(GetRequest { key, ..GetRequest::default() }),
    }
}
