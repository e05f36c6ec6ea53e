//! A cluster that lets in only whom it knows and allows only what it was told: everything works with the rights that
//! `weir topics rights` lists and no more, and what is wrong or missing is said by name, without a secret in it.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use serde_json::Value;
use tempfile::TempDir;
use topics::catalog::{GRAPHS, GROUP_PROCESSORS, LANE_PREFIX, RESULTS, TRIGGERS};
use xtask::services::kafka::{Admin, Properties, Resource, Temporary};

use crate::serve::Serve;
use crate::weir::{Ran, file, guest, run, until};

const PASSWORD: &str = "open-sesame-4711";
/// What a user who does everything is, for `weir topics rights --for`.
const EVERYBODY: &str = "ingest,processor,sink,control,topics,doctor";

struct Secured {
    kafka: Temporary,
    admin: Admin,
    folder: TempDir,
}

impl Secured {
    /// One for all tests here, one at a time. Its topics are there, and the user `all` may do what everybody needs.
    fn shared() -> MutexGuard<'static, Self> {
        static SHARED: OnceLock<Mutex<Secured>> = OnceLock::new();
        let shared = SHARED.get_or_init(|| Mutex::new(Self::new()));
        shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn new() -> Self {
        let builder = Temporary::builder().short_timeouts().secured();
        let kafka = builder.start().unwrap();
        let admin = kafka.admin().unwrap();
        let mut secured = Self {
            kafka,
            admin,
            folder: TempDir::new().unwrap(),
        };
        let operator = secured.user("operator", None);
        let unseen = weir(&["topics", "plan"], &operator);
        assert_eq!(unseen.code, 1, "{}", unseen.err);
        assert!(
            unseen.err.contains("grant DESCRIBE on it"),
            "{}",
            unseen.err
        );
        secured.grant("operator", "topics");
        let planned = weir(&["topics", "plan", "-o", "json"], &operator).ok();
        assert_eq!(
            planned.json().as_array().unwrap().len(),
            12,
            "{}",
            planned.out
        );
        weir(&["topics", "apply"], &operator).ok();
        let planned = weir(&["topics", "plan", "-o", "json"], &operator).ok();
        assert_eq!(planned.json(), Value::Array(Vec::new()));
        secured.user("all", Some(EVERYBODY));
        secured
    }

    /// A new user with the rights of these, and the settings by which it comes in.
    fn user(&mut self, name: &str, rights: Option<&str>) -> PathBuf {
        self.admin.user(name, PASSWORD).unwrap();
        if let Some(rights) = rights {
            self.grant(name, rights);
        }
        let properties = self.kafka.security().unwrap().properties(name, PASSWORD);
        self.settings(name, &properties)
    }

    fn grant(&mut self, user: &str, rights: &str) {
        let listed = run(
            "http://127.0.0.1:1",
            &["topics", "rights", "--for", rights, "-o", "json"],
        )
        .ok()
        .json();
        for right in listed.as_array().unwrap() {
            let word = |name: &str| right[name].as_str().unwrap();
            let name = word("name");
            let resource = match (word("resource"), word("pattern")) {
                ("TOPIC", "LITERAL") => Resource::Topic(name),
                ("TOPIC", "PREFIXED") => Resource::Topics(name),
                ("GROUP", "LITERAL") => Resource::Group(name),
                ("TRANSACTIONAL_ID", "PREFIXED") => Resource::TransactionalIds(name),
                ("CLUSTER", "LITERAL") => Resource::Cluster,
                other => panic!("{other:?}"),
            };
            let operations: Vec<&str> = word("operations").split(',').collect();
            self.admin.allow(user, resource, &operations).unwrap();
        }
    }

    /// A `weir.toml` of these properties.
    fn settings(&self, name: &str, properties: &Properties) -> PathBuf {
        let mut text = format!(
            "[kafka]\nbrokers = \"{}\"\nsession_timeout = \"6s\"\n[kafka.properties]\n",
            self.kafka.brokers()
        );
        for (name, value) in properties {
            text.push_str(&format!("\"{name}\" = \"{value}\"\n"));
        }
        file(self.folder.path(), &format!("{name}.toml"), &text)
    }

    fn serve(&self, settings: &Path, roles: &str) -> Serve {
        let settings = settings.to_str().unwrap();
        let arguments = ["--config", settings, "--role", roles];
        let store = ["--store", "sqlite:store.db"];
        Serve::start(self.folder.path(), &[&arguments[..], &store].concat())
    }

    /// Takes a right of the user `all` away for as long as something is looked at.
    fn without<T>(
        &mut self,
        resource: Resource<'_>,
        operation: &str,
        look: impl FnOnce() -> T,
    ) -> T {
        self.admin.revoke("all", resource, &[operation]).unwrap();
        let seen = look();
        self.admin.allow("all", resource, &[operation]).unwrap();
        seen
    }
}

