//! The parts of GitHub's payloads that are looked at. Every field may be missing or be something else.

use std::borrow::Cow;
use std::fmt;

use activity::{Count, Counts, Finding, Object, Text};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// As it is sent by hand, where no header names the kind.
#[derive(Deserialize)]
pub(crate) struct Wrapped<'a> {
    #[serde(borrow)]
    pub(crate) event: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) payload: &'a RawValue,
}

/// The objects that an event can be about, from the particular to the general: of a comment on an issue the link and
/// the time are the comment's, and the title, which a comment does not have, is the issue's.
const SUBJECTS: [&str; 37] = [
    "comment",
    "review",
    "security_advisory",
    "repository_advisory",
    "issue",
    "pull_request",
    "discussion",
    "release",
    "check_run",
    "workflow_job",
    "workflow_run",
    "check_suite",
    "deployment_status",
    "deployment",
    "head_commit",
    "commit",
    "milestone",
    "project_card",
    "project_column",
    "project",
    "package",
    "registry_package",
    "forkee",
    "merge_group",
    "branch_protection_rule",
    "rule",
    "label",
    "member",
    "team",
    "membership",
    "sponsorship",
    "installation",
    "marketplace_purchase",
    "key",
    "build",
    "blocked_user",
    "invitation",
];

/// What a payload says, read in one pass.
#[derive(Default)]
pub(crate) struct Payload<'a> {
    pub(crate) action: Text<'a>,
    pub(crate) repository: Place<'a>,
    pub(crate) organization: Place<'a>,
    pub(crate) sender: Place<'a>,
    pub(crate) pusher: Place<'a>,
    pub(crate) number: Ranked<Count>,
    pub(crate) title: Ranked<Text<'a>>,
    pub(crate) url: Ranked<Text<'a>>,
    pub(crate) time: Ranked<Text<'a>>,
    pub(crate) counts: Counts,
    pub(crate) finding: Finding<'a>,
}

/// The value of the first rank that has one.
#[derive(Default)]
pub(crate) struct Ranked<T> {
    pub(crate) value: T,
    rank: usize,
}

/// A repository, an organisation or a person.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct Place<'a> {
    #[serde(borrow)]
    pub(crate) full_name: Text<'a>,
    #[serde(borrow)]
    pub(crate) login: Text<'a>,
    #[serde(borrow)]
    pub(crate) name: Text<'a>,
    #[serde(borrow)]
    pub(crate) html_url: Text<'a>,
    #[serde(borrow)]
    pub(crate) updated_at: Text<'a>,
}

/// Any object that an event can be about. Each line is one meaning, its fields in the order of preference.
#[derive(Deserialize, Default)]
#[serde(default)]
#[rustfmt::skip]
struct Subject<'a> {
    number: Count,
    #[serde(borrow)] title: Text<'a>, #[serde(borrow)] display_title: Text<'a>, #[serde(borrow)] summary: Text<'a>,
    #[serde(borrow)] name: Text<'a>, #[serde(borrow)] tag_name: Text<'a>, #[serde(borrow)] message: Text<'a>,
    #[serde(borrow)] note: Text<'a>, #[serde(borrow)] environment: Text<'a>, #[serde(borrow)] head_ref: Text<'a>,
    #[serde(borrow)] login: Text<'a>,
    #[serde(borrow)] html_url: Text<'a>,
    #[serde(borrow)] updated_at: Text<'a>, #[serde(borrow)] submitted_at: Text<'a>,
    #[serde(borrow)] published_at: Text<'a>, #[serde(borrow)] timestamp: Text<'a>, #[serde(borrow)] created_at: Text<'a>,
    #[serde(borrow)] severity: Text<'a>, #[serde(borrow)] state: Text<'a>, #[serde(borrow)] ghsa_id: Text<'a>,
    commits: Count, additions: Count, deletions: Count, changed_files: Count, comments: Count,
}

