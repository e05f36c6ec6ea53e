//! `weir serve`, `weir topics` and `weir doctor` on a real Kafka, and what they say where there is none or a wrong one.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::Value;
use topics::catalog::{GRAPHS, TRIGGERS};
use topics::kafka::admin::Admin;
use topics::kafka::admin::plan::Change;

use crate::weir::{PATIENCE, Ran, binary, file, free_port, guest, run, until};

/// A `weir serve` of the test's own. What it says is kept in a file.
pub(crate) struct Serve {
    child: Child,
    port: u16,
    log: std::path::PathBuf,
}

impl Serve {
    pub(crate) fn start(folder: &Path, arguments: &[&str]) -> Self {
        let port = free_port();
        let log = folder.join(format!("log-{port}"));
        let child = Command::new(binary())
            .arg("serve")
            .args(arguments)
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .arg("--data")
            .arg(folder.join("data"))
            .current_dir(folder)
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { child, port, log }
    }

    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Status and body; `None`: it does not listen yet.
    pub(crate) fn get(&self, path: &str) -> Option<(u16, Value)> {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .build()
            .into();
        let mut answer = agent.get(format!("{}{path}", self.url())).call().ok()?;
        Some((
            answer.status().as_u16(),
            answer.body_mut().read_json().unwrap_or_default(),
        ))
    }

    pub(crate) fn ready(&self) {
        until("it is ready", || {
            matches!(self.get("/readyz"), Some((200, _)))
        });
    }

    /// SIGTERM; gives the exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        let killed = Command::new("kill")
            .arg("-TERM")
            .arg(self.child.id().to_string())
            .status()
            .unwrap();
        assert!(killed.success());
        self.ended()
    }

    pub(crate) fn ended(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(
                Instant::now() < deadline,
                "weir serve did not end:\n{}",
                self.said()
            );
            std::thread::park_timeout(std::time::Duration::from_millis(20));
        }
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn weir(arguments: &[&str]) -> Ran {
    run("http://127.0.0.1:1", arguments)
}

#[test]
fn brokers_that_are_not_there_are_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = format!("127.0.0.1:{}", free_port());
    let serve = Serve::start(
        folder.path(),
        &[
            "--role",
            "processor",
            "--brokers",
            &nobody,
            "--store",
            "sqlite:store.db",
        ],
    );
    until("it says that nobody is there", || {
        serve.said().contains("cannot reach kafka")
    });
    let (status, ready) = serve.get("/readyz").unwrap();
    assert_eq!(status, 503);
    let reason = ready["dependencies"]["kafka"]["reason"].as_str().unwrap();
    assert!(
        reason.contains(&nobody) && reason.contains("refused"),
        "{reason}"
    );
    assert_eq!(serve.get("/healthz").unwrap().0, 200, "it is alive");
    assert_eq!(serve.get("/api/v1/graphs").unwrap().0, 503);
    assert_eq!(serve.stop(), Some(0));

    let doctor = weir(&["doctor", "--brokers", &nobody, "-o", "json"]);
    assert_eq!(doctor.code, 1, "{}", doctor.err);
    let found = doctor.json();
    let brokers = found
        .as_array()
        .unwrap()
        .iter()
        .find(|c| c["check"] == "brokers")
        .unwrap();
    assert_eq!(brokers["status"], "fail", "{brokers}");
    assert_eq!(weir(&["topics", "plan", "--brokers", &nobody]).code, 5);
}

#[test]
fn a_broker_that_is_too_old_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let brokers = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || old_broker(stream));
        }
    });
    let mut serve = Serve::start(
        folder.path(),
        &[
            "--role",
            "processor",
            "--brokers",
            &brokers,
            "--store",
            "sqlite:store.db",
        ],
    );
    assert_eq!(serve.ended(), Some(1));
    let said = serve.said();
    assert!(
        said.contains("too old") && said.contains("Kafka 2.5"),
        "{said}"
    );
}