/// `weir ARGS` with these settings.
fn weir(arguments: &[&str], settings: &Path) -> Ran {
    let config = ["--config", settings.to_str().unwrap()];
    run("http://127.0.0.1:1", &[arguments, &config[..]].concat())
}

/// How many executions are listed.
fn landed(listed: &Value) -> usize {
    let items = listed.as_array().or(listed["items"].as_array());
    items.map_or(0, Vec::len)
}

fn hides_the_secret(said: &str) {
    assert!(!said.contains(PASSWORD), "{said}");
}

#[test]
fn roles_need_no_more_rights_than_are_listed() {
    let mut secured = Secured::shared();
    let front = secured.user("front", Some("ingest,control"));
    let processor = secured.user("processor", Some("processor"));
    let sink = secured.user("sink", Some("sink"));
    let front = secured.serve(&front, "ingest,control");
    let processor = secured.serve(&processor, "processor");
    let sink = secured.serve(&sink, "sink");
    let all = [&front, &processor, &sink];
    all.iter().for_each(|process| process.ready());

    let folder = secured.folder.path();
    let graph = file(
        folder,
        "graph.yaml",
        &format!(
            "weir: 1\nname: served\ntriggers:\n  hand: {{ manual: {{}} }}\nsteps:\n  one: {{ uses: {copy}, from: [hand] }}\n  two: {{ uses: {copy}, from: [one], hop: event.data.n }}\n",
            copy = guest("copy").display()
        ),
    );
    run(&front.url(), &["apply", graph.to_str().unwrap()]).ok();
    let input = file(folder, "in.ndjson", &"{\"n\": \"1\"}\n".repeat(20));
    let input = input.to_str().unwrap();
    let arguments = [
        "run",
        "served",
        "--input",
        input,
        "--timeout",
        "60s",
        "-o",
        "json",
    ];
    let ran = run(&front.url(), &arguments);
    let said: Vec<String> = all.iter().map(|process| process.said()).collect();
    assert_eq!(ran.code, 0, "{}\n{}", ran.err, said.join("\n"));
    assert_eq!(ran.lines().len(), 20, "{}", ran.out);
    said.iter().for_each(|said| hides_the_secret(said));

    // a right that goes while it runs is not looped on in silence
    let write = (Resource::Topic(RESULTS), &["WRITE"][..]);
    secured.admin.revoke("processor", write.0, write.1).unwrap();
    let cut = ["run", "served", "--input", input, "--timeout", "2s"];
    assert_ne!(run(&front.url(), &cut).code, 0);
    until("the processor says that it is of no use", || {
        matches!(processor.get("/healthz"), Some((503, _)))
    });
    let (_, ready) = processor.get("/readyz").unwrap();
    let reason = ready["dependencies"]["lanes"]["reason"].as_str().unwrap();
    assert!(
        reason.contains(RESULTS) && reason.contains("grant WRITE"),
        "{reason}"
    );
    assert!(
        processor
            .said()
            .contains(reason.rsplit(": ").next().unwrap())
    );
    processor.stop();

    // and what was triggered meanwhile is run by the next one
    secured.admin.allow("processor", write.0, write.1).unwrap();
    let processor = secured.serve(&secured.folder.path().join("processor.toml"), "processor");
    processor.ready();
    until("everything has landed", || {
        let listed = ["exec", "list", "--limit", "100", "-o", "json"];
        landed(&run(&front.url(), &listed).ok().json()) >= 40
    });
    for process in [front, processor, sink] {
        assert_eq!(process.stop(), Some(0));
    }
}

#[test]
fn wrong_credentials_and_certificates_are_named() {
    let secured = Secured::shared();
    let security = secured.kafka.security().unwrap();
    let right = security.properties("all", PASSWORD);
    let with = |name: &str, value: &str| {
        let mut properties = right.clone();
        properties.retain(|(had, _)| had != name);
        properties.push((name.to_owned(), value.to_owned()));
        secured.settings("wrong", &properties)
    };
    let wrong_password = format!("{PASSWORD}-of-yesterday");
    let stranger = crate::weir::root().join("cli/tests/it/kafka/stranger.pem");
    for (setting, value) in [
        ("sasl.password", &*wrong_password),
        ("sasl.mechanism", "SCRAM-SHA-256"),
        ("ssl.ca.location", stranger.to_str().unwrap()),
    ] {
        let settings = with(setting, value);
        let planned = weir(&["topics", "plan"], &settings);
        assert_eq!(planned.code, 5, "{}", planned.err);
        let doctor = weir(&["doctor", "-o", "json"], &settings);
        assert_eq!(doctor.code, 1, "{}", doctor.err);
        let waits = secured.serve(&settings, "processor");
        until("serve says what it waits for", || {
            waits.said().contains("cannot reach kafka")
        });
        let (status, ready) = waits.get("/readyz").unwrap();
        assert_eq!(status, 503);
        let reason = ready["dependencies"]["kafka"]["reason"].to_string();
        assert_eq!(waits.stop(), Some(0));
        for said in [planned.err, doctor.out, reason] {
            let found = format!("{setting} of [kafka.properties]");
            let names = said.contains(&found)
                || (said.contains(setting) && said.contains("in [kafka.properties]"));
            assert!(names, "{setting}: {said}");
            hides_the_secret(&said);
        }
    }
    let by_plain = secured.settings("plain", &security.of_admin());
    weir(&["topics", "plan"], &by_plain).ok();
}

