//! What the store knows of the graphs that a selection's letters died in; asked for once each.

use std::collections::HashMap;

use schemas::graph::Graph;
use store::Store;

use crate::problem::Result;
use crate::router::TENANT;

/// The active version of a graph.
pub(super) struct Active {
    pub(super) version: [u8; 32],
    /// `None`: this program cannot read it.
    pub(super) graph: Option<Graph>,
}

#[derive(Default)]
pub(super) struct Graphs {
    active: HashMap<String, Option<Active>>,
    versions: HashMap<String, bool>,
}

impl Graphs {
    /// The active version of a graph that was learned; `None`: there is no such graph.
    pub(super) fn active(&self, graph: &str) -> Option<&Active> {
        self.active.get(graph)?.as_ref()
    }

    /// Whether the store has a version that was learned.
    pub(super) fn has(&self, version: &str) -> bool {
        self.versions.get(version).copied().unwrap_or(false)
    }

    pub(super) async fn learn_graph(&mut self, store: &Store, graph: &str) -> Result<()> {
        if self.active.contains_key(graph) {
            return Ok(());
        }
        let active = match store.active(TENANT, graph).await? {
            None => None,
            Some(active) => {
                let mut version = [0; 32];
                let known = hex::decode_to_slice(&active.version, &mut version).is_ok();
                let canonical = store.version(&active.version).await?;
                let graph = canonical.and_then(|text| Graph::from_canonical(&text).ok());
                known.then_some(Active { version, graph })
            }
        };
        self.active.insert(graph.to_owned(), active);
        Ok(())
    }

    pub(super) async fn learn_version(&mut self, store: &Store, version: &str) -> Result<()> {
        if !self.versions.contains_key(version) {
            let there = store.version(version).await?.is_some();
            self.versions.insert(version.to_owned(), there);
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn put(&mut self, graph: &str, version: [u8; 32], text: &str) {
        let graph_of = schemas::graph::parse(text, "graph").ok();
        let active = Active {
            version,
            graph: graph_of,
        };
        self.active.insert(graph.to_owned(), Some(active));
        self.versions.insert(hex::encode(version), true);
    }
}
