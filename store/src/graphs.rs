//! Graph versions, which of them is active, and every change of that.

use std::collections::HashSet;

use crate::database::{Query, Transaction, sql};
use crate::{Result, Store, StoreError};

/// The counter row that gives every change of any graph its epoch.
const EPOCH: &str = "epoch";

/// A version to make active.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewVersion {
    pub tenant: String,
    pub graph: String,
    /// `schemas::graph::version` of `canonical`.
    pub version: String,
    pub canonical: Vec<u8>,
    /// The text that the user wrote.
    pub source: String,
    /// The graph's webhooks: path, and the trigger's name.
    pub webhooks: Vec<(String, String)>,
    /// Milliseconds since 1970 UTC.
    pub at_ms: i64,
}

/// The active version of a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activation {
    pub tenant: String,
    pub graph: String,
    pub version: String,
    /// The number of the change that made it active.
    pub epoch: i64,
    pub at_ms: i64,
    /// Of `apply`: whether it changed anything; false where this version was the active one already.
    pub changed: bool,
}

/// What happened to a graph. (Pause, resume, rollback and delete come later.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// A version became the active one.
    Applied,
}

/// A change of a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub epoch: i64,
    pub tenant: String,
    pub graph: String,
    pub kind: ChangeKind,
    /// Active after the change.
    pub version: String,
    /// The text that the user wrote.
    pub source: String,
    pub at_ms: i64,
}

/// What a webhook path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    pub graph: String,
    pub trigger: String,
    pub version: String,
    pub epoch: i64,
}

impl Store {
    /// Makes the version the graph's active one; a new graph comes to be by it. Takes the next epoch, unless this
    /// version was the active one already.
    pub async fn apply(&self, new: NewVersion) -> Result<Activation> {
        if schemas::graph::version(&new.canonical) != new.version {
            return Err(StoreError::invalid(format!(
                "version \"{}\" is not the sha256 of the canonical form",
                new.version
            )));
        }
        let distinct: HashSet<&str> = new.webhooks.iter().map(|(path, _)| path.as_str()).collect();
        if distinct.len() != new.webhooks.len() {
            return Err(StoreError::invalid(format!(
                "graph \"{}\" has a webhook path twice; give each its own",
                new.graph
            )));
        }

        if let Some(present) = self.active(&new.tenant, &new.graph).await?
            && present.version == new.version
        {
            return Ok(present);
        }
        let mut transaction = self.database.begin().await?;
        // Whoever changes a graph waits here for those before: what it reads below is the last that was committed.
        transaction.count(EPOCH, 0).await?;
        if let Some(present) = active(&mut transaction, &new.tenant, &new.graph).await?
            && present.version == new.version
        {
            return Ok(present);
        }
        let version = sql(
            "insert into versions (version, canonical) values ($1, $2) on conflict (version) do nothing",
        );
        transaction
            .execute(version.bind(&new.version).bind(new.canonical.as_slice()))
            .await?;
        claim_paths(&mut transaction, &new).await?;

        let epoch = transaction.count(EPOCH, 1).await?;
        let change = sql(
            "insert into changes (epoch, tenant, graph, kind, version, source, at_ms) values ($1, $2, $3, 'applied', $4, $5, $6)",
        );
        let change = change
            .bind(epoch)
            .bind(&new.tenant)
            .bind(&new.graph)
            .bind(&new.version);
        transaction
            .execute(change.bind(&new.source).bind(new.at_ms))
            .await?;
        let graph = sql(
            "insert into graphs (tenant, graph, version, epoch, at_ms) values ($1, $2, $3, $4, $5)
             on conflict (tenant, graph) do update set version = excluded.version, epoch = excluded.epoch, at_ms = excluded.at_ms",
        );
        let graph = graph.bind(&new.tenant).bind(&new.graph).bind(&new.version);
        transaction
            .execute(graph.bind(epoch).bind(new.at_ms))
            .await?;
        transaction.commit().await?;
        let NewVersion {
            tenant,
            graph,
            version,
            at_ms,
            ..
        } = new;
        Ok(Activation {
            tenant,
            graph,
            version,
            epoch,
            at_ms,
            changed: true,
        })
    }

    /// The graph's active version; `changed` is false.
    pub async fn active(&self, tenant: &str, graph: &str) -> Result<Option<Activation>> {
        let select = sql(ACTIVE).bind(tenant).bind(graph);
        Ok(self
            .database
            .optional::<ActivationRow>(select)
            .await?
            .map(activation))
    }

    /// The canonical form of a version.
    pub async fn version(&self, version: &str) -> Result<Option<Vec<u8>>> {
        let select = sql("select canonical from versions where version = $1").bind(version);
        Ok(self
            .database
            .optional::<(Vec<u8>,)>(select)
            .await?
            .map(|(canonical,)| canonical))
    }

