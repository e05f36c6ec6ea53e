//! A graph is paused, resumed, deleted, and goes back to an earlier version.
//!
//! A pause ends in two changes: `resume` says that what is parked is to be released, `settled` that it has been. In
//! between the graph is resuming, and what comes stands in line behind what was parked. A deletion during a pause ends in
//! two changes as well: what is parked becomes dead letters, then it is settled.

use std::time::{SystemTime, UNIX_EPOCH};

use schemas::graph::{Graph, TopicTrigger};

use super::past::{self, Chosen, Unnamed};
use super::topics::{NewSubscription, TopicStart, Woven, weave};
use super::{Activation, ChangeKind, GraphState, Next, claim_paths};
use crate::database::{Transaction, sql};
use crate::{Result, Store, StoreError};

/// How many changes are looked at to find the version before.
const CHOSEN_MAX: u32 = 1_000;

/// A graph whose parked records are on their way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Releasing {
    pub tenant: String,
    pub graph: String,
    /// Of the change that said so; `settled` wants it.
    pub epoch: i64,
    /// Nothing was parked before.
    pub paused_at_ms: i64,
    /// They become dead letters; else they run.
    pub deleted: bool,
}

/// The way back to an earlier version.
#[derive(Clone, Copy, Debug)]
pub struct Rollback<'a> {
    pub tenant: &'a str,
    pub graph: &'a str,
    /// The first digits of one of its versions, 6 or more; `None`: the version that was active before the present one
    /// was applied.
    pub to: Option<&'a str>,
    /// As in `NewVersion`.
    pub starts: &'a [TopicStart],
    pub at_ms: i64,
}

/// Why Weir itself pauses a graph.
#[derive(Clone, Copy, Debug)]
pub struct PauseReason<'a> {
    pub reason: &'a str,
    /// The execution that said so.
    pub execution: &'a str,
}

/// What is asked of a graph.
#[derive(Clone, Copy)]
enum Wish {
    Pause,
    Resume,
    Delete,
}

/// What the wish makes of a graph in this state; `None`: nothing.
fn becomes(
    wish: Wish,
    state: GraphState,
    paused_at_ms: Option<i64>,
    at_ms: i64,
) -> Option<(GraphState, Option<i64>, ChangeKind)> {
    use GraphState::{Active, Deleted, Paused, Resuming};
    match (wish, state) {
        // what was parked in the pause before is not all released: its beginning stays that of the first
        (Wish::Pause, Active | Resuming) => {
            Some((Paused, paused_at_ms.or(Some(at_ms)), ChangeKind::Paused))
        }
        (Wish::Resume, Paused) => Some((Resuming, paused_at_ms, ChangeKind::Resumed)),
        (Wish::Delete, Active | Paused | Resuming) => {
            Some((Deleted, paused_at_ms, ChangeKind::Deleted))
        }
        (Wish::Pause, Paused | Deleted)
        | (Wish::Resume, Active | Resuming | Deleted)
        | (Wish::Delete, Deleted) => None,
    }
}

impl Store {
    /// From now on the graph's records are parked. No change where they are already.
    pub async fn pause(&self, tenant: &str, graph: &str, at_ms: i64) -> Result<Activation> {
        self.change(tenant, graph, Wish::Pause, at_ms, None).await
    }

    /// As `pause`, by Weir itself: one of its executions said that nothing of this graph can work any more.
    pub async fn pause_because(
        &self,
        tenant: &str,
        graph: &str,
        at_ms: i64,
        why: PauseReason<'_>,
    ) -> Result<Activation> {
        self.change(tenant, graph, Wish::Pause, at_ms, Some(why))
            .await
    }

    /// Why Weir paused a graph, and at which execution; `None`: a person did.
    pub async fn pause_reason(&self, paused: &Activation) -> Result<Option<(String, String)>> {
        let select = sql("select reason, execution from pause_reasons where epoch = $1");
        self.database.optional(select.bind(paused.epoch)).await
    }

    /// From now on what is parked is released, and then the graph runs. No change where it runs, or is resuming already.
    pub async fn resume(&self, tenant: &str, graph: &str, at_ms: i64) -> Result<Activation> {
        self.change(tenant, graph, Wish::Resume, at_ms, None).await
    }

    /// The graph takes no triggers any more and gives its webhook paths free. No change where it was deleted before.
    pub async fn delete(&self, tenant: &str, graph: &str, at_ms: i64) -> Result<Activation> {
        self.change(tenant, graph, Wish::Delete, at_ms, None).await
    }

