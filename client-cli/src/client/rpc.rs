//! The calls of a client, and the proof that a request has not left.
//!
//! Whether a failed call may have reached a server decides whether a write may be repeated, and the library's errors do
//! not tell: the same status stands for a connection that could not be opened and for one that broke. So the request
//! itself is watched. A connection encodes the message only when it is about to write it; as long as that has not
//! happened, no server can act on the call, and the client can [`withdraw`](Progress::withdraw) it for good.
//!
//! The requests of the hot path also travel many at a time on one stream ([`Rpc::to_pipelined`]); what carries an
//! attempt is decided in `attempt`, and nothing above knows.

use proto::{
    admin::v1 as admin,
    kv::v1::{self as kv, get_outcome_response::Outcome, pipelined_request, pipelined_response},
};
use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};
use tonic::{
    Request, Response, Status,
    client::Grpc,
    codec::{BufferSettings, Codec, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    transport::Channel,
};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// What a second execution of a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeats {
    /// No harm: a read.
    Freely,
    /// Nothing, as long as it has the same name: a write.
    ByName,
    /// Harm, perhaps.
    Never,
}

/// A call, named by its request.
pub(crate) trait Rpc: prost::Message + Clone + Sync + 'static {
    /// The response.
    type Answer: prost::Message + Default + 'static;

    /// The path without its leading slash, as OpenTelemetry wants a method named.
    const METHOD: &'static str;

    /// The path.
    const PATH: &'static str;

    /// What a second execution does.
    const REPEATS: Repeats;

    /// Whether a second copy is sent when the first is slow.
    const HEDGED: bool = false;

    /// Whether it may travel on a stream of many.
    const PIPELINED: bool = false;

    /// The request as it travels there.
    fn to_pipelined(self) -> Option<pipelined_request::Request> {
        None
    }

    /// The answer as it comes back from there; none if it is one to something else.
    fn from_pipelined(_response: pipelined_response::Response) -> Option<Self::Answer> {
        None
    }

    /// Whether the leader is the best one to ask.
    fn is_for_leader(&self) -> bool {
        true
    }

    /// The key that the request is about.
    fn key(&self) -> Option<&str> {
        None
    }

    /// Gives a write its name.
    fn set_name(&mut self, _name: kv::RequestId) {}

    /// The replicated time that the answer tells.
    fn time_ms(_answer: &Self::Answer) -> Option<u64> {
        None
    }

    /// The revision of the store that the answer tells of.
    fn revision(_answer: &Self::Answer) -> Option<u64> {
        None
    }
}

macro_rules! rpc {
    ($request:ty, $answer:ty, $method:literal, $repeats:ident { $($more:tt)* }) => {
        impl Rpc for $request {
            type Answer = $answer;
            const METHOD: &'static str = $method;
            const PATH: &'static str = concat!("/", $method);
            const REPEATS: Repeats = Repeats::$repeats;
            $($more)*
        }
    };
}

macro_rules! keyed {
    () => {
        fn key(&self) -> Option<&str> {
            Some(&self.key)
        }
    };
}

macro_rules! named {
    () => {
        fn set_name(&mut self, name: kv::RequestId) {
            self.request_id = Some(name);
        }
    };
}

macro_rules! timed {
    () => {
        fn time_ms(answer: &Self::Answer) -> Option<u64> {
            Some(answer.time_ms)
        }
    };
}

macro_rules! revised {
    () => {
        fn revision(answer: &Self::Answer) -> Option<u64> {
            Some(answer.revision)
        }
    };
}

macro_rules! pipelined {
    ($variant:ident) => {
        const PIPELINED: bool = true;

        fn to_pipelined(self) -> Option<pipelined_request::Request> {
            Some(pipelined_request::Request::$variant(self))
        }

        fn from_pipelined(response: pipelined_response::Response) -> Option<Self::Answer> {
            match response {
                pipelined_response::Response::$variant(answer) => Some(answer),
                _ => None,
            }
        }
    };
}

