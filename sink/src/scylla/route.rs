//! Sending a row to its replicas where the driver does not see its partition key: it is within the JSON.

use std::sync::Arc;

use scylla::cluster::{ClusterState, NodeRef};
use scylla::frame::response::result::TableSpec;
use scylla::policies::load_balancing::{FallbackPlan, LoadBalancingPolicy, RoutingInfo};
use scylla::routing::{Shard, Token};

/// The session's policy, told the token. A wrong one only makes a longer way.
#[derive(Debug)]
pub(super) struct Routed {
    pub(super) policy: Arc<dyn LoadBalancingPolicy>,
    pub(super) token: Token,
    pub(super) table: TableSpec<'static>,
}

impl Routed {
    fn told<'a>(&'a self, request: &'a RoutingInfo) -> RoutingInfo<'a> {
        let mut told = request.clone();
        told.token = Some(self.token);
        told.table = Some(&self.table);
        told
    }
}

impl LoadBalancingPolicy for Routed {
    fn pick<'a>(
        &'a self,
        request: &'a RoutingInfo,
        cluster: &'a ClusterState,
    ) -> Option<(NodeRef<'a>, Option<Shard>)> {
        let told = self.told(request);
        let (node, shard) = self.policy.pick(&told, cluster)?;
        // the same node, from what lives longer than what was told
        Some((cluster.get_node_by_host_id(node.host_id)?, shard))
    }

    fn fallback<'a>(
        &'a self,
        request: &'a RoutingInfo,
        cluster: &'a ClusterState,
    ) -> FallbackPlan<'a> {
        let told = self.told(request);
        let nodes: Vec<_> = self.policy.fallback(&told, cluster).collect();
        let nodes: Vec<_> = nodes
            .into_iter()
            .filter_map(|(node, shard)| Some((cluster.get_node_by_host_id(node.host_id)?, shard)))
            .collect();
        Box::new(nodes.into_iter())
    }

    fn name(&self) -> String {
        "Routed".to_owned()
    }
}