/// Tells what a broker of Kafka 2.4 can do, and answers nothing else.
fn old_broker(mut stream: TcpStream) -> Option<()> {
    const APIS: [(i16, i16, i16); 8] = [
        (0, 0, 8),
        (1, 0, 11),
        (3, 0, 9),
        (10, 0, 2),
        (18, 0, 3),
        (22, 0, 1),
        (26, 0, 1),
        (28, 0, 2),
    ];
    loop {
        let mut size = [0; 4];
        stream.read_exact(&mut size).ok()?;
        let mut request = vec![0; u32::from_be_bytes(size) as usize];
        stream.read_exact(&mut request).ok()?;
        let (key, version) = (
            i16::from_be_bytes([request[0], request[1]]),
            i16::from_be_bytes([request[2], request[3]]),
        );
        if key != 18 {
            continue;
        }
        let mut answer = request[4..8].to_vec();
        // 35: not in this version; the client asks again with version 0, in which the answer is written
        answer.extend((if version == 0 { 0_i16 } else { 35 }).to_be_bytes());
        answer.extend((APIS.len() as i32).to_be_bytes());
        for (key, from, to) in APIS {
            for number in [key, from, to] {
                answer.extend(number.to_be_bytes());
            }
        }
        stream
            .write_all(&(answer.len() as u32).to_be_bytes())
            .ok()?;
        stream.write_all(&answer).ok()?;
    }
}

#[test]
fn wrong_settings_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, expected) in [
        (&["--role", "scheduler"][..], "not there yet"),
        (&["--role", "all"], "where is Kafka?"),
        (&["--brokers", "a:1"], "where is the store?"),
    ] {
        let mut serve = Serve::start(folder.path(), arguments);
        assert_eq!(serve.ended(), Some(2), "{}", serve.said());
        assert!(serve.said().contains(expected), "{}", serve.said());
    }
    let settings = file(folder.path(), "weir.toml", "[kafka]\nbroker = \"a:1\"\n");
    let said = weir(&["serve", "--config", settings.to_str().unwrap()]);
    assert_eq!(said.code, 2);
    assert!(
        said.err
            .contains("weir.toml:2: there is no key \"broker\"; did you mean \"brokers\"?"),
        "{}",
        said.err
    );
    let open = weir(&[
        "serve",
        "--config",
        "/dev/null",
        "--brokers",
        "a:1",
        "--store",
        "sqlite:x",
        "--listen",
        "0.0.0.0:0",
    ]);
    assert_eq!(open.code, 2);
    assert!(open.err.contains("WEIR_API_KEY"), "{}", open.err);
}

/// One broker for all that needs one: topics are planned and made, then the roles run on them in two processes.
#[test]
fn topics_doctor_and_roles_on_kafka() {
    let kafka = xtask::services::kafka::Temporary::start().unwrap();
    let brokers = kafka.brokers();
    let folder = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}", folder.path().join("store.db").display());
    let common = ["--brokers", brokers, "--store", &store];

    // without topics nothing is ready, and it says what to do
    let processor = Serve::start(
        folder.path(),
        &[&["--role", "processor"][..], &common].concat(),
    );
    until("it misses its topics", || {
        processor.said().contains("weir topics apply")
    });
    assert!(processor.said().contains(TRIGGERS));
    assert_eq!(processor.get("/readyz").unwrap().0, 503);

    assert_eq!(processor.stop(), Some(0));

    topics(brokers, folder.path());
    let processor = Serve::start(
        folder.path(),
        &[&["--role", "processor"][..], &common].concat(),
    );
    processor.ready();
    let others = Serve::start(
        folder.path(),
        &[&["--role", "ingest,sink,control"][..], &common].concat(),
    );
    others.ready();

    // a graph is applied to one process and run by the other
    let copy = guest("copy");
    let graph = file(
        folder.path(),
        "graph.yaml",
        &format!(
            "weir: 1\nname: served\ntriggers:\n  hand: {{ manual: {{}} }}\nsteps:\n  copy: {{ uses: {}, from: [hand] }}\n",
            copy.display()
        ),
    );
    run(&others.url(), &["apply", graph.to_str().unwrap()]).ok();
    let input = file(folder.path(), "in.ndjson", &"{\"n\": 1}\n".repeat(20));
    let ran = run(
        &others.url(),
        &[
            "run",
            "served",
            "--input",
            input.to_str().unwrap(),
            "--timeout",
            "60s",
            "-o",
            "json",
        ],
    );
    assert_eq!(
        ran.code,
        0,
        "{}\n{}\n{}",
        ran.err,
        processor.said(),
        others.said()
    );
    assert_eq!(ran.lines().len(), 20, "{}", ran.out);

    let doctor = weir(&[&["doctor", "--write", "-o", "json"][..], &common].concat());
    let found = doctor.json();
    let level = |name: &str| {
        let of = |check: &&Value| check["check"] == name;
        found
            .as_array()
            .unwrap()
            .iter()
            .find(of)
            .unwrap_or_else(|| panic!("{name}: {found}"))["status"]
            .clone()
    };
    for (name, expected) in [
        ("brokers", "ok"),
        ("topics", "ok"),
        ("replication", "warn"),
        ("transactional producer", "ok"),
        ("reading", "ok"),
        ("open transactions", "ok"),
        ("group", "ok"),
        ("write", "ok"),
        ("store", "ok"),
    ] {
        assert_eq!(level(name), expected, "{name}: {}", doctor.out);
    }
    assert_eq!(doctor.code, 0, "warnings do not count");

    assert_eq!(others.stop(), Some(0));
    assert_eq!(processor.stop(), Some(0));
}