    async fn change(
        &self,
        tenant: &str,
        graph: &str,
        wish: Wish,
        at_ms: i64,
        why: Option<PauseReason<'_>>,
    ) -> Result<Activation> {
        self.there(tenant, graph, wish).await?;
        let mut transaction = self.database.begin().await?;
        let present = self.turn(&mut transaction, tenant, graph).await?;
        let present = wanted(present, graph, wish)?;
        let Some((state, paused_at_ms, kind)) =
            becomes(wish, present.state, present.paused_at_ms, at_ms)
        else {
            return Ok(present);
        };
        let next = Next {
            activation: Activation {
                at_ms,
                state,
                paused_at_ms,
                ..present
            },
            kind,
            source: "",
        };
        if state == GraphState::Deleted {
            claim_paths(&mut transaction, &next.activation, &[]).await?;
            weave(&mut transaction, &next.activation, Woven::NOTHING).await?;
        }
        let activation = next.take(&mut transaction).await?;
        if let Some(PauseReason { reason, execution }) = why {
            let insert =
                sql("insert into pause_reasons (epoch, reason, execution) values ($1, $2, $3)");
            let insert = insert.bind(activation.epoch).bind(reason).bind(execution);
            transaction.execute(insert).await?;
        }
        transaction.commit().await?;
        Ok(activation)
    }

    /// Whoever asks for what is not there takes nobody's turn.
    async fn there(&self, tenant: &str, graph: &str, wish: Wish) -> Result<()> {
        wanted(self.active(tenant, graph).await?, graph, wish).map(drop)
    }

    /// The version that `rollback` would make the active one.
    pub async fn before(&self, tenant: &str, graph: &str, to: Option<&str>) -> Result<String> {
        self.there(tenant, graph, Wish::Pause).await?;
        let mut transaction = self.database.begin().await?;
        earlier(&mut transaction, tenant, graph, to).await
    }

    /// Makes an earlier version the active one. The state stays; webhook paths and topics become those of that version.
    /// No change where it is the active one.
    pub async fn rollback(&self, back: Rollback<'_>) -> Result<Activation> {
        let Rollback { tenant, graph, .. } = back;
        self.there(tenant, graph, Wish::Pause).await?;
        let mut transaction = self.database.begin().await?;
        let present = self.turn(&mut transaction, tenant, graph).await?;
        let present = wanted(present, graph, Wish::Pause)?;
        let version = earlier(&mut transaction, tenant, graph, back.to).await?;
        if version == present.version {
            return Ok(present);
        }
        let select = sql("select canonical from versions where version = $1").bind(&version);
        let canonical: Option<(Vec<u8>,)> = transaction.optional(select).await?;
        let (canonical,) = canonical.ok_or_else(|| {
            self.database
                .corrupt(&format!("version {version} is in the history only"))
        })?;
        let proven = Graph::from_canonical(&canonical).map_err(|error| StoreError::NoVersion {
            graph: graph.to_owned(),
            reason: format!(
                "this program cannot run version {version} any more ({error}); apply its file instead"
            ),
        })?;
        let next = Next {
            activation: Activation {
                version,
                at_ms: back.at_ms,
                ..present
            },
            kind: ChangeKind::RolledBack,
            source: "",
        };
        claim_paths(&mut transaction, &next.activation, &proven.webhooks()).await?;
        let (subscriptions, writes) = topics_of(&proven);
        let woven = Woven {
            subscriptions: &subscriptions,
            writes: &writes,
            starts: back.starts,
        };
        weave(&mut transaction, &next.activation, woven).await?;
        let activation = next.take(&mut transaction).await?;
        transaction.commit().await?;
        Ok(activation)
    }

    /// The graphs whose parked records are to be released, or to become dead letters; in the order of their epochs.
    pub async fn releasing(&self) -> Result<Vec<Releasing>> {
        let select = sql(
            "select tenant, graph, epoch, state, coalesce(paused_at_ms, at_ms) from graphs
             where state = 'resuming' or (state = 'deleted' and paused_at_ms is not null) order by epoch",
        );
        let rows: Vec<(String, String, i64, String, i64)> = self.database.all(select).await?;
        let releasing = |(tenant, graph, epoch, state, paused_at_ms): (_, _, _, String, _)| {
            Ok(Releasing {
                tenant,
                graph,
                epoch,
                paused_at_ms,
                deleted: self.state(&state)? == GraphState::Deleted,
            })
        };
        rows.into_iter().map(releasing).collect()
    }

