//! The kernel as a table: a graph, what its steps answer, and the calls and results that must come of it.

use bytes::Bytes;
use proptest::prelude::*;
use schemas::graph::{self, Graph};

use super::*;

fn graph(steps: &str) -> Graph {
    let text = format!("weir: 1\nname: g\ntriggers:\n  t: {{ manual: {{}} }}\nsteps:\n{steps}");
    graph::parse(&text, "g.yaml").unwrap_or_else(|problems| panic!("{problems}"))
}

fn event(data: &str) -> Event {
    Event {
        data: Bytes::from(data.to_owned()),
        content_type: "application/json".into(),
        ..Event::default()
    }
}

fn outputs(list: &[(&str, &str)]) -> Outcome {
    let output = |(port, data): &(&str, &str)| StepOutput {
        port: (*port).into(),
        key: None,
        content_type: None,
        headers: vec![],
        data: Bytes::from((*data).to_owned()),
    };
    Outcome::Outputs(list.iter().map(output).collect())
}

/// Runs to the end; says each call and what came out.
fn drive(
    graph: &Graph,
    entry: Entry,
    bounds: Bounds,
    mut answer: impl FnMut(&str, u32) -> Outcome,
) -> (String, Finished) {
    let mut run = Run::new(graph, [7; 16], entry, bounds);
    let mut said = Vec::new();
    while let Some(call) = run.next_call() {
        let input: Vec<String> = call
            .input
            .iter()
            .map(|(edge, e)| format!("{edge}={}", String::from_utf8_lossy(&e.data)))
            .collect();
        let again = if call.attempt > 1 {
            format!("#{} after {:?}", call.attempt, call.after)
        } else {
            String::new()
        };
        said.push(format!("{}{again}({})", call.step.name, input.join(" ")));
        let outcome = answer(&call.step.name, call.attempt);
        run.settle(outcome, vec![], 0);
    }
    let done = run.finish();
    for output in &done.outputs {
        let Payload::Inline(data) = &output.data else {
            panic!("a reference")
        };
        said.push(format!(
            "=> {}.{}={}",
            output.step,
            output.port,
            String::from_utf8_lossy(data)
        ));
    }
    for started in &done.started {
        said.push(format!("-> {}", graph.steps[started.step].name));
    }
    if let Some(failure) = &done.failure {
        said.push(format!(
            "!! {} {}",
            failure.step.as_deref().unwrap_or("-"),
            failure.kind
        ));
    }
    (said.join(", "), done)
}

/// A trigger's event through the graph.
fn check(steps: &str, answer: impl FnMut(&str, u32) -> Outcome, expected: &str) -> Finished {
    let (said, done) = drive(
        &graph(steps),
        Entry::Trigger(0, event("{\"n\":1}")),
        Bounds::default(),
        answer,
    );
    assert_eq!(said.replace("{\"n\":1}", "E"), expected);
    done
}

const DIAMOND: &str = "
  a: { uses: ./a.wasm, ports: [l, r], from: [t] }
  b: { uses: ./b.wasm, from: [a.l] }
  c: { uses: ./c.wasm, from: [a.r] }
  j: { uses: ./j.wasm, from: [b, c], join: all }
";

#[test]
fn a_chain_runs_in_order_and_its_end_is_the_output() {
    let steps = "\n  b: { uses: ./b.wasm, from: [a] }\n  a: { uses: ./a.wasm, from: [t] }\n";
    check(
        steps,
        |step, _| outputs(&[("out", step)]),
        "a(t=E), b(a.out=a), => b.out=b",
    );
}

#[test]
fn several_outputs_are_several_calls_and_each_output_goes_its_way() {
    let steps = "\n  a: { uses: ./a.wasm, ports: [x, y], from: [t] }\n  b: { uses: ./b.wasm, from: [a.x] }\n";
    let done = check(
        steps,
        |step, _| {
            if step == "a" {
                outputs(&[("x", "1"), ("y", "2"), ("x", "3")])
            } else {
                outputs(&[])
            }
        },
        "a(t=E), b(a.x=1), b(a.x=3), => a.y=2",
    );
    assert_eq!(done.outputs[0].number, 0);
    check(steps, |_, _| outputs(&[]), "a(t=E)");
}

