//! gRPC calls without a gRPC library: what no client library lets one send, and the answer as it came.
//!
//! A library has an opinion of its own on deadlines, lengths and encodings, and acts on it before the server can.

use crate::wait::BOUND;
use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::{self, SendRequest};
use http::{HeaderMap, Request, StatusCode};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tonic::Status;

/// How large the server may make its headers: an answer may name a key of a kibibyte more than once.
const HEADER_LIST_BYTES_MAX: u32 = 1 << 20;

/// A connection to a node on which calls follow each other.
#[derive(Debug)]
pub struct Connection {
    address: SocketAddr,
    sender: SendRequest<Bytes>,
}

/// What came back.
#[derive(Debug)]
pub enum Answer {
    /// A gRPC status, which may be OK, and what was sent before it.
    Status(Status, Bytes),
    /// Something that is no gRPC: the status of HTTP.
    Http(StatusCode),
    /// The stream or the connection was reset.
    Reset,
}

/// A message as gRPC frames it: not compressed, its length, its bytes.
pub fn frame(message: &[u8]) -> Bytes {
    flagged_frame(0, message)
}

/// The same, with another byte for the compression.
pub fn flagged_frame(flag: u8, message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(flag);
    frame.put_u32(u32::try_from(message.len()).expect("a test's message has less than 4 GiB"));
    frame.put_slice(message);
    frame.freeze()
}

impl Connection {
    /// Connects to a node.
    pub async fn open(address: SocketAddr) -> Connection {
        let stream = TcpStream::connect(address).await.expect("the node listens");
        // Else each small frame waits for the acknowledgement of the one before it.
        stream.set_nodelay(true).expect("a connection has this option");
        let mut builder = client::Builder::new();
        builder.max_header_list_size(HEADER_LIST_BYTES_MAX).initial_window_size(1 << 20);
        let (sender, connection) = builder.handshake(stream).await.expect("the node speaks HTTP/2");
        // It ends with the connection; an error shows in the calls.
        tokio::spawn(async { connection.await.ok() });
        Connection { address, sender }
    }

    /// Posts `body` to `path` with these headers and no others, and waits for the answer. A connection that the server
    /// closes is opened anew.
    pub async fn call(&mut self, path: &str, headers: &[(&str, &str)], body: Bytes) -> Answer {
        self.call_late(path, headers, body, Duration::ZERO).await
    }

    /// The same, with a body that comes `late` after its head.
    pub async fn call_late(&mut self, path: &str, headers: &[(&str, &str)], body: Bytes, late: Duration) -> Answer {
        match tokio::time::timeout(BOUND, self.exchange(path, headers, body, late)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => {
                *self = Connection::open(self.address).await;
                Answer::Reset
            }
            Err(_) => panic!("{path} was not answered within {BOUND:?}"),
        }
    }

    async fn exchange(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
        late: Duration,
    ) -> Result<Answer, h2::Error> {
        let mut request = Request::post(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).expect("a test's headers are well-formed");
        let mut sender = self.sender.clone().ready().await?;
        let (response, stream) = sender.send_request(request, false)?;
        // The server may have answered, and reset the stream, before it has read everything.
        let upload = tokio::spawn(upload(stream, body, late));
        let answer = read(response).await;
        upload.abort();
        answer
    }
}

/// Sends a body in pieces, as the server makes room.
async fn upload(mut stream: h2::SendStream<Bytes>, mut body: Bytes, late: Duration) -> Result<(), h2::Error> {
    if !late.is_zero() {
        tokio::time::sleep(late).await;
    }
    while !body.is_empty() {
        stream.reserve_capacity(body.len());
        let Some(room) = std::future::poll_fn(|context| stream.poll_capacity(context)).await else { return Ok(()) };
        let piece = body.split_to(room?.min(body.len()));
        stream.send_data(piece, false)?;
    }
    stream.send_data(Bytes::new(), true)
}

async fn read(response: client::ResponseFuture) -> Result<Answer, h2::Error> {
    let (head, mut body) = response.await?.into_parts();
    if head.status != StatusCode::OK {
        return Ok(Answer::Http(head.status));
    }
    if let Some(status) = status_of(&head.headers) {
        return Ok(Answer::Status(status, Bytes::new()));
    }
    let mut bytes = BytesMut::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        bytes.extend_from_slice(&piece);
    }
    let trailers = body.trailers().await?.unwrap_or_default();
    let status = status_of(&trailers).unwrap_or_else(|| Status::unknown("the answer has no status"));
    Ok(Answer::Status(status, bytes.freeze()))
}

fn status_of(headers: &HeaderMap) -> Option<Status> {
    Status::from_header_map(headers)
}

/// The headers that every gRPC call has.
pub const HEADERS: [(&str, &str); 2] = [("content-type", "application/grpc"), ("te", "trailers")];
