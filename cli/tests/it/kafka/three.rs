//! Three brokers: topics have three replicas, and `weir doctor` says which broker is dead and when writing ends.

use serde_json::Value;
use topics::KafkaConfig;
use topics::kafka::admin::Admin;
use xtask::services::kafka::Temporary;

use crate::weir::{Ran, run, until};

fn weir(arguments: &[&str], brokers: &str) -> Ran {
    let more = ["--brokers", brokers, "-o", "json"];
    run("http://127.0.0.1:1", &[arguments, &more[..]].concat())
}

/// What `weir doctor` says in its checks of this name.
fn said(doctor: &Ran, check: &str) -> Vec<(String, String)> {
    let text = |check: &Value, field: &str| check[field].as_str().unwrap().to_owned();
    let checks = doctor.json();
    let of_it = checks.as_array().unwrap().iter();
    of_it
        .filter(|found| found["check"] == check)
        .map(|found| (text(found, "status"), text(found, "found")))
        .collect()
}

#[test]
fn topics_and_doctor_on_three_brokers_of_which_one_and_then_two_die() {
    let builder = Temporary::builder().brokers(3).short_timeouts();
    let mut kafka = builder.start().unwrap();
    let brokers = kafka.brokers().to_owned();
    weir(&["topics", "apply"], &brokers).ok();
    // the brokers hear of it one after the other
    until("every broker knows the topics", || {
        let left = weir(&["topics", "plan"], &brokers).ok().json();
        left == Value::Array(Vec::new())
    });
    let config = KafkaConfig {
        brokers: brokers.clone(),
        ..KafkaConfig::default()
    };
    let all = topics::catalog::topics();
    let names: Vec<&str> = all.iter().map(|topic| &*topic.name).collect();
    let admin = Admin::new(&config).unwrap();
    let mut found = std::collections::BTreeMap::new();
    until("the broker that is asked knows them all", || {
        found = admin.topics(&names).unwrap();
        found.len() == all.len()
    });
    for (name, topic) in &found {
        let in_sync = &topic.settings["min.insync.replicas"];
        assert_eq!((topic.replication, &**in_sync), (3, "2"), "{name}");
    }

    let well = weir(&["doctor", "--write"], &brokers);
    assert_eq!(well.code, 0, "{}", well.out);
    for check in [
        "brokers",
        "topics",
        "replication",
        "broker settings",
        "write",
    ] {
        let of_it = said(&well, check);
        assert!(
            !of_it.is_empty() && of_it.iter().all(|(status, _)| status == "ok"),
            "{check}: {}",
            well.out
        );
    }

    kafka.kill(1).unwrap();
    let one = weir(&["doctor"], &brokers);
    let dead = brokers.split(',').nth(1).unwrap();
    let names_it = |(status, found): &(String, String)| {
        status != "ok" && found.starts_with("broker 2 not there") && found.contains(dead)
    };
    assert!(said(&one, "brokers").iter().any(names_it), "{}", one.out);
    assert!(!one.out.contains("nothing can be written"), "{}", one.out);

    kafka.kill(2).unwrap();
    let two = weir(&["doctor"], &brokers);
    assert_eq!(two.code, 1, "{}", two.out);
    let names_both = |(status, found): &(String, String)| {
        status == "fail" && found.starts_with("broker 2, broker 3 not there")
    };
    assert!(said(&two, "brokers").iter().any(names_both), "{}", two.out);
    let writes_end = |(status, found): &(String, String)| {
        status == "fail" && found.contains("nothing can be written")
    };
    assert!(
        said(&two, "replication").iter().any(writes_end),
        "{}",
        two.out
    );
}