#[test]
fn a_join_runs_once_with_every_branch_and_not_at_all_without_any() {
    let answer = |l: &'static [(&'static str, &'static str)]| {
        move |step: &str, _| match step {
            "a" => outputs(l),
            "j" => outputs(&[("out", "J")]),
            other => outputs(&[("out", if other == "b" { "B" } else { "C" })]),
        }
    };
    check(
        DIAMOND,
        answer(&[("l", "1"), ("r", "2")]),
        "a(t=E), b(a.l=1), c(a.r=2), j(b.out=B c.out=C), => j.out=J",
    );
    check(
        DIAMOND,
        answer(&[("r", "2")]),
        "a(t=E), c(a.r=2), j(c.out=C), => j.out=J",
    );
    check(
        DIAMOND,
        answer(&[("l", "1"), ("l", "2")]),
        "a(t=E), b(a.l=1), b(a.l=2), j(b.out=B b.out=B), => j.out=J",
    );
    check(DIAMOND, answer(&[]), "a(t=E)");
}

#[test]
fn a_condition_makes_a_branch_silent_and_a_broken_one_fails() {
    let when = |expression: &str| {
        format!(
            "\n  a: {{ uses: ./a.wasm, from: [t], when: '{expression}' }}\n  b: {{ uses: ./b.wasm, from: [t] }}\n"
        )
    };
    let answer = |step: &str, _| outputs(&[("out", step)]);
    check(&when("event.data.n > 1"), answer, "b(t=E), => b.out=b");
    check(
        &when("event.data.n == 1"),
        answer,
        "a(t=E), b(t=E), => a.out=a, => b.out=b",
    );
    let done = check(&when("event.data.missing > 1"), answer, "!! a expression");
    assert!(done.failure.unwrap().reason.starts_with("`when`: "));
}

#[test]
fn a_failed_step_fails_all_and_nothing_of_it_leaves() {
    for (outcome, kind) in [
        (Outcome::Reject("r".into()), "rejected"),
        (Outcome::Fatal("r".into()), "fatal"),
        (
            Outcome::Retry {
                delay_ms: None,
                reason: "r".into(),
            },
            "retries-exhausted",
        ),
        (Outcome::Broken(Broken::Trap, "r".into()), "trap"),
        (Outcome::Broken(Broken::Timeout, "r".into()), "time-out"),
        (
            Outcome::Broken(Broken::OutOfMemory, "r".into()),
            "out-of-memory",
        ),
        (
            Outcome::Broken(Broken::OutputTooLarge, "r".into()),
            "output-too-large",
        ),
        (outputs(&[("nowhere", "")]), "protocol"),
    ] {
        let answer = |step: &str, _| match step {
            "a" => outputs(&[("l", "1"), ("r", "2")]),
            "c" => outcome.clone(),
            _ => outputs(&[("out", "")]),
        };
        let done = check(
            DIAMOND,
            answer,
            &format!("a(t=E), b(a.l=1), c(a.r=2), !! c {kind}"),
        );
        assert!(done.outputs.is_empty() && done.started.is_empty());
    }
}

#[test]
fn on_error_continue_is_silence_but_not_for_fatal() {
    let steps = DIAMOND.replace("from: [a.r] }", "from: [a.r], on_error: continue }");
    let answer = |failure: Outcome| {
        move |step: &str, _| match step {
            "a" => outputs(&[("l", "1"), ("r", "2")]),
            "c" => failure.clone(),
            _ => outputs(&[("out", "x")]),
        }
    };
    check(
        &steps,
        answer(Outcome::Reject("r".into())),
        "a(t=E), b(a.l=1), c(a.r=2), j(b.out=x), => j.out=x",
    );
    check(
        &steps,
        answer(Outcome::Fatal("r".into())),
        "a(t=E), b(a.l=1), c(a.r=2), !! c fatal",
    );
}

#[test]
fn a_retry_is_the_same_call_again_until_its_tries_are_used_up() {
    let steps =
        "\n  a: { uses: ./a.wasm, from: [t], retry: { attempts: 3, backoff: exponential } }\n";
    let retry = || Outcome::Retry {
        delay_ms: None,
        reason: "not yet".into(),
    };
    check(
        steps,
        |_, attempt| {
            if attempt < 3 {
                retry()
            } else {
                outputs(&[("out", "ok")])
            }
        },
        "a(t=E), a#2 after 100ms(t=E), a#3 after 200ms(t=E), => a.out=ok",
    );
    let done = check(
        steps,
        |_, _| retry(),
        "a(t=E), a#2 after 100ms(t=E), a#3 after 200ms(t=E), !! a retries-exhausted",
    );
    assert_eq!(done.failure.unwrap().attempt, 3);
}

