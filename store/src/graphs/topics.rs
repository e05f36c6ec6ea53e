//! Which graphs read and write users' topics, and where each topic's reading starts.
//!
//! All graphs share one read of a topic. Where it starts is decided when the topic gets its first subscription, and noted
//! under a generation: a topic that lost all of them and gets one again, or was deleted and made anew, starts anew, under
//! the next generation. A graph
//! that comes later joins where the others are.
//!
//! Invariant: no record of a topic comes back to it by way of graphs. `weave` looks within the transaction that changes a
//! graph, and those are one after the other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Activation;
use crate::database::{Transaction, sql};
use crate::{Result, Store, StoreError};

/// A trigger that reads a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSubscription {
    pub trigger: String,
    pub topic: String,
}

/// Where a topic's first subscription starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicStart {
    pub topic: String,
    /// The log's, as of then: the starts are those of this topic, not of another of the same name.
    pub topic_id: String,
    /// By partition number.
    pub starts: Vec<i64>,
}

/// A topic that at least one graph reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSubscribed {
    pub topic: String,
    pub topic_id: String,
    /// Counts how often the topic got its first subscription.
    pub generation: i64,
    /// By partition number; partitions that came later start at 0.
    pub starts: Vec<i64>,
}

/// Who gets a topic's records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscriber {
    pub tenant: String,
    pub graph: String,
    pub trigger: String,
}

/// What a version has to do with topics.
#[derive(Clone, Copy)]
pub(super) struct Woven<'a> {
    pub(super) subscriptions: &'a [NewSubscription],
    /// Topics that its sinks write.
    pub(super) writes: &'a [String],
    /// Of the topics that it subscribes; those that have a subscription already need none.
    pub(super) starts: &'a [TopicStart],
}

impl Woven<'_> {
    /// Of a graph that was deleted.
    pub(super) const NOTHING: Self = Woven {
        subscriptions: &[],
        writes: &[],
        starts: &[],
    };
}

impl Store {
    /// The topics that graphs read, in the order of their names.
    pub async fn topics_subscribed(&self) -> Result<Vec<TopicSubscribed>> {
        let select = sql(
            "select topic, topic_id, generation, starts from topic_starts
             where topic in (select topic from subscriptions) order by topic",
        );
        let rows: Vec<(String, String, i64, String)> = self.database.all(select).await?;
        let subscribed = |(topic, topic_id, generation, starts): (_, _, _, String)| {
            let starts = serde_json::from_str(&starts).map_err(|error| {
                self.database
                    .corrupt(&format!("the starts of topic \"{topic}\": {error}"))
            })?;
            Ok(TopicSubscribed {
                topic,
                topic_id,
                generation,
                starts,
            })
        };
        rows.into_iter().map(subscribed).collect()
    }

