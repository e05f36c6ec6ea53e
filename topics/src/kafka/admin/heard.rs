//! What librdkafka says while it connects, and what that means for whoever wrote the settings.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;

use crate::kafka::client::logged;

/// What a client heard since it was made.
#[derive(Default)]
pub(super) struct Heard {
    trouble: Mutex<Option<Trouble>>,
    /// The newest TxnOffsetCommit of each broker that was connected to.
    pub(super) offset_commits: Mutex<BTreeMap<String, i16>>,
}

/// What keeps the client from a broker, in words and with the way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) said: String,
    /// Trying again will not help: broker and settings do not fit together.
    pub(super) settled: bool,
}

impl Heard {
    pub(super) fn trouble(&self) -> Option<Trouble> {
        self.trouble.lock().clone()
    }

    pub(super) fn forget_trouble(&self) {
        *self.trouble.lock() = None;
    }

    fn note(&self, reason: &str) {
        let heard = Trouble::of(plain(reason));
        let mut trouble = self.trouble.lock();
        // "all brokers are down" says less than what came before it, and so does one that only hung up
        let says_less = !heard.settled && trouble.as_ref().is_some_and(|known| known.settled);
        if trouble.is_none() || !(says_less || reason.contains("brokers are down")) {
            *trouble = Some(heard);
        }
    }
}

impl ClientContext for Heard {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // librdkafka tells what a broker can do in its debug log and nowhere else
        if let Some((broker, newest)) = offset_commit(message) {
            self.offset_commits.lock().insert(broker.to_owned(), newest);
        } else if !matches!(level, RDKafkaLogLevel::Debug) {
            // a broker that hangs up is no error to it, but it may be one of the settings
            if facility == "FAIL" {
                self.note(message);
            }
            logged(level, facility, message);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka");
        if error.rdkafka_error_code() != Some(Code::AllBrokersDown) || self.trouble.lock().is_none()
        {
            self.note(reason);
        }
    }
}

impl ProducerContext for Heard {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

/// What librdkafka says, the setting that it is about, and whether that is sure.
const MEANINGS: [(&[&str], &str, bool); 7] = [
    (
        &["SASL", "invalid credentials"],
        "the brokers refuse this user or its password: look at sasl.username and sasl.password in [kafka.properties]",
        true,
    ),
    (
        &["SASL", "Unsupported SASL mechanism"],
        "name one that the brokers take in sasl.mechanism of [kafka.properties]",
        true,
    ),
    (
        &["SASL authentication error"],
        "look at sasl.* in [kafka.properties]",
        true,
    ),
    (
        &["certificate verify failed"],
        "nobody trusted here has signed the brokers' certificate: name the file of who has in ssl.ca.location of [kafka.properties]; and it has to be for the address in kafka.brokers",
        true,
    ),
    (
        &["wrong version number"],
        "the brokers do not speak TLS here: look at security.protocol in [kafka.properties] and at the port",
        true,
    ),
    (
        &["Disconnected", "APIVERSION_QUERY"],
        "do the brokers ask for TLS here? look at security.protocol in [kafka.properties] and at the port",
        false,
    ),
    (
        &["Disconnected", "SSL", "state UP"],
        "do the brokers ask for SASL here? look at security.protocol in [kafka.properties] and at the port",
        false,
    ),
];

impl Trouble {
    fn of(said: &str) -> Self {
        let meant = MEANINGS
            .iter()
            .find(|(words, ..)| words.iter().all(|word| said.contains(word)));
        match meant {
            Some((_, advice, settled)) => Self {
                said: format!("{said}; {advice}"),
                settled: *settled,
            },
            None => Self {
                said: said.to_owned(),
                settled: false,
            },
        }
    }
}

/// `[thrd:a:1/1]: a:1/1:   ApiKey TxnOffsetCommit (28) Versions 0..4`
fn offset_commit(message: &str) -> Option<(&str, i16)> {
    let (before, after) = message.split_once("ApiKey TxnOffsetCommit (28) Versions ")?;
    let newest = after.split_once("..")?.1.trim().parse().ok()?;
    let broker = before.trim().trim_end_matches(':');
    let broker = broker.rsplit_once("]: ").map_or(broker, |(_, name)| name);
    Some((
        broker
            .split_once('/')
            .map_or(broker, |(address, _)| address),
        newest,
    ))
}

/// Without the thread's name in front.
fn plain(reason: &str) -> &str {
    reason.rsplit_once("]: ").map_or(reason, |(_, said)| said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_broker_can_do() {
        let said = "[thrd:127.0.0.1:9092/bootstrap]: 127.0.0.1:9092/bootstrap:   ApiKey TxnOffsetCommit (28) Versions 0..5";
        assert_eq!(offset_commit(said), Some(("127.0.0.1:9092", 5)));
        assert_eq!(
            offset_commit("[thrd:a]: a:   ApiKey Produce (0) Versions 0..13"),
            None
        );
    }

    #[test]
    fn trouble_names_the_setting_it_comes_from() {
        for (said, setting, settled) in [
            (
                "a:1: SASL authentication error: Authentication failed during authentication due to invalid credentials with SASL mechanism SCRAM-SHA-512 (after 3ms)",
                "sasl.password",
                true,
            ),
            (
                "a:1: SASL SCRAM-SHA-256 mechanism handshake failed: Broker: Unsupported SASL mechanism: broker's supported mechanisms: PLAIN",
                "sasl.mechanism",
                true,
            ),
            (
                "a:1: SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: broker certificate could not be verified",
                "ssl.ca.location",
                true,
            ),
            (
                "a:1: Disconnected: connection closed by peer: receive 0 after POLLIN (after 1ms in state APIVERSION_QUERY)",
                "security.protocol",
                false,
            ),
            (
                "a:1: Connect to ipv4#127.0.0.1:1 failed: Connection refused",
                "refused",
                false,
            ),
        ] {
            let trouble = Trouble::of(said);
            assert!(trouble.said.contains(setting), "{trouble:?}");
            assert_eq!(trouble.settled, settled, "{trouble:?}");
        }
    }

    #[test]
    fn what_says_more_is_kept() {
        let heard = Heard::default();
        heard.note("[thrd:a]: a: SASL authentication error: invalid credentials");
        heard.note("[thrd:a]: a: Disconnected (after 0ms in state UP)");
        heard.note("[thrd:a]: 1/1 brokers are down");
        assert!(heard.trouble().is_some_and(|t| t.said.contains("SASL")));
        heard.forget_trouble();
        assert_eq!(heard.trouble(), None);
    }
}
