//! The registry's client against a real one (Apicurio), and against one of the test's own that fails as told.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::{Value, json};
use topics::registry::{Known, Registry, RegistryConfig, RegistryError, SchemaId, register_own};
use topics::{Disposition, catalog};

/// Long enough for a slow machine under load; reaching it is a failure.
const PATIENCE: Duration = Duration::from_secs(120);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

fn config(url: &str) -> RegistryConfig {
    RegistryConfig {
        url: url.to_owned(),
        ..RegistryConfig::default()
    }
}

/// Looks until it is not being asked for any more.
fn settled(registry: &Registry, id: SchemaId) -> Known {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match registry.known(id) {
            Known::Asking(reason) => assert!(Instant::now() < deadline, "{reason}"),
            known => return known,
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

fn not(registry: &Registry, id: SchemaId) -> String {
    match settled(registry, id) {
        Known::Not(reason) => reason.to_string(),
        known => panic!("schema {id}: {known:?}"),
    }
}

fn record(name: &str, fields: &Value) -> String {
    json!({"type": "record", "name": name, "namespace": "shop", "fields": fields}).to_string()
}

#[test]
fn a_real_registry() {
    let mut server = xtask::services::registry::Temporary::start().unwrap();
    let runtime = runtime();
    let registry = Registry::new(config(&server.url()), runtime.handle().clone()).unwrap();
    let at = server.url();
    runtime.block_on(registry.reach()).unwrap();
    assert_eq!(runtime.block_on(registry.level()).unwrap(), "BACKWARD");

    // register, find, evolve
    let id = json!({"name": "id", "type": "long"});
    let first = record("Order", &json!([id]));
    let second = record(
        "Order",
        &json!([id, {"name": "note", "type": "string", "default": ""}]),
    );
    let broken = record("Order", &json!([id, {"name": "total", "type": "long"}]));
    let subject = "orders-value";
    assert_eq!(runtime.block_on(registry.latest(subject)).unwrap(), None);
    runtime
        .block_on(registry.compatible(subject, &broken))
        .expect("a new subject takes anything");
    let one = runtime
        .block_on(registry.register(subject, &first))
        .unwrap();
    assert_eq!(
        runtime.block_on(registry.register(subject, &first)),
        Ok(one),
        "the same schema has the same id"
    );
    let (latest, text) = runtime
        .block_on(registry.latest(subject))
        .unwrap()
        .expect("a version");
    assert_eq!(latest, one);
    assert_eq!(
        serde_json::from_str::<Value>(&text).unwrap(),
        serde_json::from_str::<Value>(&first).unwrap()
    );
    runtime
        .block_on(registry.compatible(subject, &second))
        .unwrap();
    for refused in [
        runtime
            .block_on(registry.compatible(subject, &broken))
            .unwrap_err(),
        runtime
            .block_on(registry.register(subject, &broken))
            .unwrap_err(),
    ] {
        let RegistryError::Incompatible { subject, reason } = &refused else {
            panic!("{refused:?}");
        };
        assert_eq!(subject, "orders-value");
        assert!(reason.len() > 10, "{reason}");
        assert_eq!(refused.disposition(), Disposition::Invalid);
    }
    let two = runtime
        .block_on(registry.register(subject, &second))
        .unwrap();
    assert_ne!(one, two);
    let refused = runtime
        .block_on(registry.register(subject, "{\"type\": \"nothing\"}"))
        .unwrap_err();
    assert_eq!(refused.disposition(), Disposition::Invalid, "{refused}");

    // by their ids, each as it was written
    let Known::Schema(avro) = settled(&registry, SchemaId::Number(two)) else {
        panic!("no schema {two}");
    };
    let mut text = Vec::new();
    avro.to_json(&[14, 2, b'x'], &mut text).unwrap();
    assert_eq!(text, br#"{"id":7,"note":"x"}"#);

    // what it refers to is fetched, over several levels
    let post = |subject: &str, body: Value| -> u32 {
        let url = format!("{at}/subjects/{subject}/versions");
        let request = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = request.post(url).json(&body);
        runtime.block_on(async {
            let answer: Value = request.send().await.unwrap().json().await.unwrap();
            answer["id"].as_u64().unwrap_or_else(|| panic!("{answer}")) as u32
        })
    };
    let city = record("City", &json!([{"name": "name", "type": "string"}]));
    post("city", json!({"schema": city}));
    let home = record("Home", &json!([{"name": "city", "type": "shop.City"}]));
    post(
        "home",
        json!({"schema": home, "references": [{"name": "shop.City", "subject": "city", "version": 1}]}),
    );
    let customer = record(
        "Customer",
        &json!([{"name": "home", "type": "shop.Home"}, {"name": "work", "type": "shop.City"}]),
    );
    let customer = post(
        "customer",
        json!({"schema": customer, "references": [
            {"name": "shop.Home", "subject": "home", "version": 1},
            {"name": "shop.City", "subject": "city", "version": 1}]}),
    );
    let Known::Schema(avro) = settled(&registry, SchemaId::Number(customer)) else {
        panic!("no schema {customer}");
    };
    text.clear();
    avro.to_json(&[2, b'a', 2, b'b'], &mut text).unwrap();
    assert_eq!(
        text,
        br#"{"home":{"city":{"name":"a"}},"work":{"name":"b"}}"#
    );

    // what is none of ours
    let protobuf = post(
        "protobuf",
        json!({"schemaType": "PROTOBUF", "schema": "syntax = \"proto3\"; message A { int32 a = 1; }"}),
    );
    let reason = not(&registry, SchemaId::Number(protobuf));
    assert!(reason.contains("is Protobuf, not Avro"), "{reason}");
    let reason = not(&registry, SchemaId::Number(4_000_000));
    assert!(
        reason.contains(&at) && reason.contains("has no schema 4000000"),
        "{reason}"
    );
    let reason = not(&registry, SchemaId::Guid([7; 16]));
    assert!(
        reason.contains("07070707-0707-0707-0707-070707070707"),
        "{reason}"
    );

    // Weir's own
    let ids = runtime.block_on(register_own(&registry)).unwrap();
    assert_eq!(runtime.block_on(register_own(&registry)).unwrap(), ids);
    for topic in [catalog::TRIGGERS, catalog::HOPS, catalog::RESULTS] {
        let subject = format!("{topic}-value");
        let (id, _) = runtime
            .block_on(registry.latest(&subject))
            .unwrap()
            .expect("registered");
        let known = settled(&registry, SchemaId::Number(id));
        assert!(matches!(known, Known::Schema(_)), "{known:?}");
    }

    // an outage: what is known stays known, and the rest is asked for until it comes back
    server.kill().unwrap();
    assert!(matches!(
        registry.known(SchemaId::Number(one)),
        Known::Asking(_)
    ));
    let deadline = Instant::now() + PATIENCE;
    loop {
        let Known::Asking(reason) = registry.known(SchemaId::Number(one)) else {
            panic!("an outage says nothing of a schema");
        };
        if reason.contains("no connection") {
            break;
        }
        assert!(Instant::now() < deadline, "{reason}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
    let known = registry.known(SchemaId::Number(two));
    assert!(matches!(known, Known::Schema(_)), "{known:?}");
    let error = runtime.block_on(registry.reach()).unwrap_err();
    assert_eq!(error.disposition(), Disposition::Retry, "{error}");
    server.restart().unwrap();
    // it has forgotten everything, and gives the first id anew
    let again = runtime
        .block_on(registry.register(subject, &first))
        .unwrap();
    assert_eq!(again, one);
    let known = settled(&registry, SchemaId::Number(one));
    assert!(matches!(known, Known::Schema(_)), "{known:?}");
}

/// What the test's own registry does with a request.
#[derive(Clone, Copy, Debug)]
enum Mood {
    /// Every schema is a long.
    Good,
    Status(u16),
    /// It takes the request, and says nothing.
    Hang,
    /// It goes away in the middle of its answer.
    Cut,
    /// A page of somebody else's.
    Page,
}

struct Own {
    url: String,
    mood: Arc<Mutex<Mood>>,
    requests: Arc<Mutex<HashMap<String, usize>>>,
    count: Arc<AtomicUsize>,
}

impl Own {
    fn start(mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let own = Self {
            url,
            mood: Arc::new(Mutex::new(mood)),
            requests: Arc::default(),
            count: Arc::default(),
        };
        let (mood, requests, count) = (own.mood.clone(), own.requests.clone(), own.count.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (mood, requests, count) = (mood.clone(), requests.clone(), count.clone());
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(stream);
                    while let Some(path) = request(&mut reader) {
                        count.fetch_add(1, Ordering::Relaxed);
                        *requests.lock().entry(path).or_default() += 1;
                        let mood = *mood.lock();
                        if answer(reader.get_mut(), mood).is_none() {
                            return;
                        }
                    }
                });
            }
        });
        own
    }

    fn becomes(&self, mood: Mood) {
        *self.mood.lock() = mood;
    }

    fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

/// The path of a request that has been read to its end.
fn request(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let (mut first, mut line, mut length) = (String::new(), String::new(), 0);
    loop {
        line.clear();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if first.is_empty() {
            first.clone_from(&line);
        }
        let lower = line.to_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    first.split(' ').nth(1).map(str::to_owned)
}

/// None: the connection ends.
fn answer(stream: &mut TcpStream, mood: Mood) -> Option<()> {
    let schema = r#"{"schema": "\"long\"", "id": 1, "compatibilityLevel": "FULL"}"#;
    let whole = |status: u16, body: &str| {
        format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let text = match mood {
        Mood::Good => whole(200, schema),
        Mood::Status(status) => whole(
            status,
            &format!("{{\"error_code\": {status}, \"message\": \"said\"}}"),
        ),
        Mood::Page => whole(200, "<html>"),
        Mood::Hang => {
            // until the client goes
            stream.read_exact(&mut [0]).ok();
            return None;
        }
        Mood::Cut => {
            let text = whole(200, schema);
            stream.write_all(&text.as_bytes()[..text.len() - 9]).ok();
            return None;
        }
    };
    stream.write_all(text.as_bytes()).ok()
}

#[test]
fn no_outage_says_anything_of_a_schema() {
    let moods = [
        (Mood::Status(500), "500 Internal Server Error: said"),
        (Mood::Status(503), "503 Service Unavailable: said"),
        (Mood::Status(401), "401 Unauthorized: said"),
        (Mood::Status(403), "403 Forbidden: said"),
        (Mood::Status(429), "429 Too Many Requests: said"),
        (Mood::Hang, "it did not answer within 300ms"),
        (Mood::Cut, "its answer cannot be read"),
        (Mood::Page, "its answer cannot be read"),
    ];
    // they mostly wait
    std::thread::scope(|scope| {
        for (mood, expected) in moods {
            scope.spawn(move || goes_on(mood, expected));
        }
    });
}

/// It asks on for as long as nothing is heard of the schema, says why, and goes on when it hears of it.
fn goes_on(mood: Mood, expected: &str) {
    let (own, runtime) = (Own::start(mood), runtime());
    let config = RegistryConfig {
        user: Some("weir".to_owned()),
        password: Some("hunter2".to_owned()),
        timeout: Duration::from_millis(300),
        ..config(&own.url)
    };
    let registry = Registry::new(config, runtime.handle().clone()).unwrap();
    let id = SchemaId::Number(7);
    let mut seen = String::new();
    let deadline = Instant::now() + PATIENCE;
    while own.count() < 3 || !seen.contains(expected) {
        match registry.known(id) {
            Known::Asking(reason) => seen = reason.to_string(),
            known => panic!("{mood:?}: {known:?}"),
        }
        assert!(Instant::now() < deadline, "{mood:?}: {seen}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
    assert!(seen.contains(&own.url), "{mood:?}: {seen}");
    assert!(!seen.contains("hunter2"), "{seen}");
    let error = runtime.block_on(registry.reach()).unwrap_err();
    assert_eq!(error.disposition(), Disposition::Retry, "{error}");
    assert!(!format!("{error} {error:?} {registry:?}").contains("hunter2"));
    own.becomes(Mood::Good);
    let known = settled(&registry, id);
    assert!(matches!(known, Known::Schema(_)), "{mood:?}: {known:?}");
}

#[test]
fn a_schema_is_asked_for_once_at_a_time_and_then_never_again() {
    let own = Own::start(Mood::Hang);
    let runtime = runtime();
    let config = RegistryConfig {
        timeout: Duration::from_secs(3_600),
        ..config(&own.url)
    };
    let registry = Registry::new(config, runtime.handle().clone()).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while own.count() == 0 {
        registry.known(SchemaId::Number(1));
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    for _ in 0..10_000 {
        let known = registry.known(SchemaId::Number(1));
        assert!(matches!(known, Known::Asking(_)), "{known:?}");
    }
    assert_eq!(own.count(), 1);
    // whoever gives the registry up ends its questions
    drop(registry);

    let own = Own::start(Mood::Good);
    let registry = Registry::new(
        RegistryConfig {
            url: own.url.clone(),
            ..RegistryConfig::default()
        },
        runtime.handle().clone(),
    )
    .unwrap();
    assert!(matches!(
        settled(&registry, SchemaId::Number(1)),
        Known::Schema(_)
    ));
    for _ in 0..1_000 {
        assert!(matches!(
            registry.known(SchemaId::Number(1)),
            Known::Schema(_)
        ));
    }
    assert_eq!(own.count(), 1);
    let paths: Vec<String> = own.requests.lock().keys().cloned().collect();
    assert_eq!(paths, ["/schemas/ids/1?deleted=true"]);
}

#[test]
fn a_registry_that_is_down_is_not_hammered() {
    let own = Own::start(Mood::Status(503));
    let runtime = runtime();
    let registry = Registry::new(config(&own.url), runtime.handle().clone()).unwrap();
    let begun = Instant::now();
    // until it has been asked again after the first refusals
    while own.count() < 10 {
        for number in 0..5_000 {
            let known = registry.known(SchemaId::Number(number));
            assert!(matches!(known, Known::Asking(_)), "{known:?}");
        }
        assert!(begun.elapsed() < PATIENCE, "{}", own.count());
    }
    // at first a few at once, as nobody knows that it is down
    let most = 8 + 2 + begun.elapsed().as_secs() as usize;
    assert!(own.count() <= most, "{} > {most}", own.count());
    own.becomes(Mood::Good);
    for number in 0..200 {
        let known = settled(&registry, SchemaId::Number(number));
        assert!(matches!(known, Known::Schema(_)), "{known:?}");
    }
}

#[test]
fn what_is_missing_for_a_moment_is_not_missing() {
    let own = Own::start(Mood::Status(404));
    let runtime = runtime();
    let registry = Registry::new(config(&own.url), runtime.handle().clone()).unwrap();
    let id = SchemaId::Number(3);
    let deadline = Instant::now() + PATIENCE;
    while own.count() < 2 {
        let known = registry.known(id);
        assert!(matches!(known, Known::Asking(_)), "{known:?}");
        assert!(Instant::now() < deadline);
    }
    own.becomes(Mood::Good);
    let known = settled(&registry, id);
    assert!(matches!(known, Known::Schema(_)), "{known:?}");
    own.becomes(Mood::Status(404));
    let reason = not(&registry, SchemaId::Number(4));
    assert!(
        reason.contains("has no schema 4: 404 Not Found: said"),
        "{reason}"
    );
    own.becomes(Mood::Status(400));
    let reason = not(&registry, SchemaId::Number(5));
    assert!(
        reason.contains("refuses schema 5: 400 Bad Request: said"),
        "{reason}"
    );
}
