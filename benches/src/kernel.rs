//! The kernel alone: a segment of three steps in a chain, whose answers are there already.

use std::hint::black_box;

use anyhow::{Result, ensure};
use bytes::Bytes;
use processor::run::{Bounds, Entry, Finished, Run};
use processor::wasm::{Outcome, StepOutput};
use schemas::Event;
use schemas::graph::{self, Graph};

use crate::meter::{median, round_us};
use crate::report::Row;

const ROUNDS: usize = 9;
const CHAIN: &str = "
weir: 1
name: chain
triggers:
  t: { manual: {} }
steps:
  a: { uses: ./a.wasm, from: [t] }
  b: { uses: ./b.wasm, from: [a] }
  c: { uses: ./c.wasm, from: [b] }
";

/// A graph of three steps, and what each of them answers.
pub struct Chain {
    graph: Graph,
    event: Event,
    answer: StepOutput,
}

impl Chain {
    pub fn new() -> Result<Self> {
        let graph =
            graph::parse(CHAIN, "chain.yaml").map_err(|problems| anyhow::anyhow!("{problems}"))?;
        let data = Bytes::from(vec![b'x'; 1 << 10]);
        let event = Event {
            content_type: "application/json".into(),
            data: data.clone(),
            ..Event::default()
        };
        let answer = StepOutput {
            port: "out".into(),
            key: None,
            content_type: None,
            headers: Vec::new(),
            data,
        };
        Ok(Self {
            graph,
            event,
            answer,
        })
    }

    pub fn segment(&self) -> Finished {
        let entry = Entry::Trigger(0, self.event.clone());
        let mut run = Run::new(&self.graph, [7; 16], entry, Bounds::default());
        while run.next_call().is_some() {
            run.settle(Outcome::Outputs(vec![self.answer.clone()]), Vec::new(), 0);
        }
        run.finish()
    }
}

pub(crate) fn measure() -> Result<Vec<Row>> {
    let chain = Chain::new()?;
    let finished = chain.segment();
    ensure!(
        finished.failure.is_none() && finished.outputs.len() == 1,
        "the chain did not end as expected: {finished:?}"
    );
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            round_us(|| {
                black_box(chain.segment());
            })
        })
        .collect();
    let note = format!(
        "µs of CPU, median of {ROUNDS} rounds; three steps, 1 KiB events, no calls and no records"
    );
    Ok(vec![
        Row::new("kernel.segment_us", median(&mut rounds), "µs").note(note),
    ])
}
