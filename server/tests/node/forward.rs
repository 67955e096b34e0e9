//! Forwarding: whether a request was certainly not run, was answered, or may have been run.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use proto::admin::v1::{GetReportRequest, GetReportResponse, GetTraceRequest};
use proto::raft::v1::inspect_request::Question;
use proto::raft::v1::inspect_response::Answer;
use proto::raft::v1::raft_service_client::RaftServiceClient;
use proto::raft::v1::{ForwardRequest, ForwardResponse, InspectRequest, InspectResponse};
use quorate_server::forward::{ForwardError, ForwardTarget, Forwarder as _};
use quorate_server::telemetry::TraceContext;
use quorate_server::transport::{PeerAddress, PeerForwarder, REFUSED_KEY};
use tokio::sync::watch;
use tonic::{Code, Status};

use crate::member::{PATIENCE, in_time, listen, listen_again, runtime, serve};
use crate::streams::{Side, cluster, introduced, member};

/// How many requests ask to hang, or did.
static HANGING: LazyLock<watch::Sender<usize>> = LazyLock::new(|| watch::Sender::new(0));

/// Does what the request says, in the place of the name of who forwards.
pub(crate) struct Target;

#[tonic::async_trait]
impl ForwardTarget for Target {
    async fn run_forwarded(
        &self,
        request: ForwardRequest,
        _deadline: Instant,
        _trace: Option<TraceContext>,
    ) -> Result<ForwardResponse, Status> {
        match request.from.as_str() {
            "answer" => Ok(ForwardResponse::default()),
            "own error" => Err(Status::with_details(Code::NotFound, "no such key", b"details"[..].into())),
            "library's error" => Err(Status::unavailable("who knows")),
            _ => {
                HANGING.send_modify(|hanging| *hanging += 1);
                std::future::pending().await
            }
        }
    }

    async fn inspect(&self, request: InspectRequest) -> Result<InspectResponse, Status> {
        match request.question {
            Some(Question::Report(_)) => {
                let report = GetReportResponse { process: 7, ..GetReportResponse::default() };
                Ok(InspectResponse { answer: Some(Answer::Report(Box::new(report))) })
            }
            Some(Question::Trace(_)) => std::future::pending().await,
            None => Err(Status::invalid_argument("nothing is asked")),
        }
    }
}

fn ask(what: &str) -> ForwardRequest {
    ForwardRequest { from: what.to_owned(), relay: false, question: false, request: None }
}

/// Forwards a request with a deadline that is not meant to pass.
async fn forward(forwarder: &PeerForwarder, to: &str, what: &str) -> Result<ForwardResponse, ForwardError> {
    in_time("the answer", forwarder.forward(to, ask(what), Instant::now() + 2 * PATIENCE, None)).await
}

fn joined(address: &str) -> PeerForwarder {
    let forwarder = PeerForwarder::new();
    let peer = PeerAddress { member: member("n2", 2), address: address.to_owned() };
    forwarder.join(&cluster(), member("n1", 1).incarnation, vec![peer]);
    forwarder
}

#[tokio::test]
async fn what_was_not_sent_was_not_run() {
    let (listener, address) = listen();
    let unknown = forward(&PeerForwarder::new(), "n2", "answer").await;
    assert!(matches!(unknown, Err(ForwardError::NotSent { .. })), "{unknown:?}");
    let forwarder = joined(&address);
    let stranger = forward(&forwarder, "n3", "answer").await;
    assert!(matches!(stranger, Err(ForwardError::NotSent { .. })), "{stranger:?}");

    drop(listener);
    let nobody = forward(&forwarder, "n2", "answer").await;
    assert!(matches!(&nobody, Err(ForwardError::NotSent { cause, .. }) if cause.contains("refused")), "{nobody:?}");

    let runtime = runtime();
    let side = Side::new(member("n2", 2), &member("n1", 1));
    serve(&runtime, listen_again(&address).await, side.service.clone());
    let early = forward(&forwarder, "n2", "answer").await;
    assert!(matches!(&early, Err(ForwardError::NotSent { cause, .. }) if cause.contains("not a member")), "{early:?}");
    let _side = side.join();
    forward(&forwarder, "n2", "answer").await.expect("now it is one");
    runtime.shutdown_background();
}

