//! Graph versions, which of them is active, and every change of that.
//!
//! Invariant: each change takes the next epoch in its own transaction; what changes nothing takes none. Nothing of a
//! deleted graph is removed but its webhook paths and subscriptions: its history stays, and `apply` brings it back.

mod lifecycle;
mod past;
mod schemas;
mod topics;

use std::collections::HashSet;

pub use self::schemas::SinkSchema;
use crate::database::{Query, Transaction, sql};
use crate::{Result, Store, StoreError};
pub use lifecycle::{PauseReason, Releasing, Rollback};
pub use topics::{NewSubscription, Subscriber, TopicStart, TopicSubscribed};
use topics::{Woven, weave};

/// The counter row that gives every change of any graph its epoch.
const EPOCH: &str = "epoch";

/// A version to make active.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    /// Its topic triggers.
    pub subscriptions: Vec<NewSubscription>,
    /// The topics that its sinks write.
    pub writes: Vec<String>,
    /// Where its topics start, should it be the first that reads them.
    pub starts: Vec<TopicStart>,
    /// What its topic sinks with Avro write; those that the version has already stay.
    pub schemas: Vec<SinkSchema>,
    /// Milliseconds since 1970 UTC.
    pub at_ms: i64,
}

/// What becomes of a graph's triggers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GraphState {
    /// They run.
    Active,
    /// They are parked.
    Paused,
    /// Those that were parked are released; those that come meanwhile stand in line behind them.
    Resuming,
    /// None are taken. What was parked becomes dead letters.
    Deleted,
}

/// A graph: its active version and its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activation {
    pub tenant: String,
    pub graph: String,
    pub version: String,
    /// The number of the graph's last change.
    pub epoch: i64,
    /// When that was.
    pub at_ms: i64,
    pub state: GraphState,
    /// When the present pause began. Kept while the graph is resuming, and by one that was deleted with parked records,
    /// until `settled`.
    pub paused_at_ms: Option<i64>,
    /// Of a change: whether it changed anything.
    pub changed: bool,
}

/// What happened to a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// A version became the active one.
    Applied,
    /// An earlier version became the active one again.
    RolledBack,
    Paused,
    Resumed,
    Deleted,
    /// What was parked has been released, or become dead letters.
    Settled,
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
    /// After the change.
    pub state: GraphState,
    /// The text that the user wrote; empty where the change brought none.
    pub source: String,
    pub at_ms: i64,
}

