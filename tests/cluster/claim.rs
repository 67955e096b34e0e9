//! What a peer says of itself when it calls another: with it a test speaks to a node as another member does.

use proto::admin::v1::{ListMembersRequest, admin_service_client::AdminServiceClient};
use tests::{cluster::Cluster, rpc};
use tonic::metadata::MetadataMap;

/// What the three metadata entries of a peer's call say.
#[derive(Clone)]
pub(crate) struct Claim {
    pub(crate) cluster_id: String,
    pub(crate) from: String,
    pub(crate) to: String,
}

impl Claim {
    /// What a call of the member `from` to the member `to` says truthfully. The node `to` has to answer.
    pub(crate) async fn of(cluster: &Cluster, from: usize, to: usize) -> Claim {
        let channel = cluster.nodes[to].channel();
        let mut admin = AdminServiceClient::new(channel.clone());
        let members = rpc::bounded(admin.list_members(ListMembersRequest {})).await.expect("any node answers").members;
        let cluster_id = rpc::status(&channel).await.expect("any node answers").cluster_id;
        let incarnation = |number: usize| format!("{:016x}", members[number].incarnation);
        Claim { cluster_id: hexadecimal(&cluster_id), from: incarnation(from), to: incarnation(to) }
    }

    pub(crate) fn insert(&self, metadata: &mut MetadataMap) {
        let entries =
            [("quorate-cluster-id", &self.cluster_id), ("quorate-from", &self.from), ("quorate-to", &self.to)];
        for (name, value) in entries {
            metadata.insert(name, value.parse().expect("it is ASCII"));
        }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
