//! What a graph says about failure, through the line: `fatal`, `on_error`, tries after traps and time-outs, limits of the whole graph.

use std::time::{Duration, Instant};

use schemas::records::{DeadLetter, FailureKind, SegmentResult};
use store::GraphState;
use topics::catalog::{DEAD_LETTERS, PARKED};

use crate::faulty::Faults;
use crate::lanes::{Line, data, small};

fn line() -> Line {
    Line::start(&small(), Faults::every(0))
}

fn one(line: &Line, steps: &str, event: &str) -> SegmentResult {
    line.apply("g", steps);
    line.trigger("g", [("k".to_owned(), event.to_owned())]);
    line.results(1).remove(0)
}

fn failure(result: &SegmentResult) -> (FailureKind, &str) {
    let failure = result.failure.as_ref().expect("it fails");
    (failure.kind, &failure.reason)
}

#[test]
fn fatal_pauses_the_graph_and_what_comes_is_parked() {
    let mut line = line();
    line.apply("g", "  bad: { uses: bad, from: [t] }\n");
    line.trigger("g", [("k".to_owned(), r#"{"do":"fatal"}"#.to_owned())]);
    let result = line.results(1).remove(0);
    assert_eq!(failure(&result), (FailureKind::Fatal, "asked to be fatal"));
    let state = || {
        let active = line.runtime.block_on(line.store.active("default", "g"));
        active.unwrap().unwrap()
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    while state().state != GraphState::Paused {
        assert!(Instant::now() < deadline, "it is not paused");
        std::thread::sleep(Duration::from_millis(10));
    }
    let why = line.runtime.block_on(line.store.pause_reason(&state()));
    let (reason, execution) = why.unwrap().expect("weir paused it, and says why");
    assert!(reason.contains("asked to be fatal"), "{reason}");
    assert_eq!(execution, result.execution.to_string());
    // it is a dead letter all the same, and later ones wait for the resume
    assert_eq!(line.read(DEAD_LETTERS, 1).len(), 1);
    line.trigger("g", (0..5).map(|n| (n.to_string(), "{}".to_owned())));
    assert_eq!(line.read(PARKED, 5).len(), 5);
    line.stop();
}

#[test]
fn a_graph_may_ask_to_be_paused_or_to_make_no_dead_letters() {
    let mut line = line();
    let steps = "  bad: { uses: bad, from: [t] }\non_error: discard\n";
    let result = one(&line, steps, r#"{"do":"reject"}"#);
    assert_eq!(failure(&result).0, FailureKind::Rejected);
    line.apply("p", "  bad: { uses: bad, from: [t] }\non_error: pause\n");
    line.trigger("p", [("k".to_owned(), r#"{"do":"panic"}"#.to_owned())]);
    line.results(2);
    // the one of `p` alone
    let letters = line.read(DEAD_LETTERS, 1);
    let letter = DeadLetter::from_headers(&letters[0].record.headers).unwrap();
    assert_eq!(letter.graph.as_deref(), Some("p"));
    let paused = line.runtime.block_on(line.store.active("default", "p"));
    assert_eq!(paused.unwrap().unwrap().state, GraphState::Paused);
    line.stop();
}

#[test]
fn traps_and_time_outs_are_tried_again_only_where_the_graph_says_so() {
    let line = line();
    let steps = "  bad: { uses: bad, from: [t], retry: { attempts: 3, backoff: constant } }\n";
    let result = one(&line, steps, r#"{"do":"panic"}"#);
    let failed = result.failure.as_ref().unwrap();
    assert_eq!((failed.kind, failed.attempt), (FailureKind::Trap, 1));
    let steps = "  bad: { uses: bad, from: [t], limits: { time: 30ms }, retry: { attempts: 3, backoff: constant, on: [trap, timeout] } }\n";
    for (number, (event, kind)) in [
        (r#"{"do":"panic"}"#, FailureKind::Trap),
        (r#"{"do":"loop"}"#, FailureKind::Timeout),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("again-{number}");
        line.apply(&name, steps);
        line.trigger(&name, [("k".to_owned(), event.to_owned())]);
        let results = line.results(2 + number);
        let failed = results.iter().find(|r| r.graph == name).unwrap();
        let failed = failed.failure.as_ref().unwrap();
        assert_eq!((failed.kind, failed.attempt), (kind, 3));
    }
}

#[test]
fn a_failure_can_leave_by_the_port_error() {
    let line = line();
    let steps = "  bad: { uses: bad, from: [t], ports: [out, error], on_error: route }\n  note: { uses: copy, from: [bad.error] }\n";
    let result = one(&line, steps, r#"{"do":"reject","n":7}"#);
    assert_eq!(result.failure, None);
    let outputs: Vec<_> = result
        .outputs
        .iter()
        .map(|o| (o.step.as_str(), data(o)))
        .collect();
    let expected = r#"{"attempt":1,"content_type":"application/json","data":{"do":"reject","n":7},"edge":"t","kind":"rejected","reason":"asked to reject","step":"bad"}"#;
    assert_eq!(outputs, [("note", expected.to_owned())]);
    // what is about the graph is not passed over
    line.apply("f", steps);
    line.trigger("f", [("k".to_owned(), r#"{"do":"fatal"}"#.to_owned())]);
    let results = line.results(2);
    let fatal = results.iter().find(|result| result.graph == "f").unwrap();
    assert_eq!(failure(fatal).0, FailureKind::Fatal);
}

#[test]
fn a_graph_has_a_time_and_a_number_of_calls() {
    let line = line();
    let steps = "  one: { uses: bad, from: [t], limits: { time: 5s } }\nlimits: { time: 40ms }\n";
    let result = one(&line, steps, r#"{"do":"loop"}"#);
    assert_eq!(failure(&result).0, FailureKind::Timeout);
    // waiting between tries counts: no third try fits
    line.apply(
        "w",
        "  one: { uses: bad, from: [t], retry: { attempts: 50, backoff: constant } }\nlimits: { time: 250ms }\n",
    );
    line.trigger(
        "w",
        [("k".to_owned(), r#"{"do":"retry","n":200}"#.to_owned())],
    );
    let results = line.results(2);
    let waited = results.iter().find(|result| result.graph == "w").unwrap();
    assert_eq!(failure(waited).0, FailureKind::Timeout);
    assert!(
        failure(waited).1.contains("the graph's `limits: { time }`"),
        "{:?}",
        waited.failure
    );
    // a fan-out
    line.apply(
        "n",
        "  fan: { uses: fan, from: [t], ports: [a, b, c] }\n  each: { uses: copy, from: [fan.a] }\nlimits: { calls: 10 }\n",
    );
    let many = |n: usize| format!(r#"{{"ports":[{}]}}"#, vec!["\"a\""; n].join(","));
    line.trigger("n", [("1".to_owned(), many(9)), ("2".to_owned(), many(10))]);
    let results = line.results(4);
    let mut kinds: Vec<_> = results
        .iter()
        .filter(|result| result.graph == "n")
        .map(|result| result.failure.as_ref().map(|failure| failure.kind))
        .collect();
    kinds.sort_by_key(|kind| kind.is_some());
    assert_eq!(kinds, [None, Some(FailureKind::TooManyCalls)]);
}

#[test]
fn a_join_runs_once_when_all_its_branches_have_settled_whatever_they_did() {
    // (events on a and b, what the join gets)
    let line = line();
    let steps = "  fan: { uses: fan, from: [t], ports: [a, b, c] }
  left: { uses: copy, from: [fan.a], when: 'event.data.n < 10' }
  right: { uses: bad, from: [fan.b], on_error: continue }
  both: { uses: echo, from: [left, right], join: all }
";
    line.apply("j", steps);
    for (number, (ports, edges)) in [
        (vec!["a", "b"], Some(2)),
        (vec!["a"], Some(1)),
        (vec!["b"], Some(1)),
        (vec!["c"], None),
        (vec!["a", "a", "b"], Some(3)),
    ]
    .into_iter()
    .enumerate()
    {
        let ports: Vec<String> = ports.iter().map(|port| format!("\"{port}\"")).collect();
        let event = format!(r#"{{"ports":[{}]}}"#, ports.join(","));
        line.trigger("j", [(number.to_string(), event)]);
        let results = line.results(number + 1);
        let last = results.last().unwrap();
        assert_eq!(last.failure, None);
        let joined = last.outputs.iter().filter(|output| output.step == "both");
        let joined: Vec<serde_json::Value> = joined
            .map(|o| serde_json::from_str(&data(o)).unwrap())
            .collect();
        let events = joined
            .first()
            .map(|joined| joined["input"].as_array().unwrap().len());
        assert_eq!(
            (joined.len(), events),
            (usize::from(edges.is_some()), edges),
            "{number}"
        );
    }
}
