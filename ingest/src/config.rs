//! What an operator may set.

use serde::Deserialize;

/// Payloads above this do not travel in a record.
const PAYLOAD_BYTES_MAX: u64 = 512 << 10;

/// Settings of ingest.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IngestConfig {
    /// The largest body of one event; at most 512 KiB.
    pub body_bytes_max: u64,
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
            body_bytes_max: PAYLOAD_BYTES_MAX,
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
        if self.body_bytes_max == 0 || self.body_bytes_max > PAYLOAD_BYTES_MAX {
            return Err(format!(
                "body_bytes_max is {}; set it to 1 to {PAYLOAD_BYTES_MAX}",
                self.body_bytes_max
            ));
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