/// The `alert` of the Dependabot, code scanning, secret scanning and vulnerability alert events.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Alert<'a> {
    number: Count,
    #[serde(borrow)]
    state: Text<'a>,
    #[serde(borrow)]
    severity: Text<'a>,
    #[serde(borrow)]
    html_url: Text<'a>,
    #[serde(borrow)]
    created_at: Text<'a>,
    #[serde(borrow)]
    updated_at: Text<'a>,
    #[serde(borrow)]
    affected_package_name: Text<'a>,
    #[serde(borrow)]
    secret_type: Text<'a>,
    #[serde(borrow)]
    secret_type_display_name: Text<'a>,
    #[serde(borrow)]
    rule: Object<Rule<'a>>,
    #[serde(borrow)]
    security_advisory: Object<Advisory<'a>>,
    #[serde(borrow)]
    dependency: Object<Dependency<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Rule<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow)]
    severity: Text<'a>,
    #[serde(borrow)]
    security_severity_level: Text<'a>,
    #[serde(borrow)]
    description: Text<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Advisory<'a> {
    #[serde(borrow)]
    severity: Text<'a>,
    #[serde(borrow)]
    summary: Text<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Dependency<'a> {
    #[serde(borrow)]
    package: Object<Package<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Package<'a> {
    #[serde(borrow)]
    name: Text<'a>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Payload<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Payload<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Payload<'de>, A::Error> {
        let mut payload = Payload::default();
        // Ranks below the subjects' own.
        let (first, last) = (0, SUBJECTS.len() + 1);
        while let Some(key) = map.next_key::<Text>()? {
            match key.get().unwrap_or_default() {
                "action" => payload.action = map.next_value()?,
                "repository" => payload.repository = map.next_value::<Object<_>>()?.0,
                "organization" => payload.organization = map.next_value::<Object<_>>()?.0,
                "sender" => payload.sender = map.next_value::<Object<_>>()?.0,
                "pusher" => payload.pusher = map.next_value::<Object<_>>()?.0,
                "alert" => payload.alert(map.next_value::<Object<_>>()?.0),
                // Of a push; a status has its branches, a ping a zen.
                "commits" => payload.counts.commits = map.next_value()?,
                "compare" => payload.url.offer(last, map.next_value()?),
                "zen" => payload.title.offer(first, map.next_value()?),
                "context" => payload.title.offer(last, map.next_value()?),
                "ref" => payload.title.offer(last + 1, map.next_value()?),
                "description" => payload.title.offer(last + 2, map.next_value()?),
                key => match SUBJECTS.iter().position(|subject| *subject == key) {
                    Some(rank) => payload.subject(rank + 1, map.next_value::<Object<_>>()?.0),
                    None => {
                        map.next_value::<IgnoredAny>()?;
                    }
                },
            }
        }
        Ok(payload)
    }
}

impl<'a> Payload<'a> {
    fn subject(&mut self, rank: usize, subject: Subject<'a>) {
        let title = subject
            .title
            .or(subject.display_title)
            .or(subject.summary)
            .or(subject.name)
            .or(subject.tag_name);
        let title = title
            .or(subject.message)
            .or(subject.note)
            .or(subject.environment)
            .or(subject.head_ref);
        let time = subject
            .updated_at
            .or(subject.submitted_at)
            .or(subject.published_at);
        self.number.offer(rank, subject.number);
        self.title.offer(rank, title.or(subject.login));
        self.url.offer(rank, subject.html_url);
        self.time
            .offer(rank, time.or(subject.timestamp).or(subject.created_at));
        let counts = &mut self.counts;
        counts.commits = counts.commits.or(subject.commits);
        counts.additions = counts.additions.or(subject.additions);
        counts.deletions = counts.deletions.or(subject.deletions);
        counts.changed_files = counts.changed_files.or(subject.changed_files);
        counts.comments = counts.comments.or(subject.comments);
        if !subject.severity.is_none() {
            self.finding = Finding {
                severity: subject.severity,
                state: subject.state,
                what: subject.ghsa_id,
            };
        }
    }

    fn alert(&mut self, alert: Alert<'a>) {
        let Object(rule) = alert.rule;
        let Object(advisory) = alert.security_advisory;
        let secret = alert.secret_type_display_name.or(alert.secret_type);
        let what = alert
            .affected_package_name
            .or(alert.dependency.0.package.0.name)
            .or(rule.id)
            .or(secret);
        self.number.offer(0, alert.number);
        self.title
            .offer(0, advisory.summary.or(rule.description).or(what.clone()));
        self.url.offer(0, alert.html_url);
        self.time.offer(0, alert.updated_at.or(alert.created_at));
        let severity = alert
            .severity
            .or(advisory.severity)
            .or(rule.security_severity_level)
            .or(rule.severity);
        self.finding = Finding {
            severity,
            state: alert.state,
            what,
        };
    }
}

impl<T: Default + PartialEq> Ranked<T> {
    fn offer(&mut self, rank: usize, value: T) {
        let none = T::default();
        if value != none && (self.value == none || rank < self.rank) {
            *self = Self { value, rank };
        }
    }
}