#[test]
fn doctor_names_each_right_that_is_missing() {
    let mut secured = Secured::shared();
    let settings = secured.folder.path().join("all.toml");
    let doctor = |more: &[&str]| {
        let ran = weir(&[&["doctor", "-o", "json"][..], more].concat(), &settings);
        hides_the_secret(&ran.out);
        ran
    };
    let bad = |ran: &Ran| -> Vec<Value> {
        let warned = |check: &Value| check["status"] != "ok";
        let checks = ran.json().as_array().unwrap().clone();
        // one broker, no store and no processor are what this test has
        let expected = ["replication", "transaction state", "store", "group"];
        let known = |check: &Value| expected.iter().any(|name| check["check"] == *name);
        checks
            .into_iter()
            .filter(|check| warned(check) && !known(check))
            .collect()
    };
    let well = doctor(&["--write"]);
    assert_eq!((well.code, bad(&well)), (0, vec![]), "{}", well.out);

    let cases = [
        (Resource::Topic(RESULTS), "WRITE", "rights", RESULTS),
        (Resource::Topic(TRIGGERS), "READ", "rights", TRIGGERS),
        (
            Resource::Group(GROUP_PROCESSORS),
            "READ",
            "rights",
            GROUP_PROCESSORS,
        ),
        (
            Resource::TransactionalIds(LANE_PREFIX),
            "WRITE",
            "transactional producer",
            LANE_PREFIX,
        ),
        (
            Resource::Cluster,
            "DESCRIBE_CONFIGS",
            "broker settings",
            "cluster",
        ),
    ];
    for (resource, operation, check, name) in cases {
        let ran = secured.without(resource, operation, || doctor(&[]));
        let found = bad(&ran);
        let of_check = |found: &&Value| found["check"] == check;
        let told = found
            .iter()
            .find(of_check)
            .unwrap_or_else(|| panic!("{}", ran.out));
        let said = told["found"].as_str().unwrap();
        assert!(said.contains(operation) && said.contains(name), "{said}");
        let advice = told["advice"].as_str().unwrap();
        let grants = advice.starts_with("kafka-acls.sh")
            && advice.contains("--allow-principal User:all")
            && advice.contains(&format!("--operation {operation} "))
            && advice.contains(name);
        assert!(grants, "{advice}");
        let others = found.iter().filter(|check| !of_check(check));
        assert_eq!(others.count(), 0, "{}", ran.out);
    }
}

#[test]
fn a_processor_without_its_rights_does_not_start_in_silence() {
    let mut secured = Secured::shared();
    secured.user("barred", Some("processor"));
    for topic in [TRIGGERS, GRAPHS] {
        let seen = Resource::Topic(topic);
        secured.admin.allow("barred", seen, &["DESCRIBE"]).unwrap();
    }
    let settings = secured.folder.path().join("barred.toml");
    for (resource, operation, expected) in [
        (
            Resource::TransactionalIds(LANE_PREFIX),
            "WRITE",
            "kafka refuses the transactional id; grant WRITE on it",
        ),
        (
            Resource::Group(GROUP_PROCESSORS),
            "READ",
            "kafka refuses the group \"weir.processors\"; grant READ on it",
        ),
        (
            Resource::Topic(RESULTS),
            "WRITE",
            &*format!("kafka does not let this client see {RESULTS}"),
        ),
        (
            Resource::Topic(GRAPHS),
            "READ",
            &format!("kafka refuses to let {GRAPHS} be read; grant READ"),
        ),
        (Resource::Topic(TRIGGERS), "READ", "stops: kafka refuses"),
    ] {
        secured
            .admin
            .revoke("barred", resource, &[operation])
            .unwrap();
        let process = secured.serve(&settings, "processor");
        until(
            &format!("it says that {operation} on {resource:?} is missing"),
            || process.said().contains(expected),
        );
        drop(process);
        secured
            .admin
            .allow("barred", resource, &[operation])
            .unwrap();
    }
}
