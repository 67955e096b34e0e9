//! etcd, where its program is given: a cluster of processes, and unary calls by the same generator as Quorate's.

pub(crate) mod cluster;

/// The part of etcd's interface that is used.
pub(crate) mod rpc {
    // Generated code is public in its module.
    #![allow(unreachable_pub)]
    tonic::include_proto!("etcdserverpb");
}

use crate::{generator::calls::Calls, workload::Operation};
use bytes::Bytes;
use rpc::{
    Compare, PutRequest, RangeRequest, RequestOp, TxnRequest,
    compare::{CompareResult, CompareTarget, TargetUnion},
    kv_client::KvClient,
    request_op::Request,
};
use tonic::{Status, transport::Channel};

/// Unary calls.
#[derive(Clone)]
pub(crate) struct EtcdCalls(KvClient<Channel>);

impl EtcdCalls {
    pub(crate) fn new(channel: Channel) -> EtcdCalls {
        EtcdCalls(KvClient::new(channel))
    }

    async fn create(&mut self, key: Bytes, value: Bytes) -> Result<(), Status> {
        let is_missing = Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Create.into(),
            key: key.clone(),
            target_union: Some(TargetUnion::CreateRevision(0)),
        };
        let put = RequestOp { request: Some(Request::RequestPut(PutRequest { key, value })) };
        let answer = self.0.txn(TxnRequest { compare: vec![is_missing], success: vec![put] }).await?;
        if answer.get_ref().succeeded { Ok(()) } else { Err(Status::already_exists("the key exists")) }
    }
}

impl Calls for EtcdCalls {
    async fn call(&mut self, operation: Operation) -> Result<(), Status> {
        match operation {
            Operation::Put { key, value } | Operation::Overwrite { key, value } => {
                self.0.put(PutRequest { key: key.into(), value }).await.map(drop)
            }
            Operation::Create { key, value } => self.create(key.into(), value).await,
            Operation::Get { key } => {
                let found = self.0.range(RangeRequest { key: key.into() }).await?;
                if found.get_ref().kvs.is_empty() { Err(Status::not_found("no such key")) } else { Ok(()) }
            }
        }
    }
}