/// Which graphs a list has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listed {
    Present,
    /// Also those that were deleted.
    All,
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
        if ::schemas::graph::version(&new.canonical) != new.version {
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

        let same = |present: &Activation| {
            present.version == new.version && present.state != GraphState::Deleted
        };
        // a topic that was made anew since begins anew, also where the version is the same
        let replaced = self.any_replaced(&new.starts).await?;
        if let Some(present) = self.active(&new.tenant, &new.graph).await?
            && same(&present)
            && !replaced
        {
            return Ok(present);
        }
        let mut transaction = self.database.begin().await?;
        let present = self.turn(&mut transaction, &new.tenant, &new.graph).await?;
        // a paused graph stays paused, whatever version it is to run later
        let (state, paused_at_ms) = match present {
            Some(present) if same(&present) && !replaced => return Ok(present),
            Some(present) if present.state != GraphState::Deleted => {
                (present.state, present.paused_at_ms)
            }
            Some(Activation {
                paused_at_ms: Some(_),
                ..
            }) => return Err(StoreError::Burying { graph: new.graph }),
            _ => (GraphState::Active, None),
        };
        let version = sql(
            "insert into versions (version, canonical) values ($1, $2) on conflict (version) do nothing",
        );
        transaction
            .execute(version.bind(&new.version).bind(new.canonical.as_slice()))
            .await?;
        self::schemas::note(&mut transaction, &new.version, &new.schemas).await?;
        let next = Next {
            activation: Activation {
                tenant: new.tenant,
                graph: new.graph,
                version: new.version,
                epoch: 0,
                at_ms: new.at_ms,
                state,
                paused_at_ms,
                changed: true,
            },
            kind: ChangeKind::Applied,
            source: &new.source,
        };
        claim_paths(&mut transaction, &next.activation, &new.webhooks).await?;
        let woven = Woven {
            subscriptions: &new.subscriptions,
            writes: &new.writes,
            starts: &new.starts,
        };
        weave(&mut transaction, &next.activation, woven).await?;
        let activation = next.take(&mut transaction).await?;
        transaction.commit().await?;
        Ok(activation)
    }

    /// The graph with its active version, also one that was deleted (its state says so); `None`: there never was one.
    /// `changed` is false.
    pub async fn active(&self, tenant: &str, graph: &str) -> Result<Option<Activation>> {
        // A request may ask for any name; Postgres knows no text with a NUL in it.
        if graph.contains('\0') {
            return Ok(None);
        }
        let select = sql(ACTIVE).bind(tenant).bind(graph);
        let found = self.database.optional::<ActivationRow>(select).await?;
        found.map(|row| self.activation(row)).transpose()
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

    /// The text that the user wrote for this version of the graph, if any.
    pub async fn source(&self, tenant: &str, graph: &str, version: &str) -> Result<Option<String>> {
        let select = sql("select source from changes
             where tenant = $1 and graph = $2 and version = $3 and source <> '' order by epoch desc limit 1");
        let found: Option<(String,)> = self
            .database
            .optional(select.bind(tenant).bind(graph).bind(version))
            .await?;
        Ok(found.map(|(source,)| source))
    }

    /// The tenant's graphs in the order of their names, those after `after`.
    pub async fn graphs(
        &self,
        tenant: &str,
        listed: Listed,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Activation>> {
        let select = match listed {
            Listed::Present => sql(
                "select tenant, graph, version, epoch, at_ms, state, paused_at_ms from graphs
                 where tenant = $1 and graph > $2 and state <> 'deleted' order by graph limit $3",
            ),
            Listed::All => sql(
                "select tenant, graph, version, epoch, at_ms, state, paused_at_ms from graphs
                 where tenant = $1 and graph > $2 order by graph limit $3",
            ),
        };
        let select = select.bind(tenant).bind(after.unwrap_or("")).bind(limit);
        let rows = self.database.all::<ActivationRow>(select).await?;
        rows.into_iter().map(|row| self.activation(row)).collect()
    }

    /// What happened to the graph, the latest first.
    pub async fn history(&self, tenant: &str, graph: &str, limit: u32) -> Result<Vec<Change>> {
        let select = sql(
            "select epoch, tenant, graph, kind, version, state, source, at_ms from changes
             where tenant = $1 and graph = $2 order by epoch desc limit $3",
        );
        self.changes(select.bind(tenant).bind(graph).bind(limit))
            .await
    }

    /// The changes of all graphs after this epoch, in the order of their epochs. A reader that goes on from the last
    /// one it got misses none: no change with a smaller epoch is committed later.
    pub async fn changes_after(&self, epoch: i64, limit: u32) -> Result<Vec<Change>> {
        let select = sql(
            "select epoch, tenant, graph, kind, version, state, source, at_ms from changes
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
        let change = |(epoch, tenant, graph, kind, version, state, source, at_ms): ChangeRow| {
            let known = ChangeKind::of(&kind);
            let unknown = || format!("a change of unknown kind \"{kind}\"");
            Ok(Change {
                epoch,
                tenant,
                graph,
                kind: known.ok_or_else(|| self.database.corrupt(&unknown()))?,
                version,
                state: self.state(&state)?,
                source,
                at_ms,
            })
        };
        rows.into_iter().map(change).collect()
    }

    /// Waits until whoever changes a graph has done so: what is read after it is the last that was committed. The graph
    /// as it is then.
    async fn turn(
        &self,
        transaction: &mut Transaction<'_>,
        tenant: &str,
        graph: &str,
    ) -> Result<Option<Activation>> {
        transaction.count(EPOCH, 0).await?;
        let select = sql(ACTIVE).bind(tenant).bind(graph);
        let found = transaction.optional::<ActivationRow>(select).await?;
        found.map(|row| self.activation(row)).transpose()
    }

    fn activation(&self, row: ActivationRow) -> Result<Activation> {
        let (tenant, graph, version, epoch, at_ms, state, paused_at_ms) = row;
        Ok(Activation {
            tenant,
            graph,
            version,
            epoch,
            at_ms,
            state: self.state(&state)?,
            paused_at_ms,
            changed: false,
        })
    }

    fn state(&self, name: &str) -> Result<GraphState> {
        GraphState::of(name).ok_or_else(|| {
            self.database
                .corrupt(&format!("a graph in unknown state \"{name}\""))
        })
    }
}

impl GraphState {
    const ALL: [Self; 4] = [Self::Active, Self::Paused, Self::Resuming, Self::Deleted];

    /// As in tables and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Resuming => "resuming",
            Self::Deleted => "deleted",
        }
    }

    fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

impl ChangeKind {
    const ALL: [Self; 6] = [
        Self::Applied,
        Self::RolledBack,
        Self::Paused,
        Self::Resumed,
        Self::Deleted,
        Self::Settled,
    ];

    /// As in tables and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::RolledBack => "rolled-back",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
            Self::Deleted => "deleted",
            Self::Settled => "settled",
        }
    }

    fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

const ACTIVE: &str = "select tenant, graph, version, epoch, at_ms, state, paused_at_ms from graphs
     where tenant = $1 and graph = $2";

type ActivationRow = (String, String, String, i64, i64, String, Option<i64>);
type ChangeRow = (i64, String, String, String, String, String, String, i64);

/// A change under way.
struct Next<'a> {
    /// The graph after it, but for its epoch.
    activation: Activation,
    kind: ChangeKind,
    /// Empty where it brings none.
    source: &'a str,
}