#[test]
fn a_hop_ends_the_segment_and_the_next_one_starts_at_its_step() {
    let steps = "
  a: { uses: ./a.wasm, from: [t] }
  h: { uses: ./h.wasm, from: [a], hop: event.data.k, when: 'event.data.k != \"no\"' }
  z: { uses: ./z.wasm, from: [h] }
";
    let answer = |step: &str, _: u32| match step {
        "a" => outputs(&[
            ("out", "{\"k\":\"p\"}"),
            ("out", "{\"k\":\"no\"}"),
            ("out", "{\"k\":\"q\"}"),
        ]),
        other => outputs(&[("out", other)]),
    };
    let done = check(steps, answer, "a(t=E), -> h, -> h");
    let keys: Vec<_> = done
        .started
        .iter()
        .map(|s| s.key.clone().unwrap())
        .collect();
    assert_eq!(keys, ["p", "q"]);
    assert_ne!(done.started[0].segment, done.started[1].segment);
    let graph = graph(steps);
    let started = done.started.into_iter().next().unwrap();
    let events = started.events.into_iter().map(|e| (e.edge, e.event));
    let (said, _) = drive(
        &graph,
        Entry::Hop(started.step, events.collect()),
        Bounds::default(),
        answer,
    );
    assert_eq!(said, "h(a.out={\"k\":\"p\"}), z(h.out=h), => z.out=z");
}

#[test]
fn bounds_are_outcomes() {
    let graph = graph("\n  a: { uses: ./a.wasm, from: [t] }\n  b: { uses: ./b.wasm, from: [a] }\n");
    let many = |step: &str, _: u32| {
        if step == "a" {
            outputs(&[("out", "0123456789"); 20])
        } else {
            outputs(&[("out", "x")])
        }
    };
    let run = |bounds| {
        drive(&graph, Entry::Trigger(0, event("{}")), bounds, many)
            .1
            .failure
            .map(|f| f.kind)
    };
    assert_eq!(run(Bounds::default()), None);
    assert_eq!(
        run(Bounds {
            calls_max: 10,
            ..Bounds::default()
        }),
        Some(FailureKind::TooManyCalls)
    );
    assert_eq!(
        run(Bounds {
            bytes_max: 100,
            ..Bounds::default()
        }),
        Some(FailureKind::OutputTooLarge)
    );
    assert_eq!(
        run(Bounds {
            outputs_max: 19,
            ..Bounds::default()
        }),
        Some(FailureKind::OutputTooLarge)
    );
    let long = |_: &str, _: u32| Outcome::Reject("ä".repeat(10_000));
    let (_, done) = drive(
        &graph,
        Entry::Trigger(0, event("{}")),
        Bounds::default(),
        long,
    );
    assert!(done.failure.unwrap().reason.len() <= (4 << 10) + 3);
}

#[test]
fn logs_are_kept_in_order_within_their_bounds_also_of_a_failed_segment() {
    let graph = graph("\n  a: { uses: ./a.wasm, from: [t] }\n");
    let bounds = Bounds {
        logs_max: 2,
        ..Bounds::default()
    };
    let mut run = Run::new(&graph, [0; 16], Entry::Trigger(0, event("{}")), bounds);
    assert!(run.next_call().is_some());
    let line = |message: &str| Log {
        level: Level::Warn,
        message: message.into(),
    };
    run.settle(
        Outcome::Reject("no".into()),
        vec![line("1"), line("2"), line("3")],
        4,
    );
    let done = run.finish();
    assert_eq!(
        done.logs
            .iter()
            .map(|l| l.message.as_str())
            .collect::<Vec<_>>(),
        ["1", "2"]
    );
    assert_eq!(
        (done.logs_dropped, done.logs[0].level.as_str()),
        (5, "warn")
    );
}

proptest! {
    /// Whatever the steps answer, the same answers give the same result, and a failed segment gives nothing but its failure.
    #[test]
    fn the_same_answers_give_the_same_result(answers in proptest::collection::vec(0u8..7, 1..12)) {
        let graph = graph(DIAMOND);
        let run = || {
            let mut at = 0;
            drive(&graph, Entry::Trigger(0, event("{}")), Bounds::default(), |step, _| {
                at += 1;
                match (answers[at % answers.len()], step) {
                    (0, _) => Outcome::Reject("no".into()),
                    (1, _) => outputs(&[]),
                    (2, "a") => outputs(&[("l", "1")]),
                    (_, "a") => outputs(&[("l", "1"), ("r", "2"), ("r", "3")]),
                    (6, _) => outputs(&[("out", "x"), ("out", "y")]),
                    _ => outputs(&[("out", "x")]),
                }
            })
        };
        let (said, done) = run();
        prop_assert_eq!(&run(), &(said, Finished { suspended: None, failure: done.failure.clone(), outputs: done.outputs.clone(), topic_outputs: vec![], started: vec![], logs: vec![], logs_dropped: 0 }));
        prop_assert!(done.failure.is_none() || done.outputs.is_empty());
    }
}
