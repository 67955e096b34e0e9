//! The bare tonic echo, without any work: a unary call that returns its message, and a stream that returns each of its
//! messages. What gRPC alone costs on this machine, so that nothing on the same road can be faster.

use crate::{
    generator::{
        calls::Calls,
        frames::{Answer, Frames},
    },
    workload::{Operation, put_with},
};
use proto::kv::v1::{PutMode, PutRequest};
use std::{
    collections::VecDeque,
    convert::Infallible,
    future::Ready,
    net::SocketAddr,
    process::{Child, Command, Stdio},
    task::{Context, Poll},
};
use tests::{loopback::Subnet, wait::wait_for};
use tokio::{net::TcpStream, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    client,
    codegen::{BoxFuture, Service, http, http::uri::PathAndQuery},
    server::{Grpc, NamedService, StreamingService, UnaryService},
    transport::Channel,
};
use tonic_prost::ProstCodec;

/// The paths of the two methods.
const UNARY_PATH: &str = "/bench.Echo/Echo";
const STREAM_PATH: &str = "/bench.Echo/EchoStream";

/// The file of the running program, even if a build has put another in its place.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// The server's limit of concurrent calls on a connection, as a real one has it.
const STREAMS_MAX: u32 = 4096;

/// Serves the echo until the process is killed.
pub(crate) async fn serve(listen: SocketAddr) -> anyhow::Result<()> {
    let mut server = tonic::transport::Server::builder().tcp_nodelay(true).max_concurrent_streams(Some(STREAMS_MAX));
    Ok(server.add_service(EchoServer).serve(listen).await?)
}

#[derive(Clone)]
struct EchoServer;

impl NamedService for EchoServer {
    const NAME: &'static str = "bench.Echo";
}

impl Service<http::Request<Body>> for EchoServer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<http::Response<Body>, Infallible>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::<PutRequest, PutRequest>::default());
            let is_stream = request.uri().path() == STREAM_PATH;
            Ok(if is_stream { grpc.streaming(Echo, request).await } else { grpc.unary(Echo, request).await })
        })
    }
}

struct Echo;

impl UnaryService<PutRequest> for Echo {
    type Response = PutRequest;
    type Future = Ready<Result<Response<PutRequest>, Status>>;

    fn call(&mut self, request: Request<PutRequest>) -> Self::Future {
        std::future::ready(Ok(Response::new(request.into_inner())))
    }
}

impl StreamingService<PutRequest> for Echo {
    type Response = PutRequest;
    type ResponseStream = Streaming<PutRequest>;
    type Future = Ready<Result<Response<Streaming<PutRequest>>, Status>>;

    fn call(&mut self, request: Request<Streaming<PutRequest>>) -> Self::Future {
        std::future::ready(Ok(Response::new(request.into_inner())))
    }
}

/// The echo server as a child process of its own, so that its CPU time can be told from the generator's.
pub(crate) struct EchoProcess {
    child: Child,
    subnet: Subnet,
}

impl EchoProcess {
    /// Starts it and waits until it listens.
    pub(crate) async fn start() -> anyhow::Result<EchoProcess> {
        let subnet = Subnet::reserve();
        let address = subnet.address(0);
        let mut command = Command::new(OWN_PROGRAM);
        command.args(["echo-server", "--listen", &address.to_string()]).stdin(Stdio::null());
        let process = EchoProcess { child: command.spawn()?, subnet };
        wait_for("the echo server listens", async || TcpStream::connect(address).await.ok()).await;
        Ok(process)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.subnet.address(0)
    }

    /// The process.
    pub(crate) fn process_id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for EchoProcess {
    fn drop(&mut self) {
        // It has no data to lose; an error means that it is gone already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The message that stands for a request.
fn message(operation: Operation) -> PutRequest {
    match operation {
        Operation::Put { key, value } | Operation::Create { key, value } | Operation::Overwrite { key, value } => {
            put_with(key, value, PutMode::Unspecified)
        }
        Operation::Get { key } => PutRequest { key, ..PutRequest::default() },
    }
}

/// The unary road.
#[derive(Clone)]
pub(crate) struct EchoCalls(client::Grpc<Channel>);

impl EchoCalls {
    pub(crate) fn new(channel: Channel) -> EchoCalls {
        EchoCalls(client::Grpc::new(channel))
    }
}

impl Calls for EchoCalls {
    async fn call(&mut self, operation: Operation) -> Result<(), Status> {
        self.0.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let codec = ProstCodec::<PutRequest, PutRequest>::default();
        let request = Request::new(message(operation));
        self.0.unary(request, PathAndQuery::from_static(UNARY_PATH), codec).await.map(drop)
    }
}

/// The stream: one message in each frame, and they come back in order.
pub(crate) struct EchoStream {
    inlet: mpsc::Sender<PutRequest>,
    outlet: Streaming<PutRequest>,
    under_way: VecDeque<u64>,
}

impl EchoStream {
    /// Opens a stream for so many messages under way.
    pub(crate) async fn open(channel: Channel, room: usize) -> anyhow::Result<EchoStream> {
        let (inlet, messages) = mpsc::channel(room);
        let mut grpc = client::Grpc::new(channel);
        grpc.ready().await?;
        let codec = ProstCodec::<PutRequest, PutRequest>::default();
        let request = Request::new(ReceiverStream::new(messages));
        let answers = grpc.streaming(request, PathAndQuery::from_static(STREAM_PATH), codec).await?;
        Ok(EchoStream { inlet, outlet: answers.into_inner(), under_way: VecDeque::new() })
    }
}

impl Frames for EchoStream {
    fn send(&mut self, requests: Vec<(u64, Operation)>) -> Result<(), Status> {
        for (tag, operation) in requests {
            self.under_way.push_back(tag);
            self.inlet.try_send(message(operation)).map_err(|error| Status::unavailable(error.to_string()))?;
        }
        Ok(())
    }

    async fn receive(&mut self) -> Result<Vec<Answer>, Status> {
        self.outlet.message().await?.ok_or_else(|| Status::unavailable("the stream ended"))?;
        let tag = self.under_way.pop_front().ok_or_else(|| Status::internal("an answer to nothing"))?;
        Ok(vec![Answer { tag, result: Ok(()) }])
    }
}
