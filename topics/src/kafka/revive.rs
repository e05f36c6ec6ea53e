//! Gives a client its brokers back.
//!
//! librdkafka drops every broker that the cluster's metadata does not list. While all of them are fenced by their
//! controllers (a cluster of one that stood still for a moment is enough) none is listed: the client drops the last one,
//! asks nobody any more, and stays so for as long as it lives (librdkafka#5301, from 2.10 on). Its statistics show it: no
//! broker is left that was configured or learned. What was configured is then added again, as by a new client.
//!
//! Clients with statistics and somebody who polls them (consumers, the appender) do so by themselves. Where a call fails
//! that a client without brokers would wait for in vain, `again` is called. A transactional producer needs neither: after
//! a call that failed for want of an answer it is replaced.

use std::ffi::CString;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

use metrics::counter;
use rdkafka::bindings::{rd_kafka_brokers_add, rd_kafka_t};

/// How often a client that does not read its statistics for anything else looks at them.
pub(super) const LOOK_MS: &str = "3000";

/// How the statistics name brokers that a client can ask (librdkafka's STATISTICS.md).
const ASKABLE: [&[u8]; 2] = [b"\"source\":\"configured\"", b"\"source\":\"learned\""];

/// A part of a client's context.
#[derive(Default)]
pub(super) struct Revival(OnceLock<Configured>);

struct Configured {
    /// Lives longer than its context.
    client: AtomicPtr<rd_kafka_t>,
    brokers: CString,
}

impl Revival {
    /// To be told once the client is there. `client` is the one whose context this is a part of.
    pub(super) fn of(&self, client: *mut rd_kafka_t, brokers: &str) {
        if let Ok(brokers) = CString::new(brokers) {
            // a client has one context, and it is told once
            let client = AtomicPtr::new(client);
            drop(self.0.set(Configured { client, brokers }));
        }
    }

    /// Takes one round of statistics in.
    pub(super) fn take(&self, statistics: &[u8]) {
        if ASKABLE.iter().any(|source| contains(statistics, source)) {
            return;
        }
        tracing::warn!(
            "a Kafka client was left without brokers; it starts over with those of the settings"
        );
        counter!("weir_kafka_clients_revived_total").increment(1);
        self.again();
    }

    /// Adds what was configured. A client that still knows it keeps it as it is.
    #[expect(unsafe_code, reason = "rdkafka does not wrap it")]
    pub(super) fn again(&self) {
        let Some(Configured { client, brokers }) = self.0.get() else {
            return;
        };
        // SAFETY: whoever calls holds the client: its callback or its owner; any thread may; the text ends with a zero and
        // is copied.
        unsafe { rd_kafka_brokers_add(client.load(Ordering::Relaxed), brokers.as_ptr()) };
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_with_logical_brokers_only_has_none_to_ask() {
        let with = |source: &str| {
            let text = format!(
                r#"{{"brokers":{{"GroupCoordinator":{{"nodeid":1,"source":"logical","state":"DOWN"}},"x":{{"source":"{source}"}}}}}}"#
            );
            ASKABLE
                .iter()
                .any(|source| contains(text.as_bytes(), source))
        };
        assert!(with("learned") && with("configured"));
        assert!(!with("internal"));
    }
}