    /// Whether one of these topics is another one now than when its reading started.
    pub(super) async fn any_replaced(&self, starts: &[TopicStart]) -> Result<bool> {
        for start in starts {
            let select =
                sql("select topic_id from topic_starts where topic = $1").bind(&start.topic);
            let known: Option<(String,)> = self.database.optional(select).await?;
            if known.is_some_and(|(id,)| id != start.topic_id) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Who reads the topic, in the order of tenants, graphs and triggers. Deleted graphs read nothing.
    pub async fn subscribers(&self, topic: &str) -> Result<Vec<Subscriber>> {
        let select = sql("select tenant, graph, trigger_name from subscriptions
             where topic = $1 order by tenant, graph, trigger_name");
        let rows: Vec<(String, String, String)> = self.database.all(select.bind(topic)).await?;
        let subscriber = |(tenant, graph, trigger)| Subscriber {
            tenant,
            graph,
            trigger,
        };
        Ok(rows.into_iter().map(subscriber).collect())
    }
}

/// Replaces what the graph reads and writes; refuses what would go round in a circle, and a first subscription without
/// its starts.
pub(super) async fn weave(
    transaction: &mut Transaction<'_>,
    of: &Activation,
    woven: Woven<'_>,
) -> Result<()> {
    let reads: BTreeSet<&str> = woven
        .subscriptions
        .iter()
        .map(|subscription| subscription.topic.as_str())
        .collect();
    // before this graph's own go: what it reads already it goes on reading where it is
    let mut new = Vec::new();
    for topic in &reads {
        let select = sql("select count(*) from subscriptions where topic = $1").bind(*topic);
        let read: Option<(i64,)> = transaction.optional(select).await?;
        let select = sql("select topic_id from topic_starts where topic = $1").bind(*topic);
        let known: Option<(String,)> = transaction.optional(select).await?;
        let now = woven.starts.iter().find(|start| start.topic == **topic);
        let replaced = known
            .zip(now)
            .is_some_and(|((id,), now)| id != now.topic_id);
        if replaced || read.is_none_or(|(count,)| count == 0) {
            new.push(*topic);
        }
    }
    for table in [
        sql("delete from subscriptions where tenant = $1 and graph = $2"),
        sql("delete from topic_writes where tenant = $1 and graph = $2"),
    ] {
        transaction
            .execute(table.bind(&of.tenant).bind(&of.graph))
            .await?;
    }
    if !reads.is_empty() {
        refuse_circle(transaction, of, &reads, woven.writes).await?;
    }
    for topic in new {
        let start = woven.starts.iter().find(|start| start.topic == topic);
        let start = start.ok_or_else(|| {
            StoreError::invalid(format!(
                "topic \"{topic}\" gets its first subscription, and nobody said where it starts"
            ))
        })?;
        begin(transaction, start).await?;
    }
    for NewSubscription { trigger, topic } in woven.subscriptions {
        let insert = sql(
            "insert into subscriptions (tenant, graph, trigger_name, topic) values ($1, $2, $3, $4)",
        );
        let insert = insert.bind(&of.tenant).bind(&of.graph);
        transaction
            .execute(insert.bind(trigger).bind(topic))
            .await?;
    }
    for topic in woven.writes.iter().collect::<BTreeSet<_>>() {
        let insert = sql("insert into topic_writes (tenant, graph, topic) values ($1, $2, $3)");
        transaction
            .execute(insert.bind(&of.tenant).bind(&of.graph).bind(topic))
            .await?;
    }
    Ok(())
}

/// Notes the starts under the next generation.
async fn begin(transaction: &mut Transaction<'_>, start: &TopicStart) -> Result<()> {
    let starts = serde_json::Value::from(start.starts.clone()).to_string();
    let insert = sql("insert into topic_starts (topic, topic_id, generation, starts) values ($1, $2, 1, $3)
         on conflict (topic) do update set topic_id = excluded.topic_id, generation = topic_starts.generation + 1, starts = excluded.starts");
    let insert = insert.bind(&start.topic).bind(&start.topic_id).bind(starts);
    transaction.execute(insert).await.map(drop)
}

/// Follows what the graph writes over all graphs that read it, until a topic is met that it reads itself.
async fn refuse_circle(
    transaction: &mut Transaction<'_>,
    of: &Activation,
    reads: &BTreeSet<&str>,
    writes: &[String],
) -> Result<()> {
    // where each topic that was met comes from: the graph that writes it, and what that graph reads
    let mut from: BTreeMap<String, Option<(String, String)>> = BTreeMap::new();
    let mut ahead: VecDeque<String> = VecDeque::new();
    for topic in writes {
        if from.insert(topic.clone(), None).is_none() {
            ahead.push_back(topic.clone());
        }
    }
    while let Some(topic) = ahead.pop_front() {
        if reads.contains(topic.as_str()) {
            return Err(StoreError::Circle {
                graph: of.graph.clone(),
                way: way(&of.graph, &topic, &from),
            });
        }
        let select = sql("select distinct s.tenant, s.graph, w.topic
             from subscriptions s join topic_writes w on w.tenant = s.tenant and w.graph = s.graph
             where s.topic = $1 order by s.tenant, s.graph, w.topic");
        let next: Vec<(String, String, String)> = transaction.all(select.bind(&topic)).await?;
        for (tenant, graph, written) in next {
            // a tenant is not told what others call their graphs
            let graph = if tenant == of.tenant {
                format!("graph \"{graph}\"")
            } else {
                "a graph of another tenant".to_owned()
            };
            from.entry(written.clone()).or_insert_with(|| {
                ahead.push_back(written);
                Some((graph, topic.clone()))
            });
        }
    }
    Ok(())
}

/// `topic "a" → graph "g" → topic "b" → graph "h" → topic "a"`.
fn way(graph: &str, topic: &str, from: &BTreeMap<String, Option<(String, String)>>) -> String {
    let mut back = vec![format!("topic \"{topic}\"")];
    let mut at = topic;
    while let Some(Some((by, read))) = from.get(at) {
        back.push(by.clone());
        back.push(format!("topic \"{read}\""));
        at = read;
    }
    back.push(format!("graph \"{graph}\""));
    back.push(format!("topic \"{topic}\""));
    back.reverse();
    back.join(" → ")
}