    /// Says that what was parked has been released, or become dead letters, after the graph's change `epoch`. `false`:
    /// the graph has changed since, and nothing is changed by this.
    pub async fn settled(&self, tenant: &str, graph: &str, epoch: i64) -> Result<bool> {
        let mut transaction = self.database.begin().await?;
        let present = self.turn(&mut transaction, tenant, graph).await?;
        let Some(present) = present.filter(|present| present.epoch == epoch) else {
            return Ok(false);
        };
        let state = match (present.state, present.paused_at_ms) {
            (GraphState::Resuming, _) => GraphState::Active,
            (GraphState::Deleted, Some(_)) => GraphState::Deleted,
            (GraphState::Active | GraphState::Paused | GraphState::Deleted, _) => return Ok(false),
        };
        let next = Next {
            activation: Activation {
                at_ms: now_ms(),
                state,
                paused_at_ms: None,
                ..present
            },
            kind: ChangeKind::Settled,
            source: "",
        };
        next.take(&mut transaction).await?;
        transaction.commit().await?;
        Ok(true)
    }
}

/// The graph, if it can be asked for this: one that was deleted can only be deleted again.
fn wanted(present: Option<Activation>, graph: &str, wish: Wish) -> Result<Activation> {
    let reason = match present {
        Some(present) if present.state != GraphState::Deleted || matches!(wish, Wish::Delete) => {
            return Ok(present);
        }
        Some(_) => format!("graph \"{graph}\" was deleted; apply it to bring it back"),
        None => format!("there is no graph \"{graph}\""),
    };
    Err(StoreError::NotFound { reason })
}

/// What a version reads and writes.
fn topics_of(graph: &Graph) -> (Vec<NewSubscription>, Vec<String>) {
    let subscription = |(trigger, topic): (&str, &TopicTrigger)| NewSubscription {
        trigger: trigger.to_owned(),
        topic: topic.name.clone(),
    };
    let written = |(_, topic): (&str, &str)| topic.to_owned();
    (
        graph.subscriptions().map(subscription).collect(),
        graph.topics_written().map(written).collect(),
    )
}

/// The version that these digits name, or the one before the present one.
async fn earlier(
    transaction: &mut Transaction<'_>,
    tenant: &str,
    graph: &str,
    to: Option<&str>,
) -> Result<String> {
    let no_version = |reason: String| StoreError::NoVersion {
        graph: graph.to_owned(),
        reason,
    };
    let Some(to) = to else {
        let chosen = chosen(transaction, tenant, graph).await?;
        return past::before(&chosen).map(str::to_owned).ok_or_else(|| {
            no_version(
                "no version was active before the present one; name one with --to, see `weir graph history`"
                    .to_owned(),
            )
        });
    };
    let said = |why: Unnamed| no_version(why.of(to).to_string());
    if !past::is_prefix(to) {
        return Err(said(Unnamed::Form));
    }
    past::one(versions_like(transaction, tenant, graph, to).await?).map_err(said)
}

/// The changes that chose a version, oldest first.
async fn chosen(
    transaction: &mut Transaction<'_>,
    tenant: &str,
    graph: &str,
) -> Result<Vec<Chosen>> {
    let select = sql("select version, kind from changes
         where tenant = $1 and graph = $2 and kind in ('applied', 'rolled-back') order by epoch desc limit $3");
    let select = select.bind(tenant).bind(graph).bind(CHOSEN_MAX);
    let rows: Vec<(String, String)> = transaction.all(select).await?;
    let chosen = |(version, kind): (String, String)| Chosen {
        version,
        back: kind == ChangeKind::RolledBack.name(),
    };
    Ok(rows.into_iter().rev().map(chosen).collect())
}

/// Versions of the graph's history that begin with these digits; a few of them.
async fn versions_like(
    transaction: &mut Transaction<'_>,
    tenant: &str,
    graph: &str,
    prefix: &str,
) -> Result<Vec<String>> {
    // a digit is never more than f
    let select = sql("select distinct version from changes
         where tenant = $1 and graph = $2 and version >= $3 and version < $4 order by version limit 3");
    let select = select
        .bind(tenant)
        .bind(graph)
        .bind(prefix)
        .bind(format!("{prefix}g"));
    let rows: Vec<(String,)> = transaction.all(select).await?;
    Ok(rows.into_iter().map(|(version,)| version).collect())
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(0))
}
