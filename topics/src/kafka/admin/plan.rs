//! What has to be done so that a cluster's topics are as they are wanted. Pure: states in, changes out.
//!
//! Invariants: nothing is ever deleted, no partition is taken away, and a compacted topic keeps its number of partitions
//! (its keys would move away from their older values), as does `weir.parked`. Only settings that Weir owns are looked at.

use std::collections::BTreeMap;

use crate::catalog::{Cleanup, PARKED, TopicSpec};

/// A topic as it is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub spec: TopicSpec,
    /// The number of partitions was asked for; else it is a default, and more are as well.
    pub partitions_asked: bool,
    /// `None`: the brokers' default.
    pub replication: Option<u16>,
}

/// A topic as it is.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Current {
    pub partitions: u32,
    /// Of the partition that has fewest.
    pub replication: u32,
    /// All settings with their values, whoever set them.
    pub settings: BTreeMap<String, String>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Create {
        partitions: u32,
        replication: Option<u16>,
        settings: BTreeMap<&'static str, String>,
    },
    Set {
        setting: &'static str,
        from: Option<String>,
        to: String,
    },
    /// Keys move to other partitions: their order breaks once. Done only when that is agreed to.
    Partitions { from: u32, to: u32 },
    /// Wanted, and cannot be done.
    Cannot { what: String, instead: String },
}

/// What has to be done, in the order of the topics wanted; empty: nothing.
pub fn plan(wanted: &[Wanted], current: &BTreeMap<String, Current>) -> Vec<(String, Change)> {
    let mut changes = Vec::new();
    for topic in wanted {
        let found = current.get(&*topic.spec.name);
        let of_topic = found.map_or_else(|| vec![create(topic)], |found| differences(topic, found));
        changes.extend(
            of_topic
                .into_iter()
                .map(|change| (topic.spec.name.to_string(), change)),
        );
    }
    changes
}

/// The settings of a topic that are Weir's.
pub fn settings(spec: &TopicSpec) -> BTreeMap<&'static str, String> {
    super::super::settings_of(spec).into()
}

fn create(topic: &Wanted) -> Change {
    Change::Create {
        partitions: topic.spec.partitions,
        replication: topic.replication,
        settings: settings(&topic.spec),
    }
}

fn differences(topic: &Wanted, found: &Current) -> Vec<Change> {
    let mut changes = Vec::new();
    changes.extend(partitions(topic, found));
    if let Some(replication) = topic.replication
        && u32::from(replication) != found.replication
    {
        changes.push(Change::Cannot {
            what: format!("replication {} → {replication}", found.replication),
            instead: "move its replicas with Kafka's own kafka-reassign-partitions.sh".to_owned(),
        });
    }
    for (setting, to) in settings(&topic.spec) {
        let from = found.settings.get(setting);
        if from != Some(&to) {
            changes.push(Change::Set {
                setting,
                from: from.cloned(),
                to,
            });
        }
    }
    changes
}

fn partitions(topic: &Wanted, found: &Current) -> Option<Change> {
    let (from, to) = (found.partitions, topic.spec.partitions);
    let cannot = |why: &str| {
        Some(Change::Cannot {
            what: format!("partitions {from} → {to}"),
            instead: format!("{why}; say partitions = {from} for it in the file given with --file"),
        })
    };
    if from == to || from > to && !topic.partitions_asked {
        None
    } else if from > to {
        cannot("Kafka takes no partition away")
    } else if topic.spec.cleanup == Cleanup::Compact {
        cannot("it is compacted: its keys would move away from their older values")
    } else if *topic.spec.name == *PARKED {
        cannot("whoever releases what is parked looks for it by their number")
    } else {
        Some(Change::Partitions { from, to })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(partitions: u32) -> Wanted {
        Wanted {
            spec: TopicSpec {
                retention_ms: Some(1_000),
                ..TopicSpec::new("t", partitions)
            },
            partitions_asked: false,
            replication: None,
        }
    }

    fn as_wanted(topic: &Wanted) -> Current {
        Current {
            partitions: topic.spec.partitions,
            replication: 1,
            settings: settings(&topic.spec)
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
        }
    }

    fn changes(topic: &Wanted, found: Current) -> Vec<Change> {
        plan(
            std::slice::from_ref(topic),
            &BTreeMap::from([("t".to_owned(), found)]),
        )
        .into_iter()
        .map(|(_, change)| change)
        .collect()
    }

    #[test]
    fn what_is_missing_is_created_and_what_is_right_is_left() {
        let topic = wanted(4);
        let plan = plan(std::slice::from_ref(&topic), &BTreeMap::new());
        assert!(
            matches!(&plan[..], [(name, Change::Create { partitions: 4, replication: None, .. })] if name == "t")
        );
        assert_eq!(changes(&topic, as_wanted(&topic)), []);
    }

    #[test]
    fn only_settings_of_ours_are_set() {
        let topic = wanted(4);
        let mut found = as_wanted(&topic);
        found
            .settings
            .insert("retention.ms".to_owned(), "5".to_owned());
        found
            .settings
            .insert("min.insync.replicas".to_owned(), "2".to_owned());
        let set = Change::Set {
            setting: "retention.ms",
            from: Some("5".to_owned()),
            to: "1000".to_owned(),
        };
        assert_eq!(changes(&topic, found), [set]);
    }

    #[test]
    fn partitions_grow_never_shrink_and_stay_where_compacted() {
        let with = |partitions, topic: &Wanted| Current {
            partitions,
            ..as_wanted(topic)
        };
        let topic = wanted(4);
        assert_eq!(
            changes(&topic, with(2, &topic)),
            [Change::Partitions { from: 2, to: 4 }]
        );
        assert_eq!(
            changes(&topic, with(8, &topic)),
            [],
            "a default is no wish for fewer"
        );

        let asked = Wanted {
            partitions_asked: true,
            ..wanted(4)
        };
        assert!(
            matches!(&changes(&asked, with(8, &asked))[..], [Change::Cannot { what, .. }] if what == "partitions 8 → 4")
        );

        let mut compacted = wanted(4);
        compacted.spec.cleanup = Cleanup::Compact;
        for partitions in [2, 3] {
            let found = with(partitions, &compacted);
            assert!(
                matches!(&changes(&compacted, found)[..], [Change::Cannot { instead, .. }] if instead.contains("compacted"))
            );
        }
    }

    #[test]
    fn replication_is_not_ours_to_change() {
        let topic = Wanted {
            replication: Some(3),
            ..wanted(4)
        };
        assert!(
            matches!(&changes(&topic, as_wanted(&topic))[..], [Change::Cannot { what, .. }] if what == "replication 1 → 3")
        );
        let three = Current {
            replication: 3,
            ..as_wanted(&topic)
        };
        assert_eq!(changes(&topic, three), []);
    }
}
