//! What Weir's clients have to be allowed on a cluster with ACLs, by role and command, and what of it is missing. Pure.

use std::collections::BTreeMap;

use topics::catalog::{
    DOCTOR_PREFIX, GROUP_PROCESSORS, GROUP_READERS, GROUP_SINKS_PREFIX, GROUP_SOURCES_PREFIX,
    GROUP_TOPICS, LANE_PREFIX, SOURCE_PREFIX, TopicSpec,
};
use topics::kafka::admin::granted::{Granted, Operation};

use crate::roles::Role;

/// Who uses the rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum User {
    Role(Role),
    /// `weir topics plan` and `apply`, and `--create-topics`.
    Topics,
    /// `weir doctor --write`; without it the rights of the roles and DESCRIBE_CONFIGS do.
    Doctor,
}

impl User {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Role(role) => role.name(),
            Self::Topics => "topics",
            Self::Doctor => "doctor",
        }
    }

    pub(crate) fn all() -> impl Iterator<Item = Self> {
        Role::ALL
            .into_iter()
            .map(Self::Role)
            .chain([Self::Topics, Self::Doctor])
    }
}

/// What a right is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Resource {
    Topic(String),
    /// All whose names begin so.
    Topics(String),
    Group(String),
    TransactionalIds(String),
    Cluster,
}

impl Resource {
    /// Kind, name and pattern, as Kafka's ACLs have them.
    pub(crate) fn told(&self) -> (&'static str, &str, &'static str) {
        match self {
            Self::Topic(name) => ("TOPIC", name, "LITERAL"),
            Self::Topics(prefix) => ("TOPIC", prefix, "PREFIXED"),
            Self::Group(name) => ("GROUP", name, "LITERAL"),
            Self::TransactionalIds(prefix) => ("TRANSACTIONAL_ID", prefix, "PREFIXED"),
            Self::Cluster => ("CLUSTER", "kafka-cluster", "LITERAL"),
        }
    }
}

/// What each resource is needed for.
pub(crate) type Rights = BTreeMap<Resource, Vec<Operation>>;

/// What these users need, and no more; `sinks`: the names of all sinks. READ and WRITE bring DESCRIBE along.
pub(crate) fn needed(
    topics: &[TopicSpec],
    sinks: &[&str],
    users: impl IntoIterator<Item = User>,
) -> Rights {
    let mut rights = Rights::new();
    let mut need = |resource: Resource, operations: &[Operation]| {
        let all = rights.entry(resource).or_default();
        all.extend(operations);
        all.sort_unstable();
        all.dedup();
    };
    for user in users {
        match user {
            User::Role(role) => of_role(topics, sinks, role, &mut need),
            User::Topics => need(
                Resource::Topics("weir.".to_owned()),
                &[
                    Operation::Create,
                    Operation::Alter,
                    Operation::Describe,
                    Operation::DescribeConfigs,
                    Operation::AlterConfigs,
                ],
            ),
            User::Doctor => {
                need(
                    Resource::Topics("weir.".to_owned()),
                    &[Operation::DescribeConfigs],
                );
                need(
                    Resource::Topics(DOCTOR_PREFIX.to_owned()),
                    &[
                        Operation::Create,
                        Operation::Read,
                        Operation::Write,
                        Operation::Delete,
                    ],
                );
                need(
                    Resource::Group(GROUP_READERS.to_owned()),
                    &[Operation::Read],
                );
                need(
                    Resource::TransactionalIds(LANE_PREFIX.to_owned()),
                    &[Operation::Write],
                );
                need(Resource::Cluster, &[Operation::DescribeConfigs]);
            }
        }
    }
    for all in rights.values_mut() {
        if all
            .iter()
            .any(|o| matches!(o, Operation::Read | Operation::Write))
        {
            all.retain(|o| *o != Operation::Describe);
        }
    }
    rights
}

fn of_role(
    topics: &[TopicSpec],
    sinks: &[&str],
    role: Role,
    need: &mut impl FnMut(Resource, &[Operation]),
) {
    for topic in topics {
        let is = |names: &[String]| names.iter().any(|name| name == role.name());
        // each looks whether all of them are there
        let mut operations = vec![Operation::Describe];
        operations.extend(is(&topic.readers).then_some(Operation::Read));
        operations.extend(is(&topic.writers).then_some(Operation::Write));
        need(Resource::Topic(topic.name.to_string()), &operations);
    }
    for group in groups(role, sinks) {
        need(Resource::Group(group), &[Operation::Read]);
    }
    if let Some(prefix) = transactional_ids(role) {
        need(
            Resource::TransactionalIds(prefix.to_owned()),
            &[Operation::Write],
        );
    }
}

fn groups(role: Role, sinks: &[&str]) -> Vec<String> {
    let source = |kind: &str| format!("{GROUP_SOURCES_PREFIX}{kind}");
    let mut own = match role {
        Role::Ingest => vec![source(ingest::KIND)],
        Role::Control => vec![source(control::KIND), source(control::REDRIVES_KIND)],
        Role::Processor => vec![GROUP_PROCESSORS.to_owned(), GROUP_TOPICS.to_owned()],
        // all that it reads, it reads as a member
        Role::Sink => {
            let group = |sink: &&str| format!("{GROUP_SINKS_PREFIX}{sink}");
            return sinks.iter().map(group).collect();
        }
    };
    own.push(GROUP_READERS.to_owned());
    own
}

