//! What the answers mean. Pure.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use topics::Timeouts;
use topics::kafka::admin::Broker;
use topics::kafka::admin::granted::Operation;
use topics::kafka::admin::places::{Place, Places};
use topics::kafka::admin::plan::{Change, Current};
use topics::kafka::admin::probe::{Clocks, Group, Open};

use crate::commands::rights::{Resource, Rights};
use crate::config::Flat;

/// Clocks further apart than this mislead people who compare logs, and retention.
const CLOCK_WARN_MS: i64 = 1_000;
const CLOCK_FAIL_MS: i64 = 60_000;
/// A group that nobody was in for so long forgets its offsets.
const OFFSETS_KEPT_MINUTES: i64 = 7 * 24 * 60;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Ok,
    Warn,
    Fail,
}

impl Level {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One check: what was found, and the way out where something is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) level: Level,
    pub(super) found: String,
    pub(super) advice: Cow<'static, str>,
}

impl Check {
    pub(super) fn ok(name: &'static str, found: String) -> Self {
        Self {
            name,
            level: Level::Ok,
            found,
            advice: "".into(),
        }
    }

    pub(super) fn warn(
        name: &'static str,
        found: String,
        advice: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            name,
            level: Level::Warn,
            found,
            advice: advice.into(),
        }
    }

    pub(super) fn fail(
        name: &'static str,
        found: String,
        advice: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            name,
            level: Level::Fail,
            found,
            advice: advice.into(),
        }
    }
}

pub(super) fn topics(changes: &[(String, Change)]) -> Check {
    let missing: Vec<&str> = changes
        .iter()
        .filter(|(_, change)| matches!(change, Change::Create { .. }))
        .map(|(topic, _)| &**topic)
        .collect();
    if !missing.is_empty() {
        return Check::fail(
            "topics",
            format!("missing: {}", missing.join(", ")),
            "weir topics apply",
        );
    }
    if changes.is_empty() {
        return Check::ok("topics", "all there, as wanted".to_owned());
    }
    let mut others: Vec<&str> = changes.iter().map(|(topic, _)| &**topic).collect();
    others.dedup();
    Check::warn(
        "topics",
        format!("not as wanted: {}", others.join(", ")),
        "weir topics plan",
    )
}

/// How often records are kept, and how many copies there are when one is acknowledged.
pub(super) fn replicas(current: &BTreeMap<String, Current>, brokers: usize) -> Vec<Check> {
    let names = |wrong: &dyn Fn(&Current) -> bool| -> String {
        let found: Vec<&str> = current
            .iter()
            .filter(|(_, c)| wrong(c))
            .map(|(name, _)| &**name)
            .collect();
        found.join(", ")
    };
    let in_sync = in_sync_min;
    let mut checks = Vec::new();
    let mut find = |level, wrong: &dyn Fn(&Current) -> bool, said: &str, advice: &'static str| {
        let found = names(wrong);
        if !found.is_empty() {
            checks.push(Check {
                name: "replication",
                level,
                found: format!("{said}: {found}"),
                advice: advice.into(),
            });
        }
    };
    let single = if brokers == 1 {
        "with one broker there is no other way; what its disk loses is lost"
    } else {
        "what that broker's disk loses is lost; move to three replicas with kafka-reassign-partitions.sh"
    };
    find(Level::Warn, &|c| c.replication == 1, "one replica", single);
    find(
        Level::Fail,
        &|c| c.replication >= 3 && in_sync(c) < 2,
        "min.insync.replicas below 2, so a record is acknowledged that one broker alone has",
        "kafka-configs.sh --alter --add-config min.insync.replicas=2, or set it for all brokers",
    );
    find(
        Level::Fail,
        &|c| c.replication > 1 && in_sync(c) > c.replication,
        "min.insync.replicas above the number of replicas, so nothing can be written",
        "lower min.insync.replicas",
    );
    find(
        Level::Warn,
        &|c| c.replication > 1 && in_sync(c) == c.replication,
        "min.insync.replicas as high as the number of replicas, so one broker that is down stops all writing",
        "one replica more, or one in-sync replica less",
    );
    if checks.is_empty() && !current.is_empty() {
        checks.push(Check::ok(
            "replication",
            "two copies or more before anything is acknowledged".to_owned(),
        ));
    }
    checks
}

