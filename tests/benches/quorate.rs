//! Quorate: a cluster of three processes of the release build with default settings, called at its leader.

use crate::{
    Options,
    system::{Boxed, Started, System},
    workload::Workload,
};
use tests::{binaries, cluster};

/// A cluster of three.
#[derive(Default)]
pub(crate) struct Quorate {
    cluster: Option<cluster::Cluster>,
}

impl System for Quorate {
    fn name(&self) -> &'static str {
        "quorate"
    }

    fn workloads(&self) -> &'static [Workload] {
        &[Workload::Put, Workload::Get]
    }

    fn start<'a>(&'a mut self, options: &'a Options) -> Boxed<'a, anyhow::Result<Started>> {
        Box::pin(async move {
            let cluster = cluster::Cluster::start(cluster::Options {
                segment_bytes: None,
                // A temporary directory may be in memory, where a sync costs nothing.
                parent: Some(binaries::target_directory()),
                ..cluster::Options::default()
            })
            .await;
            let leader = cluster.leader().await;
            let address = cluster.nodes[leader].address();
            let process_ids = cluster.nodes.iter().map(tests::node::Node::process_id).collect();
            let data = Some(cluster.directory().to_path_buf());
            self.cluster = Some(cluster);
            crate::workload::fill(address, options).await?;
            Ok(Started { address, process_ids, data })
        })
    }

    fn stop(&mut self) {
        self.cluster = None;
    }
}