    /// The tenant's graphs in the order of their names, those after `after`.
    pub async fn graphs(
        &self,
        tenant: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Activation>> {
        let select = sql("select tenant, graph, version, epoch, at_ms from graphs
             where tenant = $1 and graph > $2 order by graph limit $3");
        let select = select.bind(tenant).bind(after.unwrap_or("")).bind(limit);
        Ok(self
            .database
            .all::<ActivationRow>(select)
            .await?
            .into_iter()
            .map(activation)
            .collect())
    }

    /// What happened to the graph, the latest first.
    pub async fn history(&self, tenant: &str, graph: &str, limit: u32) -> Result<Vec<Change>> {
        let select = sql(
            "select epoch, tenant, graph, kind, version, source, at_ms from changes
             where tenant = $1 and graph = $2 order by epoch desc limit $3",
        );
        self.changes(select.bind(tenant).bind(graph).bind(limit))
            .await
    }

    /// The changes of all graphs after this epoch, in the order of their epochs. A reader that goes on from the last
    /// one it got misses none: no change with a smaller epoch is committed later.
    pub async fn changes_after(&self, epoch: i64, limit: u32) -> Result<Vec<Change>> {
        let select = sql(
            "select epoch, tenant, graph, kind, version, source, at_ms from changes
             where epoch > $1 order by epoch limit $2",
        );
        self.changes(select.bind(epoch).bind(limit)).await
    }

    /// What the tenant's webhook path leads to.
    pub async fn webhook(&self, tenant: &str, path: &str) -> Result<Option<Hook>> {
        // A request may ask for any path; Postgres knows no text with a NUL in it.
        if path.contains('\0') {
            return Ok(None);
        }
        let select = sql("select w.graph, w.trigger_name, g.version, g.epoch
             from webhooks w join graphs g on g.tenant = w.tenant and g.graph = w.graph
             where w.tenant = $1 and w.path = $2");
        let found: Option<(String, String, String, i64)> = self
            .database
            .optional(select.bind(tenant).bind(path))
            .await?;
        Ok(found.map(|(graph, trigger, version, epoch)| Hook {
            graph,
            trigger,
            version,
            epoch,
        }))
    }

    async fn changes(&self, select: Query) -> Result<Vec<Change>> {
        let rows = self.database.all(select).await?;
        let change = |(epoch, tenant, graph, kind, version, source, at_ms): ChangeRow| {
            let kind = match kind.as_str() {
                "applied" => ChangeKind::Applied,
                _ => {
                    return Err(self
                        .database
                        .corrupt(&format!("a change of unknown kind \"{kind}\"")));
                }
            };
            Ok(Change {
                epoch,
                tenant,
                graph,
                kind,
                version,
                source,
                at_ms,
            })
        };
        rows.into_iter().map(change).collect()
    }
}

const ACTIVE: &str =
    "select tenant, graph, version, epoch, at_ms from graphs where tenant = $1 and graph = $2";

type ActivationRow = (String, String, String, i64, i64);
type ChangeRow = (i64, String, String, String, String, String, i64);

fn activation((tenant, graph, version, epoch, at_ms): ActivationRow) -> Activation {
    Activation {
        tenant,
        graph,
        version,
        epoch,
        at_ms,
        changed: false,
    }
}

async fn active(
    transaction: &mut Transaction<'_>,
    tenant: &str,
    graph: &str,
) -> Result<Option<Activation>> {
    let select = sql(ACTIVE).bind(tenant).bind(graph);
    Ok(transaction
        .optional::<ActivationRow>(select)
        .await?
        .map(activation))
}

/// Replaces the graph's webhook paths; refuses one that another graph has.
async fn claim_paths(transaction: &mut Transaction<'_>, new: &NewVersion) -> Result<()> {
    let delete = sql("delete from webhooks where tenant = $1 and graph = $2");
    transaction
        .execute(delete.bind(&new.tenant).bind(&new.graph))
        .await?;
    for (path, trigger) in &new.webhooks {
        let owner = sql("select graph from webhooks where tenant = $1 and path = $2");
        if let Some((owner,)) = transaction
            .optional::<(String,)>(owner.bind(&new.tenant).bind(path))
            .await?
        {
            return Err(StoreError::PathTaken {
                path: path.clone(),
                owner,
            });
        }
        let insert =
            sql("insert into webhooks (tenant, path, graph, trigger_name) values ($1, $2, $3, $4)");
        transaction
            .execute(
                insert
                    .bind(&new.tenant)
                    .bind(path)
                    .bind(&new.graph)
                    .bind(trigger),
            )
            .await?;
    }
    Ok(())
}