rpc!(kv::PutRequest, kv::PutResponse, "kv.v1.KvService/Put", ByName {
    pipelined!(Put);
    keyed!();
    named!();
    timed!();
    revised!();
});
rpc!(kv::GetRequest, kv::GetResponse, "kv.v1.KvService/Get", Freely {
    const HEDGED: bool = true;

    fn is_for_leader(&self) -> bool {
        !matches!(self.consistency(), kv::Consistency::Quorum | kv::Consistency::Stale)
    }

    pipelined!(Get);
    keyed!();
    timed!();
    revised!();
});
rpc!(kv::DeleteRequest, kv::DeleteResponse, "kv.v1.KvService/Delete", ByName {
    pipelined!(Delete);
    keyed!();
    named!();
    timed!();
    revised!();
});
rpc!(kv::GetOutcomeRequest, kv::GetOutcomeResponse, "kv.v1.KvService/GetOutcome", Freely {
    pipelined!(GetOutcome);
    timed!();

    fn revision(answer: &kv::GetOutcomeResponse) -> Option<u64> {
        match answer.outcome.as_ref()? {
            Outcome::Put(put) => Some(put.revision),
            Outcome::Delete(delete) => Some(delete.revision),
            // Of the key, when it was refused; zero for none.
            Outcome::Rejected(rejected) => Some(rejected.revision),
            Outcome::Configured(_) | Outcome::NeverApplied(_) | Outcome::Forgotten(_) => None,
        }
    }
});
rpc!(admin::StatusRequest, admin::StatusResponse, "admin.v1.AdminService/Status", Freely { timed!(); });
rpc!(admin::ListMembersRequest, admin::ListMembersResponse, "admin.v1.AdminService/ListMembers", Freely {});
rpc!(admin::GetTraceRequest, admin::GetTraceResponse, "admin.v1.AdminService/GetTrace", Freely {});
rpc!(
    admin::ListSlowRequestsRequest,
    admin::ListSlowRequestsResponse,
    "admin.v1.AdminService/ListSlowRequests",
    Freely {}
);
rpc!(admin::GetLogFilterRequest, admin::GetLogFilterResponse, "admin.v1.AdminService/GetLogFilter", Freely {});
rpc!(admin::UpdateLogFilterRequest, admin::UpdateLogFilterResponse, "admin.v1.AdminService/UpdateLogFilter", Freely {});
rpc!(admin::UpdateSettingsRequest, admin::UpdateSettingsResponse, "admin.v1.AdminService/UpdateSettings", ByName {
    named!();
    timed!();
});
rpc!(
    admin::TransferLeadershipRequest,
    admin::TransferLeadershipResponse,
    "admin.v1.AdminService/TransferLeadership",
    Never {}
);

/// Makes one call. `progress` tells, also if this future is dropped, whether the message may have left.
pub(crate) async fn call<R: Rpc>(
    channel: Channel,
    request: Request<R>,
    progress: Progress,
) -> Result<Response<R::Answer>, Status> {
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
    grpc.unary(request, PathAndQuery::from_static(R::PATH), Watched { progress, codec: ProstCodec::new() }).await
}

const HELD: u8 = 0;
const LEFT: u8 = 1;
const WITHDRAWN: u8 = 2;

/// How far a request got: held, then either left (perhaps) or withdrawn (certainly not sent). It changes once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress(Arc<AtomicU8>);

impl Progress {
    /// Keeps a request from leaving if it has not. True if it never will have.
    pub(crate) fn withdraw(&self) -> bool {
        self.settle(WITHDRAWN) == WITHDRAWN
    }

    /// Withdraws the request when the returned guard is dropped.
    pub(crate) fn withdraw_on_drop(&self) -> Withdrawal {
        Withdrawal(self.clone())
    }

    fn settle(&self, wanted: u8) -> u8 {
        // A request's worker may run on another thread: only one side wins the exchange.
        self.0.compare_exchange(HELD, wanted, Ordering::SeqCst, Ordering::SeqCst).map_or_else(|found| found, |_| wanted)
    }
}

/// See [`Progress::withdraw_on_drop`].
pub(crate) struct Withdrawal(Progress);

impl Drop for Withdrawal {
    fn drop(&mut self) {
        self.0.withdraw();
    }
}

/// The Protobuf codec with a gate before it.
struct Watched<R, A> {
    progress: Progress,
    codec: ProstCodec<R, A>,
}

/// See [`Watched`].
struct WatchedEncoder<R> {
    progress: Progress,
    encoder: ProstEncoder<R>,
}

impl<R, A> Codec for Watched<R, A>
where
    R: prost::Message + 'static,
    A: prost::Message + Default + 'static,
{
    type Encode = R;
    type Decode = A;
    type Encoder = WatchedEncoder<R>;
    type Decoder = ProstDecoder<A>;

    fn encoder(&mut self) -> WatchedEncoder<R> {
        WatchedEncoder { progress: self.progress.clone(), encoder: self.codec.encoder() }
    }

    fn decoder(&mut self) -> ProstDecoder<A> {
        self.codec.decoder()
    }
}

impl<R: prost::Message> Encoder for WatchedEncoder<R> {
    type Item = R;
    type Error = Status;

    fn encode(&mut self, message: R, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        match self.progress.settle(LEFT) {
            LEFT => self.encoder.encode(message, buffer),
            _ => Err(Status::cancelled("the request was withdrawn before it left")),
        }
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.encoder.buffer_settings()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_was_dropped_before_it_left_never_leaves() {
        let held = Progress::default();
        drop(held.withdraw_on_drop());
        assert_eq!(held.settle(LEFT), WITHDRAWN);
        let sent = Progress::default();
        assert_eq!(sent.settle(LEFT), LEFT);
        drop(sent.withdraw_on_drop());
        assert!(!sent.withdraw(), "what has left has left");
    }
}