/// How the transactional ids of a role begin.
pub(super) fn transactional_ids(role: Role) -> Option<&'static str> {
    match role {
        Role::Processor => Some(LANE_PREFIX),
        Role::Ingest | Role::Control => Some(SOURCE_PREFIX),
        Role::Sink => None,
    }
}

/// What of it is not granted on the topics and groups that were asked about.
pub(super) fn missing(needed: &Rights, topics: &Granted, groups: &Granted) -> Rights {
    let lacks = |(resource, operations): (&Resource, &Vec<Operation>)| {
        let granted = match resource {
            Resource::Topic(name) => topics.get(name),
            Resource::Group(name) => groups.get(name),
            _ => None,
        }?;
        let lacking: Vec<Operation> = operations
            .iter()
            .copied()
            .filter(|operation| !granted.contains(operation))
            .collect();
        (!lacking.is_empty()).then(|| (resource.clone(), lacking))
    };
    needed.iter().filter_map(lacks).collect()
}

/// The command of Kafka's distribution that grants it.
pub(crate) fn command(
    brokers: &str,
    user: &str,
    resource: &Resource,
    operations: &[Operation],
) -> String {
    let (option, name) = match resource {
        Resource::Topic(name) | Resource::Topics(name) => ("--topic", &**name),
        Resource::Group(name) => ("--group", &**name),
        Resource::TransactionalIds(prefix) => ("--transactional-id", &**prefix),
        Resource::Cluster => ("--cluster", ""),
    };
    let operations: Vec<String> = operations
        .iter()
        .map(|operation| format!("--operation {}", operation.name()))
        .collect();
    let space = if name.is_empty() { "" } else { " " };
    let prefixed = match resource.told().2 {
        "PREFIXED" => " --resource-pattern-type prefixed",
        _ => "",
    };
    format!(
        "kafka-acls.sh --bootstrap-server {brokers} --add --allow-principal User:{user} {} {option}{space}{name}{prefixed}",
        operations.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use topics::catalog;
    use topics::catalog::{GRAPHS, RESULTS, TRIGGERS};

    use super::*;

    fn topic(name: &str) -> Resource {
        Resource::Topic(name.to_owned())
    }

    #[test]
    fn each_role_needs_what_the_catalog_says_it_reads_and_writes() {
        let topics = catalog::topics();
        let of = |role| needed(&topics, &["shop", "lake"], [User::Role(role)]);
        let processor = of(Role::Processor);
        assert_eq!(processor[&topic(TRIGGERS)], [Operation::Read]);
        assert_eq!(processor[&topic(RESULTS)], [Operation::Write]);
        let sink = of(Role::Sink);
        assert_eq!(sink[&topic(RESULTS)], [Operation::Read]);
        assert_eq!(sink[&topic(TRIGGERS)], [Operation::Describe]);
        let groups: Vec<&str> = sink
            .keys()
            .filter_map(|resource| match resource {
                Resource::Group(name) => Some(&**name),
                _ => None,
            })
            .collect();
        assert_eq!(groups, ["weir.sink.lake", "weir.sink.shop"]);
        let both = needed(
            &topics,
            &[],
            [User::Role(Role::Processor), User::Role(Role::Control)],
        );
        assert_eq!(both[&topic(GRAPHS)], [Operation::Read, Operation::Write]);
    }

    #[test]
    fn only_what_is_not_granted_is_missing() {
        let needed = needed(&catalog::topics(), &[], [User::Role(Role::Processor)]);
        let all: Granted = catalog::topics()
            .iter()
            .map(|topic| {
                let all = [Operation::Read, Operation::Write, Operation::Describe];
                (topic.name.to_string(), BTreeSet::from(all))
            })
            .collect();
        let groups: Granted = [GROUP_PROCESSORS, GROUP_READERS, GROUP_TOPICS]
            .map(|name| (name.to_owned(), BTreeSet::from([Operation::Read])))
            .into();
        assert!(missing(&needed, &all, &groups).is_empty());
        let mut less = all.clone();
        less.insert(RESULTS.to_owned(), BTreeSet::from([Operation::Describe]));
        assert_eq!(
            missing(&needed, &less, &groups),
            Rights::from([(topic(RESULTS), vec![Operation::Write])])
        );
        let unseen = Granted::from([(GROUP_PROCESSORS.to_owned(), BTreeSet::new())]);
        assert_eq!(missing(&needed, &all, &unseen).len(), 1);
    }

    #[test]
    fn commands_can_be_pasted() {
        assert_eq!(
            command("a:1", "weir", &topic(RESULTS), &[Operation::Write]),
            "kafka-acls.sh --bootstrap-server a:1 --add --allow-principal User:weir --operation WRITE --topic weir.results"
        );
        let ids = Resource::TransactionalIds(LANE_PREFIX.to_owned());
        assert!(
            command("a:1", "weir", &ids, &[Operation::Write])
                .ends_with("--transactional-id weir.processors- --resource-pattern-type prefixed")
        );
        assert!(
            command(
                "a:1",
                "weir",
                &Resource::Cluster,
                &[Operation::DescribeConfigs]
            )
            .ends_with("--operation DESCRIBE_CONFIGS --cluster")
        );
    }
}