fn topics(brokers: &str, folder: &Path) {
    let plan = |more: &[&str]| {
        weir(
            &[
                &["topics", "plan", "--brokers", brokers, "-o", "json"][..],
                more,
            ]
            .concat(),
        )
        .ok()
        .json()
    };
    let planned = plan(&[]);
    let all = topics::catalog::topics().len();
    assert_eq!(planned.as_array().unwrap().len(), all);
    assert!(
        planned
            .as_array()
            .unwrap()
            .iter()
            .all(|row| row["mark"] == "+"),
        "{planned}"
    );

    // fewer at first, so that there is something to raise
    let few = file(
        folder,
        "few.toml",
        &format!(
            "[[topic]]\nname = \"{TRIGGERS}\"\npartitions = 2\n[[topic]]\nname = \"{GRAPHS}\"\npartitions = 1\n"
        ),
    );
    let few = few.to_str().unwrap();
    weir(&["topics", "apply", "--brokers", brokers, "--file", few]).ok();
    assert_eq!(
        plan(&["--file", few]).as_array().unwrap().len(),
        0,
        "what was applied is as wanted"
    );

    // somebody else's setting stays when ours is put right
    let kafka = topics::KafkaConfig {
        brokers: brokers.to_owned(),
        ..topics::KafkaConfig::default()
    };
    let admin = Admin::new(&kafka).unwrap();
    for (setting, to) in [("segment.ms", "123456789"), ("retention.ms", "5000")] {
        let change = Change::Set {
            setting,
            from: None,
            to: to.to_owned(),
        };
        admin.change(TRIGGERS, &[change]).unwrap();
    }
    let settings = || -> BTreeMap<String, String> {
        admin
            .topics(&[TRIGGERS])
            .unwrap()
            .remove(TRIGGERS)
            .unwrap()
            .settings
    };
    until("the other's setting is known", || {
        settings()["retention.ms"] == "5000"
    });
    assert_eq!(settings()["segment.ms"], "123456789");

    // partitions only with --yes; the rest is done
    let left = weir(&["topics", "apply", "--brokers", brokers]);
    assert_eq!(left.code, 1, "{}{}", left.out, left.err);
    assert!(left.err.contains("--yes"), "{}", left.err);
    until("retention is put right", || {
        settings()["retention.ms"] == "604800000"
    });
    assert_eq!(settings()["segment.ms"], "123456789");
    weir(&["topics", "apply", "--brokers", brokers, "--yes"]).ok();
    until("the partitions are there", || {
        admin.topics(&[TRIGGERS]).unwrap()[TRIGGERS].partitions == 12
    });
    until("nothing is left", || {
        plan(&[]).as_array().unwrap().is_empty()
    });

    // fewer partitions are refused
    let fewer = weir(&["topics", "apply", "--brokers", brokers, "--file", few]);
    assert_eq!(fewer.code, 1);
    assert!(
        fewer.err.contains("partitions 12 → 2 was not done"),
        "{}",
        fewer.err
    );
}