#[tokio::test]
async fn an_answer_with_details_is_the_leaders_and_any_other_is_nobodys() {
    let (listener, address) = listen();
    let runtime = runtime();
    let side = Side::new(member("n2", 2), &member("n1", 1)).join();
    serve(&runtime, listener, side.service.clone());
    let forwarder = joined(&address);
    forward(&forwarder, "n2", "answer").await.expect("it answers");
    match forward(&forwarder, "n2", "own error").await {
        Err(ForwardError::Answered(status)) => {
            assert_eq!((status.code(), status.message()), (Code::NotFound, "no such key"))
        }
        other => panic!("the leader answered: {other:?}"),
    }
    let other = forward(&forwarder, "n2", "library's error").await;
    assert!(matches!(other, Err(ForwardError::Lost { deadline_exceeded: false, .. })), "{other:?}");
    forward(&forwarder, "n2", "answer").await.expect("it still answers");
    runtime.shutdown_background();
}

#[tokio::test]
async fn what_was_sent_and_not_answered_is_lost() {
    let (listener, address) = listen();
    let first = runtime();
    let side = Side::new(member("n2", 2), &member("n1", 1)).join();
    serve(&first, listener, side.service.clone());
    let forwarder = joined(&address);

    let deadline = Instant::now() + Duration::from_millis(200);
    let late = in_time("the deadline", forwarder.forward("n2", ask("hang"), deadline, None)).await;
    match late {
        Err(ForwardError::Lost { deadline_exceeded: true, .. }) => {}
        // The machine was busy elsewhere for so long.
        Err(ForwardError::NotSent { cause, .. }) => assert!(cause.contains("in time"), "{cause}"),
        other => panic!("it hangs: {other:?}"),
    }

    let mut hanging = HANGING.subscribe();
    let before = *hanging.borrow_and_update();
    let requests: Vec<_> = (0..8)
        .map(|_| {
            let forwarder = forwarder.clone();
            tokio::spawn(async move { forward(&forwarder, "n2", "hang").await })
        })
        .collect();
    in_time("all to hang", hanging.wait_for(|hanging| *hanging >= before + 8)).await.expect("it counts");
    first.shutdown_background();
    for request in requests {
        let killed = in_time("the end", request).await.expect("it does not panic");
        assert!(matches!(killed, Err(ForwardError::Lost { deadline_exceeded: false, .. })), "{killed:?}");
    }

    let second = runtime();
    let side = Side::new(member("n2", 2), &member("n1", 1)).join();
    serve(&second, listen_again(&address).await, side.service.clone());
    forward(&forwarder, "n2", "answer").await.expect("it is connected anew");
    second.shutdown_background();
}

#[tokio::test]
async fn a_deadline_that_is_none_is_refused_before_anything_is_run() {
    let (listener, address) = listen();
    let runtime = runtime();
    let side = Side::new(member("n2", 2), &member("n1", 1)).join();
    serve(&runtime, listener, side.service.clone());
    let mut client = RaftServiceClient::connect(format!("http://{address}")).await.expect("it listens");
    let who = (u128::from_be_bytes(cluster().id()), 1, 2);
    let mut request = introduced(ask("answer"), who);
    request.metadata_mut().insert("grpc-timeout", "soon".parse().expect("ASCII"));
    let status = client.forward(request).await.expect_err("it is refused");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.metadata().contains_key(REFUSED_KEY));
    client.forward(introduced(ask("answer"), who)).await.expect("none is no error");
    runtime.shutdown_background();
}

#[tokio::test]
async fn a_member_is_asked_about_itself_and_waited_for_no_longer_than_wanted() {
    let (listener, address) = listen();
    let runtime = runtime();
    let side = Side::new(member("n2", 2), &member("n1", 1)).join();
    serve(&runtime, listener, side.service.clone());
    let forwarder = joined(&address);
    let inspect = async |question, wait| {
        let asked = forwarder.inspect("n2", InspectRequest { question }, Instant::now() + wait);
        in_time("the answer", asked).await
    };
    let told = inspect(Some(Question::Report(GetReportRequest::default())), 2 * PATIENCE).await.expect("it tells");
    assert!(matches!(told.answer, Some(Answer::Report(report)) if report.process == 7));
    let nothing = inspect(None, 2 * PATIENCE).await;
    assert!(
        matches!(&nothing, Err(ForwardError::Lost { cause, .. }) if cause.contains("nothing is asked")),
        "{nothing:?}"
    );
    let hangs = inspect(Some(Question::Trace(GetTraceRequest::default())), Duration::from_millis(50)).await;
    assert!(matches!(hangs, Err(ForwardError::Lost { deadline_exceeded: true, .. })), "{hangs:?}");
    runtime.shutdown_background();
}
