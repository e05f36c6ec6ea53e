//! Does what no step should. The input is JSON: `{"do": WORD, "n": NUMBER}` (`n` has a default for each word).
//!
//! | `do` | what happens |
//! |---|---|
//! | `loop` | never returns |
//! | `spin` | n rounds of arithmetic (1 million), then a normal output |
//! | `bomb` | allocates and touches 1 MiB pieces without end |
//! | `recurse` | recursion until the shadow stack is used up |
//! | `deep` | recursion that needs the wasm stack only |
//! | `panic` | panics |
//! | `trap` | `unreachable` |
//! | `huge` | one output of n bytes (50 MiB) |
//! | `many` | n empty outputs (10,000) |
//! | `same` | n outputs of 1 MiB each (64) |
//! | `header` | one output with n headers (100,000) |
//! | `port` | an output on the port `nowhere` |
//! | `nameless` | an output on the port with the empty name |
//! | `reject`, `retry`, `fatal` | the failure of that name; `retry` with a delay of n ms where n is given |
//! | `once` | `retry` on the first attempt, a normal output on later ones |
//! | `long` | `reject` with a reason of n bytes (10 MiB) |
//! | `nan` | emits the 8 bytes of a NaN that was computed |
//! | `count` | emits `{"calls": c}`: how often this instance has been called |
//! | `grow` | keeps n bytes (1 MiB) for ever and emits `{"calls": c}`: what a leak looks like when instances are reused |
//!
//! Anything else, also what is no JSON: emits `{"calls": c}`. Every call counts.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Deserialize;
use weir_step::{Context, Event, Failure, Output, Step};

static CALLS: AtomicU64 = AtomicU64::new(0);

#[derive(Deserialize, Default)]
struct Order<'a> {
    #[serde(default, rename = "do")]
    what: &'a str,
    n: Option<u64>,
}

struct Bad;
weir_step::export!(Bad);

impl Step for Bad {
    fn handle(ctx: &Context, input: Vec<Event>) -> Result<Vec<Output>, Failure> {
        let calls = CALLS.fetch_add(1, Ordering::Relaxed) + 1;
        let order: Order = input
            .first()
            .and_then(|event| serde_json::from_slice(&event.data).ok())
            .unwrap_or_default();
        let n = |default: u64| order.n.unwrap_or(default);
        let size = |default: u64| usize::try_from(n(default)).unwrap_or(usize::MAX);
        match order.what {
            "loop" => loop {
                black_box(calls);
            },
            "spin" => {
                let mut x = calls;
                for round in 0..n(1_000_000) {
                    x = black_box(x.wrapping_mul(31).wrapping_add(round));
                }
            }
            "bomb" => {
                let mut pieces = Vec::new();
                loop {
                    pieces.push(black_box(vec![7u8; 1 << 20]));
                }
            }
            "recurse" => return Err(Failure::rejected(recurse(1))),
            "deep" => {
                return Err(Failure::rejected(deep(
                    black_box(deep as *const () as usize),
                    1,
                )));
            }
            "panic" => panic!("asked to panic"),
            "trap" => unreachable(),
            "huge" => return Ok(vec![Output::new(Output::OUT, vec![b'x'; size(50 << 20)])]),
            "many" => {
                return Ok((0..n(10_000))
                    .map(|_| Output::new(Output::OUT, []))
                    .collect());
            }
            "same" => {
                return Ok((0..n(64))
                    .map(|_| Output::new(Output::OUT, vec![b'x'; 1 << 20]))
                    .collect());
            }
            "header" => {
                let mut output = Output::new(Output::OUT, []);
                output.headers = (0..n(100_000))
                    .map(|_| ("x".to_owned(), Vec::new()))
                    .collect();
                return Ok(vec![output]);
            }
            "port" => return Ok(vec![Output::new("nowhere", [])]),
            "nameless" => return Ok(vec![Output::new("", [])]),
            "reject" => return Err(Failure::rejected("asked to reject")),
            "retry" => return Err(Failure::Retry((order.n, "asked to retry".into()))),
            "fatal" => return Err(Failure::Fatal("asked to be fatal".into())),
            "once" if ctx.attempt == 1 => return Err(Failure::again("asked to fail once")),
            "long" => return Err(Failure::Reject("x".repeat(size(10 << 20)))),
            "nan" => {
                return Ok(vec![Output::new(
                    Output::OUT,
                    (black_box(0f64) / black_box(0f64)).to_le_bytes(),
                )]);
            }
            "grow" => {
                black_box(vec![7u8; size(1 << 20)].leak());
            }
            _ => {}
        }
        Ok(vec![
            Output::new(Output::OUT, format!("{{\"calls\":{calls}}}"))
                .with_content_type("application/json"),
        ])
    }
}

#[inline(never)]
#[expect(unconditional_recursion, reason = "the point of it")]
fn recurse(n: u64) -> u64 {
    let frame = [n; 64];
    black_box(&frame);
    recurse(n + 1).wrapping_add(black_box(frame)[(n % 64) as usize])
}

/// Recursion through a table index that the compiler cannot know, so that it stays recursion, with nothing in memory.
#[inline(never)]
fn deep(itself: usize, n: u64) -> u64 {
    // SAFETY: `itself` is this function's own address.
    let next: fn(usize, u64) -> u64 = unsafe { std::mem::transmute(itself) };
    next(itself, n + 1).wrapping_mul(31).wrapping_add(n)
}

fn unreachable() -> ! {
    #[cfg(target_family = "wasm")]
    core::arch::wasm32::unreachable();
    #[cfg(not(target_family = "wasm"))]
    std::process::abort();
}
