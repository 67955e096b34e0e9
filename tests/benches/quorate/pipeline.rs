//! The pipeline as it is on the wire: one stream, each frame of requests as large as what is at hand.

use crate::{
    generator::{
        due::Due,
        flood::Answers,
        frames::{Answer, Frames},
    },
    workload::{Operation, put_with},
};
use proto::kv::v1::{
    GetRequest, PipelineRequest, PipelineResponse, PipelinedRequest, PutMode, kv_service_client::KvServiceClient,
    pipelined_request::Request, pipelined_response::Response,
};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{Code, Status, Streaming, transport::Channel};

/// The values in one frame, in bytes: as the client library bounds them, far below what a node reads at most.
const FRAME_VALUE_BYTES_MAX: usize = 1 << 20;

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

    fn send_frame(&mut self, frame: PipelineRequest) -> Result<(), Status> {
        self.inlet.try_send(frame).map_err(|error| Status::unavailable(error.to_string()))
    }
}

impl Frames for Pipeline {
    fn send(&mut self, requests: Vec<(u64, Operation)>) -> Result<(), Status> {
        let mut frame = PipelineRequest::default();
        let mut value_bytes = 0;
        for (tag, operation) in requests {
            let bytes = match &operation {
                Operation::Put { value, .. } | Operation::Create { value, .. } | Operation::Overwrite { value, .. } => {
                    value.len()
                }
                Operation::Get { .. } => 0,
            };
            if value_bytes > 0 && value_bytes + bytes > FRAME_VALUE_BYTES_MAX {
                self.send_frame(std::mem::take(&mut frame))?;
                value_bytes = 0;
            }
            value_bytes += bytes;
            let request = Some(request(operation));
            frame.requests.push(PipelinedRequest { tag, request, ..PipelinedRequest::default() });
        }
        self.send_frame(frame)
    }

    async fn receive(&mut self) -> Result<Vec<Answer>, Status> {
        answers(&mut self.outlet).await
    }
}

/// One stream whose frames are made when HTTP/2 asks for them.
pub(crate) struct Flood(Streaming<PipelineResponse>);

impl Flood {
    /// Opens a stream on which this is sent.
    pub(crate) async fn open(channel: Channel, due: Due) -> anyhow::Result<Flood> {
        let frames = due.map(|requests| {
            let request =
                |(tag, operation)| PipelinedRequest { tag, request: Some(request(operation)), ..Default::default() };
            PipelineRequest { requests: requests.into_iter().map(request).collect() }
        });
        Ok(Flood(KvServiceClient::new(channel).pipeline(frames).await?.into_inner()))
    }
}

impl Answers for Flood {
    async fn receive(&mut self) -> Result<Vec<Answer>, Status> {
        answers(&mut self.0).await
    }
}

async fn answers(outlet: &mut Streaming<PipelineResponse>) -> Result<Vec<Answer>, Status> {
    let frame = outlet.message().await?.ok_or_else(|| Status::unavailable("the stream ended"))?;
    let answers = frame.responses.into_iter().map(|answer| {
        let result = match answer.response {
            Some(Response::Put(_) | Response::Get(_)) => Ok(()),
            Some(Response::Error(error)) => Err(Code::from_i32(error.code)),
            _ => Err(Code::Internal),
        };
        Answer { tag: answer.tag, result }
    });
    Ok(answers.collect())
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
