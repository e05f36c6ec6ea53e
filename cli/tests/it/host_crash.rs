//! A record that ends the process that runs it, each time: it becomes a dead letter, and all the others have run once.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::http::{Http, deliver};
use crate::kill::{broken_binary, history, results};
use crate::weir::{PATIENCE, Start, Weir, file, guest};

const TRIGGERS: usize = 300;
const KILLER: usize = 150;
/// Three starts without progress, three deaths with the record noted, and one that was none of its.
const DEATHS_MAX: usize = 9;

#[test]
fn a_record_that_kills_its_process_becomes_a_dead_letter_and_the_others_run_once() {
    let data = tempfile::tempdir().unwrap();
    let text = format!(
        "weir: 1\nname: crash\ntriggers:\n  hook: {{ webhook: {{ path: /crash, verify: {{ scheme: github, secret: GITHUB_WEBHOOK_SECRET }} }} }}\nsteps:\n  copy: {{ uses: {}, from: [hook] }}\n",
        guest("copy").display()
    );
    let graphs = [file(data.path(), "crash.yaml", &text)];
    let folder = data.path().join("data");
    let start = Start {
        binary: broken_binary(),
        env: &[("WEIR_FAILPOINT", "abort-on=this one kills")],
        ..Start::new(&folder, &graphs)
    };

    let mut weir = Weir::start(&start);
    let mut deaths = 0;
    let mut acknowledged = HashMap::new();
    let restart = |weir: &mut Weir, deaths: &mut usize| {
        *deaths += 1;
        assert!(*deaths <= DEATHS_MAX, "it dies again and again");
        // It may die while it starts: that is a death too.
        loop {
            match Weir::try_start(&start) {
                Ok(started) => return *weir = started,
                Err(_) => *deaths += 1,
            }
            assert!(*deaths <= DEATHS_MAX, "it dies again and again");
        }
    };
    for number in 0..TRIGGERS {
        let id = format!("d-{number}");
        let what = if number == KILLER {
            "this one kills"
        } else {
            "this one does not"
        };
        let body = format!("{{\"n\":{number},\"what\":\"{what}\"}}");
        loop {
            let answer = Http::connect(weir.port).and_then(|mut http| {
                deliver(
                    &mut http,
                    "/hooks/default/crash",
                    "push",
                    &id,
                    body.as_bytes(),
                )
            });
            match answer {
                Ok(answer) if answer.status == 202 => {
                    let execution = answer.json()["execution"].as_str().unwrap().to_owned();
                    acknowledged.insert(id, execution);
                    break;
                }
                Ok(_) | Err(_) if weir.ended() => restart(&mut weir, &mut deaths),
                Ok(_) | Err(_) => std::thread::park_timeout(Duration::from_millis(10)),
            }
        }
    }
    let deadline = Instant::now() + PATIENCE;
    // The history's rows of what has an output: all but one.
    while history(&folder).len() + 1 < acknowledged.len() {
        assert!(Instant::now() < deadline, "not everything has landed");
        if weir.ended() {
            restart(&mut weir, &mut deaths);
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let letters = weir.run(&["dlq", "list", "-o", "json"]).ok().json();
    weir.stop();
    eprintln!("it died {deaths} times");
    assert!(deaths >= 3, "one death proves nothing");

    let (rows, results) = (history(&folder), results(&folder));
    let killer = format!("d-{KILLER}");
    for (id, execution) in &acknowledged {
        let row = (*id != killer).then_some(&1);
        assert_eq!(rows.get(execution), row, "{id}");
        assert_eq!(results.get(execution), Some(&1), "{id}");
    }
    let letters = letters
        .as_array()
        .or_else(|| letters["items"].as_array())
        .unwrap();
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert!(letters[0].to_string().contains("host-crash"), "{letters:?}");
    assert_eq!(letters[0]["execution"], acknowledged[&killer].as_str());
}
