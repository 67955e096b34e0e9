//! The bare tonic echo: a unary call that returns its message, without any work. What gRPC alone costs on this machine,
//! so that nothing unary can be faster.

use crate::{
    Options,
    system::{Boxed, Started, System},
    workload::Workload,
};
use proto::kv::v1::PutRequest;
use std::{
    convert::Infallible,
    future::Ready,
    net::SocketAddr,
    process::{Child, Command, Stdio},
    task::{Context, Poll},
};
use tests::{loopback::Subnet, wait::wait_for};
use tokio::net::TcpStream;
use tonic::{
    Request, Response, Status,
    body::Body,
    codegen::{BoxFuture, Service, http},
    server::{Grpc, NamedService, UnaryService},
};
use tonic_prost::ProstCodec;

/// The path of the one method.
pub(crate) const PATH: &str = "/bench.Echo/Echo";

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
            Ok(grpc.unary(EchoMethod, request).await)
        })
    }
}

struct EchoMethod;

impl UnaryService<PutRequest> for EchoMethod {
    type Response = PutRequest;
    type Future = Ready<Result<Response<PutRequest>, Status>>;

    fn call(&mut self, request: Request<PutRequest>) -> Self::Future {
        std::future::ready(Ok(Response::new(request.into_inner())))
    }
}

/// The echo server as a child process of its own, so that its CPU time can be told from the generator's.
#[derive(Default)]
pub(crate) struct Echo {
    running: Option<(Child, Subnet)>,
}

impl System for Echo {
    fn name(&self) -> &'static str {
        "tonic echo"
    }

    fn workloads(&self) -> &'static [Workload] {
        &[Workload::Echo]
    }

    fn start<'a>(&'a mut self, _options: &'a Options) -> Boxed<'a, anyhow::Result<Started>> {
        Box::pin(async move {
            let subnet = Subnet::reserve();
            let address = subnet.address(0);
            let mut command = Command::new(OWN_PROGRAM);
            command.args(["echo-server", "--listen", &address.to_string()]).stdin(Stdio::null());
            let child = command.spawn()?;
            let process_ids = vec![child.id()];
            self.running = Some((child, subnet));
            wait_for("the echo server listens", async || TcpStream::connect(address).await.ok()).await;
            Ok(Started { address, process_ids, data: None })
        })
    }

    fn stop(&mut self) {
        if let Some((mut child, _subnet)) = self.running.take() {
            // It has no data to lose; an error means that it is gone already.
            child.kill().ok();
            child.wait().ok();
        }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop();
    }
}
