//! Lanes that read users' topics: which ones follows from the graphs, and where each partition starts from the first graph
//! that read it. What is the matter with one of them stops that one, never the lane.

use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use topics::{LogError, Partition, Position, Topic};

use super::holds::Until;
use super::{Lane, Owned};
use crate::config::Reads;
use crate::error::ProcessorError;
use crate::started::Start;
use crate::streams::Subscribed;
use crate::topic_ids::{generation, signature};

/// How soon it is looked again whether a topic that was missing is there.
const AGAIN: Duration = Duration::from_secs(10);
/// How long a topic that took no record is not tried again.
const BARRED: Duration = Duration::from_secs(30);

impl Lane {
    /// Reads what the graphs read now.
    pub(super) fn follow_subscriptions(&mut self) -> Result<(), ProcessorError> {
        if self.reads != Reads::Topics {
            return Ok(());
        }
        let (epoch, now) = (self.around.streams.epoch(), self.clock.now());
        if self
            .subscribed_at
            .is_some_and(|(at, again)| at == epoch && now < again)
        {
            return Ok(());
        }
        let subscribed = self.around.streams.subscribed()?;
        let mut topics = Vec::with_capacity(subscribed.len());
        for one in subscribed.iter() {
            match self.around.log.partitions(&one.topic) {
                Ok(_) => topics.push(one.topic.clone()),
                Err(error @ (LogError::MissingTopic { .. } | LogError::Denied { .. })) => {
                    counter!("weir_alarms_total", "alarm" => "topic-missing").increment(1);
                    tracing::error!("lane {} leaves a topic out: {error}", self.slot);
                }
                Err(error) => return Err(error.into()),
            }
        }
        let before = std::mem::replace(&mut self.subscribed, subscribed);
        self.subscribed_at = Some((epoch, now + AGAIN));
        if topics.is_empty() {
            // nothing will ever come of its group: it takes part all the same
            self.watch.join();
        }
        if topics != self.join.topics {
            tracing::info!("lane {} reads {}", self.slot, topics.join(", "));
            self.port.subscribe(&topics)?;
            self.join.topics = topics;
        }
        self.start_anew(&before)
    }

    /// Partitions of topics that have begun to be read anew since.
    fn start_anew(&mut self, before: &[Subscribed]) -> Result<(), ProcessorError> {
        let newer = |one: &&Subscribed| {
            before
                .iter()
                .any(|b| b.topic == one.topic && b.generation < one.generation)
        };
        let newer: Vec<Topic> = self
            .subscribed
            .iter()
            .filter(newer)
            .map(|one| one.topic.clone())
            .collect();
        if newer.is_empty() {
            return Ok(());
        }
        // Where its topic's present generation starts is for the group's committed offsets to say.
        self.take_in(super::FINISH)?;
        self.commit_sent()?;
        Err(self.moved())
    }

    pub(super) fn subscription(&self, topic: &str) -> Option<Subscribed> {
        let found = self.subscribed.iter().find(|one| *one.topic == *topic);
        found.cloned()
    }

    /// What a partition's mark is to say.
    pub(super) fn start_of(&self, partition: &Partition) -> Start {
        let subscribed = self.subscription(&partition.topic);
        Start {
            partition: partition.clone(),
            topic_id: subscribed.as_ref().map(|one| one.topic_id.clone()),
            generation: subscribed.map_or(0, |one| one.generation),
        }
    }

    /// A user's partition has come: owned if its topic is read, and given back if it has to be started.
    pub(super) fn take_users(
        &mut self,
        partition: Partition,
        committed: Option<Position>,
    ) -> Result<Option<Partition>, ProcessorError> {
        let Some(subscribed) = self.subscription(&partition.topic) else {
            // nobody reads it any more: it will be taken away
            return self.own_idle(partition).map(|()| None);
        };
        let id = self.around.ids.of(&partition.topic)?;
        let replaced = ProcessorError::Replaced {
            group: self.join.group.clone(),
            partition: partition.clone(),
        };
        if *subscribed.topic_id != *id {
            self.own_stopped(partition, subscribed.generation, &replaced)?;
            return Ok(None);
        }
        match committed {
            Some(position) if generation(&position.metadata) >= subscribed.generation => {
                if signature(&position.metadata).is_some_and(|of| *of != *id) {
                    self.own_stopped(partition, subscribed.generation, &replaced)?;
                    return Ok(None);
                }
                self.own(position)?;
                Ok(None)
            }
            _ => Ok(Some(partition)),
        }
    }

    fn own_idle(&mut self, partition: Partition) -> Result<(), ProcessorError> {
        let topic_id = self.around.ids.of(&partition.topic)?;
        self.owned.retain(|o| o.partition != partition);
        self.owned.push(Owned::idle(partition, topic_id, 0));
        self.hold(self.owned.len() - 1, 0, Until::Mended)
    }

    /// A topic sink's topic took no record: for a while segments that write it fail instead, with the reason.
    pub(super) fn bar(&self, trouble: &ProcessorError) -> bool {
        let ProcessorError::Log(
            error @ (LogError::MissingTopic { topic }
            | LogError::Denied { topic, .. }
            | LogError::TooLarge { topic, .. }),
        ) = trouble
        else {
            return false;
        };
        if topics::catalog::is_own(topic) {
            return false;
        }
        counter!("weir_lane_topics_barred_total").increment(1);
        let until = std::time::Instant::now() + BARRED;
        self.around
            .notes
            .bar(&Arc::from(&**topic), until, error.to_string());
        true
    }
}
