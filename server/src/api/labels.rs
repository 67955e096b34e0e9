//! Gives the errors that the library answers with, before a service sees the call, the same form as our own.
//!
//! A request that is too large, cannot be decoded or names an unknown method is refused by tonic with a bare status. As
//! that happens before the service is called, such a request was certainly not run, and the client may know. What does
//! not even claim to be gRPC is refused in the words of HTTP: tonic would run it.
//!
//! Outside of all that is ours, tonic has a timer for each call's deadline, which ends the call with a bare status. It
//! asks the call before the timer, each time: what is answered here without waiting for anything comes first, so a
//! deadline that leaves no time is answered here.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::{Code, Status};
use tower::Service;

use super::deadline::{self, Arrival};
use super::error::{ApiError, CallKind};
use super::limits::MESSAGE_BYTES_MAX;

/// The headers of a response that ends with a status and nothing else.
const GRPC_STATUS: &str = "grpc-status";
const GRPC_STATUS_DETAILS: &str = "grpc-status-details-bin";

/// The calls whose errors say what became of a write.
const WRITES: [&str; 3] = ["/kv.v1.KvService/Put", "/kv.v1.KvService/Delete", "/admin.v1.AdminService/UpdateSettings"];

/// A gRPC service whose every error has an `ErrorInfo`.
#[derive(Clone, Debug)]
pub(super) struct Labelled<S>(pub(super) S);

impl<S: NamedService> NamedService for Labelled<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Labelled<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Unpin,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = LabelledFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let kind = if WRITES.contains(&request.uri().path()) { CallKind::Write } else { CallKind::Other };
        let headers = request.headers();
        let inner = if !is_grpc(headers) {
            Err(Refusal::NoGrpc)
        } else if deadline::is_too_short(headers) {
            Err(Refusal::TooLate)
        } else {
            Arrival::note(request.extensions_mut());
            Ok(self.0.call(request))
        };
        LabelledFuture { inner, kind }
    }
}

/// Why a call is not passed on to the service.
#[derive(Clone, Copy, Debug)]
enum Refusal {
    NoGrpc,
    TooLate,
}

impl Refusal {
    fn response(self, kind: CallKind) -> http::Response<Body> {
        match self {
            Self::NoGrpc => unsupported_media_type(),
            Self::TooLate => ApiError::DeadlineExceeded.to_status(kind).into_http(),
        }
    }
}

/// The call of a [`Labelled`] service.
#[derive(Debug)]
pub(super) struct LabelledFuture<F> {
    inner: Result<F, Refusal>,
    kind: CallKind,
}

impl<F> Future for LabelledFuture<F>
where
    F: Future<Output = Result<http::Response<Body>, Infallible>> + Unpin,
{
    type Output = Result<http::Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let kind = self.kind;
        let inner = match &mut self.inner {
            Ok(inner) => inner,
            Err(refusal) => return Poll::Ready(Ok(refusal.response(kind))),
        };
        let response = std::task::ready!(Pin::new(inner).poll(context))?;
        Poll::Ready(Ok(label(response, kind)))
    }
}

/// Whether a request says that it is gRPC, of whatever encoding (gRPC over HTTP/2, "Requests").
fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let rest = content_type.strip_prefix("application/grpc");
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';']))
}

fn unsupported_media_type() -> http::Response<Body> {
    let mut response = http::Response::new(Body::empty());
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response
}

fn label(mut response: http::Response<Body>, kind: CallKind) -> http::Response<Body> {
    let headers = response.headers();
    if !headers.contains_key(GRPC_STATUS) || headers.contains_key(GRPC_STATUS_DETAILS) {
        return response;
    }
    if let Some(status) = Status::from_header_map(headers)
        && let Some(error) = library_error(&status)
    {
        overwrite(response.headers_mut(), &error.to_status(kind));
    }
    response
}

/// Which of our errors a status of the library's is, if it is one that a client's request leads to.
pub(super) fn library_error(status: &Status) -> Option<ApiError> {
    let cause = status.message().to_owned();
    match status.code() {
        Code::OutOfRange => Some(ApiError::MessageTooLarge { limit_bytes: MESSAGE_BYTES_MAX, cause }),
        // Bytes that are no message, a frame that ends early, a flag that is none.
        Code::Internal => Some(ApiError::Malformed { cause }),
        Code::Unimplemented if cause.is_empty() => Some(ApiError::Unsupported { cause: "no such method".to_owned() }),
        Code::Unimplemented => Some(ApiError::Unsupported { cause }),
        // What is left tells of a connection that broke: nobody is there to read it.
        _ => None,
    }
}