impl Next<'_> {
    /// Takes the next epoch and writes the change.
    async fn take(self, transaction: &mut Transaction<'_>) -> Result<Activation> {
        let epoch = transaction.count(EPOCH, 1).await?;
        let activation = Activation {
            epoch,
            changed: true,
            ..self.activation
        };
        let change = sql(
            "insert into changes (epoch, tenant, graph, kind, version, state, source, at_ms)
             values ($1, $2, $3, $4, $5, $6, $7, $8)",
        );
        let change = change
            .bind(epoch)
            .bind(&activation.tenant)
            .bind(&activation.graph)
            .bind(self.kind.name())
            .bind(&activation.version)
            .bind(activation.state.name())
            .bind(self.source)
            .bind(activation.at_ms);
        transaction.execute(change).await?;
        let graph = sql(
            "insert into graphs (tenant, graph, version, epoch, at_ms, state, paused_at_ms)
             values ($1, $2, $3, $4, $5, $6, $7)
             on conflict (tenant, graph) do update set version = excluded.version, epoch = excluded.epoch,
             at_ms = excluded.at_ms, state = excluded.state, paused_at_ms = excluded.paused_at_ms",
        );
        let graph = graph
            .bind(&activation.tenant)
            .bind(&activation.graph)
            .bind(&activation.version)
            .bind(epoch)
            .bind(activation.at_ms)
            .bind(activation.state.name())
            .bind(activation.paused_at_ms);
        transaction.execute(graph).await?;
        Ok(activation)
    }
}

/// Replaces the graph's webhook paths; refuses one that another graph has.
async fn claim_paths(
    transaction: &mut Transaction<'_>,
    of: &Activation,
    webhooks: &[(String, String)],
) -> Result<()> {
    let delete = sql("delete from webhooks where tenant = $1 and graph = $2");
    transaction
        .execute(delete.bind(&of.tenant).bind(&of.graph))
        .await?;
    for (path, trigger) in webhooks {
        let owner = sql("select graph from webhooks where tenant = $1 and path = $2");
        if let Some((owner,)) = transaction
            .optional::<(String,)>(owner.bind(&of.tenant).bind(path))
            .await?
        {
            return Err(StoreError::PathTaken {
                path: path.clone(),
                owner,
            });
        }
        let insert =
            sql("insert into webhooks (tenant, path, graph, trigger_name) values ($1, $2, $3, $4)")
                .bind(&of.tenant)
                .bind(path)
                .bind(&of.graph)
                .bind(trigger);
        transaction.execute(insert).await?;
    }
    Ok(())
}
