//! T27, the processor's part: what a guest's memory may hold when it returns, URLs that steps may ask for, and bytes that an upstream may
//! answer with. Whatever comes, it is an outcome, and the host goes on.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use processor::wasm::{EngineConfig, Outcome, StepEvent};
use processor::web;
use schemas::Event;
use xtask::proof::{Row, full};

use crate::upstream::Upstream;
use crate::wasm::Steps;
use crate::wasm_text::component_with_realloc;

/// xorshift64*: the same seeds everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    /// Some bytes of it changed, cut or doubled.
    fn mutated(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = bytes.to_vec();
        for _ in 0..=self.below(6) {
            let at = self.below(out.len() as u64 + 1) as usize;
            match self.below(5) {
                0 if at < out.len() => out[at] = self.next() as u8,
                1 if at < out.len() => out[at] ^= 1 << self.below(8),
                2 => out.truncate(at),
                3 => out.insert(at, self.next() as u8),
                _ => {
                    let tail = out[at..].to_vec();
                    let some = tail.len().min(self.below(32) as usize);
                    out.extend_from_slice(&tail[..some]);
                }
            }
        }
        out
    }
}

/// How long each is fuzzed.
fn spell() -> Duration {
    Duration::from_secs(if full() { 120 } else { 2 })
}

#[test]
fn whatever_parsers_of_the_processor_are_given() {
    let started = Instant::now();
    let seed = 0x0005_7e15;
    let calls = abi(seed);
    let urls = urls(seed);
    let answers = answers(seed);
    Row {
        id: "T27p",
        title: "fuzzed: the canonical ABI, URLs, HTTP answers",
        injected: 3,
        expected: format!("no panic; {calls} returns, {urls} URLs, {answers} answers"),
        passed: calls > 100 && urls > 1_000 && answers > 20,
        took: started.elapsed(),
        seed: Some(seed),
        ..Row::default()
    }
    .keep()
    .unwrap();
}

/// The event's data lie where `handle` says its result is: any bytes as a `result<list<output>, failure>`.
fn abi(seed: u64) -> u64 {
    // data come last, so what was allocated last is where they are
    let items =
        "(global $last (mut i32) (i32.const 8192)) (global $next (mut i32) (i32.const 8192))";
    let realloc = "(global.set $last (global.get $next))
        (global.set $next (i32.and (i32.add (i32.add (global.get $next) (local.get 3)) (i32.const 15)) (i32.const 0x1ffff0)))
        (global.get $last)";
    let module = component_with_realloc(items, "(global.get $last)", realloc);
    let mut steps = Steps::new();
    let module = steps.load(&module);
    let mut random = Random(seed);
    let (started, mut calls, mut kinds) = (Instant::now(), 0, [0u64; 2]);
    // a result with one output whose port and data lie behind it
    let mut whole = vec![0u8; 256];
    whole[4..8].copy_from_slice(&8_256u32.to_le_bytes());
    whole[8..12].copy_from_slice(&1u32.to_le_bytes());
    while started.elapsed() < spell() {
        let bytes = match random.below(2) {
            0 => random.mutated(&whole),
            _ => (0..64).map(|_| random.next() as u8).collect(),
        };
        let event = Event {
            data: bytes.into(),
            ..Event::default()
        };
        let input = [StepEvent {
            edge: "t",
            event: &event,
        }];
        let called = steps.call_events(&module, &input);
        kinds[usize::from(matches!(called.outcome, Outcome::Broken(..)))] += 1;
        calls += 1;
    }
    assert!(kinds[1] > 0, "nothing was refused: the fuzz is asleep");
    calls
}

fn urls(seed: u64) -> u64 {
    let allow = vec!["api.example.com".to_owned(), "127.0.0.1:80".to_owned()];
    let seeds = [
        "https://api.example.com/a?b=c",
        "http://127.0.0.1:80/",
        "http://[::ffff:7f00:1]:80/",
        "https://api.example.com:443@x/",
    ];
    let mut random = Random(seed);
    let (started, mut tried) = (Instant::now(), 0);
    while started.elapsed() < spell() {
        let text = seeds[random.below(seeds.len() as u64) as usize];
        let bytes = random.mutated(text.as_bytes());
        if let Ok(uri) = http::Uri::try_from(&bytes[..])
            && web::granted(&uri, &allow).is_ok()
        {
            // whatever was let through is what is granted
            let host = uri.host().unwrap_or_default().to_ascii_lowercase();
            let port = uri.port_u16();
            let known = (host == "api.example.com" && port.unwrap_or(443) == 443)
                || url::Host::parse(&host).is_ok_and(|host| host.to_string() == "127.0.0.1");
            assert!(known, "{uri}");
        }
        tried += 1;
    }
    tried
}

fn answers(seed: u64) -> u64 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut random = Random(seed);
        let whole = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut buffer = [0; 4096];
            drop(stream.read(&mut buffer));
            drop(stream.write_all(&random.mutated(whole)));
        }
    });
    let upstream = Upstream::start();
    let config = EngineConfig {
        instances_max: 16,
        ..EngineConfig::default()
    };
    let mut steps = Steps::reaching(config, upstream.world());
    steps.http_allow = vec![address.to_string()];
    steps.limits.time = Duration::from_millis(500);
    let http = steps.guest("http");
    let (started, mut asked) = (Instant::now(), 0);
    while started.elapsed() < spell() {
        // another tenant each time: the breaker would leave this upstream alone
        steps.place[0] = Box::leak(format!("tenant-{asked}").into_boxed_str());
        let called = steps.call(&http, &format!(r#"{{"urls":["http://{address}/"]}}"#));
        assert!(!matches!(called.outcome, Outcome::Fatal(_)), "{called:?}");
        asked += 1;
    }
    asked
}
