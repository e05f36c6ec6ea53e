//! Payloads that do not travel in records: resolved before a segment runs, put away after it.

use metrics::counter;
use schemas::Event;
use schemas::records::{EdgeEvent, INLINE_BYTES_MAX, Payload};
use store::Reference;

use super::Executor;
use crate::error::ProcessorError;
use crate::large::{nowhere, outside};
use crate::run::Finished;

impl Executor {
    /// The event with its payload; the inner error says why there is none.
    pub(super) fn resolve(
        &self,
        mut event: Event,
        reference: Option<Reference>,
    ) -> Result<Result<Event, String>, ProcessorError> {
        let Some(reference) = reference else {
            return Ok(Ok(event));
        };
        let Some(large) = &self.large else {
            return Err(nowhere(&reference));
        };
        let fetched = large.fetch(&reference)?;
        self.notes.outage.is_over();
        Ok(match fetched {
            Ok(data) => {
                event.data = data;
                Ok(event)
            }
            Err(why) => {
                counter!("weir_alarms_total", "alarm" => "payload-lost").increment(1);
                tracing::error!("an execution fails: {why}");
                Err(why)
            }
        })
    }

    /// As `resolve`, of a hop.
    pub(super) fn resolve_all(
        &self,
        events: Vec<EdgeEvent>,
    ) -> Result<Result<Vec<(String, Event)>, String>, ProcessorError> {
        let mut resolved = Vec::with_capacity(events.len());
        for EdgeEvent {
            edge,
            event,
            reference,
        } in events
        {
            let reference = reference.map(|(sha256, bytes)| Reference { sha256, bytes });
            match self.resolve(event, reference)? {
                Ok(event) => resolved.push((edge, event)),
                Err(why) => return Ok(Err(why)),
            }
        }
        Ok(Ok(resolved))
    }

    /// Puts away what is too large for the records that a segment becomes. Durable before any of these is sent: what is
    /// committed never refers to something that is not there. What was put for a segment that is run again is put again,
    /// under the same name.
    pub(super) fn put_large(&self, done: &mut Finished) -> Result<(), ProcessorError> {
        let Some(large) = &self.large else {
            return Ok(());
        };
        let outputs = done.outputs.iter().map(|output| inline(&output.data));
        let hops = done.started.iter().flat_map(|started| &started.events);
        if outputs
            .chain(hops.map(|e| e.event.data.len()))
            .sum::<usize>()
            <= INLINE_BYTES_MAX
        {
            return Ok(()); // nearly always
        }
        // the rest is for keys, headers and logs
        let together_max = self.config.result_bytes_max / 4 * 3;
        let mut has_put = false;
        let sizes: Vec<usize> = done.outputs.iter().map(|o| inline(&o.data)).collect();
        for at in outside(&sizes, together_max) {
            let output = &mut done.outputs[at];
            if let Payload::Inline(data) = &output.data {
                let Reference { sha256, bytes } = large.put(data.clone())?;
                output.data = Payload::Reference { sha256, bytes };
                has_put = true;
            }
        }
        for started in &mut done.started {
            let sizes: Vec<usize> = started.events.iter().map(|e| e.event.data.len()).collect();
            for at in outside(&sizes, together_max) {
                let event = &mut started.events[at];
                let Reference { sha256, bytes } =
                    large.put(std::mem::take(&mut event.event.data))?;
                event.reference = Some((sha256, bytes));
                has_put = true;
            }
        }
        if has_put {
            self.notes.outage.is_over();
        }
        Ok(())
    }

    /// What somebody can do whose outputs are too large.
    pub(super) fn way_out(&self) -> &'static str {
        match self.large {
            Some(_) => "emit less",
            None => {
                "emit less, or let payloads above 512 KiB be kept outside of records: set [payloads] url"
            }
        }
    }
}

fn inline(data: &Payload) -> usize {
    match data {
        Payload::Inline(data) => data.len(),
        Payload::Reference { .. } => 0,
    }
}
