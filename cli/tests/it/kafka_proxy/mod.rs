//! Kafka behind a proxy that delays, loses and repeats what transactions consist of (KAFKA-17754): T6 and T7.
//!
//! Lanes talk to the broker through the proxy; what they are given and what they came to is written and read past it.

pub(crate) mod lanes;
mod late;
mod raw_tests;
mod storm;

use std::sync::Arc;
use std::time::Duration;

use topics::{Kafka, KafkaConfig, Timeouts};
use xtask::proxy::{Decide, Place, Proxy};
use xtask::services::kafka::Temporary;

/// A broker, and the proxy before it.
pub(crate) struct World {
    pub(crate) proxy: Proxy,
    pub(crate) broker: Temporary,
}

impl World {
    pub(crate) fn start(decide: impl Decide + 'static) -> Self {
        let place = Place::new().unwrap();
        let mut builder = Temporary::builder().short_timeouts();
        for (name, value) in place.listeners().unwrap() {
            builder = builder.property(name, &value);
        }
        let broker = builder.start().unwrap();
        let proxy = place.open(decide).unwrap();
        Self { proxy, broker }
    }

    /// Past the proxy.
    pub(crate) fn direct(&self) -> Arc<Kafka> {
        kafka(self.broker.brokers())
    }

    pub(crate) fn proxied(&self) -> Arc<Kafka> {
        kafka(&self.proxy.address())
    }
}

/// Time-outs scaled down.
pub(crate) fn timeouts() -> Timeouts {
    Timeouts {
        socket: Duration::from_secs(2),
        transaction: Duration::from_secs(10),
        session: Duration::from_secs(6),
        max_poll: Duration::from_secs(20),
    }
}

fn kafka(brokers: &str) -> Arc<Kafka> {
    let config = KafkaConfig {
        brokers: brokers.to_owned(),
        timeouts: timeouts(),
        ..KafkaConfig::default()
    };
    Arc::new(Kafka::new(config).unwrap())
}
