//! What an operator may set.

use serde::Deserialize;

/// As much as the events inside one execution may come to.
const BODY_BYTES_CEILING: u64 = 64 << 20;

/// Settings of ingest.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IngestConfig {
    /// The largest body of one event. Above 512 KiB only where there is a place for payloads.
    pub body_bytes_max: u64,
    /// Requests with a body above 512 KiB, or of unknown size, that are read at once; the others wait.
    pub large_bodies_max: u32,
    /// The largest body of one batch of manual triggers.
    pub batch_bytes_max: u64,
    /// The most events of one batch.
    pub batch_events_max: u32,
    /// How long a client may take to send its body.
    pub body_timeout_ms: u64,
    /// How far the timestamp of a `standard` signature may be from our clock.
    pub signature_tolerance_s: u64,
    /// How many webhooks and manual triggers are kept ready.
    pub targets_max: u32,
    /// How long one is used before the store is asked whether it still holds.
    pub target_ttl_ms: u64,
    /// How long an idempotency key is remembered; at least 24 hours.
    pub key_ttl_ms: u64,
}

impl Default for IngestConfig {
    fn default() -> Self {
        Self {
            body_bytes_max: 25 << 20,
            large_bodies_max: 16,
            batch_bytes_max: 16 << 20,
            batch_events_max: 20_000,
            body_timeout_ms: 30_000,
            signature_tolerance_s: 300,
            targets_max: 10_000,
            target_ttl_ms: 1_000,
            key_ttl_ms: 25 * 3_600_000,
        }
    }
}

impl IngestConfig {
    /// Whether the settings can be meant; in words if not.
    pub fn validate(&self) -> Result<(), String> {
        if self.body_bytes_max == 0 || self.body_bytes_max > BODY_BYTES_CEILING {
            return Err(format!(
                "body_bytes_max is {}; set it to 1 to {BODY_BYTES_CEILING}",
                self.body_bytes_max
            ));
        }
        if self.large_bodies_max == 0 {
            return Err("large_bodies_max is 0; set it to 1 or more".to_owned());
        }
        if self.key_ttl_ms < 24 * 3_600_000 {
            return Err(format!(
                "key_ttl_ms is {}; set it to 24 hours (86400000) or more",
                self.key_ttl_ms
            ));
        }
        if self.targets_max == 0 {
            return Err("targets_max is 0; set it to 1 or more".to_owned());
        }
        Ok(())
    }
}