/// The compatibility level that a subject has if it has none of its own.
pub(super) fn registry(at: &str, level: &str) -> Check {
    if level.starts_with("NONE") {
        return Check::warn(
            "registry",
            format!(
                "{at} has compatibility level {level}: it takes schemas that the readers of a topic cannot read"
            ),
            format!(
                "curl -X PUT -H 'content-type: application/json' -d '{{\"compatibility\":\"BACKWARD\"}}' {at}/config"
            ),
        );
    }
    Check::ok(
        "registry",
        format!("{at} answers; compatibility level {level}"),
    )
}

/// Who should be there, and who is.
pub(super) struct Standing<'a> {
    /// `kafka.brokers`
    pub(super) configured: &'a str,
    /// Those that the cluster names.
    pub(super) listed: &'a [Broker],
    /// Those of them that did not answer.
    pub(super) silent: &'a BTreeSet<i32>,
}

/// Which brokers do not serve, and whether there are still enough replicas to write. The cluster no longer names a broker
/// that its controller has given up, but the replicas that it has are known.
pub(super) fn standing(
    current: &BTreeMap<String, Current>,
    places: &Places,
    standing: &Standing<'_>,
) -> Vec<Check> {
    let Standing {
        configured,
        listed,
        silent,
    } = standing;
    let serves = |id: &i32| !silent.contains(id) && listed.iter().any(|broker| broker.id == *id);
    let all = || places.values().flatten();
    let mut down: BTreeSet<i32> = (*silent).clone();
    down.extend(
        all()
            .flat_map(|place| &place.replicas)
            .filter(|id| !serves(id)),
    );
    let short: Vec<&str> = places
        .iter()
        .filter(|(topic, places)| {
            let least = current.get(*topic).map_or(1, in_sync_min) as usize;
            let left = |place: &Place| place.in_sync.iter().filter(|id| serves(id)).count();
            places.iter().any(|place| left(place) < least)
        })
        .map(|(topic, _)| &**topic)
        .collect();
    let mut checks = Vec::new();
    if !down.is_empty() {
        let known: Vec<&str> = listed
            .iter()
            .filter(|broker| serves(&broker.id))
            .map(|broker| &*broker.address)
            .collect();
        let unknown: Vec<&str> = configured
            .split(',')
            .map(str::trim)
            .filter(|address| !known.contains(address))
            .collect();
        let ids: Vec<String> = down.iter().map(|id| format!("broker {id}")).collect();
        let found = format!(
            "{} not there ({} of {} partitions have a replica there); of kafka.brokers these are not among those that are: {}",
            ids.join(", "),
            all()
                .filter(|p| p.replicas.iter().any(|id| down.contains(id)))
                .count(),
            all().count(),
            if unknown.is_empty() {
                "none".to_owned()
            } else {
                unknown.join(", ")
            },
        );
        let advice = "start it again; if it runs, can this machine reach it by the address that it advertises?";
        // the cluster believes in one that is silent: what it leads cannot be read or written
        checks.push(if silent.is_empty() {
            Check::warn("brokers", found, advice)
        } else {
            Check::fail("brokers", found, advice)
        });
    }
    if !short.is_empty() {
        checks.push(Check::fail(
            "replication",
            format!(
                "fewer replicas in sync than min.insync.replicas, so nothing can be written: {}",
                short.join(", ")
            ),
            "start the brokers that are missing, or wait until their replicas have caught up",
        ));
    }
    checks
}

