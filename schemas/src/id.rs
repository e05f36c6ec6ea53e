//! Execution ids: derived from the trigger, so that the same trigger is the same execution everywhere and for ever.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// UUIDv8 (RFC 9562 §5.8): 48 bits of the trigger's time in ms, then sha256 of (tenant, graph, trigger name, trigger id).
/// Its byte order is time order, so a store can find its time bucket from the id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExecutionId(pub [u8; 16]);

impl ExecutionId {
    /// `time_ms`: the trigger's time, milliseconds since 1970 UTC; the upper 16 of its 64 bits are dropped.
    pub fn derive(
        time_ms: u64,
        tenant: &str,
        graph: &str,
        trigger: &str,
        trigger_id: &str,
    ) -> Self {
        let mut hash = Sha256::new();
        for part in [tenant, graph, trigger, trigger_id] {
            // Length-prefixed, so that ("ab", "c") and ("a", "bc") differ.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        let digest = hash.finalize();
        let mut id = [0u8; 16];
        id[..6].copy_from_slice(&time_ms.to_be_bytes()[2..]);
        id[6..].copy_from_slice(&digest[..10]);
        id[6] = (id[6] & 0x0f) | 0x80; // version 8
        id[8] = (id[8] & 0x3f) | 0x80; // RFC 9562 variant
        Self(id)
    }

    /// The trigger's time, milliseconds since 1970 UTC.
    pub fn time_ms(&self) -> u64 {
        self.0[..6]
            .iter()
            .fold(0, |ms, byte| ms << 8 | u64::from(*byte))
    }
}

impl fmt::Display for ExecutionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_bytes(self.0).fmt(f)
    }
}

impl fmt::Debug for ExecutionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ExecutionId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(uuid::Uuid::parse_str(text)?.into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_trigger_is_the_same_execution() {
        let id = ExecutionId::derive(1_700_000_000_123, "default", "orders", "shop", "d-1");
        assert_eq!(
            id,
            ExecutionId::derive(1_700_000_000_123, "default", "orders", "shop", "d-1")
        );
        assert_eq!(id.time_ms(), 1_700_000_000_123);
        assert_eq!(id.to_string().as_bytes()[14], b'8', "version nibble");
        assert_eq!(id.to_string().parse::<ExecutionId>().ok(), Some(id));
    }

    #[test]
    fn every_part_counts_and_their_borders_too() {
        let id = |t, g, n, i| ExecutionId::derive(1, t, g, n, i);
        let base = id("a", "b", "c", "d");
        for other in [
            id("x", "b", "c", "d"),
            id("a", "x", "c", "d"),
            id("a", "b", "x", "d"),
            id("a", "b", "c", "x"),
            id("ab", "", "c", "d"),
        ] {
            assert_ne!(base, other);
        }
    }
}
