//! Deliberately broken variants of Kafka's client, chosen by `WEIR_BROKEN`, which the fault tests must catch. Compiled in
//! only with the feature `broken`, for the tests; without it nothing is ever broken.
//!
//! - `trust-commit-ok`: a commit that returned Ok counts, whatever happened on the wire meanwhile.
//! - `abort-after-commit-timeout`: a commit whose outcome is not known counts as aborted, and its batch is run again.
//! - `no-seek-after-abort`: reading goes on where it was.
//! - `stale-group-metadata`: the group's metadata is taken once.
//! - `read-uncommitted`: consumers see open and aborted transactions.

#[cfg(feature = "broken")]
pub(super) fn is(variant: &str) -> bool {
    static SET: std::sync::LazyLock<Option<String>> =
        std::sync::LazyLock::new(|| std::env::var("WEIR_BROKEN").ok());
    SET.as_deref() == Some(variant)
}

#[cfg(not(feature = "broken"))]
pub(super) const fn is(_variant: &str) -> bool {
    false
}