fn in_sync_min(topic: &Current) -> u32 {
    let found = topic.settings.get("min.insync.replicas");
    found.and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Settings of the brokers, each by its address.
pub(super) fn brokers(
    read: &[(String, BTreeMap<String, String>)],
    timeouts: Timeouts,
) -> Vec<Check> {
    let mut checks = Vec::new();
    let count = read.len();
    let mut all_well = true;
    for (address, settings) in read {
        let number = |name: &str| settings.get(name).and_then(|text| text.parse::<i64>().ok());
        let mut add = |check: Check| {
            all_well = false;
            // what is wrong with all of them is said once
            let known = |c: &Check| {
                c.name == check.name
                    && c.found.split_once(": ").map(|(_, said)| said)
                        == check.found.split_once(": ").map(|(_, said)| said)
            };
            if !checks.iter().any(known) {
                checks.push(check);
            }
        };
        if let Some(max) = number("transaction.max.timeout.ms")
            && max < timeouts.transaction.as_millis() as i64
        {
            let (max, ours) = (
                Flat(Duration::from_millis(max.max(0) as u64)),
                Flat(timeouts.transaction),
            );
            add(Check::fail(
                "transaction time-out",
                format!("{address}: transaction.max.timeout.ms is {max}, and Weir asks for {ours}"),
                "raise it, or lower kafka.transaction_timeout",
            ));
        }
        let (state, state_isr) = (
            number("transaction.state.log.replication.factor"),
            number("transaction.state.log.min.isr"),
        );
        let (offsets, least) = (
            number("offsets.topic.replication.factor"),
            if count >= 3 { 3 } else { 1 },
        );
        if state.is_some_and(|n| n < least) || offsets.is_some_and(|n| n < least) {
            add(Check::fail(
                "transaction state",
                format!(
                    "{address}: transaction.state.log.replication.factor {}, offsets.topic.replication.factor {}: with one broker the promises are lost",
                    shown(state),
                    shown(offsets)
                ),
                "three of each; existing internal topics have to be reassigned",
            ));
        } else if state.is_some_and(|n| n >= 3) && state_isr.is_some_and(|n| n < 2) {
            add(Check::fail(
                "transaction state",
                format!(
                    "{address}: transaction.state.log.min.isr is {}",
                    shown(state_isr)
                ),
                "set it to 2",
            ));
        } else if state == Some(1) {
            add(Check::warn(
                "transaction state",
                format!("{address}: one replica, as there is one broker"),
                "fine for development; three brokers elsewhere",
            ));
        }
        if let Some(minutes) = number("offsets.retention.minutes")
            && minutes < OFFSETS_KEPT_MINUTES
        {
            add(Check::fail(
                "offset retention",
                format!(
                    "{address}: offsets.retention.minutes is {minutes}: processors that are stopped for longer find their offsets gone and stop with an alert"
                ),
                "10080 (7 days, the default) or more",
            ));
        }
    }
    if all_well && count > 0 {
        checks.push(Check::ok(
            "broker settings",
            "transactions and offsets are kept as they have to be".to_owned(),
        ));
    }
    checks
}

fn shown(number: Option<i64>) -> String {
    number.map_or("?".to_owned(), |number| number.to_string())
}

/// What the brokers say that this client may not do. `grant` makes the command that allows it.
pub(super) fn rights(
    roles: &str,
    missing: &Rights,
    grant: impl Fn(&Resource, &[Operation]) -> String,
) -> Vec<Check> {
    if missing.is_empty() {
        let found = format!("what {roles} do with topics and groups is allowed");
        return vec![Check::ok("rights", found)];
    }
    missing
        .iter()
        .map(|(resource, operations)| {
            let names: Vec<&str> = operations.iter().map(|o| o.name()).collect();
            let (kind, name, _) = resource.told();
            let found = format!(
                "{} is missing on the {} {name}",
                names.join(", "),
                kind.to_lowercase()
            );
            Check::fail("rights", found, grant(resource, operations))
        })
        .collect()
}

pub(super) fn group(name: &str, found: &Group) -> Check {
    let said = format!("{name}: {} with {} members", found.state, found.members);
    match &*found.state {
        "Stable" => Check::ok("group", said),
        "Empty" | "Dead" => Check::warn(
            "group",
            said,
            "no processor runs; start weir serve --role processor",
        ),
        _ => Check::warn(
            "group",
            said,
            "it rebalances; if it goes on doing so, a processor comes and goes: look at their logs",
        ),
    }
}

/// What was open at both looks, at the same place.
pub(super) fn hanging(first: &[Open], second: &[Open]) -> Check {
    let hangs: Vec<String> = second
        .iter()
        .filter(|open| {
            first.iter().any(|f| {
                f.topic == open.topic && f.partition == open.partition && f.stable == open.stable
            })
        })
        .map(|open| {
            format!(
                "{}/{} at offset {} ({} behind it)",
                open.topic, open.partition, open.stable, open.behind
            )
        })
        .collect();
    if hangs.is_empty() {
        return Check::ok(
            "open transactions",
            format!(
                "none that is older than the time-out ({} were open and ended)",
                first.len()
            ),
        );
    }
    Check::fail(
        "open transactions",
        hangs.join(", "),
        "readers see nothing behind them; kafka-transactions.sh find-hanging and abort",
    )
}

pub(super) fn clocks(clocks: Clocks) -> Check {
    let Clocks { ahead_ms, error_ms } = clocks;
    let found = format!(
        "a record was written and read back; the broker's clock is {ahead_ms} ms (± {error_ms}) ahead of this machine's"
    );
    let sure = ahead_ms.abs() - error_ms;
    if sure > CLOCK_FAIL_MS {
        Check::fail(
            "write",
            found,
            "set both by NTP: retention and times of triggers go by them",
        )
    } else if sure > CLOCK_WARN_MS {
        Check::warn("write", found, "set both by NTP")
    } else {
        Check::ok("write", found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(checks: &[Check]) -> Vec<(&'static str, Level)> {
        checks
            .iter()
            .map(|check| (check.name, check.level))
            .collect()
    }

    fn settings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn replication() {
        for (replication, in_sync, brokers, expected) in [
            (1, "1", 1, vec![("replication", Level::Warn)]),
            (3, "2", 3, vec![("replication", Level::Ok)]),
            (3, "1", 3, vec![("replication", Level::Fail)]),
            (3, "3", 3, vec![("replication", Level::Warn)]),
            (2, "3", 3, vec![("replication", Level::Fail)]),
        ] {
            let topic = Current {
                partitions: 1,
                replication,
                settings: settings(&[("min.insync.replicas", in_sync)]),
            };
            let checks = replicas(&BTreeMap::from([("t".to_owned(), topic)]), brokers);
            assert_eq!(levels(&checks), expected, "{replication} {in_sync}");
        }
    }

    #[test]
    fn who_is_down_and_whether_writing_goes_on() {
        let topic = Current {
            partitions: 1,
            replication: 3,
            settings: settings(&[("min.insync.replicas", "2")]),
        };
        let current = BTreeMap::from([("t".to_owned(), topic)]);
        let of = |listed: &[i32], silent: &[i32], in_sync: &[i32]| {
            let broker = |id: &i32| Broker {
                id: *id,
                address: format!("b:{id}"),
            };
            let place = Place {
                replicas: vec![1, 2, 3],
                in_sync: in_sync.to_vec(),
            };
            let listed: Vec<Broker> = listed.iter().map(broker).collect();
            let silent = silent.iter().copied().collect();
            let places = Places::from([("t".to_owned(), vec![place])]);
            let brokers = Standing {
                configured: "b:1,b:2,b:3",
                listed: &listed,
                silent: &silent,
            };
            standing(&current, &places, &brokers)
        };
        assert_eq!(of(&[1, 2, 3], &[], &[1, 2, 3]), []);
        let fenced = of(&[1, 3], &[], &[1, 3]);
        assert_eq!(levels(&fenced), [("brokers", Level::Warn)]);
        assert!(
            fenced[0].found.starts_with("broker 2 ") && fenced[0].found.ends_with(": b:2"),
            "{}",
            fenced[0].found
        );
        let silent = of(&[1, 2, 3], &[2], &[1, 2, 3]);
        assert_eq!(levels(&silent), [("brokers", Level::Fail)]);
        let two = of(&[1, 3], &[3], &[1, 3]);
        assert_eq!(
            levels(&two),
            [("brokers", Level::Fail), ("replication", Level::Fail)]
        );
        assert!(two[0].found.starts_with("broker 2, broker 3 "));
        let behind = of(&[1, 2, 3], &[], &[1]);
        assert_eq!(levels(&behind), [("replication", Level::Fail)]);
    }

    #[test]
    fn settings_of_brokers() {
        let good = settings(&[
            ("transaction.max.timeout.ms", "900000"),
            ("transaction.state.log.replication.factor", "3"),
            ("transaction.state.log.min.isr", "2"),
            ("offsets.topic.replication.factor", "3"),
            ("offsets.retention.minutes", "10080"),
        ]);
        let three = |settings: &BTreeMap<String, String>| -> Vec<_> {
            (1..=3)
                .map(|n| (format!("b:{n}"), settings.clone()))
                .collect()
        };
        let timeouts = Timeouts::default();
        assert_eq!(
            levels(&brokers(&three(&good), timeouts)),
            [("broker settings", Level::Ok)]
        );
        for (name, value, expected) in [
            (
                "transaction.max.timeout.ms",
                "5000",
                ("transaction time-out", Level::Fail),
            ),
            (
                "transaction.state.log.replication.factor",
                "1",
                ("transaction state", Level::Fail),
            ),
            (
                "transaction.state.log.min.isr",
                "1",
                ("transaction state", Level::Fail),
            ),
            (
                "offsets.retention.minutes",
                "60",
                ("offset retention", Level::Fail),
            ),
        ] {
            let mut wrong = good.clone();
            wrong.insert(name.to_owned(), value.to_owned());
            assert_eq!(
                levels(&brokers(&three(&wrong), timeouts)),
                [expected],
                "{name}"
            );
        }
    }

    #[test]
    fn only_what_stays_open_hangs() {
        let open = |partition, stable| Open {
            topic: "t".to_owned(),
            partition,
            stable,
            behind: 3,
        };
        let first = [open(0, 5), open(1, 7)];
        assert_eq!(
            hanging(&first, &[open(0, 6), open(2, 7)]).level,
            Level::Ok,
            "they ended, others began"
        );
        assert_eq!(hanging(&first, &[open(1, 7)]).level, Level::Fail);
        assert_eq!(hanging(&[], &[]).level, Level::Ok);
    }

    #[test]
    fn clocks_are_judged_by_what_is_sure() {
        let level = |ahead_ms, error_ms| clocks(Clocks { ahead_ms, error_ms }).level;
        assert_eq!(level(900, 1), Level::Ok);
        assert_eq!(level(-2_000, 5), Level::Warn);
        assert_eq!(
            level(2_000, 1_500),
            Level::Ok,
            "the write took too long to tell"
        );
        assert_eq!(level(120_000, 5), Level::Fail);
    }

    #[test]
    fn missing_topics_fail_and_others_warn() {
        let set = |topic: &str| {
            (
                topic.to_owned(),
                Change::Set {
                    setting: "retention.ms",
                    from: None,
                    to: "1".to_owned(),
                },
            )
        };
        let create = Change::Create {
            partitions: 1,
            replication: None,
            settings: BTreeMap::new(),
        };
        assert_eq!(topics(&[]).level, Level::Ok);
        assert_eq!(topics(&[set("a"), set("a")]).found, "not as wanted: a");
        assert_eq!(
            topics(&[set("a"), ("b".to_owned(), create)]).level,
            Level::Fail
        );
    }
}
