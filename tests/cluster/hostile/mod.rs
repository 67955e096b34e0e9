//! Nonsense from the network. Each case ends in a typed error or in a drop that is counted, changes nothing, and the
//! node goes on.

mod peers;
mod reads;
mod requests;
mod transport;

use bytes::{Buf as _, BufMut as _, Bytes};
use proto::admin::v1::StatusResponse;
use tests::{cluster::Cluster, rpc, wait::wait_for};
use tonic::{
    Request, Response, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};

/// How far the term may rise in a test: an election or two on a loaded machine, but never to what a forged message
/// says.
const TERMS_MAX: u64 = 100;

/// A cluster with some content, one of whose nodes is attacked.
struct Victim {
    cluster: Cluster,
    leader: usize,
    /// The attacked node: a follower, so that its way to the leader is attacked as well.
    number: usize,
    process_ids: Vec<u32>,
    before: StatusResponse,
}

impl Victim {
    async fn start() -> Victim {
        let cluster = Cluster::of_three().await;
        cluster.put(0, "kept", "value").await.expect("the key is new");
        let leader = cluster.leader().await;
        let number = cluster.others(leader)[0];
        cluster.converged().await;
        let process_ids = cluster.nodes.iter().map(tests::node::Node::process_id).collect();
        let before = rpc::status(&cluster.nodes[number].channel()).await.expect("the node answers");
        Victim { cluster, leader, number, process_ids, before }
    }

    fn channel(&self) -> Channel {
        self.cluster.nodes[self.number].channel()
    }

    /// How many peer messages the attacked node has dropped.
    async fn dropped(&self) -> u64 {
        let status = rpc::status(&self.channel()).await.expect("the node answers");
        status.dropped_messages.values().sum()
    }

    /// Panics unless the state is what it was, the same processes run, and the attacked node serves reads and writes.
    async fn goes_on(mut self) {
        let after = rpc::status(&self.channel()).await.expect("the node answers");
        // A command that the store rejects is applied all the same, and the replicated time goes on with it.
        if after.applied_index == self.before.applied_index {
            assert_eq!(after.state_hash, self.before.state_hash, "the state has changed");
        }
        assert!(
            after.term < self.before.term + TERMS_MAX,
            "the term jumped from {} to {}",
            self.before.term,
            after.term
        );

        assert_eq!(self.cluster.get(self.number, "kept").await.expect("the node serves"), "value");
        let put = wait_for("the node takes a put", async || self.cluster.put(self.number, "new", "v").await.ok()).await;
        assert_eq!(put.revision, self.before.revision + 1, "only this put has changed anything");
        for (node, process_id) in self.cluster.nodes.iter_mut().zip(&self.process_ids) {
            assert_eq!((node.crashed(), node.process_id()), (None, *process_id), "{}", node.name());
        }
        self.cluster.ready().await;
        let after = self.cluster.converged().await;
        assert_eq!((after.revision, after.key_count), (self.before.revision + 1, self.before.key_count + 1));
    }
}

/// A codec that sends and receives the bytes of messages as they are, so that a test can send what no encoder makes.
#[derive(Clone, Copy, Debug, Default)]
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = RawCodec;
    type Decoder = RawCodec;

    fn encoder(&mut self) -> RawCodec {
        RawCodec
    }

    fn decoder(&mut self) -> RawCodec {
        RawCodec
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// A unary call of `path` whose message is these bytes.
pub(crate) async fn call_raw(channel: &Channel, path: &'static str, request: Request<Bytes>) -> Result<Bytes, Status> {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = http::uri::PathAndQuery::from_static(path);
    rpc::bounded(async { client.unary(request, path, RawCodec).await.map(|answer: Response<Bytes>| answer) }).await
}
