//! What a node tells over HTTP. The probes, for those who cannot ask over gRPC: `/livez` and `/readyz` answer 200 or
//! 503 and one line. The metrics, for those who collect them: `/metrics`, in the format that is asked for. And, for
//! those who look, the status page (`page`).

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::routing::get;
use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};

use super::health::Probes;
use super::limits::{PROBE_CONNECTION_AGE_MAX, PROBE_CONNECTIONS_MAX};
use crate::telemetry::{Metrics, TextFormat};

/// What is told over HTTP.
pub struct HttpParts {
    pub(super) probes: Probes,
    pub(super) metrics: Arc<Metrics>,
    /// The routes of the status page.
    pub(super) page: Router,
}

/// Serves `parts` on `listener` until `shutdown` is done.
///
/// # Errors
///
/// The listener failed.
pub async fn serve<F>(listener: TcpListener, parts: HttpParts, shutdown: F) -> io::Result<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let HttpParts { probes, metrics, page } = parts;
    let router = Router::new()
        .route("/livez", get(async |State(probes): State<Probes>| answer(probes.liveness())))
        .route("/readyz", get(async |State(probes): State<Probes>| answer(probes.readiness())))
        .with_state(probes)
        .route("/metrics", get(async move |headers: HeaderMap| tell(metrics, &headers).await))
        .merge(page);
    let places = Arc::new(Semaphore::new(PROBE_CONNECTIONS_MAX));
    axum::serve(Bounded { listener, places }, router).with_graceful_shutdown(shutdown).await
}

/// The metrics in the format that the request accepts.
async fn tell(metrics: Arc<Metrics>, headers: &HeaderMap) -> ([(HeaderName, &'static str); 1], String) {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let format = TextFormat::accepted(accept);
    // The figures of the process are the system's to tell, and writing takes a while: not on the loop's thread.
    let text = tokio::task::spawn_blocking(move || metrics.text(format)).await;
    ([(CONTENT_TYPE, format.content_type())], text.expect("reading and writing figures does not panic"))
}

fn answer(state: Result<(), String>) -> (StatusCode, String) {
    match state {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

/// A listener of which nobody can take more than its part, with many connections or with slow ones.
struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

impl Listener for Bounded {
    type Io = Brief;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Brief, SocketAddr) {
        let place = Arc::clone(&self.places).acquire_owned().await.expect("the semaphore is never closed");
        let (stream, address) = Listener::accept(&mut self.listener).await;
        (Brief { stream, end: Box::pin(sleep(PROBE_CONNECTION_AGE_MAX)), _place: place }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that ends after a while, whatever its client does.
struct Brief {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl Brief {
    fn poll_end(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.end.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Brief {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_end(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Brief {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_end(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_end(context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Drain;
    use crate::node::NodeStatus;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::{oneshot, watch};

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let mut response = String::new();
        stream.read_to_string(&mut response).await.expect("it answers and closes");
        response
    }

    async fn probe(address: SocketAddr, path: &str) -> (String, String) {
        let response = ask(address, &format!("GET {path} HTTP/1.1\r\nHost: n1\r\nConnection: close\r\n\r\n")).await;
        let status = response.split(' ').nth(1).expect("a status line").to_owned();
        let body = response.split("\r\n\r\n").nth(1).expect("a body").to_owned();
        (status, body)
    }

    #[tokio::test]
    async fn probes_are_answered_by_status_and_reason() {
        let (sender, status) = watch::channel(NodeStatus::default());
        let probes = Probes::new(status, Drain::new(), Vec::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (stop, stopped) = oneshot::channel::<()>();
        let parts = HttpParts { probes, metrics: Arc::default(), page: Router::new() };
        let server = tokio::spawn(serve(listener, parts, async { drop(stopped.await) }));

        assert_eq!(probe(address, "/livez").await, ("200".to_owned(), "ok\n".to_owned()));
        assert_eq!(probe(address, "/readyz").await, ("200".to_owned(), "ok\n".to_owned()));
        sender.send_replace(NodeStatus { not_ready: Some("catching up".to_owned()), ..NodeStatus::default() });
        assert_eq!(probe(address, "/livez").await.0, "200");
        assert_eq!(probe(address, "/readyz").await, ("503".to_owned(), "catching up\n".to_owned()));
        assert_eq!(probe(address, "/secret").await.0, "404");
        let metrics = ask(address, "GET /metrics HTTP/1.1\r\nHost: n1\r\nConnection: close\r\n\r\n").await;
        assert!(metrics.contains(TextFormat::Classic.content_type()) && !metrics.contains("# EOF"), "{metrics}");
        let accept = "Accept: application/openmetrics-text\r\nConnection: close";
        let metrics = ask(address, &format!("GET /metrics HTTP/1.1\r\nHost: n1\r\n{accept}\r\n\r\n")).await;
        assert!(metrics.contains(TextFormat::OpenMetrics.content_type()) && metrics.ends_with("# EOF\n"), "{metrics}");
        assert!(ask(address, "\u{0}\u{1} random bytes \r\n\r\n").await.starts_with("HTTP/1.1 400"));
        assert_eq!(probe(address, "/livez").await.0, "200");

        stop.send(()).expect("the server runs");
        server.await.expect("no panic").expect("no error");
    }
}
