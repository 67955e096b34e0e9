//! What the generator asks for: 32-byte keys, 256-byte values, as every figure in the documentation.

use crate::{
    Options, echo,
    generator::{self, Calls},
    process::Usage,
    report::{Place, Sample},
    system::Started,
};
use bytes::Bytes;
use proto::kv::v1::{GetRequest, PutRequest, kv_service_client::KvServiceClient};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tests::rpc;
use tonic::{Request, Status, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel};
use tonic_prost::ProstCodec;

/// The bytes of a key.
pub(crate) const KEY_BYTES: usize = 32;

/// The bytes of a value.
pub(crate) const VALUE_BYTES: usize = 256;

/// How many puts are in flight while the keys for gets are made.
const FILL_IN_FLIGHT: usize = 64;

/// Numbers of keys that puts make start here, so that they never meet the keys of gets.
static NEXT_KEY: AtomicU64 = AtomicU64::new(1 << 40);

/// A kind of call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Workload {
    /// A unary call that returns its message.
    Echo,
    /// A unary create-only put of a new key.
    Put,
    /// A unary linearizable get of a key that is there.
    Get,
}

impl Workload {
    /// Its name in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Workload::Echo => "echo",
            Workload::Put => "put",
            Workload::Get => "get",
        }
    }
}

/// Measures one workload of a running system once.
pub(crate) async fn measure(
    round: usize,
    system: &'static str,
    started: &Started,
    workload: Workload,
    in_flight: usize,
    options: &Options,
) -> anyhow::Result<Sample> {
    let schedule = options.schedule(in_flight);
    let channels = connect(started.address, options.connections_for(in_flight)).await?;
    let usage = || Usage::of(&started.process_ids, started.data.as_deref());
    let measured = match workload {
        Workload::Echo => generator::closed_loop(channels.into_iter().map(EchoCalls::new), &schedule, usage).await?,
        Workload::Put => generator::closed_loop(channels.into_iter().map(PutCalls::new), &schedule, usage).await?,
        Workload::Get => {
            let calls = channels.into_iter().map(|channel| GetCalls::new(channel, options.keys));
            generator::closed_loop(calls, &schedule, usage).await?
        }
    };
    let place = Place { round, system, workload: workload.name(), in_flight };
    Ok(Sample::new(place, &measured))
}

/// Makes the keys that gets read.
pub(crate) async fn fill(address: SocketAddr, options: &Options) -> anyhow::Result<()> {
    let channels = connect(address, options.connections).await?;
    let next = Arc::new(AtomicU64::new(0));
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..FILL_IN_FLIGHT {
        let mut client = KvServiceClient::new(channels[number % channels.len()].clone());
        let (next, keys) = (next.clone(), options.keys);
        writers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= keys {
                    return Ok::<(), Status>(());
                }
                client.put(put_request(number)).await?;
            }
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer??;
    }
    Ok(())
}

/// Connects some times to one node.
pub(crate) async fn connect(address: SocketAddr, connections: usize) -> anyhow::Result<Vec<Channel>> {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
    let mut channels = Vec::new();
    for _ in 0..connections {
        channels.push(endpoint.connect().await?);
    }
    Ok(channels)
}

/// A key of 32 bytes.
fn key(number: u64) -> String {
    // Scrambled first, as real keys are in no order: an odd factor keeps them distinct.
    format!("{:016x}{number:016x}", number.wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

/// A create-only put of the key of a number.
pub(crate) fn put_request(number: u64) -> PutRequest {
    static VALUE: [u8; VALUE_BYTES] = [b'v'; VALUE_BYTES];
    PutRequest { value: Bytes::from_static(&VALUE), ..rpc::put_request(&key(number), "") }
}

fn new_key_number() -> u64 {
    NEXT_KEY.fetch_add(1, Ordering::Relaxed)
}

#[derive(Clone)]
struct EchoCalls(Grpc<Channel>);

impl EchoCalls {
    fn new(channel: Channel) -> EchoCalls {
        EchoCalls(Grpc::new(channel))
    }
}

impl Calls for EchoCalls {
    async fn call(&mut self) -> Result<(), Status> {
        self.0.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let codec = ProstCodec::<PutRequest, PutRequest>::default();
        let request = Request::new(put_request(new_key_number()));
        self.0.unary(request, PathAndQuery::from_static(echo::PATH), codec).await.map(drop)
    }
}

#[derive(Clone)]
struct PutCalls(KvServiceClient<Channel>);

impl PutCalls {
    fn new(channel: Channel) -> PutCalls {
        PutCalls(KvServiceClient::new(channel))
    }
}

impl Calls for PutCalls {
    async fn call(&mut self) -> Result<(), Status> {
        self.0.put(put_request(new_key_number())).await.map(drop)
    }
}

#[derive(Clone)]
struct GetCalls {
    client: KvServiceClient<Channel>,
    keys: u64,
}

impl GetCalls {
    fn new(channel: Channel, keys: u64) -> GetCalls {
        GetCalls { client: KvServiceClient::new(channel), keys }
    }
}

impl Calls for GetCalls {
    async fn call(&mut self) -> Result<(), Status> {
        let key = key(rand::random_range(0..self.keys));
        self.client.get(GetRequest { key, ..GetRequest::default() }).await.map(drop)
    }
}
