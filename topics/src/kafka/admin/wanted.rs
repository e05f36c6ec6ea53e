//! The topics as they are wanted: topics.toml, and over it a file of the operator's.

use serde::Deserialize;

use super::plan::Wanted;
use crate::catalog::{self, TopicSpec, units};

/// What an operator may say otherwise than topics.toml.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Overrides {
    /// Of every topic that does not say its own.
    replication: Option<u16>,
    #[serde(default)]
    topic: Vec<Override>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Override {
    name: String,
    partitions: Option<u32>,
    #[serde(default, rename = "retention", deserialize_with = "units::duration_ms")]
    retention_ms: Option<u64>,
    #[serde(default, deserialize_with = "units::bytes")]
    retention_bytes: Option<u64>,
    replication: Option<u16>,
}

/// topics.toml, with the text of the operator's file over it. An error names what is wrong in the file.
pub fn wanted(overrides: Option<&str>) -> Result<Vec<Wanted>, String> {
    let said: Overrides = match overrides {
        Some(text) => toml::from_str(text).map_err(|e| e.to_string())?,
        None => Overrides {
            replication: None,
            topic: Vec::new(),
        },
    };
    let mut all: Vec<Wanted> = catalog::topics()
        .into_iter()
        .map(|spec| Wanted {
            spec,
            partitions_asked: false,
            replication: said.replication,
        })
        .collect();
    for said in said.topic {
        let found = all.iter_mut().find(|topic| *topic.spec.name == *said.name);
        let topic = found.ok_or_else(|| format!("\"{}\" is no topic of Weir's own", said.name))?;
        over(topic, &said)?;
    }
    Ok(all)
}

fn over(topic: &mut Wanted, said: &Override) -> Result<(), String> {
    let TopicSpec {
        name,
        partitions,
        cleanup,
        retention_ms,
        retention_bytes,
        ..
    } = &mut topic.spec;
    if let Some(asked) = said.partitions {
        if asked == 0 {
            return Err(format!("\"{name}\" cannot have 0 partitions"));
        }
        *partitions = asked;
        topic.partitions_asked = true;
    }
    let retained = said.retention_ms.is_some() || said.retention_bytes.is_some();
    if retained && *cleanup == catalog::Cleanup::Compact {
        return Err(format!("\"{name}\" is compacted: it has no retention"));
    }
    *retention_ms = said.retention_ms.or(*retention_ms);
    *retention_bytes = said.retention_bytes.or(*retention_bytes);
    topic.replication = said.replication.or(topic.replication);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operators_file_wins() {
        let text = format!(
            "replication = 3\n[[topic]]\nname = \"{}\"\npartitions = 48\nretention = \"14d\"\n[[topic]]\nname = \"{}\"\nreplication = 2\n",
            catalog::TRIGGERS,
            catalog::GRAPHS
        );
        let all = wanted(Some(&text)).expect("a right file");
        let of = |name: &str| all.iter().find(|t| *t.spec.name == *name).expect("a topic");
        let triggers = of(catalog::TRIGGERS);
        assert_eq!(
            (triggers.spec.partitions, triggers.partitions_asked),
            (48, true)
        );
        assert_eq!(triggers.spec.retention_ms, Some(14 * 86_400_000));
        assert_eq!(triggers.replication, Some(3));
        assert_eq!(of(catalog::GRAPHS).replication, Some(2));
        assert!(!of(catalog::HOPS).partitions_asked);
    }

    #[test]
    fn what_is_wrong_in_it_is_named() {
        for (text, expected) in [
            (
                "[[topic]]\nname = \"orders\"".to_owned(),
                "no topic of Weir's own",
            ),
            (
                format!(
                    "[[topic]]\nname = \"{}\"\nretention = \"1d\"",
                    catalog::GRAPHS
                ),
                "is compacted",
            ),
            (
                format!("[[topic]]\nname = \"{}\"\npartitions = 0", catalog::HOPS),
                "0 partitions",
            ),
            ("partition = 3".to_owned(), "partition"),
        ] {
            let error = wanted(Some(&text)).expect_err(&text);
            assert!(error.contains(expected), "{error}");
        }
    }
}
