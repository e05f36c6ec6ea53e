//! Which topics this process reads, by the ids that the log gave them: one that is deleted and made anew while lanes read it
//! begins at offset 0 again, and what a lane knows of the old one would make it pass records over, or commit nonsense.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use topics::{Log, LogError, Topic, TopicId};

/// The ids, as last heard. Shared by the lanes of a process.
pub struct TopicIds {
    log: Arc<dyn Log>,
    heard: RwLock<HashMap<Topic, TopicId>>,
    /// How often another id was heard.
    changes: AtomicU64,
}

impl TopicIds {
    pub fn new(log: Arc<dyn Log>) -> Self {
        Self {
            log,
            heard: RwLock::default(),
            changes: AtomicU64::new(0),
        }
    }

    /// What was heard last; asked where nothing was.
    pub(crate) fn of(&self, topic: &Topic) -> Result<TopicId, LogError> {
        if let Some(id) = self.heard.read().get(topic) {
            return Ok(id.clone());
        }
        let id = self.log.topic_id(topic)?;
        self.heard.write().insert(topic.clone(), id.clone());
        Ok(id)
    }

    /// How often a topic turned out to be another one: what lanes hold is to be compared when it grows.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Whether the topic is, as far as was heard, still the one with this id.
    pub(crate) fn is(&self, topic: &Topic, id: &TopicId) -> bool {
        self.heard.read().get(topic).is_none_or(|now| now == id)
    }

    /// Asks about all of them again. A topic that cannot be asked about is as it was.
    pub(crate) fn look(&self) {
        let topics: Vec<Topic> = self.heard.read().keys().cloned().collect();
        for topic in topics {
            match self.log.topic_id(&topic) {
                Ok(id) => {
                    let before = self.heard.write().insert(topic, id.clone());
                    if before.is_some_and(|before| before != id) {
                        self.changes.fetch_add(1, Ordering::AcqRel);
                    }
                }
                Err(e) => tracing::debug!("the id of \"{topic}\": {e}"),
            }
        }
    }
}

/// A note about a partition, with the id of its topic and, for a user's topic, its generation: it travels in the metadata of
/// the committed offset.
pub(crate) fn signed(note: &str, id: &TopicId, generation: i64) -> String {
    if generation == 0 {
        return format!("{note};t={id}");
    }
    format!("{note};t={id};g={generation}")
}

/// The generation that an offset was committed in; 0 where none is said.
pub(crate) fn generation(metadata: &str) -> i64 {
    let field = metadata.split(';').find_map(|f| f.strip_prefix("g="));
    field.and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// The id that an offset was committed with; `None`: somebody set it by hand.
pub(crate) fn signature(metadata: &str) -> Option<&str> {
    let field = |field: &'_ str| field.starts_with("t=");
    metadata.split(';').find(|f| field(f)).map(|f| &f[2..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isolation::Note;

    #[test]
    fn a_note_keeps_its_meaning_and_its_topic() {
        let note = Note {
            epoch: 7,
            ..Note::default()
        };
        let id = "QlAQRcEGQNiDWGjQbE5_rg".into();
        let users = signed(&note.format(), &id, 3);
        assert_eq!((generation(&users), Note::parse(&users)), (3, note));
        assert_eq!(signature(&users), Some(&*id));
        let metadata = signed(&note.format(), &id, 0);
        assert_eq!(generation(&metadata), 0);
        assert_eq!(signature(&metadata), Some("QlAQRcEGQNiDWGjQbE5_rg"));
        assert_eq!(Note::parse(&metadata), note);
        assert_eq!(signature("e=7"), None);
        assert_eq!(signature("set by hand"), None);
    }
}
