//! The parts of the line under criterion, for looking closer at one of them: `cargo bench --workspace --bench line`.

#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot go on has nothing to say"
)]

use std::hint::black_box;

use benches::kernel::Chain;
use benches::log::Pump;
use benches::segment::Segment;
use benches::steps::{Guest, json, native};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use schemas::graph::Isolation;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn kernel(c: &mut Criterion) {
    let chain = Chain::new().unwrap();
    c.bench_function("kernel: three steps", |b| b.iter(|| chain.segment()));
}

fn steps(c: &mut Criterion) {
    let mut empty = Guest::load("empty", Vec::new()).unwrap();
    c.bench_function("step: empty, reused", |b| {
        b.iter(|| empty.call(Isolation::Batch))
    });
    let mut guest = Guest::load("json", json()).unwrap();
    c.bench_function("step: 1 KiB of JSON, reused", |b| {
        b.iter(|| guest.call(Isolation::Batch))
    });
    c.bench_function("step: 1 KiB of JSON, fresh", |b| {
        b.iter(|| guest.call(Isolation::Record))
    });
    let data = json();
    c.bench_function("1 KiB of JSON, native", |b| {
        b.iter(|| native(black_box(&data)))
    });
}

fn segment(c: &mut Criterion) {
    let mut segment = Segment::load().unwrap();
    c.bench_function("segment: an order from trigger to result", |b| {
        b.iter(|| segment.run().unwrap())
    });
}

fn log(c: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let mut pump = Pump::open(&folder.path().join("log.db")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    c.bench_function("log: append one record, durable", |b| {
        b.iter(|| runtime.block_on(pump.append(1)).unwrap())
    });
    while pump.pass().unwrap() > 0 {}
    c.bench_function("log: poll, send and commit of 500", |b| {
        // one cell for both closures: they never run at once
        let pump = std::cell::RefCell::new(&mut pump);
        b.iter_batched(
            || runtime.block_on(pump.borrow().append(500)).unwrap(),
            |()| {
                let mut done = 0;
                while done < 500 {
                    done += pump.borrow_mut().pass().unwrap();
                }
            },
            BatchSize::PerIteration,
        );
    });
}

criterion_group! {
    name = line;
    config = Criterion::default().sample_size(30);
    targets = kernel, steps, segment, log
}
criterion_main!(line);