/// Replaces the status in `headers`, and leaves the others, such as the encodings that are supported.
fn overwrite(headers: &mut HeaderMap, status: &Status) {
    let mut labelled = HeaderMap::new();
    // It cannot fail, as our statuses hold only what headers can; if it did, the bare status would stay.
    if status.add_header(&mut labelled).is_ok() {
        for (name, value) in &labelled {
            headers.insert(name.clone(), value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::limits::RETRY_SOON;
    use std::task::Waker;
    use tonic_types::StatusExt as _;

    fn labelled(status: Status, kind: CallKind) -> Status {
        let response = label(status.into_http(), kind);
        Status::from_header_map(response.headers()).expect("a status")
    }

    #[test]
    fn what_the_library_refuses_is_labelled() {
        for (status, code, reason) in [
            (Status::out_of_range("too large"), Code::InvalidArgument, "MESSAGE_TOO_LARGE"),
            (Status::internal("invalid wire type"), Code::InvalidArgument, "MESSAGE_MALFORMED"),
            (Status::unimplemented(""), Code::Unimplemented, "UNSUPPORTED"),
        ] {
            let status = labelled(status, CallKind::Write);
            let info = status.get_details_error_info().expect("labelled");
            assert_eq!((status.code(), info.reason.as_str()), (code, reason));
            assert_eq!(info.metadata.get("outcome").map(String::as_str), Some("NOT_APPLIED"));
            assert!(status.metadata().contains_key("kv-outcome"));
        }
    }

    #[test]
    fn a_deadline_that_leaves_no_time_is_answered_when_the_call_is_first_asked() {
        let silent = |_: http::Request<Body>| std::future::pending::<Result<http::Response<Body>, Infallible>>();
        let mut service = Labelled(tower::service_fn(silent));
        let mut first_asked = |timeout| {
            let request = http::Request::post(WRITES[0]).header(CONTENT_TYPE, "application/grpc");
            let request = request.header("grpc-timeout", timeout).body(Body::empty()).expect("a request");
            Pin::new(&mut service.call(request)).poll(&mut Context::from_waker(Waker::noop()))
        };
        for timeout in ["0m", "1n", "1m"] {
            let Poll::Ready(Ok(response)) = first_asked(timeout) else { panic!("{timeout}: it is not answered") };
            let status = Status::from_header_map(response.headers()).expect("a status");
            let info = status.get_details_error_info().expect("labelled");
            assert_eq!((status.code(), &info.reason[..]), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"), "{timeout}");
            assert_eq!(info.metadata.get("outcome").map(String::as_str), Some("NOT_APPLIED"), "{timeout}");
        }
        assert!(first_asked("2m").is_pending());
    }

    #[test]
    fn a_request_says_that_it_is_grpc() {
        let says = |content_type: &'static str| {
            is_grpc(&HeaderMap::from_iter([(CONTENT_TYPE, http::HeaderValue::from_static(content_type))]))
        };
        for content_type in ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"] {
            assert!(says(content_type), "{content_type}");
        }
        for content_type in ["", "application/json", "application/grpc-web", "text/plain"] {
            assert!(!says(content_type), "{content_type}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn other_headers_stay() {
        let mut status = Status::unimplemented("Content is compressed with `gzip` which isn't supported");
        status.metadata_mut().insert("grpc-accept-encoding", "identity".parse().expect("ASCII"));
        let status = labelled(status, CallKind::Other);
        assert!(status.message().contains("gzip"));
        assert!(status.metadata().contains_key("grpc-accept-encoding"));
        assert!(!status.metadata().contains_key("kv-outcome"));
    }

    #[test]
    fn our_own_errors_and_other_responses_pass_unchanged() {
        let overloaded = ApiError::Overloaded { retry_after: RETRY_SOON };
        let own = overloaded.to_status(CallKind::Write);
        let passed = labelled(overloaded.to_status(CallKind::Write), CallKind::Write);
        assert_eq!((passed.code(), passed.details()), (own.code(), own.details()));
        assert_eq!(labelled(Status::unavailable("gone"), CallKind::Write).details(), b"");
        let response = label(http::Response::new(Body::empty()), CallKind::Write);
        assert!(response.headers().is_empty());
    }
}
